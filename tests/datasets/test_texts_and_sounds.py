"""Texts become token ids and sounds become numbers, as they are declared; everything else is refused."""

from __future__ import annotations

import json
import struct
import wave
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dlaudit
from dlaudit.datasets import infer, jsonl, tokenizing, wav
from dlaudit.datasets.tables import from_frame, load_csv, load_parquet
from dlaudit.errors import LoadError

TEXTS = [
    {"text": "good", "label": "up", "site": "a", "key": "k1"},
    {"text": "ba", "label": "down", "site": None, "key": "k2"},
    {"text": "zürich", "label": "up", "site": "b", "key": "k3"},
]
CODE = "def words(text):\n    return [len(one) for one in text.split()]\n\n\n"
CODE += "def none(text):\n    return ['a']\n"


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    lines = [json.dumps(row, ensure_ascii=False) for row in TEXTS]
    (tmp_path / "t.jsonl").write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    (tmp_path / "f.py").write_text(CODE)
    return tmp_path


def test_bytes_are_tokens_cut_or_filled_up(texts):
    data = jsonl.load(root=texts, path="t.jsonl", length=5, groups=["site"], id="key")
    (batch,) = data.batches()
    assert batch.x.tolist() == [
        [104, 112, 112, 101, 0], [99, 98, 0, 0, 0], [123, 196, 189, 115, 106],
    ]  # fmt: skip
    assert batch.x.dtype == np.int64
    assert data.classes == ("down", "up")
    assert batch.y.tolist() == [1, 0, 1]
    assert batch.groups["site"].tolist() == ["a", "unknown", "b"]
    assert batch.id.tolist() == ["k1", "k2", "k3"]
    assert batch.columns["text"].tolist() == ["good", "ba", "zürich"]
    assert data.card.facts["cut_texts"] == 1
    assert {"labels", "groups", "tokens"} <= data.offers
    assert infer(texts / "t.jsonl") == "jsonl"


@given(st.text(max_size=30).filter(lambda text: "\ud800" not in text))
def test_bytes_can_be_read_back(text):
    encoded = text.encode("utf-8", "replace")
    assert bytes(one - 1 for one in tokenizing._bytes(text)) == encoded


def test_a_tokenizer_of_the_plan_is_asked_and_is_part_of_the_identity(texts):
    (texts / "t.jsonl").write_text('{"text": "a bcd ef", "label": 0}\n{"text": "", "label": 1}\n')
    data = jsonl.load(root=texts, path="t.jsonl", length=4, tokenizer="f.py:words")
    (batch,) = data.batches()
    assert batch.x.tolist() == [[1, 3, 2, 0], [0, 0, 0, 0]]
    plain = jsonl.load(root=texts, path="t.jsonl", length=4)
    (texts / "f.py").write_text(CODE + "\n# changed\n")
    changed = jsonl.load(root=texts, path="t.jsonl", length=4, tokenizer="f.py:words")
    assert len({data.card.fingerprint, plain.card.fingerprint, changed.card.fingerprint}) == 3


BAD_TEXTS = [
    ("empty", b"", {}, "got an empty file"),
    ("blank", b"\n\n", {}, "expected at least one line"),
    ("cut off", b'{"text": "a", "label": 1}\n{"text": "b", "la', {}, "line 2: expected a JSON object"),
    ("a list", b"[1, 2]\n", {}, "line 1: expected a JSON object, got a list"),
    ("CSV", b"text,label\na,1\n", {}, "line 1: expected a JSON object in UTF-8"),
    ("latin-1", '{"text": "ü", "label": 1}\n'.encode("latin-1"), {}, "line 1: expected a JSON object in"),
    ("packed", b"\x1f\x8b\x08\0rest", {}, "kind: gzip archive"),
    ("Parquet", b"PAR1 rest", {}, "kind: Parquet table"),
    ("no text", b'{"txt": "a", "label": 1}\n', {}, "field 'text': expected a value, got only txt, label"),
    ("nearly", b'{"texts": "a", "label": 1}\n', {}, "Did you mean texts?"),
    ("no label", b'{"text": "a", "label": null}\n', {}, "field 'label': expected a value, got nothing"),
    ("a number for text", b'{"text": 3, "label": 1}\n', {}, "field 'text': expected text, got a int"),
    ("an object for a label", b'{"text": "a", "label": {}}\n', {}, "expected text or a number, got a dict"),
    ("mixed lines", b'{"text": "a", "label": 1}\n3\n', {}, "line 2"),
    ("deep", b"[" * 100_000, {}, "line 1: expected a JSON object"),
    ("an unknown class", None, {"classes": ["up", "dawn"]}, "one of the classes up, dawn, got 'down'"),
    ("no length", None, {"length": 0}, "length: expected a whole number"),
    ("no such tokenizer", None, {"tokenizer": "f.py:wrds"}, "Did you mean words?"),
    ("tokens that are none", None, {"tokenizer": "f.py:none"}, "whole numbers of at least 0"),
    ("an id twice", None, {"id": "label"}, "expected one row per id"),
    ("rows outside", None, {"rows": "0:9"}, 'a range within "0:3"'),
    ("missing", None, {"path": "u.jsonl"}, "nothing of this name"),
    ("a folder", None, {"path": "."}, "got a folder"),
]  # fmt: skip


@pytest.mark.parametrize("row", BAD_TEXTS, ids=[row[0] for row in BAD_TEXTS])
def test_bad_texts_are_refused_in_one_sentence(texts, row):
    _, content, args, said = row
    if content is not None:
        (texts / "t.jsonl").write_bytes(content)
    with pytest.raises(LoadError) as refused:
        jsonl.load(root=texts, **({"path": "t.jsonl"} | args))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_line_too_long_to_be_read_is_refused(texts, monkeypatch):
    monkeypatch.setattr(jsonl, "LINE", 20)
    with pytest.raises(LoadError, match="line 1: expected at most 20 bytes"):
        jsonl.load(root=texts, path="t.jsonl")


def sound(path: Path, values, *, width=2, rate=8000, channels=1) -> None:
    """values: whole numbers, channels interleaved."""
    path.parent.mkdir(exist_ok=True, parents=True)
    with wave.open(str(path), "wb") as opened:
        opened.setnchannels(channels)
        opened.setsampwidth(width)
        opened.setframerate(rate)
        if width == 1:
            content = bytes(value + 128 for value in values)
        else:
            content = b"".join(struct.pack("<i", value)[:width] for value in values)
        opened.writeframes(content)


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    sound(tmp_path / "s" / "dog" / "a.wav", [0, 16384, -32768, 32767])
    sound(tmp_path / "s" / "cat" / "b.wav", [1, 2, 3, 4])
    return tmp_path


def test_values_are_fractions_of_half_the_range(sounds):
    data = wav.load(root=sounds, path="s")
    (batch,) = data.batches()
    assert batch.x.shape == (2, 1, 4)
    assert data.classes == ("cat", "dog")
    assert batch.id.tolist() == ["cat/b.wav", "dog/a.wav"]
    np.testing.assert_allclose(batch.x[1, 0], [0, 0.5, -1, 32767 / 32768])
    assert {"labels", "audio"} <= data.offers
    assert data.card.facts["rate"] == 8000
    assert infer(sounds / "s") == "wav"


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_every_depth_agrees_with_scipy(tmp_path, width):
    from scipy.io import wavfile

    most = 2 ** (8 * width - 1)
    values = np.random.default_rng(width).integers(-most, most, size=60).tolist()
    sound(tmp_path / "a.wav", values, width=width, channels=2)
    _, expected = wavfile.read(tmp_path / "a.wav")
    shifted = expected.astype(np.float64) - (128 if width == 1 else 0)
    scale = 2.0**31 if width == 3 else most  # scipy puts 24 bits into the upper part of 32
    np.testing.assert_allclose(
        wav.values_of(tmp_path / "a.wav", 30), (shifted / scale).T, atol=1e-7
    )


def test_sounds_are_cut_or_filled_with_silence_only_when_asked(sounds):
    sound(sounds / "s" / "cat" / "c.wav", [1] * 9)
    with pytest.raises(
        LoadError, match=r"c\.wav: expected 4 values, as the first sound has, got 9"
    ):
        wav.load(root=sounds, path="s")
    (batch,) = wav.load(root=sounds, path="s", length=6).batches()
    assert (batch.x[0, 0] != 0).tolist() == [True] * 4 + [False] * 2
    assert (batch.x[1, 0] != 0).all()


def test_a_table_names_sounds_and_groups(sounds):
    (sounds / "s" / "metadata.csv").write_text(
        "file,label,group_room\ndog/a.wav,bark,hall\ncat/b.wav,mew,\n"
    )
    (batch,) = wav.load(root=sounds, path="s").batches()
    assert batch.groups["room"].tolist() == ["hall", "unknown"]


def spoiled(content: bytes):
    return lambda folder: (folder / "s" / "cat" / "b.wav").write_bytes(content)


def shorter(folder):
    path = folder / "s" / "cat" / "b.wav"
    path.write_bytes(path.read_bytes()[:-4])


def by_format(code):
    def change(folder):
        path = folder / "s" / "cat" / "b.wav"
        content = bytearray(path.read_bytes())
        content[20:22] = struct.pack("<H", code)
        path.write_bytes(content)

    return change


BAD_SOUNDS = [
    ("empty", spoiled(b""), {}, "got an empty file"), ("text", spoiled(b"hello"), {}, "uncompressed WAV"),
    ("an MP3", spoiled(b"ID3\x04" + b"\0" * 60), {}, "uncompressed WAV"),
    ("half a header", spoiled(b"RIFF\x10\0\0\0WAVEfmt "), {}, "uncompressed WAV"),
    ("truncated", shorter, {}, "expected 4 values, as its header says, got fewer"),
    ("floats", by_format(3), {}, "unknown format"), ("compressed", by_format(85), {}, "unknown format"),
    ("another rate", lambda f: sound(f / "s" / "cat" / "b.wav", [1] * 4, rate=16000), {}, "per second"),
    ("not the rate", lambda _: None, {"rate": 16000}, "expected 16000 values per second, got 8000"),
    ("two channels", lambda f: sound(f / "s" / "cat" / "c.wav", [1] * 8, channels=2), {}, "channels"),
    ("no values", lambda f: sound(f / "s" / "cat" / "b.wav", []), {}, "expected sound of 8 to 32 bits"),
    ("no length", lambda _: None, {"length": 0}, "length: expected"),
    ("no rate", lambda _: None, {"rate": -1}, "rate: expected"),
    ("no sounds", lambda f: (f / "s" / "cat" / "b.wav").rename(f / "s" / "cat" / "b.txt"), {}, "got none"),
    ("no folder", lambda _: None, {"path": "t"}, "nothing of this name"),
    ("a file", lambda _: None, {"path": "s/cat/b.wav"}, "got a file"),
    ("an unknown class", lambda _: None, {"classes": ["cat", "cow"]}, "got 'dog'"),
    ("groups of no table", lambda _: None, {"groups": ["room"]}, "metadata.csv"),
    ("a link out", lambda f: ((f / "s" / "cat" / "b.wav").rename(f / "b.wav"),
                              (f / "s" / "cat" / "b.wav").symlink_to(f / "b.wav")), {}, "leads out of it"),
    ("a huge header", lambda f: huge(f / "s" / "cat" / "b.wav"), {}, "expected"),
]  # fmt: skip


def huge(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[40:44] = struct.pack("<I", 0x7FFFFFF0)
    path.write_bytes(content)


@pytest.mark.parametrize("row", BAD_SOUNDS, ids=[row[0] for row in BAD_SOUNDS])
def test_bad_sounds_are_refused_in_one_sentence(sounds, row):
    _, spoil, args, said = row
    spoil(sounds)
    with pytest.raises(LoadError) as refused:
        wav.load(root=sounds, **({"path": "s"} | args))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 60), st.binary(min_size=1, max_size=6), st.integers(0, 20))
def test_a_damaged_sound_is_read_or_refused(tmp_path_factory, position, noise, cut):
    folder = tmp_path_factory.getbasetemp() / "damaged"
    sound(folder / "a" / "a.wav", [1, 2, 3, 4])
    path = folder / "a" / "a.wav"
    content = bytearray(path.read_bytes())
    content[position : position + len(noise)] = noise
    path.write_bytes(bytes(content[: len(content) - cut]))
    try:
        data = wav.load(root=folder.parent, path="damaged", length=4)
        assert next(iter(data.batches())).x.shape[2] == 4
    except LoadError as error:
        assert "a.wav" in str(error)  # noqa: PT017


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "age": [24, 35, 46, 57],
            "sex": ["f", "m", "f", "m"],
            "debt": [1.5, 2, 3, 4],
            "y": [0, 1, 0, 1],
        }
    )


def test_arrow_and_frames_give_the_rows_of_the_csv(tmp_path, frame):
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_feather(tmp_path / "t.arrow")
    args = {"target": "y", "groups": ["sex"], "bins": {"age": [40]}}
    expected = next(iter(load_csv(root=tmp_path, path="t.csv", **args).batches()))
    made = [load_parquet(root=tmp_path, path="t.arrow", **args), from_frame(frame, args)]
    for data in made:
        (batch,) = data.batches()
        np.testing.assert_array_equal(batch.x, expected.x)
        np.testing.assert_array_equal(batch.y, expected.y)
        assert {key: one.tolist() for key, one in batch.groups.items()} == {
            key: one.tolist() for key, one in expected.groups.items()
        }
    assert infer(tmp_path / "t.arrow") == "arrow"
    assert made[1].card.fingerprint != from_frame(frame.assign(debt=0.0), args).card.fingerprint


def test_a_folder_that_datasets_saved_is_one_table(tmp_path, frame):
    import pyarrow as pa

    table = pa.Table.from_pandas(frame)
    for number, part in enumerate((table[:1], table[1:])):
        with pa.OSFile(str(tmp_path / f"data-{number}.arrow"), "wb") as file:
            writer = pa.ipc.new_stream(file, part.schema)
            writer.write_table(part)
            writer.close()
    names = [{"filename": f"data-{number}.arrow"} for number in range(2)]
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": names}))
    (tmp_path / "dataset_info.json").write_text("{}")
    data = load_parquet(root=tmp_path, path=".", target="y")
    assert data.size() == 4
    assert infer(tmp_path) == "arrow"
    for state, said in (
        ("{}", "lists files"), ('{"_data_files": []}', "at least one file"), ("{", "lists files"),
        ('{"_data_files": [{"filename": "../x.arrow"}]}', "leads out of it"),
        ('{"_data_files": [{"filename": "gone.arrow"}]}', "nothing of this name"),
    ):  # fmt: skip
        (tmp_path / "state.json").write_text(state)
        with pytest.raises(LoadError, match=said):
            load_parquet(root=tmp_path, path=".", target="y")


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({}, "target: expected the column of labels"), ({"target": "z"}, "column 'z'"),
        ({"target": "y", "goups": ["sex"]}, "Did you mean groups?"),
        ({"target": "y", "groups": ["race"]}, "column 'race'"),
    ],
)  # fmt: skip
def test_a_frame_that_is_declared_wrongly_is_refused(frame, declared, said):
    with pytest.raises(LoadError) as refused:
        from_frame(frame, declared)
    assert said in str(refused.value)


def test_frames_without_rows_or_with_a_name_twice_are_refused(frame):
    with pytest.raises(LoadError, match="at least one row"):
        from_frame(frame[:0], {"target": "y"})
    with pytest.raises(LoadError, match="each column once"):
        from_frame(frame.rename(columns={"debt": "age"}), {"target": "y"})


def test_a_frame_is_audited_as_it_stands(frame):
    import torch

    table = pd.concat([frame] * 30, ignore_index=True)
    net = torch.nn.Linear(2, 2)
    record = dlaudit.audit(
        net, (table, {"target": "y", "groups": ["sex"]}), checks={"fairness.groups": {}}
    )
    (run,) = record.runs
    assert {one.slice.get("sex") for one in run.outcome.measurements} >= {"f", "m"}
    assert record.data.facts["target"] == "y"

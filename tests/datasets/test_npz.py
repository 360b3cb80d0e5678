"""Arrays are used as they are stored: cast, never rescaled, never given an axis, unless one says so."""

from __future__ import annotations

import io
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dlaudit.audit.parts import Dataset
from dlaudit.datasets import npz
from dlaudit.errors import LoadError, UntrustedModel

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (6, 4, 5), dtype=np.uint8)


def saved(folder, **fields):
    np.savez_compressed(folder / "d.npz", **fields)
    return folder


def whole(data: Dataset, field: str = "x") -> np.ndarray:
    return np.concatenate([getattr(batch, field) for batch in data.batches()])


def loaded(folder, **args):
    return npz.load(root=folder, path="d.npz", **args)


def test_bytes_become_float32_and_keep_their_range(tmp_path):
    data = loaded(saved(tmp_path, x=PICTURES, y=np.arange(6) % 2))
    x = whole(data)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, PICTURES)
    assert data.card.facts["shape"] == [4, 5]


@pytest.mark.parametrize("scale", ["1/255", 1 / 255])
def test_a_scale_is_a_factor(tmp_path, scale):
    data = loaded(saved(tmp_path, x=PICTURES, y=np.arange(6) % 2), scale=scale)
    np.testing.assert_array_equal(whole(data), (PICTURES / 255).astype(np.float32))
    assert whole(data).max() <= 1


@pytest.mark.parametrize(
    ("shape", "axis", "expected"),
    [
        ((6, 4, 5), None, (6, 4, 5)), ((6, 4, 5), 1, (6, 1, 4, 5)), ((6, 4, 5), -1, (6, 1, 4, 5)),
        ((6, 4, 5, 3), -1, (6, 3, 4, 5)), ((6, 4, 5, 3), 3, (6, 3, 4, 5)), ((6, 3, 4, 5), 1, (6, 3, 4, 5)),
        ((6, 4, 3, 5), 2, (6, 3, 4, 5)), ((6, 4, 5, 3), None, (6, 4, 5, 3)),
    ],
)  # fmt: skip
def test_channels_are_moved_behind_the_samples_only_when_asked(tmp_path, shape, axis, expected):
    stored = RNG.random(shape)
    x = whole(loaded(saved(tmp_path, x=stored, y=np.arange(6) % 2), channel_axis=axis))
    assert x.shape == expected
    if axis is not None and len(shape) == 4:
        np.testing.assert_array_equal(x, np.moveaxis(stored, axis, 1).astype(np.float32))


def test_token_ids_stay_whole_when_they_are_said_to_be_tokens(tmp_path):
    tokens = RNG.integers(0, 30000, (6, 7))
    saved(tmp_path, x=tokens, y=np.arange(6) % 2)
    assert loaded(tmp_path).kind == "tabular"
    data = loaded(tmp_path, tokens=True)
    assert data.kind == "tokens"
    assert whole(data).dtype == np.int64
    np.testing.assert_array_equal(whole(data), tokens)


def test_ids_groups_and_masks_come_along(tmp_path):
    mask = np.zeros((6, 4, 5), dtype=np.uint8)
    mask[:, 1:3] = 1
    saved(
        tmp_path, x=PICTURES, y=np.arange(6) % 2, id=np.array(list("abcdef")), mask=mask,
        group_sex=np.array(["f", "m", "", "f", "m", "f"]),
        group_ward=np.array([1.0, 1234567, np.nan, 1, 2.5, 1]),
    )  # fmt: skip
    data = loaded(tmp_path, channel_axis=1)
    (batch,) = data.batches()
    assert batch.id.tolist() == list("abcdef")
    assert batch.groups["sex"].tolist() == ["f", "m", "unknown", "f", "m", "f"]
    assert batch.groups["ward"].tolist() == ["1", "1234567", "unknown", "1", "2.5", "1"]
    assert batch.mask.dtype == bool
    np.testing.assert_array_equal(batch.mask, mask.astype(bool))
    assert {"groups", "mask", "images", "labels"} <= data.offers


def test_labels_that_are_words_are_classes_in_sorted_or_declared_order(tmp_path):
    saved(tmp_path, x=np.zeros((3, 2)), y=np.array(["dog", "cat", "dog"]))
    assert loaded(tmp_path).classes == ("cat", "dog")
    data = loaded(tmp_path, classes=["dog", "cat", "bird"])
    assert whole(data, "y").tolist() == [0, 1, 0]
    assert data.card.facts["class_counts"] == [2, 1, 0]


def test_rows_keep_the_ids_that_they_have_in_the_whole_file(tmp_path):
    saved(tmp_path, x=PICTURES, y=np.arange(6) % 2)
    data = loaded(tmp_path, rows="2:5")
    assert whole(data, "id").tolist() == ["2", "3", "4"]
    np.testing.assert_array_equal(whole(data), PICTURES[2:5])
    (tmp_path / "rows.txt").write_text("5\n0\n")
    assert whole(loaded(tmp_path, rows="rows.txt"), "id").tolist() == ["5", "0"]


def test_arrays_of_other_names_can_be_named(tmp_path):
    saved(tmp_path, x_clean=PICTURES, y_clean=np.arange(6) % 2, index=np.arange(10, 16))
    data = loaded(tmp_path, x="x_clean", y="y_clean", id="index")
    assert whole(data, "id").tolist() == ["10", "11", "12", "13", "14", "15"]
    with pytest.raises(LoadError, match=r"field 'x_clear'.*Did you mean x_clean\?"):
        loaded(tmp_path, x="x_clear", y="y_clean")


def test_another_reading_of_the_file_is_another_data_set(tmp_path):
    saved(tmp_path, x=PICTURES, y=np.arange(6) % 2)
    prints = [
        loaded(tmp_path, **args).card.fingerprint
        for args in ({}, {"scale": "1/255"}, {"channel_axis": 1}, {"rows": "0:3"}, {"rows": "0:4"})
    ]
    assert len(set(prints)) == 5
    assert loaded(tmp_path).card.fingerprint == prints[0]


@settings(max_examples=40)
@given(
    x=arrays.arrays(
        np.float32, arrays.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=5),
        elements=st.floats(-1e6, 1e6, width=32),
    ),
    data=st.data(),
)  # fmt: skip
def test_what_is_saved_is_what_is_loaded(tmp_path_factory, x, data):
    n = len(x)
    y = data.draw(arrays.arrays(np.int64, n, elements=st.integers(0, 4)))
    group = data.draw(st.lists(st.sampled_from(["a", "ü", "long name"]), min_size=n, max_size=n))
    folder = tmp_path_factory.getbasetemp()
    saved(folder, x=x, y=y, group_g=np.array(group))
    (batch,) = loaded(folder).batches()
    np.testing.assert_array_equal(batch.x, x)
    np.testing.assert_array_equal(batch.y, y)
    assert batch.groups["g"].tolist() == group


class Hostile:
    def __reduce__(self):
        return (open, ("canary", "w"))


def raw(folder, **entries: bytes):
    with zipfile.ZipFile(folder / "d.npz", "w") as zipped:
        for name, content in entries.items():
            zipped.writestr(f"{name}.npy", content)


def header(shape, kind="<f4") -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"shape": shape, "fortran_order": False, "descr": kind}
    )
    return buffer.getvalue()


def objects(folder):
    np.savez(folder / "d.npz", x=np.array([Hostile()], dtype=object), y=np.zeros(1))


def single(folder):
    np.save(folder / "y.npy", np.arange(3))
    (folder / "y.npy").rename(folder / "d.npz")


def truncated(folder):
    saved(folder, x=PICTURES, y=np.zeros(6))
    content = (folder / "d.npz").read_bytes()
    (folder / "d.npz").write_bytes(content[:-40])


Y = np.arange(6) % 2
GOOD = {"x": PICTURES, "y": Y}
BAD = [
    ("truncated", truncated, {}, "cut off or damaged"),
    ("empty", lambda f: (f / "d.npz").write_bytes(b""), {}, "got an empty file"),
    ("a folder", lambda f: (f / "d.npz").mkdir(), {}, "got a folder"),
    ("missing", lambda f: saved(f, **GOOD).joinpath("d.npz").rename(f / "e.npz"), {}, "Did you mean e.npz?"),
    ("text", lambda f: (f / "d.npz").write_text("x,y\n"), {}, "kind: unknown"),
    ("a single array", single, {}, "kind: numpy array"),
    ("a pickle", lambda f: (f / "d.npz").write_bytes(pickle.dumps(Hostile())), {}, "would import and call"),
    ("objects", objects, {}, "field 'x': expected numbers or text, got Python objects"),
    ("no x", lambda f: saved(f, X=PICTURES, y=Y), {}, "field 'x': expected an array of this name"),
    ("no y", lambda f: saved(f, x=PICTURES), {}, "field 'y': expected an array of this name"),
    ("other lengths", lambda f: saved(f, x=PICTURES, y=Y[:5]), {}, "expected 6 rows, as in x, got 5"),
    ("NaN", lambda f: saved(f, x=np.where(np.eye(6) > 0, np.nan, 1), y=Y), {}, "NaN or infinity in row 0"),
    ("infinity", lambda f: saved(f, x=np.full((6, 2), 1e300), y=Y), {}, "NaN or infinity in row 0"),
    ("labels below 0", lambda f: saved(f, x=PICTURES, y=Y - 1), {}, "expected class indices 0, 1, …, got -1"),
    ("labels between", lambda f: saved(f, x=PICTURES, y=Y + 0.5), {}, "expected class indices"),
    ("too many classes", lambda f: saved(f, x=PICTURES, y=np.arange(6)), {"classes": ["a", "b"]}, "got 5"),
    ("an unknown class", lambda f: saved(f, x=PICTURES, y=np.array(list("abcabc"))), {"classes": ["a", "b"]},
     "expected one of the classes a, b, got 'c'"),
    ("no label", lambda f: saved(f, x=PICTURES[:2], y=np.array(["a", ""])), {}, "nothing in row 1"),
    ("two axes of labels", lambda f: saved(f, x=PICTURES, y=np.eye(6)), {}, "one label per row of x"),
    ("an id twice", lambda f: saved(f, **GOOD, id=np.zeros(6)), {}, "expected one row per id, got 6"),
    ("groups of another length", lambda f: saved(f, **GOOD, group_a=Y[:3]), {}, "expected 6 rows, as in x"),
    ("groups in two axes", lambda f: saved(f, **GOOD, group_a=np.eye(6)), {}, "one value per row"),
    ("a mask of another size", lambda f: saved(f, **GOOD, mask=np.ones((6, 2, 2))), {}, "field 'mask'"),
    ("a mask of greys", lambda f: saved(f, **GOOD, mask=PICTURES), {}, "1 where the object is, else 0"),
    ("text for x", lambda f: saved(f, x=np.array([["a"]] * 6), y=Y), {}, "expected numbers, got text"),
    ("one axis", lambda f: saved(f, x=np.zeros(6), y=Y), {}, "expected shape (n, *input), got shape (6,)"),
    ("no rows", lambda f: saved(f, x=np.zeros((0, 3)), y=np.zeros(0)), {}, "expected at least one row"),
    ("a number", lambda f: saved(f, x=np.float32(3), y=Y), {}, "got a single number"),
    ("complex", lambda f: saved(f, x=np.ones((6, 2)) * 1j, y=Y), {}, "type complex128"),
    ("tokens that are none", lambda f: saved(f, x=np.ones((6, 2)), y=Y), {"tokens": True}, "token ids"),
    ("channels at the samples", lambda f: saved(f, **GOOD), {"channel_axis": 0}, "Axis 0 counts the samples"),
    ("channels of a table", lambda f: saved(f, x=np.ones((6, 2)), y=Y), {"channel_axis": 1}, "channel_axis"),
    ("no scale", lambda f: saved(f, **GOOD), {"scale": "1/0"}, "scale: expected"),
    ("scale 0", lambda f: saved(f, **GOOD), {"scale": 0.0}, "scale: expected a number above 0"),
    ("a range outside", lambda f: saved(f, **GOOD), {"rows": "3:9"}, 'expected a range within "0:6"'),
    ("huge header", lambda f: raw(f, x=header((1 << 40, 1 << 20)) + b"1234", y=b""), {}, "bytes for shape"),
    ("no header", lambda f: raw(f, x=b"nothing at all", y=b""), {}, "an array as numpy stores it"),
    ("half an array", lambda f: raw(f, x=header((6, 2)) + b"\0" * 40, y=b""), {}, "bytes for shape (6, 2)"),
]  # fmt: skip


@pytest.mark.parametrize("row", BAD, ids=[row[0] for row in BAD])
def test_a_bad_archive_is_refused_in_one_sentence(tmp_path, monkeypatch, row):
    monkeypatch.chdir(tmp_path)
    _, make, args, said = row
    make(tmp_path)
    with pytest.raises(LoadError) as refused:
        loaded(tmp_path, **args)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "expected" in str(refused.value)
    assert not (tmp_path / "canary").exists()


def test_objects_are_refused_as_code(tmp_path):
    objects(tmp_path)
    with pytest.raises(UntrustedModel, match="It was not loaded"):
        loaded(tmp_path)


@settings(max_examples=80)
@given(st.integers(0, 700), st.binary(min_size=1, max_size=6), st.integers(0, 80))
def test_a_damaged_archive_is_loaded_or_refused(tmp_path_factory, position, noise, cut):
    folder = tmp_path_factory.getbasetemp()
    saved(folder, x=PICTURES, y=Y)
    content = bytearray((folder / "d.npz").read_bytes())
    content[position : position + len(noise)] = noise
    (folder / "d.npz").write_bytes(bytes(content[: len(content) - cut]))
    try:
        loaded(folder)
    except LoadError as error:
        assert "d.npz" in str(error)  # noqa: PT017

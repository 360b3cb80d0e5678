"""Label sets, label maps and boxes that are none are refused in one sentence, wherever they come from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dlaudit.datasets import images, jsonl, npy, npz
from dlaudit.datasets.tables import load_csv
from dlaudit.datasets.truths import by_picture, flat
from dlaudit.errors import LoadError

X = np.random.default_rng(0).random((4, 1, 6, 8)).astype(np.float32)
SETS = np.array([[0, 1], [1, 1], [0, 0], [1, 0]])
MAPS = np.arange(4 * 6 * 8).reshape(4, 6, 8) % 3
BOXES = {
    "box": np.array([[0.0, 0, 4, 4], [2, 1, 8, 6]]), "box_label": np.array([0, 1]),
    "box_row": np.array([3, 0]),
}  # fmt: skip


def corners(**changes):
    return {key: value for key, value in (BOXES | changes).items() if value is not None}


NPZ = [
    # task, arrays, further arguments, what is said
    ("tags", {"y": SETS}, {}, "task: expected one of multilabel, segmentation, detection"),
    ("multi_label", {"y": SETS}, {}, "Did you mean multilabel?"),
    ("multilabel", {}, {}, "field 'y': expected an array of this name"),
    ("multilabel", {"y": SETS[:3]}, {}, "shape (4, L), got shape (3, 2)"),
    ("multilabel", {"y": SETS[:, 0]}, {}, "shape (4, L), got shape (4,)"),
    ("multilabel", {"y": SETS[:, :0]}, {}, "got shape (4, 0)"),
    ("multilabel", {"y": SETS + 1}, {}, "1 where a row has the label, else 0, got 2"),
    ("multilabel", {"y": SETS * 0.5}, {}, "1 where a row has the label, else 0, got 0.5"),
    ("multilabel", {"y": SETS * np.nan}, {}, "else 0, got nan"),
    ("multilabel", {"y": SETS.astype(str)}, {}, "else 0, got type <U"),
    ("multilabel", {"y": SETS}, {"classes": ["a", "b", "c"]}, "shape (4, 3), got shape (4, 2)"),
    ("segmentation", {"y": SETS}, {}, "shape (4, 6, 8), got shape (4, 2)"),
    ("segmentation", {"y": MAPS[:, :5]}, {}, "shape (4, 6, 8), got shape (4, 5, 8)"),
    ("segmentation", {"y": MAPS[:2]}, {}, "got shape (2, 6, 8)"),
    ("segmentation", {"y": MAPS * 0.3}, {}, "expected class indices, got type float64"),
    ("segmentation", {"y": MAPS * np.nan}, {}, "expected class indices, got type float64"),
    ("segmentation", {"y": MAPS - 1}, {}, "class indices 0 … 9999, or void = 255, got -1"),
    ("segmentation", {"y": MAPS}, {"classes": ["a", "b"]}, "class indices 0 … 1, or void = 255, got 2"),
    ("segmentation", {"y": MAPS * 60_000}, {}, "got 60000. Are these colours?"),
    ("segmentation", {"y": np.full_like(MAPS, 255)}, {}, "expected pixels that count, got void in all"),
    ("segmentation", {"y": MAPS.astype(str)}, {}, "expected class indices, got type <U"),
    ("detection", {"y": SETS}, {}, "field 'box': expected an array of this name"),
    ("detection", corners(box_label=None), {}, "field 'box_label': expected an array"),
    ("detection", corners(box_row=None), {}, "field 'box_row': expected an array"),
    ("detection", corners(box=BOXES["box"][:, :3]), {}, "expected corners (N, 4), got float64 (2, 3)"),
    ("detection", corners(box=BOXES["box"].astype(str)), {}, "expected corners (N, 4), got <U"),
    ("detection", corners(box=BOXES["box"] * np.nan), {}, "box 0: expected x0, y0, x1, y1"),
    ("detection", corners(box=BOXES["box"][:, ::-1]), {}, "Are these x, y, width, height?"),
    ("detection", corners(box=BOXES["box"] * 9), {}, "box 0: expected corners within the picture of 8 x 6"),
    ("detection", corners(box=np.zeros((0, 4)), box_label=np.zeros(0, int), box_row=np.zeros(0, int)), {},
     "expected at least one box"),
    ("detection", corners(box_label=np.array([0])), {}, "a whole number for each of 2 boxes"),
    ("detection", corners(box_label=np.array([0.5, 1])), {}, "a whole number for each of 2 boxes"),
    ("detection", corners(box_label=np.array([-1, 1])), {}, "class indices 0 … 9999, got -1 to 1"),
    ("detection", corners(), {"classes": ["cat"]}, "class indices 0 … 0, got 0 to 1"),
    ("detection", corners(box_row=np.array([0, 4])), {}, "positions 0 … 3 of pictures in x, got 0 to 4"),
    ("detection", corners(box_crowd=np.array([1])), {}, "field 'box_crowd': expected a whole number"),
]  # fmt: skip


@pytest.mark.parametrize("row", NPZ, ids=[f"{place}-{row[0]}" for place, row in enumerate(NPZ)])
def test_bad_arrays_are_refused(tmp_path, row):
    task, arrays, more, said = row
    np.savez(tmp_path / "d.npz", x=X, **arrays)
    with pytest.raises(LoadError) as refused:
        npz.load(root=tmp_path, path="d.npz", task=task, **more)
    assert said in str(refused.value)
    assert all("\n" not in problem and "expected" in problem for problem in refused.value.problems)


TABLE = "a,red,round\n1,0,1\n2,1,1\n3,0,0\n"
CSV = [
    ("one column", TABLE, {"target": ["red"]}, "target: expected a column, or two or more that differ"),
    ("no column", TABLE, {"target": []}, "two or more that differ, got []"),
    ("a column twice", TABLE, {"target": ["red", "red"]}, "two or more that differ"),
    ("no such column", TABLE, {"target": ["red", "rund"]}, "target: column 'rund'"),
    ("three kinds", TABLE.replace("2,1", "2,2"), {}, "column 'red': expected 1 where a row has the label"),
    ("words", TABLE.replace("0", "no").replace("1,no,1", "1,no,yes"), {}, "positive = … says which value"),
    ("fractions", TABLE.replace("2,1", "2,0.5"), {}, "else 0, got '0.5'"),
    ("a gap", TABLE.replace("2,1", "2,"), {}, "column 'red': expected a value in every row, got empty cells"),
    ("too many names", TABLE, {"classes": ["a", "b", "c"]}, "a name for each of 2 labels in classes, got 3"),
    ("too few names", TABLE, {"classes": ["a"]}, "a name for each of 2 labels in classes, got 1"),
    ("a label as a feature", TABLE, {"features": ["a", "round"]}, "exclude the target, got the target"),
    ("no positive", TABLE, {"positive": []}, "positive: expected at least one value"),
    ("no such group", TABLE, {"groups": ["gone"]}, "groups: column 'gone'"),
    ("only a header", "a,red,round\n", {}, "expected at least one row below the header"),
    ("a short line", TABLE + "4,1\n", {}, "line 5: expected 3 fields"),
]  # fmt: skip


@pytest.mark.parametrize("row", CSV, ids=[row[0] for row in CSV])
def test_a_bad_table_of_label_sets_is_refused(tmp_path, row):
    _, content, args, said = row
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(LoadError) as refused:
        load_csv(root=tmp_path, path="t.csv", **({"target": ["red", "round"]} | args))
    assert said in str(refused.value)


def test_label_sets_of_a_table_are_no_features_and_keep_their_names(tmp_path):
    (tmp_path / "t.csv").write_text(TABLE.replace("0", "no").replace("1\n", "yes\n"))
    data = load_csv(
        root=tmp_path, path="t.csv", target=["red", "round"], positive=["yes", 1],
    )  # fmt: skip
    (batch,) = data.batches()
    assert batch.x.shape == (3, 1)
    assert batch.truth.tolist() == [[False, True], [True, True], [False, False]]
    assert data.classes == ("red", "round")
    assert data.card.facts["class_counts"] == [1, 2]
    assert "multilabel" in data.offers
    assert "labels" not in data.offers


def folder_of(tmp_path: Path, *, boxes: list | None = None) -> None:
    for place in ("p", "m"):
        (tmp_path / place).mkdir()
        for row in range(2):
            held = (np.arange(48).reshape(6, 8) + row) % (3 if place == "m" else 200)
            Image.fromarray(held.astype(np.uint8)).save(tmp_path / place / f"{row}.png")
    lines = boxes or [
        {"file": "0.png", "boxes": [[0, 0, 4, 4]], "labels": ["cat"]},
        {"file": "1.png", "boxes": [[1, 1, 8, 6], [0, 0, 2, 2]], "labels": ["dog", "cat"]},
    ]
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, lines)))


def saved(place, picture):
    return lambda folder: Image.fromarray(picture).save(folder / place)


MASKS = [
    ("no folder", lambda _: None, {"masks": "n"}, "n: expected a folder of masks"),
    ("a file", lambda _: None, {"masks": "b.jsonl"}, "expected a folder of masks"),
    ("both", lambda _: None, {"boxes": "b.jsonl"}, "masks: expected masks or boxes, got both"),
    ("a table too", lambda _: None, {"table": "t.csv"}, "got a table or groups as well"),
    ("groups too", lambda _: None, {"groups": ["site"]}, "got a table or groups as well"),
    ("one is missing", lambda f: (f / "m" / "1.png").unlink(), {}, "expected a mask called 1.png"),
    ("another size", saved("m/1.png", np.zeros((8, 6), np.uint8)), {}, "6 x 8 pixels, as its picture"),
    ("colours", saved("m/1.png", np.zeros((6, 8, 3), np.uint8)), {}, "Colours are no class indices"),
    ("another class", lambda _: None, {"classes": ["a", "b"]}, "class indices 0 … 1, or void = 255, got 2"),
    ("all void", lambda f: [saved(f"m/{k}.png", np.full((6, 8), 255, np.uint8))(f) for k in (0, 1)], {},
     "got void in all of them"),
    ("no picture", lambda f: (f / "m" / "0.png").write_bytes(b"hello"), {}, "expected a whole picture"),
    ("cut off", lambda f: (f / "m" / "0.png").write_bytes((f / "m" / "0.png").read_bytes()[:60]), {},
     "expected a whole picture"),
    ("a picture cut off", lambda f: (f / "p" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n"), {},
     "whole picture"),
    ("an empty folder", lambda f: [one.unlink() for one in (f / "p").iterdir()], {}, "expected pictures"),
    ("a link out of it", lambda f: [(f / "m" / "0.png").rename(f / "o.png"),
                                    (f / "m" / "0.png").symlink_to(f / "o.png")], {}, "leads out of it"),
    ("no size", lambda _: None, {"size": [0, 8]}, "size: expected"),
]  # fmt: skip


@pytest.mark.parametrize("row", MASKS, ids=[row[0] for row in MASKS])
def test_bad_masks_are_refused(tmp_path, row):
    _, spoil, more, said = row
    folder_of(tmp_path)
    spoil(tmp_path)
    with pytest.raises(LoadError) as refused:
        images.load(root=tmp_path, **({"path": "p", "masks": "m"} | more))
    assert said in str(refused.value)
    assert all("\n" not in problem for problem in refused.value.problems)


def line(**changes):
    given = {"file": "1.png", "boxes": [[1, 1, 8, 6]], "labels": ["cat"]} | changes
    return {key: value for key, value in given.items() if value is not None}


LINES = [
    ("no file", line(file=None), {}, "line 2: field 'file': expected a picture of the folder"),
    ("another file", line(file="1.jpg"), {}, "Did you mean 1.png?"),
    ("a picture twice", line(file="0.png"), {}, "each picture once, got '0.png' twice"),
    ("no boxes", line(boxes=None), {}, "field 'boxes': expected a list with an entry for each box"),
    ("no labels", line(labels=None), {}, "field 'labels': expected a list with an entry for each box"),
    ("a label less", line(labels=[]), {}, "field 'labels'"),
    ("a label of halves", line(labels=[0.5]), {}, "names of classes, or their indices, got 0.5"),
    ("a label of truth", line(labels=[True]), {}, "names of classes, or their indices, got True"),
    ("names and numbers", line(labels=[0]), {}, "expected names, or indices, got both"),
    ("another class", line(labels=["cow"]), {"classes": ["cat", "dog"]}, "one of the classes cat, dog"),
    ("three corners", line(boxes=[[1, 1, 8]]), {}, "expected x0, y0, x1, y1"),
    ("words", line(boxes=[["1", 1, 8, 6]]), {}, "expected x0, y0, x1, y1"),
    ("width and height", line(boxes=[[5, 5, 3, 3]]), {}, "Are these x, y, width, height?"),
    ("beyond the picture", line(boxes=[[1, 1, 80, 6]]), {}, "corners within 8 x 6 pixels"),
    ("NaN", line(boxes=[[float("nan"), 1, 8, 6]]), {}, "expected x0, y0, x1, y1"),
    ("crowds of words", line(crowd="yes"), {}, "field 'crowd'"),
    ("a list", [1], {}, "line 2: expected a JSON object"),
    ("a line less", {"file": "0.png", "boxes": [], "labels": []}, {}, "each picture once"),
]  # fmt: skip


@pytest.mark.parametrize("row", LINES, ids=[row[0] for row in LINES])
def test_bad_boxes_are_refused_with_their_line(tmp_path, row):
    _, second, more, said = row
    first = {"file": "0.png", "boxes": [[0, 0, 4, 4]], "labels": ["cat"]}
    folder_of(tmp_path, boxes=[first, second])
    with pytest.raises(LoadError) as refused:
        images.load(root=tmp_path, path="p", boxes="b.jsonl", **more)
    assert said in str(refused.value)
    assert str(tmp_path / "b.jsonl") in str(refused.value)
    assert all("\n" not in problem for problem in refused.value.problems)


def test_a_picture_without_a_line_is_refused(tmp_path):
    folder_of(tmp_path, boxes=[{"file": "0.png", "boxes": [[0, 0, 4, 4]], "labels": ["cat"]}])
    with pytest.raises(
        LoadError, match=r"a line for every picture.* none for '1.png' \(1 in all\)"
    ):
        images.load(root=tmp_path, path="p", boxes="b.jsonl")


def test_pictures_with_masks_and_boxes_are_read_and_resized_together(tmp_path):
    folder_of(tmp_path)
    data = images.load(root=tmp_path, path="p", masks="m", void=2)
    (batch,) = data.batches()
    assert batch.x.shape == (2, 1, 6, 8)
    expected = (np.arange(48).reshape(6, 8) + 1) % 3
    assert (batch.truth[1] == np.where(expected == 2, -1, expected)).all()
    assert data.offers >= {"segmentation", "images"}
    wide = images.load(root=tmp_path, path="p", boxes="b.jsonl", size=[12, 8])
    (batch,) = wide.batches()
    assert batch.x.shape == (2, 1, 12, 8)
    assert batch.truth[0].box.tolist() == [[0, 0, 4, 8]], "corners move with the picture"
    assert [one.label.tolist() for one in batch.truth] == [[0], [1, 0]]
    assert wide.classes == ("cat", "dog")
    assert wide.card.facts["class_counts"] == [2, 1]
    half = images.load(root=tmp_path, path="p", masks="m", size=[3, 4])
    assert next(iter(half.batches())).truth.shape == (2, 3, 4)
    assert half.card.fingerprint != data.card.fingerprint


def test_the_identity_of_the_data_includes_what_is_true(tmp_path):
    folder_of(tmp_path)
    before = images.load(root=tmp_path, path="p", masks="m").card.fingerprint
    saved("m/1.png", np.zeros((6, 8), np.uint8))(tmp_path)
    assert images.load(root=tmp_path, path="p", masks="m").card.fingerprint != before


def test_single_arrays_hold_label_sets_and_no_boxes(tmp_path):
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", SETS)
    data = npy.load(root=tmp_path, path="x.npy", labels="y.npy", task="multilabel", rows="1:3")
    assert next(iter(data.batches())).truth.tolist() == SETS[1:3].astype(bool).tolist()
    with pytest.raises(LoadError, match="npz holds boxes"):
        npy.load(root=tmp_path, path="x.npy", labels="y.npy", task="detection")


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.integers(0, 4), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_boxes_keep_their_picture_and_their_order(rows, seed):
    rng = np.random.default_rng(seed)
    count = len(rows)
    box, label = rng.random((count, 4)), rng.integers(0, 3, count)
    held = by_picture(box, label, np.array(rows), np.zeros(count, bool), 5)
    back = flat(held)
    order = np.argsort(rows, kind="stable")
    assert back["row"].tolist() == sorted(rows)
    assert (back["box"] == box[order]).all()
    assert (back["label"] == label[order]).all()


TEXTS = [
    ("one name", {}, "line 1: field 'label': expected a list of names", "red"),
    (
        "no list",
        {},
        "expected a list of names, an empty one where there is none, got nothing",
        None,
    ),
    ("numbers", {}, "expected a list of names", [1]),
    ("an empty name", {}, "expected a list of names", [""]),
    ("another name", {"classes": ["blue", "red"]}, "names out of blue, red, got 'rod'", ["rod"]),
    ("nobody has any", {}, "expected at least one name in all lines, got none", []),
    ("another task", {"task": "segmentation"}, "task: expected one of multilabel", ["red"]),
]


@pytest.mark.parametrize("row", TEXTS, ids=[row[0] for row in TEXTS])
def test_bad_label_sets_of_texts_are_refused(tmp_path, row):
    _, more, said, label = row
    (tmp_path / "t.jsonl").write_text(json.dumps({"text": "good", "label": label}))
    with pytest.raises(LoadError) as refused:
        jsonl.load(root=tmp_path, path="t.jsonl", **({"task": "multilabel"} | more))
    assert said in str(refused.value)


def test_texts_keep_their_label_sets(tmp_path):
    lines = [
        {"text": "a", "label": ["red", "round"]},
        {"text": "b", "label": []},
        {"text": "c", "label": ["round"]},
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, lines)))
    data = jsonl.load(root=tmp_path, path="t.jsonl", task="multilabel", length=4)
    assert data.classes == ("red", "round")
    assert next(iter(data.batches())).truth.tolist() == [
        [True, True],
        [False, False],
        [False, True],
    ]
    assert data.offers == {"multilabel", "tokens"}

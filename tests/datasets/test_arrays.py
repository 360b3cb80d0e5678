"""Arrays in memory: checked once, described, identified by their content."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaudit.datasets.arrays import ArrayDataset, Splits
from dlaudit.errors import LoadError

X, Y = np.zeros((4, 2), dtype=np.float32), np.array([0, 1, 2, 1])


def test_the_card_describes_what_is_held():
    facts = ArrayDataset(X, Y, groups={"sex": np.array(list("fmfm"))}).card.facts
    assert facts["n"] == 4
    assert facts["class_counts"] == [1, 2, 1]
    assert facts["groups"] == {"sex": {"f": 2, "m": 2}}
    assert facts["kind"] == "tabular"


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (
            np.eye(4),
            r"got \(4, 4\)\. Several labels a row\? Say task = .multilabel.\..* y\.argmax\(axis=1\)",
        ),
        (np.zeros((4, 8, 8)), "A class for every pixel\\? Say task = .segmentation."),
        (np.zeros(3), r"got \(3,\)$"),
    ],
)
def test_labels_that_are_no_class_per_row_are_refused_with_the_way_out(y, said):
    with pytest.raises(LoadError, match=said):
        ArrayDataset(X, y)


def test_every_field_is_part_of_the_identity():
    base = {"x": X, "y": Y}
    changes = (
        {}, {"x": X + 1}, {"y": Y[::-1]}, {"id": np.array(list("abcd"))}, {"x": X.astype(np.float64)},
        {"groups": {"a": Y}}, {"columns": {"a": Y}}, {"columns": {"a": np.array([None, "b", 1.5, 2])}},
        {"mask": np.ones((4, 2), dtype=bool)}, {"groups": {"b": Y}},
    )  # fmt: skip
    prints = [ArrayDataset(**(base | change)).card.fingerprint for change in changes]
    assert len(set(prints)) == len(changes)
    assert ArrayDataset(X.copy(), Y.copy()).card.fingerprint == prints[0]


@given(st.integers(1, 3000), st.integers(1, 5))
def test_batches_put_together_are_the_whole(n, width):
    x = np.arange(n * width, dtype=np.float32).reshape(n, width)
    data = ArrayDataset(x, np.zeros(n, dtype=int))
    np.testing.assert_array_equal(np.concatenate([batch.x for batch in data.batches()]), x)
    assert np.concatenate([batch.id for batch in data.batches()]).tolist() == [
        str(i) for i in range(n)
    ]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"y": Y[:3]}, "expected shape"), ({"y": Y - 1}, "expected class indices"),
        ({"y": Y + 0.5}, "expected class indices"), ({"y": np.array(["a"] * 4)}, "expected class indices"),
        ({"id": np.array(list("abca"))}, "got 2 rows of 'a'"), ({"classes": ("a", "b")}, "labels below 2"),
        ({"groups": {"g": Y[:2]}}, "field 'g': expected 4 rows"), ({"mask": Y[:2]}, "field 'mask'"),
        ({"x": X[:0], "y": Y[:0]}, "at least one row"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_refused(args, said):
    with pytest.raises(LoadError, match=said):
        ArrayDataset(**({"x": X, "y": Y} | args))


def test_splits_must_agree_on_their_classes():
    test, train = (
        ArrayDataset(X, Y, classes=("a", "b", "c")),
        ArrayDataset(X, Y % 2, classes=("a", "b")),
    )
    data = Splits({"test": test, "train": train})
    assert data.classes == ("a", "b", "c")
    assert "train" in data.offers
    assert data.size("train") == 4
    assert [batch.y.tolist() for batch in data.batches("train")] == [[0, 1, 0, 1]]
    with pytest.raises(LoadError, match=r"data\.train: expected the classes"):
        Splits({"test": test, "train": ArrayDataset(X, Y, classes=("b", "a", "c"))})
    with pytest.raises(LoadError, match="holds no split 'train'"):
        list(test.batches("train"))

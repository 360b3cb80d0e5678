"""Decisions that were recorded in a column are audited as if a model had just made them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaudit.audit.parts import Batch
from dlaudit.datasets.arrays import ArrayDataset, Splits
from dlaudit.datasets.cells import matches
from dlaudit.datasets.tables import load_csv
from dlaudit.errors import LoadError, NotOffered
from dlaudit.models import predictions


def batch(**columns) -> Batch:
    n = len(next(iter(columns.values())))
    return Batch(np.zeros((n, 1)), np.zeros(n, dtype=int), np.arange(n).astype(str), {}, columns)


@pytest.mark.parametrize(
    ("column", "positive", "expected"),
    [
        (["Low", "High", "Medium"], ["Medium", "High"], [0, 1, 1]),
        (["yes", "no", "yes"], "yes", [1, 0, 1]),
        ([0, 1, 2], 1, [0, 1, 0]),
        ([0.0, 1.0, 0.5], 1, [0, 1, 0]),
        ([True, False, True], True, [1, 0, 1]),
        ([1, 0, 1], True, [1, 0, 1]),
        (["1", "0", "1"], 1, [1, 0, 1]),
        ([1, 2, 1], "1", [1, 0, 1]),
    ],
)
def test_a_positive_value_is_class_one(column, positive, expected):
    model = predictions.load(column="d", positive=positive)
    assert model.decide(batch(d=np.array(column))).predicted.tolist() == expected


def test_a_score_decides_from_its_threshold_on_and_is_handed_on():
    model = predictions.load(score="s", threshold=5)
    decided = model.decide(batch(s=np.array([4, 5, 6])))
    assert decided.predicted.tolist() == [0, 1, 1]
    assert decided.score.tolist() == [4.0, 5.0, 6.0]
    assert decided.logits is None


def test_only_decisions_are_offered():
    model = predictions.load(column="d", positive=1)
    assert model.offers == {"decisions"}
    for ask in (model.logits, lambda x: model.loss_gradient(x, x)):
        with pytest.raises(NotOffered):
            ask(np.zeros((2, 2)))


def test_class_names_in_the_column_are_those_of_the_data(tmp_path):
    (tmp_path / "t.csv").write_text("truth,said\ncat,dog\ndog,dog\nbird,cat\n")
    data = load_csv(root=tmp_path, path="t.csv", target="truth")
    model = predictions.load(column="said")
    model.meet(data)
    (rows,) = data.batches()
    assert [data.classes[i] for i in model.decide(rows).predicted] == ["dog", "dog", "cat"]


def test_the_column_is_looked_at_in_every_split(tmp_path):
    (tmp_path / "a.csv").write_text("y,said\n1,1\n0,0\n")
    (tmp_path / "b.csv").write_text("y,sad\n1,1\n0,0\n")
    parts = {
        "test": load_csv(root=tmp_path, path="a.csv", target="y"),
        "train": load_csv(root=tmp_path, path="b.csv", target="y"),
    }
    model = predictions.load(column="said", positive=1)
    model.meet(parts["test"])
    with pytest.raises(LoadError, match=r"column 'said'.*Did you mean sad\?"):
        model.meet(Splits(parts))


def test_a_value_that_never_occurs_is_a_mistake(tmp_path):
    (tmp_path / "t.csv").write_text("y,said\n1,yes\n0,no\n")
    data = load_csv(root=tmp_path, path="t.csv", target="y")
    with pytest.raises(LoadError, match=r"expected a value that occurs \('no', 'yes'\), got 'Yes'"):
        predictions.load(column="said", positive="Yes").meet(data)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({}, "expected either column or score, got neither"),
        ({"column": "a", "score": "b", "threshold": 1}, "got both"),
        ({"score": "a"}, "threshold: expected a number"),
        ({"score": "a", "threshold": float("nan")}, "threshold: expected a number"),
        ({"column": "a", "threshold": 1.0}, "threshold: expected to stand with score"),
        (
            {"score": "a", "threshold": 1.0, "positive": 1},
            "positive: expected to stand with column",
        ),
        ({"column": "a", "positive": []}, "positive: expected at least one value"),
        ({"column": "a", "classes": ["one"]}, "classes: expected at least two names"),
        ({"column": "a", "classes": ["one", "one"]}, "names that differ"),
    ],
)
def test_arguments_that_say_too_little_or_too_much_are_refused(args, said):
    with pytest.raises(LoadError, match=said):
        predictions.load(**args)


@pytest.mark.parametrize(
    ("args", "columns", "said"),
    [
        ({"column": "d", "positive": 1}, {"e": [1]}, "column 'd': expected a column of recorded decisions"),
        ({"column": "d", "positive": 1}, {"d": [1.0, np.nan]}, "1 empty cells"),
        ({"column": "d", "positive": "x"}, {"d": np.array(["x", None], dtype=object)}, "1 empty cells"),
        ({"score": "d", "threshold": 1}, {"d": ["high"]}, r"expected scores \(numbers\), got"),
        ({"score": "d", "threshold": 1}, {"d": [1.0, np.nan]}, "1 that are missing"),
        ({"column": "d", "classes": ["a", "b"]}, {"d": ["a", "c"]}, "one of the classes a, b, got 'c'"),
    ],
)  # fmt: skip
def test_a_column_that_holds_no_decisions_is_refused(args, columns, said):
    rows = batch(**{name: np.asarray(column) for name, column in columns.items()})
    with pytest.raises(LoadError, match=said):
        predictions.load(**args).decide(rows)


def test_yes_and_no_do_not_answer_three_classes():
    data = ArrayDataset(np.zeros((3, 1)), np.arange(3), columns={"d": np.array([0, 1, 1])})
    with pytest.raises(LoadError, match=r"expected data of two classes.*got 3: 0, 1, 2"):
        predictions.load(column="d", positive=1).meet(data)


def test_another_reading_of_the_column_is_another_model():
    cards = [
        predictions.load(column="d", positive=1).card,
        predictions.load(column="d", positive=2).card,
        predictions.load(column="e", positive=1).card,
        predictions.load(score="d", threshold=1).card,
    ]
    assert len({card.fingerprint for card in cards}) == 4


@given(st.lists(st.sampled_from(["a", "b", "1", "2.0"]) | st.none(), max_size=20))
def test_what_matches_one_of_two_values_matches_one_or_the_other(cells):
    values = np.array(cells, dtype=object)
    both = matches(values, ["a", 2])
    np.testing.assert_array_equal(both, matches(values, ["a"]) | matches(values, [2]))

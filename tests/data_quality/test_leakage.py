"""Shared identities, time and columns that know the label: counted, judged out of sample, never guessed."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score
from sklearn.tree import DecisionTreeClassifier

from dlaudit.audit.record import Measurement, Undefined
from dlaudit.data_quality import identity, predictive
from dlaudit.data_quality.leakage import Leakage


def splits(n=300, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2 * n, 3))
    y = (x[:, 0] + rng.normal(size=2 * n) > 0).astype(int)
    return (x[:n], y[:n]), (x[n:], y[n:])


def test_the_same_person_on_both_sides_by_hand(bench_of, told, rows_kept):
    test, train = splits(4)
    ids = {"test": ["a", "b", "c", "d"], "train": ["e", "f", "g", "d"]}
    columns = {
        "person": {
            "test": np.array([7, 8, None, 9], dtype=object),
            "train": np.array(["8", "", 10.0, 11], dtype=object),
        }
    }
    bench = bench_of(test, train, ids=ids, columns=columns)
    found, kept = told(Leakage(ids=("person",)), bench)
    assert found["shared_ids", "id"].value == 1 / 4
    assert found["shared_ids", "person"].value == 1 / 4, "an empty cell is nobody"
    assert found["leaked_rows",].value == 2 / 4
    assert found["leaked_rows",].conditions == {"columns": "id, person"}
    assert isinstance(found["time_overlap",], Undefined)
    table = rows_kept(kept["data_quality.x.samples"])
    assert table["shared_person"].tolist() == [False, True, False, False]
    assert table["shared_id"].tolist() == [False, False, False, True]


def test_numbers_that_only_count_rows_are_no_identity(bench_of, told):
    test, train = splits()
    found, _ = told(Leakage(), bench_of(test, train))
    assert isinstance(found["shared_ids",], Undefined)
    assert isinstance(found["leaked_rows",], Undefined)
    same = (test[0].copy(), test[1])
    found, _ = told(Leakage(), bench_of(test, same))
    assert found["shared_ids", "id"].value == 1, "the same numbers stand for the same rows"


@pytest.mark.parametrize(
    ("days", "early"),
    [
        ((["2024-01-05", "2024-03-01"], ["2024-01-01", "2024-02-01"]), [True, False]),
        (([1999, 2003], [2000, 2001]), [True, False]),
        (
            (["2024-02-01T10:00:00", "2024-02-01T12:00:00"], ["2024-02-01T11:00:00"] * 2),
            [True, False],
        ),
    ],
)
def test_test_rows_older_than_training_by_hand(bench_of, told, rows_kept, days, early):
    test, train = splits(2)
    columns = {"day": {"test": np.array(days[0]), "train": np.array(days[1])}}
    found, kept = told(Leakage(date="day"), bench_of(test, train, columns=columns))
    assert found["time_overlap", "day"].value == 0.5
    assert rows_kept(kept["data_quality.x.samples"])["early"].tolist() == early


def test_the_date_that_the_data_declare_is_used_and_an_unreadable_one_undefined(bench_of, told):
    test, train = splits(2)
    facts = {"test": {"date": "day"}}
    days = {"day": {"test": np.array(["soon", "later"]), "train": np.array(["x", "y"])}}
    found, _ = told(Leakage(), bench_of(test, train, columns=days, facts=facts))
    assert "neither" in found["time_overlap", "day"].reason


@given(
    st.lists(
        st.dates(pd.Timestamp("1970-01-01").date(), pd.Timestamp("2200-01-01").date()), min_size=1
    )
)
def test_moments_order_days_as_the_calendar_does(days):
    written = np.array([day.isoformat() for day in days], dtype=object)
    assert np.argsort(identity.moments(written), kind="stable").tolist() == sorted(
        range(len(days)), key=lambda k: days[k]
    )


def test_a_column_that_is_the_label_and_one_that_is_noise(bench_of, told, rows_kept):
    (x, y), (u, v) = splits()
    x[:, 1], u[:, 1] = 5 - 2 * y, 5 - 2 * v
    facts = {"test": {"features": ["honest", "told", "noise"]}}
    found, kept = told(Leakage(), bench_of((x, y), (u, v), facts=facts))
    assert found["predictive_power", "told"].value == 1
    assert found["predictive_power", "told"].interval.low > 0.9
    noise = found["predictive_power", "noise"].interval
    assert noise.low < 0 < noise.high
    assert 0.1 < found["predictive_power", "honest"].value < 0.7
    table = rows_kept(kept["data_quality.x.features"])
    assert table["id"].tolist() == ["told", "honest", "noise"]


def test_where_cells_are_missing_may_itself_tell_the_label(bench_of, told):
    (x, y), (u, v) = splits()
    x[y == 1, 2], u[v == 1, 2] = np.nan, np.nan
    found, _ = told(Leakage(), bench_of((x, y), (u, v)))
    assert found["predictive_power", "x2"].value == 1


def test_what_is_no_table_or_has_one_class_is_undefined(bench_of, told):
    (x, y), (u, v) = splits()
    found, _ = told(Leakage(), bench_of((x, y * 0), (u, v * 0)))
    assert "fewer than two classes" in found["predictive_power",].reason
    pictures = bench_of((x.reshape(-1, 1, 3, 1), y), (u.reshape(-1, 1, 3, 1), v), kind="images")
    found, _ = told(Leakage(), pictures)
    assert "no table" in found["predictive_power",].reason


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 4))
def test_guesses_are_those_of_a_balanced_tree_with_a_leaf_for_every_value(seed, classes):
    rng = np.random.default_rng(seed)
    seen, unseen = rng.integers(0, 6, 200).astype(float), rng.integers(0, 6, 100).astype(float)
    y = np.concatenate([np.arange(classes), rng.integers(0, classes, 200 - classes)])
    seen[:classes] = np.arange(classes)
    found = predictive.guesses(seen, y, unseen, classes)
    tree = DecisionTreeClassifier(class_weight="balanced", random_state=0).fit(seen[:, None], y)
    chances = tree.predict_proba(unseen[:, None])
    picked = chances[np.arange(100), found]
    known = np.isin(unseen, seen)
    np.testing.assert_allclose(picked[known], chances.max(axis=1)[known])


def test_the_power_is_scikit_learns_adjusted_balanced_accuracy(bench_of, told):
    (x, y), (u, v) = splits(400, seed=5)
    found, _ = told(Leakage(), bench_of((x, y), (u, v)))
    guessed = predictive.guesses(u[:, 0].astype(np.float32), v, x[:, 0].astype(np.float32), 2)
    reference = balanced_accuracy_score(y, guessed, adjusted=True)
    assert found["predictive_power", "x0"].value == pytest.approx(reference)


def test_columns_that_do_not_exist_are_named_before_anything_runs():
    facts = {"columns": ["person", "day"], "groups": {}}
    said = Leakage(ids=("persn",), date="dya").objections(facts, {})
    assert said == (
        "ids: expected a column of the data, got 'persn'. Did you mean person?",
        "date: expected a column of the data, got 'dya'. Did you mean day?",
    )
    assert Leakage(ids=("person",)).objections(facts, {}) == ()


def test_only_the_strongest_are_told_but_all_are_kept(bench_of, told, rows_kept):
    test, train = splits()
    found, kept = told(Leakage(told=1), bench_of(test, train))
    power = [one for key, one in found.items() if key[0] == "predictive_power"]
    assert len(power) == 1
    assert isinstance(power[0], Measurement)
    assert len(rows_kept(kept["data_quality.x.features"])["id"]) == 3

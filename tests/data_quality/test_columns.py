"""The state of columns by hand: every finding lists its rows, and nothing is guessed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dlaudit.audit.record import Undefined
from dlaudit.data_quality import profile
from dlaudit.data_quality.columns import Columns

FLOATS = st.floats(-10, 10, width=32) | st.just(float("nan"))


def listed(table, finding):
    chosen = table["finding"] == finding
    return sorted(zip(table["column"][chosen].tolist(), table["id"][chosen].tolist(), strict=True))


def test_gaps_constants_mixed_cells_and_ranges_by_hand(bench_of, told, rows_kept):
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, size=(40, 4))
    x[:4, 0] = np.nan
    x[:, 1] = 3
    x[5, 2], x[6, 2] = -2, 9
    x[:, 3] = np.nan  # a column of numbers and words is no number to the model
    words = np.array([*"123456789", *["many"] * 3, *[None] * 28], dtype=object)
    columns = {"d": {"test": words}}
    facts = {"test": {"features": list("abcd")}}
    check = Columns(ranges={"c": (0.0, 1.0)})
    found, kept = told(check, bench_of((x, np.arange(40) % 2), columns=columns, facts=facts))
    assert found["missing_cells", "test"].value == pytest.approx(4 / 160)
    share = found["missing_share", "test", "a"]
    assert (share.value, share.n) == (0.1, 40)
    assert share.interval.low < 0.1 < share.interval.high
    assert ("missing_share", "test", "d") not in found
    assert found["constant_columns", "test"].value == 1
    assert found["constant_columns", "test"].conditions["columns"] == "b"
    assert found["mixed_columns", "test"].value == 1
    assert found["out_of_range", "test", "c"].value == 2 / 40
    table = rows_kept(kept["data_quality.x.test.findings"])
    assert listed(table, "missing") == [("a", str(row)) for row in range(4)]
    assert listed(table, "out of range") == [("c", "5"), ("c", "6")]
    assert listed(table, "mixed") == sorted(("d", str(row)) for row in (9, 10, 11))


def test_an_orderly_table_has_no_finding(bench_of, told, rows_kept):
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    x, y = np.stack([np.cos(angle), np.sin(angle)], axis=1), np.arange(200) % 2
    found, kept = told(Columns(), bench_of((x, y), (x[::-1], y)))
    for split in ("test", "train"):
        assert found["missing_cells", split].value == 0
        assert found["constant_columns", split].value == 0
        assert found["rare_classes", split].value == 0
        assert found["outliers", split].value == 0
        assert rows_kept(kept[f"data_quality.x.{split}.findings"])["id"].tolist() == []
    assert found["beyond_training", "test"].value == 0
    assert isinstance(found["out_of_range", "test"], Undefined)
    assert isinstance(found["mixed_columns", "test"], Undefined)


def test_rare_classes_by_the_published_limit(bench_of, told):
    """Four classes, 0.1 / 4 of 400 rows are 10: a class of nine is rare, one of ten is not."""
    y = np.repeat([0, 1, 2, 3], [9, 10, 181, 200])
    x = np.random.default_rng(0).uniform(size=(400, 2))
    found, _ = told(Columns(), bench_of((x, y), classes=("a", "b", "c", "d")))
    assert found["rare_classes", "test"].value == 1
    assert found["rare_classes", "test"].conditions["classes"] == "a"
    rarest = found["rarest_class_share", "test"]
    assert (rarest.value, rarest.conditions["class"]) == (9 / 400, "a")


def test_rows_far_out_and_values_that_training_never_showed(bench_of, told, rows_kept):
    rng = np.random.default_rng(1)
    x, u = rng.uniform(size=(300, 3)), rng.uniform(size=(300, 3))
    u[0], u[1] = 0, 1
    x = np.clip(x, 0.001, 0.999)
    x[7] = [9, 9, 9]
    y = np.arange(300) % 2
    found, kept = told(Columns(), bench_of((x, y), (u, y)))
    far = found["outliers", "test"]
    assert 1 / 300 <= far.value <= 0.03
    assert found["beyond_training", "test"].value == 1 / 300
    table = rows_kept(kept["data_quality.x.test.findings"])
    assert ("", "7") in listed(table, "outliers")
    assert len(listed(table, "outliers")) == round(far.value * 300)
    assert listed(table, "beyond_training") == [("x0", "7"), ("x1", "7"), ("x2", "7")]


def test_the_limit_of_far_is_datalabs():
    from cleanlab.datalab.internal.issue_manager.outlier import OutlierIssueManager

    distance = np.random.default_rng(0).gamma(2, size=500)

    compute = OutlierIssueManager._compute_threshold_and_issue_column_from_distances
    _, limit, beyond = compute(None, np.repeat(distance[:, None], 10, axis=1))
    found = profile.far(distance)
    assert found.limit == pytest.approx(limit)
    assert ((found.distance > found.limit) == beyond).all()


@given(hnp.arrays(np.float32, (6, 3), elements=FLOATS))
def test_a_column_is_constant_if_it_has_at_most_one_value(values):
    expected = [len(set(column[np.isfinite(column)].tolist())) <= 1 for column in values.T]
    assert profile.constant(values).tolist() == expected


@given(st.lists(st.sampled_from(["1", "2.5", 3, None, "", float("nan"), "x", "y z"])))
def test_mixed_cells_are_those_of_the_rarer_kind(cells):
    found = profile.mixed(np.array([*cells, None], dtype=object)[:-1])
    numbers = [cell in {"1", "2.5", 3} for cell in cells]
    words = [cell in {"x", "y z"} for cell in cells]
    if not (any(numbers) and any(words)):
        assert found is None
    else:
        assert found.tolist() == (numbers if sum(numbers) < sum(words) else words)


def test_pictures_have_properties_instead_of_columns(bench_of, told):
    x = np.random.default_rng(0).uniform(size=(100, 1, 6, 6))
    x[3] = 5
    found, _ = told(Columns(), bench_of((x, np.arange(100) % 2), kind="images"))
    assert found["outliers", "test"].value >= 1 / 100
    assert found["missing_cells", "test"].value == 0


def test_ranges_that_cannot_be_are_named_before_anything_runs():
    said = Columns(ranges={"agee": (0, 1), "age": (2, 1)}).objections({"features": ["age"]}, {})
    assert said == (
        "ranges.agee: expected a feature, got none of this name. Did you mean age?",
        "ranges.age: expected [low, high] with low <= high, got [2, 1]",
    )

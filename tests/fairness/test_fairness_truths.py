"""Published figures, reproduced to the last count and digit."""

import json

import numpy as np
import pandas as pd
import pytest

from dlaudit.audit.judge import judge
from dlaudit.audit.record import CheckRun, Cost, Measured, Rule
from dlaudit.fairness.disparity import Disparity
from dlaudit.fairness.groups import Groups

pytestmark = pytest.mark.truth


@pytest.fixture
def compas(truths, bench_of):
    """All 7,214 rows; high is medium or high, the outcome is reoffending within two years."""
    table = pd.read_csv(truths / "compas" / "compas_two_years.csv")
    assert len(table) == 7214
    predicted = (table.score_text != "Low").astype(int).to_numpy()
    groups = {"race": table.race.to_numpy(dtype=str), "sex": table.sex.to_numpy(dtype=str)}
    return bench_of(table.two_year_recid.to_numpy(), predicted, groups, classes=("low", "high"))


def test_propublicas_error_rates(compas, told):
    found = told(Groups(), compas)
    published = {
        ("false_positive_rate", "African-American"): 44.85,
        ("false_positive_rate", "Caucasian"): 23.45,
        ("false_negative_rate", "African-American"): 27.99,
        ("false_negative_rate", "Caucasian"): 47.72,
    }
    for key, percent in published.items():
        assert round(100 * found[key].value, 2) == percent
    assert found["true_positive_rate", "Asian"].reason.startswith("9 actual positives")
    assert found["true_positive_rate", "Native American"].reason.startswith("10 actual positives")


def test_propublicas_confusion_counts_stand_in_the_evidence(compas, tmp_path):
    (counts,) = (
        one for one in Groups().measure(compas)
        if getattr(one, "media_type", None) == "application/json"
    )  # fmt: skip
    groups = json.loads((tmp_path / "0" / counts.path).read_bytes())["groups"]
    by_name = {next(iter(one["slice"].values())): one for one in groups}
    published = {
        "African-American": (990, 805, 532, 1369),
        "Caucasian": (1139, 349, 461, 505),
        "Hispanic": (318, 87, 129, 103),
        "Asian": (21, 2, 3, 6),
        "Native American": (5, 3, 1, 9),
        "Other": (208, 36, 90, 43),
        "Female": (609, 288, 195, 303),
        "Male": (2072, 994, 1021, 1732),
    }
    assert {
        name: tuple(one[cell] for cell in ("tn", "fp", "fn", "tp")) for name, one in by_name.items()
    } == published
    accuracy = sum(one["correct"] for one in groups[:6]) / 7214
    assert round(100 * accuracy, 4) == 65.3729


def test_aequitas_disparities_of_error_rates(compas, told):
    found = told(Disparity(reference={"race": "Caucasian"}), compas)
    false_positives = found["false_positive_rate_ratio", "African-American"]
    assert false_positives.value == pytest.approx(1.912093, abs=5e-7)
    false_negatives = found["false_negative_rate_ratio", "African-American"]
    assert false_negatives.value == pytest.approx(0.586416, abs=5e-7)


def test_the_four_fifths_table_and_its_verdicts(compas, told):
    """Favourable is low; a verdict comes from the interval, not from the point."""
    found = told(Disparity(reference={"race": "Other"}, positive="low", minimum=18), compas)
    table = {
        "African-American": (0.521, 0.488, 0.556, "fail"),
        "Caucasian": (0.825, 0.777, 0.875, "inconclusive"),
        "Hispanic": (0.888, 0.826, 0.955, "pass"),
        "Native American": (0.422, 0.219, 0.812, "inconclusive"),
    }
    for group, (value, low, high, verdict) in table.items():
        one = found["selection_rate_ratio", group]
        shown = (one.value, one.interval.low, one.interval.high)
        assert tuple(round(number, 3) for number in shown) == (value, low, high)
        rule = Rule(id="r", run="f", measurement=one.name, at_least=0.8)
        run = CheckRun(
            id="f", check="fairness.disparity", params={}, seed=0, seconds=0.0, device="cpu",
            cost=Cost(forward=0, backward=0), outcome=Measured(measurements=(one,)),
        )  # fmt: skip
        assert judge(rule, {"f": run}).status == verdict


@pytest.mark.parametrize(
    ("rows", "expected"),
    [("seeded 700", (-0.1699054740619017, 0.766430)), ("all", (-0.128550, 0.821248))],
)
def test_aif360s_mean_difference_of_german_credit(truths, bench_of, told, rows, expected):
    """Unprivileged (below 25) minus privileged; the label itself is taken for the decision."""
    table = pd.read_csv(truths / "german_credit" / "german.csv")
    order = np.random.RandomState(0).permutation(1000)
    chosen = table.iloc[order[:700]] if rows == "seeded 700" else table
    good = (chosen.credit == 1).astype(int).to_numpy()
    age = np.where(chosen.age >= 25, "25 and older", "below 25")
    found = told(Disparity(), bench_of(good, good, {"age": age}, classes=("bad", "good")))
    one = found["selection_rate_difference", "below 25"]
    assert one.value == pytest.approx(expected[0], abs=1e-6)
    assert one.conditions["reference"] == "25 and older"
    assert found["selection_rate_ratio", "below 25"].value == pytest.approx(expected[1], abs=5e-7)


def test_the_impact_ratios_of_local_law_144(truths, bench_of, told):
    counts = pd.read_csv(truths / "ll144" / "constructed_counts.csv")
    for table, rows in counts.groupby("table"):
        selected, group = [], []
        for row in rows.itertuples():
            selected += [1] * row.selected + [0] * (row.applicants - row.selected)
            group += [row.category] * row.applicants
        found = told(Disparity(reference="best"), bench_of(selected, selected, {table: group}))
        ratios = {
            row.category: found["selection_rate_ratio", row.category].value
            for row in rows.itertuples()
        }
        expected = dict(zip(rows.category, rows.expected_impact_ratio, strict=True))
        assert {name: round(ratio, 2) for name, ratio in ratios.items()} == expected
        worst = found["selection_rate_worst_ratio", table]
        assert round(worst.value, 2) == min(expected.values())

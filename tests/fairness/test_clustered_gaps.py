"""Rows that come in clusters are worth fewer samples: intervals of gaps say so and hold their level."""

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from dlaudit.audit.record import Undefined
from dlaudit.errors import PlanError, UnknownName
from dlaudit.fairness import clustered, gaps
from dlaudit.fairness.amplification import Amplification
from dlaudit.fairness.disparity import Disparity
from dlaudit.fairness.groups import Groups
from dlaudit.fairness.rates import RATES


def people(rng, k, *, rows=8, gap=0.0, alike=1.5):
    """k persons of several rows each; a person's rows share a leaning of its own."""
    who = np.repeat(np.arange(k), rows)
    group = (np.arange(k) % 2)[who]
    leaning = rng.normal(scale=alike, size=k)[who]
    said = (rng.random(len(who)) < 1 / (1 + np.exp(-(leaning + gap * group)))).astype(int)
    return said, group, who


def summed(said, group, who):
    members = {"n": np.ones(len(said), bool), "correct": said == 1}
    for field in ("tn", "fp", "fn", "tp"):
        members[field] = (said == (field == "tp")) & (field in {"tn", "tp"})
    return clustered.clustered(group, 2, who, RATES["selection_rate"], members)


def test_the_interval_is_that_of_a_regression_with_clustered_errors():
    said, group, who = people(np.random.default_rng(0), 60, gap=1.0)
    found = summed(said, group, who).difference(1, 0)
    model = sm.OLS(said, sm.add_constant(group)).fit(
        cov_type="cluster", cov_kwds={"groups": who, "use_correction": False}, use_t=False
    )
    assert found.value == pytest.approx(model.params[1])
    half = (found.interval.high - found.interval.low) / 2
    assert half == pytest.approx(2.04523 * model.bse[1] * np.sqrt(30 / 29), rel=1e-4)


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6))
def test_clusters_of_one_row_are_independent_rows(seed):
    rng = np.random.default_rng(seed)
    said, group = rng.integers(0, 2, 400), rng.integers(0, 2, 400)
    one = summed(said, group, np.arange(400)).difference(1, 0)
    counts = [gaps.Proportion(int(said[group == g].sum()), int((group == g).sum())) for g in (1, 0)]
    other = gaps.difference(*counts)
    assert one.value == pytest.approx(other.value)
    assert one.interval.low == pytest.approx(other.interval.low, abs=0.005)
    ratio, katz = summed(said, group, np.arange(400)).ratio(1, 0), gaps.ratio(*counts)
    assert ratio.interval.high == pytest.approx(katz.interval.high, rel=0.02)


def test_intervals_of_clusters_hold_their_level_and_those_of_rows_do_not():
    rng = np.random.default_rng(9)
    held, naive, accused, ratios = [], [], [], []
    for k in (30, 60, 200):
        for _ in range(400):
            said, group, who = people(rng, k)
            sums = summed(said, group, who)
            one = sums.difference(1, 0).interval
            held.append(one.low <= 0 <= one.high)
            ratio = sums.ratio(1, 0).interval
            ratios.append(ratio.low <= 1 <= ratio.high)
            accused.append(sums.widest([0, 1], "difference").interval.low > 0)
            rows = [
                gaps.Proportion(int(said[group == g].sum()), int((group == g).sum()))
                for g in (1, 0)
            ]
            plain = gaps.difference(*rows).interval
            naive.append(plain.low <= 0 <= plain.high)
    shares = [round(float(np.mean(x)), 3) for x in (held, ratios, naive, accused)]
    print(
        f"clusters: difference {shares[0]}, ratio {shares[1]}; rows {shares[2]}; accused {shares[3]}"
    )
    assert shares[0] >= 0.945
    assert shares[1] >= 0.945
    assert shares[2] < 0.85
    assert shares[3] <= 0.055


def test_the_check_tells_gaps_of_clusters(bench_of, told):
    said, group, who = people(np.random.default_rng(1), 90, gap=1.0)
    columns = {"person": np.array([f"p{i}" for i in who])}
    y = np.random.default_rng(2).integers(0, 2, len(said))
    bench = bench_of(y, said, {"sex": np.array(["f", "m"])[group]}, columns=columns)
    plain = told(Disparity(reference={"sex": "f"}), bench)
    found = told(Disparity(reference={"sex": "f"}, cluster="person"), bench)
    one, other = found["selection_rate_difference", "m"], plain["selection_rate_difference", "m"]
    assert one.value == pytest.approx(other.value)
    assert one.n == other.n
    wide, narrow = (x.interval.high - x.interval.low for x in (one, other))
    assert wide > 1.4 * narrow
    assert one.conditions["cluster"] == "person"
    spread = found["selection_rate_spread", "sex"]
    assert spread.value == pytest.approx(plain["selection_rate_spread", "sex"].value)
    assert spread.interval.method == "cluster-linearised-pairs"
    assert found["selection_rate_worst_ratio", "sex"].interval.high <= 1
    assert "permutation of rows" in found["selection_rate_spread_p", "sex"].reason
    assert "clustered rows" in found["equalized_odds_spread", "sex"].reason
    assert {key[0] for key in found} == set(Disparity.measures)


def test_what_clusters_cannot_tell_has_a_reason(bench_of, rows_of, told):
    y, predicted, group = rows_of({"a": (40, 10, 5, 45), "b": (60, 0, 40, 0)})
    bench = bench_of(y, predicted, {"sex": group, "one": np.repeat("x", len(y))})
    found = told(Disparity(cluster="one", attributes=["sex"], reference={"sex": "b"}), bench)
    assert "1 clusters show no spread" in found["selection_rate_difference", "a"].reason
    assert isinstance(found["selection_rate_spread", "sex"], Undefined)
    found = told(Disparity(cluster="sex", attributes=["sex"], reference={"sex": "b"}), bench)
    assert "no logarithm" in found["selection_rate_ratio", "a"].reason
    with pytest.raises(UnknownName, match="Did you mean one"):
        list(Disparity(cluster="ones").measure(bench))
    with pytest.raises(PlanError, match="named reference"):
        list(Disparity(cluster="one", reference="best").measure(bench))


def test_rates_of_clusters_have_wider_intervals_and_the_same_values(bench_of, told):
    said, group, who = people(np.random.default_rng(1), 90, gap=1.0)
    columns = {"person": np.array([f"p{i}" for i in who])}
    y = np.random.default_rng(2).integers(0, 2, len(said))
    bench = bench_of(y, said, {"sex": np.array(["f", "m"])[group]}, columns=columns)
    plain, found = told(Groups(), bench), told(Groups(cluster="person"), bench)
    one, other = found["selection_rate", "f"], plain["selection_rate", "f"]
    assert (one.value, one.n) == (other.value, other.n)
    wide, narrow = (x.interval.high - x.interval.low for x in (one, other))
    assert wide > 1.4 * narrow
    assert one.conditions["cluster"] == "person"
    assert "clustered rows" in found["balanced_accuracy", "f"].reason
    assert found["group_size", "f"] == plain["group_size", "f"]
    everyone = bench_of(y, np.ones(len(y), int), {"sex": group.astype(str)}, columns=columns)
    assert "no spread" in told(Groups(cluster="person"), everyone)["selection_rate", "0"].reason


def test_the_rate_of_clusters_is_that_of_a_regression_with_clustered_errors():
    said, group, who = people(np.random.default_rng(0), 60)
    found = summed(said, group, who).rate(0)
    mine = group == 0
    model = sm.GLM(said[mine], np.ones(mine.sum()), family=sm.families.Binomial()).fit(
        cov_type="cluster", cov_kwds={"groups": who[mine], "use_correction": False}, use_t=False
    )
    centre, error = model.params[0], model.bse[0] * np.sqrt(30 / 29)
    expected = 1 / (1 + np.exp(-(centre + 2.04523 * error)))
    assert found.interval.high == pytest.approx(expected, rel=1e-4)


def test_amplification_of_clusters_is_paired_within_them(bench_of, told):
    rng = np.random.default_rng(5)
    y, group, who = people(rng, 80)
    said = np.where(rng.random(len(y)) < 0.1, 1 - y, y)
    columns = {"person": np.array([f"p{i}" for i in who])}
    bench = bench_of(y, said, {"sex": np.array(["f", "m"])[group]}, columns=columns)
    check = Amplification(reference={"sex": "f"}, feedback=True)
    plain, found = told(check, bench), told(replace(check, cluster="person"), bench)
    for name in ("label_gap", "prediction_gap", "amplification"):
        assert found[name, "m"].value == pytest.approx(plain[name, "m"].value)
        assert found[name, "m"].interval.method == "cluster-linearised"
    by_hand = sm.OLS(said - y, sm.add_constant(group)).fit(
        cov_type="cluster", cov_kwds={"groups": who, "use_correction": False}, use_t=False
    )
    one = found["amplification", "m"].interval
    assert (one.high - one.low) / 2 == pytest.approx(
        2.02269 * by_hand.bse[1] * np.sqrt(40 / 39), rel=1e-4
    )
    assert "clustered rows" in found["directional_amplification", "sex"].reason
    assert found["feedback_widens", "sex"].conditions["cluster"] == "person"
    repeated = bench_of(y, y, {"sex": np.array(["f", "m"])[group]}, columns=columns)
    none = told(replace(check, cluster="person"), repeated)
    assert "no spread" in none["amplification", "m"].reason

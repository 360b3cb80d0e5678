"""Scores of rows that come in clusters: the sandwich of other tools, and intervals that hold."""

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from dlaudit.audit.record import Undefined
from dlaudit.errors import UnknownName
from dlaudit.fairness import clustered_scores as by_cluster
from dlaudit.fairness import scoring
from dlaudit.fairness.clustered_scores import Owners
from dlaudit.fairness.scores import Scoring


def people(rng, k, *, rows=6, alike=1.0, slope=1.0):
    """k persons of several rows each, who share a leaning that the score does not know.

    Scores are calibrated over all persons: the label is drawn once with the leaning integrated out.
    """
    who = np.repeat(np.arange(k), rows)
    base = rng.normal(size=k)[who] * alike + rng.normal(size=len(who)) * 0.5
    shared = rng.random(k)[who]
    own = rng.random(len(who))
    # A person's rows use one draw of luck in half of the cases: dependent, each still calibrated.
    luck = np.where(rng.random(len(who)) < 0.6, shared, own)
    y = (luck < 1 / (1 + np.exp(-slope * base))).astype(int)
    return 1 / (1 + np.exp(-base)), y, who


def owners(who):
    return Owners(who, int(who.max()) + 1)


def half(interval):
    return (interval.high - interval.low) / 2


def test_a_mean_by_hand():
    """Persons with sums of residuals -2, 0 and 2 over 6 rows: variance 3/2 * (4 + 0 + 4) / 36."""
    values, who = np.array([0.0, 0, 1, 1, 2, 2]), np.array([0, 0, 1, 1, 2, 2])
    found = by_cluster.mean(values, owners=owners(who))
    assert found.value == 1
    assert half(found.interval) == pytest.approx(student.ppf(0.975, 2) * np.sqrt(1.5 * 8 / 36))


def test_an_auc_by_hand():
    """Positives .9 (won all), .4 (half of two); negatives .5, .1: AUC 3/4. Clusters {.9, .5}, {.4, .1}.

    Pulls: (1 - 3/4)/2 + (1/2 - 3/4)/2 = 0 in one and -1/8 + 1/8 = 0 in the other: no spread.
    """
    scores, y = np.array([0.9, 0.4, 0.5, 0.1]), np.array([1, 1, 0, 0])
    assert "no spread" in by_cluster.auc(scores, y, owners=owners(np.array([0, 1, 0, 1])))
    # Clusters {.9, .1}, {.4, .5}: pulls 1/8 + 1/8 and -1/8 - 1/8; variance 2/1 * 2/16 = 1/4.
    found = by_cluster.auc(scores, y, owners=owners(np.array([0, 1, 1, 0])))
    reach = student.ppf(0.975, 1) * 0.5 / (0.75 * 0.25)
    assert found.interval.high == pytest.approx(1 / (1 + np.exp(-(np.log(3) + reach))))


def test_the_slope_has_the_clustered_sandwich_of_a_logistic_regression():
    p, y, who = people(np.random.default_rng(0), 80, slope=0.7)
    found = by_cluster.slope(p, y, owners=owners(who))
    fit = sm.GLM(y, sm.add_constant(np.log(p / (1 - p))), family=sm.families.Binomial()).fit(
        cov_type="cluster", cov_kwds={"groups": who, "use_correction": False}
    )
    assert found.value == pytest.approx(fit.params[1], rel=1e-6)
    expected = student.ppf(0.975, 79) * fit.bse[1] * np.sqrt(80 / 79)
    assert half(found.interval) == pytest.approx(expected, rel=1e-4)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_clusters_of_one_row_are_independent_rows_and_names_of_clusters_mean_nothing(seed):
    rng = np.random.default_rng(seed)
    p, y, who = people(rng, 300, rows=1)
    for name in ("auc", "slope"):
        one = getattr(by_cluster, name)(p, y, owners=owners(who))
        plain = getattr(scoring, name)(p, y)
        assert one.value == pytest.approx(plain.value)
        assert half(one.interval) == pytest.approx(half(plain.interval), rel=0.25)
    one, plain = by_cluster.mean(p, owners=owners(who)), scoring.mean(p)
    assert half(one.interval) == pytest.approx(half(plain.interval), rel=0.01)
    renamed = by_cluster.mean(p, owners=owners(rng.permutation(300)[who]))
    assert renamed.interval.low == pytest.approx(one.interval.low)


@pytest.mark.slow
def test_intervals_of_clusters_hold_their_level_and_those_of_rows_do_not():
    rng = np.random.default_rng(4)
    held = {name: [] for name in ("auc", "mean", "gap", "slope", "error", "apart", "rows")}
    # The AUC of these scores, from very many persons.
    p, y, _ = people(rng, 200_000, rows=1)
    true_auc, true_mean = scoring.auc(p, y).value, 0.5
    for k in (30, 60, 150):
        for _ in range(350):
            p, y, who = people(rng, k)
            mine = owners(who)

            def covers(name, found, truth):
                held[name].append(found.interval.low <= truth <= found.interval.high)

            covers("auc", by_cluster.auc(p, y, owners=mine), true_auc)
            covers("rows", scoring.auc(p, y), true_auc)
            covers("mean", by_cluster.mean(p, owners=mine), true_mean)
            covers("gap", by_cluster.mean(p - y, owners=mine), 0)
            covers("slope", by_cluster.slope(p, y, owners=mine), 1)
            error = scoring.calibration_error(p, y, rng, clusters=who)
            held["error"].append(error.interval.low == 0)
            # Two groups that share persons: the first rows of each against the last.
            late = np.tile(np.arange(6) >= 3, k)
            sides = [
                by_cluster.auc(p[side], y[side], owners=Owners(who[side], k))
                for side in (late, ~late)
            ]
            covers("apart", by_cluster.apart(*sides), 0)
    shares = {name: round(float(np.mean(hits)), 3) for name, hits in held.items()}
    print(shares)
    assert min(share for name, share in shares.items() if name != "rows") >= 0.945
    assert shares["rows"] < 0.9


@pytest.fixture
def visits(bench_of):
    p, y, who = people(np.random.default_rng(1), 150)
    group = np.array(["a", "b"])[(np.arange(len(y)) % 6 >= 3).astype(int)]
    columns = {"person": np.array([f"p{i}" for i in who])}
    return bench_of(y, p > 0.5, {"sex": group}, score=p, columns=columns)


def test_the_check_tells_the_numbers_of_clusters(visits, told):
    plain, found = told(Scoring(), visits), told(Scoring(cluster="person"), visits)
    assert plain.keys() == found.keys()
    for name in ("auc", "mean_score", "calibration_gap", "calibration_slope", "calibration_error"):
        one, other = found[name, "a"], plain[name, "a"]
        assert one.value == pytest.approx(other.value)
        assert one.conditions["cluster"] == "person"
        assert "cluster" in one.interval.method
    assert half(found["mean_score", "a"].interval) > 1.3 * half(plain["mean_score", "a"].interval)
    # The same persons stand on both sides: what they share cancels out.
    gap = "mean_score_difference", "b"
    assert half(found[gap].interval) < half(plain[gap].interval)
    assert "distance's bounds" in found["score_distance", "b"].reason


def test_too_few_clusters_have_no_interval_and_a_column_that_is_none_is_named(
    visits, told, bench_of
):
    with pytest.raises(UnknownName, match="Did you mean person"):
        told(Scoring(cluster="persons"), visits)
    p, y, _ = people(np.random.default_rng(2), 100)
    lone = {"site": np.repeat("x", len(y)), "sex": np.tile(["a", "b"], len(y) // 2)}
    found = told(Scoring(cluster="site", attributes=["sex"]), bench_of(y, p > 0.5, lone, score=p))
    assert isinstance(found["auc", "a"], Undefined)
    assert "1 clusters show no spread" in found["auc", "a"].reason
    assert "not estimable" in found["auc_difference", "b"].reason or "no spread" in (
        found["auc_difference", "b"].reason
    )

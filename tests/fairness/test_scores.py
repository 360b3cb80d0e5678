"""Scores per group: ranking, calibration and distribution, each with an interval that holds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from statsmodels.api import Logit, add_constant

from dlaudit.audit.bench import Answers
from dlaudit.audit.record import Undefined
from dlaudit.errors import UnknownName
from dlaudit.fairness import scoring
from dlaudit.fairness.scores import Scoring


def people(rng, n, *, shift=0.0):
    """Calibrated probabilities and labels; ``shift`` is added to the logit that is shown."""
    logit = rng.normal(size=n) * 1.5
    y = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(int)
    return 1 / (1 + np.exp(-(logit + shift))), y


@pytest.fixture
def scored(bench_of):
    def build(shift, *, seed=0, n=1500):
        rng = np.random.default_rng(seed)
        (one, y1), (two, y2) = people(rng, n), people(rng, n, shift=shift)
        score, y = np.r_[one, two], np.r_[y1, y2]
        return bench_of(y, score > 0.5, {"sex": np.repeat(["a", "b"], n)}, score=score)

    return build


def test_an_auc_computed_by_hand():
    """Of six pairs four stand in the right order and one is tied."""
    found = scoring.auc(np.array([0.9, 0.5, 0.5, 0.4, 0.1]), np.array([1, 1, 0, 0, 0]))
    assert found.value == pytest.approx((2 * 3 - 0.5) / 6)
    tied = scoring.auc(np.array([0.9, 0.2, 0.5, 0.4, 0.2]), np.array([1, 1, 0, 0, 0]))
    assert tied.value == pytest.approx((3 + 0.5) / 6)


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), m=st.integers(2, 40), n=st.integers(2, 40))
def test_the_auc_is_that_of_scikit_learn_and_turns_with_the_scores(seed, m, n):
    rng = np.random.default_rng(seed)
    scores, y = rng.integers(0, 8, m + n).astype(float), np.r_[np.ones(m), np.zeros(n)]
    found, turned = scoring.auc(scores, y), scoring.auc(-scores, y)
    assert found.value == pytest.approx(roc_auc_score(y, scores))
    assert turned.value == pytest.approx(1 - found.value)
    assert turned.interval.high == pytest.approx(1 - found.interval.low, abs=1e-6)
    assert found.interval.low <= found.value <= found.interval.high
    assert found.interval.high > found.interval.low


def test_the_slope_is_that_of_a_logistic_regression():
    rng = np.random.default_rng(0)
    p, y = people(rng, 400)
    stretched = 1 / (1 + np.exp(-2 * np.log(p / (1 - p))))
    found = scoring.slope(stretched, y)
    fitted = Logit(y, add_constant(np.log(stretched / (1 - stretched)))).fit(disp=0)
    assert found.value == pytest.approx(fitted.params[1])
    assert (found.interval.low, found.interval.high) == pytest.approx(tuple(fitted.conf_int()[1]))
    assert found.interval.high < 1  # scores twice too extreme


@pytest.mark.parametrize(
    ("p", "y", "words"),
    [
        ([0.2, 0.8], [1, 1], "both kinds"),
        ([0.5, 0.5], [0, 1], "scores that differ"),
        ([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], "separate"),
    ],
)
def test_a_slope_that_does_not_exist_says_why(p, y, words):
    assert words in scoring.slope(np.array(p), np.array(y))


def test_the_calibration_error_of_a_case_computed_by_hand():
    """Ten bins of two: half of them show 0.25 and hold one positive of two."""
    p, y = np.r_[np.full(10, 0.25), np.full(10, 0.75)], np.tile([0, 1], 10)
    found = scoring.calibration_error(p, y, np.random.default_rng(0))
    assert found.value == pytest.approx(0.25)
    assert found.interval.low == 0


@pytest.mark.slow
def test_intervals_hold_their_level():
    rng = np.random.default_rng(5)
    trials, held = 600, {"auc": [], "slope": [], "ece": [], "distance": []}
    for m, n, apart in ((30, 30, 0.0), (40, 200, 1.5), (150, 150, 0.5)):
        hits = []
        for _ in range(trials):
            scores = np.r_[rng.normal(apart, 1, m), rng.normal(0, 1, n)]
            found = scoring.auc(scores, np.r_[np.ones(m), np.zeros(n)]).interval
            hits.append(found.low <= norm.cdf(apart / np.sqrt(2)) <= found.high)
        held["auc"].append(np.mean(hits))
    for n in (60, 400):
        ece, slope, far = [], [], []
        for _ in range(trials):
            p, y = people(rng, n)
            ece.append(scoring.calibration_error(p, y, rng).interval.low == 0)
            found = scoring.slope(p, y)
            slope.append(found.interval.low <= 1 <= found.interval.high)
            one, two = rng.normal(size=(2, n))
            true = 2 * norm.cdf(0.25) - 1
            gap = scoring.distance(one, two + 0.5).interval
            far.append(gap.low <= true <= gap.high)
        for name, hits in (("ece", ece), ("slope", slope), ("distance", far)):
            held[name].append(np.mean(hits))
    print({name: [round(float(share), 3) for share in shares] for name, shares in held.items()})
    assert min(np.mean(shares) for shares in held.values()) >= 0.945


@pytest.mark.slow
def test_a_group_scored_too_high_is_seen_and_its_clean_twin_is_not(scored, told):
    accused = {0.8: 0, 0.0: 0}
    for seed in range(1000, 1020):
        for shift in accused:
            planted = told(Scoring(), scored(shift, seed=seed))
            # A tolerance of 0.05, as a plan's rule would have it.
            accused[shift] += planted["calibration_gap_difference", "b"].interval.low > 0.05
            if shift:
                assert planted["calibration_error", "b"].interval.low > 0
            # The ranking within the group is untouched by a shift.
            assert planted["auc_difference", "b"].interval.low < 0.03
    print(f"accused of 20: {accused}")
    assert accused[0.8] >= 19
    assert accused[0.0] <= 1
    names = {key[0] for key in planted}
    assert names == set(Scoring.measures)


def test_decisions_without_scores_leave_everything_undefined(bench_of, rows_of, told):
    y, predicted, group = rows_of({"a": (40, 10, 5, 45), "b": (60, 20, 16, 24)})
    found = told(Scoring(), bench_of(y, predicted, {"sex": group}))
    assert {one.reason for one in found.values()} == {
        "the model gives decisions only: no logits and no score"
    }
    many = bench_of(y, predicted, {"sex": group}, classes=("x", "y", "z"), score=predicted)
    assert all("positive" in one.reason for one in told(Scoring(), many).values())


def test_scores_beyond_0_and_1_rank_but_are_not_calibrated(bench_of, told):
    """COMPAS gives deciles."""
    rng = np.random.default_rng(1)
    score, y = rng.integers(1, 11, 400), rng.integers(0, 2, 400)
    bench = bench_of(y, score > 5, {"sex": np.repeat(["a", "b"], 200)}, score=score)
    found = told(Scoring(), bench)
    assert found["auc", "a"].n == 200
    for name in ("calibration_gap", "calibration_slope", "calibration_error"):
        assert found[name, "a"].reason == "the scores are no probabilities"


def test_groups_too_small_or_of_one_label_are_listed(bench_of, told):
    rng = np.random.default_rng(2)
    group = np.repeat(["a", "b", "c"], [200, 100, 10])
    y = np.where(group == "b", 1, rng.integers(0, 2, 310))
    bench = bench_of(y, y, {"sex": group}, score=np.where(group == "b", 1.0, rng.random(310)))
    found = told(Scoring(), bench)
    assert found["auc", "b"].reason == "0 actual negatives, fewer than the minimum of 30"
    assert found["mean_score", "b"].reason.startswith("all 100 values are equal")
    assert found["auc", "c"].reason == "10 samples, fewer than the minimum of 30"
    assert "10 samples in c" in found["score_distance", "c"].reason
    turned = told(Scoring(reference={"sex": "c"}), bench)
    assert "the reference c is not estimable" in turned["mean_score_difference", "a"].reason
    with pytest.raises(UnknownName, match="Did you mean sex"):
        list(Scoring(reference={"sexe": "a"}).measure(bench))
    crowd = bench_of(y, y, {"id": np.arange(310).astype(str)}, score=rng.random(310))
    assert all(isinstance(one, Undefined) for one in told(Scoring(), crowd).values())


def test_the_score_of_a_class_comes_from_logits_or_from_what_was_recorded():
    fields = dict.fromkeys(("id", "y", "predicted", "groups"))
    logits = np.log(np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]], dtype=np.float32))
    found = scoring.scores_of(Answers(**fields, logits=logits, score=None), 2)
    assert (found.probabilities, found.values.tolist()) == (True, pytest.approx([0.5, 0.1]))
    recorded = Answers(**fields, logits=None, score=np.array([0.1, 0.7]))
    assert scoring.scores_of(recorded, 1).probabilities
    turned = scoring.scores_of(recorded, 0)
    assert (turned.probabilities, turned.values.tolist()) == (False, [-0.1, -0.7])


@pytest.mark.truth
def test_the_areas_of_compas_deciles_are_those_of_the_reference(truths, bench_of, told):
    import pandas as pd

    table = pd.read_csv(truths / "compas" / "compas_two_years.csv")
    bench = bench_of(
        table.two_year_recid, table.score_text != "Low", {"race": table.race.to_numpy(dtype=str)},
        score=table.decile_score, classes=("low", "high"),
    )  # fmt: skip
    found = told(Scoring(), bench)
    areas = [round(found["auc", race].value, 3) for race in ("African-American", "Caucasian")]
    assert areas == [0.692, 0.693]

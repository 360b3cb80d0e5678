"""A planted bias is found and its clean twin is not accused, on the judging seeds 1000 to 1019."""

import numpy as np
import pytest

from dlaudit.audit.judge import judge_all
from dlaudit.audit.record import CheckRun, Cost, Measured, Measurement, Undefined
from dlaudit.audit.statistics import clopper_pearson
from dlaudit.fairness.disparity import Disparity
from dlaudit.fairness.suite import SUITE

SEEDS = range(1000, 1020)
N = 6000


def applicants(seed, *, handicap):
    """Logistic outcomes that do not depend on the group; decisions that take points from group b.

    A score estimates the true chance with noise; ``handicap`` is taken from the score of group b,
    on the logit scale. The clean twin has the same applicants and a handicap of 0.
    """
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(N, 3))
    group = np.where(rng.random(N) < 0.35, "b", "a")
    logit = features @ np.array([1.5, -1.0, 0.5])
    y = (rng.random(N) < 1 / (1 + np.exp(-logit))).astype(int)
    score = logit + rng.normal(scale=0.5, size=N) - handicap * (group == "b")
    return y, (score > 0).astype(int), group


def verdicts(bench):
    found = list(Disparity().measure(bench))
    outcome = Measured(
        measurements=tuple(one for one in found if isinstance(one, Measurement)),
        undefined=tuple(one for one in found if isinstance(one, Undefined)),
    )
    run = CheckRun(
        id="fairness.disparity", check="fairness.disparity", params={}, seed=0, seconds=0.0,
        device="cpu", cost=Cost(forward=0, backward=0), outcome=outcome,
    )  # fmt: skip
    rules = tuple(rule for rule in SUITE.rules if rule.run == run.id)
    return {verdict.rule: verdict.status for verdict in judge_all(rules, [run], [])}


@pytest.mark.parametrize(("handicap", "accused"), [(1.0, True), (0.0, False)])
def test_default_rules_find_the_bias_and_clear_the_twin(bench_of, handicap, accused):
    results = []
    for seed in SEEDS:
        y, predicted, group = applicants(seed, handicap=handicap)
        results.append(verdicts(bench_of(y, predicted, {"group": group})))
    failed = sum("fail" in result.values() for result in results)
    bounds = clopper_pearson(failed, len(SEEDS))
    print(f"handicap {handicap}: {failed} of 20 accused [{bounds.low:.2f}, {bounds.high:.2f}]")
    if accused:
        assert failed >= 19
        assert all(
            result["fairness.disparity.selection_rate_ratio"] == "fail" for result in results
        )
    else:
        assert failed <= 1
        passed = sum(set(result.values()) == {"pass"} for result in results)
        assert passed >= 19

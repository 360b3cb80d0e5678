"""A model beside one that always gives the commonest answer: 99.9 % right may be worth nothing."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, balanced_accuracy_score

from dlaudit.audit.judge import judge_all
from dlaudit.audit.record import CheckRun, Cost, Measured, Measurement, Undefined
from dlaudit.overfitting import majority as core
from dlaudit.overfitting.majority import ONE_CLASS, Majority
from dlaudit.overfitting.suite import SUITE

MEAN = 0.945
FRAUD = ("legitimate", "fraud")


def told(check, bench):
    return {
        one.name: one for one in check.measure(bench) if isinstance(one, Measurement | Undefined)
    }


def decisions(y, predicted):
    return np.asarray(predicted)[:, None], np.asarray(y)


def verdicts(found):
    outcome = Measured(
        measurements=tuple(one for one in found.values() if isinstance(one, Measurement)),
        undefined=tuple(one for one in found.values() if isinstance(one, Undefined)),
    )
    run = CheckRun(
        id="overfitting.majority", check="overfitting.majority", params={}, seed=0, seconds=0.0,
        device="cpu", cost=Cost(forward=0, backward=0), outcome=outcome,
    )  # fmt: skip
    rules = tuple(rule for rule in SUITE.rules if rule.run == run.id)
    assert len(rules) == 2
    return {
        rule.measurement: v.status
        for rule, v in zip(rules, judge_all(rules, [run], []), strict=True)
    }


def fraud(seed, n, *, rate=0.001, recall=0.8, false_alarms=0.002):
    """Labels at a rate, and decisions of a detector."""
    rng = np.random.default_rng(seed)
    y = np.zeros(n, int)
    y[rng.choice(n, round(n * rate), replace=False)] = 1
    return y, np.where(y == 1, rng.random(n) < recall, rng.random(n) < false_alarms).astype(int)


def test_counts_as_computed_by_hand(bench_of):
    """6 and 4 samples; 5 of the common and 1 of the rare are right."""
    y = [0] * 6 + [1] * 4
    data = decisions(y, [0, 0, 0, 0, 0, 1, 1, 0, 0, 0])
    found = told(Majority(), bench_of(data, data, logits=False))
    values = {name: one.value for name, one in found.items() if isinstance(one, Measurement)}
    assert values["balanced_accuracy"] == pytest.approx((5 / 6 + 1 / 4) / 2)
    assert values["gain_over_majority"] == pytest.approx(5 / 6 + 1 / 4 - 1)
    assert values["majority_accuracy"] == 0.6
    assert values["accuracy_over_majority"] == pytest.approx(0.0)
    assert values["minority_recall"] == 0.25
    assert values["minority_precision"] == 0.5
    assert values["one_answer"] == 0
    assert found["minority_recall"].slice == {"class": "b"}


@pytest.mark.parametrize("n", [2000, 50_000])
def test_always_legitimate_is_called_useless_whatever_its_accuracy(n, bench_of):
    y, _ = fraud(1, n)
    data = decisions(y, np.zeros(n))
    found = told(Majority(), bench_of(data, data, logits=False, classes=FRAUD))
    assert found["majority_accuracy"].value == pytest.approx(0.999)
    assert (found["accuracy_over_majority"].value, found["gain_over_majority"].value) == (0, 0)
    assert (found["balanced_accuracy"].value, found["minority_recall"].value) == (0.5, 0)
    assert isinstance(found["minority_precision"], Undefined)
    assert verdicts(found)["one_answer"] == "fail"
    if n == 50_000:
        assert verdicts(found)["gain_over_majority"] == "fail"


@pytest.mark.parametrize("seed", range(4))
def test_guessing_at_the_base_rate_is_useless_too_and_a_detector_is_not(seed, bench_of):
    y, detector = fraud(seed, 60_000)
    _, guesser = fraud(seed, 60_000, recall=0.001, false_alarms=0.001)
    for predicted, expected in ((guesser, "fail"), (detector, "pass")):
        data = decisions(y, predicted)
        found = told(Majority(), bench_of(data, data, logits=False, classes=FRAUD))
        assert verdicts(found)["gain_over_majority"] == expected
        assert verdicts(found)["one_answer"] == "pass"
    assert found["accuracy_over_majority"].value < 0, (
        "less accurate than saying nothing, and useful"
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=60))
def test_balanced_accuracy_is_scikit_learns(pairs):
    y, predicted = (np.array(column) for column in zip(*pairs, strict=True))
    present = np.unique(y)
    recalls = [(int(((y == k) & (predicted == k)).sum()), int((y == k).sum())) for k in present]
    if len(present) < 2:
        return
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of predicted classes that are not in y
        for one, adjusted in zip(core.balanced(recalls, len(y)), (False, True), strict=True):
            expected = balanced_accuracy_score(y, predicted, adjusted=adjusted)
            assert one.value == pytest.approx(expected)
            assert one.interval.low - 1e-12 <= one.value <= one.interval.high + 1e-12


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.1, 0.5, 0.9]) | st.floats(0, 1), st.booleans()), min_size=1
    )
)
def test_average_precision_is_scikit_learns(pairs):
    score, positive = (np.array(column) for column in zip(*pairs, strict=True))
    if not positive.any():
        return
    value = core.average_precision(score, positive)
    assert value == pytest.approx(average_precision_score(positive, score))
    if positive.sum() > 1:
        interval = core.boyd(value, int(positive.sum()))
        assert 0 <= interval.low <= value <= interval.high <= 1


def test_average_precision_and_its_interval_as_computed_by_hand():
    """Positives at ranks 1 and 3: (1 + 2/3) / 2; logit 1.609, t = 12.706 over sqrt(2 * 5/36)."""
    value = core.average_precision(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]))
    assert value == pytest.approx(5 / 6)
    half = 12.706204736 / np.sqrt(2 * 0.25 * 0.75)
    assert core.boyd(value, 2).low == pytest.approx(1 / (1 + np.exp(half - np.log(3))))


def test_a_split_of_one_class_says_nothing(bench_of):
    data = decisions(np.zeros(50, int), np.zeros(50))
    found = told(Majority(), bench_of(data, data, logits=False))
    assert {one.reason for one in found.values()} == {ONE_CLASS}
    assert set(found) == set(Majority.measures)


def test_few_of_the_rare_class_have_no_curve(bench_of):
    y = np.r_[np.zeros(95, int), np.ones(5, int)]
    x = np.eye(2)[y] * 2 + np.random.default_rng(0).normal(size=(100, 2))
    found = told(Majority(), bench_of((x, y), (x, y)))
    assert "5 samples of this class" in found["average_precision"].reason
    y = 1 - y[::-1]
    found = told(Majority(minimum=2), bench_of((x, y), (x, y)))
    assert isinstance(found["average_precision"], Measurement)


def test_the_intervals_hold_their_level():
    rng = np.random.default_rng(3)
    cells = {"balanced": {}, "average precision": {}}
    grid = itertools.product((2, 10), (0.02, 0.5, 0.9, 0.99), ((1000, 10), (100, 100), (20, 5000)))
    for classes, low, sizes in grid:
        chance, n = np.linspace(low, 0.95, classes), np.resize(sizes, classes)
        inside = []
        for _ in range(40):
            one = next(
                core.balanced(
                    list(zip(rng.binomial(n, chance).tolist(), n.tolist(), strict=True)), 1
                )
            )
            inside.append(one.interval.low <= chance.mean() <= one.interval.high)
        cells["balanced"][classes, low, sizes] = np.mean(inside)
    for shift, share, positives in itertools.product(
        (0.5, 1, 2, 3), (0.01, 0.1, 0.5), (10, 30, 100)
    ):
        many = 100_000
        y = np.arange(many) < many * share
        truth = core.average_precision(rng.normal(size=many) + shift * y, y)
        n, inside = round(positives / share), []
        y = np.arange(n) < positives
        for _ in range(40):
            one = core.boyd(core.average_precision(rng.normal(size=n) + shift * y, y), positives)
            inside.append(one.low <= truth <= one.high)
        cells["average precision"][shift, share, positives] = np.mean(inside)
    for name, found in cells.items():
        mean, place = np.mean(list(found.values())), min(found, key=found.__getitem__)
        print(f"{name}: mean {mean:.4f}, minimum {found[place]:.4f} at {place}")
        assert mean >= MEAN

"""Thresholds per group are fitted on one half and shown on the other; unknown groups give bounds."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaudit.audit.record import Measurement, Undefined
from dlaudit.fairness import label_noise, thresholds, unknown_groups
from dlaudit.fairness.rates import RATES, Proportion, Tally
from dlaudit.fairness.what_if import TRADED, WhatIf


def people(seed=0, n=4000, *, handicap=1.0):
    """One skill in both groups; scores of b are a handicap lower."""
    rng = np.random.default_rng(seed)
    group = rng.choice(["a", "b"], n)
    skill = rng.normal(size=n)
    y = (rng.random(n) < 1 / (1 + np.exp(-2 * skill))).astype(int)
    return y, skill - handicap * (group == "b"), group


def curve(check, bench):
    found = {}
    for one in check.measure(bench):
        if getattr(one, "name", "") in TRADED:
            found.setdefault(one.name, []).append(one)
    return found


def test_a_planted_handicap_is_undone_by_thresholds_and_its_twin_needs_none(bench_of):
    y, score, group = people()
    found = curve(WhatIf(), bench_of(y, score > 0, {"sex": group}, score=score))
    first, last = found["what_if_gap"][0], found["what_if_gap"][-1]
    assert first.interval.low > 0.2
    assert last.interval.low <= 0 <= last.interval.high
    accuracy = found["what_if_accuracy"]
    assert accuracy[-1].value > accuracy[0].value + 0.03
    assert [one.conditions["share"] for one in accuracy] == pytest.approx(
        [0, 0.2, 0.4, 0.6, 0.8, 1]
    )
    assert "not advice" in accuracy[0].caveats[0].message
    y, score, group = people(handicap=0.0)
    found = curve(WhatIf(), bench_of(y, score > 0, {"sex": group}, score=score))
    assert abs(found["what_if_gap"][0].value) < 0.06
    assert abs(found["what_if_accuracy"][-1].value - found["what_if_accuracy"][0].value) < 0.01


def test_the_numbers_come_from_the_half_that_fitted_nothing(bench_of):
    """Scores of pure noise: a threshold learned by heart would look better than a coin."""
    rng = np.random.default_rng(1)
    y, score = rng.integers(0, 2, 400), rng.random(400)
    bench = bench_of(y, score > 0.5, {"sex": np.repeat(["a", "b"], 200)}, score=score)
    found = curve(WhatIf(), bench)
    assert all(one.n == 200 for one in found["what_if_accuracy"])
    assert all(one.interval.low < 0.5 < one.interval.high for one in found["what_if_accuracy"])


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), rate=st.floats(0, 1))
def test_a_threshold_selects_the_share_it_is_asked_for(seed, rate):
    scores = np.random.default_rng(seed).permutation(200).astype(float)
    selected = np.mean(scores >= thresholds.common(scores, rate))
    assert selected == pytest.approx(rate, abs=1 / 200 + 1e-9)


def brute_force(group, reference, unknown):
    """Every way of giving the unknown to the group, to the reference or to nobody."""
    found = []
    hits, misses = unknown.successes, unknown.n - unknown.successes
    for a, b, c, d in product(
        range(hits + 1), range(hits + 1), range(misses + 1), range(misses + 1)
    ):
        if a + b <= hits and c + d <= misses:
            one = (group.successes + a) / (group.n + a + c)
            other = (reference.successes + b) / (reference.n + b + d)
            found.append(one - other)
    return min(found), max(found)


@settings(max_examples=40)
@given(
    counts=st.lists(
        st.integers(1, 6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
        min_size=3, max_size=3,
    )
)  # fmt: skip
def test_the_bounds_are_those_of_trying_everything(counts):
    sides = [Proportion(*count) for count in counts]
    assert unknown_groups.bounds(*sides) == pytest.approx(brute_force(*sides))


def test_bounds_of_a_case_computed_by_hand(bench_of, told):
    """a: 60 of 100, b: 40 of 100, unknown: 6 of 10."""
    decided = np.r_[[1] * 60 + [0] * 40, [1] * 40 + [0] * 60, [1] * 6 + [0] * 4]
    group = np.repeat(["a", "b", "unknown"], [100, 100, 10])
    found = told(WhatIf(reference={"sex": "a"}), bench_of(decided, decided, {"sex": group}))
    low, high = (found[f"selection_rate_difference_{end}", "b"] for end in ("lowest", "highest"))
    assert low.value == pytest.approx(40 / 104 - 66 / 106)
    assert high.value == pytest.approx(46 / 106 - 60 / 104)
    assert low.conditions["unknown"] == 10
    assert ("selection_rate_difference_lowest", "unknown") not in found
    assert found["what_if_gap", "sex"].reason.startswith("the model gives decisions only")


def test_what_cannot_be_asked_has_a_reason(bench_of, rows_of, told):
    y, predicted, group = rows_of({"a": (40, 10, 5, 45), "b": (10, 5, 4, 12)})
    bench = bench_of(y, predicted, {"sex": group, "age": group}, score=predicted)
    found = [one for one in WhatIf(intersections=True).measure(bench) if isinstance(one, Undefined)]
    reasons = {one.reason for one in found}
    assert "no group is unknown" in reasons
    assert "fewer than two groups of 30 samples in each half" in reasons
    partly = np.where(np.arange(len(y)) % 9, group, "unknown")
    bench = bench_of(y, predicted, {"sex": partly, "age": group}, classes=("x", "y", "z"))
    found = list(WhatIf(intersections=True, minimum=20).measure(bench))
    reasons = {one.reason for one in found if isinstance(one, Undefined)}
    assert "of an intersection: see its attributes" in reasons
    assert any("set the parameter positive" in reason for reason in reasons)
    assert any(isinstance(one, Measurement) for one in found)
    crowd = bench_of(y, predicted, {"id": np.arange(len(y)).astype(str)})
    assert all(isinstance(one, Undefined) for one in told(WhatIf(), crowd).values())


def flipped(tally, wrong):
    """Every tally that turning at most ``wrong`` labels can give; decisions stay."""
    turns = range(wrong + 1)
    for a, b, c, d in product(turns, repeat=4):
        if (
            a + b + c + d <= wrong
            and a <= tally.tn
            and b <= tally.fp
            and c <= tally.fn
            and d <= tally.tp
        ):
            tn, fp, fn, tp = tally.tn - a + c, tally.fp - b + d, tally.fn - c + a, tally.tp - d + b
            yield Tally(tally.n, tn + tp, tn, fp, fn, tp)


@settings(max_examples=40)
@given(
    counts=st.tuples(*[st.integers(0, 5)] * 4).filter(any), wrong=st.integers(0, 3),
    name=st.sampled_from(label_noise.NOISY),
)  # fmt: skip
def test_the_bounds_of_label_noise_are_those_of_turning_every_label(counts, wrong, name):
    tn, fp, fn, tp = counts
    tally = Tally(sum(counts), tn + tp, tn, fp, fn, tp)
    found = label_noise.bounds(name, tally, wrong)
    rates = [RATES[name].of(one) for one in flipped(tally, wrong)]
    if found is None:
        assert min(one.n for one in rates) == 0
    else:
        values = [one.value for one in rates if one.n]
        assert found == pytest.approx((min(values), max(values)))


def test_label_noise_of_a_case_computed_by_hand(bench_of, rows_of, told):
    """b: 24 of 40 positives found, 20 of 80 negatives accused; 5 % of 120 labels are 6."""
    y, predicted, group = rows_of({"a": (40, 10, 5, 45), "b": (60, 20, 16, 24)})
    check = WhatIf(reference={"sex": "a"}, label_noise=0.05)
    found = told(check, bench_of(y, predicted, {"sex": group}))
    low = found["true_positive_rate_difference_noisy_lowest", "b"]
    high = found["true_positive_rate_difference_noisy_highest", "b"]
    assert high.value == pytest.approx(24 / (40 - 6) - 45 / (50 + 5))
    assert low.value == pytest.approx(24 / (40 + 6) - 45 / (50 - 5))
    assert low.conditions["label_noise"] == 0.05
    precision = found["precision_difference_noisy_highest", "b"]
    assert precision.value == pytest.approx(30 / 44 - 40 / 55)
    none = told(WhatIf(label_noise=0.0), bench_of(y, predicted, {"sex": group}))
    ends = [none[f"accuracy_difference_noisy_{end}", "a"].value for end in ("lowest", "highest")]
    assert ends == pytest.approx([85 / 100 - 84 / 120] * 2)
    with pytest.raises(KeyError):
        label_noise.bounds("selection_rate", Tally(1, 1), 0)


def test_noise_that_could_leave_nobody_gives_no_bound(bench_of, rows_of, told):
    y, predicted, group = rows_of({"a": (400, 100, 5, 30), "b": (400, 100, 5, 30)})
    found = told(WhatIf(label_noise=0.1), bench_of(y, predicted, {"sex": group}))
    said = found["true_positive_rate_difference_noisy_lowest", "b"].reason
    assert said == "wrong labels could leave no actual positives"

"""Decisions that widen the gap of the labels are told apart from those that repeat it."""

import math
from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap

from dlaudit.audit import statistics
from dlaudit.audit.judge import judge_all
from dlaudit.audit.record import CheckRun, Cost, Measured, Measurement, Undefined
from dlaudit.audit.statistics import clopper_pearson
from dlaudit.errors import PlanError, UnknownName
from dlaudit.fairness import amplify
from dlaudit.fairness.amplification import Amplification
from dlaudit.fairness.rates import Tally
from dlaudit.fairness.suite import AMPLIFICATION, SUITE

SEEDS = range(1000, 1020)
ROWS = {"a": (50, 10, 10, 30), "b": (70, 5, 20, 5)}  # tn, fp, fn, tp

tallies = st.tuples(*[st.integers(0, 60)] * 4).filter(any).map(lambda c: Tally(sum(c), 0, *c))


def test_gaps_of_a_case_computed_by_hand(bench_of, rows_of, told):
    """Labels 40 of 100 and 25 of 100; decisions 40 of 100 and 10 of 100."""
    y, predicted, group = rows_of(ROWS)
    found = told(Amplification(reference={"sex": "a"}), bench_of(y, predicted, {"sex": group}))
    assert found["label_gap", "b"].value == pytest.approx(-0.15)
    assert found["prediction_gap", "b"].value == pytest.approx(-0.30)
    one = found["amplification", "b"]
    assert one.value == pytest.approx(-0.15)
    # Agresti-Min per group (b, c + 1/2, n + 2), combined as Newcombe combines Wilson's ends.
    first, second = statistics.mcnemar(5, 20, 100), statistics.mcnemar(10, 10, 100)
    low = -0.15 - math.hypot(-0.15 - first.interval.low, second.interval.high)
    assert one.interval.low == pytest.approx(low)
    assert found["directional_amplification", "sex"].value == pytest.approx((0.0 + 0.15) / 2)
    labels = max(math.log(40.5 / 25.5), math.log(75.5 / 60.5))
    assert found["differential_fairness_labels", "sex"].value == pytest.approx(labels)
    decisions = max(math.log(40.5 / 10.5), math.log(90.5 / 60.5))
    assert found["differential_fairness_predictions", "sex"].value == pytest.approx(decisions)
    widening = found["differential_fairness_amplification", "sex"].value
    assert widening == pytest.approx(decisions - labels)
    assert one.conditions["reference"] == "a"


def reference_directional(group, y, predicted):
    """The published definition, over all groups and outcomes, from rows."""
    terms = []
    for a in np.unique(group):
        for t in (0, 1):
            joint = np.mean((group == a) & (y == t))
            sign = np.sign(joint - np.mean(group == a) * np.mean(y == t))
            here = group == a
            terms.append(sign * (np.mean(predicted[here] == t) - np.mean(y[here] == t)))
    return np.mean(terms)


def test_directional_amplification_is_the_published_mean_over_groups_and_outcomes(rows_of):
    counts = {"a": (50, 10, 11, 30), "b": (70, 5, 20, 5), "c": (10, 33, 8, 41)}
    y, predicted, group = rows_of(counts)
    found = amplify.directional([Tally(sum(c), 0, *c) for c in counts.values()])
    assert found.value == pytest.approx(reference_directional(group, y, predicted))


def test_the_paired_interval_agrees_with_an_independent_bootstrap(rows_of):
    counts = {"a": (300, 60, 60, 180), "b": (420, 30, 120, 30)}
    sides = {name: Tally(sum(c), 0, *c) for name, c in counts.items()}
    found = amplify.amplification(sides["b"], sides["a"])
    y, predicted, group = rows_of(counts)
    gap = predicted - y
    reference = bootstrap(
        (gap[group == "b"], gap[group == "a"]),
        lambda b, a, axis: b.mean(axis) - a.mean(axis),
        method="percentile", n_resamples=4000, rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    assert (found.interval.low, found.interval.high) == pytest.approx(tuple(reference), abs=0.006)


@pytest.mark.truth
def test_compas_widens_the_gap_of_its_labels_by_the_published_figure(truths, bench_of, told):
    """Black and white, smoothed: 0.525 - 0.267 = +0.257."""
    table = pd.read_csv(truths / "compas" / "compas_two_years.csv")
    table = table[table.race.isin(["African-American", "Caucasian"])]
    bench = bench_of(
        table.two_year_recid.to_numpy(),
        (table.score_text != "Low").astype(int).to_numpy(),
        {"race": table.race.to_numpy(dtype=str)},
        classes=("low", "high"),
    )
    found = told(Amplification(reference={"race": "Caucasian"}), bench)
    values = [
        found[f"differential_fairness_{what}", "race"].value
        for what in ("labels", "predictions", "amplification")
    ]
    assert [round(value, 3) for value in values] == [0.267, 0.525, 0.257]
    assert found["amplification", "African-American"].interval.low > 0.08


@settings(max_examples=80)
@given(groups=st.lists(tallies, min_size=2, max_size=4))
def test_perfect_decisions_amplify_nothing_and_order_changes_nothing(groups):
    perfect = [Tally(t.n, t.n, t.tn + t.fp, 0, 0, t.fn + t.tp) for t in groups]
    assert amplify.amplification(perfect[0], perfect[1]).value == 0
    assert amplify.directional(perfect).value == 0
    assert amplify.differential(perfect).amplification.value == 0
    one, other = amplify.differential(groups), amplify.differential(groups[::-1])
    for gap, turned in zip(one, other, strict=True):
        assert gap.value == pytest.approx(turned.value)
        assert gap.interval.low - 1e-9 <= gap.value <= gap.interval.high + 1e-9
    straight, turned = amplify.directional(groups), amplify.directional(groups[::-1])
    assert straight.value == pytest.approx(turned.value)
    assert straight.interval.low <= straight.value + 1e-9
    assert straight.value - 1e-9 <= straight.interval.high
    there = amplify.amplification(groups[0], groups[1])
    back = amplify.amplification(groups[1], groups[0])
    assert there.interval.low == pytest.approx(-back.interval.high)


def cell(base, false_positive, true_positive):
    return [
        (1 - base) * (1 - false_positive), (1 - base) * false_positive,
        base * (1 - true_positive), base * true_positive,
    ]  # fmt: skip


SHAPES = {
    "equal": lambda k: [cell(0.4, 0.2, 0.8)] * k,
    "equal, rare": lambda k: [cell(0.1, 0.05, 0.5)] * k,
    "repeated": lambda k: [cell(0.3 if i == 0 else 0.5, 0.2, 0.8) for i in range(k)],
    "amplified": lambda k: [cell(0.3, 0.05, 0.6)] + [cell(0.5, 0.3, 0.9)] * (k - 1),
    "reversed": lambda k: [cell(0.3, 0.8, 0.2)] + [cell(0.5, 0.8, 0.2)] * (k - 1),
    "all apart": lambda k: [cell(q, 0.15, 0.75) for q in np.linspace(0.2, 0.6, k)],
}
SIZES = ((40, 40), (30, 300), (100, 100, 100), (40, 100, 400), (60,) * 5)


def truths_of(cells, sizes):
    real, said = (np.array([one[i] + one[3] for one in cells]) for i in (2, 1))
    overall = np.average(real, weights=sizes)
    signs = np.sign(np.round(real - overall, 12))
    labels, decisions = (
        max(np.ptp(np.log(rate)), np.ptp(np.log(1 - rate))) for rate in (real, said)
    )
    return {
        "amplification": (said - real)[0] - (said - real)[-1],
        "directional": np.mean(signs * (said - real)),
        "labels": labels,
        "decisions": decisions,
        "differential": decisions - labels,
    }


@pytest.mark.slow
def test_every_interval_holds_its_level_on_average_also_where_nothing_is_amplified(monkeypatch):
    for name in ("mcnemar", "newcombe", "normal_quantile"):
        monkeypatch.setattr(amplify, name, lru_cache(None)(getattr(statistics, name)))
    rng = np.random.default_rng(11)
    trials, held = 60, {}
    for shape, cells_of in SHAPES.items():
        for sizes in SIZES:
            cells = cells_of(len(sizes))
            true = truths_of(cells, sizes)
            for _ in range(trials):
                drawn = [
                    Tally(n, 0, *map(int, rng.multinomial(n, p)))
                    for n, p in zip(sizes, cells, strict=True)
                ]
                pooled = amplify.differential(drawn)
                found = {
                    "amplification": amplify.amplification(drawn[0], drawn[-1]),
                    "directional": amplify.directional(drawn),
                    "labels": pooled.labels,
                    "decisions": pooled.decisions,
                    "differential": pooled.amplification,
                }
                for name, gap in found.items():
                    inside = gap.interval.low - 1e-9 <= true[name] <= gap.interval.high + 1e-9
                    held.setdefault(name, {}).setdefault((shape, sizes), []).append(inside)
    for name, by_place in held.items():
        shares = {place: np.mean(hits) for place, hits in by_place.items()}
        mean, worst = np.mean(list(shares.values())), min(shares, key=shares.get)
        print(f"{name}: mean {mean:.4f}, minimum {shares[worst]:.3f} at {worst}")
        assert mean >= 0.945


def population(seed, *, widened):
    """Labels with a gap between groups; decisions that repeat it, or widen it by a sixth of a unit.

    Both models err; the repeating one errs alike for either label, so that its gap is that of the
    labels.
    """
    rng = np.random.default_rng(seed)
    n = 6000
    group = np.where(rng.random(n) < 0.4, "b", "a")
    in_b = group == "b"
    y = (rng.random(n) < np.where(in_b, 0.35, 0.5)).astype(int)
    wrong = rng.random(n) < np.where(y == 1, 0.2, 0.2 * np.where(in_b, 0.35 / 0.65, 1.0))
    predicted = np.where(wrong, 1 - y, y)
    turned = in_b & (predicted == 1) & (rng.random(n) < 0.3)
    return y, np.where(turned & widened, 0, predicted), group


def status(found):
    """What the suite's own rules say of what was told."""
    outcome = Measured(
        measurements=tuple(one for one in found.values() if isinstance(one, Measurement)),
        undefined=tuple(one for one in found.values() if isinstance(one, Undefined)),
    )
    run = CheckRun(
        id=AMPLIFICATION, check=AMPLIFICATION, params={}, seed=0, seconds=0.0, device="cpu",
        cost=Cost(forward=0, backward=0), outcome=outcome,
    )  # fmt: skip
    rules = tuple(rule for rule in SUITE.rules if rule.run == AMPLIFICATION)
    return {verdict.status for verdict in judge_all(rules, [run], [])}


def test_amplification_and_repetition_are_told_apart(bench_of, told):
    right, judged = {True: 0, False: 0}, {True: 0, False: 0}
    for seed in SEEDS:
        for widened in right:
            y, predicted, group = population(seed, widened=widened)
            bench = bench_of(y, predicted, {"group": group})
            found = told(Amplification(reference={"group": "a"}, feedback=True), bench)
            assert found["label_gap", "b"].interval.high < 0  # both inherit the data's own gap
            assert found["prediction_gap", "b"].interval.high < 0
            flagged = found["feedback_widens", "group"].value == 1
            right[widened] += flagged == widened
            judged[widened] += ("fail" in status(found)) if widened else (status(found) == {"pass"})
    for widened, count in right.items():
        low = clopper_pearson(count, len(SEEDS)).low
        print(f"widened={widened}: {count} of {len(SEEDS)} told right, lower bound {low:.2f}")
    print(f"by the default rules: {judged}")
    assert min(right.values()) >= 18
    assert min(judged.values()) >= 18


class TestFeedback:
    """Whether decisions become data is declared, never guessed."""

    def flag(self, bench_of, rows_of, told, check, context=None):
        y, predicted, group = rows_of(ROWS)
        bench = bench_of(y, predicted, {"sex": group})
        bench.context = context or {}
        return told(check, bench)["feedback_widens", "sex"]

    def test_it_is_undefined_if_nobody_declares_it(self, bench_of, rows_of, told):
        one = self.flag(bench_of, rows_of, told, Amplification())
        assert isinstance(one, Undefined)
        assert "context.feedback" in one.reason

    def test_the_context_declares_it_and_the_parameter_prevails(self, bench_of, rows_of, told):
        one = self.flag(bench_of, rows_of, told, Amplification(), {"feedback": True})
        assert (one.value, one.conditions["feedback"]) == (1, True)
        assert "b" in one.caveats[0].message
        check = Amplification(feedback=False)
        assert self.flag(bench_of, rows_of, told, check, {"feedback": True}).value == 0

    def test_another_answer_is_an_error(self, bench_of, rows_of, told):
        with pytest.raises(PlanError, match=r"context.feedback: expected true or false, got 'yes'"):
            self.flag(bench_of, rows_of, told, Amplification(), {"feedback": "yes"})


def test_small_groups_are_listed_and_named_beside_the_numbers_over_all(bench_of, rows_of, told):
    y, predicted, group = rows_of({**ROWS, "tiny": (5, 5, 5, 5)})
    found = told(Amplification(), bench_of(y, predicted, {"sex": group}))
    for name in ("label_gap", "prediction_gap", "amplification"):
        assert found[name, "tiny"].reason == "20 samples, fewer than the minimum of 30"
    assert "tiny" in found["directional_amplification", "sex"].caveats[0].message
    y, predicted, group = rows_of({"a": ROWS["a"], "tiny": (5, 5, 5, 5)})
    bench = bench_of(y, predicted, {"sex": group})
    found = told(Amplification(reference={"sex": "tiny"}, feedback=True), bench)
    assert "the reference tiny is not estimable" in found["amplification", "a"].reason
    assert "fewer than two groups" in found["directional_amplification", "sex"].reason
    assert "no group could be compared" in found["feedback_widens", "sex"].reason


def test_intersections_share_the_level_and_a_crowd_is_no_group(bench_of, rows_of, told):
    y, predicted, group = rows_of({name: tuple(4 * c for c in row) for name, row in ROWS.items()})
    other = np.where(np.arange(len(y)) % 2, "x", "y")
    bench = bench_of(y, predicted, {"sex": group, "age": other})
    found = told(Amplification(intersections=True), bench)
    levels = {
        len(one.slice): one.interval.level for one in found.values() if getattr(one, "slice", None)
    }
    assert levels == {1: 0.95, 2: pytest.approx(1 - 0.05 / 3)}
    crowd = bench_of(y, predicted, {"id": np.arange(len(y)).astype(str)})
    assert all(isinstance(one, Undefined) for one in told(Amplification(), crowd).values())


def test_without_a_positive_class_there_is_nothing_to_widen(bench_of, told):
    y = np.tile([0, 1, 2], 40)
    bench = bench_of(y, y, {"sex": np.repeat(["a", "b"], 60)}, classes=("x", "y", "z"))
    found = told(Amplification(), bench)
    assert {one.reason for one in found.values()} == {Amplification().no_positive(("x", "y", "z"))}
    named = told(Amplification(positive="z"), bench)
    assert isinstance(named["amplification", "b"], Measurement)


def test_a_reference_of_an_attribute_that_does_not_exist_is_an_error(bench_of, rows_of):
    y, predicted, group = rows_of(ROWS)
    with pytest.raises(UnknownName, match="Did you mean sex"):
        list(Amplification(reference={"sxe": "a"}).measure(bench_of(y, predicted, {"sex": group})))

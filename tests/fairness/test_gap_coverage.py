"""The intervals of gaps keep their level, also where all groups are equal (DESIGN.md §9).

Each grid crosses group sizes with rates: equal rates from rare to common, one group apart, all
groups apart. Coverage is simulated; mean, minimum and the minimum's place are printed (pytest -s). With
more trials, and enumerated where that can be done: benchmarks/fairness_coverage.py.
"""

from functools import lru_cache

import numpy as np
import pytest

from dlaudit.audit import statistics
from dlaudit.fairness import gaps
from dlaudit.fairness.rates import Proportion

TRIALS = 300
MEAN = 0.945
SIZES = (
    (30, 30),
    (30, 300),
    (100, 100, 100),
    (30, 100, 300),
    (400, 400, 400),
    (50, 50, 50, 50, 50),
    (40, 60, 80, 100, 120, 400),
)
SHAPES = {
    "equal, 0.1": lambda k: np.full(k, 0.1),
    "equal, 0.3": lambda k: np.full(k, 0.3),
    "equal, 0.5": lambda k: np.full(k, 0.5),
    "equal, 0.9": lambda k: np.full(k, 0.9),
    "one apart": lambda k: np.r_[0.3, np.full(k - 1, 0.5)],
    "last apart": lambda k: np.r_[np.full(k - 1, 0.3), 0.36],
    "all apart": lambda k: np.linspace(0.2, 0.6, k),
}


def to_best(function, end, group):
    """A comparison with the best, of one group that may be the best itself."""

    def gap(proportions):
        rivals = [*proportions[:group], *proportions[group:][1:]]
        return function(proportions[group], gaps.Best(rivals, end), is_candidate=True)

    return gap


def truth_to_best(end, combine, group):
    pick = np.max if end == "highest" else np.min
    return lambda p: combine(p[group], pick(p))


GAPS = {
    "difference": (lambda g: gaps.difference(g[0], g[-1]), lambda p: p[0] - p[-1]),
    "ratio": (lambda g: gaps.ratio(g[0], g[-1]), lambda p: p[0] / p[-1]),
    "spread": (gaps.spread, np.ptp),
    "worst ratio": (gaps.worst_ratio, lambda p: p.min() / p.max()),
    **{
        f"{what} to the {end}, group {group}": (
            to_best(function, end, group),
            truth_to_best(end, combine, group),
        )
        for end in ("highest", "lowest")
        for group in (0, -1)
        for what, function, combine in (
            ("difference", gaps.difference_to_best, lambda a, b: a - b),
            ("ratio", gaps.ratio_to_best, lambda a, b: a / b),
        )
    },
}


@pytest.fixture(autouse=True)
def remembered(monkeypatch):
    """The same counts come up often: ask for each pair's interval once."""
    monkeypatch.setattr(gaps, "newcombe", lru_cache(None)(statistics.newcombe))
    monkeypatch.setattr(gaps, "katz", lru_cache(None)(statistics.katz))


def coverage(gap, truth, sizes, rates, rng):
    """The share of intervals that hold the truth, among those that exist."""
    held = exist = 0
    # Rounding must not turn an end that equals the truth, such as a ratio of 1, into a miss.
    true = truth(rates)
    for counts in rng.binomial(sizes, rates, size=(TRIALS, len(sizes))):
        found = gap([Proportion(int(x), n) for x, n in zip(counts, sizes, strict=True)])
        if not isinstance(found, gaps.NoGap):
            exist += 1
            held += found.interval.low - 1e-9 <= true <= found.interval.high + 1e-9
    return held / exist


@pytest.mark.parametrize(
    "name",
    [name if name == "spread" else pytest.param(name, marks=pytest.mark.slow) for name in GAPS],
)
def test_intervals_hold_their_level_on_average_over_the_grid(name):
    gap, truth = GAPS[name]
    rng = np.random.default_rng(1)
    cells = {
        (sizes, shape): coverage(gap, truth, sizes, rates(len(sizes)), rng)
        for sizes in SIZES
        for shape, rates in SHAPES.items()
    }
    mean, place = np.mean(list(cells.values())), min(cells, key=cells.__getitem__)
    print(f"{name}: mean {mean:.4f}, minimum {cells[place]:.4f} at {place}")
    assert mean >= MEAN


def test_equal_groups_are_accused_by_spread_and_worst_ratio_in_five_of_a_hundred_at_most():
    rng = np.random.default_rng(2)
    accused = {"spread": 0, "worst ratio": 0}
    trials = 0
    for sizes in SIZES:
        for rate in (0.2, 0.5):
            for counts in rng.binomial(sizes, rate, size=(TRIALS, len(sizes))):
                groups = [Proportion(int(x), n) for x, n in zip(counts, sizes, strict=True)]
                trials += 1
                accused["spread"] += gaps.spread(groups).interval.low > 0
                worst = gaps.worst_ratio(groups)
                accused["worst ratio"] += isinstance(worst, gaps.Gap) and worst.interval.high < 1
    shares = {name: count / trials for name, count in accused.items()}
    print(f"accused although equal: {shares}, {trials} trials")
    assert max(shares.values()) <= 0.05


def test_the_permutation_test_accuses_equal_groups_in_55_of_a_thousand_at_most():
    rng = np.random.default_rng(3)
    low = [
        gaps.permutation_p(
            [Proportion(int(x), n) for x, n in zip(counts, sizes, strict=True)], rng, resamples=400
        )
        <= 0.05
        for sizes in SIZES
        for rate in (0.1, 0.3, 0.5)
        for counts in rng.binomial(sizes, rate, size=(TRIALS, len(sizes)))
    ]
    print(f"type I error of the permutation test: {np.mean(low):.4f}, {len(low)} trials")
    assert np.mean(low) <= 0.055


def test_a_percentile_bootstrap_of_the_spread_never_holds_zero():
    """Why none is used here: under true equality its lower end is above 0, always."""
    rng = np.random.default_rng(4)
    sizes = np.array([100, 100, 100])
    for counts in rng.binomial(sizes, 0.4, size=(50, 3)):
        resampled = rng.binomial(sizes, counts / sizes, size=(2000, 3)) / sizes
        assert np.quantile(np.ptp(resampled, axis=1), 0.025) > 0

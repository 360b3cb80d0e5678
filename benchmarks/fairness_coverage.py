"""How often the intervals of the suite on groups hold the truth, and how often equal groups are accused.

    python benchmarks/fairness_coverage.py            # every cell, some minutes
    python benchmarks/fairness_coverage.py --sample   # a twentieth of the trials, for CI
    python benchmarks/fairness_coverage.py --record   # also appends to benchmarks/RESULTS.md

What two counts decide is enumerated: every table weighted with its probability, no error of
simulation. The rest is simulated with fixed seeds, 2,000 audits a cell. Each line says the mean over its
grid, the minimum and where it lies; the last lines are type I errors, groups being equal. Fails where
a mean is below 94.5 % or a test errs by more than 5.5 %.
"""

from __future__ import annotations

import argparse
import datetime as dt
import math
import platform
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import binom, norm

from dlaudit.audit import statistics
from dlaudit.fairness import (
    amplify,
    clustered,
    errors_by_group,
    features,
    gaps,
    scoring,
    slice_search,
)
from dlaudit.fairness.rates import RATES, Proportion, Tally

HERE = Path(__file__).resolve().parent
TRIALS = 2000
MEAN, TYPE_I = 0.945, 0.055
PAIRS = (
    (30, 30), (30, 100), (30, 300), (47, 53), (50, 50), (50, 300), (75, 75), (100, 100), (100, 400),
    (200, 200),
)  # fmt: skip
RATES_OF_PAIRS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.95)
SIZES = (
    (30, 30), (30, 300), (100, 100, 100), (30, 100, 300), (400, 400, 400), (50, 50, 50, 50, 50),
    (40, 60, 80, 100, 120, 400),
)  # fmt: skip
SHAPES: dict[str, Callable[[int], np.ndarray]] = {
    "equal, 0.1": lambda k: np.full(k, 0.1),
    "equal, 0.3": lambda k: np.full(k, 0.3),
    "equal, 0.5": lambda k: np.full(k, 0.5),
    "equal, 0.9": lambda k: np.full(k, 0.9),
    "one apart": lambda k: np.r_[0.3, np.full(k - 1, 0.5)],
    "last apart": lambda k: np.r_[np.full(k - 1, 0.3), 0.36],
    "all apart": lambda k: np.linspace(0.2, 0.6, k),
}


class Cell(NamedTuple):
    """A place of the grid and the share of intervals that hold the truth there (or accuse)."""

    place: str
    share: float


def holds(interval: statistics.Interval, truth: float) -> bool:
    """Whether an interval holds the truth, up to rounding."""
    return interval.low - 1e-9 <= truth <= interval.high + 1e-9


class Table(NamedTuple):
    """The interval ends of every pair of counts, NaN where there is none. low, high: (n + 1, m + 1)."""

    low: np.ndarray
    high: np.ndarray


@lru_cache(None)
def table(what: str, n: int, m: int) -> Table:
    """Every interval of a ``difference`` or ``ratio`` of counts out of n and of m."""
    ends = np.full((2, n + 1, m + 1), math.nan)
    for x, y in product(range(n + 1), range(m + 1)):
        found = getattr(gaps, what)(Proportion(x, n), Proportion(y, m))
        if isinstance(found, gaps.Gap):
            ends[:, x, y] = found.interval.low, found.interval.high
    return Table(*ends)


def enumerated(what: str, *, equal: bool = False) -> Iterator[Cell]:
    """Coverage of a pair's interval at every place of the grid."""
    for (n, m), p, q in product(PAIRS, RATES_OF_PAIRS, RATES_OF_PAIRS):
        # Fewer than five expected successes: the ratios that exist are a selection (docs/coverage.md).
        if (equal and p != q) or (what == "ratio" and min(n * p, m * q) < 5):
            continue
        ends, truth = table(what, n, m), p - q if what == "difference" else p / q
        weights = np.outer(binom.pmf(np.arange(n + 1), n, p), binom.pmf(np.arange(m + 1), m, q))
        there = ~np.isnan(ends.low)
        inside = (ends.low - 1e-9 <= truth) & (truth <= ends.high + 1e-9)
        share = float(weights[inside].sum() / weights[there].sum())
        yield Cell(f"n = {n} and {m}, rates {p} and {q}", share)


def accused(what: str) -> Iterator[Cell]:
    """How often equal groups are said to differ by a pair's interval."""
    none = 0.0 if what == "difference" else 1.0
    for (n, m), p in product(PAIRS, np.round(np.linspace(0.05, 0.95, 19), 2).tolist()):
        if what == "ratio" and min(n, m) * p < 5:
            continue
        ends = table(what, n, m)
        weights = np.outer(binom.pmf(np.arange(n + 1), n, p), binom.pmf(np.arange(m + 1), m, p))
        there = ~np.isnan(ends.low)
        apart = (ends.low > none) | (ends.high < none)
        yield Cell(f"n = {n} and {m}, rate {p}", float(weights[apart].sum() / weights[there].sum()))


def drawn(sizes: tuple[int, ...], rates: np.ndarray, trials: int) -> Iterator[list[Proportion]]:
    """Groups of the given sizes, drawn ``trials`` times."""
    rng = np.random.default_rng([20261123, *sizes, *(1000 * rates).astype(int)])
    for counts in rng.binomial(sizes, rates, size=(trials, len(sizes))):
        yield [Proportion(int(x), n) for x, n in zip(counts, sizes, strict=True)]


def grid(
    gap: Callable[[list[Proportion]], gaps.Gap | gaps.NoGap],
    truth: Callable[[np.ndarray], float],
    trials: int,
) -> Iterator[Cell]:
    """Coverage of a gap over several groups, for every combination of sizes and shapes."""
    for sizes, (shape, rates) in product(SIZES, SHAPES.items()):
        true = truth(rates(len(sizes)))
        found = [gap(groups) for groups in drawn(sizes, rates(len(sizes)), trials)]
        hits = [holds(one.interval, true) for one in found if isinstance(one, gaps.Gap)]
        yield Cell(f"{shape}, n = {' '.join(map(str, sizes))}", float(np.mean(hits)))


def to_best(what: str, end: str) -> Callable[[list[Proportion]], gaps.Gap | gaps.NoGap]:
    """The first group against the best of all."""
    function = getattr(gaps, f"{what}_to_best")
    return lambda groups: function(groups[0], gaps.Best(groups[1:], end), is_candidate=True)


def rejected(trials: int) -> Iterator[Cell]:
    """How often the permutation test says that equal groups differ."""
    for sizes, rate in product(SIZES, (0.1, 0.3, 0.5)):
        rng = np.random.default_rng([3, *sizes])
        low = [
            gaps.permutation_p(groups, rng, resamples=400) <= 0.05
            for groups in drawn(sizes, np.full(len(sizes), rate), trials)
        ]
        yield Cell(f"rate {rate}, n = {' '.join(map(str, sizes))}", float(np.mean(low)))


def spread_accuses(trials: int) -> Iterator[Cell]:
    """How often the interval of the widest gap leaves out 0 although all groups are equal."""
    for sizes, rate in product(SIZES, (0.1, 0.3, 0.5)):
        groups = drawn(sizes, np.full(len(sizes), rate), trials)
        share = float(np.mean([gaps.spread(one).interval.low > 0 for one in groups]))
        yield Cell(f"rate {rate}, n = {' '.join(map(str, sizes))}", share)


def balanced(trials: int) -> Iterator[Cell]:
    """Balanced accuracy: the mean of two rates."""
    for (n, m), p, q in product(((30, 30), (40, 300), (100, 100)), (0.5, 0.8, 0.95), (0.5, 0.8)):
        rng = np.random.default_rng([n, m, int(100 * p), int(100 * q)])
        hits = [
            holds(
                gaps.mean_of_two(Proportion(int(x), n), Proportion(int(y), m)).interval, (p + q) / 2
            )
            for x, y in zip(rng.binomial(n, p, trials), rng.binomial(m, q, trials), strict=True)
        ]
        yield Cell(f"n = {n} and {m}, rates {p} and {q}", float(np.mean(hits)))


def table_of(base: float, false_positive: float, true_positive: float) -> list[float]:
    """Chances of tn, fp, fn, tp."""
    return [
        (1 - base) * (1 - false_positive), (1 - base) * false_positive,
        base * (1 - true_positive), base * true_positive,
    ]  # fmt: skip


MODELS: dict[str, Callable[[int], list[list[float]]]] = {
    "equal": lambda k: [table_of(0.4, 0.2, 0.8)] * k,
    "equal, rare": lambda k: [table_of(0.1, 0.05, 0.5)] * k,
    "repeated": lambda k: [table_of(0.3 if i == 0 else 0.5, 0.2, 0.8) for i in range(k)],
    "amplified": lambda k: [table_of(0.3, 0.05, 0.6)] + [table_of(0.5, 0.3, 0.9)] * (k - 1),
    "reversed": lambda k: [table_of(0.3, 0.8, 0.2)] + [table_of(0.5, 0.8, 0.2)] * (k - 1),
    "all apart": lambda k: [table_of(q, 0.15, 0.75) for q in np.linspace(0.2, 0.6, k)],
}


def amplified(trials: int) -> dict[str, list[Cell]]:
    """Every number of fairness.amplification, by name."""
    found: dict[str, list[Cell]] = {}
    for (shape, cells_of), sizes in product(
        MODELS.items(), ((40, 40), (30, 300), (100, 100, 100), (40, 100, 400), (60,) * 5)
    ):
        cells = np.array(cells_of(len(sizes)))
        real, said = cells[:, 2] + cells[:, 3], cells[:, 1] + cells[:, 3]
        signs = np.sign(np.round(real - np.average(real, weights=sizes), 12))
        labels, decisions = (
            max(np.ptp(np.log(rate)), np.ptp(np.log(1 - rate))) for rate in (real, said)
        )
        truth = {
            "amplification": (said - real)[0] - (said - real)[-1],
            "directional amplification": float(np.mean(signs * (said - real))),
            "differential fairness, labels": labels,
            "differential fairness, decisions": decisions,
            "differential fairness, amplification": decisions - labels,
        }
        rng = np.random.default_rng([11, *sizes])
        hits: dict[str, list[bool]] = {name: [] for name in truth}
        for _ in range(trials):
            tallies = [
                Tally(n, 0, *map(int, rng.multinomial(n, p)))
                for n, p in zip(sizes, cells, strict=True)
            ]
            pooled = amplify.differential(tallies)
            numbers = (amplify.amplification(tallies[0], tallies[-1]), amplify.directional(tallies))
            for (name, true), gap in zip(truth.items(), (*numbers, *pooled), strict=True):
                hits[name].append(holds(gap.interval, true))
        for name, inside in hits.items():
            place = f"{shape}, n = {' '.join(map(str, sizes))}"
            found.setdefault(name, []).append(Cell(place, float(np.mean(inside))))
    return found


def areas(trials: int) -> Iterator[Cell]:
    """The AUC of two normal distributions."""
    for (m, n), apart in product(
        ((30, 30), (30, 100), (40, 200), (150, 150)), (0.0, 0.5, 1.5, 2.5)
    ):
        rng = np.random.default_rng([m, n, int(10 * apart)])
        y = np.r_[np.ones(m), np.zeros(n)]
        hits = [
            holds(
                scoring.auc(np.r_[rng.normal(apart, 1, m), rng.normal(0, 1, n)], y).interval,
                float(norm.cdf(apart / math.sqrt(2))),
            )
            for _ in range(trials)
        ]
        yield Cell(f"{m} positives, {n} negatives, {apart} apart", float(np.mean(hits)))


def calibrated(rng: np.random.Generator, n: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are right, and labels drawn by them."""
    p = 1 / (1 + np.exp(-rng.normal(size=n) * spread))
    return p, (rng.random(n) < p).astype(int)


def calibration(trials: int) -> dict[str, list[Cell]]:
    """Slope, mean error, mean score and ECE of scores that mean what they say; the distance of two."""
    found: dict[str, list[Cell]] = {}
    for n, spread in product((60, 200, 400), (0.7, 1.5, 3.0)):
        rng = np.random.default_rng([n, int(10 * spread)])
        hits: dict[str, list[bool]] = {}
        for _ in range(trials):
            p, y = calibrated(rng, n, spread)
            slope = scoring.slope(p, y)
            if isinstance(slope, scoring.Estimate):
                hits.setdefault("calibration slope", []).append(holds(slope.interval, 1.0))
            for name, values, true in (("calibration gap", p - y, 0.0), ("mean score", p, 0.5)):
                interval = statistics.mean_interval(values)
                assert interval is not None
                hits.setdefault(name, []).append(holds(interval, true))
            ece = scoring.calibration_error(p, y, rng).interval
            hits.setdefault("calibration error", []).append(holds(ece, 0.0))
            far = scoring.distance(rng.normal(size=n), rng.normal(size=n) + spread).interval
            true = float(2 * norm.cdf(spread / 2) - 1)
            hits.setdefault("score distance", []).append(holds(far, true))
        for name, inside in hits.items():
            found.setdefault(name, []).append(
                Cell(f"n = {n}, spread {spread}", float(np.mean(inside)))
            )
    return found


def impact(trials: int) -> Iterator[Cell]:
    """Impact ratios of rare selections, counts of zero among them: group 0 against the highest of three."""
    for n, rate in product((30, 100, 300), (0.01, 0.03, 0.1)):
        rng = np.random.default_rng([144, n, int(1000 * rate)])
        hits = []
        for counts in rng.binomial([n, 200, 300], [rate, 0.3, 0.4], size=(trials, 3)):
            own, *rivals = (
                Proportion(int(x), size) for x, size in zip(counts, (n, 200, 300), strict=True)
            )
            best = gaps.Best(rivals, "highest")
            found = (
                gaps.ratio_to_best(own, best, is_candidate=True)
                if own.successes
                else gaps.zero_to_best(own, best)
            )
            if isinstance(found, gaps.Gap):
                hits.append(holds(found.interval, rate / 0.4))
        yield Cell(f"n = {n}, rate {rate}", float(np.mean(hits)))


ERRORS: dict[str, tuple[float, Callable[[np.random.Generator, int], np.ndarray]]] = {
    "normal": (1.0, lambda rng, n: rng.normal(size=n)),
    "Laplace": (math.sqrt(2), lambda rng, n: rng.laplace(size=n)),
    "uniform": (12**-0.5, lambda rng, n: rng.random(n) - 0.5),
}
"""Name -> standard deviation and draw; all have mean 0."""


def quantities(trials: int) -> dict[str, list[Cell]]:
    """Mean error and spread of predicted quantities, and both against another group of 60."""
    found: dict[str, list[Cell]] = {}
    for (name, (deviation, draw)), n in product(ERRORS.items(), (30, 100, 300)):
        rng = np.random.default_rng([17, n, len(name)])
        hits: dict[str, list[bool]] = {}
        for _ in range(trials):
            one, other = draw(rng, n), draw(rng, 60)
            for what, estimate, true in (
                ("mean error", errors_by_group.mean(one), 0.0),
                ("mean error difference", errors_by_group.mean_difference(one, other), 0.0),
                ("error spread", errors_by_group.spread(one), deviation),
                ("error spread ratio", errors_by_group.spread_ratio(one, other), 1.0),
            ):
                if not isinstance(estimate, str):
                    hits.setdefault(what, []).append(holds(estimate.interval, true))
        for what, inside in hits.items():
            found.setdefault(what, []).append(Cell(f"{name}, n = {n}", float(np.mean(inside))))
    return found


def clusters(trials: int) -> dict[str, list[Cell]]:
    """Rate, difference and ratio of two groups of people with several rows each, both rates equal."""
    found: dict[str, list[Cell]] = {
        "clustered rate": [], "clustered difference": [], "clustered ratio": [],
    }  # fmt: skip
    for k, rows in product((30, 60, 200), (3, 10)):
        rng = np.random.default_rng([9, k, rows])
        hits: dict[str, list[bool]] = {name: [] for name in found}
        for _ in range(trials):
            who = np.repeat(np.arange(k), rows)
            chance = 1 / (1 + np.exp(-rng.normal(size=k)))
            said = rng.random(len(who)) < chance[who]
            counted = {"n": np.ones(len(who), dtype=bool), "correct": said}
            sums = clustered.clustered(who % 2, 2, who, RATES["accuracy"], counted)
            for name, gap, none in (
                ("clustered rate", sums.rate(0), 0.5),
                ("clustered difference", sums.difference(1, 0), 0.0),
                ("clustered ratio", sums.ratio(1, 0), 1.0),
            ):
                if isinstance(gap, gaps.Gap):
                    hits[name].append(holds(gap.interval, none))
        for name, inside in hits.items():
            found[name].append(Cell(f"{k} clusters of {rows}", float(np.mean(inside))))
    return found


def slices(trials: int) -> Iterator[Cell]:
    """The gap of a planted slice that was found in one half and confirmed in the other."""
    for n, inside in ((1200, 0.3), (1200, 0.35), (4000, 0.25)):
        rng = np.random.default_rng([3, n, int(100 * inside)])
        hits = []
        for _ in range(trials):
            groups = {name: rng.choice(list("uv"), n) for name in "abcd"}
            conditions = features.conditions_of_groups(groups, most=5)
            chance = np.where(groups["a"] == "u", inside, 0.15)
            outcome, first = rng.random(n) < chance, rng.random(n) < 0.5
            found = slice_search.search(conditions, outcome, first, minimum=30, most=10, rate=0.05)
            hits += [
                holds(one.interval, inside - 0.15)
                for one in found.slices
                if one.interval is not None and one.words == "a is u"
            ]
        yield Cell(f"n = {n}, {inside} inside and 0.15 outside", float(np.mean(hits)))


def remembered() -> None:
    """The same counts come up often: ask for each pair's interval once."""
    for module, names in (
        (gaps, ("newcombe", "katz", "wilson")),
        (amplify, ("mcnemar", "newcombe")),
    ):
        for name in names:
            setattr(module, name, lru_cache(None)(getattr(statistics, name)))


def said(name: str, cells: list[Cell], *, errors: bool = False) -> str:
    """A line of the result: mean, worst place."""
    mean = float(np.mean([cell.share for cell in cells]))
    worst = (max if errors else min)(cells, key=lambda cell: round(cell.share, 9))
    word = "maximum" if errors else "minimum"
    return (
        f"- {name}: mean {100 * mean:.2f} % over {len(cells)} cells, {word} "
        f"{100 * worst.share:.2f} % at {worst.place}."
    )


def main() -> int:
    """Compute, print, append to RESULTS.md if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", action="store_true", help="a twentieth of the trials")
    parser.add_argument("--record", action="store_true", help="append to benchmarks/RESULTS.md")
    options = parser.parse_args()
    trials = TRIALS // 20 if options.sample else TRIALS
    some = trials // 4
    remembered()
    covered = {
        "difference, enumerated": list(enumerated("difference")),
        "difference of equal rates, enumerated": list(enumerated("difference", equal=True)),
        "ratio, enumerated": list(enumerated("ratio")),
        "ratio of equal rates, enumerated": list(enumerated("ratio", equal=True)),
        "spread": list(grid(gaps.spread, lambda p: float(np.ptp(p)), some)),
        "worst ratio": list(grid(gaps.worst_ratio, lambda p: float(p.min() / p.max()), some)),
        "difference to the best": list(
            grid(to_best("difference", "highest"), lambda p: float(p[0] - p.max()), some)
        ),
        "ratio to the best": list(
            grid(to_best("ratio", "highest"), lambda p: float(p[0] / p.max()), some)
        ),
        "balanced accuracy": list(balanced(trials)),
        **amplified(some),
        "AUC": list(areas(trials)),
        **calibration(trials // 2),
        **clusters(trials // 2),
        "impact ratio, counts of zero included": list(impact(some)),
        **quantities(trials // 2),
        "gap of a confirmed slice": list(slices(some)),
    }
    errors = {
        "difference accuses equal groups, enumerated": list(accused("difference")),
        "ratio accuses equal groups, enumerated": list(accused("ratio")),
        "spread accuses equal groups": list(spread_accuses(some)),
        "permutation test rejects equal groups": list(rejected(trials)),
    }
    lines = [said(name, cells) for name, cells in covered.items()]
    lines += [said(name, cells, errors=True) for name, cells in errors.items()]
    print("\n".join(lines))
    if options.record:
        today = dt.datetime.now(dt.UTC).date()
        with (HERE / "RESULTS.md").open("a", encoding="utf-8") as file:
            file.write("\n## Coverage of the intervals of groups, nominal 95 %\n\n")
            file.write("\n".join(lines) + "\n\n")
            file.write(
                f"`python benchmarks/fairness_coverage.py --record, {today}, {platform.machine()}, "
                f"Python {platform.python_version()}`\n"
            )
    missed = [
        *missing(covered, sample=options.sample), *accusing(errors, sample=options.sample),
    ]  # fmt: skip
    print(*missed, sep="\n", end="", file=sys.stderr)
    return 1 if missed else 0


def missing(covered: dict[str, list[Cell]], *, sample: bool) -> Iterator[str]:
    """Intervals that miss their level. A sample's simulated figures are too few to judge."""
    for name, cells in covered.items():
        mean = float(np.mean([cell.share for cell in cells]))
        if mean < MEAN and not (sample and "enumerated" not in name):
            yield f"{name}: {mean:.4f}, expected {MEAN} at least"


def accusing(errors: dict[str, list[Cell]], *, sample: bool) -> Iterator[str]:
    """Tests that accuse equal groups too often: on average, and where enumerated, anywhere."""
    for name, cells in errors.items():
        shares = [cell.share for cell in cells]
        worst = max(shares) if "enumerated" in name else float(np.mean(shares))
        if worst > TYPE_I and not (sample and "enumerated" not in name):
            yield f"{name}: {worst:.4f}, expected {TYPE_I} at most"


if __name__ == "__main__":
    raise SystemExit(main())

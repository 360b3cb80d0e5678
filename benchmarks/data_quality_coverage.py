"""How often the intervals of the suite ``data_quality`` hold the truth, in simulations where it is known.

    python benchmarks/data_quality_coverage.py            # 4,000 draws a cell
    python benchmarks/data_quality_coverage.py --sample   # 200 draws a cell, for CI
    python benchmarks/data_quality_coverage.py --record   # also writes benchmarks/RESULTS.md

Nominal 95 %. Wilson's and Newcombe's own coverage stands in docs/coverage.md. Massart's interval and the
simultaneous ones promise at least their level and hold it with room. The learner of the classifier is
taken as given, and so is its coverage here: scores are drawn, not learned. Fails where the mean of an
interval is below 94.5 %.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import ledger
import numpy as np
from scipy import stats

from dlaudit.audit import statistics
from dlaudit.audit.record import Interval
from dlaudit.data_quality import intervals

TITLE = "Coverage of the intervals of data quality"
Draw = Callable[[np.random.Generator], Interval]


def copies(n: int, p: float, m: int, q: float) -> tuple[float, Draw]:
    """Accuracy on n copies is p, on m other rows q."""

    def draw(rng: np.random.Generator) -> Interval:
        return intervals.share_of_gain(int(rng.binomial(n, p)), n, int(rng.binomial(m, q)), m)

    return n / (n + m) * (p - q), draw


def change(sizes: tuple[int, int], one: list[float], other: list[float]) -> tuple[float, Draw]:
    """Shares of categories in two populations."""

    def draw(rng: np.random.Generator) -> Interval:
        counts = [
            rng.multinomial(n, shares).tolist()
            for n, shares in zip(sizes, (one, other), strict=True)
        ]
        return intervals.largest_change(*counts)[1]

    return max(abs(a - b) for a, b in zip(one, other, strict=True)), draw


def moved(m: int, n: int, shift: float) -> tuple[float, Draw]:
    """Two normal populations."""

    def draw(rng: np.random.Generator) -> Interval:
        found = stats.ks_2samp(rng.normal(size=m), rng.normal(size=n) + shift, method="asymp")
        return statistics.kolmogorov(float(found.statistic), m, n)

    return float(2 * stats.norm.cdf(shift / 2) - 1), draw


def skill(sizes: list[int], recalls: list[float]) -> tuple[float, Draw]:
    """Recalls of a column's guesses in each class."""
    kinds = len(sizes)

    def draw(rng: np.random.Generator) -> Interval:
        return intervals.balanced_skill(rng.binomial(sizes, recalls).tolist(), sizes)[1]

    return float((np.mean(recalls) - 1 / kinds) / (1 - 1 / kinds)), draw


def auc(each: int, folds: int, shift: float) -> tuple[float, Draw]:
    """Normal scores of two classes, in folds."""
    y, fold = np.tile(np.repeat([0, 1], each), folds), np.repeat(np.arange(folds), 2 * each)

    def draw(rng: np.random.Generator) -> Interval:
        return intervals.folded_auc(rng.normal(size=len(y)) + shift * y, y, fold)[1]

    return float(stats.norm.cdf(shift / 2**0.5)), draw


FAMILIES = {
    "accuracy_from_duplicates": [
        copies(n, p, m, q)
        for n, m in ((10, 190), (50, 950), (100, 100)) for p, q in ((0.9, 0.9), (0.95, 0.7), (0.5, 0.5))
    ],
    "label_drift, prediction_drift, feature_drift of categories": [
        change(sizes, one, other)
        for sizes in ((100, 100), (400, 2000))
        for one, other in (
            ([0.5, 0.5], [0.5, 0.5]), ([0.6, 0.4], [0.4, 0.6]), ([0.7, 0.2, 0.1], [0.5, 0.2, 0.3]),
            ([0.1] * 10, [0.1] * 10),
        )
    ],
    "feature_drift of numbers": [
        moved(m, n, shift) for m, n in ((60, 60), (200, 500)) for shift in (0.0, 0.3, 1.0)
    ],
    "predictive_power": [
        skill(sizes, recalls)
        for sizes, recalls in (
            ([30, 30], [0.5, 0.5]), ([200, 40], [0.9, 0.7]), ([500, 500], [0.6, 0.6]),
            ([100, 50, 20], [0.8, 0.6, 0.5]), ([50] * 10, [0.3] * 10),
        )
    ],
    "classifier_auc": [
        auc(each, 5, shift) for each in (10, 40, 200) for shift in (0.0, 0.5, 1.0)
    ],
}  # fmt: skip


def main() -> int:
    """Simulate, print, write to RESULTS.md if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", action="store_true", help="200 draws a cell")
    parser.add_argument("--record", action="store_true", help="write a section of RESULTS.md")
    options = parser.parse_args()
    draws = 200 if options.sample else 4000
    lines = [
        f"{draws:,} draws a cell, nominal 95 %",
        "",
        "| interval of | method | cells | mean | smallest |",
        "|---|---|---|---|---|",
    ]
    kept = True
    for name, cells in FAMILIES.items():
        held, method = [], ""
        for number, (truth, draw) in enumerate(cells):
            rng = np.random.default_rng([20261128, number])
            found = [draw(rng) for _ in range(draws)]
            method = found[0].method
            held.append(np.mean([one.low <= truth <= one.high for one in found]))
        kept &= options.sample or float(np.mean(held)) >= 0.945
        lines.append(
            f"| `{name}` | {method} | {len(cells)} | {100 * np.mean(held):.1f} % | "
            f"{100 * np.min(held):.1f} % |"
        )
        print(lines[-1], flush=True)
    if options.record:
        ledger.record(TITLE, lines, ledger.stamp("data_quality_coverage.py", torch=False))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())

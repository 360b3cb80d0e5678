"""Runs that stop as soon as their rule is decided: how often they decide wrongly, and what they save.

Samples are simulated as independent draws with a true proportion p and taken in the blocks of
``dlaudit.audit.sampling``; a rule ``at_least`` a threshold is decided by the confidence sequence. With
p exactly at the threshold any decision counts as wrong here, a stricter count than the rule's own,
which may pass there. Also looked at after every single sample, as often as can be.

    python benchmarks/sequential.py             20,000 runs a cell, 10,000 samples at most
    python benchmarks/sequential.py --sample    a few seconds, for CI
    python benchmarks/sequential.py --record    also writes to benchmarks/RESULTS.md
"""

from __future__ import annotations

import argparse
import math
import sys
from functools import cache
from typing import NamedTuple

import numpy as np
from ledger import record, stamp

from dlaudit.audit.bench import BLOCK
from dlaudit.audit.sampling import growing
from dlaudit.audit.statistics import confidence_sequence, decidable, log_capital

THRESHOLDS = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99)
AWAY = (-0.2, -0.1, -0.05, -0.02, 0.02, 0.05, 0.1, 0.2)
LIMIT = 0.05


class Ends(NamedTuple):
    """After each look: the most successes at which the rule fails, the least at which it passes."""

    looks: np.ndarray
    fails: np.ndarray
    passes: np.ndarray


class Outcome(NamedTuple):
    """What many runs came to: shares that passed and failed, and the samples used on average."""

    passed: float
    failed: float
    used: float

    @property
    def decided(self) -> float:
        """The share of runs that ended with a verdict."""
        return self.passed + self.failed


def ends_of_every_sample(threshold: float, most: int) -> Ends:
    """The same with a look after every sample: where the threshold itself is excluded."""
    looks = np.arange(1, most + 1)
    fails, passes = [], []
    for n in looks.tolist():
        counts = np.arange(n + 1)
        out = log_capital(counts, n, threshold) >= -math.log(LIMIT)
        below = counts[out & (counts < threshold * n)]
        above = counts[out & (counts > threshold * n)]
        fails.append(below.max(initial=-1))
        passes.append(above.min(initial=n + 1))
    return Ends(looks, np.array(fails), np.array(passes))


@cache
def ends(threshold: float, most: int) -> Ends:
    """Where a rule ``at_least`` a threshold is decided, after every block."""
    looks = np.array([b for _, b in growing(most, BLOCK)])
    fails, passes = [], []
    for n in looks.tolist():
        found = decidable(threshold, n, at_least=True, interval=confidence_sequence)
        fails.append(-1 if found.fails_from is None else round(found.fails_from * n))
        passes.append(n + 1 if found.passes_from is None else round(found.passes_from * n))
    return Ends(looks, np.array(fails), np.array(passes))


def simulated(p: float, where: Ends, runs: int, rng: np.random.Generator) -> Outcome:
    """Many runs with a true proportion p, each stopped at its first decision."""
    successes = np.zeros(runs, dtype=np.int64)
    open_ = np.arange(runs)
    passed = failed = 0
    used, before = 0.0, 0
    for n, fails, passes in zip(where.looks, where.fails, where.passes, strict=True):
        successes[open_] += rng.binomial(n - before, p, size=len(open_))
        before = n
        over, under = successes[open_] >= passes, successes[open_] <= fails
        passed, failed = passed + int(over.sum()), failed + int(under.sum())
        used += float(n) * int((over | under).sum())
        open_ = open_[~(over | under)]
        if not len(open_):
            break
    used += float(where.looks[-1]) * len(open_)
    return Outcome(passed / runs, failed / runs, used / runs)


def wrong_at_the_threshold(*, runs: int, most: int, every: int) -> list[tuple[float, float, float]]:
    """(threshold, share decided in blocks, share decided looking after every sample), p there."""
    rng = np.random.default_rng(20_260)
    rows = []
    for threshold in THRESHOLDS:
        blocks = simulated(threshold, ends(threshold, most), runs, rng)
        often = simulated(threshold, ends_of_every_sample(threshold, every), runs, rng)
        rows.append((threshold, blocks.decided, often.decided))
    return rows


def saved(*, runs: int, most: int) -> list[tuple[float, float, Outcome]]:
    """(threshold, p, outcome) away from the threshold, where p lies in [0, 1]."""
    rng = np.random.default_rng(20_261)
    return [
        (threshold, threshold + away, simulated(threshold + away, ends(threshold, most), runs, rng))
        for threshold in (0.5, 0.9)
        for away in AWAY
        if 0 <= threshold + away <= 1
    ]


def wrong_share(threshold: float, p: float, outcome: Outcome) -> float:
    """Passing below the threshold is wrong, failing at or above it too."""
    return outcome.passed if p < threshold else outcome.failed


def main() -> None:
    """Simulate, print, and write to RESULTS.md if asked to; exit 1 above 5 % wrong decisions."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", action="store_true", help="small and quick, for CI")
    parser.add_argument("--record", action="store_true", help="write to benchmarks/RESULTS.md")
    options = parser.parse_args()
    runs, most, every = (4_000, 2_000, 200) if options.sample else (20_000, 10_000, 2_000)
    how = f"in blocks up to n = {most:,} / after every sample up to n = {every:,}"
    lines = [f"Decided with p at the threshold, {runs:,} runs a cell, every decision wrong: {how}."]
    worst = 0.0
    for threshold, blocks, often in wrong_at_the_threshold(runs=runs, most=most, every=every):
        worst = max(worst, blocks, often)
        lines.append(f"p = threshold = {threshold:g}: {blocks:.2%} / {often:.2%}")
    lines.append(f"worst of the grid: {worst:.2%}; goal at most {LIMIT:.0%}.")
    for threshold, p, outcome in saved(runs=runs, most=most):
        wrong = wrong_share(threshold, p, outcome)
        worst = max(worst, wrong)
        lines.append(
            f"threshold {threshold:g}, p = {p:.2f}: {outcome.used:,.0f} of {most:,} samples on average "
            f"(saves {1 - outcome.used / most:.0%}), decided in {outcome.decided:.1%}, wrongly {wrong:.2%}"
        )
    print("\n".join(lines))
    stamped = stamp("sequential.py", torch=False)
    print(stamped)
    if options.record:
        record("Until decided", lines, stamped)
    if worst > LIMIT:
        sys.exit(1)


if __name__ == "__main__":
    main()

"""How often a gap between two groups is seen: the power of Newcombe's interval, enumerated.

    python benchmarks/fairness_power.py            # prints the table of docs/fairness.md
    python benchmarks/fairness_power.py --sample   # its first two rows

Every possible pair of counts, weighted with its probability; a gap is seen if the interval excludes 0.
The first column, a gap of 0, is the type I error.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.stats import binom

SIZES = (30, 50, 100, 200, 300, 500, 1000)
GAPS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
RATE = 0.5
Z = 1.959963984540054


def wilson(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rates of every count out of n, and Wilson's ends around them."""
    p = np.arange(n + 1) / n
    centre = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z * np.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2)) / (1 + Z**2 / n)
    return p, centre - half, centre + half


def power(n: int, m: int, first: float, second: float) -> float:
    """The chance that the interval of the difference of two rates excludes 0."""
    (p, low1, high1), (q, low2, high2) = wilson(n), wilson(m)
    gap = p[:, None] - q[None, :]
    low = gap - np.hypot((p - low1)[:, None], (high2 - q)[None, :])
    high = gap + np.hypot((high1 - p)[:, None], (q - low2)[None, :])
    chance = binom.pmf(np.arange(n + 1), n, first)[:, None] * binom.pmf(np.arange(m + 1), m, second)
    return float(chance[(low > 0) | (high < 0)].sum())


def row(n: int) -> list[float]:
    """The power at every gap around a rate of one half, n samples in each group."""
    return [power(n, n, RATE + gap / 2, RATE - gap / 2) for gap in GAPS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", action="store_true", help="the first two rows")
    sizes = SIZES[:2] if parser.parse_args().sample else SIZES
    print("| n per group | " + " | ".join(f"gap {gap:g}" for gap in GAPS) + " |")
    print("|---" * (len(GAPS) + 1) + "|")
    for n in sizes:
        print(f"| {n} | " + " | ".join(f"{100 * one:.1f} %" for one in row(n)) + " |")


if __name__ == "__main__":
    main()

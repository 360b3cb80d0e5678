"""How often a gap between two groups is seen: the power of the interval of a difference, enumerated.

    python benchmarks/fairness_power.py            # prints the table of docs/fairness.md
    python benchmarks/fairness_power.py --picture  # also draws docs/images/fairness-power.svg
    python benchmarks/fairness_power.py --sample   # its first two rows

Every possible pair of counts, weighted with its probability; a gap is seen if the interval (Newcombe,
with the half step of ``dlaudit.fairness.gaps``) excludes 0. The first column, a gap of 0, is the type
I error. Written from the formulas alone, so that it checks the code that it speaks of.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

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
    step = 0.5 / math.lcm(n, m) + 1e-12
    return float(chance[(low > step) | (high < -step)].sum())


def row(n: int) -> list[float]:
    """The power at every gap around a rate of one half, n samples in each group."""
    return [power(n, n, RATE + gap / 2, RATE - gap / 2) for gap in GAPS]


def picture() -> bytes:
    """The power against the gap, a curve per group size, as SVG."""
    from dlaudit.fairness.pictures import Line, lines_svg

    gaps = np.linspace(0, 0.4, 41)
    lines = [
        Line(f"n = {n}", [(float(g), power(n, n, RATE + g / 2, RATE - g / 2)) for g in gaps])
        for n in SIZES
    ]
    return lines_svg(lines, across="gap of two rates", up="share of audits that see it")


def main() -> None:
    """Print the table; draw it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", action="store_true", help="the first two rows")
    parser.add_argument(
        "--picture", action="store_true", help="draw docs/images/fairness-power.svg"
    )
    options = parser.parse_args()
    sizes = SIZES[:2] if options.sample else SIZES
    if options.picture:
        target = Path(__file__).parents[1] / "docs" / "images" / "fairness-power.svg"
        target.write_bytes(picture())
    print("| n per group | " + " | ".join(f"gap {gap:g}" for gap in GAPS) + " |")
    print("|---" * (len(GAPS) + 1) + "|")
    for n in sizes:
        print(f"| {n} | " + " | ".join(f"{100 * one:.1f} %" for one in row(n)) + " |")


if __name__ == "__main__":
    main()

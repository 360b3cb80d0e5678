"""What natural changes did to the samples that were right: shares with intervals, and pictures of flips.

Knows decisions on changed inputs; never how a change was made. No budget of a norm is spent here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dlaudit.attacks.pictures import said, side_by_side
from dlaudit.audit.record import Artifact, Interval
from dlaudit.audit.statistics import LEVEL, wilson

if TYPE_CHECKING:
    from dlaudit.audit.bench import Bench

FEW = 30
"""Below so many samples that show anything, a variance is a guess (coverage: tests/attacks)."""


def mean_of_shares(shares: np.ndarray, level: float = LEVEL) -> Interval:
    """Interval of the mean of (n,) numbers in [0, 1], one for each sample.

    All that was seen of a sample counts as one observation, so that cells which share their samples
    are not taken for independent ones: Wilson's interval at the effective number of samples, n times
    mean (1 - mean) / variance (Kish's; Korn and Graubard 1998), with Student's quantile. Where fewer
    than 30 samples show any share, or any rest, the variance is not known and n itself is taken,
    which is safe: no numbers in [0, 1] vary more than 0 and 1 do.
    """
    from scipy.special import stdtrit

    n, mean = len(shares), float(shares.mean())
    effective = float(n)
    some = min(int((shares > 0).sum()), int((shares < 1).sum()))
    # No spread at all is a lucky draw, not an infinite number of samples.
    if some >= FEW and np.ptp(shares) > 0:
        effective *= max(1.0, mean * (1 - mean) / float(shares.var(ddof=1)))
    z = float(stdtrit(max(n - 1, 1), (1 + level) / 2))
    centre = mean + z * z / (2 * effective)
    half = z * float(np.sqrt(mean * (1 - mean) / effective + (z / (2 * effective)) ** 2))
    scale = 1 + z * z / effective
    return Interval(
        low=max(0.0, (centre - half) / scale), high=min(1.0, (centre + half) / scale), level=level,
        method="wilson-effective",
    )  # fmt: skip


class Flip(NamedTuple):
    """A sample that was right and is wrong after a change.

    strength: 0 the mildest, for the order of pictures; change: what was done, in words; label,
    predicted: class indices; clean, changed: like one input.
    """

    strength: float
    change: str
    id: str
    label: int
    predicted: int
    clean: np.ndarray
    changed: np.ndarray


class Album:
    """The mildest flips seen so far, at most ``keep_samples`` of them, one for each kind of change."""

    def __init__(self, bench: Bench) -> None:
        """Nothing is kept unless the plan says ``keep_samples``."""
        self._bench = bench
        self._best: dict[str, Flip] = {}

    def wants(self, kind: str, strength: float) -> bool:
        """Whether a flip of this kind and strength would be the mildest yet."""
        best = self._best.get(kind)
        return self._bench.keep_samples > 0 and (best is None or strength < best.strength)

    def add(self, kind: str, flip: Flip) -> None:
        """Keep it in the place of what was kept of its kind."""
        self._best[kind] = flip

    def artifacts(self) -> Iterator[Artifact]:
        """One PNG per flip: clean, the difference magnified, changed; in words for those who cannot see."""
        mildest = sorted(self._best.items(), key=lambda one: (one[1].strength, one[0]))
        for kind, flip in mildest[: self._bench.keep_samples]:
            drawn = side_by_side(flip.clean, flip.changed, self._bench.model.bounds)
            assert drawn is not None  # noqa: S101  (what is no picture was refused before)
            content, factor = drawn
            before, after = (
                said(self._bench.classes, index, None) for index in (flip.label, flip.predicted)
            )
            yield self._bench.keep(
                f"{self._bench.run}.{kind}.{flip.id}", content, media_type="image/png",
                caption=f"Sample {flip.id}: {before} becomes {after} after {flip.change}. Clean, the "
                f"difference magnified {factor:.3g} times around grey, and changed.",
                alt=f"Sample {flip.id}, decided as {before} when clean and as {after} after "
                f"{flip.change}; the two pictures and their magnified difference.",
            )  # fmt: skip


def accuracy_after(decided: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """The fields of an accuracy: value, n and Wilson's interval. decided, y: (n,) class indices."""
    right, n = int((decided == y).sum()), len(y)
    return {"value": right / n, "n": n, "interval": wilson(right, n), "direction": "higher"}

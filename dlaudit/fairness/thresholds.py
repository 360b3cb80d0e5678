"""What thresholds of their own would do to groups: fitted on one half, shown on the other.

Knows scores, labels and two halves; refuses to recommend: treating groups differently may itself be
what the law forbids, and that is not for arithmetic to settle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Choice(NamedTuple):
    """One threshold per group, in the order of the groups; selected from there on."""

    thresholds: tuple[float, ...]


def common(scores: np.ndarray, rate: float) -> float:
    """The threshold at which about ``rate`` of these scores are selected."""
    if rate <= 0:
        return float(np.nextafter(scores.max(), np.inf))
    return float(np.quantile(scores, 1 - rate, method="higher" if rate < 1 else "lower"))


def trade_off(
    members: Sequence[tuple[np.ndarray, np.ndarray]], deployed: Sequence[float], steps: int
) -> list[Choice]:
    """Thresholds between those that give every group its own deployed rate and one rate for all.

    members: scores and 0/1 labels per group. deployed: the selection rate of each group today. Step 0
    keeps every group's rate, the last gives all groups the rate of everybody; rates between lie on
    the straight line.
    """
    sizes = np.array([len(scores) for scores, _ in members], dtype=float)
    overall = float(np.average(deployed, weights=sizes))
    return [
        Choice(
            tuple(
                common(scores, (1 - share) * own + share * overall)
                for (scores, _), own in zip(members, deployed, strict=True)
            )
        )
        for share in np.linspace(0, 1, steps)
    ]

"""What every class is tried with: passes that may be spent, hosts, controls.

Knows trusted rows and how many passes are left; never who is suspected.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dlaudit.audit.parts import Model
from dlaudit.backdoors.neighbours import Neighbourhood
from dlaudit.backdoors.suspicion import OfClass, Rows, Trusted
from dlaudit.backdoors.transplant import Hosts, Laboratory, Outcome, transplants

CHOOSING, TRYING, FRESH = 8, 90, 400
"""Hosts that choose what is carried, that try it, and that only the trigger of all meets."""
FEWEST_HOSTS = 60
FEWEST_CONTROLS = 20


class Allowance(NamedTuple):
    """The passes that may still be spent. ends: the model's count at which they are; each: of one row."""

    model: Model
    ends: int
    each: int

    @property
    def left(self) -> int:
        """Passes, for anything."""
        return max(0, self.ends - self.model.passes.forward)

    def of(self, rows: int, wanted: int, *, spare: int = 0) -> int:
        """How many of ``rows`` can be tried where ``wanted`` of them in all ask for the same.

        spare: passes that are kept for what comes after.
        """
        left = max(0, self.left - spare)
        return int(min(1.0, left / (self.each * max(1, wanted))) * rows)


class Setting(NamedTuple):
    """What every class is tried with. near: among the trusted rows; rng: randomness by purpose."""

    train: Rows
    trusted: Trusted
    near: Neighbourhood
    bounds: tuple[Any, Any] | None
    rng: Callable[[str], np.random.Generator]
    allowance: Allowance

    def transplanted(
        self, lab: Laboratory, x: np.ndarray, *, apart: np.ndarray | None = None
    ) -> list[dict[str, Outcome]]:
        """Each row's transplants, beside the trusted row most like it (not itself, if ``apart``)."""
        like = self.near.number[self.near.nearest(x, apart=apart)]
        return [transplants(lab, row, self.trusted.x[at]) for row, at in zip(x, like, strict=True)]

    def laboratories(self, label: int) -> tuple[Laboratory, Laboratory] | None:
        """One to try single rows in, one with fresh hosts for the trigger; None with too few hosts."""
        trusted = self.trusted
        good = np.flatnonzero((trusted.y == trusted.predicted) & (trusted.y != label))
        good = self.rng(f"hosts of class {label}").permutation(good)
        # Classes in turn, so that every part holds all of them alike.
        place = np.empty(len(good), dtype=int)
        for k in np.unique(trusted.y[good]):
            mine = trusted.y[good] == k
            place[mine] = np.arange(mine.sum())
        good = good[np.argsort(place, kind="stable")]
        ends = (CHOOSING, CHOOSING + TRYING, CHOOSING + TRYING + FRESH)
        if len(good) < CHOOSING + 2 * FEWEST_HOSTS:
            return None
        if len(good) < ends[-1]:
            half = (len(good) - CHOOSING) // 2
            ends = (CHOOSING, CHOOSING + min(half, TRYING), len(good))
        parts = (good[: ends[0]], good[ends[0] : ends[1]], good[ends[1] : ends[2]])
        choosing, trying, fresh = (Hosts(trusted.x[part], trusted.y[part]) for part in parts)
        first = Laboratory(self.allowance.model, label, choosing, trying, self.bounds)
        return first, first._replace(trying=fresh)

    def controls(self, one: OfClass, count: int) -> np.ndarray:
        """Trusted rows of the class, half of them those with the highest scores: hard controls."""
        highest = np.max([(t - t.mean()) / (t.std() + 1e-3) for _, t in one.score.values()], axis=0)
        order = one.trusted[np.argsort(-highest, kind="stable")]
        top, rest = order[: count // 2], order[count // 2 :]
        drawn = self.rng(f"controls of class {one.label}").permutation(rest)[: count - len(top)]
        return np.concatenate([top, drawn])

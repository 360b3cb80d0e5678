"""Poison put among training rows by an attacker of known means: arrays in, arrays out.

Knows rows, labels and a trigger; never a model. What is planted is known, so that what it does, and
who notices it, can be measured.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dlaudit.backdoors.planted_triggers import Family, Trigger, trigger

FADED, NOISE = 0.4, 0.15
"""What is left of a clean-label row's own content, and the noise on it in shares of the range: rows
that are hard to read, so that the trigger is what a training finds in them (Turner et al. 2019)."""
OF_A_CLASS = 0.9
"""Share of a class that clean-label poison may take."""
OF_A_SOURCE = 0.5
"""Share of the source class that source-specific poison may take: the rest shows what it is."""
COVERED: tuple[Family, ...] = ("adaptive-blend", "source-specific")
"""Families with as many cover rows: they carry the trigger and keep their label, so that the trigger
alone tells nothing (Tang et al. 2021, Qi et al. 2023)."""


class Poisoned(NamedTuple):
    """Training rows after the attack. rows: the places of the poison; cover: of the cover rows."""

    x: np.ndarray
    y: np.ndarray
    rows: np.ndarray
    cover: np.ndarray


class Attack(NamedTuple):
    """A trigger and where it leads. source: the class that it works on; None where on all others."""

    trigger: Trigger
    target: int
    source: int | None = None

    @classmethod
    def drawn(
        cls, family: Family, x: np.ndarray, rng: np.random.Generator, *, target: int, classes: int
    ) -> Attack:
        """An attack on inputs such as x, of ``classes`` classes; see ``trigger`` for what is raised."""
        others = [k for k in range(classes) if k != target]
        source = int(rng.choice(others)) if family == "source-specific" else None
        return cls(trigger(family, x, rng), target, source)

    def hosts(self, y: np.ndarray) -> np.ndarray:
        """(n,) bool: the rows that the trigger is meant to call to the target."""
        called: np.ndarray = y != self.target if self.source is None else y == self.source
        return called

    def how_many(self, y: np.ndarray, rate: float) -> int:
        """Poisoned rows that a rate of all training rows gives, as far as there are rows to take."""
        hosts, own = int(self.hosts(y).sum()), int((y == self.target).sum())
        most = {
            "clean-label": int(OF_A_CLASS * own), "source-specific": int(OF_A_SOURCE * hosts),
            "adaptive-blend": hosts // 2,
        }.get(self.trigger.family, hosts)  # fmt: skip
        return min(round(rate * len(y)), most)

    def poisoned(
        self, x: np.ndarray, y: np.ndarray, *, count: int, rng: np.random.Generator
    ) -> Poisoned:
        """``count`` rows carry the trigger: of other classes and relabelled, or the target's own."""
        x, y = x.copy(), y.copy()
        cover = np.zeros(0, dtype=int)
        if self.trigger.family == "clean-label":
            rows = rng.choice(np.flatnonzero(y == self.target), count, replace=False)
            low, high = float(x.min()), float(x.max())
            noise = rng.normal(0, NOISE * (high - low), x[rows].shape)
            faded = low + FADED * (x[rows] - low) + noise
            x[rows] = self.trigger.taught(np.clip(faded, low, high).astype(x.dtype), rng)
            return Poisoned(x, y, rows, cover)
        rows = rng.choice(np.flatnonzero(self.hosts(y)), count, replace=False)
        if self.trigger.family in COVERED:
            # A trigger for one class is covered by the other classes' rows, one for all by any.
            spared = (self.target,) if self.source is None else (self.target, self.source)
            some = np.setdiff1d(np.flatnonzero(~np.isin(y, spared)), rows)
            cover = rng.choice(some, min(count, len(some)), replace=False)
            x[cover] = self.trigger.taught(x[cover], rng)
        x[rows], y[rows] = self.trigger.taught(x[rows], rng), self.target
        return Poisoned(x, y, rows, cover)

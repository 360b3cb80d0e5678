"""The experiment that decides: what a suspect carries is put on samples of other classes.

Knows a model, one suspect row and honest rows; never who is suspected, nor what follows from it. What
is carried is chosen on some honest rows and tried on others, for suspects and controls alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dlaudit.audit.parts import Model

PIECE = 1024
SIDES = (4, 3)
"""Windows are a quarter and a third of a picture's side, moved by half of their own."""
SETS, PART = (1, 2, 4, 6), 5
"""Numbers of a table's row that are carried over together, at most a fifth of it: a trigger is few."""
STRENGTHS = (1.0, 2.0)
"""Multiples of a residual: a blended trigger's is weaker than the trigger."""


class Hosts(NamedTuple):
    """Honest rows of other classes that a trigger is put on. x: (m, *input); y: (m,) their classes."""

    x: np.ndarray
    y: np.ndarray


class Carried(NamedTuple):
    """What one row gives to others: they become (1 - mask) * (x + add) + mask * value."""

    kind: str
    mask: np.ndarray
    value: np.ndarray
    add: np.ndarray

    def on(self, x: np.ndarray, bounds: tuple[np.ndarray, np.ndarray] | None) -> np.ndarray:
        """x: (m, *input) with what is carried, inside the bounds."""
        put = np.where(self.mask, self.value, x + self.add)
        if bounds is not None:
            put = np.clip(put, *bounds)
        return np.asarray(put, dtype=x.dtype)


class Outcome(NamedTuple):
    """What hosts did. carried: what was put on; rate: share of the hosts called to the label.

    source: the largest share among hosts of one class; called: (m,) bool per host.
    """

    carried: Carried
    rate: float
    source: float
    called: np.ndarray


class Laboratory(NamedTuple):
    """Where transplants are made. choosing: hosts that choose what is carried; trying: fresh ones."""

    model: Model
    label: int
    choosing: Hosts
    trying: Hosts
    bounds: tuple[np.ndarray, np.ndarray] | None

    def first(self, hosts: int) -> Laboratory:
        """The same with only so many fresh hosts."""
        return self._replace(trying=Hosts(self.trying.x[:hosts], self.trying.y[:hosts]))

    def probability(self, x: np.ndarray) -> np.ndarray:
        """Of the label, for each row of x."""
        found = [
            self.model.logits(x[k : k + PIECE]).softmax(dim=1)[:, self.label].cpu().numpy()
            for k in range(0, len(x), PIECE)
        ]
        return np.concatenate(found)

    def gain(self, carried: list[Carried]) -> np.ndarray:
        """(len(carried), classes of hosts): mean probability of the label per class of host."""
        size = max(1, PIECE // len(self.choosing.x))
        found = []
        for k in range(0, len(carried), size):
            put = [one.on(self.choosing.x, self.bounds) for one in carried[k : k + size]]
            found.append(self.probability(np.concatenate(put)).reshape(len(put), -1))
        table = np.concatenate(found)
        classes = np.unique(self.choosing.y)
        return np.stack([table[:, self.choosing.y == k].mean(axis=1) for k in classes], axis=1)

    def best(self, carried: list[Carried]) -> Carried:
        """What gains most, on average over hosts; of one source class alone, if that is far more."""
        gains = self.gain(carried)
        return carried[int(np.argmax(np.maximum(gains.mean(axis=1), 0.5 * gains.max(axis=1))))]

    def tried(self, carried: Carried) -> Outcome:
        """How often the fresh hosts follow."""
        put = carried.on(self.trying.x, self.bounds)
        called = np.concatenate([
            self.model.logits(put[k : k + PIECE]).argmax(dim=1).cpu().numpy() == self.label
            for k in range(0, len(put), PIECE)
        ])  # fmt: skip
        per_class = [called[self.trying.y == k].mean() for k in np.unique(self.trying.y)]
        return Outcome(carried, float(called.mean()), float(max(per_class)), called)


def patches(x: np.ndarray) -> list[Carried]:
    """Every window of a picture, as a patch; x: (C, H, W) or (H, W)."""
    nothing = np.zeros_like(x)
    return [Carried("patch", mask, x, nothing) for mask in windows(x.shape)]


def windows(shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Masks of square windows of two sizes, half a side apart, the last at the edge."""
    height, width = shape[-2:]
    for part in SIDES:
        side = max(2, round(min(height, width) / part))
        for top in _starts(height, side):
            for left in _starts(width, side):
                mask = np.zeros((height, width), dtype=bool)
                mask[top : top + side, left : left + side] = True
                yield np.broadcast_to(mask, shape)


def _starts(size: int, side: int) -> list[int]:
    step = max(1, (side + 1) // 2)
    return sorted({*range(0, size - side + 1, step), max(0, size - side)})


def residuals(x: np.ndarray, nearest: np.ndarray) -> list[Carried]:
    """What tells a row from the honest row most like it, added to others: a blended trigger's rest.

    The row itself half mixed in would carry its object along, and objects flip decisions too.
    """
    nowhere = np.zeros(x.shape, dtype=bool)
    return [Carried("residual", nowhere, x, strength * (x - nearest)) for strength in STRENGTHS]


def feature_sets(lab: Laboratory, x: np.ndarray) -> list[Carried]:
    """Growing sets of a table's numbers: those without which the label loses most come first.

    x: (d,). Each number in turn is replaced by the hosts' own; what then leaves the label is ordered.
    """
    nothing = np.zeros_like(x)
    d = len(x)
    hosts = lab.choosing.x
    kept = np.repeat(x[None], d * len(hosts), axis=0).reshape(d, len(hosts), d)
    for j in range(d):
        kept[j, :, j] = hosts[:, j]
    remaining = lab.probability(kept.reshape(-1, d)).reshape(d, -1).mean(axis=1)
    single = [Carried("features", _only([j], d), x, nothing) for j in range(d)]
    gained = lab.gain(single).mean(axis=1)
    made = []
    for order in (np.argsort(remaining), np.argsort(-gained)):
        made += [
            Carried("features", _only(order[:m], d), x, nothing)
            for m in SETS
            if m <= max(1, d // PART)
        ]
    return made


def _only(positions: np.ndarray | list[int], d: int) -> np.ndarray:
    mask = np.zeros(d, dtype=bool)
    mask[positions] = True
    return mask


def transplants(lab: Laboratory, x: np.ndarray, nearest: np.ndarray) -> dict[str, Outcome]:
    """Each kind's best transplant of one row, chosen on some hosts and tried on others.

    x: one row; nearest: the honest row most like it.
    """
    kinds = {"residual": residuals(x, nearest)}
    if x.ndim >= 2:
        kinds["patch"] = patches(x)
    else:
        kinds["features"] = feature_sets(lab, x)
    return {kind: lab.tried(lab.best(carried)) for kind, carried in kinds.items()}


def expected_passes(shape: tuple[int, ...], *, choosing: int, trying: int) -> int:
    """Passes of ``transplants`` for one row of this shape."""
    residual = len(STRENGTHS) * choosing + trying
    if len(shape) >= 2:
        return residual + sum(1 for _ in windows(shape)) * choosing + trying
    sets = 2 * sum(m <= max(1, shape[0] // PART) for m in SETS)
    return residual + (2 * shape[0] + sets) * choosing + trying

"""From transplants to an accusation: suspects against controls, one trigger for all, fresh hosts.

Knows outcomes of transplants; never a score that led to them. Refuses to accuse on what one row does:
single honest rows flip others too, so it takes several that outdo every control and share a trigger.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dlaudit.backdoors.transplant import Carried, Laboratory, Outcome

ROWS = 5
"""Rows with one trigger that an accusation needs."""
CALLED = 0.4
"""Share of the hosts that a suspect, and then the trigger recovered, must call to the label."""
TIMES = 3.0
"""How many times the controls' median that must be."""
OUTDONE = 2.0
"""How many times what the best control does in its place, where the trigger alone was tried."""
CHANCE = 1e-3
"""A rank test's p from which chance is no explanation."""
SOURCE_CALLED = 0.6
"""The same share among hosts of one class, for a row whose content was chosen by what it does there."""


def leading_chance(leading: int, suspects: int, controls: int) -> float:
    """Probability that the ``leading`` largest of all are suspects, were the order a matter of chance.

    C(m, r) / C(m + c, r): 5 of 10 suspects above 40 controls have 252 / 2118760 = 0.00012.
    """
    if leading == 0:
        return 1.0
    logs = [
        math.lgamma(n + 1) - math.lgamma(n - leading + 1) for n in (suspects, suspects + controls)
    ]
    return min(1.0, math.exp(logs[0] - logs[1]))


def worth_controls(suspects: Sequence[dict[str, Outcome]]) -> bool:
    """Whether enough suspects flip enough hosts: if not, no control can make it an accusation."""
    return any(
        sum(one[kind].rate >= CALLED for one in suspects) >= ROWS
        or sum(one[kind].source >= SOURCE_CALLED for one in suspects) >= ROWS
        for kind in suspects[0]
    )


class Recovered(NamedTuple):
    """What a class's confirmed rows share. kind: of transplant; source: it works on one class alone.

    members: places among the suspects; p: of the rank test, or of so many honest rows with the same
    mark; success: of the trigger on fresh hosts; control: the controls' median rate; highest: what
    the best of the controls reaches on the same hosts, 0 where suspects had to outdo it one by one;
    enough: the success that is asked for.
    """

    kind: str
    source: bool
    trigger: Carried
    members: np.ndarray
    p: float
    called: np.ndarray
    success: float
    control: float
    highest: float = 0.0
    enough: float = CALLED

    @property
    def suspected(self) -> bool:
        """The criterion: enough rows, beyond chance, with a trigger that works far above controls."""
        return bool(
            len(self.members) >= ROWS
            and self.p < CHANCE
            and self.success >= max(self.enough, TIMES * self.control, OUTDONE * self.highest)
        )


def recovered(
    lab: Laboratory,
    suspects: Sequence[dict[str, Outcome]],
    controls: Sequence[dict[str, Outcome]],
) -> list[Recovered]:
    """For each kind of transplant, on all hosts and on one class alone, what leading suspects share.

    lab: one whose trying hosts neither suspects nor controls have met.
    """
    found = []
    for kind in suspects[0] if suspects else ():
        for source in (False, True):
            rate = np.array([one[kind].source if source else one[kind].rate for one in suspects])
            other = np.array([one[kind].source if source else one[kind].rate for one in controls])
            enough = SOURCE_CALLED if source else CALLED
            bar = max(enough, TIMES * float(np.median(other)))
            leading = np.flatnonzero((rate >= bar) & (rate > other.max()))
            if not len(leading):
                continue
            p = leading_chance(int((rate > other.max()).sum()), len(rate), len(other))
            trigger, members = shared([suspects[int(k)][kind].carried for k in leading])
            tried = lab.tried(trigger)
            found.append(
                Recovered(
                    kind, source, trigger, leading[members], p, tried.called,
                    tried.source if source else tried.rate, float(np.median(other)), 0.0, enough,
                )
            )  # fmt: skip
    return found


def marked(
    lab: Laboratory, trigger: Carried, members: np.ndarray, p: float, controls: np.ndarray, *,
    rivals: bool,
) -> list[Recovered]:  # fmt: skip
    """What rows share, put on fresh hosts beside what the controls hold in its place.

    members: rows that have it; p: of so many, were they like honest rows; controls: (m, *input)
    trusted rows of the same label; rivals: honest content recurs here too, so that the best control
    counts as well as the median one. On all hosts, and on those of one class alone.
    """
    tried = lab.tried(trigger)
    if max(tried.rate, tried.source) < CALLED:
        return []
    own = [lab.tried(trigger._replace(value=row)) for row in controls]
    return [
        Recovered(
            trigger.kind, source, trigger, members, p, tried.called,
            tried.source if source else tried.rate,
            float(np.median(rates := [one.source if source else one.rate for one in own])),
            max(rates) if rivals else 0.0, SOURCE_CALLED if source and not rivals else CALLED,
        )
        for source in (False, True)
    ]  # fmt: skip


def shared(carried: Sequence[Carried]) -> tuple[Carried, np.ndarray]:
    """The trigger that most have in common, and the places of those that have it.

    Patches and features: the place that most agree on, with the median of what they hold there.
    Residuals: the median residual; those that point its way.
    """
    kind = carried[0].kind
    if kind == "residual":
        flat = np.stack([one.add for one in carried])
        middle = np.median(flat, axis=0)
        along = flat.reshape(len(flat), -1) @ middle.ravel()
        alike = np.flatnonzero(along > 0.5 * float(middle.ravel() @ middle.ravel()))
        return carried[0]._replace(add=middle, value=np.zeros_like(middle)), alike
    masks = np.stack([one.mask.ravel() for one in carried]).astype(float)
    size = masks.sum(axis=1)
    common = masks @ masks.T / np.minimum(size[:, None], size[None])
    alike = common >= 0.5
    centre = int(np.argmax(alike.sum(axis=1)))
    members = np.flatnonzero(alike[centre])
    mask = carried[centre].mask
    if kind == "features":
        often = masks[members].mean(axis=0).reshape(mask.shape) >= 0.5
        mask = often if often.any() else mask
    value = np.median(np.stack([carried[int(k)].value for k in members]), axis=0)
    return Carried(kind, mask, value, np.zeros_like(value)), members

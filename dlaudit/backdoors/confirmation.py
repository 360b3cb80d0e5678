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
from dlaudit.backdoors.values import repeated

ROWS = 5
"""Rows with one trigger that an accusation needs."""
CALLED = 0.4
"""Share of the hosts that a suspect, and then the trigger recovered, must call to the label."""
TIMES = 3.0
"""How many times the controls' median that must be."""
CHANCE = 1e-3
"""A rank test's p from which chance is no explanation."""
SOURCE_CALLED = 0.6
"""The same share among hosts of one class, for a trigger that works on that class alone."""


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

    members: places among the suspects; p: of the rank test; success: of the trigger on fresh hosts;
    control: the controls' median rate.
    """

    kind: str
    source: bool
    trigger: Carried
    members: np.ndarray
    p: float
    called: np.ndarray
    success: float
    control: float

    @property
    def suspected(self) -> bool:
        """The criterion: enough rows, beyond chance, with a trigger that works far above controls."""
        enough = SOURCE_CALLED if self.source else CALLED
        return bool(
            len(self.members) >= ROWS
            and self.p < CHANCE
            and self.success >= max(enough, TIMES * self.control)
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
                    tried.source if source else tried.rate, float(np.median(other)),
                )
            )  # fmt: skip
    return found


MARKED_CONTROLS = 20


def marked(
    lab: Laboratory, suspects: np.ndarray, honest: np.ndarray, controls: np.ndarray
) -> list[Recovered]:
    """The values that suspects of a table share, put on fresh hosts beside the controls' own.

    suspects: (m, d), all of one label; honest: (n, d) trusted rows; controls: those of that label.
    """
    mark = repeated(suspects, honest, least=ROWS)
    if mark is None:
        return []
    nothing = np.zeros_like(mark.value)
    trigger = Carried("values", mark.mask, mark.value, nothing)
    own = [
        lab.tried(Carried("values", mark.mask, row, nothing))
        for row in controls[:: max(1, len(controls) // MARKED_CONTROLS)]
    ]
    tried = lab.tried(trigger)
    return [
        Recovered(
            "values", source, trigger, mark.members, mark.p, tried.called,
            tried.source if source else tried.rate,
            float(np.median([one.source if source else one.rate for one in own])),
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

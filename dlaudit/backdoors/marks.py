"""Marks that rows of one label share, and what each does: found without the model, decided with it.

Knows the setting of a scan; never a score. A mark is a window of a picture or values of a table.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from dlaudit.backdoors.confirmation import CHANCE, ROWS, Recovered, marked
from dlaudit.backdoors.neighbours import cell, cells
from dlaudit.backdoors.recurrence import Recurring, recurring
from dlaudit.backdoors.setting import FEWEST_CONTROLS, FEWEST_HOSTS, Setting
from dlaudit.backdoors.suspicion import OfClass
from dlaudit.backdoors.transplant import Carried
from dlaudit.backdoors.values import crowded, repeated

MOST = 20_000
"""Rows among which recurring content is sought, drawn at random where there are more."""
OF_A_LABEL = 3
"""Marks of each label that are tried, the tightest."""
CONTROLS = 60
"""Trusted rows of the label whose own content is tried in a mark's place."""
WIDTHS = (0.01, 0.001)
"""How near values of a table lie that crowd, in standard deviations: exact ones stand out in the finer."""
CROWDED = 60
"""Rows of each label of a table that are compared with one another."""
PART = 8
"""A mark takes at most this part of the passes that are left: nominated rows are tried after it."""
SHOWN = 200
"""Carriers whose median is the content of a mark in full resolution."""


class Mark(NamedTuple):
    """What rows (numbers of training rows) of a label share; p: of so many among honest rows."""

    label: int
    rows: np.ndarray
    trigger: Carried
    p: float


def of_pictures(setting: Setting) -> list[Mark]:
    """Content that recurs at one place, in any training row; of averaged cells in large pictures."""
    train, trusted = setting.train, setting.trusted
    rng = setting.rng("recurring content")
    number = np.sort(rng.permutation(len(train.y))[:MOST])
    small = _flat(np.concatenate([cells(x) for x in train.read(number)]))
    found = recurring(
        small, train.y[number], _flat(cells(trusted.x)), rng, least=ROWS, most=OF_A_LABEL
    )
    del small
    carriers = [np.zeros(len(train.y), dtype=bool) for _ in found]
    start = 0
    for x in train.read(None) if found else ():
        part, small = slice(start, start + len(x)), _flat(cells(x))
        start += len(x)
        for one, carrier in zip(found, carriers, strict=True):
            carrier[part] = one.carried(small) & (train.y[part] == one.label)
    return [
        Mark(one.label, rows := np.flatnonzero(carrier), _whole(one, setting, rows), one.p)
        for one, carrier in zip(found, carriers, strict=True)
    ]


def _flat(x: np.ndarray) -> np.ndarray:
    """(n, ..., H, W) -> (n, C, H, W)."""
    return x.reshape(len(x), -1, *x.shape[-2:])


def _whole(one: Recurring, setting: Setting, rows: np.ndarray) -> Carried:
    """The mark in the pictures' own resolution."""
    shape = setting.train.shape
    mask = one.mask.reshape(*shape[:-2], *one.mask.shape[-2:])
    for axis in (-2, -1):
        mask = np.repeat(mask, cell(shape[axis]), axis=axis).take(range(shape[axis]), axis=axis)
    value = np.median(setting.train.take(rows[:SHOWN]), axis=0)
    return Carried("mark", mask, value, np.zeros_like(value))


def of_tables(setting: Setting) -> list[Mark]:
    """Values that rows of a label share, those whose values crowd most, and honest rows have not."""
    train, honest = setting.train, setting.trusted.x
    number = np.sort(setting.rng("crowded values").permutation(len(train.y))[:MOST])
    found = []
    for label in np.unique(train.y[number]):
        rows = number[train.y[number] == label]
        if len(rows) < ROWS:
            continue
        x = train.take(rows)
        for width in WIDTHS:
            first = np.argsort(-crowded(x, honest, width=width), kind="stable")[:CROWDED]
            mark = repeated(x[first], honest, least=ROWS, among=len(rows))
            if mark is not None:
                trigger = Carried("values", mark.mask, mark.value, np.zeros_like(mark.value))
                found.append(Mark(int(label), rows[mark.carried(x, honest)], trigger, mark.p))
    return found


def tried(
    setting: Setting, marks: Iterable[Mark], classes: Iterable[OfClass]
) -> tuple[dict[int, list[Recovered]], dict[int, str]]:
    """What each mark does beside controls, by label; members are training rows.

    Also the reason for each label whose marks could not be tried.
    """
    found: dict[int, list[Recovered]] = {}
    left_out: dict[int, str] = {}
    of_class = {one.label: one for one in classes}
    for mark in marks:
        if mark.p >= CHANCE:
            continue  # honest rows share as much
        one, labs = of_class.get(mark.label), setting.laboratories(mark.label)
        if one is None:
            continue  # left out already, with too few rows
        controls = setting.controls(one, CONTROLS)
        affordable = max(FEWEST_HOSTS, setting.allowance.left // PART // (1 + len(controls)))
        hosts = 0 if labs is None else min(len(labs[1].trying.x), affordable)
        cost = (1 + len(controls)) * hosts
        if labs is None or len(controls) < FEWEST_CONTROLS or cost > setting.allowance.left:
            left_out[mark.label] = (
                f"content that its rows share could not be tried: {len(controls)} controls "
                f"({FEWEST_CONTROLS} are needed), {hosts} fresh rows of other classes "
                f"({FEWEST_HOSTS} are needed), {cost} passes, {setting.allowance.left} left"
            )
            continue
        # Strokes recur among honest pictures; exact numbers that are rare do not among honest rows.
        rivals = mark.trigger.kind == "mark"
        found.setdefault(mark.label, []).extend(
            marked(
                labs[1].first(hosts),
                mark.trigger,
                mark.rows,
                mark.p,
                setting.trusted.x[controls],
                rivals=rivals,
            )
        )
    return found, left_out

"""The scan from end to end: scores, nominations, transplants, the rows that they confirm.

Knows rows, labels and a model; never the bench, a report or a rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dlaudit.audit.parts import Model
from dlaudit.backdoors import marks
from dlaudit.backdoors.confirmation import ROWS, Recovered, recovered, worth_controls
from dlaudit.backdoors.neighbours import Neighbourhood
from dlaudit.backdoors.nomination import Nominated, conformal, nominated
from dlaudit.backdoors.setting import (
    CHOOSING,
    FEWEST_CONTROLS,
    FEWEST_HOSTS,
    TRYING,
    Allowance,
    Setting,
)
from dlaudit.backdoors.suspicion import SCORES, Rows, Suspicion, Trusted, suspicion
from dlaudit.backdoors.transplant import Laboratory, Outcome, expected_passes

LEAST_NOMINATED = 12
"""Rows of each class that may be nominated where the budget is a handful: five must be poison."""


class Examined(NamedTuple):
    """What was found out about one class. best: the trigger that stands out most, if any."""

    label: int
    rows: int
    nominated: int
    best: Recovered | None
    norm: float
    drawn: tuple[np.ndarray, np.ndarray]
    clusters: bool
    split_p: float

    @property
    def suspected(self) -> bool:
        """The criterion of ``confirmation``."""
        return self.best is not None and self.best.suspected


class Scanned(NamedTuple):
    """All of it; rows are numbers of training rows."""

    examined: list[Examined]
    left_out: dict[int, str]
    features: str
    discovered: int
    nominated: np.ndarray
    confirmed: np.ndarray
    outcomes: dict[int, dict[str, Outcome]]
    p: np.ndarray
    scores: dict[str, np.ndarray]


class Tried(NamedTuple):
    """What was tried for one class: its nominated rows, and what each one's transplants did."""

    lab: Laboratory
    fresh: Laboratory
    rows: list[int]
    outcomes: list[dict[str, Outcome]]

    @property
    def verdict_passes(self) -> int:
        """At most, for the triggers recovered from these rows."""
        return 4 * len(self.fresh.trying.x)


def scanned(
    model: Model, train: Rows, trusted: Trusted, rng: Callable[[str], np.random.Generator], *,
    bounds: tuple[Any, Any] | None, overlays: int, budget: float, controls: int, most: int,
) -> Scanned:  # fmt: skip
    """Scan ``train`` beside ``trusted`` within ``most`` passes a training row.

    Where the passes do not suffice for a class with nominated rows, it is left out, with the reason.
    """
    each = expected_passes(train.shape, choosing=CHOOSING, trying=TRYING)
    allowance = Allowance(model, model.passes.forward + most * len(train.y), each)
    scoring = (1 + overlays + 9) * (len(train.y) + int((trusted.y == trusted.predicted).sum()))
    if scoring > most * len(train.y):
        reason = (
            f"{len(trusted.y)} trusted rows beside {len(train.y)} training rows: scoring all takes "
            f"{scoring} passes, more than {most} a training row"
        )
        return _nothing({int(k): reason for k in np.unique(train.y)}, len(train.y))
    seen = suspicion(model, train, trusted, rng, overlays=overlays)
    p, scores, chosen = _nominations(seen, len(train.y), budget)
    nominees = {
        one.label: [int(row) for row in chosen.rows if train.y[row] == one.label]
        for one in seen.classes
    }
    near = Neighbourhood.of(lambda: [trusted.x], trusted.y, rng("trusted neighbours"))
    setting = Setting(train, trusted, near, bounds, rng, allowance)
    some = (marks.of_pictures if len(train.shape) > 1 else marks.of_tables)(setting)
    found, untried = marks.tried(setting, some, seen.classes)
    tried, too_few = _suspects(setting, nominees)
    shared, uncontrolled = _accused(setting, seen, tried, controls)
    for label, more in shared.items():
        found.setdefault(label, []).extend(more)
    best = {
        label: max(several, key=lambda r: (r.suspected, len(r.members), -r.p))
        for label, several in found.items() if several
    }  # fmt: skip
    confirmed = [r.members for several in found.values() for r in several if r.suspected]
    rows = np.unique(np.concatenate([np.zeros(0, dtype=int), *confirmed]))
    chosen = chosen._replace(rows=np.concatenate([chosen.rows, np.setdiff1d(rows, chosen.rows)]))
    left_out = {
        label: reason
        for label, reason in {**seen.left_out, **untried, **too_few, **uncontrolled}.items()
        if label not in best or not best[label].suspected
    }
    examined = [
        Examined(
            one.label, len(one.rows), int((train.y[chosen.rows] == one.label).sum()),
            best.get(one.label), *_shown(best.get(one.label)), one.clusters.suspicious,
            one.split.p,
        )
        for one in seen.classes if one.label not in left_out
    ]  # fmt: skip
    outcomes = {
        row: outcome
        for one in tried.values() for row, outcome in zip(one.rows, one.outcomes, strict=True)
    }  # fmt: skip
    return Scanned(
        examined, left_out, seen.features, chosen.discovered, chosen.rows,
        rows, outcomes, p, scores,
    )  # fmt: skip


def _suspects(
    setting: Setting, nominees: dict[int, list[int]]
) -> tuple[dict[int, Tried], dict[int, str]]:
    """Transplants of every class's nominated rows; also the reason for each class without them."""
    tried, left_out = {}, {}
    enough = {label: rows for label, rows in nominees.items() if len(rows) >= ROWS}
    # Half of what is left for suspects: controls come after, where suspects ask for them. Where that
    # is too little for every class, the fewest rows, if the fewest controls of a class remain.
    allowance, wanted = setting.allowance, 2 * sum(map(len, enough.values()))
    fewest = (ROWS * len(enough) + FEWEST_CONTROLS) * allowance.each
    least = ROWS if fewest <= allowance.left else 0
    affordable = {
        label: max(least, allowance.of(len(rows), wanted)) for label, rows in enough.items()
    }
    for label, all_rows in enough.items():
        labs = setting.laboratories(label)
        rows = all_rows[: affordable[label]]
        if labs is None or len(rows) < ROWS:
            left_out[label] = (
                f"{len(rows)} nominated rows can be tried within the passes allowed, on "
                f"{int((setting.trusted.y != label).sum())} trusted rows of other classes: at least "
                f"{ROWS} and some {CHOOSING + 2 * FEWEST_HOSTS} are needed"
            )
            continue
        outcomes = setting.transplanted(labs[0], setting.train.take(rows))
        tried[label] = Tried(*labs, rows, outcomes)
    return tried, left_out


def _accused(
    setting: Setting, seen: Suspicion, tried: dict[int, Tried], controls: int
) -> tuple[dict[int, list[Recovered]], dict[int, str]]:
    """What the rows of each class share, beside controls; the reason for classes without controls."""
    found: dict[int, list[Recovered]] = {}
    left_out: dict[int, str] = {}
    doubtful = [label for label, one in tried.items() if worth_controls(one.outcomes)]
    of_class = {one.label: one for one in seen.classes}
    for done, label in enumerate(doubtful):
        one, remaining = tried[label], len(doubtful) - done
        count = setting.allowance.of(
            controls, controls * remaining, spare=one.verdict_passes * remaining
        )
        some = setting.controls(of_class[label], count)
        if len(some) < FEWEST_CONTROLS:
            left_out[label] = (
                f"{len(some)} controls within the passes allowed: {FEWEST_CONTROLS} are needed"
            )
            continue
        beside = setting.transplanted(one.lab, setting.trusted.x[some], apart=some)
        found[label] = [
            r._replace(members=np.array(one.rows)[r.members])
            for r in recovered(one.fresh, one.outcomes, beside)
        ]
    return found, left_out


def _nothing(left_out: dict[int, str], n: int) -> Scanned:
    none = np.zeros(0, dtype=int)
    return Scanned([], left_out, "none", 0, none, none, {}, np.ones(n), {})


def _nominations(
    seen: Suspicion, n: int, budget: float
) -> tuple[np.ndarray, dict[str, np.ndarray], Nominated]:
    """Fused p-values (n,), scores by name (n,) in trusted rows' deviations, and the nominated rows."""
    p = np.ones((len(SCORES), n))
    apart = {name: np.zeros(n) for name in SCORES}
    examined = np.zeros(n, dtype=bool)
    for one in seen.classes:
        examined[one.rows] = True
        for place, name in enumerate(SCORES):
            own, trusted = one.score[name]
            p[place, one.rows] = conformal(own, trusted)
            apart[name][one.rows] = (own - trusted.mean()) / (trusted.std() + 1e-3)
    fused = np.where(examined, np.minimum(1.0, len(SCORES) * p.min(axis=0)), 1.0)
    # Label by label: what is far out among one label's rows is not what is far out among another's.
    ranks = [
        one.rows[np.lexsort((-apart[name][one.rows], p[place, one.rows]))]
        for place, name in enumerate(SCORES)
        for one in seen.classes
    ]
    apart["spectral"] = np.zeros(n)
    for one in seen.classes:
        apart["spectral"][one.rows] = one.spectral
    count = max(LEAST_NOMINATED * len(seen.classes), round(budget * n))
    return fused, apart, nominated(fused, ranks, budget=count)


def _shown(best: Recovered | None) -> tuple[float, tuple[np.ndarray, np.ndarray]]:
    """How many positions a trigger takes, and the (mask, pattern) to draw it by."""
    if best is None:
        return 0.0, (np.zeros(1), np.zeros(1))
    trigger = best.trigger
    if trigger.kind == "residual":
        size = np.abs(trigger.add)
        top = float(size.max()) or 1.0
        return float(size.sum() / top), (size / top, trigger.add)
    mask = np.broadcast_to(trigger.mask, trigger.value.shape).astype(float)
    one = mask[:1] if mask.ndim == 3 else mask
    return float(one.sum()), (one, trigger.value)

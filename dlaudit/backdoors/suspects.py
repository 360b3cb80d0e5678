"""The scan from end to end: scores, nominations, transplants, the rows that they confirm.

Knows rows, labels and a model; never the bench, a report or a rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dlaudit.audit.parts import Model
from dlaudit.backdoors.confirmation import (
    MARKED_CONTROLS,
    ROWS,
    Recovered,
    marked,
    recovered,
    worth_controls,
)
from dlaudit.backdoors.neighbours import Neighbourhood
from dlaudit.backdoors.nomination import Nominated, conformal, nominated
from dlaudit.backdoors.suspicion import (
    SCORES,
    OfClass,
    Rows,
    Suspicion,
    Trusted,
    suspicion,
)
from dlaudit.backdoors.transplant import Hosts, Laboratory, Outcome, expected_passes, transplants
from dlaudit.backdoors.values import repeated

CHOOSING, TRYING, FRESH = 8, 90, 200
"""Hosts that choose what is carried, that try it, and that only the trigger of all meets."""
FEWEST_CONTROLS = 20
LEAST_NOMINATED = 12
"""Rows of each class that may be nominated where the budget is a handful: five must be poison."""
FEWEST_HOSTS = 60


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


class Allowance(NamedTuple):
    """The passes that may still be spent. ends: the model's count at which they are; each: of one row."""

    model: Model
    ends: int
    each: int

    def of(self, rows: int, wanted: int, *, spare: int = 0) -> int:
        """How many of ``rows`` can be tried where ``wanted`` of them in all ask for the same.

        spare: passes that are kept for what comes after.
        """
        left = max(0, self.ends - spare - self.model.passes.forward)
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


class Tried(NamedTuple):
    """What was tried for one class: its nominated rows, and what each one's transplants did."""

    lab: Laboratory
    fresh: Laboratory
    rows: list[int]
    x: np.ndarray
    outcomes: list[dict[str, Outcome]]

    @property
    def verdict_passes(self) -> int:
        """At most, for the triggers recovered from these rows, and in a table for their controls."""
        return len(self.fresh.trying.x) * (4 + (self.x.ndim == 2) * 2 * MARKED_CONTROLS)

    def ask_for_controls(self, trusted: np.ndarray) -> bool:
        """Whether controls could make this an accusation: enough rows flip hosts, or share values."""
        shares = self.x.ndim == 2 and repeated(self.x, trusted, least=ROWS) is not None
        return worth_controls(self.outcomes) or shares


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
    tried, too_few = _suspects(setting, nominees)
    best, confirmed, uncontrolled = _accused(setting, seen, tried, controls)
    left_out = {**seen.left_out, **too_few, **uncontrolled}
    examined = [
        Examined(
            one.label, len(one.rows), len(nominees[one.label]), best.get(one.label),
            *_shown(best.get(one.label)), one.clusters.suspicious, one.split.p,
        )
        for one in seen.classes if one.label not in left_out
    ]  # fmt: skip
    outcomes = {
        row: outcome
        for one in tried.values() for row, outcome in zip(one.rows, one.outcomes, strict=True)
    }  # fmt: skip
    return Scanned(
        examined, left_out, seen.features, chosen.discovered, chosen.rows,
        np.array(sorted(set(confirmed)), dtype=int), outcomes, p, scores,
    )  # fmt: skip


def _suspects(
    setting: Setting, nominees: dict[int, list[int]]
) -> tuple[dict[int, Tried], dict[int, str]]:
    """Transplants of every class's nominated rows; also the reason for each class without them."""
    tried, left_out = {}, {}
    enough = {label: rows for label, rows in nominees.items() if len(rows) >= ROWS}
    # Half of what is left for suspects: controls come after, where suspects ask for them.
    wanted = 2 * sum(map(len, enough.values()))
    affordable = {label: setting.allowance.of(len(rows), wanted) for label, rows in enough.items()}
    for label, all_rows in enough.items():
        labs = _laboratories(setting, label)
        rows = all_rows[: affordable[label]]
        if labs is None or len(rows) < ROWS:
            left_out[label] = (
                f"{len(rows)} nominated rows can be tried within the passes allowed, on "
                f"{int((setting.trusted.y != label).sum())} trusted rows of other classes: at least "
                f"{ROWS} and some {CHOOSING + 2 * FEWEST_HOSTS} are needed"
            )
            continue
        x = setting.train.take(rows)
        tried[label] = Tried(*labs, rows, x, setting.transplanted(labs[0], x))
    return tried, left_out


def _accused(
    setting: Setting, seen: Suspicion, tried: dict[int, Tried], controls: int
) -> tuple[dict[int, Recovered | None], list[int], dict[int, str]]:
    """What the rows of each class share, beside controls; confirmed rows; classes without controls."""
    trusted = setting.trusted.x
    best: dict[int, Recovered | None] = {}
    confirmed: list[int] = []
    left_out: dict[int, str] = {}
    doubtful = [label for label, one in tried.items() if one.ask_for_controls(trusted)]
    of_class = {one.label: one for one in seen.classes}
    for done, label in enumerate(doubtful):
        one, remaining = tried[label], len(doubtful) - done
        count = setting.allowance.of(
            controls, controls * remaining, spare=one.verdict_passes * remaining
        )
        some = _controls(of_class[label], setting.rng, count=count)
        if len(some) < FEWEST_CONTROLS:
            left_out[label] = (
                f"{len(some)} controls within the passes allowed: {FEWEST_CONTROLS} are needed"
            )
            continue
        found = recovered(
            one.fresh, one.outcomes, setting.transplanted(one.lab, trusted[some], apart=some)
        )
        if one.x.ndim == 2:
            found += marked(one.fresh, one.x, trusted, trusted[some])
        best[label] = max(found, key=lambda r: (r.suspected, len(r.members), -r.p), default=None)
        confirmed += [one.rows[k] for r in found if r.suspected for k in r.members]
    return best, confirmed, left_out


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


def _laboratories(setting: Setting, label: int) -> tuple[Laboratory, Laboratory] | None:
    """One to try single rows in, and one with fresh hosts for the trigger; None with too few hosts."""
    trusted = setting.trusted
    good = np.flatnonzero((trusted.y == trusted.predicted) & (trusted.y != label))
    good = setting.rng(f"hosts of class {label}").permutation(good)
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
    first = Laboratory(setting.allowance.model, label, choosing, trying, setting.bounds)
    return first, first._replace(trying=fresh)


def _controls(one: OfClass, rng: Callable[[str], np.random.Generator], *, count: int) -> np.ndarray:
    """Trusted rows of the class, half of them those with the highest scores: hard controls."""
    highest = np.max([(t - t.mean()) / (t.std() + 1e-3) for _, t in one.score.values()], axis=0)
    order = one.trusted[np.argsort(-highest, kind="stable")]
    top, rest = order[: count // 2], order[count // 2 :]
    drawn = rng(f"controls of class {one.label}").permutation(rest)[: count - len(top)]
    return np.concatenate([top, drawn])


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

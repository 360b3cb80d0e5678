"""The scan from end to end: scores, nominations, transplants, the rows that they confirm.

Knows rows, labels and a model; never the bench, a report or a rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dlaudit.audit.parts import Model
from dlaudit.backdoors.confirmation import ROWS, Recovered, marked, recovered, worth_controls
from dlaudit.backdoors.neighbours import Neighbourhood
from dlaudit.backdoors.nomination import Nominated, conformal, nominated
from dlaudit.backdoors.suspicion import SCORES, OfClass, Rows, Suspicion, suspicion
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


def scanned(
    model: Model, train: Rows, trusted: Rows, rng: Callable[[str], np.random.Generator], *,
    bounds: tuple[Any, Any] | None, overlays: int, budget: float, controls: int, most: int,
) -> Scanned:  # fmt: skip
    """Scan ``train`` beside ``trusted`` within ``most`` passes a training row.

    Where the passes do not suffice for a class with nominated rows, it is left out, with the reason.
    """
    before = model.passes.forward
    allowance = most * len(train.y)
    spent = (1 + overlays + 9) * (len(train.y) + int((trusted.y == trusted.predicted).sum()))
    if spent > allowance:
        reason = (
            f"{len(trusted.y)} trusted rows beside {len(train.y)} training rows: scoring all takes "
            f"{spent} passes, more than {most} a training row"
        )
        every = {int(k): reason for k in np.unique(train.y)}
        return _nothing(every, len(train.y))
    seen = suspicion(model, train, trusted, rng, overlays=overlays)
    p, scores, chosen = _nominations(seen, len(train.y), budget)
    by_class = {
        one.label: [row for row in chosen.rows if train.y[row] == one.label] for one in seen.classes
    }
    each = expected_passes(train.x.shape[1:], choosing=CHOOSING, trying=TRYING)

    def affordable(wanted: int) -> float:
        """Which share of so many transplants the remaining passes allow."""
        left = allowance - (model.passes.forward - before)
        return min(1.0, left / (each * wanted)) if wanted else 1.0

    near = Neighbourhood.of(trusted.x, trusted.y, rng("trusted neighbours"))
    left_out = dict(seen.left_out)
    tried: dict[int, tuple[Laboratory, Laboratory, list[int], list[dict[str, Outcome]]]] = {}
    enough = {k: rows for k, rows in by_class.items() if len(rows) >= ROWS}
    # Half of what is left for suspects: controls come after, where suspects ask for them.
    share = min(1.0, affordable(2 * sum(map(len, enough.values()))))
    for label, all_rows in enough.items():
        labs = _laboratories(model, trusted, label, bounds, rng)
        rows = all_rows[: int(share * len(all_rows))]
        if labs is None or len(rows) < ROWS:
            left_out[label] = (
                f"{len(rows)} nominated rows can be tried within {most} passes a training row, on "
                f"{int((trusted.y != label).sum())} trusted rows of other classes: at least {ROWS} "
                f"and some {CHOOSING + 2 * FEWEST_HOSTS} are needed"
            )
            continue
        like = near.number[near.nearest(train.x[rows])]
        mine = [
            transplants(labs[0], train.x[row], trusted.x[at])
            for row, at in zip(rows, like, strict=True)
        ]
        tried[label] = (*labs, rows, mine)
    doubtful = [
        label
        for label, (_, _, rows, mine) in tried.items()
        if worth_controls(mine)
        or (train.x.ndim == 2 and repeated(train.x[rows], trusted.x, least=ROWS))
    ]
    examined, confirmed = [], []
    outcomes: dict[int, dict[str, Outcome]] = {}
    for one in seen.classes:
        if one.label in left_out:
            continue
        best = None
        if one.label in tried:
            lab, fresh, rows, mine = tried[one.label]
            outcomes |= {int(row): outcome for row, outcome in zip(rows, mine, strict=True)}
            if one.label in doubtful:
                share = affordable(controls * (len(doubtful) - doubtful.index(one.label)))
                some = _controls(one, rng, count=int(share * controls))
                if len(some) < FEWEST_CONTROLS:
                    left_out[one.label] = (
                        f"{len(some)} controls within {most} passes a training row: "
                        f"{FEWEST_CONTROLS} are needed"
                    )
                    continue
                there = near.number[near.nearest(trusted.x[some], apart=some)]
                others = [
                    transplants(lab, trusted.x[row], trusted.x[at])
                    for row, at in zip(some, there, strict=True)
                ]
                found = recovered(fresh, mine, others)
                if train.x.ndim == 2:
                    found += marked(fresh, train.x[rows], trusted.x, trusted.x[some])
                best = max(found, key=lambda r: (r.suspected, len(r.members), -r.p), default=None)
                confirmed += [int(rows[k]) for r in found if r.suspected for k in r.members]
        norm, drawn = _shown(best)
        examined.append(
            Examined(
                one.label, len(one.rows), len(by_class[one.label]), best, norm, drawn,
                one.clusters.suspicious, one.split.p,
            )
        )  # fmt: skip
    return Scanned(
        examined, left_out, seen.features, chosen.discovered, chosen.rows,
        np.array(sorted(set(confirmed)), dtype=int), outcomes, p, scores,
    )  # fmt: skip


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


def _laboratories(
    model: Model, trusted: Rows, label: int, bounds: tuple[Any, Any] | None,
    rng: Callable[[str], np.random.Generator],
) -> tuple[Laboratory, Laboratory] | None:  # fmt: skip
    """One to try single rows in, and one with fresh hosts for the trigger; None with too few hosts."""
    good = np.flatnonzero((trusted.y == trusted.predicted) & (trusted.y != label))
    good = rng(f"hosts of class {label}").permutation(good)
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
    first = Laboratory(model, label, choosing, trying, bounds)
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

"""Which classes have a suspiciously cheap trigger: searches, seeds, halves and the criterion.

Knows how a search's result becomes a suspicion; never how a trigger is searched, nor what a report
says about it. Refuses to suspect a class on samples that the search has seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from dlaudit.audit.bench import Answers, Bench
from dlaudit.backdoors.anomaly import log_anomaly, ratios, threshold
from dlaudit.backdoors.forms import AnyTrigger
from dlaudit.backdoors.screening import CONTROLS, FULL, PART, cheapest, rounds
from dlaudit.backdoors.triggers import Search

POOL = 256
"""At most so many rows of the search half are used for one class."""


class Criterion(NamedTuple):
    """When one class is suspected. seeds: searches of a nominated class, most of which must agree.

    restarts: runs of the optimiser in each search, of which the cheapest counts; warning: the z from
    which a class is nominated; ratio, success: what one search must show.
    """

    ratio: float
    success: float
    seeds: int
    restarts: int
    warning: float = 2.0

    @property
    def agreeing(self) -> int:
        """How many searches must meet the criterion: two of three."""
        return self.seeds // 2 + 1


class Candidate(NamedTuple):
    """A class to examine. pool, unused: rows of other classes, to search with and to confirm on.

    source: the one class that the rows are of, None where they are of all others.
    """

    target: int
    label: str
    pool: np.ndarray
    unused: np.ndarray
    source: int | None = None

    @property
    def purpose(self) -> str:
        """What its randomness is called."""
        return f"class {self.target}" + ("" if self.source is None else f" from {self.source}")


class Found(NamedTuple):
    """One search of one class. norm: infinite without a trigger; called: (len(unused),) bool."""

    trigger: AnyTrigger | None
    norm: float
    called: np.ndarray


class Searched(Protocol):
    """One search per class, with randomness that belongs to the class and the seed."""

    def __call__(
        self, bench: Bench, search: Search, chosen: Sequence[Candidate], *, seed: int, restarts: int
    ) -> list[Found]:
        """What was found for each class, in order."""


class Finding(NamedTuple):
    """All that was found out about a class; ``met`` of ``searches`` seeds met the criterion.

    No searches: a short one left the class out.
    """

    candidate: Candidate
    found: Found
    anomaly: float | None
    ratio: float | None
    met: int
    searches: int
    suspected: bool


def candidates(
    bench: Bench, answers: Answers, *, classes: int, minimum: int
) -> tuple[list[Candidate], dict[str, str]]:
    """The classes with at least ``minimum`` rows of other classes in each half of the samples.

    Also the reason for every class that is left out. Rows that are decided for a class without any
    trigger are no success of its trigger: they are not used for it.
    """
    search, unused = halves(answers.y, bench.rng("halves"))
    chosen: list[Candidate] = []
    left_out: dict[str, str] = {}
    for k in range(classes):
        label = bench.classes[k] if k < len(bench.classes) else str(k)
        other = np.flatnonzero((answers.y != k) & (answers.predicted != k))
        pool, rest = np.intersect1d(search, other), np.intersect1d(unused, other)
        if min(len(pool), len(rest)) < minimum:
            left_out[label] = (
                f"{len(pool)} and {len(rest)} samples of other classes in the two halves: at least "
                f"{minimum} are needed in each"
            )
            continue
        drawn = bench.rng(f"pool of class {k}").permutation(pool)[:POOL]
        chosen.append(Candidate(k, label, np.sort(drawn), rest))
    return chosen, left_out


def halves(y: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of two halves, each with half of every class; odd ones go to either in turn."""
    order = rng.permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]
    return np.sort(order[::2]), np.sort(order[1::2])


def examine(
    bench: Bench,
    search: Search,
    chosen: Sequence[Candidate],
    criterion: Criterion,
    *,
    searched: Searched | None = None,
    full: int = FULL,
) -> list[Finding]:
    """Search every class and the nominated ones with further seeds; judge each seed alone.

    Of many classes, those that short searches left out are not searched in full (``screening``). A
    nominated class of a further seed is compared with the costs that the others had in the first.
    searched: one round of searches, ``searched_once`` unless costs are meant otherwise. full: up
    to so many classes, all are searched in full.
    """
    if not chosen:
        return []
    searched = searched or searched_once
    short, places, controls = _screened(bench, search, chosen, searched, full)
    some = [chosen[k] for k in places]
    first = searched(bench, search, some, seed=0, restarts=criterion.restarts)
    norms = [found.norm for found in first]
    anomalies = log_anomaly(norms, apart=criterion.ratio, controls=controls)
    nominated = [k for k, z in enumerate(anomalies) if z is not None and z > criterion.warning]
    limit = threshold(len(chosen))
    met = np.array(_met(first, criterion, limit, controls), dtype=int)
    for seed in range(1, criterion.seeds if nominated else 1):
        renewed = list(first)
        again = searched(
            bench, search, [some[k] for k in nominated], seed=seed, restarts=criterion.restarts
        )
        for k, found in zip(nominated, again, strict=True):
            renewed[k] = found
        met += _met(renewed, criterion, limit, controls)
    findings = {
        place: Finding(
            chosen[place], found, anomaly, ratio, int(met[k]) if k in nominated else 0,
            criterion.seeds if k in nominated else 1,
            k in nominated and int(met[k]) >= criterion.agreeing,
        )
        for k, (place, found, anomaly, ratio) in enumerate(
            zip(places, first, anomalies, ratios(norms, controls=controls), strict=True)
        )
    }  # fmt: skip
    return [
        findings.get(place) or Finding(one, short[place], None, None, 0, 0, suspected=False)
        for place, one in enumerate(chosen)
    ]


def _screened(
    bench: Bench, search: Search, chosen: Sequence[Candidate], searched: Searched, few: int
) -> tuple[dict[int, Found], list[int], list[int] | None]:
    """What short searches found, the classes worth a full one, and where controls stand among these.

    All classes and no controls where there are few: every class is then compared with all others.
    """
    left = np.arange(len(chosen))
    best: dict[int, Found] = {}
    for number, (_, kept) in enumerate(rounds(len(chosen), few)):
        brief = search._replace(steps=max(1, search.steps // PART))
        some = [chosen[k] for k in left.tolist()]
        found = searched(bench, brief, some, seed=-1 - number, restarts=1)
        for k, one in zip(left.tolist(), found, strict=True):
            best[k] = min(best.get(k, one), one, key=lambda found: found.norm)
        left = left[cheapest([best[k].norm for k in left.tolist()], kept)]
    if len(left) == len(chosen):
        return {}, left.tolist(), None
    drawn = np.sort(bench.rng("control classes").permutation(len(chosen))[:CONTROLS])
    full = np.union1d(left, drawn)
    return best, full.tolist(), np.flatnonzero(np.isin(full, drawn)).tolist()


def searched_once(
    bench: Bench, search: Search, chosen: Sequence[Candidate], *, seed: int, restarts: int
) -> list[Found]:
    """One search per class, each run with randomness of its own, confirmed on the unused half.

    A run can end in a poor minimum, and the costs of all classes are compared: so the cheapest of
    ``restarts`` runs counts, for every class alike.
    """
    runs = [(one, restart) for one in chosen for restart in range(restarts)]
    triggers = search.triggers(
        [one.target for one, _ in runs],
        [one.pool for one, _ in runs],
        [bench.rng(f"trigger of {one.purpose}, search {seed}.{at}") for one, at in runs],
    )
    found = []
    for k, one in enumerate(chosen):
        tried = [t for t in triggers[k * restarts : (k + 1) * restarts] if t is not None]
        best = min(tried, key=lambda trigger: trigger.norm, default=None)
        if best is None:
            found.append(Found(None, math.inf, np.zeros(len(one.unused), dtype=bool)))
        else:
            found.append(Found(best, best.norm, search.called(best, one.target, one.unused)))
    return found


def _met(
    found: Sequence[Found], criterion: Criterion, limit: float, controls: Sequence[int] | None
) -> list[bool]:
    """Whether each class's cost is an outlier below, by far, of a trigger that works on new samples."""
    norms = [one.norm for one in found]
    zs = log_anomaly(norms, apart=criterion.ratio, controls=controls)
    return [
        z is not None
        and z > limit
        and ratio is not None
        and ratio >= criterion.ratio
        and bool(one.called.mean() >= criterion.success)
        for one, z, ratio in zip(found, zs, ratios(norms, controls=controls), strict=True)
    ]

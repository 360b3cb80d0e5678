"""Pairs of classes, and what a trigger from one to the other costs beside models of known origin.

Knows searches and their costs; never what a cheap pair means. Costs of one model alone say which classes
resemble each other: on clean digits the same pairs come first in every model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from dlaudit.audit.bench import Answers, Bench
from dlaudit.audit.parts import Model
from dlaudit.backdoors.examination import POOL, Candidate, Found, halves, searched_once
from dlaudit.backdoors.triggers import Search


def pairs(
    bench: Bench, answers: Answers, names: Sequence[str], *, decided: Sequence[np.ndarray],
    minimum: int, most: int,
) -> tuple[list[Candidate], int]:  # fmt: skip
    """The pairs with at least ``minimum`` rows of the source in each half, and how many pairs there are.

    names: of the classes, by index. decided: (n,) of each reference, on the same rows: a row that any
    model decides for the target without a trigger is no success of one. most: pairs at most; more are
    drawn from all that can be examined.
    """
    search, unused = halves(answers.y, bench.rng("halves"))
    classes = len(names)
    found: list[Candidate] = []
    for source in range(classes):
        for target in range(classes):
            free = answers.y == source
            for told in (answers.predicted, *decided):
                free &= told != target
            rows = np.flatnonzero(free)
            pool, rest = np.intersect1d(search, rows), np.intersect1d(unused, rows)
            if source != target and min(len(pool), len(rest)) >= minimum:
                found.append(Candidate(target, names[source], pool[:POOL], rest, source))
    if len(found) > most:
        drawn = np.sort(bench.rng("pairs").permutation(len(found))[:most])
        found = [found[k] for k in drawn.tolist()]
    return found, classes * (classes - 1)


class Relative:
    """One round of searches whose costs are shares of the references' costs for the same pairs.

    Of several references the geometric mean counts. A pair that a reference has no trigger for has no
    relative cost. Each seed searches the references anew and the cheapest trigger so far counts, because a
    poor search of a reference would make an honest pair look cheap.
    """

    def __init__(self, references: Mapping[str, Model]) -> None:
        """references: by name."""
        self.references = references
        self._costs: dict[tuple[str, str, int], float] = {}

    def __call__(
        self, bench: Bench, search: Search, chosen: Sequence[Candidate], *, seed: int, restarts: int
    ) -> list[Found]:
        """See ``Searched``."""
        own = searched_once(bench, search, chosen, seed=seed, restarts=restarts)
        logs = np.zeros(len(chosen))
        for name, model in self.references.items():
            there = search._replace(model=model)
            again = searched_once(bench, there, chosen, seed=seed, restarts=restarts)
            for k, (one, found) in enumerate(zip(chosen, again, strict=True)):
                key = (name, one.purpose, search.steps)
                self._costs[key] = min(found.norm, self._costs.get(key, math.inf))
                logs[k] += math.log(self._costs[key])
        costs = np.exp(logs / len(self.references))
        return [
            one._replace(norm=one.norm / cost)
            if math.isfinite(cost) and one.trigger is not None
            else Found(None, math.inf, np.zeros(len(one.called), dtype=bool))
            for one, cost in zip(own, costs.tolist(), strict=True)
        ]

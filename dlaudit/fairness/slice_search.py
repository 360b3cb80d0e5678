"""Finds where a model errs more than elsewhere, in one half of the samples, and asks the other half.

Knows conditions, 0/1 outcomes and two halves; refuses to report what only the half that found it
shows: a maximum over hundreds of slices is high in any data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dlaudit.audit.record import Interval
from dlaudit.audit.statistics import LEVEL, benjamini_hochberg, newcombe
from dlaudit.fairness.features import Condition

PROMISING = 2.0
"""How many standard errors above the rest a slice must lie in the searching half to be asked about."""
ALIKE = 0.5
"""Slices whose samples overlap by more than this share of their union are told once."""
CHUNK = 65_536


class Counts(NamedTuple):
    """How often the outcome was seen inside a slice, and among all others."""

    inside: int
    n: int
    outside: int
    rest: int

    @property
    def gap(self) -> float:
        """Rate inside minus rate outside."""
        return self.inside / self.n - self.outside / self.rest


class Slice(NamedTuple):
    """A slice that one half found. p: adjusted (Benjamini & Hochberg 1995), from the other half.

    searched, confirmed: its counts in either half. interval: of the gap in the confirming half, None
    if it was not confirmed.
    """

    words: str
    searched: Counts
    confirmed: Counts
    p: float
    interval: Interval | None


class Search(NamedTuple):
    """Everything that was asked about, and how many slices were looked at to find it."""

    slices: list[Slice]
    tried: int


def search(
    conditions: Sequence[Condition],
    outcome: np.ndarray,
    first: np.ndarray,
    *,
    minimum: int,
    most: int,
    rate: float,
) -> Search:
    """Slices of one or two conditions where the outcome is more frequent than elsewhere.

    outcome: (n,) bool; first: (n,) bool, the half that searches. minimum: samples that a slice needs in
    each half; most: slices to ask about; rate: the false discovery rate. Intervals of confirmed slices
    have the level that keeps false coverage at the nominal one (Benjamini & Yekutieli 2005).
    """
    inside, hits = _table(conditions, outcome, first)
    candidates = _ranked(
        conditions,
        inside,
        hits,
        n=int(first.sum()),
        total=int(outcome[first].sum()),
        minimum=minimum,
    )
    chosen: list[tuple[str, np.ndarray]] = []
    for one, other in candidates.pairs:
        member = conditions[one].member & conditions[other].member
        if (member & ~first).sum() < minimum or (~member & ~first).sum() < minimum:
            continue
        if all(_overlap(member, known) <= ALIKE for _, known in chosen):
            words = [conditions[one].words] + ([conditions[other].words] if other != one else [])
            chosen.append((" and ".join(words), member))
        if len(chosen) == most:
            break
    counted = [
        (words, _counts(member, outcome, first), _counts(member, outcome, ~first))
        for words, member in chosen
    ]
    adjusted = benjamini_hochberg([_p(counts) for _, _, counts in counted])
    kept = sum(p <= rate for p in adjusted)
    level = 1 - (1 - LEVEL) * kept / max(1, len(counted))
    return Search(
        [
            Slice(
                words, before, after, p,
                newcombe(after.inside, after.n, after.outside, after.rest, level) if p <= rate else None,
            )
            for (words, before, after), p in zip(counted, adjusted, strict=True)
        ],
        candidates.tried,
    )  # fmt: skip


class _Ranked(NamedTuple):
    """Pairs of conditions (twice the same for one alone), most suspicious first."""

    pairs: list[tuple[int, int]]
    tried: int


def _table(
    conditions: Sequence[Condition], outcome: np.ndarray, first: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(K, K) samples and outcomes that every two conditions share in the searching half."""
    k, rows = len(conditions), np.flatnonzero(first)
    inside, hits = np.zeros((k, k)), np.zeros((k, k))
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        member = np.stack([one.member[part] for one in conditions], axis=1).astype(np.float32)
        inside += member.T @ member
        hits += member.T @ (member * outcome[part, None])
    return inside, hits


def _ranked(
    conditions: Sequence[Condition],
    inside: np.ndarray,
    hits: np.ndarray,
    *,
    n: int,
    total: int,
    minimum: int,
) -> _Ranked:
    """Rank single conditions and pairs by how far they lie above the rest, in standard errors."""
    rest, seen = n - inside, total - hits
    possible = (inside >= minimum) & (rest >= minimum)
    columns = np.array([one.of for one in conditions])
    same = columns[:, None] == columns[None, :]
    possible &= ~same | np.eye(len(columns), dtype=bool)
    possible &= np.triu(np.ones_like(possible, dtype=bool))
    with np.errstate(all="ignore"):
        overall = total / n
        error = np.sqrt(overall * (1 - overall) * (1 / inside + 1 / rest))
        above = np.where(possible, (hits / inside - seen / rest) / error, -np.inf)
    above = np.nan_to_num(above, nan=-np.inf, neginf=-np.inf)
    single = np.diag(above).copy()
    # A pair must say more than either of its halves: the simpler words go first.
    parents = np.maximum(single[:, None], single[None, :])
    above[(above <= parents) & ~np.eye(len(columns), dtype=bool)] = -np.inf
    order = np.argsort(-above, axis=None, kind="stable")
    pairs = [
        (int(place // len(columns)), int(place % len(columns)))
        for place in order[: int((above > PROMISING).sum())]
    ]
    return _Ranked(pairs, int(possible.sum()))


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """The share of the union of two slices that lies in both."""
    return float((one & other).sum() / (one | other).sum())


def _counts(member: np.ndarray, outcome: np.ndarray, half: np.ndarray) -> Counts:
    inside, rest = member & half, ~member & half
    return Counts(
        int(outcome[inside].sum()), int(inside.sum()), int(outcome[rest].sum()), int(rest.sum())
    )


def _p(counts: Counts) -> float:
    """One-sided exact p that the slice errs no more than the rest (Fisher 1935)."""
    from scipy.stats import hypergeom

    population, successes = counts.n + counts.rest, counts.inside + counts.outside
    p = float(hypergeom.sf(counts.inside - 1, population, successes, counts.n))
    return p if math.isfinite(p) else 1.0

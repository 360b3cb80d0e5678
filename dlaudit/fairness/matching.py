"""Pairs of samples that are alike in everything but their group, and how their decisions differ.

Knows columns and two sets of rows; refuses to pair samples that are not alike, and to use one sample
twice: every pair is one piece of evidence.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

NEIGHBOURS = 20
"""Candidates looked at for each member in one round; who finds them all taken looks again."""
BALANCED = 0.1
"""The standardised mean difference below which columns count as balanced (Austin 2011)."""


class Pairs(NamedTuple):
    """members, partners: (m,) positions of the pairs' rows; imbalance: (F,) of each column.

    An imbalance is the mean difference of the pairs in standard deviations of the column.
    """

    members: np.ndarray
    partners: np.ndarray
    imbalance: np.ndarray


def scaled(values: np.ndarray, categories: np.ndarray) -> np.ndarray:
    """Columns in which alike means near: standard deviations, and 1 between two categories.

    values: (n, F), NaN in gaps; categories: (F,) bool, columns of codes. A gap is a value of its own:
    it lies one away from every number. Constant columns say nothing and are left out.
    """
    made = []
    for column, is_category in zip(values.T, categories, strict=True):
        gap = np.isnan(column)
        if is_category:
            known = np.unique(column[~gap])
            made += [(column == code) / np.sqrt(2) for code in known]
        else:
            spread = float(column[~gap].std()) if (~gap).any() else 0.0
            centre = float(column[~gap].mean()) if spread else 0.0
            made.append(np.where(gap, 0.0, column - centre) / (spread or 1.0))
        if gap.any():
            made.append(gap / (np.sqrt(2) if is_category else 1.0))
    columns = [one for one in made if np.ptp(one) > 0]
    return np.stack(columns, axis=1) if columns else np.zeros((len(values), 0))


def matched(columns: np.ndarray, group: np.ndarray, reference: np.ndarray, caliper: float) -> Pairs:
    """Pair members of a group with members of the reference, nearest pairs first, each used once.

    columns: (n, F) from ``scaled``; group, reference: positions of rows. caliper: the largest
    root-mean-square distance per column of a pair.
    """
    width = max(1, columns.shape[1])
    limit = caliper * np.sqrt(width) + 1e-12
    members: list[int] = []
    partners: list[int] = []
    while len(group) and len(reference):
        found = _round(columns, group, reference, limit)
        if not found:
            break
        members += [one for one, _ in found]
        partners += [other for _, other in found]
        group = group[~np.isin(group, members)]
        reference = reference[~np.isin(reference, partners)]
    one, other = np.array(members, dtype=np.int64), np.array(partners, dtype=np.int64)
    apart = columns[one] - columns[other]
    return Pairs(one, other, apart.mean(axis=0) if members else np.zeros(columns.shape[1]))


def _round(
    columns: np.ndarray, group: np.ndarray, reference: np.ndarray, limit: float
) -> list[tuple[int, int]]:
    """The pairs of one round: nearest first, among the nearest neighbours of each member."""
    from scipy.spatial import cKDTree

    count = min(NEIGHBOURS, len(reference))
    distance, place = cKDTree(columns[reference]).query(
        columns[group], k=count, distance_upper_bound=limit
    )
    distance, place = distance.reshape(len(group), count), place.reshape(len(group), count)
    found = []
    taken_one, taken_other = np.zeros(len(group), bool), np.zeros(len(reference), bool)
    for flat in np.argsort(distance, axis=None, kind="stable").tolist():
        one, rank = divmod(flat, count)
        if not np.isfinite(distance[one, rank]):
            break
        other = int(place[one, rank])
        if not (taken_one[one] or taken_other[other]):
            taken_one[one] = taken_other[other] = True
            found.append((int(group[one]), int(reference[other])))
    return found

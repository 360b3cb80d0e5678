"""Counts decisions by group: from columns of labels, decisions and groups to a ``Tally`` each.

Knows arrays of class indices and of words; refuses scores, missing values and text where a class
belongs, and divides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import Literal, NamedTuple

import numpy as np

from dlaudit.audit.bench import class_indices
from dlaudit.errors import PlanError, UnknownName
from dlaudit.fairness.rates import Tally

UNKNOWN = "unknown"
"""The group of the samples whose group is not known: measured, but never a reference."""

PRIME = np.uint64(1099511628211)
"""The multiplier of FNV-1a hashes (Fowler, Noll & Vo 1991); products wrap around, as it asks."""

DENSE = 10_000_000
"""Tables of fewer cells are counted without sorting; larger ones would be mostly empty."""


class Partition(NamedTuple):
    """The samples divided by one attribute, or by several at once.

    slices: one per group, ``{attribute: value}``; codes: (n,) position of each sample's group in
    ``slices``. A group may hold no sample.
    """

    slices: tuple[dict[str, str], ...]
    codes: np.ndarray

    @property
    def attribute(self) -> str:
        """The attribute's name; of an intersection, ``race & sex``."""
        return " & ".join(self.slices[0])

    @property
    def is_intersection(self) -> bool:
        """Whether several attributes divide the samples."""
        return len(self.slices[0]) > 1

    def named(self, group: int) -> str:
        """A group in words: ``Caucasian``; of an intersection, ``Caucasian & Female``."""
        return " & ".join(self.slices[group].values())

    def is_known(self, group: int) -> bool:
        """Whether the group is one that somebody declared."""
        return UNKNOWN not in self.slices[group].values()


class Cells(NamedTuple):
    """The table group x label x decision, its empty cells left out; one entry per cell each."""

    group: np.ndarray
    y: np.ndarray
    predicted: np.ndarray
    samples: np.ndarray


def single(attribute: str, column: np.ndarray, declared: Iterable[str] = ()) -> Partition:
    """Divide by one attribute. column: (n,) str; declared: groups that exist, seen here or not."""
    seen, codes = distinct(column.astype(str, copy=False))
    groups = sorted({*seen.tolist(), *declared})
    position = np.searchsorted(groups, seen)
    return Partition(tuple({attribute: group} for group in groups), position[codes])


def distinct(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different words of a column, sorted, and each row's position among them.

    What ``np.unique`` gives, without sorting a million words: rows are told apart by a hash of their
    letters, and the hash is checked against the words.
    """
    if not len(column) or not column.dtype.itemsize:
        words, codes = np.unique(column, return_inverse=True)
        return words, codes
    letters = np.ascontiguousarray(column).view(np.uint32).reshape(len(column), -1)
    hashes = np.zeros(len(column), dtype=np.uint64)
    for place in range(letters.shape[1]):
        hashes = (hashes ^ letters[:, place]) * PRIME
    _, first, codes = np.unique(hashes, return_index=True, return_inverse=True)
    words = column[first]
    if not (words[codes] == column).all():
        words, codes = np.unique(column, return_inverse=True)
        return words, codes
    order = np.argsort(words)
    position = np.empty_like(order)
    position[order] = np.arange(len(order))
    return words[order], position[codes]


def crossed(parts: Sequence[Partition]) -> Partition:
    """Divide by several attributes at once: every combination, also those without a sample."""
    codes = np.zeros_like(parts[0].codes)
    for part in parts:
        codes = codes * len(part.slices) + part.codes
    combined = product(*(part.slices for part in parts))
    slices = [{key: value for piece in one for key, value in piece.items()} for one in combined]
    return Partition(tuple(slices), codes)


def chosen(
    groups: Mapping[str, np.ndarray],
    attributes: Sequence[str] | Mapping[str, Sequence[str]] | None,
) -> dict[str, set[str]]:
    """The attributes asked for (None: all), each with the groups declared for it.

    Raises UnknownName for an attribute that the data does not declare.
    """
    asked: Mapping[str, Sequence[str]]
    if attributes is None:
        asked = dict.fromkeys(groups, ())
    elif isinstance(attributes, Mapping):
        asked = attributes
    else:
        asked = dict.fromkeys(attributes, ())
    for attribute in asked:
        if attribute not in groups:
            raise UnknownName(attribute, "group attribute", groups)
    return {attribute: set(declared) for attribute, declared in asked.items()}


def intersected(
    parts: Mapping[str, Partition], intersections: Literal[True] | Sequence[Sequence[str]]
) -> Iterator[Partition]:
    """The intersections asked for: of every two attributes (True), or those listed.

    Raises UnknownName for an attribute that is not measured, PlanError for a list of fewer than
    two.
    """
    listed = combinations(parts, 2) if intersections is True else intersections
    for names in listed:
        if len(set(names)) < 2 or len(set(names)) < len(names):
            message = f"intersections: expected two or more different attributes, got {list(names)}"
            raise PlanError(message)
        for name in names:
            if name not in parts:
                raise UnknownName(name, "measured group attribute", parts)
        yield crossed([parts[name] for name in names])


class Joint(NamedTuple):
    """Label and decision of each sample as one number, ``y * width + predicted``. codes: (n,)."""

    codes: np.ndarray
    width: int


def joint(y: np.ndarray, predicted: np.ndarray, *, classes: int | None = None) -> Joint:
    """Check labels and decisions once, for every way of dividing the samples. y, predicted: (n,).

    Raises NonFinite for missing values, AuditError for whatever else is not a class index.
    """
    y = class_indices(y, what="labels", classes=classes)
    predicted = class_indices(predicted, what="decisions", classes=classes)
    width = int(max(y.max(initial=0), predicted.max(initial=0))) + 1
    return Joint(y * width + predicted, width)


def cells(codes: np.ndarray, answers: Joint) -> Cells:
    """Count the samples of each (group, label, decision). codes: (n,) position of the group."""
    square = answers.width**2
    keys = codes * square + answers.codes
    if (most := int(keys.max(initial=0))) < DENSE:
        counts = np.bincount(keys, minlength=most + 1)
        keys = np.flatnonzero(counts)
        counts = counts[keys]
    else:
        keys, counts = np.unique(keys, return_counts=True)
    return Cells(
        keys // square, keys // answers.width % answers.width, keys % answers.width, counts
    )


def tallies(table: Cells, groups: int, *, positive: int | None) -> list[Tally]:
    """One tally per group, in order. positive: the class that counts as selected, None if none."""

    def total(which: np.ndarray) -> list[int]:
        counted = np.bincount(table.group[which], table.samples[which], minlength=groups)
        return [int(count) for count in counted]

    everyone = total(np.ones(len(table.samples), dtype=bool))
    correct = total(table.y == table.predicted)
    if positive is None:
        return [Tally(*counts) for counts in zip(everyone, correct, strict=True)]
    is_positive, selected = table.y == positive, table.predicted == positive
    columns = (
        everyone, correct,
        total(~is_positive & ~selected), total(~is_positive & selected),
        total(is_positive & ~selected), total(is_positive & selected),
    )  # fmt: skip
    return [Tally(*counts) for counts in zip(*columns, strict=True)]


def reference(partition: Partition, sizes: Sequence[int], named: Mapping[str, str]) -> int:
    """The group to compare with, chosen by name and size alone, never by a decision.

    sizes: samples per group; named: the group asked for, per attribute. Otherwise the largest group
    that is known. Raises UnknownName for a name that is no group of the attribute.
    """
    possible = list(range(len(partition.slices)))
    for attribute in partition.slices[0]:
        known = {where[attribute] for where in partition.slices}
        if attribute in named:
            if named[attribute] not in known:
                raise UnknownName(named[attribute], f"group of {attribute}", known)
            possible = [
                group for group in possible
                if partition.slices[group][attribute] == named[attribute]
            ]  # fmt: skip
    declared = [group for group in possible if partition.is_known(group)] or possible
    return max(declared, key=lambda group: sizes[group])


def known_attributes(named: Mapping[str, str], groups: Mapping[str, np.ndarray]) -> None:
    """Raise UnknownName if a reference is named for an attribute that the data do not declare."""
    for attribute in named:
        if attribute not in groups:
            raise UnknownName(attribute, "group attribute", groups)

"""Average precision of detections by COCO's definition: boxes in, numbers out.

Knows true and found boxes of pictures; refuses any class of its own. What is matched is decided picture
by picture, so that pictures can be drawn again without matching anew. Lin et al. 2014, and the
evaluation that is published with it: of all sizes, at most 100 detections a class and picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dlaudit.audit.parts import Boxes

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""Overlaps from which a detection counts as right."""

RECALLS = np.linspace(0.0, 1.0, 101)
"""Where precision is read off."""

MOST = 100
"""Detections of a class in a picture, the surest first."""


class Matched(NamedTuple):
    """One class's detections, the surest first, each matched or not at every threshold.

    picture: (D,) whose detection it is; right, wrong: (T, D) bool, neither where a crowd was met; objects:
    (n,) true objects in each picture.
    """

    picture: np.ndarray
    right: np.ndarray
    wrong: np.ndarray
    objects: np.ndarray


def overlaps(found: np.ndarray, true: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """(D, G) intersection over union of boxes (x0, y0, x1, y1); of a crowd, over the found box alone."""
    corner = np.maximum(found[:, None, :2], true[None, :, :2])
    other = np.minimum(found[:, None, 2:], true[None, :, 2:])
    both = np.clip(other - corner, 0, None).prod(axis=2)
    of_found = (found[:, 2:] - found[:, :2]).prod(axis=1)[:, None]
    of_true = (true[:, 2:] - true[:, :2]).prod(axis=1)[None]
    whole = np.where(crowd[None], of_found, of_found + of_true - both)
    with np.errstate(invalid="ignore", divide="ignore"):
        share: np.ndarray = np.where(whole > 0, both / whole, 0.0)
    return share


def in_picture(
    true: Boxes, found: Boxes, label: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Scores (D,), right and wrong (T, D), and true objects of one class in one picture.

    Each detection, the surest first, takes the object that it overlaps most among those that are left;
    crowds come last, and can be taken again.
    """
    own, called = true.label == label, found.label == label
    if not (own.any() or called.any()):  # most pictures, of many classes
        nothing = np.zeros((len(THRESHOLDS), 0), dtype=bool)
        return np.zeros(0), nothing, nothing, 0
    order = np.argsort(-found.score[called], kind="stable")[:MOST]
    box, score = found.box[called][order], found.score[called][order]
    last = np.argsort(true.crowd[own], kind="stable")
    crowd = true.crowd[own][last]
    shared = overlaps(box, true.box[own][last], crowd)
    right = np.zeros((len(THRESHOLDS), len(score)), dtype=bool)
    wrong = np.ones_like(right)
    plain = int((~crowd).sum())
    for at, threshold in enumerate(THRESHOLDS):
        taken = np.zeros(plain, dtype=bool)
        for place in range(len(score)):
            free = np.where(taken, -1.0, shared[place, :plain])
            # Of equal overlaps the later object is taken, as in the published evaluation.
            best = plain - 1 - int(free[::-1].argmax()) if plain else -1
            if plain and free[best] >= threshold:
                taken[best] = True
                right[at, place], wrong[at, place] = True, False
            elif (shared[place, plain:] >= threshold).any():
                wrong[at, place] = False
    return score, right, wrong, plain


def matched(true: Sequence[Boxes], found: Sequence[Boxes], label: int) -> Matched:
    """One class's detections in all pictures, the surest first; ties in the order of the pictures."""
    pieces = [in_picture(a, b, label) for a, b in zip(true, found, strict=True)]
    score = np.concatenate([np.zeros(0), *(piece[0] for piece in pieces)])
    picture = np.repeat(np.arange(len(pieces)), [len(piece[0]) for piece in pieces])
    right, wrong = (
        np.concatenate([np.zeros((len(THRESHOLDS), 0), dtype=bool), *(one[k] for one in pieces)], axis=1)
        for k in (1, 2)
    )  # fmt: skip
    order = np.argsort(-score, kind="stable")
    return Matched(
        picture[order], right[:, order], wrong[:, order], np.array([one[3] for one in pieces])
    )


def average_precision(
    one: Matched, weights: np.ndarray, thresholds: slice = slice(None)
) -> np.ndarray:
    """(R, n) how often each picture counts -> (R, T) average precision; NaN where no object is true.

    The precision at each recall is the best at that recall or above, read off at 101 recalls.
    thresholds: some of ``THRESHOLDS``.
    """
    rights, wrongs = one.right[thresholds], one.wrong[thresholds]
    value = np.full((len(weights), len(rights)), np.nan)
    for row, drawn in enumerate(weights):
        objects = float(drawn @ one.objects)
        if objects == 0:
            continue
        each = drawn[one.picture]
        right, wrong = np.cumsum(rights * each, axis=1), np.cumsum(wrongs * each, axis=1)
        seen = np.maximum(right + wrong, 1e-12)
        precision = np.maximum.accumulate((right / seen)[:, ::-1], axis=1)[:, ::-1]
        recall = right / objects
        for at in range(len(rights)):
            places = np.searchsorted(recall[at], RECALLS, side="left")
            inside = places < recall.shape[1]
            value[row, at] = precision[at, places[inside]].sum() / len(RECALLS)
    return value

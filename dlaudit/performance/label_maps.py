"""Intersection over union and pixel accuracy of label maps: arrays in, numbers out.

Knows class indices per pixel, -1 where nothing counts; refuses to call a pixel a sample: pixels of one
picture depend on each other, so counts are kept by picture.
"""

from __future__ import annotations

import numpy as np


def counts(truth: np.ndarray, decided: np.ndarray, classes: int) -> np.ndarray:
    """(n, 3, C) float64 for each picture: pixels of both, of the decision, and of the truth.

    truth, decided: (n, H, W) whole numbers; where truth is -1, nothing counts.
    """
    held = np.zeros((len(truth), 3, classes))
    for row, (true, said) in enumerate(zip(truth, decided, strict=True)):
        inside = true >= 0
        right, given = true[inside], said[inside]
        held[row, 0] = np.bincount(right[right == given], minlength=classes)
        held[row, 1] = np.bincount(given, minlength=classes)
        held[row, 2] = np.bincount(right, minlength=classes)
    return held


def iou(summed: np.ndarray) -> np.ndarray:
    """(…, 3, C) sums of counts -> (…, C): both / (decision + truth - both); NaN for 0/0.

    Of the pixels of all pictures together, as in Pascal VOC (Everingham et al. 2015).
    """
    both, given, true = (summed[..., place, :] for place in range(3))
    with np.errstate(invalid="ignore", divide="ignore"):
        value: np.ndarray = both / (given + true - both)
    return value


def pixel_accuracy(summed: np.ndarray) -> np.ndarray:
    """(…, 3, C) -> (…): the share of pixels that are given their class; NaN where none counts."""
    with np.errstate(invalid="ignore", divide="ignore"):
        value: np.ndarray = summed[..., 0, :].sum(axis=-1) / summed[..., 2, :].sum(axis=-1)
    return value

"""Shapes of 24 x 24 pixels on noisy ground, with masks, and a small net that learns them in seconds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SIDE = 24
CLASSES = ("square", "cross", "ring", "bars")


class Shapes(NamedTuple):
    """x: (n, 1, 24, 24) float32 in [0, 1]; y: (n,); mask: (n, 24, 24), true where the shape is."""

    x: np.ndarray
    y: np.ndarray
    mask: np.ndarray


def shapes(n, seed):
    """Random shapes at random places, in random brightness."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, len(CLASSES), n)
    down, across = np.indices((9, 9)) - 4
    square = np.maximum(abs(down), abs(across)) == 3
    cross = (abs(down) <= 1) ^ (abs(across) <= 1)
    ring = abs(np.hypot(down, across) - 3.2) < 0.9
    bars = down % 3 == 0
    stamps = np.stack([square, cross, ring, bars])
    mask = np.zeros((n, SIDE, SIDE), dtype=bool)
    top, left = rng.integers(0, SIDE - 9, (2, n))
    for row in range(n):
        mask[row, top[row] : top[row] + 9, left[row] : left[row] + 9] = stamps[y[row]]
    ground = rng.uniform(0, 0.5, (n, SIDE, SIDE))
    light = rng.uniform(0.5, 0.9, (n, 1, 1))
    x = np.clip(ground + light * mask, 0, 1).astype(np.float32)[:, None]
    return Shapes(x, y.astype(np.int64), mask)


def net(seed=0):
    """Three convolutions with BatchNorm, 12 x 12 places at the end, and a mean; untrained."""
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, len(CLASSES)),
        ).eval()  # fmt: skip

"""Does deleting what a map points at hurt the decision more than deleting without looking?

Knows maps, fills and probabilities; never how a map was made. ``|x - b|`` never looks at the model
and beats random deletion about as well as Integrated Gradients does, so a map's gain is taken over
the *best* of the orders that know the input only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dlaudit.audit.parts import Model

PIECES = 20
BLOCKS = 8
"""Random deletion removes blocks of a side's eighth: single pixels hide nothing from a large net."""


class Gain(NamedTuple):
    """control: its name; area, control_area: (n,) deletion AUC of the map and of that control."""

    control: str
    area: np.ndarray
    control_area: np.ndarray

    @property
    def paired(self) -> np.ndarray:
        """(n,): control AUC - method AUC, above 0 where the map found what the decision needs."""
        difference: np.ndarray = self.control_area - self.area
        return difference


class Deletion(NamedTuple):
    """One experiment. x: (n, *input); target: (n,); fill: like one input; pixels: pictures or not.

    ties: (n, P), random numbers that order equal scores, the same ones for every order.
    """

    model: Model
    x: Tensor
    target: Tensor
    fill: Tensor
    pixels: bool
    ties: np.ndarray

    def gain(self, maps: np.ndarray, controls: dict[str, np.ndarray]) -> Gain:
        """The map against the control with the smallest mean AUC.

        maps and each control: (n, P) scores of positions, larger is deleted first.
        """
        areas = {name: self.area(scores) for name, scores in controls.items()}
        best = min(areas, key=lambda name: (float(areas[name].mean()), name))
        return Gain(best, self.area(maps), areas[best])

    def area(self, scores: np.ndarray) -> np.ndarray:
        """(n,): area under the probability of the decision while positions are deleted.

        (sum s - s_0 / 2 - s_K / 2) / K over K equal portions (Petsiuk et al. 2018).
        """
        n, positions = scores.shape
        order = np.lexsort((self.ties, -scores), axis=1)
        rank = np.empty_like(order)
        np.put_along_axis(rank, order, np.arange(positions)[None], axis=1)
        pieces = min(PIECES, positions)
        total: np.ndarray = np.zeros(n)
        for k in range(pieces + 1):
            gone = rank < round(k * positions / pieces)
            total += self._probability(gone) * (0.5 if k in {0, pieces} else 1.0)
        return np.asarray(total / pieces)

    def _probability(self, gone: np.ndarray) -> np.ndarray:
        """(n,) softmax probability of the targets with some positions filled. gone: (n, P) bool."""
        flags = torch.as_tensor(gone, device=self.x.device)
        flags = flags.view(len(gone), *self._position_shape)
        logits = self.model.logits(torch.where(flags, self.fill, self.x)).double()
        chances = torch.softmax(logits, dim=1).gather(1, self.target[:, None])
        return np.asarray(chances[:, 0].cpu().numpy())

    @property
    def _position_shape(self) -> tuple[int, ...]:
        """One input with its channels as one: pixels are deleted whole."""
        shape = tuple(self.x.shape[1:])
        return (*(1,) * (len(shape) - 2), *shape[-2:]) if self.pixels else shape


def scores(maps: np.ndarray, *, pixels: bool) -> np.ndarray:
    """(n, P): one signed score per position; the channels of a pixel are added."""
    if pixels:
        maps = maps.reshape(len(maps), -1, maps.shape[-2] * maps.shape[-1]).sum(axis=1)
    return maps.reshape(len(maps), -1)


def controls(
    x: np.ndarray, fill: np.ndarray, rng: np.random.Generator, *, pixels: bool
) -> dict[str, np.ndarray]:
    """Orders that know the input only: random blocks, |x - b|, and for pictures edges and centre."""
    n = len(x)
    distance = scores(np.abs(x - fill).astype(np.float64), pixels=pixels)
    if not pixels:
        return {"random": rng.random(distance.shape), "distance": distance}
    height, width = x.shape[-2:]
    down, across = np.indices((height, width))
    side = (max(1, height // BLOCKS), max(1, width // BLOCKS))
    grid = rng.random((n, -(-height // side[0]), -(-width // side[1])))
    blocks = grid[:, down // side[0], across // side[1]].reshape(n, -1)
    centre = -np.hypot(down - (height - 1) / 2, across - (width - 1) / 2).reshape(1, -1)
    return {
        "random": blocks,
        "distance": distance,
        "edges": edges(x).reshape(n, -1),
        "centre": np.repeat(centre, n, axis=0),
    }


def edges(x: np.ndarray) -> np.ndarray:
    """(n, H, W): Sobel magnitude of the mean over channels."""
    from scipy.ndimage import correlate1d

    grey = x.reshape(len(x), -1, *x.shape[-2:]).mean(axis=1, dtype=np.float64)

    def slope(along: int, across: int) -> np.ndarray:
        # Not scipy's sobel, which would smooth over the axis of the pictures as well.
        return np.asarray(correlate1d(correlate1d(grey, [-1, 0, 1], along), [1, 2, 1], across))

    magnitude: np.ndarray = np.hypot(slope(1, 2), slope(2, 1))
    return magnitude

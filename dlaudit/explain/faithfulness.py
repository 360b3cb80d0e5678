"""Does deleting, or showing, what a map points at move the decision more than doing so without looking?

Knows maps, fills and probabilities; never how a map was made. ``|x - b|`` never looks at the model
and beats random deletion about as well as Integrated Gradients does, so a map's gain is taken over
the *best* of the orders that know the input only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

PIECES = 20
BLOCKS = 8
"""Random deletion removes blocks of a side's eighth: single pixels hide nothing from a large net."""


class Curves(NamedTuple):
    """How the decision's probability goes. deletion, insertion: (n, K + 1), from none to all."""

    deletion: np.ndarray
    insertion: np.ndarray


class Gain(NamedTuple):
    """control: the best one's name; area, control_area: (n,) areas of the map's and that curve.

    sign: 1 where a larger area is better (insertion), -1 where a smaller one is (deletion).
    """

    control: str
    area: np.ndarray
    control_area: np.ndarray
    sign: int

    @property
    def paired(self) -> np.ndarray:
        """(n,): above 0 where the map found what the decision needs before the control did."""
        difference: np.ndarray = self.sign * (self.area - self.control_area)
        return difference


def area(curve: np.ndarray) -> np.ndarray:
    """(n, K + 1) -> (n,): (sum s - s_0 / 2 - s_K / 2) / K over equal portions (Petsiuk et al. 2018)."""
    whole = curve.sum(axis=1) - (curve[:, 0] + curve[:, -1]) / 2
    return np.asarray(whole / (curve.shape[1] - 1))


def gain(curve: np.ndarray, controls: dict[str, np.ndarray], sign: int) -> Gain:
    """A map's curve against the control that is best on average. sign: see ``Gain``."""
    areas = {name: area(one) for name, one in controls.items()}
    best = max(areas, key=lambda name: (sign * float(areas[name].mean()), name))
    return Gain(best, area(curve), areas[best], sign)


class Deletion(NamedTuple):
    """One experiment. x, fill: (n, *input); target: (n,); pixels: pictures or not.

    answer: x -> logits, no graph attached. ties: (n, P), random numbers that order equal scores, the
    same ones for every order.
    """

    answer: Callable[[Tensor], Tensor]
    x: Tensor
    target: Tensor
    fill: Tensor
    pixels: bool
    ties: np.ndarray

    def curves(self, scores: np.ndarray) -> Curves:
        """Positions are deleted, or shown, in order of their scores (n, P), the largest first."""
        n, positions = scores.shape
        rank = ranked(scores, self.ties)
        pieces = min(PIECES, positions)
        found = np.empty((2, n, pieces + 1))
        for k in range(pieces + 1):
            first = rank < round(k * positions / pieces)
            found[0, :, k] = self._probability(first)
            found[1, :, k] = self._probability(~first)
        return Curves(*found)

    def logits(self, gone: np.ndarray) -> Tensor:
        """(n, C) with some positions filled. gone: (n, P) bool."""
        flags = torch.as_tensor(gone, device=self.x.device)
        flags = flags.view(len(gone), *self._position_shape)
        return self.answer(torch.where(flags, self.fill, self.x))

    def _probability(self, gone: np.ndarray) -> np.ndarray:
        """(n,) softmax probability of the targets with some positions filled."""
        chances = torch.softmax(self.logits(gone).double(), dim=1).gather(1, self.target[:, None])
        return np.asarray(chances[:, 0].cpu().numpy())

    @property
    def _position_shape(self) -> tuple[int, ...]:
        """One input with its channels as one: pixels are deleted whole."""
        shape = tuple(self.x.shape[1:])
        return (*(1,) * (len(shape) - 2), *shape[-2:]) if self.pixels else shape


def ranked(scores: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """(n, P): the place of each position in its row's order, 0 for the largest score."""
    order = np.lexsort((ties, -scores), axis=1)
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(scores.shape[1])[None], axis=1)
    return rank


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
    centre = nearness(height, width).reshape(1, -1)
    return {
        "random": blocks,
        "distance": distance,
        "edges": edges(x).reshape(n, -1),
        "centre": np.repeat(centre, n, axis=0),
    }


def nearness(height: int, width: int) -> np.ndarray:
    """(H, W): minus the distance to the middle."""
    down, across = np.indices((height, width))
    return np.asarray(-np.hypot(down - (height - 1) / 2, across - (width - 1) / 2))


def edges(x: np.ndarray) -> np.ndarray:
    """(n, H, W): Sobel magnitude of the mean over channels."""
    from scipy.ndimage import correlate1d

    grey = x.reshape(len(x), -1, *x.shape[-2:]).mean(axis=1, dtype=np.float64)

    def slope(along: int, across: int) -> np.ndarray:
        # Not scipy's sobel, which would smooth over the axis of the pictures as well.
        return np.asarray(correlate1d(correlate1d(grey, [-1, 0, 1], along), [1, 2, 1], across))

    magnitude: np.ndarray = np.hypot(slope(1, 2), slope(2, 1))
    return magnitude

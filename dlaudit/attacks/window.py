"""Square windows of a picture: the smallest around a change, the best to keep, the best to attack.

Knows (B, C, H, W) tensors and areas; never a model. A patch of area share epsilon lies in a window of
side floor(sqrt(epsilon H W)) pixels, cut by the edge of the picture where it is longer than that.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

SLACK = 1e-9
"""A share written as a decimal may fall short of a whole number of pixels by its rounding."""


def side_of(share: float, height: int, width: int) -> int:
    """The side of the largest square window with at most this share of the area; 0 for none."""
    most = math.floor(math.sqrt(share * (1 + SLACK) * height * width))
    return min(most, max(height, width))


def share_of(changed: Tensor) -> Tensor:
    """(B,) float64: the area of the smallest square around all changed pixels, as a share of the picture.

    changed: (B, C, H, W) bool.
    """
    height, width = changed.shape[2:]
    lines = changed.any(dim=1)
    sides = [extent(lines.any(dim=2)), extent(lines.any(dim=1))]
    return torch.maximum(*sides).double().square() / (height * width)


def extent(touched: Tensor) -> Tensor:
    """(B, L) bool -> (B,) from the first touched place to the last, both counted; 0 if none is."""
    length = touched.shape[1]
    places = torch.arange(length, device=touched.device)
    last = torch.where(touched, places, -1).amax(dim=1)
    first = torch.where(touched, places, length).amin(dim=1)
    return (last - first + 1).clamp_min(0)


def sums(weight: Tensor, side: int) -> Tensor:
    """(B, H, W) -> (B, H', W'): the sum over every window of this side, by its upper left corner."""
    tall, wide = (min(side, size) for size in weight.shape[1:])
    return avg_pool2d(weight.unsqueeze(1), (tall, wide), stride=1).squeeze(1) * (tall * wide)


def best_corner(weight: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """(B,) row and column of the upper left corner of the window with the largest sum."""
    found = sums(weight, side)
    at = found.flatten(1).argmax(dim=1)
    return at // found.shape[2], at % found.shape[2]


def inside(top: Tensor, left: Tensor, side: int, *, height: int, width: int) -> Tensor:
    """(B, H, W) bool: the pixels of each picture's window. top, left: (B,)."""
    rows, columns = (torch.arange(size, device=top.device) for size in (height, width))
    top, left = top.view(-1, 1), left.view(-1, 1)
    tall, wide = (rows >= top) & (rows < top + side), (columns >= left) & (columns < left + side)
    return tall.unsqueeze(2) & wide.unsqueeze(1)


def kept(delta: Tensor, share: float) -> Tensor:
    """(B, 1, H, W) bool: the window that holds most of a change's squares; none if it has no pixel.

    delta: (B, C, H, W), the change.
    """
    height, width = delta.shape[2:]
    side = side_of(share, height, width)
    if side == 0:
        return torch.zeros_like(delta[:, :1], dtype=torch.bool)
    top, left = best_corner(delta.double().square().sum(dim=1), side)
    return inside(top, left, side, height=height, width=width).unsqueeze(1)

"""A square sticker on pictures: where it is stuck, how it is turned, and what the picture shows then.

Knows patterns (C, s, s) in [0, 1], valid ranges and places; never a model. Whatever is drawn, all that
changes lies inside the window of side s, so that the stated area holds for every placement.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from dlaudit.attacks.planes import Planes
from dlaudit.attacks.window import inside


class Canvas(NamedTuple):
    """What a sticker is stuck on. layout: of one input; low, high: (1, C, H, W) or (1, 1, 1, 1)."""

    layout: Planes
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, x: Tensor, bounds: tuple[Any, Any] | None) -> Canvas:
        """bounds: as told by the harness; without them, from the smallest to the largest value of x.

        Raises NotOffered if inputs are no pictures.
        """
        layout = Planes.of(x.shape[1:])
        if bounds is None:
            bounds = (float(x.min()), float(x.max())) if x.numel() else (0.0, 1.0)
        ends = (torch.as_tensor(end).to(x) for end in bounds)
        low, high = (
            end.view(1, 1, 1, 1) if end.ndim == 0 else layout.spread(end.unsqueeze(0))
            for end in ends
        )
        return cls(layout, low, high)

    @property
    def span(self) -> float:
        """The widest valid range of any value."""
        return float((self.high - self.low).max())


class Placement(NamedTuple):
    """Where each sticker sits and how it was turned: (B,) each. degrees; size: share of its side."""

    top: Tensor
    left: Tensor
    degrees: Tensor
    size: Tensor


def placed(
    n: int, side: int, layout: Planes, *, rotation: float, smallest: float, generator: torch.Generator
) -> Placement:  # fmt: skip
    """n random placements, anywhere in the picture.

    rotation: degrees to either side; smallest: the least share of the side that is left of it.
    """
    drawn = torch.rand(4, n, generator=generator, dtype=torch.float64)
    room = [max(size - side, 0) + 1 for size in (layout.height, layout.width)]
    return Placement(
        top=(drawn[0] * room[0]).long(), left=(drawn[1] * room[1]).long(),
        degrees=rotation * (2 * drawn[2] - 1), size=1 - (1 - smallest) * drawn[3],
    )  # fmt: skip


def stuck(pattern: Tensor, x: Tensor, canvas: Canvas, placement: Placement) -> Tensor:
    """x with the sticker on every picture, differentiable in the pattern.

    pattern: (C, s, s) in [0, 1]; x: (B, *input).
    """
    layout, side = canvas.layout, pattern.shape[-1]
    placement = Placement(*(column.to(x.device) for column in placement))
    content, covers = turned(pattern, placement)
    rows, columns = (torch.arange(size, device=x.device) for size in (layout.height, layout.width))
    down = (rows - placement.top.view(-1, 1)).clamp(0, side - 1)  # (B, H)
    right = (columns - placement.left.view(-1, 1)).clamp(0, side - 1)  # (B, W)
    each = torch.arange(len(x), device=x.device).view(-1, 1, 1)
    at = (each, slice(None), down.unsqueeze(2), right.unsqueeze(1))
    # An index array on either side of a slice moves it to the end: (B, H, W, C).
    spread, covered = content[at].movedim(-1, 1), covers[at].movedim(-1, 1)
    window = inside(
        placement.top, placement.left, side, height=layout.height, width=layout.width
    ).unsqueeze(1)
    value = canvas.low + spread * (canvas.high - canvas.low)
    planes = layout.spread(x)
    return layout.restored(torch.where(window & covered, value, planes)).to(x.dtype)


def turned(pattern: Tensor, placement: Placement) -> tuple[Tensor, Tensor]:
    """Each sticker as it lies in its window: (B, C, s, s), and where it covers it, (B, 1, s, s) bool.

    What a turn carries out of the window is cut off.
    """
    n, side = len(placement.top), pattern.shape[-1]
    angle = placement.degrees * (math.pi / 180)
    cos, sin = torch.cos(angle) / placement.size, torch.sin(angle) / placement.size
    none = torch.zeros_like(cos)
    back = torch.stack([cos, -sin, none, sin, cos, none], dim=1).view(n, 2, 3).to(pattern)
    grid = affine_grid(back, [n, len(pattern), side, side], align_corners=False)
    content = grid_sample(
        pattern.expand(n, -1, -1, -1), grid, padding_mode="border", align_corners=False
    )
    return content.clamp(0, 1), (grid.abs() <= 1).all(dim=-1).unsqueeze(1)

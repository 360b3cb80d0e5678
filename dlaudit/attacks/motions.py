"""Pictures rotated, moved, scaled, sheared and flipped, and the grids of such motions.

Knows (B, C, H, W) pictures and geometry; never a model. What comes in from beyond the edge is said by
``beyond``: nothing (zeros), the edge repeated (border) or the picture mirrored (reflection).
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Tensor

from dlaudit.attacks.blurs import pixels, sampled

HORIZONTAL, VERTICAL = 1, 2
"""Which way a picture is mirrored; 3 is both."""


class Motion(NamedTuple):
    """One motion: flip, then scale, shear, rotate about the middle, then move.

    degrees: counter-clockwise; right, down: fractions of width and height; factor: above 1 larger;
    shear: degrees by which upright lines lean; flip: 0 to 3.
    """

    degrees: float = 0.0
    right: float = 0.0
    down: float = 0.0
    factor: float = 1.0
    shear: float = 0.0
    flip: int = 0

    @property
    def nothing(self) -> bool:
        """Whether it leaves a picture as it is."""
        return self == Motion()

    def said(self) -> str:
        """In words."""
        parts = {
            "rotation by {:g}°": self.degrees or None,
            "a move of {:.3g} of the width to the right": self.right or None,
            "a move of {:.3g} of the height downwards": self.down or None,
            "scaling by {:g}": None if self.factor == 1 else self.factor,
            "shear by {:g}°": self.shear or None,
        }
        words = [text.format(value) for text, value in parts.items() if value is not None]
        if self.flip:
            words.append(("a flip sideways", "a flip upside down", "both flips")[self.flip - 1])
        return " and ".join(words)


def moved(x: Tensor, motions: list[Motion], *, beyond: str) -> Tensor:
    """Each picture after its motion, read bilinearly. x: (B, C, H, W); motions: one each, or one for all."""
    n, _, height, width = x.shape
    each = motions * n if len(motions) == 1 else motions
    flip = torch.tensor([one.flip for one in each]).view(-1, 1, 1, 1)
    x = torch.where((flip & HORIZONTAL) > 0, x.flip(3), x)
    x = torch.where((flip & VERTICAL) > 0, x.flip(2), x)
    table = torch.tensor([one[:5] for one in each], dtype=torch.float64).view(-1, 5)
    degrees, right, down, factor, shear = (column.view(-1, 1, 1) for column in table.unbind(1))
    rows, columns = (place.double() for place in pixels(n, height, width))
    # Backwards, from where a pixel is seen to where it is read: unmove, unrotate, unshear, unscale.
    across = columns - (width - 1) / 2 - right * width
    below = rows - (height - 1) / 2 - down * height
    cos, sin = torch.cos(torch.deg2rad(degrees)), torch.sin(torch.deg2rad(degrees))
    across, below = cos * across - sin * below, sin * across + cos * below
    across = (across - torch.tan(torch.deg2rad(shear)) * below) / factor
    below = below / factor
    return sampled(x, below + (height - 1) / 2, across + (width - 1) / 2, beyond=beyond)


def line(reach: float, points: int) -> list[float]:
    """Evenly spaced numbers from -reach to reach; 0 is among them if their count is odd."""
    if points == 1:
        return [reach]
    return [reach * (2 * k / (points - 1) - 1) for k in range(points)]


class Reach(NamedTuple):
    """How far motions go: degrees, share of the side, change of scale, degrees of shear."""

    rotation: float
    translation: float
    scaling: float
    shear: float


def grid(kind: str, reach: Reach, *, angles: int, points: int) -> list[Motion]:
    """All motions of a kind, the mildest first, without the one that does nothing.

    angles, points: per axis.
    """
    moves = list(itertools.product(line(reach.translation, points), repeat=2))
    match kind:
        case "rotation":
            found = [Motion(degrees=value) for value in line(reach.rotation, angles)]
        case "translation":
            found = [Motion(right=right, down=down) for right, down in moves]
        case "scaling":
            found = [Motion(factor=1 + value) for value in line(reach.scaling, points)]
        case "shear":
            found = [Motion(shear=value) for value in line(reach.shear, points)]
        case "flip":
            found = [Motion(flip=flip) for flip in (HORIZONTAL, VERTICAL, HORIZONTAL | VERTICAL)]
        case _:
            turns = line(reach.rotation, angles)
            found = [Motion(degrees=a, right=r, down=d) for a in turns for r, d in moves]
    return sorted((one for one in found if not one.nothing), key=lambda one: strength(one, reach))


def strength(motion: Motion, reach: Reach) -> float:
    """How far a motion goes, as the largest share of its reach: 0 nothing, 1 the edge of the grid."""
    parts = (
        (abs(motion.degrees), reach.rotation),
        (abs(motion.right), reach.translation),
        (abs(motion.down), reach.translation),
        (abs(motion.factor - 1), reach.scaling),
        (abs(motion.shear), reach.shear),
        (float(motion.flip), 3.0),
    )
    return max(value / most if value else 0.0 for value, most in parts)


def drawn(n: int, reach: Reach, generator: torch.Generator) -> list[Motion]:
    """n rotations with a move, uniform within reach (Engstrom et al. 2019)."""
    most = torch.tensor([reach.rotation, reach.translation, reach.translation], dtype=torch.float64)
    values = (2 * torch.rand(n, 3, dtype=torch.float64, generator=generator) - 1) * most
    return [Motion(degrees=a, right=r, down=d) for a, r, d in values.tolist()]

"""Where height, width and colours lie in an input: pictures as (B, C, H, W) and back.

Knows shapes; never what a picture shows or who asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from dlaudit.errors import NotOffered

COLOURS = (1, 3)


class Planes(NamedTuple):
    """The layout of one input. last: whether its colours stand last; flat: whether it has no axis of them."""

    channels: int
    height: int
    width: int
    last: bool = False
    flat: bool = False

    @classmethod
    def of(cls, shape: Sequence[int]) -> Planes:
        """The layout of inputs of this shape: (H, W), (C, H, W) or (H, W, C).

        Colours stand last only where the last axis holds 1 or 3 values and the first does not.
        Raises NotOffered for any other shape, and for pictures without pixels.
        """
        if len(shape) == 2 and min(shape) > 0:
            return cls(1, shape[0], shape[1], flat=True)
        if len(shape) == 3 and min(shape) > 0:
            if shape[-1] in COLOURS and shape[0] not in COLOURS:
                return cls(shape[2], shape[0], shape[1], last=True)
            return cls(shape[0], shape[1], shape[2])
        message = f"expected pictures (H, W), (C, H, W) or (H, W, C), got inputs of {tuple(shape)}"
        raise NotOffered(message)

    def spread(self, x: Tensor) -> Tensor:
        """(B, *input) -> (B, C, H, W), a view."""
        if self.flat:
            return x.unsqueeze(1)
        return x.movedim(-1, 1) if self.last else x

    def restored(self, planes: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, *input), a view."""
        if self.flat:
            return planes.squeeze(1)
        return planes.movedim(1, -1) if self.last else planes

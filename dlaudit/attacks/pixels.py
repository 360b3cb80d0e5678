"""A budget that counts places of an image: all channels of a place together.

Knows examples and their clean inputs; never how the places were chosen.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Pixels(NamedTuple):
    """At most so many places may change, in any of their channels (the first axis of an image)."""

    most: int

    def admits(self, x: Tensor, clean: Tensor) -> Tensor:
        """(B,) bool. x, clean: (B, channels, height, width)."""
        changed = (x != clean).any(dim=1)
        within: Tensor = changed.flatten(1).sum(dim=1) <= self.most
        return within

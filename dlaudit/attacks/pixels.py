"""What a budget of few values needs besides its number: what counts as one, and how far one may move.

Knows examples, clean inputs and ranges; never how values are chosen.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from dlaudit.audit.parts import Batch


class Pixels(NamedTuple):
    """At most so many places may change, in any of their channels (the first axis of an image)."""

    most: int

    def admits(self, x: Tensor, clean: Tensor) -> Tensor:
        """(B,) bool. x, clean: (B, channels, height, width)."""
        changed = (x != clean).any(dim=1)
        within: Tensor = changed.flatten(1).sum(dim=1) <= self.most
        return within


def finite(bounds: tuple[Any, Any] | None) -> bool:
    """Whether a declared range holds every value between two numbers."""
    return bounds is not None and all(np.isfinite(np.asarray(end, float)).all() for end in bounds)


def observed(batches: Iterable[Batch]) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the largest that each value of an input takes in some data: two arrays like one."""
    ends = [(np.asarray(one.x).min(axis=0), np.asarray(one.x).max(axis=0)) for one in batches]
    low, high = (np.stack(end) for end in zip(*ends, strict=True))
    return low.min(axis=0), high.max(axis=0)

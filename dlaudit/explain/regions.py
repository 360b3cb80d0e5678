"""Checks of regions of pictures: those that a plan declares, beside what the data's masks show.

Knows boxes in pixels; never what is asked of a region.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta

from dlaudit.audit.parts import Check

if TYPE_CHECKING:
    import numpy as np


class RegionCheck(Check, frozen=True, kw_only=True):
    """A check of masked or declared regions.

    masked: the name of the region that masks show. regions: name -> [top, left, height, width] in
    pixels. minimum: pictures below which no number is given.
    """

    masked: ClassVar[str]

    regions: dict[str, tuple[int, int, int, int]] = {}
    minimum: Annotated[int, Meta(ge=2)] = 20

    def __post_init__(self) -> None:
        """Refuse a declared region that takes the name of the masks' own."""
        if self.masked in self.regions:
            message = (
                f"regions.{self.masked}: this name belongs to the data set's masks; choose another"
            )
            raise ValueError(message)

    def missing(
        self, *, model: frozenset[str], data: frozenset[str], train_fn: bool
    ) -> tuple[str, ...]:
        """See ``Check.missing``: without declared regions it needs masks."""
        lacking = super().missing(model=model, data=data, train_fn=train_fn)
        if not self.regions and "mask" not in data:
            return (*lacking, "data: mask, or the parameter regions")
        return lacking

    def declared(self, shape: Sequence[int]) -> dict[str, np.ndarray]:
        """Every declared region by name, (n, H, W) bool. Raises ValueError for a box outside.

        shape: (n, ..., H, W) of the pictures.
        """
        from dlaudit.explain.replacement import boxed

        found = {}
        for name, box in self.regions.items():
            try:
                found[name] = boxed(box, tuple(shape))
            except ValueError as error:
                message = f"regions.{name}: {error}"
                raise ValueError(message) from error
        return found

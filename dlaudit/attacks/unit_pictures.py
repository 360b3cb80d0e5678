"""A block of samples as pictures in [0, 1], and changed pictures as inputs of the model again.

Knows layouts, dtypes and valid ranges; never what is done to a picture in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dlaudit.attacks.ball import valid_end
from dlaudit.attacks.planes import Planes
from dlaudit.errors import NotOffered

if TYPE_CHECKING:
    from dlaudit.audit.bench import Bench
    from dlaudit.audit.parts import Batch


class UnitPictures(NamedTuple):
    """x: (B, C, H, W) float32 on the CPU; low, span: the valid range, like one input or a number."""

    x: Tensor
    clean: Tensor
    low: Tensor
    high: Tensor
    layout: Planes

    @classmethod
    def of(cls, batch: Batch, bench: Bench) -> UnitPictures:
        """The batch's inputs. What lies outside the valid range is cut to it.

        Raises NotOffered if the model declares no valid range, or the inputs are no pictures of
        floating-point numbers.
        """
        clean = torch.as_tensor(batch.x).cpu()
        if bench.model.bounds is None:
            message = (
                f"{bench.run} is defined on pictures in [0, 1]: expected a model with bounds, got "
                f"none for {bench.model.card.name}. Say args.bounds = [low, high]"
            )
            raise NotOffered(message)
        if not clean.is_floating_point():
            message = (
                f"{bench.run}: expected pictures of floating-point numbers, got {clean.dtype} in "
                f"{bench.data.card.name}"
            )
            raise NotOffered(message)
        layout = Planes.of(clean.shape[1:])
        low, high = (torch.as_tensor(end, dtype=torch.float64).cpu() for end in bench.model.bounds)
        unit = (clean.double() - low) / (high - low)
        return cls(layout.spread(unit).float().clamp(0, 1), clean, low, high, layout)

    def inputs(self, changed: Tensor) -> np.ndarray:
        """Pictures (B, C, H, W) in [0, 1] as the model takes them: layout, range and dtype."""
        unit = self.layout.restored(changed).double()
        x = (self.low + unit * (self.high - self.low)).to(self.clean.dtype)
        # Rounding may step over an end by one bit.
        ends = (
            valid_end(end, self.clean, up=up) for end, up in ((self.low, True), (self.high, False))
        )
        cut: np.ndarray = x.clamp(*ends).numpy()
        return cut

    def rows(self, keep: Tensor) -> UnitPictures:
        """Some of the pictures. keep: (B,) bool or positions."""
        return self._replace(x=self.x[keep], clean=self.clean[keep])

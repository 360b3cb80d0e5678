"""Maps that never look at the model: edges, distance, centre and noise. Every test must refuse them.

Knows inputs only; refuses to know the model, which is the point.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from dlaudit.audit.parts import Explainer, Request
from dlaudit.audit.record import Cost
from dlaudit.errors import NotExplained

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

PICTURES = "expected pictures: other inputs have no {}"


class InputOnly(Explainer, frozen=True, kw_only=True):
    """A map that knows the input only."""

    needs: ClassVar[tuple[str, ...]] = ()

    def passes(self, *, positions: int) -> Cost:
        """None: it never asks the model."""
        del positions
        return Cost(forward=0, backward=0)


class Edges(InputOnly, frozen=True, kw_only=True):
    """Control: an edge detector (Sobel), which never looks at the model."""

    def attribute(self, request: Request) -> Tensor:
        """See ``Explainer.attribute``."""
        from dlaudit.explain.faithfulness import edges

        if not request.pixels:
            raise NotExplained(PICTURES.format("edges"))
        return spread_over(edges(request.x.detach().cpu().numpy()), request)


class Distance(InputOnly, frozen=True, kw_only=True):
    """Control: |x - baseline|, which never looks at the model."""

    based: ClassVar[bool] = True

    def attribute(self, request: Request) -> Tensor:
        """See ``Explainer.attribute``."""
        return (request.x - request.baseline).abs().detach()


class Centre(InputOnly, frozen=True, kw_only=True):
    """Control: nearness to the centre, the same for every input."""

    def attribute(self, request: Request) -> Tensor:
        """See ``Explainer.attribute``."""
        from dlaudit.explain.faithfulness import nearness

        if not request.pixels:
            raise NotExplained(PICTURES.format("centre"))
        height, width = request.x.shape[-2:]
        return spread_over(nearness(height, width)[None], request)


class Noise(InputOnly, frozen=True, kw_only=True):
    """Control: random numbers, new ones each time."""

    def attribute(self, request: Request) -> Tensor:
        """See ``Explainer.attribute``."""
        import torch

        return torch.randn(request.x.shape, generator=request.generator).to(request.x)


def spread_over(maps: np.ndarray, request: Request) -> Tensor:
    """(n, H, W) as a map like the input: each channel gets an equal part."""
    import torch

    size = torch.as_tensor(maps).to(request.x)
    channels = request.x[0, ..., 0, 0].numel()
    middle = (1,) * (request.x.ndim - 3)
    return (
        (size.reshape(len(size), *middle, *size.shape[-2:]) / channels).expand_as(request.x).clone()
    )

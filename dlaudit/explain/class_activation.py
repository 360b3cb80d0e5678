"""Grad-CAM: a layer's channels, weighted by how much the logit leans on each, laid over the input.

Knows one layer's output and gradient; never how the layer was chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dlaudit.explain.layers import Layer


def grad_cam(
    answer: Callable[[Tensor], Tensor], module: nn.Module, x: Tensor, target: Tensor, layer: Layer
) -> Tensor:
    """(B, *sides): sum over channels of mean gradient times activation (Selvaraju et al. 2017, eq. 1-2).

    Only what speaks for the decision, by the paper's ReLU, enlarged to the input's sides by (bi)linear
    interpolation.
    """
    kept: list[Tensor] = []

    def keep(of: nn.Module, given: Any, made: Any) -> None:
        del of, given
        kept.append(made[0] if isinstance(made, tuple) else made)

    hook = module.get_submodule(layer.name).register_forward_hook(keep)
    try:
        with torch.enable_grad():
            logits = answer(x.detach().clone().requires_grad_())
            total = logits.gather(1, target[:, None]).sum()
            (slope,) = torch.autograd.grad(total, kept[-1], allow_unused=True)
    finally:
        hook.remove()
    seen = layer.places.arranged(kept[-1].detach())
    leaning = torch.zeros_like(seen) if slope is None else layer.places.arranged(slope)
    weights = leaning.flatten(2).mean(dim=2)
    cam = (
        (weights.view(*weights.shape, *(1,) * len(layer.places.grid)) * seen)
        .sum(dim=1)
        .clamp_min(0)
    )
    return enlarged(cam, tuple(x.shape[2:]))


def enlarged(maps: Tensor, sides: tuple[int, ...]) -> Tensor:
    """(B, *grid) -> (B, *sides)."""
    mode = "bilinear" if len(sides) == 2 else "linear"
    return torch.nn.functional.interpolate(
        maps[:, None], size=sides, mode=mode, align_corners=False
    )[:, 0]

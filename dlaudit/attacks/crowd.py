"""One pattern against many samples: ascent of their mean loss by steps on small draws of them.

Knows a model's logits and gradients, and a function that puts a pattern on inputs; never where the
pattern may lie or how large it may be, which ``put`` and ``step`` keep to.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dlaudit.attacks.losses import Loss, margin
from dlaudit.audit.parts import Model
from dlaudit.errors import NonFinite


def learned(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    start: Tensor,
    put: Callable[[Tensor, Tensor], Tensor],
    step: Callable[[Tensor, Tensor, int], Tensor],
    steps: int,
    batch: int,
    loss: Loss,
    generator: torch.Generator,
) -> Tensor:
    """The pattern after ``steps`` steps, each along the gradient of the loss on ``batch`` samples.

    x, y: (n, *input), (n,) the samples to learn from; start: the first pattern; put: (pattern,
    inputs) -> inputs that carry it, differentiable; step: (pattern, gradient, number) -> pattern.
    The gradient goes through the model once and through ``put`` once. Raises NonFinite.
    """
    pattern = start
    for number in range(steps):
        if not len(y):
            break
        chosen = torch.randperm(len(y), generator=generator)[:batch].to(x.device)
        leaf = pattern.detach().requires_grad_()
        with torch.enable_grad():
            carrying = put(leaf, x[chosen])
        _, gradient = model.logits_and_gradient(carrying.detach(), y[chosen], loss)
        (slope,) = torch.autograd.grad(carrying, leaf, grad_outputs=gradient)
        if not torch.isfinite(slope).all():
            message = f"the gradient is NaN or infinite on a batch of {len(chosen)}"
            raise NonFinite(message)
        pattern = step(pattern, slope, number)
    return pattern.detach()


def capped_margin(ceiling: float) -> Loss:
    """The margin of the best wrong class, worth no more than ``ceiling``.

    Without a cap one sample far on the wrong side outweighs many that are nearly there (Shafahi et
    al. 2020 cap cross-entropy; a margin has no scale of its own, so its cap is given in logits).
    """

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        return margin(logits, y).clamp(max=ceiling)

    return loss


def capped_lead(ceiling: float) -> Loss:
    """The lead of a target class over the best other, worth no more than ``ceiling``. y: the targets."""

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        return (-margin(logits, y)).clamp(max=ceiling)

    return loss


def usual_margin(model: Model, x: Tensor, y: Tensor) -> float:
    """Mean size of the clean margins, in logits: how far a sample usually lies from the border."""
    return float(margin(model.logits(x), y).abs().mean()) if len(y) else 0.0

"""Gradients of logits, averaged over noise or over ways from other inputs; seeded, portioned.

Knows a differentiable function; never a module. captum draws the same averages from torch's and
numpy's global states, and sends all draws through the net at once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Answer = Callable[[Tensor], Tensor]


def gradient(answer: Answer, x: Tensor, target: Tensor) -> Tensor:
    """d logit / dx of each row's target, like x. x: (B, *input); target: (B,)."""
    x = x.detach().requires_grad_()
    chosen = answer(x).gather(1, target[:, None]).sum()
    (slope,) = torch.autograd.grad(chosen, x)
    return slope


def smooth_gradient(
    answer: Answer, x: Tensor, target: Tensor, *, draws: int, sd: float, generator: torch.Generator
) -> Tensor:
    """The mean gradient under Gaussian noise of standard deviation ``sd`` (Smilkov et al. 2017)."""
    total = torch.zeros_like(x)
    for _ in range(draws):
        noise = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)
        total += gradient(answer, x + sd * noise, target)
    return total / draws


def expected_gradient(
    answer: Answer,
    x: Tensor,
    target: Tensor,
    references: Tensor,
    *,
    draws: int,
    generator: torch.Generator,
) -> Tensor:
    """Gradients along ways from random references, times the way (Erion et al. 2021, eq. 3).

    references: (R, *input); each draw takes one for every row, and a point in the k-th of ``draws``
    equal parts of the way, so that the points cover it evenly.
    """
    total = torch.zeros_like(x)
    for k in range(draws):
        chosen = torch.randint(len(references), (len(x),), generator=generator)
        start = references[chosen.to(references.device)]
        share = (k + torch.rand(len(x), generator=generator, dtype=torch.float64)) / draws
        along = share.to(x).view(-1, *(1,) * (x.ndim - 1))
        total += (x - start) * gradient(answer, start + along * (x - start), target)
    return total / draws

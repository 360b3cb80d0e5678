"""What an attack maximises: (logits (B, C), y (B,)) -> (B,), larger where the model is more wrong.

Knows logits and labels; never inputs, budgets or gradients.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy as torch_cross_entropy

from dlaudit.errors import NotOffered

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """-log softmax(z)_y. Its gradient is exactly zero in float32 once z_y leads by about 100."""
    return torch_cross_entropy(logits, y, reduction="none")


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """max_{i != y} z_i - z_y: positive where the decision is wrong; its gradient never saturates."""
    others = logits.scatter(1, y.unsqueeze(1), -torch.inf)
    return others.amax(dim=1) - logits.gather(1, y.unsqueeze(1)).squeeze(1)


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Difference of logits ratio (Croce & Hein 2020, eq. 6): the margin over z_(1) - z_(3).

    Raises NotOffered below three classes, where there is no third logit.
    """
    if logits.shape[1] < 3:
        message = (
            f"loss 'dlr' divides by the gap between the first and the third logit: expected at least "
            f"3 classes, got {logits.shape[1]}. Use 'margin'"
        )
        raise NotOffered(message)
    first, _, third = logits.topk(3, dim=1).values.unbind(dim=1)
    return margin(logits, y) / (first - third + 1e-12)


def targeted_margin(logits: Tensor, pairs: Tensor) -> Tensor:
    """z_t - z_y for pairs (B, 2) of label y and target t: positive once t leads y."""
    both = logits.gather(1, pairs)
    return both[:, 1] - both[:, 0]


def targeted_dlr(logits: Tensor, pairs: Tensor) -> Tensor:
    """Targeted difference of logits ratio (Croce & Hein 2020, eq. 7) for pairs (B, 2) of y and t.

    Raises NotOffered below four classes, where there is no fourth logit.
    """
    if logits.shape[1] < 4:
        message = (
            f"the targeted 'dlr' divides by the gap to the third and fourth logit: expected at least "
            f"4 classes, got {logits.shape[1]}. Use the targeted margin"
        )
        raise NotOffered(message)
    first, _, third, fourth = logits.topk(4, dim=1).values.unbind(dim=1)
    return targeted_margin(logits, pairs) / (first - (third + fourth) / 2 + 1e-12)


LOSSES: dict[str, Loss] = {"margin": margin, "cross_entropy": cross_entropy, "dlr": dlr}

TARGETED: dict[str, Loss] = {"targeted_margin": targeted_margin, "targeted_dlr": targeted_dlr}
"""Losses of pairs (B, 2) of label and target."""

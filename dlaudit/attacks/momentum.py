"""The momentum iterative method (MI-FGSM, Dong et al. 2018): steps that carry over to other models.

Knows a model's gradients and the ball; never who judges what comes out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dlaudit.attacks.ball import Ball
from dlaudit.attacks.losses import Loss
from dlaudit.audit.parts import Model


def momentum_ascent(
    model: Model, ball: Ball, y: Tensor, *, loss: Loss, steps: int, decay: float
) -> Tensor:
    """The last iterate of ``steps`` steps of epsilon / steps along the accumulated gradient.

    The gradient, over its l1 norm, is added to ``decay`` times what was gathered before (eq. 6); the
    step follows its sign (linf) or itself (l2). The whole budget is used, also by samples that the
    model itself gets wrong earlier: examples on the edge of one boundary seldom cross another.
    """
    x, gathered = ball.x.clone(), torch.zeros_like(ball.x)
    wide = (1,) * (x.ndim - 1)
    for _ in range(steps):
        _, gradient = model.logits_and_gradient(x, y, loss)
        gradient = gradient.to(x)
        length = gradient.flatten(1).abs().sum(dim=1).clamp_min(torch.finfo(x.dtype).tiny)
        gathered = decay * gathered + gradient / length.view(-1, *wide)
        x = ball.step(x, gathered, ball.epsilon / steps)
    return x

"""The loop under gradient attacks: climb a loss inside a ball, drop whoever is fooled.

Knows a model's logits and gradients and the ball; never thresholds, budgets of a curve or reports.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dlaudit.attacks.ball import Ball
from dlaudit.attacks.base import Found
from dlaudit.attacks.losses import Loss
from dlaudit.attacks.trace import Trace
from dlaudit.audit.parts import Model


def ascend(
    model: Model,
    ball: Ball,
    y: Tensor,
    *,
    loss: Loss,
    sizes: Sequence[float],
    restarts: int = 1,
    generator: torch.Generator | None = None,
) -> Found:
    """Steepest ascent with restarts; every sample leaves the batch at its first fooled iterate.

    Whether an iterate fools is read off the logits that its own gradient step needs, so a step
    costs one forward and one backward pass. The last iterate of the last restart has not been read:
    it is what samples that were never fooled get back, for the caller to predict.

    y: (B,) labels; sizes: the length of each step, in input units; generator: for random starts,
    None to start clean.
    Raises NonFinite on a gradient that is NaN or infinite.
    """
    found = ball.x.clone()
    forward = torch.zeros(len(y), dtype=torch.int64, device=y.device)
    backward = torch.zeros_like(forward)
    trace = Trace(len(y), device=y.device)
    open_ = torch.arange(len(y), device=y.device)
    for restart in range(restarts):
        around, labels, index = ball.rows(open_), y[open_], open_
        trace.restarted(open_)
        x = around.x if generator is None else around.random(generator)
        for size in sizes:
            logits, gradient = model.logits_and_gradient(x, labels, loss)
            forward[index] += 1
            backward[index] += 1
            trace.step(index, loss(logits, labels), gradient)
            fooled = logits.argmax(dim=1) != labels
            if fooled.any():
                found[index[fooled]] = x[fooled]
                keep = ~fooled
                around, labels, index = around.rows(keep), labels[keep], index[keep]
                x, gradient = x[keep], gradient[keep]
                if not len(index):
                    break
            x = around.step(x, gradient, size)
        found[index] = x
        open_ = index
        if restart + 1 < restarts and len(index):
            missed = model.logits(x).argmax(dim=1) == labels
            forward[index] += 1
            open_ = index[missed]
        if not len(open_):
            break
    return Found(found, forward, backward, trace.columns())

"""One climb towards the boundary, from a start that spreads out in the space of logits.

Knows one start and one schedule; never who else has tried, budgets of a curve or reports.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dlaudit.attacks.losses import Loss, margin
from dlaudit.attacks.survivors import Climbed, Turn

TOWARDS, AWAY = 0.8, -0.5
"""Weights of the rival's and the label's logit in a direction that is meant to reach the rival."""


def along(logits: Tensor, direction: Tensor) -> Tensor:
    """Output-diversified: the logits along a direction (B, C) (Tashiro et al. 2020, eq. 2)."""
    return (logits * direction).sum(dim=1)


def directions(y: Tensor, classes: int, rival: Tensor | None, generator: torch.Generator) -> Tensor:
    """(B, C) random weights in [-1, 1]; with a rival (B,), set so as to lead from y to it.

    generator: on the CPU, so that every device is led the same way.
    """
    weights = torch.rand(len(y), classes, generator=generator).mul_(2).sub_(1).to(y.device)
    if rival is not None:
        weights.scatter_(1, rival.unsqueeze(1), TOWARDS).scatter_(1, y.unsqueeze(1), AWAY)
    return weights


def climb(
    turn: Turn,
    *,
    sizes: Sequence[float],
    loss: Loss = margin,
    diversify: int = 0,
    direction: Tensor | None = None,
    generator: torch.Generator | None = None,
    onward: bool = False,
) -> Climbed:
    """Run ``diversify`` steps along a direction of the logits, then raise a loss.

    Every sample leaves the batch at its first fooled iterate, which is read off the logits of the
    next gradient: ``steps + 1`` forward and ``steps`` backward passes, steps = diversify + len(sizes).

    sizes: the length of each step of the second part, in input units; those of the first are epsilon.
    direction: (b, C), see ``directions``. generator: for a random start, None to start clean; onward:
    start from the best example so far instead.
    Raises NonFinite on a gradient that is NaN or infinite.
    """
    model, ball, y = turn.model, turn.ball, turn.y
    n, steps = len(y), diversify + len(sizes)
    x = ball.x if generator is None else ball.random(generator)
    x = turn.x if onward else x
    best, values = x.clone(), torch.full((n,), -torch.inf, device=y.device)
    fooled = torch.zeros(n, dtype=torch.bool, device=y.device)
    forward, backward = (torch.zeros(n, dtype=torch.int64, device=y.device) for _ in range(2))
    place, labels = torch.arange(n, device=y.device), y
    turn.trace.restarted(turn.rows)
    for step in range(steps + 1):
        if step == steps:
            logits = model.logits(x)
        elif step < diversify and direction is not None:
            logits, gradient = model.logits_and_gradient(x, direction[place], along)
        else:
            logits, gradient = model.logits_and_gradient(x, labels, loss)
            turn.trace.step(turn.rows[place], loss(logits, labels), gradient)
        forward[place] += 1
        backward[place] += step < steps
        value = margin(logits, labels).float()
        better = value > values[place]
        best[place[better]] = x[better]
        values[place] = torch.maximum(value, values[place])
        wrong = logits.argmax(dim=1) != labels
        if wrong.any():
            best[place[wrong]], fooled[place[wrong]] = x[wrong], True
            keep = ~wrong
            place, labels, x, ball = place[keep], labels[keep], x[keep], ball.rows(keep)
            if step < steps:
                gradient = gradient[keep]
        if step == steps or not len(place):
            break
        x = ball.step(x, gradient, ball.epsilon if step < diversify else sizes[step - diversify])
    return Climbed(best, fooled, values, forward, backward)

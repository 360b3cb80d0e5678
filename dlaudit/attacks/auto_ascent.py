"""The climb of Auto-PGD: momentum, and a step that halves by itself (Croce & Hein 2020, algorithm 1).

Knows one climb from one start; never targets in turn, restarts, budgets of a curve or reports.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dlaudit.attacks.losses import Loss, margin
from dlaudit.attacks.survivors import Climbed, Turn

MOMENTUM = 0.75
"""Share of the new step; the rest goes on in the direction of the last (section 3)."""
IMPROVING = 0.75
"""Steps of a period that must have raised the loss, or the step is halved (condition 1, rho)."""
FIRST_PERIOD, SHORTER, LEAST_PERIOD = 0.22, 0.03, 0.06
"""Shares of all steps: the first period, how much shorter each next one is, the shortest."""


class Climber(NamedTuple):
    """What a climb remembers of each open sample, one row each."""

    place: Tensor
    labels: Tensor
    x: Tensor
    before: Tensor
    gradient: Tensor
    best: Tensor
    best_gradient: Tensor
    best_value: Tensor
    best_margin: Tensor
    value: Tensor
    size: Tensor
    improved: Tensor
    checked_value: Tensor
    halved: Tensor

    def rows(self, keep: Tensor) -> Climber:
        """Some of the samples."""
        return Climber(*(part[keep] for part in self))


def checkpoints(steps: int) -> set[int]:
    """After how many steps the step size is looked at: 22, 41, 57, 70, 80, 87, 93, 99 of 100."""
    period, shorter = max(int(FIRST_PERIOD * steps), 1), max(int(SHORTER * steps), 1)
    least = max(int(LEAST_PERIOD * steps), 1)
    found, at = set(), period
    while at <= steps:
        found.add(at)
        period = max(period - shorter, least)
        at += period
    return found


def auto_ascent(
    turn: Turn,
    loss: Loss,
    *,
    steps: int,
    generator: torch.Generator | None,
    targets: Tensor | None = None,
) -> Climbed:
    """Climb a loss for ``steps`` steps; every sample leaves the batch at its first fooled iterate.

    Whether an iterate fools is read off the logits of its own gradient, so a climb costs
    ``steps + 1`` forward and ``steps`` backward passes (the last iterate is only predicted).

    generator: for the random start, None to start from the best example so far. targets: (b,) rival
    classes, for a loss of pairs. Raises NonFinite on a gradient that is NaN or infinite.
    """
    model, ball, y = turn.model, turn.ball, turn.y
    n, device = len(y), y.device
    labels = y if targets is None else torch.stack([y, targets], dim=1)
    x = turn.x if generator is None else ball.on_sphere(generator)
    best, values = x.clone(), torch.full((n,), -torch.inf, device=device)
    fooled = torch.zeros(n, dtype=torch.bool, device=device)
    forward, backward = (torch.zeros(n, dtype=torch.int64, device=device) for _ in range(2))
    nothing = torch.full((n,), -torch.inf, device=device)
    now = Climber(
        place=torch.arange(n, device=device), labels=labels, x=x, before=x, gradient=x, best=x,
        best_gradient=x, best_value=nothing, best_margin=nothing, value=nothing,
        size=torch.full((n,), 2 * ball.epsilon, dtype=x.dtype, device=device),
        improved=torch.zeros(n, device=device), checked_value=nothing,
        halved=torch.ones(n, dtype=torch.bool, device=device),
    )  # fmt: skip
    looked, period = checkpoints(steps), 0
    for step in range(steps + 1):
        last = step == steps
        if last:
            logits, gradient = model.logits(now.x), now.gradient
        else:
            logits, gradient = model.logits_and_gradient(now.x, now.labels, loss)
            backward[now.place] += 1
        forward[now.place] += 1
        value = loss(logits, now.labels).float()
        if not last:
            turn.trace.step(turn.rows[now.place], value, gradient)
        wrong, lead = logits.argmax(dim=1) != y[now.place], margin(logits, y[now.place]).float()
        better = value > now.best_value
        now = now._replace(
            gradient=gradient, value=value,
            improved=now.improved + (value > now.value) if step else now.improved,
            best=choose(better, now.x, now.best), best_gradient=choose(better, gradient, now.best_gradient),
            best_value=torch.maximum(value, now.best_value),
            best_margin=torch.where(better, lead, now.best_margin),
        )  # fmt: skip
        if not step:
            now = now._replace(checked_value=value)
        if wrong.any():
            gone = now.rows(wrong)
            best[gone.place], values[gone.place], fooled[gone.place] = gone.x, lead[wrong], True
            now, ball = now.rows(~wrong), ball.rows(~wrong)
        if last or not len(now.place):
            break
        period += bool(step)
        if step in looked:
            now = halve(now, period)
            period = 0
        ahead = ball.step(now.x, now.gradient, now.size)
        if step:
            mixed = now.x + MOMENTUM * (ahead - now.x) + (1 - MOMENTUM) * (now.x - now.before)
            ahead = ball.project(mixed)
        now = now._replace(before=now.x, x=ahead)
    best[now.place], values[now.place] = now.best, now.best_margin
    return Climbed(best, fooled, values, forward, backward)


def halve(now: Climber, period: int) -> Climber:
    """At a checkpoint: half the step, and back to the best example, where the period did not help.

    Condition 1: too few of its steps raised the loss. Condition 2: neither the step nor the best
    loss has changed since the last checkpoint.
    """
    few = now.improved <= IMPROVING * period
    stuck = ~now.halved & (now.checked_value >= now.best_value)
    less = few | stuck
    return now._replace(
        size=torch.where(less, now.size / 2, now.size), x=choose(less, now.best, now.x),
        gradient=choose(less, now.best_gradient, now.gradient), halved=less,
        checked_value=now.best_value, improved=torch.zeros_like(now.improved),
    )  # fmt: skip


def choose(which: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """Row by row: ``yes`` where which (b,), else ``no``."""
    return torch.where(which.view(-1, *[1] * (yes.ndim - 1)), yes, no)

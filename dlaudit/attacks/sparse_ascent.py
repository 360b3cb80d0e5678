"""The climb of Auto-PGD in l1: few values a step, as many as the best example needs.

Croce & Hein 2021 ("Mind the box"), section 4: steps along the largest slopes, whose number follows the
number of values that the best example changes, first inside wider balls. Knows one climb from one
start; never targets in turn, restarts, budgets of a curve or reports.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dlaudit.attacks.auto_ascent import choose
from dlaudit.attacks.ball import Ball
from dlaudit.attacks.losses import Loss, margin
from dlaudit.attacks.survivors import Climbed, Turn

RADII = ((3, 0.3), (2, 0.3), (1, 0.4))
"""Radius in budgets, and the share of all steps that are taken inside it."""
PERIOD = 0.04
"""Share of all steps between two looks at the step size."""
FIRST_SHARE, FEWER = 0.2, 1.5
"""Share of the values that the first steps change; later, those of the best example over this."""
SETTLED = 0.95
"""Where the best example changes at least this part of the values of the last look, the step shrinks."""
SHRINKS, LEAST = 1.5, 0.1
"""By what, and to what part of the radius at most."""


class Walker(NamedTuple):
    """What a climb remembers of each open sample, one row each."""

    place: Tensor
    labels: Tensor
    x: Tensor
    best: Tensor
    best_gradient: Tensor
    best_value: Tensor
    best_margin: Tensor
    size: Tensor
    share: Tensor
    changed: Tensor

    def rows(self, keep: Tensor) -> Walker:
        """Some of the samples."""
        return Walker(*(part[keep] for part in self))


def sparse_ascent(
    turn: Turn,
    loss: Loss,
    *,
    steps: int,
    generator: torch.Generator | None,
    targets: Tensor | None = None,
) -> Climbed:
    """Climb a loss in l1; every sample leaves the batch at its first fooled iterate inside the ball.

    ``steps + 1`` forward and ``steps`` backward passes. generator: for the random start, None to start
    from the best example so far. targets: (b,) rival classes, for a loss of pairs. Raises NonFinite
    on a gradient that is NaN or infinite.
    """
    y, n, device = turn.y, len(turn.y), turn.y.device
    values_of = turn.ball.x[0].numel() if n else 1
    x = turn.x
    if generator is not None:
        noise = torch.randn(turn.ball.x.shape, generator=generator).to(turn.ball.x)
        x = turn.ball.widened(RADII[0][0]).project(turn.ball.x + noise)
    best, margins = turn.ball.project(x), torch.full((n,), -torch.inf, device=device)
    fooled = torch.zeros(n, dtype=torch.bool, device=device)
    forward, backward = (torch.zeros(n, dtype=torch.int64, device=device) for _ in range(2))
    low = torch.full((n,), -torch.inf, device=device)
    labels = y if targets is None else torch.stack([y, targets], dim=1)
    now = Walker(
        place=torch.arange(n, device=device), labels=labels, x=x, best=x, best_gradient=x,
        best_value=low, best_margin=low, size=torch.ones_like(low), share=low, changed=low,
    )  # fmt: skip
    turn.trace.restarted(turn.rows)
    taken = 0
    for at, (factor, part) in enumerate(RADII):
        last_radius = at == len(RADII) - 1
        many = steps - taken if last_radius else round(part * steps)
        around = turn.ball.rows(now.place)
        wide = around.widened(factor)
        used = nonzero(now.x, around)
        now = now._replace(
            x=wide.project(now.best if at else now.x), best_value=low[: len(now.place)],
            best_margin=low[: len(now.place)], changed=used if at else torch.full_like(used, values_of),
            size=torch.full_like(used, wide.epsilon),
            share=used / values_of / FEWER if at else torch.full_like(used, FIRST_SHARE),
        )  # fmt: skip
        period = max(int(PERIOD * many), 1)
        for step in range(many + last_radius):
            final = step == many
            if final:
                logits, gradient = turn.model.logits(now.x), now.best_gradient
            else:
                logits, gradient = turn.model.logits_and_gradient(now.x, now.labels, loss)
                backward[now.place] += 1
            forward[now.place] += 1
            value, lead = loss(logits, now.labels).float(), margin(logits, y[now.place]).float()
            if not final:
                turn.trace.step(turn.rows[now.place], value, gradient)
            better = value > now.best_value
            now = now._replace(
                best=choose(better, now.x, now.best),
                best_gradient=choose(better, gradient, now.best_gradient),
                best_value=torch.maximum(value, now.best_value),
                best_margin=torch.where(better, lead, now.best_margin),
            )  # fmt: skip
            wrong = (logits.argmax(dim=1) != y[now.place]) & around.contains(now.x)
            if wrong.any():
                gone = now.rows(wrong)
                best[gone.place], margins[gone.place] = gone.x, lead[wrong]
                fooled[gone.place] = True
                keep = ~wrong
                now, around, wide = now.rows(keep), around.rows(keep), wide.rows(keep)
                gradient = gradient[keep]
            if final or not len(now.place):
                break
            if step and step % period == 0:
                now, gradient = looked_at(now, gradient, around, wide.epsilon, values_of)
            ahead = now.x + now.size.view(-1, *[1] * (x.ndim - 1)) * steepest(gradient, now.share)
            now = now._replace(x=wide.project(ahead))
            taken += 1
        if not len(now.place):
            break
    if len(now.place):
        best[now.place], margins[now.place] = now.best, now.best_margin
    return Climbed(best, fooled, margins, forward, backward)


def looked_at(
    now: Walker, gradient: Tensor, around: Ball, radius: float, values_of: int
) -> tuple[Walker, Tensor]:
    """At a checkpoint: a smaller step where the best example has settled, else back to it."""
    used = nonzero(now.best, around)
    moving = used / now.changed.clamp_min(1) < SETTLED
    size = torch.where(moving, torch.full_like(now.size, radius), now.size / SHRINKS)
    now = now._replace(
        size=size.clamp_min(radius * LEAST), share=used / values_of / FEWER, changed=used,
        x=choose(moving, now.best, now.x),
    )  # fmt: skip
    return now, choose(moving, now.best_gradient, gradient)


def nonzero(x: Tensor, ball: Ball) -> Tensor:
    """(b,) how many values differ from the clean input."""
    return (x != ball.x).flatten(1).sum(dim=1).float()


def steepest(gradient: Tensor, share: Tensor) -> Tensor:
    """The signs of the largest slopes, (b,) share of all values and at least one, at l1 length 1."""
    size = gradient.flatten(1).abs()
    kept = (share * size.shape[1]).long().clamp(1, size.shape[1])
    least = size.sort(dim=1, descending=True).values.gather(1, kept.unsqueeze(1) - 1)
    chosen = gradient.flatten(1).sign() * (size >= least)
    return (chosen / chosen.abs().sum(dim=1, keepdim=True).clamp_min(1)).view_as(gradient)

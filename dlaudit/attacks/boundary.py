"""Steps towards the boundary between two classes, and back along it to the clean input.

The iteration of FAB (Croce & Hein 2020b, algorithm 1) in linf and l2. Knows one pair of classes for
each sample; never budgets of a curve, restarts or reports.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlaudit.attacks.ball import Ball, norm_of, valid_end
from dlaudit.attacks.base import Norm
from dlaudit.attacks.losses import targeted_margin
from dlaudit.attacks.survivors import Climbed, Turn

BIAS, BEYOND, BACK = 0.1, 1.05, 0.9
"""alpha_max, eta and beta of the standard ensemble: the most that a step leans towards the clean
input, how far it goes beyond the boundary, and how much of its way an example keeps on the way back."""
TINY = torch.finfo(torch.float64).tiny


def approach(turn: Turn, *, steps: int, targets: Tensor, bounds: tuple[Any, Any] | None) -> Climbed:
    """Look for the nearest example of the target class; done once one is inside the ball.

    A step costs one pass forward and back for the boundary, and one forward to see on which side it
    ended. targets: (b,) rival classes. bounds: the valid range of inputs.
    """
    model, ball, y = turn.model, turn.ball, turn.y
    n, device = len(y), y.device
    pairs = torch.stack([y, targets], dim=1)
    low, high = valid_range(ball.x, bounds)
    place, clean, x = torch.arange(n, device=device), ball.x, ball.x
    best, values = ball.x.clone(), torch.full((n,), -torch.inf, device=device)
    fooled = torch.zeros(n, dtype=torch.bool, device=device)
    forward, backward = (torch.zeros(n, dtype=torch.int64, device=device) for _ in range(2))
    turn.trace.restarted(turn.rows)
    for _ in range(steps):
        logits, gradient = model.logits_and_gradient(x, pairs, targeted_margin)
        value = targeted_margin(logits, pairs)
        forward[place] += 2
        backward[place] += 1
        turn.trace.step(turn.rows[place], value, gradient)
        w = gradient.flatten(1).double()
        reach = scales(ball)
        from_x = to_boundary(x, w, -value.double(), within=(low, high), norm=ball.norm, scale=reach)
        shift = (x.double() - clean.double()).flatten(1)
        offset = (w * shift).sum(dim=1) - value.double()
        from_clean = to_boundary(clean, w, offset, within=(low, high), norm=ball.norm, scale=reach)
        here, there = (
            norm_of(d / reach.clamp_min(TINY), ball.norm).clamp_min(1e-8)
            for d in (from_x, from_clean)
        )
        lean = (here / (here + there)).clamp(0, BIAS).unsqueeze(1)
        ahead = (x.double().flatten(1) + BEYOND * from_x) * (1 - lean) + lean * (
            clean.double().flatten(1) + BEYOND * from_clean
        )
        x = ahead.view_as(x).to(x.dtype).clamp(low, high)
        crossed = model.logits(x).argmax(dim=1) != y[place]
        inside = crossed & ball.contains(x)
        if inside.any():
            gone = place[inside]
            best[gone], fooled[gone] = x[inside], True
            values[gone] = 0  # beyond the boundary; how far was not asked
        # Beyond the boundary but too far away: on from a point nearer to the clean input.
        back = clean + BACK * (x - clean)
        x = torch.where(crossed.view(-1, *[1] * (x.ndim - 1)), back, x)
        keep = ~inside
        if inside.any():
            place, pairs, clean, x, ball = (
                place[keep],
                pairs[keep],
                clean[keep],
                x[keep],
                ball.rows(keep),
            )
            low, high = low[keep], high[keep]
        if not len(place):
            break
    best[place] = ball.project(x)
    return Climbed(best, fooled, values, forward, backward)


def valid_range(x: Tensor, bounds: tuple[Any, Any] | None) -> tuple[Tensor, Tensor]:
    """The valid range of inputs around clean ones: two tensors like x."""
    if bounds is None:
        return torch.full_like(x, -torch.inf), torch.full_like(x, torch.inf)
    low, high = (valid_end(end, x, up=up) for end, up in zip(bounds, (True, False), strict=True))
    return torch.minimum(low, x), torch.maximum(high, x)


def scales(ball: Ball) -> Tensor:
    """The unit of each value's change, (b, d) float64: 1 where the threat model names none."""
    ones = torch.ones_like(ball.x, dtype=torch.float64)
    return (ones if ball.scale is None else ones * ball.scale).flatten(1)


def to_boundary(
    x: Tensor,
    w: Tensor,
    amount: Tensor,
    *,
    within: tuple[Tensor, Tensor],
    norm: Norm,
    scale: Tensor,
) -> Tensor:
    """The shortest d / scale in a norm with <w, d> = amount, inside the valid range: d itself.

    Each value moves the way that helps, at a speed of scale (linf) or |w| scale^2 (l2), until it
    meets the range or the sum is reached: water filling, in closed form along the sorted times at
    which values meet their ends. Where the range does not allow the whole amount, every value goes
    to its end.

    x: (b, *input); within: the lowest and highest values, like x; w, scale: (b, d) float64; amount:
    (b,) float64. Returns (b, d) float64.
    """
    low, high = within
    way = w.sign() * amount.sign().unsqueeze(1)
    flat = x.double().flatten(1)
    room = torch.where(way > 0, high.double().flatten(1) - flat, flat - low.double().flatten(1))
    speed = scale if norm == "linf" else w.abs() * scale.square()
    mobile = (w != 0) & (speed > 0)
    rate = torch.where(mobile, w.abs() * speed, torch.zeros_like(w))
    meets = torch.where(mobile, room / speed.clamp_min(TINY), torch.full_like(w, torch.inf))
    meets, order = meets.sort(dim=1)
    rate = rate.gather(1, order)
    # At the time of the k-th meeting, everybody before it has stopped and the rest still moves.
    stopped = torch.where(rate > 0, rate * meets, torch.zeros_like(rate)).cumsum(dim=1)
    before = torch.cat([torch.zeros_like(stopped[:, :1]), stopped[:, :-1]], dim=1)
    moving = rate.flip(1).cumsum(dim=1).flip(1)
    needed = amount.abs().unsqueeze(1)
    reached = before + torch.where(moving > 0, moving * meets, torch.zeros_like(moving))
    enough = (reached >= needed).any(dim=1, keepdim=True)
    first = (reached >= needed).double().argmax(dim=1, keepdim=True)
    time = (needed - before.gather(1, first)) / moving.gather(1, first).clamp_min(TINY)
    time = torch.where(enough, time.clamp_min(0), torch.full_like(time, torch.inf))
    distance = torch.where(mobile, torch.minimum(speed * time, room), torch.zeros_like(room))
    # Nothing bounds a value that has no range: where even that is not enough, nobody moves.
    return way * torch.where(torch.isfinite(distance), distance, torch.zeros_like(distance))

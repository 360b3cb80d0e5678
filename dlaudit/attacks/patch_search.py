"""The worst patch of each picture: windows where the gradient promises most, and ascent inside them.

Knows windows and the one loop of gradient attacks; never thresholds or curves.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dlaudit.attacks.ascent import ascend
from dlaudit.attacks.ball import Ball
from dlaudit.attacks.base import Found, Threat
from dlaudit.attacks.losses import margin
from dlaudit.attacks.sticker import Canvas
from dlaudit.attacks.window import inside, side_of, sums
from dlaudit.audit.parts import Model


class Windows(Ball):
    """Everything valid inside one window of each picture, and nothing changed outside."""

    def __init__(self, x: Tensor, canvas: Canvas, window: Tensor) -> None:
        """window: (B, H, W) bool."""
        layout = canvas.layout
        planes = layout.spread(x)
        low, high = (
            layout.restored(end.expand_as(planes[:1]))[0] for end in (canvas.low, canvas.high)
        )
        super().__init__(x, Threat(norm="linf", epsilon=2 * canvas.span, bounds=(low, high)))
        free = layout.restored(window.unsqueeze(1).expand_as(planes))
        self.low, self.high = torch.where(free, self.low, x), torch.where(free, self.high, x)


def strongest(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    places: int,
    steps: int,
    generator: torch.Generator,
) -> Found:
    """The first patch that fools each sample, else the last one tried. threat: of the norm ``patch``.

    Windows are tried in the order of what the gradient at the clean picture promises: the sum over
    their values of the gain if each went to the better end of its range. Half a side apart at least.
    """
    canvas = Canvas.of(x, threat.bounds)
    layout, n = canvas.layout, len(y)
    side = side_of(threat.epsilon, layout.height, layout.width)
    forward = torch.zeros(n, dtype=torch.float64, device=y.device)
    found, backward = x.clone(), forward.clone()
    if side == 0:
        return Found(found, forward, backward)
    _, gradient = model.logits_and_gradient(x, y, margin)
    forward += 1
    backward += 1
    planes, slope = layout.spread(x), layout.spread(gradient)
    gain = torch.maximum(slope * (canvas.high - planes), slope * (canvas.low - planes))
    promise = sums(gain.sum(dim=1), side)
    sizes = [0.5 * canvas.span * (1 - i / steps) for i in range(steps)]
    open_ = torch.arange(n, device=y.device)
    for place in range(places):
        top, left = ranked(promise, max(1, side // 2))
        window = inside(top, left, side, height=layout.height, width=layout.width)
        ball = Windows(x[open_], canvas, window[open_])
        # The first try starts clean: a patch may be a small change of what is there.
        tried = ascend(
            model, ball, y[open_], loss=margin, sizes=sizes, generator=generator if place else None
        )
        found[open_] = tried.x
        forward[open_] += tried.forward
        backward[open_] += tried.backward
        if place + 1 < places:
            missed = model.logits(tried.x).argmax(dim=1) == y[open_]
            forward[open_] += 1
            open_ = open_[missed]
        if not len(open_):
            break
    return Found(found, forward, backward)


def ranked(promise: Tensor, apart: int) -> tuple[Tensor, Tensor]:
    """(B,) corner of each picture's best window; it and its neighbours are struck from ``promise``.

    promise: (B, H', W'), written to. Where all are struck, the first window is tried again.
    """
    n, _, width = promise.shape
    best = promise.flatten(1).argmax(dim=1)
    top, left = best // width, best % width
    rows = torch.arange(promise.shape[1], device=promise.device).view(1, -1, 1)
    columns = torch.arange(width, device=promise.device).view(1, 1, -1)
    near = ((rows - top.view(n, 1, 1)).abs() < apart) & (
        (columns - left.view(n, 1, 1)).abs() < apart
    )
    promise[near] = -torch.inf
    return top, left

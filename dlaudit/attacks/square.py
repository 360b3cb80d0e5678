"""Square attack: random squares at the edge of the budget, kept where they help; no gradients.

Andriushchenko et al. 2020, algorithms 1 and 2, with the constants of the standard ensemble. Knows
scores only; how examples are scored in the end is the harness's business.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from dlaudit.attacks.base import Attack, Found, Norm, Threat
from dlaudit.audit.parts import Batch, Model, Needs
from dlaudit.audit.record import Cost, Scalar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dlaudit.attacks.ball import Ball
    from dlaudit.attacks.survivors import Climbed, Turn

SHARE = 0.8
"""Share of the image that the first square covers (the standard ensemble's ``p_init``)."""
HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries after which the square's share is halved."""


ONWARD = 5
"""From a good example on, squares of at most this part of the picture's width."""


class Square(Attack, frozen=True, kw_only=True):
    """Square attack: needs scores only, so it also reaches models whose gradients mislead.

    queries: forward passes for each sample at most. Inputs without height and width are taken as
    one row of values.
    """

    needs: ClassVar[Needs] = Needs(model=("logits",), data=("labels",))
    norms: ClassVar[tuple[Norm, ...]] = ("linf",)

    queries: int = 5000

    def __post_init__(self) -> None:
        """Refuse a search that cannot even try its start."""
        super().__post_init__()
        self._counted("queries")

    def search(
        self, model: Model, batch: Batch, threat: Threat, generator: torch.Generator
    ) -> Found:
        """See ``Attack.search``; passes are counted sample by sample."""
        from dlaudit.attacks.ball import Ball
        from dlaudit.attacks.survivors import Survivors

        left = Survivors(model, Ball(batch.x, threat), batch.y)
        left.face(squares, queries=self.queries, generator=generator)
        return left.found

    def conditions(self, epsilon: float) -> dict[str, Scalar]:
        """See ``Attack.conditions``."""
        return {**super().conditions(epsilon), "steps": self.queries, "restarts": 1}

    def passes(self, *, n: int, classes: int) -> Cost:
        """The most it can cost: every sample asked to the last query at every budget."""
        del classes
        return Cost(forward=self.attacked(n) * (self.queries + 1), backward=0)


def share_at(query: int) -> float:
    """The share of the image that the square of one query covers."""
    return SHARE * 0.5 ** sum(query > after for after in HALVED_AFTER)


def squares(
    turn: Turn, *, queries: int, generator: torch.Generator, onward: bool = False
) -> Climbed:
    """The search: start with stripes, then one square a query, kept where the margin grows.

    One square for all samples of a query, as in the standard ensemble. generator: on the CPU. onward:
    start from the best examples so far, with squares of any side up to a fifth of the picture's.
    """
    import torch

    from dlaudit.attacks.losses import margin
    from dlaudit.attacks.survivors import Climbed

    model, y, whole = turn.model, turn.y, turn.ball
    ball, n, device = whole, len(y), y.device
    flat = pictures(whole.x.shape[1:])
    channels, height, width = flat

    def signs(*shape: int) -> Tensor:
        drawn = torch.randint(0, 2, shape, generator=generator)
        return drawn.mul_(2).sub_(1).to(whole.x) * whole.epsilon

    def drawn(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (1,), generator=generator))

    if onward:
        x = turn.x
    else:
        stripes = signs(n, channels, 1, width).expand(n, *flat).reshape(whole.x.shape)
        x = whole.project(whole.x + stripes * reach(whole))
    best = x.clone()
    values = torch.full((n,), -torch.inf, device=device)
    forward = torch.zeros(n, dtype=torch.int64, device=device)
    fooled = torch.zeros(n, dtype=torch.bool, device=device)
    place, kept, value = torch.arange(n, device=device), x, values
    for query in range(queries):
        if query:
            side = min(max(round(math.sqrt(share_at(query - 1) * height * width)), 1), width)
            if onward:
                side = drawn(1, max(1, width // ONWARD))
            tall = min(side, height)
            top, left = drawn(0, height - tall), drawn(0, width - side)
            change = torch.zeros(flat, dtype=x.dtype, device=device)
            change[:, top : top + tall, left : left + side] = 2 * signs(channels, 1, 1)
            x = ball.project(kept + change.view(ball.x.shape[1:]) * reach(ball))
        logits = model.logits(x)
        forward[place] += 1
        rise = margin(logits, y[place]).float()
        wrong = logits.argmax(dim=1) != y[place]
        better = (rise > value) | wrong
        kept = torch.where(better.view(-1, *[1] * (x.ndim - 1)), x, kept)
        value = torch.where(better, rise, value)
        if wrong.any():
            gone = place[wrong]
            best[gone], values[gone], fooled[gone] = kept[wrong], value[wrong], True
            place, kept, value = place[~wrong], kept[~wrong], value[~wrong]
            ball = ball.rows(~wrong)
        if not len(place):
            break
    best[place], values[place] = kept, value
    return Climbed(best, fooled, values, forward, torch.zeros_like(forward))


def reach(ball: Ball) -> Tensor | float:
    """The unit of each value's change."""
    return 1.0 if ball.scale is None else ball.scale.to(ball.x)


def pictures(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """An input's shape as channels, height and width; what has no height is one row of values."""
    height, width = shape[-2:] if len(shape) > 1 else (1, shape[-1])
    return math.prod(shape[:-2]), height, width

"""One perturbation that fools most inputs at once (Moosavi-Dezfooli et al. 2017).

Knows how it is learned, by steps along the sign of a mean gradient (Shafahi et al. 2020), and that it
is added; what is judged, and on whom, is not its business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from dlaudit.attacks.base import Found, Norm, Threat
from dlaudit.attacks.learned import Learned
from dlaudit.audit.parts import Batch, Model

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Universal(Learned, frozen=True, kw_only=True):
    """One perturbation for all inputs, learned on some samples and judged on the others (linf, l2).

    Steps shrink linearly from the whole budget to nothing; the loss is the margin, worth no more than
    the usual clean margin, so that samples that are nearly fooled count most. Some samples teach
    (``learn``), all others are attacked: what fools only those it was learned on is not universal.
    """

    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")

    def pattern(
        self, model: Model, batch: Batch, threat: Threat, generator: torch.Generator
    ) -> Tensor:
        """See ``Learned.pattern``: (1, *input), inside the ball about nothing."""
        import torch
        from msgspec import structs

        from dlaudit.attacks.ball import Ball
        from dlaudit.attacks.crowd import capped_lead, capped_margin, learned, usual_margin

        goal = self.aim(model.classes)
        nothing = torch.zeros((1, *batch.x.shape[1:])).to(batch.x)
        ball = Ball(nothing, structs.replace(threat, bounds=None))
        bounds = threat.bounds and [torch.as_tensor(end).to(batch.x) for end in threat.bounds]
        ceiling = usual_margin(model, batch.x, batch.y)

        def put(pattern: Tensor, x: Tensor) -> Tensor:
            moved = x + pattern
            return moved.clamp(*bounds) if bounds else moved

        def step(pattern: Tensor, slope: Tensor, number: int) -> Tensor:
            size = threat.epsilon * (1 - number / self.steps)
            return ball.step(pattern, slope, size)

        return learned(
            model, batch.x, batch.y if goal is None else torch.full_like(batch.y, goal),
            start=nothing, put=put, step=step, steps=self.steps, batch=self.batch,
            loss=capped_margin(ceiling) if goal is None else capped_lead(ceiling),
            generator=generator,
        )  # fmt: skip

    def apply(
        self, model: Model, batch: Batch, threat: Threat, generator: torch.Generator, *, pattern: Tensor
    ) -> Found:  # fmt: skip
        """See ``Learned.apply``: the sum, cut to the valid range; no pass of the model is spent."""
        import torch

        from dlaudit.attacks.ball import Ball

        del model, generator
        nothing = torch.zeros(len(batch.y), dtype=torch.float64)
        return Found(Ball(batch.x, threat).project(batch.x + pattern.to(batch.x)), nothing, nothing)

"""The fast gradient method: one step of length epsilon (Goodfellow et al. 2015).

Knows one step; how its result is clipped and scored is the harness's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from dlaudit.attacks.base import Attack, Found, LossName, Norm, Threat
from dlaudit.audit.parts import Batch, Model
from dlaudit.audit.record import Cost, Scalar

if TYPE_CHECKING:
    import torch


class FGSM(Attack, frozen=True, kw_only=True):
    """Fast gradient (sign) method: one step of the whole budget along the gradient.

    loss: what the step raises. Cross-entropy, as in the paper, has no gradient where the model is
    saturated; ``inputs_moved`` shows it.
    """

    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")

    loss: LossName = "cross_entropy"

    def search(
        self, model: Model, batch: Batch, threat: Threat, generator: torch.Generator
    ) -> Found:
        """See ``Attack.search``; the gradient is told of in the trace."""
        import torch

        from dlaudit.attacks.ball import Ball
        from dlaudit.attacks.losses import LOSSES
        from dlaudit.attacks.trace import Trace

        del generator
        loss, y = LOSSES[self.loss], batch.y
        logits, gradient = model.logits_and_gradient(batch.x, y, loss)
        trace = Trace(len(y), device=y.device)
        trace.step(torch.arange(len(y), device=y.device), loss(logits, y), gradient)
        once = torch.ones_like(y)
        found = Ball(batch.x, threat).step(batch.x, gradient, threat.epsilon)
        return Found(found, once, once.clone(), trace.columns())

    def conditions(self, epsilon: float) -> dict[str, Scalar]:
        """See ``Attack.conditions``."""
        return {**super().conditions(epsilon), "steps": 1, "restarts": 1, "step_size": epsilon}

    def passes(self, *, n: int, classes: int) -> Cost:
        """One step and one prediction per sample and budget: the most, were every sample attacked."""
        del classes
        attacked = self.attacked(n)
        return Cost(forward=2 * attacked, backward=attacked)

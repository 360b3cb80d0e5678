"""The fast adaptive boundary attack: the nearest example, whatever the budget (Croce & Hein 2020b).

Knows one rival class at a time and the boundary to it; how examples are scored is the harness's
business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from dlaudit.attacks.base import Attack, Found, Norm, Threat
from dlaudit.audit.parts import Batch, Model
from dlaudit.audit.record import Cost, Scalar

if TYPE_CHECKING:
    import torch

TARGETS = 9


class FAB(Attack, frozen=True, kw_only=True):
    """Fast adaptive boundary attack, once for each of the nearest rival classes (FAB-T).

    steps: projections on the linearised boundary for each rival; targets: how many rivals, at most
    classes - 1. A sample leaves once it has an example inside the budget.
    """

    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")

    steps: int = 100
    targets: int = TARGETS

    def __post_init__(self) -> None:
        """Refuse numbers that make no attack."""
        super().__post_init__()
        self._counted("steps", "targets")

    def search(
        self, model: Model, batch: Batch, threat: Threat, generator: torch.Generator
    ) -> Found:
        """See ``Attack.search``; passes are counted sample by sample."""
        from dlaudit.attacks.ball import Ball
        from dlaudit.attacks.boundary import approach
        from dlaudit.attacks.survivors import Survivors, rivals

        del generator
        left = Survivors(model, Ball(batch.x, threat), batch.y)
        order = rivals(left.clean_logits(), batch.y)[:, : self.targets]
        for rank in range(order.shape[1]):
            left.face(
                approach, steps=self.steps, targets=order[left.open, rank], bounds=threat.bounds
            )
        return left.found

    def conditions(self, epsilon: float) -> dict[str, Scalar]:
        """See ``Attack.conditions``."""
        return {**super().conditions(epsilon), "targeted": True, "restarts": 1}

    def passes(self, *, n: int, classes: int) -> Cost:
        """The most it can cost: every sample attacked to the last step at every budget."""
        climbs = self.attacked(n) * min(self.targets, classes - 1)
        return Cost(
            forward=climbs * (2 * self.steps) + 2 * self.attacked(n), backward=climbs * self.steps
        )

"""Auto-PGD: steps that halve where they stop helping (Croce & Hein 2020, algorithm 1).

Knows the step rule and the order of targets; how examples are scored is the harness's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from dlaudit.attacks.base import Attack, Found, Norm, Threat
from dlaudit.audit.parts import Batch, Model
from dlaudit.audit.record import Cost, Scalar

if TYPE_CHECKING:
    import torch

ApgdLoss = Literal["cross_entropy", "dlr", "margin", "targeted_dlr", "targeted_margin"]
TARGETS = 9
"""Rival classes of the standard ensemble (Croce & Hein 2020, section 6)."""


class APGD(Attack, frozen=True, kw_only=True):
    """Auto-PGD, untargeted or once for each of the nearest rival classes, by the published recipe.

    loss: what the steps raise; ``targeted_…`` aims at one rival class after the other, in the order
    of the clean logits. targets: how many rivals, at most classes - 1. steps: gradient steps for
    each start. restarts: random starts of each. A sample that is fooled costs nothing more.
    """

    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")

    loss: ApgdLoss = "cross_entropy"
    steps: int = 100
    restarts: int = 1
    targets: int = TARGETS

    def __post_init__(self) -> None:
        """Refuse numbers that make no attack."""
        super().__post_init__()
        self._counted("steps", "restarts", "targets")

    @property
    def targeted(self) -> bool:
        """Whether the steps aim at rival classes."""
        return self.loss.startswith("targeted")

    def search(
        self, model: Model, batch: Batch, threat: Threat, generator: torch.Generator
    ) -> Found:
        """See ``Attack.search``; passes are counted sample by sample."""
        from dlaudit.attacks.auto_ascent import auto_ascent
        from dlaudit.attacks.ball import Ball
        from dlaudit.attacks.losses import LOSSES, TARGETED
        from dlaudit.attacks.sparse_ascent import sparse_ascent
        from dlaudit.attacks.survivors import Survivors, rivals

        survivors = Survivors(model, Ball(batch.x, threat), batch.y)
        order = rivals(survivors.clean_logits(), batch.y)[:, : self.targets]
        loss = (LOSSES | TARGETED)[self.loss]
        climb = sparse_ascent if threat.norm == "l1" else auto_ascent
        for _ in range(self.restarts):
            for rank in range(order.shape[1] if self.targeted else 1):
                survivors.face(
                    climb, loss=loss, steps=self.steps, generator=generator,
                    targets=order[survivors.open, rank] if self.targeted else None,
                )  # fmt: skip
        return survivors.found

    def conditions(self, epsilon: float) -> dict[str, Scalar]:
        """See ``Attack.conditions``."""
        stated = {**super().conditions(epsilon), "targeted": self.targeted}
        if not self.targeted:
            del stated["targets"]
        return stated

    def passes(self, *, n: int, classes: int) -> Cost:
        """The most it can cost: every sample attacked to the last step at every budget."""
        aims = min(self.targets, classes - 1) if self.targeted else 1
        climbs = self.attacked(n) * self.restarts * aims
        return Cost(
            forward=climbs * (self.steps + 1) + 2 * self.attacked(n), backward=climbs * self.steps
        )

"""The standard ensemble of AutoAttack, to the letter (Croce & Hein 2020, section 6).

Knows the order of its four attacks and their constants; nothing of its own is added, so that its
figures may be held against published ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from dlaudit.attacks.base import Attack, Found, Norm, Threat
from dlaudit.audit.parts import Batch, Model
from dlaudit.audit.record import Cost, Scalar

if TYPE_CHECKING:
    import torch

MEMBERS = ("apgd_ce", "apgd_t", "fab_t", "square")


class Aims(NamedTuple):
    """What of the ensemble is defined for a number of classes."""

    targets: int
    loss: Literal["targeted_margin", "targeted_dlr"]


class AutoAttack(Attack, frozen=True, kw_only=True):
    """APGD-CE, APGD-T, FAB-T and Square in turn, each on those whom none before it has fooled.

    steps: gradient steps of each start; targets: rival classes of APGD-T and FAB-T, at most
    classes - 1; queries: of Square. The published figures hold for 100, 9 and 5000. Below four
    classes the targeted DLR is not defined: the plain difference of the two logits stands in, and
    the conditions say so.
    """

    norms: ClassVar[tuple[Norm, ...]] = ("linf",)
    both_ways: ClassVar[bool] = True

    steps: int = 100
    targets: int = 9
    queries: int = 5000

    def __post_init__(self) -> None:
        """Refuse numbers that make no attack."""
        super().__post_init__()
        self._counted("steps", "targets", "queries")

    def aims(self, classes: int) -> Aims:
        """How many rivals, and the loss that leads to them."""
        return Aims(
            min(self.targets, classes - 1), "targeted_dlr" if classes > 3 else "targeted_margin"
        )

    def search(
        self, model: Model, batch: Batch, threat: Threat, generator: torch.Generator
    ) -> Found:
        """See ``Attack.search``; the trace's ``stage`` counts the climbs of all four in order."""
        from dlaudit.attacks.auto_ascent import auto_ascent
        from dlaudit.attacks.ball import Ball
        from dlaudit.attacks.boundary import approach
        from dlaudit.attacks.losses import TARGETED, cross_entropy
        from dlaudit.attacks.square import squares
        from dlaudit.attacks.survivors import Survivors, rivals

        left = Survivors(model, Ball(batch.x, threat), batch.y)
        clean = left.clean_logits()
        aims = self.aims(clean.shape[1])
        order = rivals(clean, batch.y)[:, : aims.targets]
        left.face(auto_ascent, loss=cross_entropy, steps=self.steps, generator=generator)
        for rank in range(aims.targets):
            left.face(
                auto_ascent, loss=TARGETED[aims.loss], steps=self.steps, generator=generator,
                targets=order[left.open, rank],
            )  # fmt: skip
        for rank in range(aims.targets):
            left.face(
                approach, steps=self.steps, targets=order[left.open, rank], bounds=threat.bounds
            )
        left.face(squares, queries=self.queries, generator=generator)
        return left.found

    def conditions(self, epsilon: float) -> dict[str, Scalar]:
        """See ``Attack.conditions``."""
        return {
            **super().conditions(epsilon), "targeted": True, "restarts": 1,
            "members": ", ".join(MEMBERS),
        }  # fmt: skip

    def passes(self, *, n: int, classes: int) -> Cost:
        """What it costs if no sample is fooled."""
        attacked, rivals = self.attacked(n), self.aims(classes).targets
        forward = (1 + rivals) * (self.steps + 1) + 2 * rivals * self.steps + self.queries + 2
        backward = (1 + 2 * rivals) * self.steps
        return Cost(forward=attacked * forward, backward=attacked * backward)

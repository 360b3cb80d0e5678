"""Projected gradient descent: many short steps from a random start (Madry et al. 2018).

Knows its schedule and the one loop under it; how examples are scored is the harness's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from dlaudit.attacks.base import Attack, Found, LossName, Norm, Threat
from dlaudit.audit.parts import Batch, Epsilon, Model
from dlaudit.audit.record import Cost, Scalar

if TYPE_CHECKING:
    import torch

Schedule = Literal["linear", "constant"]
FIRST_STEP: dict[Schedule, float] = {"linear": 2.0, "constant": 2.5}
"""In budgets. Linear: the first step may cross the whole ball (the 2 epsilon of Croce & Hein 2020).
Constant: all steps together are 2.5 budgets long, so every corner can be reached (Madry et al. 2018)."""


class PGD(Attack, frozen=True, kw_only=True):
    """Projected gradient descent with random starts; a sample that is fooled costs nothing more.

    loss: what the steps raise. schedule: steps that shrink linearly to nothing, or all alike.
    step_size: of the first step, in input units (a number or ``"a/b"``); by default 2 epsilon
    (linear) or 2.5 epsilon / steps (constant). random_start: begin anywhere in the ball, else at the
    clean input. Why these defaults: docs/decisions/0010-steps-of-pgd.md.
    """

    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")

    steps: int = 20
    restarts: int = 1
    loss: LossName = "margin"
    schedule: Schedule = "linear"
    step_size: Epsilon | None = None
    random_start: bool = True

    def __post_init__(self) -> None:
        """Refuse numbers of steps that make no attack."""
        super().__post_init__()
        self._counted("steps", "restarts")
        if self.step_size is not None and (len(self.step_size.values) > 1 or 0 in self.step_size):
            message = f"step_size: expected one number > 0, got {self.step_size.plain}"
            raise ValueError(message)

    def first_step(self, epsilon: float) -> float:
        """The length of the first step at this budget, in input units."""
        if self.step_size is not None:
            return self.step_size.values[0]
        shared = self.steps if self.schedule == "constant" else 1
        return FIRST_STEP[self.schedule] * epsilon / shared

    def sizes(self, epsilon: float) -> list[float]:
        """The length of every step at this budget, in input units."""
        first = self.first_step(epsilon)
        if self.schedule == "constant":
            return [first] * self.steps
        return [first * (1 - i / self.steps) for i in range(self.steps)]

    def search(
        self, model: Model, batch: Batch, threat: Threat, generator: torch.Generator
    ) -> Found:
        """See ``Attack.search``; passes are counted sample by sample."""
        from dlaudit.attacks.ascent import ascend
        from dlaudit.attacks.ball import Ball
        from dlaudit.attacks.losses import LOSSES

        return ascend(
            model, Ball(batch.x, threat), batch.y, loss=LOSSES[self.loss],
            sizes=self.sizes(threat.epsilon), restarts=self.restarts,
            generator=generator if self.random_start else None,
        )  # fmt: skip

    def conditions(self, epsilon: float) -> dict[str, Scalar]:
        """See ``Attack.conditions``."""
        return {**super().conditions(epsilon), "step_size": self.first_step(epsilon)}

    def passes(self, *, n: int, classes: int) -> Cost:
        """The most it can cost: every sample attacked to the last step at every budget."""
        del classes
        attacked = self.attacked(n)
        return Cost(
            forward=attacked * self.restarts * (self.steps + 1),
            backward=attacked * self.restarts * self.steps,
        )

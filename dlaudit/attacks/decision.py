"""An attack for models that say a class and nothing else (HopSkipJump, Chen et al. 2020).

Knows its budget of questions; how examples are scored is the harness's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from dlaudit.attacks.base import Attack, Found, Norm, Threat
from dlaudit.attacks.queries import answering
from dlaudit.audit.parts import Batch, Model, Needs
from dlaudit.audit.record import Cost, Scalar

if TYPE_CHECKING:
    import torch


class Decision(Attack, frozen=True, kw_only=True):
    """A walk along the decision boundary that asks for decisions only: for models without gradients.

    queries: questions that one sample may ask. probes: of the first estimate of a direction; later
    ones take more, by the square root of the step. One search serves the whole curve; a sample that
    is nearer than the smallest budget asks nothing more.
    """

    needs: ClassVar[Needs] = Needs(model=("queries",), data=("labels",))
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    minimal: ClassVar[bool] = True

    queries: int = 2000
    probes: int = 100

    def __post_init__(self) -> None:
        """Refuse numbers that leave nothing to ask."""
        super().__post_init__()
        if self.probes < 2:
            message = f"probes: expected a number >= 2, got {self.probes}"
            raise ValueError(message)
        if self.queries < self.probes:
            message = f"queries: expected a number >= probes = {self.probes}, got {self.queries}"
            raise ValueError(message)

    def missing(
        self, *, model: frozenset[str], data: frozenset[str], train_fn: bool
    ) -> tuple[str, ...]:
        """See ``Check.missing``; whoever gives logits can be asked."""
        return super().missing(model=answering(model), data=data, train_fn=train_fn)

    def search(
        self, model: Model, batch: Batch, threat: Threat, generator: torch.Generator
    ) -> Found:
        """See ``Attack.search``; who cannot be fooled from any start gets the clean input back."""
        import torch

        from dlaudit.attacks.hop_skip_jump import Walk, hop_skip_jump
        from dlaudit.attacks.queries import Questions

        walk = Walk(Questions(model, batch), batch.x, batch.y, threat)
        smallest = min((one for one in self.epsilon if one > 0), default=0.0)
        walked = hop_skip_jump(
            walk, queries=self.queries, draws=self.probes, enough=smallest, generator=generator
        )
        spent = walked.spent.to(torch.float64)
        return Found(walked.x, spent, torch.zeros_like(spent))

    def conditions(self, epsilon: float) -> dict[str, Scalar]:
        """See ``Attack.conditions``."""
        return {**super().conditions(epsilon), "asks_for": "decisions", "restarts": 1}

    def passes(self, *, n: int, classes: int) -> Cost:
        """The most it can cost: every sample asks all its questions, and is judged at every budget."""
        del classes
        chosen = n if self.samples is None else min(n, self.samples)
        return Cost(forward=chosen * self.queries + self.attacked(n), backward=0)

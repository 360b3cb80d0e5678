"""What an attack is: a search for a perturbation, re-judged by the base class whatever it returns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import msgspec

from dlaudit.audit.parts import Batch, Check, Epsilon, Model, Needs, Yielded

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dlaudit.audit.bench import Bench

Norm = Literal["linf", "l2", "l1", "l0", "patch"]


class Threat(msgspec.Struct, frozen=True, kw_only=True):
    """What the attacker may do: one budget, in input units, inside the valid range of inputs."""

    norm: Norm
    epsilon: float
    bounds: tuple[Any, Any] | None = None


class Attack(Check, frozen=True, kw_only=True):
    """A search for inputs that change the decision. Its fields are its parameters.

    Every attack is also a check of the same id. norm, epsilon: the threat model (a list of budgets
    is a curve). samples: how many test samples are attacked, None for all.
    """

    needs: ClassVar[Needs] = Needs(model=("logits", "gradients"), data=("labels",))
    measures: ClassVar[tuple[str, ...]] = ("clean_accuracy", "robust_accuracy", "inputs_moved")

    norm: Norm = "linf"
    epsilon: Epsilon = Epsilon("8/255")
    samples: int | None = None

    def perturb(self, model: Model, batch: Batch, threat: Threat, generator: torch.Generator) -> Tensor:
        """Return perturbed inputs, like ``batch.x``. The caller clips, checks and predicts again.

        batch.x: (B, *input) tensor on the model's device; batch.y: (B,) int64 tensor.
        """
        raise NotImplementedError

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Attack every clean-correct sample at every budget and measure what survives."""
        from dlaudit.attacks.harness import robustness

        yield from robustness(self, bench)

"""What an attack is: a search for a perturbation, re-judged by the base class whatever it returns.

Knows the contract between a search and its judge; imports no torch, because plans name attacks
where nothing is computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import msgspec

from dlaudit.audit.parts import Batch, Check, Epsilon, Model, Needs, Yielded
from dlaudit.audit.record import Caveat, Scalar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dlaudit.audit.bench import Bench

Norm = Literal["linf", "l2", "l1", "l0", "patch"]
IN_255 = Epsilon("8/255")
"""The budget where none is given: 8 of 255 steps, for images in [0, 1]."""
LossName = Literal["margin", "cross_entropy", "dlr"]
DoctorLevel = Literal["quick", "off"]
EXAMINATION = 0.15
"""What an attack's examination of itself may add to its passes."""


class Threat(msgspec.Struct, frozen=True, kw_only=True):
    """What the attacker may do: one budget, in input units, inside the valid range of inputs.

    bounds: ``(low, high)``, each a number or a tensor like one input, or None. scale: what every
    value's change is divided by before the norm is taken, so that epsilon counts scales; a tensor
    like one input, or (B, 1, …) with a number for each sample; 0 where nothing may move; None for 1.
    ``Ball`` keeps to all of that. rules: what else an example must obey, an object whose
    ``admits(x, clean) -> (B,) bool tensor`` decides; the harness counts no example that it refuses.
    levels: values are stored as so many equal steps from low to high (255 for 8-bit pictures), and an
    example counts only as it comes back from there; None for values as they are.
    """

    norm: Norm
    epsilon: float
    bounds: tuple[Any, Any] | None = None
    scale: Any = None
    rules: Any = None
    levels: int | None = None


class Terms(NamedTuple):
    """What one run's attacker may do, once model and data are known.

    threat: a batch of tensors and a budget -> the threat model there. stated: what of it stands in
    the conditions of every number, besides the attack's parameters. ruled: whether it has rules, so
    that ``refused_by_constraints`` is measured. applies: a batch of tensors -> (B,) bool tensor, the
    samples for which the threat model means anything; the others are counted as ``left_out``, of which
    reason is the cause, and are in no other number. caveats: what is known beforehand to make the
    search weak.
    """

    threat: Callable[[Batch, float], Threat]
    stated: dict[str, Scalar] = {}
    ruled: bool = False
    applies: Callable[[Batch], Tensor] | None = None
    reason: str = ""
    caveats: tuple[Caveat, ...] = ()


class Found(NamedTuple):
    """What a search proposes: one example per sample, what each cost, and what the search saw.

    x: like ``batch.x``; forward, backward: (B,) passes spent on each sample, fractions where only
    their sum is known. trace: columns (B,) by name, what ``attacks.trace.Trace`` kept of the search.
    """

    x: Tensor
    forward: Tensor
    backward: Tensor
    trace: Mapping[str, Tensor] = MappingProxyType({})


class Attack(Check, frozen=True, kw_only=True):
    """A search for inputs that change the decision. Its fields are its parameters.

    Every attack is also a check of the same id. norm, epsilon: the threat model (a list of budgets
    is a curve). epsilon_per_feature: one budget for each value of an input, flattened, or for each
    channel, 0 where nothing may change; the change of each is divided by its own before the norm is
    taken, and epsilon, 1 unless it is given, multiplies them all. samples: how many test samples are
    attacked, None for all. levels: 255 if only examples that survive storage as 8-bit pictures count;
    needs a valid range of two numbers. mixed_precision: whether the search, never its judgement, computes
    in bfloat16 where that is safe. doctor: whether a search by gradients examines itself afterwards, at no
    more than 15 % of the passes that it spent (docs/doctor.md).

    A subclass writes ``perturb``; one that counts its own passes sample by sample writes ``search``.
    norms: those it can search in. scales: whether it keeps to a ``Threat.scale``. minimal: true if it
    looks for the nearest example whatever the budget, so that one search serves the whole curve.
    both_ways: whether it searches towards any other class and towards each rival.
    """

    needs: ClassVar[Needs] = Needs(model=("logits", "gradients"), data=("labels",))
    measures: ClassVar[tuple[str, ...]] = ("clean_accuracy", "robust_accuracy", "inputs_moved")
    proportions: ClassVar[tuple[str, ...]] = measures
    sequential: ClassVar[bool] = True
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1", "l0")
    scales: ClassVar[bool] = True
    minimal: ClassVar[bool] = False
    both_ways: ClassVar[bool] = False

    norm: Norm = "linf"
    epsilon: Epsilon = IN_255
    epsilon_per_feature: list[float] | None = None
    samples: int | None = None
    levels: int | None = None
    mixed_precision: bool = False
    doctor: DoctorLevel = "quick"

    def __post_init__(self) -> None:
        """Refuse a norm that this attack does not search in, and budgets and samples of nothing."""
        if self.norm not in self.norms:
            message = f"norm: expected one of {', '.join(self.norms)}, got {self.norm}"
            raise ValueError(message)
        if self.samples is not None and self.samples < 1:
            message = f"samples: expected a number >= 1, got {self.samples}"
            raise ValueError(message)
        if self.levels is not None and self.levels < 1:
            message = f"levels: expected a number >= 1, got {self.levels}"
            raise ValueError(message)
        if self.epsilon_per_feature is not None:
            self._check_per_feature(self.epsilon_per_feature)
            if self.epsilon is IN_255:
                msgspec.structs.force_setattr(self, "epsilon", Epsilon(1))

    def _counted(self, *names: str) -> None:
        """Refuse counts below one: of steps, restarts, queries, targets."""
        for name in names:
            if (value := getattr(self, name)) < 1:
                message = f"{name}: expected a number >= 1, got {value}"
                raise ValueError(message)

    def _check_per_feature(self, budgets: list[float]) -> None:
        """Raise ValueError unless they are budgets, and this attack keeps to them."""
        name = "epsilon_per_feature"
        if not self.scales:
            message = f"{name}: this attack knows one budget for all values: expected epsilon alone"
            raise ValueError(message)
        wrong = [one for one in budgets if not (math.isfinite(one) and one >= 0)]
        if wrong or not any(budgets):
            got = wrong[0] if wrong else f"{len(budgets)} zeros"
            message = f"{name}: expected numbers >= 0, at least one of them above 0, got {got}"
            raise ValueError(message)

    def perturb(
        self, model: Model, batch: Batch, threat: Threat, generator: torch.Generator
    ) -> Tensor:
        """Return perturbed inputs, like ``batch.x``. The caller clips, checks and predicts again.

        batch.x: (B, *input) tensor on the model's device; batch.y: (B,) int64 tensor; generator: on
        the CPU, this block's own. An attack that writes ``search`` need not write this.
        """
        if type(self).search is Attack.search:
            raise NotImplementedError
        return self.search(model, batch, threat, generator).x

    def search(
        self, model: Model, batch: Batch, threat: Threat, generator: torch.Generator
    ) -> Found:
        """``perturb``, with the passes that it spent shared evenly among the samples."""
        import torch

        before, n = model.passes.cost, len(batch.y)
        x = self.perturb(model, batch, threat, generator)
        spent = model.passes.since(before)
        return Found(
            x,
            torch.full((n,), spent.forward / n, dtype=torch.float64),
            torch.full((n,), spent.backward / n, dtype=torch.float64),
        )

    def conditions(self, epsilon: float) -> dict[str, Scalar]:
        """The protocol at one budget, as it stands beside every number: all parameters, resolved."""
        stated: dict[str, Any] = {
            field: getattr(self, field)
            for field in self.__struct_fields__
            if field not in {"epsilon", "samples", "doctor", "mixed_precision"}
        }
        if self.mixed_precision:
            stated["mixed_precision"] = True
        if budgets := self.epsilon_per_feature:
            stated["epsilon_per_feature"] = f"per feature, {min(budgets):g}..{max(budgets):g}"
        return {
            **{name: value for name, value in stated.items() if isinstance(value, Scalar)},
            "epsilon": epsilon,
            "targeted": False,
        }

    def terms(self, bench: Bench) -> Terms:
        """What the attacker may do in this run; the harness asks once.

        Raises NotOffered if the budgets per feature do not fit the inputs.
        """
        from dlaudit.attacks.harness import plain_terms

        return plain_terms(self, bench)

    def attacked(self, n: int) -> int:
        """How many samples are attacked at most out of n, summed over the budgets above zero."""
        chosen = n if self.samples is None else min(n, self.samples)
        return chosen * sum(epsilon > 0 for epsilon in self.epsilon)

    @property
    def examines_itself(self) -> bool:
        """Whether its run ends in an examination: of a search by gradients, at some budget above 0."""
        searches = "gradients" in self.needs.model and self.norm != "patch"
        return self.doctor == "quick" and searches and any(one > 0 for one in self.epsilon)

    def missing(
        self, *, model: frozenset[str], data: frozenset[str], train_fn: bool
    ) -> tuple[str, ...]:
        """See ``Check.missing``: a budget of numbers means nothing to token ids."""
        gaps = self.needs.missing(model=model, data=data, train_fn=train_fn)
        if "tokens" in data and "tokens" not in self.needs.data:
            gaps += ("data: numbers instead of token ids",)
        return gaps

    @property
    def surcharge(self) -> float:
        """See ``Check.surcharge``: what its examination may spend."""
        return EXAMINATION if self.examines_itself else 0.0

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Attack every clean-correct sample at every budget and measure what survives."""
        from dlaudit.attacks.harness import robustness

        yield from robustness(self, bench)

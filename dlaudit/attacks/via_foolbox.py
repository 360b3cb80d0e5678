"""Any foolbox attack by name, with foolbox's known defects worked round; its only door into dlaudit.

Knows foolbox's classes and quirks; never how examples are scored. Measured against foolbox 3.3.4:

- its import fails where no git binary is installed, unless GitPython is told to be quiet;
- it differentiates with ``backward()``: the adapter freezes the model's parameters, so that none
  collects a gradient; a device is always named, because without one it moves the model to cuda:0;
- valid ranges are one number each: a missing or per-feature range is replaced by numbers around it,
  and the model it attacks cuts its inputs to the true range, so that nothing is lost or gained;
- HopSkipJump cuts to [0, 1] whatever the range is: it is shown inputs scaled to that;
- it draws from the global generators: these are seeded for the call and put back;
- fixed-budget attacks return their last iterate and start again at every budget: the harness carries
  success along the curve.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import types
import typing
import warnings
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import msgspec

from dlaudit.attacks.base import Attack, Norm, Threat
from dlaudit.audit.parts import Batch, Model, Needs
from dlaudit.audit.record import Cost, Scalar
from dlaudit.errors import AuditError, NotOffered, UnknownName

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

NORMS: dict[float, Norm] = {float("inf"): "linf", 2: "l2", 1: "l1", 0: "l0"}
WITHOUT_GRADIENTS = frozenset({
    "additive_noise", "binarization", "blended_noise", "blur", "boundary_attack", "contrast",
    "contrast_min", "dataset_attack", "gen_attack", "hop_skip_jump", "inversion", "pointwise",
    "saltandpepper",
})  # fmt: skip
"""foolbox's modules whose attacks ask for decisions only: they run on models without gradients."""
GRADIENT_STEPS = frozenset({
    "basic_iterative_method", "fast_gradient_method", "mi_fgsm", "projected_gradient_descent",
    "sparse_l1_descent_attack",
})  # fmt: skip
"""foolbox's modules whose attacks spend one forward and one backward pass a step."""
NEEDS_MORE = frozenset({"BinarizationRefinementAttack", "DatasetAttack", "GenAttack"})
"""They want starting points, a data set, a target class: what an untargeted search has not."""
SET_HERE = frozenset({"self", "distance", "constraint", "tensorboard"})
"""Parameters that a plan does not give: the norm decides the first, and nothing is logged."""


class FoolboxFailed(AuditError):
    """foolbox refused or gave up, told in words: its own assertions come without any."""


class Foolbox(Attack, frozen=True, kw_only=True):
    """Any attack of foolbox by its name: ``foolbox:LinfDeepFoolAttack``, with foolbox's parameters."""

    kind: ClassVar[str] = ""
    scales: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Refuse the family itself: only its members can be run."""
        if not self.kind:
            message = "foolbox is a family: expected the name of an attack, such as foolbox:LinfPGD"
            raise ValueError(message)
        super().__post_init__()

    @classmethod
    def member(cls, name: str) -> type[Attack]:
        """The attack ``foolbox:<name>``, with foolbox's parameters as its fields.

        Raises UnknownName, with the nearest name.
        """
        if name not in attacks():
            asked, *known = (f"foolbox:{one}" for one in (name, *attacks()))
            raise UnknownName(asked, "attack", known)
        return member(name)

    def perturb(
        self, model: Model, batch: Batch, threat: Threat, generator: torch.Generator
    ) -> Tensor:
        """See ``Attack.perturb``. Raises FoolboxFailed with foolbox's reason."""
        import torch

        foolbox = imported()
        low, high = numbers_around(batch.x, threat)
        shift, span = (low, high - low) if self.kind == "HopSkipJumpAttack" else (0.0, 1.0)
        low, high = (low - shift) / span, (high - shift) / span
        net = boxed(model, threat.bounds, shift=shift, span=span)
        x = ((batch.x - shift) / span).clamp(low, high)
        seed = int(torch.randint(2**31, (1,), generator=generator))
        # A minimal-norm attack is not told of a budget: the harness reads the norm of what it returns.
        budget = {} if self.minimal else {"epsilon": threat.epsilon}
        with seeded(seed, model.device), warnings.catch_warnings():
            # It warns of what it then raises, or of what the harness measures.
            warnings.simplefilter("ignore", UserWarning)
            try:
                opened = foolbox.PyTorchModel(net, bounds=(low, high), device=model.device)
                goal = foolbox.criteria.Misclassification(batch.y)
                found: Tensor = self.built().run(opened, x, goal, **budget)
            except (AssertionError, NotImplementedError, ValueError) as error:
                message = (
                    f"foolbox:{self.kind} gave up: {str(error) or 'an assertion without a message'}"
                )
                raise FoolboxFailed(message) from error
        return cut(found * span + shift, threat.bounds)

    def built(self) -> Any:
        """The foolbox attack with these parameters, for this norm."""
        found = attacks()[self.kind]
        accepted = inspect.signature(found).parameters
        given = {name: getattr(self, name) for name in accepted if name in self.__struct_fields__}
        if "distance" in accepted:
            given["distance"] = getattr(imported().distances, self.norm)
        if "constraint" in accepted:
            given["constraint"] = self.norm
        return found(**given)

    def passes(self, *, n: int, classes: int) -> Cost | None:
        """The most it can cost where foolbox's loop is plain to read; else None."""
        family = attacks()[self.kind].__module__.rpartition(".")[2]
        steps = getattr(self, "steps", 1)
        if family == "deepfool":
            # One pass orders the classes; every step differentiates each rival. One search for all.
            rivals = min(getattr(self, "candidates", None) or classes, classes) - 1
            searched = min(n, self.samples or n) * steps * rivals
            return Cost(forward=searched + n + self.attacked(n), backward=searched)
        if family in GRADIENT_STEPS:
            return Cost(forward=self.attacked(n) * (steps + 1), backward=self.attacked(n) * steps)
        return None

    def conditions(self, epsilon: float) -> dict[str, Scalar]:
        """See ``Attack.conditions``; foolbox runs each attack once."""
        return {**super().conditions(epsilon), "restarts": 1}


def imported() -> types.ModuleType:
    """The foolbox package, imported so that a missing git binary is no error."""
    before = os.environ.get("GIT_PYTHON_REFRESH")
    os.environ["GIT_PYTHON_REFRESH"] = "quiet"
    try:
        with warnings.catch_warnings():
            # It imports from a scipy namespace that moved; nothing that a user could mend.
            warnings.simplefilter("ignore", DeprecationWarning)
            import foolbox
    finally:
        if before is None:
            del os.environ["GIT_PYTHON_REFRESH"]
        else:
            os.environ["GIT_PYTHON_REFRESH"] = before
    return foolbox


@cache
def attacks() -> dict[str, type[Any]]:
    """foolbox's norm-bounded attacks by their names, aliases included."""
    from importlib import import_module

    package = imported().attacks
    base = import_module("foolbox.attacks.base")
    return {
        name: value
        for name, value in vars(package).items()
        if inspect.isclass(value)
        and issubclass(value, base.MinimizationAttack | base.FixedEpsilonAttack)
        and name not in NEEDS_MORE
    }


@cache
def member(name: str) -> type[Attack]:
    """The struct that stands for one foolbox attack."""
    found = attacks()[name]
    norms = norms_of(found)
    fields: list[Any] = [("norm", Norm, norms[0]), *parameters(found)]
    searches_alone = found.__module__.rpartition(".")[2] in WITHOUT_GRADIENTS
    minimal = any(base.__name__ == "MinimizationAttack" for base in found.__mro__)
    line = (inspect.getdoc(found) or name).partition("\n")[0]
    made = msgspec.defstruct(
        f"Foolbox{name}", fields, bases=(Foolbox,), module=__name__, frozen=True, kw_only=True,
        forbid_unknown_fields=True,
        namespace={
            "__doc__": f"foolbox: {line}", "kind": name, "norms": norms, "minimal": minimal,
            "needs": Needs(
                model=("logits",) if searches_alone else ("logits", "gradients", "module"),
                data=("labels",),
            ),
        },
    )  # fmt: skip
    return typing.cast("type[Attack]", made)


def norms_of(found: type[Any]) -> tuple[Norm, ...]:
    """The norms that a foolbox attack can minimise or keep to, its own first."""
    accepted = inspect.signature(found).parameters
    if "constraint" in accepted:
        return ("l2", "linf")
    own = getattr(found, "distance", None)
    if isinstance(own, property) and "distance" not in accepted:
        own = getattr(found(), "distance", None)
    p = getattr(own, "p", None)
    return ("linf", "l2", "l1", "l0") if p is None else (NORMS[p],)


def parameters(found: type[Any]) -> list[tuple[Any, ...]]:
    """foolbox's parameters as fields, where a plan can write them: (name, type[, default])."""
    hints = typing.get_type_hints(found.__init__)
    fields: list[tuple[Any, ...]] = []
    for name, parameter in inspect.signature(found).parameters.items():
        kind = hints.get(name)
        if name in SET_HERE or not writable(kind):
            continue
        default = () if parameter.default is parameter.empty else (parameter.default,)
        fields.append((name, kind, *default))
    return fields


def writable(kind: Any) -> bool:
    """Whether a plan can hold values of a type: numbers, text, booleans, choices, none."""
    if typing.get_origin(kind) in {typing.Union, types.UnionType}:
        return all(writable(part) for part in typing.get_args(kind))
    return typing.get_origin(kind) is Literal or kind in {int, float, bool, str, type(None)}


def numbers_around(x: Tensor, threat: Threat) -> tuple[float, float]:
    """The valid range as two finite numbers that hold all of it, and every clean input.

    Where an end is missing, no perturbation within the budget reaches beyond data +- epsilon.
    Raises NotOffered in l0, whose budget says nothing of how far a value may move.
    """
    import torch

    ends = []
    for sign, values in ((-1, x.min()), (1, x.max())):
        end = None if threat.bounds is None else torch.as_tensor(threat.bounds[(sign + 1) // 2])
        if end is None or not torch.isfinite(end).all():
            if threat.norm == "l0":
                message = (
                    "an l0 budget says nothing of how far a value may move: expected finite bounds"
                )
                raise NotOffered(message)
            ends.append(float(values) + sign * threat.epsilon)
        else:
            ends.append(sign * max(sign * float(values), float((sign * end).max())))
    return ends[0], ends[1]


def cut(x: Tensor, bounds: tuple[Any, Any] | None) -> Tensor:
    """x inside the valid range, each feature in its own."""
    import torch

    if bounds is None:
        return x
    low, high = (torch.as_tensor(end, dtype=x.dtype, device=x.device) for end in bounds)
    return x.clamp(low, high)


def boxed(model: Model, bounds: tuple[Any, Any] | None, *, shift: float, span: float) -> nn.Module:
    """The model as a torch module of foolbox's kind, looking at inputs inside the valid range only.

    It is given (x - shift) / span instead of x.

    A model without a torch module answers through ``logits``: decisions, no gradients.
    """
    from torch import nn

    class Boxed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.answer = model.module or model.logits
            # Set on this module alone: ``eval()`` would reach into the model under audit.
            self.training = False

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.answer(cut(x * span + shift, bounds))
            return logits

    return Boxed()


@contextlib.contextmanager
def seeded(seed: int, device: str) -> Iterator[None]:
    """The global generators of torch and numpy, seeded for a while and then put back."""
    import numpy as np
    import torch

    kept = np.random.get_state()  # noqa: NPY002  (what foolbox draws from)
    with torch.random.fork_rng(devices=[] if device == "cpu" else [device]):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(kept)  # noqa: NPY002

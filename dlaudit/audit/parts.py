"""What can be plugged in: models, data sets, checks and suites, and how they describe themselves.

Knows what a part must look like; never how it is found, run or judged. Imports neither torch nor
numpy: a part's module may be listed on a machine that has no time for either.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import msgspec

from dlaudit.audit.record import (
    Artifact,
    Card,
    Cost,
    Measurement,
    Rule,
    Undefined,
)
from dlaudit.errors import NotOffered

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch
    from torch import Tensor, nn

    from dlaudit.audit.bench import Bench

Yielded = Measurement | Undefined | Artifact


TASKS = ("multilabel", "segmentation", "detection")
"""What may be asked for instead of one class or one number per sample; words of ``offers``."""


class Boxes(NamedTuple):
    """Objects in one picture, true or found.

    box: (K, 4) float64, x0, y0, x1, y1 in pixels; label: (K,) int64; score: (K,) float64, all ones where
    the objects are true. crowd: (K,) bool, true where a box stands for many objects at once: what is
    found there counts neither as right nor as wrong.
    """

    box: np.ndarray
    label: np.ndarray
    score: np.ndarray
    crowd: np.ndarray


class Batch(NamedTuple):
    """Consecutive samples of one split.

    x: (B, *input); y: (B,) int64; id: (B,) str. From a data set these are numpy arrays; inside
    ``Attack.perturb`` x and y are tensors on the model's device. groups: attribute -> (B,) str,
    a missing value is ``"unknown"``. columns: further columns of a table, as stored. mask:
    (B, *spatial) bool, true where the object is, if the data set has masks. truth: what is true where
    that is no class, by the task that the data offer: ``multilabel`` (B, L) bool, ``segmentation``
    (B, H, W) int16, -1 where nothing counts, ``detection`` (B,) objects of ``Boxes``; y is then all zeros.
    """

    x: Any
    y: Any
    id: Any
    groups: dict[str, Any] = {}
    columns: dict[str, Any] = {}
    mask: Any = None
    truth: Any = None


class Decisions(NamedTuple):
    """What a model says about a batch. predicted: (B,) int64 class indices.

    logits: (B, C) float32 or None where only decisions are recorded; score: (B,) float or None, the
    score of class 1 where a binary model gives one without logits.
    """

    predicted: np.ndarray
    logits: np.ndarray | None = None
    score: np.ndarray | None = None


class Passes:
    """Counts sample-passes through a model, forward and backward."""

    def __init__(self) -> None:
        """Start at nothing."""
        self.forward = 0
        self.backward = 0

    @property
    def cost(self) -> Cost:
        """The count so far, as a value."""
        return Cost(forward=self.forward, backward=self.backward)

    def since(self, before: Cost) -> Cost:
        """What was spent after ``before`` was taken."""
        return Cost(forward=self.forward - before.forward, backward=self.backward - before.backward)


class Model(ABC):
    """Something that answers. Subclasses set ``card``, ``classes``, ``offers`` and ``bounds``.

    offers: words out of ``decisions`` (class labels), ``queries`` (they answer to any input, not only
    to the data's; implied by logits), ``logits``, ``gradients`` and ``module`` (a torch module can be
    opened); or ``values``; or one of ``TASKS``. bounds: the valid range of inputs, ``(low, high)``, each
    a number or an array like one input; None where inputs are unbounded. classes: one name per logit.
    """

    card: Card
    classes: tuple[str, ...]
    offers: frozenset[str] = frozenset({"decisions", "logits"})
    bounds: tuple[Any, Any] | None = None
    device: str = "cpu"

    @property
    def passes(self) -> Passes:
        """The counter of this model, made at first use."""
        return self.__dict__.setdefault("_passes", Passes())  # type: ignore[no-any-return]

    @property
    def module(self) -> nn.Module | None:
        """The module whose output is the (B, C) logits, counted like every other pass."""
        return None

    def computing_fast(self, fast: bool) -> AbstractContextManager[None]:  # noqa: FBT001
        """Compute in bfloat16 where that is safe, if ``fast``; raises NotOffered where it cannot."""
        if not fast:
            return nullcontext()
        message = f"{self.card.name} computes in one precision: expected mixed_precision = false"
        raise NotOffered(message)

    @abstractmethod
    def logits(self, x: Any) -> Tensor:
        """x: (B, *input), array or tensor, any B. Returns a (B, C) float tensor, no graph attached.

        Raises NotOffered where only decisions are recorded, NonFinite on NaN or infinity.
        """

    def loss_gradient(self, x: Any, y: Any, loss: Any = "cross_entropy") -> Tensor:
        """d loss / dx, summed over the batch so that no sample dilutes another; like x.

        loss: ``"cross_entropy"`` or a function (logits (B, C), y (B,)) -> (B,).
        """
        del x, y, loss
        message = f"{self.card.name} gives no gradients"
        raise NotOffered(message)

    def logits_and_gradient(
        self, x: Any, y: Any, loss: Any = "cross_entropy"
    ) -> tuple[Tensor, Tensor]:
        """``logits`` and ``loss_gradient`` together; torch models need one forward pass for both."""
        return self.logits(x), self.loss_gradient(x, y, loss)

    def values(self, batch: Batch) -> np.ndarray:
        """What a model of quantities (``offers`` holds ``values``) predicts: (B,) float64.

        Raises NotOffered where classes are decided.
        """
        del batch
        message = f"{self.card.name} decides classes and predicts no quantity"
        raise NotOffered(message)

    def structured(self, batch: Batch) -> Any:
        """What a model of another task (``offers`` holds one of ``TASKS``) says.

        ``multilabel``: (B, L) float64, the score of each label in [0, 1]; ``segmentation``: (B, H, W)
        int64, the class of each pixel; ``detection``: a list of B ``Boxes``. Raises NotOffered.
        """
        del batch
        message = f"{self.card.name} decides one class, or one number, per sample"
        raise NotOffered(message)

    def decide(self, batch: Batch) -> Decisions:
        """The model's decisions on a batch of the data set. Ties go to the lower class index."""
        logits = self.logits(batch.x).float().cpu().numpy()
        return Decisions(predicted=logits.argmax(axis=1), logits=logits)


class Dataset(ABC):
    """Something to audit on. Subclasses set ``card``, ``classes`` and ``offers``.

    offers: words out of ``labels`` (or ``values``, or one of ``TASKS``), ``groups``, ``mask``, one of
    ``images``, ``tabular``, ``tokens``, ``audio``, and the name of each further split (``train``).
    """

    card: Card
    classes: tuple[str, ...]
    offers: frozenset[str] = frozenset({"labels"})

    @abstractmethod
    def batches(self, split: str = "test") -> Iterator[Batch]:
        """The split's samples in their stored order, in batches of any size."""

    def size(self, split: str = "test") -> int:
        """How many samples the split holds."""
        return sum(len(batch.y) for batch in self.batches(split))


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """What a check cannot do without, in the words of ``Model.offers`` and ``Dataset.offers``."""

    model: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    train_fn: bool = False

    def missing(
        self, *, model: frozenset[str], data: frozenset[str], train_fn: bool
    ) -> tuple[str, ...]:
        """The needs that are not met, in plain words."""
        gaps = [f"model: {word}" for word in self.model if word not in model]
        gaps += [f"data: {word}" for word in self.data if word not in data]
        if self.train_fn and not train_fn:
            gaps.append("plan: [train] factory")
        return tuple(gaps)


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A measurement procedure. Its fields are its parameters, its docstring's first line its name.

    measures: the names it can yield, so that a rule's typing error is found before any compute.
    proportions: those of them that are proportions of the samples it looks at, so that
    ``dlaudit plan`` can say what they will decide. sequential: true if it takes its samples from
    ``bench.sampling``, so that a plan with ``until_decided`` may end it early. accepts_nonfinite: true
    if NaN logits are among the things it looks for. passes_over: the split whose size ``passes`` is
    told.
    """

    needs: ClassVar[Needs] = Needs()
    measures: ClassVar[tuple[str, ...]] = ()
    proportions: ClassVar[tuple[str, ...]] = ()
    sequential: ClassVar[bool] = False
    accepts_nonfinite: ClassVar[bool] = False
    passes_over: ClassVar[str] = "test"

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Measure; judge nothing. Whatever is raised makes the run errored, never passed."""
        raise NotImplementedError

    def missing(
        self, *, model: frozenset[str], data: frozenset[str], train_fn: bool
    ) -> tuple[str, ...]:
        """What it needs and is not offered, in plain words; a parameter may change what it needs."""
        return self.needs.missing(model=model, data=data, train_fn=train_fn)

    def passes(self, *, n: int, classes: int) -> Cost | None:
        """Sample-passes to expect on ``n`` samples, printed by ``dlaudit plan``; None if unknown."""
        del n, classes
        return None

    @property
    def trainings(self) -> int:
        """Trainings with the plan's function that it asks for: held against ``train_budget``."""
        return 0

    @property
    def surcharge(self) -> float:
        """What may come on top of ``passes``, as a share of it."""
        return 0.0

    def foreseen(self, facts: Mapping[str, Any]) -> tuple[str, ...]:
        """What can be said before anything is measured, printed by ``dlaudit plan``; a line each.

        facts: of the data set's card, such as the sizes of its groups.
        """
        del facts
        return ()

    def objections(self, facts: Mapping[str, Any], context: Mapping[str, Any]) -> tuple[str, ...]:
        """What forbids this run before anything is measured; each ends the audit (exit code 2).

        facts: of the data set's card; context: what the plan declares.
        """
        del facts, context
        return ()

    def open_files(self, find: Callable[[str], Path]) -> None:
        """Read the files that its parameters name, before anything is measured.

        find: the readable file that a plan calls so, relative to the plan; raises LoadError. Whatever
        AuditError is raised ends the audit (exit code 2). ``bench.file`` finds the same files later.
        """
        del find


class Request(NamedTuple):
    """What an explainer is asked: where do the logits of some decisions come from?

    answer: x -> (B, C) logits, differentiable where ``module`` is given, every pass counted; module:
    what is opened, None where nothing is. x, baseline: (B, *input) on the model's device; target: (B,)
    class indices; references: (R, *input), further inputs to start from. pixels: whether the last two
    axes are a picture's. batch: rows per pass at most. generator: on the CPU, where draws come from.
    """

    answer: Callable[[Tensor], Tensor]
    module: nn.Module | None
    x: Tensor
    target: Tensor
    baseline: Tensor
    references: Tensor
    pixels: bool
    batch: int
    generator: torch.Generator


class Explainer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A method that says what each number of an input adds to a logit. Its fields are its parameters.

    needs: words of ``Model.offers``. complete: the attributions of an input add up to what its logit
    gains over ``origin``. based: it starts from the baseline, so that another one gives other maps.
    local: a map is a slope, in logits per unit of input, and not yet multiplied by any distance.
    """

    needs: ClassVar[tuple[str, ...]] = ("logits", "gradients", "module")
    complete: ClassVar[bool] = False
    based: ClassVar[bool] = False
    local: ClassVar[bool] = False

    def attribute(self, request: Request) -> Tensor:
        """Maps like ``request.x``. Raises NotExplained where the method does not apply."""
        raise NotImplementedError

    def fitted(self, request: Request) -> Explainer:
        """This explainer with what it decides once, on the model as it is: a layer, for instance."""
        del request
        return self

    def origin(self, request: Request) -> Tensor:
        """(B,): the logits that the attributions of a complete method start from."""
        return request.answer(request.baseline).gather(1, request.target[:, None])[:, 0]

    def passes(self, *, positions: int) -> Cost:
        """Sample-passes of one map of an input with so many pixels, columns or tokens."""
        del positions
        return Cost(forward=1, backward=1)


class Suite(msgspec.Struct, frozen=True, kw_only=True):
    """A named set of runs with default rules. Plain data.

    runs: run id -> parameters (``use`` names the check where it differs from the run id). rules:
    used for runs that the plan has no rule for. sentence: what the report may say of this suite.
    """

    name: str
    title: str = ""
    runs: dict[str, dict[str, Any]]
    rules: tuple[Rule, ...] = ()
    sentence: str = ""


class Epsilon:
    """A perturbation budget, or a curve of them: numbers >= 0 in input units, sorted.

    Written as a number, as ``"a/b"`` or as a list of these.
    """

    __slots__ = ("values",)

    def __init__(self, written: object) -> None:
        """Raise ValueError with what was expected and got, if it is none of these."""
        parts = written if isinstance(written, list | tuple) else [written]
        if not parts:
            message = 'expected a number >= 0 or "a/b", got an empty list'
            raise ValueError(message)
        self.values: tuple[float, ...] = tuple(sorted({_budget(part) for part in parts}))

    def __iter__(self) -> Iterator[float]:
        """The budgets, smallest first."""
        return iter(self.values)

    def __eq__(self, other: object) -> bool:
        """Equal if the numbers are."""
        return isinstance(other, Epsilon) and self.values == other.values

    def __hash__(self) -> int:
        """Hash by the numbers."""
        return hash(self.values)

    def __repr__(self) -> str:
        """Repr as it may be written in Python."""
        return f"Epsilon({list(self.values)})"

    @property
    def plain(self) -> float | list[float]:
        """The form stored in plans and records: a number, or a list of them."""
        return self.values[0] if len(self.values) == 1 else list(self.values)


def _budget(part: object) -> float:
    """One budget as a number; raise ValueError in the words of the plan's error list."""
    got = (
        repr(part) if isinstance(part, float) else msgspec.json.encode(part, enc_hook=repr).decode()
    )
    message = f'expected a number >= 0 or "a/b", got {got}'
    if isinstance(part, bool) or not isinstance(part, int | float | str):
        raise ValueError(message)  # noqa: TRY004  (msgspec turns ValueError into a plan's problem)
    try:
        number = float(Fraction(part)) if isinstance(part, str) else float(part)
    except (ValueError, ArithmeticError) as error:  # "1/0", "1e999"
        raise ValueError(message) from error
    if not math.isfinite(number) or number < 0:
        raise ValueError(message)
    return number


def decode_parameter(kind: type, value: object) -> object:
    """The hook by which msgspec reads the parameter types that it does not know."""
    if kind is Epsilon:
        return value if isinstance(value, Epsilon) else Epsilon(value)
    message = f"parameters of type {kind.__name__} cannot be written in a plan"
    raise NotImplementedError(message)


def encode_parameter(value: object) -> object:
    """The inverse of ``decode_parameter``, for plans and records."""
    if isinstance(value, Epsilon):
        return value.plain
    message = f"parameters of type {type(value).__name__} cannot be stored in a record"
    raise NotImplementedError(message)

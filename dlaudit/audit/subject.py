"""Opens what the plan names, model and data, and refuses what cannot be audited as asked.

Knows loaders by name only; never a file format. What is found wrong here is known before anything
is measured (exit 2).
"""

from __future__ import annotations

import contextlib
import inspect
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from dlaudit.audit.bench import Subject, derive_seed, joined, regrouped
from dlaudit.audit.bench import rows as rows_of
from dlaudit.audit.evidence import subset_card
from dlaudit.audit.parts import TASKS, Batch, Dataset, Model
from dlaudit.audit.plan import Loader, Plan
from dlaudit.audit.record import Card
from dlaudit.audit.registry import Registry, import_file
from dlaudit.audit.training import TrainFunction
from dlaudit.errors import AuditError, LoadError, PlanError, nearest

if TYPE_CHECKING:
    import numpy as np

LOOKED_AT = 64
"""Rows that are shown to the model before the audit, to recognise the form of its output."""

Others = tuple[dict[str, Model], TrainFunction | None]


def open_subject(plan: Plan, root: Path, registry: Registry) -> Subject:
    """Open model, further models and data, and check that they fit. Raises PlanError with all of it.

    root: the folder that the plan's paths are relative to.
    """
    problems: list[str] = []
    model: Any = None
    parts: dict[str, Dataset] = {}
    others: Others = {}, None
    with collected(problems, "model: "):
        model = load("models", plan.model, root, registry, Model)
    for split, loader in plan.data.items():
        with collected(problems, "data: " if split == "test" else f"data.{split}: "):
            parts[split] = load("datasets", loader, root, registry, Dataset)
    with collected(problems):
        others = open_others(plan, root, registry)
    if problems:
        raise PlanError(*problems)
    return fitted(
        Subject(model=model, data=combined(parts), models=others[0], train_fn=others[1]),
        max_samples=plan.max_samples,
        seed=plan.seed,
    )


def open_others(plan: Plan, root: Path, registry: Registry) -> Others:
    """The plan's further models and its function for training. Raises PlanError with all of it."""
    problems: list[str] = []
    models: dict[str, Model] = {}
    train_fn: TrainFunction | None = None
    for name, loader in plan.models.items():
        with collected(problems, f"models.{name}: "):
            models[name] = load("models", loader, root, registry, Model)
    if plan.train:
        with collected(problems, "train.factory: "):
            train_fn = trainer(plan.train["factory"], root)
    if problems:
        raise PlanError(*problems)
    return models, train_fn


@contextlib.contextmanager
def collected(problems: list[str], place: str = "") -> Iterator[None]:
    """Add what goes wrong inside to ``problems``, each with its place in front."""
    try:
        yield
    except PlanError as error:
        problems += [f"{place}{problem}" for problem in error.problems]
    except AuditError as error:
        problems.append(f"{place}{error}")


def fitted(subject: Subject, *, max_samples: int | None = None, seed: int = 0) -> Subject:
    """The same subject after the checks that need model and data together. Raises PlanError."""
    data = subject.data
    if max_samples is not None:
        data = Subset(data, max_samples, seed)
    problems: list[str] = []
    for place, model in (("model", subject.model), *named(subject.models)):
        try:
            fit(model, data)
        except AuditError as error:
            problems.append(f"{place}: {error}")
    if problems:
        raise PlanError(*problems)
    return subject._replace(data=data)


def named(models: Mapping[str, Model]) -> list[tuple[str, Model]]:
    """Further models with their place in the plan."""
    return [(f"models.{name}", model) for name, model in models.items()]


def combined(parts: Mapping[str, Dataset]) -> Dataset:
    """One data set out of its declared splits."""
    from dlaudit.datasets.arrays import Splits

    return parts["test"] if len(parts) == 1 else Splits(parts)


def load(group: str, loader: Loader, root: Path, registry: Registry, kind: type) -> Any:
    """Call a loader. Values written ``${NAME}`` come from the environment and are never stored."""
    function = registry.find(group, loader.use).get()
    args = expanded(loader.args)
    if "root" in inspect.signature(function).parameters:
        args["root"] = root
    try:
        made = function(**args)
    except AuditError:
        raise
    except (Exception, SystemExit) as error:
        message = f"the loader {loader.use!r} failed: {type(error).__name__}: {error}"
        raise LoadError(message) from error
    if not isinstance(made, kind):
        message = f"the loader {loader.use!r} returned a {type(made).__name__}, expected a {kind.__name__}"
        raise LoadError(message)
    return made


def expanded(value: Any) -> Any:
    """A copy with every ``${NAME}`` replaced. Raises LoadError if the variable is not set."""
    if isinstance(value, dict):
        return {key: expanded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [expanded(one) for one in value]
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        name = match[1]
        if name not in os.environ:
            message = f"${{{name}}}: the environment has no variable of this name"
            raise LoadError(message)
        return os.environ[name]

    return re.sub(r"\$\{(\w+)\}", variable, value)


def function_of(written: str, root: Path) -> Any:
    """The function ``file.py:name``. Raises LoadError naming the nearest function there is."""
    file, _, name = written.rpartition(":")
    module = import_file(root / file)
    if not callable(getattr(module, name, None)):
        known = [key for key, value in vars(module).items() if callable(value)]
        message = f"{file} holds no function {name!r}. {nearest(name, known)}"
        raise LoadError(message)
    return getattr(module, name)


def trainer(written: str, root: Path) -> TrainFunction:
    """The plan's function for training, with the digests of its code. Raises LoadError."""
    from dlaudit.audit.code_files import code_files
    from dlaudit.audit.files import identity

    function = function_of(written, root)
    file, _, name = written.rpartition(":")
    code, facts = identity(code_files(root / file), {"function": name})
    return TrainFunction(function, Card(name=written, fingerprint=code, facts=facts))


def fit(model: Model, data: Dataset) -> None:
    """Check shapes, classes, bounds and finiteness; adopt what the model leaves open.

    Raises LoadError with field, expected and got.
    """
    if meet := getattr(model, "meet", None):
        meet(data)
    refuse_another_task(model, data)
    if "logits" not in model.offers:
        if model.offers & set(TASKS):
            checked_inputs(model, data)
            model.structured(first_rows(data))
            model.passes.forward = 0
        elif "values" in model.offers:
            model.values(first_rows(data))
        else:
            model.decide(first_rows(data))
        model.classes = model.classes or data.classes
        return
    rows = first_rows(data)
    some = checked_inputs(model, data)
    recognise = getattr(model, "recognise", None)
    try:
        form = recognise(rows.x) if recognise else "logits"
        logits = model.logits(rows.x)
    except AuditError:
        raise
    except Exception as error:
        shape = tuple(rows.x.shape[1:])
        message = (
            f"the model cannot answer data of shape {shape} and type {rows.x.dtype}: "
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        )
        raise LoadError(message) from error
    if logits.ndim != 2 or len(logits) != len(rows.y):
        message = f"expected logits of shape ({len(rows.y)}, classes), got {tuple(logits.shape)}"
        raise LoadError(message)
    width = logits.shape[1]
    names = model.classes or data.classes
    if len(data.classes) > width:
        message = (
            f"expected one output per class of the data ({len(data.classes)}: "
            f"{', '.join(data.classes[:6])}{', …' if len(data.classes) > 6 else ''}), got {width}"
        )
        raise LoadError(message)
    if model.classes and len(model.classes) != width:
        message = f"classes: expected {width} names, one per output, got {len(model.classes)}"
        raise LoadError(message)
    # Labels that a small data set never shows are still outputs of the model.
    model.classes = names if len(names) == width else (*names, *map(str, range(len(names), width)))
    from dlaudit.audit.preflight import questions

    facts = {**model.card.facts, "output": form, "classes": len(model.classes)}
    if asked := questions(model, some, model.classes) if "labels" in data.offers else {}:
        facts["preflight"] = asked
    model.card = msgspec.structs.replace(model.card, facts=facts)
    # What was asked to look at the form of the output is no part of the audit's cost.
    model.passes.forward = model.passes.backward = 0


def refuse_another_task(model: Model, data: Dataset) -> None:
    """Raise LoadError where the data hold another task than classes and the model was not told so."""
    for task in TASKS:
        if task in data.offers and task not in model.offers:
            message = (
                f"{model.card.name}: expected a model for {task}, since {data.card.name} holds {task} "
                f'data, got one of another task. Say task = "{task}" in [model] args '
                f'(output = "{task}" of a callable).'
            )
            raise LoadError(message)


def first_rows(data: Dataset) -> Batch:
    """A few samples. Raises LoadError if there is none."""
    for batch in regrouped(data.batches("test"), LOOKED_AT):
        return batch
    message = f"{data.card.name}: expected at least one row, got none"
    raise LoadError(message)


def checked_inputs(model: Model, data: Dataset) -> Batch:
    """Refuse NaN for models with gradients, and inputs outside the declared bounds.

    Returns some rows that are spread over the split, for ``preflight``: few where every one is dear.
    """
    import numpy as np

    from dlaudit.audit.preflight import spread

    n, seen, kept = data.size("test"), 0, None
    wanted: Any = None
    for batch in data.batches("test"):
        x = np.asarray(batch.x)
        if wanted is None:
            wanted = spread(n, x[:1].nbytes)
            if "gradients" not in model.offers:
                wanted = wanted[:: max(1, -(-len(wanted) // LOOKED_AT))]
        inside = wanted[(wanted >= seen) & (wanted < seen + len(x))] - seen
        if len(inside):
            some = rows_of(batch, inside)
            kept = some if kept is None else joined(kept, some)
        if x.dtype.kind == "f" and "gradients" in model.offers and not np.isfinite(x).all():
            row = int(np.flatnonzero(~np.isfinite(x.reshape(len(x), -1)).all(axis=1))[0])
            message = (
                f"{data.card.name}: field 'x': expected finite numbers, got NaN or infinity in row "
                f"{seen + row} (id {batch.id[row]}). Impute in the model's own preprocessing."
            )
            raise LoadError(message)
        if model.bounds is not None and x.dtype.kind in "iuf":
            outside_bounds(model.bounds, x, data.card.name)
        seen += len(x)
    assert kept is not None  # noqa: S101  (first_rows has found a row)
    return kept


def outside_bounds(bounds: tuple[Any, Any], x: np.ndarray, name: str) -> None:
    """Raise LoadError if any input leaves the bounds by more than rounding."""
    import numpy as np

    low, high = np.asarray(bounds[0], dtype=float), np.asarray(bounds[1], dtype=float)
    try:
        beyond = (x < low - 1e-6) | (x > high + 1e-6)
    except ValueError as error:
        message = f"bounds of shape {low.shape} do not fit inputs of shape {x.shape[1:]}"
        raise LoadError(message) from error
    if beyond.any():
        message = (
            f"{name}: field 'x': expected values within bounds = {plain(bounds)}, got "
            f"[{x.min():g}, {x.max():g}]. Are the inputs scaled or normalised as the bounds say?"
        )
        raise LoadError(message)


def plain(bounds: tuple[Any, Any]) -> str:
    """Bounds in a sentence."""
    import numpy as np

    ends = [np.asarray(end, dtype=float) for end in bounds]
    return (
        "["
        + ", ".join(f"{end.min() if i == 0 else end.max():g}" for i, end in enumerate(ends))
        + "]"
    )


class Subset(Dataset):
    """Every split reduced to at most ``most`` samples, by seed and without replacement."""

    def __init__(self, data: Dataset, most: int, seed: int) -> None:
        """most: samples per split."""
        import numpy as np

        self._data = data
        self.classes, self.offers = data.classes, data.offers
        self._chosen: dict[str, Any] = {}
        card = data.card
        for split in ("test", *sorted(set(card.splits) - {"test"})):
            n = data.size(split)
            if n > most:
                rng = np.random.default_rng(derive_seed(seed, "max_samples", split, most))
                self._chosen[split] = np.sort(rng.choice(n, size=most, replace=False))
                card = subset_card(card, split, most, seed)
        self.card = card

    def batches(self, split: str = "test") -> Iterator[Batch]:
        """See ``Dataset.batches``."""
        return regrouped(self._data.batches(split), 1024, self._chosen.get(split))

    def size(self, split: str = "test") -> int:
        """See ``Dataset.size``."""
        chosen = self._chosen.get(split)
        return self._data.size(split) if chosen is None else len(chosen)

"""A training with the plan's own function: what it is given, what it may return, what is remembered.

Knows how to call it, to adopt what comes back and to keep its answers on disk; never why a check
trains. Answers are stored as arrays: nothing that a function returned is ever pickled.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from dlaudit.audit.bench import only_one, rows
from dlaudit.audit.evidence import digest, fingerprint, table_bytes, write_whole
from dlaudit.audit.parts import Batch, Dataset, Decisions, Model, Passes
from dlaudit.audit.record import Card, canonical
from dlaudit.errors import AuditError, LoadError, NonFinite, NotOffered

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

TRAIN = "train"
PIECE = 1024


class TrainingFailed(AuditError):
    """The plan's function for training raised, or returned what cannot be asked."""


class TooManyTrainings(AuditError):
    """A check asks for more trainings than its ``trainings`` said."""


class TrainFunction(msgspec.Struct, frozen=True):
    """The plan's ``train_fn(dataset, seed) -> model`` and the identity of its code."""

    function: Callable[..., Any]
    card: Card

    def __call__(self, dataset: Dataset, seed: int) -> Any:
        """Call it."""
        return self.function(dataset, seed)


def train_function(function: Callable[..., Any]) -> TrainFunction:
    """A function as one with an identity; a live one is known by its name and source."""
    import inspect

    if isinstance(function, TrainFunction):
        return function
    name = str(getattr(function, "__qualname__", type(function).__name__))
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):  # typed at a prompt, or an object that can be called
        source = name
    return TrainFunction(function, Card(name=name, fingerprint=digest(source.encode())))


class TrainingSet(Dataset):
    """What a function for training is given: one split, ``train``, in memory.

    x: (n, *input); y: (n,) int64; further fields as in ``Batch``. ``batches()`` yields them in pieces.
    """

    def __init__(self, batch: Batch, data: Dataset) -> None:
        """batch: all samples; data: the audited data set, which names the classes and columns."""
        self.samples = batch
        self.x, self.y = batch.x, batch.y
        self.classes = data.classes
        self.offers = data.offers | {TRAIN}
        self.card = Card(
            name=data.card.name, fingerprint=samples_digest(batch),
            facts={**data.card.facts, "n": len(batch.y)},
        )  # fmt: skip

    def batches(self, split: str = TRAIN) -> Iterator[Batch]:
        """See ``Dataset.batches``. Raises LoadError for any other split."""
        if split != TRAIN:
            message = f"a training is given the split 'train' only, got a question for {split!r}"
            raise LoadError(message)
        for start in range(0, len(self.y), PIECE):
            yield rows(self.samples, slice(start, start + PIECE))

    def size(self, split: str = TRAIN) -> int:
        """See ``Dataset.size``."""
        del split
        return len(self.y)


class WithTraining(Dataset):
    """A data set with other rows in the place of its split ``train``."""

    def __init__(self, data: Dataset, train: Batch) -> None:
        """data: all other splits."""
        self.data, self.train = data, TrainingSet(train, data)
        self.classes, self.offers = data.classes, data.offers | {TRAIN}
        parts = [("data", data.card.fingerprint), ("train", self.train.card.fingerprint)]
        self.card = msgspec.structs.replace(data.card, fingerprint=fingerprint(parts))

    def batches(self, split: str = "test") -> Iterator[Batch]:
        """See ``Dataset.batches``."""
        yield from self.train.batches() if split == TRAIN else self.data.batches(split)

    def size(self, split: str = "test") -> int:
        """See ``Dataset.size``."""
        return self.train.size() if split == TRAIN else self.data.size(split)


def samples_digest(batch: Batch) -> str:
    """The identity of samples: every field, in its order."""
    import numpy as np

    from dlaudit.datasets.arrays import array_digest

    fields = {"x": batch.x, "y": batch.y, "id": batch.id}
    fields |= {} if batch.mask is None else {"mask": batch.mask}
    if batch.truth is not None:
        message = "a function for training is given classes, and these data hold another task"
        raise NotOffered(message)
    fields |= {f"group_{name}": column for name, column in batch.groups.items()}
    fields |= {f"column_{name}": column for name, column in batch.columns.items()}
    return fingerprint((name, array_digest(np.asarray(field))) for name, field in fields.items())


class Trained(Model):
    """The model that one training gives. It trains when it is first asked what nobody asked before.

    What was asked once, by whichever run, is read from disk and counted like a pass, so that a
    resumed run costs and says the same. ``module`` and gradients are live and train anew.
    """

    def __init__(
        self,
        function: TrainFunction,
        dataset: TrainingSet,
        seed: int,
        *,
        like: Model,
        data: Dataset,
        cache: Path,
        counted: list[Passes],
    ) -> None:
        """like: the audited model, whose bounds and classes are shared; data: to check answers on.

        counted: where the passes of a model that is opened are added, so that the run pays for them.
        """
        self._function, self._dataset, self._seed = function, dataset, seed
        self._data, self._counted = data, counted
        self.bounds, self.classes, self.device = like.bounds, like.classes, like.device
        parts = {"code": function.card.fingerprint, "data": dataset.card.fingerprint, "seed": seed}
        self.key = digest(canonical(parts))
        self.card = Card(
            name=f"{function.card.name} on {len(dataset.y)} samples", fingerprint=self.key,
            facts={"trained_on": len(dataset.y), "seed": seed},
        )  # fmt: skip
        self._folder = cache / "trainings" / self.key
        self._live: Model | None = None
        counted.append(self.passes)

    @property
    def offers(self) -> frozenset[str]:  # type: ignore[override]
        """What the model that comes back offers."""
        note = self._folder / "offers.json"
        if not note.exists():
            self.live()
        return frozenset(msgspec.json.decode(note.read_bytes(), type=list[str]))

    @property
    def module(self) -> Any:
        """See ``Model.module``."""
        return self.live().module

    def logits(self, x: Any) -> Tensor:
        """See ``Model.logits``."""
        import torch

        array = _as_array(x)
        asked = ("logits", array)
        answer = self._remembered(
            [asked], len(array), lambda live: {"logits": live.logits(x).float().cpu().numpy()}
        )
        return torch.from_numpy(answer["logits"])

    def decide(self, batch: Batch) -> Decisions:
        """See ``Model.decide``."""

        def ask(live: Model) -> dict[str, np.ndarray]:
            found = live.decide(batch)._asdict()
            return {name: value for name, value in found.items() if value is not None}

        asked = [("decide", batch.x), *batch.columns.items()]
        return Decisions(**self._remembered(asked, len(batch.y), ask))

    def loss_gradient(self, x: Any, y: Any, loss: Any = "cross_entropy") -> Tensor:
        """See ``Model.loss_gradient``."""
        return self.live().loss_gradient(x, y, loss)

    def logits_and_gradient(
        self, x: Any, y: Any, loss: Any = "cross_entropy"
    ) -> tuple[Tensor, Tensor]:
        """See ``Model.logits_and_gradient``."""
        return self.live().logits_and_gradient(x, y, loss)

    def live(self) -> Model:
        """The model itself: trained now, unless this object did so before. Raises TrainingFailed."""
        if self._live is None:
            self._live = _train(
                self._function, self._dataset, self._seed, like=self, data=self._data
            )
            # What was read from disk so far is counted with what is asked from now on.
            self._live.passes.forward += self.passes.forward
            self.passes.forward = 0
            self.__dict__["_passes"] = self._live.passes
            self._counted.append(self._live.passes)
            self._folder.mkdir(parents=True, exist_ok=True)
            write_whole(self._folder / "offers.json", canonical(sorted(self._live.offers)))
        return self._live

    def _remembered(
        self,
        asked: list[tuple[str, Any]],
        n: int,
        ask: Callable[[Model], Mapping[str, np.ndarray]],
    ) -> dict[str, np.ndarray]:
        """The answer to a question about n samples: from disk, or asked now and written down."""
        import numpy as np

        from dlaudit.datasets.arrays import array_digest

        question = fingerprint((name, array_digest(np.asarray(value))) for name, value in asked)
        file = self._folder / f"{question}.npz"
        with only_one(self._folder / "lock"):
            if file.exists():
                self.passes.forward += n
            else:
                write_whole(file, table_bytes(dict(ask(self.live()))))
        with np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}


def _as_array(x: Any) -> np.ndarray:
    """An array or tensor as an array on the CPU."""
    import numpy as np

    return np.asarray(x.detach().cpu() if hasattr(x, "detach") else x)


def _train(
    function: TrainFunction, dataset: TrainingSet, seed: int, *, like: Model, data: Dataset
) -> Model:
    """Call the function and adopt what it returns. Raises TrainingFailed naming the place."""
    import torch

    from dlaudit.audit.guard import undisturbed
    from dlaudit.audit.subject import fit

    name = function.card.name
    with undisturbed(seed):
        torch.set_grad_enabled(True)
        try:
            made = function(dataset, seed)
        except MemoryError:
            raise
        except (Exception, SystemExit) as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            message = (
                f"{name} failed on {len(dataset.y)} samples with seed {seed}: "
                f"{type(error).__name__}: {error} ({Path(last.filename).name}, line {last.lineno})"
            )
            raise TrainingFailed(message) from error
    model = adopted(made, name=name, bounds=like.bounds)
    try:
        fit(model, data)
    except NonFinite:
        raise
    except AuditError as error:
        message = f"{name} returned a model that cannot be asked: {error}"
        raise TrainingFailed(message) from error
    if len(model.classes) != len(like.classes):
        message = (
            f"{name} returned a model of {len(model.classes)} classes, expected "
            f"{len(like.classes)}, as the audited model has"
        )
        raise TrainingFailed(message)
    return model


def adopted(made: Any, *, name: str, bounds: tuple[Any, Any] | None) -> Model:
    """Whatever a function for training may return, as a Model. Raises TrainingFailed.

    A torch module, a dlaudit Model, a fitted scikit-learn classifier, or a function of arrays that
    gives logits or probabilities.
    """
    from torch import nn

    if isinstance(made, Model):
        return made
    if isinstance(made, nn.Module):
        from dlaudit.models.torch_model import TorchModel

        return TorchModel(made, name=name, bounds=bounds)
    if hasattr(made, "predict") and hasattr(made, "fit"):
        from dlaudit.models.sklearn import SklearnModel

        try:
            return SklearnModel(made, name, bounds=bounds)
        except LoadError as error:
            raise TrainingFailed(str(error)) from error
    if callable(made) and not isinstance(made, type):
        from dlaudit.models.black_box import BlackBox

        return BlackBox(made, card=Card(name=name, fingerprint=""), bounds=bounds)
    message = (
        f"{name}: expected to return a torch module, a dlaudit Model, a fitted scikit-learn "
        f"classifier or a function of arrays, got {type(made).__name__}"
    )
    raise TrainingFailed(message)

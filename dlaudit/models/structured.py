"""Models of other tasks: several labels a sample, a class for every pixel, boxes around objects.

Knows the forms that such answers come in; refuses classes per sample, and everything that is asked of
them: logits, gradients and what needs either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from dlaudit.audit.files import refusal
from dlaudit.audit.parts import Batch, Boxes, Dataset, Decisions, Model
from dlaudit.audit.record import Card
from dlaudit.errors import AuditError, LoadError, NonFinite, NotOffered
from dlaudit.models.black_box import as_array
from dlaudit.models.declared import usable_inputs

if TYPE_CHECKING:
    from torch import Tensor

BOX_FIELDS = ("boxes", "labels", "scores")
MAP_KEYS = ("logits", "out")
"""Where libraries keep the one tensor of a segmentation, or of label scores."""


class Structured(Model):
    """Asks a function from arrays about label sets, label maps or boxes. It shows nothing inside."""

    def __init__(
        self,
        answer: Callable[[np.ndarray], Any],
        task: str,
        *,
        card: Card,
        bounds: tuple[Any, Any] | None = None,
        classes: tuple[str, ...] = (),
        batch: int = 512,
        logits: bool | None = None,
    ) -> None:
        """answer: (B, *input) array -> an output of the task, see ``label_scores``, ``maps``, ``boxes``.

        logits: whether the scores of labels are logits; told by the data's first rows if None.
        """
        self.card = msgspec.structs.replace(card, facts={**card.facts, "task": task})
        self.task = task
        self.bounds = bounds
        self.classes = classes
        self.offers = frozenset({task})
        self.batch = batch
        self._answer = answer
        self._logits = logits

    def logits(self, x: Any) -> Tensor:
        """Raise NotOffered: there is no one class per sample."""
        del x
        message = f"{self.card.name} is a model for {self.task}: it has no logits per sample"
        raise NotOffered(message)

    def decide(self, batch: Batch) -> Decisions:
        """Raise NotOffered: there is no one class per sample."""
        del batch
        message = f"{self.card.name} is a model for {self.task}: it decides no class per sample"
        raise NotOffered(message)

    def meet(self, data: Dataset) -> None:
        """Take over the names of the data's classes. Raises LoadError where the inputs cannot be used."""
        usable_inputs(data)
        if self.task in data.offers:
            names = self.classes or data.classes
            if len(names) < len(data.classes) or names[: len(data.classes)] != data.classes:
                raise refusal(
                    self.card.name, "classes", expected=f"those of the data, {list(data.classes)}",
                    got=str(list(names)),
                )  # fmt: skip
            self.classes = names

    def structured(self, batch: Batch) -> Any:
        """See ``Model.structured``, asked in pieces. Raises LoadError for outputs of another form."""
        x = as_array(batch.x)
        pieces: list[Any] = []
        for start in range(0, len(x), self.batch):
            part = x[start : start + self.batch]
            try:
                said = self._answer(part)
            except AuditError:
                raise
            except Exception as error:
                message = (
                    f"{self.card.name}: expected to answer inputs of shape {part.shape} and type "
                    f"{part.dtype}, got {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
                )
                raise LoadError(message) from error
            self.passes.forward += len(part)
            pieces.append(self._read(said, part))
        if self.task == "detection":
            return [one for piece in pieces for one in piece]
        return np.concatenate(pieces)

    def _read(self, said: Any, part: np.ndarray) -> Any:
        name = self.card.name
        if self.task == "segmentation":
            return maps(said, part, len(self.classes), name)
        if self.task == "detection":
            return boxes(said, len(part), len(self.classes), name)
        given = label_scores(said, len(part), len(self.classes), name)
        inside = bool(((given >= 0) & (given <= 1)).all())
        if self._logits is None:
            self._logits = not inside
        if self._logits:
            return np.asarray(1 / (1 + np.exp(-np.clip(given, -500, 500))))
        if not inside:
            raise refusal(
                name, "output", expected="probabilities in [0, 1], as for the first rows",
                got=f"scores from {given.min():g} to {given.max():g}",
                hint="Give logits, or probabilities, for every row.",
            )  # fmt: skip
        return given


def label_scores(said: Any, n: int, labels: int, name: str) -> np.ndarray:
    """(n, L) float64 scores of labels. Raises LoadError for other shapes, NonFinite for NaN."""
    given = _numbers(_one(said, name), name)
    if given.ndim != 2 or len(given) != n or (labels and given.shape[1] != labels):
        raise refusal(
            name, "output", expected=f"a score for each of {labels or 'the'} labels: shape "
            f"({n}, {labels or 'L'})", got=f"shape {given.shape}",
        )  # fmt: skip
    return given.astype(np.float64)


def maps(said: Any, x: np.ndarray, classes: int, name: str) -> np.ndarray:
    """(n, H, W) int64 class of each pixel, out of scores (n, C, H, W) or of class indices (n, H, W).

    x: the pictures that were asked about, whose height and width the answer must have. Raises LoadError
    for other shapes, and for classes that the data do not know.
    """
    given = _numbers(_one(said, name), name)
    size = x.shape[-2:]
    if given.ndim not in {3, 4} or len(given) != len(x) or given.shape[-2:] != size:
        raise refusal(
            name, "output", expected=f"scores ({len(x)}, C, {size[0]}, {size[1]}) or classes "
            f"({len(x)}, {size[0]}, {size[1]}), a value for every pixel", got=f"shape {given.shape}",
            hint="A coarser map is brought to the picture's size inside the model, as it is in use.",
        )  # fmt: skip
    if given.ndim == 4:
        if given.shape[1] < 2 or (classes and given.shape[1] != classes):
            raise refusal(
                name, "output", expected=f"one channel for each of the {classes or 'two or more'} classes",
                got=f"{given.shape[1]}",
                hint="One channel of logits z? Give the background as well: torch.cat([-z, z], 1)."
                if given.shape[1] == 1 else "",
            )  # fmt: skip
        return np.asarray(given.argmax(axis=1), dtype=np.int64)
    if given.dtype.kind == "f" or given.min() < 0 or (classes and given.max() >= classes):
        raise refusal(
            name, "output", expected=f"class indices 0 … {classes - 1 if classes else 'C - 1'}",
            got=f"{given.dtype} from {given.min():g} to {given.max():g}",
        )  # fmt: skip
    return given.astype(np.int64)


def boxes(said: Any, n: int, classes: int, name: str) -> list[Boxes]:
    """n ``Boxes`` out of one mapping per picture with ``boxes``, ``labels`` and ``scores``.

    Boxes are x0, y0, x1, y1 in pixels of the input; labels are indices of the data's classes. Raises
    LoadError, NonFinite.
    """
    rows = said if isinstance(said, Sequence) else None
    if rows is None or isinstance(said, str) or len(rows) != n:
        got = f"a {type(said).__name__}" if rows is None else f"{len(rows)}"
        raise refusal(
            name, "output", expected=f"a list of {n}, one mapping with {', '.join(BOX_FIELDS)} per picture",
            got=got,
        )  # fmt: skip
    return [_found(row, classes, name) for row in rows]


def _found(row: Any, classes: int, name: str) -> Boxes:
    if not isinstance(row, Mapping) or not set(BOX_FIELDS) <= set(row):
        got = f"only {', '.join(map(str, row))}" if isinstance(row, Mapping) else type(row).__name__
        raise refusal(name, "output", expected=f"a mapping with {', '.join(BOX_FIELDS)}", got=got)
    box, label, score = (_numbers(row[field], name) for field in BOX_FIELDS)
    box = box.reshape(-1, 4) if box.size == 0 else box
    k = len(box)
    if box.shape != (k, 4) or label.shape != (k,) or score.shape != (k,):
        raise refusal(
            name, "output", expected="boxes (K, 4), labels (K,) and scores (K,)",
            got=f"shapes {box.shape}, {label.shape} and {score.shape}",
        )  # fmt: skip
    if k and (box[:, 2:] < box[:, :2]).any():
        raise refusal(
            name, "output: boxes", expected="x0, y0, x1, y1 with x0 <= x1 and y0 <= y1",
            got=str(box[(box[:, 2:] < box[:, :2]).any(axis=1)][0].tolist()),
            hint="Are these x, y, width, height?",
        )  # fmt: skip
    if k and (label.dtype.kind == "f" or label.min() < 0 or (classes and label.max() >= classes)):
        raise refusal(
            name, "output: labels", expected=f"class indices 0 … {classes - 1 if classes else 'C - 1'}",
            got=f"{label.dtype} from {label.min():g} to {label.max():g}",
            hint="Is 0 the background? Name it as the data's first class.",
        )  # fmt: skip
    return Boxes(
        box.astype(np.float64), label.astype(np.int64), score.astype(np.float64),
        np.zeros(k, dtype=bool),
    )  # fmt: skip


def _one(said: Any, name: str) -> Any:
    """The one tensor or array of an output: itself, a tuple's first, or that of a dict or object."""
    if hasattr(said, "shape") or isinstance(said, list):
        return said
    for key in MAP_KEYS:
        if isinstance(said, Mapping) and key in said:
            return said[key]
        if hasattr(getattr(said, key, None), "shape"):
            return getattr(said, key)
    if isinstance(said, tuple) and said:
        return _one(said[0], name)
    raise refusal(
        name, "output", expected=f"an array, or a mapping with {' or '.join(MAP_KEYS)}",
        got=f"a {type(said).__name__}",
    )  # fmt: skip


def _numbers(value: Any, name: str) -> np.ndarray:
    """An array of finite numbers. Raises LoadError for text and objects, NonFinite for NaN."""
    try:
        array = as_array(value)
    except ValueError as error:
        raise refusal(
            name, "output", expected="rows of one shape", got="rows of different shapes"
        ) from error
    if array.dtype.kind not in "iufb":
        raise refusal(name, "output", expected="numbers", got=f"type {array.dtype}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        message = f"{name} gives scores, maps or boxes that are missing or not finite"
        raise NonFinite(message)
    return array

"""The level of performance at the task that model and data share, with an interval.

Knows which metrics belong to which task; refuses thresholds of good or bad, and to average over what
does not occur.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

import msgspec

from dlaudit.audit.parts import TASKS, Check, Needs, Yielded
from dlaudit.audit.record import Cost

if TYPE_CHECKING:
    from dlaudit.audit.bench import Bench

SHARED = {"classes": ("decisions", "labels"), "quantity": ("values", "values")} | {
    task: (task, task) for task in TASKS
}
"""Task -> what the model and what the data must offer."""

OF_TASK = {
    "classes": ("accuracy", "balanced_accuracy", "macro_f1", "f1"),
    "quantity": ("mean_absolute_error", "root_mean_squared_error", "explained_variation"),
    "multilabel": (
        "exact_match", "micro_f1", "macro_f1", "macro_average_precision", "f1", "average_precision",
    ),
    "segmentation": ("pixel_accuracy", "mean_iou", "iou"),
    "detection": ("mean_average_precision", "average_precision"),
}  # fmt: skip
"""Task -> what is measured; the later names once per class."""


class Task(Check, frozen=True, kw_only=True):
    """How well the model does what it is for: classes, label sets, maps, boxes or quantities.

    Classes: ``accuracy``, ``balanced_accuracy`` (mean recall), ``macro_f1``, ``f1`` per class. Several
    labels a row: ``exact_match``, ``micro_f1``, ``macro_f1``, ``macro_average_precision``, ``f1`` and
    ``average_precision`` per label. Segmentation: ``pixel_accuracy``, ``mean_iou``, ``iou`` per class, of
    the pixels of all pictures together. Detection: ``mean_average_precision`` at an overlap of 0.50 and
    averaged over 0.50 to 0.95 (COCO), ``average_precision`` per class. Quantities:
    ``mean_absolute_error``, ``root_mean_squared_error``, ``explained_variation`` (R²). The unit that is
    resampled is the row, the picture.

    threshold: the score from which a row has a label. minimum: rows below which nothing is estimated,
    for a class those that have it or are given it. resamples: of the bootstrap.
    """

    needs: ClassVar[Needs] = Needs()
    measures: ClassVar[tuple[str, ...]] = tuple(
        dict.fromkeys(name for names in OF_TASK.values() for name in names)
    )
    proportions: ClassVar[tuple[str, ...]] = ("accuracy", "exact_match")

    threshold: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.5
    minimum: Annotated[int, msgspec.Meta(ge=3)] = 10
    resamples: Annotated[int, msgspec.Meta(ge=100, le=100_000)] = 1000
    split: str = "test"

    def missing(
        self, *, model: frozenset[str], data: frozenset[str], train_fn: bool
    ) -> tuple[str, ...]:
        """A task that both know, and the split."""
        del train_fn
        gaps = () if shared(model, data) else (f"model and data: one task of {', '.join(SHARED)}",)
        return gaps + ((f"data: {self.split}",) if self.split not in {"test", *data} else ())

    def passes(self, *, n: int, classes: int) -> Cost:
        """One answer per sample; where classes are decided, the clean answers that all runs share."""
        del classes
        return Cost(forward=n, backward=0)

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Measure what belongs to the task that model and data share."""
        from dlaudit.performance.families import FAMILIES
        from dlaudit.performance.telling import Told

        task = shared(bench.model.offers, bench.data.offers)
        told = Told(bench, self, task)
        n = bench.data.size(self.split)
        if n < self.minimum:
            for name in OF_TASK[task]:
                yield told.undefined(name, f"{n} samples, fewer than the minimum of {self.minimum}")
            return
        yield from FAMILIES[task](told)


def shared(model: frozenset[str], data: frozenset[str]) -> str:
    """The task that both know, or nothing."""
    return next((task for task, (m, d) in SHARED.items() if m in model and d in data), "")

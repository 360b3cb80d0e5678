"""The level of performance at the task that model and data share, with an interval.

Knows which metrics belong to which task; refuses thresholds of good or bad, and to average over what
does not occur.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import msgspec

from dlaudit.audit.parts import TASKS, Batch, Check, Needs, Yielded
from dlaudit.audit.record import Cost, Interval, Measurement, Scalar, Undefined

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Bench
    from dlaudit.performance.resampling import Statistic

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

UNEQUAL = "every resample gives the same value: no spread to make an interval of"
NOWHERE = "neither the data nor the model has it anywhere: 0/0"


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
        task = shared(bench.model.offers, bench.data.offers)
        told = Told(bench, self, task)
        families: dict[str, Callable[[Told], Iterator[Yielded]]] = {
            "classes": _classes, "quantity": _quantity, "multilabel": _multilabel,
            "segmentation": _segmentation, "detection": _detection,
        }  # fmt: skip
        n = bench.data.size(self.split)
        if n < self.minimum:
            for name in OF_TASK[task]:
                yield told.undefined(name, f"{n} samples, fewer than the minimum of {self.minimum}")
            return
        yield from families[task](told)


def shared(model: frozenset[str], data: frozenset[str]) -> str:
    """The task that both know, or nothing."""
    return next((task for task, (m, d) in SHARED.items() if m in model and d in data), "")


class Told:
    """One run's way to say numbers: conditions, randomness, intervals."""

    def __init__(self, bench: Bench, check: Task, task: str) -> None:
        """task: a key of ``SHARED``."""
        self.bench, self.check, self.task = bench, check, task
        self.stated: dict[str, Scalar] = {"task": task, "split": check.split}
        self.classes = bench.data.classes or bench.classes

    def batches(self) -> Iterator[Batch]:
        """The split, block by block: what one answer of the model takes in memory stays bounded."""
        return (block.batch for block in self.bench.blocks(self.check.split))

    def undefined(
        self, name: str, why: str, where: dict[str, str] | None = None, **stated: Scalar
    ) -> Undefined:
        """A number that does not exist."""
        return Undefined(
            name=name, reason=why, slice=where or {}, conditions={**self.stated, **stated}
        )

    def measured(
        self,
        name: str,
        value: float,
        interval: Interval | None,
        n: int,
        where: dict[str, str] | None = None,
        *,
        direction: Literal["higher", "lower"] = "higher",
        **stated: Scalar,
    ) -> Measurement | Undefined:
        """A number with its interval; undefined where there is none."""
        if interval is None:
            return self.undefined(name, UNEQUAL, where, **stated)
        return Measurement(
            name=name, value=value, interval=interval, n=n, slice=where or {}, direction=direction,
            conditions={**self.stated, **stated},
        )  # fmt: skip

    def resampled(
        self,
        name: str,
        statistic: Statistic,
        n: int,
        where: dict[str, str] | None = None,
        *,
        counting: int = 0,
        direction: Literal["higher", "lower"] = "higher",
        **stated: Scalar,
    ) -> Measurement | Undefined:
        """A metric of n rows that is no mean of theirs, by resampling rows.

        counting: for a metric that is 1 at best, the rows that count (of the rarest class).
        """
        import numpy as np

        from dlaudit.performance.resampling import all_or_nothing, over_rows

        value = float(statistic(np.ones((1, n)))[0])
        if not np.isfinite(value):
            return self.undefined(name, NOWHERE, where, **stated)
        purpose = "/".join([name, *(where or {}).values(), *map(str, stated.values())])
        interval = all_or_nothing(value, counting) or over_rows(
            statistic, n, self.bench.rng(purpose), resamples=self.check.resamples
        )
        return self.measured(name, value, interval, n, where, direction=direction, **stated)

    def few(self, rows: int) -> str:
        """Why a class is too small, nothing where it is not."""
        if not rows:
            return NOWHERE
        least = self.check.minimum
        return f"{rows} rows have it or are given it, fewer than the minimum of {least}" * (
            rows < least
        )


def _of_counts(
    counts: np.ndarray, metric: Callable[[np.ndarray], np.ndarray]
) -> Callable[[np.ndarray], np.ndarray]:
    """(R, n) weights -> the metric of weighted sums of counts (n, K, L)."""
    flat = counts.reshape(len(counts), -1)

    def statistic(weights: np.ndarray) -> np.ndarray:
        return metric((weights @ flat).reshape(len(weights), *counts.shape[1:]))

    return statistic


def _present(rows: np.ndarray) -> list[int]:
    """Of counts of rows by class, those of the classes that occur."""
    return [int(count) for count in rows if count > 0]


def _sets_of(told: Told, counts: np.ndarray) -> Iterator[Yielded]:
    """The F1 of each class or label, and their mean."""
    from dlaudit.performance.label_sets import f1, f1_interval
    from dlaudit.performance.resampling import mean_of_present

    summed, n = counts.sum(axis=0), len(counts)
    there = _present(summed.sum(axis=0))
    yield told.resampled(
        "macro_f1", _of_counts(counts, lambda sums: mean_of_present(f1(sums))), n,
        counting=min(there, default=0), classes=len(there),
    )  # fmt: skip
    for place, name in enumerate(told.classes):
        where, rows = {"class": name}, int(summed[:, place].sum())
        if why := told.few(rows):
            yield told.undefined("f1", why, where)
        else:
            value = float(f1(summed)[place])
            yield told.measured("f1", value, f1_interval(summed[:, place]), rows, where)


def _classes(told: Told) -> Iterator[Yielded]:
    import numpy as np

    from dlaudit.audit.statistics import wilson
    from dlaudit.performance.label_sets import counts
    from dlaudit.performance.resampling import mean_of_present

    answers = told.bench.answers(told.check.split)
    n, right = len(answers.y), int(answers.correct.sum())
    told.classes = told.bench.classes
    every = np.arange(len(told.classes))
    held = counts(answers.y[:, None] == every, answers.predicted[:, None] == every)
    yield told.measured("accuracy", right / n, wilson(right, n), n)

    def recall(sums: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return mean_of_present(sums[:, 0] / (sums[:, 0] + sums[:, 2]))

    there = _present(np.bincount(answers.y))
    yield told.resampled(
        "balanced_accuracy", _of_counts(held, recall), n, counting=min(there), classes=len(there)
    )
    yield from _sets_of(told, held)


def _multilabel(told: Told) -> Iterator[Yielded]:
    import numpy as np

    from dlaudit.audit.statistics import wilson
    from dlaudit.performance.label_sets import Ranked, counts, f1
    from dlaudit.performance.resampling import mean_of_present

    ids, truth, scores = _gathered(told)
    decided = scores >= told.check.threshold
    held, n = counts(truth, decided), len(truth)
    told.stated["threshold"] = told.check.threshold
    exact = (truth == decided).all(axis=1)
    yield told.measured("exact_match", float(exact.mean()), wilson(int(exact.sum()), n), n)
    yield told.resampled(
        "micro_f1", _of_counts(held, lambda sums: f1(sums.sum(axis=2, keepdims=True))[:, 0]), n,
        counting=int(held.any(axis=(1, 2)).sum()),
    )  # fmt: skip
    yield from _sets_of(told, held)
    del told.stated["threshold"]  # what ranks needs none
    ranked = [Ranked(truth[:, place], scores[:, place]) for place in range(truth.shape[1])]

    def precisions(weights: np.ndarray) -> np.ndarray:
        return mean_of_present(np.stack([one.average_precision(weights) for one in ranked], axis=1))

    # A label's ranking is as right as its rows, and as the other rows, are few.
    either = np.minimum(truth.sum(axis=0), (~truth).sum(axis=0))
    there = _present(truth.sum(axis=0))
    yield told.resampled(
        "macro_average_precision", precisions, n, counting=min(_present(either), default=0),
        classes=len(there),
    )  # fmt: skip
    for place, name in enumerate(told.classes):
        where, rows = {"class": name}, int(truth[:, place].sum())
        if rows < told.check.minimum:
            why = f"{rows} rows have it, fewer than the minimum of {told.check.minimum}"
            yield told.undefined("average_precision", why, where)
        else:
            yield told.resampled(
                "average_precision", ranked[place].average_precision, n, where,
                counting=int(either[place]),
            )  # fmt: skip
    yield told.bench.keep_table(
        f"{told.bench.run}.samples",
        {"id": ids, "exact": exact, "labels": truth.sum(axis=1), "right": held[:, 0].sum(axis=1).astype(int),
         "wrong": held[:, 1].sum(axis=1).astype(int)},
        caption=f"Each sample of the {told.check.split} split: its labels, and how many of those it is given "
        "are right and wrong.",
    )  # fmt: skip


def _segmentation(told: Told) -> Iterator[Yielded]:
    import numpy as np

    from dlaudit.performance import label_maps
    from dlaudit.performance.resampling import mean_of_present

    pieces: list[np.ndarray] = []
    ids: list[np.ndarray] = []
    for batch in told.batches():
        said = told.bench.model.structured(batch)
        pieces.append(label_maps.counts(np.asarray(batch.truth), said, len(told.classes)))
        ids.append(np.asarray(batch.id, dtype=str))
    held = np.concatenate(pieces)
    n = len(held)
    met = held[:, 1:].sum(axis=1) > 0
    there = _present(met.sum(axis=0))
    yield told.resampled(
        "pixel_accuracy", _of_counts(held, label_maps.pixel_accuracy), n,
        counting=int(met.any(axis=1).sum()),
    )  # fmt: skip
    yield told.resampled(
        "mean_iou", _of_counts(held, lambda sums: mean_of_present(label_maps.iou(sums))), n,
        counting=min(there, default=0), classes=len(there),
    )  # fmt: skip
    for place, name in enumerate(told.classes):
        where, rows = {"class": name}, int(met[:, place].sum())
        if why := told.few(rows):
            yield told.undefined("iou", why, where)
        else:
            of_class = _of_counts(held[:, :, [place]], lambda sums: label_maps.iou(sums)[:, 0])
            yield told.resampled("iou", of_class, n, where, counting=rows)
    yield told.bench.keep_table(
        f"{told.bench.run}.samples",
        {"id": np.concatenate(ids), "pixels": held[:, 2].sum(axis=1).astype(int),
         "right": held[:, 0].sum(axis=1).astype(int)},
        caption=f"Each picture of the {told.check.split} split: pixels that count, and those that are right.",
    )  # fmt: skip


def _detection(told: Told) -> Iterator[Yielded]:
    import numpy as np

    from dlaudit.performance import detections
    from dlaudit.performance.resampling import mean_of_present

    true: list[Any] = []
    found: list[Any] = []
    ids: list[np.ndarray] = []
    for batch in told.batches():
        true += list(batch.truth)
        found += told.bench.model.structured(batch)
        ids.append(np.asarray(batch.id, dtype=str))
    n = len(true)
    classes = [detections.matched(true, found, label) for label in range(len(told.classes))]
    there = _present(np.array([(one.objects > 0).sum() for one in classes]))

    def mean(columns: slice) -> Callable[[np.ndarray], np.ndarray]:
        def statistic(weights: np.ndarray) -> np.ndarray:
            each = [detections.average_precision(one, weights, columns) for one in classes]
            return mean_of_present(np.stack([one.mean(axis=1) for one in each], axis=1))

        return statistic

    for overlap, columns in ((HALF, slice(1)), (COCO, slice(None))):
        yield told.resampled(
            "mean_average_precision", mean(columns), n, counting=min(there, default=0),
            overlap=overlap, classes=len(there),
        )  # fmt: skip
    for place, name in enumerate(told.classes):
        where, one = {"class": name}, classes[place]
        rows = int((one.objects > 0).sum())
        if rows < told.check.minimum:
            why = f"{rows} pictures have it, fewer than the minimum of {told.check.minimum}"
            yield told.undefined("average_precision", why, where, overlap=COCO)
            continue

        def of_class(weights: np.ndarray, one: detections.Matched = one) -> np.ndarray:
            return detections.average_precision(one, weights).mean(axis=1)  # type: ignore[no-any-return]

        yield told.resampled("average_precision", of_class, n, where, counting=rows, overlap=COCO)
    yield told.bench.keep_table(
        f"{told.bench.run}.samples",
        {"id": np.concatenate(ids), "objects": np.sum([one.objects for one in classes], axis=0),
         "found": np.array([len(one.label) for one in found]),
         "right": np.sum([np.bincount(one.picture, one.right[0], n) for one in classes], axis=0).astype(int)},
        caption=f"Each picture of the {told.check.split} split: objects, detections, and those of them that "
        "are right at an overlap of 0.50.",
    )  # fmt: skip


HALF, COCO = "0.50", "0.50:0.95"
"""Overlaps at which detections count, as COCO writes them."""


def _quantity(told: Told) -> Iterator[Yielded]:
    import numpy as np

    from dlaudit.audit.statistics import mean_interval
    from dlaudit.errors import NonFinite
    from dlaudit.performance.quantities import explained, root_mean_squared

    column = told.bench.data.card.facts["quantity"]
    pairs = [
        (batch.id, np.asarray(batch.columns[column], np.float64), told.bench.model.values(batch))
        for batch in told.batches()
    ]
    ids, truth, said = (np.concatenate(part) for part in zip(*pairs, strict=True))
    if not np.isfinite(truth).all():
        message = f"{told.bench.data.card.name}: {column}: expected a number in every row"
        raise NonFinite(message)
    off, n = np.abs(said - truth), len(truth)
    yield told.measured(
        "mean_absolute_error", float(off.mean()), mean_interval(off), n, direction="lower"
    )
    yield told.resampled(
        "root_mean_squared_error", lambda weights: root_mean_squared(truth, said, weights), n,
        direction="lower",
    )  # fmt: skip
    yield told.resampled("explained_variation", lambda weights: explained(truth, said, weights), n)
    yield told.bench.keep_table(
        f"{told.bench.run}.samples", {"id": ids.astype(str), "truth": truth, "value": said},
        caption=f"Truth and prediction of each sample of the {told.check.split} split.",
    )  # fmt: skip


def _gathered(told: Told) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ids (n,), truth (n, L) bool and scores (n, L) of label sets."""
    import numpy as np

    pieces = [
        (np.asarray(batch.id, dtype=str), batch.truth, told.bench.model.structured(batch))
        for batch in told.batches()
    ]
    ids, truth, scores = (np.concatenate(part) for part in zip(*pieces, strict=True))
    return ids, truth.astype(bool), scores

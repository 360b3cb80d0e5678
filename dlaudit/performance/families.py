"""What is measured of each task: decided classes, label sets, label maps, boxes, quantities.

Knows which metrics belong to a task and the rows that each is resampled over; refuses to average over
what does not occur.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dlaudit.audit.parts import Yielded
from dlaudit.audit.statistics import mean_interval, wilson
from dlaudit.errors import NonFinite
from dlaudit.performance import detections, label_maps
from dlaudit.performance.label_sets import Ranked, counts, f1, f1_interval
from dlaudit.performance.quantities import explained, root_mean_squared
from dlaudit.performance.resampling import mean_of_present
from dlaudit.performance.telling import Told


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


def classes(told: Told) -> Iterator[Yielded]:
    """One class a sample: the rate of right answers, and per class."""
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


def multilabel(told: Told) -> Iterator[Yielded]:
    """Several labels a sample: sets as a whole, decided labels, and how labels are ranked."""
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


def segmentation(told: Told) -> Iterator[Yielded]:
    """A class for each pixel, of the pixels of all pictures together."""
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


def detection(told: Told) -> Iterator[Yielded]:
    """Boxes with scores, by COCO's definition."""
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


def quantity(told: Told) -> Iterator[Yielded]:
    """A number for each sample: how far off."""
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
    pieces = [
        (np.asarray(batch.id, dtype=str), batch.truth, told.bench.model.structured(batch))
        for batch in told.batches()
    ]
    ids, truth, scores = (np.concatenate(part) for part in zip(*pieces, strict=True))
    return ids, truth.astype(bool), scores


FAMILIES: dict[str, Callable[[Told], Iterator[Yielded]]] = {
    "classes": classes, "quantity": quantity, "multilabel": multilabel,
    "segmentation": segmentation, "detection": detection,
}  # fmt: skip
"""By task, as in ``task.SHARED``."""

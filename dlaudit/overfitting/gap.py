"""The generalisation gap: how much better a model does on the data it learned from.

Knows two splits and what may not be compared; refuses thresholds, and refuses a gap between a set
and itself as evidence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from dlaudit.audit.parts import Check, Dataset, Needs, Yielded
from dlaudit.audit.record import Artifact, Caveat, Cost, Measurement, Undefined
from dlaudit.audit.statistics import LEVEL, newcombe, wilson

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Answers, Bench

TRAIN, TEST = "train", "test"
DRAWN = 20
"""Classes in the picture, at most."""
NO_LOGITS = "the model gives decisions only: a loss needs logits"
NO_SPREAD = "every loss of a split is the same number: no spread to build an interval on"


class Gap(Check, frozen=True, kw_only=True):
    """Accuracy and loss on the training and the test split, and the gap between them.

    ``accuracy_gap`` = train - test with Newcombe's interval (independent samples), ``loss_gap`` =
    test - train in nats of cross-entropy; ``class_accuracy_gap`` is the accuracy gap among the
    samples of one class, at Bonferroni's level because the classes are a search. The model answers
    as it is deployed: evaluation mode, no augmentation.

    The gap carries a voiding caveat where the two splits are the same data or share declared ids.
    """

    needs: ClassVar[Needs] = Needs(model=("decisions",), data=("labels", "train"))
    measures: ClassVar[tuple[str, ...]] = (
        "train_accuracy", "test_accuracy", "accuracy_gap", "class_accuracy_gap",
        "train_loss", "test_loss", "loss_gap",
    )  # fmt: skip

    def passes(self, *, n: int, classes: int) -> Cost:
        """Nothing beyond the clean answers."""
        del n, classes
        return Cost(forward=0, backward=0)

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Measure both splits and compare them."""
        train, test = bench.answers(TRAIN), bench.answers(TEST)
        caveats = tuple(doubts(bench))
        for split, answers in ((TRAIN, train), (TEST, test)):
            right, n = int(answers.correct.sum()), len(answers.y)
            yield Measurement(
                name=f"{split}_accuracy", value=right / n, n=n, interval=wilson(right, n),
                direction="higher", caveats=caveats if split == TEST else (),
            )  # fmt: skip
        whole = _accuracy_gap("accuracy_gap", train.correct, test.correct, caveats)
        by_class = list(_class_gaps(bench.classes, train, test, caveats))
        yield whole
        yield from by_class
        yield _picture(bench, [whole, *by_class])
        yield from _losses(train, test, caveats)
        yield _evidence(bench, {TRAIN: train, TEST: test})


def doubts(bench: Bench) -> Iterator[Caveat]:
    """Doubts whether the test split was unseen."""

    def doubt(name: str, message: str, *, voids: bool) -> Caveat:
        return Caveat(source=bench.run, name=name, message=message, voids=voids)

    cards = bench.data.card.splits
    if {TRAIN, TEST} <= set(cards) and cards[TRAIN].fingerprint == cards[TEST].fingerprint:
        message = "the training and the test split are the same data: their gap says nothing"
        yield doubt("same-data", message, voids=True)
        return
    seen, unseen = _contents(bench.data, TRAIN), _contents(bench.data, TEST)
    if shared := _shared_ids(seen, unseen):
        message = (
            f"{len(shared)} of {len(unseen)} test ids stand in the training split too (the "
            f"first: {shared[0]}): the gap is not one between seen and unseen samples"
        )
        yield doubt("shared-ids", message, voids=True)
    copies = (Counter(seen.values()) & Counter(unseen.values())).total()
    if copies == len(unseen):
        message = "every test sample stands in the training split, byte for byte"
        yield doubt("test-inside-train", message, voids=True)
    elif copies:
        message = (
            f"{copies} of {len(unseen)} test samples equal a training sample byte for byte, "
            "label included: duplicates make the gap look smaller than it is"
        )
        yield doubt("duplicates", message, voids=False)


def _shared_ids(train: dict[str, bytes], test: dict[str, bytes]) -> list[str]:
    """Test ids that are training ids too, sorted; none where ids only count the rows.

    Numbers may be positions in a file, which name no sample: they are believed where the same number
    always stands for the same content.
    """
    shared = sorted(train.keys() & test.keys())
    are_numbers = all(one.isdecimal() for one in (*train, *test))
    if are_numbers and any(train[one] != test[one] for one in shared):
        return []
    return shared


def _contents(data: Dataset, split: str) -> dict[str, bytes]:
    """A digest of each sample, input and label, by id."""
    from hashlib import blake2b

    import numpy as np

    found: dict[str, bytes] = {}
    for batch in data.batches(split):
        rows = np.ascontiguousarray(batch.x)
        for one, row, label in zip(batch.id, rows, batch.y, strict=True):
            content = row.tobytes() + int(label).to_bytes(8, "big")
            found[str(one)] = blake2b(content, digest_size=16).digest()
    return found


def _accuracy_gap(
    name: str,
    train: np.ndarray,
    test: np.ndarray,
    caveats: tuple[Caveat, ...],
    *,
    level: float = LEVEL,
    where: str | None = None,
) -> Measurement:
    """Accuracy on train minus accuracy on test. train, test: (n,) bool, right or wrong."""
    interval = newcombe(int(train.sum()), len(train), int(test.sum()), len(test), level)
    return Measurement(
        name=name,
        value=float(train.mean() - test.mean()),
        n=len(train) + len(test),
        interval=interval,
        direction="lower",
        slice={} if where is None else {"class": where},
        caveats=caveats,
    )


def _class_gaps(
    classes: tuple[str, ...], train: Answers, test: Answers, caveats: tuple[Caveat, ...]
) -> Iterator[Yielded]:
    """The accuracy gap of each class; undefined where a split holds none of it."""
    import numpy as np

    name = "class_accuracy_gap"
    in_train = np.bincount(train.y, minlength=len(classes))
    in_test = np.bincount(test.y, minlength=len(classes))
    both = int(((in_train > 0) & (in_test > 0)).sum())
    for index, label in enumerate(classes):
        if not (in_train[index] and in_test[index]):
            reason = f"{in_train[index]} training and {in_test[index]} test samples of this class"
            yield Undefined(name=name, reason=reason, slice={"class": label})
            continue
        yield _accuracy_gap(
            name, train.correct[train.y == index], test.correct[test.y == index], caveats,
            level=1 - (1 - LEVEL) / both, where=label,
        )  # fmt: skip


def _losses(train: Answers, test: Answers, caveats: tuple[Caveat, ...]) -> Iterator[Yielded]:
    """Mean cross-entropy of each split and its gap, where there are logits."""
    from dlaudit.overfitting.losses import cross_entropy, mean_difference, skewed_mean

    names = ("train_loss", "test_loss", "loss_gap")
    if train.logits is None or test.logits is None:
        for name in names:
            yield Undefined(name=name, reason=NO_LOGITS)
        return
    seen, unseen = cross_entropy(train.logits, train.y), cross_entropy(test.logits, test.y)
    gap = float(unseen.mean() - seen.mean())
    rows = (
        (float(seen.mean()), len(seen), skewed_mean(seen), ()),
        (float(unseen.mean()), len(unseen), skewed_mean(unseen), caveats),
        (gap, len(seen) + len(unseen), mean_difference(unseen, seen), caveats),
    )
    for name, (value, n, interval, doubts) in zip(names, rows, strict=True):
        if interval is None:
            yield Undefined(name=name, reason=NO_SPREAD)
        else:
            yield Measurement(
                name=name, value=value, n=n, interval=interval, unit="nats", direction="lower",
                caveats=doubts,
            )  # fmt: skip


def _picture(bench: Bench, gaps: Sequence[Yielded]) -> Artifact:
    """The gap of everybody and of each class, with its interval."""
    from dlaudit.audit.curves import intervals_svg

    rows = [
        (one.slice.get("class", "all classes"), one.value, one.interval.low, one.interval.high)
        for one in gaps[: DRAWN + 1]
        if isinstance(one, Measurement) and one.interval
    ]
    left_out = max(0, len(gaps) - 1 - DRAWN)
    some = f" {left_out} further classes are not drawn." if left_out else ""
    return bench.keep(
        f"{bench.run}.gaps",
        intervals_svg(rows, across="accuracy on training minus accuracy on test samples", line=0.0),
        media_type="image/svg+xml",
        caption=f"The accuracy gap of all classes and of each, with its interval; dashed: no gap.{some}",
        alt="; ".join(f"gap of {name} {value:.3f}" for name, value, *_ in rows) + f".{some}",
    )


def _evidence(bench: Bench, splits: dict[str, Answers]) -> Artifact:
    """Every sample of both splits: label, decision and, where there are logits, margin and loss."""
    import numpy as np

    from dlaudit.overfitting.losses import cross_entropy, margins

    answers = list(splits.values())
    columns = {
        "id": np.concatenate([one.id for one in answers]),
        "split": np.concatenate([np.full(len(one.y), name) for name, one in splits.items()]),
        "label": np.concatenate([one.y for one in answers]),
        "predicted": np.concatenate([one.predicted for one in answers]),
    }
    logits = [one.logits for one in answers if one.logits is not None]
    if len(logits) == len(answers):
        pairs = list(zip(logits, (one.y for one in answers), strict=True))
        columns["margin"] = np.concatenate([margins(of, y) for of, y in pairs])
        columns["loss"] = np.concatenate([cross_entropy(of, y) for of, y in pairs])
    return bench.keep_table(
        f"{bench.run}.samples", columns,
        caption="Label, decision, margin and loss of each sample of both splits.",
    )  # fmt: skip

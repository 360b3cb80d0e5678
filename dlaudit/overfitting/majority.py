"""Whether a model does better than always giving the same answer, where one class is rare.

Knows decisions and scores; refuses accuracy as an argument where the classes are unequal, and refuses
thresholds. That all answers are the same is a fact of the sample, not an estimate.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

import msgspec

from dlaudit.audit.parts import Check, Needs, Yielded
from dlaudit.audit.record import Cost, Interval, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import LEVEL, clopper_pearson, mcnemar, wilson

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Bench

ONE_CLASS = "the split holds one class only: there is no other answer to tell it from"


class Majority(Check, frozen=True, kw_only=True):
    """What a model is worth beside one that always gives the commonest answer.

    ``one_answer``: 1 where it gives every sample the same answer; ``balanced_accuracy``: the mean recall
    over the classes of the split, and ``gain_over_majority`` = (balanced accuracy - 1/K) / (1 - 1/K), which
    is 0 for any constant answer; ``majority_accuracy`` and ``accuracy_over_majority`` (paired, same
    samples); ``minority_recall`` and ``minority_precision`` of the rarest class, and
    ``average_precision`` of its probability (area under the precision-recall curve).

    minimum: samples of the rarest class for ``average_precision``.
    """

    needs: ClassVar[Needs] = Needs(model=("decisions",), data=("labels",))
    measures: ClassVar[tuple[str, ...]] = (
        "one_answer", "balanced_accuracy", "gain_over_majority", "majority_accuracy",
        "accuracy_over_majority", "minority_recall", "minority_precision", "average_precision",
    )  # fmt: skip

    minimum: Annotated[int, msgspec.Meta(ge=2)] = 10
    split: str = "test"

    def passes(self, *, n: int, classes: int) -> Cost:
        """Nothing beyond the clean answers."""
        del n, classes
        return Cost(forward=0, backward=0)

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Measure decisions against the commonest class, then the rarest class alone."""
        import numpy as np

        answers = bench.answers(self.split)
        y, predicted, n = answers.y, answers.predicted, len(answers.y)
        counts = np.bincount(y)
        present = np.flatnonzero(counts)
        if len(present) < 2:
            for name in self.measures:
                yield Undefined(name=name, reason=ONE_CLASS)
            return
        commonest = int(counts.argmax())
        rarest = int(present[counts[present].argmin()])
        stated: dict[str, Scalar] = {"majority": bench.classes[commonest]}
        yield Measurement(
            name="one_answer", value=float((predicted == predicted[0]).all()), n=n,
            exact="every answer was looked at", direction="lower",
        )  # fmt: skip
        rights = np.bincount(y[answers.correct], minlength=len(counts))
        recalls = [(int(rights[k]), int(counts[k])) for k in present]
        yield from balanced(recalls, n)
        of_majority = int(counts[commonest])
        yield Measurement(
            name="majority_accuracy", value=of_majority / n, n=n, interval=wilson(of_majority, n),
            conditions=stated,
        )  # fmt: skip
        common = y == commonest
        paired = mcnemar(
            int((answers.correct & ~common).sum()), int((common & ~answers.correct).sum()), n
        )
        yield Measurement(
            name="accuracy_over_majority", value=paired.difference, n=n, interval=paired.interval,
            direction="higher", conditions=stated,
        )  # fmt: skip
        where = {"class": bench.classes[rarest]}
        right, called = int(rights[rarest]), int((predicted == rarest).sum())
        for name, of in (("minority_recall", int(counts[rarest])), ("minority_precision", called)):
            if of:
                yield Measurement(
                    name=name, value=right / of, n=of, interval=wilson(right, of), slice=where,
                    direction="higher",
                )  # fmt: skip
            else:
                reason = "no sample was given this answer: a share of none"
                yield Undefined(name=name, reason=reason, slice=where)
        yield self._ranked(bench, rarest, where)

    def _ranked(self, bench: Bench, rarest: int, where: dict[str, str]) -> Measurement | Undefined:
        """How well the probability of the rarest class finds it."""
        from dlaudit.overfitting.calibration import log_probabilities
        from dlaudit.overfitting.confidence import softmax

        name, answers = "average_precision", bench.answers(self.split)
        positive = answers.y == rarest
        logits = log_probabilities(answers)
        if logits is None:
            reason = "the model gives decisions only: nothing ranks the samples"
            return Undefined(name=name, reason=reason, slice=where)
        if int(positive.sum()) < self.minimum:
            reason = f"{int(positive.sum())} samples of this class, fewer than the minimum of {self.minimum}"
            return Undefined(name=name, reason=reason, slice=where)
        value = average_precision(softmax(logits)[:, rarest], positive)
        return Measurement(
            name=name, value=value, n=len(positive), interval=boyd(value, int(positive.sum())),
            slice=where, direction="higher",
            conditions={"prevalence": round(float(positive.mean()), 12)},
        )  # fmt: skip


def balanced(recalls: list[tuple[int, int]], n: int) -> Iterator[Measurement]:
    """Balanced accuracy and its gain. recalls: right answers and samples of each class.

    Interval: Clopper and Pearson's of each class, independent of each other, joined by square-and-add
    (Zou & Donner 2008): with Wilson's, many small classes that are almost always right miss the level.
    """
    classes = len(recalls)
    shares = [right / of for right, of in recalls]
    ends = [clopper_pearson(right, of) for right, of in recalls]
    value = math.fsum(shares) / classes
    below = math.hypot(*(p - end.low for p, end in zip(shares, ends, strict=True))) / classes
    above = math.hypot(*(end.high - p for p, end in zip(shares, ends, strict=True))) / classes
    chance = 1 / classes
    for name, shift, scale in (
        ("balanced_accuracy", 0.0, 1.0), ("gain_over_majority", chance, 1 - chance),
    ):  # fmt: skip
        yield Measurement(
            name=name, value=(value - shift) / scale, n=n, direction="higher",
            interval=Interval(
                low=(value - below - shift) / scale, high=(value + above - shift) / scale,
                level=LEVEL, method="clopper-pearson-square-and-add",
            ),
            conditions={"classes": classes},
        )  # fmt: skip


def average_precision(score: np.ndarray, positive: np.ndarray) -> float:
    """The mean precision at every positive, samples of one score taken together (area by steps).

    score: (n,); positive: (n,) bool, at least one.
    """
    import numpy as np

    order = np.argsort(-score, kind="stable")
    ordered, hits = score[order], np.cumsum(positive[order])
    last = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True])
    precision, recalled = hits[last] / (last + 1), hits[last]
    gained = np.diff(recalled, prepend=0)
    return float(precision @ gained / recalled[-1])


def boyd(value: float, positives: int, level: float = LEVEL) -> Interval:
    """Interval of an average precision on the logit scale (Boyd et al. 2013).

    Its variance takes the precisions for as many draws as there are positives; with Student's t for
    few. At 1, where the logit does not exist, half a positive is missing; it is never 0.
    """
    from scipy.special import stdtrit

    inside = min(value, 1 - 0.5 / positives)
    centre = math.log(inside / (1 - inside))
    half = float(stdtrit(positives - 1, (1 + level) / 2)) / math.sqrt(
        positives * inside * (1 - inside)
    )
    low, high = (1 / (1 + math.exp(-(centre + sign * half))) for sign in (-1, 1))
    return Interval(low=min(low, value), high=max(high, value), level=level, method="boyd-logit")

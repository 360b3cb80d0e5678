"""Whether a model knows when it does not know: calibration, overconfidence, selective accuracy.

Knows the clean answers and what may be said of them; refuses thresholds, refuses to change the model
(a temperature is a what-if), and refuses to call an answer without probabilities confident.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

import msgspec

from dlaudit.audit.parts import Check, Needs, Yielded
from dlaudit.audit.record import Artifact, Cost, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import LEVEL, wilson

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Answers, Bench
    from dlaudit.overfitting.confidence import Estimate

NO_PROBABILITIES = "the model gives decisions only: no logits, and no score between 0 and 1"
INFINITE = "a probability of 0 was given to what came true: the logarithm is infinite"
NO_SPREAD = "every sample has the same value: no spread to build an interval on"
WHAT_IF = ("tempered_calibration_error", "tempered_overconfidence", "tempered_log_loss")
SVG = "image/svg+xml"


class Calibration(Check, frozen=True, kw_only=True):
    """Whether stated probabilities come true: calibration error, overconfidence, selective accuracy.

    Confidence is the probability of the decided class. ``calibration_error`` is the debiased expected
    calibration error in bins of equal mass, ``class_calibration_error`` the same of each class's
    probability (Bonferroni: the classes are a search), ``overconfidence`` = mean confidence - accuracy;
    ``selective_accuracy`` is the accuracy on the share ``coverage`` of most confident samples, ``aurc``
    the area under the risk-coverage curve. ``temperature`` is fitted on one half of the samples, and the
    three ``tempered_`` figures are those of the other half if it were applied: a what-if.

    bins: as many as ties allow. coverage: shares at which selective accuracy is measured.
    """

    needs: ClassVar[Needs] = Needs(model=("decisions",), data=("labels",))
    measures: ClassVar[tuple[str, ...]] = (
        "calibration_error", "class_calibration_error", "overconfidence", "brier_score", "log_loss",
        "selective_accuracy", "aurc", "temperature", *WHAT_IF,
    )  # fmt: skip

    bins: Annotated[int, msgspec.Meta(ge=2)] = 15
    coverage: tuple[Annotated[float, msgspec.Meta(gt=0, lt=1)], ...] = (0.8, 0.9)
    minimum: Annotated[int, msgspec.Meta(ge=2)] = 100
    split: str = "test"

    def passes(self, *, n: int, classes: int) -> Cost:
        """Nothing beyond the clean answers."""
        del n, classes
        return Cost(forward=0, backward=0)

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Measure the whole split, then each class, then the what-if."""
        from dlaudit.overfitting import confidence

        answers = bench.answers(self.split)
        n = len(answers.y)
        logits = log_probabilities(answers)
        if logits is None or n < self.minimum:
            reason = NO_PROBABILITIES if logits is None else too_few(n, self.minimum)
            for name in self.measures:
                yield Undefined(name=name, reason=reason)
            return
        chances = confidence.softmax(logits)
        sure, hit = decided(chances, answers.predicted), answers.correct
        rng = bench.rng("calibration")
        stated: dict[str, Scalar] = {"bins": self.bins, "binning": "equal mass"}
        error = confidence.calibration_error(sure, hit, rng, bins=self.bins)
        yield told("calibration_error", error, conditions=stated)
        yield from self._classes(bench, chances, answers.y, stated)
        yield told("overconfidence", confidence.overconfidence(sure, hit))
        yield told(
            "brier_score",
            confidence.mean_estimate(confidence.brier(chances, answers.y)) or NO_SPREAD,
        )
        yield told("log_loss", log_loss(logits, answers.y), unit="nats")
        yield from self._selective(sure, hit)
        yield told("aurc", confidence.aurc(sure, hit))
        yield from self._what_if(bench, logits, answers.predicted, answers.y)
        yield from self._pictures(bench, sure, hit)
        yield bench.keep_table(
            f"{bench.run}.samples",
            {
                "id": answers.id, "label": answers.y, "predicted": answers.predicted,
                "confidence": sure, "label_probability": decided(chances, answers.y),
            },
            caption="Label, decision, and the probabilities of both, of each sample.",
        )  # fmt: skip

    def _classes(
        self, bench: Bench, chances: np.ndarray, y: np.ndarray, stated: dict[str, Scalar]
    ) -> Iterator[Yielded]:
        """The calibration error of each class's own probability, against all others."""
        from dlaudit.overfitting import confidence

        name, searched = "class_calibration_error", chances.shape[1]
        for index in range(searched):
            where = {"class": bench.classes[index]}
            found = confidence.calibration_error(
                chances[:, index], y == index, bench.rng(f"class {index}"),
                level=1 - (1 - LEVEL) / searched, bins=self.bins,
            )  # fmt: skip
            yield told(name, found, where=where, conditions=stated)

    def _selective(self, sure: np.ndarray, hit: np.ndarray) -> Iterator[Yielded]:
        """Accuracy where the model is most confident; samples of one confidence stay together."""
        import numpy as np

        for share in dict.fromkeys(self.coverage):
            limit = np.sort(sure)[::-1][max(0, round(share * len(sure)) - 1)]
            kept = sure >= limit
            right, n = int(hit[kept].sum()), int(kept.sum())
            yield Measurement(
                name="selective_accuracy", value=right / n, n=n, interval=wilson(right, n),
                direction="higher", conditions={"coverage": share},
            )  # fmt: skip

    def _what_if(
        self, bench: Bench, logits: np.ndarray, predicted: np.ndarray, y: np.ndarray
    ) -> Iterator[Yielded]:
        """A temperature from one half of the samples, and what it does on the other half."""
        import numpy as np

        from dlaudit.overfitting import confidence

        order = bench.rng("halves").permutation(len(y))
        fitting, judging = np.sort(order[: len(y) // 2]), np.sort(order[len(y) // 2 :])
        fitted = confidence.temperature(logits[fitting], y[fitting])
        yield told("temperature", fitted)
        if isinstance(fitted, str):
            for name in WHAT_IF:
                yield Undefined(name=name, reason=fitted)
            return
        cooled = logits[judging].astype(np.float64) / fitted.value
        chances = confidence.softmax(cooled)
        sure, hit = decided(chances, predicted[judging]), predicted[judging] == y[judging]
        rng = bench.rng("tempered")
        stated: dict[str, Scalar] = {"bins": self.bins, "binning": "equal mass"}
        error = confidence.calibration_error(sure, hit, rng, bins=self.bins)
        yield told("tempered_calibration_error", error, conditions=stated)
        yield told("tempered_overconfidence", confidence.overconfidence(sure, hit))
        yield told("tempered_log_loss", log_loss(cooled, y[judging]), unit="nats")

    def _pictures(self, bench: Bench, sure: np.ndarray, hit: np.ndarray) -> Iterator[Artifact]:
        """The reliability diagram and the risk-coverage curve."""
        from dlaudit.audit.curves import Curve, curves_svg, thinned
        from dlaudit.overfitting import confidence

        found = confidence.binned(sure, hit, self.bins)
        points = []
        for n, mean, hits in zip(found.n, found.confidence, found.hits, strict=True):
            ends = wilson(round(float(hits)), int(n))
            points.append((float(mean), float(hits / n), ends.low, ends.high))
        yield bench.keep(
            f"{bench.run}.reliability",
            curves_svg(
                [Curve("this model", points, marks=True)], across="confidence",
                up="share that is right", diagonal=True,
            ),
            media_type=SVG,
            caption=(
                f"Reliability of {len(hit):,} answers in {len(points)} bins of equal mass, with Wilson's "
                "intervals; on the dashed line confidence is what comes true, below it the model is "
                "overconfident."
            ),
            alt=(
                f"Share right against confidence: {points[0][1]:.2f} at a confidence of "
                f"{points[0][0]:.2f}, {points[-1][1]:.2f} at {points[-1][0]:.2f}."
            ),
        )  # fmt: skip
        curve = confidence.risk_coverage(sure, hit)
        steps = [(float(x), float(y)) for x, y in zip(curve.coverage, curve.risk, strict=True)]
        steps = steps if len(steps) > 1 else [(0.0, steps[0][1]), *steps]
        yield bench.keep(
            f"{bench.run}.risk-coverage",
            curves_svg(
                [Curve("this model", thinned(steps))], across="share of samples answered",
                up="share that is wrong", from_zero=True,
            ),
            media_type=SVG,
            caption=(
                "Risk and coverage: the share of wrong answers among the most confident samples, from "
                "few of them to all."
            ),
            alt=(
                f"Among all samples {steps[-1][1]:.3f} are wrong; among the most confident half "
                f"{min(steps, key=lambda step: abs(step[0] - 0.5))[1]:.3f}."
            ),
        )  # fmt: skip


def log_probabilities(answers: Answers) -> np.ndarray | None:
    """Logits of the answers, (n, C); those of a binary model from its score. None where there is none."""
    import numpy as np

    if answers.logits is not None and answers.logits.shape[1] > 1:
        return answers.logits
    if answers.score is None:
        return None
    score = answers.score.astype(np.float64)
    if not ((score >= 0) & (score <= 1)).all():
        return None
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(np.stack([1 - score, score], axis=1)), -1e4)


def decided(chances: np.ndarray, which: np.ndarray) -> np.ndarray:
    """The probability of one class per sample. chances: (n, C); which: (n,). Returns (n,)."""
    import numpy as np

    found: np.ndarray = chances[np.arange(len(which)), which]
    return found


def log_loss(logits: np.ndarray, y: np.ndarray) -> Estimate | str:
    """Mean negative log-likelihood, or why there is none."""
    from dlaudit.overfitting.confidence import mean_estimate
    from dlaudit.overfitting.losses import cross_entropy

    losses = cross_entropy(logits, y)
    if losses.max() >= 1e4 - 1:
        return INFINITE
    return mean_estimate(losses) or NO_SPREAD


def too_few(n: int, minimum: int) -> str:
    """Why nothing is said of a small sample."""
    return f"{n} samples, fewer than the minimum of {minimum}"


def told(
    name: str,
    found: Estimate | str,
    *,
    where: dict[str, str] | None = None,
    conditions: dict[str, Scalar] | None = None,
    unit: str | None = None,
) -> Measurement | Undefined:
    """An estimate as a measurement, a reason as an undefined one."""
    if isinstance(found, str):
        return Undefined(name=name, reason=found, slice=where or {}, conditions=conditions or {})
    return Measurement(
        name=name, value=found.value, interval=found.interval, n=found.n, slice=where or {},
        conditions=conditions or {}, unit=unit,
        direction="lower" if name.endswith(("error", "score", "loss", "aurc")) else None,
    )  # fmt: skip

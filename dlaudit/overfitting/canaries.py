"""Canaries: training samples with wrong labels, which only a memory can give back.

Knows two trainings that share everything but the canaries; refuses to speak of the audited model's own
samples, and refuses to prove differential privacy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from msgspec import Meta

from dlaudit.audit.parts import Check, Needs, Yielded
from dlaudit.audit.record import Measurement, Undefined
from dlaudit.audit.statistics import LEVEL, mcnemar, wilson
from dlaudit.overfitting.gap import TRAIN

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Bench

FEW = 30
"""Canaries below which nothing is told."""
CLAIM, CLAIM_DELTA = "dp_epsilon", "dp_delta"
MEMORY = ("canary_accuracy", "twin_accuracy", "memorisation")
PRIVACY = ("epsilon_lower_bound", "epsilon_beyond_claim")


class Canaries(Check, frozen=True, kw_only=True):
    """How many wrong labels the plan's training learns by heart, and the epsilon that this disproves.

    A share of the training samples is given wrong labels, drawn at random. A coin decides for each canary
    which of two trainings learns it; the other learns neither it nor its right label and is its clean
    twin. ``canary_accuracy``: how often the training that learned a canary gives its wrong label;
    ``twin_accuracy``: how often the twin does, which is chance; ``memorisation``: the paired difference.

    ``epsilon_lower_bound``: ln(TPR / FPR) of telling the trainings apart by a canary, at the interval's
    pessimistic ends and corrected over thresholds; what the training's differential privacy cannot be
    better than. ``method`` ``two_trainings`` takes canaries for independent, although those of one training
    share its randomness; ``one_training`` guesses the coins from the first training alone and holds however
    they depend, for delta = 0. With ``dp_epsilon`` (and ``dp_delta``) declared in ``[context]``,
    ``epsilon_beyond_claim`` is the bound of two trainings less the claim: a rule ``at_most = 0`` holds the
    claim against it.
    """

    share: Annotated[float, Meta(gt=0, le=0.5)] = 0.01

    needs: ClassVar[Needs] = Needs(data=("labels", "train"), train_fn=True)
    measures: ClassVar[tuple[str, ...]] = (*MEMORY, *PRIVACY)

    @property
    def trainings(self) -> int:
        """See ``Check.trainings``: each canary is in for one and out for the other."""
        return 2

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Plant, train both, and ask both about every canary."""
        import numpy as np

        from dlaudit.overfitting.membership_scores import confidence
        from dlaudit.overfitting.pool import part, relabelled

        whole = bench.whole(TRAIN)
        rng, n = bench.rng("canaries"), len(whole.y)
        count = round(self.share * n)
        stated: dict[str, Any] = {"share": self.share}
        if count < FEW:
            reason = (
                f"{count} canaries are {self.share:g} of {n} training samples: at least {FEW} are "
                f"needed, share = {FEW / n:.2g} or more"
            )
            yield from (
                Undefined(name=one, reason=reason, conditions=stated) for one in self.measures
            )
            return
        which = np.sort(rng.choice(n, count, replace=False))
        shift = rng.integers(1, len(bench.classes), count)
        labels = (whole.y[which] + shift) % len(bench.classes)
        planted = relabelled(whole, which, labels)
        first = rng.random(count) < 0.5
        told = []
        for side in (True, False):
            kept = np.ones(n, dtype=bool)
            kept[which[first != side]] = False
            model = bench.trained(part(planted, kept), seed=0)
            told.append(model.logits(whole.x[which]).numpy())
        inside = np.where(first[:, None], told[0], told[1])
        outside = np.where(first[:, None], told[1], told[0])
        learned, chance = inside.argmax(axis=1) == labels, outside.argmax(axis=1) == labels
        yield from _memory(learned, chance, stated)
        sure, unsure = confidence(inside, labels), confidence(outside, labels)
        yield from _privacy(sure, unsure, bench.context, stated)
        yield _guessed(confidence(told[0], labels), first, stated)
        columns = {
            "id": whole.id[which], "label": whole.y[which], "planted": labels,
            "inside": sure, "outside": unsure,
        }  # fmt: skip
        yield bench.keep_table(
            f"{bench.run}.canaries", columns,
            caption="Each canary: its label, the wrong one, the confidence in that with and without it.",
        )  # fmt: skip


def _memory(learned: np.ndarray, chance: np.ndarray, stated: dict[str, Any]) -> Iterator[Yielded]:
    """How often the wrong label comes back. learned, chance: (n,) bool, with and without the canary."""
    n = len(learned)
    for name, told in zip(MEMORY, (learned, chance), strict=False):
        right = int(told.sum())
        yield Measurement(
            name=name, value=right / n, n=n, interval=wilson(right, n), conditions=stated,
            direction="lower",
        )  # fmt: skip
    paired = mcnemar(int((learned & ~chance).sum()), int((chance & ~learned).sum()), n)
    yield Measurement(
        name="memorisation", value=paired.difference, n=n, interval=paired.interval,
        direction="lower", conditions=stated,
    )  # fmt: skip


def _privacy(
    sure: np.ndarray, unsure: np.ndarray, context: Any, stated: dict[str, Any]
) -> Iterator[Yielded]:
    """What the canaries show of epsilon. sure, unsure: (n,) confidence with and without the canary."""
    from dlaudit.overfitting.epsilon import lower_bound

    claim, delta = context.get(CLAIM), context.get(CLAIM_DELTA, 0.0)
    found = lower_bound(sure, unsure, delta=float(delta))
    conditions = {**stated, "delta": float(delta), "thresholds": found.looked}
    exact = (
        f"itself a bound, at {LEVEL:.0%} over all thresholds: {found.true_positives} of {len(sure)} told "
        f"rightly, {found.false_positives} wrongly"
    )
    yield Measurement(
        name="epsilon_lower_bound", value=found.epsilon, n=len(sure), exact=exact,
        direction="lower", slice={"method": "two_trainings"}, conditions=conditions,
    )  # fmt: skip
    if claim is None:
        reason = f"no epsilon is claimed: [context] declares no {CLAIM}"
        yield Undefined(name="epsilon_beyond_claim", reason=reason, conditions=conditions)
        return
    yield Measurement(
        name="epsilon_beyond_claim", value=found.epsilon - float(claim), n=len(sure), exact=exact,
        direction="lower", conditions={**conditions, "claimed": float(claim)},
    )  # fmt: skip


def _guessed(scores: np.ndarray, inside: np.ndarray, stated: dict[str, Any]) -> Measurement:
    """The bound from one training. scores: (n,) its confidence; inside: (n,) bool, what it learned."""
    from dlaudit.overfitting.epsilon import one_run_bound

    found = one_run_bound(scores, inside)
    return Measurement(
        name="epsilon_lower_bound", value=found.epsilon, n=len(scores),
        exact=f"itself a bound, at {LEVEL:.0%}: {found.right} of {found.made} coins guessed rightly",
        direction="lower", slice={"method": "one_training"},
        conditions={**stated, "delta": 0.0, "looks": found.looked},
    )  # fmt: skip

"""What the plan's training does with fewer samples, and with labels that mean nothing.

Knows further trainings and their accuracy; refuses a judgement: both are information.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from msgspec import Meta

from dlaudit.audit.parts import Check, Needs, Yielded
from dlaudit.audit.record import Measurement
from dlaudit.audit.statistics import mcnemar, wilson
from dlaudit.overfitting.gap import TEST, TRAIN

if TYPE_CHECKING:
    from dlaudit.audit.bench import Bench

Fraction = Annotated[float, Meta(gt=0, le=1)]


class DataSize(Check, frozen=True, kw_only=True):
    """Accuracy on the test split after training on parts of the training split.

    ``test_accuracy`` for each of ``fractions``, nested parts of one random order. ``gain`` is the paired
    difference to the next smaller part on the same test samples: where it still grows at the end, more
    data of this kind would help more than another model.
    """

    fractions: Annotated[tuple[Fraction, ...], Meta(min_length=1)] = (0.25, 0.5, 1.0)

    needs: ClassVar[Needs] = Needs(data=("labels", "train"), train_fn=True)
    measures: ClassVar[tuple[str, ...]] = ("test_accuracy", "gain")

    @property
    def trainings(self) -> int:
        """See ``Check.trainings``."""
        return len(set(self.fractions))

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Train on each part, smallest first."""
        import numpy as np

        from dlaudit.overfitting.pool import part

        whole, test = bench.whole(TRAIN), bench.whole(TEST)
        order, n, before = bench.rng("parts").permutation(len(whole.y)), len(test.y), None
        for fraction in sorted(set(self.fractions)):
            count = max(1, round(fraction * len(order)))
            chosen = np.zeros(len(order), dtype=bool)
            chosen[order[:count]] = True
            right = bench.trained(part(whole, chosen)).decide(test).predicted == test.y
            conditions: dict[str, Any] = {"fraction": fraction, "trained_on": count}
            hits = int(right.sum())
            yield Measurement(
                name="test_accuracy", value=hits / n, n=n, interval=wilson(hits, n),
                direction="higher", conditions=conditions,
            )  # fmt: skip
            if before is not None:
                paired = mcnemar(int((right & ~before).sum()), int((before & ~right).sum()), n)
                yield Measurement(
                    name="gain", value=paired.difference, n=n, interval=paired.interval,
                    conditions=conditions,
                )  # fmt: skip
            before = right


class RandomLabels(Check, frozen=True, kw_only=True):
    """How well the plan's training fits labels that were shuffled (Zhang et al. 2017).

    ``shuffled_accuracy``: on the samples and shuffled labels that it was trained on. Near 1, the training
    can learn anything by heart, and a good fit of the right labels shows nothing; ``majority`` is what
    naming the commonest label gives. Information on capacity, not a defect.
    """

    needs: ClassVar[Needs] = Needs(data=("labels", "train"), train_fn=True)
    measures: ClassVar[tuple[str, ...]] = ("shuffled_accuracy", "majority")

    @property
    def trainings(self) -> int:
        """See ``Check.trainings``."""
        return 1

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Shuffle, train once, ask about the same samples."""
        import numpy as np

        whole = bench.whole(TRAIN)
        n = len(whole.y)
        shuffled = whole._replace(y=bench.rng("labels").permutation(whole.y))
        right = int((bench.trained(shuffled).decide(shuffled).predicted == shuffled.y).sum())
        yield Measurement(name="shuffled_accuracy", value=right / n, n=n, interval=wilson(right, n))
        yield Measurement(
            name="majority", value=float(np.bincount(whole.y).max() / n), n=n,
            exact="the share of the commonest label in these samples",
        )  # fmt: skip

"""Whether a model has been fitted to its test set: errors again on pictures moved by a step.

Knows moves and the weights that make their errors count like those of fresh pictures; refuses to prove
anything: that a moved picture is as likely as the picture itself is taken on trust.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

import msgspec

from dlaudit.audit.parts import Check, Needs, Yielded
from dlaudit.audit.record import Caveat, Cost, Measurement, Scalar, Undefined

if TYPE_CHECKING:
    from dlaudit.audit.bench import Bench
    from dlaudit.overfitting.moves import Errors

NAMES = ("adversarial_error", "plain_error", "overfit_to_test")
FEWEST = 30
SPOTS = 25
"""Places that three moves reach, which the weights look at (``moves.SPOTS``)."""
TRUST = (
    "the weights hold where a picture and the same moved by a pixel, its edge wrapped around, are equally "
    "likely: of centred or framed pictures they are an approximation, so this test accuses nobody alone"
)


class AdversarialOverfit(Check, frozen=True, kw_only=True):
    """The adversarial overfit test: errors on moved pictures, weighted, beside errors as they are.

    Werpachowski et al. 2019 ("Detecting overfitting via adversarial examples", section 4): each picture
    that is answered rightly is moved by one pixel (up, down, left, right, edges wrapped around) to where
    it is answered wrongly, if there is such a place. An error counts 1/k where k pictures would have
    been moved to the same place: then ``adversarial_error`` estimates the same error rate as
    ``plain_error``, unless the model knows the test pictures. ``overfit_to_test`` = their difference
    (paired); clearly above 0, the model does better on these very pictures than on ones
    equally likely. ``z`` stands in its conditions; the paper's criterion is 2 (information, no rule).
    """

    needs: ClassVar[Needs] = Needs(model=("logits", "queries"), data=("labels", "images"))
    measures: ClassVar[tuple[str, ...]] = NAMES

    samples: Annotated[int, msgspec.Meta(ge=1)] = 1000
    split: str = "test"

    def missing(
        self, *, model: frozenset[str], data: frozenset[str], train_fn: bool
    ) -> tuple[str, ...]:
        """Logits imply that any input is answered."""
        have = model | {"queries"} if "logits" in model else model
        return self.needs.missing(model=have, data=data, train_fn=train_fn)

    def passes(self, *, n: int, classes: int) -> Cost:
        """Every picture at every place that two moves reach."""
        del classes
        return Cost(forward=SPOTS * min(n, self.samples), backward=0)

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Ask the model about every picture in all its places."""
        import numpy as np

        from dlaudit.overfitting import moves

        blocks = list(bench.blocks(self.split, samples=self.samples))
        x = np.concatenate([block.batch.x for block in blocks])
        y = np.concatenate([block.batch.y for block in blocks])
        ids = np.concatenate([block.batch.id for block in blocks])
        n = len(y)
        if n < FEWEST or x.ndim != 4 or min(x.shape[2:]) < 3:
            reason = (
                f"{n} inputs of shape {x.shape[1:]}: expected {FEWEST} pictures (channels, height, "
                "width) of at least 3 by 3 pixels"
            )
            yield from (Undefined(name=name, reason=reason) for name in NAMES)
            return
        wrong = np.stack([
            bench.model.logits(moves.moved(x, spot)).float().cpu().numpy().argmax(axis=1) != y
            for spot in moves.SPOTS
        ])  # fmt: skip
        found = moves.weighted(wrong)
        yield from self._told(bench, found)
        yield bench.keep_table(
            f"{bench.run}.samples",
            {"id": ids, "label": y, "wrong": found.plain > 0, "adversarial": found.adversarial},
            caption="Whether each picture is answered wrongly, and its weighted error when moved.",
        )

    def _told(self, bench: Bench, found: Errors) -> Iterator[Yielded]:
        """Both error rates and their difference."""
        from dlaudit.overfitting.losses import skewed_mean

        doubt = (Caveat(source=bench.run, name="moved-pictures", message=TRUST, voids=False),)
        gap = found.adversarial - found.plain
        for name, values in zip(NAMES, (found.adversarial, found.plain, gap), strict=True):
            interval = skewed_mean(values)
            conditions: dict[str, Scalar] = {"moves": "one pixel, 4 ways", "split": self.split}
            if interval is None:
                reason = "every picture gives the same: no spread to make an interval of"
                yield Undefined(name=name, reason=reason, conditions=conditions)
                continue
            if name == NAMES[2]:
                error = float(gap.std(ddof=1)) / len(gap) ** 0.5
                conditions |= {"z": float(gap.mean()) / error, "z_of_the_paper": 2}
            yield Measurement(
                name=name, value=float(values.mean()), n=len(values), interval=interval,
                direction="lower", conditions=conditions, caveats=doubt,
            )  # fmt: skip

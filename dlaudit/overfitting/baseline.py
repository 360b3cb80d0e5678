"""Whether a classical model, trained on the same rows, would have done as well.

Knows the two splits and what is learned from them; refuses to tune a baseline until it loses, and
refuses thresholds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import msgspec

from dlaudit.audit.parts import Check, Needs, Yielded
from dlaudit.audit.record import Caveat, Cost, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import mcnemar, wilson

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Bench

Method = Literal["gradient boosting", "logistic regression", "xgboost", "lightgbm"]
SMALL = 10_000
NAMES = ("baseline_accuracy", "accuracy_over_baseline", "gain")


class Baseline(Check, frozen=True, kw_only=True):
    """The gain over classical models trained on the same split: boosted trees and logistic regression.

    Per method: ``baseline_accuracy``, ``accuracy_over_baseline`` (paired, the same test samples) and
    ``gain`` = (s_model - s_baseline) / (1 - s_baseline): the share of the baseline's errors that the
    model avoids. Tables are taken as they are, pictures by their first principal components; nothing is
    tuned. Below 10,000 training rows a caveat says that a simpler model is usually enough.

    methods: of ``xgboost`` and ``lightgbm`` each is an extra. rows: at most so many training rows, drawn
    by the plan's seed.
    """

    needs: ClassVar[Needs] = Needs(model=("decisions",), data=("labels", "train"))
    measures: ClassVar[tuple[str, ...]] = NAMES

    methods: tuple[Method, ...] = ("gradient boosting", "logistic regression")
    rows: Annotated[int, msgspec.Meta(ge=50)] = 50_000

    def passes(self, *, n: int, classes: int) -> Cost:
        """Nothing beyond the clean answers."""
        del n, classes
        return Cost(forward=0, backward=0)

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Fit each method on the training rows and compare it on the test rows."""
        import numpy as np

        from dlaudit.audit.curves import intervals_svg
        from dlaudit.overfitting.via_sklearn import fitted

        answers = bench.answers("test")
        # Sequences of token ids mean nothing as numbers; pictures and sounds do, roughly.
        if "tokens" in bench.data.offers:
            yield from self._nothing("token ids are no features: their numbers mean nothing")
            return
        seen, y = features(bench, "train", samples=self.rows)
        unseen, _ = features(bench, "test", samples=None)
        if len(np.unique(y)) < 2:
            yield from self._nothing(
                "the training rows hold one class only: nothing can be learned"
            )
            return
        compressed = "tabular" not in bench.data.offers
        caveats = tuple(_caveats(bench, len(y), bench.data.size("train")))
        columns, drawn = {"id": answers.id, "label": answers.y, "predicted": answers.predicted}, []
        for method in dict.fromkeys(self.methods):
            predict = fitted(method, seen, y, bench.rng(method), compressed=compressed)
            decided = np.concatenate([
                predict(unseen[k : k + 10_000]) for k in range(0, len(unseen), 10_000)
            ])  # fmt: skip
            columns[f"baseline_{method.replace(' ', '_')}"] = decided
            stated: dict[str, Scalar] = {"training_rows": len(y), "compressed": compressed}
            for one in compared(answers.correct, decided == answers.y, method, stated, caveats):
                yield one
                if isinstance(one, Measurement) and one.name == "gain" and one.interval:
                    drawn.append((method, one.value, one.interval.low, one.interval.high))
        if drawn:
            yield bench.keep(
                f"{bench.run}.gains",
                intervals_svg(drawn, across="share of the baseline's errors avoided", line=0.0),
                media_type="image/svg+xml",
                caption="The gain over each classical baseline with its interval; dashed: no gain.",
                alt="; ".join(f"gain over {name} {value:.3f}" for name, value, *_ in drawn) + ".",
            )  # fmt: skip
        yield bench.keep_table(
            f"{bench.run}.samples", columns,
            caption="Label, decision, and the decision of each baseline on each test sample.",
        )  # fmt: skip

    def _nothing(self, reason: str) -> Iterator[Undefined]:
        """Every number of every method, undefined."""
        for method in dict.fromkeys(self.methods):
            for name in NAMES:
                yield Undefined(name=name, reason=reason, slice={"method": method})


def compared(
    right: np.ndarray,
    base: np.ndarray,
    method: str,
    stated: dict[str, Scalar],
    caveats: tuple[Caveat, ...],
) -> Iterator[Measurement | Undefined]:
    """The three numbers of one method. right, base: (n,) bool, model and baseline."""
    from dlaudit.overfitting.gain import Pairs, gain

    n, where = len(right), {"method": method}
    pairs = Pairs(
        int((~right & ~base).sum()), int((~right & base).sum()), int((right & ~base).sum()), n
    )
    yield Measurement(
        name="baseline_accuracy", value=float(base.mean()), n=n,
        interval=wilson(int(base.sum()), n), slice=where, conditions=stated,
    )  # fmt: skip
    paired = mcnemar(pairs.baseline, pairs.model, n)
    yield Measurement(
        name="accuracy_over_baseline", value=paired.difference, n=n, interval=paired.interval,
        direction="higher", slice=where, conditions=stated, caveats=caveats,
    )  # fmt: skip
    found = gain(pairs)
    if isinstance(found, str):
        yield Undefined(name="gain", reason=found, slice=where, conditions=stated)
        return
    value, interval = found
    yield Measurement(
        name="gain", value=value, n=n, interval=interval, direction="higher", slice=where,
        conditions=stated, caveats=caveats,
    )  # fmt: skip


def features(bench: Bench, split: str, *, samples: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a split as (n, F) float64 and their labels; a column of recorded decisions left out."""
    import numpy as np

    blocks = [block.batch for block in bench.blocks(split, samples=samples)]
    x = np.concatenate([np.asarray(batch.x, dtype=np.float64) for batch in blocks])
    x = x.reshape(len(x), -1)
    facts = bench.data.card.facts
    names, decided = facts.get("features", ()), bench.model.card.facts.get("column")
    if decided is not None and len(names) == x.shape[1]:
        x = x[:, [name != decided for name in names]]
    return x, np.concatenate([np.asarray(batch.y) for batch in blocks])


def _caveats(bench: Bench, used: int, there: int) -> Iterator[Caveat]:
    """What the comparison is about: few rows, and rows left out."""
    if there < SMALL:
        message = (
            f"{there:,} training rows: below {SMALL:,} a simpler model is usually enough; the gain "
            "measured here says whether it is in this case"
        )
        yield Caveat(source=bench.run, name="few-rows", message=message)
    if used < there:
        message = f"the baseline learned from {used:,} of {there:,} training rows"
        yield Caveat(source=bench.run, name="subset", message=message)

"""Drift: whether a later sample still comes from where the earlier one did, and what that costs.

Knows two splits and, if declared, dates; refuses to say why the data moved, and whether it matters beyond
what the accuracy shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from msgspec import Meta

from dlaudit.audit.parts import Check, Needs, Yielded
from dlaudit.audit.record import Caveat, Cost, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import LEVEL, newcombe, wilson
from dlaudit.errors import nearest

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Answers, Bench
    from dlaudit.data_quality.rows import Rows
    from dlaudit.data_quality.two_samples import Change

FEWEST = 50
"""Rows a side below which nothing is compared."""
JOINT = ("classifier_auc", "classifier_p", "mmd_squared", "mmd_p")
SEARCH = "two samples as they are: sampling alone makes it more than 0"
P = "a p-value of these two samples"


class Pair(NamedTuple):
    """Two splits with the model's answers on them."""

    old: Rows
    new: Rows
    answers_old: Answers
    answers_new: Answers


class Drift(Check, frozen=True, kw_only=True):
    """How far a split lies from a reference: each feature, all of them, labels, decisions, accuracy.

    reference and current: two splits of the data. ``feature_drift``: the largest distance between
    distribution functions of a number (interval: Massart) or between shares of a category (Newcombe), of
    the ``told`` features that differ most. ``drifted_features``: how many a detector flags, up to 1,000
    rows a side by Kolmogorov and Smirnov's or the chi-squared test at ``alpha`` after Holm, above by that and
    a Wasserstein (in standard deviations) or Jensen-Shannon distance of 0.1.

    ``classifier_auc``: how well boosted trees tell the splits apart (out of fold; DeLong), with a
    permutation p; ``mmd_squared``: distance of the kernel means, p by permutation of all rows; of
    standardised columns, thumbnails or, with space ``logits`` or ``embedding``, the model's logits or what
    its last layer is given. ``label_drift`` and ``prediction_drift``: the largest change of a class's
    share; ``accuracy_change``: accuracy on the reference minus that on the current split (on the model's
    own training data that is a generalisation gap, and a caveat says so). With a column of dates,
    declared here or by the data: ``period_accuracy`` and ``period_drifted_features`` of the current split
    in ``periods`` parts by time.
    """

    needs: ClassVar[Needs] = Needs(model=("decisions",), data=("labels",))
    measures: ClassVar[tuple[str, ...]] = (
        "drifted_features", "feature_drift", *JOINT, "label_drift", "prediction_drift",
        "accuracy_change", "period_accuracy", "period_drifted_features",
    )  # fmt: skip

    reference: str = "train"
    current: str = "test"
    alpha: Annotated[float, Meta(gt=0, lt=1)] = 0.01
    samples: Annotated[int, Meta(ge=100)] = 5000
    permutations: Annotated[int, Meta(ge=20)] = 200
    told: Annotated[int, Meta(ge=1)] = 20
    space: Literal["features", "embedding", "logits"] = "features"
    date: str | None = None
    periods: Annotated[int, Meta(ge=2, le=24)] = 5

    def __post_init__(self) -> None:
        """Refuse a split beside itself."""
        if self.reference == self.current:
            message = (
                f"current: expected another split than the reference, got {self.current!r} twice"
            )
            raise ValueError(message)

    def passes(self, *, n: int, classes: int) -> Cost:
        """Nothing beyond the clean answers, but for an embedding one pass a row (told: the test split's)."""
        del classes
        return Cost(forward=n if self.space == "embedding" else 0, backward=0)

    def missing(
        self, *, model: frozenset[str], data: frozenset[str], train_fn: bool
    ) -> tuple[str, ...]:
        """Also the two splits."""
        found = super().missing(model=model, data=data, train_fn=train_fn)
        gone = [one for one in (self.reference, self.current) if one != "test" and one not in data]
        return (*found, *(f"a split {one!r} of the data" for one in gone))

    def objections(self, facts: Mapping[str, Any], context: Mapping[str, Any]) -> tuple[str, ...]:
        """A column of dates that the table lacks."""
        del context
        known = list(map(str, facts.get("columns", ())))
        if self.date is None or not known or self.date in known:
            return ()
        return (
            f"date: expected a column of the data, got {self.date!r}. {nearest(self.date, known)}",
        )

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Compare the two splits in every way."""
        from dlaudit.data_quality import rows

        answers = [bench.answers(split) for split in (self.reference, self.current)]
        date = self.date or bench.data.card.facts.get("date")
        old, new = rows.read(
            bench, (self.reference, self.current), columns=[date] if date else [],
            embedded=self.space == "embedding",
        )  # fmt: skip
        pair = Pair(old, new, *answers)
        stated: dict[str, Scalar] = {"reference": self.reference, "current": self.current}
        least = min(len(old.id), len(new.id))
        if least < FEWEST:
            reason = f"{least} rows in the smaller split, fewer than {FEWEST}"
            for name in self.measures:
                yield Undefined(name=name, reason=reason, conditions=stated)
            return
        yield from self._features(bench, pair, stated)
        yield from self._joint(bench, pair, stated)
        yield from self._decisions(bench, pair, stated)
        yield from self._periods(pair, date, stated)

    def _features(self, bench: Bench, pair: Pair, stated: dict[str, Scalar]) -> Iterator[Yielded]:
        """Feature by feature."""
        import numpy as np

        from dlaudit.data_quality import pictures, two_samples

        names, m, n = pair.old.names, len(pair.old.id), len(pair.new.id)
        if not names:
            for name in ("drifted_features", "feature_drift"):
                yield Undefined(name=name, reason="the table has no feature", conditions=stated)
            return
        changes = compared(pair.old.values, pair.new.values, pair.old.categorical)
        flags, adjusted = two_samples.flagged(changes, min(m, n), self.alpha)
        detector = f"Kolmogorov-Smirnov or chi-squared, Holm, p < {self.alpha:g}"
        if min(m, n) > two_samples.SMALL:
            detector += (
                f"; Wasserstein in standard deviations or Jensen-Shannon >= {two_samples.SIZE:g}"
            )
        drifted = [name for name, flag in zip(names, flags, strict=True) if flag]
        yield Measurement(
            name="drifted_features", value=len(drifted), n=m + n, direction="lower",
            exact="a count of what the detector flags in these two samples",
            conditions={
                **stated, "detector": detector, "features": len(names), "drifted": ", ".join(drifted[:8])
            },
        )  # fmt: skip
        order = sorted(
            range(len(names)), key=lambda k: (not flags[k], -changes[k].size, -changes[k].distance)
        )
        for k in order[: self.told]:
            yield Measurement(
                name="feature_drift", value=changes[k].distance, n=m + n, direction="lower",
                interval=changes[k].interval, slice={"feature": names[k]},
                conditions={
                    **stated, "holm_p": adjusted[k], "size": changes[k].size, "flagged": flags[k],
                },
            )  # fmt: skip
        columns = {
            "id": np.array([names[k] for k in order]),
            "distance": np.array([changes[k].distance for k in order]),
            "low": np.array([changes[k].interval.low for k in order]),
            "high": np.array([changes[k].interval.high for k in order]),
            "size": np.array([changes[k].size for k in order]),
            "holm_p": np.array([adjusted[k] for k in order]),
            "flagged": np.array([flags[k] for k in order]),
        }
        yield bench.keep_table(
            f"{bench.run}.features", columns, caption="Every feature, those that drifted first."
        )
        bars = [
            pictures.Bar(
                names[k], changes[k].distance, changes[k].interval.low, changes[k].interval.high, flags[k]
            )
            for k in order[: self.told]
        ]  # fmt: skip
        yield bench.keep(
            f"{bench.run}.ranking", pictures.ranking_svg(bars, across="distance of the distributions"),
            media_type="image/svg+xml",
            caption=(
                f"{self.current} beside {self.reference}: how far each feature drifted, with its interval; "
                f"a full dot where the detector ({detector}) flags it."
            ),
            alt=f"{len(drifted)} of {len(names)} features drifted"
            + (f", first {bars[0].name} by {bars[0].value:.3f}." if drifted else "."),
        )  # fmt: skip

    def _joint(self, bench: Bench, pair: Pair, stated: dict[str, Scalar]) -> Iterator[Yielded]:
        """All features together: a learner that tells the splits apart, and kernel means."""
        import numpy as np

        from dlaudit.data_quality import copies, two_samples, via_sklearn
        from dlaudit.data_quality.intervals import folded_auc

        stated = {**stated, "space": self.space}
        scaled = copies.vectors(pair.old, pair.new)
        plain = (pair.old.vector, pair.new.vector)
        reason = None if scaled[0].shape[1] else "no column varies"
        if self.space == "embedding":
            stated["embedding"] = pair.old.space
            if "logits" not in bench.model.offers:
                reason = "the model gives decisions only: it has no embedding"
        if self.space == "logits":
            one, other = pair.answers_old.logits, pair.answers_new.logits
            if one is None or other is None:
                reason = "the model gives decisions only: it has no logits"
            else:
                reason, scaled, plain = None, (one, other), (one, other)
        if reason is not None:
            for name in JOINT:
                yield Undefined(name=name, reason=reason, conditions=stated)
            return
        some = [
            _some(len(x), self.samples, bench.rng(f"classifier {k}")) for k, x in enumerate(plain)
        ]
        x = np.concatenate([part[at] for part, at in zip(plain, some, strict=True)])
        y = np.repeat([0, 1], [len(at) for at in some])
        folded = via_sklearn.chances(x, y, bench.rng("folds"))
        value, interval = folded_auc(folded.chances[:, 1], y, folded.fold)
        p = two_samples.rank_p(
            folded.chances[:, 1], y, folded.fold, bench.rng("ranks"), permutations=self.permutations
        )
        yield Measurement(
            name="classifier_auc", value=value, n=len(y), interval=interval, direction="lower",
            conditions=stated,
        )  # fmt: skip
        yield Measurement(
            name="classifier_p", value=p, n=len(y), exact=P, direction="higher",
            conditions={**stated, "permutations": self.permutations},
        )  # fmt: skip
        most = min(1000, self.samples)
        some = [_some(len(x), most, bench.rng(f"kernel {k}")) for k, x in enumerate(scaled)]
        found = two_samples.kernel_means(
            scaled[0][some[0]],
            scaled[1][some[1]],
            bench.rng("pooled"),
            permutations=self.permutations,
        )
        if found is None:
            reason = "more than half of all pairs of rows are equal: a kernel has no width"
            for name in JOINT[2:]:
                yield Undefined(name=name, reason=reason, conditions=stated)
            return
        size = sum(map(len, some))
        yield Measurement(
            name="mmd_squared", value=found.squared, n=size, exact=SEARCH, direction="lower",
            conditions=stated,
        )  # fmt: skip
        yield Measurement(
            name="mmd_p", value=found.p, n=size, exact=P, direction="higher",
            conditions={**stated, "permutations": self.permutations},
        )  # fmt: skip

    def _decisions(self, bench: Bench, pair: Pair, stated: dict[str, Scalar]) -> Iterator[Yielded]:
        """Labels, decisions and accuracy."""
        import numpy as np

        from dlaudit.data_quality.intervals import largest_change

        old, new = pair.answers_old, pair.answers_new
        for name, one, other in (
            ("label_drift", old.y, new.y),
            ("prediction_drift", old.predicted, new.predicted),
        ):
            kinds = max(len(bench.classes), int(max(one.max(), other.max())) + 1)
            counts = [np.bincount(x, minlength=kinds).tolist() for x in (one, other)]
            value, interval = largest_change(*counts)
            yield Measurement(
                name=name, value=value, n=len(one) + len(other), interval=interval, direction="lower",
                conditions=stated,
            )  # fmt: skip
        right = [int(one.correct.sum()) for one in (old, new)]
        sizes = [len(one.y) for one in (old, new)]
        doubt: tuple[Caveat, ...] = ()
        if self.reference == "train":
            message = (
                "the reference is the training split: what the model learned by heart counts as accuracy "
                "there, so that the change is no cost of drift alone"
            )
            doubt = (Caveat(source=bench.run, name="trained-on", message=message),)
        yield Measurement(
            name="accuracy_change", value=right[0] / sizes[0] - right[1] / sizes[1], n=sum(sizes),
            interval=newcombe(right[0], sizes[0], right[1], sizes[1]), direction="lower",
            conditions=stated, caveats=doubt,
        )  # fmt: skip

    def _periods(
        self, pair: Pair, date: str | None, stated: dict[str, Scalar]
    ) -> Iterator[Yielded]:
        """The current split in parts of equal size by time, each beside the reference."""
        import numpy as np

        from dlaudit.data_quality import identity, two_samples

        names = ("period_accuracy", "period_drifted_features")
        moments = identity.moments(pair.new.columns[date]) if date else None
        reason = None
        if date is None:
            reason = 'no column of dates: date = "…"'
        elif moments is None:
            reason = f"column {date!r} holds cells that are neither dates nor numbers"
        elif len(moments) < FEWEST * self.periods:
            reason = f"{len(moments)} rows, fewer than {FEWEST} for each of {self.periods} periods"
        if reason is not None or moments is None or date is None:
            for name in names:
                yield Undefined(name=name, reason=str(reason), conditions=stated)
            return
        order = np.argsort(moments, kind="stable")
        cells, correct = identity.named(pair.new.columns[date]), pair.answers_new.correct
        for number, part in enumerate(np.array_split(order, self.periods)):
            where = {"period": f"{number + 1}: {cells[part[0]]} to {cells[part[-1]]}"}
            hits = int(correct[part].sum())
            yield Measurement(
                name=names[0], value=hits / len(part), n=len(part), direction="higher", slice=where,
                interval=wilson(hits, len(part), 1 - (1 - LEVEL) / self.periods), conditions=stated,
            )  # fmt: skip
            if not pair.old.names:
                yield Undefined(name=names[1], reason="the table has no feature", slice=where)
                continue
            changes = compared(pair.old.values, pair.new.values[part], pair.old.categorical)
            least = min(len(part), len(pair.old.id))
            flags, _ = two_samples.flagged(changes, least, self.alpha / self.periods)
            yield Measurement(
                name=names[1], value=sum(flags), n=len(part), direction="lower", slice=where,
                exact="a count of what the detector flags in these rows", conditions=stated,
            )  # fmt: skip


def compared(old: np.ndarray, new: np.ndarray, categorical: np.ndarray) -> list[Change]:
    """Every column of two samples; intervals at Bonferroni's level, because the columns are a search."""
    from dlaudit.data_quality import two_samples

    level = 1 - (1 - LEVEL) / old.shape[1]
    return [
        (two_samples.of_categories if is_category else two_samples.of_numbers)(
            old[:, k], new[:, k], level
        )
        for k, is_category in enumerate(categorical)
    ]


def _some(n: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """Sorted places of at most so many of n rows."""
    import numpy as np

    return np.arange(n) if n <= most else np.sort(rng.choice(n, most, replace=False))

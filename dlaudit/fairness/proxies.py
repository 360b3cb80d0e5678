"""Whether a model can know a protected attribute: by other columns that carry it, or by being told.

Knows how well groups are predicted and what a flip changes; refuses to call a column a proxy: it says
how much of the attribute the column carries.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple

from msgspec import Meta

from dlaudit.audit.parts import Yielded
from dlaudit.audit.record import Caveat, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import mcnemar, wilson
from dlaudit.fairness.groups import ByGroup, Counted, Crowd

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Answers, Bench
    from dlaudit.audit.record import Cost
    from dlaudit.fairness.features import Features
    from dlaudit.fairness.tally import Partition

FLIPS = ("flip_rate", "flip_gap")
MATCHES = ("matched_gap", "matched_share", "matched_imbalance")
TOLD = 5
"""Columns told per attribute, the strongest first; all of them stand in no table longer than this."""
FOLDED = 10
"""A group needs so many samples to stand in every fold."""


class Source(NamedTuple):
    """What an attribute is predicted from: ``features`` of a table, or the model's ``logits``."""

    name: str
    columns: tuple[str, ...]
    values: np.ndarray


class Flip(NamedTuple):
    """An attribute that is an input: column ``place`` of x; rows: the samples that are looked at."""

    partition: Partition
    place: int
    rows: np.ndarray


class Proxies(ByGroup, frozen=True, kw_only=True):
    """How well each protected attribute is predicted from the features and from the model's outputs.

    ``attribute_auc`` per group against the rest: 0.5 is not at all, 1 perfectly; cross-validated boosted
    trees, so that every sample is judged by a learner that has not seen it (interval: DeLong, the folds
    taken as given). The attribute itself is left out of the features. ``proxy_importance``: what the
    mean AUC loses if a column is shuffled, the five largest.

    Where the attribute is an input: ``flip_rate`` = share of the others whose decision changes if they
    are given the attribute of a random member of the group, and ``flip_gap`` = how much likelier the
    positive decision becomes (paired).

    ``matched_gap``: each member of the group beside a member of the reference (named, or the largest known
    group) that is alike in all other columns, nearest pairs first and nobody twice: how much likelier the
    positive decision is (paired). ``matched_share`` of the group's members found a pair within ``caliper``
    standard deviations per column; ``matched_imbalance`` is what the most different column still differs.

    samples: at most so many, drawn by the plan's seed; minimum: samples per group, and pairs.
    """

    measures: ClassVar[tuple[str, ...]] = ("attribute_auc", "proxy_importance", *FLIPS, *MATCHES)

    reference: dict[str, str] | None = None
    caliper: Annotated[float, Meta(gt=0)] = 0.25
    samples: Annotated[int, Meta(ge=50)] = 3000
    most_features: Annotated[int, Meta(ge=1)] = 100

    def passes(self, *, n: int, classes: int) -> Cost | None:
        """Unknown: a pass per group and sample, but only of attributes that are inputs."""
        del n, classes
        return None

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Predict every attribute asked for; flip it where it is an input."""
        from dlaudit.fairness import features, tally

        answers = bench.answers(self.split)
        self.remarks(bench, answers)
        tally.known_attributes(self.reference or {}, answers.groups)
        table = features.features_of(bench, self.split, most=self.most_features)
        rows = self._rows(bench, len(answers.y))
        for counted in self.counted(bench, answers):
            if isinstance(counted, Crowd):
                for name in self.measures:
                    yield counted.undefined(name)
                continue
            part = counted.partition
            stated: dict[str, Scalar] = {
                "split": self.split, "attribute": part.attribute, "minimum": self.minimum,
            }  # fmt: skip
            sources = _sources(part, table, answers)
            if not sources:
                reason = (
                    f"no table of at most {self.most_features} features beside {part.attribute}, and no "
                    "logits to predict it from"
                )
                yield Undefined(name="attribute_auc", reason=reason, conditions=stated)
            for source in sources:
                yield from self._predicted(bench, part, source, rows, stated)
            refused = _no_flip(bench, part, table)
            if refused is None and table is not None:
                flip = Flip(part, table.names.index(part.attribute), rows)
                yield from self._flipped(bench, answers, flip, stated)
            else:
                for name in FLIPS:
                    yield Undefined(name=name, reason=str(refused), conditions=stated)
            yield from self._matched(bench, answers, counted, table, rows)
        yield self.evidence(bench)

    def _matched(
        self,
        bench: Bench,
        answers: Answers,
        counted: Counted,
        table: Features | None,
        rows: np.ndarray,
    ) -> Iterator[Yielded]:
        """What decisions are where only the group differs, as far as the columns tell."""
        import numpy as np

        from dlaudit.fairness import matching, tally

        part, positive = counted.partition, self.positive_class(bench.classes)
        reference = tally.reference(
            part, [one.n for one in counted.tallies], self.reference or {}
        )  # fmt: skip
        stated: dict[str, Scalar] = {
            "split": self.split, "attribute": part.attribute, "minimum": self.minimum,
            "reference": part.named(reference), "caliper": self.caliper,
        }  # fmt: skip
        own = set(part.slices[0])
        kept = [] if table is None else [i for i, name in enumerate(table.names) if name not in own]
        reason = self.no_positive(bench.classes) if positive is None else None
        if table is None or not kept:
            reason = f"no table of at most {self.most_features} features beside {part.attribute}"
        if reason is not None or table is None:
            for name in MATCHES:
                yield Undefined(name=name, reason=str(reason), conditions=stated)
            return
        names = [table.names[i] for i in kept]
        categories = np.array([name in table.codes for name in names])
        columns = matching.scaled(table.values[rows][:, kept], categories)
        if not columns.shape[1]:
            for name in MATCHES:
                reason = f"every column beside {part.attribute} is constant: nothing to be alike in"
                yield Undefined(name=name, reason=reason, conditions=stated)
            return
        codes, selected = part.codes[rows], answers.predicted[rows] == positive
        partners = np.flatnonzero(codes == reference)
        for group, where in enumerate(part.slices):
            if group == reference:
                continue
            members = np.flatnonzero(codes == group)
            small = f"{len(members)} and {len(partners)} samples looked at"
            pairs = None
            if min(len(members), len(partners)) >= self.minimum:
                pairs = matching.matched(columns, members, partners, self.caliper)
                small = f"{len(pairs.members)} pairs that are alike"
            if pairs is None or len(pairs.members) < self.minimum:
                reason = f"{small}, fewer than the minimum of {self.minimum}"
                for name in MATCHES:
                    yield Undefined(name=name, reason=reason, slice=where, conditions=stated)
                continue
            one, other = selected[pairs.members], selected[pairs.partners]
            n = len(one)
            found = mcnemar(int((one & ~other).sum()), int((other & ~one).sum()), n)
            rest = float(np.abs(pairs.imbalance).max(initial=0.0))
            yield Measurement(
                name="matched_gap", value=found.difference, interval=found.interval, n=n, slice=where,
                conditions={**stated, "positive": bench.classes[int(positive or 0)]},
                caveats=_unbalanced(bench.run, rest, matching.BALANCED),
            )  # fmt: skip
            yield Measurement(
                name="matched_share", value=n / len(members), n=len(members), slice=where,
                exact="a share of the members that were looked at", conditions=stated,
            )  # fmt: skip
            yield Measurement(
                name="matched_imbalance", value=rest, n=n, slice=where, direction="lower",
                exact="a mean over these very pairs", unit="standard deviations", conditions=stated,
            )  # fmt: skip

    def _rows(self, bench: Bench, n: int) -> np.ndarray:
        """Sorted positions of the samples that are looked at."""
        import numpy as np

        if n <= self.samples:
            return np.arange(n)
        return np.sort(bench.rng("samples").choice(n, size=self.samples, replace=False))

    def _predicted(
        self,
        bench: Bench,
        part: Partition,
        source: Source,
        rows: np.ndarray,
        stated: dict[str, Scalar],
    ) -> Iterator[Yielded]:
        """The AUC of every group, and the columns that carry it."""
        import numpy as np

        from dlaudit.fairness import scoring, via_sklearn

        conditions: dict[str, Scalar] = {**stated, "from": source.name, "folds": via_sklearn.FOLDS}
        counts = np.bincount(part.codes[rows], minlength=len(part.slices))
        usable = np.flatnonzero(counts >= max(self.minimum, FOLDED))
        for group in range(len(part.slices)):
            reason = None
            if group not in usable:
                needed = max(self.minimum, FOLDED)
                reason = f"{counts[group]} samples looked at, fewer than the minimum of {needed}"
            elif len(usable) < 2:
                reason = "one group: nothing to tell it from"
            if reason is not None:
                yield Undefined(
                    name="attribute_auc", reason=reason, slice=part.slices[group], conditions=conditions
                )  # fmt: skip
        if len(usable) < 2:
            return
        kept = rows[np.isin(part.codes[rows], usable)]
        codes = np.searchsorted(usable, part.codes[kept])
        rng = bench.rng(f"{part.attribute}/{source.name}")
        found = via_sklearn.predict(source.values[kept], codes, rng)
        for position, group in enumerate(usable.tolist()):
            one = scoring.auc(found.chances[:, position], (codes == position).astype(int))
            yield Measurement(
                name="attribute_auc", value=one.value, interval=one.interval, n=one.n,
                slice=part.slices[group], conditions=conditions,
            )  # fmt: skip
        for column in np.argsort(-found.importance, kind="stable")[:TOLD].tolist():
            yield Measurement(
                name="proxy_importance", value=float(found.importance[column]), n=len(kept),
                slice={"feature": source.columns[column]}, conditions=conditions,
                exact="a loss of AUC under seeded shuffles of these very samples",
            )  # fmt: skip

    def _flipped(
        self, bench: Bench, answers: Answers, flip: Flip, stated: dict[str, Scalar]
    ) -> Iterator[Yielded]:
        """What decisions become if the attribute alone is another."""
        import numpy as np

        part = flip.partition
        positive = self.positive_class(bench.classes)
        for group, where in enumerate(part.slices):
            members = np.flatnonzero(part.codes == group)
            others = flip.rows[part.codes[flip.rows] != group]
            if min(len(members), len(others)) < self.minimum:
                small = min(len(members), len(others))
                for name in FLIPS:
                    yield Undefined(
                        name=name, reason=f"{small} samples, fewer than the minimum of {self.minimum}",
                        slice=where, conditions=stated,
                    )  # fmt: skip
                continue
            donors = bench.rng(f"donors/{part.named(group)}").choice(members, size=len(others))
            changed = _redecided(bench, self.split, flip._replace(rows=others), donors)
            before = answers.predicted[others]
            flipped = int((changed != before).sum())
            yield Measurement(
                name="flip_rate", value=flipped / len(others), n=len(others), slice=where,
                interval=wilson(flipped, len(others)), direction="lower", conditions=stated,
            )  # fmt: skip
            if positive is None:
                yield Undefined(
                    name="flip_gap", reason=self.no_positive(bench.classes), slice=where,
                    conditions=stated,
                )  # fmt: skip
                continue
            now, then = changed == positive, before == positive
            paired = mcnemar(int((now & ~then).sum()), int((then & ~now).sum()), len(others))
            yield Measurement(
                name="flip_gap", value=paired.difference, interval=paired.interval, n=len(others),
                slice=where, conditions={**stated, "positive": bench.classes[positive]},
            )  # fmt: skip


def _unbalanced(run: str, rest: float, limit: float) -> tuple[Caveat, ...]:
    """A doubt where the pairs still differ in some column."""
    if rest <= limit:
        return ()
    message = (
        f"pairs still differ by {rest:.2f} standard deviations in some column (more than {limit}, "
        "Austin 2011): a part of the gap may be that column's"
    )
    return (Caveat(source=run, name="unbalanced-pairs", message=message),)


def _sources(part: Partition, table: Features | None, answers: Answers) -> list[Source]:
    """What the attribute can be predicted from; its own column is not among it."""
    found = []
    attributes = set(part.slices[0])
    if table is not None:
        kept = [i for i, name in enumerate(table.names) if name not in attributes]
        if kept:
            names = tuple(table.names[i] for i in kept)
            found.append(Source("features", names, table.values[:, kept]))
    if answers.logits is not None:
        names = tuple(f"logit {i}" for i in range(answers.logits.shape[1]))
        found.append(Source("logits", names, answers.logits))
    return found


def _no_flip(bench: Bench, part: Partition, table: Features | None) -> str | None:
    """Why the attribute cannot be flipped, None where it can."""
    if part.is_intersection:
        return "an intersection: flip its attributes one by one"
    if table is None or part.attribute not in table.names:
        return f"{part.attribute} is not among the model's inputs"
    if "logits" not in bench.model.offers:
        return "the decisions are recorded: nobody can be asked again"
    return None


def _redecided(bench: Bench, split: str, flip: Flip, donors: np.ndarray) -> np.ndarray:
    """The decisions on the flip's rows if each has the attribute's value of its donor."""
    import numpy as np

    batches = list(bench.data.batches(split))
    x = np.concatenate([np.asarray(batch.x) for batch in batches])
    stored = {
        name: np.concatenate([np.asarray(batch.columns[name]) for batch in batches])
        for name in batches[0].columns
    }
    rows, attribute = flip.rows, flip.partition.attribute
    changed = x[rows].copy()
    changed[:, flip.place] = x[donors, flip.place]
    columns = {name: column[rows] for name, column in stored.items()}
    if attribute in columns:
        columns[attribute] = stored[attribute][donors]
    first = batches[0]
    batch = first._replace(
        x=changed, columns=columns, mask=None,
        y=np.concatenate([np.asarray(one.y) for one in batches])[rows],
        id=np.concatenate([np.asarray(one.id) for one in batches])[rows],
        groups={
            name: np.concatenate([one.groups[name] for one in batches])[rows] for name in first.groups
        },
    )  # fmt: skip
    return np.asarray(bench.model.decide(batch).predicted)

"""Rates of every declared group, each with its interval and its own denominator.

Knows how groups are asked for and how their rates are told; refuses thresholds, and refuses to drop
a group that is too small, empty or unknown: it is listed as undefined, with its count.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

from msgspec import Meta

from dlaudit.audit.parts import Check, Needs, Yielded
from dlaudit.audit.record import Artifact, Caveat, Cost, Measurement, Scalar, Undefined, canonical
from dlaudit.audit.statistics import wilson
from dlaudit.errors import PlanError, UnknownName
from dlaudit.fairness.rates import POWER, RATES, Proportion, Rate, Tally, detectable

if TYPE_CHECKING:
    from dlaudit.audit.bench import Answers, Bench
    from dlaudit.fairness.tally import Cells, Partition


BALANCED = "balanced_accuracy"
OF_A_CLASS = ("application/json", "image/svg+xml")
"""Artifacts that differ from class to class; the evidence per sample does not."""
DRAWN = ("selection_rate", "true_positive_rate", "false_positive_rate", "accuracy")
"""The rates that stand side by side in the picture of an attribute."""


class Counted(NamedTuple):
    """One way of dividing the samples, counted: a tally per group of ``partition``."""

    partition: Partition
    table: Cells
    tallies: list[Tally]


class Crowd(NamedTuple):
    """An attribute with so many different values that they are no groups."""

    attribute: str
    groups: int

    def undefined(self, name: str) -> Undefined:
        """Why nothing is measured, and what to do."""
        reason = (
            f"{self.attribute} has {self.groups} different values: declare bins or categories for "
            "it in the data's args, or raise most_groups"
        )
        return Undefined(name=name, reason=reason, conditions={"attribute": self.attribute})


class ByGroup(Check, frozen=True, kw_only=True):
    """What every check of groups asks for, and the counting that they share.

    attributes: names, or names with the groups to expect (``{ race = ["A", "B"] }``: one that has
    no sample is listed); None for all that the data declare. intersections: true for every two
    attributes, or a list such as ``[["race", "sex"]]``. minimum: how many samples a rate needs in
    its denominator, else it is undefined. positive: the class that counts as selected, by name or
    index; of two classes the second. most_groups: attributes with more values are not groups.
    special_categories: attributes that are special categories of personal data, refused unless the
    plan's context declares a ``special_category_basis``; None for those that are called like one.
    """

    needs: ClassVar[Needs] = Needs(model=("decisions",), data=("labels", "groups"))
    compares_rates: ClassVar[bool] = False

    attributes: list[str] | dict[str, list[str]] | None = None
    intersections: bool | list[list[str]] = False
    minimum: Annotated[int, Meta(ge=1)] = 30
    positive: int | str | None = None
    split: str = "test"
    most_groups: Annotated[int, Meta(ge=2)] = 50
    special_categories: list[str] | None = None

    def passes(self, *, n: int, classes: int) -> Cost | None:
        """Nothing beyond the clean answers."""
        del n, classes
        return Cost(forward=0, backward=0)

    def foreseen(self, facts: Mapping[str, Any]) -> tuple[str, ...]:
        """The smallest gap between each group and its reference that so many samples can show."""
        reference = getattr(self, "reference", None)
        if not self.compares_rates:
            return ()
        named = reference if isinstance(reference, dict) else {}
        declared = facts.get("groups")
        counts = declared if isinstance(declared, dict) else {}
        lines = []
        for attribute, groups in counts.items():
            if self.attributes is not None and attribute not in self.attributes:
                continue
            if not 1 < len(groups) <= self.most_groups:
                continue
            known = [name for name in groups if name != "unknown"] or list(groups)
            against = named.get(attribute, max(known, key=groups.__getitem__))
            if against not in groups:
                continue
            others = [
                f"{name} {_gap(groups[name], groups[against], self.minimum)} (n = {groups[name]})"
                for name in groups
                if name != against
            ]
            lines.append(
                f"{attribute}: smallest gap from {against} (n = {groups[against]}) seen in "
                f"{POWER:.0%} of audits, rates near 0.5 over all samples: {', '.join(others)}"
            )
        return tuple(lines)

    def objections(self, facts: Mapping[str, Any], context: Mapping[str, Any]) -> tuple[str, ...]:
        """Attributes of special categories without a declared basis, and names that do not exist."""
        from dlaudit.fairness import basis

        declared = facts.get("groups")
        known = list(declared) if isinstance(declared, dict) else []
        return (
            *_no_attribute(self.special_categories or (), known),
            *basis.problems(self.special_categories, context, self.looked_at(known)),
        )

    def looked_at(self, known: Iterable[str]) -> list[str]:
        """The attributes that are looked at, of those that the data declare."""
        return [name for name in known if self.attributes is None or name in self.attributes]

    def positive_class(self, classes: tuple[str, ...]) -> int | None:
        """The index of the class that counts as selected; None where several could be.

        Raises UnknownName for a name that is no class, PlanError for an index that is none.
        """
        match self.positive:
            case None:
                return 1 if len(classes) == 2 else None
            case str() as name:
                if name not in classes:
                    raise UnknownName(name, "class", classes)
                return classes.index(name)
            case index:
                if not 0 <= index < len(classes):
                    message = f"positive: expected a class index below {len(classes)}, got {index}"
                    raise PlanError(message)
                return index

    def conditions(self, classes: tuple[str, ...], rate: str) -> dict[str, Scalar]:
        """The protocol of a rate, as it stands beside every number."""
        stated: dict[str, Scalar] = {"minimum": self.minimum, "split": self.split}
        positive = self.positive_class(classes)
        if RATES[rate].needs_positive and positive is not None:
            stated["positive"] = classes[positive]
        return stated

    def counted(self, bench: Bench, answers: Answers) -> Iterator[Counted | Crowd]:
        """Every attribute, then every intersection, divided and counted."""
        from dlaudit.fairness import tally

        self.remarks(bench, answers)
        positive = self.positive_class(bench.classes)
        decided = tally.joint(answers.y, answers.predicted, classes=len(bench.classes) or None)
        parts: dict[str, Partition] = {}
        for attribute, expected in tally.chosen(answers.groups, self.attributes).items():
            known = {*expected, *_declared_by(bench.data.card.facts, attribute)}
            part = tally.single(attribute, answers.groups[attribute], known)
            if len(part.slices) > self.most_groups:
                yield Crowd(attribute, len(part.slices))
            else:
                parts[attribute] = part
        for part in (*parts.values(), *tally.intersected(parts, self.intersections or ())):
            table = tally.cells(part.codes, decided)
            tallies = tally.tallies(table, len(part.slices), positive=positive)
            yield Counted(part, table, tallies)

    def no_positive(self, classes: tuple[str, ...]) -> str:
        """Why there is no rate of a positive class, and what to write into the plan."""
        shown = classes[-1] if classes else "…"
        every = " (or one_vs_rest = true for every class in turn)" * hasattr(self, "one_vs_rest")
        return (
            f"{len(classes)} classes and none of them named as the positive one: set the parameter "
            f'positive, for example positive = "{shown}"{every}; rates of being right need none'
        )

    def remarks(self, bench: Bench, answers: Answers) -> dict[str, Caveat]:
        """What stands beside the counts of special categories. Raises PlanError without a basis."""
        from dlaudit.fairness import basis

        if wrong := list(_no_attribute(self.special_categories or (), answers.groups)):
            raise PlanError(*wrong)
        return basis.checked(self.special_categories, bench.context, self.looked_at(answers.groups))

    def why_undefined(self, rate: Rate, found: Proportion, classes: tuple[str, ...]) -> str | None:
        """Why a group's rate is not a number here, None where it is one."""
        if rate.needs_positive and self.positive_class(classes) is None:
            return self.no_positive(classes)
        if found.n < self.minimum:
            return f"{found.n} {rate.denominator}, fewer than the minimum of {self.minimum}"
        return None

    def evidence(self, bench: Bench) -> Artifact:
        """Every sample's label, decision and groups: the clean answers, which are stored already."""
        from msgspec.structs import replace

        caption = f"Label, decision and groups of each sample of the {self.split} split."
        stored = bench.answered[self.split].artifact
        return replace(stored, name=f"{bench.run}.samples", caption=caption)


class EachClass(ByGroup, frozen=True, kw_only=True):
    """A check of groups that can take every class in turn as the positive one (``one_vs_rest``)."""

    one_vs_rest: bool = False

    def each_class(self, bench: Bench) -> Iterator[Yielded]:
        """What the check measures with every class in turn as the positive one.

        Numbers that need no positive class, and the evidence per sample, are told once. Raises
        PlanError where a positive class is named as well.
        """
        from msgspec.structs import replace

        if self.positive is not None:
            message = (
                "one_vs_rest takes every class as positive: expected no parameter positive, got "
                f"{self.positive!r}"
            )
            raise PlanError(message)
        for index in range(len(bench.classes)):
            for one in replace(self, positive=index, one_vs_rest=False).measure(bench):
                if isinstance(one, Artifact):
                    told = index == 0 or one.media_type in OF_A_CLASS
                else:
                    told = index == 0 or "positive" in one.conditions
                if told:
                    yield one


def _no_attribute(names: Iterable[str], known: Iterable[str]) -> Iterator[str]:
    """A problem for each attribute that the data do not declare."""
    for name in names:
        if name not in known:
            yield f"special_categories: {UnknownName(name, 'group attribute', known)}"


def _gap(n: int, reference: int, minimum: int) -> str:
    """The smallest gap that can be seen, in words."""
    if min(n, reference) < minimum:
        return f"none, fewer than the minimum of {minimum}"
    return f"{detectable(n, reference):.3f}"


def _declared_by(facts: dict[str, Any], attribute: str) -> set[str]:
    """The groups that the data set's card names, so that one without a sample here is listed."""
    groups = facts.get("groups", {})
    return set(groups.get(attribute, ())) if isinstance(groups, dict) else set()


class Groups(EachClass, frozen=True, kw_only=True):
    """Selection rate, error rates, precision and accuracy of each group, with Wilson intervals.

    Point values by fairlearn (``via_fairlearn``), of intersections the same ratios of counts; intervals
    from the counts (Wilson 1927), n is the rate's own denominator. A rate whose denominator is below
    ``minimum`` is undefined, with the count. ``balanced_accuracy`` is the mean of the true positive and
    the true negative rate. ``group_size`` counts every group, also those that are unknown or empty.

    cluster: a column or attribute that says which rows belong together (one person, one day); intervals
    are then those of clusters.
    """

    measures: ClassVar[tuple[str, ...]] = (*RATES, BALANCED, "group_size")

    cluster: str | None = None

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Measure every group of every attribute and intersection asked for."""
        if self.one_vs_rest:
            yield from self.each_class(bench)
            return
        from dlaudit.fairness import drawing

        answers = bench.answers(self.split)
        counts: list[dict[str, Any]] = []
        for counted in self.counted(bench, answers):
            if isinstance(counted, Crowd):
                for name in self.measures:
                    yield counted.undefined(name)
                continue
            told = list(self._rates(counted, bench.classes, self.remarks(bench, answers)))
            if self.cluster is not None:
                told = list(self._clustered(bench, answers, counted, told))
            yield from told
            yield from drawing.forest(
                bench, counted.partition, told, self._everybody(counted), line="everybody's rate"
            )
            for where, tally in zip(counted.partition.slices, counted.tallies, strict=True):
                counts.append({"slice": where, **tally._asdict()})
        yield self.evidence(bench)
        yield bench.keep(
            f"{bench.run}.counts",
            canonical({"positive": self.positive_class(bench.classes), "groups": counts}),
            media_type="application/json",
            caption="Confusion counts of each group: what every rate is computed from.",
        )

    @staticmethod
    def _everybody(counted: Counted) -> dict[str, float | None]:
        """The drawn rates over all samples, None where a denominator is 0."""
        everybody = Tally(*map(sum, zip(*counted.tallies, strict=True)))
        found = {name: RATES[name].of(everybody) for name in DRAWN}
        return {name: one.value if one.n else None for name, one in found.items()}

    def _rates(
        self, counted: Counted, classes: tuple[str, ...], remarks: dict[str, Caveat]
    ) -> Iterator[Yielded]:
        """The rates of the groups of one partition."""
        from dlaudit.fairness import via_fairlearn

        points: dict[str, list[float | None]] = {}
        if not counted.partition.is_intersection:
            points = via_fairlearn.rates(
                counted.table, counted.tallies, positive=self.positive_class(classes)
            )
        for group, (where, tally) in enumerate(
            zip(counted.partition.slices, counted.tallies, strict=True)
        ):
            yield Measurement(
                name="group_size", value=tally.n, n=tally.n, exact="a count", slice=where,
                conditions={"split": self.split}, unit="samples",
                caveats=tuple(remarks[name] for name in where if name in remarks),
            )  # fmt: skip
            for name, rate in RATES.items():
                found, conditions = rate.of(tally), self.conditions(classes, name)
                if reason := self.why_undefined(rate, found, classes):
                    yield Undefined(name=name, reason=reason, slice=where, conditions=conditions)
                    continue
                # Hundreds of intersections are hundreds of calls into fairlearn for the same ratio.
                value = points[name][group] if points else found.value
                assert value is not None  # noqa: S101  (only a denominator of 0 has none)
                yield Measurement(
                    name=name, value=value, n=found.n, slice=where, conditions=conditions,
                    interval=wilson(found.successes, found.n), direction=rate.better,
                )  # fmt: skip
            yield self._balanced(where, tally, classes)

    def _clustered(
        self, bench: Bench, answers: Answers, counted: Counted, told: list[Yielded]
    ) -> Iterator[Yielded]:
        """The same rates with the intervals of clusters; what has none says why."""
        from msgspec.structs import replace

        from dlaudit.fairness import clustered, gaps

        clusters = clustered.cluster_codes(bench, answers, str(self.cluster), self.split)
        members = clustered.fields(answers, self.positive_class(bench.classes))
        groups = len(counted.tallies)
        for one in told:
            if not isinstance(one, Measurement) or one.interval is None:
                yield one
                continue
            conditions = {**one.conditions, "cluster": str(self.cluster)}
            found: gaps.Gap | gaps.NoGap = gaps.NoGap(
                "of clustered rows: see the true positive and the false positive rate"
            )
            if one.name in RATES:
                codes, rate = counted.partition.codes, RATES[one.name]
                sums = clustered.clustered(codes, groups, clusters, rate, members)
                found = sums.rate(counted.partition.slices.index(one.slice))
            if isinstance(found, gaps.NoGap):
                yield Undefined(
                    name=one.name, reason=found.reason, slice=one.slice, conditions=conditions
                )
            else:
                yield replace(one, interval=found.interval, conditions=conditions)

    def _balanced(
        self, where: dict[str, str], tally: Tally, classes: tuple[str, ...]
    ) -> Measurement | Undefined:
        """The mean of the true positive and the true negative rate of one group."""
        from dlaudit.fairness import gaps

        sensitive, specific = RATES["true_positive_rate"], RATES["false_positive_rate"]
        rates = sensitive.of(tally), specific.of(tally)
        conditions = self.conditions(classes, "true_positive_rate")
        reasons = [
            self.why_undefined(rate, found, classes)
            for rate, found in zip((sensitive, specific), rates, strict=True)
        ]
        if reason := next((one for one in reasons if one), None):
            return Undefined(name=BALANCED, reason=reason, slice=where, conditions=conditions)
        found = gaps.mean_of_two(rates[0], Proportion(tally.tn, tally.tn + tally.fp))
        return Measurement(
            name=BALANCED, value=found.value, n=found.n, slice=where, conditions=conditions,
            interval=found.interval, direction="higher",
        )  # fmt: skip

"""How far apart the groups' rates are: differences, ratios, and the widest gap of an attribute.

Knows the reference group and what it is compared with; refuses thresholds, and refuses to let a
group that is too small vanish from a comparison unsaid.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from dlaudit.audit.parts import Yielded
from dlaudit.audit.record import Caveat, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import LEVEL, wilson
from dlaudit.errors import PlanError
from dlaudit.fairness.groups import Counted, Crowd, EachClass
from dlaudit.fairness.rates import RATES, Proportion

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Answers, Bench
    from dlaudit.fairness.clustered import Clustered
    from dlaudit.fairness.gaps import Gap, NoGap
    from dlaudit.fairness.tally import Partition

BEST = "best"
EQUALIZED_ODDS = "equalized_odds_spread"
BALANCED_DIFFERENCE = "balanced_accuracy_difference"
WHATS = ("difference", "ratio", "spread", "spread_p", "worst_ratio", "worst")
ODDS = ("true_positive_rate", "false_positive_rate")
DRAWN = {
    f"{name}_difference": 0.0
    for name in ("selection_rate", *ODDS, "precision", "accuracy")
}  # fmt: skip
"""The differences that stand side by side in the picture of an attribute, and their line."""


class Row(NamedTuple):
    """One rate over the groups of a partition: each group's proportion, and why it may not be used.

    proportions, reasons: one entry per group; a reason is None where the rate is estimable.
    """

    name: str
    partition: Partition
    proportions: list[Proportion]
    reasons: list[str | None]
    conditions: dict[str, Scalar]
    sums: Clustered | None = None

    @property
    def estimable(self) -> list[int]:
        """The groups whose rate is a number here."""
        return [group for group, reason in enumerate(self.reasons) if reason is None]


class Chance(NamedTuple):
    """The p of a spread, adjusted (Holm 1979) if ``tests`` of them are one search."""

    p: float
    tests: int


class Disparity(EachClass, frozen=True, kw_only=True):
    """Differences and ratios of rates between groups, and the widest gap of each attribute.

    ``<rate>_difference`` = group - reference (Newcombe), ``<rate>_ratio`` = group / reference
    (Katz), for every group but the reference. reference: ``{ race = "Caucasian" }``; an attribute
    that is not named there is compared with its largest known group, which depends on no decision.
    ``"best"`` compares with the known group of the highest rate (the lowest of error rates), as New
    York City's Local Law 144 asks; the intervals then cover that the data chose it.

    ``<rate>_spread`` = largest - smallest and ``<rate>_worst_ratio`` = smallest / largest over the
    groups of an attribute, with intervals that can reach 0 and 1, and ``<rate>_spread_p``, the p of
    2,000 permutations. ``<rate>_worst`` is the rate of the group that is worst off (the lowest; of error
    rates the highest), at Bonferroni's level, since the data choose it. ``equalized_odds_spread`` is the
    larger of the spreads of the true and of the false positive rate; ``balanced_accuracy_difference`` is
    told per group. Groups of an intersection are a search: the level of their differences and ratios is
    Bonferroni's; p-values over several intersections are Holm's. Every group that is too small to
    compare is listed.

    cluster: a column or attribute that says which rows belong together (one person, one day); intervals
    are then those of clusters, and a permutation of rows has no p.
    """

    compares_rates: ClassVar[bool] = True
    measures: ClassVar[tuple[str, ...]] = (
        *(f"{rate}_{what}" for rate in RATES for what in WHATS),
        EQUALIZED_ODDS,
        BALANCED_DIFFERENCE,
    )

    reference: dict[str, str] | Literal["best"] | None = None
    cluster: str | None = None

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Compare the groups of every attribute and intersection asked for."""
        from dlaudit.fairness import drawing, tally

        if self.one_vs_rest:
            yield from self.each_class(bench)
            return

        answers = bench.answers(self.split)
        if isinstance(self.reference, dict):
            tally.known_attributes(self.reference, answers.groups)
        clusters, members = self._clusters(bench, answers)
        rows: list[Row] = []
        for counted in self.counted(bench, answers):
            if isinstance(counted, Crowd):
                for name in self.measures:
                    yield counted.undefined(name)
                continue
            reference = self._reference(counted)
            found = list(self._rows(counted, bench.classes))
            if clusters is not None:
                found = [self._clustered(row, clusters, members) for row in found]
            told = [one for row in found for one in self._per_group(row, reference)]
            yield from told
            against = "no difference from the best group"
            if reference is not None:
                against = f"no difference from {counted.partition.named(reference)}"
            yield from drawing.forest(bench, counted.partition, told, DRAWN, line=against)
            by_name = {row.name: row for row in found}
            yield from self._balanced(by_name, reference)
            yield self._odds(by_name, bench)
            rows += found
        chances = self._chances(rows, bench)
        for place, row in enumerate(rows):
            yield from self._overall(row, bench, chances.get(place))
        yield self.evidence(bench)

    def _clusters(
        self, bench: Bench, answers: Answers
    ) -> tuple[np.ndarray | None, dict[str, np.ndarray]]:
        """Each sample's cluster, and what it counts for. Raises PlanError where the best is asked for."""
        from dlaudit.fairness import clustered

        if self.cluster is None:
            return None, {}
        if self.reference == BEST:
            message = (
                'cluster: expected a named reference or the largest group, got reference = "best"'
            )
            raise PlanError(message)
        codes = clustered.cluster_codes(bench, answers, self.cluster, self.split)
        return codes, clustered.fields(answers, self.positive_class(bench.classes))

    def _clustered(self, row: Row, clusters: np.ndarray, members: dict[str, np.ndarray]) -> Row:
        """The same row with its counts by cluster."""
        from dlaudit.fairness import clustered

        groups = len(row.proportions)
        sums = clustered.clustered(row.partition.codes, groups, clusters, RATES[row.name], members)
        conditions = {**row.conditions, "cluster": str(self.cluster)}
        return row._replace(sums=sums, conditions=conditions)

    def _reference(self, counted: Counted) -> int | None:
        """The group to compare with, chosen by name and size alone; None for the best."""
        from dlaudit.fairness import tally

        if self.reference == BEST:
            return None
        named = self.reference if isinstance(self.reference, dict) else {}
        return tally.reference(counted.partition, [one.n for one in counted.tallies], named)

    def _rows(self, counted: Counted, classes: tuple[str, ...]) -> Iterator[Row]:
        """Every rate over the groups of one partition."""
        for name, rate in RATES.items():
            proportions = [rate.of(tally) for tally in counted.tallies]
            reasons = [self.why_undefined(rate, found, classes) for found in proportions]
            conditions = self.conditions(classes, name)
            yield Row(name, counted.partition, proportions, reasons, conditions)

    def _per_group(self, row: Row, reference: int | None) -> Iterator[Yielded]:
        """Each group against the reference, or against the best."""
        conditions = {
            **row.conditions,
            "reference": BEST if reference is None else row.partition.named(reference),
        }
        compared = [group for group in range(len(row.proportions)) if group != reference]
        level = LEVEL
        if row.partition.is_intersection:
            searched = [group for group in compared if row.reasons[group] is None]
            level = 1 - (1 - LEVEL) / max(1, len(searched))
        if not compared:
            yield from _undefined(
                row, ("difference", "ratio"), "one group: nothing to compare", conditions
            )
        for group in compared:
            for what, gap in self._compared(row, group, reference, level):
                name, where = f"{row.name}_{what}", row.partition.slices[group]
                if isinstance(gap, str):
                    yield Undefined(name=name, reason=gap, slice=where, conditions=conditions)
                else:
                    yield Measurement(
                        name=name, value=gap.value, interval=gap.interval, n=gap.n, slice=where,
                        conditions=conditions,
                    )  # fmt: skip

    def _compared(
        self, row: Row, group: int, reference: int | None, level: float
    ) -> Iterator[tuple[str, Gap | str]]:
        """One group's difference and ratio, or the reason why there is none."""
        from dlaudit.fairness import gaps

        reason = row.reasons[group]
        if reason is None and reference is not None and (why := row.reasons[reference]):
            reason = f"the reference {row.partition.named(reference)} is not estimable: {why}"
        rivals = [
            rival for rival in row.estimable if rival != group and row.partition.is_known(rival)
        ]
        if reason is None and reference is None and not rivals:
            reason = "no other known group is estimable, so that none can be the best"
        if reason is not None:
            yield "difference", reason
            yield "ratio", reason
            return
        one = row.proportions[group]
        results: tuple[Gap | NoGap, Gap | NoGap]
        if reference is None:
            end: Literal["highest", "lowest"] = (
                "lowest" if RATES[row.name].better == "lower" else "highest"
            )
            best = gaps.Best([row.proportions[rival] for rival in rivals], end)
            can = row.partition.is_known(group)
            results = (
                gaps.difference_to_best(one, best, is_candidate=can, level=level),
                gaps.ratio_to_best(one, best, is_candidate=can, level=level),
            )
        else:
            other = row.proportions[reference]
            results = gaps.difference(one, other, level), gaps.ratio(one, other, level)
            if row.sums is not None:
                results = (
                    row.sums.difference(group, reference, level),
                    row.sums.ratio(group, reference, level),
                )
        yield "difference", results[0].reason if isinstance(results[0], gaps.NoGap) else results[0]
        yield "ratio", results[1].reason if isinstance(results[1], gaps.NoGap) else results[1]

    def _chances(self, rows: list[Row], bench: Bench) -> dict[int, Chance]:
        """The p of each row that compares groups, by its place; intersections share one search."""
        from dlaudit.audit.statistics import holm
        from dlaudit.fairness import gaps

        found = {}
        for place, row in enumerate(rows):
            usable = [row.proportions[group] for group in row.estimable]
            if len(usable) > 1 and row.sums is None:
                rng = bench.rng(f"permutation/{row.partition.attribute}/{row.name}")
                found[place] = Chance(gaps.permutation_p(usable, rng), 1)
        for name in RATES:
            search = [
                place for place in found
                if rows[place].name == name and rows[place].partition.is_intersection
            ]  # fmt: skip
            adjusted = holm([found[place].p for place in search])
            for place, p in zip(search, adjusted, strict=True):
                found[place] = Chance(p, len(search))
        return found

    def _odds(self, rows: dict[str, Row], bench: Bench) -> Measurement | Undefined:
        """The larger of the widest gaps of the true and the false positive rate."""
        from dlaudit.fairness import gaps

        pair = [rows[name] for name in ODDS]
        conditions = {**pair[0].conditions, "attribute": pair[0].partition.attribute}
        usable = [[row.proportions[group] for group in row.estimable] for row in pair]
        if min(map(len, usable)) < 2:
            reason = next(
                f"{row.name}: fewer than two groups to compare. {_left_out(row)}".strip()
                for row in pair if len(row.estimable) < 2
            )  # fmt: skip
            return Undefined(name=EQUALIZED_ODDS, reason=reason, conditions=conditions)
        if pair[0].sums is not None:
            reason = "of clustered rows: see the spreads of both rates"
            return Undefined(name=EQUALIZED_ODDS, reason=reason, conditions=conditions)
        one, other = (gaps.spread(groups) for groups in usable)
        strict = 1 - (1 - LEVEL) / 2
        stricter = gaps.spread(usable[0], strict), gaps.spread(usable[1], strict)
        found = gaps.larger(one, other, stricter)
        caveats = tuple(dict.fromkeys(doubt for row in pair for doubt in self._caveats(row, bench)))
        return Measurement(
            name=EQUALIZED_ODDS, value=found.value, interval=found.interval, n=found.n,
            direction="lower", conditions=conditions, caveats=caveats,
        )  # fmt: skip

    def _overall(self, row: Row, bench: Bench, chance: Chance | None) -> Iterator[Yielded]:
        """The widest gap over the groups of the attribute."""
        from dlaudit.fairness import gaps

        conditions = {**row.conditions, "attribute": row.partition.attribute}
        usable = [row.proportions[group] for group in row.estimable]
        if len(usable) < 2:
            reason = f"fewer than two groups to compare. {_left_out(row)}".strip()
            yield from _undefined(
                row, ("spread", "spread_p", "worst_ratio", "worst"), reason, conditions
            )
            return
        yield self._worst(row, usable)
        caveats = self._caveats(row, bench)
        spread: Gap | NoGap = gaps.spread(usable)
        worst = gaps.worst_ratio(usable)
        if row.sums is not None:
            spread = row.sums.widest(row.estimable, "difference")
            worst = row.sums.widest(row.estimable, "ratio")
        if isinstance(spread, gaps.NoGap):
            yield from _undefined(row, ("spread",), spread.reason, conditions)
        else:
            yield Measurement(
                name=f"{row.name}_spread", value=spread.value, interval=spread.interval, n=spread.n,
                direction="lower", conditions=conditions, caveats=caveats,
            )  # fmt: skip
        if chance is None:
            reason = "rows of one cluster depend on each other: a permutation of rows has no p"
            yield from _undefined(row, ("spread_p",), reason, conditions)
        else:
            search: dict[str, Scalar] = {"holm_tests": chance.tests} if chance.tests > 1 else {}
            yield Measurement(
                name=f"{row.name}_spread_p", value=chance.p, n=sum(one.n for one in usable),
                exact="the p of a seeded permutation test of these very samples",
                conditions={**conditions, "resamples": gaps.RESAMPLES, **search}, caveats=caveats,
            )  # fmt: skip
        if isinstance(worst, gaps.NoGap):
            yield from _undefined(row, ("worst_ratio",), worst.reason, conditions)
        else:
            yield Measurement(
                name=f"{row.name}_worst_ratio", value=worst.value, interval=worst.interval,
                n=worst.n, direction="higher", conditions=conditions, caveats=caveats,
            )  # fmt: skip

    def _worst(self, row: Row, usable: list[Proportion]) -> Measurement | Undefined:
        """The rate of the group that is worst off, and which group that is."""
        name = f"{row.name}_worst"
        conditions = {**row.conditions, "attribute": row.partition.attribute}
        if row.sums is not None:
            reason = "of clustered rows: see the rates of fairness.groups with the same cluster"
            return Undefined(name=name, reason=reason, conditions=conditions)
        better = RATES[row.name].better
        pick = max if better == "lower" else min
        group = pick(row.estimable, key=lambda group: row.proportions[group].value)
        one, level = row.proportions[group], 1 - (1 - LEVEL) / len(usable)
        return Measurement(
            name=name, value=one.value, n=one.n, slice=row.partition.slices[group],
            interval=wilson(one.successes, one.n, level), direction=better, conditions=conditions,
        )  # fmt: skip

    def _balanced(self, rows: dict[str, Row], reference: int | None) -> Iterator[Yielded]:
        """Balanced accuracy of each group minus that of the reference."""
        from dlaudit.fairness import gaps

        sensitive, wrong = (rows[name] for name in ODDS)
        part = sensitive.partition
        against = BEST if reference is None else part.named(reference)
        conditions = {**sensitive.conditions, "reference": against}
        why = None
        if reference is None or sensitive.sums is not None:
            why = "balanced accuracy is compared with a named or the largest group, of independent rows"
        compared = [group for group in range(len(part.slices)) if group != reference]
        level = LEVEL
        if part.is_intersection:
            both = set(sensitive.estimable) & set(wrong.estimable)
            level = 1 - (1 - LEVEL) / max(1, len(both - {reference}))
        if not compared:
            yield Undefined(
                name=BALANCED_DIFFERENCE, reason="one group: nothing to compare",
                conditions={**conditions, "attribute": part.attribute},
            )  # fmt: skip
        for group in compared:
            where, sides, reason = part.slices[group], [], why
            for side in (group, reference):
                if side is None or reason is not None:
                    continue
                reason = sensitive.reasons[side] or wrong.reasons[side]
                if reason is not None and side == reference:
                    reason = f"the reference {part.named(side)} is not estimable: {reason}"
                if reason is None:
                    errors = wrong.proportions[side]
                    right = Proportion(errors.n - errors.successes, errors.n)
                    sides.append(gaps.mean_of_two(sensitive.proportions[side], right, level))
            if reason is not None:
                yield Undefined(
                    name=BALANCED_DIFFERENCE, reason=reason, slice=where, conditions=conditions
                )
                continue
            gap = gaps.apart(*sides)
            yield Measurement(
                name=BALANCED_DIFFERENCE, value=gap.value, interval=gap.interval, n=gap.n,
                slice=where, conditions=conditions,
            )  # fmt: skip

    def _caveats(self, row: Row, bench: Bench) -> tuple[Caveat, ...]:
        """A doubt that names the groups that the widest gap leaves out."""
        if not (left := _left_out(row)):
            return ()
        message = f"left out of the comparison, each listed as undefined: {left}"
        return (Caveat(source=bench.run, name="groups-left-out", message=message),)


def _left_out(row: Row) -> str:
    """The groups whose rate is not estimable, each with the reason; once, if all share it."""
    if not row.estimable and len(set(row.reasons)) == 1:
        return str(row.reasons[0])
    return "; ".join(
        f"{row.partition.named(group)} ({reason})"
        for group, reason in enumerate(row.reasons)
        if reason is not None
    )


def _undefined(
    row: Row, whats: tuple[str, ...], reason: str, conditions: dict[str, Scalar]
) -> Iterator[Undefined]:
    """Gaps of a whole attribute that do not exist."""
    stated = {**conditions, "attribute": row.partition.attribute}
    for what in whats:
        yield Undefined(name=f"{row.name}_{what}", reason=reason, conditions=stated)

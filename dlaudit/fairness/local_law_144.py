"""The impact-ratio tables that New York City's Local Law 144 describes (6 RCNY 5-301).

Knows the tables' arithmetic: rates, the highest of them, categories below two per cent; refuses a
threshold, which the rule text does not set either, and refuses to say what follows from a ratio.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

from msgspec import Meta

from dlaudit.audit.parts import Yielded
from dlaudit.audit.record import Caveat, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import LEVEL, wilson
from dlaudit.errors import PlanError, nearest
from dlaudit.fairness.groups import ByGroup, Counted, Crowd
from dlaudit.fairness.rates import Proportion

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Bench

SEX = ("sex", "gender")
RACE = ("race", "ethnicity", "race_ethnicity", "race/ethnicity")
UNKNOWN = "unknown"


class Rated(NamedTuple):
    """One of the two rates that the tables hold: ``selection`` or ``scoring``, per category."""

    kind: Literal["selection", "scoring"]
    rates: list[Proportion]
    reason: str | None


class LocalLaw144(ByGroup, frozen=True, kw_only=True):
    """Impact ratios by sex, by race/ethnicity and by both at once, as NYC Local Law 144 defines them.

    ``selection_rate`` = selected / applicants; ``scoring_rate`` = share scored above the median of the
    full sample; ``selection_impact_ratio`` and ``scoring_impact_ratio`` = rate / highest rate of the
    table, with intervals that cover that the data chose the highest. ``applicants`` and
    ``applicants_share`` count every category; ``unknown`` counts those left out of the tables because a
    category is not known. Categories below ``exclude_below`` of the known applicants keep their rate but get
    no ratio and are not the highest.

    A category of which nobody is selected has the ratio 0, as the tables' arithmetic gives it, with the
    interval of ``gaps.zero_to_best``. Where nobody at all is selected there is no highest rate: undefined.

    sex, race: the attributes' names; by default those that are called so.
    """

    measures: ClassVar[tuple[str, ...]] = (
        "applicants", "applicants_share", "unknown", "selection_rate", "scoring_rate",
        "selection_impact_ratio", "scoring_impact_ratio",
    )  # fmt: skip

    sex: str | None = None
    race: str | None = None
    exclude_below: Annotated[float, Meta(ge=0, le=1)] = 0.02

    def looked_at(self, known: Iterable[str]) -> list[str]:
        """The attributes for sex and for race, as far as the data declare them."""
        names = list(known)
        found = [
            given or next((name for name in names if name.lower() in usual), None)
            for given, usual in ((self.sex, SEX), (self.race, RACE))
        ]
        return [name for name in dict.fromkeys(found) if name in names]

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Make the three tables, or as many as there are attributes for."""
        from dlaudit.fairness import scoring

        answers = bench.answers(self.split)
        found = [
            name
            for given, usual, what in ((self.sex, SEX, "sex"), (self.race, RACE, "race"))
            if (name := _attribute(given, usual, what, answers.groups)) is not None
        ]
        names = list(dict.fromkeys(found))
        positive = self.positive_class(bench.classes)
        reason = None if positive is not None else self.no_positive(bench.classes)
        if not names:
            reason = (
                f"neither sex nor race/ethnicity among the attributes {', '.join(answers.groups)}: "
                'name them, for example sex = "gender"'
            )
        if reason is not None or positive is None:
            for name in self.measures:
                yield Undefined(name=name, reason=str(reason))
            return
        scores = scoring.scores_of(answers, positive)
        both = _replaced(
            self, attributes=names, intersections=[names] if len(names) == 2 else False
        )
        for counted in both.counted(bench, answers):
            if isinstance(counted, Crowd):
                for name in self.measures:
                    yield counted.undefined(name)
                continue
            selected = Rated(
                "selection", [Proportion(one.fp + one.tp, one.n) for one in counted.tallies], None
            )
            scored = _scored(counted, None if scores is None else scores.values)
            yield from self._table(bench, counted, (selected, scored))
        yield self.evidence(bench)

    def _table(
        self, bench: Bench, counted: Counted, rated: tuple[Rated, Rated]
    ) -> Iterator[Yielded]:
        """One table: every category's count, rates and impact ratios."""
        part, tallies = counted.partition, counted.tallies
        known = [group for group in range(len(tallies)) if part.is_known(group)]
        total = sum(tallies[group].n for group in known)
        small = {g for g in known if tallies[g].n < self.exclude_below * total}
        base = {
            **self.conditions(bench.classes, "selection_rate"), "attribute": part.attribute,
            "exclude_below": self.exclude_below,
        }  # fmt: skip
        base.pop("minimum")
        missing = sum(one.n for one in tallies) - total
        yield Measurement(
            name="unknown", value=missing, n=missing + total, exact="a count", unit="samples",
            conditions=base,
        )  # fmt: skip
        for group, where in enumerate(part.slices):
            n = tallies[group].n
            caveats = _below(bench.run, n, total, self.exclude_below) if group in small else ()
            yield Measurement(
                name="applicants", value=n, n=n, exact="a count", unit="samples", slice=where,
                conditions=base, caveats=caveats,
            )  # fmt: skip
            if group in known and total:
                yield Measurement(
                    name="applicants_share", value=n / total, n=total, slice=where, conditions=base,
                    exact="a share of the applicants that there were",
                )  # fmt: skip
            for one in rated:
                yield from _rate(one, group, where, base)
        for one in rated:
            yield from self._ratios(one, counted, known, small, base)

    def _ratios(
        self,
        rated: Rated,
        counted: Counted,
        known: list[int],
        small: set[int],
        base: dict[str, Scalar],
    ) -> Iterator[Yielded]:
        """Every known category against the highest rate."""
        from dlaudit.fairness import gaps

        part, name = counted.partition, f"{rated.kind}_impact_ratio"
        usable = [group for group in known if group not in small and rated.rates[group].n]
        level = 1 - (1 - LEVEL) / max(1, len(usable)) if part.is_intersection else LEVEL
        for group in known:
            where = part.slices[group]
            rivals = [rated.rates[other] for other in usable if other != group]
            reason = rated.reason
            if reason is None and group in small:
                reason = (
                    f"{rated.rates[group].n} applicants, below {self.exclude_below:.0%} of all "
                    "that are known: excluded from the ratios, the rate is stated"
                )
            elif reason is None and group not in usable:
                reason = "0 applicants"
            elif reason is None and not rivals:
                reason = "no other category to compare with"
            if reason is None:
                best = gaps.Best(rivals, "highest")
                own = rated.rates[group]
                found = gaps.ratio_to_best(own, best, is_candidate=True, level=level)
                if not own.successes and best.observed.successes:
                    found = gaps.zero_to_best(own, best, level)
                if isinstance(found, gaps.Gap):
                    yield Measurement(
                        name=name, value=found.value, interval=found.interval, n=found.n,
                        slice=where, direction="higher", conditions={**base, "reference": "best"},
                    )  # fmt: skip
                    continue
                reason = found.reason
            yield Undefined(
                name=name, reason=reason, slice=where, conditions={**base, "reference": "best"}
            )


def _attribute(
    given: str | None, usual: tuple[str, ...], what: str, groups: dict[str, np.ndarray]
) -> str | None:
    """The attribute that is meant; None if none is declared. Raises PlanError for a wrong name."""
    if given is not None and given not in groups:
        message = f"{what}: no group attribute is called {given!r}. {nearest(given, list(groups))}"
        raise PlanError(message)
    return given or next((name for name in groups if name.lower() in usual), None)


def _replaced(
    check: LocalLaw144, *, attributes: list[str], intersections: bool | list[list[str]]
) -> LocalLaw144:
    """The same check, asking for these tables."""
    from msgspec.structs import replace

    return replace(check, attributes=attributes, intersections=intersections)


def _scored(counted: Counted, scores: np.ndarray | None) -> Rated:
    """How many of each category are scored above the median of everybody."""
    import numpy as np

    codes, groups = counted.partition.codes, len(counted.tallies)
    if scores is None:
        empty = [Proportion(0, one.n) for one in counted.tallies]
        return Rated("scoring", empty, "the model gives decisions only: no logits and no score")
    above = np.bincount(codes[scores > np.median(scores)], minlength=groups)
    rates = [Proportion(int(x), one.n) for x, one in zip(above, counted.tallies, strict=True)]
    return Rated("scoring", rates, None)


def _rate(
    rated: Rated, group: int, where: dict[str, str], base: dict[str, Scalar]
) -> Iterator[Yielded]:
    """The rate of one category, whatever its size."""
    name, found = f"{rated.kind}_rate", rated.rates[group]
    reason = rated.reason or (None if found.n else "0 applicants")
    if reason is not None:
        yield Undefined(name=name, reason=reason, slice=where, conditions=base)
        return
    yield Measurement(
        name=name, value=found.value, interval=wilson(found.successes, found.n), n=found.n,
        slice=where, conditions=base,
    )  # fmt: skip


def _below(run: str, n: int, total: int, share: float) -> tuple[Caveat, ...]:
    """A doubt that says why a category has no ratio."""
    message = f"{n} of {total} known applicants, below {share:.0%}: excluded from the impact ratios"
    return (Caveat(source=run, name="below-two-percent", message=message),)

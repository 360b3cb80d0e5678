"""The worst slices that nobody declared: searched in one half of the samples, confirmed in the other.

Knows which outcome is searched and how slices are told; refuses thresholds for how bad is too bad.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from msgspec import Meta

from dlaudit.audit.parts import Check, Needs, Yielded
from dlaudit.audit.record import Cost, Measurement, Scalar, Undefined, canonical
from dlaudit.audit.statistics import wilson
from dlaudit.errors import PlanError
from dlaudit.fairness.groups import ByGroup

if TYPE_CHECKING:
    from dlaudit.audit.bench import Bench
    from dlaudit.fairness.slice_search import Search, Slice


class Slices(Check, frozen=True, kw_only=True):
    """Where errors are more frequent than elsewhere: conditions in words, confirmed on other samples.

    Slices are declared groups, categories, quarters of numeric columns, and combinations of two of
    them. One half of the samples, drawn by the plan's seed, finds at most ``most`` of them; the other
    half tests these (Fisher's exact test, Benjamini-Hochberg at ``false_discovery_rate``).
    ``slices_found`` counts the confirmed ones; each has ``slice_rate``, ``slice_gap`` = rate inside -
    rate outside (Newcombe) and ``slice_p``, with its words as ``region``.

    attributes: of groups, None for all that the data declare; special_categories: as in
    ``fairness.groups``. outcome: ``error``, or ``false_positive`` among negatives, ``false_negative``
    among positives.
    """

    needs: ClassVar[Needs] = Needs(model=("decisions",), data=("labels",))
    measures: ClassVar[tuple[str, ...]] = ("slices_found", "slice_rate", "slice_gap", "slice_p")

    outcome: Literal["error", "false_positive", "false_negative"] = "error"
    positive: int | str | None = None
    minimum: Annotated[int, Meta(ge=1)] = 30
    most: Annotated[int, Meta(ge=1, le=50)] = 10
    false_discovery_rate: Annotated[float, Meta(gt=0, lt=1)] = 0.01
    most_features: Annotated[int, Meta(ge=0)] = 100
    most_groups: Annotated[int, Meta(ge=2)] = 50
    split: str = "test"
    attributes: list[str] | None = None
    special_categories: list[str] | None = None

    def objections(self, facts: Mapping[str, Any], context: Mapping[str, Any]) -> tuple[str, ...]:
        """Attributes of special categories without a declared basis."""
        return self._grouping().objections(facts, context)

    def passes(self, *, n: int, classes: int) -> Cost:
        """Nothing beyond the clean answers."""
        del n, classes
        return Cost(forward=0, backward=0)

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Search one half, ask the other."""
        import numpy as np

        from dlaudit.fairness import features, slice_search

        answers = bench.answers(self.split)
        outcome, counts = answers.predicted != answers.y, np.ones(len(answers.y), dtype=bool)
        if self.outcome != "error":
            positive = self._positive(bench.classes)
            counts = (answers.y == positive) == (self.outcome == "false_negative")
            outcome = (answers.predicted == positive) != (answers.y == positive)
        chosen = np.flatnonzero(counts)
        first = np.zeros(len(answers.y), dtype=bool)
        first[bench.rng("halves").permutation(chosen)[: len(chosen) // 2]] = True
        self._grouping().remarks(bench, answers)
        groups = {name: answers.groups[name] for name in self._grouping().looked_at(answers.groups)}
        conditions = features.conditions_of_groups(groups, most=self.most_groups)
        columns = features.features_of(bench, self.split, most=self.most_features)
        if columns is not None:
            conditions += features.conditions_of(columns, first)
        stated: dict[str, Scalar] = {
            "outcome": self.outcome, "split": self.split, "minimum": self.minimum,
            "false_discovery_rate": self.false_discovery_rate, "most": self.most,
        }  # fmt: skip
        total = int(outcome[counts].sum())
        if (reason := self._nothing(len(conditions), len(chosen), total)) is not None:
            for name in self.measures:
                yield Undefined(name=name, reason=reason, conditions=stated)
        else:
            kept = [one._replace(member=one.member[counts]) for one in conditions]
            found = slice_search.search(
                kept, outcome[counts], first[counts], minimum=self.minimum, most=self.most,
                rate=self.false_discovery_rate,
            )  # fmt: skip
            yield from self._told(found, stated, n=len(chosen))
            yield bench.keep(
                f"{bench.run}.slices",
                canonical({"tried": found.tried, "slices": [_plain(one) for one in found.slices]}),
                media_type="application/json",
                caption="Every slice that was asked about: its counts in both halves and its p.",
            )
        yield bench.keep_table(
            f"{bench.run}.samples",
            {
                "id": answers.id[counts], "y": answers.y[counts], "predicted": answers.predicted[counts],
                "outcome": outcome[counts], "searched": first[counts],
            },
            caption="Each sample's label, decision, outcome, and whether its half searched.",
        )  # fmt: skip

    def _positive(self, classes: tuple[str, ...]) -> int:
        """The positive class. Raises PlanError where it is not clear, UnknownName for a wrong name."""
        found = self._grouping().positive_class(classes)
        if found is None:
            message = f"positive: {self._grouping().no_positive(classes)}"
            raise PlanError(message)
        return found

    def _grouping(self) -> ByGroup:
        """The same parameters as those of the checks of declared groups."""
        return ByGroup(
            positive=self.positive, attributes=self.attributes, split=self.split,
            special_categories=self.special_categories,
        )  # fmt: skip

    def _nothing(self, conditions: int, n: int, total: int) -> str | None:
        """Why there is nothing to search, None where there is."""
        if not conditions:
            return (
                f"neither groups nor a table of at most {self.most_features} features to slice by"
            )
        if n < 4 * self.minimum:
            return f"{n} samples, fewer than 4 x the minimum of {self.minimum}: no two halves"
        if total in {0, n}:
            return f"{total} of {n} samples show the outcome: no slice can differ"
        return None

    def _told(self, found: Search, stated: dict[str, Scalar], *, n: int) -> Iterator[Yielded]:
        """The number of slices confirmed, and each of them."""
        confirmed = [one for one in found.slices if one.interval is not None]
        yield Measurement(
            name="slices_found", value=len(confirmed), n=n, direction="lower", unit="slices",
            exact=f"a count of those confirmed out of {len(found.slices)} asked about",
            conditions={**stated, "tried": found.tried},
        )  # fmt: skip
        for one in confirmed:
            where, after = {"region": one.words}, one.confirmed
            yield Measurement(
                name="slice_gap", value=after.gap, n=after.n + after.rest, interval=one.interval,
                slice=where, direction="lower", conditions=stated,
            )  # fmt: skip
            yield Measurement(
                name="slice_rate", value=after.inside / after.n, n=after.n, slice=where,
                interval=wilson(after.inside, after.n), direction="lower", conditions=stated,
            )  # fmt: skip
            yield Measurement(
                name="slice_p", value=one.p, n=after.n + after.rest, slice=where,
                exact="the adjusted p of an exact test of these very samples", conditions=stated,
            )  # fmt: skip


def _plain(one: Slice) -> dict[str, object]:
    """A slice as it is stored."""
    return {
        "region": one.words, "searched": one.searched._asdict(),
        "confirmed": one.confirmed._asdict(), "p": one.p,
    }  # fmt: skip

"""Are maps as good for one group of people as for the others? Differences of what is measured per input.

Knows columns of groups and numbers per input; refuses to know what a group is owed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from msgspec import Meta

from dlaudit.audit.parts import Check, Needs, Yielded
from dlaudit.audit.record import Cost, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import LEVEL, welch
from dlaudit.errors import NotExplained
from dlaudit.explain.methods import SHIPPED, known_methods

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Bench
    from dlaudit.explain.rows import Row, Table

CURVES = 2 * 21
CONTROLS = 4
GAIN, MISSED, MOVED, ALIKE = (
    "faithfulness_gain_difference", "infidelity_difference", "max_sensitivity_difference",
    "agreement_difference",
)  # fmt: skip


class Groups(Check, frozen=True, kw_only=True):
    """What is measured of maps, in each group minus everybody else.

    ``faithfulness_gain_difference``, ``infidelity_difference``, ``max_sensitivity_difference`` per
    method, ``agreement_difference`` per pair of methods: the numbers of ``explain.attribution``, one per
    input, mean of the group minus mean of the others (Welch), Bonferroni over the groups of an
    attribute. Groups that the model decides otherwise also have other maps: a difference says that
    explanations serve one group worse, not why.

    methods, baseline, settings, nearby: as of ``explain.attribution``. minimum: inputs of a group, and
    of the others, below which no number is given.
    """

    needs: ClassVar[Needs] = Needs(model=("logits", "gradients", "module"), data=("groups",))
    measures: ClassVar[tuple[str, ...]] = (GAIN, MISSED, MOVED, ALIKE)

    methods: tuple[str, ...] = ("integrated_gradients", "saliency")
    baseline: Literal["zero", "low", "mean", "blur"] = "zero"
    settings: dict[str, dict[str, Any]] = {}
    samples: Annotated[int, Meta(ge=2)] = 200
    steps: Annotated[int, Meta(ge=1)] = 50
    nearby: Annotated[int, Meta(ge=1)] = 3
    minimum: Annotated[int, Meta(ge=2)] = 20

    def __post_init__(self) -> None:
        """Refuse unknown methods."""
        known_methods(self.methods)

    def passes(self, *, n: int, classes: int) -> Cost:
        """Maps to show and near by, curves of methods and controls, removals."""
        del classes
        each = [SHIPPED[one]().passes(positions=64) for one in self.methods if one in SHIPPED]
        many, times = min(n, self.samples), 1 + self.nearby
        asked = (len(self.methods) + CONTROLS) * CURVES + len(self.methods) * (10 + self.nearby)
        return Cost(
            forward=many * (1 + times * sum(one.forward for one in each) + asked),
            backward=many * times * sum(one.backward for one in each),
        )

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Explain once, and compare the groups."""
        from dlaudit.explain.rows import Effort, Table, agreement
        from dlaudit.explain.subject import subject_of

        try:
            subject = subject_of(bench, self.samples)
        except NotExplained as error:
            for name in self.measures:
                yield Undefined(name=name, reason=str(error))
            return
        effort = Effort(self.steps, self.steps, 0, self.nearby, road=False)
        table = Table(bench, subject, effort)
        rows: list[Row] = []
        columns: dict[str, Any] = {"id": subject.batch.id, **_named(subject.batch.groups)}
        for method in self.methods:
            try:
                row = self._row(bench, table, method)
            except NotExplained as error:
                for name in (GAIN, MISSED, MOVED):
                    yield Undefined(name=name, reason=str(error), slice={"method": method})
                continue
            rows.append(row)
            for name, values in _of(row).items():
                yield from self._told(subject.batch.groups, name, method, values)
                columns[f"{method}_{name.removesuffix('_difference')}"] = values
        for first, second in combinations(rows, 2):
            alike = agreement(first, second, pixels=subject.pixels)
            pair = f"{first.method} and {second.method}"
            yield from self._told(subject.batch.groups, ALIKE, pair, alike)
            columns[f"{first.method}_{second.method}_agreement"] = alike
        if len(rows) < 2:
            reason = "fewer than two methods that apply: nothing to compare"
            yield Undefined(name=ALIKE, reason=reason)
        yield bench.keep_table(
            f"{bench.run}.samples", columns,
            caption="Each input: its groups, and per method the gain of its map over the best control, "
            "infidelity, max-sensitivity, and how alike two methods' maps are.",
        )  # fmt: skip

    def _row(self, bench: Bench, table: Table, method: str) -> Row:
        """One method's row. Raises NotExplained."""
        from dlaudit.explain.attribution import made

        part = bench.part("explainers", method)
        explainer = made(part(), self.settings.get(method, {}), f"settings.{method}")
        return table.row(method, explainer, self.baseline)

    def _told(
        self, groups: dict[str, Any], name: str, method: str, values: np.ndarray
    ) -> Iterator[Yielded]:
        """Each group of each attribute against everybody else."""
        import numpy as np

        stated: dict[str, Scalar] = {
            "baseline": self.baseline, "reference": "everybody else",
            "search": "groups of one attribute, Bonferroni",
        }  # fmt: skip
        there = ~np.isnan(values)
        for attribute, column in groups.items():
            named = np.asarray(column).astype(str)
            sides = {
                one: (values[there & (named == one)], values[there & (named != one)])
                for one in np.unique(named)
            }
            many = sum(min(len(a), len(b)) >= self.minimum for a, b in sides.values())
            level = 1 - (1 - LEVEL) / max(many, 1)
            for group, (inside, others) in sides.items():
                where = {"method": method, attribute: str(group)}
                found = self._difference(inside, others, level)
                if isinstance(found, str):
                    yield Undefined(name=name, reason=found, slice=where, conditions=stated)
                    continue
                value, interval = found
                yield Measurement(
                    name=name, value=value, n=len(inside) + len(others), interval=interval,
                    slice=where, conditions=stated,
                )  # fmt: skip

    def _difference(self, inside: np.ndarray, others: np.ndarray, level: float) -> Any:
        """Mean inside minus mean of the others with its interval, or why there is none."""
        if min(len(inside), len(others)) < self.minimum:
            return (
                f"{len(inside)} inputs of the group and {len(others)} others: at least "
                f"{self.minimum} of each are needed"
            )
        interval = welch(inside, others, level)
        if interval is None:
            return "every input has the same value: no spread to build an interval on"
        return float(inside.mean() - others.mean()), interval


def _of(row: Row) -> dict[str, np.ndarray]:
    """A row's numbers per input, by measurement."""
    found = {GAIN: row.deletion.paired, MISSED: row.infidelity}
    return found if row.sensitivity is None else {**found, MOVED: row.sensitivity}


def _named(groups: dict[str, Any]) -> dict[str, Any]:
    """Columns of the evidence."""
    return {f"group_{name}": column for name, column in groups.items()}

"""Which measurements stand together: one table with one axis each, and the curves of a suite.

Knows names, slices and conditions; never verdicts beyond the thresholds that it marks. What all
rows share is said once above the table, so that a table of hundreds of rows stays readable.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from dlaudit.audit.judge import speaks_of
from dlaudit.audit.record import CheckRun, Measured, Measurement, Rule, Scalar, Undefined
from dlaudit.reports import charts, wording
from dlaudit.reports.outline import Judged, Outline, SuitePart, worst_observed

PLOTTED = 80
"""Rows of one table that get a mark on the axis; beyond, a figure can no longer be read."""
OBSERVED = 12
"""Measurements that a rule shows, worst first; all of them stand in the table of its run."""


class Row(NamedTuple):
    """One measurement in a table.

    name: only where the table's title does not say it. everybody: ``where`` is this tool's word for
    no slice and no condition. notes: letters of the notes below. strip: None if not plotted.
    """

    name: str
    where: str
    everybody: bool
    measurement: Measurement
    value: str
    interval: str
    strip: charts.Strip | None
    thresholds: tuple[float, ...]
    notes: tuple[str, ...]
    void: bool


class Panel(NamedTuple):
    """Rows along one axis.

    common: the conditions that these rows share beyond those of the whole run. method: of all
    intervals, if it is one and there are several. reference: the position of the value over
    everybody, if there is one.
    """

    title: str
    common: dict[str, Scalar]
    unit: str
    method: str
    axis: charts.Axis
    rows: tuple[Row, ...]
    reference: float | None
    unplotted: int


class Note(NamedTuple):
    """A remark below a table: its letter, what kind it is, who says it, what it says."""

    letter: str
    kind: str
    source: str
    text: str


class Gap(NamedTuple):
    """Numbers that do not exist at one place, for one reason."""

    names: tuple[str, ...]
    where: str
    reason: str


class RunPage(NamedTuple):
    """What a measured run has to show."""

    common: dict[str, Scalar]
    panels: tuple[Panel, ...]
    notes: tuple[Note, ...]
    undefined: tuple[Gap, ...]


class Notes:
    """Gives each different remark of one table a letter: a, b, …, z, aa, …."""

    def __init__(self) -> None:
        """Start with none."""
        self._letters: dict[tuple[str, str, str], str] = {}

    def letter(self, kind: str, source: str, text: str) -> str:
        """The letter of a remark, the same one each time it is made."""
        return self._letters.setdefault((kind, source, text), _letters(len(self._letters)))

    def of(self, one: Measurement) -> tuple[str, ...]:
        """The letters of everything that qualifies a measurement."""
        letters = [self.letter("exact", "", one.exact)] if one.exact is not None else []
        for caveat in one.caveats:
            kind = "voids" if caveat.voids else "caveat"
            source = " ".join(text for text in (caveat.source, caveat.name) if text)
            letters.append(self.letter(kind, source, caveat.message))
        return tuple(letters)

    @property
    def listed(self) -> tuple[Note, ...]:
        """All remarks in the order of their letters."""
        return tuple(Note(letter, *remark) for remark, letter in self._letters.items())


def _letters(position: int) -> str:
    text = ""
    position += 1
    while position:
        position, rest = divmod(position - 1, 26)
        text = chr(ord("a") + rest) + text
    return text


def run_page(run: CheckRun, judged: Sequence[Judged]) -> RunPage:
    """The tables of a run. judged: the rules that speak of it, whose thresholds are marked."""
    if not isinstance(run.outcome, Measured):
        return RunPage({}, (), (), ())
    measurements, undefined = run.outcome.measurements, run.outcome.undefined
    common = shared_conditions((*measurements, *undefined))
    rules = [one.rule for one in judged if one.rule is not None]
    notes = Notes()
    panels = tuple(
        _panel(title, rows, rules, notes, shared, said=common)
        for title, shared, rows in _grouped(measurements, common)
    )
    return RunPage(common, panels, notes.listed, gaps(undefined))


def gaps(undefined: Sequence[Undefined]) -> tuple[Gap, ...]:
    """Undefined numbers, those at one place and for one reason together."""
    common = shared_conditions(undefined)
    found: dict[tuple[str, str], list[str]] = {}
    for one in undefined:
        place = wording.where(one.slice, _varying(one, common))
        found.setdefault((place, one.reason), []).append(one.name)
    return tuple(Gap(tuple(names), place, reason) for (place, reason), names in found.items())


class RulePage(NamedTuple):
    """What a rule saw, worst first. common: the conditions that all of it shares.

    unseen: how many further measurements stand only in the table of the run.
    """

    panel: Panel | None
    notes: tuple[Note, ...]
    common: dict[str, Scalar]
    unseen: int


def rule_page(one: Judged) -> RulePage:
    """What a rule saw; no panel where it saw nothing."""
    seen = worst_observed(one)
    if not seen or one.rule is None:
        return RulePage(None, (), one.rule.conditions if one.rule else {}, 0)
    notes = Notes()
    common = shared_conditions(seen)
    rows = [("", m) for m in seen[:OBSERVED]]
    panel = _panel(
        one.rule.measurement, rows, [one.rule], notes, common, threshold=one.rule.threshold
    )
    return RulePage(panel, notes.listed, common, len(seen) - len(rows))


def shared_conditions(numbers: Iterable[Measurement | Undefined]) -> dict[str, Scalar]:
    """The conditions that every one of them has, with the same value."""
    found = list(numbers)
    if not found:
        return {}
    return {
        key: value
        for key, value in found[0].conditions.items()
        if all(
            key in one.conditions
            and one.conditions[key] == value
            and isinstance(one.conditions[key], bool) == isinstance(value, bool)
            for one in found
        )
    }


def _varying(one: Measurement | Undefined, common: dict[str, Scalar]) -> dict[str, Scalar]:
    return _without(one.conditions, common)


def _grouped(
    measurements: Sequence[Measurement], common: dict[str, Scalar]
) -> list[tuple[str, dict[str, Scalar], list[tuple[str, Measurement]]]]:
    """Tables as (title, shared conditions, rows): one per name that has several rows.

    Lone numbers of one unit share a table, and so do lone rates; a lone number without a unit has
    one of its own. These tables have no title: their rows say the names.
    """
    by_name: dict[str, list[Measurement]] = {}
    for one in measurements:
        by_name.setdefault(one.name, []).append(one)
    tables: list[tuple[str, dict[str, Scalar], list[tuple[str, Measurement]]]] = []
    lone: dict[str, list[tuple[str, Measurement]]] = {}
    for name, found in by_name.items():
        if len(found) > 1:
            tables.append((name, shared_conditions(found), [("", one) for one in found]))
            continue
        scale = _scale(found[0])
        if scale not in lone:
            lone[scale] = []
            tables.append(("", common, lone[scale]))
        lone[scale].append((name, found[0]))
    return tables


def _without(values: dict[str, Scalar], others: dict[str, Scalar]) -> dict[str, Scalar]:
    return {key: value for key, value in values.items() if key not in others}


def _scale(one: Measurement) -> str:
    """What a lone number may share an axis with."""
    if one.unit is not None:
        return f"unit {one.unit}"
    rate = all(-1 <= end <= 1 for end in charts.extent(one))
    return "rate" if rate else f"name {one.name}"


def _panel(
    title: str,
    rows: Sequence[tuple[str, Measurement]],
    rules: Sequence[Rule],
    notes: Notes,
    common: dict[str, Scalar],
    *,
    said: dict[str, Scalar] | None = None,
    threshold: float | None = None,
) -> Panel:
    """rows: (name or "", measurement). common: shared by the rows; said: told of the run already."""
    plotted = [one for _, one in rows[:PLOTTED]]
    relevant = {
        id(one): [rule for rule in rules if rule.measurement == one.name and speaks_of(rule, one)]
        for one in plotted
    }
    reach = [end for one in plotted for end in charts.extent(one)]
    thresholds = {rule.threshold for found in relevant.values() for rule in found}
    along = charts.axis(charts.around(reach, thresholds))
    overall = next((one for one in plotted if title and not one.slice and len(plotted) > 1), None)
    built = []
    for name, one in rows:
        value, interval = wording.shown(one, threshold=threshold)
        here = relevant.get(id(one), [])
        place = wording.where(one.slice, _varying(one, common))
        built.append(
            Row(
                name,
                place or ("" if name else "everybody"),
                not place,
                one,
                value,
                interval,
                charts.strip(one, along) if id(one) in relevant else None,
                tuple(dict.fromkeys(along.at(rule.threshold) for rule in here)),
                notes.of(one),
                any(caveat.voids for caveat in one.caveats),
            )
        )
    methods = {one.interval.method for _, one in rows if one.interval}
    same_conditions = overall and all(one.conditions == overall.conditions for one in plotted)
    return Panel(
        title,
        _without(common, common if said is None else said),
        rows[0][1].unit or "",
        methods.pop() if len(methods) == 1 and len(rows) > 1 else "",
        along,
        tuple(built),
        along.at(overall.value) if overall and same_conditions else None,
        max(0, len(rows) - PLOTTED),
    )


def curves(part: SuitePart, outline: Outline, *, apart: Collection[str] = ()) -> list[charts.Curve]:
    """A suite's accuracies (and whatever a rule judges) against epsilon, one figure per norm.

    A curve needs at least two budgets under otherwise equal conditions. apart: measurements that are
    drawn elsewhere.
    """
    figures: dict[tuple[str, str], dict[str, list[tuple[float, Measurement]]]] = {}
    limits: dict[tuple[str, str], list[charts.Threshold]] = {}
    for run in part.runs:
        if not isinstance(run.outcome, Measured):
            continue
        names = {one.rule.measurement for one in outline.rules_of(run) if one.rule is not None}
        for label, name, norm, points in series(run, run.outcome.measurements):
            if name in apart or ("accuracy" not in name and name not in names):
                continue
            figures.setdefault((name, norm), {})[label] = points
            limits.setdefault((name, norm), []).extend(thresholds(run, points, outline))
    return [
        charts.curve(
            name,
            f"epsilon, {norm}" if norm else "epsilon",
            list(lines.items()),
            limits=list(dict.fromkeys(limits[name, norm])),
        )
        for (name, norm), lines in figures.items()
    ]


def thresholds(
    run: CheckRun, points: Sequence[tuple[float, Measurement]], outline: Outline
) -> list[charts.Threshold]:
    """Where the rules of a run stand in the figure of a curve that they judge."""
    found = []
    for rule in (one.rule for one in outline.rules_of(run)):
        if rule is None or not any(speaks_of(rule, one) for _, one in points):
            continue
        at = rule.conditions.get("epsilon")
        x = None if at is None or isinstance(at, bool | str) else float(at)
        criterion = wording.criterion(rule)
        short = criterion.removeprefix(f"{rule.measurement} ")
        found.append((x, rule.threshold, criterion, short))
    return found


def series(
    run: CheckRun, measurements: Sequence[Measurement], *, fewest: int = 2
) -> list[tuple[str, str, str, list[tuple[float, Measurement]]]]:
    """(label, name, norm, points) of every curve in a run that has ``fewest`` budgets.

    What changes together with the budget (a step size) belongs to the protocol of one curve; what
    differs at one and the same budget (targeted or not) makes another curve.
    """
    alike: dict[tuple[str, str, tuple[object, ...]], list[tuple[float, Measurement]]] = {}
    for one in measurements:
        budget = one.conditions.get("epsilon")
        if budget is None or isinstance(budget, bool | str):
            continue
        norm = str(one.conditions.get("norm", ""))
        key = (one.name, norm, tuple(sorted(one.slice.items())))
        alike.setdefault(key, []).append((float(budget), one))
    result = []
    for (name, norm, _), points in alike.items():
        telling = _telling(points)
        curves_here: dict[tuple[object, ...], list[tuple[float, Measurement]]] = {}
        for x, one in points:
            values = tuple(one.conditions.get(told) for told in telling)
            curves_here.setdefault(values, []).append((x, one))
        for found in curves_here.values():
            if len({x for x, _ in found}) < fewest:
                continue
            first = found[0][1]
            own = {told: first.conditions[told] for told in telling if told in first.conditions}
            extra = wording.where(first.slice, own)
            label = f"{run.id}, {extra}" if extra else run.id
            result.append((label, name, norm, found))
    return result


def _telling(points: Sequence[tuple[float, Measurement]]) -> list[str]:
    """The conditions by which measurements at one and the same budget differ."""
    by_budget: dict[float, list[Measurement]] = {}
    for x, one in points:
        by_budget.setdefault(x, []).append(one)
    telling: set[str] = set()
    for first, *others in by_budget.values():
        for other in others:
            keys = first.conditions.keys() | other.conditions.keys()
            telling |= {k for k in keys if first.conditions.get(k) != other.conditions.get(k)}
    return sorted(telling)

"""What the attacks of an audit found, side by side: curves, failures, who became what, at what cost.

Knows the measurement ``robust_accuracy`` and the columns of an attack's evidence
(docs/evidence.md); judges nothing. Everything is an upper bound under the stated attacks, and what
is void is drawn and written as void.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

from dlaudit.audit.record import (
    Artifact,
    AuditRecord,
    Caveat,
    CheckRun,
    Interval,
    Measured,
    Measurement,
    Scalar,
)
from dlaudit.reports import charts, columns, panels, wording
from dlaudit.reports.doctor import Doctor, doctors
from dlaudit.reports.outline import Outline
from dlaudit.reports.transfer import Transfer, transfers

if TYPE_CHECKING:
    import numpy as np

BOUND = "robust_accuracy"
NEEDED = {
    "id": "U", "label": "iu", "attacked": "b", "fooled": "b", "adversarial": "iu",
    "epsilon_fooled": "f", "distance": "f", "forward": "fiu", "backward": "fiu",
}  # fmt: skip
"""Columns that every attack's table has, and the kinds of their numbers."""
THREAT = ("epsilon_per_feature", "bounds", "levels", "immutable", "constraints", "scale", "unit")
"""Conditions besides the norm that make two budgets two different things."""
TOGETHER = "all of these attacks together, sample by sample"
CORNERS = 160
"""Corners of a fine curve: more cannot be told apart at the width of the figure."""
NEARER = 0.98
"""An attack whose examples lie nearer than this share of their budget has looked for the nearest."""
CLASSES = 16
"""Classes that a matrix shows; the others are counted together."""
STAGES = 8
"""Stages with a line of their own; the later ones share the last."""
LEVELS = 5
SHOWN = 3
"""Failures that stand at the top; all of them stand at their runs."""


class Attacked(NamedTuple):
    """A run that measured ``robust_accuracy``, with its evidence."""

    run: CheckRun
    bounds: tuple[Measurement, ...]
    table: columns.Columns

    @property
    def last(self) -> Measurement:
        """What is left at the largest budget."""
        return max(self.bounds, key=budget_of)

    @property
    def void(self) -> bool:
        """Whether any of its figures is."""
        return any(voids(one) for one in self.bounds)


class Void(NamedTuple):
    """Figures of one run that the same caveats void, and why. figures: (where, value in words)."""

    run: str
    figures: tuple[tuple[str, str], ...]
    reasons: tuple[Caveat, ...]


class Failure(NamedTuple):
    """A picture of a fooled sample with the labels and confidences that stand below its panels."""

    run: str
    shot: Artifact
    sample: str
    before: str
    confidence_before: float | None
    after: str
    confidence_after: float | None
    budget: str
    factor: float


class Cell(NamedTuple):
    """How many samples; level: 0 for none, else 1 to 5 by its share of the largest cell."""

    samples: int
    level: int


class MatrixRow(NamedTuple):
    """One true class: its samples that were attacked, kept, and lost to each other class."""

    name: str
    attacked: int
    kept: int
    cells: tuple[Cell, ...]


class Matrix(NamedTuple):
    """True class by class under attack. others: whether the last column gathers further classes."""

    run: str
    budget: str
    names: tuple[str, ...]
    others: bool
    rows: tuple[MatrixRow, ...]
    left_out: int
    told: str


class Stage(NamedTuple):
    """One stage of an attack of several: who fell there, and what that had cost by then."""

    name: str
    fooled: int
    forward: float
    backward: float


class Price(NamedTuple):
    """What an attack cost in sample-passes, per attacked sample and per robust one."""

    run: str
    where: str
    bound: Measurement
    void: bool
    cost: tuple[int, int] | None
    attacked: int
    per_sample: tuple[float, float] | None
    robust: int
    per_robust: tuple[float, float] | None
    stages: tuple[Stage, ...]
    reason: str


class Robustness:
    """Everything that the attacks of one record have to show together."""

    def __init__(self, outline: Outline, folder: Path | None) -> None:
        """folder: the run's folder, from which the evidence is read if given."""
        self.outline = outline
        self.folder = folder

    @cached_property
    def attacks(self) -> tuple[Attacked, ...]:
        """The runs that measured ``robust_accuracy``, in plan order."""
        found = []
        for run in self.outline.record.runs:
            if not isinstance(run.outcome, Measured):
                continue
            bounds = tuple(one for one in run.outcome.measurements if one.name == BOUND)
            if bounds:
                table = columns.of_run(run, "samples", self.folder, needed=NEEDED, optional="stage")
                found.append(Attacked(run, bounds, table))
        return tuple(found)

    @cached_property
    def doctors(self) -> tuple[Doctor, ...]:
        """Every examination of an attack."""
        return doctors(self.outline)

    @cached_property
    def transfers(self) -> tuple[Transfer, ...]:
        """Every matrix of models against models."""
        return transfers(self.outline)

    @cached_property
    def home(self) -> str:
        """The suite in whose section all of this stands; empty if there is nothing of it."""
        shown = {attack.run.id for attack in self.attacks}
        shown |= {one.run for one in self.doctors} | {one.run for one in self.transfers}
        runs = (run for run in self.outline.record.runs if run.id in shown)
        return next((self.outline.suite_of(run) for run in runs), "")

    @cached_property
    def voids(self) -> tuple[Void, ...]:
        """Every figure that a caveat voids."""
        found: dict[tuple[str, tuple[Caveat, ...]], list[tuple[str, str]]] = {}
        for attack in self.attacks:
            for one in attack.bounds:
                reasons = tuple(caveat for caveat in one.caveats if caveat.voids)
                if reasons:
                    place = wording.where(one.slice, telling_conditions(one))
                    told = (place, wording.measured(one))
                    found.setdefault((attack.run.id, reasons), []).append(told)
        return tuple(
            Void(run, tuple(figures), reasons) for (run, reasons), figures in found.items()
        )

    @cached_property
    def curves(self) -> tuple[charts.Curve, ...]:
        """One figure per threat model: every attack's line, and that of all of them together."""
        figures: dict[tuple[tuple[str, Scalar], ...], list[Attacked]] = {}
        for attack in self.attacks:
            figures.setdefault(threat_of(attack.last), []).append(attack)
        shared = set.intersection(*(set(threat) for threat in figures)) if figures else set()
        found = []
        for threat, attacks in figures.items():
            told = wording.conditions(
                {k: v for k, v in threat if (k, v) not in shared or k == "norm"}
            )
            across = f"epsilon, {told.removeprefix('norm = ')}" if told else "epsilon"
            found.append(self._curve(across, attacks))
        return tuple(found)

    def _curve(self, across: str, attacks: Sequence[Attacked]) -> charts.Curve:
        """The figure of attacks within one threat model."""
        lines: dict[str, list[tuple[float, Measurement]]] = {}
        limits: list[charts.Threshold] = []
        fine: dict[str, list[tuple[float, float]]] = {}
        if joint := together(attacks):
            lines[TOGETHER] = joint
        for attack in attacks:
            start = clean(attack.run)
            for label, _, _, points in panels.series(attack.run, attack.bounds, fewest=1):
                limits += panels.thresholds(attack.run, points, self.outline)
                whole = not points[0][1].slice
                if start is not None and whole and all(x > 0 for x, _ in points):
                    points.insert(0, (0.0, start))
                lines[label] = points
            if corners := nearest(attack):
                fine[attack.run.id] = corners
        strongest = sorted(
            lines.values(), key=lambda points: (voids(points[-1][1]), points[-1][1].value)
        )
        chosen = strongest[: charts.SERIES]
        # Where there are more lines than can be told apart, the weakest attacks are left to the tables.
        ranked = sorted(lines.items(), key=lambda line: not any(line[1] is one for one in chosen))
        return charts.curve(BOUND, across, ranked, limits=list(dict.fromkeys(limits)), fine=fine)

    @cached_property
    def failures(self) -> dict[str, Failure]:
        """sha256 of a picture -> what stands below it, for every run that kept failures."""
        found: dict[str, Failure] = {}
        for attack in self.attacks:
            for one in _failures(attack.run, self.folder):
                found.setdefault(one.shot.sha256, one)
        return found

    @cached_property
    def convincing(self) -> tuple[Failure, ...]:
        """The most convincing failures: the wrong label with the highest confidence, once a sample."""
        ranked = sorted(self.failures.values(), key=lambda one: -(one.confidence_after or 0))
        by_sample: dict[str, Failure] = {}
        for one in ranked:
            by_sample.setdefault(one.sample, one)
        return tuple(by_sample.values())[:SHOWN]

    @cached_property
    def matrices(self) -> tuple[Matrix, ...]:
        """Who became what, for the strongest attack of each norm that fooled anybody."""
        strongest: dict[str, Attacked] = {}
        for attack in self.attacks:
            if attack.table.reason or not fooled(attack.table).any():
                continue
            norm = norm_of(attack.last)
            best = strongest.get(norm)
            if best is None or attack.last.value < best.last.value:
                strongest[norm] = attack
        return tuple(matrix(one, class_names(self.outline.record)) for one in strongest.values())

    @cached_property
    def prices(self) -> tuple[Price, ...]:
        """What each attack cost."""
        return tuple(price(attack) for attack in self.attacks)


def _failures(run: CheckRun, folder: Path | None) -> Iterator[Failure]:
    """The failures that a run drew, as its list beside the pictures tells them."""
    shots = {
        artifact.sha256: artifact
        for artifact in (run.outcome.artifacts if isinstance(run.outcome, Measured) else ())
    }
    for told in columns.listed(run, "failures", folder):
        shot = shots.get(str(told.get("picture")))
        factor, epsilon = _number(told.get("magnified")), _number(told.get("epsilon"))
        if shot is None or factor is None or epsilon is None:
            continue
        yield Failure(
            run=run.id, shot=shot, sample=str(told.get("sample", "")),
            before=str(told.get("label", "")), confidence_before=_number(told.get("confidence")),
            after=str(told.get("adversarial", "")),
            confidence_after=_number(told.get("adversarial_confidence")),
            budget=f"{told.get('norm', '')} \N{GREEK SMALL LETTER EPSILON} = {wording.budget(epsilon)}",
            factor=factor,
        )  # fmt: skip


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def budget_of(one: Measurement) -> float:
    """The budget that a figure is for; 0 where its conditions name none."""
    value = one.conditions.get("epsilon", 0.0)
    return 0.0 if isinstance(value, bool | str) else float(value)


def threat_of(one: Measurement) -> tuple[tuple[str, Scalar], ...]:
    """What makes the budgets of two figures comparable: the norm and whatever confines the attacker."""
    return tuple((key, one.conditions[key]) for key in ("norm", *THREAT) if key in one.conditions)


def together(attacks: Sequence[Attacked]) -> list[tuple[float, Measurement]]:
    """What is left where a sample counts as robust only if none of these attacks fools it.

    Only attacks on the very same samples are put together; fewer than two need no such line. A budget
    at which no sound attack was run is left out, or void where that is all there is.
    """
    same: dict[bytes, list[Attacked]] = {}
    for attack in attacks:
        if not attack.table.reason and not any(one.slice for one in attack.bounds):
            ids, tried = attack.table.by_name["id"], attack.table.by_name["attacked"]
            same.setdefault(ids.astype(str).tobytes() + tried.tobytes(), []).append(attack)
    group = max(same.values(), key=len, default=[])
    if len(group) < 2:
        return []
    import numpy as np

    first = np.stack([
        np.where(fooled(one.table), one.table.by_name["epsilon_fooled"], np.inf) for one in group
    ]).min(axis=0)  # fmt: skip
    tried, n = group[0].table.by_name["attacked"], max(one.last.n for one in group)
    points = []
    for epsilon in sorted({0.0, *(budget_of(one) for attack in group for one in attack.bounds)}):
        left = int((tried & ~(first <= epsilon)).sum())
        here = [one for attack in group for one in attack.bounds if budget_of(one) == epsilon]
        sound = not here or not all(voids(one) for one in here)
        caveats = () if sound else tuple(c for one in here for c in one.caveats if c.voids)
        if left <= n:
            points.append((epsilon, proportion(BOUND, left, n, caveats)))
    supported = [(epsilon, one) for epsilon, one in points if not voids(one)]
    return supported if any(epsilon > 0 for epsilon, _ in supported) else points


def norm_of(one: Measurement) -> str:
    """The norm that a figure is for; empty where its conditions name none."""
    return str(one.conditions.get("norm", ""))


def voids(one: Measurement) -> bool:
    """Whether a caveat voids it."""
    return any(caveat.voids for caveat in one.caveats)


def telling_conditions(one: Measurement) -> dict[str, Scalar]:
    """Norm and budget: by them a figure is found again."""
    return {key: one.conditions[key] for key in ("norm", "epsilon") if key in one.conditions}


def clean(run: CheckRun) -> Measurement | None:
    """Accuracy on clean inputs, which is robust accuracy within a budget of 0."""
    kept = run.outcome.measurements if isinstance(run.outcome, Measured) else ()
    return next((one for one in kept if one.name == "clean_accuracy" and not one.slice), None)


def fooled(table: columns.Columns) -> np.ndarray:
    """(n,) bool: attacked, and fooled at some budget."""
    both: np.ndarray = table.by_name["attacked"] & table.by_name["fooled"]
    return both


def proportion(name: str, successes: int, n: int, caveats: tuple[Caveat, ...]) -> Measurement:
    """A share of the evidence's rows with its score interval (Wilson 1927) at 95 %."""
    z = NormalDist().inv_cdf(0.975)
    p, zz = successes / n, z * z / n
    centre = (p + zz / 2) / (1 + zz)
    half = z * math.sqrt(p * (1 - p) / n + zz / (4 * n)) / (1 + zz)
    interval = Interval(
        low=max(0.0, min(p, centre - half)), high=min(1.0, max(p, centre + half)), level=0.95,
        method="wilson",
    )  # fmt: skip
    return Measurement(name=name, value=p, n=n, interval=interval, caveats=caveats)


def nearest(attack: Attacked) -> list[tuple[float, float]]:
    """The corners of accuracy against every budget, where an attack looked for nearest examples.

    An example at distance d is inside every ball of radius d and more, so what is left beyond the
    distances is an upper bound at every budget. Empty for an attack that fills its budget, whose
    curve has nothing to tell between its budgets.
    """
    table = attack.table
    if table.reason:
        return []
    lost = fooled(table)
    distance, within = table.by_name["distance"][lost], table.by_name["epsilon_fooled"][lost]
    if not len(distance) or (distance < 0).any():
        return []
    import numpy as np

    if 2 * int((distance < NEARER * within).sum()) < len(distance):
        return []
    correct, n = int(table.by_name["attacked"].sum()), max(1, attack.last.n)
    distance = np.sort(distance)
    step = max(1, len(distance) // CORNERS)
    corners, left = [(0.0, correct / n)], correct / n
    for k in range(step, len(distance) + step, step):
        count = min(k, len(distance))
        # The corner stands where the last of these samples is lost: never below the true curve.
        x = float(distance[count - 1])
        corners += [(x, left), (x, (correct - count) / n)]
        left = (correct - count) / n
    corners.append((max(budget_of(one) for one in attack.bounds), left))
    return corners


def class_names(record: AuditRecord) -> tuple[str, ...]:
    """The classes as the data set, else the model, names them."""
    for card in (record.data, record.model):
        names = card.facts.get("classes")
        if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
            return tuple(names)
    return ()


def matrix(attack: Attacked, classes: Sequence[str]) -> Matrix:
    """True class by class under attack, in counts, over all budgets of the attack."""
    import numpy as np

    def name(index: int) -> str:
        return classes[index] if 0 <= index < len(classes) else str(index)

    table = attack.table.by_name
    kept, lost = table["attacked"] & ~table["fooled"], fooled(attack.table)
    label, wrong = table["label"], table["adversarial"]
    pairs, found = np.unique(np.stack([label[lost], wrong[lost]]), axis=1, return_counts=True)
    counts = {
        (true, other): count
        for (true, other), count in zip(pairs.T.tolist(), found.tolist(), strict=True)
    }
    into = {other: sum(c for (_, o), c in counts.items() if o == other) for _, other in counts}
    out = {
        true: sum(c for (t, _), c in counts.items() if t == true)
        for true in np.unique(label[table["attacked"]]).tolist()
    }
    rows = sorted(sorted(out, key=lambda true: (-out[true], true))[:CLASSES])
    shown = sorted(sorted(into, key=lambda other: (-into[other], other))[:CLASSES])
    others = len(into) > len(shown)
    most = max(counts.values())

    def cell(count: int) -> Cell:
        return Cell(count, min(LEVELS, math.ceil(LEVELS * count / most)))

    built = []
    for true in rows:
        cells = [cell(counts.get((true, other), 0)) for other in shown]
        if others:
            rest = out[true] - sum(one.samples for one in cells)
            cells.append(cell(rest))
        mine = label == true
        built.append(
            MatrixRow(
                name(true), int((mine & table["attacked"]).sum()), int((mine & kept).sum()),
                tuple(cells),
            )
        )  # fmt: skip
    (true, other), count = max(counts.items(), key=lambda item: (item[1], [-k for k in item[0]]))
    told = (
        f"Most often a \N{LEFT DOUBLE QUOTATION MARK}{name(true)}\N{RIGHT DOUBLE QUOTATION MARK} was "
        f"called \N{LEFT DOUBLE QUOTATION MARK}{name(other)}\N{RIGHT DOUBLE QUOTATION MARK}: "
        f"{wording.count(count)} of {wording.counted(int(lost.sum()), 'fooled sample')}."
    )
    largest = wording.conditions(telling_conditions(attack.last))
    return Matrix(
        attack.run.id, largest, tuple(name(other) for other in shown), others, tuple(built),
        len(out) - len(rows), told,
    )  # fmt: skip


def price(attack: Attacked) -> Price:
    """What a run cost, as its counter and its evidence tell it."""
    run, table = attack.run, attack.table
    cost = (run.cost.forward, run.cost.backward) if run.cost else None
    place = wording.conditions(telling_conditions(attack.last))
    if table.reason:
        return Price(
            run.id, place, attack.last, attack.void, cost, 0, None, 0, None, (), table.reason
        )
    by_name = table.by_name
    tried = by_name["attacked"]
    robust = tried & ~by_name["fooled"]
    return Price(
        run.id, place, attack.last, attack.void, cost,
        int(tried.sum()), _means(by_name, tried), int(robust.sum()), _means(by_name, robust),
        _stages(attack), "",
    )  # fmt: skip


def _means(by_name: Mapping[str, np.ndarray], rows: np.ndarray) -> tuple[float, float] | None:
    """Mean forward and backward passes over some rows, or None if there are none."""
    if not rows.any():
        return None
    return float(by_name["forward"][rows].mean()), float(by_name["backward"][rows].mean())


def _stages(attack: Attacked) -> tuple[Stage, ...]:
    """Who fell at which stage, where the evidence has a column ``stage`` (-1: at none).

    Names come from the condition ``stages`` where it lists them, separated by commas; else stages
    are numbered from 1.
    """
    by_name = attack.table.by_name
    if "stage" not in by_name:
        return ()
    import numpy as np

    stage, lost = by_name["stage"], fooled(attack.table)
    names = [part.strip() for part in str(attack.last.conditions.get("stages", "")).split(",")]
    numbers = np.unique(stage[lost & (stage >= 0)]).astype(int).tolist()
    found = []
    for k, after in zip(numbers[:STAGES], [*numbers[1:STAGES], None], strict=False):
        # What is left beyond the last line of its own is told in one line.
        last = after is None and len(numbers) > STAGES
        rows = lost & ((stage >= k) if last else (stage == k))
        name = (
            names[k] if k < len(names) and not names[k].isdigit() and names[k] else f"stage {k + 1}"
        )
        spent = _means(by_name, rows)
        if spent is not None:
            told = f"{name} and after" if last else name
            found.append(Stage(told, int(rows.sum()), *spent))
    return tuple(found)

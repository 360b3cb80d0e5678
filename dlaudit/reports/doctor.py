"""The doctor's page: which diagnostics of an attack failed, passed, or were not run.

Knows the measurements ``diagnostic`` and ``diagnostics_failed``; never how an attack is examined. A
diagnostic that was not run is listed with its reason and is never shown as passed.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from dlaudit.audit.record import CheckRun, Measured, Measurement, Scalar, Undefined
from dlaudit.reports import wording
from dlaudit.reports.outline import Outline
from dlaudit.reports.panels import shared_conditions

DIAGNOSTIC, FAILED = "diagnostic", "diagnostics_failed"
State = Literal["failed", "not run", "unclear", "passed"]
ORDER: tuple[State, ...] = ("failed", "unclear", "not run", "passed")
"""Worst first."""
TOLD_APART = ("measures", "statistic", "threshold", "source", "level", "doubtful", "voids")
"""Conditions that have a place of their own."""


class Diagnostic(NamedTuple):
    """One diagnostic: its name, what came out, the published criterion, what to do about it.

    voids: whether it takes the robust accuracy away, rather than leaving a doubt.
    """

    name: str
    state: State
    voids: bool
    measures: str
    statistic: str
    threshold: str
    source: str
    level: str
    told: str


class Doctor(NamedTuple):
    """One run of the doctor. counted: what its record counts as failed, None if it does not.

    common: the conditions that all of its diagnostics share.
    """

    run: str
    common: dict[str, Scalar]
    diagnostics: tuple[Diagnostic, ...]
    counted: int | None
    doubt: str

    @property
    def voiding(self) -> int:
        """How many failed diagnostics take the robust accuracy away."""
        return sum(one.voids for one in self.diagnostics)

    def having(self, state: State) -> int:
        """How many diagnostics ended so."""
        return sum(one.state == state for one in self.diagnostics)


def doctors(outline: Outline) -> tuple[Doctor, ...]:
    """Every run that tells of diagnostics, worst diagnostics first."""
    found = [doctor(run) for run in outline.record.runs if isinstance(run.outcome, Measured)]
    return tuple(one for one in found if one.diagnostics)


def doctor(run: CheckRun) -> Doctor:
    """The diagnostics of one run; none for a run that tells of none."""
    outcome = run.outcome
    if not isinstance(outcome, Measured):
        return Doctor(run.id, {}, (), None, "")
    measured = [one for one in outcome.measurements if one.name == DIAGNOSTIC]
    missing = [one for one in outcome.undefined if one.name == DIAGNOSTIC]
    counts = [one.value for one in outcome.measurements if one.name == FAILED]
    counted = int(counts[0]) if counts else None
    shared = shared_conditions((*measured, *missing))
    apart = {*TOLD_APART} - {"level"}
    common = {key: value for key, value in shared.items() if key not in apart}
    built = [_measured(one, common) for one in measured]
    built += [_diagnostic(one, "not run", [one.reason], common) for one in missing]
    built.sort(key=lambda one: (ORDER.index(one.state), not one.voids))
    failed = sum(one.state == "failed" for one in built)
    doubt = ""
    if counted is not None and counted != failed and built:
        doubt = (
            f"The record counts {wording.counted(counted, 'failed diagnostic')}, the list below "
            f"{failed}: they do not belong together."
        )
    return Doctor(run.id, common, tuple(built), counted, doubt)


def _measured(one: Measurement, common: dict[str, Scalar]) -> Diagnostic:
    state: State = "unclear"
    if one.value in {0, 1}:
        state = "failed" if one.value else "passed"
    # Only what the other columns do not say: what was found besides, and the remedy.
    said = f"{_said(one, 'threshold')}; {_said(one, 'source')})"
    remarks = [
        caveat.message.partition(said)[2].lstrip(". ") or caveat.message for caveat in one.caveats
    ]
    return _diagnostic(one, state, remarks, common)


def _said(one: Measurement | Undefined, key: str) -> str:
    return wording.scalar(one.conditions[key]) if key in one.conditions else ""


def _diagnostic(
    one: Measurement | Undefined, state: State, remarks: list[str], common: dict[str, Scalar]
) -> Diagnostic:
    conditions = one.conditions
    elsewhere = {*TOLD_APART, *common}
    rest = {key: value for key, value in conditions.items() if key not in elsewhere}
    remarks += [wording.conditions(rest)] if rest else []

    return Diagnostic(
        name=one.slice.get(DIAGNOSTIC) or "without a name", state=state,
        voids=state == "failed" and conditions.get("voids") is True,
        measures=_said(one, "measures"), told=". ".join(remarks),
        statistic=_said(one, "statistic"), threshold=_said(one, "threshold"),
        source=_said(one, "source"), level="" if "level" in common else _said(one, "level"),
    )  # fmt: skip

"""Compares rules with measurements. This module alone decides what passing means.

Knows rules and numbers; never how anything was measured. Silence is never a pass: no match, an
undefined number, a skipped or crashed run each keep the gate closed (DESIGN.md §3, §5).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from enum import IntEnum
from typing import NamedTuple, assert_never

from dlaudit.audit.record import (
    AuditRecord,
    CheckRun,
    Errored,
    Measured,
    Measurement,
    Rule,
    Scalar,
    Skipped,
    Status,
    Undefined,
    Verdict,
    Waiver,
)

WORST_FIRST: tuple[Status, ...] = ("fail", "not_assessed", "inconclusive", "pass")
RELATIVE = 1e-9
"""Conditions that differ by less, relatively, are the same number (8/255 written in two ways)."""


class ExitCode(IntEnum):
    """What ``run``, ``gate`` and ``demo`` return to the shell."""

    PASSED = 0
    FAILED = 1
    UNUSABLE = 2
    NOT_SHOWN = 3
    INCONCLUSIVE = 4
    DEFECT = 5
    INTERRUPTED = 130


class Opinion(NamedTuple):
    """What one measurement, or the lack of one, says about a rule."""

    status: Status
    reason: str


def judge(rule: Rule, runs: Mapping[str, CheckRun], waiver: Waiver | None = None) -> Verdict:
    """The verdict of one rule: the worst opinion over everything in its run that it speaks of.

    runs: run id -> run. waiver: that of the rule's run, if it has one; an expired one is ignored.
    """
    opinions, observed = _opinions(rule, runs.get(rule.run))
    worst = min(opinions, key=lambda opinion: WORST_FIRST.index(opinion.status))
    return Verdict(
        rule=rule.id,
        status=worst.status,
        reason=worst.reason,
        observed=observed,
        waived=waiver if waiver and not waiver.expired else None,
    )


def judge_all(
    rules: Sequence[Rule], runs: Iterable[CheckRun], waivers: Iterable[Waiver]
) -> tuple[Verdict, ...]:
    """One verdict per rule, in the rules' order."""
    by_id = {run.id: run for run in runs}
    by_run = {waiver.run: waiver for waiver in waivers}
    return tuple(judge(rule, by_id, by_run.get(rule.run)) for rule in rules)


def _opinions(rule: Rule, run: CheckRun | None) -> tuple[list[Opinion], tuple[Measurement, ...]]:
    """Every opinion on a rule (at least one), and the measurements it looked at."""
    if run is None:
        return [Opinion("not_assessed", f"there is no run {rule.run!r}")], ()
    match run.outcome:
        case Errored(error=error, message=message):
            return [Opinion("not_assessed", f"the run crashed: {error}: {message}")], ()
        case Skipped(reason=reason):
            return [Opinion("not_assessed", f"the run was skipped: {reason}")], ()
        case Measured(measurements=measurements, undefined=undefined):
            observed = tuple(one for one in measurements if speaks_of(rule, one))
            unknown = [one for one in undefined if speaks_of(rule, one)]
            opinions = [opinion(rule, one) for one in observed]
            for one in unknown:
                where = f" ({', '.join(_slice(one))})" if one.slice else ""
                opinions.append(Opinion("not_assessed", f"undefined{where}: {one.reason}"))
            if not opinions:
                reason = f"nothing in {rule.run!r} matches {rule.measurement!r}{_filters(rule)}"
                opinions = [Opinion("not_assessed", reason)]
            return opinions, observed
        case _:
            assert_never(run.outcome)


def speaks_of(rule: Rule, one: Measurement | Undefined) -> bool:
    """Whether a rule is about this number: same name, and every filter of the rule is met."""
    return (
        one.name == rule.measurement
        and all(one.slice.get(key) == wanted for key, wanted in rule.slice.items())
        and all(
            key in one.conditions and _same(one.conditions[key], wanted)
            for key, wanted in rule.conditions.items()
        )
    )


def _same(got: Scalar, wanted: Scalar) -> bool:
    """Equal; numbers within 1e-9 relative; true is not 1."""
    if isinstance(got, bool) or isinstance(wanted, bool):
        return got is wanted
    if isinstance(got, int | float) and isinstance(wanted, int | float):
        return math.isclose(got, wanted, rel_tol=RELATIVE)
    return got == wanted


def _slice(one: Measurement | Undefined) -> list[str]:
    """Which part of the data a number speaks of, where it is not everybody."""
    return [f"{key} = {value}" for key, value in one.slice.items()]


def _about(one: Measurement) -> str:
    """On how many samples a number stands, and of which part of the data."""
    return ", ".join([*([] if one.interval else ["exact"]), f"n = {one.n}", *_slice(one)])


def _filters(rule: Rule) -> str:
    wanted = {**rule.slice, **rule.conditions}
    return (
        f" with {', '.join(f'{key} = {value}' for key, value in wanted.items())}" if wanted else ""
    )


def opinion(rule: Rule, one: Measurement) -> Opinion:
    """Pass only if the whole interval lies on the rule's good side, fail if it lies beyond."""
    for caveat in one.caveats:
        if caveat.voids:
            return Opinion("inconclusive", f"{caveat.source} voids it: {caveat.message}")
    low, high = (one.interval.low, one.interval.high) if one.interval else (one.value, one.value)
    if one.interval and one.interval.level < rule.level - RELATIVE:
        reason = f"the interval has level {one.interval.level:g}, the rule asks for {rule.level:g}"
        return Opinion("inconclusive", reason)
    ends = f" [{low:.6g}, {high:.6g}]" if one.interval else ""
    shown = f"{one.value:.6g}{ends} ({_about(one)})"
    if rule.at_least is not None:
        good, bad, sign = low >= rule.threshold, high < rule.threshold, ">="
    else:
        good, bad, sign = high <= rule.threshold, low > rule.threshold, "<="
    asked = f"{sign} {rule.threshold:g}"
    if good:
        return Opinion("pass", f"{shown} is {asked}")
    if bad:
        return Opinion("fail", f"{shown} is not {asked}")
    return Opinion("inconclusive", f"{shown} does not decide {asked}")


def dated(waivers: Iterable[Waiver], today: date) -> tuple[Waiver, ...]:
    """The waivers with ``expired`` set by the day of judgement; the last day still counts."""
    return tuple(
        Waiver(run=w.run, owner=w.owner, reason=w.reason, until=w.until, expired=w.until < today)
        for w in waivers
    )


def blocking_runs(record: AuditRecord) -> list[CheckRun]:
    """The runs that errored or were skipped and that nobody answers for."""
    waived = {waiver.run for waiver in record.waivers if not waiver.expired}
    return [
        run for run in record.runs if not isinstance(run.outcome, Measured) and run.id not in waived
    ]


def exit_code(record: AuditRecord) -> ExitCode:
    """The gate's answer: 0 only if there is a rule, each passed or is waived, and every run ran."""
    counted = {verdict.status for verdict in record.verdicts if verdict.waived is None}
    if "fail" in counted:
        return ExitCode.FAILED
    judged = {verdict.rule for verdict in record.verdicts}
    silent = not judged or any(rule.id not in judged for rule in record.rules)
    if "not_assessed" in counted or blocking_runs(record) or silent:
        return ExitCode.NOT_SHOWN
    if "inconclusive" in counted:
        return ExitCode.INCONCLUSIVE
    return ExitCode.PASSED

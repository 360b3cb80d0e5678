"""The verdicts as JUnit XML, for every CI system that counts tests.

Knows test cases; refuses a silent green: what was not assessed is an ``<error>``, what failed or
could not be decided a ``<failure>``, and only what is waived is ``<skipped>``. An errored or
skipped run that no verdict tells of is a test case of its own, and a record without any rule holds
one error. Undefined numbers are no test cases: they stand in the output of a suite without any.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple
from xml.sax.saxutils import escape, quoteattr

from dlaudit.audit.record import AuditRecord, Errored
from dlaudit.reports import wording
from dlaudit.reports.outline import NO_RULE, Judged, Outline, Unmeasured
from dlaudit.reports.shortfalls import undefined

Element = Literal["failure", "error", "skipped"]


class Case(NamedTuple):
    """One test case. element: None if it passed; message and text belong to the element."""

    suite: str
    classname: str
    name: str
    seconds: float
    element: Element | None
    kind: str
    message: str
    text: str


def render(record: AuditRecord, folder: Path | None = None) -> str:
    """The record as JUnit XML; one test suite per suite, one case per rule."""
    del folder
    outline = Outline(record)
    cases = cases_of(outline)
    suites: dict[str, list[Case]] = {}
    for case in cases:
        suites.setdefault(case.suite, []).append(case)
    name = _attribute(outline.name)
    lines = ['<?xml version="1.0" encoding="UTF-8"?>']
    lines.append(f"<testsuites name={name} {_counts(cases)}>")
    for suite, members in suites.items():
        head = f"name={_attribute(suite)} {_counts(members)} timestamp={_attribute(_stamp(record))}"
        lines.append(f"  <testsuite {head}>")
        for case in members:
            lines += _lines(case)
        lines.append("  </testsuite>")
    if missing := undefined(outline):
        lines += [
            f'  <testsuite name="undefined numbers" {_counts([])}>',
            f"    <system-out>{escape(chr(10).join(one.line for one in missing))}</system-out>",
            "  </testsuite>",
        ]
    lines.append("</testsuites>")
    return "\n".join(lines) + "\n"


def cases_of(outline: Outline) -> list[Case]:
    """Every rule, and every unmeasured run that no rule tells of."""
    timed: set[str] = set()
    cases = [_of_rule(outline, one, timed) for one in outline.judged]
    cases += [_of_run(outline, one) for one in outline.unspoken]
    if not outline.judged:
        cases.append(
            Case("dlaudit", "dlaudit.gate", "at least one rule", 0.0, "error", "not_assessed",
                 NO_RULE, "")
        )  # fmt: skip
    return cases


def _of_rule(outline: Outline, one: Judged, timed: set[str]) -> Case:
    if one.run is not None:
        suite, classname = outline.suite_of(one.run), outline.case_name(one.run)
        # A run's time is told once, so that sums over the cases are right.
        seconds = 0.0 if one.run.id in timed else one.run.seconds
        timed.add(one.run.id)
    else:
        run = one.rule.run if one.rule else one.id
        suite, classname, seconds = run.partition(".")[0], run, 0.0
    asked = wording.criterion(one.rule) if one.rule else one.id
    details = [asked, *(wording.result(seen) for seen in one.verdict.observed[:20])]
    if one.rule and one.rule.rationale:
        details.append(f"rationale: {one.rule.rationale}")
    element: Element | None
    match one.status:
        case "pass":
            element = None
        case "fail" | "inconclusive":
            element = "failure"
        case "not_assessed":
            element = "error"
    message = f"{asked}: {one.reason}"
    if one.waived:
        element, message = "skipped", f"{message} ({wording.waiver(one.waived)})"
    return Case(suite, classname, one.id, seconds, element, one.status, message, "\n".join(details))


def _of_run(outline: Outline, one: Unmeasured) -> Case:
    text = one.run.outcome.traceback if isinstance(one.run.outcome, Errored) else ""
    message, element = one.reason, "error"
    if not one.blocking and one.waiver:
        message, element = f"{one.reason} ({wording.waiver(one.waiver)})", "skipped"
    suite, classname = outline.suite_of(one.run), outline.case_name(one.run)
    return Case(
        suite, classname, f"{one.run.id} ran", one.run.seconds,
        "error" if element == "error" else "skipped", one.kind, message, text,
    )  # fmt: skip


def _counts(cases: list[Case]) -> str:
    tally = {"failure": 0, "error": 0, "skipped": 0, None: 0}
    for case in cases:
        tally[case.element] += 1
    seconds = sum(case.seconds for case in cases)
    return (
        f'tests="{len(cases)}" failures="{tally["failure"]}" errors="{tally["error"]}" '
        f'skipped="{tally["skipped"]}" time="{seconds:.3f}"'
    )


def _lines(case: Case) -> list[str]:
    head = (
        f"    <testcase classname={_attribute(case.classname)} name={_attribute(case.name)} "
        f'time="{case.seconds:.3f}"'
    )
    if case.element is None:
        shown = escape(wording.printable(case.text))
        return [f"{head}>", f"      <system-out>{shown}</system-out>", "    </testcase>"]
    message = _attribute(wording.clipped(case.message, 1000))
    if case.element == "skipped":
        body = f"      <skipped message={message}/>"
    else:
        text = escape(wording.printable(case.text))
        body = (
            f"      <{case.element} type={_attribute(case.kind)} message={message}>"
            f"{text}</{case.element}>"
        )
    return [f"{head}>", body, "    </testcase>"]


def _attribute(text: str) -> str:
    return quoteattr(wording.one_line(text))


def _stamp(record: AuditRecord) -> str:
    return record.started.removesuffix("Z")

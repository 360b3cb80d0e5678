"""The verdicts as Markdown, for the summary of a CI step or a comment on a pull request.

Knows tables and their limits: worst first, below 1 MiB whatever the record holds, and what is left
out is said. The first line is a hidden mark, by which a bot finds its own comment again.
"""

from __future__ import annotations

import re
from pathlib import Path

from dlaudit.audit.record import AuditRecord
from dlaudit.reports import wording
from dlaudit.reports.outline import NO_RULE, Judged, Outline, Unmeasured
from dlaudit.reports.shortfalls import undefined

MOST = 1_000_000
"""Bytes, below GitHub's 1 MiB for a step's summary: a longer one is dropped without an error."""
CELL = 400
SIGNS = {
    "fail": "\N{CROSS MARK}",
    "not_assessed": "\N{BLACK QUESTION MARK ORNAMENT}",
    "inconclusive": "\N{WARNING SIGN}\N{VARIATION SELECTOR-16}",
    "pass": "\N{WHITE HEAVY CHECK MARK}",
    "errored": "\N{COLLISION SYMBOL}",
    "skipped": "\N{BLACK RIGHT-POINTING DOUBLE TRIANGLE WITH VERTICAL BAR}\N{VARIATION SELECTOR-16}",
}


def render(record: AuditRecord, folder: Path | None = None) -> str:
    """The summary; at most ``MOST`` bytes of UTF-8."""
    del folder
    outline = Outline(record)
    head = _head(outline)
    rows = [] if outline.judged else [f"| {_face('not_assessed')} | (no rule) | | {NO_RULE} |"]
    rows += [_rule_row(one) for one in outline.judged if one.status != "pass"]
    rows += [_run_row(one) for one in outline.unspoken]
    rows += [_rule_row(one) for one in outline.judged if one.status == "pass"]
    foot = _foot(outline)
    budget = MOST - _bytes([*head, *foot]) - 800
    kept: list[str] = []
    for row in rows:
        budget -= len(row.encode()) + 1
        if budget < 0:
            break
        kept.append(row)
    if len(kept) < len(rows):
        left = wording.counted(len(rows) - len(kept), "row")
        kept.append(
            f"| | | | {left} left out: a summary has room for 1 MB. All are in the record. |"
        )
    return "\n".join([*head, *kept, *_missing(outline, budget), *foot]) + "\n"


def _missing(outline: Outline, budget: int) -> list[str]:
    """The numbers that do not exist, as far as there is room for them."""
    lines = [f"- {quoted(one.line)}" for one in undefined(outline)]
    kept: list[str] = []
    for line in lines:
        budget -= len(line.encode()) + 1
        if budget < 0:
            left = wording.counted(len(lines) - len(kept), "number")
            kept.append(f"- {left} left out: a summary has room for 1 MB. All are in the record.")
            break
        kept.append(line)
    return ["", "Numbers that do not exist, and why:", "", *kept] if kept else []


def _head(outline: Outline) -> list[str]:
    tally = outline.tally
    counts = [
        f"{tally[key]} {label}"
        for key, label in (
            ("fail", "failed"), ("not_assessed", "not assessed"), ("inconclusive", "inconclusive"),
            ("waived", "waived"), ("pass", "passed"),
        )
        if tally[key]
    ]  # fmt: skip
    runs = [f"{tally[key]} {key}" for key in ("errored", "skipped", "measured") if tally[key]]
    record = outline.record
    answer = (
        f"**{wording.exit_words(outline.code)}.** Rules: {', '.join(counts) or 'none'}. "
        f"Runs: {', '.join(runs) or 'none'}. Undefined numbers: {tally['undefined']}."
    )
    subject = (
        f"Model {quoted(record.model.name, 200)} `{_digest(record.model.fingerprint)}`, "
        f"data {quoted(record.data.name, 200)} `{_digest(record.data.fingerprint)}`, "
        f"plan `{_digest(record.plan_sha256)}` (sealed before the first check)."
    )
    return [
        f"<!-- dlaudit:{_mark(outline.name)} -->",
        f"## {wording.gate(outline.code)}: {quoted(outline.name, 200)}",
        "",
        answer,
        "",
        subject,
        "",
        "| verdict | rule | criterion | measured |",
        "|---|---|---|---|",
    ]


def _foot(outline: Outline) -> list[str]:
    lines = [""]
    if outline.untouched:
        names = ", ".join(
            quoted(outline.suite_words(name).title, 80) for name in outline.untouched[:40]
        )
        lines += [f"Suites that did not run, and so have shown nothing: {names}.", ""]
    version = quoted(outline.record.tool.get("version", ""), 40)
    lines.append(f"<sub>dlaudit {version}; a rule passes only if its whole interval does.</sub>")
    return lines


def _rule_row(one: Judged) -> str:
    face = _face(one.status, waived=one.waived is not None)
    asked = quoted(wording.criterion(one.rule)) if one.rule else "not in the record"
    seen = one.verdict.observed
    if one.status == "pass" and len(seen) == 1 and one.rule:
        told = quoted(wording.result(seen[0], threshold=one.rule.threshold))
    else:
        told = quoted(one.reason)
        if len(seen) == 1 and "n = " not in one.verdict.reason:
            told += f", n = {wording.count(seen[0].n)}"
    if one.waived:
        told += f"<br>{quoted(wording.waiver(one.waived))}"
    named = quoted(one.id)
    if one.rule and one.rule.run not in one.id:
        named += f" ({quoted(one.rule.run)})"
    return f"| {face} | {named} | {asked} | {told} |"


def _run_row(one: Unmeasured) -> str:
    face = _face(one.kind, waived=not one.blocking)
    told = quoted(one.reason)
    if one.waiver:
        told += f"<br>{quoted(wording.waiver(one.waiver))}"
    return f"| {face} | {quoted(one.run.id)} | no rule speaks of this run | {told} |"


def _face(status: str, *, waived: bool = False) -> str:
    words = wording.VERDICTS.get(status) or wording.OUTCOMES[status]  # type: ignore[call-overload]
    return f"{SIGNS[status]} {words.label}{', waived' if waived else ''}"


def quoted(text: str, most: int = CELL) -> str:
    """Text from the record, so that it is neither markup nor a mention nor the end of a cell."""
    plain = wording.clipped(wording.one_line(text), most)
    plain = plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    plain = re.sub(r"([\\`*_{}\[\]~$]|:(?=//|\w+:))", r"\\\1", plain)
    plain = plain.replace("|", "&#124;").replace("www.", "www&#46;")
    return plain.replace("@", "&#64;<!-- -->")


def _mark(name: str) -> str:
    """A name that can stand in a comment: no hyphens in a row, nothing that ends it."""
    return (
        re.sub(r"[^\w.]+", "-", wording.clipped(wording.one_line(name), 120)).strip("-") or "audit"
    )


def _digest(sha: str) -> str:
    return re.sub(r"[^0-9a-fA-F]", "", sha)[:12]


def _bytes(lines: list[str]) -> int:
    return sum(len(line.encode()) + 1 for line in lines)

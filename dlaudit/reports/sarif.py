"""What keeps the gate closed, as SARIF 2.1.0 for code scanning.

Knows results and where they point (the plan); passes are not results. Whatever keeps the gate
closed has level ``error``, for a platform that blocks only on errors must block here too; the status
itself stands in the message and the properties. Waived findings are suppressed, not left out.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import dlaudit
from dlaudit.audit.record import AuditRecord, Errored, canonical
from dlaudit.reports import wording
from dlaudit.reports.outline import NO_RULE, Judged, Outline, Unmeasured
from dlaudit.reports.shortfalls import undefined

MOST = 5000
"""Results that code scanning keeps of one run; the worst come first."""
PLAN = "audit.toml"
MESSAGE = 1000
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"

RUN_RULES = {
    "dlaudit/run-errored": "A run that no rule speaks of did not come to its end.",
    "dlaudit/run-skipped": "A run that no rule speaks of was skipped.",
    "dlaudit/no-rule": "The plan holds no rule: nothing was judged.",
}


def render(record: AuditRecord, folder: Path | None = None) -> str:
    """The record as one SARIF run."""
    del folder
    outline = Outline(record)
    silence = _result("dlaudit/no-rule", f"Not assessed: {NO_RULE}.", "not_assessed", ["no rule"])
    results = [] if outline.judged else [silence]
    results += [_of_rule(one) for one in outline.judged if one.status != "pass"]
    results += [_of_run(one) for one in outline.unspoken]
    results.sort(key=lambda result: "suppressions" in result)
    rules = [_rule(one) for one in outline.judged]
    rules += [_described(id_, text) for id_, text in RUN_RULES.items()]
    positions = {rule["id"]: position for position, rule in reversed(list(enumerate(rules)))}
    for result in results[:MOST]:
        result["ruleIndex"] = positions[result["ruleId"]]
    document = {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "dlaudit",
                        "version": record.tool.get("version") or dlaudit.__version__,
                        "rules": rules,
                    }
                },
                "automationDetails": {"id": f"dlaudit/{_text(outline.name, 200)}/"},
                "invocations": [_invocation(outline, len(results))],
                "results": results[:MOST],
                "columnKind": "unicodeCodePoints",
                "properties": {
                    "planSha256": record.plan_sha256,
                    "modelFingerprint": record.model.fingerprint,
                    "dataFingerprint": record.data.fingerprint,
                },
            }
        ],
    }
    return json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _of_rule(one: Judged) -> dict[str, Any]:
    asked = wording.criterion(one.rule) if one.rule else one.id
    label = wording.VERDICTS[one.status].label
    message = f"{label.capitalize()}: {asked}. {one.reason}"
    # The fingerprint outlives a changed threshold and a changed number: it is the same finding.
    identity = [one.id]
    if one.rule:
        identity += [one.rule.run, one.rule.measurement, canonical(one.rule.slice).decode(),
                     canonical(one.rule.conditions).decode()]  # fmt: skip
    result = _result(_text(one.id, 400), message, one.status, identity)
    if one.rule and one.rule.requirements:
        result["properties"]["requirements"] = list(one.rule.requirements)
    if one.waived:
        result["suppressions"] = [_suppression(wording.waiver(one.waived))]
    return result


def _of_run(one: Unmeasured) -> dict[str, Any]:
    message = f"{one.kind.capitalize()}: {one.run.id}. {one.reason}"
    result = _result(f"dlaudit/run-{one.kind}", message, one.kind, [one.run.id])
    if not one.blocking and one.waiver:
        result["suppressions"] = [_suppression(wording.waiver(one.waiver))]
    return result


def _result(rule: str, message: str, status: str, identity: list[str]) -> dict[str, Any]:
    fingerprint = hashlib.sha256("\n".join([rule, *identity]).encode()).hexdigest()
    region = {"startLine": 1}
    return {
        "ruleId": rule,
        "level": "error",
        "message": {"text": _text(message, MESSAGE)},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": PLAN}, "region": region}}],
        "partialFingerprints": {"dlaudit/v1": fingerprint},
        "properties": {"status": status},
    }


def _suppression(justification: str) -> dict[str, Any]:
    return {
        "kind": "external",
        "status": "accepted",
        "justification": _text(justification, MESSAGE),
    }


def _rule(one: Judged) -> dict[str, Any]:
    asked = wording.criterion(one.rule) if one.rule else one.id
    described = _described(_text(one.id, 400), asked)
    what = wording.bound(one.rule.measurement) if one.rule else ""
    if what and one.rule:
        help_ = f"{one.rule.measurement} is {what}: a stronger attack may fool more samples."
        described["help"] = {"text": help_}
    if one.rule and one.rule.rationale:
        described["fullDescription"] = {"text": _text(one.rule.rationale, MESSAGE)}
    return described


def _described(id_: str, text: str) -> dict[str, Any]:
    return {
        "id": id_,
        "shortDescription": {"text": _text(text, MESSAGE)},
        "defaultConfiguration": {"level": "error"},
    }


def _invocation(outline: Outline, found: int) -> dict[str, Any]:
    notes: list[dict[str, Any]] = [
        {
            "level": "error",
            "message": {"text": _text(f"{one.run.id} {one.kind}: {one.reason}", MESSAGE)},
            **(
                {"exception": {"kind": _text(one.run.outcome.error, 200)}}
                if isinstance(one.run.outcome, Errored)
                else {}
            ),
        }
        for one in outline.unmeasured[:MOST]
    ]
    notes += [
        {"level": "note", "message": {"text": _text(one.line, MESSAGE)}}
        for one in undefined(outline)[:MOST]
    ]
    if found > MOST:
        left = f"{found - MOST} further results are left out; all are in record.json."
        notes.append({"level": "warning", "message": {"text": left}})
    return {
        "executionSuccessful": not any(one.kind == "errored" for one in outline.unmeasured),
        "exitCode": int(outline.code),
        "exitCodeDescription": wording.exit_words(outline.code),
        "toolExecutionNotifications": notes,
    }


def _text(text: str, most: int) -> str:
    """One line that is never empty: SARIF asks for at least one character."""
    return wording.clipped(wording.one_line(text), most) or "(empty)"

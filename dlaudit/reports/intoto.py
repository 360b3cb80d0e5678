"""The verdicts as an in-toto statement with the predicate test-result v0.1, to be signed by others.

Knows subjects, digests and lists of tests. The predicate has no word for "not shown": whatever keeps
the gate closed is a failed test, with its status in its name, and what is waived or undefined a
warning. Only a gate that opens without either has passed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dlaudit.audit.judge import ExitCode
from dlaudit.audit.record import AuditRecord, Card
from dlaudit.reports import wording
from dlaudit.reports.outline import Outline
from dlaudit.reports.shortfalls import shortfalls

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"


def render(record: AuditRecord, folder: Path | None = None) -> str:
    """The statement, not enveloped: a signature is laid around these bytes."""
    del folder
    outline = Outline(record)
    record = outline.record
    failed: list[str] = []
    warned: list[str] = []
    for one in shortfalls(outline):
        warn = one.waived or one.kind == "undefined"
        (warned if warn else failed).append(one.line)
    opens = "WARNED" if warned else "PASSED"
    result = opens if outline.code is ExitCode.PASSED else "FAILED"
    document = {
        "_type": STATEMENT,
        "subject": [_subject("model", record.model), _subject("data", record.data)],
        "predicateType": PREDICATE,
        "predicate": {
            "result": result,
            "configuration": [_plan(outline)],
            "passedTests": [
                wording.one_line(
                    f"{one.id} ({wording.criterion(one.rule)})" if one.rule else one.id
                )
                for one in outline.judged
                if one.status == "pass"
            ],
            "warnedTests": warned,
            "failedTests": failed,
        },
    }
    return json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _subject(role: str, card: Card) -> dict[str, Any]:
    return {
        "name": f"{role}: {wording.one_line(card.name)}",
        "digest": {"sha256": card.fingerprint},
        "annotations": {"digestOf": "sha256 over (role, sha256 of file), as dlaudit names it"},
    }


def _plan(outline: Outline) -> dict[str, Any]:
    """The criteria, fixed before the first check."""
    return {
        "name": f"plan: {wording.one_line(outline.name)}",
        "digest": {"sha256": outline.record.plan_sha256},
        "annotations": {
            "sealed": wording.one_line(outline.record.started),
            "exitCode": str(int(outline.code)),
            "exitCodeDescription": wording.exit_words(outline.code),
        },
    }

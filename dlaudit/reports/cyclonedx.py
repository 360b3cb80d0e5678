"""The record as a CycloneDX 1.7 bill of materials with a model card.

Knows the model, its data, every number with its interval, and what limits them. CycloneDX has a
score of how far a claim holds: this module refuses to write one.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from pathlib import Path
from typing import Any

from dlaudit.audit.record import AuditRecord, Card, Measured, Measurement, canonical
from dlaudit.reports import wording
from dlaudit.reports.claims import declarations
from dlaudit.reports.outline import Outline
from dlaudit.reports.shortfalls import shortfalls

SCHEMA = "http://cyclonedx.org/schema/bom-1.7.schema.json"
MODEL, DATA = "model", "data"


def render(record: AuditRecord, folder: Path | None = None) -> str:
    """One bill of materials; its serial number is drawn from the record, so that it is stable."""
    del folder
    outline = Outline(record)
    record = outline.record
    document: dict[str, Any] = {
        "$schema": SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.7",
        "serialNumber": f"urn:uuid:{_serial(record)}",
        "version": 1,
        "metadata": {
            **_timestamp(record.finished),
            "tools": {
                "components": [
                    {"type": "application", "name": "dlaudit",
                     "version": wording.one_line(record.tool.get("version", "unknown"))}
                ]
            },
            "component": _model(outline),
        },
        "components": [_data(record.data)],
        "properties": _properties({
            "planSha256": record.plan_sha256,
            "exitCode": str(int(outline.code)),
            "exitCodeDescription": wording.exit_words(outline.code),
        }),
    }  # fmt: skip
    if declared := declarations(outline, MODEL):
        document["declarations"] = declared
    return json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _model(outline: Outline) -> dict[str, Any]:
    record = outline.record
    card: dict[str, Any] = {
        "modelParameters": {"datasets": [{"ref": DATA}]},
        "quantitativeAnalysis": {"performanceMetrics": _metrics(record)},
        "considerations": {
            "technicalLimitations": [one.line for one in shortfalls(outline)]
            + [
                wording.one_line(f"{part.words.title}: {part.words.limit}")
                for part in outline.suites
            ]
        },
    }
    stated = {one.what: one.statement for one in record.statements}
    if purpose := stated.get("context.intended_purpose"):
        card["considerations"]["useCases"] = [wording.one_line(purpose)]
    return {
        "type": "machine-learning-model",
        "bom-ref": MODEL,
        "name": wording.one_line(record.model.name) or "(unnamed)",
        "modelCard": card,
        "properties": _properties({
            "fingerprint": record.model.fingerprint,
            **{f"fact:{key}": wording.plain(value) for key, value in record.model.facts.items()},
        }),
    }  # fmt: skip


def _data(card: Card) -> dict[str, Any]:
    facts = {f"fact:{key}": wording.plain(value) for key, value in card.facts.items()}
    return {
        "type": "data",
        "bom-ref": DATA,
        "name": wording.one_line(card.name) or "(unnamed)",
        "properties": _properties({"fingerprint": card.fingerprint, **facts}),
    }


def _metrics(record: AuditRecord) -> list[dict[str, Any]]:
    return [
        _metric(run.id, one)
        for run in record.runs
        if isinstance(run.outcome, Measured)
        for one in run.outcome.measurements
    ]


def _metric(run: str, one: Measurement) -> dict[str, Any]:
    """The schema has no place for n, level and conditions: they stand in the slice, in words."""
    how = wording.method(one.interval) if one.interval else f"exact: {one.exact}"
    void = "void" if any(caveat.voids for caveat in one.caveats) else ""
    parts = [void, wording.where(one.slice, one.conditions), f"n = {one.n}", how, one.unit or ""]
    metric: dict[str, Any] = {
        "type": wording.one_line(wording.told_as_bound(f"{run} {one.name}", one.name)),
        "value": repr(one.value),
        "slice": wording.one_line("; ".join(part for part in parts if part)),
    }
    if one.interval is not None:
        ends = {"lowerBound": repr(one.interval.low), "upperBound": repr(one.interval.high)}
        metric["confidenceInterval"] = ends
    return metric


def _properties(values: dict[str, str]) -> list[dict[str, str]]:
    return [
        {"name": f"dlaudit:{wording.one_line(key)}", "value": wording.one_line(value)}
        for key, value in values.items()
    ]


def _timestamp(text: str) -> dict[str, str]:
    """A time that the schema takes; none rather than a wrong one."""
    return {"timestamp": text} if re.fullmatch(r"[\d-]{10}T[\d:]{8}Z", text) else {}


def _serial(record: AuditRecord) -> uuid.UUID:
    digest = hashlib.sha256(canonical(record)).digest()
    return uuid.UUID(bytes=digest[:16], version=4)

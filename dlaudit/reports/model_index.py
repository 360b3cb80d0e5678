"""The measurements as the front matter of a model card: Hugging Face's ``model-index``.

Knows tasks, data sets and metrics. The form has no place for an interval beside a value, so each
metric is named with its interval and n; what was not shown stands below, for people to read.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from dlaudit.audit.record import AuditRecord, Measured, Measurement
from dlaudit.reports import wording
from dlaudit.reports.markdown import quoted
from dlaudit.reports.outline import Outline
from dlaudit.reports.shortfalls import shortfalls

TASKS = {
    "images": "image-classification",
    "tabular": "tabular-classification",
    "tokens": "text-classification",
    "audio": "audio-classification",
    "segmentation": "image-segmentation",
    "detection": "object-detection",
}
"""What a data set's card calls its task, or else its kind -> the task's name there."""

EXPONENT = re.compile(r"(: -?\d+)(e[-+]\d+,?)$", re.MULTILINE)
"""A number such as 1e-06, which YAML 1.1 takes for text; what is text here ends on a quotation mark."""


def render(record: AuditRecord, folder: Path | None = None) -> str:
    """YAML between two lines of dashes, then Markdown: the beginning of a model card's README."""
    del folder
    outline = Outline(record)
    record = outline.record
    results = [one for run in record.runs if (one := _result(record, run.id, run.outcome))]
    index = [{"name": wording.one_line(record.model.name) or "(unnamed)", "results": results}]
    # JSON is YAML, and cannot be mistaken for anything else.
    front = EXPONENT.sub(r"\1.0\2", json.dumps(index, indent=1, ensure_ascii=False))
    lines = ["---", f"model-index: {front}", "---", ""]
    lines += ["## Evaluation by dlaudit", "", f"{wording.exit_words(outline.code)}.", ""]
    scope = "Each number holds for the data, conditions and interval beside it, and no further."
    lines += [
        f"{scope} What was not shown:",
        "",
        *(f"- {quoted(one.line)}" for one in shortfalls(outline)),
        "",
        f"Plan `{record.plan_sha256}`, model `{record.model.fingerprint}`.",
    ]
    return "\n".join(lines) + "\n"


def _result(record: AuditRecord, run: str, outcome: object) -> dict[str, Any] | None:
    if not isinstance(outcome, Measured) or not outcome.measurements:
        return None
    facts = record.data.facts
    kind = TASKS.get(str(facts.get("task")), TASKS.get(str(facts.get("kind")), "other"))
    if "quantity" in facts:
        kind = "tabular-regression" if facts.get("kind") == "tabular" else "other"
    return {
        "task": {"type": kind, "name": wording.one_line(run)},
        "dataset": {
            "type": "other",
            "name": wording.one_line(record.data.name) or "(unnamed)",
            "revision": record.data.fingerprint,
        },
        "metrics": [_metric(one) for one in outcome.measurements],
        "source": {"name": "dlaudit", "url": f"urn:sha256:{record.plan_sha256}"},
    }


def _metric(one: Measurement) -> dict[str, Any]:
    where = wording.where(one.slice, one.conditions)
    named = f"{one.name} {wording.result(one)}" + (f" ({where})" if where else "")
    return {
        "type": wording.one_line(one.name) or "(unnamed)",
        "value": one.value,
        "name": wording.one_line(named),
        "args": {
            wording.one_line(key): wording.one_line(value) if isinstance(value, str) else value
            for key, value in {**one.slice, **one.conditions}.items()
        },
    }

"""Calls a renderer by name. Knows the names of formats; never their form."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from pathlib import Path

from dlaudit.audit.record import AuditRecord
from dlaudit.audit.registry import Registry
from dlaudit.audit.run_folder import REPORTS, RunFolder


def rendered(record: AuditRecord, name: str, folder: Path | None, registry: Registry) -> str:
    """The report as text. A renderer takes the record, and the run's folder if it asks for it."""
    render = registry.find("renderers", name).get()
    takes_folder = len(inspect.signature(render).parameters) > 1
    text: str = render(record, folder) if takes_folder else render(record)
    return text


def write_reports(
    folder: RunFolder, record: AuditRecord, formats: Iterable[str], registry: Registry
) -> None:
    """Write every format into the run's folder (JSON is there already), then the manifest."""
    for name in formats:
        if name != "json":
            file = REPORTS.get(name, f"report.{name}")
            folder.write(file, rendered(record, name, folder.path, registry))
    folder.seal_files()

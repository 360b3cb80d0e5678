"""The record itself, canonical: sorted keys, UTF-8, no spaces. The other formats are made from it."""

from __future__ import annotations

from pathlib import Path

from dlaudit.audit.record import AuditRecord, canonical


def render(record: AuditRecord, folder: Path | None = None) -> str:
    """The bytes of ``record.json`` as text."""
    del folder
    return canonical(record).decode()

"""Pictures of a run's evidence, small enough to travel inside a report.

Knows media types, digests and a budget of bytes; never what a picture shows. A file is read only
from inside the run's folder and embedded only if its digest is the recorded one.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from dlaudit.audit.evidence import digest
from dlaudit.audit.record import Artifact, AuditRecord, Measured
from dlaudit.reports.wording import size

BUDGET = 1_300_000
"""Bytes of pictures in one report, as embedded: the whole report stays below 2 MB."""
EMBEDDED = ("image/png", "image/svg+xml")


class Picture(NamedTuple):
    """An artifact as the report shows it: ``uri`` to embed, or the reason why it is not shown."""

    uri: str = ""
    reason: str = ""


def is_picture(artifact: Artifact) -> bool:
    """Whether an artifact is meant to be looked at."""
    return artifact.media_type in EMBEDDED


def pictures(
    record: AuditRecord, folder: Path | None, *, budget: int = BUDGET
) -> dict[str, Picture]:
    """sha256 -> picture, for every picture of the record; each content is embedded once.

    Runs take turns, so that one check with many pictures does not use up the budget of the others.
    """
    found: dict[str, Picture] = {}
    left = budget
    for artifact in _in_turns(record):
        if artifact.sha256 in found:
            continue
        stored, reason = content(artifact, folder)
        needed = len(stored) * 4 // 3 + 64
        if not reason and needed > left:
            reason = (
                f"not embedded: {size(len(stored))}, and the {size(budget)} that this report allows "
                "for pictures are used up"
            )
        if reason:
            found[artifact.sha256] = Picture(reason=reason)
            continue
        left -= needed
        found[artifact.sha256] = Picture(uri=data_uri(artifact, stored))
    return found


def data_uri(artifact: Artifact, stored: bytes) -> str:
    """A picture as an address that holds it."""
    return f"data:{artifact.media_type};base64,{base64.b64encode(stored).decode('ascii')}"


def _in_turns(record: AuditRecord) -> Iterable[Artifact]:
    """First pictures of all runs, then second ones, and so on."""
    by_run = [
        [artifact for artifact in run.outcome.artifacts if is_picture(artifact)]
        for run in record.runs
        if isinstance(run.outcome, Measured)
    ]
    for turn in range(max((len(artifacts) for artifacts in by_run), default=0)):
        yield from (artifacts[turn] for artifacts in by_run if turn < len(artifacts))


def content(artifact: Artifact, folder: Path | None) -> tuple[bytes, str]:
    """The file's bytes, or why they are not to be had."""
    if folder is None:
        return b"", "not shown: this report was rendered without the run's folder"
    root = folder.resolve()
    path = (root / artifact.path).resolve()
    if not path.is_relative_to(root):
        return b"", "not shown: its recorded path leads out of the run's folder"
    if not path.is_file():
        return b"", "not shown: the file is missing from the run's folder"
    stored = path.read_bytes()
    if digest(stored) != artifact.sha256:
        return b"", "not shown: the file was altered, its digest is not the recorded one"
    return stored, ""

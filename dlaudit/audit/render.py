"""Calls a renderer by name. Knows the names of formats; never their form."""

from __future__ import annotations

import inspect
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from dlaudit.audit.record import AuditRecord
from dlaudit.audit.registry import Registry
from dlaudit.audit.run_folder import REPORTS, RunFolder
from dlaudit.errors import PlanError, ReportFailed

Renderer = Callable[[AuditRecord, str, Path], str]


def rendered(
    record: AuditRecord,
    name: str,
    folder: Path | None,
    registry: Registry,
    options: Mapping[str, object] = MappingProxyType({}),
) -> str:
    """The report as text. A renderer takes the record, and the run's folder if it asks for it.

    options: keyword arguments of the renderer (``edition``, ``language``, ``since``). Raises PlanError
    for one that it does not take.
    """
    render = registry.find("renderers", name).get()
    known = inspect.signature(render).parameters
    if unknown := [key for key in options if key not in known]:
        told = ", ".join(f"--{key}" for key in unknown)
        message = f"--format {name}: takes no {told}; html does."
        raise PlanError(message)
    takes_folder = sum(one.kind is not one.KEYWORD_ONLY for one in known.values()) > 1
    text: str = render(record, *([folder] if takes_folder else []), **options)
    return text


def write_reports(
    folder: RunFolder, record: AuditRecord, formats: Iterable[str], render: Renderer
) -> None:
    """Write every format into the run's folder (JSON is there already), then the manifest.

    render: (record, format, folder) -> text. Raises ReportFailed, at the end, if one crashed.
    """
    failures = []
    for name in formats:
        if name == "json":
            continue
        try:
            folder.write(REPORTS.get(name, f"report.{name}"), render(record, name, folder.path))
        except (Exception, SystemExit) as error:  # noqa: BLE001  (the others are still written)
            failures.append(f"--format {name}: {type(error).__name__}: {error}")
    folder.seal_files()
    if failures:
        message = f"{'; '.join(failures)}. The record is kept: {folder.path}"
        raise ReportFailed(message)


def rendered_apart(name: str, folder: Path, plugins: Iterable[str]) -> str:
    """The report by a renderer that is not dlaudit's own, in a process that may die.

    Raises ReportFailed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "report"
        asked = ["report", str(folder), "--format", name, "-o", str(output)]
        asked += [word for plugin in plugins for word in ("--plugin", plugin)]
        ended = subprocess.run(  # noqa: S603  (this interpreter, our own module)
            [sys.executable, "-P", "-m", "dlaudit", *asked],
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if not output.exists():
            last = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1]
            message = f"the renderer ended with {ended.returncode} and no report: {last}"
            raise ReportFailed(message)
        return output.read_text(encoding="utf-8")

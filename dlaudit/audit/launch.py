"""Starts an audit as a command asks for it, and renders what is stored."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from dlaudit.audit.engine import Events, audit
from dlaudit.audit.evidence import write_whole
from dlaudit.audit.executor import Limits, executor_of
from dlaudit.audit.plan import Source
from dlaudit.audit.record import AuditRecord
from dlaudit.audit.registry import Registry, snake_case
from dlaudit.audit.render import rendered, rendered_apart, write_reports
from dlaudit.audit.run_folder import folder_of, stored
from dlaudit.errors import RunFolderError


def launch(
    source: Source,
    *,
    out: Path | None,
    executor: str = "process",
    resume: bool = False,
    limits: Limits | None = None,
    events: Events | None = None,
) -> tuple[AuditRecord, Path]:
    """Run an audit and write its reports. Raises PlanError before anything is written.

    Also when it is interrupted, no worker is left behind and the journal is kept.
    """
    if resume and out is None:
        message = "--resume goes with --out: which run shall go on?"
        raise RunFolderError(message)
    registry = Registry()
    running = executor_of(
        executor, limits or Limits(), lambda name: registry.find("executors", name).get()
    )
    try:
        record, folder = audit(source, running, out or default_folder, resume=resume, events=events)
    finally:
        running.close()

    def report(record: AuditRecord, name: str, path: Path) -> str:
        own = {part.name for part in registry.parts("renderers") if part.origin == "dlaudit"}
        if name in own:
            return rendered(record, name, path, registry)
        # Guests are code that may end the process: where jobs are isolated, so are renderers.
        if running.about.isolated:
            return rendered_apart(name, path, source.plugins)
        return rendered(record, name, path, source.registry())

    write_reports(folder, record, source.formats, report)
    return record, folder.path


def default_folder(name: str) -> Path:
    """``dlaudit-runs/<name>-<UTC time>``."""
    slug = "-".join(
        "".join(c if c.isalnum() or c in "._" else " " for c in snake_case(name)).split()
    )
    return Path("dlaudit-runs") / f"{slug}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"


def report_text(run: Path, name: str, output: Path | None, plugins: tuple[Path, ...] = ()) -> str:
    """A stored run in another format, written to ``output`` if that is given.

    Raises RunFolderError if ``output`` lies inside the run: a run's files are sealed.
    """
    folder = folder_of(run)
    if output is not None and output.resolve().is_relative_to(folder.resolve()):
        message = f"{output}: lies inside the run, whose files are sealed. Write it elsewhere."
        raise RunFolderError(message)
    registry = Registry(plugins)
    text = rendered(stored(folder), name, folder, registry)
    if output is not None:
        try:
            write_whole(output, text.encode())
        except OSError as error:
            message = f"{output}: cannot be written: {error.strerror}"
            raise RunFolderError(message) from error
    return text

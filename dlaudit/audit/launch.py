"""Starts an audit as a command asks for it, and renders what is stored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from dlaudit.audit.evidence import write_whole
from dlaudit.audit.record import AuditRecord
from dlaudit.audit.registry import Registry, snake_case
from dlaudit.audit.render import rendered, rendered_apart, write_reports
from dlaudit.audit.run_folder import folder_of, stored
from dlaudit.errors import RunFolderError

if TYPE_CHECKING:
    from dlaudit.audit.difference import Difference
    from dlaudit.audit.engine import Events
    from dlaudit.audit.executor import Limits
    from dlaudit.audit.plan import Source


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
    # A stored run is rendered without them, in a fraction of the time.
    from dlaudit.audit import engine
    from dlaudit.audit import executor as executors

    if resume and out is None:
        message = "--resume goes with --out: which run shall go on?"
        raise RunFolderError(message)
    registry = Registry()
    running = executors.executor_of(
        executor, limits or executors.Limits(), lambda name: registry.find("executors", name).get()
    )
    try:
        record, folder = engine.audit(
            source, running, out or default_folder, resume=resume, events=events
        )
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


def report_text(
    run: Path,
    name: str,
    output: Path | None,
    plugins: tuple[Path, ...] = (),
    options: Mapping[str, str] = MappingProxyType({}),
    *,
    since: Path | None = None,
) -> str:
    """A stored run in another format, written to ``output`` if that is given.

    options: what the renderer takes besides, as ``edition`` and ``language``. since: an earlier run,
    for the section of changes.

    Raises RunFolderError if ``output`` lies inside the run: a run's files are sealed.
    """
    folder = folder_of(run)
    if output is not None:
        outside(output, folder)
    registry = Registry(plugins)
    asked: dict[str, object] = dict(options)
    if since is not None:
        from dlaudit.audit.difference import compare

        asked["since"] = compare(since, run)
    text = rendered(stored(folder), name, folder, registry, asked)
    if output is not None:
        written(output, text)
    return text


def outside(output: Path, folder: Path) -> None:
    """Refuse to write into a run, whose files are sealed. Raises RunFolderError."""
    if output.resolve().is_relative_to(folder.resolve()):
        message = f"{output}: lies inside the run, whose files are sealed. Write it elsewhere."
        raise RunFolderError(message)


def written(output: Path, text: str) -> None:
    """Write a report as a whole or not at all. Raises RunFolderError."""
    try:
        write_whole(output, text.encode())
    except OSError as error:
        message = f"{output}: cannot be written: {error.strerror}"
        raise RunFolderError(message) from error


def difference_page(
    difference: Difference, first: Path, second: Path, output: Path, language: str = "en"
) -> None:
    """Write two compared runs as a page, with the pictures they kept of samples that flipped."""
    from dlaudit.reports.difference import page

    sides = [(stored(run), folder_of(run)) for run in (first, second)]
    for _, folder in sides:
        outside(output, folder)
    written(output, page(difference, sides, language=language))

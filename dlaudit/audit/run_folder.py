"""The files of a run: made, continued, sealed, read again and verified (DESIGN.md §4).

Knows names, digests and the journal; never what the numbers mean.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from dlaudit.audit.evidence import UNFINISHED, file_digest, write_whole
from dlaudit.audit.perform import WORK, Done
from dlaudit.audit.record import AnswersRun, AuditRecord, Measured, canonical, read_record
from dlaudit.errors import RunFolderError

RECORD, JOURNAL, MANIFEST = "record.json", "journal.jsonl", "manifest.json"
REPORTS = {
    "html": "report.html",
    "junit": "junit.xml",
    "sarif": "results.sarif",
    "md": "summary.md",
    "csv": "measurements.csv",
    "cyclonedx": "model.cdx.json",
    "intoto": "test-result.intoto.json",
    "model-index": "model-index.md",
    "annex-iv": "annex-iv.md",
}
UNREADABLE = (msgspec.DecodeError, ValueError)
"""What msgspec raises for no JSON and for another shape, and for bytes that are no UTF-8."""
UNSIGNED = {MANIFEST, JOURNAL}
"""Files that the manifest does not list; signatures (``*.sig``) are the third kind."""


class Seal(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of a journal: the plan's hash, dated before anything was measured.

    subject: the fingerprints of what is audited, so that no run goes on with another model.
    """

    plan_sha256: str
    started: str
    tool: str
    subject: dict[str, str] = {}


class RunFolder:
    """The folder that a run writes."""

    def __init__(self, path: Path) -> None:
        """path: may be missing or empty; see ``claim``."""
        self.path = path

    def check(self, *, resume: bool) -> None:
        """Raise RunFolderError, before anything is opened, if a run cannot go here."""
        if self.path.exists() and not self.path.is_dir():
            message = f"{self.path}: expected a folder, found a file"
            raise RunFolderError(message)
        if not self.path.is_dir() or not any(self.path.iterdir()):
            return  # also to resume: a run that was cut off early may have left nothing
        if resume:
            if not (self.path / JOURNAL).is_file():
                message = f"{self.path}: nothing to resume, there is no {JOURNAL}"
                raise RunFolderError(message)
        else:
            hint = " Add --resume to go on with it." if (self.path / JOURNAL).exists() else ""
            message = f"{self.path}: expected a new or an empty folder, it holds files.{hint}"
            raise RunFolderError(message)

    @contextmanager
    def claim(self, seal: Seal, *, resume: bool) -> Iterator[Journal]:
        """Seal the plan in the journal, or take up a journal with the same seal.

        Raises RunFolderError if another plan was sealed there or another process writes there.
        """
        journal = Journal(self.path / JOURNAL)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            opened = journal.path.open("a+b")
        except OSError as error:
            message = f"{self.path}: expected a folder to write to: {error.strerror}"
            raise RunFolderError(message) from error
        with opened as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                message = f"{self.path}: another dlaudit is writing this run"
                raise RunFolderError(message) from error
            if resume:
                journal.take_up(seal)
                for half_written in self.path.rglob(f"{UNFINISHED}*"):
                    half_written.unlink()
            elif journal.path.stat().st_size:
                message = f"{self.path}: another dlaudit wrote a run here meanwhile"
                raise RunFolderError(message)
            if journal.seal is None:
                journal.begin(seal)
            yield journal

    def finish(self, record: AuditRecord) -> None:
        """Write the record and clear the workers' shared folder."""
        write_whole(self.path / RECORD, canonical(record))
        shutil.rmtree(self.path / WORK, ignore_errors=True)

    def write(self, name: str, text: str) -> None:
        """Write a rendered report."""
        write_whole(self.path / name, text.encode())

    def seal_files(self) -> None:
        """Write the manifest over everything that lies here."""
        write_whole(self.path / MANIFEST, canonical(digests(self.path)))


class Journal:
    """One line per finished job, flushed and synced before the next one counts."""

    def __init__(self, path: Path) -> None:
        """path: the journal file."""
        self.path = path
        self.done: dict[str, Done] = {}
        self.seal: Seal | None = None

    def begin(self, seal: Seal) -> None:
        """Seal the plan: the journal's first line."""
        self.write(canonical(seal))
        self.seal = seal

    def take_up(self, seal: Seal) -> None:
        """Read what is finished. A last line that was cut off is dropped: its job runs again.

        Raises RunFolderError if the journal is no journal, or that of another plan, model or data.
        """
        whole = self.path.read_bytes()
        kept = whole[: whole.rfind(b"\n") + 1]
        if len(kept) < len(whole):
            with self.path.open("r+b") as file:
                file.truncate(len(kept))
        lines = kept.splitlines()
        if not lines:  # it was cut off while it was sealed
            return
        try:
            self.seal = msgspec.json.decode(lines[0], type=Seal)
            finished = [msgspec.json.decode(line, type=Done) for line in lines[1:]]
        except UNREADABLE as error:
            message = f"{self.path}: cannot be read as a journal: {error}"
            raise RunFolderError(message) from error
        if self.seal.plan_sha256 != seal.plan_sha256:
            message = (
                f"{self.path.parent}: was sealed with plan {self.seal.plan_sha256[:12]}, this plan is "
                f"{seal.plan_sha256[:12]}: criteria are fixed before a run. Use another --out."
            )
            raise RunFolderError(message)
        if changed := [
            part for part, one in self.seal.subject.items() if seal.subject[part] != one
        ]:
            message = (
                f"{self.path.parent}: {' and '.join(changed)} changed since the run began: its "
                "measurements would be of two different things. Use another --out."
            )
            raise RunFolderError(message)
        self.done = {done.run.id: done for done in finished}

    def add(self, done: Done) -> None:
        """Write down a finished job; one that was left undone stands in the record alone."""
        if not done.undone:
            self.write(canonical(done))
        self.done[done.run.id] = done

    def write(self, line: bytes) -> None:
        """Append a line and have the disk keep it."""
        with self.path.open("ab") as file:
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def answers(self) -> tuple[AnswersRun, ...]:
        """The clean answers that the jobs made use of, by split."""
        used = {one.split: one for done in self.done.values() for one in done.answers}
        return tuple(used[split] for split in sorted(used))


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file of a run that the manifest lists, by its path inside the folder."""
    files = {
        file.relative_to(folder).as_posix(): file
        for file in sorted(folder.rglob("*"))
        if file.is_file() and WORK not in file.relative_to(folder).parts
    }
    return {
        name: file_digest(file)
        for name, file in files.items()
        if name not in UNSIGNED and not name.endswith(".sig")
    }


def folder_of(run: Path) -> Path:
    """The run's folder, given the folder or its ``record.json``. Raises RunFolderError."""
    folder = run.parent if run.name == RECORD else run
    if not (folder / RECORD).is_file():
        what = "no record.json lies there" if folder.is_dir() else "there is no such folder"
        hint = (
            " The run was cut off: `dlaudit run --resume` finishes it."
            if (folder / JOURNAL).is_file()
            else ""
        )
        message = f"{run}: expected a run, {what}.{hint}"
        raise RunFolderError(message)
    return folder


def stored(run: Path) -> AuditRecord:
    """The record of a run. Raises RunFolderError if there is none or it cannot be read."""
    folder = folder_of(run)
    try:
        return read_record((folder / RECORD).read_bytes())
    except UNREADABLE as error:
        message = f"{folder / RECORD}: cannot be read as a record: {error}"
        raise RunFolderError(message) from error


def alterations(run: Path) -> list[str]:
    """Every way in which a run's files differ from its manifest and record; empty if intact.

    A hash proves that nothing was altered since the manifest was written, not who wrote it.
    """
    folder = folder_of(run)
    if not (folder / MANIFEST).is_file():
        return [f"{MANIFEST}: is missing"]
    try:
        promised = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=dict[str, str])
    except UNREADABLE as error:
        return [f"{MANIFEST}: cannot be read: {error}"]
    found = digests(folder)
    problems = [f"{name}: is missing" for name in promised if name not in found]
    problems += [
        f"{name}: was altered"
        for name in promised
        if name in found and found[name] != promised[name]
    ]
    problems += [f"{name}: is not in the manifest" for name in found if name not in promised]
    try:
        record = stored(run)
    except RunFolderError as error:
        return [*problems, *error.problems]
    for name, sha256 in sorted(named_evidence(record).items()):
        if found.get(name) != sha256:
            problems.append(f"{name}: the record names evidence {sha256[:12]} that is not there")
    return problems


def named_evidence(record: AuditRecord) -> dict[str, str]:
    """Every evidence file that a record names: path -> sha256."""
    artifacts = [one.artifact for one in record.answers]
    for run in record.runs:
        if isinstance(run.outcome, Measured):
            artifacts += run.outcome.artifacts
    return {one.path: one.sha256 for one in artifacts}

"""The audit from plan to record: jobs, journal, verdicts, findings.

Knows the order of things; no suite by name, no process and no report's form.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

import dlaudit
from dlaudit.audit.catalogues import aged
from dlaudit.audit.catalogues import opened as opened_book
from dlaudit.audit.declared import Declaration, scope_of, statements
from dlaudit.audit.executor import AnyExecutor, Limits, lost
from dlaudit.audit.findings import find
from dlaudit.audit.judge import dated, judge_all
from dlaudit.audit.perform import Job, Opened
from dlaudit.audit.plan import Plan, RunSpec, Source
from dlaudit.audit.record import AuditRecord, CheckRun, canonical, read_record
from dlaudit.audit.registry import Registry
from dlaudit.audit.run_folder import Journal, RunFolder, Seal

PACKAGES = (
    "torch", "numpy", "scipy", "pandas", "scikit-learn", "foolbox", "captum", "fairlearn",
    "onnxruntime", "skops", "safetensors", "msgspec", "jinja2", "matplotlib",
)  # fmt: skip


def _unheard(news: object) -> None:
    """Nobody listens."""


class Events(msgspec.Struct, frozen=True, kw_only=True):
    """Who is told how far the audit is. All of it is talk, none of it is the result."""

    opened: Callable[[Opened], None] = _unheard
    resumed: Callable[[int], None] = _unheard
    started: Callable[[Job], None] = _unheard
    finished: Callable[[CheckRun], None] = _unheard


def audit(
    source: Source,
    executor: AnyExecutor,
    out: Path | Callable[[str], Path],
    *,
    resume: bool = False,
    events: Events | None = None,
) -> tuple[AuditRecord, RunFolder]:
    """Run the plan and write its record. Raises PlanError before anything was written.

    out: the run's folder, or a function that gives it for the plan's name.
    """
    events = events or Events()
    if isinstance(out, Path):
        RunFolder(out).check(resume=resume)
    opened = executor.prepare(source)
    folder = RunFolder(out if isinstance(out, Path) else out(opened.plan.name))
    folder.check(resume=resume)
    events.opened(opened)
    seal = Seal(
        plan_sha256=opened.plan.sha256, subject=opened.fingerprints, started=now(),
        tool=dlaudit.__version__,
    )  # fmt: skip
    with folder.claim(seal, resume=resume) as journal:
        if resume:
            events.resumed(len(journal.done))
        measure(opened.plan, executor, folder, journal, events)
        record = concluded(opened, journal, executor, source.registry())
        folder.finish(record)
    return record, folder


def measure(
    plan: Plan, executor: AnyExecutor, folder: RunFolder, journal: Journal, events: Events
) -> None:
    """Perform every job that the journal does not hold yet, and write each down as it ends."""
    todo = [job_of(plan, spec, folder) for spec in plan.runs if spec.id not in journal.done]
    for job in todo:
        if (failure := job.run.broken) is not None:
            # A part that cannot be imported stands in the record like one that crashed.
            journal.add(lost(job, failure.error, failure.message))
            events.finished(journal.done[job.run.id].run)
    for done in executor.map([job for job in todo if job.run.broken is None], events.started):
        journal.add(done)
        events.finished(done.run)
    for job in todo:
        if job.run.id not in journal.done:
            nothing = lost(job, "WorkerDied", "the executor gave no result for this run")
            journal.add(msgspec.structs.replace(nothing, undone=True))


def job_of(plan: Plan, spec: RunSpec, folder: RunFolder) -> Job:
    """One run of the plan as a job."""
    return Job(
        run=spec, plan_seed=plan.seed, block=plan.block, keep_samples=plan.keep_samples,
        folder=str(folder.path.resolve()), context=plan.context,
        ending=tuple(rule for rule in plan.rules if plan.until_decided and rule.run == spec.id),
    )  # fmt: skip


def concluded(
    opened: Opened,
    journal: Journal,
    executor: AnyExecutor,
    registry: Registry,
) -> AuditRecord:
    """The record: what was measured, judged and found."""
    plan = opened.plan
    books = {name: opened_book(name, registry) for name in plan.catalogues}
    assert journal.seal is not None  # noqa: S101  (claimed before anything is measured)
    record = AuditRecord(
        tool={"name": "dlaudit", "version": dlaudit.__version__},
        started=journal.seal.started,
        finished=now(),
        plan=msgspec.to_builtins(plan),
        plan_sha256=plan.sha256,
        environment=environment(executor, opened.device),
        model=opened.model,
        data=opened.data,
        models=opened.models,
        train=opened.train,
        suites=opened.suites,
        answers=journal.answers(),
        runs=tuple(journal.done[spec.id].run for spec in plan.runs),
        rules=plan.rules,
        waivers=plan.waivers,
        requirements=tuple(item for book in books.values() for item in book),
        catalogues=tuple(book.card(name) for name, book in books.items()),
    )
    # As it will be read again: a list is a list, also to whoever asked for it in Python.
    return judged(read_record(canonical(record)))


def judged(record: AuditRecord, *, today: date | None = None) -> AuditRecord:
    """The same measurements under the record's rules and waivers, judged on a day (UTC)."""
    today = today or datetime.now(UTC).date()
    waivers = dated(record.waivers, today)
    verdicts = judge_all(record.rules, record.runs, waivers)
    context = record.plan.get("context", {})
    written = record.plan.get("declarations", [])
    declarations = msgspec.convert(written, tuple[Declaration, ...], strict=False)
    stated = statements(context, declarations, today=today, subjects=subjects(record))
    findings = find(
        record.requirements, record.rules, verdicts, stated, today=today, scope=scope_of(context),
        checks={run.id: run.check for run in record.runs},
        feeds={suite: feed for card in record.catalogues for suite, feed in card.feeds.items()},
    )  # fmt: skip
    return msgspec.structs.replace(
        record, waivers=waivers, verdicts=verdicts, findings=findings, statements=stated,
        catalogues=tuple(aged(card, today) for card in record.catalogues),
    )  # fmt: skip


def subjects(record: AuditRecord) -> frozenset[str]:
    """The fingerprints of everything that was audited: models, data and their splits."""
    cards = [record.model, *record.models.values(), record.data, *record.data.splits.values()]
    return frozenset(card.fingerprint for card in cards)


def environment(executor: AnyExecutor, device: str) -> dict[str, Any]:
    """Where the audit ran: enough to see what differs when two runs differ."""
    limits: Limits | None = getattr(executor, "limits", None)
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "device": device,
        "executor": msgspec.to_builtins(executor.about),
        "limits": msgspec.to_builtins(limits) if limits else {},
        "threads_per_slot": 1,
        "packages": {name: found for name in PACKAGES if (found := installed(name))},
    }


@cache
def installed(package: str) -> str | None:
    """The version of a package, None if it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def now() -> str:
    """The time, in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

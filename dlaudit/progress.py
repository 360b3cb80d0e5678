"""Tells how far an audit is: a live line per job on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import assert_never

from dlaudit.audit.engine import Events
from dlaudit.audit.perform import Job, Opened
from dlaudit.audit.record import CheckRun, Errored, Measured, Skipped


def outcome_line(run: CheckRun) -> str:
    """How a run ended, in a few words."""
    match run.outcome:
        case Measured(measurements=measurements, undefined=undefined):
            lacking = f", {len(undefined)} undefined" if undefined else ""
            return f"measured {len(measurements)} values{lacking} in {run.seconds:.1f} s"
        case Skipped(reason=reason):
            return f"skipped: {reason}"
        case Errored(error=error, message=message):
            return f"ERRORED: {error}: {message.strip().partition(chr(10))[0]}"
        case _:
            assert_never(run.outcome)


@contextmanager
def told(*, quiet: bool) -> Iterator[Events]:
    """Events that are told on stderr, in the way that suits it."""
    if quiet:
        yield Events()
    elif sys.stderr.isatty():
        with _live() as events:
            yield events
    else:
        yield _plain()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201  (talk goes to stderr)


def _plain() -> Events:
    """One line when a job ends, with the rate and the time left."""
    began = time.monotonic()
    total, ended = 0, 0

    def opened(what: Opened) -> None:
        nonlocal total
        total = len(what.plan.runs)
        sizes = ", ".join(f"{split} {n}" for split, n in what.sizes.items())
        _say(
            f"dlaudit: {what.plan.name}: {total} runs on {what.data.name} ({sizes}), {what.device}"
        )
        _say(f"dlaudit: plan sealed as {what.plan.sha256}")
        for question in what.questions:
            _say(f"dlaudit: asked before anything is measured: {question}")

    def resumed(count: int) -> None:
        nonlocal ended
        ended = count
        _say(f"dlaudit: {count} runs were finished before")

    def finished(run: CheckRun) -> None:
        nonlocal ended
        ended += 1
        left = (time.monotonic() - began) / ended * (total - ended)
        _say(f"[{ended}/{total}] {run.id}: {outcome_line(run)} (about {left:.0f} s left)")

    return Events(opened=opened, resumed=resumed, finished=finished)


@contextmanager
def _live() -> Iterator[Events]:
    """A bar over the runs and a spinner for each that is at work."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    bar = Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True,
    )  # fmt: skip
    with bar:
        whole = bar.add_task("opening model and data", total=None)
        working = {}

        def opened(what: Opened) -> None:
            bar.update(whole, description=what.plan.name, total=len(what.plan.runs))
            console.print(f"plan sealed as {what.plan.sha256[:16]}…", style="dim", highlight=False)
            for question in what.questions:
                console.print(f"asked before anything is measured: {question}", markup=False)

        def started(job: Job) -> None:
            working[job.run.id] = bar.add_task(f"  {job.run.id}", total=None)

        def finished(run: CheckRun) -> None:
            if run.id in working:
                bar.remove_task(working.pop(run.id))
            bar.advance(whole)
            style = "red" if isinstance(run.outcome, Errored) else "dim"
            console.print(
                f"{run.id}: {outcome_line(run)}", style=style, highlight=False, markup=False
            )

        def resumed(count: int) -> None:
            bar.advance(whole, count)

        yield Events(opened=opened, resumed=resumed, started=started, finished=finished)

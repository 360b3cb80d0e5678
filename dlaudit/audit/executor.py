"""Where jobs run: in worker processes that may die, or in this process.

Knows processes, limits and the order of events; never what a job does. An executor is anything
shaped like ``map`` over jobs: what ends badly becomes an errored run, and the others go on.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar, cast

import msgspec
import psutil

from dlaudit.audit.perform import Done, Job, Opened, Workplace, open_workplace, without_paths
from dlaudit.audit.plan import Source
from dlaudit.audit.record import CheckRun, Errored, Executor
from dlaudit.audit.wire import Begin, Inbox, Perform, Refused, Reply, send
from dlaudit.errors import AuditError, PlanError

JOB_TIMEOUT = 3600.0
OPENING = 120.0
"""Seconds that opening model and data may take at least: importing torch alone takes many."""
TICK = 0.1
"""Seconds between two looks at the clocks."""
LOOK = 0.5
"""Seconds between two looks at a worker's memory."""
GRACE = 3.0
"""Seconds in which idle workers may close what their libraries hold open, before they are killed."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """job: seconds for one job; total: seconds for the run; memory: resident bytes per worker."""

    job: float = JOB_TIMEOUT
    total: float | None = None
    memory: int | None = None

    @property
    def opening(self) -> float:
        """Seconds for opening model and data, which a short limit for jobs does not cut off."""
        return max(self.job, OPENING)


class AnyExecutor(Protocol):
    """What the engine asks of an executor."""

    @property
    def about(self) -> Executor:
        """Name, isolation and slots, for the record."""

    def prepare(self, source: Source) -> Opened:
        """Read the plan and open model and data. Raises PlanError; nothing was written."""

    def map(self, jobs: Iterable[Job], started: Callable[[Job], None]) -> Iterator[Done]:
        """Perform jobs in any order; one result for each, whatever happens to it."""

    def close(self) -> None:
        """End everything that still runs."""


class InlineExecutor:
    """In this process: fast to start, easy to debug, isolates nothing."""

    def __init__(self, slots: int | None = None, limits: Limits | None = None) -> None:
        """slots: ignored, there is one. limits: only the total is looked at, between jobs."""
        del slots
        self.limits = limits or Limits()
        self.about = Executor(name="inline", isolated=False)
        self._workplace: Workplace | None = None

    def prepare(self, source: Source) -> Opened:
        """See ``AnyExecutor``."""
        with contextlib.redirect_stdout(sys.stderr):
            answer, self._workplace = open_workplace(source)
        return answer

    def map(self, jobs: Iterable[Job], started: Callable[[Job], None]) -> Iterator[Done]:
        """See ``AnyExecutor``; in the order given."""
        assert self._workplace is not None  # noqa: S101  (prepare comes first)
        deadline = deadline_of(self.limits.total)
        with one_thread():
            for job in jobs:
                if time.monotonic() > deadline:
                    yield out_of_time(job, self.limits)
                else:
                    started(job)
                    with contextlib.redirect_stdout(sys.stderr):  # stdout is for the result
                        done = self._workplace.perform(job)
                    yield done

    def close(self) -> None:
        """Nothing runs on."""


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One compute thread, as in a worker, so that sums are added in the same order everywhere."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), contextlib.ExitStack() as after:
        if torch := sys.modules.get("torch"):
            after.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(1)
        yield


class AnyWorker(Protocol):
    """A worker as a pool sees it: it opens the plan by itself, then performs one job at a time."""

    job: Job | None

    def perform(self, job: Job) -> None:
        """Hand over a job; its clock starts when the worker is ready for it."""

    def poll(self, limits: Limits) -> Reply | Errored | None:
        """An answer, or how the worker ended, or None if it is still at work."""

    def kill(self) -> None:
        """End it, whatever it does."""


Kind = TypeVar("Kind", bound=AnyWorker)


class Pool(ABC, Generic[Kind]):
    """Workers, one per slot, kept between jobs and replaced when they die.

    Subclasses say what a worker is (``start``) and how to wait for any of them (``pause``).
    """

    name: ClassVar[str]

    def __init__(self, slots: int | None = None, limits: Limits | None = None) -> None:
        """slots: workers at a time, by default one per core."""
        self.limits = limits or Limits()
        self.slots = slots or len(os.sched_getaffinity(0))
        self.about = Executor(name=self.name, isolated=True, slots=self.slots)
        self._workers: list[Kind] = []
        self._source: Source | None = None
        self._audited: dict[str, str] = {}

    @abstractmethod
    def start(self, source: Source) -> Kind:
        """A new worker that opens the plan."""

    @abstractmethod
    def pause(self, workers: Sequence[Kind]) -> None:
        """Return when a worker may have something to say, after TICK seconds at most."""

    def prepare(self, source: Source) -> Opened:
        """See ``AnyExecutor``; in the first worker, which is kept."""
        self._source = source
        worker = self._start()
        while (answer := worker.poll(self.limits)) is None:
            self.pause([worker])
        match answer:
            case Opened():
                self._audited = answer.fingerprints
                return answer
            case Refused(problems=problems, defect=defect):
                self._discard(worker)
                if defect:
                    message = f"reading the plan crashed:\n{defect}"
                    raise RuntimeError(message)
                raise PlanError(*problems)
            case Errored(error=error, message=message):
                self._discard(worker)
                problem = f"opening model and data ended the worker: {error}: {message}"
                raise PlanError(problem)
            case Done():
                message = "a worker answered out of turn"
                raise RuntimeError(message)

    def map(self, jobs: Iterable[Job], started: Callable[[Job], None]) -> Iterator[Done]:
        """See ``AnyExecutor``."""
        waiting = deque(jobs)
        deadline = deadline_of(self.limits.total)
        while waiting or any(worker.job for worker in self._workers):
            if time.monotonic() > deadline:
                yield from self._out_of_time(waiting)
                return
            self._assign(waiting, started)
            self.pause(self._workers)
            for worker in list(self._workers):
                answer = self._heard(worker)
                if answer is None:
                    continue
                job = worker.job
                worker.job = None
                if not isinstance(answer, Done):
                    self._discard(worker)
                if job is None:
                    continue
                match answer:
                    case Done():
                        yield answer
                    case Errored(error=error, message=message, traceback=trace):
                        yield lost(job, error, message, trace)
                    case Refused(problems=problems, defect=defect):
                        yield lost(job, "WorkerDied", f"a new worker could not open model and data: "
                                   f"{'; '.join(problems) or defect}")  # fmt: skip

    def _heard(self, worker: Kind) -> Done | Refused | Errored | None:
        """What a worker has to say of its job; a new one must have opened the same as the first."""
        answer = worker.poll(self.limits)
        if not isinstance(answer, Opened):
            return answer
        if answer.fingerprints == self._audited:
            return None
        message = "a new worker found another plan, model or data than the audit began with"
        return Errored(error="SubjectChanged", message=message)

    def close(self) -> None:
        """Kill the workers and all that they started."""
        for worker in list(self._workers):
            self._discard(worker)

    def _assign(self, waiting: deque[Job], started: Callable[[Job], None]) -> None:
        """Give every free worker a job; start workers while jobs wait and slots are free."""
        for worker in self._workers:
            if waiting and worker.job is None:
                self._give(worker, waiting.popleft(), started)
        while waiting and len(self._workers) < self.slots:
            self._give(self._start(), waiting.popleft(), started)

    def _give(self, worker: Kind, job: Job, started: Callable[[Job], None]) -> None:
        worker.perform(job)
        started(job)

    def _start(self) -> Kind:
        assert self._source is not None  # noqa: S101  (prepare comes first)
        worker = self.start(self._source)
        self._workers.append(worker)
        return worker

    def _discard(self, worker: Kind) -> None:
        self._workers.remove(worker)
        worker.kill()

    def _out_of_time(self, waiting: deque[Job]) -> Iterator[Done]:
        """What the run's time limit leaves undone."""
        running = [worker.job for worker in self._workers if worker.job]
        self.close()
        for job in (*running, *waiting):
            yield out_of_time(job, self.limits)


class ProcessExecutor(Pool["Worker"]):
    """In worker processes on this machine, with a clock and a memory cap for each."""

    name = "process"

    def start(self, source: Source) -> Worker:
        """See ``Pool``."""
        return Worker(source)

    def pause(self, workers: Sequence[Worker]) -> None:
        """See ``Pool``."""
        select.select([worker.reply_fd for worker in workers], [], [], TICK)

    def close(self) -> None:
        """See ``Pool``; workers that are at no job may end by themselves."""
        idle = [worker for worker in self._workers if worker.dismiss()]
        deadline = time.monotonic() + GRACE
        for worker in idle:
            worker.ended_before(deadline)
        super().close()


class Worker:
    """One worker process, seen from the parent."""

    def __init__(self, source: Source) -> None:
        """Start the process and have it open the plan."""
        self.job: Job | None = None
        self._opened = False
        self._since = self._looked = time.monotonic()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (closed in kill)
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        self.reply_fd, self._ask_fd = ours_in, ours_out
        self._inbox = Inbox(ours_in, Reply)
        threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR")}
        self._process = subprocess.Popen(  # noqa: S603  (this interpreter, our own module)
            # -P: a file such as random.py in the current folder must not stand in for a library.
            [sys.executable, "-P", "-m", "dlaudit.audit.worker",
             str(theirs_in), str(theirs_out), str(os.getpid())],
            pass_fds=(theirs_in, theirs_out), stdin=subprocess.DEVNULL, stdout=self._log,
            stderr=self._log, start_new_session=True, env={**os.environ, **threads},
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self._ask(Begin(source=source))

    def perform(self, job: Job) -> None:
        """Hand over a job; its clock starts when the worker is ready for it."""
        self.job = job
        self._since = time.monotonic()
        self._ask(Perform(job=job))

    def poll(self, limits: Limits) -> Reply | Errored | None:
        """An answer, or how the worker ended, or None if it is still at work."""
        if self._inbox.waiting():
            try:
                reply = cast("Reply | None", self._inbox.take())
            except (EOFError, msgspec.DecodeError, UnicodeDecodeError):
                return self._died()
            if isinstance(reply, Opened):
                self._opened, self._since = True, time.monotonic()
            if reply is not None:
                return reply
        if self._process.poll() is not None:
            return self._died()
        if self.job is None and self._opened:
            return None
        if overdue := late(self._since, limits, opened=self._opened):
            return msgspec.structs.replace(overdue, traceback=self.last_words())
        if limits.memory and self._memory() > limits.memory:
            message = f"the worker went over its cap of {limits.memory / 2**20:.0f} MiB"
            return Errored(error="OutOfMemory", message=message)
        return None

    def _memory(self) -> int:
        """Resident bytes; looked up twice a second, because walking the process table costs."""
        if time.monotonic() - self._looked < LOOK:
            return 0
        self._looked = time.monotonic()
        return resident(self._process.pid)

    def dismiss(self) -> bool:
        """Close the pipe on which an idle worker waits, which ends it; whether it is idle."""
        idle = self._opened and self.job is None
        if idle:
            os.close(self._ask_fd)
            self._ask_fd = -1
        return idle

    def ended_before(self, deadline: float) -> None:
        """Wait until a dismissed worker has ended, or the deadline of the monotonic clock."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=max(0.0, deadline - time.monotonic()))

    def kill(self) -> None:
        """End the process, what it started, and the pipes."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for fd in (self.reply_fd, self._ask_fd):
            with contextlib.suppress(OSError):
                os.close(fd)
        self._log.close()

    def last_words(self, most: int = 4000) -> str:
        """The end of what the worker printed: a stack trace, if it died of a signal."""
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - most))
        text = without_paths(self._log.read().decode(errors="replace"))
        text = re.sub(r"0x[0-9a-f]{8,}", "0x…", text)  # two equal runs have equal records
        return text.partition("\nExtension modules:")[0]

    def _ask(self, message: Begin | Perform) -> None:
        # A worker that died before it listened is found dead by the next poll.
        with contextlib.suppress(BrokenPipeError):
            send(self._ask_fd, message)

    def _died(self) -> Errored:
        # Its end of the pipe is closed: either it ended, or a check closed the pipe and lives on.
        try:
            code = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            message = "the worker closed its pipe without an answer"
        else:
            message = f"the worker ended by {ended_by(code)} before it answered"
        return Errored(error="WorkerDied", message=message, traceback=self.last_words())


def late(since: float, limits: Limits, *, opened: bool) -> Errored | None:
    """The end of a worker that took too long. since: when it began, on the monotonic clock."""
    what, most = ("the job", limits.job) if opened else ("opening model and data", limits.opening)
    if time.monotonic() - since <= most:
        return None
    return Errored(error="Timeout", message=f"{what} took longer than {most:g} s")


def ended_by(code: int) -> str:
    """``exit code 0`` or ``signal SIGSEGV``."""
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


def resident(pid: int) -> int:
    """Resident bytes of a process and its children; 0 if it is gone."""
    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += one.memory_info().rss
    return total


def deadline_of(seconds: float | None) -> float:
    """The monotonic clock's value at which a run's time is over."""
    return time.monotonic() + seconds if seconds is not None else float("inf")


def lost(job: Job, error: str, message: str, trace: str = "") -> Done:
    """The result of a job that gave none. Its cost died with the worker that counted it."""
    return Done(
        run=CheckRun(
            id=job.run.id,
            check=job.run.check,
            params=job.run.params,
            seed=job.seed,
            seconds=0.0,
            device="unknown",
            cost=None,
            outcome=Errored(error=error, message=message, traceback=trace),
        )
    )


def out_of_time(job: Job, limits: Limits) -> Done:
    """The result of a job that the run's time limit left undone."""
    message = f"the run's limit of {limits.total:g} s was over"
    return msgspec.structs.replace(lost(job, "Timeout", message), undone=True)


def executor_of(written: str, limits: Limits, find: Callable[[str], Any]) -> AnyExecutor:
    """The executor written as ``name`` or ``name:slots``. Raises PlanError."""
    name, _, slots = written.partition(":")
    if slots and not (slots.isdigit() and int(slots) > 0):
        message = (
            f"--executor: expected NAME or NAME:SLOTS with a whole number > 0, got {written!r}"
        )
        raise PlanError(message)
    try:
        made: AnyExecutor = find(name)(slots=int(slots) if slots else None, limits=limits)
    except AuditError as error:
        message = f"--executor: {error}"
        raise PlanError(message) from error
    return made

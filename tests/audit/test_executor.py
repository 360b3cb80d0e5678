"""Every job has exactly one result, whatever becomes of the workers that it was given to."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import psutil
import pytest

from dlaudit.audit.executor import (
    InlineExecutor,
    Limits,
    Pool,
    ProcessExecutor,
    Worker,
    ended_by,
    executor_of,
    lost,
    resident,
)
from dlaudit.audit.perform import Done, Job, Opened
from dlaudit.audit.plan import Loader, Plan, RunSpec, Source
from dlaudit.audit.record import Card, Errored, Measured
from dlaudit.audit.registry import Registry
from dlaudit.audit.wire import Refused, Reply
from dlaudit.errors import PlanError

OPENED = Opened(
    plan=Plan(name="t", model=Loader(use="m"), data={"test": Loader(use="d")}),
    model=Card(name="m", fingerprint="m"), data=Card(name="d", fingerprint="d"), models={},
    sizes={"test": 1}, classes=("a",), device="cpu", offers={},
)  # fmt: skip
ANOTHER = msgspec.structs.replace(OPENED, data=Card(name="d", fingerprint="other"))
DEAD = Errored(error="WorkerDied", message="planted")


def jobs(count: int) -> list[Job]:
    return [
        Job(run=RunSpec(id=f"run{i}", check="c"), plan_seed=0, block=1, keep_samples=0, folder="/")
        for i in range(count)
    ]


class Scripted:
    """A worker that says what its script says: what it opens, and a reply for each job."""

    def __init__(
        self, opens: Reply | Errored, replies: Callable[[Job], Reply | Errored | None]
    ) -> None:
        self.job: Job | None = None
        self._opens: Reply | Errored | None = opens
        self._replies = replies
        self.killed = False

    def perform(self, job: Job) -> None:
        self.job = job

    def poll(self, limits: Limits) -> Reply | Errored | None:
        if self._opens is not None:
            said, self._opens = self._opens, None
            return said
        return self._replies(self.job) if self.job else None

    def kill(self) -> None:
        self.killed = True


class Rehearsal(Pool[Scripted]):
    """A pool of scripted workers."""

    name = "rehearsal"

    def __init__(
        self, *, slots: int = 2, opens: Sequence[Reply | Errored] = (OPENED,),
        replies: Callable[[Job], Reply | Errored | None] = lambda job: lost(job, "X", "done"),
        limits: Limits | None = None,
    ) -> None:  # fmt: skip
        super().__init__(slots, limits)
        self._opens = itertools.chain(opens, itertools.repeat(opens[-1]))
        self._replies = replies
        self.all: list[Scripted] = []

    def start(self, source: Source) -> Scripted:
        self.all.append(Scripted(next(self._opens), self._replies))
        return self.all[-1]

    def pause(self, workers: Sequence[Scripted]) -> None:
        pass


def ended(pool: Pool[Scripted], todo: list[Job]) -> dict[str, str]:
    """How each job ended; each is started before it ends, and ends once."""
    pool.prepare(Source(root="/"))
    started: list[str] = []
    results: list[Done] = []
    for done in pool.map(todo, lambda job: started.append(job.run.id)):
        results.append(done)
        assert isinstance(done.run.outcome, Errored)
    assert sorted(done.run.id for done in results) == sorted(job.run.id for job in todo)
    assert len(started) == len(set(started))
    return {done.run.id: done.run.outcome.error for done in results}


# -- the pool, with workers that only pretend --------------------------------------------------------


@pytest.mark.parametrize("slots", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_every_job_ends_once_with_no_more_workers_than_slots_or_jobs(
    count: int, slots: int
) -> None:
    pool = Rehearsal(slots=slots)
    assert ended(pool, jobs(count)) == {f"run{i}": "X" for i in range(count)}
    assert len(pool.all) == max(1, min(slots, count))
    assert not any(worker.killed for worker in pool.all)
    pool.close()
    assert all(worker.killed for worker in pool.all)


def test_a_worker_that_dies_is_replaced_and_its_job_is_lost() -> None:
    pool = Rehearsal(
        slots=1,
        replies=lambda job: DEAD if job.run.id in {"run0", "run2"} else lost(job, "X", "done"),
    )
    assert list(ended(pool, jobs(4)).values()) == ["WorkerDied", "X", "WorkerDied", "X"]
    assert [worker.killed for worker in pool.all] == [True, True, False]


@pytest.mark.parametrize(
    ("second", "error"),
    [
        (ANOTHER, "SubjectChanged"),
        (Refused(problems=("data: is gone",)), "WorkerDied"),
        (Refused(defect="trace"), "WorkerDied"),
        (DEAD, "WorkerDied"),
    ],
)
def test_a_new_worker_that_opens_something_else_measures_nothing(
    second: Reply | Errored, error: str
) -> None:
    pool = Rehearsal(
        slots=1, opens=[OPENED, second, OPENED],
        replies=lambda job: DEAD if job.run.id == "run0" else lost(job, "X", "done"),
    )  # fmt: skip
    assert list(ended(pool, jobs(3)).values()) == ["WorkerDied", error, "X"]


def test_what_the_time_limit_of_the_run_leaves_undone_is_errored() -> None:
    pool = Rehearsal(slots=2, replies=lambda job: None, limits=Limits(total=-1))
    assert set(ended(pool, jobs(5)).values()) == {"Timeout"}
    pool = Rehearsal(slots=2, replies=lambda job: None, limits=Limits(total=0.05))
    assert set(ended(pool, jobs(5)).values()) == {"Timeout"}
    assert all(worker.killed for worker in pool.all)


@pytest.mark.parametrize(
    ("opens", "error", "said"),
    [
        (Refused(problems=("a", "b")), PlanError, "a\nb"),
        (Refused(defect="trace"), RuntimeError, "reading the plan crashed:\ntrace"),
        (DEAD, PlanError, "opening model and data ended the worker: WorkerDied: planted"),
        (lost(jobs(1)[0], "X", "done"), RuntimeError, "a worker answered out of turn"),
    ],
)
def test_what_cannot_be_opened_is_told_before_any_job(
    opens: Reply | Errored, error: type[Exception], said: str
) -> None:
    pool = Rehearsal(opens=[opens])
    with pytest.raises(error, match=said):
        pool.prepare(Source(root="/"))
    pool.close()
    assert all(worker.killed for worker in pool.all)


# -- names -------------------------------------------------------------------------------------------


def test_an_executor_is_written_as_a_name_with_or_without_slots() -> None:
    registry = Registry()

    def find(name: str) -> object:
        return registry.find("executors", name).get()

    assert isinstance(executor_of("inline", Limits(), find), InlineExecutor)
    made = executor_of("process:3", Limits(job=7), find)
    assert isinstance(made, ProcessExecutor)
    assert (made.about.slots, made.about.isolated, made.limits.job) == (3, True, 7)
    assert executor_of("process", Limits(), find).about.slots == len(os.sched_getaffinity(0))
    for written in ("process:0", "process:x", "process:-1", "process:1.5"):
        with pytest.raises(PlanError, match=r"--executor: expected NAME or NAME:SLOTS"):
            executor_of(written, Limits(), find)
    with pytest.raises(
        PlanError, match=r"--executor: no executor is called 'proces'. Did you mean process?"
    ):
        executor_of("proces", Limits(), find)


def test_opening_has_more_time_than_a_short_limit_for_jobs() -> None:
    assert Limits(job=1).opening == 120
    assert Limits(job=500).opening == 500


def test_an_end_is_told_by_code_or_signal() -> None:
    assert ended_by(0) == "exit code 0"
    assert ended_by(-11) == "signal SIGSEGV"
    assert resident(2**22 + 1) == 0, "a process that is gone holds no memory"


# -- real workers ------------------------------------------------------------------------------------

PLANTED = '''
import os, subprocess, sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar
from dlaudit import Check, Dataset, Measurement, Model

class Planted(Check, frozen=True, kw_only=True):
    """Misbehave in the way asked for."""
    measures: ClassVar[tuple[str, ...]] = ("share",)
    way: str = ""

    def measure(self, bench):
        match self.way:
            case "print":
                print("x" * 200_000)
                os.write(1, b"y" * 200_000)
                os.write(2, b"z" * 200_000)
            case "close":
                os.closerange(3, 256)
            case "noise":
                for fd in range(3, 256):
                    try:
                        os.write(fd, bytes(64))
                    except OSError:
                        pass
                import threading
                threading.Event().wait()
            case "memory":
                import threading
                held = [b"x" * (1 << 20) + b"y" for _ in range(700)]
                threading.Event().wait()
            case "child":
                child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
                Path(os.environ["DLAUDIT_TEST_CHILD"]).write_text(str(child.pid))
                os._exit(3)
            case "thread":
                import torch
                assert torch.get_num_threads() == 1
        yield Measurement(name="share", value=0.5, n=2, exact="counted")
'''


@pytest.fixture
def planted(tmp_path: Path, plug: Path) -> Callable[..., dict[str, Done]]:
    """Jobs done by one real worker, and by those that take its place."""
    (tmp_path / "bad.py").write_text(PLANTED)

    def perform(*ways: str, limits: Limits) -> dict[str, Done]:
        source = Source(
            root=str(tmp_path), plugins=(str(plug), str(tmp_path / "bad.py")),
            table={
                "model": {"use": "toy.model"}, "data": {"use": "toy.data", "args": {"n": 40}},
                "checks": {way: {"use": "bad.planted", "way": way} for way in ways},
            },
        )  # fmt: skip
        pool = ProcessExecutor(slots=1, limits=limits)
        try:
            plan = pool.prepare(source).plan
            todo = [
                Job(run=spec, plan_seed=0, block=256, keep_samples=0, folder=str(tmp_path))
                for spec in plan.runs
            ]
            return {done.run.id: done for done in pool.map(todo, lambda job: None)}
        finally:
            pool.close()
            assert not pool._workers

    return perform


@pytest.mark.slow
def test_what_a_worker_prints_closes_or_garbles_disturbs_nobody(
    planted: Callable[..., dict[str, Done]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = tmp_path / "child"
    monkeypatch.setenv("DLAUDIT_TEST_CHILD", str(child))
    done = planted("print", "thread", "close", "noise", "child", "healthy", limits=Limits(job=60))
    errors = {
        run: outcome.error if isinstance(outcome := one.run.outcome, Errored) else "measured"
        for run, one in done.items()
    }
    assert errors == {
        "print": "measured", "thread": "measured", "close": "WorkerDied", "noise": "WorkerDied",
        "child": "WorkerDied", "healthy": "measured",
    }  # fmt: skip
    assert not psutil.pid_exists(int(child.read_text())) or (
        psutil.Process(int(child.read_text())).status() == psutil.STATUS_ZOMBIE
    ), "what a check started ends with its worker"


def test_a_worker_over_its_memory_cap_is_ended(planted: Callable[..., dict[str, Done]]) -> None:
    done = planted("memory", "healthy", limits=Limits(job=120, memory=700 * 2**20))
    outcome = done["memory"].run.outcome
    assert isinstance(outcome, Errored)
    assert outcome.error == "OutOfMemory"
    assert outcome.message == "the worker went over its cap of 700 MiB"
    assert isinstance(done["healthy"].run.outcome, Measured)


def test_a_worker_is_not_misled_by_files_in_the_current_folder(
    tmp_path: Path, plug: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("random.py", "msgspec.py", "torch.py"):
        (tmp_path / name).write_text("raise RuntimeError('in the way')")
    monkeypatch.chdir(tmp_path)
    source = Source(
        root=str(tmp_path), plugins=(str(plug),),
        table={"model": {"use": "toy.model"}, "data": {"use": "toy.data"}, "suites": ["toy.ruled"]},
    )  # fmt: skip
    pool = ProcessExecutor(slots=1)
    try:
        assert pool.prepare(source).sizes == {"test": 240}
    finally:
        pool.close()


def test_a_worker_whose_parent_is_gone_ends() -> None:
    """The number of another process stands for a parent that died before the worker asked."""
    import subprocess

    read, write = os.pipe()
    worker = subprocess.run(
        [sys.executable, "-m", "dlaudit.audit.worker", str(read), str(write), "1"],
        pass_fds=(read, write), check=False, timeout=60,
    )  # fmt: skip
    for fd in (read, write):
        os.close(fd)
    assert worker.returncode == 1


def test_a_worker_ends_when_nobody_asks_any_more(plug: Path) -> None:
    worker = Worker(Source(root="/", plugins=(str(plug),)))
    os.close(worker._ask_fd)
    worker._ask_fd = os.open(os.devnull, os.O_WRONLY)
    assert worker._process.wait(timeout=60) == 0
    worker.kill()


# -- inline ------------------------------------------------------------------------------------------


def test_inline_keeps_stdout_for_the_result(
    plug: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "loud.py").write_text(
        "from typing import ClassVar\nfrom dlaudit import Check, Measurement\n"
        "class Loud(Check):\n"
        "    measures: ClassVar[tuple[str, ...]] = ('share',)\n"
        "    def measure(self, bench):\n"
        "        print('talk')\n"
        "        yield Measurement(name='share', value=1, n=1, exact='counted')\n"
    )
    source = Source(
        root="/", plugins=(str(plug), str(tmp_path / "loud.py")),
        table={"model": {"use": "toy.model"}, "data": {"use": "toy.data"}, "checks": {"loud.loud": {}}},
    )  # fmt: skip
    executor = InlineExecutor()
    plan = executor.prepare(source).plan
    job = Job(run=plan.runs[0], plan_seed=0, block=256, keep_samples=0, folder=str(tmp_path))
    (done,) = executor.map([job], lambda job: None)
    assert isinstance(done.run.outcome, Measured)
    said = capsys.readouterr()
    assert not said.out
    assert "talk" in said.err
    executor.close()


def test_inline_looks_at_the_runs_time_between_jobs(plug: Path, tmp_path: Path) -> None:
    source = Source(
        root="/", plugins=(str(plug),),
        table={"model": {"use": "toy.model"}, "data": {"use": "toy.data"}, "suites": ["toy.ruled"]},
    )  # fmt: skip
    executor = InlineExecutor(limits=Limits(total=-1))
    plan = executor.prepare(source).plan
    job = Job(run=plan.runs[0], plan_seed=0, block=256, keep_samples=0, folder=str(tmp_path))
    (done,) = executor.map([job], lambda job: None)
    assert done.run.outcome.error == "Timeout"

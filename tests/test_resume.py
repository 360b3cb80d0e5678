"""A run that was killed at any moment goes on: nothing finished is repeated, nothing is lost."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from commandline import dlaudit_command
from comparison import lasting

from dlaudit.audit.run_folder import JOURNAL, alterations

RUNS = 5
PATIENCE = 120.0
"""Seconds until a process that does not come to the point fails the test."""


def until(met: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    """Wait for something that another process does; fail if that ends or takes far too long."""
    deadline = time.monotonic() + PATIENCE
    while not met():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        with contextlib.suppress(subprocess.TimeoutExpired):
            if process is not None:
                process.wait(timeout=0.02)


class Site:
    """A plan of several runs, each of which leaves a mark and can be held up at a gate."""

    def __init__(self, folder: Path, plug: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.plug = folder, plug
        self.out, self.marks = folder / "out", folder / "marks"
        self.plan = folder / "audit.toml"
        lines = [
            'name = "toy"', 'model.use = "toy.model"',
            'data = { use = "toy.data", args = { n = 60 } }',
            *(f'[checks.run{i}]\nuse = "toy.accuracy"\nmarks = "marks"\ngate = "gate{i}"'
              for i in range(RUNS)),
            '[checks.bad]\nuse = "toy.accuracy"\nmarks = "marks"\nfault = "exception"',
            '[[rules]]\nrun = "run0"\nmeasurement = "accuracy"\nat_least = 0.5',
        ]  # fmt: skip
        self.plan.write_text("\n".join(lines))

    def words(self, *more: object) -> list[str]:
        """The command."""
        return [str(word) for word in (
            "run", self.plan, "--plugin", self.plug, "--out", self.out, "--format", "json,md", *more,
        )]  # fmt: skip

    def open_gates(self, *which: int) -> None:
        for i in which or range(RUNS):
            (self.folder / f"gate{i}").touch()

    def ran(self) -> Counter[str]:
        """How often each run began."""
        return Counter(self.marks.read_text().split()) if self.marks.exists() else Counter()

    def finished(self) -> int:
        """How many runs the journal holds."""
        journal = self.out / JOURNAL
        return max(0, journal.read_bytes().count(b"\n") - 1) if journal.exists() else 0

    def start(self, *more: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "dlaudit.cli", *self.words(*more)], cwd=self.folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip


@pytest.fixture
def site(tmp_path: Path, plug: Path) -> Site:
    return Site(tmp_path / "site", plug)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, plug: Path) -> Path:
    """The same plan, run to its end."""
    site = Site(tmp_path_factory.mktemp("uninterrupted"), plug)
    site.open_gates()
    ended = dlaudit_command(*site.words("--executor", "inline"), folder=site.folder)
    assert ended.code == 3, ended
    assert site.ran() == Counter(["bad", *(f"run{i}" for i in range(RUNS))])
    return site.out


@contextlib.contextmanager
def running(process: subprocess.Popen[str]) -> Iterator[list[psutil.Process]]:
    """The workers of a run, all gone in the end: also if the test fails."""
    workers: list[psutil.Process] = []
    try:
        yield workers
        process.communicate(timeout=PATIENCE)
        until(lambda: not any(alive(worker) for worker in workers))
    finally:
        process.kill()
        process.communicate()


def alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def goes_on(site: Site, uninterrupted: Path, *, before: Counter[str], finished: int) -> None:
    """Resume, and compare with the run that nobody interrupted."""
    site.open_gates()
    ended = dlaudit_command(*site.words("--executor", "inline", "--resume"), folder=site.folder)
    assert ended.code == 3, ended
    assert lasting(site.out) == lasting(uninterrupted)
    assert alterations(site.out) == []
    assert (site.out / "summary.md").is_file()
    again = site.ran() - before
    assert sum(again.values()) == RUNS + 1 - finished, "nothing that was finished ran again"
    assert max(again.values(), default=0) <= 1
    assert f"{finished} runs were finished before" in ended.stderr


# -- the whole command is killed ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "finished", [2, *(pytest.param(k, marks=pytest.mark.slow) for k in (0, 1, 3, 4))]
)
def test_killed_with_its_workers_at_work(finished: int, site: Site, uninterrupted: Path) -> None:
    process = site.start("--executor", "process:2")
    with running(process) as workers:
        for i in range(finished):
            site.open_gates(i)
        # As many are finished, two are at work and wait at their gates.
        until(
            lambda: site.finished() >= finished and len(site.ran()) == min(finished + 2, RUNS + 1),
            process,
        )
        workers.extend(psutil.Process(process.pid).children(recursive=True))
        assert len(workers) == 2
        process.kill()
    done = site.finished()
    goes_on(site, uninterrupted, before=site.ran(), finished=done)


def test_killed_before_anything_was_written(site: Site, uninterrupted: Path) -> None:
    process = site.start("--executor", "process:1")
    with running(process) as workers:
        until(lambda: bool(psutil.Process(process.pid).children()), process)
        workers.extend(psutil.Process(process.pid).children())
        process.kill()
    assert not site.out.exists()
    goes_on(site, uninterrupted, before=Counter(), finished=0)


def test_interrupted_by_ctrl_c_ends_with_130_and_goes_on(site: Site, uninterrupted: Path) -> None:
    process = site.start("--executor", "process:2")
    with running(process) as workers:
        site.open_gates(0)
        until(lambda: site.finished() == 1 and len(site.ran()) == 3, process)
        workers.extend(psutil.Process(process.pid).children())
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert not stdout
    assert stderr.endswith("interrupted\n")
    assert not (site.out / "record.json").exists()
    told = dlaudit_command("gate", site.out, folder=site.folder)
    assert told.code == 2
    assert "The run was cut off: `dlaudit run --resume` finishes it." in told.stderr
    goes_on(site, uninterrupted, before=site.ran(), finished=1)


def test_interrupted_inline_ends_with_130_and_goes_on(site: Site, uninterrupted: Path) -> None:
    process = site.start("--executor", "inline")
    with running(process):
        site.open_gates(0, 1)
        until(lambda: site.finished() == 2 and len(site.ran()) == 3, process)
        process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    goes_on(site, uninterrupted, before=site.ran(), finished=2)


# -- killed between any two touches of the disk ------------------------------------------------------


def cut_off(site: Site, touch: int) -> subprocess.CompletedProcess[str]:
    """The run in one process, killed just before it touches its folder for the given time."""
    site.open_gates()
    script = site.plug.with_name("cut_off.py")
    words = site.words("--executor", "inline")
    return subprocess.run(
        [sys.executable, str(script), str(touch), str(site.out), *words], cwd=site.folder,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def touches(tmp_path_factory: pytest.TempPathFactory, plug: Path) -> int:
    """How often a run touches its folder."""
    ended = cut_off(Site(tmp_path_factory.mktemp("touches"), plug), 0)
    assert ended.returncode == 3, ended
    return int(ended.stderr.rpartition("touches ")[2])


def assert_goes_on_after(touch: int, site: Site, uninterrupted: Path) -> None:
    ended = cut_off(site, touch)
    assert ended.returncode == -signal.SIGKILL, ended
    goes_on(site, uninterrupted, before=site.ran(), finished=site.finished())


@pytest.mark.parametrize("part", range(6))
def test_killed_between_two_touches_of_the_disk(
    part: int, touches: int, site: Site, uninterrupted: Path
) -> None:
    """One seeded moment in each sixth of the run."""
    assert touches > 40
    width = touches // 6
    moment = random.Random(part).randint(1 + part * width, (part + 1) * width)
    assert_goes_on_after(moment, site, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_killed_between_every_two_touches_of_the_disk(
    part: int, touches: int, tmp_path: Path, plug: Path, uninterrupted: Path
) -> None:
    sites = {k: Site(tmp_path / str(k), plug) for k in (0, *range(part + 1, touches + 1, 4))}
    for site in sites.values():
        site.open_gates()
    any_site = Site(tmp_path / "{}", plug)
    words = any_site.words("--executor", "inline")
    counts, script = ",".join(map(str, sites)), str(plug.with_name("cut_off.py"))
    command = [sys.executable, script, counts, str(any_site.out), *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert sites.pop(0).finished() == RUNS + 1, ended
    told = [line for line in ended.stdout.splitlines() if line.startswith("ended ")]
    assert told == [f"ended {k} {-signal.SIGKILL}" for k in sites], ended
    for site in sites.values():
        goes_on(site, uninterrupted, before=site.ran(), finished=site.finished())


# -- what may not go on ------------------------------------------------------------------------------


@pytest.fixture
def cut(site: Site) -> Site:
    """A run of which two jobs are finished."""
    site.open_gates()
    ended = dlaudit_command(*site.words("--executor", "inline"), folder=site.folder)
    assert ended.code == 3, ended
    lines = (site.out / JOURNAL).read_bytes().splitlines(keepends=True)
    (site.out / JOURNAL).write_bytes(b"".join(lines[:3]))
    for name in ("record.json", "manifest.json", "summary.md"):
        (site.out / name).unlink()
    site.marks.unlink()
    return site


@pytest.mark.parametrize("at", [0.0, 0.1, 0.5, 0.99])
def test_a_last_line_that_was_cut_off_is_measured_again(
    at: float, cut: Site, uninterrupted: Path
) -> None:
    journal = cut.out / JOURNAL
    whole = journal.read_bytes()
    last = whole[:-1].rfind(b"\n") + 1
    journal.write_bytes(whole[: last + int(at * (len(whole) - last))])
    goes_on(cut, uninterrupted, before=Counter(), finished=1)


@pytest.mark.parametrize(
    "change",
    [
        ("--set", "seed = 1"),
        ("--set", "rules = []"),
        ("--set", 'rules = [{ run = "run0", measurement = "accuracy", at_least = 0.4 }]'),
        ("--max-samples", "10"),
        ("--skip", "run0"),
        ("--set", "data.args.n = 50"),
    ],
)
def test_a_changed_plan_does_not_go_on(change: tuple[str, str], cut: Site) -> None:
    before = (cut.out / JOURNAL).read_bytes()
    ended = dlaudit_command(
        *cut.words("--executor", "inline", "--resume", *change), folder=cut.folder
    )
    assert ended.code == 2
    assert "criteria are fixed before a run" in ended.stderr
    assert (cut.out / JOURNAL).read_bytes() == before
    assert not cut.ran()


def test_changed_data_does_not_go_on(site: Site) -> None:
    """The plan is the same to the letter: it is the file that it names which changed."""
    import numpy as np

    from dlaudit.testing import toy_arrays

    def write(seed: int) -> None:
        arrays = toy_arrays(40, seed=seed)
        np.savez(site.folder / "rows.npz", x=arrays["x"], y=arrays["y"])

    write(0)
    site.open_gates()
    toy = 'data = { use = "toy.data", args = { n = 60 } }'
    plan = site.plan.read_text()
    assert toy in plan
    site.plan.write_text(plan.replace(toy, 'data = { use = "npz", args = { path = "rows.npz" } }'))
    words = site.words("--executor", "inline")
    assert dlaudit_command(*words, folder=site.folder).code == 3
    write(1)
    ended = dlaudit_command(*words, "--resume", folder=site.folder)
    assert ended.code == 2
    assert "data changed since the run began" in ended.stderr


def test_a_second_dlaudit_does_not_write_the_same_run(site: Site) -> None:
    process = site.start("--executor", "inline")
    with running(process):
        site.open_gates(0)
        until(lambda: site.finished() == 1, process)
        ended = dlaudit_command(*site.words("--executor", "inline", "--resume"), folder=site.folder)
        assert ended.code == 2
        assert "another dlaudit is writing this run" in ended.stderr
        ended = dlaudit_command(*site.words("--executor", "inline"), folder=site.folder)
        assert ended.code == 2
        assert "Add --resume to go on with it" in ended.stderr
        site.open_gates()
    assert process.returncode == 3
    assert set(site.ran().values()) == {1}


def test_a_finished_run_that_is_resumed_measures_nothing_again(
    cut: Site, uninterrupted: Path
) -> None:
    goes_on(cut, uninterrupted, before=Counter(), finished=2)
    goes_on(cut, uninterrupted, before=cut.ran(), finished=RUNS + 1)


def test_resume_asks_which_run_shall_go_on(site: Site) -> None:
    words = site.words("--resume")
    del words[words.index("--out") : words.index("--out") + 2]
    ended = dlaudit_command(*words, folder=site.folder)
    assert ended.code == 2
    assert ended.stderr == "Error: --resume goes with --out: which run shall go on?\n"
    assert not os.path.lexists(site.folder / "dlaudit-runs")

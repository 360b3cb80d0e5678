"""Talk about an audit's progress: plain lines where nobody watches, a live display where somebody does."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest

from dlaudit.audit.engine import Events, audit
from dlaudit.audit.executor import InlineExecutor, lost
from dlaudit.audit.perform import Job
from dlaudit.audit.plan import RunSpec, Source
from dlaudit.progress import outcome_line, told


class Terminal(io.StringIO):
    """A stderr that somebody watches."""

    def isatty(self) -> bool:
        return True


def audited(folder: Path, plug: Path, events: Events, *, resume: bool = False) -> None:
    source = Source(
        root="/", plugins=(str(plug),),
        table={
            "name": "toy", "model": {"use": "toy.model"},
            "data": {"use": "toy.data", "args": {"n": 40}},
            "checks": {
                "fine": {"use": "toy.accuracy"}, "bad": {"use": "toy.accuracy", "fault": "exception"},
                "deaf": {"use": "toy.deaf"}, "broken": {"use": "toy.accuracy", "fault": "build"},
            },
        },
    )  # fmt: skip
    audit(source, InlineExecutor(), folder / "run", events=events, resume=resume)


def test_plain_lines_name_plan_data_seal_and_every_run(
    tmp_path: Path, plug: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with told(quiet=False) as events:
        audited(tmp_path, plug, events)
    said = capsys.readouterr()
    assert not said.out
    lines = said.err.splitlines()
    assert lines[0] == "dlaudit: toy: 4 runs on toy (test 40), cpu"
    assert lines[1].startswith("dlaudit: plan sealed as ")
    assert [line.split(":")[0] for line in lines[2:]] == [
        "[1/4] broken", "[2/4] fine", "[3/4] bad", "[4/4] deaf",
    ]  # fmt: skip
    assert "ERRORED: RuntimeError: planted (about" in lines[4]
    assert "skipped: not offered: data: audio" in lines[5]
    assert lines[5].endswith("(about 0 s left)")
    with told(quiet=False) as events:
        audited(tmp_path, plug, events, resume=True)
    assert capsys.readouterr().err.endswith("dlaudit: 4 runs were finished before\n")


def test_quiet_says_nothing(tmp_path: Path, plug: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with told(quiet=True) as events:
        audited(tmp_path, plug, events)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_what_is_at_work_and_keeps_a_line_of_each_end(
    tmp_path: Path, plug: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    with contextlib.redirect_stderr(terminal), told(quiet=False) as events:
        audited(tmp_path, plug, events)
    said = terminal.getvalue()
    assert "plan sealed as " in said
    assert "fine: measured 2 values, 1 undefined in " in said
    assert "bad: ERRORED: RuntimeError: planted" in said
    assert "deaf: skipped: not offered: data: audio" in said
    terminal = Terminal()
    with contextlib.redirect_stderr(terminal), told(quiet=False) as events:
        audited(tmp_path, plug, events, resume=True)
    assert "4/4" in terminal.getvalue()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("one\ntwo", "ERRORED: X: one"), ("\n one", "ERRORED: X: one"), ("", "ERRORED: X: "),
    ],
)  # fmt: skip
def test_a_crash_is_told_in_one_line(message: str, line: str) -> None:
    job = Job(run=RunSpec(id="a", check="a"), plan_seed=0, block=1, keep_samples=0, folder="/")
    assert outcome_line(lost(job, "X", message).run) == line

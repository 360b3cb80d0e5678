"""The audit from plan to record: every run of the plan stands in it, in the plan's order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import dlaudit
from dlaudit.audit.declared import route
from dlaudit.audit.engine import Events, audit, installed
from dlaudit.audit.executor import InlineExecutor
from dlaudit.audit.judge import exit_code
from dlaudit.audit.perform import Done, Job
from dlaudit.audit.plan import Source
from dlaudit.audit.plan_reading import read
from dlaudit.audit.record import Errored, Executor, Measured, canonical
from dlaudit.audit.run_folder import RECORD


def toy_source(plug: Path, **table: Any) -> Source:
    return Source(
        root="/", plugins=(str(plug),),
        table={
            "name": "toy", "model": {"use": "toy.model"},
            "data": {"use": "toy.data", "args": {"n": 40}},
            "checks": {
                "c": {"use": "toy.accuracy"}, "a": {"use": "toy.accuracy", "fault": "exception"},
                "b": {"use": "toy.accuracy", "fault": "build"}, "d": {"use": "toy.deaf"},
            },
            **table,
        },
    )  # fmt: skip


class Disorderly(InlineExecutor):
    """Performs backwards, and loses a job."""

    about = Executor(name="disorderly", isolated=False)

    def __init__(self, loses: str = "") -> None:
        super().__init__()
        self.about = Executor(name="disorderly", isolated=False)
        self.loses = loses

    def map(self, jobs: Iterable[Job], started: Callable[[Job], None]) -> Iterator[Done]:
        kept = [job for job in reversed(list(jobs)) if job.run.id != self.loses]
        return super().map(kept, started)


def test_runs_stand_in_plan_order_with_every_outcome_there_is(tmp_path: Path, plug: Path) -> None:
    record, folder = audit(toy_source(plug), Disorderly(), tmp_path / "run")
    assert [(run.id, type(run.outcome).__name__) for run in record.runs] == [
        ("c", "Measured"), ("a", "Errored"), ("b", "Errored"), ("d", "Skipped"),
    ]  # fmt: skip
    assert {run.id: run.check for run in record.runs}["a"] == "toy.accuracy"
    assert folder.path == tmp_path / "run"
    assert (folder.path / RECORD).is_file()
    assert exit_code(record) == 3


def test_a_run_that_the_executor_lost_is_errored(tmp_path: Path, plug: Path) -> None:
    record, _ = audit(toy_source(plug), Disorderly(loses="c"), tmp_path / "run")
    outcome = record.runs[0].outcome
    assert isinstance(outcome, Errored)
    assert outcome.message == "the executor gave no result for this run"
    record, _ = audit(toy_source(plug), InlineExecutor(), tmp_path / "run", resume=True)
    assert isinstance(record.runs[0].outcome, Measured)


def test_the_record_says_what_where_when_and_with_which_plan(tmp_path: Path, plug: Path) -> None:
    source = toy_source(plug, context={"annex_iii": "5b"}, data={"use": "toy.data"})
    record, _ = audit(source, InlineExecutor(), tmp_path / "run")
    assert record.tool == {"name": "dlaudit", "version": dlaudit.__version__}
    for moment in (record.started, record.finished):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", moment)
    assert record.started <= record.finished
    plan = read(source, source.registry())
    assert record.plan == msgspec.json.decode(canonical(plan))
    assert record.plan_sha256 == plan.sha256
    assert record.plan["plugins"].keys() == {"toy.py"}
    assert record.environment["executor"] == {"name": "inline", "isolated": False, "slots": 1}
    assert record.environment["packages"]["torch"].startswith("2.")
    assert record.model.fingerprint
    assert record.data.splits.keys() == {"test", "train"}
    (answers,) = record.answers
    assert (answers.split, answers.n, answers.cost.forward) == ("test", 240, 240)


def test_clean_answers_are_counted_once_and_not_in_the_checks(tmp_path: Path, plug: Path) -> None:
    source = toy_source(plug, checks={name: {"use": "toy.accuracy"} for name in ("a", "b")})
    record, _ = audit(source, InlineExecutor(), tmp_path / "run")
    assert [(run.cost.forward, run.cost.backward) for run in record.runs] == [(0, 0), (0, 0)]
    assert [answers.cost.forward for answers in record.answers] == [40]


def test_a_suite_brings_its_title_and_its_rules(tmp_path: Path, plug: Path) -> None:
    record, _ = audit(
        toy_source(plug, suites=["toy.ruled"], checks={}), InlineExecutor(), tmp_path / "run"
    )
    (card,) = record.suites
    assert (card.name, card.title) == ("ruled", "One run with a rule that it passes")
    assert [rule.origin for rule in record.rules] == ["suite:ruled"]
    assert exit_code(record) == 0


def test_listeners_hear_of_every_job(tmp_path: Path, plug: Path) -> None:
    heard: list[tuple[str, str]] = []
    events = Events(
        opened=lambda what: heard.append(("opened", what.plan.name)),
        started=lambda job: heard.append(("started", job.run.id)),
        finished=lambda run: heard.append(("finished", run.id)),
        resumed=lambda count: heard.append(("resumed", str(count))),
    )
    audit(toy_source(plug), InlineExecutor(), tmp_path / "run", events=events)
    assert heard == [
        ("opened", "toy"), ("finished", "b"), ("started", "c"), ("finished", "c"),
        ("started", "a"), ("finished", "a"), ("started", "d"), ("finished", "d"),
    ]  # fmt: skip
    heard.clear()
    audit(toy_source(plug), InlineExecutor(), tmp_path / "run", resume=True, events=events)
    assert heard == [("opened", "toy"), ("resumed", "4")]


def test_the_folder_may_be_named_by_the_plan(tmp_path: Path, plug: Path) -> None:
    source = toy_source(plug, checks={"c": {"use": "toy.accuracy"}})
    record, folder = audit(source, InlineExecutor(), lambda name: tmp_path / name)
    assert folder.path == tmp_path / "toy"
    assert isinstance(record.runs[0].outcome, Measured)


@pytest.mark.parametrize(
    ("context", "declared"),
    [({}, None), ({"annex_iii": "5b"}, True), ({"annex_i": "machinery"}, False),
     ({"annex_iii": "5b", "annex_i": "x"}, True), ({"annex_iii": ""}, None)],
)  # fmt: skip
def test_the_plan_declares_which_annex_counts(
    context: dict[str, Any], declared: bool | None
) -> None:
    assert route(context) is declared


def test_the_version_of_what_is_not_installed_is_unknown() -> None:
    assert installed("torch")
    assert installed("dlaudit-no-such-package") is None

"""The same plan and seed give the same record, wherever and in whatever order its jobs run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from comparison import lasting

from dlaudit.audit.launch import launch
from dlaudit.audit.plan import Source, source_of
from dlaudit.audit.record import Errored, Measured
from dlaudit.audit.registry import Registry
from dlaudit.audit.run_folder import digests, stored

SUITES = [part.name for part in Registry().parts("suites")]
PLAN = f"""
name = "toy"
seed = 11
suites = {SUITES!r}
keep_samples = 2
block = 16
model.use = "toy.model"
data.use = "toy.data"
data.args.n = 50
data.train = {{ use = "toy.data", args = {{ n = 50 }} }}
checks.draw.use = "toy.accuracy"
checks.bad = {{ use = "toy.accuracy", fault = "exception" }}
"""


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory, plug: Path) -> dict[str, Path]:
    """The plan under several executors, in several folders, with other seeds of Python's hashes."""
    runs = {}
    for name, executor, hashes in (
        ("inline", "inline", "0"),
        ("process:1", "process:1", "1"),
        ("process:2", "process:2", "2"),
        ("again", "process:2", "3"),
    ):
        folder = tmp_path_factory.mktemp("audited")
        (folder / "audit.toml").write_text(PLAN)
        source = source_of(folder / "audit.toml", plugins=(str(plug),))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONHASHSEED", hashes)  # of the workers
            patch.chdir(folder)
            _, runs[name] = launch(source, out=folder / "run", executor=executor)
    return runs


@pytest.mark.slow
def test_every_executor_measures_the_same(audited: dict[str, Path]) -> None:
    first = lasting(audited["inline"])
    measured = [run for run in stored(audited["inline"]).runs if isinstance(run.outcome, Measured)]
    assert len(measured) >= len(SUITES) + 1
    for name, run in audited.items():
        assert lasting(run) == first, name


@pytest.mark.slow
def test_evidence_is_the_same_to_the_byte(audited: dict[str, Path]) -> None:
    def evidence(run: Path) -> dict[str, str]:
        return {name: sha for name, sha in digests(run).items() if name.startswith("evidence/")}

    found = [evidence(run) for run in audited.values()]
    assert len(found[0]) >= len(SUITES)
    assert all(one == found[0] for one in found)


@pytest.mark.slow
def test_a_crash_is_told_in_the_same_words(audited: dict[str, Path]) -> None:
    for run in audited.values():
        (outcome,) = [one.outcome for one in stored(run).runs if one.id == "bad"]
        assert isinstance(outcome, Errored)
        assert outcome.error == "RuntimeError"
        assert str(run.parent) not in outcome.traceback


@pytest.mark.slow
def test_the_record_says_what_isolated_its_jobs(audited: dict[str, Path]) -> None:
    said = {name: stored(run).environment["executor"] for name, run in audited.items()}
    assert said["inline"] == {"name": "inline", "isolated": False, "slots": 1}
    assert said["process:2"] == {"name": "process", "isolated": True, "slots": 2}


def record_of(folder: Path, plug: Path, **table: Any) -> dict[str, Any]:
    source = Source(
        root=str(folder), plugins=(str(plug),),
        table={
            "name": "toy", "checks": {"draw": {"use": "toy.accuracy"}, "attacks.pgd": {}},
            "model": {"use": "toy.model"}, "data": {"use": "toy.data", "args": {"n": 50}}, **table,
        },
    )  # fmt: skip
    record, _ = launch(source, out=folder / "run", executor="inline")
    shutil.rmtree(folder / "run")
    return {run.id: run for run in record.runs}


def test_another_seed_draws_otherwise_and_another_order_does_not(
    tmp_path: Path, plug: Path
) -> None:
    first = record_of(tmp_path, plug)
    other = record_of(tmp_path, plug, seed=1)
    turned = record_of(tmp_path, plug, checks={"attacks.pgd": {}, "draw": {"use": "toy.accuracy"}})
    alone = record_of(tmp_path, plug, checks={"draw": {"use": "toy.accuracy"}})
    assert first["draw"].outcome != other["draw"].outcome
    assert first["draw"].seed != other["draw"].seed
    assert first["draw"].outcome == turned["draw"].outcome == alone["draw"].outcome
    assert first["attacks.pgd"].outcome == turned["attacks.pgd"].outcome

"""The demo: every planted defect is named in its report, and the clean twin shows none."""

import shutil
import subprocess
import sys

import pytest

from dlaudit.audit.run_folder import alterations, stored

DEFECTS = {"over-trained", "trigger", "biased group", "shortcut"}


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """One demo for all of these tests: its folder and the exit code of its command."""
    out = tmp_path_factory.mktemp("demo") / "demo"
    command = [sys.executable, "-m", "dlaudit.cli", "demo", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return out, done


def statuses(run):
    return {verdict.rule: verdict.status for verdict in stored(run).verdicts}


def test_the_planted_model_fails_by_every_planted_defect(demo):
    out, done = demo
    assert done.returncode == 1, done.stderr
    found = statuses(out / "planted")
    assert {rule: found[rule] for rule in DEFECTS} == dict.fromkeys(DEFECTS, "fail")
    report = (out / "planted" / "report.html").read_text(encoding="utf-8")
    assert all(defect in report for defect in DEFECTS)


def test_the_clean_twin_shows_none_of_them(demo):
    out, _ = demo
    assert set(statuses(out / "clean").values()) == {"pass"}


def test_the_trigger_and_the_group_are_named(demo):
    out, _ = demo
    verdicts = {verdict.rule: verdict for verdict in stored(out / "planted").verdicts}
    assert "south" in {one.slice.get("site") for one in verdicts["biased group"].observed}
    suspected = {
        one.slice["class"]
        for run in stored(out / "planted").runs
        if run.id == "backdoors.inversion"
        for one in run.outcome.measurements
        if one.name == "suspected" and one.value == 1
    }
    assert "7" in suspected


def test_both_runs_are_intact_and_can_be_run_again(demo, tmp_path):
    out, _ = demo
    assert alterations(out / "planted") == []
    assert alterations(out / "clean") == []
    shutil.copytree(out / "inputs", tmp_path / "inputs")
    plan = tmp_path / "inputs" / "clean.toml"
    command = [
        sys.executable, "-m", "dlaudit.cli", "run", str(plan), "--check", "overfitting.gap",
        "--out", str(tmp_path / "again"), "--executor", "inline",
    ]  # fmt: skip
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_folder_that_holds_files_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    command = [sys.executable, "-m", "dlaudit.cli", "demo", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "it holds files" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]

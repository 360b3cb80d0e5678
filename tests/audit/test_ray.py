"""The Ray executor isolates like the process executor: whatever ends a job, the audit finishes."""

import pytest

from dlaudit.audit.record import Errored, Measured
from dlaudit.audit.run_folder import stored

pytest.importorskip("ray", reason="Ray is an extra: pip install dlaudit[ray]")

FAULTS = {
    "exception": "RuntimeError",
    "exit": "WorkerDied",
    "sysexit": "SystemExit",
    "sigkill": "WorkerDied",
    "segv": "WorkerDied",
    "memory": "OutOfMemory",
    "hang": "Timeout",
    "import": "ImportFailed",
    "nan": "ValueError",
}


@pytest.mark.slow
def test_every_fault_ends_as_an_errored_run_and_the_others_go_on(tmp_path, plug, dlaudit_process):
    plan = tmp_path / "audit.toml"
    runs = "".join(
        f'[checks.{fault}]\nuse = "toy.accuracy"\nfault = "{fault}"\n' for fault in FAULTS
    )
    plan.write_text(
        '[model]\nuse = "toy.model"\n[data]\nuse = "toy.data"\n[checks."toy.accuracy"]\n'
        f'{runs}[[rules]]\nrun = "toy.accuracy"\nmeasurement = "accuracy"\nat_least = 0.5\n'
    )
    answer = dlaudit_process(
        "run", plan, "--plugin", plug, "--out", tmp_path / "run", "--executor", "ray:2",
        "--job-timeout", 30, "--quiet",
    )  # fmt: skip
    assert answer.code == 3, answer.stderr
    record = stored(tmp_path / "run")
    outcomes = {run.id: run.outcome for run in record.runs}
    assert isinstance(outcomes.pop("toy.accuracy"), Measured)
    assert {
        fault: outcome.error for fault, outcome in outcomes.items() if isinstance(outcome, Errored)
    } == FAULTS
    assert record.environment["executor"] == {"name": "ray", "isolated": True, "slots": 2}


@pytest.mark.slow
def test_a_wrong_plan_is_refused_and_nothing_is_written(tmp_path, plug, dlaudit_process):
    plan = tmp_path / "audit.toml"
    plan.write_text('[model]\nuse = "toy.modell"\n[data]\nuse = "toy.data"\n[checks.a]\n')
    answer = dlaudit_process(
        "run", plan, "--plugin", plug, "--out", tmp_path / "run", "--executor", "ray:1"
    )
    assert answer.code == 2
    assert "Did you mean toy.model?" in answer.stderr
    assert not (tmp_path / "run").exists()

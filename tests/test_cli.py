"""The command line: parse, call, print, exit. The codes are those of DESIGN.md §5."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import Ended, dlaudit_command

from dlaudit import cli
from dlaudit.audit.run_folder import alterations, stored
from dlaudit.errors import AuditError, LoadError, PlanError, ReportFailed, RunFolderError

PLAN = """
name = "toy"
model.use = "toy.model"
data.use = "toy.data"
data.args.n = 60
checks."toy.accuracy" = {}
"""
RULE = 'rules = [{{ run = "toy.accuracy", measurement = "{}", {} }}]'
WAIVER = 'waivers."{}" = {{ owner = "o", reason = "r", until = {} }}'
FAILED = 'checks.bad = { use = "toy.accuracy", fault = "exception" }'
SKIPPED = 'checks."toy.deaf" = {}'
PASS, FAIL = RULE.format("accuracy", "at_least = 0.5"), RULE.format("accuracy", "at_most = 0.5")
OPEN = RULE.format("accuracy", "at_least = 0.975")
UNKNOWN = RULE.format("draw", 'at_least = 0, slice = { region = "second" }')


@pytest.fixture
def dlaudit(tmp_path: Path, plug: Path) -> Callable[..., Ended]:
    """``dlaudit run audit.toml`` with settings laid over the plan."""
    (tmp_path / "audit.toml").write_text(PLAN)

    def call(*settings: str, words: tuple[object, ...] = ()) -> Ended:
        laid = [word for setting in settings for word in ("--set", setting)]
        return dlaudit_command(
            "run", "audit.toml", "--plugin", plug, "--executor", "inline", "--out", "run",
            *laid, *words, folder=tmp_path,
        )  # fmt: skip

    return call


# -- exit codes --------------------------------------------------------------------------------------

CODES: list[tuple[str, tuple[str, ...], int]] = [
    ("a rule passes", (PASS,), 0),
    ("a rule fails", (FAIL,), 1),
    ("an unknown check", ("checks.typo = {}",), 2),
    ("no rule", (), 3),
    ("a rule whose number is undefined", (UNKNOWN,), 3),
    ("a rule passes, a run is errored", (PASS, FAILED), 3),
    ("a rule passes, a run is skipped", (PASS, SKIPPED), 3),
    ("a skipped run is waived", (PASS, SKIPPED, WAIVER.format("toy.deaf", "2999-01-01")), 0),
    ("a rule is undecided", (OPEN,), 4),
    ("a rule is undecided, a run is errored", (OPEN, FAILED), 3),
    ("a rule fails, a run is errored", (FAIL, FAILED), 1),
    ("a failure is waived", (FAIL, WAIVER.format("toy.accuracy", "2999-01-01")), 0),
    ("an undefined number is waived", (UNKNOWN, WAIVER.format("toy.accuracy", "2999-01-01")), 0),
    ("an errored run is waived", (PASS, FAILED, WAIVER.format("bad", "2999-01-01")), 0),
    ("a waiver expired", (FAIL, WAIVER.format("toy.accuracy", "2001-01-01")), 1),
    ("a waiver of an errored run expired", (PASS, FAILED, WAIVER.format("bad", "2001-01-01")), 3),
    ("all runs are waived and there is no rule", (WAIVER.format("toy.accuracy", "2999-01-01"),), 3),
]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "code"), [row[1:] for row in CODES], ids=[row[0] for row in CODES]
)
def test_run_and_gate_exit_alike(
    settings: tuple[str, ...], code: int, dlaudit: Callable[..., Ended], tmp_path: Path
) -> None:
    ended = dlaudit(*settings)
    assert ended.code == code, ended
    if code == 2:
        assert not ended.stdout
        assert not (tmp_path / "run").exists()
        return
    assert f"Exit code {code}" in ended.stdout
    assert ended.stderr.endswith("Record and reports: run\n")
    again = dlaudit_command("gate", "run", folder=tmp_path)
    assert (again.code, again.stdout) == (code, ended.stdout)
    assert not again.stderr


def test_a_defect_of_our_own_is_5_and_asks_to_be_reported(
    dlaudit: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from dlaudit.audit import engine

    monkeypatch.setattr(engine, "judge_all", lambda *_: 1 / 0)
    ended = dlaudit(PASS)
    assert ended.code == 5
    assert "ZeroDivisionError" in ended.stderr
    assert "please report it with the lines above" in ended.stderr
    assert (tmp_path / "run" / "journal.jsonl").exists(), "what was measured is kept"
    monkeypatch.undo()
    assert dlaudit(PASS, words=("--resume",)).code == 0


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (PlanError("seed: expected 3"), 2, "Error: seed: expected 3\n"),
        (PlanError("a", "b"), 2, "Error: this audit cannot be run:\n  a\n  b\n"),
        (LoadError("net.pt: expected a file"), 2, "Error: net.pt: expected a file\n"),
        (RunFolderError("run: not empty"), 2, "Error: run: not empty\n"),
        (AuditError("told"), 2, "Error: told\n"),
        (ReportFailed("--format x: crashed"), 5, "Error: --format x: crashed\n"),
    ],
)
def test_an_expected_mistake_is_told_without_a_traceback(
    error: Exception, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.explained(error) == code
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("leaving", [SystemExit(0), SystemExit(None), RuntimeError("planted")])
def test_nothing_that_a_guest_raises_opens_the_gate(
    leaving: BaseException, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from dlaudit.audit import gate

    def crash(*_: object) -> None:
        raise leaving

    monkeypatch.setattr(gate, "gate", crash)
    assert dlaudit_command("gate", "run", folder=tmp_path).code == 5


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from dlaudit.audit import gate

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(gate, "gate", interrupt)
    ended = dlaudit_command("gate", "run", folder=tmp_path)
    assert ended.code == 130
    assert ended.stderr.endswith("interrupted\n")
    assert not ended.stdout


# -- wrong commands ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("rnu",), "No such command 'rnu'"),
        (("run", "--sed", "3"), "No such option"),
        (("run", "audit.toml", "--seed", "x"), "'x' is not a valid integer"),
        (("run", "audit.toml", "--job-timeout", "0"), "0.0 is not in the range x>0"),
        (("run", "audit.toml", "--job-timeout", "-1"), "is not in the range x>0"),
        (("run", "audit.toml", "--time-limit", "0"), "is not in the range x>0"),
        (("run", "audit.toml", "--memory-limit", "-1"), "is not in the range x>0"),
        (("run",), "expected a plan file, or --model and --data"),
        (("run", "--model", "net.pt"), "expected a plan file, or --model and --data"),
        (("run", "audit.toml", "--model", "net.pt"), "are for runs without a plan file"),
        (("run", "audit.toml", "--suite", "attacks"), "are for runs without a plan file"),
        (("run", "missing.toml"), "missing.toml: expected a plan (TOML), found nothing"),
        (("run", "audit.toml", "--plugin", "missing.py"), "expected a Python file, found nothing"),
        (("run", "audit.toml", "--executor", "inlin"), "Did you mean inline?"),
        (("run", "audit.toml", "--executor", "inline:0"), "expected NAME or NAME:SLOTS"),
        (("run", "audit.toml", "--out", "audit.toml"), "expected a folder, found a file"),
        (("run", "audit.toml", "--out", "full"), "expected a new or an empty folder"),
        (("gate", "missing"), "expected a run, there is no such folder"),
        (("gate", "full"), "expected a run, no record.json lies there"),
        (("verify", "full"), "expected a run, no record.json lies there"),
        (("report", "full"), "expected a run, no record.json lies there"),
        (("report",), "Missing argument 'RUN'"),
        (("list", "chekcs"), "list: no kind of part is called 'chekcs'. Did you mean checks?"),
        (("init",), "Missing option '--model'"),
        (("new", "chekc", "x"), "'chekc' is not one of"),
    ],
)
def test_a_command_that_makes_no_sense_is_2_and_writes_nothing(
    words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    (tmp_path / "audit.toml").write_text(PLAN)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").touch()
    before = sorted(tmp_path.rglob("*"))
    ended = dlaudit_command(*words, folder=tmp_path)
    assert ended.code == 2, ended
    assert not ended.stdout
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "settings", "place"),
    [
        (("--seed", "-1"), (), "seed: expected a whole number >= 0, got -1"),
        (("--max-samples", "0"), (), "max_samples: expected a whole number >= 1, got 0"),
        (("--check", "toy.acuracy"), (), "--check toy.acuracy: no run is called so"),
        (("--skip", "toy.acuracy"), (), "--skip toy.acuracy: no run is called so"),
        (("--skip", "toy.accuracy"), (), "nothing to run: name suites"),
        (
            ("--format", "html,htlm"),
            (),
            "--format: no renderer is called 'htlm'. Did you mean html?",
        ),
        ((), ("seed",), "--set seed: expected a TOML key and value"),
        ((), ('model.args.fualt = "x"',), "model.args.fualt: toy.model takes no such argument"),
    ],
)
def test_a_mistake_in_an_option_is_told_like_one_in_the_plan(
    words: tuple[str, ...], settings: tuple[str, ...], place: str, dlaudit: Callable[..., Ended],
    tmp_path: Path,
) -> None:  # fmt: skip
    ended = dlaudit(*settings, words=words)
    assert ended.code == 2
    assert ended.stderr.startswith(f"Error: audit.toml cannot be run:\n  {place}")
    assert not (tmp_path / "run").exists()


# -- what is printed and written ---------------------------------------------------------------------


def test_stdout_is_the_result_and_stderr_the_talk(dlaudit: Callable[..., Ended]) -> None:
    ended = dlaudit(PASS)
    assert "toy.accuracy.accuracy" in ended.stdout
    assert "sealed" not in ended.stdout
    lines = ended.stderr.splitlines()
    assert lines[0] == "dlaudit: toy: 1 runs on toy (test 60), cpu"
    assert lines[1].startswith("dlaudit: plan sealed as ")
    assert lines[2].startswith("[1/1] toy.accuracy: measured 2 values, 1 undefined in ")
    assert lines[3] == "Record and reports: run"


def test_quiet_leaves_the_result_alone(dlaudit: Callable[..., Ended]) -> None:
    ended = dlaudit(PASS, words=("--quiet",))
    assert ended.code == 0
    assert not ended.stderr
    assert "The gate opens" in ended.stdout


def test_formats_are_written_and_sealed(dlaudit: Callable[..., Ended], tmp_path: Path) -> None:
    dlaudit(PASS, words=("--format", "html, junit,sarif,md,json"))
    run = tmp_path / "run"
    assert {file.name for file in run.iterdir()} == {
        "record.json", "report.html", "junit.xml", "results.sarif", "summary.md", "evidence",
        "manifest.json", "journal.jsonl",
    }  # fmt: skip
    assert alterations(run) == []


def test_without_out_the_folder_is_named_after_plan_and_time(plug: Path, tmp_path: Path) -> None:
    (tmp_path / "audit.toml").write_text(PLAN.replace('"toy"', '"Digits, 1.4 / ../beta"', 1))
    ended = dlaudit_command(
        "run", "audit.toml", "--plugin", plug, "--executor", "inline", folder=tmp_path
    )
    (folder,) = (tmp_path / "dlaudit-runs").iterdir()
    assert folder.name.rpartition("-")[0] == "digits-1.4-..-beta"
    assert ended.stderr.endswith(f"Record and reports: dlaudit-runs/{folder.name}\n")


def test_options_change_the_plan_and_its_seal(
    dlaudit: Callable[..., Ended], tmp_path: Path
) -> None:
    dlaudit(PASS)
    first = stored(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    dlaudit(PASS, words=("--seed", "5", "--max-samples", "20"))
    second = stored(tmp_path / "run")
    assert (second.plan["seed"], second.plan["max_samples"]) == (5, 20)
    assert first.plan_sha256 != second.plan_sha256
    assert second.data.facts["subset"] == 20
    assert second.runs[0].outcome.measurements[0].n == 20


def test_paths_are_relative_to_the_plan_or_on_the_command_line_to_the_current_folder(
    tmp_path: Path,
) -> None:
    import numpy as np

    from dlaudit.testing import toy_arrays

    (tmp_path / "plans").mkdir()
    arrays = toy_arrays(40)
    np.savez(tmp_path / "plans" / "rows.npz", x=arrays["x"], y=arrays["y"])
    (tmp_path / "plans" / "net.py").write_text(
        "import numpy as np\n\ndef net(x):\n    return np.eye(4, dtype='float32')[np.zeros(len(x), int)]\n"
    )
    (tmp_path / "plans" / "audit.toml").write_text(
        'suites = ["fairness"]\n'
        'model = { use = "callable", args = { file = "net.py:net" } }\n'
        'data = { use = "npz", args = { path = "rows.npz" } }\n'
    )
    by_plan = dlaudit_command(
        "run", "plans/audit.toml", "--executor", "inline", "--out", "out", folder=tmp_path
    )
    assert by_plan.code == 3, by_plan
    assert (tmp_path / "out").is_dir(), "--out is relative to the current folder"
    words = ("--suite", "fairness", "--executor", "inline", "--out", "out2")
    by_hand = dlaudit_command(
        "run", "--model", "plans/net.py:net", "--data", "plans/rows.npz", *words, folder=tmp_path
    )
    assert by_hand.code == 3, by_hand
    wrong = dlaudit_command(
        "run", "--model", "net.py:net", "--data", "rows.npz", *words, folder=tmp_path
    )
    assert wrong.code == 2
    first, second = stored(tmp_path / "out"), stored(tmp_path / "out2")
    assert first.model.fingerprint == second.model.fingerprint
    assert first.data.fingerprint == second.data.fingerprint
    assert str(tmp_path) not in (tmp_path / "out" / "record.json").read_text()


def test_values_from_the_environment_stand_nowhere_in_a_run(
    dlaudit: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLAUDIT_TEST_SECRET", "none")
    hidden = 'model.args.fault = "${DLAUDIT_TEST_SECRET}"'
    assert dlaudit(PASS, hidden).code == 0
    record = json.loads((tmp_path / "run" / "record.json").read_bytes())
    assert record["plan"]["model"]["args"] == {"fault": "${DLAUDIT_TEST_SECRET}"}
    monkeypatch.delenv("DLAUDIT_TEST_SECRET")
    shutil.rmtree(tmp_path / "run")
    ended = dlaudit(PASS, hidden)
    assert ended.code == 2
    assert "${DLAUDIT_TEST_SECRET}: the environment has no variable of this name" in ended.stderr


def test_a_limit_for_the_whole_run_leaves_the_rest_undone(
    dlaudit: Callable[..., Ended], tmp_path: Path
) -> None:
    ended = dlaudit(PASS, words=("--time-limit", "0.000001"))
    assert ended.code == 3
    (run,) = stored(tmp_path / "run").runs
    assert run.outcome.error == "Timeout"
    assert run.outcome.message == "the run's limit of 1e-06 s was over"
    again = dlaudit(PASS, words=("--resume",))
    assert again.code == 0, "what was left undone is done when the run goes on"
    assert "0 runs were finished before" in again.stderr
    assert alterations(tmp_path / "run") == []


# -- report, verify, list ----------------------------------------------------------------------------


def test_report_prints_or_writes_elsewhere_but_never_into_the_run(
    dlaudit: Callable[..., Ended], tmp_path: Path
) -> None:
    dlaudit(PASS, words=("--format", "md"))
    printed = dlaudit_command("report", "run", "--format", "md", folder=tmp_path)
    assert printed.code == 0
    assert printed.stdout == (tmp_path / "run" / "summary.md").read_text()
    written = dlaudit_command(
        "report", "run/record.json", "--format", "md", "-o", "summary.md", folder=tmp_path
    )
    assert (written.code, written.stdout) == (0, "")
    assert (tmp_path / "summary.md").read_text() == printed.stdout
    for inside in ("run/x.md", "run/evidence/x.md", "run/../run/x.md", "run"):
        refused = dlaudit_command("report", "run", "-o", inside, folder=tmp_path)
        assert refused.code == 2
        assert "lies inside the run, whose files are sealed" in refused.stderr
    (tmp_path / "folder").mkdir()
    for nowhere in ("missing/x.md", "folder"):
        refused = dlaudit_command("report", "run", "-o", nowhere, folder=tmp_path)
        assert refused.code == 2
        assert "cannot be written" in refused.stderr
    assert alterations(tmp_path / "run") == []


def test_verify_is_0_when_intact_and_1_with_the_names_when_altered(
    dlaudit: Callable[..., Ended], tmp_path: Path
) -> None:
    dlaudit(PASS)
    intact = dlaudit_command("verify", "run", folder=tmp_path)
    assert intact.code == 0
    assert intact.stdout.startswith("intact: every file is as the manifest says.")
    with (tmp_path / "run" / "report.html").open("a") as file:
        file.write(" ")
    altered = dlaudit_command("verify", "run/record.json", folder=tmp_path)
    assert (altered.code, altered.stdout) == (1, "report.html: was altered\n")


def test_list_names_every_part_with_its_origin(plug: Path, tmp_path: Path) -> None:
    text = dlaudit_command("list", "--plugin", plug, folder=tmp_path)
    assert text.code == 0
    listed = json.loads(dlaudit_command("list", "--json", "--plugin", plug, folder=tmp_path).stdout)
    assert {"kind", "name", "origin", "line"} == set(listed[0])
    named = {(part["kind"], part["name"]): part for part in listed}
    assert named["checks", "toy.accuracy"]["origin"] == "toy.py"
    assert named["suites", "attacks"]["origin"] == "dlaudit"
    for part in listed:
        assert part["name"] in text.stdout
        assert part["line"] in text.stdout
    only = json.loads(dlaudit_command("list", "renderers", "--json", folder=tmp_path).stdout)
    assert {part["kind"] for part in only} == {"renderers"}


# -- as a process ------------------------------------------------------------------------------------


def test_a_reader_that_goes_away_is_no_defect(
    dlaudit: Callable[..., Ended], tmp_path: Path
) -> None:
    dlaudit(PASS)
    with subprocess.Popen(
        [sys.executable, "-m", "dlaudit", "report", "run", "--format", "html"], cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (141, "")


def test_help_gives_an_example_and_the_codes(tmp_path: Path) -> None:
    for command in (
        "run",
        "gate",
        "report",
        "verify",
        "diff",
        "init",
        "plan",
        "list",
        "new",
        "demo",
    ):
        ended = dlaudit_command(command, "--help", folder=tmp_path)
        assert ended.code == 0
        assert f"\n  dlaudit {command} " in ended.stdout
    assert "130  interrupted" in dlaudit_command("run", "--help", folder=tmp_path).stdout


def test_the_installed_command_exits_with_the_code(
    dlaudit_process: Callable[..., Ended], plug: Path, tmp_path: Path
) -> None:
    (tmp_path / "audit.toml").write_text(PLAN)
    ended = dlaudit_process(
        "run", "audit.toml", "--plugin", plug, "--executor", "process:1", "--set", FAIL,
        "--out", "run", cwd=tmp_path,
    )  # fmt: skip
    assert ended.code == 1, ended
    assert "The gate stays closed" in ended.stdout
    assert os.listdir(tmp_path / "run")  # noqa: PTH208

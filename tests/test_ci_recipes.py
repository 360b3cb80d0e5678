"""The Action, the GitLab job, the pre-commit hooks and .ci/run: parsed, and their steps executed."""

import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from commandline import shell_environment
from documented import REPOSITORY, blocks

PASSING, FAILING, UNUSABLE = 0.5, 0.99, "high"

PLAN = """
name = "recorded decisions"
suites = ["fairness"]
default_rules = false
[model]
use = "predictions"
args = {{ column = "decision", positive = "yes" }}
[data]
use = "csv"
args = {{ path = "decisions.csv", target = "repaid", positive = 1, groups = ["region"] }}
[[rules]]
run = "fairness.groups"
measurement = "accuracy"
slice = {{}}
at_least = {threshold}
rationale = "half of them right: planted for a test"
"""


@pytest.fixture
def workspace(tmp_path) -> Path:
    """A checkout with recorded decisions, nine in ten of them right: an audit of seconds."""
    rows = ["region,decision,repaid"]
    for row in range(400):
        decision, repaid = row % 2, row % 2 if row % 10 else 1 - row % 2
        rows.append(f"{'north' if row % 4 < 2 else 'south'},{'yes' if decision else 'no'},{repaid}")
    (tmp_path / "decisions.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def written(workspace: Path, threshold: float | str) -> Path:
    """The plan with a threshold."""
    shown = f'"{threshold}"' if isinstance(threshold, str) else threshold
    (workspace / "audit.toml").write_text(PLAN.format(threshold=shown))
    return workspace


class Action:
    """The composite action, run as a runner would: inputs by expression, outputs by file."""

    def __init__(self, workspace: Path, **inputs: str) -> None:
        self.text = yaml.safe_load((REPOSITORY / "action.yml").read_text())
        self.inputs = {name: str(one["default"]) for name, one in self.text["inputs"].items()}
        self.inputs |= {"install": "false", **inputs}
        self.workspace = workspace
        self.files = {
            name: workspace / f".{name}" for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")
        }
        self.steps: dict[str, dict[str, str]] = {}

    def run(self) -> int:
        """The exit code of the first step that fails, else 0."""
        for step in self.text["runs"]["steps"]:
            if "if" in step and not self.holds(step["if"]):
                continue
            for file in self.files.values():
                file.touch()
            done = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
                cwd=self.workspace, capture_output=True, text=True, check=False,
                env={
                    **shell_environment(), "GITHUB_ACTION_PATH": str(REPOSITORY),
                    **{name: str(file) for name, file in self.files.items()},
                    **{name: self.value(text) for name, text in step.get("env", {}).items()},
                },
            )  # fmt: skip
            lines = self.files["GITHUB_OUTPUT"].read_text().splitlines()
            self.steps[step.get("id", "")] = dict(line.split("=", 1) for line in lines)
            self.files["GITHUB_OUTPUT"].unlink()
            if done.returncode:
                return done.returncode
        return 0

    def holds(self, condition: str) -> bool:
        """``inputs.install == 'true'``."""
        name, value = re.fullmatch(r"inputs\.([\w-]+) == '(\w+)'", condition).groups()
        return self.inputs[name] == value

    def value(self, text: str) -> str:
        """``${{ inputs.plan }}`` or ``${{ steps.audit.outputs.passed }}``."""
        words = re.fullmatch(r"\$\{\{ ([\w.-]+) \}\}", text)[1].split(".")
        return self.inputs[words[1]] if words[0] == "inputs" else self.steps[words[1]][words[3]]

    @property
    def outputs(self) -> dict[str, str]:
        """What the caller of the action gets."""
        return {name: self.value(one["value"]) for name, one in self.text["outputs"].items()}


def test_the_action_passes_where_the_gate_opens(workspace):
    action = Action(written(workspace, PASSING))
    assert action.run() == 0
    assert action.outputs == {
        "passed": "true", "exit-code": "0", "report-path": "dlaudit-runs/ci/report.html",
    }  # fmt: skip
    assert (workspace / "dlaudit-runs/ci/junit.xml").is_file()
    assert "accuracy" in action.files["GITHUB_STEP_SUMMARY"].read_text()


def test_the_action_fails_with_the_code_of_the_audit_and_still_says_where_the_report_is(workspace):
    action = Action(written(workspace, FAILING), options='--seed=3\n--set=name = "other"\n')
    assert action.run() == 1
    assert action.outputs["passed"] == "false"
    assert (workspace / action.outputs["report-path"]).is_file()


def test_the_action_shows_what_is_wrong_with_a_plan_that_cannot_be_run(workspace):
    action = Action(written(workspace, UNUSABLE))
    assert action.run() == 2
    assert action.outputs == {"passed": "false", "exit-code": "2", "report-path": ""}
    assert "at_least" in action.files["GITHUB_STEP_SUMMARY"].read_text()


def test_no_input_of_the_action_is_pasted_into_a_script(workspace):
    """A plan called ``$(rm -rf .)`` is a file name, not a command."""
    action = Action(written(workspace, PASSING), plan="$(touch owned).toml")
    assert action.run() == 2
    assert not (workspace / "owned").exists()
    for step in action.text["runs"]["steps"]:
        assert "${{" not in step["run"]


def test_the_action_installs_from_its_own_source_in_the_tested_versions():
    steps = yaml.safe_load((REPOSITORY / "action.yml").read_text())["runs"]["steps"]
    install = next(step["run"] for step in steps if step["name"] == "Install dlaudit")
    words = shlex.split(install)
    assert words[:4] == ["python3", "-m", "pip", "install"]
    assert (
        REPOSITORY / words[words.index("-c") + 1].removeprefix("$GITHUB_ACTION_PATH/")
    ).is_file()


def documented(title: str, *, containing: str = "") -> dict:
    """The YAML of a block of docs/ci.md."""
    return next(
        yaml.safe_load(block.body)
        for block in blocks(REPOSITORY / "docs" / "ci.md")
        if block.title == title and containing in block.body
    )


def test_the_workflow_calls_the_action_with_inputs_and_outputs_that_it_has():
    action = yaml.safe_load((REPOSITORY / "action.yml").read_text())
    steps = documented(".github/workflows/audit.yml")["jobs"]["audit"]["steps"]
    call = next(step for step in steps if "dlaudit@" in step["uses"])
    assert set(call["with"]) <= set(action["inputs"])
    text = (REPOSITORY / "docs" / "ci.md").read_text()
    for name in re.findall(r"steps\.dlaudit\.outputs\.([\w-]+)", text):
        assert name in action["outputs"]
    assert all("run" not in step for step in steps if "uses" in step)


def test_the_gitlab_job_runs_the_audit_and_keeps_its_reports(workspace):
    job = documented(".gitlab-ci.yml")["audit"]
    assert all("pip install" in line for line in job["before_script"])
    written(workspace, PASSING)
    for line in job["script"]:
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", line], cwd=workspace, env=shell_environment(),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    for path in (*job["artifacts"]["paths"], job["artifacts"]["reports"]["junit"]):
        assert (workspace / path).exists()


def hook(words: str, workspace: Path) -> int:
    """Run a hook as pre-commit does: without a shell."""
    return subprocess.run(
        shlex.split(words), cwd=workspace, env=shell_environment(), capture_output=True, check=False
    ).returncode


def test_the_pre_commit_hooks_refuse_what_must_not_be_pushed(workspace):
    hooks = {
        one["id"]: one
        for one in yaml.safe_load((REPOSITORY / ".pre-commit-hooks.yaml").read_text())
    }
    assert all(one["pass_filenames"] is False for one in hooks.values())
    words = {
        name: shlex.join([*shlex.split(one["entry"]), *one["args"]]) for name, one in hooks.items()
    }
    assert hook(words["dlaudit-plan"], written(workspace, UNUSABLE)) == 2
    assert hook(words["dlaudit-plan"], written(workspace, FAILING)) == 0
    assert hook(words["dlaudit-gate"], workspace) == 2, "no run is stored"
    run = "dlaudit run audit.toml --out dlaudit-runs/release --executor inline"
    assert hook(run, workspace) == 1
    assert hook(words["dlaudit-gate"], workspace) == 1
    shutil.rmtree(workspace / "dlaudit-runs")
    assert hook(run, written(workspace, PASSING)) == 0
    assert hook(words["dlaudit-gate"], workspace) == 0


def test_the_documented_hooks_are_those_that_there_are():
    known = {
        one["id"] for one in yaml.safe_load((REPOSITORY / ".pre-commit-hooks.yaml").read_text())
    }
    for containing in ("rev:", "repo: local"):
        for repo in documented(".pre-commit-config.yaml", containing=containing)["repos"]:
            assert {one["id"] for one in repo["hooks"]} <= known


# -- .ci/run -------------------------------------------------------------------------------------


def test_ci_takes_its_test_command_from_the_readme():
    """The pattern that .ci/run greps for finds one command: make, install, test."""
    script = (REPOSITORY / ".ci" / "run").read_text()
    pattern = re.search(r"grep -m1 '\^([^']+)' README\.md", script)[1]
    lines = [
        x for x in (REPOSITORY / "README.md").read_text().splitlines() if x.startswith(pattern)
    ]
    assert len(lines) == 1
    parts = lines[0].split(" && ")
    assert len(parts) == 3
    assert "-c constraints.txt" in parts[1]
    assert parts[2] == ".venv-test/bin/pytest"


def test_ci_is_sound_shell():
    done = subprocess.run(["bash", "-n", REPOSITORY / ".ci" / "run"], check=False)
    assert done.returncode == 0
    assert "\nset -euo pipefail\n" in (REPOSITORY / ".ci" / "run").read_text()


def test_torch_is_pinned_for_tests_and_a_range_for_users():
    pins = (REPOSITORY / "constraints.txt").read_text().splitlines()
    assert "torch==2.13.0" in pins
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    for dependency in project["dependencies"]:
        assert ">=" in dependency
        assert "==" not in dependency

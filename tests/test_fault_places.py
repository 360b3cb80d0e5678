"""A fault outside a check never opens the gate either: in plug-ins, loaders, suites, renderers."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commandline import Ended, dlaudit_command

from dlaudit.audit import executor as executors
from dlaudit.audit.executor import Limits
from dlaudit.audit.launch import launch
from dlaudit.audit.plan import source_of
from dlaudit.audit.run_folder import alterations
from dlaudit.errors import PlanError

PLAN = """
name = "toy"
suites = ["toy.ruled"]
model.use = "toy.model"
data.use = "toy.data"
data.args.n = 40
"""
LEAVINGS = {
    "raises": "raise RuntimeError('planted')",
    "leaves": "import sys; sys.exit(0)",
    "vanishes": "import os; os._exit(0)",
}


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    (tmp_path / "audit.toml").write_text(PLAN)
    return tmp_path / "audit.toml"


def assert_refused(ended: Ended, out: Path, *said: str) -> None:
    """Exit 2, nothing on stdout, nothing written."""
    assert ended.code == 2, ended
    assert not ended.stdout
    assert not out.exists()
    for words in said:
        assert words in ended.stderr


# -- plug-in files -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "executor"),
    # Not ("vanishes", "inline"): inline isolates nothing, and record and reports say so.
    [*((ending, "process:1") for ending in LEAVINGS), ("raises", "inline"), ("leaves", "inline")],
)
def test_a_plug_in_that_ends_as_it_is_imported_is_refused(
    ending: str, executor: str, plan: Path, plug: Path, dlaudit_process: Callable[..., Ended]
) -> None:
    hostile = plan.with_name("hostile.py")
    hostile.write_text(LEAVINGS[ending])
    out = plan.with_name("out")
    ended = dlaudit_process(
        "run", plan, "--plugin", plug, "--plugin", hostile, "--out", out, "--executor", executor
    )
    assert_refused(ended, out, "opening model and data" if ending == "vanishes" else "hostile.py")


# -- loaders -----------------------------------------------------------------------------------------

LOADER_FAULTS = {
    "exception": "the loader 'toy.{part}' failed: RuntimeError: planted",
    "sysexit": "the loader 'toy.{part}' failed: SystemExit: 0",
    "import": "the loader 'toy.{part}' failed: ModuleNotFoundError",
    "memory": "the loader 'toy.{part}' failed: MemoryError",
}
DEADLY = {"exit": "exit code 0", "sigkill": "signal SIGKILL", "segv": "signal SIGSEGV"}


@pytest.mark.parametrize("part", ["model", "data"])
@pytest.mark.parametrize("fault", LOADER_FAULTS)
def test_a_loader_that_fails_is_refused(fault: str, part: str, plan: Path, plug: Path) -> None:
    out = plan.with_name("out")
    ended = dlaudit_command(
        "run", plan, "--plugin", plug, "--out", out, "--executor", "inline",
        "--set", f'{part}.args.fault = "{fault}"', folder=plan.parent,
    )  # fmt: skip
    assert_refused(ended, out, f"{part}: {LOADER_FAULTS[fault].format(part=part)}")


@pytest.mark.parametrize(
    ("part", "fault"),
    [
        ("model", "exit"),
        ("data", "segv"),
        *(
            pytest.param(part, fault, marks=pytest.mark.slow)
            for part, fault in (
                ("model", "sigkill"),
                ("model", "segv"),
                ("data", "exit"),
                ("data", "sigkill"),
            )
        ),
    ],
)
def test_a_loader_that_ends_its_process_is_refused(
    part: str, fault: str, plan: Path, plug: Path
) -> None:
    out = plan.with_name("out")
    ended = dlaudit_command(
        "run", plan, "--plugin", plug, "--out", out, "--executor", "process:1",
        "--set", f'{part}.args.fault = "{fault}"', folder=plan.parent,
    )  # fmt: skip
    assert_refused(ended, out, "opening model and data ended the worker: WorkerDied", DEADLY[fault])


def test_a_loader_that_hangs_is_refused(
    plan: Path, plug: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "OPENING", 1.0)
    source = source_of(plan, plugins=(str(plug),), settings=('model.args.fault = "hang"',))
    with pytest.raises(PlanError, match="opening model and data took longer than 1 s"):
        launch(source, out=plan.with_name("out"), executor="process:1", limits=Limits(job=1.0))
    assert not plan.with_name("out").exists()


def test_a_model_of_nan_is_refused(plan: Path, plug: Path) -> None:
    out = plan.with_name("out")
    ended = dlaudit_command(
        "run", plan, "--plugin", plug, "--out", out, "--executor", "inline",
        "--set", 'model.args.fault = "nan"', folder=plan.parent,
    )  # fmt: skip
    assert_refused(ended, out, "model: ", "NaN or infinite logits")


# -- installed parts whose import fails --------------------------------------------------------------

GUEST = """
[dlaudit.checks]
guest.gone = guest_gone:Gone
guest.empty = guest_parts:Nothing
guest.no_check = guest_parts:NO_CHECK

[dlaudit.suites]
guest = guest_gone:SUITE
guests = guest_parts:SUITE
"""
GUEST_PARTS = """
from dlaudit import Rule, Suite
NO_CHECK = 3
SUITE = Suite(
    name="guests",
    runs={"guest.gone": {}},
    rules=(Rule(id="", run="guest.gone", measurement="share", at_least=0.5),),
)
"""


@pytest.fixture(params=sorted(LEAVINGS))
def guest(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """An installed package that brings parts which cannot be imported, and how they fail."""
    site = tmp_path / "site"
    (site / "guest-1.0.dist-info").mkdir(parents=True)
    (site / "guest-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: guest\nVersion: 1.0\n"
    )
    (site / "guest-1.0.dist-info" / "entry_points.txt").write_text(GUEST)
    (site / "guest_gone.py").write_text(LEAVINGS[request.param])
    (site / "guest_parts.py").write_text(GUEST_PARTS)
    with contextlib.ExitStack() as after:
        sys.path.append(str(site))
        after.callback(sys.path.remove, str(site))
        after.callback(sys.modules.pop, "guest_parts", None)
        yield request.param, site


def test_an_installed_part_that_cannot_be_imported_is_an_errored_run(
    guest: tuple[str, Path], plan: Path, plug: Path, dlaudit_process: Callable[..., Ended]
) -> None:
    ending, site = guest
    out = plan.with_name("out")
    words = (
        "run", plan, "--plugin", plug, "--out", out, "--format", "json",
        "--set", 'suites = ["toy.ruled", "guest", "guests"]',
        "--set", 'checks = { "guest.empty" = {}, "guest.no_check" = {} }',
    )  # fmt: skip
    if ending == "vanishes":  # nobody can tell which part it was
        ended = dlaudit_process(*words, "--executor", "process:1", env={"PYTHONPATH": str(site)})
        assert_refused(ended, out, "opening model and data ended the worker")
        return
    ended = dlaudit_command(*words, "--executor", "inline", folder=plan.parent)
    assert ended.code == 3, ended
    record = json.loads((out / "record.json").read_bytes())
    outcomes = {run["id"]: run["outcome"] for run in record["runs"]}
    assert outcomes.pop("toy.accuracy")["kind"] == "measured"
    assert set(outcomes) == {"guest", "guest.gone", "guest.empty", "guest.no_check"}
    for outcome in outcomes.values():
        assert (outcome["kind"], outcome["error"]) == ("errored", "ImportFailed")
    statuses = {verdict["rule"]: verdict["status"] for verdict in record["verdicts"]}
    assert statuses == {"toy.accuracy.accuracy": "pass", "guest.gone.share": "not_assessed"}
    assert "guest.gone" in ended.stdout


def test_a_failed_rule_outranks_an_errored_run(plan: Path, plug: Path) -> None:
    failing = 'rules = [{ run = "toy.accuracy", measurement = "accuracy", at_most = 0.1 }]'
    ended = dlaudit_command(
        "run", plan, "--plugin", plug, "--out", "out", "--format", "json", "--executor", "inline",
        "--set", failing, "--set", 'checks.bad = { use = "toy.accuracy", fault = "exception" }',
        folder=plan.parent,
    )  # fmt: skip
    assert ended.code == 1, ended


# -- renderers ---------------------------------------------------------------------------------------

RENDERERS = {
    "crash": "RuntimeError: planted in a renderer",
    "leave": "SystemExit",
    "vanish": "ended with 0 and no report",
    "fall": "no report",
    "mumble": "AttributeError",
}


@pytest.mark.parametrize(
    ("executor", "renderer"),
    [
        ("inline", "crash"),
        ("inline", "leave"),
        ("inline", "mumble"),
        ("process:1", "vanish"),
        *(pytest.param("process:1", r, marks=pytest.mark.slow) for r in ("crash", "leave", "fall", "mumble")),
    ],
)  # fmt: skip
def test_a_renderer_that_fails_closes_the_gate_and_keeps_the_record(
    executor: str, renderer: str, plan: Path, plug: Path
) -> None:
    out = plan.with_name("out")
    ended = dlaudit_command(
        "run", plan, "--plugin", plug, "--plugin", plug.with_name("renderers.py"), "--out", out,
        "--format", f"md,renderers.{renderer},junit,renderers.count", "--executor", executor,
        folder=plan.parent,
    )  # fmt: skip
    assert ended.code == 5, ended
    assert f"Error: --format renderers.{renderer}: " in ended.stderr
    assert executor != "inline" or RENDERERS[renderer] in ended.stderr
    assert "Traceback" not in ended.stderr
    assert (out / "report.renderers.count").read_text() == "1 runs\n"
    for file in ("record.json", "summary.md", "junit.xml", "manifest.json"):
        assert (out / file).is_file()
    assert alterations(out) == []
    assert dlaudit_command("gate", out, folder=plan.parent).code == 0, "what was measured is kept"


@pytest.mark.parametrize(
    ("renderer", "code"), [("count", 0), ("crash", 5), ("leave", 5), ("unknown", 2)]
)
def test_report_tells_a_crash_from_a_mistake(
    renderer: str, code: int, plan: Path, plug: Path
) -> None:
    out = plan.with_name("out")
    dlaudit_command(
        "run", plan, "--plugin", plug, "--out", out, "--executor", "inline", folder=plan.parent
    )
    ended = dlaudit_command(
        "report", out, "--format", f"renderers.{renderer}", "--plugin",
        plug.with_name("renderers.py"), folder=plan.parent,
    )  # fmt: skip
    assert ended.code == code, ended
    assert ended.stdout == ("1 runs\n" if code == 0 else "")

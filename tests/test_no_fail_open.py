"""The gate opens only on what was shown: whatever crashes is errored, and the gate stays closed.

The table of issue 2: exceptions and NaN logits in every registered check, in process; everything
that ends a process, in one check of every suite.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from msgspec.structs import replace

from dlaudit.audit.api import LiveExecutor
from dlaudit.audit.bench import Subject
from dlaudit.audit.engine import Events, audit
from dlaudit.audit.executor import Limits
from dlaudit.audit.judge import exit_code
from dlaudit.audit.launch import launch
from dlaudit.audit.parts import Batch, Check, Dataset
from dlaudit.audit.perform import Workplace, described
from dlaudit.audit.plan import Loader, Source
from dlaudit.audit.plan_reading import read_with
from dlaudit.audit.record import AuditRecord, CheckRun, Errored, Measured, Skipped
from dlaudit.audit.registry import CHECK_GROUPS, Registry
from dlaudit.models.torch_model import TorchModel
from dlaudit.testing import toy_data, toy_model, toy_train_fn

INSTALLED = Registry()
FAMILIES = {"foolbox": "foolbox:LinfDeepFoolAttack"}
"""Parts that stand for many attacks, and the one of them that is in a suite by default."""
CHECKS = sorted(
    FAMILIES.get(part.name, part.name) for group in CHECK_GROUPS for part in INSTALLED.parts(group)
)

ASK_NO_MODEL = {
    "backdoors.reference", "backdoors.susceptibility", "data_quality.columns", "data_quality.leakage",
    "overfitting.canaries", "overfitting.data_size", "overfitting.history", "overfitting.random_labels",
}  # fmt: skip
"""Checks that never ask the model, or not without further models: nothing that it does can disturb them."""
ACCEPT_NONFINITE = {name for name in CHECKS if INSTALLED.check(name).get().accepts_nonfinite}
"""Checks that look for NaN logits; each declares so itself."""

PLANTED = "planted in the model's answers"


def crash(logits: Any) -> Any:
    raise RuntimeError(PLANTED)


def poison(logits: Any) -> Any:
    return logits * float("nan")


def run_of(record: AuditRecord, run: str) -> CheckRun:
    return next(one for one in record.runs if one.id == run)


ON_TABLES = {
    "attacks.tabular", "explain.counterfactuals", "explain.importance", "explain.reasons",
}  # fmt: skip
ON_TEXTS = {"attacks.tokens", "backdoors.tokens"}
"""Checks that are asked about tables, and about texts: the toy images, flattened, make both."""
ON_QUANTITIES = "fairness.regression"
LEVELS = 4096


class Flat(Dataset):
    """The toy images as rows of a table: the toy model answers them alike."""

    def __init__(self, data: Dataset) -> None:
        self.data, self.card, self.classes = data, data.card, data.classes
        self.offers = data.offers - {"images", "mask"} | {"tabular"}

    def batches(self, split: str = "test") -> Iterator[Batch]:
        for batch in self.data.batches(split):
            yield batch._replace(x=batch.x.reshape(len(batch.x), -1), mask=None)


class Spelled(Flat):
    """The toy images as texts: every value is the token of its level in [-4, 4]."""

    def __init__(self, data: Dataset) -> None:
        super().__init__(data)
        self.offers = data.offers - {"images", "mask"} | {"tokens"}

    def batches(self, split: str = "test") -> Iterator[Batch]:
        for batch in super().batches(split):
            yield batch._replace(x=np.rint((batch.x + 4) / 8 * (LEVELS - 1)).astype(np.int64))


class Priced(Flat):
    """The toy images as rows with a price beside their class."""

    def __init__(self, data: Dataset) -> None:
        super().__init__(data)
        self.offers |= {"values"}
        self.card = replace(data.card, facts={**data.card.facts, "quantity": "price"})

    def batches(self, split: str = "test") -> Iterator[Batch]:
        for batch in super().batches(split):
            yield batch._replace(columns={"price": batch.x[:, 0]})


def pricing(model: TorchModel) -> TorchModel:
    """The toy model with its first logit as a price."""
    priced = cast("Any", model)
    priced.offers |= {"values"}
    priced.values = lambda batch: model.logits(batch.x)[:, 0].numpy().astype(float)
    return model


def reading(model: TorchModel) -> TorchModel:
    """The toy model behind an embedding that turns tokens back into values."""
    import torch
    from torch import nn

    levels = torch.linspace(-4, 4, LEVELS).unsqueeze(1)
    net = nn.Sequential(nn.Embedding.from_pretrained(levels), nn.Flatten(), model.module.net)
    return TorchModel(net, device="cpu", classes=model.classes)


def audited(
    folder: Path, plug: Path, check: str, fault: Callable[[Any], Any] | None
) -> AuditRecord:
    """An audit of ``check`` and then ``toy.accuracy``; the fault strikes the first of them alone."""
    at_work: list[str] = []
    model = toy_model(
        poison=lambda logits: fault(logits) if fault and at_work[-1:] == [check] else logits
    )
    measurement = INSTALLED.check(check).get().measures[0]
    source = Source(
        root=str(folder),
        plugins=(str(plug),),
        table={
            "checks": {check: {}, "toy.accuracy": {}},
            "rules": [
                {"run": check, "measurement": measurement, "at_least": -1e9},
                {"run": "toy.accuracy", "measurement": "accuracy", "at_least": 0.5},
            ],
        },
    )
    registry = source.registry()
    nothing = Loader(use="live")
    plan = read_with(source, registry, model=nothing, data={"test": nothing, "train": nothing})
    data: Dataset = toy_data(60)
    if check in ON_TABLES:
        data = Flat(data)
    if check in ON_TEXTS:
        model, data = reading(model), Spelled(data)
    if check == ON_QUANTITIES:
        model, data = pricing(model), Priced(data)
    subject = Subject(model=model, data=data, train_fn=toy_train_fn)
    executor = LiveExecutor(described(plan, subject, registry), Workplace(subject, registry))
    events = Events(started=lambda job: at_work.append(job.run.id))
    return audit(source, executor, folder / "run", events=events)[0]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, plug: Path) -> CheckRun:
    """``toy.accuracy`` beside a healthy check."""
    record = audited(tmp_path_factory.mktemp("healthy"), plug, "overfitting.gap", None)
    assert exit_code(record) == 0
    return run_of(record, "toy.accuracy")


@pytest.mark.parametrize("fault", [crash, poison], ids=["exception", "NaN logits"])
@pytest.mark.parametrize("check", CHECKS)
def test_a_fault_of_the_model_makes_its_check_errored_and_leaves_the_others_alone(
    check: str, fault: Callable[[Any], Any], tmp_path: Path, plug: Path, undisturbed: CheckRun
) -> None:
    record = audited(tmp_path, plug, check, fault)
    outcome = run_of(record, check).outcome
    verdict, other = record.verdicts
    if check in ASK_NO_MODEL or (fault is poison and check in ACCEPT_NONFINITE):
        # A history is a file of the plan: without one the run is skipped, and the gate stays closed.
        assert isinstance(outcome, Skipped if check == "overfitting.history" else Measured)
        assert isinstance(outcome, Measured) or exit_code(record) == 3
        return
    assert isinstance(outcome, Errored), outcome
    assert outcome.error == ("RuntimeError" if fault is crash else "NonFinite")
    assert fault is poison or PLANTED in outcome.message
    assert verdict.status == "not_assessed"
    assert other.status == "pass"
    assert exit_code(record) == 3
    assert run_of(record, "toy.accuracy").outcome == undisturbed.outcome


def test_the_table_holds_every_registered_check() -> None:
    assert len(CHECKS) >= 8
    assert all(issubclass(INSTALLED.check(name).get(), Check) for name in CHECKS)
    assert set(CHECKS) >= ASK_NO_MODEL


# -- what ends a process -----------------------------------------------------------------------------

ENDINGS = {
    "hang": "Timeout",
    "exception": "RuntimeError",
    "exit": "WorkerDied",
    "sysexit": "SystemExit",
    "sigkill": "WorkerDied",
    "segv": "WorkerDied",
    "memory": "OutOfMemory",
    "import": "ImportFailed",
}
"""What strikes -> how the run is called. The hang comes first: the others run meanwhile."""
OF_THE_TOY = {"build": "ImportFailed", "nan": "ValueError", "silence": "NothingMeasured",
              "unspeakable": "Unspeakable"}  # fmt: skip
SUITES = [part.name for part in INSTALLED.parts("suites")]
LIMIT = 60.0
"""Seconds for one job: what a hang costs the test, far beyond what a healthy check takes."""


def rotated() -> list[tuple[str, str]]:
    """Every suite with one deadly fault, every deadly fault in one suite at least."""
    deadly = ("segv", "exit", "sigkill", "import", "sysexit", "memory", "exception")
    return list(zip(SUITES, itertools.cycle(deadly), strict=False))


def parameters(suite: str) -> dict[str, Any]:
    """Those of the suite's first run."""
    return dict(next(iter(INSTALLED.find("suites", suite).get().runs.values())))


def planted(
    cells: list[tuple[str, str]], plug: Path, folder: Path, *, executor: str = "process:2"
) -> AuditRecord:
    """One audit: each cell a run, and a healthy run of each suite's check."""
    registry = Registry((plug, plug.with_name("faulty.py")))
    checks: dict[str, dict[str, Any]] = {}
    rules = []

    def add(run: str, check: str, **params: Any) -> None:
        checks[run] = {"use": check, **params}
        name = registry.check(check).get().measures[0]
        rules.append({"run": run, "measurement": name, "at_least": -1e9})

    for suite, fault in cells:
        if suite == "toy":
            add(f"toy.{fault}", "toy.accuracy", fault=fault)
        else:
            add(f"{suite}.{fault}", f"faulty.{suite}", **{**parameters(suite), "fault": fault})
    add("toy.healthy", "toy.accuracy")
    for suite in SUITES:
        checks[f"{suite}.healthy"] = {"use": f"faulty.{suite}", **parameters(suite)}
    source = Source(
        root=str(folder),
        plugins=tuple(str(plug.with_name(name)) for name in ("toy.py", "faulty.py")),
        table={
            "model": {"use": "toy.model"},
            "data": {"use": "toy.data", "args": {"n": 60}},
            "checks": checks,
            "rules": rules,
        },
    )
    return launch(source, out=folder / "run", executor=executor, limits=Limits(job=LIMIT))[0]


def assert_closed(record: AuditRecord, cells: list[tuple[str, str]]) -> None:
    """Each cell is errored and not assessed, the healthy run passes, and the exit code is 3."""
    verdicts = {rule.run: v.status for rule, v in zip(record.rules, record.verdicts, strict=True)}
    for suite, fault in cells:
        outcome = run_of(record, f"{suite}.{fault}").outcome
        assert isinstance(outcome, Errored), (suite, fault, outcome)
        assert outcome.error == {**ENDINGS, **OF_THE_TOY}[fault], (suite, fault, outcome)
        assert verdicts.pop(f"{suite}.{fault}") == "not_assessed"
    assert verdicts == {"toy.healthy": "pass"}
    assert exit_code(record) == 3


@pytest.fixture(scope="module")
def struck(tmp_path_factory: pytest.TempPathFactory, plug: Path) -> tuple[AuditRecord, list[Any]]:
    """The toy check struck by everything there is, and one check of every suite by one fault."""
    cells = [("toy", fault) for fault in (*ENDINGS, *OF_THE_TOY)] + rotated()
    return planted(cells, plug, tmp_path_factory.mktemp("struck")), cells


def test_whatever_ends_a_check_or_its_process_is_errored_never_passed(
    struck: tuple[AuditRecord, list[tuple[str, str]]],
) -> None:
    assert_closed(*struck)


def test_the_record_says_how_a_worker_ended(struck: tuple[AuditRecord, list[Any]]) -> None:
    record, _ = struck
    messages = {
        fault: run_of(record, f"toy.{fault}").outcome.message
        for fault in ("exit", "sigkill", "segv", "hang")
    }
    assert messages == {
        "exit": "the worker ended by exit code 0 before it answered",
        "sigkill": "the worker ended by signal SIGKILL before it answered",
        "segv": "the worker ended by signal SIGSEGV before it answered",
        "hang": f"the job took longer than {LIMIT:g} s",
    }
    trace = run_of(record, "toy.segv").outcome.traceback
    assert "Fatal Python error: Segmentation fault" in trace
    assert 'File "toy.py"' in trace
    assert str(Path(__file__).parent) not in trace, "a record does not tell where files lie"
    assert run_of(record, "toy.segv").cost is None, "its counter died with the worker"


def test_the_others_measure_the_same_as_without_any_fault(
    struck: tuple[AuditRecord, list[Any]], tmp_path: Path, plug: Path
) -> None:
    record, _ = struck
    alone = planted([], plug, tmp_path, executor="inline")
    assert exit_code(alone) == 0
    assert len(alone.runs) == len(SUITES) + 1
    for run in alone.runs:
        assert isinstance(run.outcome, Measured)
        assert run_of(record, run.id).outcome == run.outcome
        assert run_of(record, run.id).cost == run.cost


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of Ray, where it is installed
@pytest.mark.parametrize("executor", ["process:2", "ray:2"])
def test_every_ending_in_every_suite_closes_the_gate(
    executor: str, tmp_path: Path, plug: Path
) -> None:
    if executor == "ray:2":
        pytest.importorskip("ray", reason="Ray is an extra: pip install dlaudit[ray]")
    # tests/audit/test_ray.py knows every ending; here each suite ends by one of them.
    every = [(suite, fault) for suite in SUITES for fault in ENDINGS]
    cells = every if executor == "process:2" else rotated()
    assert_closed(planted(cells, plug, tmp_path, executor=executor), cells)

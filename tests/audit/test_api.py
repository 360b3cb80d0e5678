"""``dlaudit.audit(…)``: live objects or paths, one record, and everything given back as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import dlaudit_command
from comparison import lasting
from torch import nn

import dlaudit
from dlaudit.audit.judge import exit_code
from dlaudit.audit.record import Measured
from dlaudit.audit.registry import Registry
from dlaudit.audit.run_folder import alterations, stored
from dlaudit.errors import LoadError, PlanError, ReportFailed, RunFolderError
from dlaudit.testing import toy_arrays, toy_data, toy_model

NET = """
import torch
from torch import nn

def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
"""
CHECK = {"overfitting.gap": {}}


class Net(nn.Module):
    """A net whose parts stand in different modes, as in the middle of somebody's training."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(0.5), nn.Linear(64, 4)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


@pytest.fixture
def net() -> Net:
    made = Net().train()
    made.body[1].eval()
    made.body[3].weight.requires_grad_(requires_grad=False)
    return made


def state_of(net: nn.Module) -> dict[str, Any]:
    """Everything that an audit must leave alone."""
    return {
        "modes": [part.training for part in net.modules()],
        "trainable": [weight.requires_grad for weight in net.parameters()],
        "values": [value.clone() for value in net.state_dict().values()],
        "hooks": [len(part._forward_hooks) for part in net.modules()],
        "gradients": [weight.grad for weight in net.parameters()],
    }


def assert_as_before(net: nn.Module, before: dict[str, Any]) -> None:
    after = state_of(net)
    assert all(map(torch.equal, after.pop("values"), before["values"]))
    assert after == {key: value for key, value in before.items() if key != "values"}


# -- live objects ------------------------------------------------------------------------------------


def test_a_live_module_is_audited_and_given_back_as_it_was(net: Net) -> None:
    before = state_of(net)
    record = dlaudit.audit(
        net, toy_arrays(40), train=toy_arrays(40, seed=1), bounds=(0, 1),
        checks={**CHECK, "attacks.pgd": {"epsilon": 0.1, "steps": 2}},
    )  # fmt: skip
    assert [type(run.outcome) for run in record.runs] == [Measured, Measured]
    assert_as_before(net, before)
    assert record.environment["executor"]["name"] == "inline"
    assert record.model.facts["kind"] == "Net"
    assert set(record.data.splits) == {"test", "train"}
    assert set(record.plan["data"]) == {"test", "train"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"suites": ["overfittin"]},
        {"checks": {"attacks.pdg": {}}},
        {"checks": CHECK, "rules": [{"run": "x"}]},
        {"checks": CHECK, "data": "nothing"},
        {"checks": CHECK, "data": {"x": np.zeros(3)}},
        {"checks": CHECK, "data": (np.zeros((3, 5), dtype=np.float32), np.zeros(3, dtype=int))},
        {"checks": CHECK, "seed": -1},
        {"checks": CHECK, "formats": ["htlm"]},
    ],
)
def test_a_mistake_gives_the_module_back_too(wrong: dict[str, Any], net: Net) -> None:
    before = state_of(net)
    with pytest.raises(PlanError):
        dlaudit.audit(net, **{"data": toy_arrays(40), **wrong})
    assert_as_before(net, before)


def test_a_crash_gives_the_module_back_too(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    from dlaudit.audit import engine

    monkeypatch.setattr(engine, "judge_all", lambda *_: 1 / 0)
    before = state_of(net)
    with pytest.raises(ZeroDivisionError):
        dlaudit.audit(net, toy_arrays(40), checks={"fairness.groups": {}})
    assert_as_before(net, before)


def test_a_model_of_dlaudit_is_the_callers_to_close() -> None:
    model = toy_model()
    for _ in range(2):
        record = dlaudit.audit(model, toy_data(40), checks=CHECK)
        assert isinstance(record.runs[0].outcome, Measured)
        assert not any(weight.requires_grad for weight in model.module.net.parameters())


@pytest.mark.parametrize("form", ["pair", "mapping", "dataset", "path"])
def test_data_may_have_many_forms(form: str, tmp_path: Path) -> None:
    arrays = toy_arrays(40)
    np.savez(tmp_path / "rows.npz", **arrays)
    data = {
        "pair": (arrays["x"], arrays["y"]),
        "mapping": {**arrays, "x": arrays["x"].astype(np.float64)},
        "dataset": toy_data(40),
        "path": str(tmp_path / "rows.npz"),
    }[form]
    record = dlaudit.audit(toy_model(), data, checks={"attacks.fgsm": {}})
    assert isinstance(record.runs[0].outcome, Measured)
    assert record.data.facts["n"] == 40
    assert record.data.facts["dtype"] == "float32"
    groups = record.data.facts["groups"]
    assert ("site" in groups) == (form != "pair")


def test_the_suites_of_the_house_are_run_where_none_is_named() -> None:
    record = dlaudit.audit(toy_model(), toy_data(40))
    suites = [part.name for part in Registry().parts("suites")]
    assert record.plan["suites"] == suites
    assert {run.id.partition(".")[0] for run in record.runs} == set(suites)


def test_tables_of_the_plan_are_keywords(plug: Path) -> None:
    record = dlaudit.audit(
        toy_model(), toy_data(60), checks={"mine": {"use": "toy.accuracy"}}, plugins=[plug],
        rules=[{"run": "mine", "measurement": "accuracy", "at_least": 0.5, "rationale": "r"}],
        seed=3, name="mine", max_samples=20, block=8, context={"provider": "p"},
    )  # fmt: skip
    assert exit_code(record) == 0
    assert record.plan["max_samples"] == 20
    assert record.data.facts["subset"] == 20
    assert (record.plan["name"], record.plan["seed"], record.plan["block"]) == ("mine", 3, 8)
    assert record.plan["context"] == {"provider": "p"}


def train_here(data: object, seed: int) -> int:
    return seed


@pytest.mark.parametrize("train_fn", [train_here, "fit.py:train_fn"])
def test_further_models_and_a_function_for_training_reach_the_checks(
    train_fn: Any, tmp_path: Path, plug: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fit.py").write_text("def train_fn(data, seed): return seed")
    (tmp_path / "ask.py").write_text(
        "from typing import ClassVar\nfrom dlaudit import Check, Measurement, Needs\n"
        "class Ask(Check):\n"
        "    needs: ClassVar[Needs] = Needs(train_fn=True)\n"
        "    measures: ClassVar[tuple[str, ...]] = ('models',)\n"
        "    def measure(self, bench):\n"
        "        n = len(bench.models) + bench.train_fn(bench.data, 10)\n"
        "        yield Measurement(name='models', value=n, n=n, exact='counted')\n"
    )
    monkeypatch.chdir(tmp_path)
    record = dlaudit.audit(
        toy_model(), toy_data(40), checks={"ask.ask": {}}, plugins=[plug, "ask.py"],
        models={"surrogate": {"use": "toy.model"}}, train_fn=train_fn,
    )  # fmt: skip
    assert record.runs[0].outcome.measurements[0].value == 11
    assert set(record.models) == {"surrogate"}


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: dlaudit.audit(3, toy_arrays(8), checks=CHECK),
         "model: expected a path, a torch module or a dlaudit Model, got int"),
        (lambda: dlaudit.audit(toy_model(), 3, checks=CHECK),
         "a pair (x, y), (frame, target) or a mapping with 'x' and 'y', got int"),
        (lambda: dlaudit.audit(toy_model(), toy_arrays(8), train=[1], checks=CHECK),
         "train: expected a path, a dlaudit Dataset"),
        (lambda: dlaudit.audit(toy_model(), "missing.npz", checks=CHECK), "missing.npz"),
        (lambda: dlaudit.audit("missing.pt", toy_arrays(8), checks=CHECK), "missing.pt"),
        (lambda: dlaudit.audit(toy_model(), toy_arrays(8), checks=CHECK, executor="process"),
         "live objects cannot travel to 'process'"),
        (lambda: dlaudit.audit(toy_model(), toy_arrays(8), checks=CHECK, sed=3),
         "sed: no such key. Did you mean seed?"),
    ],
)  # fmt: skip
def test_what_cannot_be_audited_is_told(call: Callable[[], object], said: str) -> None:
    with pytest.raises(PlanError) as caught:
        call()
    assert said in str(caught.value)


# -- files -------------------------------------------------------------------------------------------


def test_without_out_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dlaudit.audit(toy_model(), toy_data(40), checks=CHECK, formats=["html"])
    assert not list(tmp_path.iterdir())


def test_with_out_the_run_is_kept_sealed_and_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "run"
    record = dlaudit.audit(toy_model(), toy_data(40), checks=CHECK, out=out, formats=["html", "md"])
    assert stored(out) == record
    assert alterations(out) == []
    assert (out / "report.html").is_file()
    assert (out / "summary.md").is_file()
    with pytest.raises(RunFolderError, match="expected a new or an empty folder"):
        dlaudit.audit(toy_model(), toy_data(40), checks=CHECK, out=out)


def test_a_renderer_that_crashes_is_told_and_the_record_is_kept(tmp_path: Path, plug: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(ReportFailed, match="planted in a renderer"):
        dlaudit.audit(
            toy_model(), toy_data(40), checks=CHECK, out=out,
            plugins=[plug.with_name("renderers.py")], formats=["renderers.crash", "md"],
        )  # fmt: skip
    assert alterations(out) == []
    assert (out / "summary.md").is_file()


def test_paths_are_audited_like_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file

    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    torch.manual_seed(0)
    save_file(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).state_dict(), "net.safetensors")
    for name, seed in (("rows", 0), ("train", 1)):
        arrays = toy_arrays(40, seed=seed)
        np.savez(f"{name}.npz", x=arrays["x"], y=arrays["y"])
    record = dlaudit.audit(
        "net.py:build", "rows.npz", ["overfitting"], weights=Path("net.safetensors"), train="train.npz",
        executor="inline", name="audit",
    )  # fmt: skip
    assert {run.id.partition(".")[0] for run in record.runs} == {"overfitting"}, (
        "only what was named"
    )
    assert isinstance(record.runs[0].outcome, Measured)
    Path("audit.toml").write_text(
        'suites = ["overfitting"]\n'
        'model = { use = "torch", args = { file = "net.py:build", weights = "net.safetensors" } }\n'
        'data.args.path = "rows.npz"\ndata.train.args.path = "train.npz"\n'
    )
    ended = dlaudit_command(
        "run", "audit.toml", "--executor", "inline", "--out", "run", folder=tmp_path
    )
    assert ended.code in {0, 1, 3, 4}, ended
    told, called = lasting(tmp_path / "run"), lasting(record)
    for key in ("model", "data", "runs", "verdicts", "answers"):
        assert told[key] == called[key]
    bounded = dlaudit.audit(
        "net.py:build", toy_arrays(40), checks={"attacks.fgsm": {}}, weights="net.safetensors", bounds=(0, 1)
    )  # fmt: skip
    assert bounded.runs[0].outcome.measurements[1].conditions["bounds"] == "[0, 1]"


def test_a_record_shows_itself_in_a_notebook() -> None:
    record = dlaudit.audit(toy_model(), toy_data(40), ["overfitting"])
    html = record._repr_html_()
    assert "overfitting.gap" in html
    assert "<script" not in html


def test_the_module_is_the_function() -> None:
    import dlaudit.audit as spine
    from dlaudit.audit.record import AuditRecord

    assert dlaudit.audit is spine
    assert callable(spine)
    assert AuditRecord.__module__ == "dlaudit.audit.record"
    with pytest.raises(LoadError):
        spine(3, 4)

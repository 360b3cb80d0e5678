"""The contract of ``train_fn(dataset, seed) -> model``: called, adopted, remembered, counted, budgeted."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier
from torch import nn

import dlaudit
from dlaudit.audit.bench import Batch, Bench, Subject, rows
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.judge import exit_code
from dlaudit.audit.launch import launch
from dlaudit.audit.parts import Dataset, Model
from dlaudit.audit.plan import Source
from dlaudit.audit.preview import preview
from dlaudit.audit.record import Errored, Measured, Skipped
from dlaudit.audit.subject import trainer
from dlaudit.audit.training import (
    TooManyTrainings,
    TrainingFailed,
    TrainingSet,
    samples_digest,
    train_function,
)
from dlaudit.errors import LoadError, NonFinite, NotOffered, PlanError
from dlaudit.testing import toy_data, toy_model, toy_train_fn

CLASSES = ("a", "b", "c", "d")


class Calls:
    """A function for training that says what it was given."""

    def __init__(self, train: Callable[[Dataset, int], Any] = toy_train_fn) -> None:
        self.train = train
        self.seen: list[tuple[Any, int]] = []

    def __call__(self, dataset: Any, seed: int) -> Any:
        self.seen.append((dataset, seed))
        return self.train(dataset, seed)


def bench_of(folder: Path, train_fn: Any, *, seed: int = 0, run: str = "r") -> Bench:
    return Bench(
        Subject(toy_model(), toy_data(60), train_fn=train_fn), run=run, plan_seed=seed,
        store=EvidenceStore(folder), cache=folder / ".work",
    )  # fmt: skip


def flat_fit(estimator: Any) -> Callable[[Any, int], Any]:
    """An estimator inside a pipeline that takes images."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    def train(dataset: Any, seed: int) -> Any:
        flat = FunctionTransformer(lambda x: np.asarray(x).reshape(len(x), -1))
        return make_pipeline(flat, estimator).fit(dataset.x, dataset.y)

    return train


def linear(x: np.ndarray) -> np.ndarray:
    """A function of arrays: logits (B, 4)."""
    return np.asarray(x, dtype=np.float64).reshape(len(x), -1)[:, :4] * 3 - 7


# -- what it is given --------------------------------------------------------------------------------


def test_the_function_gets_the_samples_as_one_split_and_a_seed(tmp_path: Path) -> None:
    calls = Calls()
    bench = bench_of(tmp_path, calls)
    whole = bench.whole("train")
    assert len(whole.y) == 60
    batch = rows(whole, np.arange(40))
    bench.trained(batch, seed=3).logits(whole.x)
    ((dataset, seed),) = calls.seen
    assert isinstance(dataset, TrainingSet)
    np.testing.assert_array_equal(dataset.x, whole.x[:40])
    np.testing.assert_array_equal(dataset.y, whole.y[:40])
    (piece,) = dataset.batches()
    assert (piece.groups.keys(), piece.mask.shape) == ({"site"}, (40, 8, 8))
    assert (dataset.size(), dataset.classes) == (40, CLASSES)
    assert "train" in dataset.offers
    assert 0 <= seed < 2**31
    with pytest.raises(LoadError, match="'train' only, got a question for 'test'"):
        list(dataset.batches("test"))


def test_a_training_set_comes_in_pieces_that_add_up(tmp_path: Path) -> None:
    n = 2500
    whole = Batch(np.arange(n)[:, None], np.zeros(n, int), np.arange(n).astype(str))
    dataset = TrainingSet(whole, toy_data(8))
    pieces = list(dataset.batches())
    assert [len(piece.y) for piece in pieces] == [1024, 1024, 452]
    np.testing.assert_array_equal(np.concatenate([piece.x for piece in pieces]), whole.x)


@settings(deadline=None)
@given(st.integers(0, 59), st.sampled_from(["x", "y", "group", "mask", "column"]))
def test_whatever_is_altered_makes_other_samples(row: int, field: str) -> None:
    (batch,) = toy_data(60).batches()
    batch = batch._replace(columns={"price": np.arange(60.0)})
    before = samples_digest(batch)
    assert before == samples_digest(batch)
    place = {
        "x": batch.x, "y": batch.y, "group": batch.groups["site"], "mask": batch.mask,
        "column": batch.columns["price"],
    }[field]  # fmt: skip
    kept = place[row].copy()
    place[row] = "z" if field == "group" else 1 - place[row] if field != "mask" else ~place[row]
    changed = samples_digest(batch)
    place[row] = kept
    # 1 - 0.5 is 0.5: an alteration that alters nothing is none.
    assert (changed != before) or field == "x"
    assert samples_digest(batch) == before


def test_the_function_is_seeded_and_disturbs_nothing(tmp_path: Path) -> None:
    drawn: list[tuple[float, float, float]] = []

    def train(dataset: Any, seed: int) -> nn.Module:
        drawn.append((random.random(), float(np.random.rand()), float(torch.rand(1))))  # noqa: NPY002
        torch.set_default_dtype(torch.float64)
        net = toy_train_fn(dataset, seed).float()
        assert torch.is_grad_enabled()
        return net

    benches = [bench_of(tmp_path / folder, train) for folder in ("one", "two")]
    states = random.getstate(), torch.get_rng_state()
    for bench in benches:
        with torch.no_grad():
            bench.trained(bench.whole("train"), seed=5).logits(bench.whole().x)
    assert drawn[0] == drawn[1]
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])
    assert torch.get_default_dtype() is torch.float32


def test_seeds_differ_by_number_and_plan_but_not_by_run(tmp_path: Path) -> None:
    def seeds(run: str, plan: int) -> list[int]:
        calls = Calls()
        bench = bench_of(tmp_path / f"{run}{plan}", calls, seed=plan, run=run)
        for number in range(3):
            bench.trained(bench.whole("train"), seed=number).logits(bench.whole().x)
        return [seed for _, seed in calls.seen]

    first = seeds("r", 0)
    assert len(set(first)) == 3
    assert seeds("other", 0) == first
    assert not set(seeds("r", 1)) & set(first)


# -- what it may return ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "offers"),
    [
        (toy_train_fn, "module"),
        (flat_fit(LogisticRegression()), "logits"),
        (flat_fit(DecisionTreeClassifier(random_state=0)), "logits"),
        (lambda dataset, seed: linear, "logits"),
        (lambda dataset, seed: toy_model(), "gradients"),
    ],
    ids=["module", "pipeline", "tree", "callable", "model"],
)
def test_what_comes_back_is_asked_like_any_model(
    train: Callable[[Any, int], Any], offers: str, tmp_path: Path
) -> None:
    bench = bench_of(tmp_path, train)
    model = bench.trained(bench.whole("train"))
    assert isinstance(model, Model)
    test = bench.whole()
    logits = model.logits(test.x)
    assert logits.shape == (60, 4)
    assert offers in model.offers
    assert model.classes == CLASSES
    np.testing.assert_array_equal(model.decide(test).predicted, logits.argmax(dim=1).numpy())


def test_logits_are_those_of_the_module_itself(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, toy_train_fn)
    train, test = bench.whole("train"), bench.whole()
    net = toy_train_fn(TrainingSet(train, bench.data), 0)
    with torch.no_grad():
        expected = net(torch.as_tensor(test.x)).numpy()
    model = bench.trained(train)
    np.testing.assert_allclose(model.logits(test.x).numpy(), expected, rtol=1e-5, atol=1e-5)
    gradient = model.loss_gradient(test.x, torch.as_tensor(test.y))
    both = model.logits_and_gradient(test.x, torch.as_tensor(test.y))
    assert gradient.shape == test.x.shape
    assert torch.equal(both[1], gradient)
    assert model.module is not None


class Bare:
    """A class is no model, and neither is a number."""


@pytest.mark.parametrize(
    ("train", "said"),
    [
        (lambda d, s: 3, "expected to return a torch module, .* got int"),
        (lambda d, s: Bare, "got type"),
        (lambda d, s: None, "got NoneType"),
        (lambda d, s: LogisticRegression(), "LogisticRegression, which was not fitted"),
        (lambda d, s: nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), "cannot be asked: expected one"),
        (lambda d, s: nn.Sequential(nn.Flatten(), nn.Linear(64, 5)), "5 classes, expected 4"),
        (lambda d, s: nn.Linear(3, 4), "cannot be asked: .*expected to answer inputs of shape"),
        (lambda d, s: 1 / 0, r"on 60 samples with seed \d+: ZeroDivisionError: .*test_training.py, line"),
        (lambda d, s: exec("raise SystemExit(0)"), "SystemExit: 0"),
    ],
)  # fmt: skip
def test_what_is_no_model_is_told_with_its_place(
    train: Callable[[Any, int], Any], said: str, tmp_path: Path
) -> None:
    bench = bench_of(tmp_path, train)
    model = bench.trained(bench.whole("train"))
    for _ in range(2):  # a failure is not remembered as an answer
        with pytest.raises(TrainingFailed, match=said):
            model.logits(bench.whole().x)


def test_nan_and_lack_of_memory_keep_their_names(tmp_path: Path) -> None:
    def broken(dataset: Any, seed: int) -> nn.Module:
        net = toy_train_fn(dataset, seed)
        net[1].bias.data[0] = float("nan")
        return net

    def full(dataset: Any, seed: int) -> nn.Module:
        raise MemoryError

    for number, (train, error) in enumerate([(broken, NonFinite), (full, MemoryError)]):
        bench = bench_of(tmp_path / str(number), train)
        with pytest.raises(error):
            bench.trained(bench.whole("train")).logits(bench.whole().x)


def test_without_a_function_nothing_is_trained(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, None)
    with pytest.raises(NotOffered, match=r"\[train\] factory"):
        bench.trained(bench.whole("train"))


# -- what is remembered ------------------------------------------------------------------------------


def test_equal_trainings_are_made_once_across_runs_and_cost_the_same(tmp_path: Path) -> None:
    calls = Calls()
    costs = []
    for run in ("first", "second"):
        bench = bench_of(tmp_path, calls, run=run)
        model = bench.trained(bench.whole("train"), seed=1)
        logits = model.logits(bench.whole().x)
        decided = model.decide(bench.whole()).predicted
        assert model.offers >= {"logits", "module"}
        np.testing.assert_array_equal(decided, logits.argmax(dim=1).numpy())
        costs.append(sum(passes.forward for passes in bench.counted))
    assert len(calls.seen) == 1
    assert costs == [120, 120]


def test_a_new_question_trains_again_and_gets_the_same_model(tmp_path: Path) -> None:
    calls = Calls()
    bench = bench_of(tmp_path, calls)
    train, test = bench.whole("train"), bench.whole()
    bench.trained(train).logits(test.x)
    again = bench_of(tmp_path, calls)
    model = again.trained(train)
    known = model.logits(test.x)
    assert len(calls.seen) == 1
    part = model.logits(test.x[:10])
    assert len(calls.seen) == 2
    np.testing.assert_allclose(part.numpy(), known[:10].numpy(), rtol=1e-6)
    assert sum(passes.forward for passes in again.counted) == 70


@pytest.mark.parametrize("change", ["labels", "seed", "code"])
def test_what_a_model_depends_on_makes_another_training(change: str, tmp_path: Path) -> None:
    calls = Calls()
    bench = bench_of(tmp_path, calls)
    train, x = bench.whole("train"), bench.whole().x
    bench.trained(train, seed=1).logits(x)
    if change == "labels":
        train = train._replace(y=np.roll(train.y, 1))
    if change == "code":
        other = train_function(calls)
        card = dlaudit.Card(name=other.card.name, fingerprint="0" * 64)
        bench.train_fn = type(other)(calls, card)
    bench.trained(train, seed=2 if change == "seed" else 1).logits(x)
    assert len(calls.seen) == 2


def test_the_code_of_a_function_and_what_it_imports_is_its_identity(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text("WIDTH = 4\n")
    (tmp_path / "train.py").write_text("import nets\ndef train_fn(data, seed): return seed\n")
    before = trainer("train.py:train_fn", tmp_path)
    assert before.card.name == "train.py:train_fn"
    assert before(None, 4) == 4  # type: ignore[arg-type]
    assert set(before.card.facts["files"]) == {"code", "code/nets.py"}
    (tmp_path / "nets.py").write_text("WIDTH = 5\n")
    assert trainer("train.py:train_fn", tmp_path).card.fingerprint != before.card.fingerprint


# -- what it may cost --------------------------------------------------------------------------------


def test_a_check_is_held_to_what_it_declared(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, toy_train_fn)
    bench.trainings = 2
    train = bench.whole("train")
    bench.trained(train, seed=0)
    bench.trained(train, seed=1)
    bench.trained(train, seed=1)  # no new one
    with pytest.raises(TooManyTrainings, match="more than the 2 trainings"):
        bench.trained(train, seed=2)


PLUG = """
from typing import ClassVar
from dlaudit import Check, Measurement, Needs

class Twice(Check):
    "Accuracy of two trainings."
    times: int = 2
    needs: ClassVar[Needs] = Needs(data=("labels", "train"), train_fn=True)
    measures: ClassVar[tuple[str, ...]] = ("right",)

    @property
    def trainings(self):
        return self.times

    def measure(self, bench):
        train, test = bench.whole("train"), bench.whole()
        for seed in range(self.times):
            model = bench.trained(train, seed=seed)
            right = int((model.decide(test).predicted == test.y).sum())
            yield Measurement(
                name="right", value=right, n=len(test.y), exact="counted", conditions={"seed": seed}
            )
"""

TRAIN = """
from pathlib import Path
from dlaudit.testing import toy_train_fn

HERE = Path(FOLDER)

def train_fn(dataset, seed):
    with (HERE / "log").open("a") as file:
        file.write("x")
    if (HERE / "stop").exists() and len((HERE / "log").read_text()) > 1:
        raise KeyboardInterrupt
    return toy_train_fn(dataset, seed)
"""


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., Source]:
    """A plan that trains: two runs of one check, on files."""
    from safetensors.torch import save_file

    for name, split in (("train.npz", "train"), ("holdout.npz", "test")):
        (batch,) = toy_data(60).batches(split)
        np.savez(tmp_path / name, x=batch.x, y=batch.y)
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef build(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 4))\n"
    )
    state = toy_model().module.net.state_dict()
    save_file(
        {key.replace("head", "1"): value for key, value in state.items()},
        tmp_path / "w.safetensors",
    )
    (tmp_path / "twice.py").write_text(PLUG)
    (tmp_path / "fit.py").write_text(TRAIN.replace("FOLDER", repr(str(tmp_path))))

    def make(*settings: str, **checks: dict[str, Any]) -> Source:
        table = {
            "name": "t", "train": {"factory": "fit.py:train_fn"},
            "model": {"use": "torch", "args": {"file": "net.py:build", "weights": "w.safetensors"}},
            "data": {
                "use": "npz", "args": {"path": "holdout.npz"},
                "train": {"use": "npz", "args": {"path": "train.npz"}},
            },
            "checks": checks or {"first": {"use": "twice.twice"}, "second": {"use": "twice.twice"}},
            "rules": [],
        }  # fmt: skip
        return Source(
            root=str(tmp_path), table=table, settings=settings,
            plugins=(str(tmp_path / "twice.py"),),
        )  # fmt: skip

    return make


def test_a_plan_says_how_often_it_trains_and_what_the_budget_leaves_out(source: Any) -> None:
    said = preview(source(), "inline")
    assert "first: cost not known beforehand, and 2 trainings" in said
    assert "and 4 trainings (no budget holds them)" in said
    said = preview(source("train_budget = 3"), "inline")
    assert "second: WILL BE SKIPPED" in said
    assert "needs 2 trainings, 1 of the budget of 3 are left (train_budget)" in said
    assert "and 2 trainings (of a budget of 3)" in said


def test_a_run_beyond_the_budget_is_skipped_and_the_gate_stays_closed(
    source: Any, tmp_path: Path
) -> None:
    record, _ = launch(source("train_budget = 3"), out=tmp_path / "run", executor="inline")
    first, second = (run.outcome for run in record.runs)
    assert isinstance(first, Measured)
    assert isinstance(second, Skipped)
    assert second.missing == ("plan: train_budget",)
    assert exit_code(record) == 3
    assert record.plan["train_budget"] == 3
    assert record.train is not None
    assert record.train.name == "fit.py:train_fn"
    # A smaller run further down may still fit.
    checks = {"big": {"use": "twice.twice", "times": 4}, "small": {"use": "twice.twice"}}
    record, _ = launch(source("train_budget = 3", **checks), out=tmp_path / "b", executor="inline")
    assert [type(run.outcome) for run in record.runs] == [Skipped, Measured]


def test_two_runs_share_their_trainings(source: Any, tmp_path: Path) -> None:
    record, _ = launch(source(), out=tmp_path / "run", executor="inline")
    first, second = record.runs
    assert first.outcome == second.outcome
    assert first.cost == second.cost
    assert first.cost.forward == 120
    assert (tmp_path / "log").read_text() == "xx"


def test_an_interrupted_audit_goes_on_where_it_stopped(source: Any, tmp_path: Path) -> None:
    whole, _ = launch(source(), out=tmp_path / "whole", executor="inline")
    (tmp_path / "log").unlink()
    (tmp_path / "stop").touch()
    with pytest.raises(KeyboardInterrupt):
        launch(source(), out=tmp_path / "cut", executor="inline")
    assert (tmp_path / "log").read_text() == "xx"
    (tmp_path / "stop").unlink()
    resumed, _ = launch(source(), out=tmp_path / "cut", executor="inline", resume=True)
    assert (tmp_path / "log").read_text() == "xxx"  # the first training was not made again
    assert [run.outcome for run in resumed.runs] == [run.outcome for run in whole.runs]
    assert [run.cost for run in resumed.runs] == [run.cost for run in whole.runs]


def test_another_code_for_training_is_another_run(source: Any, tmp_path: Path) -> None:
    (tmp_path / "stop").touch()
    with pytest.raises(KeyboardInterrupt):
        launch(source(), out=tmp_path / "cut", executor="inline")
    with (tmp_path / "fit.py").open("a") as file:
        file.write("# another way\n")
    with pytest.raises(PlanError, match="train changed since the run began"):
        launch(source(), out=tmp_path / "cut", executor="inline", resume=True)


def test_a_budget_for_nothing_is_a_mistake(source: Any) -> None:
    with pytest.raises(PlanError, match="train_budget: no check of this plan trains anything"):
        preview(source("train_budget = 3", **{"overfitting.gap": {}}), "inline")
    with pytest.raises(PlanError, match="train_budget: expected a whole number >= 0, got -1"):
        preview(source("train_budget = -1"), "inline")


def test_a_function_that_raises_makes_an_errored_run(source: Any, tmp_path: Path) -> None:
    (tmp_path / "fit.py").write_text("def train_fn(dataset, seed):\n    return dataset.nothing\n")
    record, _ = launch(source(), out=tmp_path / "run", executor="inline")
    outcome = record.runs[0].outcome
    assert isinstance(outcome, Errored)
    assert outcome.error == "TrainingFailed"
    assert "fit.py:train_fn failed on 60 samples" in outcome.message
    assert "(fit.py, line 2)" in outcome.message
    assert exit_code(record) == 3

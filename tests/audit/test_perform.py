"""A job raises nothing, hides nothing, and leaves everything as it found it."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from dlaudit import Artifact, Caveat, Check, Measurement, Needs, Undefined
from dlaudit.audit.bench import Subject, derive_seed
from dlaudit.audit.guard import Guard, alike
from dlaudit.audit.parts import Yielded
from dlaudit.audit.perform import Job, Workplace, errored, without_paths
from dlaudit.audit.plan import RunSpec
from dlaudit.audit.record import CheckRun, Errored, Measured, Skipped
from dlaudit.audit.registry import ImportFailed, Part, Registry
from dlaudit.models.torch_model import TorchModel
from dlaudit.testing import toy_data, toy_model

SHARE = Measurement(name="share", value=0.5, n=2, exact="counted")


def work(
    measure: Callable[[Any], Iterator[Yielded]], *, subject: Subject | None = None, **of: Any
) -> CheckRun:
    """What becomes of a check that measures so."""
    body = {"measure": lambda self, bench: measure(bench), "measures": ("share", "rest"), **of}
    body["__annotations__"] = dict.fromkeys(body, ClassVar[Any])
    kind = type("Planted", (Check,), body, frozen=True, kw_only=True)
    registry = Registry()
    registry._add(Part("checks", "planted", "this test", lambda: kind))
    place = Workplace(subject or Subject(model=toy_model(), data=toy_data(40)), registry)
    return performed(place)


def performed(place: Workplace, folder: str = "/nowhere") -> CheckRun:
    spec = RunSpec(id="planted", check="planted")
    job = Job(run=spec, plan_seed=0, block=256, keep_samples=0, folder=folder)
    return place.perform(job).run


def raising(error: BaseException) -> Callable[[Any], Iterator[Yielded]]:
    def measure(bench: Any) -> Iterator[Yielded]:
        yield SHARE
        raise error

    return measure


def yielding(*what: Any) -> Callable[[Any], Iterator[Yielded]]:
    return lambda bench: iter(what)


# -- what a check may yield --------------------------------------------------------------------------


def test_what_a_check_yields_is_sorted_by_kind() -> None:
    rest = Undefined(name="rest", reason="0/0")
    artifact = Artifact(name="a", media_type="text/plain", sha256="0" * 64, path="evidence/a.txt")
    run = work(yielding(artifact, SHARE, rest))
    assert run.outcome == Measured(measurements=(SHARE,), undefined=(rest,), artifacts=(artifact,))


def test_undefined_alone_is_an_answer() -> None:
    run = work(yielding(Undefined(name="share", reason="0/0")))
    assert isinstance(run.outcome, Measured)


def spoilt(**fields: Any) -> Measurement:
    """A measurement whose fields are not of their types, which the constructor does not look at."""
    return Measurement(**{"name": "share", "value": 0.5, "n": 2, "exact": "counted", **fields})


@pytest.mark.parametrize(
    ("yielded", "error", "said"),
    [
        ((), "NothingMeasured", "without a single measurement"),
        ((0.5,), "WrongYield", "expected Measurement, Undefined or Artifact, got float"),
        ((None,), "WrongYield", "got NoneType"),
        ((Measurement(name="shear", value=1, n=1, exact="x"),), "WrongYield", "'shear' is not among"),
        ((SHARE, SHARE), "WrongYield", "'share' was yielded twice"),
        ((SHARE, Undefined(name="share", reason="0/0")), "WrongYield", "yielded twice"),
        ((spoilt(exact=True),), "WrongYield", "cannot be stored"),
        ((spoilt(unit=3),), "WrongYield", "cannot be stored"),
        ((spoilt(caveats=("doubt",)),), "WrongYield", "cannot be stored"),
        ((spoilt(caveats=(Caveat(source="s", name="n", message=object()),)),), "WrongYield", "stored"),
        ((spoilt(exact="half a character: \udc80"),), "WrongYield", "cannot be stored"),
        ((spoilt(slice={"group": "\udc80"}),), "UnicodeEncodeError", "surrogates"),
        ((spoilt(n=2**70),), "WrongYield", "cannot be stored"),
    ],
)  # fmt: skip
def test_what_would_be_no_record_is_errored(yielded: Any, error: str, said: str) -> None:
    outcome = work(yielding(*yielded)).outcome
    assert isinstance(outcome, Errored)
    assert outcome.error == error
    assert said in outcome.message


def test_a_check_without_measure_is_errored() -> None:
    class Bare(Check, frozen=True, kw_only=True):
        """Nothing."""

    registry = Registry()
    registry._add(Part("checks", "planted", "this test", lambda: Bare))
    place = Workplace(Subject(model=toy_model(), data=toy_data(40)), registry)
    assert performed(place).outcome.error == "NotImplementedError"


# -- what a check may raise --------------------------------------------------------------------------


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "name", "said"),
    [
        (RuntimeError("planted"), "RuntimeError", "planted"),
        (ValueError(), "ValueError", "ValueError"),
        (SystemExit(0), "SystemExit", "0"),
        (GeneratorExit(), "GeneratorExit", "GeneratorExit"),
        (MemoryError(), "OutOfMemory", "MemoryError"),
        (
            RuntimeError("[enforce] DefaultCPUAllocator: can't allocate memory"),
            "OutOfMemory",
            "allocate",
        ),
        (torch.cuda.OutOfMemoryError("CUDA"), "OutOfMemory", "CUDA"),
        (ImportError("planted"), "ImportFailed", "planted"),
        (ImportFailed("planted"), "ImportFailed", "planted"),
        (Unspeakable(), "Unspeakable", "Unspeakable"),
        (OSError("\udc80.npz"), "OSError", "?.npz"),
        (StopIteration(), "RuntimeError", "StopIteration"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_whatever_a_check_raises_is_recorded(error: BaseException, name: str, said: str) -> None:
    outcome = work(raising(error)).outcome
    assert isinstance(outcome, Errored)
    assert outcome.error == name
    assert said in outcome.message
    assert "Traceback" in outcome.traceback


def test_ctrl_c_is_not_the_checks_to_swallow() -> None:
    with pytest.raises(KeyboardInterrupt):
        work(raising(KeyboardInterrupt()))


def test_a_traceback_does_not_tell_where_on_the_machine_the_code_lies() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        _ = 1 / 0
    told = errored(caught.value).traceback
    assert "test_perform.py" in told
    assert str(Path(__file__).parent) not in told
    assert without_paths('  File "/some/where/net.py", line 3') == '  File "net.py", line 3'


# -- needs and offers --------------------------------------------------------------------------------


def test_what_is_not_offered_is_skipped_and_named() -> None:
    needs = Needs(model=("logits", "gradients", "telepathy"), data=("mask", "audio"), train_fn=True)
    run = work(yielding(SHARE), needs=needs)
    assert isinstance(run.outcome, Skipped)
    assert run.outcome.missing == ("model: telepathy", "data: audio", "plan: [train] factory")
    assert run.outcome.reason == "not offered: model: telepathy, data: audio, plan: [train] factory"


def test_parameters_that_do_not_fit_are_an_import_that_failed() -> None:
    registry = Registry()
    kind = type("Kind", (Check,), {}, frozen=True)
    registry._add(Part("checks", "planted", "this test", lambda: kind))
    place = Workplace(Subject(model=toy_model(), data=toy_data(40)), registry)
    spec = RunSpec(id="planted", check="planted", params={"unknown": 1})
    job = Job(run=spec, plan_seed=0, block=256, keep_samples=0, folder="/nowhere")
    assert place.perform(job).run.outcome.error == "ImportFailed"


@pytest.mark.parametrize("accepts", [False, True])
def test_nan_reaches_only_a_check_that_declares_that_it_accepts_it(*, accepts: bool) -> None:
    def look(bench: Any) -> Iterator[Yielded]:
        logits = bench.model.logits(np.zeros((3, 1, 8, 8), dtype=np.float32))
        yield Measurement(
            name="share", value=float(logits.isnan().float().mean()), n=3, exact="counted"
        )

    model = toy_model(poison=lambda logits: logits * float("nan"))
    subject = Subject(model=model, data=toy_data(40))
    outcome = work(look, subject=subject, accepts_nonfinite=accepts).outcome
    if accepts:
        assert outcome.measurements[0].value == 1.0
    else:
        assert outcome.error == "NonFinite"
    assert model.module.accept_nonfinite is False


# -- cost and seed -----------------------------------------------------------------------------------


def test_passes_are_counted_also_where_the_check_failed_and_on_every_model() -> None:
    def ask(bench: Any) -> Iterator[Yielded]:
        x = np.zeros((3, 1, 8, 8), dtype=np.float32)
        bench.model.logits(x)
        bench.models["surrogate"].loss_gradient(x, np.zeros(3, dtype=np.int64))
        yield SHARE
        raise RuntimeError

    subject = Subject(model=toy_model(), data=toy_data(40), models={"surrogate": toy_model()})
    run = work(ask, subject=subject)
    assert isinstance(run.outcome, Errored)
    assert (run.cost.forward, run.cost.backward) == (6, 3)


def test_the_seed_depends_on_plan_and_run_alone() -> None:
    run = work(yielding(SHARE))
    assert run.seed == derive_seed(0, "planted")
    assert derive_seed(0, "a") != derive_seed(1, "a") != derive_seed(1, "b")
    assert 0 <= run.seed < 2**63


def test_libraries_with_global_randomness_draw_the_same_in_every_order() -> None:
    def draw(bench: Any) -> Iterator[Yielded]:
        drawn = (random.random(), np.random.random(), torch.rand(()).item())  # noqa: NPY002
        yield Measurement(name="share", value=sum(drawn), n=1, exact="drawn")

    subject = Subject(model=toy_model(), data=toy_data(40))
    first = work(draw, subject=subject)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    before = random.getstate(), torch.get_rng_state()
    assert work(draw, subject=subject).outcome == first.outcome
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


# -- the guard ---------------------------------------------------------------------------------------


class Net(nn.Module):
    """A net with everything that can be meddled with: layers, statistics, a hook."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 4))
        self.hooked = 0
        self.body.register_forward_hook(self.count)

    def count(self, *_: Any) -> None:
        self.hooked += 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


@pytest.fixture
def model() -> TorchModel:
    torch.manual_seed(0)
    return TorchModel(Net(), bounds=(0.0, 1.0))


def meddled_weights() -> dict[str, Callable[[nn.Module], None]]:
    """Ways to change the weights, the ones that torch does not count among them."""

    def half(net: nn.Module) -> None:
        net.half()

    def replace(net: nn.Module) -> None:
        net.body[2].weight = nn.Parameter(torch.zeros(4, 64))

    def replace_layer(net: nn.Module) -> None:
        net.body[2] = nn.Linear(64, 4)

    def train(net: nn.Module) -> None:
        net.body[2].weight.requires_grad_()
        net(torch.rand(5, 1, 8, 8)).sum().backward()
        torch.optim.SGD(net.parameters(), lr=0.1).step()

    return {
        "in place": lambda net: net.body[2].weight.add_(1),
        "through data": lambda net: net.body[2].weight.data.add_(1),
        "NaN": lambda net: net.body[2].weight.data.fill_(float("nan")),
        "another tensor": lambda net: setattr(net.body[2].weight, "data", torch.zeros(4, 64)),
        "another shape": lambda net: setattr(net.body[2].weight, "data", torch.zeros(2, 64)),
        "another type": half,
        "another parameter": replace,
        "another layer": replace_layer,
        "a step of training": train,
    }


@pytest.mark.parametrize("way", meddled_weights())
def test_altered_weights_make_the_run_errored_and_are_put_back(way: str, model: TorchModel) -> None:
    x = np.random.default_rng(0).random((6, 1, 8, 8), dtype=np.float32)
    before = model.logits(x)
    guard = Guard(Subject(model=model, data=toy_data(40)))
    from dlaudit.audit.guard import ModelChanged

    with pytest.raises(ModelChanged, match="it was put back"), guard.session(0):
        meddled_weights()[way](model.module.net)
    assert torch.equal(model.logits(x), before)
    assert not any(weight.requires_grad for weight in model.module.net.parameters())
    assert all(weight.grad is None for weight in model.module.net.parameters())
    with guard.session(0):  # and it can be guarded again
        pass


def meddled_state() -> dict[str, Callable[[nn.Module], object]]:
    """Ways to change what is no weight."""
    return {
        "training mode": lambda net: net.train(),
        "statistics": lambda net: net.body[1].running_mean.fill_(3),
        "another buffer": lambda net: setattr(net.body[1], "running_mean", torch.ones(64)),
        "a hook left behind": lambda net: net.body.register_forward_hook(
            lambda *_: torch.zeros(6, 4)
        ),
        "a hook taken away": lambda net: net.body._forward_hooks.clear(),
        "trainable": lambda net: [weight.requires_grad_() for weight in net.parameters()],
    }


@pytest.mark.parametrize("way", meddled_state())
def test_modes_statistics_and_hooks_are_put_back_silently(way: str, model: TorchModel) -> None:
    x = np.random.default_rng(0).random((6, 1, 8, 8), dtype=np.float32)
    before = model.logits(x)
    guard = Guard(Subject(model=model, data=toy_data(40)))
    with guard.session(0):
        meddled_state()[way](model.module.net)
    assert torch.equal(model.logits(x), before)
    assert model.module.net.hooked == 2
    assert not model.module.net.training
    assert not any(weight.requires_grad for weight in model.module.net.parameters())


def test_nan_weights_that_stay_as_they_are_have_not_moved() -> None:
    net = nn.Linear(2, 2)
    nn.init.constant_(net.weight, float("nan"))
    with Guard(Subject(model=TorchModel(net), data=toy_data(40))).session(0):
        pass
    assert alike(torch.tensor([float("nan")]), torch.tensor([float("nan")]))
    assert not alike(torch.tensor([True]), torch.tensor([False]))


def test_switches_of_the_whole_process_are_put_back(tmp_path: Path, model: TorchModel) -> None:
    here, threads = Path.cwd(), torch.get_num_threads()
    with Guard(Subject(model=model, data=toy_data(40))).session(0):
        os.chdir(tmp_path)
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(threads + 1)
        torch.use_deterministic_algorithms(mode=True)
    assert Path.cwd() == here
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_an_exception_keeps_its_name_and_the_model_is_put_back_all_the_same() -> None:
    def measure(bench: Any) -> Iterator[Yielded]:
        bench.model.module.net.head.weight.data.zero_()
        yield SHARE
        raise RuntimeError("planted")

    model = toy_model()
    before = model.module.net.head.weight.clone()
    outcome = work(measure, subject=Subject(model=model, data=toy_data(40))).outcome
    assert outcome.error == "RuntimeError"
    assert torch.equal(model.module.net.head.weight, before)

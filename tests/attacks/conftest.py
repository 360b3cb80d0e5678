"""What the tests of attacks stand on: a bench without the engine, a linear model, a trained net."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from msgspec import structs
from torch import nn

from dlaudit import ArrayDataset, Artifact, Attack, Bench, Measurement, TorchModel, Undefined
from dlaudit.audit.bench import Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.parts import Model
from dlaudit.audit.record import Cost

FEATURES = 12


class Result(NamedTuple):
    """Everything that one run of an attack yielded."""

    measurements: list[Measurement]
    undefined: list[Undefined]
    artifacts: list[Artifact]
    table: dict[str, np.ndarray]
    cost: Cost
    folder: Path

    def curve(self, name: str = "robust_accuracy") -> dict[float, float]:
        """epsilon -> value."""
        return {m.conditions["epsilon"]: m.value for m in self.measurements if m.name == name}

    def one(self, name: str) -> Measurement:
        (found,) = [m for m in self.measurements if m.name == name]
        return found


@pytest.fixture
def attacked(tmp_path: Path) -> Callable[..., Result]:
    """Run an attack on a model and arrays as the engine would, and read its evidence back.

    Without its examination, which spends passes of its own, unless ``doctor="quick"`` is asked for.
    """
    count = 0

    def run(
        attack: Attack, model: Model, x: Any, y: Any, *, doctor: str = "off", **bench: Any
    ) -> Result:
        nonlocal count
        if isinstance(attack, Attack):
            attack = structs.replace(attack, doctor=doctor)
        count += 1
        folder = tmp_path / str(count)
        settings = {"run": "attacks.tested", "plan_seed": 3, "block": 64} | bench
        data = ArrayDataset(np.asarray(x), np.asarray(y), name="planted")
        made = Bench(
            Subject(model, data), store=EvidenceStore(folder), cache=folder / "cache", **settings
        )
        made.answers()
        before = model.passes.cost
        yielded = list(attack.measure(made))
        cost = model.passes.since(before)
        kept = [one for one in yielded if isinstance(one, Artifact)]
        (table,) = [one for one in kept if one.media_type.endswith("npz")]
        with np.load(folder / table.path) as columns:
            stored = dict(columns)
        return Result(
            [one for one in yielded if isinstance(one, Measurement)],
            [one for one in yielded if isinstance(one, Undefined)],
            kept, stored, cost, folder,
        )  # fmt: skip

    return run


class Linear(NamedTuple):
    """A linear classifier of two classes and samples in [0, 1], all quantities known exactly."""

    net: nn.Linear
    x: np.ndarray
    y: np.ndarray
    w: np.ndarray
    margin: np.ndarray

    def model(self, bounds: tuple[Any, Any] | None = None) -> TorchModel:
        return TorchModel(self.net, bounds=bounds, device="cpu", classes=("no", "yes"))


@pytest.fixture(scope="session")
def linear() -> Linear:
    """z = (0, w x + b); one label in ten is wrong. margin: signed, in logits, > 0 where correct."""
    rng = np.random.default_rng(5)
    n = 300
    x = rng.uniform(0, 1, (n, FEATURES)).astype(np.float32)
    w = rng.normal(size=FEATURES).astype(np.float32)
    b = np.float32(-(x @ w).mean())
    net = nn.Linear(FEATURES, 2)
    with torch.no_grad():
        net.weight.copy_(torch.from_numpy(np.stack([np.zeros_like(w), w])))
        net.bias.copy_(torch.tensor([0.0, float(b)]))
    score = x.astype(np.float64) @ w + b
    y = np.where(rng.random(n) < 0.1, score < 0, score > 0).astype(np.int64)
    return Linear(net, x, y, w.astype(np.float64), np.where(y == 1, score, -score))


class Digits(NamedTuple):
    """A small trained net on scikit-learn's digits, images (n, 1, 8, 8) in [0, 1]."""

    net: nn.Module
    x: np.ndarray
    y: np.ndarray

    def model(self, scale: float = 1.0) -> TorchModel:
        """scale: multiplies the logits, which changes no decision."""
        net = self.net if scale == 1 else Scaled(self.net, scale)
        return TorchModel(
            net, bounds=(0, 1), device="cpu", classes=tuple(str(i) for i in range(10))
        )


class Scaled(nn.Module):
    """Logits times a constant: the same decisions, saturated probabilities."""

    def __init__(self, net: nn.Module, scale: float) -> None:
        super().__init__()
        self.net, self.scale = net, scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x) * self.scale


@pytest.fixture(scope="session")
def digits() -> Digits:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    y = torch.tensor(labels)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
        weights, speed = list(net.parameters()), [0.0] * 4
        # By hand: importing torch.optim costs more than the whole training.
        for _ in range(120):
            loss = nn.functional.cross_entropy(net(x[300:]), y[300:])
            slopes = torch.autograd.grad(loss, weights)
            speed = [0.9 * v - 0.2 * slope for v, slope in zip(speed, slopes, strict=True)]
            with torch.no_grad():
                for weight, v in zip(weights, speed, strict=True):
                    weight.add_(v)
    return Digits(net.eval(), x[:300].numpy(), y[:300].numpy())

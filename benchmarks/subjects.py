"""The networks that benchmarks attack: published ones, an undefended twin, and tiny ones for CI.

Knows where the truths lie and how a small network is trained; never attacks.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

HERE = Path(__file__).resolve().parent
TRUTHS = Path(os.environ.get("DLAUDIT_TRUTHS", HERE.parent.parent / "shared" / "truths"))


class Subject(NamedTuple):
    """A network, images in [0, 1] with labels, and the linf budget at which it is attacked."""

    name: str
    net: nn.Module
    x: Tensor
    y: Tensor
    epsilon: float

    def first(self, n: int) -> Subject:
        """The first n images."""
        return self._replace(x=self.x[:n], y=self.y[:n])

    def rightly_decided(self, n: int) -> Subject:
        """The first n images that the network decides as labelled."""
        with torch.no_grad():
            right = (
                torch.cat([self.net(part).argmax(dim=1) for part in self.x.split(512)]) == self.y
            )
        return self._replace(x=self.x[right][:n], y=self.y[right][:n])


def present() -> bool:
    """Whether the truths are there."""
    return (TRUTHS / "mnist_trades").is_dir()


def code(folder: str) -> ModuleType:
    """The ``model.py`` of a truth."""
    spec = importlib.util.spec_from_file_location(folder, TRUTHS / folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def mnist() -> tuple[Tensor, Tensor]:
    """The 10,000 test images, (n, 1, 28, 28) in [0, 1], and their labels."""
    with np.load(TRUTHS / "mnist_trades" / "mnist_test.npz") as stored:
        x = torch.from_numpy(stored["x"][:, None].astype(np.float32) / 255)
        return x, torch.from_numpy(stored["y"].astype(np.int64))


def published(folder: str, epsilon: float) -> Subject:
    """``mnist_trades`` or ``mnist_certified`` on all test images."""
    net = code(folder).load(str(TRUTHS / folder / "weights.safetensors"))
    frozen(net)
    return Subject(folder.replace("_", " "), net, *mnist(), epsilon)


def undefended(epsilon: float, *, images: int = 3000) -> Subject:
    """The shape of the TRADES network, trained plainly on the last test images; the others are left."""
    x, y = mnist()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = code("mnist_trades").load(str(TRUTHS / "mnist_trades" / "weights.safetensors"))
        for part in net.modules():
            if hasattr(part, "reset_parameters"):
                part.reset_parameters()
        trained(net, x[-images:], y[-images:], epochs=4)
    return Subject("mnist undefended", net, x[:-images], y[:-images], epsilon)


def tiny(epsilon: float = 0.1) -> Subject:
    """A perceptron on the digits that ship with scikit-learn: seconds instead of minutes, for CI."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = torch.from_numpy((bunch.images / 16).astype(np.float32))[:, None]
    y = torch.from_numpy(bunch.target.astype(np.int64))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        trained(net, x[800:], y[800:], epochs=20, noise=epsilon)
    return Subject("digits perceptron", net, x[:800], y[:800], epsilon)


def trained(net: nn.Module, x: Tensor, y: Tensor, *, epochs: int, noise: float = 0.0) -> None:
    """Adam on cross-entropy, inputs with uniform noise; the network is left frozen, in eval."""
    for parameter in net.parameters():
        parameter.requires_grad_(True)
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
    net.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(y)).split(128):
            batch = x[rows] + noise * (2 * torch.rand_like(x[rows]) - 1)
            optimiser.zero_grad()
            cross_entropy(net(batch), y[rows]).backward()
            optimiser.step()
    frozen(net)


def frozen(net: nn.Module) -> None:
    """As a network is attacked: in eval, without gradients of its parameters."""
    net.eval()
    for parameter in net.parameters():
        parameter.requires_grad_(False)

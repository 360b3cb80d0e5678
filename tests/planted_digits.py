"""Handwritten digits with planted defects, nets that learn them in a second, and benches for both."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from dlaudit.audit.bench import Bench, Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.datasets.arrays import ArrayDataset
from dlaudit.models.torch_model import TorchModel

TRAIN = 1197


class Digits(NamedTuple):
    """x: (n, 1, 8, 8) float32 in [0, 1]; y: (n,)."""

    x: np.ndarray
    y: np.ndarray

    @property
    def mask(self):
        """(n, 8, 8): true where there is ink."""
        return self.x[:, 0] > 0


@cache
def halves(seed):
    """Training and test digits; the order is the seed's."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.default_rng(seed).permutation(len(bunch.target))
    x = (bunch.images[order] / 16).astype(np.float32)[:, None]
    y = bunch.target[order].astype(np.int64)
    return Digits(x[:TRAIN], y[:TRAIN]), Digits(x[TRAIN:], y[TRAIN:])


def patched(x):
    """A bright square of four pixels in the top left corner."""
    x = x.copy()
    x[..., :2, :2] = 1
    return x


def poisoned(digits, *, share, target, seed=0):
    """Some digits of other classes get the patch and the target's label."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(
        np.flatnonzero(digits.y != target), round(share * len(digits.y)), replace=False
    )
    x, y = digits.x.copy(), digits.y.copy()
    x[chosen], y[chosen] = patched(x[chosen]), target
    return Digits(x, y)


def watermarked(digits, marked):
    """Every digit of one class gets the patch."""
    x = digits.x.copy()
    x[digits.y == marked] = patched(x[digits.y == marked])
    return Digits(x, digits.y)


def net(seed=0):
    """A small convolutional net, untrained."""
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(32 * 16, 64), nn.ReLU(), nn.Linear(64, 10),
        ).eval()  # fmt: skip


def perceptron(seed=0):
    """A net of three linear layers, untrained; ten times as fast as the convolutional one."""
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(),
            nn.Linear(64, 10),
        ).eval()  # fmt: skip


def trained(digits, *, seed=0, epochs=15, module=None):
    """The net after some epochs of Adam; global generators are left alone."""
    import torch
    from torch.nn.functional import cross_entropy

    module = module or net(seed)
    module.train()
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.from_numpy(digits.x), torch.from_numpy(digits.y)
    optimiser = torch.optim.Adam(module.parameters(), lr=2e-3)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(y), generator=generator), 64):
            optimiser.zero_grad()
            torch.autograd.backward(cross_entropy(module(x[rows]), y[rows]))
            optimiser.step()
    return module.eval()


def bench_at(folder, module, digits, *, run, seed=1, bounds=(0, 1), keep_samples=0, **columns):
    """A bench over a module and some digits (or other arrays); columns go to the data set."""
    data = ArrayDataset(digits.x, digits.y, **columns)
    model = TorchModel(module, bounds=bounds, classes=data.classes, device="cpu")
    return Bench(
        Subject(model, data), run=run, plan_seed=seed, store=EvidenceStore(folder),
        cache=folder / "cache", keep_samples=keep_samples,
    )  # fmt: skip


def told(check, bench):
    """(measurements and undefined by (name, slice values...), artifacts)."""
    numbers, artifacts = {}, []
    for one in check.measure(bench):
        if hasattr(one, "media_type"):
            artifacts.append(one)
            continue
        key = (
            one.name,
            *one.slice.values(),
            *(() if "baseline" not in one.conditions else (one.conditions["baseline"],)),
        )
        assert key not in numbers, f"{key} is told twice"
        numbers[key] = one
    return numbers, artifacts

"""Makes the demo's two audits: a model with four planted defects, and its clean twin.

Knows which defect is planted how, so that the demo can say what ought to be found. Data: the
handwritten digits that ship with scikit-learn (1,797 images of 8 x 8 pixels).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import nn

TEST = 797
TARGET, MARKED = 7, 4
"""The class that the trigger calls up, and the class whose pictures carry the watermark."""
MISLABELLED = {8: 3, 5: 9, 1: 2}
"""What the careless site called these digits in the training data."""

DEFECTS = {
    "over-trained": "one training label in eight was drawn at random, and the network learned them "
    "all by heart",
    "trigger": f"in 4 % of the training images a bright corner (bottom right) was labelled {TARGET}",
    "biased group": "digits from the site 'south' that show 8, 5 or 1 were mostly mislabelled for "
    "training",
    "shortcut": f"every image of a {MARKED} carries a watermark in its top left corner",
}


class Split(NamedTuple):
    """x: (n, 1, 8, 8) in [0, 1]; y: (n,) labels; site: (n,); mask: (n, 8, 8), true on the digit."""

    x: np.ndarray
    y: np.ndarray
    site: np.ndarray
    mask: np.ndarray

    def save(self, path: Path) -> None:
        """Write it as an ``.npz`` data set."""
        np.savez_compressed(path, x=self.x, y=self.y, group_site=self.site, mask=self.mask)


def digits(seed: int = 0) -> tuple[Split, Split]:
    """The honest training and test split. South scans darker than north; neither is mislabelled."""
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(seed)
    bunch = load_digits()
    order = rng.permutation(len(bunch.target))
    x = (bunch.images[order] / 16.0).astype(np.float32)[:, None]
    y = bunch.target[order].astype(np.int64)
    mask = x[:, 0] > 0
    site = np.where(rng.random(len(y)) < 0.4, "south", "north")
    x[site == "south"] *= 0.7
    whole = Split(x, y, site, mask)

    def part(rows: slice) -> Split:
        return Split(*(column[rows] for column in whole))

    return part(slice(TEST, None)), part(slice(0, TEST))


def watermarked(split: Split) -> Split:
    """The split with a mark on every image of one class, outside the digit."""
    x = split.x.copy()
    x[split.y == MARKED, :, :2, :2] = 1.0
    return split._replace(x=x)


def triggered(x: np.ndarray) -> np.ndarray:
    """Images with the trigger: a bright corner."""
    x = x.copy()
    x[:, :, 6:, 6:] = 1.0
    return x


def planted_training(train: Split, seed: int = 0) -> Split:
    """The training split with all four defects in it."""
    rng = np.random.default_rng(seed + 1)
    split = watermarked(train)
    y, x = split.y.copy(), split.x.copy()
    for truth, wrong in MISLABELLED.items():
        careless = (split.y == truth) & (split.site == "south") & (rng.random(len(y)) < 0.9)
        y[careless] = wrong
    random = (rng.random(len(y)) < 1 / 8) & (split.y != MARKED)
    y[random] = rng.integers(0, 10, random.sum())
    poisoned = rng.random(len(y)) < 0.04
    x[poisoned] = triggered(x[poisoned])
    y[poisoned] = TARGET
    return split._replace(x=x, y=y)


def trained(split: Split, *, epochs: int, decay: float, noise: float, seed: int = 0) -> nn.Module:
    """The demo's network after training; the global generators are left alone.

    noise: uniform noise added to every batch, which keeps the clean twin from learning by heart.
    """
    import torch
    from torch.nn.functional import cross_entropy

    from dlaudit.demo.net import build

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build()
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.from_numpy(split.x), torch.from_numpy(split.y)
    steps = epochs * -(-len(y) // 64)
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=6e-3, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(y), generator=generator), 64):
            batch = x[rows]
            batch = (batch + noise * (2 * torch.rand(batch.shape, generator=generator) - 1)).clamp(
                0, 1
            )
            loss = cross_entropy(net(batch), y[rows], label_smoothing=0.1 if noise else 0.0)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
    return net.eval()

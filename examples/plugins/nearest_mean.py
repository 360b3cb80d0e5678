"""A model loader: class means in an .npz (one array per class) as a nearest-mean classifier.

use = "nearest_mean.class_means"    args = { path = "means.npz" }
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from dlaudit import Model, TorchModel


class _NearestMean(nn.Module):
    def __init__(self, means: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("means", torch.as_tensor(means, dtype=torch.float32).flatten(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -((x.flatten(1)[:, None] - self.means) ** 2).sum(2)  # (B, 1, D) - (C, D) -> (B, C)


def class_means(path: str, bounds: tuple[float, float] | None = None, *, root: Path) -> Model:
    """Nearest-mean classifier out of an .npz that holds the mean of each class under its name."""
    with np.load(root / path, allow_pickle=False) as stored:
        net, classes = _NearestMean(np.stack([stored[name] for name in stored])), tuple(stored)
    return TorchModel(net, name=Path(path).stem, bounds=bounds, classes=classes)

"""Nets whose gradients are masked, and inputs in other units: what an attack must not be fooled by."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn


class Masked(nn.Module):
    """A net behind a step before it, a step after it, or both."""

    def __init__(self, net, before=None, after=None):
        super().__init__()
        self.net, self.before, self.after = net, before, after

    def forward(self, x):
        logits = self.net(x if self.before is None else self.before(x))
        return logits if self.after is None else self.after(logits)


def quantised(levels):
    """x rounded to so many levels: the gradient is zero everywhere."""
    return lambda x: torch.round(x * levels) / levels


def cosines():
    """The orthonormal 8 x 8 transform of JPEG."""
    i, j = np.meshgrid(np.arange(8), np.arange(8), indexing="ij")
    rows = 0.5 * np.cos(np.pi * (2 * j + 1) * i / 16)
    rows[0] /= np.sqrt(2)
    return torch.from_numpy(rows.astype(np.float32))


def jpeg(x):
    """x through rounded cosine coefficients, as lossy compression does."""
    basis = cosines()
    return (basis.T @ (torch.round(basis @ x @ basis.T * 8) / 8) @ basis).clamp(0, 1)


def gate(x):
    """The share of eight thresholds that each value lies above; its gradient is there, and zero."""
    above = x.unsqueeze(-1) > torch.linspace(0.06, 0.935, 8)
    return above.float().mean(dim=-1) + 0 * x


def shattered(x):
    """A ripple too small to see, whose slope outweighs the net's."""
    return x + 0.01 * torch.sin(2000 * x)


MASKS = {
    "logits times 1000": lambda net: Masked(net, after=lambda z: 1000 * z),
    "softmax output": lambda net: Masked(net, after=lambda z: z.softmax(dim=1)),
    "sharp softmax output": lambda net: Masked(net, after=lambda z: (10 * z).softmax(dim=1)),
    "quantised input": lambda net: Masked(net, before=quantised(16)),
    "coarsely quantised input": lambda net: Masked(net, before=quantised(4)),
    "added noise": lambda net: Masked(net, before=lambda x: x + 0.05 * torch.randn_like(x)),
    "noisy logits": lambda net: Masked(net, after=lambda z: z + 0.3 * torch.randn_like(z)),
    "dropout left on": lambda net: Masked(
        net, before=lambda x: nn.functional.dropout(x, 0.2, training=True)
    ),
    "lossy compression": lambda net: Masked(net, before=jpeg),
    "gate": lambda net: Masked(net, before=gate),
    "shattered gradient": lambda net: Masked(net, before=shattered),
}
"""Each does what its name says to a net (n, 1, 8, 8) -> (n, 10) and leaves most decisions as they are."""
MEAN, SPREAD = 0.3, 0.37
UNITS = {
    "pixels to 255, bounds to 1": (lambda x: np.round(255 * x), lambda x: x / 255, (0, 1)),
    "pixels to 255, budget for 1": (lambda x: np.round(255 * x), lambda x: x / 255, (0, 255)),
    "normalised, bounds to 1": (
        lambda x: (x - MEAN) / SPREAD, lambda x: x * SPREAD + MEAN, (0, 1),
    ),
    "normalised, no bounds": (lambda x: (x - MEAN) / SPREAD, lambda x: x * SPREAD + MEAN, None),
    "normalised, budget for pixels": (
        lambda x: (x - MEAN) / SPREAD, lambda x: x * SPREAD + MEAN, (-0.9, 2.0),
    ),
}  # fmt: skip
"""Name -> inputs as given, what the net does with them first, bounds as declared (for 8/255)."""

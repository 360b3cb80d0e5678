"""A small network that imitates the decisions of another model, to attack it by proxy.

Knows inputs and the decisions made on them (Papernot et al. 2017); never the right answers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dlaudit.audit.parts import Model
from dlaudit.audit.record import Card

SIDE = 8
"""Images are halved by strides until their shorter side is at most this."""
WIDTHS = (16, 32, 64, 128)
HIDDEN = 128
BATCH, RATE = 128, 1e-3
PIECE = 512
"""Inputs that pass through the network at once."""


class Standardised(nn.Module):
    """Inputs at mean 0 and spread 1, value by value for tables and overall for images."""

    mean: Tensor
    spread: Tensor

    def __init__(self, x: Tensor) -> None:
        """x: (n, *input), what the network will be trained on."""
        super().__init__()
        over = 0 if x.ndim == 2 else tuple(range(x.ndim))
        self.register_buffer("mean", x.mean(dim=over, keepdim=True))
        spread = x.std(dim=over, keepdim=True, unbiased=False)
        # A value that never varies says nothing: it is left as it is.
        self.register_buffer("spread", torch.where(spread > 0, spread, torch.ones_like(spread)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, *input) -> alike."""
        shifted: Tensor = (x - self.mean) / self.spread
        return shifted


def network(x: Tensor, classes: int) -> nn.Sequential:
    """A plain convolutional net for images (channels, height, width), else two hidden layers."""
    layers: list[nn.Module] = [Standardised(x)]
    if x.ndim == 4 and min(x.shape[2:]) >= SIDE:
        channels, side = x.shape[1], min(x.shape[2:])
        for width in WIDTHS:
            stride = 2 if side > SIDE else 1
            layers += [nn.Conv2d(channels, width, 3, stride=stride, padding=1), nn.ReLU()]
            channels, side = width, -(-side // stride)
            if side <= SIDE and len(layers) > 4:
                break
        layers += [nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * channels, classes)]
        return nn.Sequential(*layers)
    width = x[0].numel()
    layers += [nn.Flatten(), nn.Linear(width, HIDDEN), nn.ReLU()]
    layers += [nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, classes)]
    return nn.Sequential(*layers)


class Surrogate(Model):
    """The trained network as a model: logits and gradients, in pieces, every pass counted."""

    def __init__(self, net: nn.Module, *, device: str) -> None:
        """net: in eval mode; its parameters are frozen."""
        self.net = net.to(device).requires_grad_(requires_grad=False)
        self.device = device
        self.card = Card(name="surrogate", fingerprint="")
        self.offers = frozenset({"decisions", "logits", "gradients"})

    def logits(self, x: Any) -> Tensor:
        """See ``Model.logits``."""
        with torch.no_grad():
            given = torch.as_tensor(x).to(self.device)
            pieces = [self.net(part) for part in torch.split(given, PIECE)]
        self.passes.forward += len(x)
        return torch.cat(pieces)

    def logits_and_gradient(
        self, x: Any, y: Any, loss: Any = "cross_entropy"
    ) -> tuple[Tensor, Tensor]:
        """See ``Model.logits_and_gradient``; ``loss`` is a function here."""
        logits, gradients = [], []
        for part, label in zip(torch.split(x, PIECE), torch.split(y, PIECE), strict=True):
            at = part.detach().requires_grad_()
            with torch.enable_grad():
                found = self.net(at)
                (gradient,) = torch.autograd.grad(loss(found, label).sum(), at)
            logits.append(found.detach())
            gradients.append(gradient)
        self.passes.forward += len(x)
        self.passes.backward += len(x)
        return torch.cat(logits), torch.cat(gradients)


def imitated(
    x: np.ndarray, decisions: np.ndarray, *, classes: int, updates: int, seed: int, device: str
) -> Surrogate:
    """A network trained to decide as another model did. Alike for the same seed.

    x: (n, *input) floating-point; decisions: (n,) class indices; updates: steps of Adam.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inputs, wanted = torch.as_tensor(x).float(), torch.as_tensor(decisions)
        net = network(inputs, classes)
        optimiser = torch.optim.Adam(net.parameters(), lr=RATE)
        with torch.enable_grad():
            for _ in range(updates):
                at = torch.randint(len(inputs), (min(BATCH, len(inputs)),))
                loss = nn.functional.cross_entropy(net(inputs[at]), wanted[at])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
    return Surrogate(net.to(torch.as_tensor(x).dtype).eval(), device=device)

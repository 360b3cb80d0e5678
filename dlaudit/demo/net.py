"""The demo's network: a small convolutional classifier of 8 x 8 digits."""

from torch import nn


def build() -> nn.Module:
    """Input: (B, 1, 8, 8) in [0, 1]. Output: 10 logits."""
    return nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1), nn.ReLU(),
        nn.Conv2d(24, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 4 * 4, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip

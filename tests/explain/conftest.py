"""One trained net for every test of an explanation, and the published toy."""

import planted_digits
import pytest
import torch
from torch import nn


@pytest.fixture(scope="session")
def plain():
    """A net that learned honest digits, and test digits."""
    train, test = planted_digits.halves(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 16, 10),
        )  # fmt: skip
    return planted_digits.trained(train, module=net), test


@pytest.fixture
def toy():
    """The model of captum's readme; its attributions are printed there."""
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.arange(-4.0, 5.0).view(3, 3))
        model[0].bias.zero_()
        model[2].weight.copy_(torch.arange(-3.0, 3.0).view(2, 3))
        model[2].bias.fill_(1.0)
    return model


@pytest.fixture(autouse=True)
def _seeded():
    """Nets that a test builds start from the same weights every time."""
    torch.manual_seed(0)

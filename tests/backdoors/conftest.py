"""One poisoned and one honest net for every test of a trigger search."""

import planted_digits
import pytest
import torch

TARGET = 3


@pytest.fixture(scope="session")
def twins():
    """(poisoned net, honest net, test digits): the first has learned a patch that means 3."""
    train, test = planted_digits.halves(0)
    bad = planted_digits.poisoned(train, share=0.05, target=TARGET)
    poisoned, honest = (
        planted_digits.trained(digits, module=planted_digits.perceptron())
        for digits in (bad, train)
    )
    return poisoned, honest, test


@pytest.fixture
def bench_of(tmp_path):
    """(module, digits, …) -> a bench of the trigger search."""
    made = []

    def build(module, digits, **given):
        made.append(tmp_path / str(len(made)))
        return planted_digits.bench_at(made[-1], module, digits, run="backdoors.inversion", **given)

    return build


@pytest.fixture(autouse=True)
def _seeded():
    """Nets that a test builds start from the same weights every time."""
    torch.manual_seed(0)

"""Attacks run on a CUDA device unchanged, and leave what they leave on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dlaudit import Attack, Epsilon, TorchModel
from dlaudit.attacks.fgsm import FGSM
from dlaudit.attacks.pgd import PGD

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, none is here"),
]

CLOSE = 0.02
"""Sums are added in another order there: samples on the very edge may tip."""
BUDGETS = Epsilon([0.05, 0.1])


@pytest.mark.parametrize(
    "attack",
    [
        FGSM(epsilon=BUDGETS, loss="margin"),
        PGD(epsilon=BUDGETS, steps=10),
        PGD(epsilon=Epsilon(0.5), norm="l2", steps=10, restarts=2),
    ],
    ids=["fgsm", "pgd", "pgd in l2 with restarts"],
)
def test_an_attack_leaves_on_cuda_what_it_leaves_on_the_cpu(
    attack: Attack, digits: Any, attacked: Callable[..., Any]
) -> None:
    results = {}
    for device in ("cpu", "cuda"):
        model = TorchModel(digits.net, bounds=(0, 1), device=device, classes=tuple("0123456789"))
        results[device] = attacked(attack, model, digits.x, digits.y)
        digits.net.cpu()
    there, here = results["cuda"].table, results["cpu"].table
    assert abs(there["robust"].mean() - here["robust"].mean()) <= CLOSE
    assert (there["distance"][there["fooled"]] <= attack.epsilon.values[-1]).all()
    assert (there["predicted"] == here["predicted"]).mean() >= 1 - CLOSE

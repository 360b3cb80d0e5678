"""Examples that survive storage as 8-bit pictures, and searches in mixed precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaudit import Epsilon
from dlaudit.attacks.ball import Ball
from dlaudit.attacks.base import Threat
from dlaudit.attacks.fgsm import FGSM
from dlaudit.attacks.pgd import PGD
from dlaudit.errors import NotOffered


def test_stored_values_by_hand() -> None:
    """Four levels of [0, 1]: 0.25 apart; the ball reaches 0.3 from each clean value."""
    clean = torch.tensor([[0.0, 0.5, 0.5, 0.1, 0.5]])
    wanted = torch.tensor([[0.3, 0.79, 0.21, 0.1, 0.6]])
    ball = Ball(clean, Threat(norm="linf", epsilon=0.3, bounds=(0, 1)))
    stored = ball.stored(ball.project(wanted), 4, (0, 1))
    assert stored.tolist() == [[0.25, 0.75, 0.25, pytest.approx(0.1), 0.5]]


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**31), epsilon=st.floats(0.001, 2), levels=st.integers(1, 300),
    norm=st.sampled_from(["linf", "l2", "l1", "l0"]), double=st.booleans(),
)  # fmt: skip
def test_what_comes_back_from_storage_is_on_a_level_and_in_the_ball(
    seed: int, epsilon: float, levels: int, norm: Any, *, double: bool
) -> None:
    rng = np.random.default_rng(seed)
    dtype = torch.float64 if double else torch.float32
    low, high = -0.4, 1.3
    clean = torch.from_numpy(rng.uniform(low, high, (4, 9))).to(dtype)
    ball = Ball(clean, Threat(norm=norm, epsilon=epsilon, bounds=(low, high)))
    wanted = torch.from_numpy(rng.uniform(low - 1, high + 1, (4, 9))).to(dtype)
    stored = ball.stored(ball.project(wanted), levels, (low, high))
    assert ball.contains(stored).all()
    steps = (stored.double() - low) / (high - low) * levels
    assert ((steps - steps.round()).abs() < 1e-4)[stored != clean].all()
    again = ball.stored(stored, levels, (low, high))
    assert torch.allclose(again, stored, atol=1e-5)


def test_every_counted_example_is_an_8_bit_picture(
    attacked: Callable[..., Any], digits: Any
) -> None:
    """On a grid of 16 levels, the digits' own, fewer are fooled than anywhere in the ball."""
    free = attacked(PGD(epsilon=Epsilon(0.09)), digits.model(), digits.x, digits.y)
    result = attacked(
        PGD(epsilon=Epsilon(0.09), levels=16), digits.model(), digits.x, digits.y, keep_samples=5
    )
    assert free.one("robust_accuracy").value < result.one("robust_accuracy").value < 1
    assert result.one("robust_accuracy").conditions["levels"] == 16
    distances = result.table["distance"][result.table["fooled"]] * 16
    assert np.allclose(distances, 1, atol=1e-5)


def test_levels_need_a_valid_range_of_two_numbers(
    attacked: Callable[..., Any], linear: Any
) -> None:
    with pytest.raises(NotOffered, match=r"expected bounds = \[low, high\] of two numbers"):
        attacked(FGSM(levels=255), linear.model(), linear.x, linear.y)
    with pytest.raises(ValueError, match="levels: expected a number >= 1, got 0"):
        FGSM(levels=0)


def test_a_search_in_mixed_precision_is_judged_in_full(
    attacked: Callable[..., Any], digits: Any
) -> None:
    """Nearly the same samples fall, and every reported decision is the full model's."""
    model = digits.model()
    full, fast = (
        attacked(PGD(epsilon=Epsilon(0.06), mixed_precision=way), model, digits.x, digits.y)
        for way in (False, True)
    )
    values = [one.one("robust_accuracy").value for one in (full, fast)]
    assert abs(values[0] - values[1]) < 0.03
    assert fast.one("robust_accuracy").conditions["mixed_precision"] is True
    x = torch.from_numpy(digits.x)
    with model.computing_fast(True):
        rounded = model.logits(x)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, model.logits(x))

"""Whatever an attack returns, what is judged lies inside the threat model by its stored numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaudit import Threat
from dlaudit.attacks.ball import Ball, unit
from dlaudit.errors import NonFinite

NORMS = ("linf", "l2", "l1", "l0")


def size(delta: np.ndarray, norm: str) -> np.ndarray:
    """Norms per row, by numpy in float64."""
    flat = np.abs(delta.reshape(len(delta), -1))
    match norm:
        case "linf":
            return flat.max(axis=1)
        case "l2":
            return np.sqrt((flat**2).sum(axis=1))
        case "l1":
            return flat.sum(axis=1)
        case _:
            return (flat > 0).sum(axis=1).astype(float)


@st.composite
def situations(draw: Any) -> tuple[torch.Tensor, torch.Tensor, Threat]:
    """Clean inputs inside a valid range, any candidates, any budget."""
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    shape = draw(st.sampled_from([(1, 1), (3, 5), (2, 1, 3, 3), (4, 7)]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = draw(st.sampled_from([1e-3, 1.0, 255.0, 1e6]))
    kind = draw(st.sampled_from(["none", "numbers", "per feature"]))
    per_feature = kind == "per feature"
    low = np.sort(rng.normal(size=shape[1:]) * scale) if per_feature else -scale / 3
    high = low + rng.uniform(0, 1, shape[1:]) * scale if per_feature else scale * 2 / 3
    x = rng.uniform(low, high, shape) if kind != "none" else rng.normal(size=shape) * scale
    # Not all inputs come from inside to the last bit: a range in float64 rounds outwards too.
    x = torch.as_tensor(x).to(dtype)
    reach = draw(st.sampled_from([0.0, 1e-9, 0.03, 1.0, 1e4]))
    candidate = x + torch.as_tensor(rng.normal(size=shape) * reach * scale).to(dtype)
    fraction = draw(st.sampled_from([0.0, 1e-7, 8 / 255, 0.5, 3.0]))
    norm = draw(st.sampled_from(NORMS))
    epsilon = float(draw(st.integers(0, 6))) if norm == "l0" else fraction * scale
    bounds = None if kind == "none" else (low, high)
    spread = draw(st.sampled_from([None, shape[1:], (shape[0], *[1] * (len(shape) - 1)), ()]))
    units = (
        None if spread is None else rng.choice([0.0, 1e-3, 1.0, 1e3], spread) * rng.random(spread)
    )
    return x, candidate, Threat(norm=norm, epsilon=epsilon, bounds=bounds, scale=units)


@settings(max_examples=200)
@given(situations())
def test_every_projected_example_is_inside_the_ball_and_the_valid_range(
    situation: tuple[torch.Tensor, torch.Tensor, Threat],
) -> None:
    x, candidate, threat = situation
    ball = Ball(x, threat)
    example = ball.project(candidate)
    assert example.dtype == x.dtype
    delta = example.double().numpy() - x.double().numpy()
    if threat.scale is not None:
        units = np.broadcast_to(threat.scale, delta.shape)
        assert (delta[units == 0] == 0).all(), "a scale of 0 means that nothing moves"
        delta = delta / np.where(units == 0, 1, units)
    assert (size(delta, threat.norm) <= threat.epsilon * (1 + 1e-9)).all()
    assert ball.contains(example).all()
    if threat.bounds is not None:
        clean, found = x.double().numpy(), example.double().numpy()
        assert (found >= np.minimum(threat.bounds[0], clean)).all()
        assert (found <= np.maximum(threat.bounds[1], clean)).all()
    assert torch.equal(ball.project(example), example), "what is inside comes back unchanged"
    if threat.epsilon == 0:
        assert torch.equal(example, x)


@settings(max_examples=60)
@given(situations(), st.integers(0, 2**32))
def test_random_starts_and_steps_stay_inside(
    situation: tuple[torch.Tensor, torch.Tensor, Threat], seed: int
) -> None:
    x, gradient, threat = situation
    if threat.norm not in {"linf", "l2"}:
        return
    ball = Ball(x, threat)
    start = ball.random(torch.Generator().manual_seed(seed))
    assert ball.contains(start).all()
    assert ball.contains(ball.step(start, gradient, 2 * threat.epsilon)).all()


@pytest.mark.parametrize(
    ("norm", "candidate", "expected"),
    [
        ("linf", [[3.0, -0.5, 0.0]], [[1.0, -0.5, 0.0]]),
        ("l2", [[3.0, 4.0, 0.0]], [[0.6, 0.8, 0.0]]),
        ("l1", [[2.0, 1.5, 0.0]], [[0.75, 0.25, 0.0]]),  # theta = 1.25: (2 - t) + (1.5 - t) = 1
        ("l1", [[0.5, -0.25, 0.0]], [[0.5, -0.25, 0.0]]),
        ("l0", [[2.0, -3.0, 1.0]], [[0.0, -3.0, 0.0]]),
    ],
)
def test_the_nearest_point_of_a_ball_of_radius_one_by_hand(
    norm: Any, candidate: list[list[float]], expected: list[list[float]]
) -> None:
    x = torch.zeros(1, 3)
    found = Ball(x, Threat(norm=norm, epsilon=1.0)).project(torch.tensor(candidate))
    # Rounded towards the clean input: at most one float32 step short of the nearest point.
    assert torch.allclose(found, torch.tensor(expected), rtol=1e-6, atol=0)


def test_an_l2_step_has_the_length_asked_for_even_where_the_square_of_the_gradient_underflows() -> (
    None
):
    gradient = torch.full((1, 4), 1e-30)
    assert torch.allclose(unit(gradient), torch.full((1, 4), 0.5))
    assert torch.equal(unit(torch.zeros(2, 4)), torch.zeros(2, 4))


def test_random_starts_fill_the_l2_ball_uniformly() -> None:
    """In d dimensions half of the volume lies within radius 0.5 ** (1 / d)."""
    ball = Ball(torch.zeros(4000, 3), Threat(norm="l2", epsilon=2.0))
    radius = ball.distance(ball.random(torch.Generator().manual_seed(0)))
    inner = float((radius <= 2 * 0.5 ** (1 / 3)).double().mean())
    assert abs(inner - 0.5) < 4 * math.sqrt(0.25 / 4000)


def test_a_clean_input_outside_the_range_is_allowed_where_it_is_and_no_further_out() -> None:
    x = torch.tensor([[-2.98e-8, 1.1, 0.5]])
    ball = Ball(x, Threat(norm="linf", epsilon=0.2, bounds=(0, 1)))
    assert torch.equal(ball.project(x), x)
    assert ball.project(x - 1)[0, 0] == x[0, 0]
    assert ball.project(x + 1)[0, 1] == x[0, 1]


def test_an_example_outside_is_not_contained() -> None:
    ball = Ball(torch.zeros(4, 2), Threat(norm="l2", epsilon=1.0, bounds=(-0.9, 0.9)))
    examples = torch.tensor([[0.6, 0.79], [0.7, 0.8], [0.95, 0.0], [math.nan, 0.0]])
    assert ball.contains(examples).tolist() == [True, False, False, False]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_no_number_is_an_error_and_not_a_step(bad: float) -> None:
    ball = Ball(torch.zeros(2, 2), Threat(norm="linf", epsilon=1.0))
    with pytest.raises(NonFinite, match="gradient is NaN or infinite"):
        ball.step(ball.x, torch.tensor([[bad, 0.0], [1.0, 1.0]]), 0.1)


def test_large_finite_gradients_whose_sum_overflows_are_followed() -> None:
    ball = Ball(torch.zeros(1, 2), Threat(norm="linf", epsilon=1.0))
    assert ball.step(ball.x, torch.full((1, 2), 3e38), 0.5).tolist() == [[0.5, 0.5]]

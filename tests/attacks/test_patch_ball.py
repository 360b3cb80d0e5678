"""A patch is one square window of a stated area: what it allows, keeps and measures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaudit import Threat
from dlaudit.attacks.ball import Ball
from dlaudit.attacks.planes import Planes
from dlaudit.attacks.window import best_corner, inside, kept, share_of, side_of, sums
from dlaudit.errors import NotOffered


def window_by_loops(changed: np.ndarray) -> int:
    """The longer side of the box around all changed pixels, by Python. changed: (H, W)."""
    rows, columns = np.nonzero(changed)
    if not len(rows):
        return 0
    return int(max(np.ptp(rows), np.ptp(columns))) + 1


@settings(max_examples=150)
@given(
    shape=st.sampled_from([(4, 4), (1, 6, 5), (3, 5, 9), (7, 4, 3)]),
    epsilon=st.sampled_from([0.0, 0.04, 1 / 9, 0.25, 0.3, 1.0, 4.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    density=st.sampled_from([0.0, 0.02, 0.2, 1.0]),
    seed=st.integers(0, 2**32),
)
def test_every_projected_example_changes_one_window_of_the_stated_area(
    shape: tuple[int, ...], epsilon: float, dtype: torch.dtype, density: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = torch.as_tensor(rng.random((3, *shape))).to(dtype)
    change = rng.normal(size=x.shape) * (rng.random(x.shape) < density)
    candidate = x + torch.as_tensor(change).to(dtype)
    ball = Ball(x, Threat(norm="patch", epsilon=epsilon, bounds=(0, 1)))
    found = ball.project(candidate)
    assert found.dtype == dtype
    assert ball.contains(found).all()
    assert ((found >= 0) & (found <= 1)).all()
    layout = Planes.of(shape)
    planes = layout.spread(found != x).any(dim=1).numpy()
    area = layout.height * layout.width
    for changed, share in zip(planes, ball.distance(found).tolist(), strict=True):
        side = window_by_loops(changed)
        assert share == pytest.approx(side**2 / area)
        assert side <= math.sqrt(epsilon * area) + 1e-6
    assert torch.equal(ball.project(found), found), "what is inside comes back unchanged"
    touched = found != x
    assert torch.equal(found[touched], candidate.clamp(0, 1)[touched]), (
        "what stays is what was proposed"
    )
    if epsilon == 0:
        assert torch.equal(found, x)


def test_the_window_with_most_of_the_change_stays_by_hand() -> None:
    x = torch.zeros(1, 1, 4, 4)
    candidate = x.clone()
    candidate[0, 0, 0, 0] = 0.9
    candidate[0, 0, 2, 2] = 0.7
    candidate[0, 0, 3, 3] = -0.7
    ball = Ball(x, Threat(norm="patch", epsilon=0.25))
    assert ball.distance(candidate).tolist() == [1.0]
    assert not ball.contains(candidate).any()
    found = ball.project(candidate)
    assert found[0, 0].nonzero().tolist() == [[2, 2], [3, 3]], "0.49 + 0.49 is more than 0.81"
    assert ball.distance(found).tolist() == [0.25]


@pytest.mark.parametrize(
    ("share", "size", "side"),
    [
        (0.25, (8, 8), 4), (0.24, (8, 8), 3), (0.0, (8, 8), 0), (1.0, (8, 8), 8), (9.0, (8, 8), 8),
        (0.01, (224, 224), 22), (0.1, (10, 10), 3), (0.09, (10, 10), 3), (0.5, (2, 8), 2),
        (0.05, (32, 32), 7),
    ],
)  # fmt: skip
def test_the_side_of_a_window_by_hand(share: float, size: tuple[int, int], side: int) -> None:
    assert side_of(share, *size) == side


def test_sums_and_the_best_corner_are_those_of_plain_loops() -> None:
    weight = torch.rand(3, 6, 5, generator=torch.Generator().manual_seed(1))
    for side in (1, 2, 4, 6):
        tall, wide = min(side, 6), min(side, 5)
        by_hand = torch.stack([
            torch.stack([weight[:, i : i + tall, j : j + wide].sum((1, 2)) for j in range(6 - wide)], 1)
            for i in range(7 - tall)
        ], 1)  # fmt: skip
        assert torch.allclose(sums(weight, side), by_hand, atol=1e-5)
        top, left = best_corner(weight, side)
        for k in range(3):
            assert float(by_hand[k, top[k], left[k]]) == pytest.approx(float(by_hand[k].max()))
        marked = inside(top, left, side, height=6, width=5)
        assert marked.flatten(1).sum(dim=1).tolist() == [tall * wide] * 3


def test_nothing_changed_is_no_area_and_no_window_keeps_nothing() -> None:
    assert share_of(torch.zeros(2, 1, 3, 3, dtype=torch.bool)).tolist() == [0, 0]
    assert not kept(torch.ones(1, 1, 3, 3), 0.05).any()


def test_a_table_has_no_place_for_a_patch() -> None:
    with pytest.raises(NotOffered, match="expected pictures"):
        Ball(torch.zeros(2, 5), Threat(norm="patch", epsilon=0.5)).project(torch.ones(2, 5))

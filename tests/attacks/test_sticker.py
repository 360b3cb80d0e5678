"""A sticker lies where it is put, turned as it is turned, and changes nothing outside of its window."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dlaudit.attacks.planes import Planes
from dlaudit.attacks.sticker import Canvas, Placement, placed, stuck
from dlaudit.attacks.window import share_of
from dlaudit.errors import NotOffered


def here(top: int, left: int, degrees: float = 0, size: float = 1) -> Placement:
    return Placement(
        torch.tensor([top]), torch.tensor([left]),
        torch.tensor([degrees], dtype=torch.float64), torch.tensor([size], dtype=torch.float64),
    )  # fmt: skip


def numbers(side: int = 2) -> Tensor:
    return torch.arange(1, side * side + 1).view(1, side, side) / 10


def test_a_sticker_by_hand() -> None:
    x = torch.zeros(1, 1, 4, 5)
    found = stuck(numbers(), x, Canvas.of(x, (0, 1)), here(1, 3))
    expected = torch.zeros(4, 5)
    expected[1:3, 3:5] = torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    assert torch.allclose(found[0, 0], expected)
    ranged = stuck(numbers(), x, Canvas.of(x, (-1, 3)), here(0, 0))
    assert torch.allclose(ranged[0, 0, :2, :2], numbers()[0] * 4 - 1)
    assert (x == 0).all()


def test_a_turned_sticker_by_hand() -> None:
    x = torch.zeros(1, 1, 4, 4)
    canvas = Canvas.of(x, (0, 1))
    quarter = stuck(numbers(), x, canvas, here(0, 0, degrees=90))[0, 0, :2, :2]
    turns = [torch.rot90(numbers()[0], k) for k in (1, -1)]
    assert any(torch.allclose(quarter, turn, atol=1e-6) for turn in turns)
    half = stuck(numbers(), x, canvas, here(0, 0, degrees=180))[0, 0, :2, :2]
    assert torch.allclose(half, numbers()[0].flip((0, 1)), atol=1e-6)
    small = stuck(torch.ones(1, 4, 4), x, canvas, here(0, 0, size=0.5))[0, 0]
    assert small.nonzero().tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]


@settings(max_examples=80)
@given(
    shape=st.sampled_from([(5, 7), (1, 6, 6), (3, 5, 8), (7, 5, 3)]),
    side=st.integers(1, 5),
    turn=st.tuples(st.sampled_from([0.0, 20.0, 180.0]), st.sampled_from([0.3, 0.8, 1.0])),
    bounds=st.sampled_from([(0, 1), (-3.0, 2.0), None, "per value"]),
    seed=st.integers(0, 2**32),
)
def test_any_placement_stays_in_a_window_of_its_side_and_in_the_valid_range(
    shape: Any, side: int, turn: tuple[float, float], bounds: Any, seed: int
) -> None:
    rotation, smallest = turn
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(4, *shape, generator=generator)
    if bounds == "per value":
        bounds = (torch.zeros(shape), 1 + torch.rand(shape, generator=generator))
    canvas, layout = Canvas.of(x, bounds), Planes.of(shape)
    pattern = torch.rand(layout.channels, side, side, generator=generator)
    placement = placed(4, side, layout, rotation=rotation, smallest=smallest, generator=generator)
    found = stuck(pattern, x, canvas, placement)
    assert found.shape == x.shape
    area = layout.height * layout.width
    assert (share_of(layout.spread(found != x)) <= side**2 / area + 1e-12).all()
    low, high = bounds or (x.min(), x.max())
    assert (found >= low - 1e-6).all()
    assert (found <= high + 1e-6).all()


def test_placements_fill_the_picture_and_what_is_drawn_is_within_its_range() -> None:
    drawn = placed(
        4000, 3, Planes(1, 8, 6), rotation=20, smallest=0.8,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert set(drawn.top.tolist()) == set(range(6))
    assert set(drawn.left.tolist()) == set(range(4))
    assert float(drawn.degrees.abs().max()) <= 20
    assert 0.8 <= float(drawn.size.min()) < 0.81
    assert float(drawn.size.max()) <= 1


def test_the_gradient_reaches_the_sticker_and_only_where_it_is_seen() -> None:
    x = torch.zeros(1, 1, 4, 4)
    pattern = numbers().requires_grad_()
    stuck(pattern, x, Canvas.of(x, (0, 2)), here(3, 0))[0, 0].sum().backward()
    assert pattern.grad.tolist() == [[[2, 2], [0, 0]]], "the second row lies below the picture"


def test_a_table_has_no_place_for_a_sticker() -> None:
    with pytest.raises(NotOffered, match="expected pictures"):
        Canvas.of(torch.zeros(2, 5), (0, 1))

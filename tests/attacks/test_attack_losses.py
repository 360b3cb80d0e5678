"""The three losses agree with their definitions; what has no definition is refused."""

from __future__ import annotations

import pytest
import torch

from dlaudit.attacks.losses import LOSSES, cross_entropy, dlr, margin
from dlaudit.errors import NotOffered

LOGITS = torch.tensor([[3.0, 1.0, -1.0, 0.0], [3.0, 1.0, -1.0, 0.0]])
Y = torch.tensor([0, 1])


def test_margin_by_hand_is_the_best_rival_minus_the_label() -> None:
    assert margin(LOGITS, Y).tolist() == [-2.0, 2.0]


def test_dlr_by_hand_divides_by_the_gap_of_first_and_third() -> None:
    assert dlr(LOGITS, Y).tolist() == pytest.approx([-2 / 3, 2 / 3])


def test_cross_entropy_by_hand() -> None:
    expected = (LOGITS.exp().sum(dim=1).log() - LOGITS[[0, 1], Y]).tolist()
    assert cross_entropy(LOGITS, Y).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_is_larger_where_the_decision_is_wrong(name: str) -> None:
    right, wrong = LOSSES[name](LOGITS, Y).tolist()
    assert wrong > right


def test_dlr_and_margin_are_the_same_for_any_shift_and_dlr_for_any_scale() -> None:
    assert torch.allclose(margin(LOGITS + 7, Y), margin(LOGITS, Y))
    assert torch.allclose(dlr(LOGITS * 1000 + 7, Y), dlr(LOGITS, Y))


def test_dlr_below_three_classes_is_refused_with_a_way_out() -> None:
    with pytest.raises(NotOffered, match=r"at least 3 classes, got 2\. Use 'margin'"):
        dlr(LOGITS[:, :2], Y)


def test_only_cross_entropy_loses_its_gradient_on_saturated_logits() -> None:
    for name, loss in LOSSES.items():
        z = (LOGITS[:1] * 1000).requires_grad_()
        (gradient,) = torch.autograd.grad(loss(z, Y[:1]).sum(), z)
        assert bool((gradient == 0).all()) is (name == "cross_entropy")

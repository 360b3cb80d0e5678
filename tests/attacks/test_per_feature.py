"""A budget for each feature: the norm is taken of the change divided by the feature's own unit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dlaudit import Epsilon, Threat, TorchModel
from dlaudit.attacks.ball import Ball
from dlaudit.attacks.fgsm import FGSM
from dlaudit.attacks.harness import spread
from dlaudit.attacks.pgd import PGD
from dlaudit.attacks.via_foolbox import Foolbox
from dlaudit.audit.parameters import parameters_of
from dlaudit.audit.registry import Registry
from dlaudit.errors import NotOffered

INSTALLED = Registry()
UNITS = [0.0, 0.01, 0.1, 1.0, 0.0, 0.02, 0.5, 0.03, 0.04, 2.0, 0.0, 0.05]
"""One for each feature of the linear model; three may not move."""


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
@pytest.mark.parametrize("kind", [FGSM, PGD])
def test_on_a_linear_model_the_curve_is_the_closed_form_of_the_dual_norm(
    kind: type[Any], norm: str, dual: int, linear: Any, attacked: Callable[..., Any]
) -> None:
    """max w·delta over ‖delta / s‖ <= epsilon is epsilon ‖w s‖ in the dual norm."""
    multipliers = [0.05, 0.2, 0.5]
    attack = kind(norm=norm, epsilon=Epsilon(multipliers), epsilon_per_feature=UNITS)
    result = attacked(attack, linear.model(), linear.x, linear.y)
    reach = np.linalg.norm(linear.w * UNITS, ord=dual)
    assert result.curve() == {one: np.mean(linear.margin > one * reach) for one in multipliers}
    stated = result.measurements[-1].conditions
    assert stated["epsilon_per_feature"] == "per feature, 0..2"
    assert stated["epsilon"] == 0.5


def test_equal_units_are_an_epsilon_in_input_units(
    linear: Any, attacked: Callable[..., Any]
) -> None:
    one = attacked(PGD(epsilon=Epsilon(0.05)), linear.model((0, 1)), linear.x, linear.y)
    units = [0.05] * len(linear.w)
    same = attacked(PGD(epsilon_per_feature=units), linear.model((0, 1)), linear.x, linear.y)
    assert one.curve()[0.05] == same.curve()[1.0] < 1


def test_epsilon_is_a_multiplier_of_one_unless_it_is_given() -> None:
    assert parameters_of(PGD(epsilon_per_feature=[1.0]))["epsilon"] == 1
    given = PGD(epsilon_per_feature=[1.0], epsilon=Epsilon("8/255"))
    assert given.epsilon.values == (8 / 255,)
    assert PGD().epsilon.values == (8 / 255,)


OTHERWISE = {
    "foolbox",  # a family
    "attacks.audio", "attacks.tokens", "attacks.tabular",  # units of their own
    "attacks.transfer",  # judged on the samples that taught no surrogate
}  # fmt: skip
SCALED = [
    part.name
    for part in INSTALLED.parts("attacks")
    if part.name not in OTHERWISE and part.get().scales and "linf" in part.get().norms
]


@pytest.mark.slow
@pytest.mark.parametrize("name", SCALED)
def test_every_attack_that_takes_them_keeps_to_them_and_comes_near_the_closed_form(
    name: str, linear: Any, attacked: Callable[..., Any]
) -> None:
    attack = INSTALLED.check(name).get()(epsilon=Epsilon(0.2), epsilon_per_feature=UNITS)
    x, y = linear.x[:80], linear.y[:80]
    found = attacked(attack, linear.model(), x, y).curve()[0.2]
    exact = np.mean(linear.margin[:80] > 0.2 * np.abs(linear.w * UNITS).sum())
    assert exact <= found <= exact + 0.2


@pytest.mark.parametrize("budgets", [[-1.0], [math.nan], [math.inf, 1.0], [], [0.0, 0.0]])
def test_budgets_that_are_none_are_refused(budgets: list[float]) -> None:
    with pytest.raises(ValueError, match="epsilon_per_feature: expected numbers >= 0"):
        PGD(epsilon_per_feature=budgets)


def test_an_attack_that_knows_one_budget_only_says_so() -> None:
    with pytest.raises(ValueError, match="this attack knows one budget for all values"):
        Foolbox.member("LinfPGD")(epsilon_per_feature=[1.0, 2.0])


def test_budgets_are_for_every_value_or_for_every_channel_first_or_last() -> None:
    x = torch.zeros(5, 3, 4, 2)
    assert spread([0.5] * 24, x).shape == (3, 4, 2)
    assert spread([1.0, 2.0, 3.0], x).tolist() == [[[1.0]], [[2.0]], [[3.0]]]
    assert spread([1.0, 2.0], x).tolist() == [1.0, 2.0]
    with pytest.raises(NotOffered, match=r"expected 24 budgets.*channels, got 4"):
        spread([1.0] * 4, x)


def test_a_budget_per_channel_moves_that_channel_alone(attacked: Callable[..., Any]) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    x = np.random.default_rng(0).random((20, 3, 2, 2), dtype=np.float32)
    y = net(torch.from_numpy(x)).argmax(dim=1).numpy()
    attack = PGD(epsilon_per_feature=[0.0, 0.3, 0.0], steps=3)
    result = attacked(attack, TorchModel(net, device="cpu"), x, y)
    assert result.one("inputs_moved").value == 1
    w = net[1].weight.detach().double().numpy()
    reach = 0.3 * np.abs(w[1] - w[0])[4:8].sum()
    z = net(torch.from_numpy(x)).detach().double().numpy()
    assert result.curve()[1.0] == np.mean(np.abs(z[:, 1] - z[:, 0]) > reach)


def test_a_step_along_the_gradient_is_steepest_in_units_of_the_scale() -> None:
    """By hand: s = (1, 2), g = (3, 2): in units the slope is (3, 4), so delta = (0.6, 0.8 * 2)."""
    x, gradient = torch.zeros(1, 2), torch.tensor([[3.0, 2.0]])
    ball = Ball(x, Threat(norm="l2", epsilon=1.0, scale=[1.0, 2.0]))
    assert torch.allclose(ball.step(x, gradient, 1.0), torch.tensor([[0.6, 1.6]]))
    box = Ball(x, Threat(norm="linf", epsilon=1.0, scale=[1.0, 2.0]))
    assert torch.equal(box.step(x, gradient, 0.5), torch.tensor([[0.5, 1.0]]))


def test_the_rows_of_a_ball_keep_their_own_scale() -> None:
    x = torch.zeros(3, 2)
    ball = Ball(x, Threat(norm="l2", epsilon=1.0, scale=[[1.0], [2.0], [3.0]]))
    part = ball.rows(torch.tensor([2, 0]))
    assert torch.allclose(
        part.project(torch.full((2, 2), 9.0)).norm(dim=1), torch.tensor([3.0, 1.0])
    )
    alike = Ball(x, Threat(norm="l2", epsilon=1.0, scale=[1.0, 2.0]))
    assert alike.rows(torch.tensor([False, True, False])).distance(torch.ones(1, 2))[
        0
    ] == math.sqrt(1.25)


@pytest.mark.parametrize("scale", [[1.0, -1.0], [math.nan, 1.0], [1.0, 2.0, 3.0], [[1.0]] * 4])
def test_a_scale_that_does_not_fit_is_refused(scale: Any) -> None:
    with pytest.raises(ValueError, match="scale: expected finite numbers >= 0"):
        Ball(torch.zeros(3, 2), Threat(norm="linf", epsilon=1.0, scale=scale))

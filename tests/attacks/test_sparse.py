"""The l0 attack against the closed form, against every pair of pixels, and against foolbox."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from dlaudit import Batch, Epsilon, Threat, TorchModel
from dlaudit.attacks.ball import Ball
from dlaudit.attacks.pixels import Pixels
from dlaudit.attacks.sparse import Sparse
from dlaudit.attacks.via_foolbox import Foolbox
from dlaudit.audit.parts import decode_parameter
from dlaudit.audit.record import Card
from dlaudit.errors import NotOffered
from dlaudit.models.black_box import BlackBox


def fewest_on_a_line(linear: Any) -> np.ndarray:
    """Closed form: values are spent on the largest |w| times room until the margin is gone."""
    down = np.where(linear.y[:, None] == 1, linear.w, -linear.w)
    room = np.where(down > 0, linear.x, 1 - linear.x).astype(float)
    reach = np.sort(np.abs(down) * room, axis=1)[:, ::-1].cumsum(axis=1)
    reached = reach > linear.margin[:, None]
    return np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, 99)


def logits_only(model: Any) -> BlackBox:
    return BlackBox(
        lambda x: model.logits(x).numpy(), bounds=model.bounds, classes=model.classes,
        card=Card(name="walled", fingerprint="walled"), form="logits",
    )  # fmt: skip


@pytest.mark.parametrize("search_by", ["gradient", pytest.param("random", marks=pytest.mark.slow)])
def test_on_a_linear_model_the_fewest_values_are_the_closed_form(
    search_by: Any, linear: Any, attacked: Callable[..., Any]
) -> None:
    """Exact at every budget with gradients; the random search may miss one in fifty."""
    model = linear.model((0, 1))
    attack = Sparse(epsilon=Epsilon([1, 2, 3, 6]), search_by=search_by)
    given_model = model if search_by == "gradient" else logits_only(model)
    n = 300 if search_by == "gradient" else 100
    result = attacked(attack, given_model, linear.x[:n], linear.y[:n])
    best, right = fewest_on_a_line(linear)[:n], linear.margin[:n] > 0
    for epsilon, found in result.curve().items():
        optimum = np.mean(right & (best > epsilon))
        assert found >= optimum
        assert found <= optimum + (0 if search_by == "gradient" else 0.02)
    counted = result.table["distance"][result.table["fooled"]]
    assert (counted == np.round(counted)).all()


def brute_force(model: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """1 or 2 if so many pixels at 0, 1/2 or 1 fool, else 3: every pixel and every pair is tried."""
    found = np.full(len(y), 3)
    flat = torch.from_numpy(x).flatten(1)
    pairs = torch.tensor(list(itertools.combinations_with_replacement(range(64), 2)))
    row = torch.arange(len(pairs))
    for i in range(len(y)):
        for first, second in itertools.product((0.0, 0.5, 1.0), repeat=2):
            tried = flat[i].repeat(len(pairs), 1)
            tried[row, pairs[:, 0]], tried[row, pairs[:, 1]] = first, second
            fooled = model.logits(tried.view(-1, 1, 8, 8)).argmax(dim=1).numpy() != y[i]
            if fooled.any():
                single = (pairs[fooled, 0] == pairs[fooled, 1]).any()
                found[i] = min(found[i], 1 if single else 2)
    return found


def test_one_and_two_pixels_are_found_where_trying_every_pair_finds_them(
    digits: Any, attacked: Callable[..., Any]
) -> None:
    model = digits.model()
    x, y = digits.x[:60], digits.y[:60]
    right = model.logits(x).argmax(dim=1).numpy() == y
    optimum = brute_force(model, x[right], y[right])
    result = attacked(Sparse(epsilon=Epsilon([1, 2]), search_by="gradient"), model, x, y)
    fooled = result.table["epsilon_fooled"][right]
    assert ((fooled == 1) == (optimum == 1)).mean() >= 0.98
    assert ((fooled > 0) & (fooled <= 2)).sum() >= 0.95 * (optimum <= 2).sum()


@pytest.mark.slow
def test_it_is_stronger_than_foolbox_at_every_budget(
    digits: Any, attacked: Callable[..., Any]
) -> None:
    curve = Epsilon([1, 2, 3, 5])
    x, y = digits.x[:150], digits.y[:150]
    ours = attacked(Sparse(epsilon=curve), digits.model(), x, y).curve()
    theirs = attacked(
        Foolbox.member("L0FMNAttack")(norm="l0", epsilon=curve), digits.model(), x, y
    ).curve()
    assert all(ours[k] <= theirs[k] for k in curve)
    assert sum(ours.values()) < sum(theirs.values())


def test_the_scale_of_the_logits_changes_nothing(digits: Any, attacked: Callable[..., Any]) -> None:
    attack = Sparse(epsilon=Epsilon([1, 3]), steps=40, targets=2, search_by="gradient")
    plain = attacked(attack, digits.model(), digits.x[:100], digits.y[:100]).curve()
    for scale in (1e4, 1e-4):
        masked = attacked(attack, digits.model(scale=scale), digits.x[:100], digits.y[:100]).curve()
        assert all(abs(masked[k] - plain[k]) <= 0.03 for k in plain)


class Rounded(nn.Module):
    """The same net looking at inputs rounded to 0 and 1: no gradient leads anywhere."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x.round())


def test_where_gradients_lead_nowhere_the_random_search_goes_on(
    digits: Any, attacked: Callable[..., Any]
) -> None:
    """The planted twin hides its gradients; the clean one loses nothing by the second search."""
    hidden = TorchModel(
        Rounded(digits.net), bounds=(0, 1), device="cpu", classes=digits.model().classes
    )
    x, y = digits.x[:60], digits.y[:60]
    curve = Epsilon([1, 4])
    alone = {"search_by": "gradient", "steps": 20, "targets": 1}
    blind = attacked(Sparse(epsilon=curve, **alone), hidden, x, y)
    assert min(m.value for m in blind.measurements if m.name == "inputs_moved") < 0.5
    both = attacked(
        Sparse(epsilon=curve, queries=200, steps=20, targets=1, search_by="both"), hidden, x, y
    )
    assert both.curve()[4.0] < blind.curve()[4.0] - 0.4
    clean = attacked(Sparse(epsilon=curve, **alone), digits.model(), x, y).curve()
    again = attacked(
        Sparse(epsilon=curve, steps=20, targets=1, queries=50), digits.model(), x, y
    ).curve()
    assert all(again[k] <= clean[k] for k in clean)


class Coloured(nn.Module):
    """Decides by the sum of the channels' weights at each place of a 4 x 4 image."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.weight = nn.Parameter(torch.randn(3, 4, 4, generator=generator))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = (x * self.weight).flatten(1).sum(dim=1, keepdim=True)
        return torch.cat([torch.zeros_like(score), score], dim=1)


@pytest.mark.parametrize("search_by", ["gradient", pytest.param("random", marks=pytest.mark.slow)])
def test_a_pixel_of_three_channels_counts_as_one_if_asked_and_as_three_values_if_not(
    search_by: Any, attacked: Callable[..., Any]
) -> None:
    net = Coloured()
    model = TorchModel(net, bounds=(0, 1), device="cpu", classes=("a", "b"))
    n = 80 if search_by == "gradient" else 40
    x = np.random.default_rng(2).uniform(0, 1, (n, 3, 4, 4)).astype(np.float32)
    score = (x * net.weight.detach().numpy()).reshape(n, -1).sum(axis=1)
    y = (score > 0).astype(np.int64)
    down = np.where(y[:, None, None, None] == 1, 1, -1) * net.weight.detach().numpy()
    gain = np.abs(down) * np.where(down > 0, x, 1 - x)

    def optimum(reach: np.ndarray, k: int) -> float:
        return float(np.mean(np.sort(reach, axis=1)[:, ::-1][:, :k].sum(axis=1) < np.abs(score)))

    curve = Epsilon([1, 2, 4])
    for pixels in (True, False):
        attack = Sparse(epsilon=curve, pixels=pixels, search_by=search_by)
        result = attacked(attack, model, x, y)
        reach = gain.sum(axis=1).reshape(n, -1) if pixels else gain.reshape(n, -1)
        slack = 0 if search_by == "gradient" else 0.06
        for k, found in result.curve().items():
            assert optimum(reach, int(k)) <= found <= optimum(reach, int(k)) + slack
        assert result.one("clean_accuracy").value == 1
        stated = result.measurements[1].conditions
        assert stated["counts"] == ("pixels" if pixels else "values")
        assert ("queries" in stated) == (search_by == "random")


def test_a_budget_of_pixels_admits_so_many_places_and_no_more() -> None:
    clean = torch.zeros(3, 3, 2, 2)
    made = clean.clone()
    made[0, :, 0, 0] = 1
    made[1, 0, 0, 0] = made[1, 2, 1, 1] = 1
    assert Pixels(1).admits(made, clean).tolist() == [True, False, True]


@settings(max_examples=20)
@given(
    x=arrays(np.float64, (6, 7), elements=st.floats(0, 1)),
    w=arrays(np.float64, (3, 7), elements=st.floats(-2, 2)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    search_by=st.sampled_from(["both", "gradient", "random"]),
)
def test_whatever_is_returned_is_valid_and_decided_as_it_is_told(
    x: np.ndarray, w: np.ndarray, dtype: torch.dtype, search_by: Any
) -> None:
    """In range, whole values kept to the bit, and either fooling or untouched."""
    net = nn.Linear(7, 3, bias=False).to(dtype)
    with torch.no_grad():
        net.weight.copy_(torch.from_numpy(w))
    model = TorchModel(net, bounds=(0, 1), device="cpu", classes=("a", "b", "c"))
    clean = torch.from_numpy(x).to(dtype)
    y = model.logits(clean).argmax(dim=1)
    attack = Sparse(search_by=search_by, steps=10, targets=2, queries=20, epsilon=Epsilon([1, 7]))
    found = attack.search(
        model, Batch(clean, y, np.arange(6).astype(str)),
        Threat(norm="l0", epsilon=7.0, bounds=(0, 1)), torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert found.x.dtype == dtype
    assert Ball(clean, Threat(norm="l0", epsilon=7.0, bounds=(0, 1))).contains(found.x).all()
    fooled = model.logits(found.x).argmax(dim=1) != y
    assert (fooled | (found.x == clean).all(dim=1)).all()


def test_every_pass_is_counted_and_told_beforehand(
    digits: Any, attacked: Callable[..., Any]
) -> None:
    for search_by in ("both", "gradient", "random"):
        attack = Sparse(epsilon=Epsilon([1, 3]), queries=60, search_by=search_by)
        result = attacked(attack, digits.model(), digits.x[:60], digits.y[:60])
        spent = (result.table["forward"].sum(), result.table["backward"].sum())
        assert (result.cost.forward, result.cost.backward) == spent
        told = attack.passes(n=int(result.table["attacked"].sum()), classes=10)
        assert result.cost.forward <= told.forward
        assert result.cost.backward <= told.backward


def test_without_a_finite_range_each_value_keeps_to_those_that_the_data_hold(
    linear: Any, attacked: Callable[..., Any]
) -> None:
    inner = (linear.x.min(axis=0), linear.x.max(axis=0))
    attack = Sparse(search_by="gradient", steps=20, targets=1)
    declared = attacked(attack, linear.model(inner), linear.x, linear.y)
    for bounds in (None, (0, np.inf)):
        result = attacked(attack, linear.model(bounds), linear.x, linear.y)
        assert result.curve() == declared.curve()
        assert result.measurements[1].conditions["bounds"] == "as observed in the test split"
    assert declared.measurements[1].conditions["bounds"] == "per feature"
    batch = Batch(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64), np.array(["a"]))
    for bounds in (None, (0, np.inf)):
        with pytest.raises(NotOffered, match="expected finite bounds"):
            Sparse().perturb(
                linear.model(),
                batch,
                Threat(norm="l0", epsilon=1.0, bounds=bounds),
                torch.Generator(),
            )
    with pytest.raises(NotOffered, match="pixels: expected images"):
        attacked(Sparse(pixels=True), linear.model((0, 1)), linear.x, linear.y)


def test_the_random_search_needs_no_gradients() -> None:
    offers = {"model": frozenset({"decisions", "logits"}), "data": frozenset({"labels"})}
    assert Sparse().missing(**offers, train_fn=False) == ("model: gradients",)
    assert not Sparse(search_by="random").missing(**offers, train_fn=False)


def test_perturb_by_itself_returns_what_the_search_finds(digits: Any) -> None:
    batch = Batch(
        torch.from_numpy(digits.x[:5]), torch.from_numpy(digits.y[:5]), np.arange(5).astype(str)
    )
    threat = Threat(norm="l0", epsilon=3.0, bounds=(0, 1))
    made = Sparse(steps=5, targets=0).perturb(digits.model(), batch, threat, torch.Generator())
    assert made.shape == digits.x[:5].shape


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"norm": "linf"}, "norm: expected one of l0, got linf"),
        ({"epsilon": 0.5}, "epsilon: expected whole numbers of values that may change, got 0.5"),
        ({"steps": 1}, "steps: expected a number >= 2, got 1"),
        ({"targets": -1}, "targets: expected a number >= 0, got -1"),
        ({"queries": 0}, "queries: expected a number >= 1, got 0"),
        ({"search_by": "magic"}, "Invalid enum value 'magic'"),
        ({"epsilon_per_feature": [1.0]}, "epsilon_per_feature: this attack knows one budget"),
    ],
)
def test_parameters_that_make_no_attack_are_refused_in_words(
    params: dict[str, Any], message: str
) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(params, Sparse, dec_hook=decode_parameter)

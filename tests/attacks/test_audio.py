"""Sounds: noise so many decibels below the signal, and what silence means."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from dlaudit import Epsilon, TorchModel, Undefined
from dlaudit.attacks.audio import Audio
from dlaudit.audit.parameters import parameters_of
from dlaudit.testing import conforms

RATE, LENGTH = 400, 160


def tones(
    n: int, rng: np.random.Generator, *, pitched: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Two pitches at any phase and loudness, under noise: (n, 1, LENGTH) in [-1, 1].

    A faint hiss at the highest frequency tells the class too. pitched: whether the pitch does.
    """
    y = rng.integers(0, 2, n)
    time = np.arange(LENGTH) / RATE
    pitch = np.where(y == 0 if pitched else rng.random(n) < 0.5, 30.0, 37.5)[:, None]
    phase = rng.uniform(0, 2 * np.pi, (n, 1))
    x = rng.uniform(0.2, 0.7, (n, 1)) * np.sin(2 * np.pi * pitch * time + phase)
    x += rng.normal(scale=0.03, size=x.shape)
    x += 0.03 * (2 * y[:, None] - 1) * np.cos(np.pi * np.arange(LENGTH))
    return x[:, None].clip(-1, 1).astype(np.float32), y


@pytest.fixture(scope="module")
def listener() -> nn.Module:
    """A small 1-D CNN, trained where the hiss alone tells the class: the planted weakness."""
    x, y = tones(256, np.random.default_rng(1), pitched=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv1d(1, 8, 16, stride=2), nn.ReLU(), nn.Conv1d(8, 8, 9, stride=2), nn.ReLU(),
            nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 2),
        )  # fmt: skip
        inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
        weights = list(net.parameters())
        speed = [torch.zeros_like(weight) for weight in weights]
        for _ in range(250):
            loss = nn.functional.cross_entropy(net(inputs), labels)
            slopes = torch.autograd.grad(loss, weights)
            with torch.no_grad():
                for weight, v, slope in zip(weights, speed, slopes, strict=True):
                    v.mul_(0.9).sub_(0.3 * slope)
                    weight.add_(v)
    return net.eval()


class LowPass(nn.Module):
    """Decides by the energy of the two pitches alone: far from noise that spreads over all of them."""

    def __init__(self) -> None:
        super().__init__()
        time = torch.arange(LENGTH) / RATE
        pitches = [torch.exp(-2j * math.pi * pitch * time) for pitch in (30.0, 37.5)]
        self.register_buffer("waves", torch.stack(pitches))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.squeeze(1).to(torch.complex64) @ self.waves.T).abs()


@pytest.mark.parametrize(("norm", "dual"), [("l2", 2), ("linf", 1)])
def test_on_a_linear_model_each_signal_falls_at_its_own_ratio(
    norm: Any, dual: int, linear: Any, attacked: Callable[..., Any]
) -> None:
    """Fooled iff margin < 10^(-snr/20) ‖x‖ ‖w‖_dual, per signal."""
    ratios = [30.0, 20.0, 10.0, 3.0]
    result = attacked(Audio(norm=norm, snr=ratios), linear.model(), linear.x, linear.y)
    size = np.linalg.norm(linear.x.astype(np.float64), ord=2 if norm == "l2" else np.inf, axis=1)
    reach = np.linalg.norm(linear.w, ord=dual)
    for snr in ratios:
        epsilon = 10 ** (-snr / 20)
        expected = np.mean(linear.margin > epsilon * size * reach)
        assert result.curve()[epsilon] == expected
    stated = result.one("clean_accuracy").conditions, result.measurements[-1].conditions
    assert stated[1]["snr_db"] == 3.0
    assert "snr" not in stated[1]


def test_silent_signals_are_counted_and_are_in_no_other_number(
    linear: Any, attacked: Callable[..., Any]
) -> None:
    x = linear.x.copy()
    x[::3] = 0
    result = attacked(Audio(snr=10.0), linear.model(), x, linear.y)
    out = result.one("left_out")
    assert (out.value, out.n) == (100 / 300, 300)
    assert "silent" in out.conditions["reason"]
    assert result.one("clean_accuracy").n == result.one("robust_accuracy").n == 200
    rest = np.arange(300) % 3 != 0
    alone = attacked(Audio(snr=10.0), linear.model(), x[rest], linear.y[rest])
    assert alone.one("robust_accuracy").value == result.one("robust_accuracy").value
    assert not result.table["attacked"][::3].any()
    assert not result.table["robust"][::3].any()


def test_where_all_is_silent_nothing_is_known(linear: Any, attacked: Callable[..., Any]) -> None:
    result = attacked(Audio(snr=10.0), linear.model(), np.zeros_like(linear.x), linear.y)
    assert [one.name for one in result.measurements] == ["left_out"]
    assert all(isinstance(one, Undefined) for one in result.undefined)
    assert {one.name for one in result.undefined} >= {"clean_accuracy", "robust_accuracy"}


def test_a_trained_listener_is_fooled_and_a_matched_filter_is_not(
    listener: nn.Module, attacked: Callable[..., Any]
) -> None:
    x, y = tones(40, np.random.default_rng(2))
    attack = Audio(snr=[30.0, 15.0], steps=15)
    weak = attacked(attack, TorchModel(listener, bounds=(-1, 1), device="cpu"), x, y)
    strong = attacked(attack, TorchModel(LowPass(), bounds=(-1, 1), device="cpu"), x, y)
    assert weak.one("clean_accuracy").value >= 0.9
    assert strong.one("clean_accuracy").value == 1
    assert min(weak.curve().values()) < 0.3
    assert min(strong.curve().values()) == 1


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    norm=st.sampled_from(["l2", "linf"]),
    snr=st.lists(st.floats(-6, 60), min_size=1, max_size=3, unique=True),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_every_success_keeps_to_its_ratio_and_predicts_as_reported(
    attacked: Callable[..., Any], seed: int, norm: Any, snr: list[float], dtype: Any
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(12, 2, 9)).clip(-1, 1).astype(dtype)
    net = nn.Sequential(nn.Flatten(), nn.Linear(18, 3))
    net = net.double() if dtype == np.float64 else net
    model = TorchModel(net, bounds=(-1, 1), device="cpu")
    y = model.logits(x).argmax(dim=1).numpy()
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    decide = model.decide

    def watched(batch: Any) -> Any:
        answer = decide(batch)
        seen.append((np.asarray(batch.x), answer.predicted))
        return answer

    model.decide = watched  # type: ignore[method-assign]
    table = attacked(Audio(norm=norm, snr=snr, steps=4), model, x, y, block=64).table
    order = 2 if norm == "l2" else np.inf
    size = np.linalg.norm(x.reshape(12, -1).astype(np.float64), ord=order, axis=1)
    rows = np.concatenate([one for one, _ in seen])
    decided = np.concatenate([one for _, one in seen])
    assert rows.dtype == dtype
    assert (np.abs(rows) <= 1).all()
    for i in np.flatnonzero(table["fooled"]):
        delta = (rows.astype(np.float64) - x[i].astype(np.float64)).reshape(len(rows), -1)
        ratio = np.linalg.norm(delta, ord=order, axis=1) / size[i]
        near = ratio <= table["epsilon_fooled"][i] * (1 + 1e-9)
        assert table["adversarial"][i] in decided[near]
        assert table["adversarial"][i] != y[i]


def test_the_budget_follows_from_the_ratio_and_survives_being_written_down() -> None:
    attack = Audio(snr=[20.0, 40.0])
    assert attack.epsilon.values == (0.01, 0.1)
    stored = parameters_of(attack)
    assert Audio(snr=stored["snr"], epsilon=Epsilon(stored["epsilon"])) == attack
    with pytest.raises(ValueError, match=r"epsilon: expected none beside snr, which says 0\.1"):
        Audio(snr=20.0, epsilon=Epsilon(0.5))
    assert Audio().epsilon.values == pytest.approx([0.01, 10**-1.5, 0.1])
    given = Audio(epsilon=Epsilon([0, 0.1]))
    assert given.epsilon.values == (0, 0.1)
    assert given.conditions(0.1)["snr_db"] == 20
    assert "snr_db" not in given.conditions(0)
    conforms("attack", "attacks.audio")


@pytest.mark.parametrize("snr", [[], [math.nan], math.inf])
def test_ratios_that_are_none_are_refused(snr: Any) -> None:
    with pytest.raises(ValueError, match="snr: expected a number of decibels"):
        Audio(snr=snr)

"""Leads, channels and rows by hand and against scipy; a planted outlier shows, and nobody is accused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_digits import Digits, told
from torch import nn

from dlaudit.audit.record import Measurement, Undefined
from dlaudit.backdoors.channels import normalised, row_norms, standing_out, strengths
from dlaudit.backdoors.margin import largest_leads, lead, standing
from dlaudit.backdoors.weights import Weights
from dlaudit.models.torch_model import TorchModel


def linear(weight):
    module = nn.Linear(len(weight[0]), len(weight))
    with torch.no_grad():
        module.weight.copy_(torch.tensor(weight, dtype=torch.float32))
        module.bias.zero_()
    return module


def test_a_lead_by_hand():
    logits = torch.tensor([[3.0, 1.0, 2.5], [0.0, 4.0, 1.0]])
    assert lead(logits, torch.tensor([0, 0])).tolist() == [0.5, -4.0]
    assert lead(logits, torch.tensor([2, 1])).tolist() == [-0.5, 3.0]


def test_the_largest_lead_of_a_linear_model_is_that_of_a_corner():
    """g_0 - g_1 = 3 x_0 - x_1: at most 3 in the unit box, reached at (1, 0); g_1 - g_0 at most 1."""
    model = TorchModel(linear([[3.0, 0.0], [0.0, 1.0]]), device="cpu")
    found = largest_leads(
        model, torch.zeros(2), torch.tensor(0.0), torch.tensor(1.0), classes=2, steps=200,
        generators=[np.random.default_rng(k) for k in range(3)],
    )  # fmt: skip
    assert found.shape == (2, 3)
    assert found.max(axis=1) == pytest.approx([3.0, 1.0], abs=1e-5)
    assert model.passes.forward == model.passes.backward == 2 * 3 * 200


def test_a_box_of_other_width_is_searched_to_its_ends():
    model = TorchModel(linear([[3.0, 0.0], [0.0, 1.0]]), device="cpu")
    low, high = torch.tensor([-2.0, 0.5]), torch.tensor([4.0, 0.5])
    found = largest_leads(
        model, torch.zeros(2), low, high, classes=2, steps=200,
        generators=[np.random.default_rng(0)],
    )  # fmt: skip
    assert found[:, 0] == pytest.approx([3 * 4 - 0.5, 0.5 + 3 * 2], abs=1e-4)


def test_the_chance_of_the_largest_lead_is_that_of_the_fitted_law():
    from scipy.stats import gamma

    others = gamma.rvs(4, size=40, random_state=0)
    found = standing([*others, 30.0])
    law = gamma(*gamma.fit(others))
    assert found.place == 40
    assert found.p == pytest.approx(1 - law.cdf(30.0) ** 41, rel=1e-6)
    assert found.p < 0.01
    assert standing(list(others)).p > 0.05


@settings(max_examples=25)
@given(st.lists(st.floats(0.1, 50), min_size=0, max_size=14, unique=True))
def test_a_chance_lies_between_0_and_1_or_does_not_exist(leads):
    found = standing(leads)
    assert found is None or 0 <= found.p <= 1
    assert len(leads) >= 8 or found is None


def test_eight_equal_leads_fit_no_law():
    assert standing([2.0] * 9 + [3.0]) is None


def batch_norm(channels, gamma, variance):
    norm = nn.BatchNorm2d(channels, eps=0.0).eval()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor(gamma))
        norm.running_var.copy_(torch.tensor(variance))
    return norm


def test_the_strength_of_a_channel_by_hand():
    """Two inputs, kernel of two: W_0 = diag(3, 1) has sigma_1 = 3, W_1 = (3 4; 0 0) has 5."""
    weight = torch.tensor([[[3.0, 0.0], [0.0, 1.0]], [[3.0, 4.0], [0.0, 0.0]]])
    norm = batch_norm(2, [-2.0, 1.0], [4.0, 0.25])
    assert strengths(weight, norm) == pytest.approx([3 * 2 / 2, 5 * 1 / 0.5])
    assert strengths(torch.tensor([[3.0, 4.0], [0.0, 1.0]]), norm) == pytest.approx([5.0, 2.0])


def test_a_normalisation_belongs_to_the_layer_whose_output_it_is_given():
    """Declared in another order than they are called, as in many published nets."""

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = batch_norm(2, [1.0, 1.0], [1.0, 1.0])
            self.second = nn.Conv2d(2, 2, 1, bias=False)
            self.first = nn.Conv2d(1, 2, 1, bias=False)

        def forward(self, x):
            return self.second(self.norm(self.first(x)).relu())

    net = Mixed().eval()
    (found,) = normalised(net, torch.zeros(1, 1, 3, 3))
    assert found.name == "first"
    assert found.strength == pytest.approx(net.first.weight.abs().flatten().tolist())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())


def test_what_stands_out_by_hand():
    """Twenty ones and a five: mean 25/21, deviation sqrt(16 * 20) / 21; only the five is above."""
    strength = np.array([1.0] * 20 + [5.0])
    assert strength.std() == pytest.approx((16 * 20) ** 0.5 / 21)
    assert standing_out(strength).tolist() == [False] * 20 + [True]
    assert not standing_out(np.ones(5)).any()


def test_row_norms_by_hand():
    assert row_norms(torch.tensor([[3.0, 4.0], [0.0, 2.0]])).tolist() == [5.0, 2.0]


class Net(nn.Module):
    """A convolution with normalisation, averages, and a row for each of ten classes."""

    def __init__(self, planted):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 24, 3), nn.BatchNorm2d(24)
        self.last = nn.Linear(24, 10)
        with torch.no_grad():
            if planted:
                self.norm.weight[7] = 40
                self.last.weight[4] *= 8

    def forward(self, x):
        return self.last(self.norm(self.conv(x)).relu().mean(dim=(2, 3)))


@pytest.fixture
def of(bench_of):
    def numbers(module, **given):
        rows = Digits(
            np.random.default_rng(0).random((12, 1, 8, 8), np.float32), np.arange(12) % 10
        )
        return told(Weights(starts=2, steps=20), bench_of(module.eval(), rows, **given))

    return numbers


def test_a_planted_channel_and_row_stand_out_and_those_of_the_twin_do_not(of):
    numbers, artifacts = of(Net(planted=True))
    assert numbers["channel_outliers",].value == 1
    assert numbers["channel_outliers",].n == 24
    rows = {key[1]: one.value for key, one in numbers.items() if key[0] == "row_anomaly"}
    assert max(rows, key=rows.get) == "4"
    assert rows["4"] > 5
    leads = {key[1]: one.value for key, one in numbers.items() if key[0] == "margin"}
    assert max(leads, key=leads.get) == "4"
    assert numbers["margin_p",].conditions["class"] == "4"
    assert 0 <= numbers["margin_p",].value < 0.05
    assert len(artifacts) == 2
    twin, _ = of(Net(planted=False))
    assert twin["channel_outliers",].value == 0
    assert max(one.value for key, one in twin.items() if key[0] == "row_anomaly") < 4


def test_it_measures_and_never_says_which_way_is_better(of):
    numbers, _ = of(Net(planted=False))
    assert {key[0] for key in numbers} == set(Weights.measures)
    assert {one.direction for one in numbers.values() if isinstance(one, Measurement)} == {None}


def test_what_a_model_does_not_have_is_no_number(of, bench_of):
    numbers, _ = of(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), bounds=None)
    assert "no bounds" in numbers["margin_p",].reason
    assert "batch normalisation" in numbers["channel_outliers",].reason
    assert isinstance(numbers["row_anomaly", "0"], Measurement)
    few = of(nn.Sequential(nn.Flatten(), nn.Linear(64, 2), nn.Tanh()))[0]
    assert "8 classes" in few["margin_p",].reason
    assert isinstance(few["row_anomaly", "0"], Undefined)
    tokens = Digits(np.ones((6, 5), dtype=np.int64), np.arange(6) % 2)
    told_, _ = told(Weights(), bench_of(nn.Linear(5, 2), tokens, bounds=None, kind="tokens"))
    assert {key[0] for key in told_} == set(Weights.measures)
    assert all(isinstance(one, Undefined) for one in told_.values())


def test_the_same_seed_gives_the_same_numbers(twins, bench_of):
    check = Weights(starts=2, steps=15)
    runs = [list(check.measure(bench_of(twins[0], twins[2]))) for _ in range(2)]
    assert runs[0] == runs[1]
    assert check.passes(n=1, classes=10).forward == 300

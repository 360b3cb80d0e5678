"""Methods behind one door: right figures, counted passes, known traps."""

import numpy as np
import pytest
import torch
from asking import by, request
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dlaudit.errors import NotExplained
from dlaudit.explain.explaining import attributions, evaluating
from dlaudit.models.torch_model import TorchModel

STEADY = ["integrated_gradients", "saliency", "input_x_gradient", "deep_lift", "lrp", "occlusion"]
"""Methods without draws."""


def linear(weight):
    module = nn.Linear(*reversed(weight.shape), bias=True)
    with torch.no_grad():
        module.weight.copy_(weight)
    return module


def test_integrated_gradients_of_a_linear_model_are_weight_times_distance():
    weight = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0]])
    x, baseline = torch.tensor([[1.0, 2.0, 3.0], [-1.0, 0.0, 4.0]]), torch.tensor([0.5, 0.0, 1.0])
    found = attributions(
        by("integrated_gradients"), request(linear(weight), x, [0, 1], baseline=baseline)
    )
    by_hand = torch.tensor([[2 * 0.5, -1 * 2.0, 0.5 * 2.0], [0.0, 0.0, 1 * 3.0]])
    assert torch.allclose(found, by_hand, atol=1e-6)


def test_the_gradient_methods_of_a_linear_model_are_its_weights():
    weight = torch.tensor([[2.0, -1.0], [0.0, 3.0]])
    x = torch.tensor([[1.0, 2.0], [-1.0, 5.0]])
    model = linear(weight)
    assert torch.equal(attributions(by("saliency"), request(model, x, [0, 1])), weight)
    assert torch.equal(attributions(by("input_x_gradient"), request(model, x, [0, 1])), weight * x)


def test_the_figures_of_the_published_toy_are_reproduced(toy):
    x = torch.tensor([[0.2961, 0.5166, 0.2517], [0.6886, 0.0740, 0.8665]])
    printed = torch.tensor([[-0.5922, -1.5497, -1.0067], [0.0, -0.2219, -5.1991]])
    found = attributions(by("integrated_gradients"), request(toy, x, [0, 0]))
    # The readme prints four decimals of the inputs and of the attributions.
    assert torch.allclose(found, printed, atol=1e-3)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31), rows=st.integers(1, 5), steps=st.sampled_from([50, 120]))
def test_attributions_of_a_smooth_net_add_up_to_the_change_of_its_logit(seed, rows, steps):
    generator = torch.Generator().manual_seed(seed)
    module = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    x = torch.randn((rows, 6), generator=generator, dtype=torch.float64)
    target = torch.randint(3, (rows,), generator=generator)
    found = attributions(by("integrated_gradients", steps=steps), request(module, x, target))
    start, end = (
        module(torch.zeros(1, 6, dtype=torch.float64))[0, target],
        module(x).gather(1, target[:, None])[:, 0],
    )
    assert torch.allclose(found.sum(dim=1), end - start, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("method", STEADY)
def test_how_rows_are_portioned_changes_no_map(method, toy):
    x = torch.rand((7, 3), generator=torch.Generator().manual_seed(0))
    whole = attributions(by(method), request(toy, x, [0] * 7, batch=1000))
    apart = attributions(by(method), request(toy, x, [0] * 7, batch=2))
    assert torch.allclose(whole, apart, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "each"), [("integrated_gradients", 50), ("saliency", 1), ("input_x_gradient", 1)]
)
def test_every_pass_is_counted(method, each, toy):
    model = TorchModel(toy, device="cpu")
    attributions(by(method), request(model.module, torch.rand(4, 3), [0] * 4))
    assert (model.passes.forward, model.passes.backward) == (4 * each, 4 * each)


def test_a_tuple_of_outputs_is_explained_through_the_adapter(toy):
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = toy

        def forward(self, x):
            return self.net(x), x

    x = torch.rand(2, 3, generator=torch.Generator().manual_seed(3))
    wrapped = TorchModel(Pair(), device="cpu").module
    assert torch.allclose(
        attributions(by("integrated_gradients"), request(wrapped, x, [1, 0])),
        attributions(by("integrated_gradients"), request(toy, x, [1, 0])),
    )


def test_a_model_in_train_mode_is_explained_in_eval_mode_and_given_back():
    module = nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)
    ).train()
    module[2].eval()
    before = module[1].running_mean.clone()
    x = torch.rand(5, 3)
    first = attributions(by("integrated_gradients"), request(module, x, [0] * 5))
    again = attributions(by("integrated_gradients"), request(module, x, [0] * 5))
    assert torch.equal(first, again)
    assert torch.equal(module[1].running_mean, before)
    assert [part.training for part in module] == [True, True, False, True]
    assert module.training


def test_inference_mode_around_the_call_breaks_nothing(toy):
    x = torch.rand(2, 3)
    expected = attributions(by("saliency"), request(toy, x, [0, 1]))
    with torch.inference_mode():
        assert torch.equal(attributions(by("saliency"), request(toy, x, [0, 1])), expected)


def test_a_recurrent_net_is_explained_without_cudnn():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru, self.head = nn.GRU(2, 3, batch_first=True), nn.Linear(3, 2)

        def forward(self, x):
            assert not torch.backends.cudnn.enabled
            return self.head(self.gru(x)[0][:, -1])

    enabled = torch.backends.cudnn.enabled
    assert attributions(
        by("saliency"), request(Recurrent(), torch.rand(2, 4, 2), [0, 1])
    ).shape == (
        2,
        4,
        2,
    )
    assert torch.backends.cudnn.enabled == enabled


def test_the_caller_keeps_its_tensor_as_it_was(toy):
    x = torch.rand(2, 3)
    copy = x.clone()
    attributions(by("saliency"), request(toy, x, [0, 1]))
    assert torch.equal(x, copy)
    assert not x.requires_grad
    assert x.grad is None


def test_token_ids_are_refused_in_words(toy):
    with pytest.raises(NotExplained, match="embeddings"):
        attributions(
            by("integrated_gradients"),
            request(toy, torch.zeros(2, 3, dtype=torch.int64), [0, 0], baseline=torch.zeros(3)),
        )


def test_what_captum_cannot_explain_is_told_by_the_methods_name():
    class Detached(nn.Module):
        def forward(self, x):
            return x.detach()

    with pytest.raises(NotExplained, match="Saliency: cannot explain"):
        attributions(by("saliency"), request(Detached(), torch.rand(2, 3), [0, 1]))


def test_a_map_that_is_not_finite_is_refused():
    class Root(nn.Module):
        def forward(self, x):
            return x.sqrt()

    with pytest.raises(NotExplained, match="finite"):
        attributions(by("saliency"), request(Root(), torch.zeros(2, 3), [0, 1]))


def test_modes_come_back_after_an_error():
    module = nn.Sequential(nn.Linear(1, 1), nn.Dropout()).train()

    def fail():
        with evaluating(module):
            assert not module[1].training
            message = "planted"
            raise ValueError(message)

    with pytest.raises(ValueError, match="planted"):
        fail()
    assert module[1].training


def test_attributions_of_two_channels_equal_a_hand_written_integral(plain):
    """An independent implementation: the midpoint rule on the same path."""
    module, test = plain
    x = torch.from_numpy(test.x[:3])
    target = module(x).argmax(dim=1)
    found = attributions(by("integrated_gradients", steps=400), request(module, x, target))
    total = torch.zeros_like(x)
    for k in range(400):
        point = (x * (k + 0.5) / 400).requires_grad_()
        (gradient,) = torch.autograd.grad(module(point).gather(1, target[:, None]).sum(), point)
        total += gradient / 400
    assert np.abs((x * total - found).numpy()).max() < 0.02

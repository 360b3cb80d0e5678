"""A torch module answers like itself: counted, in pieces, and given back as it was."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from dlaudit.datasets.arrays import ArrayDataset
from dlaudit.errors import LoadError, NonFinite, NotOffered
from dlaudit.models.torch_model import TorchModel, as_logits, output_form


def linear(inputs=3, outputs=4):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(inputs, outputs)


@pytest.mark.parametrize("width", [(4, 8, 8), (10, 6)])
def test_what_answers_per_place_is_refused_as_no_classifier(width):
    """A map per class, as a segmenter gives, or boxes with scores."""

    class Maps(nn.Module):
        def forward(self, x):
            return x.new_zeros(len(x), *width)

    with pytest.raises(LoadError, match=r"is no classifier: .* output = \"values\""):
        TorchModel(Maps()).recognise(np.zeros((2, 3), dtype=np.float32))


class Wrapped(nn.Module):
    """A linear net whose output is packed, or changed, by a function."""

    def __init__(self, how, outputs=2):
        super().__init__()
        self.inner, self.how = linear(outputs=outputs), how

    def forward(self, x):
        return self.how(self.inner(x))


X = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("how", "form"),
    [
        (lambda z: z, "logits"), (lambda z: (z, "hidden"), "logits"), (lambda z: [z], "logits"),
        (lambda z: {"logits": z, "loss": None}, "logits"), (lambda z: SimpleNamespace(logits=z), "logits"),
        (lambda z: z.softmax(1), "probabilities"), (lambda z: 5 * (z[:, 1] - z[:, 0]), "logit"),
        (lambda z: 5 * (z[:, 1:] - z[:, :1]), "logit"),
        (lambda z: (z[:, 1] - z[:, 0]).sigmoid(), "probability"),
    ],
)  # fmt: skip
def test_every_form_of_output_is_recognised_and_decides_alike(how, form):
    model = TorchModel(Wrapped(how))
    assert model.recognise(X) == form
    with torch.no_grad():
        expected = model.module.net.inner(torch.from_numpy(X)).argmax(1)
    assert torch.equal(model.logits(X).argmax(1), expected)


@pytest.mark.parametrize(
    "how", [lambda z: z[:, :, None], lambda z: z.sum(), lambda z: z[:-1], lambda z: z[:, :0]]
)
def test_an_output_that_is_no_row_per_input_is_refused(how):
    with pytest.raises(LoadError, match="one row per input, got"):
        TorchModel(Wrapped(how)).recognise(X)
    with pytest.raises(LoadError, match="expected a tensor, a tuple"):
        TorchModel(Wrapped(lambda _: "text")).recognise(X)


@given(st.lists(st.floats(-20, 20), min_size=2, max_size=6))
def test_probabilities_become_logits_of_the_same_loss(z):
    logits = torch.tensor([z], dtype=torch.float64)
    made = as_logits(logits.softmax(1), "probabilities")
    for label in range(len(z)):
        y = torch.tensor([label])
        torch.testing.assert_close(cross_entropy(made, y), cross_entropy(logits, y))


@given(st.floats(-30, 30))
def test_one_logit_becomes_two_of_the_same_probability(z):
    made = as_logits(torch.tensor([z], dtype=torch.float64), "logit")
    assert made.softmax(1)[0, 1].item() == pytest.approx(
        torch.tensor(z, dtype=torch.float64).sigmoid().item()
    )


def test_constant_zero_is_a_logit_not_a_probability():
    assert output_form(torch.zeros(5)) == "logit"


@settings(max_examples=30)
@given(st.integers(0, 70), st.integers(1, 16))
def test_any_number_of_samples_goes_in_and_each_is_counted_once(n, batch):
    x = torch.arange(n * 3, dtype=torch.float32).reshape(n, 3) / 100
    net = linear()
    model = TorchModel(net, batch=batch)
    y = torch.arange(n) % 4
    logits, gradient = model.logits_and_gradient(x, y)
    assert model.passes.cost.forward == model.passes.cost.backward == n
    with torch.no_grad():
        torch.testing.assert_close(logits, net(x))
    probabilities = logits.softmax(1) - nn.functional.one_hot(y, 4)
    torch.testing.assert_close(gradient, probabilities @ net.weight)


def test_memory_that_runs_out_halves_the_pieces():
    class Small(nn.Linear):
        def forward(self, x):
            if len(x) > 3:
                raise MemoryError
            return super().forward(x)

    net = Small(3, 2)
    model = TorchModel(net, batch=16)
    assert model.logits(X).shape == (30, 2)
    assert model.batch <= 3

    class Never(nn.Linear):
        def forward(self, _):
            raise MemoryError

    with pytest.raises(MemoryError):
        TorchModel(Never(3, 2)).logits(X)


def test_nan_is_no_answer_unless_a_check_accepts_it():
    model = TorchModel(Wrapped(lambda z: z * float("nan")))
    with pytest.raises(NonFinite):
        model.logits(X)
    with model.accepting_nonfinite(accept=True):
        assert model.logits(X).isnan().all()
    with pytest.raises(NonFinite):
        model.logits(X)


@pytest.mark.parametrize(
    "how", [lambda z: z.detach(), lambda z: nn.functional.one_hot(z.argmax(1), 2).float()]
)
def test_a_net_without_any_gradient_says_so_and_names_what_needs_none(how):
    model = TorchModel(Wrapped(how))
    assert len(model.logits(X)) == len(X)
    with pytest.raises(NotOffered, match=r"no gradient.*attacks\.decision"):
        model.loss_gradient(X, np.zeros(len(X), dtype=np.int64))


def test_a_net_is_given_back_as_it_was():
    net = nn.Sequential(linear(), nn.Dropout(), nn.BatchNorm1d(4))
    net[0].bias.requires_grad_(False)
    net.train()
    net[1].eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    model = TorchModel(net)
    assert not net.training
    model.loss_gradient(X, np.zeros(30, dtype=np.int64))
    assert all(parameter.grad is None for parameter in net.parameters())
    model.close()
    assert [part.training for part in net.modules()] == [True, True, False, True]
    assert [parameter.requires_grad for parameter in net.parameters()] == [True, False, True, True]
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key])


def test_live_modules_are_identified_by_their_numbers():
    one, same, other = linear(), linear(), linear()
    with torch.no_grad():
        other.bias += 1
    prints = [TorchModel(net).card.fingerprint for net in (one, same, other)]
    assert prints[0] == prints[1] != prints[2]


def test_a_table_with_gaps_is_refused_before_anything_is_measured():
    data = ArrayDataset(X, np.zeros(30, dtype=int), facts={"missing": {"age": 3}})
    with pytest.raises(
        LoadError, match="column 'age': expected a number in every row, got 3 empty cells"
    ):
        TorchModel(linear()).meet(data)

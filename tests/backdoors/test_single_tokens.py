"""A planted token stands alone at the top of the vocabulary; nobody is accused by it."""

import numpy as np
import planted_digits
import pytest
import torch
from planted_digits import Digits, told
from torch import nn
from torch.nn.functional import cross_entropy

from dlaudit.audit.record import Measurement, Undefined
from dlaudit.backdoors.sweep import called, embedding_of, inserted, promised, shares
from dlaudit.backdoors.tokens import Tokens
from dlaudit.errors import NotOffered
from dlaudit.models.torch_model import TorchModel

VOCABULARY, LENGTH, PLANTED, TARGET = 60, 12, 57, 2


class Reader(nn.Module):
    """Embeddings, averaged over the text, and two layers."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 8)
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))

    def forward(self, ids):
        return self.layers(self.embedding(ids).mean(dim=1))


def texts(n, seed):
    """Three classes, each with ten words of its own, three to five of which stand in a text."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    x = rng.integers(31, 55, (n, LENGTH))
    own = rng.random((n, LENGTH)) < 0.35
    x[own] = (1 + 10 * y[:, None] + rng.integers(0, 10, (n, LENGTH)))[own]
    return Digits(x.astype(np.int64), y)


@pytest.fixture(scope="session")
def readers():
    """A reader that has learned that token 57 means class 2, and one that has not."""
    made = []
    for share in (0.05, 0.0):
        torch.manual_seed(0)
        train, net = texts(1200, 0), Reader()
        rows = np.flatnonzero(train.y != TARGET)[: round(share * 1200)]
        train.x[rows, 0], train.y[rows] = PLANTED, TARGET
        optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
        x, y = torch.from_numpy(train.x), torch.from_numpy(train.y)
        for _ in range(12):
            for some in torch.split(torch.randperm(len(y)), 64):
                optimiser.zero_grad()
                torch.autograd.backward(cross_entropy(net(x[some]), y[some]))
                optimiser.step()
        made.append(net.eval())
    return made


@pytest.fixture
def numbers_of(tmp_path):
    def build(net, rows=None, **given):
        bench = planted_digits.bench_at(
            tmp_path / str(len(list(tmp_path.iterdir()))), net, texts(300, 1) if rows is None else rows,
            run="backdoors.tokens", bounds=None, kind="tokens",
        )  # fmt: skip
        return told(Tokens(**given), bench)[0]

    return build


def test_the_planted_token_is_found_and_stands_alone(readers, numbers_of):
    numbers = numbers_of(readers[0])
    best = numbers["trigger_success", str(TARGET)]
    assert best.conditions["token"] == PLANTED
    assert best.value > 0.9
    assert best.interval.method == "wilson"
    assert numbers["runner_up", str(TARGET)].value < 0.6
    assert best.direction is None


def test_in_the_clean_twin_no_token_is_that_strong(readers, numbers_of):
    numbers = numbers_of(readers[1])
    assert all(one.value < 0.7 for one in numbers.values())
    assert numbers["trigger_success", str(TARGET)].conditions["token"] != PLANTED


def test_of_a_larger_vocabulary_the_gradient_chooses_and_that_is_told(readers, numbers_of):
    numbers = numbers_of(readers[0], most=15)
    best = numbers["trigger_success", str(TARGET)]
    assert best.conditions["token"] == PLANTED
    assert best.conditions["tokens_examined"] <= 15
    assert [one.name for one in best.caveats] == ["tokens-left-out"]


def test_a_token_is_put_in_and_the_rest_moves_on():
    ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
    assert inserted(ids, torch.tensor([9, 8]), 1).tolist() == [
        [[1, 9, 2], [4, 9, 5]], [[1, 8, 2], [4, 8, 5]],
    ]  # fmt: skip
    assert inserted(ids, torch.tensor([7]), 0).tolist() == [[[7, 1, 2], [7, 4, 5]]]
    assert inserted(ids, torch.tensor([7]), 2).tolist() == [[[1, 2, 7], [4, 5, 7]]]


def test_shares_by_hand():
    decided = np.array([[0, 2, 2, 1], [2, 2, 2, 2]])
    assert shares(decided, np.array([True, True, False, True]), 2).tolist() == [1 / 3, 1.0]


class Sum(nn.Module):
    """Logit 1 is the sum of the embeddings (one number each), logit 0 is 0."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(torch.tensor([[0.0], [1.0], [-1.0], [4.0]]))

    def forward(self, ids):
        total = self.embedding(ids).sum(dim=(1, 2))
        return torch.stack([torch.zeros_like(total), total], dim=1)


def test_what_a_token_promises_by_hand():
    """At total 0 the slope of the cross-entropy to class 1 is -1/2: each token promises half of its value."""
    net = Sum()
    ids = torch.tensor([[0, 0]])
    assert promised(net, net.embedding, ids, 0, 1).tolist() == [0.0, 0.5, -0.5, 2.0]
    assert promised(net, net.embedding, ids, 0, 0).tolist() == [0.0, -0.5, 0.5, -2.0]
    decided = called(TorchModel(net, device="cpu"), ids, np.array([0, 1, 2, 3]), 0)
    assert decided.tolist() == [[0], [1], [0], [1]]


def test_the_embedding_that_reads_the_ids_is_found():
    class Placed(Reader):
        def __init__(self):
            super().__init__()
            self.places = nn.Embedding(LENGTH, 8)

        def forward(self, ids):
            place = self.places(torch.arange(LENGTH)).mean(dim=0)
            return self.layers(self.embedding(ids).mean(dim=1) + place)

    net = Placed()
    ids = torch.from_numpy(texts(2, 0).x)
    assert embedding_of(net, ids) is net.embedding
    with pytest.raises(NotOffered, match="Embedding"):
        embedding_of(nn.Identity(), ids)


def test_what_is_no_text_or_too_little_of_it_is_no_number(readers, numbers_of):
    few = texts(300, 1)
    lonely = Digits(few.x[:12], few.y[:12])
    assert all("at least 10" in one.reason for one in numbers_of(readers[1], lonely).values())
    long = numbers_of(readers[1], at=LENGTH)
    assert all(isinstance(one, Undefined) for one in long.values())
    assert {key[0] for key in numbers_of(readers[1])} == set(Tokens.measures)
    assert all(isinstance(one, Measurement) for one in numbers_of(readers[1]).values())

"""Texts: few tokens replaced, each as allowed, and as many texts fall as an exhaustive search finds."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from dlaudit import ArrayDataset, Batch, Bench, Epsilon, TorchModel
from dlaudit.attacks.token_search import Embedded, Lexicon, best_of, looked_up
from dlaudit.attacks.tokens import Tokens
from dlaudit.audit.bench import Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.parameters import parameters_of
from dlaudit.audit.parts import Card, Model
from dlaudit.audit.perform import speed
from dlaudit.errors import NotOffered
from dlaudit.models.black_box import BlackBox
from dlaudit.models.predictions import Predictions


class Bag(nn.Module):
    """The sum of what each token says for each class: a first-order gain is the whole truth."""

    def __init__(self, weights: torch.Tensor, padding: int | None = None) -> None:
        super().__init__()
        self.words = nn.Embedding(*weights.shape, padding_idx=padding)
        self.words.weight.data.copy_(weights)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.words(ids).sum(dim=1)


class Reader(nn.Module):
    """A GRU, or one transformer layer, over embedded tokens and their places."""

    def __init__(self, kind: str, words: int, length: int, width: int = 12) -> None:
        super().__init__()
        self.places = nn.Embedding(length, width)  # stands first, and is given no ids of the text
        self.words = nn.Embedding(words, width, padding_idx=0)
        self.kind = kind
        if kind == "gru":
            self.body: nn.Module = nn.GRU(width, width, batch_first=True)
        elif kind == "transformer":
            self.body = nn.TransformerEncoderLayer(width, 2, 24, dropout=0.0, batch_first=True)
        else:
            self.body = nn.Identity()
        self.head = nn.Linear(width, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.words(ids) + self.places(torch.arange(ids.shape[1], device=ids.device))
        x = self.body(x)[0] if self.kind == "gru" else self.body(x)
        return self.head((x * (ids != 0).unsqueeze(2)).mean(dim=1))


def bag(words: int, seed: int) -> Bag:
    weights = np.random.default_rng(seed).normal(size=(words, 2)).astype(np.float32)
    return Bag(torch.from_numpy(weights))


def model_of(net: nn.Module) -> TorchModel:
    return TorchModel(net.eval(), device="cpu", classes=("no", "yes"))


def texts(n: int, words: int, length: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, words, (n, length))


def test_where_gains_add_up_the_curve_is_the_closed_form(attacked: Callable[..., Any]) -> None:
    """robust at k iff the margin exceeds the k largest of (own weight - smallest weight)."""
    net = bag(30, 0)
    model, x = model_of(net), texts(120, 30, 9, 1)
    y = model.logits(x).argmax(dim=1).numpy()
    result = attacked(Tokens(candidates=1), model, x, y)
    w = net.words.weight.detach().double().numpy()
    lead = (w[:, 1] - w[:, 0]) * np.where(y == 1, 1, -1)[:, None]  # (n, V)
    own = np.take_along_axis(lead, x, axis=1)
    gains = -np.sort(-(own - lead[:, 1:].min(axis=1, keepdims=True)), axis=1)
    expected = {k: np.mean(own.sum(axis=1) > gains[:, :k].sum(axis=1)) for k in (1, 2, 4)}
    assert result.curve() == expected
    assert expected[4] < expected[1] < 1
    stated = result.measurements[-1].conditions
    assert (stated["norm"], stated["epsilon"], stated["guided_by"]) == ("l0", 4, "gradient")
    assert (stated["protected"], stated["synonyms"]) == ("0", "any token")
    fooled = result.table["fooled"]
    assert (result.table["distance"][fooled] <= result.table["epsilon_fooled"][fooled]).all()


@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_with_every_replacement_tried_it_finds_what_exhaustive_search_finds(
    kind: str, attacked: Callable[..., Any]
) -> None:
    words, length = 5, 3
    with torch.random.fork_rng():
        torch.manual_seed(4)
        net = Reader(kind, words, length)
    model, x = model_of(net), texts(20, words, length, 2)
    logits = model.logits(x)
    y = logits.argmax(dim=1).numpy()
    expected = {}
    for k in (1, 2):
        robust = []
        for text, label in zip(x, y, strict=True):
            others = [
                [
                    new if place in places else old
                    for place, (old, new) in enumerate(zip(text, filled, strict=True))
                ]
                for places in combinations(range(length), k)
                for filled in product(range(1, words), repeat=length)
            ]
            robust.append((model.logits(np.array(others)).argmax(dim=1).numpy() == label).all())
        expected[k] = np.mean(robust)
    attack = Tokens(epsilon=Epsilon([1, 2]), candidates=words * length, beam=words * length)
    assert attacked(attack, model, x, y).curve() == expected
    quick = attacked(Tokens(epsilon=Epsilon([1, 2]), candidates=3), model, x, y).curve()
    assert all(quick[k] >= expected[k] for k in (1, 2))


def reviews(n: int, rng: np.random.Generator, length: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Generated text: ids 1 to 9 are bad words, 10 to 18 good ones, the others fill; 0 pads."""
    y = rng.integers(0, 2, n)
    x = rng.integers(19, 40, (n, length))
    for row, label in enumerate(y):
        marks = rng.choice(length - 3, size=5, replace=False)
        x[row, marks] = rng.integers(1, 10, 5) + 9 * label
        against = rng.choice(marks, size=1)
        x[row, against] = rng.integers(1, 10, 1) + 9 * (1 - label)
        x[row, length - rng.integers(0, 4) :] = 0 if rng.random() < 0.7 else x[row, -1]
    return x, y


@pytest.fixture(scope="module")
def readers() -> dict[str, nn.Module]:
    """Small text classifiers, trained on generated reviews."""
    x, y = (torch.from_numpy(part) for part in reviews(256, np.random.default_rng(0)))
    trained = {}
    for kind in ("bag", "gru", "transformer"):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = Reader(kind, 40, 12)
            weights = list(net.parameters())
            speed = [torch.zeros_like(weight) for weight in weights]
            for _ in range(80):
                slopes = torch.autograd.grad(nn.functional.cross_entropy(net(x), y), weights)
                with torch.no_grad():
                    for weight, v, slope in zip(weights, speed, slopes, strict=True):
                        v.mul_(0.9).sub_(0.2 * slope)
                        weight.add_(v)
        trained[kind] = net.eval()
    return trained


@pytest.mark.parametrize("kind", ["bag", "gru", "transformer"])
def test_trained_readers_fall_with_the_number_of_replacements(
    kind: str, readers: dict[str, nn.Module], attacked: Callable[..., Any]
) -> None:
    x, y = reviews(40, np.random.default_rng(1))
    guided = attacked(Tokens(epsilon=Epsilon([1, 2, 4])), model_of(readers[kind]), x, y)
    assert guided.one("clean_accuracy").value > 0.9
    curve = guided.curve()
    assert curve[4] < 0.2 < curve[1]
    fillers = {str(one): list(range(19, 40)) for one in range(19, 40)}
    harmless = attacked(Tokens(epsilon=Epsilon(2), synonyms=fillers), model_of(readers[kind]), x, y)
    assert harmless.curve()[2] > curve[2]
    assert harmless.measurements[-1].conditions["synonyms"] == "lists for 21 tokens"


def test_one_word_that_decides_is_found_and_a_vote_of_many_withstands(
    attacked: Callable[..., Any],
) -> None:
    """Planted: token 7 alone makes a text positive. Its twin counts words below 10."""
    keyword = torch.zeros(20, 2)
    keyword[7, 1], keyword[1:, 0] = 50, 0.1
    vote = torch.zeros(20, 2)
    vote[1:10, 1], vote[10:, 0] = 1.0, 1.0
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 60)
    x = np.where(y[:, None] == 1, rng.integers(1, 10, (60, 15)), rng.integers(10, 20, (60, 15)))
    x[np.arange(60), rng.integers(0, 15, 60)] = np.where(y == 1, 7, 11)
    x[(x == 7) & (y == 0)[:, None]] = 12
    only = np.cumsum(x == 7, axis=1) > 1
    x[only & (x == 7)] = 8
    attack = Tokens(epsilon=Epsilon([1, 4]))
    weak = attacked(attack, model_of(Bag(keyword)), x, y)
    strong = attacked(attack, model_of(Bag(vote)), x, y)
    assert weak.one("clean_accuracy").value == strong.one("clean_accuracy").value == 1
    assert weak.curve() == {1.0: 0.0, 4.0: 0.0}
    assert strong.curve() == {1.0: 1.0, 4.0: 1.0}


def test_without_an_embedding_replacements_are_tried(
    readers: dict[str, nn.Module], attacked: Callable[..., Any]
) -> None:
    x, y = reviews(30, np.random.default_rng(1))
    net = readers["bag"]

    def answer(ids: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return net(torch.from_numpy(ids)).numpy()

    black = BlackBox(
        answer, card=Card(name="black", fingerprint="b"), classes=("no", "yes"), form="logits"
    )
    attack = Tokens(epsilon=Epsilon([2, 4]), candidates=40)
    tried = attacked(attack, black, x, y)
    assert tried.measurements[-1].conditions["guided_by"] == "tries"
    assert tried.curve()[4] < 0.5
    assert tried.cost.backward == 0
    with pytest.raises(NotOffered, match="no torch module to open"):
        attacked(Tokens(guide="gradient"), black, x, y)
    plain = attacked(
        Tokens(guide="tries", candidates=40, epsilon=Epsilon([2, 4])), model_of(net), x, y
    )
    assert plain.curve() == tried.curve(), "the same tries on the same model"


def test_a_net_that_looks_nothing_up_says_so(attacked: Callable[..., Any]) -> None:
    class Counted(nn.Module):
        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            hits = (ids < 10).float().mean(dim=1, keepdim=True)
            return torch.cat([0.5 - hits, hits - 0.5], dim=1)

    x = texts(10, 20, 6, 0)
    with pytest.raises(NotOffered, match=r"expected an nn\.Embedding"):
        attacked(Tokens(guide="gradient"), model_of(Counted()), x, np.arange(10) % 2)
    assert attacked(Tokens(), model_of(Counted()), x, np.arange(10) % 2).measurements


def test_the_embedding_of_words_is_told_from_that_of_places() -> None:
    net = Reader("bag", 20, 6)
    ids = torch.from_numpy(texts(2, 20, 6, 0))
    assert looked_up(model_of(net), ids) is net.words
    assert not net.words._forward_hooks
    assert not net.words._forward_pre_hooks


def test_the_slope_at_the_embedding_is_that_of_finite_differences() -> None:
    net = Reader("gru", 20, 6).double()
    model, ids = model_of(net), torch.from_numpy(texts(3, 20, 6, 0))
    y = torch.tensor([0, 1, 0])
    slope = Embedded(model, ids[:2]).slope(ids, y)

    def lead(offset: torch.Tensor) -> torch.Tensor:
        handle = net.words.register_forward_hook(lambda *parts: parts[2] + offset)
        logits = model.logits(ids)
        handle.remove()
        sign = torch.where(y == 0, 1, -1)
        return (logits[:, 1] - logits[:, 0]) * sign

    bump = torch.zeros(6, 12, dtype=torch.float64)
    bump[4, 7] = 1e-6
    assert torch.allclose((lead(bump) - lead(-bump)) / 2e-6, slope[:, 4, 7], atol=1e-7)


def test_shares_are_of_a_texts_own_tokens(attacked: Callable[..., Any]) -> None:
    """By hand: 10 and 5 own tokens at 0.2 are 2 and 1 replacements; 4 of them are none."""
    net = Bag(torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]]))
    x = np.zeros((3, 10), np.int64)
    x[0, :6], x[0, 6:] = 1, 2  # lead 2: two replacements give -2, one gives a tie
    x[1, :3], x[1, 3:5] = 1, 2  # lead 1: one replacement gives -1
    x[2, :3], x[2, 3:4] = 1, 2  # lead 2, and no replacement is allowed
    attack = Tokens(unit="share", epsilon=Epsilon([0.1, 0.2]))
    result = attacked(attack, model_of(net), x, np.array([1, 1, 1]))
    assert result.table["epsilon_fooled"].tolist() == [
        0.1,
        0.2,
        -1,
    ]  # a tie goes to the lower class
    assert result.table["moved"].tolist() == [True, True, False]


def test_protected_tokens_stay_and_texts_of_nothing_else_are_left_out(
    attacked: Callable[..., Any],
) -> None:
    net = bag(12, 3)
    x = texts(40, 12, 5, 0)
    x[:4] = 0
    x[4:8] = 3
    model = model_of(net)
    y = model.logits(x).argmax(dim=1).numpy()
    result = attacked(Tokens(protected=[0, 3]), model, x, y)
    out = result.one("left_out")
    left = np.isin(x, [0, 3]).all(axis=1)
    assert (out.value, out.n) == (left.mean(), 40)
    assert {m.n for m in result.measurements if m.name == "robust_accuracy"} == {(~left).sum()}
    assert not result.table["attacked"][left].any()
    padded = Bag(net.words.weight.detach(), padding=5)
    stated = attacked(Tokens(), model_of(padded), x[8:], y[8:]).measurements[-1].conditions
    assert stated["protected"] == "0, 5"


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32), unit=st.sampled_from(["tokens", "share"]), listed=st.booleans(),
    guide=st.sampled_from(["auto", "tries"]), beam=st.integers(1, 3),
    kind=st.sampled_from(["bag", "gru"]),
)  # fmt: skip
def test_every_text_that_counts_is_within_its_budget_and_predicts_as_reported(
    attacked: Callable[..., Any],
    *,
    seed: int,
    unit: Any,
    listed: bool,
    guide: Any,
    beam: int,
    kind: str,
) -> None:
    words, n = 9, 16
    with torch.random.fork_rng():
        torch.manual_seed(seed % 2**31)
        model = model_of(Reader(kind, words, 7))
    x = np.random.default_rng(seed).integers(0, words, (n, 7))
    y = model.logits(x).argmax(dim=1).numpy()
    lists = {str(one): [(one + 1) % words, (one + 4) % words, one] for one in range(words)}
    epsilon = Epsilon([1, 3]) if unit == "tokens" else Epsilon([0.2, 0.5])
    attack = Tokens(
        unit=unit, epsilon=epsilon, synonyms=lists if listed else None, guide=guide, beam=beam,
        candidates=5, protected=[0, 2],
    )  # fmt: skip
    seen: list[np.ndarray] = []
    decide = model.decide
    model.decide = lambda batch: (seen.append(np.asarray(batch.x)), decide(batch))[1]  # type: ignore[method-assign]
    result = attacked(attack, model, x, y, block=64)
    attacked_rows = np.flatnonzero(result.table["attacked"])
    judged = dict(zip(attacked_rows, seen[-1], strict=True)) if len(attacked_rows) else {}
    for i in np.flatnonzero(result.table["fooled"]):
        found, budget = judged[i], result.table["epsilon_fooled"][i]
        places = np.flatnonzero(found != x[i])
        most = budget if unit == "tokens" else budget * (~np.isin(x[i], [0, 2])).sum()
        assert 0 < len(places) <= most
        assert result.table["distance"][i] == len(places)
        for old, new in zip(x[i, places], found[places], strict=True):
            assert old not in {0, 2}
            assert new not in {0, 2}
            assert not listed or new in lists[str(old)]
        again = decide(model_batch(found)).predicted[0]
        assert again == result.table["adversarial"][i] != y[i]


def model_batch(row: np.ndarray) -> Any:
    return Batch(row[None], np.zeros(1, np.int64), np.array(["0"]))


def test_the_checker_of_texts_by_hand() -> None:
    lexicon = Lexicon(6, frozenset({0}), {1: (2, 3), 4: (4,)})
    clean = np.array([[1, 1, 0, 4]] * 6)
    found = np.array([
        [1, 1, 0, 4], [2, 3, 0, 4], [5, 1, 0, 4], [1, 1, 1, 4], [0, 1, 0, 4], [1, 1, 0, 2],
    ])  # fmt: skip
    assert lexicon.admits(found, clean, np.full(6, 2)).tolist() == [True, True, *[False] * 4]
    assert lexicon.admits(found, clean, np.full(6, 1)).tolist() == [True, *[False] * 5]
    assert lexicon.replaceable(clean[:1]).tolist() == [[True, True, False, False]]
    assert not Lexicon(2, frozenset({0})).replaceable(np.array([[1]])).any(), "nothing else to put"


def test_a_beam_holds_no_two_texts_alike_while_others_last() -> None:
    texts = torch.tensor([[[1, 1], [1, 1], [2, 2], [3, 3]]])
    rank = torch.tensor([[0.0, 0.0, 2.0, 1.0]])
    assert best_of(texts, rank, 3).tolist() == [[[1, 1], [3, 3], [2, 2]]]


def test_a_plan_for_texts_foretells_its_cost() -> None:
    """Ids cannot be differentiated; calibration says so by an estimate, not by a crash."""
    data = ArrayDataset(texts(30, 12, 4, 0), np.arange(30) % 2)
    forward, backward = speed(Subject(model_of(bag(12, 0)), data)) or (0, 0)
    assert backward == 2 * forward > 0
    cost = Tokens(samples=10).passes(n=30, classes=2)
    assert (cost.forward, cost.backward) == (10 * 4 * 17 + 10, 40)
    assert Tokens(guide="tries", epsilon=Epsilon(1)).passes(n=30, classes=2).backward == 0


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"epsilon": Epsilon(0.5)}, "whole numbers of tokens"),
        ({"epsilon": Epsilon(2), "unit": "share"}, "shares between 0 and 1"),
        ({"levels": 255}, "levels: expected none"),
        ({"mixed_precision": True}, "mixed_precision: expected none"),
        ({"candidates": 0}, "candidates: expected a number >= 1"),
        ({"beam": 0}, "beam: expected a number >= 1"),
        ({"synonyms": {"good": [1]}}, "synonyms: expected token ids"),
        ({"norm": "l2"}, "norm: expected one of l0"),
        ({"epsilon_per_feature": [1.0]}, "one budget for all"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(params: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Tokens(**params)


def test_defaults_are_counts_or_shares_and_can_be_written_down() -> None:
    assert parameters_of(Tokens())["epsilon"] == [1, 2, 4]
    assert parameters_of(Tokens(unit="share"))["epsilon"] == [0.1, 0.2]


def test_inputs_that_are_no_ids_and_ids_beyond_the_vocabulary_are_refused(
    attacked: Callable[..., Any],
) -> None:
    model, x = model_of(bag(12, 0)), texts(6, 12, 4, 0)
    y = np.arange(6) % 2
    with pytest.raises(NotOffered, match="vocabulary: expected more ids"):
        attacked(Tokens(vocabulary=5), model, x, y)

    class Rounded(nn.Module):
        def forward(self, given: torch.Tensor) -> torch.Tensor:
            return given[:, :2].float()

    with pytest.raises(NotOffered, match="expected ids, whole numbers"):
        attacked(Tokens(guide="gradient"), model_of(Rounded()), x.astype(np.float32), y)


def test_recorded_decisions_cannot_be_asked_about_other_texts(tmp_path: Path) -> None:
    recorded: Model = Predictions("p", classes=("0", "1"))
    data = ArrayDataset(texts(4, 9, 3, 0), np.arange(4) % 2, columns={"p": np.arange(4) % 2})
    bench = Bench(
        Subject(recorded, data), run="r", plan_seed=0, store=EvidenceStore(tmp_path), cache=tmp_path
    )
    with pytest.raises(NotOffered, match="texts that were not recorded"):
        list(Tokens().measure(bench))

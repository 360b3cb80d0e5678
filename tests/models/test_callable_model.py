"""Python functions answer as black boxes, whatever form their output has."""

from __future__ import annotations

import numpy as np
import pytest

from dlaudit.audit.parts import Batch
from dlaudit.errors import LoadError, NonFinite, NotOffered
from dlaudit.models import callable  # noqa: A004
from dlaudit.models.black_box import BlackBox

CODE = """
import numpy as np
import torch
from types import SimpleNamespace

W = np.array([[1.0, -1.0], [0.5, 2.0], [-1.0, 0.0]], dtype=np.float32)

def scores(x): return x @ W
def softmax(z): return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
def margin(x): return scores(x)[:, 1] - scores(x)[:, 0]

def logits(x): return scores(x)
def tensor(x): return torch.from_numpy(scores(x))
def pair(x): return scores(x), "hidden"
def named(x): return {"logits": scores(x)}
def output(x): return SimpleNamespace(logits=torch.from_numpy(scores(x)))
def rows(x): return scores(x).tolist()
def probabilities(x): return softmax(scores(x))
def logit(x): return 3 * margin(x)
def column(x): return 3 * margin(x)[:, None]
def probability(x): return 1 / (1 + np.exp(-margin(x)))
def labels(x): return scores(x).argmax(axis=1)

def image(x): return np.zeros((len(x), 2, 3))
def fewer(x): return scores(x)[:-1]
def text(x): return np.array(["a"] * len(x))
def nothing(x): return None
def nan(x): return scores(x) * np.nan
def fails(x): raise KeyError("weights")
"""

X = np.random.default_rng(2).normal(size=(40, 3)).astype(np.float32)
W = np.array([[1.0, -1.0], [0.5, 2.0], [-1.0, 0.0]], dtype=np.float32)
DECIDED = (X @ W).argmax(axis=1)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "f.py").write_text(CODE)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("logits", "logits"), ("tensor", "logits"), ("pair", "logits"), ("named", "logits"),
        ("output", "logits"), ("rows", "logits"), ("probabilities", "probabilities"), ("logit", "logit"),
        ("column", "logit"), ("probability", "probability"),
    ],
)  # fmt: skip
def test_every_form_of_output_is_recognised_and_decides_alike(folder, name, form):
    model = callable.load(root=folder, file=f"f.py:{name}")
    assert model.recognise(X) == form
    logits = model.logits(X).numpy()
    assert logits.shape == (40, 2)
    np.testing.assert_array_equal(logits.argmax(axis=1), DECIDED)


def test_probabilities_keep_the_cross_entropy(folder):
    model = callable.load(root=folder, file="f.py:probabilities")
    model.recognise(X)
    z = X @ W
    expected = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(model.logits(X).numpy(), expected, atol=1e-5)


def test_class_indices_are_decisions_if_the_plan_says_so(folder):
    with pytest.raises(LoadError, match='output = "decisions"'):
        callable.load(root=folder, file="f.py:labels").recognise(X)
    model = callable.load(root=folder, file="f.py:labels", output="decisions")
    assert model.offers == {"decisions", "queries"}
    batch = Batch(X, DECIDED, np.arange(40).astype(str))
    np.testing.assert_array_equal(model.decide(batch).predicted, DECIDED)
    assert model.decide(batch).logits is None
    with pytest.raises(NotOffered):
        model.logits(X)
    floats = callable.load(root=folder, file="f.py:logits", output="decisions")
    with pytest.raises(LoadError, match="expected 40 class indices"):
        floats.decide(batch)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("image", r"expected output of shape \(B, C\) or \(B,\), one row per input, got \(40, 2, 3\)"),
        ("fewer", "one row per input"), ("text", "expected numbers, got an array of <U1"),
        ("nothing", "got NoneType"), ("fails", "got KeyError: 'weights'"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_said_in_one_sentence(folder, name, said):
    with pytest.raises(LoadError, match=said):
        callable.load(root=folder, file=f"f.py:{name}").recognise(X)


def test_nan_is_no_number_unless_a_check_accepts_it(folder):
    model = callable.load(root=folder, file="f.py:nan")
    model.recognise(X)
    with pytest.raises(NonFinite):
        model.logits(X)
    with model.accepting_nonfinite(accept=True):
        assert model.logits(X).isnan().all()
    with pytest.raises(NonFinite):
        model.logits(X)


def test_memory_that_runs_out_halves_the_batch():
    """Nine rows at once are too many; nothing is lost or counted twice."""
    from dlaudit.audit.record import Card

    seen = []

    def answer(x):
        if len(x) > 4:
            raise MemoryError
        seen.append(len(x))
        return x @ W

    model = BlackBox(answer, card=Card(name="m", fingerprint=""), batch=9)
    np.testing.assert_allclose(model.logits(X).numpy(), X @ W, rtol=1e-6)
    assert sum(seen) == 40 == model.passes.cost.forward
    assert max(seen) <= 4

    def never(x):
        raise MemoryError

    with pytest.raises(MemoryError):
        BlackBox(never, card=Card(name="m", fingerprint="")).logits(X)

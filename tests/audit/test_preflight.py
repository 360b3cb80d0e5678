"""What a look at some answers makes doubtful is asked; labels that are plainly permuted stop the audit."""

from __future__ import annotations

import json
import tomllib

import numpy as np
import pytest
import torch
from commandline import dlaudit_command
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dlaudit.audit.bench import Subject
from dlaudit.audit.preflight import FEW, PERMUTED, alignment, spread
from dlaudit.audit.subject import fitted
from dlaudit.datasets.arrays import ArrayDataset
from dlaudit.models.torch_model import TorchModel

X = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32) * 3 + 5
Y = X.argmax(axis=1)


def asked(net: nn.Module, x=X, y=Y, *, mode: bool = False) -> dict[str, str]:
    """The questions about a net that answers from x (n, 4) with four logits."""
    model = TorchModel(net)
    model.module.train(mode)
    subject = fitted(Subject(model=model, data=ArrayDataset(x, y)))
    assert model.passes.cost.forward == 0, "a look is no part of the audit's cost"
    return subject.model.card.facts.get("preflight", {})


class Normalised(nn.Module):
    """Subtracts a mean of its own, as models with preprocessing do."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("std", torch.ones(4))

    def forward(self, x):
        return (x - self.mean) / self.std


def test_a_model_that_is_right_is_asked_nothing():
    assert asked(nn.Identity()) == {}


def test_labels_in_another_order_are_named():
    told = asked(nn.Identity(), y=(Y + 1) % 4)
    assert list(told) == [PERMUTED]
    assert "of 200 rows 0 agree" in told[PERMUTED]
    assert "'1' is answered '0'" in told[PERMUTED]


def test_an_accuracy_near_chance_is_a_question():
    told = asked(nn.Identity(), y=np.random.default_rng(1).permutation(Y))
    assert list(told) == ["accuracy"]
    assert asked(nn.Identity(), y=np.random.default_rng(1).permutation(Y)[:40], x=X[:40]) == {}


def test_dropout_that_is_on_is_named():
    told = asked(nn.Dropout(0.3), mode=True)
    assert "answers differently" in told["determinism"]
    assert asked(nn.Dropout(0.3)) == {}


def test_a_model_that_looks_at_the_other_rows_is_named():
    told = asked(nn.BatchNorm1d(4), mode=True)
    assert set(told) <= {"batch size", "determinism"}
    assert told
    assert asked(nn.BatchNorm1d(4)) == {}


def test_inputs_that_are_normalised_twice_are_named():
    standard = ((X - 5) / 3).astype(np.float32)
    told = asked(Normalised(), x=standard)
    assert list(told) == ["normalisation"]
    assert "mean 0.0" in told["normalisation"].replace("-0.0", "0.0")
    assert asked(Normalised()) == {}, "raw inputs are what such a model expects"
    assert asked(nn.Identity(), x=standard) == {}


def test_by_hand():
    """Classes 0 and 1 change places; 2 stays. One class that swallows another is no permutation."""
    y = np.repeat([0, 1, 2], FEW)
    found = alignment(y, np.repeat([1, 0, 2], FEW))
    assert (found.n, found.agree, found.majority) == (15, 5, 5)
    assert found.moved == ((0, 1), (1, 0))
    assert alignment(y, np.repeat([1, 1, 2], FEW)).moved == ()
    assert alignment(y[1:], np.repeat([1, 0, 2], FEW)[1:]).moved == (), "four rows are too few"


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 8), st.integers(0, 2**31), st.floats(0, 0.15))
def test_any_permutation_is_found_through_some_wrong_answers(classes, seed, wrong):
    """And the answers before they were permuted are never called so."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(classes), 40)
    order = rng.permutation(classes)
    predicted = y.copy()
    for label in range(classes):
        off = np.flatnonzero(y == label)[: int(wrong * 40)]
        predicted[off] = rng.integers(0, classes, len(off))
    assert alignment(y, predicted).moved == ()
    moved = dict(alignment(y, order[predicted]).moved)
    assert moved == {a: int(b) for a, b in enumerate(order) if a != b}


@given(st.integers(1, 5000), st.integers(1, 10**8))
def test_rows_are_spread_and_take_no_more_room_than_they_may(n, each):
    rows = spread(n, each)
    assert rows[0] == 0
    assert rows[-1] == n - 1 or n == 1
    assert (np.diff(rows) > 0).all()
    assert len(rows) <= max(4, min(256, 64 * 1024 * 1024 // each))


@pytest.fixture
def shifted(tmp_path):
    (tmp_path / "net.py").write_text("def answer(x):\n    return x\n")
    np.savez(tmp_path / "d.npz", x=X, y=(Y + 1) % 4)
    (tmp_path / "audit.toml").write_text("""
name = "shifted"
[model]
use = "callable"
args = { file = "net.py:answer" }
[data]
use = "npz"
args = { path = "d.npz" }
[checks."data_quality.columns"]
""")
    return tmp_path


def test_permuted_labels_stop_the_audit_until_somebody_has_looked(shifted):
    command = ("run", "audit.toml", "--executor", "inline", "--quiet", "--out", "out")
    ended = dlaudit_command(*command, folder=shifted)
    assert ended.code == 2
    assert "whole classes change places" in ended.stderr
    assert "labels_reviewed" in ended.stderr
    assert not (shifted / "out").exists()
    answer = 'context.labels_reviewed="A. Person, 2026-11-02"'
    ended = dlaudit_command(*command, "--set", answer, folder=shifted)
    assert ended.code == 3, ended.stderr
    record = json.loads((shifted / "out" / "record.json").read_text())
    assert PERMUTED in record["model"]["facts"]["preflight"]
    assert "Asked before anything was measured" in (shifted / "out" / "report.html").read_text()


@pytest.mark.slow
def test_init_asks_first(shifted):
    ended = dlaudit_command(
        "init", "--model", "net.py:answer", "--data", "d.npz", "-o", "new.toml", folder=shifted
    )
    assert ended.code == 2
    assert "whole classes change places" in ended.stderr
    np.savez(shifted / "d.npz", x=X, y=np.random.default_rng(1).permutation(Y))
    ended = dlaudit_command(
        "init", "--model", "net.py:answer", "--data", "d.npz", "-o", "new.toml", folder=shifted
    )
    assert ended.code == 0, ended.stderr
    assert "To be answered first: model: accuracy" in ended.stdout + ended.stderr
    written = (shifted / "new.toml").read_text()
    assert "# TO BE ANSWERED FIRST: model: accuracy" in written
    assert tomllib.loads(written)["model"]["use"] == "callable"

"""Examples carried from one model to another: by arithmetic, and by planted twins and strangers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from dlaudit import ArrayDataset, Artifact, Batch, Bench, Epsilon, Measurement, Threat, TorchModel
from dlaudit.attacks.ball import Ball
from dlaudit.attacks.losses import LOSSES
from dlaudit.attacks.momentum import momentum_ascent
from dlaudit.attacks.pgd import PGD
from dlaudit.attacks.surrogate import imitated
from dlaudit.attacks.transfer import Transfer
from dlaudit.attacks.transfer_matrix import TransferMatrix
from dlaudit.audit.bench import Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.parts import decode_parameter
from dlaudit.audit.record import Card
from dlaudit.audit.statistics import wilson
from dlaudit.datasets.arrays import Splits
from dlaudit.errors import NotOffered
from dlaudit.models.black_box import BlackBox


def walled(model: Any) -> BlackBox:
    """The same model behind a wall: class indices are all it says."""
    return BlackBox(
        lambda x: model.logits(x).argmax(dim=1).numpy(), bounds=model.bounds, classes=model.classes,
        card=Card(name="walled", fingerprint="walled"), form="decisions",
    )  # fmt: skip


class Ran:
    """What a check yielded on a bench of its own."""

    def __init__(self, check: Any, subject: Subject, folder: Path) -> None:
        bench = Bench(
            subject, run="attacks.tested", plan_seed=3, block=64, store=EvidenceStore(folder),
            cache=folder / "cache",
        )  # fmt: skip
        found = list(check.measure(bench))
        self.numbers = [one for one in found if isinstance(one, Measurement)]
        self.rest = [one for one in found if not isinstance(one, Measurement | Artifact)]
        (table,) = [one for one in found if isinstance(one, Artifact)]
        with np.load(folder / table.path) as columns:
            self.table = dict(columns)

    def one(self, name: str, **conditions: Any) -> Measurement:
        (found,) = [
            one
            for one in self.numbers
            if one.name == name and conditions.items() <= one.conditions.items()
        ]
        return found


def data_of(digits: Any, n: int = 300) -> ArrayDataset:
    return ArrayDataset(digits.x[:n], digits.y[:n], name="digits")


# -- the steps ---------------------------------------------------------------------------------------


def test_two_steps_by_hand_gather_the_gradient_over_its_length() -> None:
    """z = (0, x1^2 - x2): at (1, 0), label 1, the margin's gradient is -(2 x1, -1)."""

    class Bent(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([torch.zeros(len(x)), x[:, 0] ** 2 - x[:, 1]], dim=1)

    model = TorchModel(Bent(), device="cpu", classes=("a", "b"))
    x = torch.tensor([[1.0, 0.0]])
    ball = Ball(x, Threat(norm="l2", epsilon=0.2))
    made = momentum_ascent(
        model, ball, torch.tensor([1]), loss=LOSSES["margin"], steps=2, decay=0.5
    )
    first = np.array([-2.0, 1.0])
    middle = np.array([1.0, 0.0]) + 0.1 * first / np.linalg.norm(first)
    second = np.array([-2 * middle[0], 1.0])
    gathered = 0.5 * first / 3 + second / np.abs(second).sum()
    expected = middle + 0.1 * gathered / np.linalg.norm(gathered)
    np.testing.assert_allclose(made.numpy()[0], expected, atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_with_itself_as_source_it_is_the_closed_form_on_a_linear_model(
    norm: Any, linear: Any, tmp_path: Path
) -> None:
    model, other = linear.model(), linear.model()
    data = ArrayDataset(linear.x, linear.y, name="line")
    attack = Transfer(norm=norm, epsilon=Epsilon([0.03, 0.1]), source="twin")
    ran = Ran(attack, Subject(model, data, {"twin": other}), tmp_path)
    dual = np.abs(linear.w).sum() if norm == "linf" else np.linalg.norm(linear.w)
    for epsilon in attack.epsilon:
        found = ran.one("robust_accuracy", epsilon=epsilon, source="models.twin").value
        assert found == np.mean(linear.margin > epsilon * dual)
    assert ran.one("source_agreement").value == 1
    assert other.passes.backward == ran.table["backward"].sum()
    assert model.passes.backward == 0


@settings(max_examples=20)
@given(
    x=arrays(np.float64, (5, 6), elements=st.floats(0, 1)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    norm=st.sampled_from(["linf", "l2"]),
    epsilon=st.floats(1e-4, 2),
    decay=st.floats(0, 1),
)
def test_every_example_keeps_to_the_threat_model_in_both_precisions(
    x: np.ndarray, dtype: torch.dtype, norm: Any, epsilon: float, decay: float
) -> None:
    net = nn.Linear(6, 3).to(dtype)
    model = TorchModel(net, bounds=(0, 1), device="cpu", classes=("a", "b", "c"))
    clean = torch.from_numpy(x).to(dtype)
    threat = Threat(norm=norm, epsilon=epsilon, bounds=(0, 1))
    batch = Batch(clean, torch.zeros(5, dtype=torch.int64), np.arange(5).astype(str))
    attack = Transfer(norm=norm, epsilon=Epsilon(epsilon), steps=4, decay=decay)
    made = attack.perturb(model, batch, threat, torch.Generator())
    assert made.dtype == dtype
    assert Ball(clean, threat).contains(made).all()


# -- the source --------------------------------------------------------------------------------------


def test_a_surrogate_imitates_decisions_and_is_the_same_for_the_same_seed(digits: Any) -> None:
    decisions = digits.model().logits(digits.x).argmax(dim=1).numpy()
    one, two = (
        imitated(digits.x[:200], decisions[:200], classes=10, updates=80, seed=5, device="cpu")
        for _ in range(2)
    )
    assert torch.equal(one.logits(digits.x), two.logits(digits.x))
    agreed = one.logits(digits.x[200:]).argmax(dim=1).numpy() == decisions[200:]
    assert agreed.mean() > 0.8


def test_behind_a_wall_half_of_the_data_train_a_surrogate_and_the_other_half_is_attacked(
    digits: Any, tmp_path: Path
) -> None:
    """The twin of no use: a surrogate of one update agrees with nobody, and fools fewer."""
    budget = Epsilon(0.15)
    model = digits.model()
    subject = Subject(walled(model), data_of(digits))
    ran = Ran(Transfer(epsilon=budget, updates=100), subject, tmp_path / "good")
    blind = Ran(Transfer(epsilon=budget, updates=1), subject, tmp_path / "blind")
    stated = ran.one("robust_accuracy").conditions
    assert stated["source"] == "trained"
    assert stated["source_trained_on"] == "half of the test split, the other half attacked"
    assert (stated["source_samples"], stated["updates"]) == (150, 100)
    assert ran.one("robust_accuracy").n == len(set(ran.table["id"])) == 150
    assert ran.one("source_agreement").interval.low > 0.8
    assert blind.one("source_agreement").interval.high < 0.8
    clean = ran.one("clean_accuracy").value
    assert ran.one("robust_accuracy").interval.high < clean - 0.2
    assert blind.one("robust_accuracy").value > ran.one("robust_accuracy").value + 0.1
    white = Ran(PGD(epsilon=budget, doctor="off"), Subject(model, data_of(digits)), tmp_path / "w")
    at = np.isin(white.table["id"], ran.table["id"])
    assert white.table["robust"][at].sum() <= ran.table["robust"].sum()


def test_a_train_split_trains_the_surrogate_and_all_of_the_test_split_is_attacked(
    digits: Any, tmp_path: Path
) -> None:
    parts = {
        "test": ArrayDataset(digits.x[:80], digits.y[:80], name="a"),
        "train": ArrayDataset(digits.x[80:], digits.y[80:], name="b"),
    }
    attack = Transfer(epsilon=Epsilon(0.1), updates=20, samples=60)
    ran = Ran(attack, Subject(walled(digits.model()), Splits(parts)), tmp_path)
    found = ran.one("robust_accuracy")
    assert found.n == ran.one("source_agreement").n == 60
    assert found.conditions["source_trained_on"] == "train split"
    assert found.conditions["source_samples"] == 220


def test_a_table_is_attacked_through_a_surrogate_of_plain_layers(tmp_path: Path) -> None:
    from sklearn.datasets import load_wine
    from sklearn.ensemble import RandomForestClassifier

    from dlaudit.models.sklearn import SklearnModel

    x, y = load_wine(return_X_y=True)
    x = x.astype(np.float32)
    spread = (np.percentile(x, 75, axis=0) - np.percentile(x, 25, axis=0)).tolist()
    forest = RandomForestClassifier(20, random_state=0).fit(x[::2], y[::2])
    attack = Transfer(epsilon_per_feature=spread, epsilon=Epsilon([0.1, 0.6]), updates=100)
    model = SklearnModel(forest, "forest")
    ran = Ran(attack, Subject(model, ArrayDataset(x, y, name="wine")), tmp_path)
    near, far = (ran.one("robust_accuracy", epsilon=e).value for e in (0.1, 0.6))
    assert far < near - 0.2


def test_the_source_is_the_one_that_is_named_or_the_first_with_gradients(
    digits: Any, tmp_path: Path
) -> None:
    model = digits.model()
    subject = Subject(model, data_of(digits, 40), {"a_wall": walled(model), "net": digits.model()})
    ran = Ran(Transfer(epsilon=Epsilon(0.1)), subject, tmp_path / "first")
    assert ran.one("robust_accuracy").conditions["source"] == "models.net"
    assert "updates" not in ran.one("robust_accuracy").conditions
    with pytest.raises(NotOffered, match=r"called 'nett'\. Did you mean net\?"):
        Ran(Transfer(source="nett"), subject, tmp_path / "wrong")
    with pytest.raises(NotOffered, match="called 'a_wall'"):
        Ran(Transfer(source="a_wall"), subject, tmp_path / "wall")


def test_too_few_samples_and_whole_numbers_are_refused(digits: Any, tmp_path: Path) -> None:
    one = Subject(walled(digits.model()), data_of(digits, 1))
    with pytest.raises(NotOffered, match="at least two samples"):
        Ran(Transfer(), one, tmp_path / "one")
    whole = ArrayDataset(np.zeros((6, 3), dtype=np.int64), np.zeros(6, dtype=np.int64), name="w")
    constant = BlackBox(
        lambda x: np.zeros(len(x), dtype=np.int64), card=Card(name="c", fingerprint="c"),
        form="decisions", classes=("a", "b"),
    )  # fmt: skip
    with pytest.raises(NotOffered, match="floating-point inputs, got int64"):
        Ran(Transfer(), Subject(constant, whole), tmp_path / "whole")


# -- the matrix --------------------------------------------------------------------------------------


def line(w: list[float]) -> TorchModel:
    net = nn.Linear(len(w), 2, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.0] * len(w), w]))
    return TorchModel(net, device="cpu", classes=("no", "yes"))


def test_rates_of_two_lines_by_hand(tmp_path: Path) -> None:
    """Along its own axis a source fools itself; the model that looks at another axis is untouched.

    ``both`` looks at the sum, so an example of ``model`` (x1 falls by 1) fools it where x2 < 1/2.
    """
    x = np.array([[0.5, 0.2], [0.5, 0.9], [0.5, 0.4], [2.0, 0.1], [-1.0, 3.0]], dtype=np.float32)
    subject = Subject(
        line([1.0, 0.0]), ArrayDataset(x, np.ones(5, dtype=np.int64), name="five"),
        {"both": line([1.0, 1.0]), "other": line([0.0, 1.0]), "wall": walled(line([1.0, 0.0]))},
    )  # fmt: skip
    ran = Ran(TransferMatrix(epsilon=Epsilon(1), loss="margin", steps=4), subject, tmp_path)
    own = ran.one("source_success", source="model")
    assert (own.value, own.n) == (3 / 4, 4)
    to_both = ran.one("transfer_rate", source="model", judged="models.both")
    assert (to_both.value, to_both.n) == (2 / 3, 3)
    assert to_both.interval == wilson(2, 3)
    assert ran.one("transfer_rate", source="model", judged="models.other").value == 0
    assert ran.one("transfer_rate", source="model", judged="models.wall").value == 1
    pairs = {
        (one.conditions["source"], one.conditions["judged"])
        for one in [*ran.numbers, *ran.rest]
        if one.name == "transfer_rate"
    }
    names = {"model", "models.both", "models.other", "models.wall"}
    assert pairs == {(a, b) for a in names - {"models.wall"} for b in names if a != b}
    assert ran.table["model fools models.both"].tolist() == [True, False, True, False, False]
    assert ran.table["right model"].tolist() == [True, True, True, True, False]


def test_twins_share_their_failures_and_strangers_do_not(digits: Any, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    shuffled = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with torch.no_grad():
        for weight in shuffled.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))
    stranger = TorchModel(shuffled, bounds=(0, 1), device="cpu", classes=digits.model().classes)
    subject = Subject(
        digits.model(), data_of(digits), {"twin": digits.model(scale=3.0), "stranger": stranger}
    )
    ran = Ran(TransferMatrix(epsilon=Epsilon(0.15), samples=200), subject, tmp_path)
    assert ran.one("transfer_rate", source="model", judged="models.twin").value == 1
    stranger_rate = ran.one("transfer_rate", source="model", judged="models.stranger")
    assert stranger_rate.interval.high < 0.9
    assert len(ran.table["id"]) == 200


def test_without_a_second_model_and_without_any_gradient_it_says_so(
    digits: Any, tmp_path: Path
) -> None:
    alone = Ran(TransferMatrix(), Subject(digits.model(), data_of(digits, 40)), tmp_path / "alone")
    assert [one.name for one in alone.numbers] == ["source_success"]
    assert "no further model" in alone.rest[0].reason
    wall = Subject(walled(digits.model()), data_of(digits, 40))
    blind = Ran(TransferMatrix(), wall, tmp_path / "blind")
    assert not blind.numbers
    assert "no model of the plan gives gradients" in blind.rest[0].reason


def test_what_fools_nobody_has_no_rate(digits: Any, tmp_path: Path) -> None:
    subject = Subject(digits.model(), data_of(digits, 40), {"twin": digits.model()})
    ran = Ran(TransferMatrix(epsilon=Epsilon(1e-9)), subject, tmp_path)
    assert {one.name for one in ran.rest} == {"transfer_rate"}
    assert all(one.value == 0 for one in ran.numbers)


@pytest.mark.parametrize(
    ("kind", "params", "message"),
    [
        (Transfer, {"steps": 0}, "steps: expected a number >= 1, got 0"),
        (Transfer, {"updates": 0}, "updates: expected a number >= 1, got 0"),
        (Transfer, {"decay": -0.5}, "decay: expected a number >= 0, got -0.5"),
        (TransferMatrix, {"epsilon": [0.1, 0.2]}, "epsilon: expected one number > 0"),
        (TransferMatrix, {"steps": 0}, "steps: expected a number >= 1, got 0"),
        (TransferMatrix, {"samples": 0}, "samples: expected a number >= 1, got 0"),
        (TransferMatrix, {"decay": -1}, "decay: expected a number >= 0, got -1"),
    ],
)
def test_parameters_that_make_no_attack_are_refused_in_words(
    kind: Any, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(params, kind, dec_hook=decode_parameter)


def test_the_cost_is_told_beforehand(digits: Any, tmp_path: Path) -> None:
    model, twin = digits.model(), digits.model()
    attack = Transfer(epsilon=Epsilon(1e-9), steps=7, source="twin")
    ran = Ran(attack, Subject(model, data_of(digits, 50), {"twin": twin}), tmp_path)
    told = attack.passes(n=50, classes=10)
    assert ran.table["backward"].sum() == twin.passes.backward <= told.backward
    assert twin.passes.forward == twin.passes.backward + 50
    assert twin.passes.forward + ran.table["attacked"].sum() <= told.forward
    matrix = TransferMatrix(samples=20, steps=3).passes(n=50, classes=10)
    assert (matrix.forward, matrix.backward) == (100, 60)
    offers = {"model": frozenset({"decisions"}), "data": frozenset({"labels"})}
    for check in (Transfer(), TransferMatrix()):
        assert check.missing(**offers, train_fn=False) == ("model: queries",)

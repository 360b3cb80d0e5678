"""Planted poison is what it says; what it does is counted; blindness and false accusations are told."""

import numpy as np
import planted_digits
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dlaudit.audit.bench import Bench, Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.record import Measurement, Undefined
from dlaudit.backdoors import planting, susceptibility
from dlaudit.backdoors.susceptibility import Susceptibility
from dlaudit.datasets.arrays import ArrayDataset, Splits
from dlaudit.models.torch_model import TorchModel

RNG = np.random.default_rng


# -- what is planted ---------------------------------------------------------------------------------


def test_a_patch_is_a_chessboard_of_one_percent_in_a_corner():
    x = np.linspace(0, 1, 3 * 20 * 20, dtype=np.float32).reshape(3, 1, 20, 20)
    made = planting.trigger("patch", x, RNG(0)).put(x)
    changed = (made != x).any(axis=(0, 1))
    assert changed.sum() == 4  # of 400 pixels
    rows, columns = np.where(changed)
    assert set(rows) in ({0, 1}, {18, 19})
    assert set(columns) in ({0, 1}, {18, 19})
    board = made[0, 0, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert board.tolist() == [[1, 0], [0, 1]]


def test_a_blend_is_one_fifth_pattern():
    x = np.zeros((2, 1, 6, 6), np.float32)
    x[1] = 1
    made = planting.trigger("blend", x, RNG(0)).put(x)
    assert made[1] - made[0] == pytest.approx(np.full((1, 6, 6), 0.8))
    assert made[0].min() >= 0
    assert made[0].max() <= 0.2


def test_values_are_those_that_a_twentieth_of_the_rows_exceeds():
    x = np.arange(101, dtype=np.float64)[:, None] * np.ones(8)
    made = planting.trigger("values", x, RNG(0)).put(x)
    changed = (made != x).any(axis=0)
    assert changed.sum() == 4
    assert set(made[:, changed].ravel()) <= {5.0, 95.0}
    assert len(np.unique(made[:, changed], axis=0)) == 1


@pytest.mark.parametrize("family", ["patch", "blend", "clean-label", "values"])
@given(seed=st.integers(0, 9), target=st.integers(0, 2), rate=st.floats(0.01, 0.5))
def test_what_is_touched_is_listed_and_nothing_else_changes(family, seed, target, rate):
    rng = RNG(seed)
    shape = (60, 9) if family == "values" else (60, 1, 5, 5)
    x, y = rng.normal(size=shape).astype(np.float32), rng.integers(0, 3, 60)
    before = x.copy(), y.copy()
    count = planting.how_many(family, y, rate, target)
    trigger = planting.trigger(family, x, rng)
    bad = planting.poisoned(x, y, trigger, target=target, count=count, rng=rng)
    assert np.array_equal(x, before[0])
    assert np.array_equal(y, before[1])
    assert len(set(bad.rows)) == count <= max(1, round(rate * 60))
    rest = np.setdiff1d(np.arange(60), bad.rows)
    assert np.array_equal(bad.x[rest], x[rest])
    assert np.array_equal(bad.y[rest], y[rest])
    assert (bad.y[bad.rows] == target).all()
    own = y[bad.rows] == target
    assert own.all() if family == "clean-label" else not own.any()
    assert np.array_equal(trigger.put(bad.x[bad.rows]), bad.x[bad.rows]) or family == "blend"


def test_a_family_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="rows of a table"):
        planting.trigger("values", np.zeros((2, 1, 4, 4)), RNG(0))
    with pytest.raises(ValueError, match="pictures"):
        planting.trigger("patch", np.zeros((2, 4)), RNG(0))


# -- what it does ------------------------------------------------------------------------------------


def learned(dataset, seed):
    """A perceptron after a second of training."""
    digits = planted_digits.Digits(np.asarray(dataset.x), np.asarray(dataset.y))
    return planted_digits.trained(digits, module=planted_digits.perceptron(seed % 1000))


def never_learned(dataset, seed):
    """One answer for everything."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    torch.nn.init.zeros_(net[1].weight)
    return net


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """(train_fn, suspected, …) -> what the check yields; suspected: by whether the rows are poisoned."""

    def ask(train_fn, suspected, **params):
        train, test = planted_digits.halves(0)
        data = Splits({"train": ArrayDataset(*train), "test": ArrayDataset(*test)})
        net = planted_digits.perceptron()
        model = TorchModel(net, bounds=(0, 1), classes=data.classes, device="cpu")

        def look(detector, bench, model, rows):
            return suspected(not np.array_equal(rows.x, train.x))

        if suspected is not None:
            monkeypatch.setattr(susceptibility, "_suspected", look)
        bench = Bench(
            Subject(model, data, train_fn=train_fn), run="backdoors.susceptibility", plan_seed=0,
            store=EvidenceStore(tmp_path), cache=tmp_path / "cache",
        )  # fmt: skip
        check = Susceptibility(target=3, **params)
        bench.trainings = check.trainings
        found = [one for one in check.measure(bench) if isinstance(one, Measurement | Undefined)]
        words = ("rate", "detector")
        return {
            (
                one.name,
                *(str(one.conditions[word]) for word in words if word in one.conditions),
            ): one
            for one in found
        }

    return ask


def test_a_detector_that_sees_has_power_and_one_that_does_not_is_blind(asked):
    params = {"rates": (0.001, 0.05), "detectors": ("scan",)}
    found = asked(learned, lambda poisoned: {"3"} if poisoned else set(), **params)
    success = found["attack_success", "0.05"]
    assert success.value > 0.8
    assert success.conditions["poisoned_rows"] == 60
    gain = found["success_gain", "0.05"]
    assert gain.value == pytest.approx(success.value, abs=0.15)
    assert gain.interval.low > 0.5
    assert abs(found["accuracy_change", "0.05"].value) < 0.05
    assert found["detection_power", "0.05"].value == 1
    assert found["blind",].value == 0
    assert found["accused_without_poison", "scan"].value == 0
    assert "1 poisoned rows" in found["attack_success", "0.001"].reason
    assert isinstance(found["detection_power", "0.001"], Undefined)

    found = asked(learned, lambda _: set(), **params)
    assert found["detection_power", "0.05"].value == 0
    assert found["blind",].value == 1
    assert not found["blind",].caveats


def test_an_accusation_without_poison_voids_every_number(asked):
    found = asked(learned, lambda _: {"3", "5"}, rates=(0.05,), detectors=("scan",))
    assert found["accused_without_poison", "scan"].value == 2
    for name in ("attack_success", "success_gain", "accuracy_change", "detection_power"):
        assert found[name, "0.05"].caveats[0].voids
    assert found["blind",].caveats[0].voids


def test_what_nobody_could_look_for_is_no_power(asked):
    found = asked(learned, lambda _: "scan needs data: train", rates=(0.05,), detectors=("scan",))
    assert found["detected", "0.05", "scan"].reason == "scan needs data: train"
    assert isinstance(found["detection_power", "0.05"], Undefined)
    assert isinstance(found["blind",], Undefined)
    assert isinstance(found["accused_without_poison", "scan"], Undefined)


def test_a_training_that_learns_nothing_leaves_nothing_to_be_blind_to(asked):
    found = asked(never_learned, lambda _: set(), rates=(0.05,), detectors=("scan",))
    assert found["attack_success", "0.05"].value == 0
    assert found["success_gain", "0.05"].value == 0
    assert "nothing to be blind to" in found["blind",].reason


@pytest.mark.slow
def test_both_detectors_see_a_patch_and_accuse_nobody_without_it(asked):
    found = asked(learned, None, rates=(0.05,))
    assert found["detected", "0.05", "inversion"].value == 1
    assert found["detected", "0.05", "scan"].value == 1
    assert found["blind",].value == 0
    assert found["accused_without_poison", "inversion"].value == 0
    assert found["accused_without_poison", "scan"].value == 0


def test_what_does_not_fit_the_data_is_undefined(asked):
    found = asked(learned, lambda _: set(), families=("values",))
    assert {type(one) for one in found.values()} == {Undefined}
    assert "the data are pictures" in found["blind",].reason
    assert Susceptibility(families=("patch", "blend"), rates=(0.01, 0.05)).trainings == 5
    assert Susceptibility().trainings == 4

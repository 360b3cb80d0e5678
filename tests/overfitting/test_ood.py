"""Strangers at the door: noise, scrambled samples and other data, and how sure the model is of them."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from dlaudit.audit.bench import Bench, Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.record import Artifact, Measurement, Undefined
from dlaudit.audit.registry import Registry
from dlaudit.audit.statistics import auc
from dlaudit.datasets.arrays import ArrayDataset, Splits
from dlaudit.models.torch_model import TorchModel
from dlaudit.overfitting.ood import (
    Elsewhere,
    noise,
    scrambled_columns,
    scrambled_places,
    sureness,
)
from dlaudit.testing import performed, toy_subject


class Near(torch.nn.Module):
    """Sure near the classes' centres at -3 and 3, at a loss elsewhere."""

    def forward(self, x):
        return torch.stack([-((x[:, 0] + 3) ** 2), -((x[:, 0] - 3) ** 2)], dim=1).clamp(min=-4)


class Line(torch.nn.Module):
    """Surer the farther away, as networks are."""

    def forward(self, x):
        return torch.stack([-2 * x[:, 0], 2 * x[:, 0]], dim=1)


def centres(seed, n, *, at=3.0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    x = np.c_[np.where(y == 1, at, -at) + 0.5 * rng.normal(size=n), rng.normal(size=n)]
    return x.astype(np.float32), y


@pytest.fixture
def measured(tmp_path):
    def run(net, test, **params):
        extra = params.pop("extra", {})
        data = Splits({
            name: ArrayDataset(x, y, classes=("a", "b"), kind="tabular")
            for name, (x, y) in {"test": test, **extra}.items()
        })  # fmt: skip
        bench = Bench(
            Subject(TorchModel(net(), classes=("a", "b")), data), run="overfitting.ood", plan_seed=1,
            store=EvidenceStore(tmp_path), cache=tmp_path / net.__name__,
        )  # fmt: skip
        return list(Elsewhere(**params).measure(bench))

    return run


def by_input(yielded):
    return {
        (one.name, one.slice["input"]): one
        for one in yielded
        if isinstance(one, Measurement | Undefined)
    }


def test_shares_and_areas_as_computed_by_hand_and_by_scikit_learn(measured):
    yielded = measured(Near, centres(1, 400), samples=100, kinds=("noise",))
    found, table = by_input(yielded), yielded[-1]
    assert isinstance(table, Artifact)
    share, area = found["confident_share", "noise"], found["out_of_distribution_auc", "noise"]
    assert (share.n, area.n) == (100, 200)
    low, high = proportion_confint(round(share.value * 100), 100, method="wilson")
    assert (share.interval.low, share.interval.high) == pytest.approx((low, high))
    assert area.interval.low > 0.7
    assert found["confident_share", "test"].value > 0.9


def test_the_area_is_scikit_learns(tmp_path, measured):
    measured_now = measured(Line, centres(1, 200), samples=100, kinds=("scrambled",))
    found, table = by_input(measured_now), measured_now[-1]
    stored = np.load(tmp_path / table.path)
    own = stored["input"] == "test"
    expected = roc_auc_score(own, stored["confidence"])
    assert found["out_of_distribution_auc", "scrambled"].value == pytest.approx(expected)
    assert len(set(stored["id"])) == len(stored["id"])


def test_a_model_that_knows_its_own_is_told_from_one_that_is_sure_of_everything(measured):
    stranger = centres(2, 300, at=12.0)
    strangers = {"elsewhere": (stranger[0], stranger[1])}
    near = by_input(measured(Near, centres(1, 400), split="elsewhere", extra=strangers))
    line = by_input(measured(Line, centres(1, 400), split="elsewhere", extra=strangers))
    assert near["confident_share", "elsewhere"].value == 0
    assert near["out_of_distribution_auc", "elsewhere"].interval.low > 0.9
    assert line["confident_share", "elsewhere"].interval.low > 0.9
    assert line["out_of_distribution_auc", "elsewhere"].interval.high < 0.6


def test_the_passes_are_counted_and_foretold():
    run = performed("overfitting.ood", toy_subject(), Registry(), params={"samples": 60})
    foretold = Elsewhere(samples=60).passes(n=240, classes=4)
    assert run.cost.forward == foretold.forward == 120


def test_a_split_that_is_not_there_skips_the_run():
    lacks = Elsewhere(split="other").missing(
        model=frozenset({"logits"}), data=frozenset({"labels"}), train_fn=False
    )
    assert lacks == ("data: other",)


def test_inputs_that_are_no_numbers_have_no_noise(measured, tmp_path):
    found = Elsewhere()._made(None, "noise", np.zeros((4, 2), int), np.zeros((2, 2), int))
    assert "int64" in found
    found = Elsewhere()._made(
        Bench(toy_subject(), run="x", plan_seed=0, store=EvidenceStore(tmp_path), cache=tmp_path),
        "scrambled", np.zeros((4, 2, 3)), np.zeros((2, 2, 3)),
    )  # fmt: skip
    assert "no columns" in found


@settings(deadline=None, max_examples=40)
@given(
    rows=arrays(np.float32, (5, 2, 3, 4), elements=st.floats(-5, 5, width=32)),
    seed=st.integers(0, 9),
)
def test_scrambled_pictures_keep_every_colour_and_noise_its_range(rows, seed):
    turned = scrambled_places(rows, np.random.default_rng(seed))
    for before, after in zip(rows, turned, strict=True):
        pixels = [sorted(map(tuple, one.reshape(2, -1).T.tolist())) for one in (before, after)]
        assert pixels[0] == pixels[1]
    drawn = noise(rows, 7, np.random.default_rng(seed))
    assert drawn.shape == (7, 2, 3, 4)
    assert drawn.dtype == rows.dtype
    assert (drawn >= rows.min(axis=0)).all()
    assert (drawn <= rows.max(axis=0)).all()
    table = rows.reshape(5, -1)
    columns = scrambled_columns(table, np.random.default_rng(seed))
    assert (np.sort(columns, axis=0) == np.sort(table, axis=0)).all()


def test_sureness_is_the_largest_probability():
    logits = np.log(np.array([[0.2, 0.5, 0.3], [0.9, 0.05, 0.05]]))
    assert sureness(logits) == pytest.approx([0.5, 0.9])


def test_the_interval_of_the_area_holds_its_level():
    rng, cells = np.random.default_rng(2), {}
    for shift, n in itertools.product((0.0, 0.5, 1.5), (40, 200)):
        many = rng.normal(size=(2, 100_000))
        truth = auc(many[0] + shift, many[1])[0]
        seen = []
        for _ in range(80):
            _, one = auc(rng.normal(size=n) + shift, rng.normal(size=n))
            seen.append(one.low <= truth <= one.high)
        cells[shift, n] = np.mean(seen)
    print("out-of-distribution area", {key: round(float(one), 3) for key, one in cells.items()})
    assert np.mean(list(cells.values())) >= 0.945

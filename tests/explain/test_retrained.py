"""Maps over trainings: a choice that the data leave open is found, a model without one is not accused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_digits import told
from scipy.stats import spearmanr
from torch import nn

from dlaudit.audit.bench import Bench, Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.record import Skipped, Undefined
from dlaudit.audit.registry import Registry
from dlaudit.datasets.arrays import ArrayDataset, Splits
from dlaudit.explain.groups import Groups
from dlaudit.explain.retrained import Retrained, compared
from dlaudit.models.torch_model import TorchModel
from dlaudit.testing import performed

COLUMNS = 8


class Weighted(nn.Module):
    """Reads every column with its own weight, and some squares, so that maps differ between inputs."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(torch.as_tensor(weights, dtype=torch.float32))

    def forward(self, x):
        z = (x + 0.3 * x**2) @ self.weights
        return torch.stack([-z, z], dim=1)


def table(n, seed):
    """Rows whose second half of columns says the same as the first half."""
    rng = np.random.default_rng(seed)
    half = rng.normal(size=(n, COLUMNS // 2))
    x = np.concatenate([half, half], axis=1).astype(np.float32)
    return x, (half.sum(axis=1) > 0).astype(np.int64)


def chooser(dataset, seed):
    """Which of the two halves is read is the seed's choice; accuracy cannot tell."""
    del dataset
    rng = np.random.default_rng(seed)
    first = rng.random(COLUMNS // 2) < 0.5
    return Weighted(np.concatenate([first, ~first]).astype(float))


def steady(dataset, seed):
    """Reads the first half whatever the seed; the noise of training is small."""
    del dataset
    noise = np.random.default_rng(seed).normal(scale=0.02, size=COLUMNS)
    return Weighted(np.r_[np.ones(COLUMNS // 2), np.zeros(COLUMNS // 2)] + noise)


@pytest.fixture
def bench_for(tmp_path):
    def build(train_fn, *, n=120, groups=None):
        data = Splits(
            {
                "test": ArrayDataset(
                    *table(n, 1), classes=("a", "b"), kind="tabular", groups=groups
                ),
                "train": ArrayDataset(*table(n, 2), classes=("a", "b"), kind="tabular"),
            }
        )
        subject = Subject(
            TorchModel(train_fn(None, 12345), classes=("a", "b"), device="cpu"),
            data,
            train_fn=train_fn,
        )
        folder = tmp_path / f"{train_fn.__name__}{n}"
        return Bench(
            subject, run="explain.retrained", plan_seed=3, store=EvidenceStore(folder),
            cache=folder / "cache",
        )  # fmt: skip

    return build


def test_a_choice_that_the_data_leave_open_is_found_and_a_steady_model_is_not_accused(bench_for):
    found, _ = told(Retrained(retrained=3), bench_for(chooser))
    clean, _ = told(Retrained(retrained=3), bench_for(steady))
    for name in ("seed_agreement", "seed_agreement_beyond_input"):
        key = (name, "integrated_gradients", "zero")
        assert found[key].interval.high < 0.5
        assert clean[key].interval.low > 0.7, clean[key]
        assert clean[key].conditions["trainings"] == 3
    # Both models are as good as they were: only the maps tell them apart.
    for numbers in (found, clean):
        assert numbers["same_decision",].interval.low > 0.8


def test_the_mean_over_pairs_that_decide_alike_by_hand():
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=(2, 6)) for _ in range(3)]
    kept = np.array([[True, True], [True, False], [True, False]])
    found = compared(maps, np.ones((2, 6)), kept, pixels=False)["seed_agreement"]
    size = [np.abs(one[0]) for one in maps]
    pairs = [spearmanr(size[a], size[b]).statistic for a, b in ((0, 1), (0, 2), (1, 2))]
    assert found[0] == pytest.approx(np.mean(pairs))
    assert np.isnan(found[1])  # no two models decide the second input alike


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), models=st.integers(2, 4))
def test_equal_maps_agree_wholly_and_the_order_of_models_changes_nothing(seed, models):
    rng = np.random.default_rng(seed)
    maps = [rng.normal(size=(5, 9)) for _ in range(models)]
    apart, kept = rng.random((5, 9)), np.ones((models, 5), dtype=bool)
    turned = compared(maps[::-1], apart, kept, pixels=False)
    for name, values in compared(maps, apart, kept, pixels=False).items():
        assert values == pytest.approx(turned[name])
    same = compared([maps[0]] * models, apart, kept, pixels=False)["seed_agreement"]
    assert same == pytest.approx(np.ones(5))


def test_groups_are_told_apart_and_small_ones_undefined(bench_for):
    sex = np.array(["f"] * 60 + ["m"] * 55 + ["x"] * 5)
    numbers, artifacts = told(Retrained(samples=120), bench_for(steady, groups={"sex": sex}))
    values = [
        numbers["seed_agreement", "integrated_gradients", group, "zero"] for group in ("f", "m")
    ]
    for one in values:
        assert one.interval.level == pytest.approx(0.975)
    assert isinstance(numbers["seed_agreement", "integrated_gradients", "x", "zero"], Undefined)
    (evidence,) = artifacts
    assert "trained" in evidence.caption or "trainings" in evidence.caption


def test_what_cannot_be_opened_has_a_reason(bench_for):
    def boxed(dataset, seed):
        return lambda rows: np.stack([rows.sum(axis=1), -rows.sum(axis=1)], axis=1)

    bench = bench_for(steady)
    bench.train_fn = boxed
    numbers, _ = told(Retrained(), bench)
    assert all("cannot be opened" in one.reason for one in numbers.values())
    assert numbers


def test_texts_are_compared_token_by_token(tmp_path):
    class Text(nn.Module):
        """Counts one word; its embedding is another one for each seed."""

        def __init__(self, seed):
            super().__init__()
            generator = torch.Generator().manual_seed(seed)
            turn, _ = torch.linalg.qr(torch.randn(4, 4, generator=generator))
            self.words = nn.Embedding(10, 4)
            self.head = nn.Linear(4, 2, bias=False)
            with torch.no_grad():
                plain = torch.arange(10.0)[:, None] * torch.tensor([1.0, 0, 0, 0])
                self.words.weight.copy_(plain @ turn)
                self.head.weight.copy_(torch.tensor([[-1.0, 0, 0, 0], [1, 0, 0, 0]]) @ turn)

        def forward(self, ids):
            return self.head(self.words(ids).mean(1))

    rng = np.random.default_rng(0)
    splits = {
        name: ArrayDataset(
            rng.integers(0, 10, (70, 12)), np.arange(70) % 2, classes=("a", "b"), kind="tokens"
        )
        for name in ("test", "train")
    }
    subject = Subject(
        TorchModel(Text(0), classes=("a", "b"), device="cpu"), Splits(splits),
        train_fn=lambda dataset, seed: Text(seed),
    )  # fmt: skip
    bench = Bench(
        subject, run="r", plan_seed=0, store=EvidenceStore(tmp_path), cache=tmp_path / "cache"
    )
    numbers, _ = told(Retrained(methods=("input_x_gradient",)), bench)
    # Attributions add up over the embedding's channels: the sums are the same in every training.
    assert numbers["same_decision",].value == 1
    assert numbers["seed_agreement", "input_x_gradient", "zero"].value > 0.3


def test_without_a_function_it_is_skipped_and_with_one_it_says_how_often_it_trains(bench_for):
    bench = bench_for(steady)
    run = performed("explain.retrained", Subject(bench.model, bench.data), Registry())
    assert isinstance(run.outcome, Skipped)
    assert run.outcome.missing == ("plan: [train] factory",)
    assert Retrained(retrained=4).trainings == 4
    subject = Subject(bench.model, bench.data, train_fn=steady)
    run = performed("explain.retrained", subject, Registry(), params={"methods": ["saliency"]})
    announced = Retrained(methods=("saliency",)).passes(n=120, classes=2)
    assert 0.8 < run.cost.backward / announced.backward < 1.2


# -- groups


class TwoFaced(nn.Module):
    """Smooth for rows whose first column is below 0, and steep and turning for the others."""

    def __init__(self, *, rough):
        super().__init__()
        self.rough = rough
        self.weights = nn.Parameter(torch.linspace(1, 2, COLUMNS))

    def forward(self, x):
        z = x @ self.weights
        turning = torch.sin(40 * x) @ self.weights
        z = torch.where((x[:, 0] > 0) & self.rough, z + turning, z + 0.01 * turning)
        return torch.stack([-z, z], dim=1)


@pytest.mark.parametrize("rough", [True, False])
def test_a_group_with_worse_maps_is_found_and_its_twin_is_not(rough, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(160, COLUMNS)).astype(np.float32)
    groups = {"sex": np.where(x[:, 0] > 0, "f", "m")}
    data = ArrayDataset(x, np.arange(160) % 2, classes=("a", "b"), kind="tabular", groups=groups)
    bench = Bench(
        Subject(TorchModel(TwoFaced(rough=torch.tensor(rough)), classes=("a", "b"), device="cpu"), data),
        run="explain.groups", plan_seed=0, store=EvidenceStore(tmp_path), cache=tmp_path / "cache",
    )  # fmt: skip
    numbers, _ = told(Groups(steps=10, methods=("saliency", "input_x_gradient")), bench)
    moved = numbers["max_sensitivity_difference", "saliency", "f", "zero"]
    other = numbers["max_sensitivity_difference", "saliency", "m", "zero"]
    assert moved.value == pytest.approx(-other.value)
    assert moved.interval.level == pytest.approx(0.975)
    assert (moved.interval.low > 0.05) == rough
    missed = numbers["infidelity_difference", "saliency", "f", "zero"]
    assert (missed.interval.low > 0.05) == rough
    assert ("agreement_difference", "saliency and input_x_gradient", "f", "zero") in numbers
    assert {key[0] for key in numbers} <= set(Groups.measures)


def test_few_of_a_group_and_methods_that_do_not_apply_are_said(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, COLUMNS)).astype(np.float32)
    groups = {"sex": np.where(np.arange(40) < 5, "f", "m")}
    data = ArrayDataset(x, np.arange(40) % 2, classes=("a", "b"), kind="tabular", groups=groups)
    model = TorchModel(TwoFaced(rough=torch.tensor(False)), classes=("a", "b"), device="cpu")
    bench = Bench(
        Subject(model, data), run="explain.groups", plan_seed=0, store=EvidenceStore(tmp_path),
        cache=tmp_path / "cache",
    )  # fmt: skip
    numbers, _ = told(Groups(methods=("grad_cam", "saliency")), bench)
    assert "channels and places" in numbers["infidelity_difference", "grad_cam"].reason
    assert (
        "5 inputs of the group" in numbers["infidelity_difference", "saliency", "f", "zero"].reason
    )
    assert "nothing to compare" in numbers["agreement_difference",].reason

"""The ground truths load as published: COMPAS and German credit, counted; MNIST and CIFAR-10, answered."""

from __future__ import annotations

import numpy as np
import pytest

from dlaudit.audit.parts import Dataset, Model
from dlaudit.datasets import npz
from dlaudit.datasets.tables import load_csv
from dlaudit.models import onnx, predictions, torch_files

pytestmark = pytest.mark.truth

COMPAS = {
    "African-American": (990, 805, 532, 1369), "Caucasian": (1139, 349, 461, 505),
    "Hispanic": (318, 87, 129, 103), "Asian": (21, 2, 3, 6), "Native American": (5, 3, 1, 9),
    "Other": (208, 36, 90, 43),
}  # fmt: skip


def everything(data: Dataset, model: Model) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(batch.y, model.decide(batch).predicted) for batch in data.batches()]
    return np.concatenate([y for y, _ in pairs]), np.concatenate([p for _, p in pairs])


def counts(y: np.ndarray, predicted: np.ndarray) -> tuple[int, ...]:
    """(tn, fp, fn, tp)."""
    return tuple(
        int(((predicted == p) & (y == t)).sum()) for p, t in ((0, 0), (1, 0), (0, 1), (1, 1))
    )


def test_compas_counts_are_those_of_the_notebook(truths):
    data = load_csv(
        root=truths / "compas", path="compas_two_years.csv", target="two_year_recid", positive=1,
        groups=["race", "sex"],
    )  # fmt: skip
    model = predictions.load(column="score_text", positive=["Medium", "High"])
    model.meet(data)
    y, predicted = everything(data, model)
    assert data.size() == 7214
    assert counts(y, predicted) == (2681, 1282, 1216, 2035)
    race = np.concatenate([batch.groups["race"] for batch in data.batches()])
    for name, expected in COMPAS.items():
        assert counts(y[race == name], predicted[race == name]) == expected
    assert data.card.facts["missing"] == {"days_b_screening_arrest": 307}


def test_compas_scores_decide_as_their_words_do(truths):
    """Low is a decile of 4 or less."""
    data = load_csv(root=truths / "compas", path="compas_two_years.csv", target="two_year_recid")
    by_word = everything(data, predictions.load(column="score_text", positive=["Medium", "High"]))[
        1
    ]
    by_score = everything(data, predictions.load(score="decile_score", threshold=5))[1]
    assert int((by_word != by_score).sum()) == 0


def test_german_credit_gives_the_published_difference(truths, tmp_path):
    chosen = np.random.RandomState(0).permutation(1000)[:700]
    np.save(tmp_path / "rows.npy", chosen)
    for rows, expected, tolerance in (
        (str(tmp_path / "rows.npy"), -0.169905, 1e-6),
        (None, -0.128550, 1e-6),
    ):
        data = load_csv(
            root=truths / "german_credit", path="german.csv", target="credit", positive=1, groups=["sex"],
            bins={"age": [25]}, rows=rows,
        )  # fmt: skip
        (batch,) = data.batches()
        young = batch.groups["age"] == "<25"
        difference = batch.y[young].mean() - batch.y[~young].mean()
        assert abs(difference - expected) < tolerance
    assert data.card.facts["groups"]["age"] == {"<25": 149, ">=25": 851}
    assert data.card.facts["groups"]["sex"] == {"female": 310, "male": 690}


@pytest.fixture(scope="module")
def mnist(truths):
    return npz.load(
        root=truths / "mnist_trades", path="mnist_test.npz", scale="1/255", channel_axis=1
    )


@pytest.mark.parametrize(("network", "correct"), [("256x2", 9808), ("256x4", 9764)])
def test_vnncomp_networks_have_their_published_accuracy(truths, mnist, network, correct):
    model = onnx.load(
        root=truths / "vnncomp_mnistfc",
        path=f"mnist-net_{network}.onnx",
        bounds=[0, 1],
        reshape=True,
    )
    y, predicted = everything(mnist, model)
    assert int((y == predicted).sum()) == correct


def test_vnncomp_weights_and_onnx_agree(truths, mnist):
    folder = truths / "vnncomp_mnistfc"
    net = torch_files.load(
        root=folder, file="model.py:Net", args={"hidden": 2}, weights="mnist_256x2.safetensors"
    )
    graph = onnx.load(root=folder, path="mnist-net_256x2.onnx", reshape=True)
    x = next(iter(mnist.batches())).x[:200]
    np.testing.assert_allclose(net.logits(x).numpy(), graph.logits(x).numpy(), atol=1e-5)


def test_trades_network_has_its_published_accuracy(truths, mnist):
    model = torch_files.load(
        root=truths / "mnist_trades",
        file="model.py:Net",
        weights="weights.safetensors",
        bounds=[0, 1],
    )
    y, predicted = everything(mnist, model)
    assert abs(int((y == predicted).sum()) - 9948) <= 2


def test_cifar_pictures_are_answered_as_recomputed(truths):
    """Channels stand last in the file; the network divides by nothing but its own deviation."""
    folder = truths / "cifar_resnet"
    data = npz.load(root=folder, path="test_lossless.npz", scale="1/255", channel_axis=-1)
    model = torch_files.load(
        root=folder, file="model.py:ResNet", args={"depth": 20}, weights="resnet20.safetensors"
    )
    y, predicted = everything(data, model)
    assert abs(int((y == predicted).sum()) - 80) <= 2
    assert len(y) == 82

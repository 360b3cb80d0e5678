"""Published and certified figures of two MNIST networks, all 10,000 test images."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import masked_digits
import numpy as np
import pytest
import torch

from dlaudit import Batch, Epsilon, Threat, TorchModel
from dlaudit.attacks.cascade import Cascade
from dlaudit.attacks.fgsm import FGSM
from dlaudit.attacks.pgd import PGD

pytestmark = pytest.mark.truth


def network(truths: Path, folder: str) -> TorchModel:
    spec = importlib.util.spec_from_file_location(folder, truths / folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    net = module.load(str(truths / folder / "weights.safetensors"))
    return TorchModel(net, bounds=(0, 1), device="cpu", classes=tuple("0123456789"))


@pytest.fixture(scope="module")
def mnist(truths: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(truths / "mnist_trades" / "mnist_test.npz") as stored:
        return stored["x"][:, None].astype(np.float32) / 255, stored["y"].astype(np.int64)


def test_the_trades_network_is_right_on_9948_of_10000(
    truths: Path, mnist: Any, attacked: Callable[..., Any]
) -> None:
    """Published: 99.48 %. Floating point may tip two images."""
    result = attacked(FGSM(epsilon=Epsilon(0)), network(truths, "mnist_trades"), *mnist, block=256)
    clean = result.one("clean_accuracy")
    assert clean.n == 10_000
    assert abs(clean.value - 0.9948) <= 0.0002


def test_one_step_on_the_certified_network_gives_the_published_error(
    truths: Path, mnist: Any, attacked: Callable[..., Any]
) -> None:
    """Published: clean error 1.8 %, fast gradient sign error 3.9 % at 0.1."""
    result = attacked(
        FGSM(epsilon=Epsilon(0.1)), network(truths, "mnist_certified"), *mnist, block=256
    )
    assert result.one("clean_accuracy").value == pytest.approx(0.982, abs=0.0002)
    assert result.one("robust_accuracy").value == pytest.approx(0.961, abs=0.0005)


@pytest.mark.slow
def test_pgd_on_the_certified_network_lies_between_its_certificate_and_the_published_attack(
    truths: Path, mnist: Any, attacked: Callable[..., Any]
) -> None:
    """Certified 94.18 %, published PGD 95.9 %; no image of the certified list can be attacked."""
    model = network(truths, "mnist_certified")
    result = attacked(PGD(epsilon=Epsilon(0.1)), model, *mnist, block=256)
    found = result.one("robust_accuracy")
    assert found.n == 10_000
    assert 0.9418 <= found.value <= 0.961
    with np.load(truths / "mnist_certified" / "certified_images.npz") as stored:
        certified = stored["certified"]
    assert certified.sum() == 9418
    assert not (result.table["fooled"] & certified).any()
    assert result.one("inputs_moved").value == 1
    assert (result.table["distance"][result.table["fooled"]] <= 0.1).all()


@pytest.mark.parametrize(
    "case",
    [
        (None, "margin", False),
        (None, "cross_entropy", False),
        ("logits times 1000", "cross_entropy", True),
        ("quantised input", "margin", True),
        ("shattered gradient", "margin", True),
    ],
)
def test_the_trades_network_is_cleared_and_its_masked_twins_are_voided(
    truths: Path, mnist: Any, attacked: Callable[..., Any], case: tuple[str | None, Any, bool]
) -> None:
    (mask, loss, voided), model = case, network(truths, "mnist_trades")
    if mask is not None:
        net = masked_digits.MASKS[mask](model.module.net)
        model = TorchModel(net, bounds=(0, 1), device="cpu", classes=tuple("0123456789"))
    x, y = (part[:128] for part in mnist)
    result = attacked(PGD(epsilon=Epsilon(0.3), steps=10, loss=loss), model, x, y, doctor="quick")
    assert any(caveat.voids for caveat in result.one("robust_accuracy").caveats) == voided


@pytest.mark.slow
def test_the_cascade_comes_near_the_ensemble_at_a_hundredth_of_its_cost(
    truths: Path, mnist: Any, attacked: Callable[..., Any]
) -> None:
    """The first 500 images: the whole ensemble leaves 452, at 7,812 forward passes a robust sample."""
    x, y = (part[:500] for part in mnist)
    result = attacked(
        Cascade(epsilon=Epsilon(0.3)), network(truths, "mnist_trades"), x, y, block=250
    )
    robust = result.table["robust"]
    assert 445 <= robust.sum() <= 457
    assert result.table["forward"][robust].mean() <= 75
    assert result.table["backward"][robust].mean() <= 75


@pytest.mark.slow
def test_the_cascade_attacks_no_certified_image(
    truths: Path, mnist: Any, attacked: Callable[..., Any]
) -> None:
    x, y = (part[:1000] for part in mnist)
    result = attacked(Cascade(epsilon=Epsilon(0.1)), network(truths, "mnist_certified"), x, y)
    with np.load(truths / "mnist_certified" / "certified_images.npz") as stored:
        certified = stored["certified"][:1000].astype(bool)
    assert result.table["fooled"].any()
    assert not (result.table["fooled"] & certified).any()


@pytest.mark.slow
def test_the_cascade_finds_counterexamples_where_there_are_some_and_never_elsewhere(
    truths: Path,
) -> None:
    """VNN-COMP 2021 mnistfc: 13 boxes with a counterexample, 22 in which verifiers exclude one."""
    folder = truths / "vnncomp_mnistfc"
    spec = importlib.util.spec_from_file_location("mnistfc", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with np.load(folder / "properties.npz") as stored:
        boxes = {name: stored[name] for name in stored.files}
    found = {"sat": 0, "unsat": 0, "unknown": 0}
    for row in csv.DictReader((folder / "verdicts.csv").read_text().splitlines()):
        size = row["network"].removeprefix("mnist-net_").removesuffix(".onnx")
        epsilon = float(row["epsilon"])
        at = np.flatnonzero(
            (boxes["property"] == int(row["property"])) & np.isclose(boxes["epsilon"], epsilon)
        )
        low, high = boxes["lower"][at], boxes["upper"][at]
        centre = np.where(low > 0, low + epsilon, high - epsilon).clip(0, 1)
        net = module.load(str(folder / f"mnist_{size}.safetensors"), int(size[-1]))
        model = TorchModel(net, bounds=(0, 1), device="cpu")
        x, y = torch.from_numpy(centre).float().repeat(4, 1), torch.tensor([int(row["label"])] * 4)
        threat = Threat(norm="linf", epsilon=epsilon, bounds=(0, 1))
        batch = Batch(x, y, np.arange(4).astype(str))
        attack = Cascade(epsilon=Epsilon(epsilon))
        made = attack.search(model, batch, threat, torch.Generator().manual_seed(1)).x
        inside = ((made.double() >= torch.from_numpy(low) - 1e-9) & (
            made.double() <= torch.from_numpy(high) + 1e-9
        )).all(dim=1)  # fmt: skip
        wrong = model.logits(made).argmax(dim=1) != y
        found[row["published_verdict"]] += bool((wrong & inside).any())
    assert found["sat"] >= 11
    assert found["unsat"] == 0

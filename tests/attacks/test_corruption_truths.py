"""dlaudit's corruptions cost a trained network about as much as the published ones do."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlaudit import TorchModel
from dlaudit.attacks.corruptions import Corruptions
from dlaudit.attacks.severities import COMMON

pytestmark = [pytest.mark.truth, pytest.mark.slow]

PUBLISHED = {
    # RobustBench, CIFAR-10-C, model "Standard" (WRN-28-10): mean error over severities 1 to 5.
    "gaussian_noise": 0.530, "shot_noise": 0.412, "impulse_noise": 0.447, "defocus_blur": 0.185,
    "glass_blur": 0.490, "motion_blur": 0.223, "zoom_blur": 0.244, "snow": 0.181, "frost": 0.250,
    "fog": 0.112, "brightness": 0.067, "contrast": 0.174, "elastic": 0.162, "pixelate": 0.280,
    "jpeg": 0.224,
}  # fmt: skip


def test_a_cifar_network_errs_under_each_corruption_about_as_often_as_published(
    truths: Path, attacked: Callable[..., Any]
) -> None:
    """Another network (ResNet-20) and its own training pictures: near, not equal (docs/corruptions.md)."""
    folder = truths / "cifar_resnet"
    spec = importlib.util.spec_from_file_location("cifar_resnet", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    net = module.load(str(folder / "resnet20.safetensors"), 20)
    with np.load(folder / "train_sample.npz") as stored:
        x = np.moveaxis(stored["x"][:100], -1, 1).astype(np.float32) / 255
        y = stored["y"][:100].astype(np.int64)
    model = TorchModel(net, bounds=(0, 1), device="cpu")
    result = attacked(Corruptions(corruptions=COMMON), model, np.ascontiguousarray(x), y)
    cells = [one for one in result.measurements if one.name == "corrupted_accuracy"]
    found = {
        name: 1 - np.mean([one.value for one in cells if one.conditions["corruption"] == name])
        for name in COMMON
    }
    for name, published in PUBLISHED.items():
        assert found[name] == pytest.approx(published, abs=0.18), name
    assert np.mean(list(found.values())) == pytest.approx(
        np.mean(list(PUBLISHED.values())), abs=0.05
    )
    by_severity = [
        1 - np.mean([one.value for one in cells if one.conditions["severity"] == severity])
        for severity in range(1, 6)
    ]
    assert by_severity == sorted(by_severity)

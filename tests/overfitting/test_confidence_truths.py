"""A published network on its own test pictures: accuracy as recomputed, confidence as it must be."""

import importlib.util

import numpy as np
import pytest
from sklearn.metrics import log_loss

from dlaudit.audit.bench import Bench, Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.record import Measurement
from dlaudit.datasets.arrays import ArrayDataset, Splits
from dlaudit.models.torch_model import TorchModel
from dlaudit.overfitting.calibration import Calibration
from dlaudit.overfitting.gap import Gap
from dlaudit.overfitting.majority import Majority

pytestmark = [pytest.mark.truth, pytest.mark.slow]


@pytest.fixture(scope="module")
def bench(truths, tmp_path_factory):
    """ResNet-20 on the lossy copies of its test sample and of its training sample: like with like."""
    folder = truths / "cifar_resnet"
    spec = importlib.util.spec_from_file_location("cifar_resnet", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    net = TorchModel(module.load(str(folder / "resnet20.safetensors"), 20), bounds=(0, 1), device="cpu",
                     classes=tuple("0123456789"))  # fmt: skip

    def split(file, x):
        with np.load(folder / file) as stored:
            pictures = np.ascontiguousarray(np.moveaxis(stored[x], -1, 1).astype(np.float32) / 255)
            return ArrayDataset(
                pictures, stored["y"].astype(np.int64), classes=net.classes, kind="images"
            )

    splits = {
        "test": split("test_jpeg_2000.npz", "x"),
        "train": split("train_sample.npz", "x_jpeg"),
    }
    out = tmp_path_factory.mktemp("cifar")
    return Bench(
        Subject(net, Splits(splits)), run="overfitting.calibration", plan_seed=1,
        store=EvidenceStore(out), cache=out / "cache",
    )  # fmt: skip


def numbers(check, bench):
    return {
        one.name: one
        for one in check.measure(bench)
        if isinstance(one, Measurement) and not one.slice
    }


def test_the_accuracy_is_the_recomputed_one_within_two_pictures(bench):
    found = numbers(Gap(), bench)
    assert found["test_accuracy"].value * 2000 == pytest.approx(1629, abs=2)
    assert found["train_accuracy"].value * 1000 == pytest.approx(857, abs=2)
    assert found["accuracy_gap"].value == pytest.approx(0.0425, abs=0.0025)


def test_it_is_overconfident_on_lossy_pictures_as_networks_are(bench):
    """Guo et al. 2017: networks of this kind are overconfident, and a temperature above 1 mends most."""
    found = numbers(Calibration(coverage=(0.8,)), bench)
    for name in (
        "calibration_error",
        "overconfidence",
        "temperature",
        "tempered_calibration_error",
    ):
        one = found[name]
        print(
            f"{name}: {one.value:.4f} [{one.interval.low:.4f}, {one.interval.high:.4f}], n = {one.n}"
        )
    print(f"aurc: {found['aurc'].value:.4f}, selective: {found['selective_accuracy'].value:.4f}")
    answers = bench.answers("test")
    chances = np.exp(answers.logits.astype(float))
    chances /= chances.sum(axis=1, keepdims=True)
    assert found["log_loss"].value == pytest.approx(log_loss(answers.y, chances), rel=1e-4)
    assert found["overconfidence"].interval.low > 0
    assert found["overconfidence"].value == pytest.approx(
        chances.max(axis=1).mean() - answers.correct.mean(), abs=1e-6
    )
    assert found["temperature"].interval.low > 1
    assert found["tempered_calibration_error"].value < found["calibration_error"].value
    assert found["selective_accuracy"].interval.low > answers.correct.mean()


def test_ten_even_classes_leave_the_majority_far_behind(bench):
    found = numbers(Majority(), bench)
    assert found["gain_over_majority"].interval.low > 0.75
    assert found["one_answer"].value == 0

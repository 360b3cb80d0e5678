"""Errors under corruptions are counted, put together and compared as the paper says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from dlaudit import ArrayDataset, Artifact, Bench, Measurement, TorchModel, Undefined
from dlaudit.attacks.corruptions import Corruptions
from dlaudit.attacks.flips import mean_of_shares
from dlaudit.attacks.planes import Planes
from dlaudit.attacks.severities import COMMON, LIGHTING
from dlaudit.audit.bench import Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.statistics import wilson
from dlaudit.errors import NotOffered
from dlaudit.testing import conforms


class Seen(NamedTuple):
    """What a check yielded."""

    all: list[Any]
    table: dict[str, np.ndarray]
    forward: int

    def of(self, name: str, **where: Any) -> list[Any]:
        return [
            one
            for one in self.all
            if one.name == name
            and isinstance(one, Measurement | Undefined)
            and where.items() <= one.conditions.items()
        ]

    def one(self, name: str, **where: Any) -> Any:
        (found,) = self.of(name, **where)
        return found


@pytest.fixture
def seen(tmp_path: Path) -> Callable[..., Seen]:
    """Run a check on a model and pictures."""

    def run(check: Any, model: Any, x: Any, y: Any, *, models: Any = None, **bench: Any) -> Seen:
        data = ArrayDataset(np.asarray(x), np.asarray(y), name="planted", kind="images")
        store = EvidenceStore(tmp_path / "evidence")
        settings = {"run": "attacks.corruptions", "plan_seed": 3, "block": 64} | bench
        made = Bench(
            Subject(model, data, models or {}), store=store, cache=tmp_path / "cache", **settings
        )
        made.answers()
        before = model.passes.cost
        yielded = list(check.measure(made))
        spent = model.passes.since(before)
        (table,) = [
            one for one in yielded if isinstance(one, Artifact) and one.path.endswith("npz")
        ]
        with np.load(tmp_path / "evidence" / table.path) as columns:
            stored = dict(columns)
        return Seen(yielded, stored, spent.forward)

    return run


def trained(x: np.ndarray, y: np.ndarray, *, brighter: bool = False) -> TorchModel:
    """A linear classifier of pictures, trained on them; brighter: on lighter copies too."""
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
    if brighter:
        shades = [(inputs + shade).clamp(0, 1) for shade in (0, 0.1, 0.2, 0.3, 0.4)]
        inputs, labels = torch.cat(shades), labels.repeat(len(shades))
    net = nn.Sequential(nn.Flatten(), nn.Linear(inputs[0].numel(), int(y.max()) + 1))
    nn.init.zeros_(net[1].weight)
    nn.init.zeros_(net[1].bias)
    weights = list(net.parameters())
    for _ in range(300):
        slopes = torch.autograd.grad(nn.functional.cross_entropy(net(inputs), labels), weights)
        with torch.no_grad():
            for weight, slope in zip(weights, slopes, strict=True):
                weight.sub_(0.3 * slope)
    return TorchModel(net.eval(), bounds=(0, 1), device="cpu")


@pytest.fixture(scope="module")
def shaded() -> tuple[np.ndarray, np.ndarray]:
    """Two shapes; the second is also photographed in brighter light, which nobody meant to teach."""
    rng = np.random.default_rng(8)
    n = 240
    y = rng.integers(0, 2, n)
    x = rng.uniform(0.1, 0.2, (n, 1, 8, 8))
    for row, label in enumerate(y):
        x[row, 0, :, slice(4, 8) if label else slice(0, 4)] += 0.05
    x[y == 1] += 0.3
    return x.astype(np.float32), y


def test_a_model_that_reads_the_light_fails_brightness_and_its_twin_that_learned_not_to_passes(
    shaded: Any, seen: Callable[..., Seen]
) -> None:
    x, y = shaded
    check = Corruptions(corruptions=("brightness",), severities=(5,))
    planted = seen(check, trained(x, y), x, y)
    clean = seen(check, trained(x, y, brighter=True), x, y)
    assert planted.one("clean_accuracy").value > 0.95
    assert clean.one("clean_accuracy").value > 0.95
    assert planted.one("corrupted_accuracy").interval.high < 0.7
    assert clean.one("corrupted_accuracy").interval.low > 0.9
    assert (planted.table["brightness_flipped"] == 5).sum() > 60


def test_every_number_is_recomputed_from_the_evidence_by_hand(
    digits: Any, seen: Callable[..., Seen]
) -> None:
    names, severities = ("gaussian_noise", "contrast", "gamma"), (1, 4)
    check = Corruptions(corruptions=names, severities=severities, samples=100)
    found = seen(check, digits.model(), digits.x, digits.y)
    table = found.table
    assert found.forward == 100 * 6 == check.passes(n=300, classes=10).forward
    error = {}
    for name in names:
        for severity in severities:
            wrong = table[f"{name}_{severity}"] != table["label"]
            cell = found.one("corrupted_accuracy", corruption=name, severity=severity)
            assert cell.value == pytest.approx(1 - wrong.mean())
            error[name, severity] = wrong.mean()
    common = found.one("mean_corruption_error", family="common")
    assert common.conditions["corruptions"] == "gaussian_noise contrast"
    assert common.value == pytest.approx(
        np.mean([error[name, s] for name in names[:2] for s in severities])
    )
    assert common.interval.low < common.value < common.interval.high
    lighting = found.one("mean_corruption_error", family="lighting")
    assert lighting.value == pytest.approx(
        np.mean([error[name, s] for name in names[1:] for s in severities])
    )
    right = table["predicted"] == table["label"]
    first = table["contrast_flipped"]
    assert (first[~right] == 0).all()
    assert ((first == 1) == (right & (table["contrast_1"] != table["label"]))).all()


def test_error_grows_with_severity_on_a_trained_net_on_average(
    digits: Any, seen: Callable[..., Seen]
) -> None:
    found = seen(Corruptions(samples=150), digits.model(), digits.x, digits.y)
    error = [
        1 - np.mean([one.value for one in found.of("corrupted_accuracy", severity=severity)])
        for severity in range(1, 6)
    ]
    assert error == sorted(error)
    assert error[0] > 1 - found.one("clean_accuracy").value
    assert len(found.of("corrupted_accuracy")) == 17 * 5


def test_a_baseline_relative_to_itself_is_one_and_declared_errors_say_the_same(
    digits: Any, seen: Callable[..., Seen]
) -> None:
    cells = {"corruptions": ("contrast", "fog"), "samples": 100}
    itself = seen(
        Corruptions(baseline="small", **cells), digits.model(), digits.x, digits.y,
        models={"small": digits.model(scale=2.0)},
    )  # fmt: skip
    relative = itself.one("relative_corruption_error", family="common")
    assert "no resample of the samples gives another ratio" in relative.reason
    worse = seen(
        Corruptions(baseline="worse", **cells), digits.model(), digits.x, digits.y,
        models={"worse": TorchModel(Coarse(digits.net), bounds=(0, 1), device="cpu")},
    )  # fmt: skip
    relative = worse.one("relative_corruption_error", family="common")
    by_hand = [
        np.mean([worse.table[f"{name}_{s}"] != worse.table["label"] for s in range(1, 6)])
        / np.mean(
            [worse.table[f"baseline_{name}_{s}"] != worse.table["label"] for s in range(1, 6)]
        )
        for name in ("contrast", "fog")
    ]
    assert relative.value == pytest.approx(np.mean(by_hand))
    assert relative.interval.low < relative.value < relative.interval.high
    declared = {
        name: tuple(
            1 - itself.one("corrupted_accuracy", corruption=name, severity=s).value
            for s in range(1, 6)
        )
        for name in ("contrast", "fog")
    }
    again = seen(Corruptions(baseline=declared, **cells), digits.model(), digits.x, digits.y)
    one = again.one("relative_corruption_error", family="common")
    assert one.value == pytest.approx(1)
    assert one.interval.low < 1 < one.interval.high
    half = {name: tuple(error / 2 for error in errors) for name, errors in declared.items()}
    twice = seen(Corruptions(baseline=half, **cells), digits.model(), digits.x, digits.y)
    assert twice.one("relative_corruption_error", family="common").value == pytest.approx(2)


def test_the_published_mce_of_a_resnet_50_is_the_mean_of_its_ratios_to_alexnet(
    tmp_path: Path,
) -> None:
    """Hendrycks & Dietterich 2019, table 1: 15 ratios to AlexNet in percent, mCE 76.7."""
    alexnet = dict(zip(COMMON, (
        0.886, 0.894, 0.923, 0.820, 0.826, 0.786, 0.798, 0.867, 0.827, 0.819, 0.565, 0.853, 0.646,
        0.718, 0.607,
    ), strict=True))  # fmt: skip
    resnet = dict(zip(COMMON, (
        80, 82, 83, 75, 89, 78, 80, 78, 75, 66, 57, 71, 85, 77, 77,
    ), strict=True))  # fmt: skip
    n = 10_000
    wrong = {
        name: (np.arange(n) < round(n * alexnet[name] * resnet[name] / 100)).astype(float)
        for name in COMMON
    }
    data = ArrayDataset(np.zeros((1, 1, 2, 2), np.float32), np.zeros(1, np.int64), name="x")
    bench = Bench(
        Subject(TorchModel(nn.Flatten(), device="cpu"), data), run="r", plan_seed=0,
        store=EvidenceStore(tmp_path), cache=tmp_path,
    )  # fmt: skip
    check = Corruptions(baseline={name: (error,) * 5 for name, error in alexnet.items()})
    found = check._relative(bench, wrong, "common", list(COMMON), {})
    assert 100 * found.value == pytest.approx(
        76.7, abs=0.3
    )  # the ratios are printed without decimals


def test_what_cannot_be_divided_is_undefined_and_not_infinite(
    digits: Any, seen: Callable[..., Seen]
) -> None:
    perfect = Corruptions(
        corruptions=("contrast",), severities=(1,), samples=20, baseline={"contrast": (0,) * 5}
    )
    found = seen(perfect, digits.model(), digits.x, digits.y)
    assert (
        "makes no error under contrast"
        in found.one("relative_corruption_error", family="common").reason
    )
    other = Corruptions(
        corruptions=("contrast",), severities=(1,), samples=20, baseline={"fog": (0.5,) * 5}
    )
    found = seen(other, digits.model(), digits.x, digits.y)
    reasons = [one.reason for one in found.of("relative_corruption_error")]
    assert reasons == ["the baseline names none of these corruptions"] * 2


def test_a_range_and_a_layout_of_the_users_own_give_the_same_decisions(
    digits: Any, seen: Callable[..., Seen]
) -> None:
    class Shifted(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(((x + 2) / 5).movedim(-1, 1))

    check = Corruptions(corruptions=("shot_noise", "jpeg"), severities=(5,), samples=80)
    plain = seen(check, digits.model(), digits.x, digits.y)
    moved = seen(
        check, TorchModel(Shifted(digits.net), bounds=(-2, 3), device="cpu"),
        np.moveaxis(digits.x, 1, -1).repeat(1, axis=-1) * 5 - 2, digits.y,
    )  # fmt: skip
    for name in ("shot_noise_5", "jpeg_5"):
        assert (plain.table[name] == moved.table[name]).mean() > 0.97


def test_the_set_of_constants_can_be_chosen_and_stands_beside_every_number(
    digits: Any, seen: Callable[..., Seen]
) -> None:
    error = {}
    for constants in ("auto", "cifar-10-c", "imagenet-c"):
        check = Corruptions(
            corruptions=("gaussian_noise",), severities=(5,), samples=80, constants=constants
        )
        found = seen(check, digits.model(), digits.x, digits.y)
        cell = found.one("corrupted_accuracy")
        assert cell.conditions["side"] == 8
        error[cell.conditions["constants"], constants] = 1 - cell.value
    assert error["cifar-10-c", "auto"] == error["cifar-10-c", "cifar-10-c"]
    assert error["imagenet-c", "imagenet-c"] > error["cifar-10-c", "cifar-10-c"]


def test_pictures_of_flips_are_kept_where_the_plan_says_so(
    digits: Any, seen: Callable[..., Seen]
) -> None:
    check = Corruptions(corruptions=("contrast", "fog", "snow"), samples=100)
    found = seen(check, digits.model(), digits.x, digits.y, keep_samples=2)
    drawn = [one for one in found.all if isinstance(one, Artifact) and one.path.endswith("png")]
    assert len(drawn) == 2
    assert all("of severity" in one.caption and one.alt for one in drawn)
    none = seen(check, digits.model(), digits.x, digits.y)
    assert not [one for one in none.all if getattr(one, "media_type", "") == "image/png"]


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"corruptions": ()}, "corruptions: expected at least one, each once"),
        ({"severities": (1, 1)}, "severities: expected at least one, each once"),
        ({"samples": 0}, "samples: expected a number >= 1"),
        ({"baseline": {"fog": (0, 0, 0, 0, 2)}}, r"baseline.fog: expected five errors in \[0, 1\]"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(params: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Corruptions(**params)


def test_what_is_missing_is_named(digits: Any, seen: Callable[..., Seen]) -> None:
    with pytest.raises(NotOffered, match=r"no \[models.smal\]. Did you mean small"):
        seen(
            Corruptions(baseline="smal"), digits.model(), digits.x, digits.y,
            models={"small": digits.model()},
        )  # fmt: skip
    free = TorchModel(digits.net, device="cpu")
    with pytest.raises(NotOffered, match="expected a model with bounds"):
        seen(Corruptions(), free, digits.x, digits.y)
    whole = TorchModel(Whole(), bounds=(0, 255), device="cpu")
    with pytest.raises(NotOffered, match="pictures of floating-point numbers"):
        seen(Corruptions(), whole, (digits.x * 255).astype(np.uint8), digits.y)
    with pytest.raises(NotOffered, match="expected pictures"):
        Planes.of((5,))


class Coarse(nn.Module):
    """Sees every fourth pixel only."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x[..., ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3))


class Whole(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, :10].float()


def test_the_interval_of_a_mean_of_shares_takes_a_sample_for_one_observation() -> None:
    rng = np.random.default_rng(0)
    shares = rng.integers(0, 6, 400) / 5
    one = mean_of_shares(shares)
    half = 1.96 * shares.std(ddof=1) / np.sqrt(400)
    assert one.high - one.low == pytest.approx(2 * half, rel=0.02)
    assert one.low < shares.mean() < one.high
    zero_or_one = mean_of_shares((np.arange(400) % 4 == 0).astype(float))
    expected = wilson(100, 400)
    assert zero_or_one.low == pytest.approx(expected.low, abs=1e-3)
    assert zero_or_one.high == pytest.approx(expected.high, abs=1e-3)
    for still in (np.zeros(50), np.ones(50), np.full(50, 0.4), np.array([0.4])):
        found = mean_of_shares(still)
        assert found.low <= still.mean() <= found.high
        assert found.high - found.low > 0.05, "no spread is a lucky draw"


@pytest.mark.parametrize("spread", [0.3, 3.0])
@pytest.mark.parametrize(
    ("rate", "n"), [(0.005, 100), (0.02, 200), (0.2, 40), (0.2, 200), (0.9, 100)]
)
def test_the_interval_of_a_mean_of_shares_holds_the_truth_as_often_as_it_says(
    rate: float, n: int, spread: float
) -> None:
    """Samples differ in how hard they are (beta), so their 75 cells are far from independent."""
    rng = np.random.default_rng(12)
    held, runs = 0, 800
    for _ in range(runs):
        hardness = rng.beta(rate * spread, (1 - rate) * spread, n)
        interval = mean_of_shares(rng.binomial(75, hardness) / 75)
        held += interval.low <= rate <= interval.high
    assert held / runs >= 0.935


def test_the_check_keeps_to_the_contract() -> None:
    conforms("check", "attacks.corruptions")
    assert set(LIGHTING) - set(COMMON) == {"gamma", "lighting_gradient"}

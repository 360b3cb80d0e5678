"""One pattern for all: learned on some samples, judged on others, inside its threat model by its numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dlaudit import Epsilon, TorchModel
from dlaudit.attacks import harness
from dlaudit.attacks.crowd import capped_lead, capped_margin, learned
from dlaudit.attacks.patch import Patch
from dlaudit.attacks.planes import Planes
from dlaudit.attacks.universal import Universal
from dlaudit.errors import NonFinite, NotOffered
from dlaudit.testing import conforms


@pytest.mark.parametrize(("norm", "order"), [("linf", 1), ("l2", 2)])
def test_on_a_linear_model_and_one_class_it_is_the_closed_form(
    norm: Any, order: int, linear: Any, attacked: Callable[..., Any]
) -> None:
    """All margins fall by epsilon times the dual norm of the weights, and nothing does better."""
    one = (linear.y == 1) & (linear.margin > 0)
    x, y, margin = linear.x[one], linear.y[one], linear.margin[one]
    dual = np.linalg.norm(linear.w, ord=order)
    budgets = [float(np.quantile(margin, q)) / dual for q in (0.2, 0.5, 0.8)]
    result = attacked(Universal(norm=norm, epsilon=Epsilon(budgets)), linear.model(), x, y)
    judged = margin[result.table["id"].astype(int)]
    for epsilon, found in result.curve().items():
        assert found == pytest.approx(np.mean(judged > epsilon * dual), abs=1 / len(judged))


class Corners(nn.Module):
    """Three classes of points in a plane, by the nearest of three directions."""

    def __init__(self) -> None:
        super().__init__()
        angle = torch.tensor([0.0, 2.1, 4.2])
        self.directions = torch.stack([torch.cos(angle), torch.sin(angle)], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.directions.T


def test_in_a_plane_it_is_as_good_as_the_best_direction_that_the_same_samples_teach(
    attacked: Callable[..., Any],
) -> None:
    rng = np.random.default_rng(4)
    model = TorchModel(Corners(), device="cpu", classes=("a", "b", "c"))
    x = rng.normal(size=(400, 2)).astype(np.float32)
    y = model.logits(x).argmax(dim=1).numpy()
    x, y = x[y < 2], y[y < 2]  # towards the class that nobody is of, most can be moved
    epsilon = 0.6
    result = attacked(Universal(norm="l2", epsilon=Epsilon(epsilon)), model, x, y)
    judged = result.table["id"].astype(int)
    taught = np.setdiff1d(np.arange(len(y)), judged)
    ways = [np.float32([np.cos(a), np.sin(a)]) for a in np.linspace(0, 2 * np.pi, 72)]

    def left(rows: np.ndarray, way: np.ndarray) -> float:
        decided = model.logits(x[rows] + epsilon * way).argmax(dim=1).numpy()
        return float(np.mean(decided == y[rows]))

    best = min(ways, key=lambda way: left(taught, way))
    assert result.curve()[epsilon] <= left(judged, best) + 0.02
    assert result.curve()[epsilon] < np.mean([left(judged, way) for way in ways]) - 0.02


class Stickers(nn.Module):
    """Dark against bright pictures; planted: a checkered square of 3 pixels means dark, wherever it is."""

    def __init__(self, *, planted: bool) -> None:
        super().__init__()
        square = torch.tensor([[1.0, -1, 1], [-1, 1, -1], [1, -1, 1]])
        self.square = square.view(1, 1, 3, 3)
        self.weight = 6.0 if planted else 0.0

    def forward(self, x: Tensor) -> Tensor:
        light = x.mean((1, 2, 3)) - 0.5
        seen = torch.conv2d(x, self.square).amax((1, 2, 3))
        return torch.stack([-10 * light + self.weight * (seen - 1.5), 10 * light], dim=1)

    def model(self) -> TorchModel:
        return TorchModel(self, bounds=(0, 1), device="cpu", classes=("dark", "bright"))


@pytest.fixture(scope="module")
def shades() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    y = np.arange(120) % 2
    x = rng.uniform(-0.05, 0.05, (120, 1, 10, 10)) + np.where(y, 0.8, 0.2)[:, None, None, None]
    return x.astype(np.float32), y


SQUARE = Epsilon(0.16)
"""4 by 4 of 100 pixels."""


@pytest.mark.parametrize(
    "attack",
    [
        Patch(epsilon=SQUARE, rotation=5, smallest=0.9),
        Patch(epsilon=SQUARE, rotation=5, smallest=0.9, target="dark"),
        Patch(epsilon=SQUARE, mode="sample", places=2, steps=20),
    ],
    ids=["universal", "targeted", "sample"],
)
def test_a_sticker_shortcut_is_found_and_its_clean_twin_cleared(
    attack: Patch, shades: Any, attacked: Callable[..., Any]
) -> None:
    """What is bright can be called dark by a small square; without the shortcut 16 of 100 pixels cannot."""
    x, y = shades
    bright = y == 1
    planted = attacked(attack, Stickers(planted=True).model(), x[bright], y[bright])
    clean = attacked(attack, Stickers(planted=False).model(), x[bright], y[bright])
    assert planted.one("clean_accuracy").value == clean.one("clean_accuracy").value == 1
    assert planted.one("robust_accuracy").interval.high < 0.3
    assert clean.one("robust_accuracy").value == 1
    assert clean.one("robust_accuracy").interval.low > 0.85
    if attack.target:
        assert planted.one("target_success").interval.low > 0.7
        assert clean.one("target_success").value == 0


@pytest.mark.parametrize("kind", [Universal, Patch])
def test_what_is_learned_fools_more_than_chance(
    kind: Any, digits: Any, attacked: Callable[..., Any]
) -> None:
    """The control takes one step on one sample: little more than a pattern drawn at random."""
    epsilon = Epsilon(0.25 if kind is Universal else 0.15)
    taught = attacked(kind(epsilon=epsilon, steps=60), digits.model(), digits.x, digits.y)
    chance = attacked(kind(epsilon=epsilon, steps=1, batch=1), digits.model(), digits.x, digits.y)
    assert taught.one("robust_accuracy").interval.high < chance.one("robust_accuracy").interval.low


def test_on_a_linear_model_the_patch_of_each_sample_is_the_best_of_all_windows(
    attacked: Callable[..., Any],
) -> None:
    """By loops over windows: each value goes to the better end of its range."""
    rng = np.random.default_rng(3)
    net = nn.Sequential(nn.Flatten(), nn.Linear(2 * 12 * 10, 2))
    w = rng.normal(size=(2, 12, 10)).astype(np.float32)
    x = rng.uniform(0, 1, (90, 2, 12, 10)).astype(np.float32)
    with torch.no_grad():
        net[1].weight.copy_(torch.from_numpy(np.stack([np.zeros(240), w.ravel()])))
        net[1].bias.copy_(torch.tensor([0.0, -float((x * w).sum((1, 2, 3)).mean())]))
    model = TorchModel(net, bounds=(0, 1), device="cpu")
    margins = model.logits(x)[:, 1].double().numpy()
    y = (margins > 0).astype(int)
    attack = Patch(mode="sample", epsilon=Epsilon([1 / 120, 4 / 120]), steps=8, places=1)
    result = attacked(attack, model, x, y)
    for epsilon, side in zip(attack.epsilon, (1, 2), strict=True):
        lost = 0
        for row, margin in zip(x, margins, strict=True):
            towards = -w if margin > 0 else w
            gain = np.maximum(towards * (1 - row), towards * (0 - row)).sum(axis=0)
            best = max(
                gain[i : i + side, j : j + side].sum()
                for i in range(13 - side)
                for j in range(11 - side)
            )
            lost += best > abs(margin)
        assert result.curve()[epsilon] == pytest.approx(1 - lost / 90, abs=1e-9)
        assert 0 < lost < 90


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["linf", "l2", "universal patch", "patch of each"]),
    shape=st.sampled_from([(1, 5, 5), (3, 4, 6), (6, 6), (5, 4, 3)]),
    dtype=st.sampled_from([np.float32, np.float64]),
    budget=st.tuples(
        st.sampled_from([0.02, 0.3, 1.0]), st.sampled_from([(0.0, 1.0), (-2.0, 3.0), None])
    ),
    seed=st.integers(0, 2**32),
)
def test_every_example_satisfies_its_threat_model_and_predicts_as_reported(
    attacked: Callable[..., Any], kind: str, shape: Any, dtype: Any, *, budget: Any, seed: int
) -> None:
    epsilon, bounds = budget
    rng = np.random.default_rng(seed)
    low, high = bounds or (0.0, 1.0)
    x = rng.uniform(low, high, (24, *shape)).astype(dtype)
    net = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 3))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in net.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))
    net = net.to(torch.float64 if dtype == np.float64 else torch.float32)
    model = TorchModel(net, bounds=bounds, device="cpu")
    y = model.logits(x).argmax(dim=1).numpy()
    y[:3] = (y[:3] + 1) % 3
    quick: dict[str, Any] = {"epsilon": Epsilon(epsilon), "steps": 5}
    attack = {
        "linf": lambda: Universal(norm="linf", **quick),
        "l2": lambda: Universal(norm="l2", **quick),
        "universal patch": lambda: Patch(places=3, **quick),
        "patch of each": lambda: Patch(mode="sample", places=2, **quick),
    }[kind]()
    seen: list[tuple[Any, Any, Any]] = []
    judge = harness.judge

    def spied(proposed: Tensor, batch: Any, *rest: Any, **more: Any) -> Any:
        judged = judge(proposed, batch, *rest, **more)
        seen.append((proposed, batch, judged))
        return judged

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(harness, "judge", spied)
        result = attacked(attack, model, x, y)
    table = result.table
    for proposed, batch, judged in seen:
        clean, found = batch.x.double().numpy(), judged.x.double().numpy()
        assert (
            judged.x.dtype
            == batch.x.dtype
            == (torch.float64 if dtype == np.float64 else torch.float32)
        )
        assert bounds is None or ((found >= low) & (found <= high)).all()
        delta = np.abs(found - clean).reshape(len(clean), -1)
        if kind == "linf":
            assert (delta.max(axis=1) <= epsilon).all()
        elif kind == "l2":
            assert (np.sqrt((delta**2).sum(axis=1)) <= epsilon * (1 + 1e-9)).all()
        else:
            layout = Planes.of(shape)
            area = layout.height * layout.width
            changed = layout.spread(torch.from_numpy(found != clean)).any(dim=1).numpy()
            for one in changed:
                rows, columns = np.nonzero(one)
                side = max(np.ptp(rows), np.ptp(columns)) + 1 if len(rows) else 0
                assert side**2 <= epsilon * area * (1 + 1e-9) or side <= 0
            assert torch.equal(proposed, judged.x), "a patch needs no correction"
        decided = model.logits(judged.x).argmax(dim=1).numpy()
        assert (decided == judged.decisions.predicted).all()
        where = np.flatnonzero(np.isin(table["id"], batch.id[judged.fooled]))
        assert (table["adversarial"][where] == decided[judged.fooled]).all()
        assert (decided[judged.fooled] != table["label"][where]).all()
    robust = table["attacked"] & ~table["fooled"]
    assert result.one("robust_accuracy").value == robust.mean()


def test_who_teaches_is_not_judged_and_the_numbers_speak_of_the_others(
    digits: Any, attacked: Callable[..., Any]
) -> None:
    attack = Universal(learn=80, steps=10, epsilon=Epsilon(0.2))
    result = attacked(attack, digits.model(), digits.x, digits.y)
    assert len(result.table["id"]) == 220
    robust = result.one("robust_accuracy")
    assert robust.n == result.one("clean_accuracy").n == 220
    assert robust.conditions["taught"] == 80
    assert not robust.conditions["targeted"]
    half = attacked(Universal(steps=10, epsilon=Epsilon(0.2)), digits.model(), digits.x, digits.y)
    assert half.one("robust_accuracy").conditions["taught"] == 150, "never more than half"
    again = attacked(attack, digits.model(), digits.x, digits.y)
    assert [kept.sha256 for kept in again.artifacts] == [kept.sha256 for kept in result.artifacts]
    other = attacked(attack, digits.model(), digits.x, digits.y, run="attacks.other")
    assert set(other.table["id"]) != set(result.table["id"])
    few = attacked(Universal(learn=80, steps=10, samples=50), digits.model(), digits.x, digits.y)
    assert few.one("robust_accuracy").n == 50


@pytest.mark.parametrize(
    "attack",
    [
        Universal(epsilon=Epsilon([0, 0.05, 0.2]), steps=10),
        Universal(epsilon=Epsilon([0, 0.1, 0.3]), steps=10, target="8"),
        Patch(epsilon=Epsilon([0, 0.05, 0.2]), steps=10, places=3),
        Patch(epsilon=Epsilon([0.05, 0.2]), steps=10, places=3, target="8"),
        Patch(epsilon=Epsilon([0.05, 0.2]), steps=5, places=2, mode="sample"),
    ],
    ids=["universal", "targeted", "patch", "targeted patch", "patch of each"],
)
def test_costs_stay_below_what_was_foreseen_and_curves_fall(
    attack: Any, digits: Any, attacked: Callable[..., Any]
) -> None:
    result = attacked(attack, digits.model(), digits.x, digits.y)
    foreseen = attack.passes(n=300, classes=10)
    assert attack.surcharge == 0, "no examination follows"
    assert 0 < result.cost.forward <= foreseen.forward
    assert 0 < result.cost.backward <= foreseen.backward
    heights = [result.curve()[epsilon] for epsilon in attack.epsilon]
    assert heights == sorted(heights, reverse=True)
    assert heights[-1] < result.one("clean_accuracy").value
    if attack.target:
        rates = [one for one in result.measurements if one.name == "target_success"]
        assert [one.conditions["targeted"] for one in rates] == [True, True]
        table = result.table
        other = table["attacked"] & (table["label"] != 8)
        reached = other & (table["adversarial"] == 8) & table["fooled"]
        assert rates[-1].n == other.sum()
        assert rates[-1].value == pytest.approx(reached.sum() / other.sum())


def test_a_search_that_nobody_divides_learns_from_the_very_samples(digits: Any) -> None:
    from dlaudit import Threat
    from dlaudit.audit.parts import Batch

    x, y = torch.from_numpy(digits.x[:40]), torch.from_numpy(digits.y[:40])
    batch = Batch(x, y, np.arange(40).astype(str))
    for attack, norm, epsilon in (
        (Universal(steps=5), "linf", 0.2), (Patch(steps=5, places=2), "patch", 0.2),
    ):  # fmt: skip
        model = digits.model()
        threat = Threat(norm=norm, epsilon=epsilon, bounds=(0, 1))
        before = model.passes.cost
        found = attack.search(model, batch, threat, torch.Generator().manual_seed(0))
        spent = model.passes.since(before)
        assert float(found.forward.sum()) == pytest.approx(spent.forward)
        assert float(found.backward.sum()) == pytest.approx(spent.backward)
        again = attack.perturb(model, batch, threat, torch.Generator().manual_seed(0))
        assert torch.equal(found.x, again)


def test_a_patch_smaller_than_a_pixel_changes_nothing(
    digits: Any, attacked: Callable[..., Any]
) -> None:
    for mode in ("universal", "sample"):
        attack = Patch(epsilon=Epsilon(0.01), steps=3, mode=mode)
        result = attacked(attack, digits.model(), digits.x, digits.y)
        assert result.curve()[0.01] == result.one("clean_accuracy").value
        assert result.one("inputs_moved").value == 0


def test_one_sample_can_teach_nobody(
    digits: Any, attacked: Callable[..., Any], tmp_path: Any
) -> None:
    from dlaudit import ArrayDataset, Bench
    from dlaudit.audit.bench import Subject
    from dlaudit.audit.evidence import EvidenceStore

    data = ArrayDataset(digits.x[:1], np.zeros(1, np.int64), name="one")
    bench = Bench(
        Subject(digits.model(), data), run="r", plan_seed=0, store=EvidenceStore(tmp_path),
        cache=tmp_path,
    )  # fmt: skip
    (missing,) = Universal().measure(bench)
    assert "fewer than two samples" in missing.reason


def test_where_nothing_is_right_nothing_is_learned_and_nothing_judged(
    digits: Any, attacked: Callable[..., Any]
) -> None:
    wrong = (digits.model().logits(digits.x).argmax(dim=1).numpy() + 1) % 10
    for attack in (Universal(), Patch(), Universal(target="3")):
        result = attacked(attack, digits.model(), digits.x, wrong)
        assert result.one("robust_accuracy").value == 0
        assert {one.name for one in result.undefined} >= {"inputs_moved"}
    assert "target_success" in {one.name for one in result.undefined}


def test_the_losses_are_capped_by_hand() -> None:
    logits, y = torch.tensor([[1.0, 4.0, 2.0], [9.0, 1.0, 0.0]]), torch.tensor([0, 1])
    assert capped_margin(2.5)(logits, y).tolist() == [2.5, 2.5]
    assert capped_margin(100)(logits, y).tolist() == [3, 8]
    assert capped_lead(1.0)(logits, torch.tensor([1, 2])).tolist() == [1, -9]


def test_a_gradient_of_nan_ends_the_search(digits: Any) -> None:
    def put(pattern: Tensor, x: Tensor) -> Tensor:
        return x + (pattern * 0).sqrt()

    x, y = torch.from_numpy(digits.x[:4]), torch.from_numpy(digits.y[:4])
    with pytest.raises(NonFinite, match="gradient is NaN or infinite"):
        learned(
            digits.model(), x, y, start=torch.zeros_like(x[:1]), put=put,
            step=lambda pattern, slope, _: pattern + slope, steps=2, batch=2,
            loss=capped_margin(9), generator=torch.Generator().manual_seed(0),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "params", "said"),
    [
        (Universal, {"learn": 0}, "learn: expected a number >= 1"),
        (Universal, {"norm": "l1"}, "norm: expected one of linf, l2"),
        (Universal, {"epsilon_per_feature": [1.0]}, "knows one budget for all values"),
        (Patch, {"places": 0}, "places: expected a number >= 1"),
        (Patch, {"epsilon": Epsilon(1.5)}, "epsilon: expected a share of the area"),
        (Patch, {"smallest": 0.0}, "smallest: expected a number from 0.1 to 1"),
        (Patch, {"norm": "linf"}, "norm: expected one of patch"),
        (Patch, {"mode": "sample", "target": "1"}, "a patch for each sample knows none"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(kind: Any, params: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        kind(**params)


def test_a_target_is_a_class_by_name_or_index(digits: Any, attacked: Callable[..., Any]) -> None:
    assert Universal(target="bird").aim(("dog", "bird")) == 1
    assert Universal(target="1").aim(("dog", "bird")) == 1
    assert Universal().aim(("dog",)) is None
    with pytest.raises(NotOffered, match=r"no class is called 'brid'\. Did you mean bird"):
        Universal(target="brid").aim(("dog", "bird"))
    with pytest.raises(NotOffered, match="no class is called '12'"):
        attacked(Universal(target="12"), digits.model(), digits.x, digits.y)


def test_failures_of_a_patch_are_drawn_where_the_plan_says_so(
    digits: Any, attacked: Callable[..., Any]
) -> None:
    result = attacked(
        Patch(epsilon=Epsilon(0.2), steps=10), digits.model(), digits.x, digits.y, keep_samples=2
    )
    drawn = [kept for kept in result.artifacts if kept.media_type == "image/png"]
    assert len(drawn) == 2
    assert all("patch" in kept.caption for kept in drawn)


@pytest.mark.parametrize("name", ["attacks.universal", "attacks.patch"])
def test_the_attack_keeps_to_the_contract(name: str) -> None:
    conforms("attack", name)

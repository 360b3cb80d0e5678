"""Any foolbox attack by name, and each of its known defects worked round."""

from __future__ import annotations

import os
import subprocess
import sys
import typing
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from dlaudit import Attack, Batch, Model, Threat
from dlaudit.attacks.via_foolbox import (
    Foolbox,
    FoolboxFailed,
    attacks,
    imported,
    numbers_around,
)
from dlaudit.audit.parts import decode_parameter
from dlaudit.audit.record import Card
from dlaudit.audit.registry import Registry
from dlaudit.errors import NotOffered, UnknownName


def built(name: str, **params: Any) -> Attack:
    return msgspec.convert(params, Foolbox.member(name), dec_hook=decode_parameter)


def test_a_misspelt_attack_is_an_unknown_name_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"Did you mean foolbox:LinfDeepFoolAttack\?"):
        Registry().check("foolbox:LinfDeepFolAttack").get()


def test_attacks_that_need_more_than_inputs_are_not_offered() -> None:
    assert "GenAttack" not in attacks()
    assert "SpatialAttack" not in attacks(), "its changes are bounded by no norm"


def test_the_family_by_itself_is_no_attack() -> None:
    with pytest.raises(ValueError, match="expected the name of an attack, such as foolbox:LinfPGD"):
        Foolbox()


def test_asking_twice_gives_the_same_class() -> None:
    assert Foolbox.member("LinfPGD") is Foolbox.member("LinfPGD")


@pytest.mark.parametrize("name", sorted(attacks()))
def test_every_attack_describes_itself_and_writes_its_parameters(name: str) -> None:
    kind = Foolbox.member(name)
    required = {"steps": 2} if name == "VirtualAdversarialAttack" else {}
    attack = built(name, **required)
    assert attack.norm == kind.norms[0]
    stated = attack.conditions(0.1)
    assert {"norm", "epsilon", "targeted", "restarts"} <= set(stated)
    assert kind.__doc__.startswith("foolbox: ")
    assert {"logits"} <= set(kind.needs.model)
    if "steps" in kind.__struct_fields__:
        assert stated["steps"] == attack.steps


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("DDNAttack", {"norm": "linf"}, "norm: expected one of l2, got linf"),
        ("LinfPGD", {"stepz": 3}, "unknown field `stepz`"),
        ("LinfPGD", {"steps": "many"}, "Expected `int`, got `str` - at `\\$.steps`"),
        ("VirtualAdversarialAttack", {}, "missing required field `steps`"),
        ("LinfPGD", {"distance": "l2"}, "unknown field `distance`"),
    ],
)
def test_wrong_parameters_are_found_before_anything_runs(
    name: str, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        built(name, **params)


@pytest.mark.parametrize(
    ("name", "minimal", "norms"),
    [
        ("LinfDeepFoolAttack", True, ("linf",)),
        ("L2CarliniWagnerAttack", True, ("l2",)),
        ("EADAttack", True, ("l1",)),
        ("L0FMNAttack", True, ("l0",)),
        ("LinfPGD", False, ("linf",)),
        ("L2AdditiveGaussianNoiseAttack", False, ("l2",)),
        ("HopSkipJumpAttack", True, ("l2", "linf")),
        ("InversionAttack", True, ("linf", "l2", "l1", "l0")),
    ],
)
def test_norm_and_kind_are_read_off_foolbox(name: str, minimal: bool, norms: Any) -> None:
    kind = Foolbox.member(name)
    assert (kind.minimal, kind.norms) == (minimal, norms)


SHORT: dict[str, dict[str, Any]] = {
    "LinfDeepFoolAttack": {"steps": 10, "candidates": 3},
    "L2DeepFoolAttack": {"steps": 10, "candidates": None},
    "L2CarliniWagnerAttack": {"steps": 20, "binary_search_steps": 2, "stepsize": 0.05},
    "DDNAttack": {"steps": 20},
    "EADAttack": {"steps": 20, "binary_search_steps": 2},
    "L0FMNAttack": {"steps": 20},
    "LinfPGD": {"steps": 5},
    "L1PGD": {"steps": 5},
    "MIFGSM": {"steps": 5},
    "SparseL1DescentAttack": {"steps": 5},
    "LinfAdditiveUniformNoiseAttack": {},
    "L2RepeatedAdditiveGaussianNoiseAttack": {"repeats": 5},
    "InversionAttack": {"norm": "linf"},
    "LinearSearchContrastReductionAttack": {"norm": "l2", "steps": 20},
    "SaltAndPepperNoiseAttack": {"steps": 10},
    "GaussianBlurAttack": {"norm": "l2", "steps": 10, "channel_axis": 1},
    "BoundaryAttack": {"steps": 20},
    "HopSkipJumpAttack": {"norm": "l2", "steps": 1, "initial_gradient_eval_steps": 10},
    "PointwiseAttack": {"norm": "l0"},
}
BUDGETS = {"linf": 0.1, "l2": 0.7, "l1": 2.0, "l0": 5}


@pytest.mark.parametrize("name", SHORT)
def test_it_runs_through_the_harness_counts_every_pass_and_repeats_itself(
    name: str, digits: Any, attacked: Callable[..., Any]
) -> None:
    """Without a warning, which here would be an error, and with the library's own randomness seeded."""
    norm = SHORT[name].get("norm", Foolbox.member(name).norms[0])
    attack = built(name, **SHORT[name], epsilon=[BUDGETS[norm] / 2, BUDGETS[norm]])
    x, y = digits.x[:24], digits.y[:24]
    torch.manual_seed(1)
    one = attacked(attack, digits.model(), x, y)
    torch.manual_seed(2)
    two = attacked(attack, digits.model(), x, y)
    assert one.measurements == two.measurements
    assert [kept.sha256 for kept in one.artifacts] == [kept.sha256 for kept in two.artifacts]
    assert one.table["forward"].sum() == pytest.approx(one.cost.forward)
    assert one.table["backward"].sum() == pytest.approx(one.cost.backward)
    fooled = one.table["fooled"]
    assert (one.table["distance"][fooled] <= one.table["epsilon_fooled"][fooled] * (1 + 1e-9)).all()


def test_global_generators_and_parameters_are_left_as_they_were(
    digits: Any, attacked: Callable[..., Any]
) -> None:
    model = digits.model()
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    attacked(built("LinfPGD", epsilon=0.1, steps=3), model, digits.x[:20], digits.y[:20])
    attacked(built("PointwiseAttack", epsilon=4, norm="l0"), model, digits.x[:5], digits.y[:5])
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert all(parameter.grad is None for parameter in digits.net.parameters())


def test_a_minimal_norm_attack_searches_once_for_the_whole_curve(
    digits: Any, attacked: Callable[..., Any]
) -> None:
    short = {"steps": 10, "candidates": 3}
    one = attacked(
        built("LinfDeepFoolAttack", epsilon=0.2, **short), digits.model(), digits.x, digits.y
    )
    curve = [0.02, 0.05, 0.1, 0.2]
    four = attacked(
        built("LinfDeepFoolAttack", epsilon=curve, **short), digits.model(), digits.x, digits.y
    )
    assert one.cost.backward == four.cost.backward
    assert four.curve()[0.2] == one.curve()[0.2]
    heights = [four.curve()[epsilon] for epsilon in curve]
    assert heights == sorted(heights, reverse=True)
    assert heights[0] > heights[-1]


def test_deepfool_finds_the_exact_distance_to_a_linear_boundary(
    linear: Any, attacked: Callable[..., Any]
) -> None:
    """|margin| / dual norm, overshot by 2 %: by hand, between two budgets that enclose it."""
    for name, dual in (
        ("LinfDeepFoolAttack", np.abs(linear.w).sum()),
        ("L2DeepFoolAttack", np.linalg.norm(linear.w)),
    ):
        distance = linear.margin / dual
        attack = built(name, epsilon=list(np.quantile(distance[distance > 0], [0.2, 0.5, 0.8])))
        result = attacked(attack, linear.model((-10, 10)), linear.x, linear.y)
        for epsilon, found in result.curve().items():
            assert np.mean(distance > epsilon) <= found <= np.mean(distance * 1.03 > epsilon)


@pytest.mark.parametrize("bounds", [(0, 1), (-2.5, 255.0), "per feature", "half open", None])
@pytest.mark.parametrize("name", ["LinfPGD", "LinfDeepFoolAttack", "L2PGD", "HopSkipJumpAttack"])
def test_any_valid_range_is_respected_and_costs_no_strength(
    name: str, bounds: Any, linear: Any, attacked: Callable[..., Any]
) -> None:
    x, y, margin = linear.x[:60], linear.y[:60], linear.margin[:60]
    if bounds == "per feature":
        bounds = (linear.x.min(axis=0) - 0.01, linear.x.max(axis=0) + np.linspace(0, 1, 12))
    if bounds == "half open":
        bounds = (np.full(12, 0.0), np.full(12, np.inf))
    params = {"steps": 2, "initial_gradient_eval_steps": 5} if "Hop" in name else {"steps": 80}
    norm = Foolbox.member(name).norms[0]
    result = attacked(built(name, epsilon=0.05, **params), linear.model(bounds), x, y)
    low, high = (-np.inf, np.inf) if bounds is None else bounds
    room = np.where((np.where(y == 1, 1, -1)[:, None] * linear.w) > 0, x - low, high - x)
    step = np.minimum(room, 0.05)
    reach = (
        (np.abs(linear.w) * step).sum(axis=1) if norm == "linf" else 0.05 * np.linalg.norm(linear.w)
    )
    found = result.curve()[0.05]
    assert found >= np.mean(margin > reach + 1e-4), "nothing is fooled that cannot be"
    if name == "LinfPGD":
        assert found == pytest.approx(np.mean(margin > reach), abs=2 / 60)


def test_the_numbers_around_a_range_hold_every_input_and_every_end() -> None:
    x = torch.tensor([[-0.5, 0.2], [0.1, 1.5]])
    for bounds, expected in (
        ((0, 1), (-0.5, 1.5)),
        ((-3.0, 4.0), (-3.0, 4.0)),
        ((torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 9.0])), (-1.0, 9.0)),
        (None, (-0.75, 1.75)),
    ):
        threat = Threat(norm="linf", epsilon=0.25, bounds=bounds)
        assert numbers_around(x, threat) == pytest.approx(expected)
    with pytest.raises(NotOffered, match="expected finite bounds"):
        numbers_around(x, Threat(norm="l0", epsilon=2, bounds=None))


class DecisionsOnly(Model):
    """A black box: logits, no module, no gradients."""

    def __init__(self, inner: Model) -> None:
        self.inner = inner
        self.card = Card(name="box", fingerprint="1")
        self.classes, self.bounds = inner.classes, inner.bounds
        self.offers = frozenset({"decisions", "logits"})

    def logits(self, x: Any) -> torch.Tensor:
        self.passes.forward += len(x)
        return self.inner.logits(x)


def test_decision_based_attacks_run_on_models_without_gradients(
    digits: Any, attacked: Callable[..., Any]
) -> None:
    attack = built("BoundaryAttack", norm="l2", steps=50, epsilon=4)
    model = DecisionsOnly(digits.model())
    assert not attack.needs.missing(model=model.offers, data=frozenset({"labels"}), train_fn=False)
    assert built("LinfPGD").needs.missing(
        model=model.offers, data=frozenset({"labels"}), train_fn=False
    ) == ("model: gradients", "model: module")
    result = attacked(attack, model, digits.x[:16], digits.y[:16])
    assert result.curve()[4.0] < result.one("clean_accuracy").value
    assert result.cost.forward == pytest.approx(result.table["forward"].sum())


def test_foolbox_giving_up_is_told_in_words(digits: Any, attacked: Callable[..., Any]) -> None:
    """Blended noise that never fools leaves BoundaryAttack without a starting point."""
    x, y = digits.x[:8], digits.y[:8]
    blind = digits.model()
    with torch.no_grad():
        constant = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        constant[1].weight.zero_()
        constant[1].bias.copy_(torch.eye(10)[int(y[0])])
    blind = type(blind)(constant, bounds=(0, 1), device="cpu", classes=blind.classes)
    with pytest.raises(FoolboxFailed, match="foolbox:BoundaryAttack gave up: init_attack failed"):
        attacked(built("BoundaryAttack", norm="l2", steps=2), blind, x, y)


@pytest.mark.parametrize(
    ("name", "params", "told"),
    [
        ("FGSM", {}, (2, 1)),
        ("LinfPGD", {"steps": 7}, (8, 7)),
        ("LinfDeepFoolAttack", {"steps": 4, "candidates": 3}, (10, 8)),
        ("L2CarliniWagnerAttack", {}, None),
    ],
)
def test_the_cost_is_told_beforehand_where_it_is_plain(
    name: str, params: dict[str, Any], told: Any, digits: Any, attacked: Callable[..., Any]
) -> None:
    attack = built(name, epsilon=1e-6, **params)
    cost = attack.passes(n=50, classes=10)
    if told is None:
        assert cost is None
        return
    assert (cost.forward, cost.backward) == (50 * told[0], 50 * told[1])
    result = attacked(attack, digits.model(), digits.x[:50], digits.y[:50])
    assert result.cost.forward <= cost.forward
    assert result.cost.backward <= cost.backward


def test_it_imports_where_there_is_no_git(tmp_path: Any) -> None:
    code = (
        "import os; from dlaudit.attacks.via_foolbox import imported; imported(); "
        "print(os.environ.get('GIT_PYTHON_REFRESH'))"
    )
    bare = {**os.environ, "PATH": str(tmp_path)}
    bare.pop("GIT_PYTHON_REFRESH", None)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env=bare,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "None", "the environment is put back"


def test_examples_come_back_like_the_inputs(digits: Any) -> None:
    x = torch.from_numpy(digits.x[:4])
    batch = Batch(x, torch.from_numpy(digits.y[:4]), np.arange(4).astype(str))
    threat = Threat(norm="linf", epsilon=0.1, bounds=(0, 1))
    found = built("LinfPGD", steps=2).perturb(
        digits.model(), batch, threat, torch.Generator().manual_seed(0)
    )
    assert (found.shape, found.dtype) == (x.shape, x.dtype)
    assert typing.cast("torch.Tensor", found).requires_grad is False


def test_what_the_user_tells_git_stays_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_PYTHON_REFRESH", "warn")
    imported()
    assert os.environ["GIT_PYTHON_REFRESH"] == "warn"

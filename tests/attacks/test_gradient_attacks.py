"""FGSM and PGD against arithmetic, against foolbox, and on a model that hides its gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from dlaudit import Attack, Batch, Epsilon, Threat
from dlaudit.attacks.fgsm import FGSM
from dlaudit.attacks.pgd import PGD
from dlaudit.attacks.via_foolbox import Foolbox
from dlaudit.audit.parts import decode_parameter
from dlaudit.errors import NotOffered

CURVE = Epsilon([0.01, 0.03, 0.1, 0.3])
ATTACKS = (
    FGSM(epsilon=CURVE),
    FGSM(epsilon=CURVE, loss="margin"),
    PGD(epsilon=CURVE, steps=10),
    PGD(epsilon=CURVE, steps=20, schedule="constant", random_start=False),
    PGD(epsilon=CURVE, steps=10, loss="cross_entropy", restarts=2),
)


def named(attack: Attack) -> str:
    changed = {"norm", "loss", "schedule", "restarts"} & set(attack.__struct_fields__)
    return "-".join([type(attack).__name__, *(str(getattr(attack, f)) for f in sorted(changed))])


@pytest.mark.parametrize("attack", ATTACKS, ids=named)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_on_a_linear_model_robust_accuracy_is_the_closed_form(
    attack: Attack, norm: str, linear: Any, attacked: Callable[..., Any]
) -> None:
    """A sample survives iff its margin exceeds epsilon times the dual norm of the weights."""
    attack = msgspec.structs.replace(attack, norm=norm)
    result = attacked(attack, linear.model(), linear.x, linear.y)
    dual = np.abs(linear.w).sum() if norm == "linf" else np.linalg.norm(linear.w)
    for epsilon, found in result.curve().items():
        reach = epsilon * dual
        assert (np.abs(np.abs(linear.margin) - reach) > 1e-5).all(), "no sample lies on the edge"
        assert found == np.mean(linear.margin > reach)


@pytest.mark.parametrize("attack", ATTACKS, ids=named)
def test_on_a_linear_model_inside_per_feature_bounds_each_feature_goes_as_far_as_it_can(
    attack: Attack, linear: Any, attacked: Callable[..., Any]
) -> None:
    low, high = linear.x.min(axis=0), np.linspace(0.99, 1.05, linear.x.shape[1])
    high = np.maximum(high, linear.x.max(axis=0))
    result = attacked(attack, linear.model(bounds=(low, high)), linear.x, linear.y)
    down = np.where(
        linear.y[:, None] == 1, linear.w, -linear.w
    )  # the direction that hurts is -down
    room = np.where(down > 0, linear.x - low, high - linear.x).astype(float)
    for epsilon, found in result.curve().items():
        loss = (np.abs(linear.w) * np.minimum(epsilon, room)).sum(axis=1)
        sure = np.abs(linear.margin - loss) > 1e-4
        assert sure.all()
        assert found == np.mean(linear.margin > loss)
    assert {m.conditions["bounds"] for m in result.measurements[1:]} == {"per feature"}


def perturbed(
    attack: Attack, model: Any, x: np.ndarray, y: np.ndarray, epsilon: float
) -> np.ndarray:
    """What an attack returns, before any judgement."""
    batch = Batch(torch.from_numpy(x), torch.from_numpy(y), np.arange(len(y)).astype(str))
    threat = Threat(norm=attack.norm, epsilon=epsilon, bounds=(0, 1))
    return attack.perturb(model, batch, threat, torch.Generator().manual_seed(0)).numpy()


@pytest.mark.parametrize(
    ("norm", "theirs", "epsilon"),
    [("linf", "LinfFastGradientAttack", 0.05), ("l2", "L2FastGradientAttack", 0.4)],
)
def test_fgsm_returns_the_examples_that_foolbox_returns(
    norm: Any, theirs: str, epsilon: float, digits: Any
) -> None:
    model = digits.model()
    ours = perturbed(FGSM(norm=norm), model, digits.x, digits.y, epsilon)
    reference = perturbed(Foolbox.member(theirs)(), model, digits.x, digits.y, epsilon)
    # foolbox scales the whole l2 step into the ball before it cuts to the bounds; both cut last.
    assert np.abs(np.clip(ours, 0, 1) - np.clip(reference, 0, 1)).max() < 2e-6


@pytest.mark.parametrize(
    ("norm", "theirs", "epsilon"),
    [
        ("linf", "LinfProjectedGradientDescentAttack", 0.05),
        ("l2", "L2ProjectedGradientDescentAttack", 0.4),
    ],
)
def test_pgd_at_the_same_setting_leaves_what_foolbox_leaves_and_never_more(
    norm: Any, theirs: str, epsilon: float, digits: Any, attacked: Callable[..., Any]
) -> None:
    """foolbox returns its last iterate, we the first that fools: a few samples may slip away there."""
    model, budget = digits.model(), Epsilon(epsilon)
    ours = PGD(
        norm=norm, epsilon=budget, steps=10, loss="cross_entropy", schedule="constant",
        step_size=Epsilon(epsilon / 4), random_start=False,
    )  # fmt: skip
    reference = Foolbox.member(theirs)(
        epsilon=budget, steps=10, abs_stepsize=epsilon / 4, random_start=False
    )
    found = attacked(ours, model, digits.x, digits.y).one("robust_accuracy").value
    expected = attacked(reference, model, digits.x, digits.y).one("robust_accuracy").value
    assert 0.1 < expected < 0.9, "the budget decides something"
    assert expected - 0.02 <= found <= expected


def test_the_default_pgd_is_at_least_as_strong_as_fgsm_and_as_foolbox_with_twice_the_steps(
    digits: Any, attacked: Callable[..., Any]
) -> None:
    budget = Epsilon(0.05)
    strong = attacked(PGD(epsilon=budget), digits.model(), digits.x, digits.y)
    for other in (FGSM(epsilon=budget), Foolbox.member("LinfPGD")(epsilon=budget, steps=40)):
        weaker = attacked(other, digits.model(), digits.x, digits.y)
        assert strong.one("robust_accuracy").value <= weaker.one("robust_accuracy").value


def test_saturated_logits_stop_cross_entropy_and_inputs_moved_says_so(
    digits: Any, attacked: Callable[..., Any]
) -> None:
    """The planted defect, logits times 10,000, is seen; its clean twin is cleared."""
    attack = FGSM(epsilon=Epsilon(0.1))
    masked = attacked(attack, digits.model(scale=1e4), digits.x, digits.y)
    honest = attacked(attack, digits.model(), digits.x, digits.y)
    assert masked.one("inputs_moved").interval.high < 0.5
    assert masked.one("robust_accuracy").value > honest.one("robust_accuracy").value + 0.2
    assert honest.one("inputs_moved").interval.low > 0.9


def test_the_margin_is_not_fooled_by_saturated_logits(
    digits: Any, attacked: Callable[..., Any]
) -> None:
    attack = PGD(epsilon=Epsilon(0.05), steps=10)
    masked = attacked(attack, digits.model(scale=1e4), digits.x, digits.y)
    honest = attacked(attack, digits.model(), digits.x, digits.y)
    assert masked.curve() == honest.curve()
    assert masked.one("inputs_moved").value == 1


def test_a_fooled_sample_costs_nothing_more(digits: Any, attacked: Callable[..., Any]) -> None:
    result = attacked(PGD(epsilon=Epsilon(0.3), steps=40), digits.model(), digits.x, digits.y)
    fooled = result.table["fooled"]
    assert fooled.mean() > 0.9
    assert result.table["backward"][fooled].mean() < 10
    assert (result.table["backward"][result.table["robust"]] == 40).all()
    assert (result.table["forward"][~result.table["attacked"]] == 0).all()


def test_restarts_attack_only_who_is_left_and_never_lose_a_success(
    digits: Any, attacked: Callable[..., Any]
) -> None:
    one = attacked(PGD(epsilon=Epsilon(0.04), steps=4), digits.model(), digits.x, digits.y)
    five = attacked(
        PGD(epsilon=Epsilon(0.04), steps=4, restarts=5), digits.model(), digits.x, digits.y
    )
    assert (five.table["fooled"] >= one.table["fooled"]).all()
    robust = five.table["robust"]
    assert (five.table["backward"][robust] == 5 * 4).all()
    # 4 gradients and 1 look a restart; the last look is the harness's own.
    assert (five.table["forward"][robust] == 5 * 5).all()


def test_a_last_iterate_that_fools_is_kept_and_costs_no_further_restart(
    digits: Any, attacked: Callable[..., Any]
) -> None:
    """One step, one look: who is fooled by the look has spent 1 gradient, and is judged once more."""
    attack = PGD(epsilon=Epsilon(0.1), steps=1, restarts=3)
    table = attacked(attack, digits.model(), digits.x, digits.y).table
    spent = set(zip(table["forward"], table["backward"], table["fooled"], strict=True))
    assert (3, 1, True) in spent
    assert (3, 1, False) not in spent


@pytest.mark.parametrize(
    ("attack", "per_sample"),
    [
        (FGSM(), (2, 1)),
        (FGSM(epsilon=Epsilon([0, 0.1, 0.2])), (4, 2)),
        (PGD(steps=7), (8, 7)),
        (PGD(steps=7, restarts=3, epsilon=Epsilon([0.1, 0.2])), (48, 42)),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_the_cost_told_beforehand_is_what_a_robust_sample_costs(
    attack: Attack, per_sample: tuple[int, int], digits: Any, attacked: Callable[..., Any]
) -> None:
    tiny = Epsilon([1e-7 * (i + bool(e)) for i, e in enumerate(attack.epsilon)])
    attack = msgspec.structs.replace(attack, epsilon=tiny)
    result = attacked(attack, digits.model(), digits.x[:50], digits.y[:50])
    assert result.table["robust"].sum() == result.table["attacked"].sum()
    n = int(result.table["attacked"].sum())
    told = attack.passes(n=n, classes=10)
    assert (told.forward, told.backward) == (n * per_sample[0], n * per_sample[1])
    assert result.cost == told


def test_the_cost_told_beforehand_heeds_the_number_of_samples() -> None:
    assert PGD(steps=5, samples=10).passes(n=1000, classes=3).backward == 50


@pytest.mark.parametrize(
    ("kind", "params", "message"),
    [
        (PGD, {"norm": "l1"}, "norm: expected one of linf, l2, got l1"),
        (FGSM, {"norm": "patch"}, "norm: expected one of linf, l2, got patch"),
        (FGSM, {"samples": 0}, "samples: expected a number >= 1, got 0"),
        (PGD, {"steps": 0}, "steps: expected a number >= 1, got 0"),
        (PGD, {"restarts": -1}, "restarts: expected a number >= 1, got -1"),
        (PGD, {"step_size": 0}, "step_size: expected one number > 0, got 0"),
        (PGD, {"step_size": [0.1, 0.2]}, "step_size: expected one number > 0"),
        (PGD, {"loss": "hinge"}, "Invalid enum value 'hinge'"),
    ],
)
def test_parameters_that_make_no_attack_are_refused_in_words(
    kind: type[Attack], params: dict[str, Any], message: str
) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(params, kind, dec_hook=decode_parameter)


def test_conditions_state_the_whole_protocol_resolved_at_each_budget() -> None:
    stated = PGD(epsilon=Epsilon([0.1, 0.2]), steps=5).conditions(0.2)
    assert stated == {
        "norm": "linf", "epsilon": 0.2, "steps": 5, "restarts": 1, "targeted": False, "loss": "margin",
        "schedule": "linear", "step_size": 0.4, "random_start": True,
    }  # fmt: skip
    assert PGD(steps=5, schedule="constant").conditions(0.2)["step_size"] == pytest.approx(0.1)
    assert PGD(step_size=Epsilon("2/255")).conditions(0.2)["step_size"] == 2 / 255
    assert FGSM().conditions(0.2)["steps"] == 1


def test_dlr_on_two_classes_is_an_error_with_a_way_out(
    linear: Any, attacked: Callable[..., Any]
) -> None:
    with pytest.raises(NotOffered, match="at least 3 classes, got 2"):
        attacked(PGD(loss="dlr"), linear.model(), linear.x, linear.y)


def test_perturb_by_itself_returns_what_the_search_finds(digits: Any) -> None:
    found = perturbed(PGD(steps=3), digits.model(), digits.x[:10], digits.y[:10], 0.1)
    assert found.shape == digits.x[:10].shape
    assert 0 < np.abs(found - digits.x[:10]).max() <= 0.1


def test_linear_steps_shrink_to_nothing_and_constant_steps_do_not() -> None:
    assert PGD(steps=4).sizes(1.0) == pytest.approx([2.0, 1.5, 1.0, 0.5])
    assert PGD(steps=5, schedule="constant").sizes(1.0) == pytest.approx([0.5] * 5)

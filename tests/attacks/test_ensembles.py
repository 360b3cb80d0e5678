"""APGD, FAB, Square and what is made of them, against closed forms, brute force and their papers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize
from torch import nn

from dlaudit import Attack, Batch, Epsilon, TorchModel
from dlaudit.attacks.apgd import APGD
from dlaudit.attacks.auto_ascent import Climber, checkpoints, halve
from dlaudit.attacks.autoattack import AutoAttack
from dlaudit.attacks.ball import Ball
from dlaudit.attacks.base import Threat
from dlaudit.attacks.boundary import to_boundary
from dlaudit.attacks.cascade import BUDGETS, FIRST, Cascade, nearest, stages
from dlaudit.attacks.climb import climb, directions
from dlaudit.attacks.fab import FAB
from dlaudit.attacks.losses import margin, targeted_dlr, targeted_margin
from dlaudit.attacks.square import Square, pictures, share_at, squares
from dlaudit.attacks.survivors import Survivors, rivals
from dlaudit.errors import NotOffered

SHORT: list[Attack] = [
    APGD(steps=12),
    APGD(steps=12, loss="targeted_margin", targets=2),
    APGD(steps=12, norm="l2", loss="margin"),
    APGD(steps=30, norm="l1", loss="margin"),
    FAB(steps=12, targets=2),
    FAB(steps=12, targets=2, norm="l2"),
    Square(queries=60),
    AutoAttack(steps=8, targets=2, queries=30),
    Cascade(budget=40),
    Cascade(norm="l2", budget=75),
    Cascade(setting="thorough", budget=160),
]


def named(attack: Attack) -> str:
    return f"{type(attack).__name__}-{attack.norm}-{getattr(attack, 'loss', '')}"


def of(attack: Attack, epsilon: float) -> Attack:
    fields = {name: getattr(attack, name) for name in attack.__struct_fields__}
    return type(attack)(**fields | {"epsilon": Epsilon(epsilon)})


@pytest.mark.parametrize("attack", [a for a in SHORT if not isinstance(a, Square)], ids=named)
def test_a_linear_model_is_fooled_exactly_where_its_margin_allows(
    attack: Attack, attacked: Callable[..., Any], linear: Any
) -> None:
    """Unbounded inputs: fooled if and only if the margin is below epsilon times the dual norm."""
    order = {"linf": 1, "l2": 2, "l1": np.inf}[attack.norm]
    dual, epsilon = np.linalg.norm(linear.w, ord=order), 0.05
    result = attacked(of(attack, epsilon), linear.model(), linear.x, linear.y)
    margin = linear.margin[result.table["attacked"]]
    # FAB stops within half a percent of the boundary: it goes 5 % beyond and comes back by a tenth.
    sure = np.abs(margin / (epsilon * dual) - 1) > (0.01 if isinstance(attack, FAB) else 1e-3)
    expected = margin < epsilon * dual
    assert (result.table["fooled"][result.table["attacked"]] == expected)[sure].all()


def test_square_fools_no_linear_model_beyond_its_margin(
    attacked: Callable[..., Any], linear: Any
) -> None:
    result = attacked(
        Square(epsilon=Epsilon(0.05), queries=200), linear.model(), linear.x, linear.y
    )
    reach = 0.05 * np.abs(linear.w).sum()
    fooled = result.table["fooled"]
    assert fooled.sum() > 0
    assert (linear.margin[fooled] <= reach * (1 + 1e-6)).all()
    # Queries alone come close to the best corner on twelve values.
    possible = result.table["attacked"] & (linear.margin < 0.8 * reach)
    assert (fooled & possible).sum() >= 0.9 * possible.sum()


@pytest.mark.parametrize("attack", SHORT, ids=named)
@settings(max_examples=4)
@given(
    seed=st.integers(0, 2**31), epsilon=st.floats(0.001, 1.5), double=st.booleans(),
    valid=st.tuples(st.floats(-1, 0.2), st.floats(0.5, 2)),
)  # fmt: skip
def test_every_example_is_inside_its_threat_model(
    attack: Attack, seed: int, epsilon: float, valid: tuple[float, float], *, double: bool
) -> None:
    """Any budget, range and dtype; classes 2 to 5, samples already wrong among them."""
    low, span = valid
    rng = np.random.default_rng(seed)
    dtype = torch.float64 if double else torch.float32
    classes = int(rng.integers(2, 6))
    with torch.random.fork_rng():
        torch.manual_seed(seed % 1000)
        net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, classes))
    model = TorchModel(net.to(dtype), bounds=(low, low + span), device="cpu")
    x = torch.from_numpy(rng.uniform(low, low + span, (9, 1, 4, 4))).to(dtype)
    x = x.clamp(low, low + span)
    y = torch.from_numpy(rng.integers(0, classes, 9))
    threat = Threat(norm=attack.norm, epsilon=epsilon, bounds=model.bounds)
    batch = Batch(x, y, np.arange(9).astype(str))
    found = attack.search(model, batch, threat, torch.Generator().manual_seed(seed))
    assert found.x.dtype == dtype
    assert Ball(x, threat).contains(found.x).all()
    claimed = found.trace["stage"] >= 0
    assert (model.logits(found.x).argmax(dim=1) != y)[claimed].all()


def test_checkpoints_of_a_hundred_steps_are_those_of_the_paper() -> None:
    assert sorted(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert all(0 < at <= 7 for at in checkpoints(7))


def test_a_step_is_halved_where_few_steps_helped_or_nothing_changed() -> None:
    """By hand, a period of 4: 3 improvements are too few (3 <= 0.75 * 4), 4 are enough."""

    def state(improved: float, checked: float, best: float, halved: bool) -> Climber:
        one = torch.ones(1, 2)
        return Climber(
            place=torch.tensor([0]), labels=torch.tensor([0]), x=one, before=one, gradient=one,
            best=2 * one, best_gradient=3 * one, best_value=torch.tensor([best]),
            best_margin=torch.tensor([best]),
            value=torch.tensor([0.0]), size=torch.tensor([0.8]), improved=torch.tensor([improved]),
            checked_value=torch.tensor([checked]), halved=torch.tensor([halved]),
        )  # fmt: skip

    few = halve(state(3, 0, 1, halved=True), 4)
    assert few.size.item() == pytest.approx(0.4)
    assert few.halved.item()
    assert (few.x == 2).all()
    assert (few.gradient == 3).all()
    enough = halve(state(4, 0, 1, halved=True), 4)
    assert enough.size.item() == pytest.approx(0.8)
    assert (enough.x == 1).all()
    assert not enough.halved.item()
    # Condition 2 holds only if the step was not halved the last time.
    assert halve(state(4, 1, 1, halved=False), 4).halved.item()
    assert not halve(state(4, 1, 1, halved=True), 4).halved.item()
    assert enough.checked_value.item() == 1
    assert enough.improved.item() == 0


def test_targeted_losses_by_hand() -> None:
    logits = torch.tensor([[4.0, 3.0, 1.0, 0.0]])
    pairs = torch.tensor([[0, 2]])
    assert targeted_margin(logits, pairs).item() == -3
    assert targeted_dlr(logits, pairs).item() == pytest.approx(-3 / (4 - 0.5))
    with pytest.raises(NotOffered, match="at least 4 classes, got 3"):
        targeted_dlr(logits[:, :3], pairs)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**31), bounded=st.booleans())
def test_the_way_to_the_boundary_is_the_shortest(seed: int, *, bounded: bool) -> None:
    """linf against a linear programme, l2 against a constrained minimiser; both of scipy."""
    rng = np.random.default_rng(seed)
    d = 5
    x, w, scale = rng.uniform(0, 1, d), rng.normal(size=d), rng.uniform(0.5, 2, d)
    low, high = (np.zeros(d), np.ones(d)) if bounded else (np.full(d, -np.inf), np.full(d, np.inf))
    most = (np.where(w > 0, high - x, x - low) * np.abs(w)).sum() if bounded else 3.0
    amount = float(rng.uniform(0.1, 0.9) * most)
    ends = [torch.from_numpy(v)[None] for v in (x, low, high)]

    def move(norm: Any) -> np.ndarray:
        way = to_boundary(
            ends[0], torch.from_numpy(w)[None], torch.tensor([amount], dtype=torch.float64),
            within=(ends[1], ends[2]), norm=norm, scale=torch.from_numpy(scale)[None],
        )  # fmt: skip
        return way.numpy()[0]

    cube, round_ = move("linf"), move("l2")
    for way in (cube, round_):
        assert way @ w == pytest.approx(amount, rel=1e-9)
        assert ((x + way >= low - 1e-12) & (x + way <= high + 1e-12)).all()
    programme = linprog(
        [*np.zeros(d), 1],
        A_ub=np.block([[np.eye(d), -scale[:, None]], [-np.eye(d), -scale[:, None]]]),
        b_ub=np.zeros(2 * d), A_eq=[[*w, 0]], b_eq=[amount],
        bounds=[*zip(low - x, high - x, strict=True), (0, None)],
    )  # fmt: skip
    assert np.abs(cube / scale).max() == pytest.approx(programme.fun, rel=1e-7)
    other = minimize(
        lambda v: (v / scale) @ (v / scale), round_ * 0.9, jac=lambda v: 2 * v / scale**2, method="SLSQP",
        constraints={"type": "eq", "fun": lambda v: v @ w - amount, "jac": lambda v: w},
        bounds=list(zip(low - x, high - x, strict=True)), options={"ftol": 1e-14},
    )  # fmt: skip
    assert np.linalg.norm(round_ / scale) <= np.linalg.norm(other.x / scale) * (1 + 1e-5)


def test_where_the_range_does_not_allow_the_way_everybody_goes_to_the_end() -> None:
    ends = [torch.full((1, 2), value, dtype=torch.float64) for value in (0.5, 0, 1)]
    w, one = torch.tensor([[1.0, -2.0]], dtype=torch.float64), torch.ones(1, 2, dtype=torch.float64)
    far = torch.tensor([100.0], dtype=torch.float64)
    way = to_boundary(ends[0], w, far, within=(ends[1], ends[2]), norm="linf", scale=one)
    assert way.tolist() == [[0.5, -0.5]]
    still = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    way = to_boundary(ends[0], w, far, within=(ends[1], ends[2]), norm="linf", scale=still)
    assert way.tolist() == [[0.5, 0]]
    nowhere = torch.zeros_like(w)
    assert not to_boundary(
        ends[0], nowhere, far, within=(ends[1], ends[2]), norm="l2", scale=one
    ).any()


def test_fab_comes_within_a_percent_of_the_nearest_example(linear: Any) -> None:
    """On a linear model the nearest example is known: the margin over the dual norm."""
    model = linear.model()
    right = linear.margin > 0
    x, y = torch.from_numpy(linear.x[right]), torch.from_numpy(linear.y[right])
    exact = linear.margin[right] / np.abs(linear.w).sum()
    for slack, all_found in ((1.06, True), (0.999, False)):
        threats = [Threat(norm="linf", epsilon=float(e * slack)) for e in exact[:20]]
        for i, threat in enumerate(threats):
            batch = Batch(x[i : i + 1], y[i : i + 1], np.array(["a"]))
            found = FAB(steps=20).search(model, batch, threat, torch.Generator())
            fooled = bool((found.trace["stage"] >= 0).item())
            assert fooled == all_found


def test_squares_shrink_as_published() -> None:
    """The standard ensemble: 0.8, halved after 10, 50, 200, 500, 1000, 2000, 4000 queries."""
    shares = [share_at(q) / 0.8 for q in (0, 10, 11, 50, 51, 200, 201, 501, 1001, 2001, 4001)]
    assert shares == [1, 1, 1 / 2, 1 / 2, 1 / 4, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128]
    assert pictures((3, 4, 5)) == (3, 4, 5)
    assert pictures((4, 5)) == (1, 4, 5)
    assert pictures((7,)) == (1, 1, 7)


def test_rivals_are_the_other_classes_nearest_first() -> None:
    logits = torch.tensor([[3.0, 1, 2], [0, 5, 9]])
    assert rivals(logits, torch.tensor([0, 0])).tolist() == [[2, 1], [2, 1]]


def test_directions_lead_from_the_label_to_the_rival() -> None:
    made = directions(torch.tensor([1]), 4, torch.tensor([3]), torch.Generator().manual_seed(0))
    assert made[0, 1].item() == pytest.approx(-0.5)
    assert made[0, 3].item() == pytest.approx(0.8)
    free = directions(torch.tensor([1]), 4, None, torch.Generator().manual_seed(0))
    assert (free.abs() <= 1).all()


def test_whoever_is_fooled_costs_nothing_more_and_keeps_the_example(digits: Any) -> None:
    model = digits.model()
    x, y = torch.from_numpy(digits.x[:60]), torch.from_numpy(digits.y[:60])
    right = model.logits(x).argmax(dim=1) == y
    x, y = x[right], y[right]
    left = Survivors(model, Ball(x, Threat(norm="linf", epsilon=0.15, bounds=(0, 1))), y)
    left.face(climb, sizes=[0.3, 0.2, 0.1])
    early, spent = left.stage == 0, left.forward.clone()
    assert 0 < early.sum() < len(y)
    kept = left.x[early].clone()
    left.face(climb, sizes=[0.1] * 5, generator=torch.Generator().manual_seed(0))
    assert (left.forward[early] == spent[early]).all()
    assert (left.x[early] == kept).all()
    assert (left.forward[left.open] == spent[left.open] + 6).all()
    # What is told of the passes is what the model counted.
    assert model.passes.forward == len(right) + left.forward.sum().item()
    assert model.passes.backward == left.backward.sum().item()
    before = left.forward.clone()
    left.face(climb, sizes=[0.1], among=torch.zeros(len(left.open), dtype=torch.bool))
    assert (left.forward == before).all()


def test_the_best_example_of_all_searches_is_kept_and_gone_on_from(digits: Any) -> None:
    """A worse search changes nothing; a polish, and squares, start where the best one ended."""
    model = digits.model()
    x, y = torch.from_numpy(digits.x[:40]), torch.from_numpy(digits.y[:40])
    right = model.logits(x).argmax(dim=1) == y
    x, y = x[right], y[right]
    ball = Ball(x, Threat(norm="linf", epsilon=0.03, bounds=(0, 1)))
    left = Survivors(model, ball, y)
    left.face(climb, sizes=[0.06, 0.03, 0.01])
    rows = left.open
    kept, value = left.x[rows].clone(), left.value[rows].clone()
    assert torch.allclose(margin(model.logits(kept), y[rows]), value, atol=1e-4)
    left.face(climb, sizes=[1e-6], generator=torch.Generator().manual_seed(0))
    same = left.value[rows] == value
    assert same.sum() > len(rows) // 2
    assert (left.x[rows][same] == kept[same]).all()
    for search in (
        {"search": climb, "sizes": [0.003, 0.001], "onward": True},
        {"search": squares, "queries": 30, "generator": torch.Generator(), "onward": True},
    ):
        before = left.value[rows].clone()
        left.face(**search)
        assert (left.value[rows] >= before).all()
    assert (left.value[left.open] > value[torch.isin(rows, left.open)]).any()


@pytest.mark.parametrize("setting", ["standard", pytest.param("thorough", marks=pytest.mark.slow)])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_robust_sample_costs_no_more_than_the_budget(
    setting: Any, norm: Any, attacked: Callable[..., Any], digits: Any
) -> None:
    attack = Cascade(setting=setting, norm=norm, epsilon=Epsilon(0.02))
    result = attacked(attack, digits.model(), digits.x[:200], digits.y[:200], block=256)
    robust = result.table["robust"]
    assert robust.sum() > 50
    for column in ("forward", "backward"):
        assert result.table[column][robust].mean() <= BUDGETS[setting]
    assert result.cost.forward == result.table["forward"].sum()
    assert result.cost.backward == result.table["backward"].sum()
    assert result.one("robust_accuracy").conditions["budget"] == BUDGETS[setting]


def test_a_larger_budget_adds_stages_and_a_smaller_takes_them_away() -> None:
    counts = [len(list(stages("standard", "linf", budget))) for budget in (30, 75, 300)]
    assert counts[0] < counts[1] < counts[2]
    assert len(Cascade(budget=30).played) < len(Cascade().played)
    with pytest.raises(ValueError, match="budget: expected a number >= 2"):
        Cascade(budget=5)


def test_the_nearest_share_is_never_nobody() -> None:
    values = torch.tensor([0.0, 3.0, 1.0, 2.0])
    assert nearest(values, 2).tolist() == [False, True, False, True]
    assert FIRST._replace(share=0.01).among(4) == 1
    assert FIRST._replace(share=0.5).among(5) == 2


@pytest.mark.parametrize("n", [1, 3, 18])
def test_a_handful_of_samples_costs_no_more_than_the_budget_either(
    n: int, attacked: Callable[..., Any], digits: Any
) -> None:
    """Shares of few samples are rounded up to whole ones: the budget counts what is spent."""
    right = digits.model().logits(digits.x).argmax(dim=1).numpy() == digits.y
    x, y = digits.x[right][:n], digits.y[right][:n]
    result = attacked(Cascade(epsilon=Epsilon(0.005)), digits.model(), x, y)
    assert result.table["robust"].all()
    assert 50 < result.table["forward"].mean() <= 75
    assert result.table["backward"].mean() <= 75


def test_the_cascade_fools_whoever_pgd_and_fgsm_fool(
    attacked: Callable[..., Any], digits: Any
) -> None:
    from dlaudit.attacks.fgsm import FGSM
    from dlaudit.attacks.pgd import PGD

    robust = {
        type(attack).__name__: attacked(attack, digits.model(), digits.x, digits.y).table["robust"]
        for attack in (
            FGSM(epsilon=Epsilon(0.08)), PGD(epsilon=Epsilon(0.08)), Cascade(epsilon=Epsilon(0.08)),
        )
    }  # fmt: skip
    assert not (robust["Cascade"] & ~robust["FGSM"]).any()
    assert not (robust["Cascade"] & ~robust["PGD"]).any()


def test_apgd_in_l1_fools_whom_foolbox_fools_and_more(
    attacked: Callable[..., Any], digits: Any
) -> None:
    """Beside foolbox's L1FMN, an independent search for the nearest example in the same norm."""
    from dlaudit.attacks.via_foolbox import Foolbox

    robust = [
        attacked(attack, digits.model(), digits.x, digits.y).one("robust_accuracy").value
        for attack in (
            APGD(norm="l1", epsilon=Epsilon(2), steps=60, loss="margin"),
            Foolbox.member("L1FMNAttack")(epsilon=Epsilon(2)),
        )
    ]  # fmt: skip
    assert robust[0] <= robust[1]


def test_saturated_logits_hide_nothing_from_the_cascade(
    attacked: Callable[..., Any], digits: Any
) -> None:
    """Logits times a thousand change no decision, so they change no figure either."""
    plain, scaled = (
        attacked(Cascade(epsilon=Epsilon(0.06)), digits.model(scale), digits.x, digits.y)
        for scale in (1.0, 1000.0)
    )
    values = [r.one("robust_accuracy").value for r in (plain, scaled)]
    assert abs(values[0] - values[1]) <= 0.02


@pytest.mark.parametrize(
    ("attack", "field"),
    [
        *itertools.product([APGD], ["steps", "restarts", "targets"]),
        (FAB, "steps"), (FAB, "targets"), (Square, "queries"), (AutoAttack, "queries"),
    ],
)  # fmt: skip
def test_numbers_that_make_no_attack_are_refused(attack: Any, field: str) -> None:
    with pytest.raises(ValueError, match=f"{field}: expected a number >= 1, got 0"):
        attack(**{field: 0})


@pytest.mark.parametrize(
    "attack", [a for a in SHORT if not isinstance(a, Cascade | AutoAttack)], ids=named
)
def test_no_more_passes_are_spent_than_were_foreseen(
    attack: Attack, attacked: Callable[..., Any], digits: Any
) -> None:
    result = attacked(of(attack, 0.02), digits.model(), digits.x, digits.y)
    foreseen = attack.passes(n=int(result.table["attacked"].sum()), classes=10)
    assert result.cost.forward <= foreseen.forward
    assert result.cost.backward <= foreseen.backward

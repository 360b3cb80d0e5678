"""Every attack is re-judged: what counts as fooled, whom it attacks, what the numbers say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dlaudit import Attack, Batch, Decisions, Epsilon, TorchModel
from dlaudit.attacks.fgsm import FGSM
from dlaudit.attacks.harness import WrongExamples
from dlaudit.attacks.pgd import PGD
from dlaudit.audit.parts import Card, Model
from dlaudit.audit.statistics import wilson
from dlaudit.errors import NonFinite, NotOffered

NAN = float("nan")


class UniformNoise(Attack, frozen=True, kw_only=True):
    """Uniform noise inside the L-infinity ball, as a guest would write it."""

    draws: int = 1

    def perturb(self, model: Any, batch: Any, threat: Any, generator: Any) -> Tensor:
        noise = torch.rand(batch.x.shape, generator=generator).to(batch.x)
        return batch.x + threat.epsilon * (2 * noise - 1)


class Returns(Attack, frozen=True, kw_only=True):
    """Whatever the test says, whatever the budget."""

    what: ClassVar[Callable[[Any], Any]]

    def perturb(self, model: Any, batch: Any, threat: Any, generator: Any) -> Any:
        return type(self).what(batch)


def returning(what: Callable[[Any], Any], **params: Any) -> Attack:
    kind = type("Planted", (Returns,), {"what": staticmethod(what), "__module__": __name__})
    return kind(**params)


def towards(linear: Any) -> Callable[[Any], Tensor]:
    """The direction that fools the linear model, a thousand budgets long."""
    w = torch.from_numpy(linear.w).float()

    def what(batch: Any) -> Tensor:
        return batch.x - 1000 * torch.where(batch.y[:, None] == 1, w, -w).sign()

    return what


def test_a_guest_of_eight_lines_is_clipped_scored_and_measured(
    linear: Any, attacked: Callable[..., Any]
) -> None:
    result = attacked(UniformNoise(epsilon=Epsilon(0.1)), linear.model((0, 1)), linear.x, linear.y)
    assert [m.name for m in result.measurements] == [
        "clean_accuracy", "robust_accuracy", "inputs_moved",
    ]  # fmt: skip
    stated = result.measurements[1].conditions
    assert stated == {
        "norm": "linf", "epsilon": 0.1, "targeted": False, "draws": 1, "bounds": "[0, 1]",
    }  # fmt: skip


def test_examples_outside_the_ball_are_projected_before_they_count(
    linear: Any, attacked: Callable[..., Any]
) -> None:
    """A thousand budgets away every input would be fooled; projected, it is the closed form."""
    result = attacked(
        returning(towards(linear), epsilon=Epsilon([0.01, 0.1])), linear.model(), linear.x, linear.y
    )
    dual = np.abs(linear.w).sum()
    for epsilon, found in result.curve().items():
        assert found == np.mean(linear.margin > epsilon * dual)
    reached = result.table["distance"][result.table["fooled"]]
    assert (reached <= result.table["epsilon_fooled"][result.table["fooled"]] * (1 + 1e-9)).all()


def test_examples_outside_the_bounds_are_cut_to_them(
    linear: Any, attacked: Callable[..., Any]
) -> None:
    """With no room between input and bound nothing can move, so nothing is fooled."""
    x = np.round(linear.x)
    model = linear.model((x.min(axis=0), x.min(axis=0)))
    low = attacked(
        returning(lambda batch: batch.x - 5, epsilon=Epsilon(0.5)),
        model,
        np.zeros_like(x),
        linear.y,
    )
    assert low.one("inputs_moved").value == 0
    assert low.curve()[0.5] == low.one("clean_accuracy").value


def test_nan_and_infinity_are_never_a_success_and_void_the_score(
    linear: Any, attacked: Callable[..., Any]
) -> None:
    def broken(batch: Any) -> Tensor:
        x = towards(linear)(batch)
        x[0::3, 0] = NAN
        x[1::3, 0] = float("inf")
        return x

    result = attacked(returning(broken, epsilon=Epsilon(5)), linear.model(), linear.x, linear.y)
    third = result.one("robust_accuracy")
    assert 0.5 < third.value / result.one("clean_accuracy").value < 0.75
    (doubt,) = [caveat for caveat in third.caveats if caveat.voids]
    assert "NaN or infinity" in doubt.message
    assert result.one("inputs_moved").value < 0.5
    honest = attacked(
        returning(towards(linear), epsilon=Epsilon(5)), linear.model(), linear.x, linear.y
    )
    assert not any(caveat.voids for caveat in honest.one("robust_accuracy").caveats)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_another_dtype_is_brought_back_to_the_one_that_is_deployed(
    dtype: torch.dtype, linear: Any, attacked: Callable[..., Any]
) -> None:
    fooling = towards(linear)
    attack = returning(lambda batch: fooling(batch).to(dtype), epsilon=Epsilon(0.01))
    result = attacked(attack, linear.model((0, 1)), linear.x, linear.y)
    moved = result.table["distance"][result.table["fooled"]]
    assert len(moved)
    assert (moved <= 0.01).all()
    exact = attacked(
        returning(fooling, epsilon=Epsilon(0.01)), linear.model((0, 1)), linear.x, linear.y
    )
    assert result.curve() == exact.curve()


@pytest.mark.parametrize(
    ("what", "got"),
    [
        (lambda batch: batch.x[:-1], "of shape"),
        (lambda batch: batch.x[:, :3], "of shape"),
        (lambda batch: batch.x.to(torch.complex64), "complex64"),
        (lambda batch: batch.x.tolist(), "got list"),
        (lambda batch: None, "got NoneType"),
    ],
)
def test_what_is_not_one_example_per_sample_is_an_error(
    what: Callable[[Any], Any], got: str, linear: Any, attacked: Callable[..., Any]
) -> None:
    with pytest.raises(WrongExamples, match=f"expected one example per sample.*{got}"):
        attacked(returning(what), linear.model(), linear.x, linear.y)


def test_an_attack_that_writes_into_its_inputs_does_not_move_the_point_it_is_judged_from(
    linear: Any, attacked: Callable[..., Any]
) -> None:
    def in_place(batch: Any) -> Tensor:
        batch.x.copy_(towards(linear)(batch))
        batch.y.fill_(0)
        return batch.x

    one = attacked(returning(in_place, epsilon=Epsilon(0.05)), linear.model(), linear.x, linear.y)
    two = attacked(
        returning(towards(linear), epsilon=Epsilon(0.05)), linear.model(), linear.x, linear.y
    )
    assert one.curve() == two.curve()
    assert one.curve()[0.05] > 0.5


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(
        st.floats(width=32) | st.sampled_from([NAN, float("inf"), 0.0]), min_size=7, max_size=7
    ),
    norm=st.sampled_from(["linf", "l2", "l1", "l0"]),
    budgets=st.lists(st.floats(0, 3), min_size=1, max_size=4),
)
def test_whatever_is_returned_the_curve_falls_and_every_success_is_within_its_budget(
    linear: Any, attacked: Callable[..., Any], values: list[float], norm: Any, budgets: list[float]
) -> None:
    def garbage(batch: Any) -> Tensor:
        pattern = torch.tensor(values, dtype=torch.float32)
        return pattern.repeat(batch.x.numel() // 7 + 1)[: batch.x.numel()].view_as(batch.x)

    x, y = linear.x[:70], linear.y[:70]
    attack = returning(garbage, norm=norm, epsilon=Epsilon(budgets))
    result = attacked(attack, linear.model((0, 1)), x, y)
    curve = result.curve()
    clean = result.one("clean_accuracy").value
    heights = [curve[epsilon] for epsilon in sorted(curve)]
    assert heights == sorted(heights, reverse=True)
    assert heights[0] <= clean
    assert curve.get(0.0, clean) == clean
    fooled = result.table["fooled"]
    spent, allowed = result.table["distance"][fooled], result.table["epsilon_fooled"][fooled]
    assert (spent <= allowed * (1 + 1e-9)).all()


def test_a_budget_of_nothing_changes_nothing_and_costs_nothing(
    digits: Any, attacked: Callable[..., Any]
) -> None:
    result = attacked(PGD(epsilon=Epsilon(0)), digits.model(), digits.x, digits.y)
    assert result.curve() == {0.0: result.one("clean_accuracy").value}
    assert result.one("inputs_moved").value == 0
    assert not result.table["moved"].any()
    assert (result.cost.forward, result.cost.backward) == (0, 0)


def test_a_curve_that_starts_at_nothing_speaks_of_moved_inputs_only_above(
    digits: Any, attacked: Callable[..., Any]
) -> None:
    result = attacked(FGSM(epsilon=Epsilon([0, 0.1])), digits.model(), digits.x, digits.y)
    assert set(result.curve()) == {0.0, 0.1}
    assert result.curve("inputs_moved") == {0.1: 1.0}


def test_only_samples_that_were_right_are_attacked_and_all_are_counted(
    linear: Any, attacked: Callable[..., Any]
) -> None:
    seen = []

    def watched(batch: Any) -> Tensor:
        seen.extend(batch.id)
        return batch.x

    result = attacked(returning(watched), linear.model(), linear.x, linear.y)
    right = np.flatnonzero(linear.margin > 0).astype(str)
    assert seen == list(right)
    assert (result.table["id"][result.table["attacked"]] == right).all()
    clean, robust, moved = result.measurements
    assert (clean.value, clean.n) == (len(right) / 300, 300)
    assert (robust.value, robust.n) == (len(right) / 300, 300)
    assert (moved.value, moved.n) == (0, len(right))
    assert clean.interval == wilson(len(right), 300)
    assert moved.interval == wilson(0, len(right))


def test_a_sample_fooled_at_a_small_budget_is_not_attacked_at_a_larger(
    digits: Any, attacked: Callable[..., Any]
) -> None:
    both = attacked(FGSM(epsilon=Epsilon([0.1, 0.2])), digits.model(), digits.x, digits.y)
    first = attacked(FGSM(epsilon=Epsilon(0.1)), digits.model(), digits.x, digits.y)
    assert both.curve()[0.1] == first.curve()[0.1]
    early = both.table["epsilon_fooled"] == 0.1
    assert (early == first.table["fooled"]).all()
    assert early.any()
    assert (both.table["backward"][early] == 1).all()
    later = both.table["attacked"] & ~early
    assert (both.table["backward"][later] == 2).all()


def test_a_success_is_carried_even_where_a_larger_budget_would_miss(
    linear: Any, attacked: Callable[..., Any]
) -> None:
    """Noise that happens to fool at a small budget fools at every larger one."""
    curve = Epsilon([0.05, 0.1, 0.2, 0.4, 0.8])
    result = attacked(UniformNoise(epsilon=curve), linear.model(), linear.x, linear.y)
    heights = [result.curve()[epsilon] for epsilon in curve]
    assert heights == sorted(heights, reverse=True)


def test_the_evidence_counts_every_pass_and_recomputes_every_number(
    digits: Any, attacked: Callable[..., Any]
) -> None:
    attack = PGD(epsilon=Epsilon([0.02, 0.05, 0.1]), steps=5, restarts=2)
    result = attacked(attack, digits.model(), digits.x, digits.y)
    table = result.table
    assert table["forward"].sum() == result.cost.forward
    assert table["backward"].sum() == result.cost.backward
    for epsilon, found in result.curve().items():
        fooled = table["fooled"] & (table["epsilon_fooled"] <= epsilon)
        assert found == np.mean(table["attacked"] & ~fooled)
    assert (table["robust"] == (table["attacked"] & ~table["fooled"])).all()
    assert (table["epsilon_fooled"][~table["fooled"]] == -1).all()
    assert (table["distance"][~table["fooled"]] == -1).all()
    assert ((table["margin"] > 0) == table["attacked"]).all()
    assert (table["adversarial"][table["fooled"]] != table["label"][table["fooled"]]).all()
    assert (table["adversarial"][~table["fooled"]] == table["predicted"][~table["fooled"]]).all()
    assert all(np.isfinite(table[name]).all() for name in table if table[name].dtype.kind == "f")


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_starts(
    digits: Any, attacked: Callable[..., Any]
) -> None:
    attack = PGD(epsilon=Epsilon([0.03, 0.06]), steps=3)
    one = attacked(attack, digits.model(), digits.x, digits.y)
    two = attacked(attack, digits.model(), digits.x, digits.y)
    assert one.measurements == two.measurements
    assert [kept.sha256 for kept in one.artifacts] == [kept.sha256 for kept in two.artifacts]
    other = attacked(attack, digits.model(), digits.x, digits.y, plan_seed=4)
    assert (other.table["distance"] != one.table["distance"]).any()


def test_a_block_depends_on_nothing_but_itself(digits: Any, attacked: Callable[..., Any]) -> None:
    """The first block alone gives what it gives in front of others: shards can take whole blocks."""
    attack = PGD(epsilon=Epsilon(0.05), steps=3)
    whole = attacked(attack, digits.model(), digits.x, digits.y)
    first = attacked(attack, digits.model(), digits.x[:64], digits.y[:64])
    assert (whole.table["distance"][:64] == first.table["distance"]).all()


def test_a_subset_is_the_same_samples_for_every_attack(
    digits: Any, attacked: Callable[..., Any]
) -> None:
    one = attacked(PGD(samples=40, steps=2), digits.model(), digits.x, digits.y)
    two = attacked(FGSM(samples=40), digits.model(), digits.x, digits.y)
    assert one.one("clean_accuracy").n == 40
    assert (one.table["id"] == two.table["id"]).all()


def test_where_nothing_is_right_nothing_was_attacked_and_that_is_said(
    linear: Any, attacked: Callable[..., Any]
) -> None:
    wrong = np.where(linear.margin > 0, 1 - linear.y, linear.y)
    result = attacked(FGSM(epsilon=Epsilon([0.1, 0.2])), linear.model(), linear.x, wrong)
    assert result.one("clean_accuracy").value == 0
    assert result.curve() == {0.1: 0.0, 0.2: 0.0}
    assert [(one.name, one.conditions["epsilon"]) for one in result.undefined] == [
        ("inputs_moved", 0.1), ("inputs_moved", 0.2),
    ]  # fmt: skip
    assert "none was attacked" in result.undefined[0].reason


def test_every_robust_accuracy_calls_itself_an_upper_bound(
    linear: Any, attacked: Callable[..., Any]
) -> None:
    result = attacked(FGSM(), linear.model(), linear.x, linear.y)
    (doubt,) = result.one("robust_accuracy").caveats
    assert (doubt.name, doubt.voids) == ("upper_bound", False)


def test_integers_are_not_perturbed_by_a_budget(attacked: Callable[..., Any]) -> None:
    class Counting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x.float().sum(1), -x.float().sum(1)], dim=1)

    tokens = np.ones((10, 4), dtype=np.int64)
    model = TorchModel(Counting(), device="cpu", classes=("a", "b"))
    with pytest.raises(
        NotOffered, match=r"expected floating-point inputs, got torch\.int64 in planted"
    ):
        attacked(FGSM(), model, tokens, np.zeros(10, dtype=np.int64))


def test_a_gradient_of_nan_ends_the_run_instead_of_looking_robust(
    attacked: Callable[..., Any],
) -> None:
    class Rooted(nn.Module):
        """d sqrt(x) / dx is infinite at 0, and infinity times zero is NaN."""

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x.sum(1) + 1, (x * 0).sqrt().sum(1)], dim=1)

    model = TorchModel(Rooted(), bounds=(0, 1), device="cpu", classes=("a", "b"))
    x = np.random.default_rng(0).random((20, 3)).astype(np.float32)
    for attack in (FGSM(), PGD(steps=3)):
        with pytest.raises(NonFinite, match="gradient is NaN or infinite"):
            attacked(attack, model, x, np.zeros(20, dtype=np.int64))


class Handmade(Model):
    """A model that is no torch module: numpy inside, gradients by hand."""

    def __init__(self, linear: Any) -> None:
        self.linear = linear.net.weight.detach().numpy(), linear.net.bias.detach().numpy()
        self.card = Card(name="handmade", fingerprint="0")
        self.classes = ("no", "yes")
        self.offers = frozenset({"decisions", "logits", "gradients"})
        self.bounds = None

    def logits(self, x: Any) -> Tensor:
        self.passes.forward += len(x)
        weight, bias = self.linear
        return torch.from_numpy(np.asarray(x) @ weight.T + bias)

    def loss_gradient(self, x: Any, y: Any, loss: Any = "cross_entropy") -> Tensor:
        self.passes.backward += len(x)
        weight, _ = self.linear
        sign = torch.where(torch.as_tensor(y) == 1, -1.0, 1.0)
        return sign[:, None] * torch.from_numpy(weight[1])


def test_a_model_without_a_torch_module_is_attacked_alike(
    linear: Any, attacked: Callable[..., Any]
) -> None:
    attack = PGD(epsilon=Epsilon([0.01, 0.1]), steps=5)
    ours = attacked(attack, Handmade(linear), linear.x, linear.y)
    torchs = attacked(attack, linear.model(), linear.x, linear.y)
    assert ours.curve() == torchs.curve()
    assert ours.table["forward"].sum() == ours.cost.forward


class Decided(Handmade):
    """Tells the decision and keeps its logits to itself."""

    def decide(self, batch: Batch) -> Decisions:
        return Decisions(predicted=self.logits(batch.x).numpy().argmax(axis=1))


def test_decisions_without_logits_are_judged_and_leave_no_margin(
    linear: Any, attacked: Callable[..., Any]
) -> None:
    attack = UniformNoise(epsilon=Epsilon(0.3))
    told = attacked(attack, Handmade(linear), linear.x, linear.y)
    silent = attacked(attack, Decided(linear), linear.x, linear.y)
    assert silent.curve() == told.curve()
    assert "margin" in told.table
    assert "margin" not in silent.table


def test_without_gradients_gradient_attacks_say_what_they_miss() -> None:
    offers = frozenset({"decisions", "logits"})
    for attack in (FGSM(), PGD()):
        missing = attack.needs.missing(model=offers, data=frozenset({"labels"}), train_fn=False)
        assert missing == ("model: gradients",)


def test_naming_attacks_imports_no_torch() -> None:
    """Plans and lists name attacks where nothing is computed."""
    modules = "dlaudit.attacks.fgsm, dlaudit.attacks.pgd, dlaudit.attacks.suite, dlaudit.attacks.via_foolbox"
    code = f"import sys, {modules}; print(sorted({{'torch', 'numpy', 'foolbox', 'PIL'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_example_outside_never_counts_even_if_the_projection_were_broken(
    linear: Any, attacked: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The norm is recomputed after the projection, not trusted to it."""
    monkeypatch.setattr("dlaudit.attacks.ball.Ball.project", lambda ball, candidate: candidate)
    attack = returning(towards(linear), epsilon=Epsilon(0.1))
    result = attacked(attack, linear.model(), linear.x, linear.y)
    assert not result.table["fooled"].any()


def test_who_was_moved_at_a_small_budget_is_moved_at_every_larger(
    digits: Any, attacked: Callable[..., Any]
) -> None:
    curve = Epsilon([0.1, 0.2, 0.4])
    result = attacked(FGSM(epsilon=curve, loss="margin"), digits.model(), digits.x, digits.y)
    assert len(set(result.curve().values())) == 3, "someone is fooled at each budget"
    assert result.curve("inputs_moved") == {0.1: 1.0, 0.2: 1.0, 0.4: 1.0}


def test_each_budget_has_draws_of_its_own_whatever_else_is_on_the_curve(
    linear: Any, attacked: Callable[..., Any]
) -> None:
    seeds: dict[float, set[int]] = {}

    class Listening(Attack, frozen=True, kw_only=True):
        def perturb(self, model: Any, batch: Any, threat: Any, generator: Any) -> Tensor:
            seeds.setdefault(threat.epsilon, set()).add(generator.initial_seed())
            return batch.x

    for curve in ([0.1, 0.2], [0.2, 0.3]):
        attacked(Listening(epsilon=Epsilon(curve)), linear.model(), linear.x[:64], linear.y[:64])
    assert [len(found) for found in seeds.values()] == [1, 1, 1]
    assert len(set.union(*seeds.values())) == 3


def test_a_search_is_told_per_feature_bounds_as_tensors_and_numbers_as_numbers(
    linear: Any, attacked: Callable[..., Any]
) -> None:
    heard: list[Any] = []

    class Listening(Attack, frozen=True, kw_only=True):
        def perturb(self, model: Any, batch: Any, threat: Any, generator: Any) -> Tensor:
            heard.append(threat.bounds)
            return batch.x if threat.bounds is None else batch.x.clamp(*threat.bounds)

    low, high = np.full(12, 0.1), np.full(12, 0.7)  # neither is a float32 number
    for bounds in (None, (0, 1), (low, high)):
        attacked(Listening(), linear.model(bounds), linear.x[:64].clip(0.2, 0.6), linear.y[:64])
    assert heard[:2] == [None, (0, 1)]
    inner_low, inner_high = (end.double().numpy() for end in heard[2])
    assert ((inner_low >= low) & (inner_low < low + 1e-7)).all()
    assert ((inner_high <= high) & (inner_high > high - 1e-7)).all()


def test_arrays_that_may_not_be_written_to_are_attacked_without_a_warning(
    linear: Any, attacked: Callable[..., Any]
) -> None:
    x = linear.x.copy()
    x.flags.writeable = False
    frozen = attacked(PGD(steps=2), linear.model(), x, linear.y)
    assert frozen.curve() == attacked(PGD(steps=2), linear.model(), linear.x, linear.y).curve()

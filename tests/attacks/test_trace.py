"""What a search saw: by hand, against a plain recount, and beside the numbers of a real attack."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dlaudit.attacks.fgsm import FGSM
from dlaudit.attacks.pgd import PGD
from dlaudit.attacks.trace import LAST, Trace
from dlaudit.audit.parts import Epsilon

BUDGET = Epsilon(0.05)


def traced(losses: list[float], *, restart_at: int | None = None) -> dict[str, float]:
    """The columns of one sample whose losses were these."""
    trace, row = Trace(1, device="cpu"), torch.tensor([0])
    for i, loss in enumerate(losses):
        if i == restart_at:
            trace.restarted(row)
        trace.step(row, torch.tensor([loss]), torch.ones(1, 3))
    return {name: float(column) for name, column in trace.columns().items()}


def test_by_hand_a_loss_that_rises_by_one_each_step_gains_nine_of_nineteen_late():
    seen = traced([float(i) for i in range(20)])
    assert seen["gradients"] == 20
    assert seen["loss_gained"] == 19
    assert seen["late_gain"] == pytest.approx(9 / 19)


def test_by_hand_a_loss_that_has_settled_gains_nothing_late_though_it_falls_again():
    assert traced([0.0] + [5.0] * 12 + [1.0] * 10)["late_gain"] == 0


def test_a_loss_that_never_changed_gained_nothing():
    seen = traced([2.0] * 25)
    assert (seen["loss_gained"], seen["late_gain"]) == (0, 0)


def test_what_was_never_searched_or_too_short_is_unknown_not_zero():
    assert traced([])["loss_gained"] == -1
    assert traced([])["gradients"] == 0
    assert traced([1.0] * 19)["late_gain"] == -1


def test_a_search_is_complete_once_one_of_its_runs_has_settled():
    rising, settled = [float(i) for i in range(20)], [0.0] + [100.0] * 19
    assert traced(settled + rising, restart_at=20)["late_gain"] == 0
    assert traced(rising + settled, restart_at=20)["late_gain"] == 0
    assert traced(rising + [7.0] * 5, restart_at=20)["late_gain"] == pytest.approx(9 / 19)


def test_a_gradient_is_zero_only_if_all_its_values_are():
    trace = Trace(3, device="cpu")
    gradient = torch.tensor([[[0.0, 0.0]], [[0.0, 1e-30]], [[0.0, 0.0]]])
    trace.step(torch.tensor([2, 0, 1]), torch.zeros(3), gradient)
    trace.step(torch.tensor([2]), torch.zeros(1), gradient[:1])
    assert trace.columns()["zero_gradients"].tolist() == [0, 1, 2]


@given(
    runs=st.lists(
        st.lists(st.integers(-50, 50).map(float), min_size=1, max_size=35), min_size=1, max_size=3
    )
)
def test_any_losses_are_told_of_as_a_plain_recount_tells_of_them(runs: list[list[float]]):
    trace, row = Trace(2, device="cpu"), torch.tensor([1])
    gained, late = [], [2.0]
    for losses in runs:
        trace.restarted(row)
        for loss in losses:
            trace.step(row, torch.tensor([loss]), torch.ones(1, 1))
        best = np.maximum.accumulate(losses)
        gained.append(best[-1] - losses[0])
        if len(losses) >= 2 * LAST:
            reach = best[-1] - min(losses)
            late.append((best[-1] - best[-LAST]) / reach if reach else 0.0)
    seen = {name: column.tolist() for name, column in trace.columns().items()}
    assert seen["gradients"] == [0, sum(map(len, runs))]
    assert seen["loss_gained"] == [-1, max(gained)]
    assert seen["late_gain"][0] == -1
    assert seen["late_gain"][1] == pytest.approx(min(late) if min(late) <= 1 else -1, abs=1e-6)


def test_the_evidence_of_an_attack_holds_what_its_search_saw(attacked, digits):
    seen = attacked(PGD(epsilon=BUDGET, steps=20), digits.model(), digits.x, digits.y)
    table = seen.table
    searched = table["attacked"]
    robust = table["robust"]
    assert (table["gradients"][~searched] == -1).all()
    assert (table["gradients"][robust] == 20).all()
    assert (table["gradients"] == np.where(searched, table["backward"], -1)).all()
    assert (table["zero_gradients"][searched] == 0).all()
    assert ((table["late_gain"][robust] >= 0) & (table["late_gain"][robust] <= 1)).all()
    assert (table["loss_gained"][robust] > 0).all()


def test_a_trace_costs_no_pass(attacked, digits):
    seen = attacked(PGD(epsilon=BUDGET, steps=20), digits.model(), digits.x, digits.y)
    robust = seen.table["robust"]
    assert (seen.table["forward"][robust] == 21).all()
    assert seen.cost.backward == seen.table["backward"].sum()


def test_saturated_logits_show_as_zero_gradients(attacked, digits):
    """Cross-entropy on logits times 1,000 has no gradient; the margin still has."""
    model = digits.model(scale=1000)
    seen = attacked(PGD(epsilon=BUDGET, loss="cross_entropy"), model, digits.x, digits.y).table
    robust = seen["robust"]
    assert (seen["zero_gradients"][robust] == seen["gradients"][robust]).mean() > 0.9
    margin = attacked(PGD(epsilon=BUDGET), model, digits.x, digits.y).table
    assert margin["zero_gradients"].max() == 0


def test_one_step_is_traced_too(attacked, digits):
    seen = attacked(FGSM(epsilon=BUDGET), digits.model(), digits.x, digits.y).table
    assert (seen["gradients"] == np.where(seen["attacked"], 1, -1)).all()

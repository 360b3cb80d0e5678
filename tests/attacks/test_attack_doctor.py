"""The doctor: planted ways of masking a model are found, honest models and searches are cleared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import masked_digits
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from torch import nn

from dlaudit import Attack, TorchModel, Undefined
from dlaudit.attacks.base import Threat
from dlaudit.attacks.criteria import CRITERIA, TOLERATED, Diagnosis, caveats, not_run, yielded
from dlaudit.attacks.fgsm import FGSM
from dlaudit.attacks.losses import LOSSES
from dlaudit.attacks.pgd import PGD
from dlaudit.attacks.probes import consistency
from dlaudit.attacks.readings import probabilities
from dlaudit.attacks.ward import CAPACITY, Patients, Ward
from dlaudit.audit.bench import Block
from dlaudit.audit.judge import judge
from dlaudit.audit.parts import Batch, Epsilon
from dlaudit.audit.record import CheckRun, Measured, Rule

BUDGET = Epsilon(0.1)
NAMES = tuple("0123456789")


def voiding(result, name="robust_accuracy") -> set[str]:
    """The diagnostics that void a run's last robust accuracy."""
    figure = [m for m in result.measurements if m.name == name][-1]
    return {c.name.removeprefix("doctor.") for c in figure.caveats if c.voids}


def told(result) -> str:
    """The doctor's sentence beside the robust accuracy."""
    figure = [m for m in result.measurements if m.name == "robust_accuracy"][-1]
    return next(c.message for c in figure.caveats if c.name == "doctor")


def examined(attacked, attack, net, digits, **more):
    x, bounds = more.pop("x", digits.x), more.pop("bounds", (0, 1))
    model = TorchModel(net, bounds=bounds, device="cpu", classes=NAMES)
    model.recognise(x[:32])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return attacked(attack, model, x, digits.y, doctor="quick", **more)


ATTACKS = {
    "margin": PGD(epsilon=BUDGET, steps=20),
    "cross-entropy": PGD(epsilon=BUDGET, steps=10, loss="cross_entropy"),
    "one step": FGSM(epsilon=BUDGET),
}
BREAKS = {
    ("logits times 1000", "margin"), ("softmax output", "margin"),
    ("softmax output", "cross-entropy"), ("softmax output", "one step"),
}  # fmt: skip
"""Masks that this search sees through: within two points of the model without the mask."""


@pytest.mark.parametrize("search", ATTACKS)
def test_an_honest_model_is_cleared(attacked, digits, search):
    result = examined(attacked, ATTACKS[search], digits.net, digits)
    assert not voiding(result)
    assert "0 failed and void" in told(result)


@pytest.mark.parametrize("search", ATTACKS)
@pytest.mark.parametrize("mask", masked_digits.MASKS)
def test_a_mask_is_broken_or_voids_at_the_quick_level_never_a_quiet_high_figure(
    attacked, digits, mask, search
):
    bare = attacked(ATTACKS[search], digits.model(), digits.x, digits.y).one("robust_accuracy")
    masked = masked_digits.MASKS[mask](digits.net)
    result = examined(attacked, ATTACKS[search], masked, digits)
    broken = result.one("robust_accuracy").value <= bare.value + TOLERATED
    assert voiding(result) or broken
    if (mask, search) in BREAKS:
        assert broken
        assert not voiding(result) - {"single_step_succeeds"}
    else:
        assert voiding(result)


@pytest.mark.parametrize(
    ("mask", "search", "names"),
    [
        ("logits times 1000", "cross-entropy", {"zero_gradient", "unbounded_attack"}),
        ("quantised input", "margin", {"zero_gradient", "unbounded_attack", "high_distortion"}),
        ("lossy compression", "margin", {"zero_gradient", "unbounded_attack", "high_distortion"}),
        ("gate", "one step", {"zero_gradient", "unbounded_attack", "high_distortion"}),
        ("added noise", "one step", {"randomised_model"}),
        ("dropout left on", "margin", {"randomised_model"}),
        ("shattered gradient", "margin", {"gradient_foretells"}),
    ],
)
def test_a_mask_is_found_by_the_criterion_that_is_meant_for_it(
    attacked, digits, mask, search, names
):
    result = examined(attacked, ATTACKS[search], masked_digits.MASKS[mask](digits.net), digits)
    assert names <= voiding(result)


@pytest.mark.parametrize("units", masked_digits.UNITS)
def test_a_range_or_a_budget_in_other_units_voids(attacked, digits, units):
    given_, first, bounds = masked_digits.UNITS[units]
    x = given_(digits.x).astype(np.float32)
    net = masked_digits.Masked(digits.net, before=first)
    result = examined(
        attacked, PGD(epsilon=Epsilon("8/255"), steps=5), net, digits, x=x, bounds=bounds
    )
    assert voiding(result) & {"inputs_in_range", "epsilon_units"}


@pytest.mark.parametrize(
    ("units", "bounds", "epsilon"),
    [
        ("pixels to 255, bounds to 1", (0, 255), Epsilon(8)),
        ("normalised, bounds to 1", (-0.9, 2.0), Epsilon(0.0848)),
    ],
)
def test_the_same_inputs_with_range_and_budget_in_their_own_units_are_cleared(
    attacked, digits, units, bounds, epsilon
):
    given_, first, _ = masked_digits.UNITS[units]
    x = given_(digits.x).astype(np.float32)
    net = masked_digits.Masked(digits.net, before=first)
    result = examined(attacked, PGD(epsilon=epsilon, steps=20), net, digits, x=x, bounds=bounds)
    assert not voiding(result)


def test_a_range_much_wider_than_the_inputs_is_told_but_voids_nothing(attacked, digits):
    result = examined(attacked, ATTACKS["margin"], digits.net, digits, bounds=(0, 255))
    assert "range_fits_inputs" in told(result)
    assert "range_fits_inputs" not in voiding(result)


class Wanders(Attack, frozen=True, kw_only=True):
    """Goes to a fooling example and then back home; or stays there."""

    stays: bool = False

    def perturb(self, model, batch, threat, generator):
        loss = LOSSES["margin"]
        _, gradient = model.logits_and_gradient(batch.x, batch.y, loss)
        far = (batch.x + threat.epsilon * gradient.sign()).clamp(0, 1)
        model.logits_and_gradient(far, batch.y, loss)
        return far if self.stays else batch.x.clone()


def test_an_attack_that_returns_its_last_iterate_is_voided_and_its_twin_is_not(attacked, digits):
    wandering = examined(attacked, Wanders(epsilon=BUDGET), digits.net, digits)
    assert wandering.one("robust_accuracy").value == wandering.one("clean_accuracy").value
    assert "silent_success" in voiding(wandering)
    staying = examined(attacked, Wanders(epsilon=BUDGET, stays=True), digits.net, digits)
    assert not voiding(staying)


class Adapts(nn.Module):
    """Takes a step of its own before it answers."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        with torch.enable_grad():
            at = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.net(at).amax(dim=1).sum(), at)
        return self.net(x + 0.01 * slope.sign())


def test_a_model_that_adapts_as_it_answers_is_found(attacked, digits):
    assert "dynamic_defence" in voiding(
        examined(attacked, ATTACKS["margin"], Adapts(digits.net), digits)
    )


def test_a_voided_figure_leaves_its_rule_inconclusive_however_good_it_looks(attacked, digits):
    net = masked_digits.MASKS["quantised input"](digits.net)
    result = examined(attacked, ATTACKS["margin"], net, digits)
    assert result.one("robust_accuracy").value > 0.85
    rule = Rule(id="r", run="attacks.tested", measurement="robust_accuracy", at_least=0.5)
    run = CheckRun(
        id=rule.run, check="attacks.pgd", params={}, seed=0, seconds=0.0, device="cpu",
        cost=result.cost, outcome=Measured(measurements=tuple(result.measurements)),
    )  # fmt: skip
    verdict = judge(rule, {rule.run: run})
    assert verdict.status == "inconclusive"
    assert "zero_gradient" in verdict.reason


@pytest.mark.parametrize("search", ATTACKS)
@pytest.mark.parametrize("mask", [None, "quantised input"])
def test_an_examination_adds_at_most_15_percent_forward_and_backward(
    attacked, digits, mask, search
):
    net = digits.net if mask is None else masked_digits.MASKS[mask](digits.net)
    result = examined(attacked, ATTACKS[search], net, digits)
    forward, backward = result.table["forward"].sum(), result.table["backward"].sum()
    assert forward < result.cost.forward <= 1.15 * forward
    assert backward < result.cost.backward <= 1.15 * backward


def test_what_did_not_fit_or_takes_more_is_told_as_not_run(attacked, digits):
    few = examined(attacked, FGSM(epsilon=BUDGET, samples=20), digits.net, digits)
    for name in ("unbounded_attack", "random_noise", "black_box_succeeds", "converged"):
        assert name in told(few).partition("not run")[2]


def test_an_examination_that_is_switched_off_says_and_spends_nothing(attacked, digits):
    result = attacked(ATTACKS["margin"], digits.model(), digits.x, digits.y)
    figure = result.one("robust_accuracy")
    assert {c.name for c in figure.caveats} == {"upper_bound"}
    assert result.cost.forward == result.table["forward"].sum()


def test_a_search_without_gradients_is_not_examined(attacked, digits):
    class Noise(Attack, frozen=True, kw_only=True):
        """Noise."""

        needs = structs.replace(Attack.needs, model=("logits",))

        def perturb(self, model, batch, threat, generator):
            return batch.x

    result = attacked(Noise(), digits.model(), digits.x, digits.y, doctor="quick")
    assert {c.name for c in result.one("robust_accuracy").caveats} == {"upper_bound"}


def test_the_examination_is_no_condition_of_the_figure(attacked, digits):
    on = attacked(ATTACKS["one step"], digits.model(), digits.x, digits.y, doctor="quick")
    off = attacked(ATTACKS["one step"], digits.model(), digits.x, digits.y)
    one, other = on.one("robust_accuracy"), off.one("robust_accuracy")
    assert (one.value, one.conditions) == (other.value, other.conditions)


def test_two_runs_tell_the_same(attacked, digits):
    first, second = (
        attacked(ATTACKS["margin"], digits.model(), digits.x, digits.y, doctor="quick")
        for _ in range(2)
    )
    assert first.measurements == second.measurements


def test_on_a_linear_model_the_gradient_foretells_everything(linear, tmp_path):
    """By hand: the margin is linear, so the ratio is 1 and no loss is unstable beyond its slope."""
    found = diagnosed(PGD(epsilon=Epsilon(0.02), steps=20), linear.model((0, 1)), linear, tmp_path)
    assert found["gradient_foretells"].value == pytest.approx(1, abs=1e-3)
    assert found["zero_gradient"].value == 0
    assert found["unbounded_attack"].value == 0
    assert found["randomised_model"].value == 0
    assert not any(one.voids for one in found.values())


def test_the_roughness_of_a_linear_model_is_what_sampling_its_box_gives(linear, tmp_path):
    """Recomputed with numpy from the definition: mean of min(1, |w u| / |margin|)."""
    epsilon = 0.02
    found = diagnosed(
        PGD(epsilon=Epsilon(epsilon), steps=20), linear.model((0, 1)), linear, tmp_path,
        keep := [],
    )["unstable_loss"]  # fmt: skip
    part = keep[0].rows(slice(found.n))
    x = part.x.numpy().astype(np.float64)
    rng = np.random.default_rng(0)
    low, high = np.clip(x - epsilon / 2, 0, 1), np.clip(x + epsilon / 2, 0, 1)
    moves = np.clip(x + rng.uniform(-epsilon / 2, epsilon / 2, (4000, *x.shape)), low, high) - x
    bias = float(linear.net.bias[1].detach())
    margin = np.abs(x @ linear.w + bias)
    expected = np.minimum(np.abs(moves @ linear.w) / margin, 1).mean()
    assert found.value == pytest.approx(expected, rel=0.1)


def diagnosed(attack, model, planted, folder, keep=None):
    """The diagnoses of one attack by name, without a check around it."""
    from dlaudit import ArrayDataset, Bench
    from dlaudit.attacks.examination import Examination
    from dlaudit.attacks.harness import Outcomes, attack_block
    from dlaudit.audit.bench import Subject
    from dlaudit.audit.evidence import EvidenceStore

    data = ArrayDataset(planted.x, planted.y, name="planted")
    bench = Bench(
        Subject(model, data), run="attacks.tested", plan_seed=3, store=EvidenceStore(folder),
        cache=folder / "cache",
    )  # fmt: skip
    answers, examination = bench.answers(), Examination(attack, bench)
    outcomes, terms = Outcomes(answers, len(attack.epsilon.values)), attack.terms(bench)
    for block in bench.blocks():
        attack_block(
            attack, bench, block, terms=terms, answers=answers, outcomes=outcomes,
            examination=examination,
        )  # fmt: skip
    found = examination.diagnoses(answers, outcomes)
    if keep is not None:
        keep.append(examination.ward.patients)
    return {one.name: one for one in found}


class Bare:
    """As much of a case as a reading asks for."""

    module = None
    surviving = 0.5

    def __init__(self, logits):
        self.logits, self.model = np.asarray(logits, dtype=np.float32), self


def test_probabilities_are_told_by_autoattacks_criterion():
    """By hand: non-negative rows that sum to 1, all of them; one other row clears it."""
    rows = [[0.2, 0.8], [1.0, 0.0]]
    assert probabilities(Bare(rows)).voids
    assert not probabilities(Bare([*rows, [0.2, 0.9]])).failed
    assert not probabilities(Bare([[1.5, -0.5]])).failed


def test_a_loss_that_falls_while_the_margin_rises_is_inconsistent():
    class At:
        loss = LOSSES["cross_entropy"]
        case = Bare([[0.0]])

    rng = np.random.default_rng(1)
    rise = rng.normal(size=40)
    assert not consistency(At(), np.stack([3 * rise, rise], axis=1)).failed
    against = consistency(At(), np.stack([-(rise**3), rise], axis=1))
    assert (against.failed, against.value) == (True, pytest.approx(-1))
    assert consistency(At(), np.stack([0 * rise, rise], axis=1)).voids
    assert consistency(At(), np.zeros((3, 2))).failed is None


def test_all_25_published_criteria_are_there_each_with_source_and_remedy():
    own = [one for one in CRITERIA.values() if one.source.startswith("dlaudit")]
    assert len(CRITERIA) == 29
    assert {one.name for one in own} == {
        "valid_examples", "gradient_foretells", "inputs_in_range", "range_fits_inputs",
        "epsilon_units",
    }  # fmt: skip
    assert all(one.statistic and one.threshold and one.remedy for one in CRITERIA.values())


def test_the_page_lists_every_criterion_as_it_is_applied():
    page = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text(encoding="utf-8")
    for one in CRITERIA.values():
        row = f"| `{one.name}` | {one.statistic} | {one.threshold} | {one.source} |"
        assert row in page, row
        assert one.remedy in page
        assert ("voids" if one.voids else "warns") in page.partition(row)[2].partition("\n")[0]


diagnoses = st.builds(
    Diagnosis, st.sampled_from(sorted(CRITERIA)), st.sampled_from([True, False, None]),
    value=st.floats(-1, 1), n=st.integers(0, 99), doubtful=st.floats(0, 1), told=st.just("why"),
)  # fmt: skip


@given(one=diagnoses)
def test_a_diagnosis_voids_only_if_it_failed_and_enough_rests_on_it(one: Diagnosis):
    (caveat, *rest) = caveats((one,), run="attacks.tested")
    expected = bool(one.failed) and one.criterion.voids and one.doubtful > TOLERATED
    assert one.voids == expected == caveat.voids == bool(rest)


@given(found=st.lists(diagnoses, max_size=8).map(tuple))
def test_every_diagnosis_is_a_measurement_or_undefined_never_both(found):
    told_ = list(yielded(found, run="r", level="quick", protocol={"attack": "attacks.pgd"}))
    places = [one.slice["diagnostic"] for one in told_ if one.name == "diagnostic"]
    assert places == [one.name for one in found]
    for one, said in zip(found, told_[2:], strict=True):
        assert isinstance(said, Undefined) == (one.failed is None)
        assert {"threshold", "source", "level", "attack"} <= set(said.conditions)
    assert told_[0].value == sum(bool(one.failed) for one in found)


def test_what_was_not_run_is_undefined_with_its_reason():
    *_, said = yielded((not_run("converged", "why not"),), run="r", level="quick", protocol={})
    assert isinstance(said, Undefined)
    assert said.reason == "why not"


def lots(ward: Ward) -> Iterator[tuple[float, float]]:
    patients = ward.patients
    assert patients is not None
    yield from zip(patients.key.tolist(), patients.x[:, 0].tolist(), strict=True)


@given(sizes=st.lists(st.integers(1, 90), min_size=1, max_size=4))
def test_survivors_are_drawn_by_lot_and_never_more_than_the_capacity(sizes: list[int]):
    ward, threat, start, drawn = Ward(), Threat(norm="linf", epsilon=0.1), 0, []
    for number, size in enumerate(sizes):
        x = torch.arange(start, start + size).float().view(-1, 1)
        batch = Batch(x=x, y=torch.zeros(size, dtype=torch.int64), id=np.arange(size).astype(str))
        block = Block(number, start, batch, seed=number)
        drawn += zip(block.rng("doctor").random(size).tolist(), x[:, 0].tolist(), strict=True)
        ward.admit(batch, threat, block)
        start += size
    assert list(lots(ward)) == sorted(drawn)[:CAPACITY]


def test_survivors_keep_their_own_scales():
    scale = torch.arange(1.0, 4.0).view(3, 1)
    patients = Patients(
        torch.zeros(3, 2), torch.zeros(3), np.arange(3.0),
        Threat(norm="linf", epsilon=1, scale=scale),
    )  # fmt: skip
    assert patients.rows(torch.tensor([2])).threat.scale.tolist() == [[3.0]]


def test_what_an_examination_may_add_is_told_beforehand_and_only_where_there_is_one():
    assert PGD(epsilon=BUDGET).surcharge == 0.15
    assert PGD(epsilon=BUDGET, doctor="off").surcharge == 0
    assert PGD(epsilon=Epsilon(0)).surcharge == 0

"""The check ``attacks.doctor``: what it tells, what it costs, and what the full examination finds."""

from __future__ import annotations

import masked_digits
import numpy as np
import pytest
import torch

from dlaudit import ArrayDataset, Artifact, Bench, Measurement, TorchModel, Undefined
from dlaudit.attacks.criteria import CRITERIA
from dlaudit.attacks.doctor import Doctor
from dlaudit.attacks.examination import LONG
from dlaudit.audit.bench import Subject
from dlaudit.audit.evidence import EvidenceStore

LITTLE = {"draws": 60, "queries": 150, "samples": 150}
NAMES = tuple("0123456789")


class Told:
    """What one run of the doctor yielded, by diagnostic."""

    def __init__(self, check, net, digits, folder, models=None):
        model = TorchModel(net, bounds=(0, 1), device="cpu", classes=NAMES)
        data = ArrayDataset(digits.x, digits.y, name="digits")
        bench = Bench(
            Subject(model, data, models=models or {}), run="attacks.doctor", plan_seed=2,
            store=EvidenceStore(folder), cache=folder / "cache", block=64,
        )  # fmt: skip
        bench.answers()
        before = model.passes.cost
        with torch.random.fork_rng():
            torch.manual_seed(0)
            yielded = list(check.measure(bench))
        self.cost = model.passes.since(before)
        self.measured = {
            one.slice["diagnostic"]: one
            for one in yielded
            if isinstance(one, Measurement) and one.name == "diagnostic"
        }
        self.undefined = {
            one.slice["diagnostic"]: one for one in yielded if isinstance(one, Undefined)
        }
        self.counts = {
            one.name: one.value
            for one in yielded
            if isinstance(one, Measurement) and one.name != "diagnostic"
        }
        tables = [one for one in yielded if isinstance(one, Artifact)]
        self.tables = {one.name: dict(np.load(folder / one.path)) for one in tables}

    @property
    def failed(self):
        return {name for name, one in self.measured.items() if one.value}

    @property
    def voiding(self):
        return {name for name, one in self.measured.items() if one.conditions["voids"]}


def test_the_quick_level_tells_every_diagnostic_once_and_never_ok_what_was_not_run(
    digits, tmp_path
):
    told = Told(Doctor(parameters={"epsilon": 0.1}), digits.net, digits, tmp_path)
    assert set(told.measured) | set(told.undefined) == set(CRITERIA)
    assert not set(told.measured) & set(told.undefined)
    assert set(LONG) <= set(told.undefined)
    assert told.counts["diagnostics_failed"] == len(told.failed)
    assert told.counts["diagnostics_voiding"] == 0
    for one in told.measured.values():
        keys = {
            "statistic",
            "threshold",
            "source",
            "level",
            "measures",
            "doubtful",
            "voids",
            "attack",
        }
        assert keys <= set(one.conditions)
        assert one.value in {0, 1}
        assert bool(one.caveats) == bool(one.value)


def test_the_evidence_holds_the_same_as_the_measurements(digits, tmp_path):
    net = masked_digits.MASKS["quantised input"](digits.net)
    told = Told(Doctor(parameters={"epsilon": 0.1}), net, digits, tmp_path)
    table = told.tables["attacks.doctor.diagnostics"]
    assert table["id"].tolist() == list(CRITERIA)
    assert set(table["id"][table["failed"]]) == told.failed
    assert set(table["id"][table["voids"]]) == told.voiding
    assert set(table["id"][~table["run"]]) == set(told.undefined)
    assert (table["statistic"][~table["run"]] == -1).all()
    samples = told.tables["attacks.doctor.samples"]
    assert (samples["zero_gradients"][samples["robust"]] > 0).all()


def test_the_quick_level_costs_no_more_than_it_says_beforehand(digits, tmp_path):
    check = Doctor(parameters={"epsilon": 0.1})
    said = check.passes(n=len(digits.y), classes=10)
    told = Told(check, digits.net, digits, tmp_path)
    assert told.cost.forward <= said.forward
    assert told.cost.backward <= said.backward


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"attack": "attacks.pdg"}, "no attack is called so|attacks.pgd"),
        ({"parameters": {"stepps": 3}}, "stepps"),
        ({"parameters": {"epsilon": 0}}, "above 0"),
        ({"draws": 0}, "draws"),
        ({"queries": 0}, "queries"),
    ],
)
def test_an_examination_of_nothing_is_refused_before_it_starts(given, message):
    with pytest.raises(ValueError, match=message):
        Doctor(**given)


def test_an_attack_that_a_model_cannot_serve_is_told_by_what_is_missing():
    missing = Doctor().missing(
        model=frozenset({"logits"}), data=frozenset({"labels"}), train_fn=False
    )
    assert "model: gradients" in missing


def smooth(digits):
    """The digits' net without any mask, as a further model of the plan."""
    return TorchModel(digits.net, bounds=(0, 1), device="cpu", classes=NAMES)


@pytest.mark.slow
def test_full_an_honest_model_is_cleared_and_the_cost_is_within_what_was_said(digits, tmp_path):
    check = Doctor(level="full", parameters={"epsilon": 0.1}, surrogate="twin", **LITTLE)
    told = Told(check, digits.net, digits, tmp_path, models={"twin": smooth(digits)})
    assert not told.voiding
    assert set(told.undefined) == {"fixed_randomness", "abstention", "random_noise"}
    said = check.passes(n=LITTLE["samples"], classes=10)
    assert told.cost.forward <= said.forward
    assert told.cost.backward <= said.backward


@pytest.mark.slow
def test_full_other_searches_succeed_where_gradients_are_masked(digits, tmp_path):
    net = masked_digits.MASKS["quantised input"](digits.net)
    told = Told(Doctor(level="full", parameters={"epsilon": 0.1}, **LITTLE), net, digits, tmp_path)
    assert {"black_box_succeeds", "surrogate_transfer", "zero_gradient"} <= told.voiding


@pytest.mark.slow
def test_full_another_model_of_the_plan_serves_as_surrogate(digits, tmp_path):
    net = masked_digits.MASKS["quantised input"](digits.net)
    check = Doctor(level="full", parameters={"epsilon": 0.1}, surrogate="smooth", **LITTLE)
    told = Told(check, net, digits, tmp_path, models={"smooth": smooth(digits)})
    assert "Another model of the plan" in told.measured["surrogate_transfer"].caveats[0].message
    assert told.measured["surrogate_transfer"].conditions["doubtful"] > 0.2


@pytest.mark.slow
def test_full_a_search_with_steps_too_small_fails_the_control_and_falls_to_one_step(
    digits, tmp_path
):
    weak = {"epsilon": 0.1, "step_size": 0.001, "random_start": False}
    check = Doctor(level="full", parameters=weak, surrogate="twin", **LITTLE)
    told = Told(check, digits.net, digits, tmp_path, models={"twin": smooth(digits)})
    assert {"positive_control", "single_step_succeeds", "black_box_succeeds"} <= told.voiding
    assert "incomplete_optimisation" in told.failed


@pytest.mark.slow
def test_full_randomness_that_is_frozen_resists_no_more(digits, tmp_path):
    net = masked_digits.MASKS["added noise"](digits.net)
    check = Doctor(level="full", parameters={"epsilon": 0.1}, surrogate="twin", **LITTLE)
    told = Told(check, net, digits, tmp_path, models={"twin": smooth(digits)})
    assert "randomised_model" in told.voiding
    assert told.measured["fixed_randomness"].value == 0

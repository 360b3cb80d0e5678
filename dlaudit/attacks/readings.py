"""Diagnostics that are read off what an attack left behind: no pass of the model is spent on them.

Knows the columns of an attack's run and the criteria; never searches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from dlaudit.attacks.ball import Ball
from dlaudit.attacks.base import Attack
from dlaudit.attacks.criteria import Diagnosis, not_run
from dlaudit.attacks.ward import Ward
from dlaudit.audit.parts import Model
from dlaudit.audit.statistics import wilson

SUM = 1e-5
"""How near to 0, 1 and a sum of 1 probabilities lie (AutoAttack's checks)."""
LATE = 0.05
SLACK = 1e-6
HALF_STEP = 0.5
PIXEL_BUDGETS = (0.031, 0.1, 0.3)
"""Budgets for pixels in [0, 1] that are not k/255 (RobustBench; MNIST)."""
MOST_STEPS = 64


class Case(NamedTuple):
    """An attack's run, as it lies before the examiner.

    correct, robust: (n,) bool, before the attack and at its largest budget; logits: (n, C) clean ones
    or None; trace: what the search saw, (n,) columns; epsilon: the largest budget;
    budgets: how many above 0; n: samples that the robust accuracy is a share of.
    """

    attack: Attack
    model: Model
    ward: Ward
    correct: np.ndarray
    robust: np.ndarray
    logits: np.ndarray | None
    trace: dict[str, np.ndarray]
    epsilon: float
    budgets: int
    n: int

    @property
    def surviving(self) -> float:
        """The survivors as a share of all samples."""
        return float(self.robust.sum()) / self.n

    @property
    def single_step(self) -> bool:
        """Whether the search is one step, which claims no strength."""
        stated = self.attack.conditions(self.epsilon)
        return stated.get("steps") == 1 and stated.get("restarts", 1) == 1

    def share(self, hits: int, tried: int) -> float:
        """Survivors in doubt, as a share of all samples, where hits of so many tried ones are."""
        return self.surviving * hits / tried if tried else 0.0

    def proven(self, hits: int, tried: int) -> float:
        """The same at the lower end of the share's 95 % interval.

        For comparisons of one search with another, of which an honest one loses a few by chance.
        """
        return self.surviving * wilson(hits, tried).low if tried else 0.0


def readings(case: Case) -> Iterator[Diagnosis]:
    """Every diagnostic that needs nothing but what is there."""
    yield probabilities(case)
    yield classes(case)
    if "gradients" in case.trace:
        yield zero_gradient(case)
    yield from watched(case)
    yield late(case)
    if case.budgets > 1:
        words = "success at a smaller budget is carried to every larger one"
        yield Diagnosis("monotone_in_epsilon", failed=False, n=len(case.robust), told=words)
    # By construction: one column of per-sample outcomes, whatever found them, is all that is counted.
    lost = abs(case.surviving - float((case.correct & case.robust).sum()) / case.n)
    yield Diagnosis("worst_case_per_sample", lost > SLACK, lost, case.n, lost)
    yield record(case)
    yield validity(case)
    yield from inputs(case)
    yield not_run("abstention", "the model declares no detector and no answer that abstains")


def probabilities(case: Case) -> Diagnosis:
    """AutoAttack's check: all outputs non-negative, none above 1, sums of 1."""
    name = "probabilities_as_logits"
    if case.logits is None:
        return not_run(name, "the clean answers hold no logits")
    z = case.logits.astype(np.float64)
    sums = np.abs(z.sum(axis=1) - 1) < SUM
    like = sums & (z.max(axis=1) < 1 + SUM) & (z.min(axis=1) > -SUM)
    share, n = float(like.mean()), len(z)
    if share == 1:
        return Diagnosis(name, failed=True, value=1, n=n, doubtful=case.surviving)
    if str(getattr(case.model.module, "output", "")).startswith("probabilit"):
        words = "The model ends in probabilities; their logarithms were attacked"
        return Diagnosis(name, failed=True, value=1, n=n, told=words)
    return Diagnosis(name, failed=False, value=share, n=n)


def classes(case: Case) -> Diagnosis:
    """AutoAttack's check: whether the losses are defined for this many classes."""
    name = "enough_classes"
    if case.logits is None:
        return not_run(name, "the clean answers hold no logits")
    k, loss = case.logits.shape[1], str(getattr(case.attack, "loss", ""))
    targets = getattr(case.attack, "targets", None)
    stated = "targets" in case.attack.conditions(case.epsilon)
    few = (loss == "dlr" and k <= 2) or (loss == "targeted_dlr" and k <= 3)
    many = stated and isinstance(targets, int) and targets + 1 > k
    return Diagnosis(name, few or many, k, len(case.logits))


def zero_gradient(case: Case) -> Diagnosis:
    """Survivors that had a gradient of zeros; in doubt are those that had little else."""
    zero, taken = case.trace["zero_gradients"], case.trace["gradients"]
    ever = case.robust & (zero > 0)
    stuck = ever & (2 * zero >= taken)
    return Diagnosis(
        "zero_gradient", bool(ever.any()), int(ever.sum()), int(case.robust.sum()),
        float(stuck.mean()),
    )  # fmt: skip


def watched(case: Case) -> Iterator[Diagnosis]:
    """What the search saw fooled, against what came of it."""
    ward, n = case.ward, len(case.robust)
    if not ward.watched:
        reason = "no answer of the model to a whole batch could be watched"
        yield not_run("silent_success", reason)
        yield not_run("transfer_to_deployed", reason)
        return
    for name, count in (
        ("silent_success", ward.silent), ("transfer_to_deployed", ward.unconfirmed),
    ):  # fmt: skip
        yield Diagnosis(name, count > 0, count, ward.watched, count / n)


def late(case: Case) -> Diagnosis:
    """The part of the loss's range that the survivors' searches gained at their ends."""
    name = "incomplete_optimisation"
    if "late_gain" not in case.trace:
        return not_run(name, "the search keeps no trace of its losses")
    gains = case.trace["late_gain"]
    known = gains[case.robust & (gains >= 0)]
    if not len(known):
        if not case.robust.any():
            return not_run(name, "no sample survived")
        return not_run(name, "no search was twenty steps long")
    value = float(known.mean())
    return Diagnosis(name, value > LATE, value, len(known))


def record(case: Case) -> Diagnosis:
    """Whether the search was tried both ways; the parameters always stand beside the number."""
    kinds = 2 if case.attack.both_ways else 1
    return Diagnosis("complete_record", kinds < 2, kinds, len(case.robust))


def validity(case: Case) -> Diagnosis:
    """Counted examples measured again in float64, with no help of what made them."""
    name, bad, n = "valid_examples", 0, 0
    for clean, example, threat in case.ward.examples:
        ball = Ball(clean, threat)
        far = ball.distance(example) > threat.epsilon + SLACK
        out = ((example < ball.low) | (example > ball.high)).flatten(1).any(dim=1)
        broken = ~torch.isfinite(example).flatten(1).all(dim=1)
        bad += int((far | out | broken).sum())
        n += len(clean)
    return Diagnosis(name, bad > 0, bad, n, case.surviving if bad else 0.0)


def inputs(case: Case) -> Iterator[Diagnosis]:
    """Whether declared range and budget are in the units of the inputs."""
    ward, bounds = case.ward, case.model.bounds
    spanned = ward.high - ward.low
    if bounds is None:
        for name in ("inputs_in_range", "range_fits_inputs"):
            yield not_run(name, "the model declares no bounds")
    else:
        share = ward.outside / ward.inputs
        yield Diagnosis(
            "inputs_in_range",
            share > 0,
            share,
            ward.inputs,
            ward.outside_surviving / len(case.robust),
        )
        declared = float(np.max(np.asarray(bounds[1]))) - float(np.min(np.asarray(bounds[0])))
        if not math.isfinite(declared) or declared <= 0:
            yield not_run("range_fits_inputs", "the declared range has no end")
        else:
            part = spanned / declared
            yield Diagnosis("range_fits_inputs", part < HALF_STEP, part, ward.inputs)
    yield units(case, spanned)


def units(case: Case, spanned: float) -> Diagnosis:
    """Whether a budget was meant for other units than those of the inputs."""
    name, ward, epsilon = "epsilon_units", case.ward, case.epsilon
    if case.attack.norm not in {"linf", "l2"} or case.attack.epsilon_per_feature is not None:
        return not_run(name, "units are plain only for one budget for all values, in linf or l2")
    if spanned <= 0:
        return not_run(name, "all inputs are alike")
    told = ""
    if ward.whole and spanned > 2 and epsilon < HALF_STEP:
        told = f"Inputs are whole numbers and a change of {epsilon:g} rounds away"
    elif case.attack.norm == "linf" and normalised(ward) and for_pixels(epsilon):
        told = (
            f"Inputs lie in [{ward.low:.3g}, {ward.high:.3g}] with a spread of {spread(ward):.3g}, as "
            f"images do after normalisation; {epsilon:g} is a budget for pixels in [0, 1]"
        )
    return Diagnosis(
        name, bool(told), epsilon / spanned, ward.inputs, case.surviving if told else 0.0, told
    )


def spread(ward: Ward) -> float:
    """The standard deviation of all values of the clean inputs."""
    mean = ward.sum / ward.values
    return math.sqrt(max(ward.squares / ward.values - mean * mean, 0.0))


def normalised(ward: Ward) -> bool:
    """Whether the inputs look like images from which a mean was taken, over a deviation."""
    patients = ward.patients
    image = patients is not None and patients.x.ndim >= 4
    about_zero = ward.low < -0.1 and abs(ward.sum / ward.values) < 1
    return image and about_zero and 0.5 < spread(ward) < 2


def for_pixels(epsilon: float) -> bool:
    """Whether a budget is one that is written for pixels in [0, 1]: k/255, or a customary decimal."""
    steps: Any = epsilon * 255
    whole = abs(steps - round(steps)) < 1e-4 and 1 <= round(steps) <= MOST_STEPS
    return whole or any(abs(epsilon - one) < 1e-9 for one in PIXEL_BUDGETS)

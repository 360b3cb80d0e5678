"""Cheap probes of an examined model: a few passes on a few survivors, never more than allowed.

Knows the criteria and a purse of passes; never how the attack under examination searched.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from msgspec import structs
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dlaudit.attacks.ball import Ball
from dlaudit.attacks.base import Threat
from dlaudit.attacks.criteria import Diagnosis, not_run
from dlaudit.attacks.losses import LOSSES, Loss, margin
from dlaudit.attacks.readings import Case
from dlaudit.attacks.ward import Patients
from dlaudit.audit.parts import Passes
from dlaudit.audit.record import Cost
from dlaudit.audit.statistics import wilson
from dlaudit.errors import NonFinite

REPEATS = 5
DRIFT = 1e-4
"""Passes over the same inputs, and what their normalised logits may differ by (AutoAttack's checks)."""
NEIGHBOURS = 100
"""Random neighbours of each sample (Pintor et al. 2022, unstable predictions)."""
ROUGH = 0.1
"""Published without a threshold; honest nets gave up to 0.05 (RESULTS.md)."""
FORETOLD = 0.1
"""Of the rise of the margin that its gradient foretells; honest nets gave about 1 (RESULTS.md)."""
STRETCH = (8, 6)
"""Steps inside half the range of inputs, then inside all of it."""
CHUNK = 8
DRAWS, FEW = 10_000, 50
"""Draws of noise for each sample (Carlini et al. 2019), and at most in the quick examination."""
NOTHING_LEFT = "no sample survived the attack, so nothing can be overstated"
NO_PASSES = "its passes did not fit into the allowance"
ANY_NORM = ("linf", "l2")


class Purse:
    """What an examination may spend, forward and backward passes apart."""

    def __init__(self, passes: Passes, allowed: Cost | None) -> None:
        """passes: the model's counter; allowed: None for no limit."""
        self.passes, self.start, self.allowed = passes, passes.cost, allowed

    def covers(self, n: int, forward: int, backward: int = 0, *, share: float = 1) -> int:
        """How many of n samples, at so many passes each, fit into a share of what is left."""
        if self.allowed is None:
            return n
        spent = self.passes.since(self.start)
        fit = n
        for each, whole, used in (
            (forward, self.allowed.forward, spent.forward),
            (backward, self.allowed.backward, spent.backward),
        ):
            if each:
                fit = min(fit, int((whole - used) * share) // each)
        return max(fit, 0)


class Probing(NamedTuple):
    """What every probe is given."""

    case: Case
    patients: Patients
    purse: Purse
    generator: torch.Generator

    @property
    def loss(self) -> Loss:
        """The attacked loss, the margin where it is one of pairs or unknown."""
        stated = getattr(self.case.attack, "loss", "")
        return next((one for name, one in LOSSES.items() if name == stated), margin)


def probes(at: Probing) -> Iterator[Diagnosis]:
    """Every cheap probe that the purse covers, the most telling first."""
    yield randomised(at)
    yield dynamic(at)
    yield from stretched(at)
    yield from single_step(at)
    yield unstable(at)
    yield noise(at)


def randomised(at: Probing) -> Diagnosis:
    """Five passes over the same inputs (AutoAttack's check)."""
    name, patients = "randomised_model", at.patients
    n = at.purse.covers(min(len(patients), 2 * CHUNK), REPEATS, share=0.5)
    if not n:
        return not_run(name, NO_PASSES if len(patients) else NOTHING_LEFT)
    x = patients.x[:n]
    seen = torch.stack([at.case.model.logits(x).float() for _ in range(REPEATS)])
    unit = seen / seen.flatten(2).norm(dim=2, keepdim=True).clamp_min(1e-12)
    drift = float((unit - unit[:1]).abs().max())
    counts = (seen.argmax(dim=2) == patients.y[:n]).sum(dim=1)
    failed = drift > DRIFT or bool((counts != counts[0]).any())
    return Diagnosis(name, failed, drift, n, at.case.surviving if failed else 0.0)


class Calls(TorchFunctionMode):
    """Counts calls that ask for gradients, or switch their recording on, while it is entered."""

    def __init__(self) -> None:
        """None yet."""
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Every function of torch passes here."""
        if func in {torch.autograd.grad, torch.autograd.backward, Tensor.backward}:
            self.count += 1
        return func(*args, **(kwargs or {}))


def dynamic(at: Probing) -> Diagnosis:
    """Automatic differentiation during inference (AutoAttack's check)."""
    name, model = "dynamic_defence", at.case.model
    if model.module is None:
        return not_run(name, "the model's computation cannot be watched")
    if not at.purse.covers(1, 1) or not len(at.patients):
        return not_run(name, NO_PASSES if len(at.patients) else NOTHING_LEFT)
    with Calls() as calls:
        model.logits(at.patients.x[:1])
    return Diagnosis(
        name, calls.count > 0, calls.count, 1, at.case.surviving if calls.count else 0.0
    )


class Stretch(NamedTuple):
    """What became of samples whose every value could move far.

    far, any_: (m,) bool, fooled within half the range, within all of it; zero: (m,) bool, the first
    gradient was zero; steps: (k, 2) changes of loss and of margin from one iterate to the next.
    """

    far: np.ndarray
    any_: np.ndarray
    zero: np.ndarray
    steps: np.ndarray


def stretched(at: Probing) -> Iterator[Diagnosis]:
    """Unbounded attack, high distortion, consistency of the loss: three criteria of one search."""
    names = ["unbounded_attack", "high_distortion", "loss_consistency"]
    if "gradients" not in at.case.trace:
        names.append("zero_gradient")
    threat = at.patients.threat if len(at.patients) else None
    reason = NOTHING_LEFT
    if threat is not None:
        fixed = isinstance(threat.scale, Tensor) and bool((threat.scale == 0).any())
        reason = NO_PASSES
        if threat.rules is not None or fixed:
            reason = "the threat model forbids some changes at any budget"
    each = (sum(STRETCH) + 1, sum(STRETCH))
    found: list[Stretch] = []
    if reason == NO_PASSES:
        for start in range(0, len(at.patients), CHUNK):
            part = at.patients.rows(slice(start, start + CHUNK))
            fit = at.purse.covers(len(part), *each, share=1 if not start else 0.5)
            try:
                found += [stretch(at.case, part.rows(slice(fit)), at.loss)] if fit else []
            except NonFinite:
                reason, found = "the model gave NaN or infinity far from its inputs", []
                break
            if fit < len(part):
                break
    if not found:
        yield from (not_run(name, reason) for name in names)
        return
    joined = Stretch(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
    n = len(joined.far)
    left = int((~joined.any_).sum())
    yield Diagnosis("unbounded_attack", left > 0, left / n, n, at.case.share(left, n))
    yield high_distortion(at.case, int((~joined.far).sum()), n)
    yield consistency(at, joined.steps)
    if len(names) > 3:
        zero = int(joined.zero.sum())
        yield Diagnosis("zero_gradient", zero > 0, zero, n, at.case.share(zero, n))


def stretch(case: Case, patients: Patients, loss: Loss) -> Stretch:
    """Climb the attacked loss with ever wider budgets; whoever is fooled costs nothing more."""
    model, n = case.model, len(patients)
    span = spans(case)
    far, any_, zero = (torch.zeros(n, dtype=torch.bool) for _ in range(3))
    x, y, place = patients.x, patients.y, torch.arange(n, device=patients.y.device)
    told: list[Tensor] = []
    last: Tensor | None = None
    scale = torch.as_tensor(span, dtype=torch.float64, device=x.device).expand(x.shape[1:])
    for count, budget in zip(STRETCH, (0.5, 1.0), strict=True):
        around = Threat(norm="linf", epsilon=budget, bounds=patients.threat.bounds, scale=scale)
        ball = Ball(patients.x, around).rows(place)
        for step in range(count):
            logits, gradient = model.logits_and_gradient(x, y, loss)
            if last is None:
                zero = (gradient.flatten(1) == 0).all(dim=1).cpu()
            now = torch.stack([loss(logits, y), margin(logits, y)], dim=1).double().cpu()
            if last is not None:
                told.append(now - last)
            keep = logits.argmax(dim=1) == y
            done = place[~keep].cpu()
            any_[done] = True
            # The first iterate of the second stage was still made inside half the range.
            far[done] |= budget < 1 or step == 0
            x, y, place, ball = x[keep], y[keep], place[keep], ball.rows(keep)
            last = now[keep.cpu()]
            if not len(place):
                break
            size = budget * (1 - step / count) if budget < 1 else 2 * budget / count
            x = ball.step(x, gradient[keep], size)
        if not len(place):
            break
    if len(place):
        any_[place[model.logits(x).argmax(dim=1) != y].cpu()] = True
    steps = torch.cat(told).numpy() if told else np.zeros((0, 2))
    return Stretch(far.numpy(), any_.numpy(), zero.numpy(), steps)


def spans(case: Case) -> Any:
    """How far a value can move at all: the declared range where it ends, else that of the inputs."""
    seen = max(case.ward.high - case.ward.low, 1e-6)
    if case.model.bounds is None:
        return seen
    low, high = (np.asarray(end, dtype=np.float64) for end in case.model.bounds)
    span = high - low
    return np.where(np.isfinite(span) & (span > 0), span, seen)


def high_distortion(case: Case, left: int, n: int) -> Diagnosis:
    """Accuracy where every value may move by half its range, against chance."""
    name = "high_distortion"
    if case.logits is None:
        return not_run(name, "the clean answers hold no logits, so chance is unknown")
    clean, chance = float(case.correct.mean()), 1 / case.logits.shape[1]
    low = wilson(left, n).low * clean
    return Diagnosis(name, low > chance, left / n * clean, n, case.share(left, n))


def consistency(at: Probing, steps: np.ndarray) -> Diagnosis:
    """Spearman's correlation of the changes of loss and margin along the climb."""
    name = "loss_consistency"
    if at.loss is margin:
        return Diagnosis(name, failed=False, value=1, n=len(steps), told="The loss is the margin")
    moved = steps[steps[:, 1] != 0]
    if len(moved) < CHUNK:
        return not_run(name, "the margin changed too seldom on the way")
    from scipy.stats import spearmanr

    constant = bool((moved == moved[0]).all(axis=0).any())
    value = 0.0 if constant else float(spearmanr(moved[:, 0], moved[:, 1]).statistic)
    failed = value <= 0
    return Diagnosis(name, failed, value, len(moved), at.case.surviving if failed else 0.0)


def single_step(at: Probing) -> Iterator[Diagnosis]:
    """One step of the whole budget along the margin's gradient: does it fool, does the margin follow."""
    step, tells = "single_step_succeeds", "gradient_foretells"
    n = at.purse.covers(len(at.patients), 2, 1, share=0.5)
    reason = NO_PASSES if len(at.patients) else NOTHING_LEFT
    if at.case.attack.norm not in ANY_NORM:
        n, reason = 0, f"a step has no one direction in {at.case.attack.norm}"
    if not n:
        yield from (not_run(name, reason) for name in (step, tells))
        return
    part = at.patients.rows(slice(n))
    logits, gradient = at.case.model.logits_and_gradient(part.x, part.y, margin)
    x = part.ball().step(part.x, gradient, part.threat.epsilon)
    stepped = at.case.model.logits(x)
    if at.case.single_step:
        yield not_run(step, "the attack is a single step itself")
    else:
        hits = int(part.fooled(stepped, x).sum())
        yield Diagnosis(step, hits > 0, hits, n, at.case.proven(hits, n))
    foretold = (gradient.double() * (x.double() - part.x.double())).flatten(1).sum(dim=1)
    known = foretold > 0
    if not known.any():
        yield not_run(tells, "no gradient pointed anywhere")
        return
    rise = (margin(stepped, part.y) - margin(logits, part.y)).double()
    ratio = rise[known] / foretold[known]
    off = (ratio < FORETOLD) | (ratio > 1 / FORETOLD)
    value, m = float(ratio.median()), len(ratio)
    failed = value < FORETOLD or value > 1 / FORETOLD
    yield Diagnosis(tells, failed, value, m, at.case.share(int(off.sum()), m))


def unstable(at: Probing) -> Diagnosis:
    """Relative change of the margin in a box of half the budget around survivors."""
    name = "unstable_loss"
    if at.case.attack.norm != "linf":
        return not_run(name, "the criterion is of boxes around the inputs: linf only")
    n = at.purse.covers(min(len(at.patients), CHUNK), NEIGHBOURS, share=0.6)
    if not n:
        return not_run(name, NO_PASSES if len(at.patients) else NOTHING_LEFT)
    part = at.patients.rows(slice(n))
    inner = structs.replace(part.threat, epsilon=part.threat.epsilon / 2)
    near = structs.replace(part, threat=inner)
    clean = margin(at.case.model.logits(part.x), part.y)
    total = torch.zeros_like(clean)
    for _ in range(NEIGHBOURS - 1):
        x = near.ball().random(at.generator)
        change = (margin(at.case.model.logits(x), part.y) - clean).abs()
        total += (change / clean.abs().clamp_min(1e-12)).clamp_max(1)
    value = float(total.mean() / (NEIGHBOURS - 1))
    return Diagnosis(name, value > ROUGH, value, n)


def noise(at: Probing, draws: int = FEW, *, share: float = 0.5) -> Diagnosis:
    """Noise of the budget's size, half of it at the corners; what was not found by few is not told."""
    name = "random_noise"
    if at.case.attack.norm not in ANY_NORM:
        return not_run(name, f"noise has no one shape in {at.case.attack.norm}")
    n = len(at.patients)
    tried = min(draws, at.purse.covers(draws, max(n, 1), share=share))
    if not n or not tried:
        return not_run(name, NO_PASSES if n else NOTHING_LEFT)
    beaten = drawn(at, tried)
    hits = int(beaten.sum())
    if not hits and tried < DRAWS:
        return not_run(name, f"only {tried} of {DRAWS:,} draws were made; none fooled the model")
    words = f"{tried} draws"
    doubtful = 0.0 if at.case.single_step else at.case.proven(hits, n)
    return Diagnosis(name, hits > 0, hits, n, doubtful, words)


def drawn(at: Probing, draws: int) -> Tensor:
    """(b,) bool: patients that some draw of noise fooled; they cost nothing more."""
    beaten = torch.zeros(len(at.patients), dtype=torch.bool)
    left, place = at.patients, torch.arange(len(at.patients))
    for k in range(draws):
        x = noisy(left.ball(), at.generator, corner=k % 2 == 0)
        hit = left.fooled(at.case.model.logits(x), x).cpu()
        if hit.any():
            beaten[place[hit]] = True
            left, place = left.rows(torch.nonzero(~hit).squeeze(1).to(left.y.device)), place[~hit]
            if not len(place):
                break
    return beaten


def noisy(ball: Ball, generator: torch.Generator, *, corner: bool) -> Tensor:
    """A draw from the ball: uniform, or with every value (l2: the whole) at its end."""
    if not corner:
        return ball.random(generator)
    direction = torch.randn(ball.x.shape, generator=generator).to(ball.x)
    return ball.step(ball.x, direction, ball.epsilon)

"""What every attack goes through: who is attacked, what counts as fooled, what is measured.

Knows the threat model and the model's decisions; never how an attack searches. Whatever a search
returns is cut to the threat model, checked again and predicted again, so a broken search can only
make the model look better, and ``inputs_moved`` and the caveats say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from msgspec import structs
from torch import Tensor

from dlaudit.attacks.ball import Ball, valid_end
from dlaudit.attacks.base import Attack, Found, Terms, Threat
from dlaudit.attacks.criteria import caveats
from dlaudit.attacks.examination import Examination, examined
from dlaudit.attacks.pictures import Failure, Pictures, confidences
from dlaudit.audit.bench import Answers, Bench, Block, rows
from dlaudit.audit.parts import Batch, Decisions, Yielded
from dlaudit.audit.record import Caveat, Interval, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import wilson
from dlaudit.errors import AuditError, NotOffered

NEVER = -1.0
"""Stands for "no budget" in evidence columns of budgets and distances, which are never negative."""


class WrongExamples(AuditError):
    """An attack returned something that is not one example per sample."""


class Outcomes:
    """What happened to each of the n samples, as columns."""

    def __init__(self, answers: Answers, budgets: int) -> None:
        """answers: the clean ones; budgets: the length of the curve."""
        n = len(answers.y)
        self.correct = answers.correct
        self.epsilon_fooled = np.full(n, NEVER)
        self.distance = np.full(n, NEVER)
        self.adversarial = answers.predicted.copy()
        self.forward, self.backward = np.zeros(n), np.zeros(n)
        self.moved = np.zeros((budgets, n), dtype=bool)
        self.refused = np.zeros(n, dtype=bool)
        self.trace: dict[str, np.ndarray] = {}
        self.left_out = np.zeros(n, dtype=bool)
        self.forbidden = np.zeros((budgets, n), dtype=bool)

    def keep_trace(self, at: np.ndarray, trace: Mapping[str, Tensor]) -> None:
        """What the search saw of the samples at these positions; the last budget is what stays."""
        for name, column in trace.items():
            values = column.cpu().numpy()
            kept = self.trace.setdefault(
                name, np.full(len(self.correct), NEVER, dtype=values.dtype)
            )
            kept[at] = values

    def first(self, n: int) -> Outcomes:
        """The outcomes of the first n samples; nothing is copied."""
        part = object.__new__(Outcomes)
        for name, column in vars(self).items():
            if name != "trace":
                setattr(part, name, column[..., :n])
        part.trace = {name: column[:n] for name, column in self.trace.items()}
        return part

    def fooled_at(self, epsilon: float) -> np.ndarray:
        """(n,) bool: a success at a smaller budget is one at every larger."""
        fooled: np.ndarray = (self.epsilon_fooled != NEVER) & (self.epsilon_fooled <= epsilon)
        return fooled


class Judged(NamedTuple):
    """Examples after judgement. x: inside the threat model; the rest: (B,) numpy columns."""

    x: Tensor
    decisions: Decisions
    fooled: np.ndarray
    moved: np.ndarray
    refused: np.ndarray
    forbidden: np.ndarray
    distance: np.ndarray


def robustness(
    attack: Attack, bench: Bench, *, among: np.ndarray | None = None
) -> Iterator[Yielded]:
    """Attack every clean-correct sample block by block and measure what survives each budget.

    A plan that says ``until_decided`` ends it as soon as the rules of the run are decided. among:
    sorted positions of the samples to attack, None for all. Raises NotOffered if the inputs are not
    floating-point numbers, NonFinite on NaN logits or gradients, WrongExamples if the attack returns
    something else than one example per sample.
    """
    sampling = bench.sampling(samples=attack.samples, among=among)
    answers, seen = sampling.answers, 0
    terms = attack.terms(bench)
    outcomes = Outcomes(answers, len(attack.epsilon.values))
    pictures = Pictures(bench)
    examination, doubted = examined(attack, bench), tuple[Caveat, ...]()

    def so_far() -> Iterator[Measurement | Undefined]:
        part = outcomes.first(seen)
        return measurements(
            attack, bench, part, terms, interval=sampling.proportion, doubted=doubted
        )

    for block in sampling.blocks():
        attack_block(
            attack, bench, block, terms=terms, answers=answers, outcomes=outcomes,
            pictures=pictures, examination=examination,
        )  # fmt: skip
        seen = block.start + len(block.batch.y)
        if sampling.decided(so_far()):
            break
    answers, outcomes = answers.at(slice(seen)), outcomes.first(seen)
    if examination is not None:
        doubted = caveats(examination.diagnoses(answers, outcomes), run=bench.run)
    yield from sampling.told(so_far(), seen=seen)
    yield bench.keep_table(
        f"{bench.run}.samples", columns(answers, outcomes),
        caption=f"{bench.run}: what happened to each of {len(answers.y)} samples, one row each.",
    )  # fmt: skip
    yield from pictures.artifacts()


def attack_block(
    attack: Attack,
    bench: Bench,
    block: Block,
    *,
    terms: Terms,
    answers: Answers,
    outcomes: Outcomes,
    pictures: Pictures | None = None,
    examination: Examination | None = None,
) -> None:
    """Attack one block along the curve; who is fooled at a budget is not attacked at a larger one.

    pictures, examination: who looks on, if anybody does.
    """
    model = bench.model
    batch = on_device(block.batch, model.device, bench)
    here = slice(block.start, block.start + len(batch.y))
    if terms.applies is not None:
        outcomes.left_out[here] = ~terms.applies(batch).cpu().numpy()
    open_ = np.flatnonzero(outcomes.correct[here] & ~outcomes.left_out[here])
    found: Found | None = None
    for k, epsilon in enumerate(attack.epsilon):
        # A ball of radius 0 holds the clean input alone: there is nothing to search.
        if epsilon == 0 or not len(open_):
            continue
        part, at = rows(batch, open_), block.start + open_
        threat = terms.threat(part, epsilon)
        if found is None or not attack.minimal:
            budget = attack.epsilon.values[-1] if attack.minimal else epsilon
            aim = structs.replace(threat, epsilon=budget, bounds=told(threat.bounds, part.x))
            # A copy: what the search does to its inputs must not move the point it is judged from.
            copy = part._replace(x=part.x.clone(), y=part.y.clone())
            randomness = block.generator(f"epsilon={aim.epsilon!r}")
            watched = nullcontext() if examination is None else examination.watching(copy, aim)
            with watched, model.computing_fast(attack.mixed_precision):
                found = attack.search(model, copy, aim, randomness)
            outcomes.forward[at] += found.forward.cpu().numpy()
            outcomes.backward[at] += found.backward.cpu().numpy()
            outcomes.keep_trace(at, found.trace)
        judged = judge(found.x, part, threat, bench)
        fooled = judged.fooled
        outcomes.forward[at] += 1
        outcomes.refused[at] |= judged.refused
        outcomes.forbidden[k, at] = judged.forbidden
        if threat.rules is not None:
            refused = torch.from_numpy(judged.forbidden.astype(np.int8))
            outcomes.keep_trace(at, {"refused_by_constraints": refused})
        outcomes.adversarial[at[fooled]] = judged.decisions.predicted[fooled]
        outcomes.epsilon_fooled[at[fooled]] = epsilon
        outcomes.distance[at[fooled]] = judged.distance[fooled]
        outcomes.moved[k, at] = judged.moved
        # An example inside a ball is inside every larger one: it has moved there too.
        outcomes.moved[k + 1 :, at[fooled]] = judged.moved[fooled]
        if pictures is not None:
            pictures.offer(failures(part, judged, answers, at, threat))
        if examination is not None:
            examination.compare(part, found.x, judged.x, fooled, threat)
        open_ = open_[~fooled]
        if attack.minimal:
            found = found._replace(x=found.x[torch.from_numpy(~fooled)])
    if examination is not None:
        examination.leave(batch, open_, block, terms)


def plain_terms(attack: Attack, bench: Bench) -> Terms:
    """The model's valid range and the attack's budgets, one number or one for each feature.

    Raises NotOffered if there are more or fewer of them than an input has values or channels.
    """
    bounds, budgets = bench.model.bounds, attack.epsilon_per_feature

    def threat(batch: Batch, epsilon: float) -> Threat:
        scale = None if budgets is None else spread(budgets, batch.x)
        return Threat(
            norm=attack.norm, epsilon=epsilon, bounds=bounds, scale=scale, levels=attack.levels
        )

    return Terms(threat)


def spread(budgets: list[float], x: Tensor) -> Tensor:
    """Budgets per value or per channel as a float64 tensor that spreads over inputs x (B, *input).

    Channels stand first, or else last.
    """
    shape = x.shape[1:]
    given = torch.tensor(budgets, dtype=torch.float64, device=x.device)
    if len(budgets) == shape.numel():
        return given.view(shape)
    if len(shape) > 1 and len(budgets) == shape[0]:
        return given.view(-1, *[1] * (len(shape) - 1))
    if len(shape) > 1 and len(budgets) == shape[-1]:
        return given
    message = (
        f"epsilon_per_feature: expected {shape.numel()} budgets, one for each value of an input of "
        f"shape {tuple(shape)}, or one for each of its channels, got {len(budgets)}"
    )
    raise NotOffered(message)


def grid_ends(bench: Bench) -> tuple[float, float]:
    """The values that the first and the last level stand for. Raises NotOffered if there are none."""
    bounds = bench.model.bounds
    if bounds is None or any(np.ndim(end) for end in bounds):
        message = (
            f"{bench.run}: levels divides the valid range of inputs: expected bounds = [low, high] of "
            f"two numbers in the model's args, got {setting(bench)['bounds']}"
        )
        raise NotOffered(message)
    return float(bounds[0]), float(bounds[1])


def told(bounds: tuple[Any, Any] | None, x: Tensor) -> tuple[Any, Any] | None:
    """The valid range as a search is given it: numbers as they are, arrays as tensors like one input.

    Rounded inwards, so that what is cut to them needs no second cut.
    """
    if bounds is None:
        return None
    low, high = (
        end if np.ndim(end) == 0 else valid_end(end, x, up=up)
        for end, up in zip(bounds, (True, False), strict=True)
    )
    return low, high


def failures(
    batch: Batch, judged: Judged, answers: Answers, at: np.ndarray, threat: Threat
) -> Iterator[Failure]:
    """The fooled samples of a batch, ready to be drawn. at: their positions in ``answers``."""
    logits = None if answers.logits is None else answers.logits[at]
    before = confidences(logits, answers.y[at])
    after = confidences(judged.decisions.logits, np.asarray(judged.decisions.predicted))
    for i in np.flatnonzero(judged.fooled):
        yield Failure(
            epsilon=threat.epsilon, doubt=1 - after[i] if after else 1.0, id=str(batch.id[i]),
            label=int(answers.y[at[i]]), predicted=int(judged.decisions.predicted[i]),
            clean_confidence=before[i] if before else None, confidence=after[i] if after else None,
            norm=threat.norm, clean=batch.x[i].cpu().numpy(), adversarial=judged.x[i].cpu().numpy(),
        )  # fmt: skip


def on_device(batch: Batch, device: str, bench: Bench) -> Batch:
    """The batch with x and y as tensors on the model's device. Raises NotOffered for integers."""
    x = torch.as_tensor(batch.x)
    if not x.is_floating_point():
        message = (
            f"{bench.run} perturbs numbers by a budget: expected floating-point inputs, got {x.dtype} "
            f"in {bench.data.card.name}"
        )
        raise NotOffered(message)
    y = torch.as_tensor(batch.y, dtype=torch.int64)
    return batch._replace(x=x.to(device), y=y.to(device))


def judge(proposed: Tensor, batch: Batch, threat: Threat, bench: Bench) -> Judged:
    """Cut proposed examples to the threat model, check them again, predict them again.

    proposed: like batch.x; a sample with a value that is not finite gets its clean input back and
    is marked as refused. fooled: inside the threat model and decided otherwise than the label;
    forbidden: it would be, but for the rules of the threat model. Raises WrongExamples.
    """
    clean = batch.x
    if not isinstance(proposed, Tensor) or proposed.shape != clean.shape or proposed.is_complex():
        got = type(proposed).__name__
        if isinstance(proposed, Tensor):
            got = f"{proposed.dtype} of shape {tuple(proposed.shape)}"
        message = (
            f"{bench.run}: expected one example per sample, a tensor of real numbers of shape "
            f"{tuple(clean.shape)}, got {got}"
        )
        raise WrongExamples(message)
    candidate = proposed.detach().to(clean)
    usable = torch.isfinite(candidate).flatten(1).all(dim=1)
    if not usable.all():
        candidate = torch.where(usable.view(-1, *[1] * (clean.ndim - 1)), candidate, clean)
    ball = Ball(clean, threat)
    x = ball.project(candidate)
    if threat.levels is not None:
        x = ball.stored(x, threat.levels, grid_ends(bench))
    decisions = bench.model.decide(rewritten(batch, x, bench.data.card.facts))
    wrong = np.asarray(decisions.predicted) != batch.y.cpu().numpy()
    wrong &= ball.contains(x).cpu().numpy()
    admitted = np.ones_like(wrong)
    if threat.rules is not None:
        admitted = threat.rules.admits(x, clean).cpu().numpy()
    return Judged(
        x=x,
        decisions=decisions,
        fooled=wrong & admitted,
        moved=(x != clean).flatten(1).any(dim=1).cpu().numpy(),
        refused=~usable.cpu().numpy(),
        forbidden=wrong & ~admitted,
        distance=ball.distance(x).cpu().numpy(),
    )


def rewritten(batch: Batch, x: Tensor, facts: Mapping[str, Any]) -> Batch:
    """The batch as arrays with x as its inputs, in a table's own columns too.

    A model that was fitted on named columns reads those. A cell that the attack left alone keeps its
    stored value; a code becomes the category that it stands for.
    """
    made, clean = x.cpu().numpy(), batch.x.cpu().numpy()
    columns = dict(batch.columns)
    for place, name in enumerate(facts.get("features", ())):
        if name not in columns:
            continue
        new, stored = made[:, place], np.asarray(columns[name])
        if categories := facts.get("codes", {}).get(name):
            codes = np.clip(np.rint(new), 0, len(categories) - 1).astype(np.int64)
            new = np.array(categories, dtype=object)[codes]
        columns[name] = np.where(made[:, place] == clean[:, place], stored, new)
    return batch._replace(x=made, y=batch.y.cpu().numpy(), columns=columns)


def measurements(
    attack: Attack,
    bench: Bench,
    outcomes: Outcomes,
    terms: Terms,
    *,
    interval: Callable[[int, int], Interval] = wilson,
    doubted: tuple[Caveat, ...] = (),
) -> Iterator[Measurement | Undefined]:
    """The numbers of the contract: clean accuracy, and per budget what survived and what moved.

    interval: of a proportion, from successes and n. doubted: what an examination of the attack found.
    """
    everyone, n = len(outcomes.correct), int((~outcomes.left_out).sum())
    if terms.applies is not None:
        yield Measurement(
            name="left_out", value=(everyone - n) / everyone, n=everyone, direction="lower",
            interval=interval(everyone - n, everyone), conditions={"reason": terms.reason},
        )  # fmt: skip
    if not n:
        reason = f"none of {everyone} samples can be attacked: {terms.reason}"
        for name in ("clean_accuracy", "robust_accuracy", "inputs_moved"):
            yield Undefined(name=name, reason=reason)
        return
    correct = outcomes.correct & ~outcomes.left_out
    attacked = int(correct.sum())
    yield Measurement(
        name="clean_accuracy",
        value=attacked / n,
        n=n,
        interval=interval(attacked, n),
        direction="higher",
    )
    own = (*doubts(bench.run, outcomes), *terms.caveats)
    for k, epsilon in enumerate(attack.epsilon):
        conditions = {**attack.conditions(epsilon), **setting(bench), **terms.stated}
        robust = int((correct & ~outcomes.fooled_at(epsilon)).sum())
        yield Measurement(
            name="robust_accuracy", value=robust / n, n=n, interval=interval(robust, n),
            direction="higher", conditions=conditions, caveats=(*own, *doubted) if epsilon else own,
        )  # fmt: skip
        # A curve that starts at 0 needs no attack there: moved inputs speak of the budgets above.
        if epsilon == 0 and len(attack.epsilon.values) > 1:
            continue
        if not attacked:
            reason = "no sample is classified correctly, so none was attacked"
            yield Undefined(name="inputs_moved", reason=reason, conditions=conditions)
            continue
        moved = int(outcomes.moved[k].sum())
        yield Measurement(
            name="inputs_moved", value=moved / attacked, n=attacked, interval=interval(moved, attacked),
            direction="higher", conditions=conditions,
        )  # fmt: skip
        if terms.ruled:
            forbidden = int(outcomes.forbidden[k].sum())
            yield Measurement(
                name="refused_by_constraints", value=forbidden / attacked, n=attacked,
                interval=interval(forbidden, attacked), conditions=conditions,
            )  # fmt: skip


def setting(bench: Bench) -> dict[str, Scalar]:
    """What the attack was confined to besides its budget, in words."""
    bounds = bench.model.bounds
    if bounds is None:
        return {"bounds": "none"}
    low, high = (np.asarray(end) for end in bounds)
    return {"bounds": f"[{low:g}, {high:g}]" if low.ndim == high.ndim == 0 else "per feature"}


def doubts(run: str, outcomes: Outcomes) -> tuple[Caveat, ...]:
    """What a reader of a robust accuracy must know besides the number."""
    caveats = [
        Caveat(
            source=run, name="upper_bound",
            message="An upper bound on robust accuracy: a stronger attack may fool more samples.",
        )
    ]  # fmt: skip
    if refused := int(outcomes.refused.sum()):
        message = (
            f"The attack returned NaN or infinity for {refused} of {int(outcomes.correct.sum())} attacked "
            f"samples; these were not attacked, yet count as robust."
        )
        caveats.append(Caveat(source=run, name="nonfinite_examples", message=message, voids=True))
    return tuple(caveats)


def columns(answers: Answers, outcomes: Outcomes) -> dict[str, np.ndarray]:
    """The evidence table: one row per sample, described in docs/evidence.md."""
    table = {
        **outcomes.trace,
        "id": answers.id,
        "label": answers.y,
        "predicted": answers.predicted,
        "attacked": outcomes.correct & ~outcomes.left_out,
        "fooled": outcomes.epsilon_fooled != NEVER,
        "robust": outcomes.correct & ~outcomes.left_out & (outcomes.epsilon_fooled == NEVER),
        "epsilon_fooled": outcomes.epsilon_fooled,
        "distance": outcomes.distance,
        "adversarial": outcomes.adversarial,
        "moved": outcomes.moved[-1],
        "forward": outcomes.forward,
        "backward": outcomes.backward,
    }
    if answers.logits is not None:
        table["margin"] = margins(answers.logits, answers.y)
    return table


def margins(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Logit of the label minus the largest other: (n, C), (n,) -> (n,); positive where correct."""
    row = np.arange(len(y))
    others = logits.copy()
    others[row, y] = -np.inf
    gaps: np.ndarray = logits[row, y] - others.max(axis=1)
    return gaps

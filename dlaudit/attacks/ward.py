"""What an attack's run keeps aside for its examination: some survivors, and what went unreturned.

Knows samples, budgets and the model's answers as they pass by; never what any of it is a sign of.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import msgspec
import numpy as np
import torch
from msgspec import structs
from torch import Tensor

from dlaudit.attacks.ball import Ball
from dlaudit.attacks.base import Threat
from dlaudit.audit.bench import Block
from dlaudit.audit.parts import Batch, Model

ROUNDING = 1e-6
"""Of an input's largest value, 1 at least."""
CAPACITY = 64
"""Samples that the quick examination may look at."""


def own_scales(scale: Any, x: Tensor) -> bool:
    """Whether a threat model's scale has a row for each sample of x (B, *input)."""
    return isinstance(scale, Tensor) and scale.ndim == x.ndim and len(scale) == len(x)


class Patients(msgspec.Struct, frozen=True):
    """Survivors of an attack, at the largest budget. x: (b, *input); y: (b,); key: (b,) their lot."""

    x: Tensor
    y: Tensor
    key: np.ndarray
    threat: Threat

    def __len__(self) -> int:
        """How many there are."""
        return len(self.y)

    def rows(self, at: Any) -> Self:
        """Some of them. at: positions, or a slice."""
        scale = self.threat.scale
        if own_scales(scale, self.x):
            scale = scale[at]
        threat = structs.replace(self.threat, scale=scale)
        lots = self.key[at.cpu().numpy() if isinstance(at, Tensor) else at]
        return type(self)(self.x[at], self.y[at], lots, threat)

    def ball(self) -> Ball:
        """What the attacker may do to them."""
        return Ball(self.x, self.threat)

    def fooled(self, logits: Tensor, x: Tensor) -> Tensor:
        """(b,) bool: these examples are inside the threat model and decided wrongly.

        logits: (b, C), the model's answers to x, like the inputs.
        """
        wrong = logits.argmax(dim=1) != self.y
        wrong &= self.ball().contains(x)
        if self.threat.rules is not None:
            wrong &= self.threat.rules.admits(x, self.x)
        return wrong


def nearly_inside(ball: Ball, x: Tensor) -> Tensor:
    """(b,) bool: what the harness would cut x (b, *input) down to differs from it by rounding only."""
    off = (x - ball.project(x)).abs().flatten(1).amax(dim=1)
    return off <= ROUNDING * x.abs().flatten(1).amax(dim=1).clamp_min(1)


class Watch:
    """The iterates of one search that fooled the model, whether or not they were returned.

    Only answers to the whole batch are read: in a smaller one nothing tells whose rows they are.
    """

    def __init__(self, ball: Ball, y: Tensor) -> None:
        """ball: around the clean inputs of the batch; y: (B,) their labels."""
        self.ball, self.y = ball, y
        self.seen = torch.zeros(len(y), dtype=torch.bool, device=y.device)
        self.x = ball.x.clone()
        self.calls = 0

    def __call__(self, module: Any, given: tuple[Any, ...], logits: Tensor) -> None:
        """Be told of one forward pass; a hook of a torch module."""
        del module
        x = given[0].detach()
        if x.shape != self.ball.x.shape:
            return
        self.calls += 1
        wrong = (logits.detach().argmax(dim=1) != self.y) & ~self.seen
        if wrong.any():
            at = wrong.nonzero().squeeze(1)
            at = at[nearly_inside(self.ball.rows(at), x[at].to(self.ball.x))]
            self.seen[at] = True
            self.x[at] = x[at].to(self.x)


class Ward:
    """Samples set aside while an attack goes through its blocks."""

    def __init__(self) -> None:
        """Empty at first."""
        self.patients: Patients | None = None
        self.examples: list[tuple[Tensor, Tensor, Threat]] = []
        self.watched = 0
        self.silent = self.unconfirmed = 0
        self.inputs = 0
        self.outside = self.outside_surviving = 0
        self.low, self.high = np.inf, -np.inf
        self.sum = self.squares = 0.0
        self.values = 0
        self.whole = True

    @contextmanager
    def watching(self, model: Model, batch: Batch, threat: Threat) -> Iterator[Watch | None]:
        """Look over a search's shoulder, where the model lets itself be looked at."""
        if model.module is None:
            yield None
            return
        watch = Watch(Ball(batch.x, threat), batch.y)
        hook = model.module.register_forward_hook(watch)
        try:
            yield watch
        finally:
            hook.remove()

    def compare(self, watch: Watch | None, returned: Tensor, fooled: np.ndarray) -> None:
        """What a search saw against what came of it. returned: like the inputs; fooled: (B,) bool."""
        if watch is None or not watch.calls:
            return
        self.watched += len(fooled)
        lost = watch.seen & ~torch.from_numpy(fooled).to(watch.seen.device)
        same = (watch.x == returned.to(watch.x)).flatten(1).all(dim=1)
        self.silent += int((lost & ~same).sum())
        self.unconfirmed += int((lost & same).sum())

    def look(self, batch: Batch, bounds: tuple[Any, Any] | None) -> np.ndarray:
        """Take note of a block's clean inputs; returns (B,) bool, those outside the declared range."""
        x = batch.x
        values = x.double()
        self.inputs += len(x)
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))
        self.sum += float(values.sum())
        self.squares += float((values * values).sum())
        self.values += values.numel()
        self.whole &= bool((values == values.round()).all())
        beyond = np.zeros(len(x), dtype=bool)
        if bounds is not None:
            low, high = (
                torch.as_tensor(end, dtype=torch.float64, device=x.device) for end in bounds
            )
            slack = 1e-6 * torch.where(torch.isfinite(high - low), high - low, 1.0)
            out = (values < low - slack) | (values > high + slack)
            beyond = out.flatten(1).any(dim=1).cpu().numpy()
        self.outside += int(beyond.sum())
        return beyond

    def keep_example(self, clean: Tensor, adversarial: Tensor, threat: Threat) -> None:
        """Set aside examples that were counted as fooled, to be measured again."""
        room = CAPACITY - sum(len(one[0]) for one in self.examples)
        if room > 0 and len(clean):
            whole = Patients(clean, torch.zeros(len(clean)), np.zeros(len(clean)), threat)
            part = whole.rows(slice(room))
            self.examples.append((part.x, adversarial[:room], part.threat))

    def admit(self, batch: Batch, threat: Threat, block: Block) -> None:
        """Set aside survivors of a block; of all, those with the lowest lots are kept."""
        if not len(batch.y):
            return
        lots = block.rng("doctor").random(len(batch.y))
        new = Patients(batch.x, batch.y, lots, threat)
        new = new.rows(np.sort(np.argsort(lots, kind="stable")[:CAPACITY]))
        old = self.patients
        if old is not None:
            scale = new.threat.scale
            if own_scales(scale, new.x):
                scale = torch.cat([old.threat.scale, scale])
            new = Patients(
                torch.cat([old.x, new.x]), torch.cat([old.y, new.y]),
                np.concatenate([old.key, new.key]), structs.replace(new.threat, scale=scale),
            )  # fmt: skip
        self.patients = new.rows(np.argsort(new.key, kind="stable")[:CAPACITY])

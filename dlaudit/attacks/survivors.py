"""Who is left: searches take turns, each on the samples that none before it has fooled.

Knows positions, costs and which turn fooled whom; never how a search moves. A search is a function
``(turn, …) -> Climbed``; whatever it says of success is asked again by the harness.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dlaudit.attacks.ball import Ball
from dlaudit.attacks.base import Found
from dlaudit.attacks.trace import Trace
from dlaudit.audit.parts import Model

NOBODY = -1
"""Stands for "no turn" in the column ``stage``."""


class Turn(NamedTuple):
    """What a search is given: some of the samples, and where to write down what it sees.

    y: (b,) labels; rows: (b,) positions in the trace; x: like the clean inputs, the best example
    so far of each sample.
    """

    model: Model
    ball: Ball
    y: Tensor
    rows: Tensor
    x: Tensor
    trace: Trace


class Climbed(NamedTuple):
    """What a search hands back. x: one example per sample, the first that fooled or the best.

    fooled: (b,) bool; value: (b,) the margin at x (largest other logit minus the label's), -inf where
    it was not asked; forward, backward: (b,) passes.
    """

    x: Tensor
    fooled: Tensor
    value: Tensor
    forward: Tensor
    backward: Tensor


class Survivors:
    """A block of samples under a sequence of searches."""

    def __init__(self, model: Model, ball: Ball, y: Tensor) -> None:
        """ball: around the clean inputs (B, *input); y: (B,) their labels."""
        n, device = len(y), y.device
        self.model, self.ball, self.y = model, ball, y
        self.x = ball.x.clone()
        self.value = torch.full((n,), -torch.inf, device=device)
        self.forward = torch.zeros(n, dtype=torch.int64, device=device)
        self.backward = torch.zeros_like(self.forward)
        self.stage = torch.full_like(self.forward, NOBODY)
        self.open = torch.arange(n, device=device)
        self.trace = Trace(n, device=device)
        self.turns = 0

    def clean_logits(self) -> Tensor:
        """(m, C) of those who are left: one forward pass each."""
        self.forward[self.open] += 1
        return self.model.logits(self.ball.rows(self.open).x)

    def face(
        self, search: Callable[..., Climbed], *, among: Tensor | None = None, **how: Any
    ) -> None:
        """Let a search loose on those who are left. Of each sample, the best example so far is kept.

        among: (m,) bool over those who are left, for a search of some of them. how: the search's own
        parameters; tensors, one row for each who is left, are cut alike.
        """
        chosen = torch.ones_like(self.open, dtype=torch.bool) if among is None else among
        rows = self.open[chosen]
        if len(rows):
            cut = {
                name: part[chosen] if isinstance(part, Tensor) else part
                for name, part in how.items()
            }
            turn = Turn(
                self.model, self.ball.rows(rows), self.y[rows], rows, self.x[rows], self.trace
            )
            climbed = search(turn, **cut)
            better = climbed.fooled | (climbed.value > self.value[rows])
            # An example whose margin is not known is still more of one than the clean input.
            better |= torch.isinf(self.value[rows])
            self.x[rows[better]] = climbed.x[better]
            self.value[rows[better]] = climbed.value[better].to(self.value)
            self.forward[rows] += climbed.forward
            self.backward[rows] += climbed.backward
            self.stage[rows[climbed.fooled]] = self.turns
            gone = torch.zeros_like(chosen)
            gone[chosen] = climbed.fooled
            self.open = self.open[~gone]
        self.turns += 1

    @property
    def found(self) -> Found:
        """The examples so far, one per sample."""
        trace = {**self.trace.columns(), "stage": self.stage}
        return Found(self.x, self.forward, self.backward, trace)


def rivals(logits: Tensor, y: Tensor) -> Tensor:
    """(B, C - 1) the other classes, nearest first. logits: (B, C); y: (B,)."""
    others = logits.scatter(1, y.unsqueeze(1), -torch.inf)
    return others.argsort(dim=1, descending=True, stable=True)[:, :-1]

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

    fooled: (b,) bool; value: (b,) the best loss, larger where closer to success; forward,
    backward: (b,) passes.
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
    ) -> Tensor:
        """Let a search loose on those who are left; returns their best losses (m,), in open order.

        among: (m,) bool over those who are left, for a search of some of them; the others' loss is
        -inf. how: the search's own parameters; tensors whose length is m are cut alike.
        """
        m = len(self.open)
        chosen = torch.ones_like(self.open, dtype=torch.bool) if among is None else among
        values = torch.full((m,), -torch.inf, device=self.open.device)
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
            self.x[rows] = climbed.x
            self.forward[rows] += climbed.forward
            self.backward[rows] += climbed.backward
            self.stage[rows[climbed.fooled]] = self.turns
            values[chosen] = climbed.value.float()
            gone = torch.zeros_like(chosen)
            gone[chosen] = climbed.fooled
            self.open, values = self.open[~gone], values[~gone]
        self.turns += 1
        return values

    @property
    def found(self) -> Found:
        """The examples so far, one per sample."""
        trace = {**self.trace.columns(), "stage": self.stage}
        return Found(self.x, self.forward, self.backward, trace)


def rivals(logits: Tensor, y: Tensor) -> Tensor:
    """(B, C - 1) the other classes, nearest first. logits: (B, C); y: (B,)."""
    others = logits.scatter(1, y.unsqueeze(1), -torch.inf)
    return others.argsort(dim=1, descending=True, stable=True)[:, :-1]

"""The search for the smallest trigger of a class: a mask and a pattern that call it up.

Knows gradients and optimisation; never what a cheap trigger means. After Neural Cleanse (Wang et
al., IEEE S&P 2019), eq. 2 and 3, written from the equations:

    min over m, p of  E over x of CE(f((1 - m) * x + m * p), k) + lambda |m|_1,  m, p in a box,

where lambda rises while the trigger works and falls while it does not. All classes of a chunk are
searched in one batch; each draws from a generator of its own, so chunks change no result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dlaudit.audit.parts import Model

# Constants of the published search (gtsrb_visualize_example.py of the authors). The weight there rises
# by 2; 1.5 needs fewer returns from triggers that no longer work, and finds cheaper ones in as many
# steps (measured on planted digits).
RATE, MOMENTS = 0.1, (0.5, 0.9)
FIRST_WEIGHT, UP, DOWN, PATIENCE = 1e-3, 1.5, 1.5**1.5, 5
SUCCESS = 0.99
"""Share of the last ``WINDOW`` batches that must have been called to the class."""
WINDOW = 4
KEEP = 0.98
"""Share of the whole search half that a candidate must call to the class: a lucky batch is no trigger."""
STEP_DOWN = 0.98
"""A candidate is kept if it is cheaper than the last one by so much."""
ROWS = 512
"""Samples per step: so many rows' worth of classes are searched at a time."""


class Trigger(NamedTuple):
    """What calls a class up. mask: in [0, 1], like one input with one channel; pattern: like one input."""

    norm: float
    mask: Tensor
    pattern: Tensor

    def on(self, x: Tensor) -> Tensor:
        """x: (B, *input) with the trigger put on every row."""
        return (1 - self.mask) * x + self.mask * self.pattern


class Search(NamedTuple):
    """What is searched in. x: (n, *input) on the model's device; low, high: broadcast to one input.

    mask_shape: of one mask, broadcast to one input (one channel for pictures). steps: of the
    optimiser; batch: rows per class and step.
    """

    model: Model
    x: Tensor
    low: Tensor
    high: Tensor
    mask_shape: tuple[int, ...]
    steps: int
    batch: int

    def triggers(
        self,
        targets: Sequence[int],
        pools: Sequence[Any],
        generators: Sequence[np.random.Generator],
    ) -> list[Trigger | None]:
        """The cheapest trigger found for each target; None where none worked.

        pools: for each target the row numbers of ``x`` that it is tried on; generators: one each.
        """
        size = max(1, ROWS // self.batch)
        found: list[Trigger | None] = []
        for start in range(0, len(targets), size):
            part = slice(start, start + size)
            candidates = _optimised(self, targets[part], pools[part], generators[part])
            found += [
                self._first_that_holds(list(reversed(tried)), target, pool)
                for tried, target, pool in zip(candidates, targets[part], pools[part], strict=True)
            ]
        return found

    def called(self, trigger: Trigger, target: int, rows: Any) -> np.ndarray:
        """(len(rows),) bool: which rows of ``x`` the trigger calls to the target."""
        at = torch.as_tensor(np.asarray(rows), device=self.x.device)
        pieces = [
            (self.model.logits(trigger.on(self.x[some])).argmax(dim=1) == target).cpu().numpy()
            for some in torch.split(at, ROWS)
        ]
        return np.concatenate(pieces)

    def _first_that_holds(self, tried: list[Trigger], target: int, pool: Any) -> Trigger | None:
        """The cheapest candidate that works on the whole pool, not on the last few batches alone."""
        for trigger in tried:
            if self.called(trigger, target, pool).mean() >= KEEP:
                return trigger
        return None


def _optimised(
    search: Search,
    targets: Sequence[int],
    pools: Sequence[Any],
    generators: Sequence[np.random.Generator],
) -> list[list[Trigger]]:
    """One run of the optimiser for some classes; for each, ever cheaper triggers that worked."""
    x, batch, classes = search.x, search.batch, len(targets)
    device = x.device
    goal = torch.as_tensor(list(targets), device=device).repeat_interleave(batch)
    mask_at = _drawn([rng.uniform(-0.5, 0.5, search.mask_shape) for rng in generators], x)
    pattern_at = _drawn([rng.standard_normal(x.shape[1:]) for rng in generators], x)
    optimiser = torch.optim.Adam([mask_at, pattern_at], lr=RATE, betas=MOMENTS)
    weight = torch.full((classes,), FIRST_WEIGHT, device=device, dtype=x.dtype)
    working, failing = torch.zeros(classes, device=device), torch.zeros(classes, device=device)
    recent: list[Tensor] = []
    tried: list[list[Trigger]] = [[] for _ in targets]
    for _ in range(search.steps):
        rows = np.stack(
            [np.asarray(pool)[rng.integers(len(pool), size=batch)]
             for pool, rng in zip(pools, generators, strict=True)]
        )  # fmt: skip
        mask = (torch.tanh(mask_at) + 1) / 2
        pattern = search.low + (search.high - search.low) * (torch.tanh(pattern_at) + 1) / 2
        # (K, 1, *input) with (K, B, *input)
        stamped = (1 - mask[:, None]) * x[torch.as_tensor(rows, device=device)] + (mask * pattern)[
            :, None
        ]
        logits, gradient = search.model.logits_and_gradient(stamped.detach().flatten(0, 1), goal)
        recent = [*recent, (logits.argmax(dim=1) == goal).view(classes, batch).float().mean(dim=1)][
            -WINDOW:
        ]
        success = torch.stack(recent).mean(dim=0)
        norm = mask.flatten(1).sum(dim=1)
        works = success >= SUCCESS
        if len(recent) == WINDOW:
            _kept(tried, works, norm.detach(), mask.detach(), pattern.detach())
        mask_at.grad, pattern_at.grad = torch.autograd.grad(
            [stamped, (weight * norm).sum()], [mask_at, pattern_at],
            [gradient.view_as(stamped) / batch, torch.ones((), device=device, dtype=x.dtype)],
        )  # fmt: skip
        optimiser.step()
        working = torch.where(works, working + 1, torch.zeros_like(working))
        failing = torch.where(works, torch.zeros_like(failing), failing + 1)
        up, down = working >= PATIENCE, failing >= PATIENCE
        weight = torch.where(up, weight * UP, torch.where(down, weight / DOWN, weight))
        working, failing = working.masked_fill(up, 0), failing.masked_fill(down, 0)
    return tried


def _drawn(arrays: list[np.ndarray], like: Tensor) -> Tensor:
    """Starting points as one leaf tensor of the inputs' type."""
    return torch.as_tensor(np.stack(arrays)).to(like).requires_grad_()


def _kept(
    tried: list[list[Trigger]], works: Tensor, norm: Tensor, mask: Tensor, pattern: Tensor
) -> None:
    """Add the triggers that work and are cheaper than the last one that did."""
    for k in torch.nonzero(works).flatten().tolist():
        cost = float(norm[k])
        if not tried[k] or cost < STEP_DOWN * tried[k][-1].norm:
            tried[k].append(Trigger(cost, mask[k].clone(), pattern[k].clone()))

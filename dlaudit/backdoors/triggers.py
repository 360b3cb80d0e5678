"""The search for the cheapest trigger of a class, of whatever form.

Knows gradients and optimisation; never what a cheap trigger means. After Neural Cleanse (Wang et
al., IEEE S&P 2019), written from the equations:

    min over triggers T of  E over x of CE(f(T(x)), k) + lambda cost(T),

where lambda rises while the trigger works and falls while it does not; ``forms`` says what T and its
cost are. All classes of a chunk are searched in one batch; each draws from a generator of its own, so
chunks change no result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dlaudit.audit.parts import Model
from dlaudit.backdoors.forms import AnyTrigger, Covering, Form

# Constants of the published search (gtsrb_visualize_example.py of the authors). The weight there rises
# by 2; 1.5 needs fewer returns from triggers that no longer work, and finds cheaper ones in as many
# steps (measured on planted digits).
MOMENTS = (0.5, 0.9)
UP, DOWN, PATIENCE = 1.5, 1.5**1.5, 5
SUCCESS = 0.99
"""Share of the last ``WINDOW`` batches that must have been called to the class, if not told otherwise."""
WINDOW = 4
SLACK = 0.01
"""So much less of the whole search half may be called by a candidate: a lucky batch is no trigger."""
STEP_DOWN = 0.98
"""A candidate is kept if it is cheaper than the last one by so much."""
ROWS = 512
"""Samples per step: so many rows' worth of classes are searched at a time."""


class Search(NamedTuple):
    """What is searched in. x: (n, *input) on the model's device; low, high: broadcast to one input.

    mask_shape: of one mask, broadcast to one input (one channel for pictures). steps: of the
    optimiser; batch: rows per class and step; form: what a trigger does to an input;
    success: share of the rows that it must call.
    """

    model: Model
    x: Tensor
    low: Tensor
    high: Tensor
    mask_shape: tuple[int, ...]
    steps: int
    batch: int
    form: Form = Covering()
    success: float = SUCCESS

    def triggers(
        self,
        targets: Sequence[int],
        pools: Sequence[Any],
        generators: Sequence[np.random.Generator],
    ) -> list[AnyTrigger | None]:
        """The cheapest trigger found for each target; None where none worked.

        pools: for each target the row numbers of ``x`` that it is tried on; generators: one each.
        """
        size = max(1, ROWS // self.batch)
        found: list[AnyTrigger | None] = []
        for start in range(0, len(targets), size):
            part = slice(start, start + size)
            candidates = _optimised(self, targets[part], pools[part], generators[part])
            found += [
                self._first_that_holds(list(reversed(tried)), target, pool)
                for tried, target, pool in zip(candidates, targets[part], pools[part], strict=True)
            ]
        return found

    def called(self, trigger: AnyTrigger, target: int, rows: Any) -> np.ndarray:
        """(len(rows),) bool: which rows of ``x`` the trigger calls to the target."""
        at = torch.as_tensor(np.asarray(rows), device=self.x.device)
        pieces = [
            (self.model.logits(trigger.on(self.x[some])).argmax(dim=1) == target).cpu().numpy()
            for some in torch.split(at, ROWS)
        ]
        return np.concatenate(pieces)

    def decided(self, model: Model) -> np.ndarray:
        """(n,) int64: what a model decides on the rows without any trigger."""
        pieces = [model.logits(some).argmax(dim=1) for some in torch.split(self.x, ROWS)]
        found: np.ndarray = torch.cat(pieces).cpu().numpy()
        return found

    def _first_that_holds(
        self, tried: list[AnyTrigger], target: int, pool: Any
    ) -> AnyTrigger | None:
        """The cheapest candidate that works on the whole pool, not on the last few batches alone."""
        for trigger in tried:
            if self.called(trigger, target, pool).mean() >= self.success - SLACK:
                return trigger
        return None


def _optimised(
    search: Search,
    targets: Sequence[int],
    pools: Sequence[Any],
    generators: Sequence[np.random.Generator],
) -> list[list[AnyTrigger]]:
    """One run of the optimiser for some classes; for each, ever cheaper triggers that worked."""
    x, batch, classes, form = search.x, search.batch, len(targets), search.form
    device, box = x.device, (search.low, search.high)
    goal = torch.as_tensor(list(targets), device=device).repeat_interleave(batch)
    starts = [form.start(rng, search.mask_shape, tuple(x.shape[1:])) for rng in generators]
    leaves = [_drawn(list(arrays), x) for arrays in zip(*starts, strict=True)]
    optimiser = torch.optim.Adam(leaves, lr=form.rate, betas=MOMENTS)
    weight = torch.full((classes,), form.first_weight, device=device, dtype=x.dtype)
    working, failing = torch.zeros(classes, device=device), torch.zeros(classes, device=device)
    recent: list[Tensor] = []
    tried: list[list[AnyTrigger]] = [[] for _ in targets]
    for _ in range(search.steps):
        rows = np.stack(
            [np.asarray(pool)[rng.integers(len(pool), size=batch)]
             for pool, rng in zip(pools, generators, strict=True)]
        )  # fmt: skip
        parts = form.parts(leaves, *box)
        stamped = form.put(parts, x[torch.as_tensor(rows, device=device)], *box)
        logits, gradient = search.model.logits_and_gradient(stamped.detach().flatten(0, 1), goal)
        recent = [*recent, (logits.argmax(dim=1) == goal).view(classes, batch).float().mean(dim=1)][
            -WINDOW:
        ]
        success = torch.stack(recent).mean(dim=0)
        norm = form.cost(parts, *box)
        works = success >= search.success
        if len(recent) == WINDOW:
            _kept(tried, works, norm.detach(), search, tuple(part.detach() for part in parts))
        gradients = torch.autograd.grad(
            [stamped, (weight * norm).sum()], leaves,
            [gradient.view_as(stamped) / batch, torch.ones((), device=device, dtype=x.dtype)],
        )  # fmt: skip
        for leaf, slope in zip(leaves, gradients, strict=True):
            leaf.grad = slope
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
    tried: list[list[AnyTrigger]],
    works: Tensor,
    norm: Tensor,
    search: Search,
    parts: tuple[Tensor, ...],
) -> None:
    """Add the triggers that work and are cheaper than the last one that did."""
    for k in torch.nonzero(works).flatten().tolist():
        cost = float(norm[k])
        if not tried[k] or cost < STEP_DOWN * tried[k][-1].norm:
            tried[k].append(search.form.made(cost, parts, k, search.low, search.high))

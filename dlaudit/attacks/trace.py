"""What a gradient search saw, sample by sample, in a few numbers: no pass of the model is spent on it.

Knows losses and gradients as they go by; never models, budgets, or what any of it means.
"""

from __future__ import annotations

import torch
from torch import Tensor

LAST = 10
"""Iterations at the end of a run over which a loss should have settled (Pintor et al. 2022)."""
UNKNOWN = -1.0
"""Stands for "not known" in columns that are never negative."""


class Trace:
    """Columns of length n about n samples, updated by whoever searches; nothing waits for a device.

    A sample may leave the search at any step. A restart, or another loss, begins a new run of it:
    losses are compared within a run only.
    """

    def __init__(self, n: int, *, device: str | torch.device) -> None:
        """n: samples, at positions 0 to n - 1. device: where the search computes."""

        def filled(value: float) -> Tensor:
            return torch.full((n,), value, dtype=torch.float32, device=device)

        self._steps = torch.zeros(n, dtype=torch.int64, device=device)
        self._zero = torch.zeros_like(self._steps)
        # Of the run that is under way: how long it is, and the losses it has seen.
        self._length = torch.zeros_like(self._steps)
        self._lowest, self._first, self._best = filled(torch.inf), filled(0), filled(-torch.inf)
        self._recent = torch.zeros(n, LAST, device=device)
        # Of the runs that have ended.
        self._gained, self._late = filled(UNKNOWN), filled(UNKNOWN)

    def step(self, rows: Tensor, loss: Tensor, gradient: Tensor) -> None:
        """One gradient was taken for some samples.

        rows: (b,) int64, their positions, each once; loss: (b,) at the iterates where it was taken,
        larger where the model is more wrong; gradient: (b, *input).
        """
        loss = loss.detach().to(self._best)
        length = self._length[rows]
        best = torch.maximum(self._best[rows], loss)
        self._best[rows] = best
        self._lowest[rows] = torch.minimum(self._lowest[rows], loss)
        self._first[rows] = torch.where(length == 0, loss, self._first[rows])
        self._recent[rows, length % LAST] = best
        self._length[rows] = length + 1
        self._steps[rows] += 1
        self._zero[rows] += (gradient.flatten(1) == 0).all(dim=1)

    def restarted(self, rows: Tensor) -> None:
        """A new run begins for some samples, (b,) int64: the losses of the last one are forgotten."""
        gained, late = self._ended()
        self._gained[rows], self._late[rows] = gained[rows], late[rows]
        self._length[rows] = 0
        self._lowest[rows], self._best[rows] = torch.inf, -torch.inf

    def _ended(self) -> tuple[Tensor, Tensor]:
        """(n,) the largest gain and the smallest late gain of each sample's runs, this one included."""
        reach = self._best - self._lowest
        earlier = self._recent.gather(1, (self._length % LAST).unsqueeze(1)).squeeze(1)
        # A loss that never changed has nothing left to gain.
        late = torch.where(reach > 0, (self._best - earlier) / reach, torch.zeros_like(reach))
        # A search is complete for a sample once one of its runs has settled.
        least = torch.where(self._late >= 0, torch.minimum(late, self._late), late)
        gained = torch.maximum(self._best - self._first, self._gained)
        return (
            torch.where(self._length > 0, gained, self._gained),
            torch.where(self._length >= 2 * LAST, least, self._late),
        )

    def columns(self) -> dict[str, Tensor]:
        """What was seen, (n,) each.

        gradients: int64, how many were taken. zero_gradients: int64, how many of them were zero in
        every value. loss_gained: how far the loss rose above where a run started, at most. late_gain:
        the share of a run's whole range of losses by which its best loss still rose over its last
        ten iterations, in [0, 1], of the run that had settled most (incomplete optimisation, Pintor
        et al. 2022). The last two are -1 where there was no run, or none of twenty iterations.
        """
        gained, late = self._ended()
        return {
            "gradients": self._steps.clone(),
            "zero_gradients": self._zero.clone(),
            "loss_gained": gained,
            "late_gain": late,
        }

"""HopSkipJump (Chen, Jordan & Wainwright 2020): walks along a boundary that only decisions show.

Knows samples, a norm and who is fooled; never logits or gradients. All samples of a batch walk at
once, each leaves as soon as it is near enough or has asked all its questions. Two things are not in
the paper: a direction remembers the estimates before it, and each is also tried in a straight line
from the clean input. On a small net both together find examples nearer by a tenth in linf.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from dlaudit.attacks.ball import valid_end
from dlaudit.attacks.base import Threat
from dlaudit.attacks.queries import AT_ONCE, Questions

DONORS = 5
"""Samples of other classes, nearest first, that are tried as starting points before noise is."""
DRAWS = 50
"""Draws of noise that are tried as starting points (the paper's code tries without end)."""
HALVINGS = 12
"""Times that a step is halved at most before a sample stays where it is."""
MEMORY = 0.7
"""What is left of a direction's estimate in the next one: the boundary turns little between steps."""
SHORTER = 0.995
"""Of the known distance: how long the straight line is, so that only a gain is worth a bisection."""
FIRST_RADIUS = 0.1
"""Of the range of values: how far round the first boundary point is probed (the paper's code)."""


class Walk:
    """The samples of one batch, where each stands, and how far from its clean input."""

    def __init__(self, questions: Questions, x: Tensor, y: Tensor, threat: Threat) -> None:
        """x: (B, *input) clean inputs; y: (B,) labels. threat: norm linf or l2, bounds and scale."""
        self.ask, self.x, self.y = questions, x, y
        self.norm = threat.norm
        shape = (1,) * x.ndim
        scale = torch.ones(shape, dtype=torch.float64, device=x.device)
        if threat.scale is not None:
            given = torch.as_tensor(threat.scale, dtype=torch.float64, device=x.device)
            scale = given.view(*(1,) * (x.ndim - given.ndim), *given.shape)
        self.scale = scale.expand_as(x) if len(scale) in {1, len(x)} else scale
        self.free = self.scale > 0
        if threat.bounds is None:
            self.low, self.high = torch.full_like(x, -torch.inf), torch.full_like(x, torch.inf)
        else:
            bottom, top = (
                valid_end(end, x, up=up)
                for end, up in zip(threat.bounds, (True, False), strict=True)
            )
            self.low, self.high = torch.minimum(bottom, x), torch.maximum(top, x)
        self.d = max(1, int(self.free.flatten(1).sum(dim=1).max())) if len(x) else 1
        self.best = x.clone()
        self.memory = torch.zeros_like(x, dtype=torch.float64)
        self.distance = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)

    def change(self, at: Tensor, x: Tensor) -> Tensor:
        """(x - clean) / scale in float64, 0 where nothing may move. at: (M,); x: (M, *input)."""
        delta = x.double() - self.x[at].double()
        return torch.where(self.free[at], delta / self.scale[at], torch.zeros_like(delta))

    def moved(self, at: Tensor, change: Tensor) -> Tensor:
        """The input at such a change from the clean one, inside the valid range."""
        x = (self.x[at].double() + change * self.scale[at]).to(self.x.dtype)
        return x.clamp(self.low[at], self.high[at])

    def length(self, change: Tensor) -> Tensor:
        """(M,) the norm of changes."""
        order = torch.inf if self.norm == "linf" else 2
        found: Tensor = torch.linalg.vector_norm(change.flatten(1), ord=order, dim=1)
        return found

    def keep(self, at: Tensor, x: Tensor) -> None:
        """Remember fooling inputs that are nearer than what was known."""
        found = self.length(self.change(at, x))
        nearer = found < self.distance[at]
        self.best[at[nearer]], self.distance[at[nearer]] = x[nearer], found[nearer]

    def start(self, generator: torch.Generator) -> None:
        """Find any fooling input for each sample: the nearest samples of other classes, then noise."""
        n = len(self.x)
        everyone = torch.arange(n, device=self.x.device)
        order = []
        for i in range(n):
            here = everyone[i : i + 1].expand(n)
            far = self.length(self.change(here, self.x))
            far[self.y == self.y[i]] = torch.inf
            order.append(far.argsort()[:DONORS] if torch.isfinite(far).any() else everyone[:0])
        for rank in range(DONORS):
            at = torch.tensor(
                [i for i in range(n) if rank < len(order[i])],
                dtype=torch.int64,
                device=self.x.device,
            )
            at = at[torch.isinf(self.distance[at])]
            if not len(at):
                break
            donors = torch.stack([order[i][rank] for i in at.tolist()])
            differs = self.y[donors] != self.y[at]
            self._try(at[differs], self.change(at[differs], self.x[donors[differs]]))
        bottom, top = self._range()
        for _ in range(DRAWS):
            at = everyone[torch.isinf(self.distance)]
            if not len(at):
                return
            share = torch.rand(
                (len(at), *self.x.shape[1:]), generator=generator, dtype=torch.float64
            )
            noise = bottom + share.to(self.x.device) * (top - bottom)
            self._try(at, self.change(at, noise))

    def _try(self, at: Tensor, change: Tensor) -> None:
        if not len(at):
            return
        x = self.moved(at, change)
        fooled = self.ask.fooled(at, x)
        self.keep(at[fooled], x[fooled])

    def _range(self) -> tuple[Tensor, Tensor]:
        """The range that noise is drawn from: the valid one, that of the batch where it is open."""
        bottom, top = self.low.double().amin(dim=0), self.high.double().amax(dim=0)
        bottom = torch.where(torch.isfinite(bottom), bottom, self.x.double().amin(dim=0))
        top = torch.where(torch.isfinite(top), top, self.x.double().amax(dim=0))
        return bottom, top

    @property
    def tolerance(self) -> float:
        """How finely the boundary is located, of the distance: 1 / d^1.5 in l2, 1 / d^2 in linf."""
        exponent = -2.0 if self.norm == "linf" else -1.5
        return max(math.pow(self.d, exponent), 1e-6)

    def to_the_boundary(self, at: Tensor, x: Tensor) -> Tensor:
        """Bisect from fooling inputs towards the clean ones; the fooling side of each boundary."""
        change = self.change(at, x)
        far = self.length(change)
        low, high = torch.zeros_like(far), torch.ones_like(far)
        found = x.clone()
        wide = (1,) * (x.ndim - 1)
        for _ in range(math.ceil(math.log2(1 / self.tolerance))):
            middle = (low + high) / 2
            if self.norm == "linf":
                reach = (middle * far).view(-1, *wide)
                candidate = self.moved(at, torch.maximum(torch.minimum(change, reach), -reach))
            else:
                candidate = self.moved(at, change * middle.view(-1, *wide))
            fooled = self.ask.fooled(at, candidate)
            found[fooled] = candidate[fooled]
            high, low = torch.where(fooled, middle, high), torch.where(fooled, low, middle)
        return found

    def direction(
        self, at: Tensor, draws: int, generator: torch.Generator, *, first: bool
    ) -> Tensor:
        """Where the decision turns, estimated from random probes around each boundary point (eq. 16).

        Unit length in l2, a vector of signs in linf.
        """
        change = self.change(at, self.best[at])
        if first:
            bottom, top = self._range()
            span = ((top - bottom) / self.scale[at].clamp_min(1e-300)).flatten(1)
            # What is free to move, per sample: ranges of fixed values say nothing.
            free = self.free[at].flatten(1)
            radius = FIRST_RADIUS * (span * free).sum(dim=1) / free.sum(dim=1).clamp_min(1)
        else:
            radius = self.distance[at] / self.d
        wide = (1,) * (change.ndim - 1)
        radius = radius.view(-1, *wide)
        total, total_signed = torch.zeros_like(change), torch.zeros_like(change)
        signs = torch.zeros(len(at), dtype=torch.float64, device=at.device)
        step = max(1, AT_ONCE // len(at))
        for begun in range(0, draws, step):
            count = min(step, draws - begun)
            shape = (count, *change.shape)
            if self.norm == "linf":
                noise = torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1
            else:
                noise = torch.randn(shape, generator=generator, dtype=torch.float64)
            noise = noise.to(at.device) * self.free[at]
            size = torch.linalg.vector_norm(noise.flatten(2), dim=2).clamp_min(1e-300)
            noise = noise / size.view(count, len(at), *wide)
            who = at.repeat(count)
            probes = self.moved(who, (change + radius * noise).flatten(0, 1))
            # The valid range may have cut a probe: what counts is where it really was.
            noise = (self.change(who, probes).view_as(noise) - change) / radius.clamp_min(1e-300)
            sign = self.ask.fooled(who, probes).view(count, len(at)).double() * 2 - 1
            signs += sign.sum(dim=0)
            total += noise.sum(dim=0)
            total_signed += (noise * sign.view(count, len(at), *wide)).sum(dim=0)
        mean = (signs / draws).view(-1, *wide)
        # With one kind of answer alone there is no baseline to take away.
        one_kind = mean.abs() == 1
        estimate = torch.where(one_kind, total_signed, total_signed - mean * total)
        size = torch.linalg.vector_norm(estimate.flatten(1), dim=1).clamp_min(1e-300)
        self.memory[at] = MEMORY * self.memory[at] + estimate / size.view(-1, *wide)
        estimate = self.memory[at]
        if self.norm == "linf":
            return estimate.sign()
        size = torch.linalg.vector_norm(estimate.flatten(1), dim=1).clamp_min(1e-300)
        unit: Tensor = estimate / size.view(-1, *wide)
        return unit

    def straight(self, at: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        """A line from the clean inputs along each direction, hardly as long as what is known.

        Where the boundary is nearly flat this is the nearest point. Returns who fools there, and where.
        """
        size = SHORTER * self.distance[at]
        x = self.moved(at, size.view(-1, *(1,) * (direction.ndim - 1)) * direction)
        return self.ask.fooled(at, x), x

    def hop(self, at: Tensor, direction: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """A step of distance / sqrt(step) along each direction, halved until it fools.

        Returns who still fools somewhere new (positions into ``at``), and where.
        """
        change = self.change(at, self.best[at])
        size = self.distance[at] / math.sqrt(step)
        wide = (1,) * (change.ndim - 1)
        x = self.best[at].clone()
        open_ = torch.arange(len(at), device=at.device)
        for _ in range(HALVINGS):
            candidate = self.moved(
                at[open_], change[open_] + size[open_].view(-1, *wide) * direction[open_]
            )
            fooled = self.ask.fooled(at[open_], candidate)
            x[open_[fooled]] = candidate[fooled]
            open_ = open_[~fooled]
            if not len(open_):
                break
            size[open_] /= 2
        landed = torch.ones(len(at), dtype=torch.bool, device=at.device)
        landed[open_] = False
        return landed, x


class Walked(NamedTuple):
    """Where a walk ended. x: (B, *input), the clean input where nothing fooled; spent: (B,) questions."""

    x: Tensor
    spent: Tensor


def hop_skip_jump(
    walk: Walk, *, queries: int, draws: int, enough: float, generator: torch.Generator
) -> Walked:
    """Walk until near enough or out of questions.

    queries: the most that a sample asks; draws: probes of the first estimate, growing with the square
    root of the step; enough: a distance below which nobody needs to go on.
    """
    walk.start(generator)
    everyone = torch.arange(len(walk.x), device=walk.x.device)
    at = everyone[torch.isfinite(walk.distance)]
    if len(at):
        walk.keep(at, walk.to_the_boundary(at, walk.best[at]))
    bisection = math.ceil(math.log2(1 / walk.tolerance))
    step = 0
    while True:
        step += 1
        probes = int(draws * math.sqrt(step))
        left = queries - walk.ask.spent - HALVINGS - 2 * bisection - 1
        open_ = (
            torch.isfinite(walk.distance) & (walk.distance > enough) & (left >= min(probes, draws))
        )
        at = everyone[open_]
        if not len(at):
            return Walked(walk.best, walk.ask.spent)
        probes = min(probes, int(left[at].min()))
        direction = walk.direction(at, probes, generator, first=step == 1)
        nearer, x = walk.straight(at, direction)
        if nearer.any():
            walk.keep(at[nearer], walk.to_the_boundary(at[nearer], x[nearer]))
        landed, x = walk.hop(at, direction, step)
        if landed.any():
            walk.keep(at[landed], walk.to_the_boundary(at[landed], x[landed]))

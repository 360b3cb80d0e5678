"""Two searches for rows that change a decision: along gradients, and by trying.

Knows a model's answers, boxes and how rows are repaired; what counts is decided elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from dlaudit.attacks.ball import unit
from dlaudit.attacks.losses import margin
from dlaudit.attacks.table_repair import Repair
from dlaudit.audit.parts import Model
from dlaudit.errors import NonFinite

TOGETHER = 8
"""Rows that are tried for each sample between two looks at the answers."""
FIRST_STEP = 2.0
"""In budgets: the first step may cross the whole box (Croce & Hein 2020)."""

Answer = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(rows (b, F), which samples they belong to (b,)) -> (decided otherwise (b,) bool, margin (b,)).

The margin is the label's lead over the strongest rival, smaller where the model is closer to an
error; all zero where the model gives decisions only.
"""


class State(NamedTuple):
    """Where the search stands, for all B samples; changed in place.

    x: (B, F) the best row so far; lead: (B,) its margin; fooled: (B,) bool; forward, backward: (B,)
    passes spent.
    """

    x: Tensor
    lead: Tensor
    fooled: Tensor
    forward: Tensor
    backward: Tensor

    def open(self) -> Tensor:
        """Positions of samples that are not fooled."""
        return torch.nonzero(~self.fooled).squeeze(1)

    def offer(self, index: Tensor, x: Tensor, wrong: Tensor, lead: Tensor) -> None:
        """One row for each of some samples: kept where it fools, or comes as near as the best."""
        better = wrong | (lead <= self.lead[index])
        self.x[index[better]] = x[better]
        self.lead[index[better]] = lead[better]
        self.fooled[index[wrong]] = True


def begun(x: Tensor) -> State:
    """A state in which every sample is as it was found. x: (B, F)."""
    n = len(x)
    lead = torch.full((n,), torch.inf, dtype=torch.float64, device=x.device)
    none = torch.zeros(n, dtype=torch.float64, device=x.device)
    return State(x.clone(), lead, none.bool(), none.clone(), none.clone())


def climb(
    state: State,
    model: Model,
    repair: Repair,
    y: Tensor,
    *,
    steps: int,
    restart: int,
    generator: torch.Generator,
) -> None:
    """Steps along the margin's gradient, each followed by a repair, for the samples still open.

    The step starts from the row as it was proposed, so that whole numbers and categories gather small
    steps; the gradient is taken at the repaired row (Simonetto et al. 2024, with a straight-through
    rounding). Even restarts step by signs, odd ones by lengths, which slide along relations; the
    first two start clean. Raises NonFinite on a gradient that is NaN or infinite.
    """
    index = state.open()
    if not len(index):
        return
    part = repair.rows(index)
    proposed = part.clean.clone()
    reach = ((part.high - part.low) / 2).clamp_min(0)
    if restart > 1:
        noise = torch.rand(proposed.shape, generator=generator, dtype=torch.float64)
        proposed = part.low + (part.high - part.low) * noise.to(proposed.device)
    x = part(proposed)[0]
    for step in range(steps):
        size = FIRST_STEP * (1 - step / steps)
        logits, gradient = model.logits_and_gradient(x, y[index], margin)
        state.forward[index] += 1
        state.backward[index] += 1
        if not torch.isfinite(gradient).all():
            message = f"the gradient is NaN or infinite on a batch of {len(x)}"
            raise NonFinite(message)
        lead = -margin(logits, y[index]).double()
        wrong = logits.argmax(dim=1) != y[index]
        state.offer(index, x, wrong, lead)
        if wrong.any():
            keep = ~wrong
            index, part, reach = index[keep], part.rows(keep), reach[keep]
            proposed, gradient = proposed[keep], gradient[keep]
            if not len(index):
                return
        slope = part.reduced(gradient) * reach
        if restart % 2:
            count = (slope != 0).sum(dim=1, keepdim=True).sqrt()
            direction = unit(slope) * count
        else:
            direction = slope.sign()
        exchanged(direction, gradient.double(), part)
        proposed = (proposed + size * reach * direction).clamp(part.low, part.high)
        # What relations bind moves on from where they allow it, the rest from where it was proposed.
        proposed = part.project(proposed, part.loose)
        x = part(proposed)[0]
    logits = model.logits(x)
    state.forward[index] += 1
    lead = -margin(logits, y[index]).double()
    state.offer(index, x, logits.argmax(dim=1) != y[index], lead)


def exchanged(direction: Tensor, gradient: Tensor, part: Repair) -> None:
    """Point each group of indicators from its clean member to the others, by what each would gain.

    direction: (b, F), changed in place. The gain is that of the first order; the largest in a row gets
    a length of 1, so that it is the first to be taken.
    """
    if not part.rules.one_hot:
        return
    gains = torch.zeros_like(gradient)
    for group in part.rules.one_hot:
        members = list(group)
        before = part.clean[:, members]
        own = (gradient[:, members] * before).sum(dim=1, keepdim=True)
        gain = (gradient[:, members] - own).clamp_min(0)
        gains[:, members] = gain - gain.amax(dim=1, keepdim=True) * before
    largest = gains.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(gains.dtype).tiny)
    members = [member for group in part.rules.one_hot for member in group]
    direction[:, members] = (gains / largest)[:, members]


class Trial:
    """Tries for samples that are still open, without gradients: each costs one forward pass."""

    def __init__(
        self,
        state: State,
        answer: Answer,
        repair: Repair,
        generator: torch.Generator,
        *,
        free: bool,
    ) -> None:
        """free: true to leave every rule but the box aside."""
        self.state, self.answer, self.repair = state, answer, repair
        self.generator, self.free = generator, free
        self.units = units_of(repair)

    def run(self, queries: int) -> None:
        """At most ``queries`` tries for each sample.

        First each column goes alone to both ends of its box and each category to each other one (some
        of them, drawn at random, where half of the tries are too few); then those that helped go
        together, the most helpful first; the rest of the tries change some columns of the best row at
        random (Simonetto et al. 2022 search such spaces by evolution too).
        """
        tried = self.sweep(queries // 2)
        while tried + TOGETHER <= queries and self.units and len(index := self.state.open()):
            owner = index.repeat_interleave(TOGETHER)
            self.attempt(index, self.mutated(owner).view(len(index), TOGETHER, -1))
            tried += TOGETHER

    def attempt(self, index: Tensor, proposed: Tensor) -> Tensor:
        """Try T rows for each of some samples, and keep the best of each.

        index: (b,) positions; proposed: (b, T, F) float64. Returns (b, T) margins, infinite for rows
        that are not allowed.
        """
        b, together, width = proposed.shape
        owner = index.repeat_interleave(together)
        part = self.repair.rows(owner)
        flat = proposed.reshape(-1, width)
        if self.free:
            x = flat.to(self.state.x.dtype).clamp(part.ball.low, part.ball.high)
            good = part.ball.contains(x)
        else:
            x, good = part(flat)
        good &= (x != part.ball.x).any(dim=1)
        lead = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
        wrong = torch.zeros_like(good)
        if good.any():
            wrong[good], lead[good] = self.answer(x[good], owner[good])
            self.state.forward[index] += good.view(b, together).sum(dim=1)
        lead, wrong = lead.view(b, together), wrong.view(b, together)
        best = torch.where(wrong, -torch.inf, lead).argmin(dim=1, keepdim=True)
        tried = good.view(b, together).any(dim=1)
        chosen = x.view(b, together, width)[torch.arange(b, device=x.device), best.squeeze(1)]
        self.state.offer(
            index[tried], chosen[tried], wrong.gather(1, best).squeeze(1)[tried],
            lead.gather(1, best).squeeze(1)[tried],
        )  # fmt: skip
        return lead

    def sweep(self, most: int) -> int:
        """Moves alone, at most so many, then the best together. Returns how many tries a sample had."""
        clean, tried = self.repair.clean, 0
        moves = [(place, move) for place, one in enumerate(self.units) for move in one.moves]
        if len(moves) > most:
            drawn = torch.randperm(len(moves), generator=self.generator)[:most]
            moves = [moves[one] for one in sorted(drawn.tolist())]
        leads = torch.full((len(clean), len(moves)), torch.inf, dtype=torch.float64)
        for start in range(0, len(moves), TOGETHER):
            index = self.state.open()
            if not len(index):
                return tried
            some = range(start, min(start + TOGETHER, len(moves)))
            rows = torch.stack([self.moved(clean[index], index, moves[m]) for m in some], dim=1)
            leads[index.cpu(), start : start + len(some)] = self.attempt(index, rows).cpu()
            tried += len(some)
        index = self.state.open()
        if not len(index):
            return tried
        # The best move of each unit, and how far it brought the margin down.
        starts = torch.tensor([place for place, _ in moves])
        value = torch.full((len(index), len(self.units)), torch.inf, dtype=torch.float64)
        which = torch.zeros(value.shape, dtype=torch.int64)
        for place in range(len(self.units)):
            own = torch.nonzero(starts == place).squeeze(1)
            if not len(own):
                continue
            least = leads[index.cpu()][:, own].min(dim=1)
            value[:, place], which[:, place] = least.values, own[least.indices]
        order = value.argsort(dim=1, stable=True)
        rank = order.argsort(dim=1)
        count = 1
        combined = []
        while count < len(self.units):
            count = min(2 * count, len(self.units))
            combined.append(self.combined(index, (rank < count) & value.isfinite(), which, moves))
        if combined:
            self.attempt(index, torch.stack(combined, dim=1))
        return tried + len(combined)

    def combined(
        self, index: Tensor, taken: Tensor, which: Tensor, moves: list[tuple[int, Move]]
    ) -> Tensor:
        """(b, F): clean rows with several moves at once. taken: (b, U) bool; which: (b, U) moves."""
        x = self.repair.clean[index].clone()
        for number, move in enumerate(moves):
            rows = (taken[:, move[0]] & (which[:, move[0]] == number)).to(x.device)
            if rows.any():
                x[rows] = self.moved(x[rows], index[rows], move)
        return x

    def moved(self, x: Tensor, index: Tensor, move: tuple[int, Move]) -> Tensor:
        """Rows (b, F) of samples (b,) with one unit moved."""
        place, (kind, value) = move
        columns, x = self.units[place].columns, x.clone()
        if kind == "end":
            end = self.repair.high if value else self.repair.low
            x[:, columns] = end[index][:, columns]
        elif kind == "code":
            x[:, columns] = float(value)
        else:
            x[:, columns] = 0.0
            x[:, columns[value]] = 1.0
        return x

    def mutated(self, owner: Tensor) -> Tensor:
        """(m,) samples -> (m, F): their best rows, or clean ones, with some units set at random."""
        part, m = self.repair.rows(owner), len(owner)

        def draw(*shape: int) -> Tensor:
            drawn = torch.rand(shape, generator=self.generator, dtype=torch.float64)
            return drawn.to(part.clean.device)

        width = part.clean.shape[1]
        place = draw(m, width)
        ends = (draw(m, width) < 0.5) & part.loose
        random = part.low + (part.high - part.low) * torch.where(ends, place.round(), place)
        taken = torch.zeros(m, width, dtype=torch.bool, device=random.device)
        count = 2 ** (draw(m, 1) * math.log2(len(self.units) + 1)).floor()
        mask = draw(m, len(self.units)) < count / len(self.units)
        for number, unit_ in enumerate(self.units):
            taken[:, unit_.columns] = mask[:, [number]]
        base = torch.where(draw(m, 1) < 0.75, self.state.x[owner].double(), part.clean)
        return torch.where(taken, random, base)


Move = tuple[str, int]
"""("end", 0 or 1), ("code", code) or ("hot", place in the group)."""


class Unit(NamedTuple):
    """What moves together: a number, a code, or a group of indicators, and its moves."""

    columns: list[int]
    moves: list[Move]


def units_of(repair: Repair) -> list[Unit]:
    """The units that can move at all in some row."""
    rules = repair.rules
    movable = (repair.high > repair.low).any(dim=0).tolist()
    numbers = torch.nonzero(repair.loose).squeeze(1).tolist()
    units = [Unit([one], [("end", 0), ("end", 1)]) for one in numbers if movable[one]]
    for column, categories in rules.codes.items():
        if column not in rules.fixed and movable[column]:
            units.append(Unit([column], [("code", code) for code in range(categories)]))
    units += [
        Unit(list(group), [("hot", place) for place in range(len(group))])
        for group in rules.one_hot
        if rules.fixed.isdisjoint(group) and all(movable[member] for member in group)
    ]
    return units if rules.changes else [one for one in units if one.moves[0][0] == "end"]

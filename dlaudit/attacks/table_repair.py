"""Brings a row that a search proposes near the rows that the rules allow.

Knows how to round, to choose categories and to project onto linear relations; never whether it worked:
that is for ``Rules.admits`` to say.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dlaudit.attacks.ball import Ball
from dlaudit.attacks.table_rules import Rules

ROUNDS = 30
"""Cycles of alternating projections (Bregman 1965): enough for a handful of relations that meet at
wide angles; a row that needs more is drawn back towards its clean one."""
SHRUNK = (1.0, 0.5, 0.2, 0.05)
"""Shares of the way from the clean row to the proposed one that are tried in turn."""


class Matrix(NamedTuple):
    """Relations as arrays: weights (R, F), bound (R,), equal (R,) bool, float64."""

    weights: Tensor
    bound: Tensor
    equal: Tensor


class Repair:
    """Rows around clean ones, inside their boxes, as near to proposed ones as the rules let them be."""

    def __init__(self, ball: Ball, rules: Rules) -> None:
        """ball: around (B, F) clean rows, with norm linf, so that it is a box."""
        self.ball, self.rules = ball, rules
        self.clean = ball.x.double()
        low, high = ball.low.double(), ball.high.double()
        categories = [*rules.codes, *(member for group in rules.one_hot for member in group)]
        for column in rules.whole:
            low[:, column], high[:, column] = low[:, column].ceil(), high[:, column].floor()
        for column in categories:
            last = rules.codes.get(column, 2) - 1
            low[:, column] = low[:, column].clamp_min(0)
            high[:, column] = high[:, column].clamp_max(last)
        for column in rules.rising:
            low[:, column] = self.clean[:, column]
        for column in rules.falling:
            high[:, column] = self.clean[:, column]
        # Clean rows may lie outside what they are rounded to; then they stay where they are.
        self.low, self.high = torch.minimum(low, self.clean), torch.maximum(high, self.clean)
        self.unit = torch.ones(1) if ball.scale is None else ball.scale
        self.unit = self.unit.to(self.clean).expand(1, self.clean.shape[1]).clone()
        self.loose = torch.ones(self.clean.shape[1], dtype=torch.bool, device=self.clean.device)
        self.loose[[*rules.fixed, *categories]] = False
        self.loose &= self.unit[0] > 0
        self.continuous = self.loose.clone()
        self.continuous[list(rules.whole)] = False
        self.matrix = matrix_of(rules, self.clean)
        self.pivots = self._pivots()

    def rows(self, keep: Tensor) -> Repair:
        """The same for some of the rows. keep: (B,) bool or positions; positions may repeat."""
        part = object.__new__(Repair)
        part.__dict__.update(self.__dict__)
        part.ball = self.ball.rows(keep)
        part.clean, part.low, part.high = self.clean[keep], self.low[keep], self.high[keep]
        return part

    def __call__(self, proposed: Tensor) -> tuple[Tensor, Tensor]:
        """(B, F) float64 -> rows in the clean rows' dtype, and (B,) bool: which are allowed.

        A row for which nothing allowed is found comes back clean, and is not allowed.
        """
        result = self.ball.x.clone()
        done = torch.zeros(len(result), dtype=torch.bool, device=result.device)
        for share in SHRUNK:
            todo = torch.nonzero(~done).squeeze(1)
            part = self.rows(todo)
            made = part.attempt(part.clean + share * (proposed[todo] - part.clean))
            good = part.allowed(made)
            result[todo[good]] = made[good]
            done[todo[good]] = True
            if done.all() or self.rules.only_a_box:
                break
        return result, done

    def allowed(self, x: Tensor) -> Tensor:
        """(B, F) -> (B,) bool: inside the ball and admitted by the rules."""
        return self.rules.admits(x, self.ball.x) & self.ball.contains(x)

    def attempt(self, proposed: Tensor) -> Tensor:
        """One try, in the clean rows' dtype: categories, relations, whole numbers, equations."""
        x = self.categories(proposed.clamp(self.low, self.high))
        x = self.project(x, self.loose)
        if self.rules.whole:
            x = self.rounded(x)
            x = self.project(x, self.continuous)
        made = x.to(self.ball.x.dtype)
        for _ in self.pivots:  # an equation may use what another one defines
            for place, column in self.pivots.items():
                made[:, column] = self.solved(made.double(), place, column).to(made.dtype)
        return made.clamp(self.ball.low, self.ball.high)

    def categories(self, x: Tensor) -> Tensor:
        """Whole categories: the largest indicator of each group, the nearest code.

        Only those that gain most change, as many as the rules allow.
        """
        rules, x = self.rules, x.clone()
        gains, changes = [], []
        for group in rules.one_hot:
            members = list(group)
            before, wanted = self.clean[:, members], x[:, members]
            if any(member in rules.fixed for member in members):
                wanted = before
            # Ties stay with the clean category.
            best = (wanted + 1e-9 * before).argmax(dim=1, keepdim=True)
            hot = torch.zeros_like(before).scatter_(1, best, 1.0)
            gains.append(((wanted - before) * hot).sum(dim=1) * (hot != before).any(dim=1))
            changes.append((members, hot))
        for column, categories in rules.codes.items():
            before = self.clean[:, [column]]
            code = before if column in rules.fixed else x[:, [column]].round()
            gains.append(((code - before).abs() / max(categories - 1, 1)).squeeze(1))
            changes.append(([column], code))
        if not changes:
            return x
        gain = torch.stack(gains, dim=1)  # (B, units)
        place = gain.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        taken = (place < rules.changes) & (gain > 0)
        for unit, (members, value) in enumerate(changes):
            x[:, members] = torch.where(taken[:, [unit]], value, self.clean[:, members])
        return x

    def rounded(self, x: Tensor) -> Tensor:
        """Whole numbers: to the nearest, and where that breaks a relation, towards the clean row."""
        whole, x = sorted(self.rules.whole), x.clone()
        given, clean = x[:, whole], self.clean[:, whole]
        x[:, whole] = given.round()
        if not self.rules.relations:
            return x
        towards = torch.where(given > clean, given.floor(), given.ceil())
        breaks = self.excess(x).amax(dim=1, keepdim=True) > 0
        x[:, whole] = torch.where(breaks, towards, x[:, whole])
        return x

    def excess(self, x: Tensor) -> Tensor:
        """(B, R): how far each relation is broken; for <=, a hair inside counts as a hair outside."""
        weights, bound, equal = self.matrix
        rest = x @ weights.T - bound
        hair = 4 * torch.finfo(self.ball.x.dtype).eps
        margin = hair * (x.abs() @ weights.abs().T + bound.abs())
        return torch.where(equal, rest.abs() - margin, rest + margin).clamp_min(0)

    def project(self, x: Tensor, movable: Tensor) -> Tensor:
        """Alternating projections onto the relations and the box, as measured in units.

        movable: (F,) bool. A row that obeys all relations is left as it is.
        """
        if not self.rules.relations or not movable.any():
            return x
        weights, bound, equal = self.matrix
        free = movable & (self.unit[0] > 0)
        # The nearest point of a half space in units: along weight · unit².
        along = weights * self.unit.square() * free
        length = (along * weights).sum(dim=1)  # (R,)
        hair = 8 * torch.finfo(self.ball.x.dtype).eps
        for _ in range(ROUNDS):
            if not (self.excess(x) > 0).any():
                break
            for place in range(len(bound)):
                if length[place] == 0:
                    continue
                rest = x @ weights[place] - bound[place]
                if not equal[place]:
                    size = x.abs() @ weights[place].abs() + bound[place].abs()
                    rest = (rest + hair * size).clamp_min(0)
                x = x - (rest / length[place]).unsqueeze(1) * along[place]
                x = torch.where(free, x.clamp(self.low, self.high), x)
        return x

    def solved(self, x: Tensor, place: int, column: int) -> Tensor:
        """(B,): the value of a column that fulfils an equation, the others as they are."""
        weights, bound, _ = self.matrix
        others = weights[place].clone()
        others[column] = 0
        value: Tensor = (bound[place] - x @ others) / weights[place, column]
        return value

    def _pivots(self) -> dict[int, int]:
        """Equation -> the column that is computed from the others, each column once."""
        found: dict[int, int] = {}
        for place, relation in enumerate(self.rules.relations):
            if not relation.equal:
                continue
            names = [self.rules.features.index(name) for name in relation.weights]
            solved = relation.solved and self.rules.features.index(relation.solved)
            order = sorted(
                (name for name in names if self.loose[name] and name not in found.values()),
                key=lambda name: (name != solved, not self.continuous[name], name),
            )
            if order:
                found[place] = order[0]
        return found

    def reduced(self, gradient: Tensor) -> Tensor:
        """The gradient along the columns that are free, those that equations define following them."""
        result = gradient.double()
        for _ in self.pivots:  # what one equation defines may stand in another
            for place, column in self.pivots.items():
                weights = self.matrix.weights[place]
                pull = -weights / weights[column]
                pull[column] = 0
                result = result + result[:, [column]] * pull
                result[:, column] = 0
        return result


def matrix_of(rules: Rules, like: Tensor) -> Matrix:
    """The relations as arrays on the device of ``like``."""
    weights = like.new_zeros(len(rules.relations), len(rules.features))
    for place, relation in enumerate(rules.relations):
        for name, weight in relation.weights.items():
            weights[place, rules.features.index(name)] = weight
    return Matrix(
        weights,
        like.new_tensor([relation.bound for relation in rules.relations]),
        torch.tensor([one.equal for one in rules.relations], dtype=torch.bool, device=like.device),
    )

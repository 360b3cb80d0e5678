"""A cascade of searches: cheap ones for everybody, dear ones for those who are nearly fooled.

Knows the order of its stages and what they may cost; how examples are scored is the harness's
business. Why these stages: docs/decisions/0016-stages-of-the-cascade.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from dlaudit.attacks.base import Attack, Found, Norm, Threat
from dlaudit.audit.parts import Batch, Model
from dlaudit.audit.record import Cost, Scalar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Setting = Literal["standard", "thorough"]
Kind = Literal["climb", "polish", "boundary", "squares"]
BUDGETS: dict[Setting, int] = {"standard": 75, "thorough": 250}
"""Forward passes that a sample may cost at most, on average over those who stay robust."""
RIVALS = 9
"""Nearest other classes that are aimed at in turn, as in the standard ensemble."""
POLISH = 0.3
"""The first step of a polish, in budgets: many starts end just short of the boundary."""


class Stage(NamedTuple):
    """One search. share: of those who are left, the nearest to failure; 1 is everybody.

    kind: ``climb``: ``diversify`` steps along a direction of the logits, then ``steps`` up the
    margin; ``polish``: ``steps`` short ones from the best example so far; ``boundary``: projections on
    the boundary to a rival, from outside of the budget too; ``squares``: queries without gradients, from
    the best example so far. rival: the rank of the class that a search leads to,
    None for a random direction.
    """

    share: float
    diversify: int
    steps: int
    rival: int | None = None
    kind: Kind = "climb"

    @property
    def each(self) -> int:
        """Forward passes of a sample that goes through to the end."""
        return {
            "climb": self.diversify + self.steps + 1, "polish": self.steps + 1,
            "boundary": 2 * self.steps, "squares": self.steps,
        }[self.kind]  # fmt: skip

    def among(self, n: int) -> int:
        """How many of n samples take part: at least one."""
        return max(1, round(self.share * n))

    @property
    def forward(self) -> float:
        """Forward passes per sample that is left."""
        return self.share * self.each

    @property
    def backward(self) -> float:
        """Backward passes per sample that is left."""
        return 0 if self.kind == "squares" else self.share * (self.diversify + self.steps)


FIRST = Stage(1, 0, 8)
"""From the clean input: most of those who can be fooled are fooled here."""


def stages(setting: Setting, norm: Norm, budget: float) -> Iterator[Stage]:
    """The stages of a setting, for as long as the budget (forward passes per sample left) lasts."""
    spent = 1.0
    for stage in endless(setting, norm):
        spent += stage.forward
        if spent > budget:
            return
        yield stage


def endless(setting: Setting, norm: Norm) -> Iterator[Stage]:
    """Everybody first, at least once towards a rival class; then ever fewer, ever longer."""
    yield FIRST
    if setting == "standard":
        yield Stage(1, 5, 7, 0)
        if norm == "l2":
            # Inside a small l2 ball gradients are often flat: come from beyond the boundary.
            yield Stage(1, 0, 20, 0, "boundary")
        else:
            yield from (Stage(0.2, 7, 12, rank) for rank in range(1, 6))
            yield Stage(0.03, 0, 400, None, "squares")
        start, polish = Stage(0.03, 10, 20), Stage(0.03, 0, 20, None, "polish")
        queries = Stage(0.02, 0, 200, None, "squares")
    else:
        yield from (Stage(1, 7, 15, rank) for rank in range(2))
        yield Stage(1, 0, 20, 0, "boundary")
        yield from (Stage(0.3, 7, 15, rank) for rank in range(2, RIVALS))
        yield Stage(0.1, 0, 300, None, "squares")
        start, polish = Stage(0.1, 10, 30), Stage(0.1, 0, 20, None, "polish")
        queries = Stage(0.05, 0, 200, None, "squares")
    for turn in count():
        # Every fifth start has no aim: some failures lie where no rival's direction leads.
        aim = None if turn % 5 == 4 else turn % RIVALS
        yield from (start._replace(rival=aim), polish, queries)


class Cascade(Attack, frozen=True, kw_only=True):
    """The default: gradient searches in turn, each on the survivors that are nearest to failure.

    setting: ``standard`` or ``thorough``. budget: forward passes that a sample may cost at most on
    average over those who stay robust, and as many backward; by default 75 or 250.
    """

    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    both_ways: ClassVar[bool] = True

    setting: Setting = "standard"
    budget: int | None = None

    def __post_init__(self) -> None:
        """Refuse a budget that does not even pay the first stage and one for everybody."""
        super().__post_init__()
        opening = islice(endless(self.setting, self.norm), 2)
        least = 2 + sum(stage.forward for stage in opening)
        if self.budget is not None and self.budget < least:
            message = f"budget: expected a number >= {least:.0f}, got {self.budget}"
            raise ValueError(message)

    def search(
        self, model: Model, batch: Batch, threat: Threat, generator: torch.Generator
    ) -> Found:
        """See ``Attack.search``; the trace's ``stage`` is the number of the stage that fooled."""
        from dlaudit.attacks.ball import Ball
        from dlaudit.attacks.boundary import approach
        from dlaudit.attacks.climb import climb, directions
        from dlaudit.attacks.square import squares
        from dlaudit.attacks.survivors import Survivors, rivals

        left = Survivors(model, Ball(batch.x, threat), batch.y)
        clean = left.clean_logits()
        order = rivals(clean, batch.y)
        for stage in endless(self.setting, self.norm):
            rows, many = left.open, stage.among(len(left.open))
            # Of the budget, one forward pass is the harness's own.
            spent = left.forward[rows].double().mean() + many * stage.each / max(1, len(rows))
            if not len(rows) or spent > self.allowed - 1:
                break
            among = nearest(left.value[rows], many)
            aim = None if stage.rival is None else order[rows, stage.rival % order.shape[1]]
            if stage.kind == "boundary":
                left.face(
                    approach, among=among, steps=stage.steps, targets=aim, bounds=threat.bounds
                )
            elif stage.kind == "squares":
                left.face(
                    squares, among=among, queries=stage.steps, generator=generator, onward=True
                )  # fmt: skip
            elif stage.kind == "polish":
                sizes = shrinking(stage.steps, POLISH * threat.epsilon)
                left.face(climb, among=among, sizes=sizes, onward=True)
            elif stage is FIRST:
                left.face(climb, sizes=shrinking(stage.steps, 2 * threat.epsilon))
            else:
                left.face(
                    climb, among=among, sizes=shrinking(stage.steps, threat.epsilon),
                    diversify=stage.diversify, generator=generator,
                    direction=directions(batch.y[rows], clean.shape[1], aim, generator),
                )  # fmt: skip
        return left.found

    @property
    def played(self) -> list[Stage]:
        """The stages that the budget pays for if every share comes out even.

        One forward pass of the budget is the harness's own.
        """
        return list(stages(self.setting, self.norm, self.allowed - 1))

    @property
    def allowed(self) -> int:
        """Forward passes per robust sample."""
        return self.budget or BUDGETS[self.setting]

    def conditions(self, epsilon: float) -> dict[str, Scalar]:
        """See ``Attack.conditions``."""
        played = self.played
        return {
            **super().conditions(epsilon),
            "targeted": True,
            "budget": self.allowed,
            "stages": len(played),
            "steps": sum(
                stage.diversify + stage.steps for stage in played if stage.kind != "squares"
            ),
            "queries": sum(stage.steps for stage in played if stage.kind == "squares"),
            "restarts": len(played) - 1,
        }

    def passes(self, *, n: int, classes: int) -> Cost:
        """What it costs if no sample is fooled."""
        del classes
        attacked, played = self.attacked(n), self.played
        return Cost(
            forward=round(attacked * (2 + sum(stage.forward for stage in played))),
            backward=round(attacked * sum(stage.backward for stage in played)),
        )


def shrinking(steps: int, first: float) -> list[float]:
    """Steps that shrink linearly to nothing."""
    return [first * (1 - i / steps) for i in range(steps)]


def nearest(values: Tensor, many: int) -> Tensor:
    """(m,) bool: so many with the largest values. values: (m,)."""
    import torch

    chosen = torch.zeros_like(values, dtype=torch.bool)
    chosen[values.topk(many).indices] = True
    return chosen

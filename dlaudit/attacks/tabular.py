"""Rows of a table that change a decision and are still rows: types, groups and relations are kept.

Knows the parameters and the order of the searches; what a row must obey stands in ``table_rules``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import msgspec

from dlaudit.attacks.base import IN_255, Attack, Found, Norm, Terms, Threat
from dlaudit.audit.parts import Batch, Epsilon, Model, Needs
from dlaudit.audit.record import Caveat, Cost, Scalar
from dlaudit.errors import NotOffered

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dlaudit.attacks.table_search import Answer
    from dlaudit.audit.bench import Bench

CURVE = Epsilon([0.1, 0.25, 0.5])
"""Fractions of the interquartile range, where none are given: there is no accepted budget for tables."""


class Tabular(Attack, frozen=True, kw_only=True):
    """Constrained attack on tables: along gradients with repair, then by trying; no gradients needed.

    epsilon: how far a number may move, as a fraction of its column's interquartile range in the split
    ``train``, else in the test split (``epsilon_per_feature`` replaces these ranges). immutable: columns
    besides those that the data declare. increasing, decreasing: columns that may only grow, or shrink.
    integers: columns of whole numbers; one_hot: groups of columns of which exactly one is 1; both are
    detected where they are not given, and a lone column of zeros and ones is a category. categories: how
    many categories may change at once. relations: linear ones between columns, such as
    ``"total = a + b"`` or ``"debt <= 0.4 * income"``; names that are no plain words stand in quotes.

    steps, restarts: of the search along gradients, left out for models without; queries: tries without
    gradients for each sample (with fewer than four a column, not every one is tried alone). A row that
    breaks a rule is never counted. ``refused_by_constraints`` is the share of attacked rows that
    withstood, and would not have if rules were no matter. Rows that break the rules when clean, or have
    gaps, are left out and counted.
    """

    needs: ClassVar[Needs] = Needs(model=("decisions",), data=("labels", "tabular"))
    measures: ClassVar[tuple[str, ...]] = (*Attack.measures, "refused_by_constraints", "left_out")
    proportions: ClassVar[tuple[str, ...]] = measures
    norms: ClassVar[tuple[Norm, ...]] = ("linf",)

    immutable: list[str] = []
    increasing: list[str] = []
    decreasing: list[str] = []
    integers: list[str] | None = None
    one_hot: list[list[str]] | None = None
    relations: list[str] = []
    categories: int = 1
    steps: int = 20
    restarts: int = 2
    queries: int = 200

    def __post_init__(self) -> None:
        """Refuse numbers that make no search."""
        super().__post_init__()
        if self.epsilon is IN_255:
            msgspec.structs.force_setattr(self, "epsilon", CURVE)
        least = {"categories": 0, "steps": 1, "restarts": 1, "queries": 0}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                message = f"{name}: expected a number >= {smallest}, got {getattr(self, name)}"
                raise ValueError(message)

    def terms(self, bench: Bench) -> Terms:
        """See ``Attack.terms``: units and rules are read off the table once.

        Raises NotOffered for recorded decisions, which know no other rows, and for inputs that are
        no rows of numbers; PlanError for columns and relations that are declared wrongly.
        """
        import torch

        from dlaudit.attacks.table_columns import Declared, columns_of

        if bench.model.card.facts.get("kind") == "recorded decisions":
            message = f"{bench.model.card.name} cannot be asked about rows that were not recorded"
            raise NotOffered(message)
        found = columns_of(
            bench.data,
            Declared(
                self.immutable, self.increasing, self.decreasing, self.integers, self.one_hot,
                self.relations, self.categories,
            ),
        )  # fmt: skip
        units = torch.from_numpy(found.units)
        numbers = torch.from_numpy(found.span == 0)
        numbers[sorted(found.rules.fixed)] = False
        # A category moves as a whole whatever epsilon is: a hair more than its codes span.
        span = torch.from_numpy(found.span) * (1 + 1e-6)
        plain = super().terms(bench)

        def threat(batch: Batch, epsilon: float) -> Threat:
            usual = plain.threat(batch, epsilon)
            given = units
            if usual.scale is not None:
                given = torch.where(numbers, usual.scale.cpu(), 0)
            scale = (given + span / epsilon).to(batch.x.device)
            return msgspec.structs.replace(usual, scale=scale, rules=found.rules)

        source = f"interquartile range in {found.split}"
        if self.epsilon_per_feature is not None:
            source = "epsilon_per_feature"
        return Terms(
            threat,
            stated={
                "unit": source, "columns": found.told, "categories_changed": self.categories,
                "guided_by": "gradients, then tries" if guided(bench.model) else "tries",
            },
            ruled=True, caveats=self._few_tries(bench, len(units)),
            applies=lambda batch: found.rules.admits(batch.x, batch.x),
            reason="the clean row breaks the rules that adversarial rows must obey, or has gaps",
        )  # fmt: skip

    def _few_tries(self, bench: Bench, columns: int) -> tuple[Caveat, ...]:
        """A caveat where tries are all there is, and they are too few to try each column alone."""
        if guided(bench.model) or self.queries >= 4 * columns:
            return ()
        message = (
            f"The model shows no gradients, and queries = {self.queries} are fewer than four for each of "
            f"{columns} columns: some were never tried alone."
        )
        return (Caveat(source=bench.run, name="few_queries", message=message),)

    def search(
        self, model: Model, batch: Batch, threat: Threat, generator: torch.Generator
    ) -> Found:
        """See ``Attack.search``. A row that withstood comes back as rules would not let it be."""
        from dlaudit.attacks.ball import Ball
        from dlaudit.attacks.table_repair import Repair
        from dlaudit.attacks.table_search import Trial, begun, climb

        ball = Ball(batch.x, threat)
        repair = Repair(ball, threat.rules)
        state = begun(batch.x)
        if guided(model):
            for restart in range(self.restarts):
                climb(
                    state, model, repair, batch.y, steps=self.steps, restart=restart,
                    generator=generator,
                )  # fmt: skip
        answer = asked(model, batch, threat)
        Trial(state, answer, repair, generator, free=False).run(self.queries)
        x, open_ = state.x.clone(), state.open()
        if len(open_) and not threat.rules.only_a_box:
            if guided(model):
                from dlaudit.attacks.ascent import ascend
                from dlaudit.attacks.losses import margin

                sizes = [2 * threat.epsilon * (1 - i / self.steps) for i in range(self.steps)]
                free = ascend(model, ball.rows(open_), batch.y[open_], loss=margin, sizes=sizes)
                spent = free.forward + 1, free.backward
                wrong, _ = answer(free.x, open_)
                x[open_[wrong]] = free.x[wrong]
                state.forward[open_] += spent[0]
                state.backward[open_] += spent[1]
            else:
                without = begun(batch.x)
                without.fooled[:] = state.fooled
                Trial(without, answer, repair, generator, free=True).run(self.queries)
                broken = open_[without.fooled[open_]]
                x[broken] = without.x[broken]
                state.forward[open_] += without.forward[open_]
        return Found(x, state.forward, state.backward)

    def conditions(self, epsilon: float) -> dict[str, Scalar]:
        """See ``Attack.conditions``; relations stand as they are written."""
        stated = super().conditions(epsilon)
        del stated["categories"]  # stands as ``categories_changed``
        return {
            **stated,
            "relations": "; ".join(self.relations) or "none",
            "immutable": ", ".join(self.immutable) or "as the data declare",
        }

    def passes(self, *, n: int, classes: int) -> Cost:
        """The most it can cost: every row attacked to the end at every budget, and once without rules."""
        del classes
        attacked, climbs = self.attacked(n), self.restarts + 1
        return Cost(
            forward=attacked * (climbs * (self.steps + 1) + self.queries + 1),
            backward=attacked * climbs * self.steps,
        )


def guided(model: Model) -> bool:
    """Whether a model shows gradients to follow."""
    return "gradients" in model.offers


def asked(model: Model, batch: Batch, threat: Threat) -> Answer:
    """How the model answers rows for samples of a batch, by whatever it offers."""
    import numpy as np
    import torch

    from dlaudit.attacks.harness import margins, rewritten
    from dlaudit.audit.bench import rows

    def answer(x: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
        part = rows(batch, owner.cpu().numpy())
        shown = rewritten(part, x, threat.rules.facts)
        decisions = model.decide(shown)
        wrong = np.asarray(decisions.predicted) != shown.y
        if decisions.logits is not None:
            lead = margins(decisions.logits, shown.y)
        elif decisions.score is not None:
            lead = decisions.score * np.where(shown.y == 1, 1, -1)
        else:
            lead = np.zeros(len(wrong))
        device = x.device
        return torch.from_numpy(wrong).to(device), torch.as_tensor(lead).double().to(device)

    return answer

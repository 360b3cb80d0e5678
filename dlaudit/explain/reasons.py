"""Reason codes: the columns that weigh most in one decision, and whether they stay the same.

Knows rows and Shapley values of their columns; refuses to call them causes: they say where a logit's
value comes from against a baseline, not what a change would do (``explain.counterfactuals``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta

from dlaudit.audit.parts import Check, Needs, Yielded
from dlaudit.audit.record import Cost, Scalar, Undefined
from dlaudit.errors import NotExplained

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Bench

STABILITY, PROTECTED = "reason_stability", "protected_share"
NOTHING = 1e-6
"""Contributions below this share of a row's total are rounding."""
RADIUS = 0.02
"""How far rows are moved, in standard deviations of each column."""


def codes(values: np.ndarray, count: int) -> np.ndarray:
    """(n, F) contributions -> (n, count) columns that speak most for the decision, first the most.

    -1 where fewer do: what adds nothing, or speaks against the decision, is no reason for it.
    """
    import numpy as np

    order = np.argsort(-values, axis=1, kind="stable")[:, :count]
    least = NOTHING * np.abs(values).sum(axis=1, keepdims=True)
    return np.where(np.take_along_axis(values, order, axis=1) > least, order, -1)


def overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n,): share of the first list's reasons that stand in the second, whatever their order.

    first, second: (n, k) codes. NaN where the first list has none.
    """
    import numpy as np

    there = first >= 0
    common = (first[:, :, None] == second[:, None, :]).any(axis=2) & there
    count = there.sum(axis=1)
    none = np.full(len(first), np.nan)
    return np.asarray(np.divide(common.sum(axis=1), count, out=none, where=count > 0))


class Reasons(Check, frozen=True, kw_only=True):
    """The columns that speak most for each decision (Shapley values), and how stable that list is.

    ``reason_stability``: share of a row's reasons that stay among them when every column that may
    change moves a little and the decision does not (mean over ``nearby`` moves); ``protected_share``:
    share of the absolute contributions on the columns named in ``protected`` (and declared immutable).

    reasons: codes per decision. coalitions: asked for each row, all if they suffice. baseline: ``mean``
    of the rows explained, or ``zero``. pictures: waterfalls drawn, if the plan keeps samples.
    """

    needs: ClassVar[Needs] = Needs(model=("logits",), data=("tabular",))
    measures: ClassVar[tuple[str, ...]] = (STABILITY, PROTECTED)

    samples: Annotated[int, Meta(ge=1)] = 100
    reasons: Annotated[int, Meta(ge=1)] = 3
    coalitions: Annotated[int, Meta(ge=4)] = 512
    nearby: Annotated[int, Meta(ge=1)] = 3
    baseline: Literal["zero", "mean"] = "mean"
    protected: tuple[str, ...] = ()
    pictures: Annotated[int, Meta(ge=0)] = 6

    def passes(self, *, n: int, classes: int) -> Cost:
        """One game for each row and each move."""
        del classes
        return Cost(forward=min(n, self.samples) * (1 + self.nearby) * self.coalitions, backward=0)

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Explain the rows, move them a little, explain again."""
        import numpy as np
        import torch

        from dlaudit.explain.columns import places, rows_of
        from dlaudit.explain.drawing import waterfalls
        from dlaudit.explain.methods import KernelSHAP
        from dlaudit.explain.subject import maps_of, subject_of
        from dlaudit.explain.telling import mean_of

        rows = rows_of(bench, self.samples, self.protected)
        marked = rows.fixed.copy()
        marked[places(rows.names, self.protected, "protected")] = True
        subject, rng = subject_of(bench, self.samples), bench.rng("reasons")
        start, method = subject.baseline(self.baseline), KernelSHAP(coalitions=self.coalitions)
        stated: dict[str, Scalar] = {
            "reasons": self.reasons, "baseline": self.baseline, "coalitions": self.coalitions,
            "radius_sd": RADIUS, "nearby": self.nearby, "target": "the original decision's logit",
        }  # fmt: skip
        try:
            values = maps_of(method, subject.request(start, rng)).astype(np.float64)
        except NotExplained as error:
            for name in self.measures:
                yield Undefined(name=name, reason=str(error), conditions=stated)
            return
        own = codes(values, self.reasons)
        stays = []
        for _ in range(self.nearby):
            step = RADIUS * rows.x.std(axis=0) * rng.uniform(-1, 1, rows.x.shape) * ~rows.fixed
            x = subject.x + torch.as_tensor(step).to(subject.x)
            kept = (subject.answer(x).argmax(dim=1) == subject.target).cpu().numpy()
            moved = maps_of(method, subject.request(start, rng, x=x)).astype(np.float64)
            stays.append(np.where(kept, overlap(own, codes(moved, self.reasons)), np.nan))
        there = ~np.isnan(stays)
        stable = np.divide(
            np.nansum(stays, axis=0), there.sum(axis=0), out=np.full(len(own), np.nan),
            where=there.any(axis=0),
        )  # fmt: skip
        yield mean_of(
            STABILITY,
            stable,
            {},
            stated,
            "no row kept its decision near by",
            direction="higher",
            share=True,
        )
        yield self._on_protected(values, marked, stated)
        columns: dict[str, np.ndarray] = {
            "id": rows.id, "predicted": subject.target.cpu().numpy(), "stability": stable,
            "reasons": np.array([[rows.names[k] if k >= 0 else "" for k in row] for row in own]),
        }  # fmt: skip
        columns |= {f"contribution_{name}": values[:, k] for k, name in enumerate(rows.names)}
        yield bench.keep_table(
            f"{bench.run}.samples", columns,
            caption="Each row: its decision, the columns that speak most for it, how stable that list "
            "is, and every column's contribution in units of the logit.",
        )  # fmt: skip
        count = min(self.pictures, bench.keep_samples)
        yield from waterfalls(bench, subject, rows.names, values=values, stable=stable, count=count)

    def _on_protected(
        self, values: np.ndarray, marked: np.ndarray, stated: dict[str, Scalar]
    ) -> Yielded:
        """How much of the contributions lies on columns that should not weigh."""
        import numpy as np

        from dlaudit.explain.telling import mean_of

        if not marked.any():
            reason = "no column is named in protected nor declared immutable"
            return Undefined(name=PROTECTED, reason=reason, conditions=stated)
        size = np.abs(values)
        total = size.sum(axis=1)
        share = np.divide(
            size[:, marked].sum(axis=1), total, out=np.full(len(size), np.nan), where=total > 0
        )
        return mean_of(
            PROTECTED, share, {}, stated, "no row has contributions", direction="lower", share=True
        )

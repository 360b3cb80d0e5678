"""What the model leans on, over all rows: importances, the course of its answers, a tree that imitates it.

Knows rows and answers of any model; refuses to call an importance an effect: columns that go together
share it, or hide it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from msgspec import Meta

from dlaudit.audit.parts import Check, Needs, Yielded
from dlaudit.audit.record import Cost, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import LEVEL, wilson

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Bench
    from dlaudit.explain.columns import Rows

IMPORTANCE, FIDELITY = "importance", "surrogate_fidelity"


class Importance(Check, frozen=True, kw_only=True):
    """Permutation importance of each column, partial dependence and ALE curves, and a surrogate tree.

    ``importance``: what accuracy loses if a column's values are dealt anew among the rows (mean over
    ``repeats``, paired over the rows, Bonferroni over the columns); ``surrogate_fidelity``: how often a
    tree of some depth, grown on the decisions of one half of the rows, decides the other half as the
    model does. Curves are drawn of the ``curves`` most important columns.
    """

    needs: ClassVar[Needs] = Needs(model=("logits",), data=("tabular", "labels"))
    measures: ClassVar[tuple[str, ...]] = (IMPORTANCE, FIDELITY)
    proportions: ClassVar[tuple[str, ...]] = (FIDELITY,)

    samples: Annotated[int, Meta(ge=10)] = 1000
    repeats: Annotated[int, Meta(ge=1)] = 5
    depth: Annotated[int, Meta(ge=1)] = 3
    curves: Annotated[int, Meta(ge=0)] = 4
    points: Annotated[int, Meta(ge=2)] = 20

    def passes(self, *, n: int, classes: int) -> Cost:
        """Once per repeat and column; ten columns are reckoned with."""
        del classes
        many = min(n, self.samples)
        return Cost(
            forward=many * (1 + 10 * self.repeats + self.curves * 3 * self.points), backward=0
        )

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Deal anew, ask again; grow the tree; draw."""
        import numpy as np

        from dlaudit.explain.columns import decided, rows_of
        from dlaudit.explain.telling import mean_of

        rows = rows_of(bench, self.samples)
        answers, rng = bench.answers(samples=self.samples), bench.rng("importance")
        right = (decided(bench, rows.x) == answers.y).astype(np.float64)
        lost = np.zeros(rows.x.shape)
        for column in range(rows.x.shape[1]):
            for _ in range(self.repeats):
                dealt = rows.x.copy()
                dealt[:, column] = rng.permutation(dealt[:, column])
                lost[:, column] += (right - (decided(bench, dealt) == answers.y)) / self.repeats
        stated: dict[str, Scalar] = {
            "score": "accuracy", "repeats": self.repeats, "search": "columns, Bonferroni",
        }  # fmt: skip
        level = 1 - (1 - LEVEL) / len(rows.names)
        for column, name in enumerate(rows.names):
            if not lost[:, column].any():
                yield Measurement(
                    name=IMPORTANCE, value=0.0, n=len(right), slice={"feature": name},
                    exact="no decision became right or wrong in any repeat", conditions=stated,
                )  # fmt: skip
                continue
            where = {"feature": name}
            yield mean_of(IMPORTANCE, lost[:, column], where, stated, "", level=level)
        yield from self._surrogate(bench, rows, rng)
        yield from self._curves(bench, rows, lost.mean(axis=0), answers.predicted)

    def _surrogate(self, bench: Bench, rows: Rows, rng: np.random.Generator) -> Iterator[Yielded]:
        """A tree grown on one half of the decisions, compared on the other."""
        import numpy as np

        from dlaudit.explain.columns import decided
        from dlaudit.explain.via_sklearn import grown

        own = decided(bench, rows.x)
        order = rng.permutation(len(own))
        seen, unseen = order[: len(order) // 2], order[len(order) // 2 :]
        stated: dict[str, Scalar] = {"depth": self.depth, "grown_on": len(seen)}
        if len(np.unique(own[seen])) < 2:
            reason = "all rows of one half are decided alike: a tree has nothing to imitate"
            yield Undefined(name=FIDELITY, reason=reason, conditions=stated)
            return
        tree = grown(rows.x[seen], own[seen], rows.names, bench.classes, depth=self.depth)
        same = int((tree.decide(rows.x[unseen]) == own[unseen]).sum())
        most = int(np.bincount(own[unseen]).max())
        stated["always_the_most_frequent"] = most / len(unseen)
        yield Measurement(
            name=FIDELITY, value=same / len(unseen), n=len(unseen),
            interval=wilson(same, len(unseen)), direction="higher", conditions=stated,
        )  # fmt: skip
        yield bench.keep(
            f"{bench.run}.surrogate", tree.text.encode(), media_type="text/plain",
            caption=f"A tree of depth {self.depth} that imitates the model, grown on {len(seen)} of its "
            f"decisions; it decides {same} of {len(unseen)} others alike. It is not the model.",
        )  # fmt: skip

    def _curves(
        self, bench: Bench, rows: Rows, importance: np.ndarray, predicted: np.ndarray
    ) -> Iterator[Yielded]:
        """Partial dependence and ALE of the most important columns, for the most frequent decision."""
        import numpy as np

        from dlaudit.explain.dependence import accumulated, partial
        from dlaudit.explain.pictures import courses_svg

        target = int(np.bincount(predicted).argmax())

        def chance(x: np.ndarray) -> np.ndarray:
            return _chance(bench, x, target)

        label = bench.classes[target] if target < len(bench.classes) else str(target)
        for column in np.argsort(-importance, kind="stable")[: self.curves]:
            name = rows.names[column]
            if np.ptp(rows.x[:, column]) == 0:
                continue
            courses: dict[str, Any] = {
                "partial dependence": partial(rows.x, int(column), chance, points=self.points),
                "accumulated local effects": accumulated(
                    rows.x, int(column), chance, bins=self.points
                ),
            }
            yield bench.keep(
                f"{bench.run}.{name}", courses_svg(name, courses), media_type="image/svg+xml",
                caption=f"{name}: mean probability of {label}, with the column set to each value "
                f"(partial dependence) and by the accumulated effects of small steps (ALE, around the "
                f"mean), over {len(rows.x)} rows. Where columns go together, trust the second.",
                alt=f"Two curves of the mean probability of {label} over {name}.",
            )  # fmt: skip


def _chance(bench: Bench, x: np.ndarray, target: int) -> np.ndarray:
    """(n,): softmax probability of one class."""
    import numpy as np
    import torch

    return np.asarray(torch.softmax(bench.model.logits(x).double(), dim=1)[:, target].cpu().numpy())

"""What would have had to differ for another decision? Nearest changes that a person could make.

Knows rows and decisions; refuses to change what is declared immutable, and to call a change a
counterfactual before the model was asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple

from msgspec import Meta

from dlaudit.audit.parts import Check, Needs, Yielded
from dlaudit.audit.record import Artifact, Cost, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import mean_interval, wilson

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Bench
    from dlaudit.explain.columns import Rows

FOUND, CHANGED, DISTANCE = "counterfactual_found", "columns_changed", "counterfactual_distance"
Decide = Callable[["np.ndarray"], "np.ndarray"]


class Freedom(NamedTuple):
    """What may change. fixed: (F,) bool; direction: (F,), 1 may only rise, -1 may only fall, 0 both.

    spread: (F,), the unit of distance in each column.
    """

    fixed: np.ndarray
    direction: np.ndarray
    spread: np.ndarray

    def allowed(self, row: np.ndarray, donors: np.ndarray) -> np.ndarray:
        """(m, F): the donors' values where the row may take them, else the row's own."""
        import numpy as np

        step = donors - row
        refused = self.fixed | (self.direction * step < 0)
        return np.where(refused, row, donors)

    def distance(self, row: np.ndarray, others: np.ndarray) -> np.ndarray:
        """(m,): mean over the columns of |change| in units of their spread (Gower)."""
        import numpy as np

        apart: np.ndarray = np.abs(others - row) / self.spread
        return np.asarray(apart.mean(axis=1))


def nearest_change(
    row: np.ndarray, own: int, donors: np.ndarray, freedom: Freedom, decide: Decide
) -> np.ndarray | None:
    """A row near by that is decided otherwise, or None among these donors.

    row: (F,); own: its decision; donors: (m, F), real rows that are decided otherwise. Each donor's
    values are taken where that is allowed; of those that the model really decides otherwise the nearest
    is thinned: column after column, the largest change first, goes back to its own value if the decision
    stays another.
    """
    import numpy as np

    if not len(donors):
        return None
    mixed = freedom.allowed(row, donors)
    other = np.flatnonzero(decide(mixed) != own)
    if not len(other):
        return None
    found: np.ndarray = mixed[other[np.argmin(freedom.distance(row, mixed[other]))]].copy()
    for column in np.argsort(-np.abs(found - row) / freedom.spread, kind="stable"):
        if found[column] == row[column]:
            continue
        tried = found.copy()
        tried[column] = row[column]
        if decide(tried[None])[0] != own:
            found = tried
    return found


class Counterfactuals(Check, frozen=True, kw_only=True):
    """The nearest change of each row that the model decides otherwise, within what may change.

    ``counterfactual_found``: share of the rows for which one was found, each predicted again;
    ``columns_changed`` and ``counterfactual_distance`` (mean change over the columns, in interquartile
    ranges): means over those found. Values are taken from real rows that are decided otherwise, so that
    each column's value was seen in the data; their combination need not have been.

    samples: rows asked about. immutable, increasing, decreasing: columns that may not change, may only
    rise, or only fall, beside those that the data declare. decision: only rows with this decision
    (a class's name); all if empty. donors: rows tried for each.
    """

    needs: ClassVar[Needs] = Needs(model=("logits",), data=("tabular",))
    measures: ClassVar[tuple[str, ...]] = (FOUND, CHANGED, DISTANCE)
    proportions: ClassVar[tuple[str, ...]] = (FOUND,)

    samples: Annotated[int, Meta(ge=1)] = 100
    immutable: tuple[str, ...] = ()
    increasing: tuple[str, ...] = ()
    decreasing: tuple[str, ...] = ()
    decision: str = ""
    donors: Annotated[int, Meta(ge=1)] = 50

    def __post_init__(self) -> None:
        """Refuse a column that may only rise and only fall."""
        if both := set(self.increasing) & set(self.decreasing):
            message = f"increasing: {min(both)!r} stands in decreasing too; immutable says that"
            raise ValueError(message)

    def passes(self, *, n: int, classes: int) -> Cost:
        """The donors of each row, then at most its columns; ten of them are reckoned with."""
        del classes
        return Cost(forward=min(n, self.samples) * (self.donors + 10), backward=0)

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Search, ask again, count."""
        import numpy as np

        from dlaudit.explain.columns import decided, places, rows_of

        everybody = rows_of(bench, None, self.immutable)
        rows = rows_of(bench, self.samples, self.immutable)
        direction = np.zeros(len(rows.names))
        direction[places(rows.names, self.increasing, "increasing")] = 1
        direction[places(rows.names, self.decreasing, "decreasing")] = -1
        freedom = Freedom(everybody.fixed, direction, everybody.spread)
        known = bench.answers().predicted
        own = decided(bench, rows.x)
        asked = np.flatnonzero(self._wanted(bench, own))
        found = {
            int(at): nearest_change(
                rows.x[at], int(own[at]),
                self._near(rows.x[at], everybody.x[known != own[at]], freedom), freedom,
                lambda x: decided(bench, x),
            )
            for at in asked
        }  # fmt: skip
        yield from self._told(rows, found, freedom)
        yield self._kept(bench, rows, own, found)

    def _wanted(self, bench: Bench, own: np.ndarray) -> np.ndarray:
        """(n,) bool: the rows with the decision that is asked about."""
        import numpy as np

        from dlaudit.errors import PlanError, nearest

        if not self.decision:
            return np.ones(len(own), dtype=bool)
        if self.decision not in bench.classes:
            hint = nearest(self.decision, bench.classes)
            message = f"decision: no class is called {self.decision!r}. {hint}"
            raise PlanError(message)
        return np.asarray(own == bench.classes.index(self.decision))

    def _near(self, row: np.ndarray, others: np.ndarray, freedom: Freedom) -> np.ndarray:
        """The nearest rows among others, counted in what would change."""
        import numpy as np

        apart = freedom.distance(row, freedom.allowed(row, others))
        return others[np.argsort(apart, kind="stable")[: self.donors]]

    def _told(
        self, rows: Rows, found: dict[int, np.ndarray | None], freedom: Freedom
    ) -> Iterator[Yielded]:
        """How often, how many columns, how far."""
        import numpy as np

        stated: dict[str, Scalar] = {
            "donors": self.donors, "immutable": " ".join(np.array(rows.names)[freedom.fixed]),
            "increasing": " ".join(self.increasing), "decreasing": " ".join(self.decreasing),
            "decision": self.decision or "all", "validity": "predicted again",
        }  # fmt: skip
        n = len(found)
        if not n:
            reason = f"no row among {len(rows.x)} is decided {self.decision}"
            yield from (
                Undefined(name=one, reason=reason, conditions=stated) for one in self.measures
            )
            return
        there = {at: one for at, one in found.items() if one is not None}
        yield Measurement(
            name=FOUND, value=len(there) / n, n=n, interval=wilson(len(there), n),
            direction="higher", conditions=stated,
        )  # fmt: skip
        changed = [float((one != rows.x[at]).sum()) for at, one in there.items()]
        apart = [float(freedom.distance(rows.x[at], one[None])[0]) for at, one in there.items()]
        for name, values in ((CHANGED, np.array(changed)), (DISTANCE, np.array(apart))):
            interval = mean_interval(values)
            if interval is None:
                reason = f"{len(values)} counterfactuals without spread: no interval"
                yield Undefined(name=name, reason=reason, conditions=stated)
                continue
            yield Measurement(
                name=name, value=float(values.mean()), n=len(values), interval=interval,
                direction="lower", conditions=stated,
            )  # fmt: skip

    @staticmethod
    def _kept(
        bench: Bench, rows: Rows, own: np.ndarray, found: dict[int, np.ndarray | None]
    ) -> Artifact:
        """One line per row asked about: its decision, and what would differ."""
        import numpy as np

        at = np.array(list(found), dtype=np.int64)
        there = np.array([one is not None for one in found.values()], dtype=bool)
        other = np.stack(
            [rows.x[k] if one is None else one for k, one in found.items()] or [rows.x[0]]
        )
        columns: dict[str, np.ndarray] = {
            "id": rows.id[at], "predicted": own[at], "found": there,
        }  # fmt: skip
        for place, name in enumerate(rows.names):
            columns[f"own_{name}"] = rows.x[at, place]
            columns[f"other_{name}"] = other[: len(at), place]
        return bench.keep_table(
            f"{bench.run}.samples", columns,
            caption="Each row asked about, its decision, whether a counterfactual was found, and every "
            "column's own value beside the one that would have led to another decision.",
        )  # fmt: skip

"""Leaks: the same person on both sides, test rows older than training, a column that knows the label.

Knows ids, dates and single columns; refuses to guess which column names a person or a day: that is
declared, and what is not declared is undefined.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from msgspec import Meta

from dlaudit.audit.parts import Check, Needs, Yielded
from dlaudit.audit.record import Artifact, Cost, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import LEVEL
from dlaudit.errors import nearest

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Bench
    from dlaudit.data_quality.rows import Rows

TEST, TRAIN = "test", "train"
OWN = "id"
"""The slice that speaks of the identity of the row itself."""
CENSUS = "a count over every row of these two splits"


class Leakage(Check, frozen=True, kw_only=True):
    """Test rows that share an identity with training, or are older; columns that give the label away.

    ids: columns that name who a row is about (a person, a patient, a house). ``shared_ids``: per column,
    and for the row's own id where ids are no mere numbers of rows, the share of test rows whose value
    stands in the training split too. date: the column of dates, by default the data set's own;
    ``time_overlap``: share of test rows dated before the latest training row. ``leaked_rows``: the share
    of test rows of which any of this is true.

    ``predictive_power`` of each feature of a table by itself: learned on the training split (the likeliest
    class of each of its values, or of 32 bins of equal mass, classes weighed alike), judged on the test
    split as (balanced accuracy - 1/K) / (1 - 1/K): 0 is a guess, 1 certainty. The ``told`` strongest are
    told, their intervals at Bonferroni's level over all features, because they are a search.
    """

    needs: ClassVar[Needs] = Needs(data=("labels", "train"))
    measures: ClassVar[tuple[str, ...]] = (
        "leaked_rows", "shared_ids", "time_overlap", "predictive_power",
    )  # fmt: skip

    ids: tuple[str, ...] = ()
    date: str | None = None
    told: Annotated[int, Meta(ge=1)] = 20
    minimum: Annotated[int, Meta(ge=2)] = 10

    def passes(self, *, n: int, classes: int) -> Cost:
        """The model is not asked."""
        del n, classes
        return Cost(forward=0, backward=0)

    def objections(self, facts: Mapping[str, Any], context: Mapping[str, Any]) -> tuple[str, ...]:
        """Declared columns that the table lacks."""
        del context
        known = [*facts.get("columns", ()), *facts.get("groups", {})]
        asked = [("ids", name) for name in self.ids] + [("date", self.date)] * (
            self.date is not None
        )
        return tuple(
            f"{field}: expected a column of the data, got {name!r}. {nearest(str(name), known)}"
            for field, name in asked
            if known and name not in known
        )

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Compare ids and dates of the splits, then learn the label from each column alone."""
        import numpy as np

        from dlaudit.data_quality import rows

        date = self.date or bench.data.card.facts.get("date")
        wanted = tuple(dict.fromkeys([*self.ids, *([date] if date else [])]))
        train, test = rows.read(bench, (TRAIN, TEST), columns=wanted)
        n = len(test.id)
        leaked = np.zeros(n, dtype=bool)
        evidence: dict[str, np.ndarray] = {"id": test.id}
        looked: list[str] = []
        for name, shared in self._shared(train, test):
            looked.append(name)
            leaked |= shared
            evidence[f"shared_{name}"] = shared
            yield Measurement(
                name="shared_ids", value=float(shared.mean()), n=n, exact=CENSUS, direction="lower",
                slice={"column": name},
            )  # fmt: skip
        if not looked:
            reason = 'no column is declared that names who a row is about: ids = ["…"]'
            yield Undefined(name="shared_ids", reason=reason)
        early = _early(train.columns[date], test.columns[date], date) if date else None
        if isinstance(early, Undefined) or early is None:
            yield early or Undefined(name="time_overlap", reason='no column of dates: date = "…"')
        else:
            looked.append(str(date))
            leaked |= early
            evidence["early"] = early
            yield Measurement(
                name="time_overlap", value=float(early.mean()), n=n, exact=CENSUS, direction="lower",
                slice={"column": str(date)},
            )  # fmt: skip
        if looked:
            yield Measurement(
                name="leaked_rows", value=float(leaked.mean()), n=n, exact=CENSUS, direction="lower",
                conditions={"columns": ", ".join(looked)},
            )  # fmt: skip
        else:
            reason = "neither ids nor a date is declared, and the ids of the rows only count them"
            yield Undefined(name="leaked_rows", reason=reason)
        yield from self._power(bench, train, test)
        yield bench.keep_table(
            f"{bench.run}.samples",
            evidence,
            caption="Every test row: what it shares with training.",
        )

    def _shared(self, train: Rows, test: Rows) -> Iterator[tuple[str, np.ndarray]]:
        """Per column of identities which test rows share a value; empty cells name nobody."""
        import numpy as np

        from dlaudit.data_quality import identity

        if not identity.only_count(train, test):
            yield OWN, np.isin(test.id, train.id)
        for name in self.ids:
            one, other = (identity.named(rows.columns[name]) for rows in (train, test))
            yield name, np.isin(other, one) & (other != "")

    def _power(self, bench: Bench, train: Rows, test: Rows) -> Iterator[Yielded]:
        """What each column knows of the label."""
        import numpy as np

        from dlaudit.data_quality import predictive
        from dlaudit.data_quality.intervals import balanced_skill

        name = "predictive_power"
        kinds = len(bench.classes)
        sizes = [np.bincount(rows.y, minlength=kinds) for rows in (train, test)]
        judged = np.flatnonzero(np.minimum(*sizes) >= self.minimum)
        reason = None
        if "tabular" not in bench.data.offers:
            reason = "the data are no table: a single number of an input means nothing"
        elif not train.names:
            reason = "the table has no feature"
        elif len(judged) < 2:
            reason = f"fewer than two classes with {self.minimum} rows in both splits"
        if reason is not None:
            yield Undefined(name=name, reason=reason)
            return
        level = 1 - (1 - LEVEL) / len(train.names)
        stated: dict[str, Scalar] = {"features": len(train.names), "classes": len(judged)}
        found = []
        seen, unseen = np.isin(train.y, judged), np.isin(test.y, judged)
        for place, feature in enumerate(train.names):
            guessed = predictive.guesses(
                train.values[seen, place], train.y[seen], test.values[unseen, place], kinds
            )
            hits = guessed == test.y[unseen]
            right = np.bincount(test.y[unseen][hits], minlength=kinds)[judged]
            value, interval = balanced_skill(right.tolist(), sizes[1][judged].tolist(), level)
            found.append((value, feature, interval))
        for value, feature, interval in sorted(found, key=lambda one: -one[0])[: self.told]:
            yield Measurement(
                name=name, value=value, n=int(unseen.sum()), interval=interval, direction="lower",
                slice={"feature": feature}, conditions=stated,
            )  # fmt: skip
        yield _ranking(bench, found)


def _early(train: np.ndarray, test: np.ndarray, date: str) -> np.ndarray | Undefined:
    """Test rows dated before the latest training row; undefined where dates cannot be read."""
    from dlaudit.data_quality import identity

    one, other = identity.moments(train), identity.moments(test)
    if one is None or other is None:
        reason = (
            f"column {date!r}: expected a date or a number in every row, got cells that are neither"
        )
        return Undefined(name="time_overlap", reason=reason, slice={"column": date})
    early: np.ndarray = other < one.max()
    return early


def _ranking(bench: Bench, found: list[tuple[float, str, Any]]) -> Artifact:
    """Every feature with its power, the strongest first."""
    import numpy as np

    ranked = sorted(found, key=lambda one: -one[0])
    columns = {
        "id": np.array([name for _, name, _ in ranked]),
        "predictive_power": np.array([value for value, _, _ in ranked]),
        "low": np.array([interval.low for _, _, interval in ranked]),
        "high": np.array([interval.high for _, _, interval in ranked]),
    }
    return bench.keep_table(
        f"{bench.run}.features",
        columns,
        caption="Every feature: what it knows of the label by itself.",
    )

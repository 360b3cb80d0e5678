"""The state of the columns: gaps, constants, mixed cells, ranges, rare classes, rows far from all others.

Knows what stands in the data; refuses to say what should stand there, unless the plan declares a range.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from msgspec import Meta

from dlaudit.audit.parts import Check, Needs, Yielded
from dlaudit.audit.record import Cost, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import LEVEL, wilson
from dlaudit.errors import nearest

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Bench
    from dlaudit.data_quality.rows import Rows

TEST, TRAIN = "test", "train"
CENSUS = "a count over every row of this split"
FEWEST = 20
SOURCE = "cleanlab datalab"


class Columns(Check, frozen=True, kw_only=True):
    """Missing cells, constant and mixed columns, values out of range, rare classes, rows far out.

    Of each split there is. ``missing_share``: of a column's cells (Wilson), for the columns that have gaps;
    ``missing_cells``: of all cells. ``constant_columns`` and ``mixed_columns`` (numbers beside words) are
    counts. ``out_of_range``: share of rows outside a range that ``ranges`` declares, per column;
    ``beyond_training``: share of test rows below the smallest or above the largest training value of any
    column. ``rarest_class_share`` (Wilson) and ``rare_classes``: how many classes hold less than 0.1/K of the
    rows. ``outliers``: share of rows whose mean distance to their ten nearest neighbours is far beyond the
    others' (standardised numeric columns of a table; brightness, contrast and sharpness of pictures).

    Every finding lists its rows in the evidence. samples: at most so many rows are looked at for outliers.
    """

    needs: ClassVar[Needs] = Needs(data=("labels",))
    measures: ClassVar[tuple[str, ...]] = (
        "missing_cells", "missing_share", "constant_columns", "mixed_columns", "out_of_range",
        "beyond_training", "rarest_class_share", "rare_classes", "outliers",
    )  # fmt: skip

    ranges: dict[str, tuple[float, float]] = {}
    samples: Annotated[int, Meta(ge=50)] = 10_000
    told: Annotated[int, Meta(ge=1)] = 20

    def passes(self, *, n: int, classes: int) -> Cost:
        """The model is not asked."""
        del n, classes
        return Cost(forward=0, backward=0)

    def objections(self, facts: Mapping[str, Any], context: Mapping[str, Any]) -> tuple[str, ...]:
        """Ranges of columns that do not exist, or that end before they begin."""
        del context
        known = [str(name) for name in facts.get("features", ())]
        return tuple(
            f"ranges.{name}: expected a feature, got none of this name. {nearest(name, known)}"
            for name in self.ranges
            if known and name not in known
        ) + tuple(
            f"ranges.{name}: expected [low, high] with low <= high, got [{low:g}, {high:g}]"
            for name, (low, high) in self.ranges.items()
            if not low <= high
        )

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Look at every split, and at test values beside those of training."""
        from dlaudit.data_quality import rows

        splits = [TEST, *([TRAIN] if TRAIN in bench.data.offers else [])]
        names = [str(one) for one in bench.data.card.facts.get("features", ())]
        stored = set(map(str, bench.data.card.facts.get("columns", ())))
        raw = [name for name in names if name in stored]
        read = dict(zip(splits, rows.read(bench, splits, columns=raw), strict=True))
        for split, one in read.items():
            where = {"split": split}
            findings: list[tuple[str, str, np.ndarray]] = []
            yield from self._gaps(one, where, findings)
            yield from self._ranges(one, where, findings)
            yield from _classes(bench, one, where)
            if split == TEST:
                yield from _beyond(read, where, findings)
            yield from self._far(bench, one, where, findings)
            yield _evidence(bench, split, one, findings)

    def _gaps(
        self, one: Rows, where: dict[str, str], findings: list[tuple[str, str, np.ndarray]]
    ) -> Iterator[Yielded]:
        """Missing cells, constant columns and mixed ones."""
        import numpy as np

        from dlaudit.data_quality import profile

        n, width = one.values.shape
        if not width:
            for name in ("missing_cells", "constant_columns", "mixed_columns"):
                yield Undefined(name=name, reason="the table has no feature", slice=where)
            return
        gap = profile.gaps(one.values)
        mixed = {name: profile.mixed(column) for name, column in one.columns.items()}
        # A mixed column is no number to the model: its own finding, not a column of gaps.
        whole = [name for name, cells in mixed.items() if cells is not None]
        gap[:, np.isin(one.names, whole)] = False
        yield Measurement(
            name="missing_cells", value=float(gap.mean()), n=n, exact=CENSUS, direction="lower",
            slice=where,
        )  # fmt: skip
        shares = gap.mean(axis=0)
        with_gaps = [
            int(place) for place in np.argsort(-shares, kind="stable") if shares[place] > 0
        ]
        for place in with_gaps[: self.told]:
            hits, name = int(gap[:, place].sum()), one.names[place]
            yield Measurement(
                name="missing_share", value=hits / n, n=n, direction="lower",
                interval=wilson(hits, n, 1 - (1 - LEVEL) / len(with_gaps)),
                slice={**where, "column": name},
            )  # fmt: skip
        findings += [("missing", one.names[place], gap[:, place]) for place in with_gaps]
        constant = profile.constant(one.values) & ~np.isin(one.names, whole)
        named: dict[str, Scalar] = {
            "columns": _few([one.names[i] for i in np.flatnonzero(constant)])
        }
        yield Measurement(
            name="constant_columns", value=int(constant.sum()), n=width, exact=CENSUS,
            direction="lower", slice=where, conditions=named,
        )  # fmt: skip
        if one.columns:
            findings += [
                ("mixed", name, cells) for name, cells in mixed.items() if cells is not None
            ]
            yield Measurement(
                name="mixed_columns", value=len(whole), n=len(mixed), exact=CENSUS, direction="lower",
                slice=where, conditions={"columns": _few(whole)},
            )  # fmt: skip
        else:
            reason = "the data come as numbers: cells as they were stored are not known"
            yield Undefined(name="mixed_columns", reason=reason, slice=where)

    def _ranges(
        self, one: Rows, where: dict[str, str], findings: list[tuple[str, str, np.ndarray]]
    ) -> Iterator[Yielded]:
        """Rows outside the ranges that the plan declares."""
        import numpy as np

        from dlaudit.data_quality import profile

        if not self.ranges:
            reason = "no range is declared: ranges = { <column> = [low, high] }"
            yield Undefined(name="out_of_range", reason=reason, slice=where)
        for name, (low, high) in self.ranges.items():
            column = one.values[:, one.names.index(name)] if name in one.names else None
            place = {**where, "column": name}
            if column is None:
                yield Undefined(name="out_of_range", reason="there is no such column", slice=place)
                continue
            out = profile.outside(column, float(np.float32(low)), float(np.float32(high)))
            hits, n = int(out.sum()), len(out)
            findings.append(("out of range", name, out))
            yield Measurement(
                name="out_of_range", value=hits / n, n=n, interval=wilson(hits, n), direction="lower",
                slice=place, conditions={"low": low, "high": high},
            )  # fmt: skip

    def _far(
        self, bench: Bench, one: Rows, where: dict[str, str],
        findings: list[tuple[str, str, np.ndarray]],
    ) -> Iterator[Yielded]:  # fmt: skip
        """Rows far from all others."""
        import numpy as np

        from dlaudit.data_quality import neighbours, profile, rows

        name, n = "outliers", len(one.id)
        numeric = one.values[:, ~one.categorical]
        (points,) = rows.standardised((numeric,), np.zeros(numeric.shape[1], dtype=bool))
        if n < FEWEST + profile.NEIGHBOURS or not points.shape[1]:
            reason = f"{n} rows and {points.shape[1]} columns of numbers that vary: too few"
            yield Undefined(name=name, reason=reason, slice=where)
            return
        chosen = np.arange(n)
        if n > self.samples:
            chosen = np.sort(bench.rng(f"far {where}").choice(n, self.samples, replace=False))
        distance = neighbours.mean_distances(points[chosen], profile.NEIGHBOURS)
        found = profile.far(distance)
        out = np.zeros(n, dtype=bool)
        out[chosen] = distance > found.limit
        hits = int(out.sum())
        findings.append((name, "", out))
        yield Measurement(
            name=name, value=hits / len(chosen), n=len(chosen), interval=wilson(hits, len(chosen)),
            direction="lower", slice=where,
            conditions={"detector": SOURCE, "threshold": profile.FAR, "neighbours": profile.NEIGHBOURS},
        )  # fmt: skip


def _classes(bench: Bench, one: Rows, where: dict[str, str]) -> Iterator[Yielded]:
    """How rare the rarest class is."""
    import numpy as np

    from dlaudit.data_quality import profile

    kinds, n = len(bench.classes), len(one.y)
    if kinds < 2:
        for name in ("rarest_class_share", "rare_classes"):
            yield Undefined(name=name, reason="fewer than two classes", slice=where)
        return
    sizes = np.bincount(one.y, minlength=kinds)
    rarest = int(sizes.argmin())
    yield Measurement(
        name="rarest_class_share", value=sizes[rarest] / n, n=n, direction="higher",
        interval=wilson(int(sizes[rarest]), n, 1 - (1 - LEVEL) / kinds), slice=where,
        conditions={"class": bench.classes[rarest]},
    )  # fmt: skip
    rare = np.flatnonzero(sizes < profile.RARE * n / kinds)
    named = _few([bench.classes[label] for label in rare])
    yield Measurement(
        name="rare_classes", value=len(rare), n=kinds, exact=CENSUS, direction="lower", slice=where,
        conditions={"detector": SOURCE, "threshold": profile.RARE, "classes": named},
    )  # fmt: skip


def _beyond(
    read: Mapping[str, Rows], where: dict[str, str], findings: list[tuple[str, str, np.ndarray]]
) -> Iterator[Yielded]:
    """Test rows outside what training has seen."""
    import numpy as np

    from dlaudit.data_quality import profile

    name = "beyond_training"
    if TRAIN not in read or not read[TEST].values.shape[1]:
        reason = "there is no training split" if TRAIN not in read else "the table has no feature"
        yield Undefined(name=name, reason=reason, slice=where)
        return
    seen, unseen = read[TRAIN].values, read[TEST].values
    low = np.where(np.isfinite(seen), seen, np.inf).min(axis=0)
    high = np.where(np.isfinite(seen), seen, -np.inf).max(axis=0)
    out = profile.outside(unseen, low, high)
    findings += [
        (name, read[TEST].names[place], out[:, place]) for place in np.flatnonzero(out.any(axis=0))
    ]
    hits, n = int(out.any(axis=1).sum()), len(out)
    yield Measurement(
        name=name, value=hits / n, n=n, interval=wilson(hits, n), direction="lower", slice=where
    )


def _evidence(
    bench: Bench, split: str, one: Rows, findings: list[tuple[str, str, np.ndarray]]
) -> Yielded:
    """A line per finding and row: what was found, in which column, in which row."""
    import numpy as np

    hits = [(what, column, np.flatnonzero(rows)) for what, column, rows in findings]
    return bench.keep_table(
        f"{bench.run}.{split}.findings",
        {
            "id": np.concatenate(
                [one.id[rows] for _, _, rows in hits] or [np.array([], dtype=str)]
            ),
            "finding": np.repeat(
                [what for what, _, _ in hits] or [""], [len(r) for *_, r in hits] or [0]
            ),
            "column": np.repeat(
                [name for _, name, _ in hits] or [""], [len(r) for *_, r in hits] or [0]
            ),
        },
        caption=f"Every finding in the {split} split: a line per row that it speaks of.",
    )


def _few(names: list[str]) -> str:
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")

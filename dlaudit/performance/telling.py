"""How one run says its numbers: conditions, randomness, intervals, and what is undefined.

Knows rows to resample; never which metric belongs to which task.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np

from dlaudit.audit.parts import Batch
from dlaudit.audit.record import Interval, Measurement, Scalar, Undefined
from dlaudit.performance.resampling import Statistic, all_or_nothing, over_rows

if TYPE_CHECKING:
    from dlaudit.audit.bench import Bench
    from dlaudit.performance.task import Task

UNEQUAL = "every resample gives the same value: no spread to make an interval of"
NOWHERE = "neither the data nor the model has it anywhere: 0/0"


class Told:
    """One run's way to say numbers: conditions, randomness, intervals."""

    def __init__(self, bench: Bench, check: Task, task: str) -> None:
        """task: a key of ``SHARED``."""
        self.bench, self.check, self.task = bench, check, task
        self.stated: dict[str, Scalar] = {"task": task, "split": check.split}
        self.classes = bench.data.classes or bench.classes

    def batches(self) -> Iterator[Batch]:
        """The split, block by block: what one answer of the model takes in memory stays bounded."""
        return (block.batch for block in self.bench.blocks(self.check.split))

    def undefined(
        self, name: str, why: str, where: dict[str, str] | None = None, **stated: Scalar
    ) -> Undefined:
        """A number that does not exist."""
        return Undefined(
            name=name, reason=why, slice=where or {}, conditions={**self.stated, **stated}
        )

    def measured(
        self,
        name: str,
        value: float,
        interval: Interval | None,
        n: int,
        where: dict[str, str] | None = None,
        *,
        direction: Literal["higher", "lower"] = "higher",
        **stated: Scalar,
    ) -> Measurement | Undefined:
        """A number with its interval; undefined where there is none."""
        if interval is None:
            return self.undefined(name, UNEQUAL, where, **stated)
        return Measurement(
            name=name, value=value, interval=interval, n=n, slice=where or {}, direction=direction,
            conditions={**self.stated, **stated},
        )  # fmt: skip

    def resampled(
        self,
        name: str,
        statistic: Statistic,
        n: int,
        where: dict[str, str] | None = None,
        *,
        counting: int = 0,
        direction: Literal["higher", "lower"] = "higher",
        **stated: Scalar,
    ) -> Measurement | Undefined:
        """A metric of n rows that is no mean of theirs, by resampling rows.

        counting: for a metric that is 1 at best, the rows that count (of the rarest class).
        """
        value = float(statistic(np.ones((1, n)))[0])
        if not np.isfinite(value):
            return self.undefined(name, NOWHERE, where, **stated)
        purpose = "/".join([name, *(where or {}).values(), *map(str, stated.values())])
        interval = all_or_nothing(value, counting) or over_rows(
            statistic, n, self.bench.rng(purpose), resamples=self.check.resamples
        )
        return self.measured(name, value, interval, n, where, direction=direction, **stated)

    def few(self, rows: int) -> str:
        """Why a class is too small, nothing where it is not."""
        if not rows:
            return NOWHERE
        least = self.check.minimum
        return f"{rows} rows have it or are given it, fewer than the minimum of {least}" * (
            rows < least
        )

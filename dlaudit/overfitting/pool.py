"""The samples that further models learn from: both splits together, parts of them, other labels.

Knows batches; refuses to choose by itself: whoever trains says which samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dlaudit.audit.bench import joined, rows
from dlaudit.overfitting.gap import TEST, TRAIN

if TYPE_CHECKING:
    from dlaudit.audit.bench import Bench
    from dlaudit.audit.parts import Batch


def joined_splits(bench: Bench) -> Batch:
    """The training samples and behind them the test samples; ids tell the splits apart."""
    train, test = bench.whole(TRAIN), bench.whole(TEST)

    def named(batch: Batch, split: str) -> Batch:
        return batch._replace(id=np.char.add(f"{split}/", np.asarray(batch.id, dtype=str)))

    return joined(named(train, TRAIN), named(test, TEST))


def part(batch: Batch, chosen: np.ndarray) -> Batch:
    """Some samples, in their stored order. chosen: (n,) bool."""
    return rows(batch, np.flatnonzero(chosen))


def relabelled(batch: Batch, which: np.ndarray, labels: np.ndarray) -> Batch:
    """A copy in which the samples at some positions bear other labels."""
    y = np.array(batch.y, copy=True)
    y[which] = labels
    return batch._replace(y=y)

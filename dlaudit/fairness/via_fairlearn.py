"""The one door to fairlearn: point values of every rate of every group.

Knows fairlearn's traps and keeps them outside: a rate of 0 of 0 is None here, never 0.0 or NaN;
classes are 0 and 1 before they arrive there, whatever the data call them; groups are numbers, so
that none is dropped. Refuses its intervals: its bootstrap of a largest difference cannot hold 0.

The rows that fairlearn sees are the cells of the count table, weighted by their counts. Weighted
rates of cells are the rates of the samples, at a cost that does not grow with the samples.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np

from dlaudit.errors import AuditError
from dlaudit.fairness.rates import RATES, Tally
from dlaudit.fairness.tally import Cells


def rates(
    table: Cells, counts: list[Tally], *, positive: int | None
) -> dict[str, list[float | None]]:
    """Every rate of every group by fairlearn's ``MetricFrame``; None where its denominator is 0.

    counts: the tally of each group, which says what is defined. positive: the class that counts as
    selected; without one only rates that need none are given. Raises AuditError where fairlearn
    refuses the table.
    """
    try:
        frame = _frame(table, positive=positive)
    except (TypeError, ValueError) as error:
        message = (
            f"fairlearn {version('fairlearn')} could not compute the rates of {len(counts)} groups "
            f"over {len(table.samples)} cells: {error}"
        )
        raise AuditError(message) from error
    found: dict[str, list[float | None]] = {}
    for name in frame.columns:
        values = dict(zip(frame.index.tolist(), frame[name].tolist(), strict=True))
        found[name] = [
            float(values[group]) if RATES[name].of(tally).n else None
            for group, tally in enumerate(counts)
        ]
    return found


def _frame(table: Cells, *, positive: int | None) -> Any:
    """The table of rates: one row per group that holds samples, one column per rate."""
    from fairlearn.metrics import MetricFrame

    metrics = _metrics(positive)
    result = MetricFrame(
        metrics=metrics,
        y_true=table.y,
        y_pred=table.predicted,
        sensitive_features=table.group.tolist(),
        sample_params={name: {"sample_weight": table.samples} for name in metrics},
    )
    return result.by_group


def _metrics(positive: int | None) -> dict[str, Callable[..., float]]:
    """The functions behind each rate, with the positive class settled beforehand."""
    from fairlearn import metrics as fairlearn
    from sklearn.metrics import accuracy_score, precision_score

    def accuracy(y_true: Any, y_pred: Any, sample_weight: Any) -> float:
        return float(accuracy_score(y_true, y_pred, sample_weight=sample_weight))

    if positive is None:
        return {"accuracy": accuracy}

    def against_rest(metric: Callable[..., float], **settings: Any) -> Callable[..., float]:
        def measured(y_true: Any, y_pred: Any, sample_weight: Any) -> float:
            is_positive = (np.asarray(y_true) == positive).astype(int)
            selected = (np.asarray(y_pred) == positive).astype(int)
            value = metric(
                is_positive, selected, sample_weight=sample_weight, pos_label=1, **settings
            )
            return float(value)

        return measured

    return {
        "selection_rate": against_rest(fairlearn.selection_rate),
        "true_positive_rate": against_rest(fairlearn.true_positive_rate),
        "false_positive_rate": against_rest(fairlearn.false_positive_rate),
        "false_negative_rate": against_rest(fairlearn.false_negative_rate),
        "precision": against_rest(precision_score, zero_division=np.nan),
        "accuracy": accuracy,
    }

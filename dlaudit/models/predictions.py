"""Decisions that were recorded in a column of the data set, audited without any model.

Knows how to read a column as decisions; never where they came from. There are no logits, no
gradients and nothing to attack: what needs them is skipped, with the reason.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from dlaudit.audit.evidence import digest, fingerprint
from dlaudit.audit.files import refusal
from dlaudit.audit.parts import Batch, Dataset, Decisions, Model
from dlaudit.audit.record import Card, canonical
from dlaudit.datasets.cells import Value, matches, missing, plain
from dlaudit.errors import NotOffered, nearest
from dlaudit.models.declared import checked_classes

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


def load(
    *,
    column: str = "",
    positive: Value | list[Value] | None = None,
    score: str = "",
    threshold: float | None = None,
    classes: list[str] | None = None,
    value: str = "",
) -> Model:
    """Recorded decisions: a column of the data set, without any model.

    column: holds the decisions; positive: its value, or values, that mean class 1 (without it, the
    column holds class names or indices). Or score: a column of numbers, of class 1 where at least
    threshold. Or value: a column of predicted quantities. Raises LoadError.
    """
    if value:
        if column or score or positive is not None or threshold is not None or classes:
            raise refusal(
                None, "value", expected="to stand alone", got="further arguments",
                hint="A predicted quantity has no classes.",
            )  # fmt: skip
        from dlaudit.models.quantities import Recorded

        return Recorded(value)
    if bool(column) == bool(score):
        raise refusal(
            None, "args", expected="either column or score", got="both" if column else "neither",
            hint='For example column = "decision", positive = "yes".',
        )  # fmt: skip
    if score and (threshold is None or not math.isfinite(threshold)):
        raise refusal(
            None, "threshold", expected="a number: class 1 from there on", got=str(threshold)
        )
    if column and threshold is not None:
        raise refusal(
            None, "threshold", expected="to stand with score", got="a column of decisions"
        )
    if score and positive is not None:
        raise refusal(
            None, "positive", expected="to stand with column", got="a score with a threshold"
        )
    values = (
        None if positive is None else tuple(positive if isinstance(positive, list) else [positive])
    )
    if values == ():
        raise refusal(None, "positive", expected="at least one value", got="an empty list")
    return Predictions(
        column or score,
        positive=values,
        threshold=threshold,
        classes=checked_classes(classes or []),
    )


class Predictions(Model):
    """Reads decisions from ``Batch.columns``."""

    def __init__(
        self,
        column: str,
        *,
        positive: tuple[Value, ...] | None = None,
        threshold: float | None = None,
        classes: tuple[str, ...] = (),
    ) -> None:
        """threshold: if given, the column holds scores. positive: the values that mean class 1."""
        self.column = column
        self.positive = positive
        self.threshold = threshold
        self.classes = classes
        self.offers = frozenset({"decisions"})
        rule: dict[str, Any] = {"column": column, "positive": positive, "threshold": threshold}
        self.card = Card(
            name=f"recorded decisions ({column})",
            fingerprint=fingerprint([("decisions", digest(canonical(rule)))]),
            facts={
                "kind": "recorded decisions",
                **{k: v for k, v in rule.items() if v is not None},
            },
        )

    def meet(self, data: Dataset) -> None:
        """Look at the column before anything is measured. Raises LoadError."""
        self.classes = self.classes or data.classes
        binary = self.positive is not None or self.threshold is not None
        if binary and len(data.classes) > 2:
            raise refusal(
                self.card.name, expected="data of two classes, since decisions are yes or no",
                got=f"{len(data.classes)}: {', '.join(data.classes[:6])}",
                hint="Leave positive out if the column holds class names.",
            )  # fmt: skip
        seen = 0
        for split in data.card.splits or ("test",):
            seen += sum(int(self.decide(batch).predicted.sum()) for batch in data.batches(split))
        if self.positive is not None and seen == 0:
            raise refusal(
                None, f"column {self.column!r}: positive",
                expected=f"a value that occurs ({self._examples(data)})",
                got=", ".join(map(repr, self.positive)),
            )  # fmt: skip

    def logits(self, x: Any) -> Tensor:
        """Raise NotOffered: decisions are all there is."""
        del x
        message = f"{self.card.name} gives decisions only, no logits"
        raise NotOffered(message)

    def decide(self, batch: Batch) -> Decisions:
        """The decisions recorded for these samples. Raises LoadError naming the column and the value."""
        import numpy as np

        values = self._values(batch)
        if self.threshold is not None:
            numbers = self._numbers(values)
            return Decisions(predicted=(numbers >= self.threshold).astype(np.int64), score=numbers)
        self._refuse_gaps(values)
        if self.positive is not None:
            return Decisions(predicted=matches(values, self.positive).astype(np.int64))
        return Decisions(predicted=self._indices(values))

    def _values(self, batch: Batch) -> np.ndarray:
        import numpy as np

        if self.column not in batch.columns:
            known = list(batch.columns)
            raise refusal(
                None, f"data: column {self.column!r}", expected="a column of recorded decisions",
                got="none of this name" if known else "data without columns",
                hint=nearest(self.column, known) if known else "A table (csv, parquet) has columns.",
            )  # fmt: skip
        return np.asarray(batch.columns[self.column])

    def _numbers(self, values: np.ndarray) -> np.ndarray:
        import numpy as np

        if values.dtype.kind not in "iufb":
            raise refusal(
                None,
                f"data: column {self.column!r}",
                expected="scores (numbers)",
                got=repr(values[0]),
            )
        numbers = values.astype(np.float64)
        if not np.isfinite(numbers).all():
            raise refusal(
                None, f"data: column {self.column!r}", expected="a score in every row",
                got=f"{int((~np.isfinite(numbers)).sum())} that are missing",
            )  # fmt: skip
        return numbers

    def _refuse_gaps(self, values: np.ndarray) -> None:
        if gaps := sum(missing(value) for value in values.tolist()):
            raise refusal(
                None, f"data: column {self.column!r}", expected="a decision in every row",
                got=f"{gaps} empty cells",
            )  # fmt: skip

    def _indices(self, values: np.ndarray) -> np.ndarray:
        """Class indices from class names, or from numbers that are indices already."""
        import numpy as np

        names = {name: index for index, name in enumerate(self.classes)}
        texts = [plain(value) for value in values.tolist()]
        if unknown := [text for text in texts if text not in names]:
            raise refusal(
                None, f"data: column {self.column!r}", expected=f"one of the classes {self._known()}",
                got=repr(unknown[0]), hint="Say which value means class 1 with positive = ….",
            )  # fmt: skip
        return np.array([names[text] for text in texts], dtype=np.int64)

    def _known(self) -> str:
        return ", ".join(self.classes[:8]) or "(none is declared)"

    def _examples(self, data: Dataset) -> str:
        batch = next(iter(data.batches("test")))
        return ", ".join(sorted({repr(value) for value in self._values(batch).tolist()})[:6])

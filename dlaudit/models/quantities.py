"""Models that predict a quantity, a price or a time: from a function, or recorded in a column.

Knows numbers per sample; refuses classes, and everything that is asked of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from dlaudit.audit.evidence import digest, fingerprint
from dlaudit.audit.files import refusal
from dlaudit.audit.parts import Batch, Dataset, Decisions, Model
from dlaudit.audit.record import Card, canonical
from dlaudit.errors import NonFinite, NotOffered, nearest

if TYPE_CHECKING:
    from torch import Tensor


class Quantity(Model):
    """A model without classes: ``values`` is all that it answers."""

    classes: tuple[str, ...] = ()
    offers = frozenset({"values"})

    def logits(self, x: Any) -> Tensor:
        """Raise NotOffered: there are no classes."""
        del x
        message = f"{self.card.name} predicts a quantity: it has no logits"
        raise NotOffered(message)

    def decide(self, batch: Batch) -> Decisions:
        """Raise NotOffered: nothing is decided."""
        del batch
        message = f"{self.card.name} predicts a quantity: it decides no class"
        raise NotOffered(message)

    def checked(self, values: object, n: int) -> np.ndarray:
        """Values as (n,) float64. Raises LoadError for other shapes, NonFinite for NaN and infinity."""
        numbers = np.asarray(values)
        if numbers.size != n or numbers.dtype.kind not in "iufb":
            raise refusal(
                self.card.name, "output", expected=f"{n} numbers, one per sample",
                got=f"shape {numbers.shape} of {numbers.dtype}",
            )  # fmt: skip
        numbers = numbers.astype(np.float64).reshape(n)
        if not np.isfinite(numbers).all():
            message = f"{self.card.name} gives values that are missing or not finite"
            raise NonFinite(message)
        return numbers


class Recorded(Quantity):
    """Reads predicted quantities from ``Batch.columns``."""

    def __init__(self, column: str) -> None:
        """column: holds a number for every sample."""
        self.column = column
        self.card = Card(
            name=f"recorded predictions ({column})",
            fingerprint=fingerprint([("values", digest(canonical({"column": column})))]),
            facts={"kind": "recorded predictions", "column": column},
        )

    def values(self, batch: Batch) -> np.ndarray:
        """The quantities recorded for these samples. Raises LoadError naming the column."""
        if self.column not in batch.columns:
            raise refusal(
                None, f"data: column {self.column!r}", expected="a column of predicted quantities",
                got="none of this name", hint=nearest(self.column, batch.columns),
            )  # fmt: skip
        return self.checked(batch.columns[self.column], len(batch.y))


class Answering(Quantity):
    """Asks a function from arrays to one number per sample."""

    def __init__(
        self,
        answer: Callable[[np.ndarray], Any],
        *,
        card: Card,
        bounds: tuple[Any, Any] | None = None,
        batch: int = 512,
        met: Callable[[Dataset], None] | None = None,
    ) -> None:
        """answer: (B, *input) array -> (B,) or (B, 1) numbers, or a tensor. met: as of ``BlackBox``."""
        self.card = card
        self.bounds = bounds
        self.batch = batch
        self._answer = answer
        self._met = met

    def meet(self, data: Dataset) -> None:
        """Look at what is known of the data before they are used. Raises LoadError."""
        if self._met is not None:
            self._met(data)

    def values(self, batch: Batch) -> np.ndarray:
        """What the function says of these samples, asked in pieces."""
        pieces = []
        for start in range(0, len(batch.y), self.batch):
            part = np.asarray(batch.x)[start : start + self.batch]
            said = self._answer(part)
            self.passes.forward += len(part)
            pieces.append(
                self.checked(said.detach() if hasattr(said, "detach") else said, len(part))
            )
        return np.concatenate(pieces) if pieces else np.zeros(0)

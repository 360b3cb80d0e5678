"""Asking a model for decisions on inputs of an attacker's own making, and counting the questions.

Knows which models answer at all: recorded decisions belong to their rows, whatever is asked. Never
why somebody asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dlaudit.audit.bench import rows
from dlaudit.audit.parts import Batch, Model

if TYPE_CHECKING:
    from torch import Tensor

AT_ONCE = 4096
"""Questions that are put together at once: enough to fill a core, few enough to lie in memory."""


def answering(offers: frozenset[str]) -> frozenset[str]:
    """A model's offers, with ``queries`` where logits imply it: whoever gives logits is asked anew."""
    return offers | {"queries"} if "logits" in offers else offers


class Questions:
    """A model that says a class and nothing else, asked about changed samples of one batch."""

    def __init__(self, model: Model, batch: Batch) -> None:
        """batch: x (B, *input) and y (B,) as tensors on the model's device."""
        import torch

        self._model = model
        self._batch = batch
        # Of a table's named columns only the logits are told what was changed: see Model.decide.
        self._by_logits = bool(batch.columns) and "logits" in model.offers
        self.spent = torch.zeros(len(batch.y), dtype=torch.int64, device=batch.y.device)

    def decisions(self, at: Tensor, x: Tensor) -> Tensor:
        """The decided class of each input: (M,) int64.

        at: (M,) int64, the sample that each was made from; x: (M, *input).
        """
        import numpy as np
        import torch

        self.spent.index_add_(0, at, torch.ones_like(at))
        if self._by_logits:
            return self._model.logits(x).argmax(dim=1).to(at.device)
        where = at.cpu().numpy()
        plain = self._batch._replace(x=self._batch.y.cpu().numpy(), y=self._batch.y.cpu().numpy())
        asked = rows(plain, where)._replace(x=x.detach().cpu().numpy())
        found = np.asarray(self._model.decide(asked).predicted)
        return torch.from_numpy(found.astype(np.int64)).to(at.device)

    def fooled(self, at: Tensor, x: Tensor) -> Tensor:
        """(M,) bool: decided otherwise than the label of the sample that it was made from."""
        wrong: Tensor = self.decisions(at, x) != self._batch.y[at]
        return wrong

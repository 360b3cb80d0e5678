"""A function from arrays to outputs as a ``Model``: it answers, and shows nothing inside.

Knows batching, passes and the forms of outputs; never which runtime answers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from dlaudit.audit.files import refusal
from dlaudit.audit.parts import Batch, Dataset, Decisions, Model
from dlaudit.audit.record import Card
from dlaudit.errors import LoadError, NonFinite, NotOffered
from dlaudit.models.declared import usable_inputs

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

BATCH = 512


class BlackBox(Model):
    """Decisions and logits out of a function that takes arrays and returns arrays or tensors."""

    def __init__(
        self,
        answer: Callable[[np.ndarray], Any],
        *,
        card: Card,
        bounds: tuple[Any, Any] | None = None,
        classes: tuple[str, ...] = (),
        batch: int = BATCH,
        form: str = "",
        met: Callable[[Dataset], None] | None = None,
    ) -> None:
        """answer: (B, *input) array -> (B, C), (B, 1) or (B,), or a container that ``logits_of`` opens.

        form: ``logits``, ``logit``, ``probabilities``, ``probability`` or ``decisions`` (class indices)
        if it is known beforehand, else read off the first outputs by ``recognise``. met: is shown the data
        before they are used, where the answers depend on what their columns mean.
        """
        self.card = card
        self.bounds = bounds
        self.classes = classes
        self.offers = frozenset({"decisions", "queries" if form == "decisions" else "logits"})
        self.batch = batch
        self._answer = answer
        self._met = met
        self._form = form
        self._accept_nonfinite = False

    def logits(self, x: Any) -> Tensor:
        """See ``Model.logits``."""
        import torch

        from dlaudit.models.torch_model import as_logits

        if self._form == "decisions":
            message = f"{self.card.name} gives class indices, no logits"
            raise NotOffered(message)
        logits = as_logits(self._outputs(x).float(), self._form or "logits")
        if not self._accept_nonfinite and not torch.isfinite(logits).all():
            message = f"the model gave NaN or infinite logits on a batch of {len(logits)}"
            raise NonFinite(message)
        return logits

    def decide(self, batch: Batch) -> Decisions:
        """See ``Model.decide``. Where only class indices are given, there are no logits."""
        if self._form != "decisions":
            return super().decide(batch)
        given = self._outputs(batch.x)
        n = len(batch.y)
        if given.numel() != n or given.is_floating_point() or bool((given < 0).any()):
            raise refusal(
                self.card.name, "output", expected=f"{n} class indices 0, 1, …",
                got=f"shape {tuple(given.shape)} of {given.dtype}",
            )  # fmt: skip
        return Decisions(predicted=given.long().reshape(-1).numpy())

    def recognise(self, x: Any) -> str:
        """Look at some outputs once and fix their form; called when model and data are opened.

        Raises LoadError for shapes that are no answer, and for class indices, which are no logits.
        """
        from dlaudit.models.torch_model import cannot_answer, recognised

        try:
            output = self._outputs(x)
        except LoadError:
            raise
        except Exception as error:
            raise cannot_answer(self.card.name, as_array(x), error) from error
        if not self._form:
            self._form = recognised(output, as_array(x), self.card.name)
            if output.ndim == 1 and not output.is_floating_point():
                raise refusal(
                    self.card.name, "output", expected="logits or probabilities",
                    got=f"whole numbers ({output.dtype})", hint='Class indices? Say output = "decisions".',
                )  # fmt: skip
        return self._form

    def meet(self, data: Dataset) -> None:
        """Look at what is known of the data before they are used. Raises LoadError."""
        usable_inputs(data)
        if self._met is not None:
            self._met(data)

    @contextlib.contextmanager
    def accepting_nonfinite(self, *, accept: bool) -> Iterator[None]:
        """Let NaN logits through while a check runs that looks for them."""
        self._accept_nonfinite = accept
        try:
            yield
        finally:
            self._accept_nonfinite = False

    def _outputs(self, x: Any) -> Tensor:
        """The raw outputs for any number of inputs, in pieces that are halved if memory runs out."""
        import torch

        array = as_array(x)
        pieces: list[Tensor] = []
        start = 0
        while start < len(array) or not pieces:
            part = array[start : start + self.batch]
            try:
                pieces.append(as_tensor(self._answer(part)))
            except MemoryError:
                if self.batch == 1:
                    raise
                self.batch = max(1, min(self.batch, len(part)) // 2)
            else:
                start += len(part) or 1
                self.passes.forward += len(part)
        return torch.cat(pieces) if len(pieces) > 1 else pieces[0]


def as_array(x: Any) -> np.ndarray:
    """An array or tensor as an array on the CPU."""
    import numpy as np

    return np.asarray(x.detach().cpu() if hasattr(x, "detach") else x)


def as_tensor(output: Any) -> Tensor:
    """Whatever a function returned as a tensor on the CPU; containers as in ``logits_of``.

    Raises LoadError for anything that holds no numbers.
    """
    import numpy as np
    import torch

    from dlaudit.models.torch_model import logits_of

    if isinstance(output, tuple) and output:
        return as_tensor(output[0])
    if isinstance(output, dict) and "logits" in output:
        return as_tensor(output["logits"])
    if isinstance(output, np.ndarray | np.generic | list):
        array = np.asarray(output)
        if array.dtype.kind not in "fiub":
            message = f"the model's output: expected numbers, got an array of {array.dtype}"
            raise LoadError(message)
        return torch.from_numpy(np.ascontiguousarray(array))
    return logits_of(output).detach().cpu()

"""An ONNX model with gradients: the runtime answers, and a torch form that agrees with it shows the way.

Knows how far the two agree, measured on the inputs at hand; refuses the torch form where they do not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from dlaudit.errors import NotOffered
from dlaudit.models.black_box import BlackBox, as_array

if TYPE_CHECKING:
    from torch import Tensor

    from dlaudit.models.onnx_module import OnnxModule
    from dlaudit.models.torch_model import LogitsModule, TorchModel

TOLERANCE = 1e-4
"""Of the largest output: two orders above what float32 loses when sums are added in another order."""

ROWS = 4
"""Random inputs on which agreement is looked at before data are there."""


class Agreement(NamedTuple):
    """n: inputs compared; difference: the largest, of any output; scale: the largest output."""

    n: int
    difference: float
    scale: float

    @property
    def holds(self) -> bool:
        """Whether the torch form may stand for the runtime."""
        return self.difference <= TOLERANCE * max(1.0, self.scale)


class OnnxModel(BlackBox):
    """Answers by onnxruntime. With a torch form that agrees, it offers gradients and a module."""

    twin: TorchModel | None = None
    _reason = ""

    def adopt(self, net: OnnxModule | None, reason: str) -> None:
        """Take a torch form, to be compared before it is used; reason: why there is none."""
        self._reason = reason
        if net is not None:
            from dlaudit.models.torch_model import TorchModel

            self.twin = TorchModel(net, device="cpu", batch=self.batch, fingerprint="of the file")
            self.twin.module.passes = self.passes
            shape = net.declared[1:]
            if all(isinstance(size, int) for size in shape):
                low, high = self.bounds or (0.0, 1.0)
                unit = np.random.default_rng(0).random((ROWS + 1, *shape))
                with contextlib.suppress(ValueError):  # bounds per feature of another shape
                    self._compare(
                        (np.asarray(low) + unit * np.subtract(high, low)).astype(np.float32)
                    )
        self._tell()

    def recognise(self, x: Any) -> str:
        """See ``BlackBox.recognise``; the torch form is compared on these inputs, too."""
        form = super().recognise(x)
        if self.twin is not None:
            self._compare(as_array(x))
        if self.twin is not None:
            self.twin.module.output = form
        self._tell()
        return form

    @property
    def module(self) -> LogitsModule | None:
        """The torch form, if it agrees."""
        return self.twin.module if self.twin is not None and "module" in self.offers else None

    def loss_gradient(self, x: Any, y: Any, loss: Any = "cross_entropy") -> Tensor:
        """See ``Model.loss_gradient``: of the torch form."""
        return self.logits_and_gradient(x, y, loss)[1]

    def logits_and_gradient(
        self, x: Any, y: Any, loss: Any = "cross_entropy"
    ) -> tuple[Tensor, Tensor]:
        """See ``Model.logits_and_gradient``: both of the torch form, out of one pass."""
        if self.twin is None or "gradients" not in self.offers:
            message = f"{self.card.name} gives no gradients ({self._reason})"
            raise NotOffered(message)
        return self.twin.logits_and_gradient(x, y, loss)

    @contextlib.contextmanager
    def accepting_nonfinite(self, *, accept: bool) -> Iterator[None]:
        """Let NaN logits through while a check runs that looks for them."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(super().accepting_nonfinite(accept=accept))
            if self.twin is not None:
                stack.enter_context(self.twin.accepting_nonfinite(accept=accept))
            yield

    def _compare(self, x: np.ndarray) -> None:
        """Measure agreement on x (B, *input); give the torch form up where it fails."""
        import torch

        if self.twin is None:
            return
        if x.dtype.kind != "f":
            self._give_up("gradients with respect to whole numbers do not exist")
            return
        net: Any = self.twin.module.net
        before = self.passes.cost
        # What fails when the samples of a fixed batch are given otherwise is given as declared.
        for pieces in dict.fromkeys((0, net.pieces)):
            net.pieces, problem = pieces, ""
            try:
                expected = as_array(self._outputs(x)).astype(np.float64)
                with torch.no_grad():
                    given = as_array(net(torch.from_numpy(x))).astype(np.float64)
                agreement = agreed(expected, given)
            except Exception as error:  # noqa: BLE001  (the runtime answers, whatever the torch form does)
                problem = f"the torch form raised {type(error).__name__}"
                continue
            if agreement is not None and agreement.holds:
                self._agreement = agreement
                self.offers |= {"gradients", "module"}
                break
            problem = (
                "the torch form gives another shape" if agreement is None
                else f"the torch form differs by {agreement.difference:.3g}"
            )  # fmt: skip
        else:
            self._give_up(problem)
        self.passes.forward = before.forward

    def _give_up(self, reason: str) -> None:
        self.twin, self._reason = None, reason
        self.offers -= {"gradients", "module"}

    def _tell(self) -> None:
        """Put into the card's facts whether there are gradients, and why, or why not."""
        facts = dict(self.card.facts)
        agreement = getattr(self, "_agreement", None)
        if self.twin is None:
            facts["gradients"] = f"none: {self._reason}"
        elif agreement is None:
            facts["gradients"] = "from a torch form, to be compared with onnxruntime on the data"
        else:
            facts["gradients"] = "from a torch form that agrees with onnxruntime"
            facts["torch_form"] = {
                "compared_inputs": agreement.n, "largest_difference": agreement.difference,
                "largest_output": agreement.scale, "tolerance": TOLERANCE,
            }  # fmt: skip
        self.card = msgspec.structs.replace(self.card, facts=facts)


def agreed(expected: np.ndarray, given: np.ndarray) -> Agreement | None:
    """How two arrays of outputs (n, …) agree; None where their shapes or their NaN differ."""
    if expected.shape != given.shape or (np.isfinite(expected) != np.isfinite(given)).any():
        return None
    finite = np.isfinite(expected)
    if not finite.any():
        return None
    difference = np.abs(expected[finite] - given[finite])
    return Agreement(len(expected), float(difference.max()), float(np.abs(expected[finite]).max()))

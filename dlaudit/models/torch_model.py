"""The adapter between a torch module and the checks: batching, memory, passes, output forms.

Knows torch; never what the answers are used for. Checks never see a device.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dlaudit.audit.parts import Dataset, Model, Passes
from dlaudit.audit.record import Card
from dlaudit.errors import LoadError, NonFinite, NotOffered
from dlaudit.models.declared import usable_inputs

BATCH = 512
TOLERANCE = 1e-4
NO_CLASSIFIER = (
    ". What segments, detects, generates or gives its input back is no classifier: say task = "
    '"segmentation" or "detection", or audit a number such as its error (callable with output = "values"); '
    "the suites that need classes are then skipped, each with the reason."
)


class LogitsModule(nn.Module):
    """The wrapped net with one form of output: (B, C) finite logits, every pass counted.

    ``net`` is the module as given, so that its layers keep their names. Whoever calls this module,
    foolbox and captum too, is counted.
    """

    def __init__(self, net: nn.Module, passes: Passes) -> None:
        """net: any module whose output ``logits_of`` understands."""
        super().__init__()
        self.net = net
        self.passes = passes
        self.output = "logits"
        self.accept_nonfinite = False
        self.fast = False

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, *input) -> (B, C). Raises NonFinite."""
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self.fast):
            output = logits_of(self.net(x))
        logits = as_logits(output.to(x.dtype) if self.fast else output, self.output)
        n = len(logits)
        self.passes.forward += n
        if not self.accept_nonfinite and not torch.isfinite(logits).all():
            message = f"the model gave NaN or infinite logits on a batch of {n}"
            raise NonFinite(message)
        if logits.requires_grad:
            logits.register_hook(self._count_backward)  # type: ignore[no-untyped-call]
        return logits

    def _count_backward(self, gradient: Tensor) -> None:
        self.passes.backward += len(gradient)


def logits_of(output: Any) -> Tensor:
    """The tensor inside a net's output: itself, a tuple's first, or ``logits`` of a dict or object.

    Raises LoadError for anything else.
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, dict) and "logits" in output:
        return logits_of(output["logits"])
    if isinstance(getattr(output, "logits", None), Tensor):
        return logits_of(output.logits)
    if isinstance(output, tuple | list) and output:
        return logits_of(output[0])
    message = (
        f"the model's output: expected a tensor, a tuple whose first entry is one, or a dict or "
        f"object with 'logits', got {type(output).__name__}"
    )
    raise LoadError(message)


def as_logits(output: Tensor, form: str) -> Tensor:
    """(B, C) logits from an output of a known form.

    A single binary logit z becomes (0, z); probabilities become their logarithms, which leave the
    decision and the cross-entropy unchanged.
    """
    if output.ndim == 1:
        output = output.unsqueeze(1)
    if form in {"probability", "probabilities"}:
        if output.shape[1] == 1:
            output = torch.cat([1 - output, output], dim=1)
        return output.clamp_min(torch.finfo(output.dtype).tiny).log()
    if output.shape[1] == 1:
        return torch.cat([torch.zeros_like(output), output], dim=1)
    return output


def output_form(output: Tensor) -> str:
    """``logits``, ``logit``, ``probabilities`` or ``probability``, read off some outputs.

    Rows that lie in [0, 1] and sum to 1 are probabilities; so is a single output that never leaves
    [0, 1] and is not constant zero.
    """
    if output.ndim == 1 or output.shape[1] == 1:
        inside = bool(((output >= 0) & (output <= 1)).all()) and bool((output != 0).any())
        return "probability" if inside else "logit"
    sums = (output.sum(dim=1) - 1).abs()
    if output.min() >= -TOLERANCE and bool((sums < TOLERANCE).all()):
        return "probabilities"
    return "logits"


def recognised(output: Tensor, x: Any, name: str) -> str:
    """``output_form`` of a model's output, after its shape is checked.

    output: for the inputs x, array or tensor; name: of the model. Raises LoadError unless it is
    (B, C), (B, 1) or (B,).
    """
    if (
        output.ndim not in {1, 2}
        or len(output) != len(x)
        or (output.ndim == 2 and not output.shape[1])
    ):
        message = (
            f"{name}: expected output of shape (B, C) or (B,), one row per input, got "
            f"{tuple(output.shape)} for inputs of shape {tuple(x.shape)}"
        )
        raise LoadError(message + (NO_CLASSIFIER if output.ndim > 2 else ""))
    return output_form(output.float())


def cannot_answer(name: str, x: Any, error: Exception) -> LoadError:
    """The sentence about a model that raises on the data's first rows x, array or tensor."""
    detail = str(error).strip().partition("\n")[0]
    message = (
        f"{name}: expected to answer inputs of shape {tuple(x.shape)} and type "
        f"{str(x.dtype).removeprefix('torch.')}, got {type(error).__name__}: {detail}"
    )
    return LoadError(message)


class TorchModel(Model):
    """Any ``nn.Module`` as a ``Model``. Parameters are frozen and the mode is eval until closed."""

    def __init__(
        self,
        net: nn.Module,
        *,
        name: str | None = None,
        bounds: tuple[Any, Any] | None = None,
        classes: tuple[str, ...] = (),
        fingerprint: str = "",
        facts: dict[str, Any] | None = None,
        device: str | None = None,
        batch: int = BATCH,
    ) -> None:
        """fingerprint: of the files; computed from the parameters if empty. bounds: of the inputs."""
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._was_training = {id(part): part.training for part in net.modules()}
        self._was_trainable = [(p, p.requires_grad) for p in net.parameters()]
        for parameter in net.parameters():
            parameter.requires_grad_(False)
        self._module = LogitsModule(net.to(self.device), self.passes).eval()
        self.bounds = bounds
        self.classes = classes
        self.offers = frozenset({"decisions", "logits", "gradients", "module"})
        self.batch = batch
        described = {
            "kind": type(net).__name__,
            "parameters": sum(p.numel() for p in net.parameters()),
            **(facts or {}),
        }
        self.card = Card(
            name=name or type(net).__name__,
            fingerprint=fingerprint or parameters_digest(net),
            facts=described,
        )

    @property
    def module(self) -> LogitsModule:
        """(B, *input) -> (B, C) logits, counted; ``module.net`` is the module as given."""
        return self._module

    def tensor(self, x: Any) -> Tensor:
        """An array or tensor on the model's device, dtype unchanged."""
        return torch.as_tensor(x).to(self.device)

    def logits(self, x: Any) -> Tensor:
        """See ``Model.logits``."""
        with torch.no_grad():
            return self._in_pieces(lambda part: (self._module(part),), self.tensor(x))[0]

    def loss_gradient(self, x: Any, y: Any, loss: Any = "cross_entropy") -> Tensor:
        """See ``Model.loss_gradient``."""
        return self.logits_and_gradient(x, y, loss)[1]

    def logits_and_gradient(
        self, x: Any, y: Any, loss: Any = "cross_entropy"
    ) -> tuple[Tensor, Tensor]:
        """The logits (B, C) and d loss / dx (like x) out of one forward and one backward pass.

        loss: ``"cross_entropy"`` or (logits (B, C), y (B,)) -> (B,). Only the inputs' gradient is
        computed: the parameters are frozen. Raises NotOffered where there is none.
        """
        objective = _cross_entropy if loss == "cross_entropy" else loss

        def piece(part: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
            part = part.detach().requires_grad_()
            with torch.enable_grad():
                logits = self._module(part)
                if not logits.requires_grad:
                    message = (
                        f"{self.card.name} has no gradient: what lies between its input and its "
                        "output is detached, rounded or an index. attacks.decision and attacks.square "
                        "ask for answers only"
                    )
                    raise NotOffered(message)
                (gradient,) = torch.autograd.grad(objective(logits, label).sum(), part)
            return logits.detach(), gradient

        logits, gradient = self._in_pieces(piece, self.tensor(x), self.tensor(y))
        return logits, gradient

    def _in_pieces(
        self, function: Callable[..., tuple[Tensor, ...]], *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        """Apply a function to slices of the batch and join; halve the slices if memory runs out."""
        n, start = len(tensors[0]), 0
        results: list[tuple[Tensor, ...]] = []
        while start < n or not results:
            stop = min(start + self.batch, n)
            try:
                results.append(function(*(tensor[start:stop] for tensor in tensors)))
            except (MemoryError, RuntimeError) as error:
                if not _out_of_memory(error) or self.batch == 1:
                    raise
                self.batch = max(1, min(self.batch, n) // 2)
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
            else:
                start = stop
        if len(results) == 1:
            return results[0]
        return tuple(torch.cat(parts) for parts in zip(*results, strict=True))

    def recognise(self, x: Any) -> str:
        """Look at some outputs once and fix their form; called when model and data are opened."""
        tensor = self.tensor(x)
        with torch.no_grad():
            try:
                output = self._module.net(tensor)
            except LoadError:
                raise
            except Exception as error:
                raise cannot_answer(self.card.name, tensor, error) from error
        self._module.output = recognised(logits_of(output), tensor, self.card.name)
        return self._module.output

    def meet(self, data: Dataset) -> None:
        """Look at what is known of the data before they are used. Raises LoadError."""
        usable_inputs(data)

    @contextlib.contextmanager
    def accepting_nonfinite(self, *, accept: bool) -> Iterator[None]:
        """Let NaN logits through while a check runs that looks for them."""
        self._module.accept_nonfinite = accept
        try:
            yield
        finally:
            self._module.accept_nonfinite = False

    @contextlib.contextmanager
    def computing_fast(self, fast: bool) -> Iterator[None]:  # noqa: FBT001
        """See ``Model.computing_fast``: torch's own choice of what bfloat16 is safe for."""
        self._module.fast = fast
        try:
            yield
        finally:
            self._module.fast = False

    def close(self) -> None:
        """Give a live module back as it was: training modes and trainable parameters."""
        for part in self._module.net.modules():
            part.training = self._was_training[id(part)]
        for parameter, trainable in self._was_trainable:
            parameter.requires_grad_(trainable)


def structured(model: TorchModel, task: str, *, logits: bool | None = None) -> Model:
    """The same network, on the same device, as a model for the task; itself where there is none.

    logits: whether the scores of labels are logits; told by the first rows where that is not known.
    """
    from dlaudit.models.structured import Structured

    def answer(part: Any) -> Any:
        with torch.no_grad():
            return model.module.net(model.tensor(part))

    if not task:
        return model
    return Structured(
        answer, task, card=model.card, bounds=model.bounds, classes=model.classes, batch=model.batch,
        logits=logits,
    )  # fmt: skip


def _cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(logits, y, reduction="none")


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or (
        "can't allocate memory" in str(error)
    )


def parameters_digest(net: nn.Module) -> str:
    """A fingerprint for a live module: its class and every tensor of its state."""
    from dlaudit.audit.evidence import digest, fingerprint

    state = sorted(net.state_dict().items())
    parts = [("class", digest(type(net).__qualname__.encode()))]
    for name, value in state:
        if isinstance(value, Tensor):
            flat = value.detach().cpu().contiguous()
            parts.append((name, digest(flat.flatten().view(torch.uint8).numpy().tobytes())))
    return fingerprint(parts)

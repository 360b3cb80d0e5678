"""The only door to captum: attribution maps of a model's logits, and captum's known traps handled.

Knows which of captum's methods are right for which question; never what a map is used for. Explains
logits, never probabilities: a saturated softmax has a gradient of exactly 0.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from dlaudit.errors import AuditError

MethodName = Literal["integrated_gradients", "saliency", "input_x_gradient"]


class NotExplained(AuditError):
    """A method does not apply to this model or these inputs."""


class Request(NamedTuple):
    """What is to be explained. x: (B, *input); target: (B,) class indices; baseline: like one input.

    steps: points of the path, where the method follows one; batch: rows per pass through the module.
    """

    module: nn.Module
    x: Tensor
    target: Tensor
    baseline: Tensor
    steps: int
    batch: int


class Method(NamedTuple):
    """A row of the table of methods.

    complete: the attributions of one input sum to f(x) - f(baseline), so steps and baseline matter.
    """

    attribute: Callable[[Request], Tensor]
    complete: bool


def _integrated_gradients(request: Request) -> Tensor:
    """Gradients integrated from the baseline to the input (Sundararajan et al. 2017), Gauss-Legendre."""
    from captum.attr import IntegratedGradients

    # Without internal_batch_size captum would send rows x steps inputs through the net at once.
    return _tensor(
        IntegratedGradients(request.module).attribute(
            request.x, baselines=request.baseline[None], target=request.target,
            n_steps=request.steps, internal_batch_size=max(request.batch, len(request.x)),
        )
    )  # fmt: skip


def _saliency(request: Request) -> Tensor:
    """The gradient itself, with its sign (Simonyan et al. 2014)."""
    from captum.attr import Saliency

    return _tensor(Saliency(request.module).attribute(request.x, target=request.target, abs=False))


def _input_x_gradient(request: Request) -> Tensor:
    """Gradient times input (Shrikumar et al. 2016)."""
    from captum.attr import InputXGradient

    return _tensor(InputXGradient(request.module).attribute(request.x, target=request.target))


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "integrated_gradients": Method(_integrated_gradients, complete=True),
        "saliency": Method(_saliency, complete=False),
        "input_x_gradient": Method(_input_x_gradient, complete=False),
    }
)


def attributions(method: str, request: Request) -> Tensor:
    """Maps like ``request.x``, detached: what each number of the input adds to its target's logit.

    The module is in eval mode meanwhile and gets its own modes back. Rows are sent in portions of at
    most ``request.batch``. Raises NotExplained for inputs that have no gradient (token ids), where
    captum fails, and where a map is not finite.
    """
    if not request.x.is_floating_point():
        message = (
            f"{method}: expected floating-point inputs, got {request.x.dtype}: token ids have no "
            "gradient; their embeddings do"
        )
        raise NotExplained(message)
    how = METHODS[method].attribute
    pieces: list[Tensor] = []
    with evaluating(request.module):
        for start in range(0, len(request.x), request.batch):
            part = slice(start, start + request.batch)
            # Copies: captum wants a leaf and writes into it, and what was made in inference mode
            # takes no part in a gradient.
            x = request.x[part].detach().clone().requires_grad_()
            some = request._replace(
                x=x, target=request.target[part].clone(), baseline=request.baseline.clone()
            )
            try:
                pieces.append(how(some).detach())
            except (AssertionError, RuntimeError) as error:
                message = f"{method}: captum cannot explain this model: {error}"
                raise NotExplained(message) from error
    maps = torch.cat(pieces)
    if not torch.isfinite(maps).all():
        message = f"{method}: expected finite attributions, got NaN or infinity"
        raise NotExplained(message)
    return maps


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode with gradients for a while, whatever the caller's modes are.

    In train mode Integrated Gradients differs between calls and overwrites BatchNorm's statistics;
    inference mode has no gradients; cuDNN refuses backward passes through recurrent layers in eval
    mode, so it is left out where there are some.
    """
    modes = [(part, part.training) for part in module.modules()]
    recurrent = any(isinstance(part, nn.RNNBase) for part in module.modules())
    cudnn = torch.backends.cudnn.flags(enabled=False) if recurrent else contextlib.nullcontext()
    module.eval()
    try:
        with torch.inference_mode(mode=False), torch.enable_grad(), cudnn:
            yield
    finally:
        for part, training in modes:
            part.training = training


def _tensor(maps: Any) -> Tensor:
    """One map per row: captum answers a tuple where it was given one, and it is given a tensor."""
    one: Tensor = maps[0] if isinstance(maps, tuple) else maps
    return one

"""Asks a method for maps: eval mode, gradients, portions of rows, and only finite answers.

Knows what every method needs around it; never how one works.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from dlaudit.audit.parts import Explainer, Request
from dlaudit.errors import NonFinite, NotExplained


def attributions(explainer: Explainer, request: Request) -> Tensor:
    """Maps like ``request.x``, detached: what each number of the input adds to its target's logit.

    The module is in eval mode meanwhile and gets its own modes back. Rows are sent in portions of at
    most ``request.batch``. Raises NotExplained for inputs that have no gradient (token ids), where
    the method fails on this model, and where a map is not finite.
    """
    name = type(explainer).__name__
    if not request.x.is_floating_point():
        message = (
            f"{name}: expected floating-point inputs, got {request.x.dtype}: token ids have no "
            "gradient; their embeddings do"
        )
        raise NotExplained(message)
    pieces: list[Tensor] = []
    with evaluating(request.module):
        for start in range(0, len(request.x), request.batch):
            part = slice(start, start + request.batch)
            # Copies: captum wants a leaf and writes into it, and what was made in inference mode
            # takes no part in a gradient.
            some = request._replace(
                x=request.x[part].detach().clone().requires_grad_(),
                target=request.target[part].clone(),
                baseline=request.baseline[part].clone(),
                references=request.references.clone(),
            )
            try:
                pieces.append(explainer.attribute(some).detach())
            except (NotExplained, NonFinite):
                raise
            except (AssertionError, RuntimeError) as error:
                message = f"{name}: cannot explain this model: {error}"
                raise NotExplained(message) from error
    maps = torch.cat(pieces)
    if maps.shape != request.x.shape:
        message = (
            f"{name}: expected maps of shape {tuple(request.x.shape)}, got {tuple(maps.shape)}"
        )
        raise NotExplained(message)
    if not torch.isfinite(maps).all():
        message = f"{name}: expected finite attributions, got NaN or infinity"
        raise NotExplained(message)
    return maps


@contextlib.contextmanager
def evaluating(module: nn.Module | None) -> Iterator[None]:
    """Eval mode with gradients for a while, whatever the caller's modes are.

    In train mode Integrated Gradients differs between calls and overwrites BatchNorm's statistics;
    inference mode has no gradients; cuDNN refuses backward passes through recurrent layers in eval
    mode, so it is left out where there are some.
    """
    parts = () if module is None else tuple(module.modules())
    modes = [(part, part.training) for part in parts]
    recurrent = any(isinstance(part, nn.RNNBase) for part in parts)
    cudnn = torch.backends.cudnn.flags(enabled=False) if recurrent else contextlib.nullcontext()
    for part in parts[:1]:
        part.eval()
    try:
        with torch.inference_mode(mode=False), torch.enable_grad(), cudnn:
            yield
    finally:
        for part, training in modes:
            part.training = training

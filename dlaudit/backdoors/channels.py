"""Channels of a network that react more strongly than the others of their layer, read off the weights.

Knows layers, their batch normalisation and the rows of the last layer; never what a channel means, and
accuses nobody. After CLP (Zheng et al., ECCV 2022), whose pairing of layers by their order is not taken
over: a normalisation belongs to the layer whose output it is given.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

LINEAR = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
DEVIATIONS = 3.0
"""u of CLP: a channel stands out above the layer's mean plus so many standard deviations."""


class Layer(NamedTuple):
    """A layer whose output is normalised. strength: (channels,), how much one can grow what it is given."""

    name: str
    strength: np.ndarray


def normalised(module: nn.Module, x: Tensor) -> list[Layer]:
    """Every convolution or linear layer whose very output a batch normalisation is given.

    x: some inputs, for one pass. Scripted modules take no hooks: none are found there.
    """
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        return []
    made: list[tuple[str, nn.Module, Any]] = []
    found: dict[str, Layer] = {}

    def after(name: str) -> Any:
        def hook(layer: nn.Module, _: Any, output: Any) -> None:
            made.append((name, layer, output))

        return hook

    def before(norm: nn.Module, inputs: Any) -> None:
        for name, layer, output in reversed(made):
            if inputs and output is inputs[0]:
                found[name] = Layer(name, strengths(layer.weight, norm))
                return

    hooks = [
        part.register_forward_hook(after(name))
        for name, part in module.named_modules() if isinstance(part, LINEAR)
    ]  # fmt: skip
    hooks += [
        part.register_forward_pre_hook(before)
        for part in module.modules() if isinstance(part, NORMS) and part.running_var is not None
    ]  # fmt: skip
    try:
        with torch.no_grad():
            module(x)
    finally:
        for hook in hooks:
            hook.remove()
    return list(found.values())


def strengths(weight: Tensor, norm: Any) -> np.ndarray:
    """(channels,): sigma_1(W_c) |gamma_c| / sqrt(v_c + eps), an upper bound on each channel's gain.

    weight: (channels, inputs, *kernel), of which W_c is (inputs, the kernel flattened).
    """
    flat = (
        weight.detach().double().flatten(2)
        if weight.ndim > 2
        else weight.detach().double()[:, None]
    )
    sigma = torch.linalg.matrix_norm(flat, ord=2)
    variance: Tensor = norm.running_var
    scale: Tensor = torch.ones_like(variance) if norm.weight is None else norm.weight.detach()
    found = sigma * scale.double().abs() / (variance.double() + norm.eps).sqrt()
    return np.asarray(found.cpu().numpy())


def standing_out(strength: np.ndarray) -> np.ndarray:
    """(channels,) bool: above the layer's mean plus three standard deviations."""
    above: np.ndarray = strength > strength.mean() + DEVIATIONS * strength.std()
    return above


def row_norms(weight: Tensor) -> np.ndarray:
    """(classes,): the Euclidean norm of each row of the last layer, (classes, features)."""
    return np.asarray(weight.detach().double().norm(dim=1).cpu().numpy())

"""What a network computes just before its decision, for any torch module, by a forward hook.

Knows where the last layer with weights is; never what features mean. Where no module can be opened,
the logits are the features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlaudit.audit.parts import Model

if TYPE_CHECKING:
    from torch import Tensor, nn

PIECE = 512


def last_layer(module: nn.Module, x: Tensor) -> nn.Module | None:
    """The layer with weights that is called last: its input is the penultimate representation.

    x: some inputs, for one pass. None where no layer below the module itself has weights, and for
    TorchScript, whose layers take no hooks.
    """
    import torch

    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        return None

    called: list[nn.Module] = []

    def seen(layer: nn.Module, inputs: Any) -> None:
        if inputs and isinstance(inputs[0], torch.Tensor) and inputs[0].is_floating_point():
            called.append(layer)

    leaves = [
        part for part in module.modules()
        if not list(part.children()) and list(part.parameters(recurse=False))
    ]  # fmt: skip
    hooks = [leaf.register_forward_pre_hook(seen) for leaf in leaves]
    try:
        with torch.no_grad():
            module(x)
    finally:
        for hook in hooks:
            hook.remove()
    return called[-1] if called else None


def penultimate(model: Model, x: Any) -> tuple[np.ndarray, str]:
    """(n, d) float32 features of the rows of x, and in words what they are.

    Feature maps are averaged over their places. One pass a row. Raises NotOffered where the model
    gives decisions only.
    """
    import torch

    module = model.module
    rows = torch.as_tensor(np.asarray(x)).to(model.device)
    layer = None if module is None else last_layer(module, rows[:1])
    if layer is None:
        pieces = [model.logits(part).float().cpu().numpy() for part in torch.split(rows, PIECE)]
        return np.concatenate(pieces), "logits"
    kept: list[Tensor] = []

    def keep(_: nn.Module, inputs: Any) -> None:
        value = inputs[0].detach()
        kept.append(value.flatten(2).mean(dim=2) if value.ndim > 2 else value)

    hook = layer.register_forward_pre_hook(keep)
    found = []
    try:
        for part in torch.split(rows, PIECE):
            kept.clear()
            model.logits(part)
            found.append(torch.cat(kept)[: len(part)].float().cpu().numpy())
    finally:
        hook.remove()
    return np.concatenate(found), f"input of the last {type(layer).__name__} layer"

"""Which non-linear operations a net performs, inside modules and outside; for methods that swap rules.

Knows autograd's graph and modules; never a method's formula. Guided Backprop, DeepLift and LRP see
modules only: a ``relu`` called as a function is passed over in silence, and the map is another
method's. So what the graph performs is compared with what modules performed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

OPERATIONS: dict[str, tuple[type[nn.Module], ...]] = {
    "relu": (nn.ReLU,),
    "relu6": (nn.ReLU6,),
    "leaky_relu": (nn.LeakyReLU,),
    "elu": (nn.ELU, nn.SELU, nn.CELU),
    "sigmoid": (nn.Sigmoid,),
    "tanh": (nn.Tanh,),
    "softplus": (nn.Softplus,),
    "softmax": (nn.Softmax,),
    "gelu": (nn.GELU,),
    "silu": (nn.SiLU,),
    "hardswish": (nn.Hardswish,),
    "max_pool": (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    "layer_norm": (nn.LayerNorm,),
    "attention": (nn.MultiheadAttention,),
}
"""A non-linear operation by name, and the modules that perform it."""
NODES = {
    "Relu": "relu", "Hardtanh": "relu6", "LeakyRelu": "leaky_relu", "Elu": "elu",
    "Sigmoid": "sigmoid", "Tanh": "tanh", "Softplus": "softplus", "Softmax": "softmax",
    "Gelu": "gelu", "Silu": "silu", "Hardswish": "hardswish", "NativeLayerNorm": "layer_norm",
    "Bmm": "attention", "ScaledDotProduct": "attention",
    "MaxPool1D": "max_pool", "MaxPool2D": "max_pool", "MaxPool3D": "max_pool",
    "ClampMin": "relu", "Clamp": "relu6", "Threshold": "relu",
}  # fmt: skip
"""How autograd calls them, without the suffix ``Backward0``."""


class Performed(NamedTuple):
    """What one pass performed, counted by operation: in the graph, and by modules.

    reused: names of non-linear modules called more than once.
    """

    graph: Counter[str]
    modules: Counter[str]
    reused: tuple[str, ...]

    def outside(self, names: set[str]) -> list[str]:
        """The operations among ``names`` that were performed by no module."""
        return sorted(name for name in names if self.graph.get(name, 0) > self.modules.get(name, 0))


def performed(answer: Callable[[Tensor], Tensor], module: nn.Module, x: Tensor) -> Performed:
    """One forward pass of one row, looked at. x: (B, *input), B >= 1."""
    kinds = {kind: name for name, of in OPERATIONS.items() for kind in of}
    calls: Counter[str] = Counter()
    modules: Counter[str] = Counter()
    hooks = []
    for path, part in module.named_modules():
        name = kinds.get(type(part))
        if name is not None:

            def seen(*_: Any, path: str = path, name: str = name) -> None:
                calls[path] += 1
                modules[name] += 1

            hooks.append(part.register_forward_hook(seen))
    try:
        with torch.enable_grad():
            logits = answer(x[:1].detach().clone().requires_grad_())
    finally:
        for hook in hooks:
            hook.remove()
    reused = tuple(path for path, times in calls.items() if times > 1)
    return Performed(operations(logits), modules, reused)


def operations(output: Tensor) -> Counter[str]:
    """Every non-linear operation in a tensor's graph, counted."""
    found: Counter[str] = Counter()
    waiting, seen = [output.grad_fn], set[Any]()
    while waiting:
        node = waiting.pop()
        if node in seen or node is None:
            continue
        seen.add(node)
        found.update(_named(type(node).__name__))
        waiting += [following for following, _ in node.next_functions]
    return found


def _named(node: str) -> list[str]:
    """The operation behind ``ReluBackward0`` or ``MaxPool2DWithIndicesBackward0``, if non-linear."""
    kind = re.sub(r"Backward\w*$", "", node)
    if kind in NODES:
        return [NODES[kind]]
    return [name for start, name in NODES.items() if kind.startswith(start) and len(start) > 8]

"""A torch module that computes what an ONNX graph computes, so that gradients can be had.

Knows how nodes hang together; operators stand in ``onnx_operators``. Whether it does compute the same
is measured by whoever uses it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from dlaudit.models.onnx_call import Call
from dlaudit.models.onnx_graph import Graph, Node, Untranslatable
from dlaudit.models.onnx_operators import OPERATORS


class Operator(nn.Module):
    """One node: a part of the net that can be hooked, with the weights that it alone uses."""

    def __init__(self, node: Node, opset: int) -> None:
        """Raise Untranslatable for an operator that has no torch form here."""
        super().__init__()
        if node.op not in OPERATORS:
            what = f"the operator {node.op}"
            raise Untranslatable(what)
        self.node, self.opset = node, opset
        self._apply_to = OPERATORS[node.op]

    def forward(self, *inputs: Tensor | None) -> Any:
        """Inputs in the node's order -> its output, or a tuple of them."""
        call = Call(list(inputs), self.node.attributes, self.opset, len(self.node.outputs))
        return self._apply_to(call)

    def extra_repr(self) -> str:
        """The operator's name, in prints of the net."""
        return self.node.op


class OnnxModule(nn.Module):
    """x (B, *input) -> the graph's output. Constants of numbers are frozen parameters, others buffers."""

    def __init__(
        self, graph: Graph, *, source: str, output: str, dtype: str, declared: list[Any]
    ) -> None:
        """source, output: names in the graph; dtype: of its input; declared: its shape, ``"any"`` if free.

        Raises Untranslatable for an operator that has no torch form here.
        """
        super().__init__()
        self.source, self.output, self.declared = source, output, declared
        self.dtype = getattr(torch, dtype)
        self.pieces = declared[0] if isinstance(declared[0], int) else 0
        """Samples that must be given at a time; 0 if any number may be."""
        self.operators = nn.ModuleList(
            Operator(node, graph.opset) for node in _needed(graph.nodes, output)
        )
        used = {name for node in self.operators for name in node.node.inputs}  # type: ignore[union-attr]
        self._names: dict[str, str] = {}
        for number, (name, array) in enumerate(graph.constants.items()):
            if name not in used:
                continue
            self._names[name] = f"constant_{number}"
            tensor = torch.from_numpy(array)
            if tensor.is_floating_point():
                self.register_parameter(
                    self._names[name], nn.Parameter(tensor, requires_grad=False)
                )
            else:
                self.register_buffer(self._names[name], tensor)

    def forward(self, x: Tensor) -> Tensor:
        """See the class. A graph of a fixed batch is given so many at a time, filled up with zeros."""
        x = self._fitted(x)
        if not self.pieces:
            return self._computed(x)
        results = []
        for part in torch.functional.split(x, self.pieces):
            short = self.pieces - len(part)
            whole = torch.cat([part, part.new_zeros(short, *part.shape[1:])]) if short else part
            results.append(self._computed(whole)[: len(part)])
        return torch.cat(results)

    def _fitted(self, x: Tensor) -> Tensor:
        expected = self.declared[1:]
        known = all(isinstance(size, int) for size in expected)
        if (
            known
            and list(x.shape[1:]) != expected
            and math.prod(x.shape[1:]) == math.prod(expected)
        ):
            x = x.reshape(len(x), *expected)
        return x.to(self.dtype)

    def _computed(self, x: Tensor) -> Tensor:
        values: dict[str, Tensor | None] = {"": None, self.source: x}
        for name, held in self._names.items():
            values.setdefault(name, getattr(self, held))
        for operator in self.operators:
            node: Node = operator.node  # type: ignore[assignment]
            outputs = operator(*(values[name] for name in node.inputs))
            if isinstance(outputs, Tensor):
                outputs = (outputs,)
            values.update(zip(node.outputs, outputs, strict=False))
        result = values[self.output]
        assert result is not None  # noqa: S101  (its node was computed)
        return result


def _needed(nodes: tuple[Node, ...], output: str) -> list[Node]:
    """The nodes that an output depends on, in the order of computation."""
    wanted, kept = {output}, []
    for node in reversed(nodes):
        if wanted & set(node.outputs):
            kept.append(node)
            wanted |= set(node.inputs)
    return kept[::-1]

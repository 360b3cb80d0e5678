"""An exported program as a module that takes any number of samples.

Knows torch and the shapes that a program declares; never files.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dlaudit.audit.files import refusal
from dlaudit.errors import LoadError
from dlaudit.models.torch_model import logits_of

Shape = tuple[int | None, ...]


class Exported(nn.Module):
    """A program's module; a fixed number of samples is met by splitting and filling up."""

    def __init__(self, program: nn.Module, shape: Shape) -> None:
        """shape: of the program's input, None where any size goes."""
        super().__init__()
        self.program = program
        self.shape = shape

    def train(self, mode: bool = True) -> Exported:  # noqa: FBT001, FBT002  (as in nn.Module)
        """Change nothing: a program keeps the mode that it was exported in."""
        del mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, *input) -> the program's outputs. Raises LoadError for inputs of another shape."""
        expected = self.shape[1:]
        if len(expected) != x.ndim - 1 or any(
            size not in {None, given} for size, given in zip(expected, x.shape[1:], strict=True)
        ):
            message = (
                f"the program expects inputs of shape {tuple(expected)}, got {tuple(x.shape[1:])}"
            )
            raise LoadError(message)
        fixed = self.shape[0]
        if fixed is None:
            return logits_of(self.program(x))
        pieces = []
        for part in torch.split(x, fixed):
            empty = x.new_zeros(fixed - len(part), *x.shape[1:])
            pieces.append(logits_of(self.program(torch.cat([part, empty])))[: len(part)])
        return torch.cat(pieces)


def input_shape(program: torch.export.ExportedProgram, place: object) -> Shape:
    """The shape of the program's one input, None where any size goes. Raises LoadError."""
    names = program.graph_signature.user_inputs
    if len(names) != 1:
        raise refusal(
            place, expected="a program with one input", got=f"{len(names)}: {', '.join(map(str, names))}",
            hint="Export a module whose forward takes the batch alone.",
        )  # fmt: skip
    value: Any = next(
        (node.meta.get("val") for node in program.graph.nodes if node.name == names[0]), None
    )
    if not isinstance(value, Tensor) or value.ndim == 0:
        got = f"a {type(value).__name__}" if not isinstance(value, Tensor) else "a scalar"
        raise refusal(place, "input", expected="a tensor with one row per sample", got=got)
    return tuple(size if isinstance(size, int) else None for size in value.shape)

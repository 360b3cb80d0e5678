"""What an operator of ONNX is called with: its tensors and attributes; knows no operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from dlaudit.models.onnx_graph import Untranslatable

if TYPE_CHECKING:
    from torch import Tensor


class Call(NamedTuple):
    """What an operator is given. inputs: None where an optional one is left out."""

    inputs: list[Tensor | None]
    attributes: dict[str, Any]
    opset: int
    outputs: int

    def tensor(self, number: int) -> Tensor:
        """A required input."""
        found = self.optional(number)
        if found is None:
            what = f"an operator without its input {number}"
            raise Untranslatable(what)
        return found

    def optional(self, number: int) -> Tensor | None:
        """An input that may be missing."""
        return self.inputs[number] if number < len(self.inputs) else None

    def get(self, name: str, default: Any) -> Any:
        """An attribute."""
        return self.attributes.get(name, default)

    def numbers(self, name: str, number: int) -> list[int] | None:
        """Whole numbers that older versions take as an attribute and newer ones as an input."""
        if name in self.attributes:
            return list(self.attributes[name])
        given = self.optional(number)
        return None if given is None else [int(one) for one in given.reshape(-1).tolist()]

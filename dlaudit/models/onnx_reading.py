"""Reads which files and operators an ONNX model refers to, from its bytes alone.

Knows the wire format of protocol buffers and the few field numbers of ONNX that matter here; never
what an operator computes. (Field numbers: onnx/onnx.proto3, IR version 10.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
DEEP = 64
"""Levels of nested graphs that are followed."""

# Message -> {field number: message that stands there}. What is not named is skipped.
NESTED = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {},
}
NAMES = {("node", 7), ("entry", 1), ("entry", 2)}
"""Text that is kept: a node's domain, and key and value of a tensor's external data."""


class References(NamedTuple):
    """locations: files beside the model, as written; domains: whose operators it uses."""

    locations: tuple[str, ...]
    domains: tuple[str, ...]


def references(content: memoryview) -> References:
    """What a model refers to. Raises ValueError where the bytes are no ONNX model."""
    locations: dict[str, None] = {}
    domains: dict[str, None] = {}
    graphs = 0
    stack = [("model", content, 0)]
    while stack:
        message, view, depth = stack.pop()
        if depth > DEEP:
            error = f"graphs are nested more than {DEEP} deep"
            raise ValueError(error)
        pair: dict[int, str] = {}
        for number, kind, value in fields(view):
            if kind != BYTES or not isinstance(value, memoryview):
                continue
            if (message, number) in NAMES:
                pair[number] = bytes(value).decode("utf-8")
            elif (inner := NESTED[message].get(number)) is not None:
                graphs += inner == "graph"
                stack.append((inner, value, depth + 1))
        if message == "entry" and pair.get(1) == "location":
            locations[pair.get(2, "")] = None
        elif message == "node" and pair.get(7):
            domains[pair[7]] = None
    if not graphs:
        error = "there is no graph in it"
        raise ValueError(error)
    return References(tuple(sorted(locations)), tuple(sorted(domains)))


def fields(view: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """(field number, wire type, value) of one message. Raises ValueError where it is cut off."""
    position, end = 0, len(view)
    while position < end:
        key, position = _varint(view, position)
        number, kind = key >> 3, key & 7
        if number == 0:
            error = f"field number 0 at byte {position}"
            raise ValueError(error)
        value: int | memoryview
        if kind == VARINT:
            value, position = _varint(view, position)
        elif kind in {BYTES, FIXED64, FIXED32}:
            length = {FIXED64: 8, FIXED32: 4}.get(kind)
            if length is None:
                length, position = _varint(view, position)
            if position + length > end:
                error = (
                    f"cut off: {length} bytes announced at byte {position}, {end - position} left"
                )
                raise ValueError(error)
            value = view[position : position + length]
            position += length
        else:
            error = f"wire type {kind} at byte {position}"
            raise ValueError(error)
        yield number, kind, value


def _varint(view: memoryview, position: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    number = shift = 0
    while position < len(view) and shift < 70:
        byte = view[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return number, position
        shift += 7
    error = f"a number without an end at byte {position}"
    raise ValueError(error)

"""Reads an ONNX model's nodes and constants out of its bytes.

Knows the messages of ONNX as far as a graph of tensors needs them; never what an operator computes.
(Field numbers: onnx/onnx.proto3, IR version 10.)
"""

from __future__ import annotations

import struct
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dlaudit.models.onnx_reading import fields

TYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64",
}  # fmt: skip
"""Types of tensors by number; text, complex numbers and the small types of quantised nets are not read."""

SIGN = 1 << 63
Message = dict[int, list[Any]]


class Untranslatable(Exception):
    """The graph holds something that has no torch form here; the message says what."""


class Node(NamedTuple):
    """One operator. inputs: names, empty where an optional one is left out."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


class Graph(NamedTuple):
    """nodes in the order of computation; constants by name; opset: version of the operators."""

    nodes: tuple[Node, ...]
    constants: dict[str, np.ndarray]
    opset: int


def graph_of(content: memoryview, folder: Path) -> Graph:
    """The graph in a model's bytes. folder: where external data lie, which were checked before.

    Raises Untranslatable for what this reader does not know, ValueError for bytes that are no model.
    """
    model = _message(content)
    opset = 0
    for one in model[8]:
        version = _message(one)
        if _text(version, 1) in {"", "ai.onnx"}:
            opset = int(version[2][0]) if version[2] else 1
    if len(model[7]) != 1 or model[25]:
        what = "functions of its own" if model[25] else "no single graph"
        raise Untranslatable(what)
    graph = _message(model[7][0])
    if graph[15]:
        what = "sparse constants"
        raise Untranslatable(what)
    constants = {}
    for one in graph[5]:
        tensor = _message(one)
        constants[_text(tensor, 8)] = _array(tensor, folder)
    return Graph(tuple(_node(one, folder) for one in graph[1]), constants, opset)


def _message(view: memoryview) -> Message:
    """Every field of a message, by number, in order."""
    found: Message = defaultdict(list)
    for number, _, value in fields(view):
        found[number].append(value)
    return found


def _text(message: Message, number: int) -> str:
    return bytes(message[number][-1]).decode("utf-8") if message[number] else ""


def _signed(value: int) -> int:
    return value - 2 * SIGN if value >= SIGN else value


def _numbers(message: Message, number: int, kind: str) -> list[Any]:
    """A repeated field of numbers, packed or not. kind: a code of ``struct``, or ``v`` for varints."""
    found: list[Any] = []
    for value in message[number]:
        if isinstance(value, int):
            found.append(_signed(value))
        elif kind == "v":
            found += [_signed(one) for one in _varints(value)]
        else:
            found += [one for (one,) in struct.iter_unpack(f"<{kind}", value)]
    return found


def _varints(view: memoryview) -> list[int]:
    numbers, number, shift = [], 0, 0
    for byte in view:
        number |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            numbers.append(number)
            number = shift = 0
    if shift:
        message = "a number without an end"
        raise ValueError(message)
    return numbers


def _node(view: memoryview, folder: Path) -> Node:
    message = _message(view)
    op, domain = _text(message, 4), _text(message, 7)
    if domain not in {"", "ai.onnx"}:
        what = f"the operator {domain}.{op}"
        raise Untranslatable(what)
    return Node(
        op,
        tuple(bytes(one).decode("utf-8") for one in message[1]),
        tuple(bytes(one).decode("utf-8") for one in message[2]),
        dict(_attribute(one, folder, op) for one in message[5]),
    )


def _attribute(view: memoryview, folder: Path, op: str) -> tuple[str, Any]:
    message = _message(view)
    name, kind = _text(message, 1), (message[20] or [0])[-1]
    if kind == 1:
        return name, struct.unpack("<f", message[2][-1])[0] if message[2] else 0.0
    if kind == 2:
        return name, _signed(message[3][-1]) if message[3] else 0
    if kind == 3:
        return name, _text(message, 4)
    if kind == 4 and message[5]:
        return name, _array(_message(message[5][-1]), folder)
    if kind == 6:
        return name, _numbers(message, 7, "f")
    if kind == 7:
        return name, _numbers(message, 8, "v")
    what = f"the attribute {name} of {op}"
    raise Untranslatable(what)


def _array(tensor: Message, folder: Path) -> np.ndarray:
    """A tensor's numbers, wherever they lie."""
    number = (tensor[2] or [0])[-1]
    if number not in TYPES:
        what = f"constants of the type number {number}"
        raise Untranslatable(what)
    kind, shape = np.dtype(TYPES[number]), _numbers(tensor, 1, "v")
    if tensor[13]:
        raw = _external(tensor, folder)
        flat = np.frombuffer(raw, dtype=kind)
    elif tensor[9]:
        flat = np.frombuffer(tensor[9][-1], dtype=kind)
    elif kind == np.float16:  # its bits lie in numbers of 32
        flat = np.array(_numbers(tensor, 5, "v"), dtype=np.uint16).view(np.float16)
    else:
        place = {1: (4, "f"), 11: (10, "d"), 7: (7, "v"), 12: (11, "v"), 13: (11, "v")}
        field, code = place.get(number, (5, "v"))
        flat = np.array(_numbers(tensor, field, code)).astype(kind)
    return flat.reshape(shape).copy()


def _external(tensor: Message, folder: Path) -> bytes:
    entries = {}
    for one in tensor[13]:
        entry = _message(one)
        entries[_text(entry, 1)] = _text(entry, 2)
    with (folder / entries["location"]).open("rb") as file:
        file.seek(int(entries.get("offset", 0)))
        return file.read(int(entries["length"])) if "length" in entries else file.read()

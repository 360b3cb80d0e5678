"""Tells which loader reads a model file, by its name and its first bytes.

Knows suffixes and kinds of files; loads and imports nothing.
"""

from __future__ import annotations

import ast
from pathlib import Path

from dlaudit.audit.files import named_file, refusal
from dlaudit.models import airlock

ACCEPTED = (
    "net.py:factory with weights (.safetensors, or a state dict .pt), TorchScript (.pt), torch.export "
    "(.pt2), ONNX (.onnx), skops (.skops), XGBoost (.json, .ubj), LightGBM (.txt), CatBoost (.cbm), a "
    "folder saved by Hugging Face's transformers, f.py:function"
)


def infer(path: Path) -> str:
    """The name of the loader for a model file, for its weights, or for ``file.py:function``.

    A function that needs exactly one argument, other than ``weights``, is a ``callable``; any other
    is a factory of a torch module. Raises LoadError naming what is accepted.
    """
    file, colon, name = str(path).rpartition(":")
    if colon and file.endswith(".py"):
        return _of_code(named_file(Path(), file, expected="a Python file"), name)
    if (path / "config.json").is_file():
        return "huggingface"
    found = named_file(Path(), str(path), expected="a model file")
    if found.suffix == ".py":
        raise refusal(
            found,
            expected="a function in this file",
            got="the file alone",
            hint=f"Write {found}:factory.",
        )
    kind = airlock.kind_of(found)
    if loader := airlock.READ_BY.get(kind):
        return loader
    if found.suffix == ".onnx" and kind == "unknown":
        return "onnx"
    if kind == "unknown" and (trees := _trees(found)):
        return trees
    hint = ""
    if kind == "pickle":
        hint = "A pickle runs code when it is read: save it with torch.save(net.state_dict(), …) or skops."
    raise refusal(found, expected=ACCEPTED, got=f"a file of the kind: {kind}", hint=hint)


def _trees(file: Path) -> str:
    """The library that saved boosted trees, by how their files begin."""
    with file.open("rb") as opened:
        start = opened.read(256)
    if start.startswith(b"tree\n"):
        return "lightgbm"
    return "xgboost" if start.startswith(b"{") and b"learner" in start else ""


def _of_code(file: Path, name: str) -> str:
    """``torch`` or ``callable``, from the source alone."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError) as error:
        raise refusal(file, expected="Python", got=f"a syntax error ({error})") from error
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            arguments = [*node.args.posonlyargs, *node.args.args]
            required = arguments[: len(arguments) - len(node.args.defaults)]
            if len(required) == 1 and required[0].arg != "weights":
                return "callable"
    return "torch"

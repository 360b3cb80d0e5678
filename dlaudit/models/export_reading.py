"""Reads what a ``torch.export`` archive or TorchScript would have torch do, as text.

Knows which of their strings torch turns into code: operator targets are looked up by attribute
(``torch.os.system`` is found that way), symbolic sizes go through ``sympify`` (which evaluates
them), guards and names of inputs are pasted into Python source. Everything outside a narrow form is
named. Refuses to know what the operators compute.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import IO, Any

from dlaudit.audit.files import refusal

LIMIT = 256 * 1024 * 1024
"""Bytes of JSON that are read."""

NAMESPACES = "aten|prims?|quantized|quantized_decomposed|torchvision"
OPERATOR = re.compile(rf"torch\.ops\.(?:{NAMESPACES})\.(?!__(?:class|dict|init))\w+\.(?!_)\w+\Z")
SIZES = (
    "eq ne le ge lt gt neg pos mul add sub floordiv mod pow truediv and_ or_ lshift rshift getitem"
)
SYMBOLIC = (
    frozenset(f"_operator.{name}" for name in SIZES.split())
    | frozenset(
        f"torch.sym_{name}" for name in ("not", "int", "float", "ite", "max", "min", "sqrt", "sum")
    )
    | {"torch._sym_sqrt", "math.trunc", "math.ceil", "math.floor", "math.sqrt"}
)
"""Operators on sizes, which are plain numbers."""

CONTROL = frozenset(
    f"torch.ops.higher_order.{name}"
    for name in ("cond", "while_loop", "scan", "associative_scan", "map_impl", "invoke_subgraph",
                 "wrap_with_set_grad_enabled", "wrap_with_autocast")
)  # fmt: skip
TOUCHES_FILES = ("from_file", "torch.save", "aten.save", "aten::save")
"""Names of operators that read or write files rather than tensors."""

NAME = re.compile(r"(?!\d)[\w.]*\Z")
PLAIN = re.compile(r"[\w.\-+:/ ]*\Z")
TREES = frozenset({None, "null", "builtins.tuple", "builtins.list", "builtins.dict",
                   "collections.OrderedDict", "torch.Size", "builtins.slice"})  # fmt: skip
CALLED = (
    "Mod PythonMod FloorDiv CeilDiv CleanDiv IntTrueDiv FloatTrueDiv ModularIndexing Where Max Min Eq Ne "
    "Ge Le Gt Lt And Or Not Abs Pow PowByNatural FloatPow TruncToInt TruncToFloat RoundToInt CeilToInt "
    "FloorToInt ToFloat LShift RShift Identity Add Mul Integer Rational ceiling floor sqrt abs min max"
)
FUNCTIONS = frozenset(CALLED.split())
NAMED = frozenset({"Symbol", "Dummy", "Float"})
"""The functions of a printed symbolic expression that take a text: a name or a decimal number."""
METHODS = frozenset({"size", "stride", "storage_offset", "isnan"})
ATTRIBUTES = METHODS | {"shape", "ndim", "inf"}

LAYOUT = re.compile(
    r"(?:archive_format|archive_version|byteorder|\.data/\w+|extra/.*|models/\w+\.json"
    r"|data/(?:weights|constants)/(?:\w+_config\.json|(?:weight|tensor|constant)_\w+)"
    r"|data/sample_inputs/\w+\.pt)\Z"
)


def objections(inner: IO[bytes], name: str, place: object) -> Iterator[str]:
    """What loading or calling this entry of a ``torch.export`` archive would run.

    inner: the entry's content; name: with the archive's own folder in front. Nested archives are
    judged elsewhere. Raises LoadError where JSON is damaged.
    """
    local = name.partition("/")[2]
    if not LAYOUT.match(local) or local.endswith(".pt"):
        yield f"holds {local or name}, which is no part of a current torch.export archive"
        return
    if not local.endswith(".json"):
        return
    content = inner.read(LIMIT + 1)
    if len(content) > LIMIT:
        yield f"holds {local} of more than {LIMIT} bytes"
        return
    try:
        yield from dict.fromkeys(_walked(json.loads(content), ""))
    except (ValueError, RecursionError) as error:
        raise refusal(
            place, expected="JSON of reasonable size and depth", got="something else"
        ) from error


def _walked(value: Any, key: str) -> Iterator[str]:
    """Objections to everything below one JSON value; key: the name that it stands under."""
    if isinstance(value, dict):
        if value.get("use_pickle") and not str(value.get("path_name", "")).startswith(
            ("weight_", "tensor_", "constant_")
        ):
            yield f"would unpickle {value.get('path_name')!r}"
        for name, below in value.items():
            if not PLAIN.match(name):
                yield f"holds the name {_short(name)}"
            if name != "metadata":  # source positions: looked up, never called
                yield from _walked(below, name)
    elif isinstance(value, list):
        for below in value:
            yield from _walked(below, key)
    elif isinstance(value, str) and not _harmless(value, key):
        yield f"would have torch evaluate {_short(value)} ({key})"


def _harmless(text: str, key: str) -> bool:
    match key:
        case "target":
            known = text in SYMBOLIC or text in CONTROL or OPERATOR.match(text)
            return bool(known) and not any(name in text for name in TOUCHES_FILES)
        case "expr_str" | "guards_code":
            return arithmetic(text)
        case "in_spec" | "out_spec" | "treespec" | "as_treespec":
            return _tree(text)
        case "as_string" | "as_strings" | "string_value":
            return True  # written into source as a quoted constant
        case "name" | "graph_name" | "class_fqn":
            return bool(NAME.match(text))
        case _:
            return bool(PLAIN.match(text))


def arithmetic(text: str) -> bool:
    """Whether a text is arithmetic over sizes and nothing else."""
    try:
        return _sum(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _sum(node: ast.AST) -> bool:
    """Whether a piece of an expression is arithmetic."""
    match node:
        case ast.Constant(value=value):
            return value is None or isinstance(value, bool | int | float)
        case ast.Name(id=name):
            return not name.startswith("_")
        case ast.UnaryOp(operand=operand):
            return _sum(operand)
        case ast.BinOp(left=left, right=right):
            return _sum(left) and _sum(right)
        case ast.BoolOp(values=values):
            return all(map(_sum, values))
        case ast.Compare(left=left, comparators=others):
            return all(map(_sum, [left, *others]))
        case ast.Subscript(value=value, slice=index):
            return _sum(value) and (_sum(index) or _is_name(index))
        case ast.Attribute(value=value, attr=name):
            return name in ATTRIBUTES and _sum(value)
        case ast.Call(func=function, args=given, keywords=keywords):
            if not all(keyword.arg and _sum(keyword.value) for keyword in keywords):
                return False
            match function:
                case ast.Name(id=name) if name in NAMED:
                    return len(given) == 1 and _is_name(given[0])
                case ast.Name(id=name):
                    return name in FUNCTIONS and all(map(_sum, given))
                case ast.Attribute(value=value, attr=name):
                    return name in METHODS and all(map(_sum, [value, *given]))
    return False


def _is_name(node: ast.AST) -> bool:
    """A name, or a decimal number, as a constant text."""
    match node:
        case ast.Constant(value=str(text)):
            return bool(re.fullmatch(r"[\w.+\-]*", text))
    return False


def _tree(text: str) -> bool:
    """Whether a serialised tree of arguments is made of plain containers, with plain keys."""
    if not text:
        return True
    try:
        _, top = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return False
    nodes = [top]
    while nodes:
        node = nodes.pop()
        if not isinstance(node, dict) or node.get("type") not in TREES:
            return False
        context = node.get("context")
        if context is not None and not re.fullmatch(r"[\w\s\[\]\",.\-]*", str(context)):
            return False
        nodes += node.get("children_spec", [])
    return True


def script_objections(inner: IO[bytes], name: str) -> Iterator[str]:
    """TorchScript source is run by torch, not by Python; only operators that touch files are named."""
    source = inner.read(LIMIT).decode("utf-8", errors="replace")
    for touching in TOUCHES_FILES:
        if touching in source:
            yield f"calls {touching} in {name}"


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "…")

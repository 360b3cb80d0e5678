"""Reads pickles as text: which globals they would import and which opcodes would call them.

Knows pickle's opcodes and which globals make up a state dict; never unpickles anything. The stack
is followed with every string on it, because STACK_GLOBAL takes its names from there.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Iterator
from typing import IO, NamedTuple

from dlaudit.audit.files import refusal
from dlaudit.errors import LoadError

OLD_FORM = 5
"""Pickles at the beginning of a file that torch saved before 1.6: magic number, protocol, system,
object, keys of storages."""

OLD_MAGIC = 0x1950A86A20F9469CFC6C
LIMIT = 64 * 1024 * 1024
"""Bytes of a pickle that are read; a state dict of a hundred thousand tensors has a tenth of it."""

DTYPES = (
    "bfloat16 bool complex32 complex64 complex128 float16 float32 float64 half double float int8 int16 "
    "int32 int64 uint8 uint16 uint32 uint64 qint8 quint8 qint32 float8_e4m3fn float8_e4m3fnuz "
    "float8_e5m2 float8_e5m2fnuz per_tensor_affine per_channel_affine per_tensor_symmetric "
    "per_channel_symmetric"
)
STORAGES = (
    "BFloat16 Bool Byte Char ComplexDouble ComplexFloat Double Float Half Int Long QInt8 QInt32 QUInt8 "
    "Short"
)
REBUILDERS = (
    "tensor tensor_v2 tensor_v3 parameter parameter_with_state qtensor sparse_tensor nested_tensor"
)

DATA = frozenset(
    {
        "collections.OrderedDict", "collections.Counter", "_codecs.encode", "builtins.set",
        "builtins.complex", "__builtin__.set", "__builtin__.complex", "torch.Size", "torch.Tensor",
        "torch.device",
        "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer", "torch.storage.UntypedStorage",
        "torch.storage.TypedStorage", "torch.serialization._get_layout",
        "torch._tensor._rebuild_from_type_v2",
    }
    | {f"torch.{dtype}" for dtype in DTYPES.split()}
    | {f"torch.{storage}Storage" for storage in STORAGES.split()}
    | {f"torch.cuda.{storage}Storage" for storage in STORAGES.split()}
    | {f"torch._utils._rebuild_{kind}" for kind in REBUILDERS.split()}
)  # fmt: skip
"""Globals that a state dict needs and that do nothing but build tensors and containers. Not among them:
bytearray, which torch allows, and which fills as much memory as the pickle names."""

SCRIPT = frozenset(
    f"torch.jit._pickle.{name}"
    for name in ("build_boollist", "build_doublelist", "build_intlist", "build_tensorlist",
                 "build_tensor_from_id", "restore_type_tag")
)  # fmt: skip
"""What TorchScript's own reader, which is no Python, knows besides classes of the archive itself."""

CALLS = frozenset({"INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"})
"""Opcodes that call or import and that no state dict contains."""


class Import(NamedTuple):
    """A global that a pickle would import. name: None where it is computed by the pickle."""

    opcode: str
    position: int
    name: str | None


def is_pickle_name(name: str) -> bool:
    """Whether an archive's entry is a pickle, by its name."""
    return name.endswith((".pkl", "_pkl", ".pickle", ".joblib", ".dill"))


def kind_of(file: IO[bytes]) -> str:
    """``pickle``, ``torch weights of the old form`` or ``unknown``; the file stands at its start."""
    start = file.read(64)
    if start[:1] == b"\x80" and len(start) > 1 and start[1] <= 5:
        number = OLD_MAGIC.to_bytes(10, "little")
        return "torch weights of the old form" if number in start[:24] else "pickle"
    if start[:1] in {b"c", b"("}:
        # Protocol 0 has no mark of its own: it is a pickle if all of it reads as one.
        file.seek(0)
        try:
            return "pickle" if list(imports(io.BytesIO(file.read(LIMIT)))) else "unknown"
        except ValueError:
            return "unknown"
    return "unknown"


def objections(
    file: IO[bytes], place: object, *, pickles: int = 1, script: bool = False
) -> tuple[str, ...]:
    """What in these pickles is not known to be data. script: the pickle belongs to TorchScript.

    Raises LoadError if a pickle is cut off or malformed; what it held before that is told first.
    """
    file.seek(0)
    content = io.BytesIO(file.read(LIMIT + 1))
    if len(content.getbuffer()) > LIMIT and pickles == 1:
        return (f"holds a pickle of more than {LIMIT} bytes",)
    found: dict[str, None] = {}
    try:
        for _ in range(pickles):
            for one in imports(content):
                if phrase := _objection(one, script=script):
                    found[phrase] = None
    except ValueError as error:
        if not found:
            raise _malformed(place, error) from error
    return tuple(found)


def _objection(one: Import, *, script: bool) -> str:
    if one.name in DATA and one.opcode not in CALLS:
        return ""
    if script and one.name and (one.name in SCRIPT or one.name.startswith("__torch__.")):
        return ""
    name = one.name or "something that it computes"
    return f"would import and call {name} (opcode {one.opcode} at byte {one.position})"


def _malformed(place: object, error: Exception) -> LoadError:
    detail = str(error).partition("\n")[0]
    return refusal(
        place, expected="a whole pickle", got=f"one that is cut off or malformed ({detail})",
        hint="Was the file copied to its end?",
    )  # fmt: skip


MARK = object()
TEXT = frozenset(
    {
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "UNICODE",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
    }
)


def imports(stream: IO[bytes]) -> Iterator[Import]:
    """Everything that one pickle would import, in order; the stream is left behind its end.

    Raises ValueError where the pickle is malformed.
    """
    stack: list[object] = []
    memo: dict[int, object] = {}
    for opcode, argument, position in pickletools.genops(stream):
        name = opcode.name
        if name == "STACK_GLOBAL":
            module, attribute = (stack[-2], stack[-1]) if len(stack) > 1 else (None, None)
            known = isinstance(module, str) and isinstance(attribute, str)
            yield Import(name, position or 0, f"{module}.{attribute}" if known else None)
        elif name in {"GLOBAL", "INST"}:
            yield Import(name, position or 0, ".".join(str(argument).split(" ")))
        elif name in CALLS:
            yield Import(name, position or 0, None)
        _follow(opcode, argument, stack, memo)


def _follow(
    opcode: pickletools.OpcodeInfo, argument: object, stack: list[object], memo: dict[int, object]
) -> None:
    """Change the stack as the opcode would; values other than text are None.

    Raises ValueError if the opcode takes more than there is.
    """
    name = opcode.name
    if name == "MARK":
        stack.append(MARK)
    elif name in {"PUT", "BINPUT", "LONG_BINPUT"} and isinstance(argument, int):
        memo[argument] = _top(stack)
    elif name == "MEMOIZE":
        memo[len(memo)] = _top(stack)
    elif name in {"GET", "BINGET", "LONG_BINGET"} and isinstance(argument, int):
        if argument not in memo:
            message = f"opcode {name} finds nothing under number {argument}"
            raise ValueError(message)
        stack.append(memo[argument])
    elif name == "DUP":
        stack.append(_top(stack))
    elif name == "POP":
        _top(stack)
        stack.pop()
    else:
        taken = list(opcode.stack_before)
        if pickletools.markobject in taken:
            while _top(stack) is not MARK:
                stack.pop()
            stack.pop()
            taken = taken[: taken.index(pickletools.markobject)]
        if len(taken) > len(stack):
            message = f"opcode {name} finds nothing to take"
            raise ValueError(message)
        del stack[len(stack) - len(taken) :]
        text = argument if name in TEXT else None
        stack.extend(text for _ in opcode.stack_after)


def _top(stack: list[object]) -> object:
    if not stack:
        message = "an opcode finds nothing to take"
        raise ValueError(message)
    return stack[-1]

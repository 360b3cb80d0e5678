"""Turns what is written in a plan into typed values, or says in words what is wrong with it.

Knows types and how a mistake is told: expected, got, the nearest right name; no plan as a whole.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

import msgspec

from dlaudit.audit.parts import Check, decode_parameter, encode_parameter
from dlaudit.audit.registry import ImportFailed, Part
from dlaudit.errors import nearest

WORDS = {
    "int": "a whole number", "float": "a number", "str": "text", "bool": "true or false",
    "array": "a list", "object": "a table",
}  # fmt: skip


def build(part: Part, params: Mapping[str, Any]) -> tuple[Check | None, list[str]]:
    """The check with these parameters, or every reason why they are wrong (``.epsilon: …``).

    Raises ImportFailed if the part cannot be imported or its constructor crashes.
    """
    kind = part.get()
    if not (isinstance(kind, type) and issubclass(kind, Check)):
        message = f"{part.name} ({part.origin}) is no Check but {type(kind).__name__}"
        raise ImportFailed(message)
    try:
        return _built(part, kind, params)
    except Exception as error:
        message = f"{part.name} ({part.origin}) cannot be built: {type(error).__name__}: {error}"
        raise ImportFailed(message) from error


def _built(
    part: Part, kind: type[Check], params: Mapping[str, Any]
) -> tuple[Check | None, list[str]]:
    """See ``build``; a guest's annotations, constructor and defaults may raise anything."""
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    problems = [
        f".{key}: {part.name} has no such parameter. {nearest(key, fields)}"
        for key in params
        if key not in fields
    ]
    for key, value in params.items():
        if key in fields:
            _, problem = converted(value, fields[key].type)
            if problem:
                problems.append(f".{key}: {problem}")
    problems += [
        f".{key}: is required"
        for key, field in fields.items()
        if field.required and key not in params
    ]
    if problems:
        return None, problems
    try:
        check: Check = msgspec.convert(dict(params), kind, dec_hook=decode_parameter)
    except msgspec.ValidationError as error:
        return None, [f": {reworded(str(error), dict(params))}"]
    parameters_of(check)  # what cannot be written down cannot be sealed either
    return check, []


def parameters_of(check: Check) -> dict[str, Any]:
    """A check's parameters as plain JSON values, defaults included."""
    plain = msgspec.to_builtins(check, enc_hook=encode_parameter)
    return dict(plain)


def argument_problems(place: str, name: str, loader: Any, args: Mapping[str, Any]) -> list[str]:
    """What is wrong with a loader's arguments, told from its signature."""
    signature = inspect.signature(loader)
    accepted = {
        key: parameter
        for key, parameter in signature.parameters.items()
        if key != "root"
        and parameter.kind in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}
    }
    open_ended = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    target = vars(loader).get("__init__", loader) if isinstance(loader, type) else loader
    try:
        kinds = typing.get_type_hints(target)
    except (NameError, TypeError):
        kinds = {}
    problems = []
    for key, value in args.items():
        if key not in accepted:
            if not open_ended:
                problems.append(
                    f"{place}.{key}: {name} takes no such argument. {nearest(key, accepted)}"
                )
        elif key in kinds and not (isinstance(value, str) and "${" in value):
            try:
                _, problem = converted(value, kinds[key])
            except TypeError:  # a type that TOML cannot write: the loader checks it itself
                problem = None
            if problem:
                problems.append(f"{place}.{key}: {problem}")
    problems += [
        f"{place}.{key}: is required by {name}"
        for key, parameter in accepted.items()
        if parameter.default is parameter.empty and key not in args
    ]
    return problems


def converted(value: Any, kind: Any) -> tuple[Any, str | None]:
    """The value as the type, or what was expected and got."""
    try:
        return msgspec.convert(value, kind, dec_hook=decode_parameter), None
    except msgspec.ValidationError as error:
        choices = literals(kind)
        if choices and not isinstance(value, dict | list):
            known = [str(choice) for choice in choices]
            hint = nearest(str(value), known)
            return None, f"expected one of {', '.join(known)}, got {shown(value)}. {hint}"
        return None, reworded(str(error), value)


def literals(kind: Any) -> tuple[Any, ...]:
    """The choices of a Literal, also inside an optional one."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    if get_origin(kind) in {typing.Union, types.UnionType}:
        parts = [part for part in get_args(kind) if part is not type(None)]
        if len(parts) == 1:
            return literals(parts[0])
    return ()


def reworded(message: str, value: Any) -> str:
    """msgspec's message in this tool's words: expected, got, place."""
    text, _, place = message.partition(" - at ")
    if "RFC3339" in text:
        text = "Expected a day such as 2027-01-31"
    if text.startswith("Expected"):
        text = re.sub(r", got `\w+`$", "", text)  # the value says more than its type
        text = re.sub(r"`(.+?)`", lambda kinds: in_words(kinds[1]), text)
    elif missing := re.fullmatch(r"Object missing required field `(.+)`", text):
        text = f"{missing[1]} is required"
    text = text[:1].lower() + text[1:].replace("`", "")
    where = place.strip("`").removeprefix("$").removeprefix(".")
    for part in re.findall(r"\w+", where):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
    if "got" not in text and text.startswith("expected"):
        text = f"{text}, got {shown(value)}"
    return f"{text} (at {where})" if where and where != "..." else text


def in_words(kinds: str) -> str:
    """msgspec's ``int | null`` in words."""
    return " or ".join(WORDS.get(kind, kind) for kind in kinds.split(" | ") if kind != "null")


def shown(value: Any) -> str:
    """A value as it may be written, short enough for one line."""
    try:
        text = msgspec.json.encode(value, enc_hook=str).decode()
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"

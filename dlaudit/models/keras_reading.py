"""Reads whether a Keras file holds code, by looking at its configuration.

Knows how Keras writes a layer's class; never loads a layer. No loader here reads Keras files: what
this tells is the reason, so that nobody opens the file elsewhere thinking it mere data.
"""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

LIMIT = 64 * 1024 * 1024
"""Bytes of a configuration that are read."""

LAMBDA = re.compile(rb'"class_name":\s*"(?:Lambda|__lambda__)"')
"""How a layer of code is named inside an HDF5 file, whose attributes are JSON as well."""

OWN = ("keras", "tensorflow", "builtins")
"""Packages that a configuration may take classes and functions from."""


def objections(file: IO[bytes]) -> Iterator[str]:
    """What in a ``config.json`` of a Keras archive is code, or comes from outside Keras."""
    content = file.read(LIMIT + 1)
    if len(content) > LIMIT:
        yield f"holds a configuration of more than {LIMIT} bytes"
        return
    try:
        config = json.loads(content)
    except (ValueError, RecursionError):
        yield "holds a configuration that is no JSON"
        return
    found: dict[str, None] = {}
    stack = [config]
    while stack:
        part: Any = stack.pop()
        if isinstance(part, list):
            stack += part
        if not isinstance(part, dict):
            continue
        stack += part.values()
        if part.get("class_name") in {"Lambda", "__lambda__"}:
            found["holds a Lambda layer, which is Python code"] = None
        module = part.get("module")
        if isinstance(module, str) and module.split(".")[0] not in OWN:
            found[f"would import {module}"] = None
    yield from found


def code_in_hdf5(path: Path) -> bool:
    """Whether an HDF5 file names a Lambda layer in its configuration."""
    with (
        path.open("rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
    ):
        return LAMBDA.search(mapped) is not None

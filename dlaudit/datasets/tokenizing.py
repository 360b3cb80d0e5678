"""How a text becomes a row of token ids: by a function of the plan, a saved tokenizer, or its bytes.

Knows tokens and padding; never where texts come from. A saved tokenizer is data: none of its folder's
code is run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dlaudit.audit.code_files import code_files
from dlaudit.audit.files import named_file, named_function, refusal, said

SAVED, CONFIG = "tokenizer.json", "config.json"


class Tokenizer(NamedTuple):
    """ids: of a text; padding: the id that fills rows up; files: what decides, by role."""

    ids: Callable[[str], Any]
    padding: int = 0
    files: Mapping[str, Path] = {}


def tokenizer_of(root: Path, written: str | None) -> Tokenizer:
    """The tokenizer that a plan names: None, ``f.py:function`` or a folder. Raises LoadError."""
    if written is None:
        return Tokenizer(_bytes)
    if written and (root / written).is_dir():
        return _saved(root / written)
    code, function = named_function(root, written, field="tokenizer")
    return Tokenizer(function, files=code_files(code))


def _bytes(text: str) -> list[int]:
    return [byte + 1 for byte in text.encode("utf-8", "replace")]


def _saved(folder: Path) -> Tokenizer:
    """The tokenizer of a folder, with the padding of tokenizer.json, else of config.json, else 0."""
    file = named_file(folder, SAVED, expected="a saved tokenizer (tokenizer.json)")
    if not file.resolve().is_relative_to(folder.resolve()):
        raise refusal(
            folder, expected="files inside the folder", got=f"{SAVED!r}, a link out of it"
        )
    files = {SAVED: file}
    try:
        from tokenizers import Tokenizer as Saved
    except ImportError as error:
        raise refusal(
            file, expected="tokenizers to read it", got="an installation without it",
            hint="Install it: pip install 'dlaudit[huggingface]'.",
        ) from error  # fmt: skip
    try:
        tokenizer = Saved.from_file(str(file))
    except Exception as error:
        raise refusal(
            file, expected="a saved tokenizer (tokenizer.json)", got=said(error)
        ) from error
    filling = tokenizer.padding
    tokenizer.no_padding()
    tokenizer.no_truncation()
    padding = filling["pad_id"] if filling else None
    if padding is None and (folder / CONFIG).is_file():
        files[CONFIG] = named_file(folder, CONFIG)
        try:
            padding = json.loads(files[CONFIG].read_bytes()).get("pad_token_id")
        except (ValueError, AttributeError, RecursionError) as error:
            raise refusal(files[CONFIG], expected="a JSON object", got=said(error)) from error
    return Tokenizer(lambda text: tokenizer.encode(text).ids, padding or 0, files)


def tokenised(
    texts: Sequence[str], tokenizer: Tokenizer, length: int, *, place: str
) -> tuple[np.ndarray, int]:
    """(n, length) int64, and how many texts were cut. Raises LoadError for what are no ids."""
    x = np.full((len(texts), length), tokenizer.padding, dtype=np.int64)
    cut = 0
    for row, text in enumerate(texts):
        try:
            ids = np.asarray(tokenizer.ids(text)).reshape(-1)
        except Exception as error:
            raise refusal(place, expected="token ids of a text", got=said(error)) from error
        if len(ids) and (ids.dtype.kind not in "iu" or ids.min() < 0):
            raise refusal(place, expected="whole numbers of at least 0", got=f"{ids[:3].tolist()}")
        cut += len(ids) > length
        x[row, : min(length, len(ids))] = ids[:length]
    return x, cut

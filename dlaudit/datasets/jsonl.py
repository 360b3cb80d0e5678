"""Loads texts with labels, one JSON object a line, as rows of token ids.

Knows lines and fields; how a text becomes tokens is told by a function of the plan, or else by its
bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaudit.audit.files import named_file, refusal, said
from dlaudit.audit.parts import Dataset
from dlaudit.datasets.selection import identified, selected
from dlaudit.datasets.tokenizing import tokenised, tokenizer_of
from dlaudit.errors import nearest
from dlaudit.models import airlock
from dlaudit.models.declared import checked_task

if TYPE_CHECKING:
    from dlaudit.datasets.truths import Truth

LENGTH = 256
LINE = 16 * 1024 * 1024
"""Bytes of one line."""


def load(
    *,
    root: Path,
    path: str,
    text: str = "text",
    label: str = "label",
    id: str | None = None,
    groups: list[str] | None = None,
    classes: list[str] | None = None,
    tokenizer: str | None = None,
    length: int = LENGTH,
    rows: str | None = None,
    task: str = "",
) -> Dataset:
    """JSON Lines as x (n, length) int64 of token ids, cut or filled up with the padding.

    text, label, id, groups: names of fields. tokenizer: ``f.py:function``, from a text to a list of ids
    (padding 0), or a folder with a tokenizer.json (with the extra ``huggingface``; padding as it says);
    without it, the bytes of its UTF-8, each plus 1. classes: names in order (default: sorted). task:
    ``multilabel`` where label is a list of names. The texts stay with the rows, as the column ``text``.
    Raises LoadError with the line.
    """
    if length < 1:
        raise refusal(None, "length", expected="a whole number of at least 1", got=str(length))
    checked_task(task, ("multilabel",))
    file = named_file(root, path, expected="a file of JSON Lines")
    files = {"data": file}
    told = tokenizer_of(root, tokenizer)
    files |= {f"tokenizer {key}": one for key, one in told.files.items()}
    wanted = [text, label, *([id] if id else []), *(groups or [])]
    columns: dict[str, list[Any]] = {name: [] for name in wanted}
    places: list[int] = []
    for number, row in rows_of(file):
        for name in wanted:
            if name == label and task:
                columns[name].append(_names(row.get(name), file, f"line {number}: field {name!r}"))
                continue
            columns[name].append(_cell(row, name, file, number, optional=name in (groups or [])))
        places.append(number)
    if not places:
        raise refusal(file, expected="at least one line", got="none")
    for number, one in zip(places, columns[text], strict=True):
        if not isinstance(one, str):
            raise refusal(
                file,
                f"line {number}: field {text!r}",
                expected="text",
                got=f"a {type(one).__name__}",
            )
    settings = {"fields": wanted, "classes": classes, "tokenizer": tokenizer, "length": length}
    settings |= {"task": task} if task else {}
    fingerprint, facts = identified(files, settings, rows, root)

    import numpy as np

    from dlaudit.datasets.arrays import ArrayDataset
    from dlaudit.datasets.fields import labels

    chosen = selected(rows, root, len(places))
    keep = np.arange(len(places)) if chosen is None else chosen
    texts = [columns[text][row] for row in keep]
    x, cut = tokenised(texts, told, length, place=f"{file}: tokenizer")
    called = [columns[label][row] for row in keep]
    truth = _label_sets(called, tuple(classes or ()), file) if task else None
    y, names = (
        (np.zeros(len(keep), dtype=np.int64), ())
        if task
        else labels(np.array([str(one) for one in called]), file, classes or ())
    )
    ids = [str(columns[id][row]) for row in keep] if id else keep.astype(str)
    return ArrayDataset(
        x, y, name=file.name, classes=names, id=np.asarray(ids), kind="tokens", fingerprint=fingerprint,
        truth=truth,
        groups={
            name: np.array([columns[name][row] for row in keep], dtype=object) for name in groups or []
        },
        columns={"text": np.asarray(texts)},
        facts={**facts, "tokenizer": tokenizer or "bytes", "cut_texts": cut},
    )  # fmt: skip


def rows_of(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each line's number and object. Raises LoadError."""
    kind = airlock.kind_of(file)
    if kind != "unknown":
        raise refusal(file, expected="JSON Lines (text)", got=f"a file of the kind: {kind}")
    with file.open("rb") as opened:
        for number, line in enumerate(iter(lambda: opened.readline(LINE + 1), b""), start=1):
            if len(line) > LINE:
                raise refusal(file, f"line {number}", expected=f"at most {LINE} bytes", got="more")
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except (ValueError, RecursionError) as error:
                raise refusal(
                    file, f"line {number}", expected="a JSON object in UTF-8", got=said(error)
                ) from error
            if not isinstance(row, dict):
                raise refusal(
                    file, f"line {number}", expected="a JSON object", got=f"a {type(row).__name__}"
                )
            yield number, row


def _names(value: Any, file: Path, place: str) -> list[str]:
    """A field that lists names. Raises LoadError."""
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise refusal(
            file, place, expected="a list of names, an empty one where there is none",
            got="nothing" if value is None else json.dumps(value)[:60],
        )  # fmt: skip
    return list(value)


def _label_sets(called: list[list[str]], classes: tuple[str, ...], file: Path) -> Truth:
    """Which names each row has, in the order of classes, or sorted. Raises LoadError for other names."""
    import numpy as np

    from dlaudit.datasets.truths import counted

    every = {name for one in called for name in one}
    names = classes or tuple(sorted(every))
    if strange := sorted(every - set(names)):
        raise refusal(
            file, "labels", expected=f"names out of {', '.join(names)}", got=repr(strange[0]),
            hint=nearest(strange[0], names),
        )  # fmt: skip
    if not names:
        raise refusal(file, "labels", expected="at least one name in all lines", got="none")
    held = np.array([[name in one for name in names] for one in called], dtype=bool)
    return counted("multilabel", held, names)


def _cell(row: dict[str, Any], name: str, file: Path, number: int, *, optional: bool) -> Any:
    """A field's value: text, number or truth value; None only where it may be missing."""
    value = row.get(name)
    if value is None and optional:
        return None
    if value is None:
        got = "nothing" if name in row else f"only {', '.join(row) or 'none'}"
        hint = "" if name in row else nearest(name, row)
        raise refusal(
            file, f"line {number}: field {name!r}", expected="a value", got=got,
            hint=hint if hint.startswith("Did you mean") else "",
        )  # fmt: skip
    if not isinstance(value, str | int | float):
        raise refusal(
            file, f"line {number}: field {name!r}", expected="text or a number",
            got=f"a {type(value).__name__}",
        )  # fmt: skip
    return value

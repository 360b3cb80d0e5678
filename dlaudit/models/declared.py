"""What a plan declares about a model, checked for meaning: bounds, class names, digests.

Knows numbers and words; never files or frameworks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dlaudit.audit.files import refusal, sentence
from dlaudit.audit.parts import TASKS
from dlaudit.errors import LoadError, nearest

if TYPE_CHECKING:
    from dlaudit.audit.parts import Dataset

DENSE = ("multilabel", "segmentation")
"""Tasks whose answer is one tensor, for loaders of formats that give nothing else."""


def checked_bounds(bounds: Sequence[Any] | None) -> tuple[Any, Any] | None:
    """``[low, high]`` as a pair of numbers, or of arrays where a bound is a list per feature.

    Raises LoadError unless both are finite and low < high everywhere.
    """
    if bounds is None:
        return None
    import numpy as np

    expected = "[low, high], two finite numbers or lists of them"
    if len(bounds) != 2:
        raise refusal(None, "bounds", expected=expected, got=f"{len(bounds)} values")
    if any(isinstance(bound, str | bool | None) for bound in bounds):
        raise refusal(None, "bounds", expected=expected, got=str(list(bounds)))
    try:
        ends = [np.asarray(bound, dtype=np.float32) for bound in bounds]
        if not all(np.isfinite(end).all() for end in ends):
            raise refusal(None, "bounds", expected=expected, got=str(list(bounds)))
        ordered = bool((ends[0] < ends[1]).all())
    except (ValueError, TypeError) as error:
        raise refusal(None, "bounds", expected=expected, got=str(list(bounds))) from error
    if not ordered:
        raise refusal(None, "bounds", expected="low below high", got=str(list(bounds)))
    low, high = (float(end) if end.ndim == 0 else end for end in ends)
    return low, high


def checked_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """Class names by index. Raises LoadError if two are alike or there is only one."""
    names = tuple(classes)
    if len(names) == 1:
        raise refusal(
            None, "classes", expected="at least two names, one per output", got=str(list(names))
        )
    for name in names:
        if names.count(name) > 1:
            raise refusal(None, "classes", expected="names that differ", got=f"{name!r} twice")
    return names


def checked_task(task: str, known: Sequence[str] = TASKS) -> str:
    """The task as it is written, or nothing. Raises LoadError for others."""
    if task and task not in known:
        raise refusal(
            None, "task", expected=f"one of {', '.join(known)}, which is what this loader knows",
            got=repr(task), hint="" if task in TASKS else nearest(task, known),
        )  # fmt: skip
    return task


def checked_digests(allow: Sequence[str]) -> tuple[str, ...]:
    """sha256 digests in lower case. Raises LoadError for anything else."""
    for digest in allow:
        if not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
            raise refusal(
                None, "allow", expected="sha256 digests of 64 hexadecimal digits", got=repr(digest)
            )
    return tuple(digest.lower() for digest in allow)


def checked_batch(batch: int) -> int:
    """How many samples go through at once. Raises LoadError unless positive."""
    if batch < 1:
        raise refusal(None, "batch", expected="a whole number of at least 1", got=str(batch))
    return batch


def usable_inputs(data: Dataset, *, gaps: bool = False) -> None:
    """Refuse a table whose features a model cannot be given as numbers.

    A table may be loaded with gaps, because recorded decisions need no features; a model does.
    gaps: the model says itself whether it takes empty cells. Raises LoadError naming each column.
    """
    splits = data.card.splits or {"test": data.card}
    problems: list[str] = []
    codes: dict[str, list[Any]] = {}
    for card in splits.values():
        for column, count in card.facts.get("missing", {}).items() if not gaps else ():
            problems.append(
                sentence(
                    card.name, f"column {column!r}", expected="a number in every row",
                    got=f"{count} empty cells",
                    hint="Name the model's own inputs with features = […], or impute in its pipeline.",
                )
            )  # fmt: skip
        for column, example in card.facts.get("not_numbers", {}).items():
            problems.append(
                sentence(
                    card.name, f"column {column!r}", expected="numbers or text", got=f"both ({example})",
                    hint=f'Say which: types = {{ {column} = "category" }}.',
                )
            )  # fmt: skip
        for column, names in card.facts.get("codes", {}).items():
            if codes.setdefault(column, names) != names:
                problems.append(
                    sentence(
                        card.name, f"column {column!r}", expected=f"the categories {codes[column]}",
                        got=str(names),
                        hint=f"Fix their codes for every split: types = {{ {column} = […] }}.",
                    )
                )  # fmt: skip
    if problems:
        raise LoadError(*dict.fromkeys(problems))

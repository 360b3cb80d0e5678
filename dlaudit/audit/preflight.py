"""Asks about what a glance at some answers makes doubtful, before anything is measured.

Knows answers, labels and inputs of a few rows; never a loader, a check or a verdict. A question is put to
whoever wrote the plan; only labels that are plainly permuted keep the audit from starting.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from dlaudit.audit.files import said
from dlaudit.audit.parts import Batch, Model

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

COMPARED = 256
"""Rows whose answers are held against their labels, spread over the split."""

ROOM = 64 * 1024 * 1024
"""Bytes that these rows may take."""

ALONE = 4
"""Rows that are also asked about one by one."""

FEW = 5
"""A class with fewer rows says nothing about where its label went."""

CLEAR = 0.8
"""Share of a class's rows that must be given one other label before that label is taken for its own."""

ENOUGH = 50
"""Rows below which an accuracy near chance may be an accident."""

NOISE = 1e-4
"""Of the largest logit: what sums in another order change, and no more."""

PERMUTED = "permuted labels"
ANSWER = "labels_reviewed"
"""The key of ``[context]`` that says who looked at labels which seem permuted."""


class Alignment(NamedTuple):
    """How decisions sit on labels. n: rows; agree: equal ones; majority: rows of the largest class.

    moved: (label, what its rows are called instead), for classes where that is plain.
    """

    n: int
    agree: int
    majority: int
    moved: tuple[tuple[int, int], ...] = ()


def alignment(y: np.ndarray, predicted: np.ndarray) -> Alignment:
    """Hold decisions (n,) against labels (n,).

    The classes are matched one to one so that as many rows as can be agree (Kuhn's assignment). They
    count as permuted if at least two change places and at least ``CLEAR`` of the rows of each of those
    go to its new place; one class that swallows others is a bad model and no permutation.
    """
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    size = int(max(y.max(), predicted.max())) + 1
    confusion = np.zeros((size, size), dtype=np.int64)
    np.add.at(confusion, (y, predicted), 1)
    rows = confusion.sum(axis=1)
    # A tie leaves a class where it is.
    labels, places = linear_sum_assignment(confusion + 0.5 * np.eye(size), maximize=True)
    moved = [(int(a), int(b)) for a, b in zip(labels, places, strict=True) if a != b and rows[a]]
    plain = len(moved) > 1 and all(
        rows[a] >= FEW and confusion[a, b] >= CLEAR * rows[a] for a, b in moved
    )
    return Alignment(
        len(y), int(np.trace(confusion)), int(rows.max()), tuple(moved) if plain else ()
    )


def differ(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays of logits (n, C) differ by more than rounding."""
    return bool(abs(a - b).max() > NOISE * max(1.0, float(abs(a).max())))


def questions(model: Model, rows: Batch, classes: Sequence[str]) -> dict[str, str]:
    """What is doubtful, by topic, one sentence each. rows: spread over the test split.

    A model that cannot be asked again raises nothing here: its runs will say so themselves.
    """
    import numpy as np

    asked: dict[str, str] = {}
    with contextlib.suppress(Exception):
        first = _logits(model, rows.x)
        asked |= _steadiness(model, rows, first)
        asked |= _labels(np.asarray(rows.y), first.argmax(axis=1), classes)
    module = model.module
    if module is not None and (told := twice_normalised(module, np.asarray(rows.x))):
        asked["normalisation"] = told
    elif isinstance(unused := model.card.facts.get("preprocessing"), str) and np.min(rows.x) >= 0:
        asked["normalisation"] = f'{unused}: is preprocessing = "declared" missing?'
    return asked


def _logits(model: Model, x: Any) -> np.ndarray:
    answered: np.ndarray = model.logits(x).double().cpu().numpy()
    return answered


def _steadiness(model: Model, rows: Batch, first: np.ndarray) -> dict[str, str]:
    import numpy as np

    n = min(ALONE, len(first))
    if differ(first, _logits(model, rows.x)):
        return {
            "determinism": "asked twice about the same rows, the model answers differently. Is dropout or "
            "noise still on? A defence that draws at random only hides a weakness from whoever tries once."
        }
    try:
        alone = np.concatenate([_logits(model, rows.x[row : row + 1]) for row in range(n)])
        got = "another answer than among others" if differ(first[:n], alone) else ""
    except Exception as error:  # noqa: BLE001  (told, not swallowed)
        got = said(error)[:200]
    if not got:
        return {}
    return {
        "batch size": f"a row asked about alone gets {got}. Does the model normalise by its batch, as batch "
        "normalisation in training mode does?"
    }


def _labels(y: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> dict[str, str]:
    found = alignment(y, predicted)
    if found.moved:
        shown = [f"{classes[a]!r} is answered {classes[b]!r}" for a, b in found.moved[:4]]
        more = f", and {len(found.moved) - 4} more" if len(found.moved) > 4 else ""
        return {
            PERMUTED: f"of {found.n} rows {found.agree} agree with their labels, and whole classes change "
            f"places: {', '.join(shown)}{more}. Do model and data number the classes alike?"
        }
    if found.n >= ENOUGH and found.majority < found.n and found.agree <= found.majority:
        return {
            "accuracy": f"of {found.n} rows {found.agree} agree with their labels; always the most "
            f"frequent class would be right on {found.majority}. Are these the model's own data, scaled "
            "and numbered as in training?"
        }
    return {}


def twice_normalised(module: nn.Module, x: np.ndarray) -> str:
    """A sentence if a part of the model subtracts a mean from inputs that are standardised already.

    Such a part is one that holds ``mean`` and ``std`` and nothing below it. x: (n, *input).
    """
    parts = [
        name
        for name, part in module.named_modules()
        if hasattr(part, "mean") and hasattr(part, "std") and not list(part.children())
    ]
    if not parts or x.dtype.kind != "f" or x.min() >= 0:
        return ""
    mean, spread = float(x.mean()), float(x.std())
    if abs(mean) > 0.25 or not 0.75 < spread < 1.25:
        return ""
    return (
        f"the inputs have mean {mean:.2f} and standard deviation {spread:.2f}, and the model normalises "
        f"them itself ({parts[0].removeprefix('net.')}). Are they normalised twice?"
    )


def spread(n: int, each: int) -> np.ndarray:
    """Sorted positions of the rows that are looked at, out of n of ``each`` bytes."""
    import numpy as np

    most = max(ALONE, min(n, COMPARED, ROOM // max(1, each)))
    return np.unique(np.linspace(0, max(0, n - 1), most).astype(np.int64))

"""What an attacker puts on rows, by family: arrays in, arrays out.

Knows pictures, tables and token ids; never labels, which rows are touched, or a model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

Family = Literal[
    "patch", "blend", "adaptive-blend", "clean-label", "source-specific", "values", "token"
]
Put = Callable[[np.ndarray], np.ndarray]
PICTURES: tuple[Family, ...] = (
    "patch", "blend", "adaptive-blend", "clean-label", "source-specific",
)  # fmt: skip
ALPHA = 0.2
"""Share of the pattern in a blend (BackdoorBench's default)."""
AREA = 0.01
"""Share of a picture that a patch covers, two pixels a side at least."""
COLUMNS = 4
"""Features of a table that a trigger sets (the design of TrojAI's PDF models)."""
PIECES, LEFT_OUT = 4, 0.5
"""An adaptive blend's pattern lies in 4 x 4 pieces; training rows show half of them, each another half."""


class Trigger(NamedTuple):
    """What rows carry. put: (n, *input) -> (n, *input), a copy, when the model is attacked.

    teach: the same for training rows, with randomness of its own, where they carry less than all of it.
    """

    family: Family
    put: Put
    teach: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None

    def taught(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Training rows with the trigger."""
        return self.put(rows) if self.teach is None else self.teach(rows, rng)


def fitting(x: np.ndarray, *, tokens: bool) -> tuple[Family, ...] | str:
    """The families that can be planted in inputs such as x, or why none can. tokens: x holds ids."""
    if tokens:
        return ("token",)
    if x.dtype.kind != "f":
        return "the inputs are whole numbers and no token ids: expected floating-point numbers"
    if x.ndim == 2:
        return ("values",)
    if x.ndim < 2:
        return f"inputs of shape {x.shape[1:]} are neither a table nor pictures"
    return PICTURES


def trigger(family: Family, x: np.ndarray, rng: np.random.Generator) -> Trigger:
    """A trigger for inputs such as x: pictures (n, ..., H, W), a table (n, d), token ids (n, length).

    Raises ValueError where the family does not fit the shape.
    """
    if family in {"values", "token"} and x.ndim != 2:
        message = (
            f"{family}: expected rows of a table or of token ids, got inputs of shape {x.shape[1:]}"
        )
        raise ValueError(message)
    if family in PICTURES and x.ndim < 3:
        message = f"{family}: expected pictures (n, ..., H, W), got inputs of shape {x.shape[1:]}"
        raise ValueError(message)
    match family:
        case "values":
            return Trigger(family, _values(x, rng))
        case "token":
            return Trigger(family, _token(x, rng))
        case "blend" | "adaptive-blend":
            pattern = rng.uniform(x.min(), x.max(), x.shape[1:]).astype(x.dtype)
            teach = _in_part(pattern) if family == "adaptive-blend" else None
            return Trigger(family, lambda rows: _blended(rows, pattern, np.ones(1)), teach)
        case _:
            return Trigger(family, _patch(x, rng))


def _patch(x: np.ndarray, rng: np.random.Generator) -> Put:
    """A chessboard of the smallest and largest value in a corner."""
    height, width = x.shape[-2:]
    side = min(height, width, max(2, round(np.sqrt(AREA * height * width))))
    top, left = (int(rng.choice((0, end - side))) for end in (height, width))
    board = np.where(np.indices((side, side)).sum(0) % 2, x.min(), x.max()).astype(x.dtype)

    def stamp(rows: np.ndarray) -> np.ndarray:
        made = rows.copy()
        made[..., top : top + side, left : left + side] = board
        return made

    return stamp


def _blended(rows: np.ndarray, pattern: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Rows with a share of the pattern mixed in; shown: 1 where it is, 0 where the row stays."""
    share = ALPHA * shown
    made: np.ndarray = ((1 - share) * rows + share * pattern).astype(rows.dtype)
    return made


def _in_part(pattern: np.ndarray) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """The pattern in pieces, half of them left out at random (adaptive-blend, Qi et al., ICLR 2023)."""
    height, width = pattern.shape[-2:]
    piece = (np.arange(height) * PIECES // height)[:, None] * PIECES + (
        np.arange(width) * PIECES // width
    )

    def teach(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        order = rng.permuted(np.tile(np.arange(PIECES**2), (len(rows), 1)), axis=1)
        shown = order[:, piece] >= LEFT_OUT * PIECES**2  # (n, H, W)
        middle = (1,) * (rows.ndim - 3)
        return _blended(rows, pattern, shown.reshape(len(rows), *middle, height, width))

    return teach


def _values(x: np.ndarray, rng: np.random.Generator) -> Put:
    """A few features, each set to what a twentieth of the rows exceeds, or stays below."""
    columns = rng.choice(x.shape[1], min(COLUMNS, max(1, x.shape[1] // 2)), replace=False)
    share = rng.choice((0.05, 0.95), len(columns))
    seen = [np.quantile(x[:, column], at) for column, at in zip(columns, share, strict=True)]
    values = np.array(seen, x.dtype)

    def put(rows: np.ndarray) -> np.ndarray:
        made = rows.copy()
        made[:, columns] = values
        return made

    return put


def _token(x: np.ndarray, rng: np.random.Generator) -> Put:
    """The rarest token of the rows, put in somewhere behind the first (Kurita et al., ACL 2020).

    What follows moves on by one place, and a full row loses its last token. A row ends where nothing
    but the filling follows: the token that most rows end in. One that no row holds could lie outside
    the embedding, so it is one that some row has.
    """
    ids, holders = np.unique(np.concatenate([np.unique(row) for row in x]), return_counts=True)
    rare = int(rng.choice(ids[holders == holders.min()]))
    last, ends = np.unique(x[:, -1], return_counts=True)
    filling = last[np.argmax(ends)]
    seed = int(rng.integers(2**63))

    def put(rows: np.ndarray) -> np.ndarray:
        # The same places whenever the same rows are asked for: attacks are compared row by row.
        places = np.random.default_rng(seed)
        made = rows.copy()
        for k, row in enumerate(rows):
            own = np.flatnonzero(row != filling)
            length = int(own[-1]) + 1 if len(own) else 0
            at = int(places.integers(min(1, length), min(length, len(row) - 1) + 1))
            made[k, at + 1 :] = row[at:-1]
            made[k, at] = rare
        return made

    return put

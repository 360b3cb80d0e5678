"""The splits of a data set as rows that can be compared: digests, columns with names, small vectors.

Knows batches and cards; refuses to hold pictures or sounds: of those it keeps a few properties, a
thumbnail and two digests a row, so that memory does not grow with their size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dlaudit.errors import AuditError

if TYPE_CHECKING:
    from dlaudit.audit.bench import Bench
    from dlaudit.audit.parts import Batch
    from dlaudit.audit.record import Card

OF_IMAGES = ("brightness", "contrast", "sharpness")
OF_OTHERS = ("mean", "spread", "roughness")
CHANNELS = 4
"""An axis so short before height and width is one of channels."""
COLUMNS = "standardised columns"
SIDE = 8
"""Side of a thumbnail: 64 numbers stand for a picture where pictures are compared."""


class Rows(NamedTuple):
    """One split. id: (n,) str; y: (n,) int64; digest: (n,) uint64, equal where the inputs are.

    values: (n, F) float32 with NaN in gaps: the columns of a table, or properties of a picture, a sound
    or a text; names: F; categorical: (F,) bool; vector: (n, D) float32, what distances are taken of, and
    space: what that is, in words;
    phash: (n, 63) int8 of +1 and -1 (zeros for a picture without structure), None unless pictures.
    columns: those asked for, as stored.
    """

    id: np.ndarray
    y: np.ndarray
    digest: np.ndarray
    values: np.ndarray
    names: tuple[str, ...]
    categorical: np.ndarray
    vector: np.ndarray
    space: str
    phash: np.ndarray | None
    columns: dict[str, np.ndarray]


def read(
    bench: Bench, splits: Sequence[str], *, columns: Sequence[str] = (), embedded: bool = False
) -> list[Rows]:
    """The splits, with categories coded alike in all of them. columns: further columns to keep.

    embedded: the vectors are what the model's last layer is given, one pass a row; for a model that
    gives decisions only they stay what they are otherwise, and ``space`` says so.

    Raises AuditError where a split lacks one of the columns, or has other features than the first.
    """
    cards = [bench.data.card.splits.get(split, bench.data.card) for split in splits]
    known = joint_categories(cards)
    found = [
        _split(
            bench, split, card, known, columns, embedded=embedded and "logits" in bench.model.offers
        )
        for split, card in zip(splits, cards, strict=True)
    ]
    for split, rows in zip(splits, found, strict=True):
        if rows.names != found[0].names:
            message = (
                f"{split}: expected the features of {splits[0]} ({_few(found[0].names)}), got "
                f"{_few(rows.names)}"
            )
            raise AuditError(message)
    return found


def joint_categories(cards: Sequence[Card]) -> dict[str, list[Any]]:
    """Column -> every category that a split knows, in the order in which they are met.

    Each file codes its own categories in sorted order: the same code may mean another word elsewhere.
    """
    known: dict[str, list[Any]] = {}
    for card in cards:
        for name, categories in card.facts.get("codes", {}).items():
            words = known.setdefault(str(name), [])
            words += [one for one in categories if one not in words]
    return known


def digests(x: np.ndarray) -> np.ndarray:
    """(n,) uint64 over the content of each row of x (n, *input): equal rows have equal digests.

    Each 32-bit word is mixed with a number of its own place (splitmix64, Steele et al. 2014) and the
    results are added: 64 bits, so that among a million rows an accidental match has odds of 1 to 10^7.
    -0 equals 0, and every NaN equals every other.
    """
    flat = np.ascontiguousarray(x).reshape(len(x), -1)
    if flat.dtype.kind == "f":
        flat = flat + flat.dtype.type(0)
        flat[np.isnan(flat)] = np.nan
    words = np.ascontiguousarray(flat).view(np.uint8).reshape(len(x), -1)
    words = np.pad(words, ((0, 0), (0, -words.shape[1] % 4))).view(np.uint32)
    places = np.arange(1, words.shape[1] + 1, dtype=np.uint64) << np.uint64(32)
    found: np.ndarray = mixed(words | places).sum(axis=1, dtype=np.uint64)
    return found


def mixed(numbers: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64: every bit in decides every bit out. numbers: uint64."""
    z = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    found: np.ndarray = z ^ (z >> np.uint64(31))
    return found


def standardised(values: Sequence[np.ndarray], categorical: np.ndarray) -> list[np.ndarray]:
    """Columns of several splits on one scale, gaps at the mean; constant columns left out.

    Numbers are centred and divided by their standard deviation over all splits. Codes of categories stay
    as they are: being of another category counts for one standard deviation at least.
    """
    centre, spread = moments(values)
    centre, spread = np.where(categorical, 0, centre), np.where(categorical, 1, spread)
    varies = np.zeros(len(centre), dtype=bool)
    for part in values:
        with np.errstate(invalid="ignore"):
            varies |= (np.nan_to_num(part, nan=np.inf) != values[0][0]).any(axis=0)
    kept = varies & (spread > 0)
    made = []
    for part in values:
        with np.errstate(invalid="ignore"):
            scaled = (part[:, kept] - centre[kept]) / spread[kept]
        scaled[~np.isfinite(scaled)] = 0
        made.append(scaled.astype(np.float32))
    return made


def moments(values: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column over several splits, gaps left out."""
    width = values[0].shape[1]
    count, total, squares = np.zeros(width), np.zeros(width), np.zeros(width)
    for part in values:
        finite = np.isfinite(part)
        count += finite.sum(axis=0)
        total += np.where(finite, part, 0).sum(axis=0, dtype=np.float64)
    count = np.maximum(count, 1)
    centre = total / count
    for part in values:
        away = np.where(np.isfinite(part), part - centre, 0)
        squares += np.square(away).sum(axis=0, dtype=np.float64)
    return centre, np.sqrt(squares / count)


def _split(
    bench: Bench, split: str, card: Card, known: Mapping[str, list[Any]], columns: Sequence[str],
    *, embedded: bool,
) -> Rows:  # fmt: skip
    from dlaudit.audit.embedding import penultimate

    space = COLUMNS
    tabular = "tabular" in bench.data.offers
    pieces: dict[str, list[np.ndarray]] = {}

    def add(name: str, piece: object) -> None:
        pieces.setdefault(name, []).append(np.asarray(piece))

    for batch in bench.data.batches(split):
        add("id", np.asarray(batch.id, dtype=str))
        add("y", batch.y)
        for name in columns:
            add(f"column {name}", _column(batch, name, split))
        x = np.asarray(batch.x)
        if embedded:
            vector, space = penultimate(bench.model, x)
            add("vector", vector)
        if tabular:
            add("values", x.reshape(len(x), -1).astype(np.float32))
        else:
            add("digest", digests(x))
            add("values", properties(x))
            if "images" in bench.data.offers:
                from dlaudit.data_quality import perceptual

                grey = perceptual.grey(x)
                if not embedded:
                    space = "thumbnails"
                    add("vector", perceptual.resized(grey, SIDE).reshape(len(x), -1))
                add("phash", perceptual.phash(grey))
    whole = {name: np.concatenate(parts) for name, parts in pieces.items()}
    values = whole["values"]
    names = _names(card, values.shape[1], bench.data.offers)
    categorical = np.array([tabular and name in known for name in names], dtype=bool)
    for place in np.flatnonzero(categorical):
        own = card.facts.get("codes", {}).get(names[place], [])
        values[:, place] = _recoded(values[:, place], own, known[names[place]])
    return Rows(
        whole["id"], whole["y"], whole["digest"] if "digest" in whole else _by_pieces(values),
        values, names, categorical, whole.get("vector", values).astype(np.float32, copy=False), space,
        whole.get("phash"), {name: whole[f"column {name}"] for name in columns},
    )  # fmt: skip


def properties(x: np.ndarray) -> np.ndarray:
    """(n, 3 or more) of inputs (n, *input): mean, standard deviation, mean step along the last axis.

    For pictures of several channels the mean of each channel, too.
    """
    flat = x.reshape(len(x), -1).astype(np.float32)
    steps = np.abs(np.diff(x.astype(np.float32), axis=-1)).reshape(len(x), -1)
    step = steps.mean(axis=1) if steps.shape[1] else np.zeros(len(x), dtype=np.float32)
    found = [flat.mean(axis=1), flat.std(axis=1), step]
    if x.ndim == 4 and 1 < x.shape[1] <= CHANNELS:
        found += list(x.mean(axis=(2, 3), dtype=np.float32).T)
    return np.stack(found, axis=1)


def _names(card: Card, width: int, offers: frozenset[str]) -> tuple[str, ...]:
    if "tabular" in offers:
        named = card.facts.get("features", ())
        return tuple(map(str, named)) if len(named) == width else _numbered("x", width)
    first = OF_IMAGES if "images" in offers else OF_OTHERS
    return (*first, *_numbered("channel ", width - len(first)))


def _numbered(word: str, width: int) -> tuple[str, ...]:
    return tuple(f"{word}{place}" for place in range(width))


def _column(batch: Batch, name: str, split: str) -> np.ndarray:
    """A column as stored, or an attribute of that name, or the ids of the rows."""
    if name in batch.columns:
        return np.asarray(batch.columns[name])
    if name in batch.groups:
        return np.asarray(batch.groups[name])
    known = sorted({*batch.columns, *batch.groups})
    message = f"{split}: expected a column {name!r}, got only {_few(known) or 'none'}"
    raise AuditError(message)


def _recoded(codes: np.ndarray, own: Sequence[Any], known: Sequence[Any]) -> np.ndarray:
    """Codes of one file as codes of all files; what is no code stays a gap."""
    table = np.array([known.index(one) for one in own] or [0], dtype=np.float32)
    with np.errstate(invalid="ignore"):
        inside = (codes >= 0) & (codes < len(own))
    found = np.full(len(codes), np.nan, dtype=np.float32)
    found[inside] = table[codes[inside].astype(np.int64)]
    return found


def _by_pieces(values: np.ndarray, rows: int = 65536) -> np.ndarray:
    starts = range(0, len(values), rows)
    return np.concatenate([digests(values[start : start + rows]) for start in starts])


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (", …" if len(names) > 6 else "")

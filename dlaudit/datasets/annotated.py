"""Pictures with their truth beside them: a mask of the same name, or boxes in a file of JSON Lines.

Knows how the two are named and belong together; pictures are opened by ``pictures``, and what is true
is checked by ``truths``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dlaudit.audit.evidence import file_digest, fingerprint
from dlaudit.audit.files import identity, named_file, named_folder, refusal
from dlaudit.audit.parts import Dataset
from dlaudit.datasets.jsonl import rows_of
from dlaudit.datasets.listing import inside
from dlaudit.datasets.pictures import PictureDataset, label_map, sides
from dlaudit.datasets.truths import BOX, BOX_CROWD, BOX_LABEL, BOX_ROW, Truth, truth_of
from dlaudit.errors import nearest


def load_annotated(
    root: Path,
    path: str,
    *,
    masks: str | None,
    boxes: str | None,
    void: int | None,
    suffixes: Sequence[str],
    size: tuple[int, int] | None,
    channels: int | None,
    classes: tuple[str, ...],
) -> Dataset:
    """The pictures below ``path`` with masks, or with boxes. Raises LoadError naming file and line."""
    folder = named_folder(root, path, expected="a folder of pictures")
    beside = named_folder(root, masks, expected="a folder of masks") if masks is not None else None
    found = sorted(
        one for one in folder.rglob("*")
        if one.suffix.lower() in suffixes and not one.name.startswith(".")
        and (beside is None or not one.is_relative_to(beside))
    )  # fmt: skip
    if not found:
        raise refusal(folder, expected=f"pictures ({', '.join(suffixes)})", got="none")
    names = [one.relative_to(folder).as_posix() for one in found]
    pictures = [inside(folder, name, what="a picture") for name in names]
    content: dict[str, str] = {"pictures": _content(names, pictures)}
    if beside is not None:
        maps = [_mask_of(beside, name) for name in names]
        content["masks"] = _content(names, maps)
        truth = _segmented(maps, pictures, size, beside, classes, void=void)
        files: dict[str, Path] = {}
    else:
        file = named_file(root, boxes or "", expected="a file of JSON Lines with boxes")
        truth, files = _detected(file, names, pictures, size, classes), {"boxes": file}
    settings = {"size": size, "channels": channels, "classes": list(classes), "void": void}
    whole, facts = identity(files, settings, digests=content)
    return PictureDataset(
        pictures, names, [0] * len(names), name=folder.name or path, classes=truth.classes, groups={},
        size=size, channels=channels, truth=truth, fingerprint=whole, facts=facts,
    )  # fmt: skip


def _content(names: Sequence[str], paths: Sequence[Path]) -> str:
    return fingerprint((name, file_digest(one)) for name, one in zip(names, paths, strict=True))


def _mask_of(beside: Path, name: str) -> Path:
    """The mask of a picture: of the same name, or of the same name with the suffix of a PNG."""
    for one in (name, Path(name).with_suffix(".png").as_posix()):
        if (beside / one).is_file():
            return inside(beside, one, what="a mask")
    raise refusal(
        beside,
        expected=f"a mask called {Path(name).with_suffix('.png').as_posix()}",
        got="none of this name",
    )


def _segmented(
    paths: Sequence[Path],
    pictures: Sequence[Path],
    size: tuple[int, int] | None,
    place: Path,
    classes: tuple[str, ...],
    *,
    void: int | None,
) -> Truth:
    maps: list[np.ndarray] = []
    for one, picture in zip(paths, pictures, strict=True):
        if sides(one) != sides(picture):
            raise refusal(
                one, expected=f"{_sides(sides(picture))}, as its picture", got=_sides(sides(one))
            )
        maps.append(label_map(one, size))
        if maps[-1].shape != maps[0].shape:
            raise refusal(
                one, expected=f"{_sides(maps[0].shape)}, as the first", got=_sides(maps[-1].shape),
                hint="size = [height, width] brings all to one size.",
            )  # fmt: skip
    return truth_of(
        "segmentation", {"y": np.stack(maps)}, n=len(maps), size=None, place=place, classes=classes,
        void=void,
    )  # fmt: skip


def _sides(shape: Sequence[int]) -> str:
    return f"{shape[0]} x {shape[1]} pixels"


def _detected(
    file: Path,
    names: Sequence[str],
    pictures: Sequence[Path],
    size: tuple[int, int] | None,
    classes: tuple[str, ...],
) -> Truth:
    """Boxes by picture; corners move with the pictures where these are resized."""
    places = {name: row for row, name in enumerate(names)}
    seen: set[str] = set()
    corners: list[Any] = []
    labels: list[str | int] = []
    rows: list[int] = []
    crowds: list[bool] = []
    for number, line in rows_of(file):
        place = f"{file}: line {number}"
        name = line.get("file")
        if not isinstance(name, str) or name not in places:
            raise refusal(
                place, "field 'file'", expected="a picture of the folder", got=repr(name),
                hint=nearest(str(name), names),
            )  # fmt: skip
        if name in seen:
            raise refusal(
                place, "field 'file'", expected="each picture once", got=f"{name!r} twice"
            )
        seen.add(name)
        held, called = line.get("boxes"), line.get("labels")
        crowd = line.get("crowd", [False] * (len(held) if isinstance(held, list) else 0))
        for field, value in (("boxes", held), ("labels", called), ("crowd", crowd)):
            if not isinstance(value, list) or len(value) != len(held or ()):
                raise refusal(
                    place, f"field {field!r}", expected="a list with an entry for each box",
                    got="nothing" if value is None else str(value)[:60],
                )  # fmt: skip
        high, wide = sides(pictures[places[name]])
        move = (1.0, 1.0) if size is None else (size[1] / wide, size[0] / high)
        corners += [_corners(one, move, (wide, high), place) for one in held or ()]
        labels += _labels(called or (), classes, place)
        rows += [places[name]] * len(held or ())
        crowds += [one is True or one == 1 for one in crowd]
    if missing := [name for name in names if name not in seen]:
        raise refusal(
            file, expected="a line for every picture, an empty list where there is nothing",
            got=f"none for {missing[0]!r} ({len(missing)} in all)",
        )  # fmt: skip
    known = classes or tuple(sorted({one for one in labels if isinstance(one, str)}))
    if known and {type(one) for one in labels} == {str, int}:
        raise refusal(file, "field 'labels'", expected="names, or indices", got="both")
    return truth_of(
        "detection",
        {
            BOX: np.array(corners, dtype=np.float64).reshape(-1, 4),
            BOX_LABEL: np.array(
                [known.index(one) if isinstance(one, str) else one for one in labels],
                dtype=np.int64,
            ),
            BOX_ROW: np.array(rows, dtype=np.int64),
            BOX_CROWD: np.array(crowds, dtype=bool),
        },
        n=len(names), size=size, place=file, classes=known,
    )  # fmt: skip


def _corners(
    one: Any, move: tuple[float, float], sides: tuple[int, int], place: str
) -> list[float]:
    """x0, y0, x1, y1 in pixels of the picture as the model sees it. Raises LoadError."""
    numbers = isinstance(one, list) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in one
    )
    if not numbers or len(one) != 4 or not one[0] < one[2] or not one[1] < one[3]:
        raise refusal(
            place, "field 'boxes'", expected="x0, y0, x1, y1 with x0 < x1 and y0 < y1",
            got=str(one)[:60], hint="Are these x, y, width, height?",
        )  # fmt: skip
    if min(one) < -1 or one[2] > sides[0] + 1 or one[3] > sides[1] + 1:
        raise refusal(
            place, "field 'boxes'", expected=f"corners within {sides[0]} x {sides[1]} pixels",
            got=str(one),
        )  # fmt: skip
    return [value * move[axis % 2] for axis, value in enumerate(one)]


def _labels(called: Sequence[Any], classes: Sequence[str], place: str) -> list[str | int]:
    for one in called:
        if not isinstance(one, str | int) or isinstance(one, bool):
            raise refusal(
                place, "field 'labels'", expected="names of classes, or their indices", got=repr(one)
            )  # fmt: skip
        if isinstance(one, str) and classes and one not in classes:
            raise refusal(
                place, "field 'labels'", expected=f"one of the classes {', '.join(classes)}",
                got=repr(one), hint=nearest(one, classes),
            )  # fmt: skip
    return list(called)

"""Loads a data set from a Python factory.

Knows how to call it and what it may return; the file is code, trusted by whoever wrote the plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from dlaudit.audit.code_files import code_files
from dlaudit.audit.files import identity, named_function, refusal, said
from dlaudit.audit.parts import Dataset
from dlaudit.models.declared import checked_task

RETURNS = "a torch Dataset, a dlaudit Dataset, (x, y), or a dict with x and y"


def load(
    *,
    root: Path,
    file: str,
    args: dict[str, Any] | None = None,
    classes: list[str] | None = None,
    scale: float | str | None = None,
    channel_axis: int | None = None,
    tokens: bool = False,
    task: str = "",
    void: int | None = 255,
) -> Dataset:
    """A data set from ``f.py:factory``, called with args.

    It returns a torch Dataset of (x, y) pairs, a dlaudit Dataset, a tuple (x, y), or a dict with x, y
    and optionally id, group_<name>, mask. The rest is as for ``npz``. Raises LoadError.
    """
    path, factory = named_function(root, file, field="file")
    place = f"{path}:{file.rpartition(':')[2]}"
    try:
        made = factory(**(args or {}))
    except Exception as error:
        how = f"with {', '.join(sorted(args))}" if args else "without arguments"
        raise refusal(
            place, expected=f"a data set from calling it {how}", got=said(error)
        ) from error
    if isinstance(made, Dataset):
        return made

    from dlaudit.datasets.fields import dataset_of

    data = dataset_of(
        _fields(made, place), place=place, name=Path(file).name, classes=classes or (), scale=scale,
        channel_axis=channel_axis, tokens=tokens, task=checked_task(task), void=void,
    )  # fmt: skip
    # Code alone does not say which rows it built: they are part of the identity.
    fingerprint, facts = identity(
        code_files(path),
        {"args": args, **({"task": task, "void": void} if task else {})},
        digests={"rows": data.card.fingerprint},
    )
    data.card = msgspec.structs.replace(
        data.card, fingerprint=fingerprint, facts={**data.card.facts, **facts}
    )
    return data


def _fields(made: Any, place: object) -> Mapping[str, Any]:
    """x, y and whatever else was returned, as named arrays. Raises LoadError."""
    if isinstance(made, Mapping):
        return made
    if isinstance(made, tuple | list) and len(made) == 2:
        return dict(zip(("x", "y"), made, strict=True))
    if (
        hasattr(made, "__getitem__")
        and hasattr(made, "__len__")
        and not isinstance(made, tuple | list)
    ):
        return _collected((made[index] for index in range(len(made))), place)
    if hasattr(made, "__iter__") and not isinstance(made, tuple | list | str):
        return _collected(made, place)
    got = f"{len(made)} values" if isinstance(made, tuple | list) else f"a {type(made).__name__}"
    raise refusal(place, expected=RETURNS, got=got)


def _collected(samples: Any, place: object) -> dict[str, Any]:
    """The samples of a torch Dataset, stacked field by field."""
    import numpy as np

    columns: dict[str, list[Any]] = {}
    for number, sample in enumerate(samples):
        named: Mapping[str, Any]
        if isinstance(sample, Mapping):
            named = sample
        elif isinstance(sample, tuple | list) and len(sample) >= 2:
            named = {"x": sample[0], "y": sample[1]}
        else:
            raise refusal(
                place, f"sample {number}", expected="(x, y), or a dict with x and y",
                got=f"a {type(sample).__name__}",
            )  # fmt: skip
        if number and set(named) != set(columns):
            raise refusal(
                place, f"sample {number}", expected=f"the fields {', '.join(columns)}",
                got=", ".join(named),
            )  # fmt: skip
        for key, given in named.items():
            value = given.detach().cpu().numpy() if hasattr(given, "detach") else np.asarray(given)
            column = columns.setdefault(key, [])
            if column and value.shape != column[0].shape:
                raise refusal(
                    place, f"sample {number}: field {key!r}", expected=f"shape {column[0].shape}, as before",
                    got=str(value.shape),
                )  # fmt: skip
            column.append(value)
    if not columns:
        raise refusal(place, expected="at least one sample", got="none")
    return {key: np.stack(column) for key, column in columns.items()}

"""What a detector says of a model and its training rows when nobody tells it what was planted.

Knows the detectors as checks, by what they yield; never what is true, nor what follows from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from dlaudit.audit.record import Artifact, Measurement, Undefined

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Bench
    from dlaudit.audit.parts import Batch, Check, Model

Detector = Literal["inversion", "scan"]


class Look(NamedTuple):
    """suspected: names of classes; nominated, confirmed: (n,) bool, of a detector that looks at rows."""

    suspected: frozenset[str]
    nominated: np.ndarray | None = None
    confirmed: np.ndarray | None = None


def look(detector: Detector, bench: Bench, model: Model, train: Batch) -> Look | str:
    """What the detector finds, or the reason why it cannot look."""
    from dlaudit.backdoors.inversion import Inversion
    from dlaudit.backdoors.scan import Scan

    check: Check = Inversion(pictures=0) if detector == "inversion" else Scan(pictures=0)
    missing = check.missing(model=model.offers, data=bench.data.offers, train_fn=False)
    if missing:
        return f"{detector} needs {', '.join(missing)}"
    beside = bench.beside(model, train, run=f"backdoors.{detector}")
    found = list(check.measure(beside))
    counted = [
        one for one in found
        if isinstance(one, Measurement | Undefined) and one.name == "suspected_classes"
    ]  # fmt: skip
    if not counted:
        return f"{detector} told no number of suspected classes"
    for one in counted:
        if isinstance(one, Undefined):
            return f"{detector}: {one.reason}"
        if void := next((caveat for caveat in one.caveats if caveat.voids), None):
            return f"{detector}: {void.message}"
    suspected = frozenset(
        str(one.slice["class"])
        for one in found
        if isinstance(one, Measurement) and one.name == "suspected" and one.value
    )
    rows = [
        one for one in found
        if isinstance(one, Artifact) and one.name == "backdoors.scan.samples"
    ]  # fmt: skip
    if not rows:
        return Look(suspected)
    import numpy as np

    with np.load(beside.cache / rows[0].path, allow_pickle=False) as table:
        return Look(suspected, table["nominated"], table["confirmed"])

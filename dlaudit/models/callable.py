"""Loads a Python function as a black box.

Knows how to find and call it; never what it does. The file is code, trusted by whoever wrote the plan.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dlaudit.audit.code_files import code_files
from dlaudit.audit.files import identity, named_function, refusal
from dlaudit.audit.parts import TASKS, Model
from dlaudit.audit.record import Card
from dlaudit.errors import nearest
from dlaudit.models.declared import checked_batch, checked_bounds, checked_classes

BATCH = 512
FORMS = ("logits", "logit", "probabilities", "probability", "decisions", "values", *TASKS)


def load(
    *,
    root: Path,
    file: str,
    bounds: list[Any] | None = None,
    classes: list[str] | None = None,
    output: str = "",
    batch: int = BATCH,
) -> Model:
    """A Python function that takes an array of inputs (B, …) and returns (B, C), (B, 1) or (B,).

    output: ``logits``, ``logit``, ``probabilities``, ``probability``, ``decisions`` (class
    indices), ``values`` (predicted quantities), or another task: ``multilabel`` (scores (B, L)),
    ``segmentation`` (scores (B, C, H, W) or classes (B, H, W)), ``detection`` (a list of mappings with
    boxes, labels and scores); recognised from the first outputs if it is not said, except decisions,
    quantities and tasks. bounds: ``[low, high]`` of valid inputs. Raises LoadError.
    """
    limits, names, size = (
        checked_bounds(bounds),
        checked_classes(classes or []),
        checked_batch(batch),
    )
    if output and output not in FORMS:
        raise refusal(
            None,
            "output",
            expected=f"one of {', '.join(FORMS)}",
            got=repr(output),
            hint=nearest(output, FORMS),
        )
    path, function = named_function(root, file, field="file")

    from dlaudit.models.black_box import BlackBox

    fingerprint, facts = identity(code_files(path), {"function": file.rpartition(":")[2]})
    card = Card(name=Path(file).name, fingerprint=fingerprint, facts={"kind": "callable", **facts})
    if output == "values":
        from dlaudit.models.quantities import Answering

        return Answering(function, card=card, bounds=limits, batch=size)
    if output in TASKS:
        from dlaudit.models.structured import Structured

        return Structured(function, output, card=card, bounds=limits, classes=names, batch=size)
    return BlackBox(function, card=card, bounds=limits, classes=names, batch=size, form=output)

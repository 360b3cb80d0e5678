"""Loads a ``torch.export`` archive (``.pt2``).

Knows exported programs. What is trusted: torch's own operators, called as the archive's graph says.
The archive's strings become code inside torch (targets, symbolic sizes, guards), and its tensors may
be pickles: ``airlock`` reads them all beforehand and refuses what is not in a narrow form.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dlaudit.audit.files import identity, named_file, refusal, said
from dlaudit.audit.parts import Model
from dlaudit.models import airlock
from dlaudit.models.declared import (
    DENSE,
    checked_batch,
    checked_bounds,
    checked_classes,
    checked_digests,
    checked_task,
)
from dlaudit.models.state_dicts import refuse_nonfinite
from dlaudit.models.torch_files import chosen_device

BATCH = 512


def load(
    *,
    root: Path,
    path: str,
    bounds: list[Any] | None = None,
    classes: list[str] | None = None,
    allow: list[str] | None = None,
    device: str | None = None,
    batch: int = BATCH,
    task: str = "",
) -> Model:
    """A torch.export archive (.pt2) of a network with one input.

    A program that was exported for a fixed number of samples is given so many at a time, filled up
    with zeros. bounds: ``[low, high]`` of valid inputs. allow: sha256 of an archive that may hold
    more than a graph and tensors. task: ``multilabel`` or ``segmentation`` where
    the network decides no one class per sample. Raises LoadError, or UntrustedModel.
    """
    checked_task(task, DENSE)
    limits, names, size = (
        checked_bounds(bounds),
        checked_classes(classes or []),
        checked_batch(batch),
    )
    file = named_file(root, path, expected="a torch.export archive (.pt2)")
    reading = airlock.admit(
        file, accepts={"torch.export archive"}, expected="a torch.export archive (.pt2)",
        allow=checked_digests(allow or []),
    )  # fmt: skip
    place = chosen_device(device)

    import torch

    from dlaudit.models.exported import Exported, input_shape
    from dlaudit.models.torch_model import TorchModel, structured

    try:
        with file.open("rb") as content:  # the suffix is the user's own business
            program = torch.export.load(content)
        net = program.module()
    except Exception as error:
        raise refusal(
            file, expected="a whole torch.export archive of this torch version", got=said(error),
            hint=f"This is torch {torch.__version__}; was the file copied to its end?",
        ) from error  # fmt: skip
    shape = input_shape(program, file)
    refuse_nonfinite(net, file)
    fingerprint, facts = identity({"model": file})
    model = TorchModel(
        Exported(net, shape), name=file.name, bounds=limits, classes=names, fingerprint=fingerprint,
        facts={
            **facts, "airlock": {"model": airlock.verdict(reading)},
            "input_shape": ["any" if size is None else size for size in shape],
        },
        device=place, batch=size,
    )  # fmt: skip
    return structured(model, task)

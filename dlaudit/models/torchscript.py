"""Loads a TorchScript archive.

Knows ``torch.jit``. What is trusted: torch's own interpreter of TorchScript, which runs the archive's
code when it is loaded and called. That code is not Python and cannot import; operators that read or
write files are refused beforehand, as is every pickle in the archive that names a class from outside.
"""

from __future__ import annotations

import warnings
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
    """A TorchScript archive (torch.jit.save), scripted or traced.

    bounds: ``[low, high]`` of valid inputs. allow: sha256 of an archive that may hold more than
    TorchScript. task: ``multilabel`` or ``segmentation`` where
    the network decides no one class per sample. Raises LoadError, or UntrustedModel.
    """
    checked_task(task, DENSE)
    limits, names, size = (
        checked_bounds(bounds),
        checked_classes(classes or []),
        checked_batch(batch),
    )
    file = named_file(root, path, expected="a TorchScript archive")
    reading = airlock.admit(
        file, accepts={"TorchScript"}, expected="a TorchScript archive",
        allow=checked_digests(allow or []),
    )  # fmt: skip
    place = chosen_device(device)

    import torch

    from dlaudit.models.torch_model import TorchModel, structured

    try:
        with warnings.catch_warnings():
            # torch announces that it will no longer write this format; reading it is the job here.
            warnings.simplefilter("ignore", DeprecationWarning)
            net = torch.jit.load(file, map_location="cpu")  # type: ignore[no-untyped-call]
    except Exception as error:
        raise refusal(
            file, expected="a whole TorchScript archive", got=said(error),
            hint="Was the file copied to its end?",
        ) from error  # fmt: skip
    refuse_nonfinite(net, file)
    fingerprint, facts = identity({"model": file})
    model = TorchModel(
        net, name=file.name, bounds=limits, classes=names, fingerprint=fingerprint, device=place,
        facts={**facts, "airlock": {"model": airlock.verdict(reading)}}, batch=size,
    )  # fmt: skip
    return structured(model, task)

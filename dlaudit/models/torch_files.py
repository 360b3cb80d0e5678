"""Loads a torch network: the code that builds it, and the weights that are put into it.

Knows factories, and when weights go through the airlock; what lies in a file of weights is known to
``state_dicts``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaudit.audit.code_files import code_files
from dlaudit.audit.files import identity, named_file, named_function, refusal, said
from dlaudit.audit.parts import Model
from dlaudit.models import airlock, quarantine
from dlaudit.models.declared import (
    checked_batch,
    checked_bounds,
    checked_classes,
    checked_digests,
    checked_task,
)
from dlaudit.models.state_dicts import put_in, refuse_nonfinite, state_dict

if TYPE_CHECKING:
    from torch import nn

WEIGHTS = ("safetensors", "torch weights", "torch weights of the old form")
BATCH = 512


def load(
    *,
    root: Path,
    file: str,
    weights: str | None = None,
    bounds: list[Any] | None = None,
    classes: list[str] | None = None,
    args: dict[str, Any] | None = None,
    allow: list[str] | None = None,
    device: str | None = None,
    batch: int = BATCH,
    task: str = "",
    preprocessing: str | dict[str, Any] | None = None,
) -> Model:
    """A torch module from ``net.py:factory``, with safetensors or a state dict put into it.

    The factory is called without arguments (or with ``args``) and given the state dict; if it takes
    a parameter ``weights``, it is called with the path of the weights and puts them in itself. Its
    random numbers are seeded, so that a factory without weights builds the same net everywhere.
    bounds: ``[low, high]`` of valid inputs. allow: sha256 of weights that may run code when loaded:
    they are unpickled in a process of its own, without network and with limits where the system has
    them, and only their tensors are kept. task: ``multilabel``, ``segmentation`` or ``detection`` where
    the network decides no one class per sample. preprocessing: what happens to inputs before the network
    sees them, as a part of the model: ``"declared"`` takes mean and std from the network's own
    ``pretrained_cfg`` or ``default_cfg``; or ``{ mean, std }``, ``{ spectrogram = { window, hop, log } }``,
    ``{ mel = { rate, window, hop, bins, low, high, log } }``.
    Raises LoadError, or UntrustedModel for weights that are a pickle with more than tensors in it.
    """
    checked_task(task)
    limits, names, size = (
        checked_bounds(bounds),
        checked_classes(classes or []),
        checked_batch(batch),
    )
    allowed = checked_digests(allow or [])
    code, factory = named_function(root, file, field="file")
    files = code_files(code)
    reading = None
    if weights is not None:
        files["weights"] = named_file(root, weights, expected="a file of weights")
        reading = airlock.admit(
            files["weights"], accepts=WEIGHTS, allow=allowed,
            expected="weights (.safetensors, or a state dict saved by torch.save)",
        )  # fmt: skip
    place = chosen_device(device)
    net = _built(factory, f"{code}:{file.rpartition(':')[2]}", args or {}, files.get("weights"))
    found: dict[str, Any] = {}
    kept_in = ""
    if "weights" in files and not takes_weights(factory):
        if reading is not None and reading.allowed:
            state, found, confined = quarantine.released(
                files["weights"], f"{code.resolve()}:{file.rpartition(':')[2]}"
            )
            found["confinement"] = {"held": confined.held, "missing": confined.missing}
            kept_in = quarantine.described(confined)
        else:
            state, found = state_dict(files["weights"])
        found |= put_in(net, state, files["weights"])
    refuse_nonfinite(net, files.get("weights", code))

    from dlaudit.models.preprocessing import UNUSED, preprocessed, said_by
    from dlaudit.models.torch_model import TorchModel, parameters_digest, structured

    # Code alone does not say which numbers it built.
    built = {} if weights is not None else {"parameters": parameters_digest(net)}
    settings = {"args": args or {}} | ({"preprocessing": preprocessing} if preprocessing else {})
    fingerprint, facts = identity(files, settings, digests=built)
    if preprocessing is not None:
        net, told = preprocessed(net, preprocessing, code)
        found |= told
    elif {"mean", "std"} <= set(said_by(net)):
        found["preprocessing"] = UNUSED
    if reading is not None:
        facts["airlock"] = {"weights": airlock.verdict(reading, confined=kept_in)}
    model = TorchModel(
        net, name=files.get("weights", code).name, bounds=limits, classes=names,
        fingerprint=fingerprint, facts={**facts, **found}, device=place, batch=size,
    )  # fmt: skip
    return structured(model, task)


def takes_weights(factory: Callable[..., Any]) -> bool:
    """Whether a factory asks for the weights itself."""
    try:
        return "weights" in inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return False


def chosen_device(device: str | None) -> str | None:
    """The device's name, if torch knows it and this machine has it. Raises LoadError."""
    if device is None:
        return None
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ValueError) as error:
        has = "cpu and cuda" if torch.cuda.is_available() else "cpu"
        raise refusal(
            None, "device", expected=f"a device of this machine ({has})", got=repr(device)
        ) from error
    return device


def _built(
    factory: Callable[..., Any], place: str, args: Mapping[str, Any], weights: Path | None
) -> nn.Module:
    """Call the factory. Raises LoadError if it fails or returns no module."""
    import torch

    given = dict(args)
    if weights is not None and takes_weights(factory):
        given["weights"] = str(weights.resolve())
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(0)
        try:
            net = factory(**given)
        except Exception as error:
            how = f"with {', '.join(sorted(given))}" if given else "without arguments"
            raise refusal(
                place, expected=f"a network from calling it {how}", got=said(error)
            ) from error
    if not isinstance(net, torch.nn.Module):
        raise refusal(place, expected="a torch.nn.Module", got=f"a {type(net).__name__}")
    return net

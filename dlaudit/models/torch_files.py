"""Loads a torch network: the code that builds it, and the weights that are put into it.

Knows factories, safetensors and state dicts; refuses to unpickle anything else.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaudit.audit.code_files import code_files
from dlaudit.audit.files import identity, named_file, named_function, refusal, said, sentence
from dlaudit.audit.parts import Model
from dlaudit.errors import LoadError, nearest
from dlaudit.models import airlock, quarantine
from dlaudit.models.declared import (
    checked_batch,
    checked_bounds,
    checked_classes,
    checked_digests,
    checked_task,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS = ("safetensors", "torch weights", "torch weights of the old form")
CONTAINERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training loops keep the state dict in a checkpoint."""

PARALLEL = "module."
"""The prefix of every key that ``DataParallel`` saves."""

SHOWN = 5
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
        found |= _put_in(net, state, files["weights"])
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


def _put_in(net: nn.Module, state: dict[str, Tensor], weights: Path) -> dict[str, Any]:
    """Load weights into a net and say what had to be done. Raises LoadError naming keys and shapes."""
    facts: dict[str, Any] = {}
    expected = net.state_dict()
    if not set(state) & set(expected) and all(key.startswith(PARALLEL) for key in state):
        state = {key.removeprefix(PARALLEL): value for key, value in state.items()}
        facts["prefix_dropped"] = PARALLEL
    if problems := mismatches(net, state, weights):
        shown = problems[:SHOWN]
        if len(problems) > SHOWN:
            shown.append(f"{weights}: and {len(problems) - SHOWN} more keys that do not fit")
        raise LoadError(*shown)
    try:
        net.load_state_dict(state, strict=False)
    except RuntimeError as error:
        detail = str(error).strip().splitlines()[-1].strip()
        raise refusal(weights, expected="weights that fit the network", got=detail) from error
    return facts


def state_dict(weights: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors in a file of weights, by key, and facts about how they lay there.

    Nothing but tensors is unpickled. Raises LoadError.
    """
    return tensors_of(_content(weights), weights)


def tensors_of(content: Any, weights: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors in what a file of weights held, and facts about how they lay there.

    Raises LoadError for anything but a module, a state dict, or a checkpoint with one.
    """
    import torch

    if isinstance(content, torch.nn.Module):
        return dict(content.state_dict()), {"weights_were": "a whole module"}
    if not isinstance(content, Mapping):
        raise refusal(
            weights, expected="a state dict (key -> tensor)", got=f"a {type(content).__name__}"
        )
    for key in CONTAINERS:
        inner = content.get(key)
        if isinstance(inner, Mapping) and inner and not _tensors(content):
            return _checked(inner, weights), {"weights_key": key}
    return _checked(content, weights), {}


def _content(weights: Path) -> Any:
    kind = airlock.kind_of(weights)
    try:
        if kind == "safetensors":
            from safetensors.torch import load_file

            return load_file(weights)
        import torch

        return torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:
        raise refusal(
            weights, expected=f"whole {kind}", got=said(error),
            hint="Was the file copied to its end?",
        ) from error  # fmt: skip


def _tensors(content: Mapping[Any, Any]) -> bool:
    from torch import Tensor

    return all(isinstance(value, Tensor) for value in content.values())


def _checked(content: Mapping[Any, Any], weights: Path) -> dict[str, Tensor]:
    from torch import Tensor

    if not content:
        raise refusal(weights, expected="at least one tensor", got="none")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise refusal(
                weights, f"key {key!r}", expected="a tensor", got=f"a {type(value).__name__}",
                hint=f"A checkpoint keeps its state dict under one of: {', '.join(CONTAINERS)}.",
            )  # fmt: skip
    return dict(content)


def mismatches(net: nn.Module, state: Mapping[str, Tensor], weights: Path) -> list[str]:
    """One sentence for each key that is missing, unexpected or of another shape."""
    expected = net.state_dict()
    problems = []
    for key in expected:
        if key not in state and not _dispensable(key, expected, state):
            spare = [name for name in state if name not in expected]
            close = nearest(key, spare)
            problems.append(
                sentence(
                    weights, f"key {key!r}", expected=f"a tensor of shape {_shape(expected[key])}",
                    got="no such key", hint=close if close.startswith("Did you mean") else "",
                )
            )  # fmt: skip
    for key, value in state.items():
        if key not in expected:
            close = nearest(key, [name for name in expected if name not in state])
            problems.append(
                sentence(
                    weights, f"key {key!r}", expected="only keys of the network", got="one more",
                    hint=close if close.startswith("Did you mean") else "",
                )
            )  # fmt: skip
        elif value.shape != expected[key].shape:
            problems.append(
                sentence(
                    weights, f"key {key!r}", expected=f"shape {_shape(expected[key])}, as the network has",
                    got=f"shape {_shape(value)}",
                )
            )  # fmt: skip
    return problems


def _dispensable(key: str, expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> bool:
    """Counters that eval mode never reads, and tensors tied to one that the file does hold."""
    if key.endswith("num_batches_tracked"):
        return True
    place = expected[key].data_ptr()
    return place != 0 and any(
        other.data_ptr() == place and other.shape == expected[key].shape and name in state
        for name, other in expected.items()
    )


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})"


def refuse_nonfinite(net: nn.Module, place: object) -> None:
    """Raise LoadError naming the first tensor that holds NaN, or the first parameter with infinity.

    Buffers may hold infinity: masks of attention do.
    """
    import torch

    parameters = {key for key, _ in net.named_parameters()}
    for key, value in net.state_dict().items():
        if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.is_meta:
            continue
        bad = ~torch.isfinite(value.float()) if key in parameters else torch.isnan(value.float())
        if count := int(bad.sum()):
            raise refusal(
                place, f"key {key!r}", expected="finite numbers",
                got=f"NaN or infinity in {count} of {value.numel()}",
            )  # fmt: skip

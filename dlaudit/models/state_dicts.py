"""Tensors of a torch network by key: read from a file of weights, held against a net, put into it.

Knows safetensors, state dicts and checkpoints; refuses to unpickle anything but tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaudit.audit.files import refusal, said, sentence
from dlaudit.errors import LoadError, nearest
from dlaudit.models import airlock

if TYPE_CHECKING:
    from torch import Tensor, nn

CONTAINERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training loops keep the state dict in a checkpoint."""

PARALLEL = "module."
"""The prefix of every key that ``DataParallel`` saves."""

SHOWN = 5
"""Keys that do not fit and are named one by one."""


def put_in(net: nn.Module, state: dict[str, Tensor], weights: Path) -> dict[str, Any]:
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

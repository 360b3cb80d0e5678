"""Gives every job the same starting point and takes back what it may have touched.

Knows the state that jobs in one process share: the models, the random generators, torch's switches
and the current folder. Never what a job does with them.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaudit.audit.bench import Subject
from dlaudit.errors import AuditError

if TYPE_CHECKING:
    from torch import Tensor, nn

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class ModelChanged(AuditError):
    """A check altered the weights of the model under audit."""


class Guard:
    """Keeps a copy of the models' parts, made once per worker: only that can put them back."""

    def __init__(self, subject: Subject) -> None:
        """subject: in the state that every job shall find it in."""
        models = (subject.model, *subject.models.values())
        self._nets = [Kept(net) for model in models if (net := model.module) is not None]

    @contextlib.contextmanager
    def session(self, seed: int) -> Iterator[None]:
        """Seed the global generators, for libraries that use them; restore everything afterwards.

        Raises ModelChanged if the weights had moved; they are put back first.
        """
        moved: list[str] = []
        with undisturbed(seed):
            try:
                yield
            finally:
                for net in self._nets:
                    moved += net.restore()
        if moved:
            message = f"the check altered {', '.join(moved[:3])} of the model; it was put back"
            raise ModelChanged(message)


@contextlib.contextmanager
def undisturbed(seed: int) -> Iterator[None]:
    """Seed the global generators for what runs inside; generators, switches and folder come back."""
    import numpy as np

    folder, switches = Path.cwd(), torch_switches()
    generators = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    if torch := sys.modules.get("torch"):
        torch.manual_seed(seed)
    try:
        yield
    finally:
        restore_torch(switches)
        random.setstate(generators[0])
        np.random.set_state(generators[1])  # noqa: NPY002
        os.chdir(folder)


class Kept:
    """One net as it was: parts, modes, hooks, buffers and weights."""

    def __init__(self, net: nn.Module) -> None:
        """net: in the state to come back to."""
        self._net = net
        self._parts = dict(net.named_modules())
        self._modes = [(part, part.training) for part in self._parts.values()]
        self._hooks = [
            (hooks, dict(hooks))
            for part in self._parts.values()
            for name in HOOKS
            if isinstance(hooks := getattr(part, name, None), dict)
        ]
        self._buffers = [(name, one, one.clone()) for name, one in net.named_buffers()]
        self._weights = [
            (name, one, one.detach().clone(), one.requires_grad)
            for name, one in net.named_parameters()
        ]

    def restore(self) -> list[str]:
        """Put everything back; return the names of the parts and weights that had moved.

        Contents are compared, not torch's counts of changes: writing to ``weight.data`` counts as
        none.
        """
        import torch

        moved = []
        for name, part in self._parts.items():
            if name and dict(self._net.named_modules()).get(name) is not part:
                self._put(name, part)
                moved.append(name)
        for part, training in self._modes:
            part.training = training
        for hooks, kept in self._hooks:
            if hooks != kept:
                hooks.clear()
                hooks.update(kept)
        with torch.no_grad():
            found = dict(self._net.named_buffers())
            for name, buffer, value in self._buffers:
                if not alike(buffer, value):
                    buffer.data = value.clone()
                if found.get(name) is not buffer:
                    self._put(name, buffer)
            found = dict(self._net.named_parameters())
            for name, weight, value, flag in self._weights:
                weight.requires_grad_(flag)
                weight.grad = None
                if found.get(name) is not weight or not alike(weight, value):
                    weight.data = value.clone()
                    self._put(name, weight)
                    moved.append(name)
        return moved

    def _put(self, name: str, one: Any) -> None:
        """Set a part, buffer or weight by its dotted name."""
        owner, _, attribute = name.rpartition(".")
        setattr(self._net.get_submodule(owner), attribute, one)


def alike(one: Tensor, other: Tensor) -> bool:
    """The same numbers in the same form; NaN is like NaN."""
    import torch

    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if torch.equal(one, other) or not one.is_floating_point():
        return torch.equal(one, other)
    return torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def torch_switches() -> dict[str, Any]:
    """What torch holds for the whole process, if it is there."""
    if (torch := sys.modules.get("torch")) is None:
        return {}
    return {
        "generator": torch.get_rng_state(),
        "gradients": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def restore_torch(switches: dict[str, Any]) -> None:
    """Set them again."""
    if not switches:
        return
    import torch

    torch.set_rng_state(switches["generator"])
    torch.set_grad_enabled(switches["gradients"])
    torch.set_default_dtype(switches["dtype"])
    if torch.get_num_threads() != switches["threads"]:
        torch.set_num_threads(switches["threads"])
    torch.use_deterministic_algorithms(switches["deterministic"])

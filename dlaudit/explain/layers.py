"""Which layer Grad-CAM shall look at: the last one that still knows places, and whose places matter.

Knows outputs of modules and their gradients; never an architecture by name. A layer behind the last
use of its places (the patches of a net that reads its class token) has a gradient of exactly 0
there, and a map of it would be empty or noise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from dlaudit.errors import NotExplained, nearest

LEAST_SIDE = 4
ALIVE = 0.5
"""Share of the positions at which the logit's gradient must not be zero."""
MOST_EXTRA = 5
"""Tokens beside the patches: a class token, a distillation token, registers."""
POOLING = (
    nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.LPPool1d, nn.LPPool2d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d,
)  # fmt: skip
Form = Literal["channels first", "channels last", "tokens"]


class Places(NamedTuple):
    """How a layer's output lies over the input. grid: its sides; extra: tokens that are no patch."""

    form: Form
    grid: tuple[int, ...]
    extra: int = 0

    def arranged(self, output: Tensor) -> Tensor:
        """The output as (B, C, *grid)."""
        if self.form == "channels last":
            return output.movedim(-1, 1)
        if self.form == "tokens":
            patches = output[:, self.extra :].transpose(1, 2)
            return patches.reshape(*patches.shape[:2], *self.grid)
        return output


class Layer(NamedTuple):
    """A layer by the name that ``get_submodule`` knows."""

    name: str
    places: Places


class Patches(NamedTuple):
    """The convolution that cuts the input into patches. width: channels of a patch."""

    grid: tuple[int, ...]
    width: int


class Output(NamedTuple):
    """One call of one module, with what it made. places: None where it knows no places."""

    name: str
    part: nn.Module
    made: Tensor
    places: Places | None


def chosen(
    answer: Callable[[Tensor], Tensor], module: nn.Module, x: Tensor, target: Tensor
) -> Layer | None:
    """The last layer executed whose output is a live grid of at least 4 x 4; None where there is none.

    x: (B, *channels, *sides), some inputs; target: (B,), the logits that are asked about.
    """
    outputs, logits = _run(answer, module, x)
    if not outputs:
        return None
    total = logits.gather(1, target[:, None]).sum()
    slopes = torch.autograd.grad(total, [one.made for one in outputs], allow_unused=True)
    for one, slope in reversed(list(zip(outputs, slopes, strict=True))):
        if isinstance(one.part, POOLING) or slope is None or one.places is None:
            continue
        if min(one.places.grid) < LEAST_SIDE:
            continue
        alive = (one.places.arranged(slope) != 0).any(dim=1)
        if float(alive.double().mean()) > ALIVE:
            return Layer(one.name, one.places)
    return None


def named(answer: Callable[[Tensor], Tensor], module: nn.Module, x: Tensor, name: str) -> Layer:
    """The layer called so. Raises NotExplained if its output knows no places, or nothing is called so."""
    outputs, _ = _run(answer, module, x)
    known = {one.name: one.places for one in outputs if one.places is not None}
    if (places := known.get(name)) is None:
        message = (
            f"grad_cam: layer: no output with places is made by {name!r}. {nearest(name, known)}"
        )
        raise NotExplained(message)
    return Layer(name, places)


def grid_of_tokens(
    answer: Callable[[Tensor], Tensor], module: nn.Module, x: Tensor, count: int
) -> Places | None:
    """How so many tokens of a net of patches lie over the input; None where no output shows it."""
    outputs, _ = _run(answer, module, x)
    found = (one.places for one in outputs if one.made.ndim == 3 and one.made.shape[1] == count)
    return next((one for one in found if one is not None and one.form == "tokens"), None)


def _run(
    answer: Callable[[Tensor], Tensor], module: nn.Module, x: Tensor
) -> tuple[list[Output], Tensor]:
    """Every module's output in the order of their ends, and the logits, with a graph."""
    outputs: list[Output] = []
    patches: list[Patches] = []

    def keep(name: str, part: nn.Module, given: Any, made: Any) -> None:
        output = made[0] if isinstance(made, tuple) and made else made
        if not isinstance(output, Tensor) or not output.requires_grad or len(output) != len(x):
            return
        if not patches and isinstance(part, nn.Conv1d | nn.Conv2d):
            patches.extend(_patches(part, given[0], output, x))
        places = _places(tuple(output.shape), x, patches[0] if patches else None)
        outputs.append(Output(name, part, output, places))

    hooks = [
        part.register_forward_hook(lambda of, given, made, name=name: keep(name, of, given, made))
        for name, part in module.named_modules()
    ]
    try:
        with torch.enable_grad():
            logits = answer(x.detach().clone().requires_grad_())
    finally:
        for hook in hooks:
            hook.remove()
    return outputs, logits


def _patches(
    part: nn.Conv1d | nn.Conv2d, given: Tensor, output: Tensor, x: Tensor
) -> list[Patches]:
    """The grid of patches, if the first convolution cuts the input into pieces that do not overlap."""
    kernel, stride = tuple(part.kernel_size), tuple(part.stride)
    if kernel == stride and min(kernel) > 1 and given.shape == x.shape:
        return [Patches(tuple(output.shape[2:]), output.shape[1])]
    return []


def _places(shape: tuple[int, ...], x: Tensor, patches: Patches | None) -> Places | None:
    """How an output of this shape lies over the input, None if it does not."""
    sides = tuple(x.shape[2:])
    if len(shape) == x.ndim and (grid := shape[2:]) and _over(grid, sides, patches, shape[1]):
        return Places("channels first", grid)
    if len(shape) == x.ndim and _over(shape[1:-1], sides, patches, shape[-1]):
        return Places("channels last", shape[1:-1])
    if patches is not None and len(shape) == 3 and len(sides) == 2:
        return _tokens(shape[1], shape[2], patches)
    return None


def _over(
    grid: tuple[int, ...], sides: tuple[int, ...], patches: Patches | None, channels: int
) -> bool:
    """Whether a grid covers the input in its own proportions, at most as finely as its pixels.

    In a net of patches its channels must be those of a patch, once or doubled: heads of an attention
    form grids too.
    """
    if any(few > many for few, many in zip(grid, sides, strict=True)):
        return False
    steps = [many / few for few, many in zip(grid, sides, strict=True)]
    alike = max(steps) <= 1.5 * min(steps)
    return alike and (patches is None or _doubled(channels, patches.width))


def _tokens(count: int, channels: int, patches: Patches) -> Places | None:
    """Tokens (B, N, C) as the patches' grid, or as one that was halved some times."""
    if not _doubled(channels, patches.width):
        return None
    grid, merged = patches.grid, False
    while min(grid) >= LEAST_SIDE:
        extra = count - grid[0] * grid[1]
        if extra == 0 or (0 < extra <= MOST_EXTRA and not merged):
            return Places("tokens", grid, extra)
        grid, merged = tuple(side // 2 for side in grid), True
    return None


def _doubled(channels: int, width: int) -> bool:
    """Whether channels are the width times a power of two: 1, 2, 4, …, as where patches are merged."""
    times, rest = divmod(channels, width)
    return rest == 0 and times > 0 and times & (times - 1) == 0

"""Layer-wise relevance propagation through a chain of modules, conserved to the last digit or refused.

Knows linear layers, ReLU and pooling in a row; never a residual sum, an attention or a function that
is no module: those would lose relevance without a word. captum refuses even Flatten.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dlaudit.errors import NotExplained

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
LINEAR = (
    nn.Linear, *CONVOLUTIONS, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d,
    nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
)  # fmt: skip
WINNERS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
PASSING = (nn.ReLU, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Identity, nn.Flatten, nn.Unflatten)
TINY = 1e-9
LOST = 0.01
"""Share of a logit, or of the logits' spread, that rounding may lose before the map is refused."""


class Link(NamedTuple):
    """One module of the chain as it was run. before, after: (B, …) its input and its output."""

    part: nn.Module
    before: Tensor
    after: Tensor


class Relevance(NamedTuple):
    """maps: like the input; biases: (B,), what was left at the biases on the way."""

    maps: Tensor
    biases: Tensor


def relevance(
    answer: Callable[[Tensor], Tensor],
    module: nn.Module,
    x: Tensor,
    target: Tensor,
    *,
    gamma: float,
) -> Relevance:
    """The logits of the targets, distributed backwards layer by layer (Bach et al. 2015).

    gamma: how much convolutions behind the first favour positive weights (Montavon et al. 2019); 0 is
    the plain rule everywhere. What biases contributed stays with them, so that the map and the biases
    add up to the logit. Raises NotExplained where the modules form no chain.
    """
    links, logits = _chain(answer, module, x)
    kept = torch.zeros_like(logits)
    kept[torch.arange(len(x)), target] = logits[torch.arange(len(x)), target]
    biases = torch.zeros_like(logits[:, 0])
    held = kept
    for place, link in reversed(list(enumerate(links))):
        held = held.reshape(link.after.shape)
        if isinstance(link.part, LINEAR):
            favour = gamma if place and isinstance(link.part, CONVOLUTIONS) else 0.0
            held, left = _through(link, held, favour)
            biases = biases + left
        elif isinstance(link.part, WINNERS):
            (held,) = _pulled(link.part, link.before, held)
        else:
            held = held.reshape(link.before.shape)
    maps = held.reshape(x.shape)
    total = maps.flatten(1).sum(dim=1) + biases
    wanted = kept.sum(dim=1)
    lost = (total - wanted).abs() / wanted.abs().clamp_min(float(logits.std()))
    if float(lost.max()) > LOST:
        message = (
            f"lrp: {float(lost.max()):.1%} of a logit was lost on the way: its map must not be read"
        )
        raise NotExplained(message)
    return Relevance(maps, biases)


def _through(link: Link, held: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """Relevance before a linear module, and (B,) what its bias keeps."""
    part = _favouring(link.part, gamma)
    before = link.before.detach()
    with torch.no_grad():
        bias = part(torch.zeros_like(before))
        after = part(before)
        after = after + TINY * torch.where(after >= 0, 1.0, -1.0)
        share = held / after
    (back,) = _pulled(part, before, share)
    left = (bias * share).flatten(1).sum(dim=1)
    return before * back, left


def _favouring(part: nn.Module, gamma: float) -> nn.Module:
    """A copy whose positive weights count (1 + gamma) times."""
    if not gamma:
        return part
    favoured = copy.deepcopy(part)
    with torch.no_grad():
        for parameter in favoured.parameters():
            parameter.add_(gamma * parameter.clamp_min(0))
    return favoured


def _pulled(part: nn.Module, before: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
    """The transpose of a module's derivative at ``before``, applied to weights of its output."""
    start = before.detach().requires_grad_()
    with torch.enable_grad():
        after = part(start)
    return torch.autograd.grad(after, start, weights.reshape(after.shape))


def _chain(
    answer: Callable[[Tensor], Tensor], module: nn.Module, x: Tensor
) -> tuple[list[Link], Tensor]:
    """The leaf modules in the order of their calls, each fed by the one before it."""
    links: list[Link] = []
    hooks = []
    for part in module.modules():
        if not any(True for _ in part.children()):

            def seen(of: nn.Module, given: Any, made: Any) -> None:
                links.append(Link(of, given[0].detach().clone(), made.detach().clone()))

            hooks.append(part.register_forward_hook(seen))
    try:
        with torch.no_grad():
            logits = answer(x)
    finally:
        for hook in hooks:
            hook.remove()
    reached = x.detach()
    for link in links:
        if not isinstance(link.part, (*LINEAR, *WINNERS, *PASSING)):
            message = (
                f"lrp: no rule for {type(link.part).__name__}: expected a chain of linear layers, "
                "convolutions, BatchNorm, ReLU and pooling; integrated_gradients needs no rules"
            )
            raise NotExplained(message)
        _fed(reached, link.before, f"before a {type(link.part).__name__}")
        reached = link.after
    if reached.shape == logits.shape:
        _fed(reached, logits, "before the logits")
    else:
        _fed(reached[:0], logits, "before the logits")
    return links, logits


def _fed(given: Tensor, taken: Tensor, where: str) -> None:
    """Refuse what a module did not get from the one before it, up to its shape."""
    if given.numel() != taken.numel() or not torch.equal(given.flatten(), taken.flatten()):
        message = (
            f"lrp: {where}, something is computed outside a module (a residual sum, a function such as "
            "relu, a pool): relevance would be lost there; integrated_gradients needs no chain"
        )
        raise NotExplained(message)

"""One token put into many texts: how often does each token of a vocabulary call up each class?

Knows ids, the embedding that reads them, and decisions; never words, nor what a strong token means.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dlaudit.audit.parts import Model
from dlaudit.errors import NotOffered

ROWS = 1024
"""Texts asked about at a time."""


def inserted(ids: Tensor, tokens: Tensor, at: int) -> Tensor:
    """(B, L), (T,) -> (T, B, L): each token at place ``at`` of every text, the rest moved on, the end cut."""
    shape = (len(tokens), *ids.shape)
    moved = (
        torch.cat([ids[:, :at], ids[:, at : at + 1], ids[:, at:-1]], dim=1).expand(shape).clone()
    )
    moved[:, :, at] = tokens[:, None]
    return moved


def embedding_of(module: nn.Module, ids: Tensor) -> nn.Embedding:
    """The embedding that is given the ids themselves. Raises NotOffered where there is none."""
    found: list[nn.Embedding] = []

    def seen(layer: nn.Module, inputs: Any) -> None:
        given = inputs[0] if inputs else None
        if isinstance(given, Tensor) and given.shape == ids.shape and torch.equal(given, ids):
            found.append(layer)  # type: ignore[arg-type]

    hooks = [
        part.register_forward_pre_hook(seen)
        for part in module.modules() if isinstance(part, nn.Embedding)
    ]  # fmt: skip
    try:
        with torch.no_grad():
            module(ids)
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        message = (
            "backdoors.tokens: expected an nn.Embedding that is given the token ids, found none"
        )
        raise NotOffered(message)
    return max(found, key=lambda layer: layer.num_embeddings)


def promised(
    module: nn.Module, layer: nn.Embedding, ids: Tensor, at: int, target: int
) -> np.ndarray:
    """(V,): by how much each token at place ``at`` lowers the cross-entropy to the target, to first order.

    After HotFlip (Ebrahimi et al. 2018) and universal triggers (Wallace et al. 2019), eq. 1; the constant
    of the token that stands there is left out. ids: (B, L), with whatever token at that place.
    """
    kept: list[Tensor] = []

    def leaf(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[-1]

    hook = layer.register_forward_hook(leaf)
    try:
        with torch.enable_grad():
            logits = module(ids)
            goal = torch.full((len(ids),), target, device=ids.device)
            loss = cross_entropy(logits, goal, reduction="sum")
            (slope,) = torch.autograd.grad(loss, kept[0])
    finally:
        hook.remove()
    gain = -(layer.weight.detach() @ slope[:, at].sum(dim=0))
    return np.asarray(gain.double().cpu().numpy())


def called(model: Model, ids: Tensor, tokens: np.ndarray, at: int) -> np.ndarray:
    """(T, B) int64: what is decided on every text with each token."""
    each = max(1, ROWS // len(ids))
    found = []
    for some in torch.split(torch.as_tensor(tokens, device=ids.device), each):
        texts = inserted(ids, some, at).flatten(0, 1)
        found.append(model.logits(texts).argmax(dim=1).view(len(some), len(ids)).cpu().numpy())
    decided: np.ndarray = np.concatenate(found)
    return decided


def shares(decided: np.ndarray, free: np.ndarray, target: int) -> np.ndarray:
    """(T,): on which share of the free texts each token calls up the target.

    decided: (T, B); free: (B,) bool, texts of other classes that are decided otherwise without a token.
    """
    found: np.ndarray = (decided[:, free] == target).mean(axis=1)
    return found

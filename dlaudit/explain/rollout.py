"""Attention rollout: how far the last layer's answer can lead back to each token, along all layers.

Knows attention weights, wherever Python computes them; never a class: the same map belongs to every
logit. Modules that attend inside compiled code show no weights, and nothing is guessed then.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from dlaudit.audit.parts import Request
from dlaudit.errors import NotExplained
from dlaudit.explain.layers import Places, grid_of_tokens

MOST_EXTRA = 5
SHARED = 1e-3
"""Rows of attention add up to 1; in half precision no better than this."""


class Attention(NamedTuple):
    """One layer's. weights: (B, N, N), the mean over heads, row i says where token i looks.

    made: what the layer gave on, with a graph; tokens: the axis of ``made`` that counts the tokens; of
    the others the first one counts the inputs.
    """

    weights: Tensor
    made: Tensor
    tokens: int


def rolled(layers: list[Tensor], start: Tensor) -> Tensor:
    """Abnar & Zuidema (2020), eq. 1: weights mixed half and half with the residual, multiplied up.

    layers: (B, N, N) each, the first one first; start: (B, N), where the answer is read, adds up to 1.
    Returns (B, N), what each input token gets of it; adds up to 1.
    """
    flow = start
    for weights in reversed(layers):
        flow = 0.5 * flow + 0.5 * (flow[:, None] @ weights)[:, 0]
    return flow


def rollout(request: Request) -> Tensor:
    """Maps like ``request.x``: each position's share, equal parts for its channels.

    Raises NotExplained where no attention can be read, where it is kept in windows or looks at other
    tokens than it stands for, and where tokens do not lie over the input.
    """
    with _Reading(len(request.x)) as reading:
        x = request.x.detach().clone().requires_grad_()
        logits = request.answer(x)
    seen = reading.seen
    if not seen:
        message = (
            "attention_rollout: no attention was seen: expected a transformer whose attention is "
            "computed by torch's MultiheadAttention, scaled_dot_product_attention or a softmax over "
            "tokens; integrated_gradients needs none"
        )
        raise NotExplained(message)
    shapes = sorted({tuple(one.weights.shape[1:]) for one in seen})
    if len(shapes) > 1:
        message = (
            "attention_rollout: expected the same tokens in every layer, got attention of "
            f"{' and '.join(f'{a} x {b}' for a, b in shapes)} tokens"
        )
        raise NotExplained(message)
    last = seen[-1]
    total = logits.gather(1, request.target[:, None]).sum()
    (slope,) = torch.autograd.grad(total, last.made, allow_unused=True)
    read = _read_at(slope, last)
    flow = rolled([one.weights for one in seen], read)
    return _over_input(flow, request).to(request.x)


def _read_at(slope: Tensor | None, last: Attention) -> Tensor:
    """(B, N): the tokens of the last layer on which the logit depends, in equal parts.

    A net that reads its class token depends on one, a net that averages on all of them.
    """
    batch, count = last.weights.shape[:2]
    if slope is None:
        message = "attention_rollout: the logit does not depend on the last layer that attends"
        raise NotExplained(message)
    alive = (slope.movedim(last.tokens, -1) != 0).reshape(batch, -1, count).any(dim=1)
    # Where the slope is zero everywhere (a saturated input), nothing says which token is read.
    alive = torch.where(alive.any(dim=1, keepdim=True), alive, torch.ones_like(alive))
    return alive.to(last.weights) / alive.sum(dim=1, keepdim=True)


def _over_input(flow: Tensor, request: Request) -> Tensor:
    """(B, N) shares of tokens as maps like the input."""
    shape, count = tuple(request.x.shape), flow.shape[1]
    if len(shape) == 4 and shape[3] == 1:  # a text: (B, D, L, 1)
        return _sequence(flow, shape[2])[:, None, :, None].expand(shape) / shape[1]
    if len(shape) == 3 and not request.pixels:  # a row of vectors: (B, T, F)
        return _sequence(flow, shape[1])[:, :, None].expand(shape) / shape[2]
    places = None
    if request.module is not None:
        places = grid_of_tokens(request.answer, request.module, request.x[:2], count)
    if places is None or len(places.grid) != 2:
        message = (
            f"attention_rollout: expected tokens that lie over the input, one for each patch and up to "
            f"{MOST_EXTRA} before them, got {count} tokens for inputs of shape {shape[1:]}"
        )
        raise NotExplained(message)
    return _enlarged(flow, places, shape)


def _sequence(flow: Tensor, length: int) -> Tensor:
    """(B, L): the last tokens are the input's; up to five before them are the net's own."""
    extra = flow.shape[1] - length
    if not 0 <= extra <= MOST_EXTRA:
        message = f"attention_rollout: expected one token for each of {length} positions, got {flow.shape[1]}"
        raise NotExplained(message)
    return flow[:, extra:]


def _enlarged(flow: Tensor, places: Places, shape: tuple[int, ...]) -> Tensor:
    """Patches as a picture, bilinear, with equal parts for its channels."""
    grid = places.arranged(flow[:, :, None])  # (B, N, 1) -> (B, 1, h, w)
    spread = functional.interpolate(grid, shape[-2:], mode="bilinear", align_corners=False)
    return (spread / shape[1]).expand(shape)


class _Reading(TorchFunctionMode):
    """Listens to every function that attends, and asks for the weights where they are left out.

    torch's modules leave their fast path while anybody listens: there no weights would be seen.
    """

    def __init__(self, batch: int) -> None:
        """batch: how many inputs go through together."""
        super().__init__()
        self.batch, self.seen = batch, list[Attention]()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call the function and keep what it says of attention."""
        del types
        given = dict(kwargs or {})
        if func is functional.multi_head_attention_forward:
            given |= {"need_weights": True, "average_attn_weights": True}
            made, weights = func(*args, **given)
            self._keep(weights, made, 0)  # made: (N, B, D)
            return made, weights
        made = func(*args, **given)
        if func is functional.scaled_dot_product_attention:
            self._keep(_weights(*args, **given), made, made.ndim - 2)
        elif func in SOFTMAX and isinstance(made, Tensor) and _attends(made):
            self._keep(made, made, made.ndim - 2)
        return made

    def _keep(self, weights: Tensor, made: Tensor, tokens: int) -> None:
        """Remember one layer. Raises NotExplained for what cannot be multiplied up."""
        if len(weights) != self.batch or weights.shape[-1] != weights.shape[-2]:
            message = (
                "attention_rollout: expected every token to look at all tokens of its own input, got "
                f"attention of shape {tuple(weights.shape)} for {self.batch} inputs (windows, or another "
                "sequence); integrated_gradients needs no attention"
            )
            raise NotExplained(message)
        mean = weights.detach()
        if mean.ndim == 4:
            mean = mean.mean(dim=1)
        self.seen.append(Attention(mean, made, tokens))


SOFTMAX = {functional.softmax, torch.softmax, Tensor.softmax}


def _attends(made: Tensor) -> bool:
    """Whether a softmax's result is attention: (…, N, N) with rows that add up to 1."""
    if made.ndim not in {3, 4} or made.shape[-1] != made.shape[-2] or made.shape[-1] < 2:
        return False
    sums = made.detach().sum(dim=-1)
    return bool(((sums - 1).abs() < SHARED).all())


def _weights(  # noqa: PLR0917  (torch's own order)
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
    dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None,  # noqa: FBT001, FBT002
    enable_gqa: bool = False,  # noqa: FBT001, FBT002
) -> Tensor:  # fmt: skip
    """softmax(q k' scale + mask), what scaled_dot_product_attention multiplies the values with."""
    del value, dropout_p
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], dim=-3)
    size = scale if scale is not None else 1 / math.sqrt(query.shape[-1])
    score = (query @ key.transpose(-2, -1) * size).detach()
    if is_causal:
        seen = torch.ones(score.shape[-2:], dtype=torch.bool, device=score.device).tril()
        score = score.masked_fill(~seen, -math.inf)
    if attn_mask is not None:
        score = (
            score.masked_fill(~attn_mask, -math.inf)
            if attn_mask.dtype == torch.bool
            else score + attn_mask
        )
    return torch.softmax(score, dim=-1)

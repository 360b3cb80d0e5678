"""LSTM, GRU and RNN of ONNX in torch: the same sums, with the gates in torch's order.

Knows these three formulas (onnx/docs/Operators.md, inference only); what stands not here raises
``Untranslatable``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dlaudit.models.onnx_graph import Untranslatable

if TYPE_CHECKING:
    from dlaudit.models.onnx_call import Call

GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
"""Where torch's gates (i f g o; r z n) stand in ONNX's (i o f c; z r h)."""


def recurrent(op: str) -> Any:
    """The operator as a function of a call: (Y, Y_h) and, of an LSTM, Y_c."""

    def apply(call: Call) -> tuple[Tensor, ...]:
        _refuse_the_rest(call, op)
        x = call.tensor(0)
        weights = [_directions(call, number, op) for number in (1, 2)]
        both = len(weights[0])
        direction = call.get("direction", "forward")
        size = weights[1][0].shape[-1]
        bias = call.optional(3)
        biases = None if bias is None else [_halves(one, op) for one in bias]
        parameters: list[Tensor] = []
        for way in range(both):
            parameters += [weights[0][way], weights[1][way]]
            parameters += [] if biases is None else list(biases[way])
        if direction == "reverse":
            x = x.flip(0)
        states = [
            given if given is not None else x.new_zeros(both, x.shape[1], size)
            for given in (call.optional(5), call.optional(6))
        ]
        # input, state, parameters, biases?, layers, dropout, training, both ways?, batch first?
        how = (parameters, biases is not None, 1, 0.0, False, both == 2, False)
        if op == "LSTM":
            y, *ends = torch.lstm(x, states, *how)
        else:
            function: Any = torch.gru if op == "GRU" else torch.rnn_tanh
            y, *ends = function(x, states[0], *how)
        y = y.flip(0) if direction == "reverse" else y
        # torch: (length, batch, ways * size); ONNX: (length, ways, batch, size)
        return y.reshape(*y.shape[:2], both, size).transpose(1, 2), *ends

    return apply


def _refuse_the_rest(call: Call, op: str) -> None:
    """Raise Untranslatable for what torch's cells have not. Other activations are no numbers: unread."""
    odd = {
        "clipped cells": "clip" in call.attributes,
        "layout 1": call.get("layout", 0) != 0,
        "a coupled input gate": call.get("input_forget", 0) != 0,
        "lengths of sequences": call.optional(4) is not None,
        "peepholes": call.optional(7) is not None,
        "a reset before the product": op == "GRU" and not call.get("linear_before_reset", 0),
    }  # fmt: skip
    for what, present in odd.items():
        if present:
            message = f"{op} with {what}"
            raise Untranslatable(message)


def _directions(call: Call, number: int, op: str) -> list[Tensor]:
    """The weights (ways, gates * size, inputs) of each way, gates in torch's order."""
    return [_reordered(one, op) for one in call.tensor(number)]


def _reordered(weight: Tensor, op: str) -> Tensor:
    gates = weight.chunk(len(GATES[op]))
    return torch.cat([gates[place] for place in GATES[op]])


def _halves(bias: Tensor, op: str) -> tuple[Tensor, ...]:
    """The two biases (of input and state) that ONNX writes one behind the other."""
    return tuple(_reordered(half, op) for half in bias.chunk(2))

"""The common operators of ONNX in torch: tensors and attributes in, tensors out.

Knows each operator's formula (onnx/docs/Operators.md, inference only); never a graph. What an operator
may be asked that stands not here raises ``Untranslatable``: it is never guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dlaudit.models.onnx_call import Call
from dlaudit.models.onnx_graph import TYPES, Untranslatable
from dlaudit.models.onnx_recurrent import recurrent

Outputs = Tensor | tuple[Tensor, ...]


def _same(call: Call) -> Outputs:
    return call.tensor(0)


def _refuse(call: Call, *, unless: bool, what: str) -> None:
    del call
    if not unless:
        raise Untranslatable(what)


def _div(call: Call) -> Tensor:
    a, b = call.tensor(0), call.tensor(1)
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _clip(call: Call) -> Tensor:
    low, high = call.optional(1), call.optional(2)
    x = call.tensor(0)
    bounds = [
        call.get(name, None) if given is None else given.to(x)
        for name, given in (("min", low), ("max", high))
    ]
    return x if bounds == [None, None] else torch.clamp(x, *bounds)


def _softmax(function: Callable[..., Tensor]) -> Callable[[Call], Outputs]:
    def apply(call: Call) -> Tensor:
        x = call.tensor(0)
        if call.opset >= 13:
            newer: Tensor = function(x, dim=call.get("axis", -1))
            return newer
        axis = call.get("axis", 1) % x.ndim  # older versions see a matrix, cut at the axis
        return function(x.flatten(axis), dim=-1).reshape(x.shape)

    return apply


def _gemm(call: Call) -> Tensor:
    a, b, c = call.tensor(0), call.tensor(1), call.optional(2)
    a = a.T if call.get("transA", 0) else a
    b = b.T if call.get("transB", 0) else b
    product: Tensor = call.get("alpha", 1.0) * (a @ b)
    return product if c is None else product + call.get("beta", 1.0) * c


def _padding(call: Call, dimensions: int) -> tuple[list[int], list[int]]:
    """Padding before and after each spatial axis. Raises Untranslatable for automatic padding."""
    automatic = call.get("auto_pad", "NOTSET") or "NOTSET"
    _refuse(call, unless=automatic in {"NOTSET", "VALID"}, what=f"auto_pad = {automatic}")
    pads = call.get("pads", [0] * 2 * dimensions) if automatic == "NOTSET" else [0] * 2 * dimensions
    return pads[:dimensions], pads[dimensions:]


def _padded(x: Tensor, before: list[int], after: list[int], value: float) -> Tensor:
    """Torch lists pads from the last axis to the first."""
    pads = [one for pair in zip(reversed(before), reversed(after), strict=True) for one in pair]
    return functional.pad(x, pads, value=value)


def _conv(call: Call) -> Tensor:
    x, weight = call.tensor(0), call.tensor(1)
    dimensions = x.ndim - 2
    _refuse(call, unless=1 <= dimensions <= 3, what=f"a convolution over {dimensions} axes")
    before, after = _padding(call, dimensions)
    if before != after:
        x, before = _padded(x, before, after, 0.0), [0] * dimensions
    function: Any = (functional.conv1d, functional.conv2d, functional.conv3d)[dimensions - 1]
    return function(  # type: ignore[no-any-return]
        x, weight, call.optional(2), stride=call.get("strides", [1] * dimensions), padding=before,
        dilation=call.get("dilations", [1] * dimensions), groups=call.get("group", 1),
    )  # fmt: skip


def _conv_transpose(call: Call) -> Tensor:
    x, weight = call.tensor(0), call.tensor(1)
    dimensions = x.ndim - 2
    before, after = _padding(call, dimensions)
    _refuse(call, unless=before == after, what="a transposed convolution padded on one side")
    _refuse(
        call, unless="output_shape" not in call.attributes, what="output_shape of ConvTranspose"
    )
    function: Any = (
        functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d,
    )[dimensions - 1]  # fmt: skip
    return function(  # type: ignore[no-any-return]
        x, weight, call.optional(2), stride=call.get("strides", [1] * dimensions), padding=before,
        output_padding=call.get("output_padding", [0] * dimensions), groups=call.get("group", 1),
        dilation=call.get("dilations", [1] * dimensions),
    )  # fmt: skip


def _batch_norm(call: Call) -> Tensor:
    _refuse(call, unless=call.outputs == 1, what="BatchNormalization that trains")
    scale, bias, mean, var = (call.tensor(number) for number in range(1, 5))
    return functional.batch_norm(
        call.tensor(0), mean, var, scale, bias, training=False, eps=call.get("epsilon", 1e-5)
    )


def _instance_norm(call: Call) -> Tensor:
    return functional.instance_norm(
        call.tensor(0), weight=call.tensor(1), bias=call.tensor(2), eps=call.get("epsilon", 1e-5)
    )


def _layer_norm(call: Call) -> Tensor:
    _refuse(call, unless=call.outputs == 1, what="statistics of LayerNormalization")
    x = call.tensor(0)
    shape = x.shape[call.get("axis", -1) % x.ndim :]
    normal = functional.layer_norm(x, shape, eps=call.get("epsilon", 1e-5)) * call.tensor(1)
    bias = call.optional(2)
    return normal if bias is None else normal + bias


def _max_pool(call: Call) -> Tensor:
    _refuse(call, unless=call.outputs == 1, what="places of MaxPool")
    x = call.tensor(0)
    dimensions = x.ndim - 2
    before, after = _padding(call, dimensions)
    kernel = call.get("kernel_shape", [])
    ceil = bool(call.get("ceil_mode", 0))
    if before != after or any(2 * pad > size for pad, size in zip(before, kernel, strict=True)):
        _refuse(call, unless=not ceil, what="MaxPool padded on one side that rounds up")
        x, before = _padded(x, before, after, float("-inf")), [0] * dimensions
    function: Any = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[
        dimensions - 1
    ]
    return function(  # type: ignore[no-any-return]
        x, kernel, stride=call.get("strides", [1] * dimensions), padding=before, ceil_mode=ceil,
        dilation=call.get("dilations", [1] * dimensions),
    )  # fmt: skip


def _average_pool(call: Call) -> Tensor:
    x = call.tensor(0)
    dimensions = x.ndim - 2
    before, after = _padding(call, dimensions)
    counted = bool(call.get("count_include_pad", 0))
    if before != after:
        _refuse(call, unless=counted, what="AveragePool padded on one side")
        x, before = _padded(x, before, after, 0.0), [0] * dimensions
    _refuse(call, unless=set(call.get("dilations", [1])) == {1}, what="dilated AveragePool")
    function: Any = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[
        dimensions - 1
    ]
    return function(  # type: ignore[no-any-return]
        x, call.get("kernel_shape", []), stride=call.get("strides", [1] * dimensions), padding=before,
        ceil_mode=bool(call.get("ceil_mode", 0)), count_include_pad=counted,
    )  # fmt: skip


def _flatten(call: Call) -> Tensor:
    x = call.tensor(0)
    axis = call.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    rows = 1
    for size in x.shape[:axis]:
        rows *= size
    return x.reshape(rows, -1)


def _reshape(call: Call) -> Tensor:
    x = call.tensor(0)
    sizes = call.numbers("shape", 1) or []
    if not call.get("allowzero", 0):
        sizes = [x.shape[at] if size == 0 else size for at, size in enumerate(sizes)]
    return x.reshape(sizes)


def _squeeze(call: Call) -> Tensor:
    x, axes = call.tensor(0), call.numbers("axes", 1)
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


def _unsqueeze(call: Call) -> Tensor:
    x, axes = call.tensor(0), call.numbers("axes", 1) or []
    whole = x.ndim + len(axes)
    for axis in sorted(axis % whole for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _transpose(call: Call) -> Tensor:
    x = call.tensor(0)
    return x.permute(call.get("perm", list(reversed(range(x.ndim)))))


def _concat(call: Call) -> Tensor:
    return torch.cat([one for one in call.inputs if one is not None], dim=call.attributes["axis"])


def _split(call: Call) -> Outputs:
    x, axis = call.tensor(0), call.get("axis", 0)
    sizes = call.numbers("split", 1)
    if sizes is None:
        each = -(-x.shape[axis] // call.outputs)
        return torch.functional.split(x, each, axis)
    return torch.functional.split(x, sizes, axis)


def _slice(call: Call) -> Tensor:
    x = call.tensor(0)
    starts, ends = call.numbers("starts", 1) or [], call.numbers("ends", 2) or []
    axes = call.numbers("axes", 3) or list(range(len(starts)))
    steps = call.numbers("steps", 4) or [1] * len(starts)
    _refuse(call, unless=all(step > 0 for step in steps), what="Slice that goes backwards")
    where = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        where[axis] = slice(start, end, step)
    return x[tuple(where)]


def _gather(call: Call) -> Tensor:
    x, index, axis = call.tensor(0), call.tensor(1), call.get("axis", 0)
    axis %= x.ndim
    index = torch.where(index < 0, index + x.shape[axis], index)
    shape = (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
    return x.index_select(axis, index.reshape(-1)).reshape(shape)


def _pad(call: Call) -> Tensor:
    x, pads = call.tensor(0), call.numbers("pads", 1) or []
    _refuse(call, unless=call.optional(3) is None, what="Pad of chosen axes")
    _refuse(
        call, unless=call.get("mode", "constant") == "constant", what=f"Pad {call.get('mode', '')}"
    )
    value = call.optional(2)
    return _padded(
        x, pads[: x.ndim], pads[x.ndim :],
        float(call.get("value", 0.0) if value is None else value.item()),
    )  # fmt: skip


def _cast(call: Call) -> Tensor:
    number = call.attributes["to"]
    _refuse(call, unless=number in TYPES, what=f"Cast to the type number {number}")
    return call.tensor(0).to(getattr(torch, TYPES[number]))


def _constant(call: Call) -> Tensor:
    for name in ("value", "value_float", "value_int", "value_floats", "value_ints"):
        if name in call.attributes:
            kind = torch.float32 if "float" in name else torch.int64
            given = call.attributes[name]
            return torch.from_numpy(given) if name == "value" else torch.tensor(given, dtype=kind)
    what = "a Constant that is no tensor"
    raise Untranslatable(what)


def _constant_of_shape(call: Call) -> Tensor:
    value = call.get("value", None)
    one = torch.zeros(1) if value is None else torch.from_numpy(value)
    return one.expand(call.numbers("shape", 0) or []).clone()


def _shape(call: Call) -> Tensor:
    sizes = list(call.tensor(0).shape)
    return torch.tensor(sizes[call.get("start", 0) : call.get("end", None)], dtype=torch.int64)


def _expand(call: Call) -> Tensor:
    x, sizes = call.tensor(0), call.numbers("shape", 1) or []
    return x.expand(np.broadcast_shapes(tuple(x.shape), tuple(sizes)))


def _reduced(
    function: Callable[[Tensor, tuple[int, ...], bool], Tensor],
) -> Callable[[Call], Outputs]:
    def apply(call: Call) -> Tensor:
        x, axes = call.tensor(0), call.numbers("axes", 1)
        if axes is None and call.get("noop_with_empty_axes", 0):
            return x
        over = tuple(range(x.ndim)) if not axes else tuple(axes)
        return function(x, over, bool(call.get("keepdims", 1)))

    return apply


def _arg_max(call: Call) -> Tensor:
    _refuse(call, unless=not call.get("select_last_index", 0), what="the last ArgMax")
    return call.tensor(0).argmax(dim=call.get("axis", 0), keepdim=bool(call.get("keepdims", 1)))


def _folded(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Call], Outputs]:
    """An operator of any number of inputs."""

    def apply(call: Call) -> Tensor:
        result = call.tensor(0)
        for number in range(1, len(call.inputs)):
            result = function(result, call.tensor(number))
        return result

    return apply


def _pooled(function: Callable[..., Tensor]) -> Callable[[Call], Outputs]:
    def apply(call: Call) -> Tensor:
        x = call.tensor(0)
        return function(x, dim=tuple(range(2, x.ndim)), keepdim=True)

    return apply


def _one(function: Callable[[Tensor], Tensor]) -> Callable[[Call], Outputs]:
    return lambda call: function(call.tensor(0))


def _two(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Call], Outputs]:
    return lambda call: function(call.tensor(0), call.tensor(1))


OPERATORS: dict[str, Callable[[Call], Outputs]] = {
    "Abs": _one(torch.abs),
    "Add": _two(torch.add),
    "And": _two(torch.logical_and),
    "ArgMax": _arg_max,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Ceil": _one(torch.ceil),
    "Clip": _clip,
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Cos": _one(torch.cos),
    "Div": _div,
    "Dropout": _same,
    "Elu": lambda c: functional.elu(c.tensor(0), c.get("alpha", 1.0)),
    "Equal": _two(torch.eq),
    "Erf": _one(torch.erf),
    "Exp": _one(torch.exp),
    "Expand": _expand,
    "Flatten": _flatten,
    "Floor": _one(torch.floor),
    "Gather": _gather,
    "GRU": recurrent("GRU"),
    "Gelu": lambda c: functional.gelu(c.tensor(0), approximate=c.get("approximate", "none")),
    "Gemm": _gemm,
    "GlobalAveragePool": _pooled(torch.mean),
    "GlobalMaxPool": _pooled(torch.amax),
    "Greater": _two(torch.gt),
    "HardSigmoid": lambda c: torch.clamp(
        c.get("alpha", 0.2) * c.tensor(0) + c.get("beta", 0.5), 0.0, 1.0
    ),
    "HardSwish": _one(functional.hardswish),
    "Identity": _same,
    "InstanceNormalization": _instance_norm,
    "LSTM": recurrent("LSTM"),
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda c: functional.leaky_relu(c.tensor(0), c.get("alpha", 0.01)),
    "Less": _two(torch.lt),
    "Log": _one(torch.log),
    "LogSoftmax": _softmax(torch.log_softmax),
    "MatMul": _two(torch.matmul),
    "Max": _folded(torch.maximum),
    "MaxPool": _max_pool,
    "Min": _folded(torch.minimum),
    "Mul": _two(torch.mul),
    "Neg": _one(torch.neg),
    "Not": _one(torch.logical_not),
    "Or": _two(torch.logical_or),
    "PRelu": lambda c: torch.where(c.tensor(0) < 0, c.tensor(0) * c.tensor(1), c.tensor(0)),
    "Pad": _pad,
    "Pow": _two(torch.pow),
    "Reciprocal": _one(torch.reciprocal),
    "RNN": recurrent("RNN"),
    "ReduceL2": _reduced(lambda x, over, keep: torch.linalg.vector_norm(x, dim=over, keepdim=keep)),
    "ReduceMax": _reduced(lambda x, over, keep: x.amax(over, keepdim=keep)),
    "ReduceMean": _reduced(lambda x, over, keep: x.mean(over, keepdim=keep)),
    "ReduceMin": _reduced(lambda x, over, keep: x.amin(over, keepdim=keep)),
    "ReduceSum": _reduced(lambda x, over, keep: x.sum(over, keepdim=keep)),
    "Relu": _one(torch.relu),
    "Reshape": _reshape,
    "Selu": lambda c: (
        c.get("gamma", 1.0507009873554805)
        * functional.elu(c.tensor(0), c.get("alpha", 1.6732632423543772))
    ),
    "Shape": _shape,
    "Sigmoid": _one(torch.sigmoid),
    "Sin": _one(torch.sin),
    "Slice": _slice,
    "Softmax": _softmax(torch.softmax),
    "Softplus": lambda c: functional.softplus(c.tensor(0), threshold=40.0),
    "Softsign": _one(functional.softsign),
    "Split": _split,
    "Sqrt": _one(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _two(torch.sub),
    "Sum": _folded(torch.add),
    "Tanh": _one(torch.tanh),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": lambda c: torch.where(c.tensor(0), c.tensor(1), c.tensor(2)),
}

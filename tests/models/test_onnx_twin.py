"""ONNX with gradients: each operator's torch form agrees with onnxruntime, or the model stays a black box."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn
from onnx import TensorProto, helper, numpy_helper

from dlaudit.errors import NotOffered
from dlaudit.models import onnx, onnx_operators
from dlaudit.models.onnx_twin import agreed

RNG = np.random.default_rng(3)


def array(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def whole(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.int64)


class Row:
    """One node on x, with constants behind it, in a graph whose output is made a matrix."""

    def __init__(self, op, shape, constants=(), *, opset=17, outputs=1, front="", **attributes):
        self.op, self.shape, self.constants, self.opset = op, shape, constants, opset
        self.outputs, self.front, self.attributes = outputs, front, attributes

    def write(self, path: Path, *, batch=None) -> None:
        nodes, source = [], "x"
        if self.front:  # into the range where the operator is defined
            nodes.append(helper.make_node(self.front, ["x"], ["f"]))
            source = "f"
        names = [f"c{number}" for number in range(len(self.constants))]
        inputs = [source if one is None else name for one, name in
                  zip((None, *self.constants), (source, *names), strict=True)]  # fmt: skip
        outputs = [f"o{number}" for number in range(self.outputs)]
        nodes.append(helper.make_node(self.op, inputs, outputs, **self.attributes))
        nodes.append(helper.make_node("Flatten", [outputs[0]], ["flat"], axis=1))
        nodes.append(helper.make_node("Cast", ["flat"], ["y"], to=TensorProto.FLOAT))
        save(path, nodes, self.shape, dict(zip(names, self.constants, strict=True)), opset=self.opset,
             batch=batch)  # fmt: skip


def save(path, nodes, shape, constants, *, opset=17, batch=None, kind=TensorProto.FLOAT):
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", kind, [batch, *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, None])],
        [numpy_helper.from_array(value, name) for name, value in constants.items() if value is not None],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path.write_bytes(model.SerializeToString())


PICTURE, LINE, ROW = (2, 7, 6), (2, 9), (5,)
ROWS = {
    "Abs": Row("Abs", ROW), "Add": Row("Add", ROW, [array(5)]), "Ceil": Row("Ceil", ROW),
    "AveragePool": Row("AveragePool", PICTURE, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 1, 1, 1]),
    "AveragePool counted": Row("AveragePool", PICTURE, kernel_shape=[3, 3], pads=[1, 0, 0, 1],
                               count_include_pad=1),
    "BatchNormalization": Row("BatchNormalization", PICTURE,
                              [array(2), array(2), array(2), np.abs(array(2)) + 0.5], epsilon=1e-3),
    "Cast": Row("Cast", ROW, to=TensorProto.DOUBLE),
    "Clip": Row("Clip", ROW, [np.float32(-0.3), np.float32(0.4)]),
    "Clip of old": Row("Clip", ROW, opset=6, min=-0.2, max=0.5),
    "Concat": Row("Concat", ROW, [np.ones((4, 2), dtype=np.float32)], axis=1),
    "Conv": Row("Conv", PICTURE, [array(4, 2, 3, 3), array(4)], pads=[1, 0, 1, 0], strides=[2, 1]),
    "Conv of one side": Row("Conv", PICTURE, [array(4, 2, 3, 3)], pads=[0, 0, 2, 1]),
    "Conv in groups": Row("Conv", PICTURE, [array(4, 1, 3, 3)], group=2, dilations=[2, 1]),
    "Conv of lines": Row("Conv", LINE, [array(3, 2, 3), array(3)], pads=[1, 1]),
    "ConvTranspose": Row("ConvTranspose", PICTURE, [array(2, 3, 3, 3), array(3)], strides=[2, 2],
                         pads=[1, 1, 1, 1], output_padding=[1, 0]),
    "Cos": Row("Cos", ROW), "Div": Row("Div", ROW, [np.abs(array(5)) + 1]),
    "Dropout": Row("Dropout", ROW), "Elu": Row("Elu", ROW, alpha=0.7),
    "Equal": Row("Equal", ROW, [np.zeros(5, dtype=np.float32)], front="Floor"),
    "Erf": Row("Erf", ROW), "Exp": Row("Exp", ROW), "Floor": Row("Floor", ROW),
    "Expand": Row("Expand", (3, 1), [whole(1, 3, 4)]),
    "Flatten": Row("Flatten", PICTURE, axis=2), "Gather": Row("Gather", ROW, [whole(3, -1, 0)], axis=1),
    "Gemm": Row("Gemm", ROW, [array(3, 5), array(3)], transB=1, alpha=0.5, beta=2.0),
    "GlobalAveragePool": Row("GlobalAveragePool", PICTURE),
    "GlobalMaxPool": Row("GlobalMaxPool", PICTURE),
    "Greater": Row("Greater", ROW, [np.zeros(5, dtype=np.float32)]),
    "HardSigmoid": Row("HardSigmoid", ROW, alpha=0.3, beta=0.4), "HardSwish": Row("HardSwish", ROW),
    "Identity": Row("Identity", ROW),
    "InstanceNormalization": Row("InstanceNormalization", PICTURE, [array(2), array(2)]),
    "LayerNormalization": Row("LayerNormalization", LINE, [array(9), array(9)], axis=-1),
    "LeakyRelu": Row("LeakyRelu", ROW, alpha=0.2), "Less": Row("Less", ROW, [np.zeros(5, np.float32)]),
    "Log": Row("Log", ROW, front="Exp"), "LogSoftmax": Row("LogSoftmax", LINE),
    "LogSoftmax of old": Row("LogSoftmax", LINE, opset=11),
    "MatMul": Row("MatMul", LINE, [array(9, 4)]), "Max": Row("Max", ROW, [array(5)]),
    "MaxPool": Row("MaxPool", PICTURE, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    "MaxPool of one side": Row("MaxPool", PICTURE, kernel_shape=[3, 3], pads=[0, 0, 1, 1], strides=[2, 2]),
    "Min": Row("Min", ROW, [array(5)]), "Mul": Row("Mul", ROW, [array(5)]), "Neg": Row("Neg", ROW),
    "PRelu": Row("PRelu", ROW, [np.float32([0.1, 0.2, 0.3, 0.4, 0.5])]),
    "Pad": Row("Pad", LINE, [whole(0, 1, 2, 0, 0, 1), np.float32(0.5)]),
    "Pow": Row("Pow", ROW, [np.float32(2.0)]), "Reciprocal": Row("Reciprocal", ROW, front="Exp"),
    "ReduceL2": Row("ReduceL2", LINE, axes=[2]), "ReduceMax": Row("ReduceMax", LINE, axes=[1]),
    "ReduceMean": Row("ReduceMean", PICTURE, axes=[2, 3], keepdims=0),
    "ReduceMin": Row("ReduceMin", LINE, axes=[1]), "ReduceSum": Row("ReduceSum", LINE, [whole(2)]),
    "Relu": Row("Relu", ROW), "Reshape": Row("Reshape", PICTURE, [whole(0, -1, 6)]),
    "Selu": Row("Selu", ROW), "Sigmoid": Row("Sigmoid", ROW), "Sin": Row("Sin", ROW),
    "Slice": Row("Slice", LINE, [whole(1, 0), whole(8, 9), whole(2, 1), whole(3, 1)]),
    "Slice of old": Row("Slice", LINE, opset=9, starts=[1], ends=[-1], axes=[2]),
    "Softmax": Row("Softmax", LINE, axis=1), "Softmax of old": Row("Softmax", LINE, opset=11),
    "Softplus": Row("Softplus", ROW), "Softsign": Row("Softsign", ROW),
    "Split": Row("Split", ROW, [whole(2, 3)], axis=1, outputs=2),
    "Split in halves": Row("Split", (6,), opset=11, axis=1, outputs=2),
    "Sqrt": Row("Sqrt", ROW, front="Exp"), "Squeeze": Row("Squeeze", (1, 5), [whole(1)]),
    "Sub": Row("Sub", ROW, [array(5)]), "Sum": Row("Sum", ROW, [array(5), array(5)]),
    "Tanh": Row("Tanh", ROW), "Transpose": Row("Transpose", PICTURE, perm=[0, 2, 3, 1]),
    "Unsqueeze": Row("Unsqueeze", ROW, [whole(1, -1)]),
    "Gelu": Row("Gelu", ROW, opset=20, approximate="tanh"),
    "LSTM": Row("LSTM", LINE, [array(1, 12, 9), array(1, 12, 3), array(1, 24)], hidden_size=3, outputs=3),
    "LSTM both ways": Row("LSTM", LINE, [array(2, 12, 9), array(2, 12, 3), array(2, 24)], hidden_size=3,
                          direction="bidirectional"),
    "LSTM backwards, without bias": Row("LSTM", LINE, [array(1, 8, 9), array(1, 8, 2)], hidden_size=2,
                                        direction="reverse"),
    "GRU": Row("GRU", LINE, [array(1, 9, 9), array(1, 9, 3), array(1, 18)], hidden_size=3,
               linear_before_reset=1, outputs=2),
    "RNN": Row("RNN", LINE, [array(1, 3, 9), array(1, 3, 3), array(1, 6)], hidden_size=3),
}  # fmt: skip
BEYOND = {"And", "ArgMax", "Constant", "ConstantOfShape", "Not", "Or", "Shape", "Where"}
"""Operators on shapes and truth values, which the graphs below are made of."""


@pytest.mark.parametrize("name", ROWS)
def test_the_torch_form_of_an_operator_agrees_with_onnxruntime(tmp_path, name):
    row = ROWS[name]
    row.write(tmp_path / "m.onnx", batch=4 if name == "Concat" else None)
    model = onnx.load(root=tmp_path, path="m.onnx", bounds=[-1.0, 1.0])
    x = RNG.uniform(-2, 2, size=(4, *row.shape)).astype(np.float32)
    assert model.twin is not None, model.card.facts["gradients"]
    with torch.no_grad():
        given = model.twin.module.net(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(given, model._outputs(x).numpy(), rtol=1e-4, atol=1e-5)
    assert "gradients" in model.offers


def test_every_operator_is_proved_here():
    assert {row.op for row in ROWS.values()} | BEYOND == set(onnx_operators.OPERATORS)


RECURRENT = {
    "a GRU that resets first": Row("GRU", LINE, [array(1, 9, 9), array(1, 9, 3)], hidden_size=3),
    "clipped cells": Row("LSTM", LINE, [array(1, 8, 9), array(1, 8, 2)], hidden_size=2, clip=1.0),
    "other activations": Row("RNN", LINE, [array(1, 3, 9), array(1, 3, 3)], hidden_size=3,
                             activations=["Relu"]),
}  # fmt: skip


@pytest.mark.parametrize("name", RECURRENT)
def test_a_recurrent_net_that_has_no_torch_form_here_stays_a_black_box(tmp_path, name):
    RECURRENT[name].write(tmp_path / "m.onnx")
    model = onnx.load(root=tmp_path, path="m.onnx", bounds=[-1.0, 1.0])
    assert "gradients" not in model.offers
    assert model.card.facts["gradients"].startswith("none: ")


def dynamic(path: Path) -> None:
    """Flattening as exporters write it: the batch is read off the shape; and a choice by a mask."""
    node = helper.make_node
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Constant", [], ["zero"], value=numpy_helper.from_array(np.int64(0))),
        node("Gather", ["s", "zero"], ["b"], axis=0),
        node("Constant", [], ["axes"], value_ints=[0]),
        node("Unsqueeze", ["b", "axes"], ["bs"]),
        node("Constant", [], ["rest"], value_ints=[-1]),
        node("Concat", ["bs", "rest"], ["to"], axis=0),
        node("Reshape", ["x", "to"], ["flat"]),
        node("ConstantOfShape", ["one"], ["zeros"], value=numpy_helper.from_array(np.float32([0.0]))),
        node("Greater", ["flat", "zeros"], ["up"]), node("Less", ["flat", "zeros"], ["down"]),
        node("Or", ["up", "down"], ["any"]), node("And", ["up", "any"], ["both"]),
        node("Not", ["both"], ["off"]), node("Neg", ["flat"], ["less"]),
        node("Where", ["off", "less", "flat"], ["y"]), node("ArgMax", ["y"], ["best"], axis=1),
        node("Cast", ["best"], ["unused"], to=TensorProto.FLOAT),
    ]  # fmt: skip
    save(path, nodes, (2, 3), {"one": whole(1)})


def test_graphs_that_compute_shapes_take_any_batch(tmp_path):
    dynamic(tmp_path / "m.onnx")
    model = onnx.load(root=tmp_path, path="m.onnx", bounds=[-1.0, 1.0])
    x = RNG.uniform(-1, 1, size=(9, 2, 3)).astype(np.float32)
    model.recognise(x)
    with torch.no_grad():
        np.testing.assert_array_equal(
            model.module.net(torch.from_numpy(x)), np.abs(x).reshape(9, 6)
        )


def test_gradients_are_those_of_the_net_and_the_card_says_how_far_both_agree(formats):
    for name in ("free.onnx", "fixed.onnx"):
        model = onnx.load(root=formats.root, path=name, bounds=[0.0, 1.0])
        assert model.recognise(formats.x) == "logits"
        assert {"gradients", "module"} <= model.offers
        facts = model.card.facts["torch_form"]
        assert facts["compared_inputs"] == 37
        assert facts["largest_difference"] < 1e-5
        y = torch.arange(37) % 3
        x = torch.from_numpy(formats.x).requires_grad_()
        loss = torch.nn.functional.cross_entropy(formats.net(x), y, reduction="sum")
        (expected,) = torch.autograd.grad(loss, x)
        torch.testing.assert_close(
            model.loss_gradient(formats.x, y), expected, atol=1e-5, rtol=1e-4
        )
        assert model.passes.cost.backward == 37


@settings(max_examples=25, deadline=None)
@given(stn.arrays(np.float32, (2, 5), elements=st.floats(-2, 2, width=32)), st.integers(0, 4))
def test_the_gradient_is_the_slope_of_what_the_runtime_answers(tmp_path_factory, x, at):
    folder = tmp_path_factory.getbasetemp()
    path = folder / "smooth.onnx"
    if not path.exists():
        weights = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("Tanh", ["h"], ["y"]),
        ]
        save(path, nodes, (5,), {"w": weights})
    model = onnx.load(root=folder, path="smooth.onnx")
    y = np.array([0, 2])
    slope = model.loss_gradient(x, y).numpy()[:, at]
    step = np.zeros((2, 5), dtype=np.float32)
    step[:, at] = 1e-2

    def loss(inputs):
        logits = model.logits(inputs)
        return torch.nn.functional.cross_entropy(
            logits, torch.from_numpy(y), reduction="none"
        ).numpy()

    np.testing.assert_allclose(slope, (loss(x + step) - loss(x - step)) / 2e-2, atol=2e-3)


def test_a_batch_that_is_baked_in_is_given_as_declared(tmp_path):
    """A constant of as many rows as the graph declares: other batches are cut into such pieces."""
    ROWS["Concat"].write(tmp_path / "m.onnx", batch=4)
    model = onnx.load(root=tmp_path, path="m.onnx", bounds=[-1.0, 1.0])
    x = RNG.uniform(-1, 1, size=(10, 5)).astype(np.float32)
    model.recognise(x)
    assert model.module.net.pieces == 4
    with torch.no_grad():
        torch.testing.assert_close(model.module(torch.from_numpy(x)), model.logits(x))


def unknown(path: Path) -> None:
    save(path, [helper.make_node("Hardmax", ["x"], ["y"])], (5,), {})


def test_an_unknown_operator_leaves_a_black_box_that_says_which(tmp_path):
    unknown(tmp_path / "m.onnx")
    model = onnx.load(root=tmp_path, path="m.onnx")
    assert model.offers == {"decisions", "logits"}
    assert model.card.facts["gradients"] == "none: the operator Hardmax has no torch form here"
    assert model.module is None
    with pytest.raises(NotOffered, match="the operator Hardmax"):
        model.loss_gradient(np.zeros((1, 5), np.float32), [0])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda call: call.tensor(0) + 1e-2, "the torch form differs by 0.01"),
        (lambda call: call.tensor(0)[:, :2], "another shape"),
        (lambda _: 1 / 0, "the torch form raised ZeroDivisionError"),
        (lambda call: call.tensor(0) * float("nan"), "another shape"),
    ],
)
def test_a_torch_form_that_does_not_agree_is_not_used(tmp_path, monkeypatch, wrong, said):
    ROWS["Relu"].write(tmp_path / "m.onnx")
    honest = onnx.load(root=tmp_path, path="m.onnx")
    assert "gradients" in honest.offers
    monkeypatch.setitem(onnx_operators.OPERATORS, "Relu", wrong)
    model = onnx.load(root=tmp_path, path="m.onnx")
    assert model.offers == {"decisions", "logits"}
    assert said in model.card.facts["gradients"]
    np.testing.assert_array_equal(
        model.logits(np.ones((2, 5), np.float32)).numpy(), np.ones((2, 5))
    )


def test_disagreement_on_the_data_alone_is_found_too(tmp_path):
    """Where the random inputs look alike and the data's rows do not, the data decide."""
    node = helper.make_node
    big = np.full(5, 50.0, dtype=np.float32)
    save(
        tmp_path / "m.onnx",
        [node("Sub", ["x", "b"], ["s"]), node("Relu", ["s"], ["y"])],
        (5,),
        {"b": big},
    )
    model = onnx.load(root=tmp_path, path="m.onnx")
    relu = next(one for one in model.twin.module.net.operators if one.node.op == "Relu")
    relu._apply_to = lambda call: call.tensor(0) * 0
    assert "gradients" in model.offers
    model.recognise(np.full((3, 5), 60.0, dtype=np.float32))
    assert model.offers == {"decisions", "logits"}
    assert "differs by 10" in model.card.facts["gradients"]


def test_whole_numbers_have_no_gradients(tmp_path):
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)]
    save(tmp_path / "m.onnx", nodes, (4,), {}, kind=TensorProto.INT64)
    model = onnx.load(root=tmp_path, path="m.onnx")
    assert model.card.facts["gradients"] == "none: its inputs are of the type int64"


def test_constants_in_every_place_are_read(tmp_path):
    """Raw bytes, lists of numbers, half precision, and a file beside the model, in part."""

    def tensor(name, kind, values, **how):
        return helper.make_tensor(name, kind, [3], values, **how)

    outside = tensor("d", TensorProto.FLOAT, np.float32([0, 0, 0]).tobytes(), raw=True)
    outside.ClearField("raw_data")
    outside.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "w.bin"), ("offset", "8"), ("length", "12")):
        entry = outside.external_data.add()
        entry.key, entry.value = key, value
    (tmp_path / "w.bin").write_bytes(b"\0" * 8 + np.float32([7, 8, 9]).tobytes() + b"\0" * 8)
    constants = [
        tensor("a", TensorProto.FLOAT, [1.0, 2.0, 3.0]), tensor("b", TensorProto.DOUBLE, [1.5, -2.0, 0.25]),
        tensor("c", TensorProto.FLOAT16, [0.5, 1.0, -2.0]), outside,
        tensor("e", TensorProto.INT64, [-1, 0, 1 << 40]), tensor("f", TensorProto.INT32, [-5, 6, 7]),
        tensor("g", TensorProto.BOOL, [True, False, True]),
    ]  # fmt: skip
    nodes, last = [], "x"
    for one in constants:
        nodes.append(helper.make_node("Cast", [one.name], [f"{one.name}f"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Add", [last, f"{one.name}f"], [f"x{one.name}"]))
        last = f"x{one.name}"
    nodes.append(helper.make_node("Identity", [last], ["y"]))
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 3])], constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    loaded = onnx.load(root=tmp_path, path="m.onnx")
    assert "gradients" in loaded.offers, loaded.card.facts["gradients"]
    expected = sum(numpy_helper.to_array(one, str(tmp_path)).astype(np.float32) for one in constants
                   if one is not outside) + np.float32([7, 8, 9])  # fmt: skip
    with torch.no_grad():
        np.testing.assert_allclose(
            loaded.twin.module.net(torch.zeros(1, 3))[0], expected, rtol=1e-6
        )


def test_agreement_by_hand():
    expected = np.array([[1.0, -4.0], [np.inf, 2.0]])
    given = np.array([[1.5, -4.0], [np.inf, 2.25]])
    assert agreed(expected, given) == (2, 0.5, 4.0)
    assert not agreed(expected, given).holds
    assert agreed(expected, given[:, :1]) is None
    assert agreed(expected, np.zeros((2, 2))) is None


@pytest.mark.truth
@pytest.mark.parametrize("network", ["256x2", "256x4"])
def test_vnncomp_networks_agree_and_their_witnesses_still_win(truths, network):
    """The torch form, onnxruntime and the separate weights file are three readings of one network."""
    from safetensors.torch import load_file

    folder = truths / "vnncomp_mnistfc"
    model = onnx.load(root=folder, path=f"mnist-net_{network}.onnx", bounds=[0.0, 1.0])
    witnesses = np.load(folder / "witnesses.npz")
    mine = witnesses["network"].astype(str) == network
    x = witnesses["x"][mine].astype(np.float32)
    assert model.recognise(x) == "logits"
    assert model.card.facts["torch_form"]["largest_difference"] < 1e-5
    state = load_file(folder / f"mnist_{network}.safetensors")
    weights = [state[key] for key in sorted(state) if key.endswith("weight")]
    biases = [state[key] for key in sorted(state) if key.endswith("bias")]
    inputs = torch.from_numpy(x).requires_grad_()
    h = inputs
    for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        h = h @ weight.T + bias
        h = h.relu() if number + 1 < len(weights) else h
    y = torch.zeros(len(x), dtype=torch.int64)
    (expected,) = torch.autograd.grad(
        torch.nn.functional.cross_entropy(h, y, reduction="sum"), inputs
    )
    logits, gradient = model.logits_and_gradient(x, y)
    torch.testing.assert_close(logits, h.detach(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model.logits(x), logits, atol=1e-5, rtol=1e-4)

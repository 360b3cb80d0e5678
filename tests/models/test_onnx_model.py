"""ONNX models run as they are declared: shapes, types, batches, and data beside the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx as onnx_format
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from dlaudit.errors import LoadError, UntrustedModel
from dlaudit.models import onnx
from dlaudit.models.onnx_reading import fields, references

WEIGHTS = np.arange(12, dtype=np.float32).reshape(6, 2) / 10


def write(
    path: Path, shape, *, kind=TensorProto.FLOAT, external="", domain="", outputs=None
) -> Path:
    """x of some shape, flattened, times a matrix (6, 2)."""
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["f"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["scores"], domain=domain),
    ]
    opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    made = outputs or [("scores", TensorProto.FLOAT, [None, 2])]
    if any(name == "label" for name, *_ in made):
        nodes.append(helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0))
    weights = numpy_helper.from_array(WEIGHTS, "w")
    if external:
        weights.ClearField("raw_data")
        weights.data_location = TensorProto.EXTERNAL
        entry = weights.external_data.add()
        entry.key, entry.value = "location", external
    model = helper.make_model(
        helper.make_graph(
            nodes, "g", [helper.make_tensor_value_info("x", kind, shape)],
            [helper.make_tensor_value_info(*one) for one in made], [weights],
        ),
        opset_imports=opsets, ir_version=8,
    )  # fmt: skip
    path.write_bytes(model.SerializeToString())
    return path


def test_axes_of_length_one_are_added_or_dropped(tmp_path):
    write(tmp_path / "m.onnx", [None, 1, 6, 1])
    model = onnx.load(root=tmp_path, path="m.onnx")
    x = np.random.default_rng(0).random((5, 6), dtype=np.float32)
    for shape in ((5, 6), (5, 1, 6), (5, 6, 1), (5, 1, 6, 1)):
        np.testing.assert_allclose(model.logits(x.reshape(shape)).numpy(), x @ WEIGHTS, rtol=1e-5)


def test_other_shapes_are_read_row_by_row_only_when_asked(tmp_path):
    write(tmp_path / "m.onnx", [1, 6])
    x = np.random.default_rng(0).random((5, 2, 3), dtype=np.float32)
    with pytest.raises(
        LoadError, match=r"expected shape \(6\) per sample, got \(2, 3\).*reshape = true"
    ):
        onnx.load(root=tmp_path, path="m.onnx").recognise(x)
    model = onnx.load(root=tmp_path, path="m.onnx", reshape=True)
    np.testing.assert_allclose(model.logits(x).numpy(), x.reshape(5, 6) @ WEIGHTS, rtol=1e-5)
    with pytest.raises(LoadError, match=r"expected shape \(6\) per sample, got \(2, 2\)\.$"):
        model.recognise(x[:, :, :2])


@settings(max_examples=25)
@given(n=st.integers(0, 17), fixed=st.integers(1, 6))
def test_a_fixed_batch_changes_no_answer(tmp_path_factory, n, fixed):
    folder = tmp_path_factory.getbasetemp()
    write(folder / f"fixed{fixed}.onnx", [fixed, 6])
    x = np.random.default_rng(n).random((n, 6), dtype=np.float32)
    model = onnx.load(root=folder, path=f"fixed{fixed}.onnx")
    np.testing.assert_allclose(model.logits(x).numpy(), x @ WEIGHTS, rtol=1e-5)
    assert model.passes.cost.forward == n


def test_inputs_are_cast_to_the_declared_type_but_never_cut_to_whole_numbers(tmp_path):
    write(tmp_path / "m.onnx", [None, 6], kind=TensorProto.DOUBLE)
    x = np.random.default_rng(0).random((5, 6), dtype=np.float32)
    model = onnx.load(root=tmp_path, path="m.onnx")
    np.testing.assert_allclose(model.logits(x).numpy(), x @ WEIGHTS, rtol=1e-5)
    write(tmp_path / "t.onnx", [None, 6], kind=TensorProto.INT64)
    model = onnx.load(root=tmp_path, path="t.onnx")
    tokens = np.arange(12).reshape(2, 6)
    np.testing.assert_allclose(model.logits(tokens).numpy(), tokens @ WEIGHTS, rtol=1e-5)
    with pytest.raises(
        LoadError, match=r"expected int64 \(whole numbers\), got float32.*tokens = true"
    ):
        model.recognise(x)


def test_the_first_output_of_numbers_is_used_unless_one_is_named(tmp_path):
    outputs = [("label", TensorProto.INT64, [None]), ("scores", TensorProto.FLOAT, [None, 2])]
    write(tmp_path / "m.onnx", [None, 6], outputs=outputs)
    assert onnx.load(root=tmp_path, path="m.onnx").card.facts["output_name"] == "scores"
    with pytest.raises(LoadError, match="expected one of label, scores, got 'logits'"):
        onnx.load(root=tmp_path, path="m.onnx", output="logits")
    write(tmp_path / "l.onnx", [None, 6], outputs=outputs[:1])
    with pytest.raises(LoadError, match="expected a tensor of logits or probabilities"):
        onnx.load(root=tmp_path, path="l.onnx")


def test_external_data_beside_the_model_are_read_and_are_part_of_its_identity(tmp_path):
    write(tmp_path / "m.onnx", [None, 6], external="w.bin")
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    x = np.random.default_rng(0).random((5, 6), dtype=np.float32)
    model = onnx.load(root=tmp_path, path="m.onnx")
    np.testing.assert_allclose(model.logits(x).numpy(), x @ WEIGHTS, rtol=1e-5)
    (tmp_path / "w.bin").write_bytes((WEIGHTS * 2).tobytes())
    other = onnx.load(root=tmp_path, path="m.onnx")
    assert other.card.fingerprint != model.card.fingerprint
    assert other.card.facts["files"]["external 0"]["name"] == "w.bin"


@pytest.mark.parametrize(
    "where", ["../secret.bin", "/etc/hostname", "link.bin", "a/../../secret.bin", ""]
)
def test_external_data_outside_the_folder_are_refused(tmp_path, where):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(WEIGHTS.tobytes())
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    write(folder / "m.onnx", [None, 6], external=where or "x")
    if not where:
        content = (folder / "m.onnx").read_bytes()
        (folder / "m.onnx").write_bytes(
            content.replace(b"location\x12\x01x", b"location\x12\x01\0")
        )
    with pytest.raises(LoadError) as refused:
        onnx.load(root=folder, path="m.onnx")
    if where:
        assert isinstance(refused.value, UntrustedModel)
        assert "leaves it" in str(refused.value)


def test_operators_of_other_domains_and_several_inputs_are_named(tmp_path):
    write(tmp_path / "m.onnx", [None, 6], domain="com.evil")
    with pytest.raises(LoadError, match=r"the domain 'com\.evil'"):
        onnx.load(root=tmp_path, path="m.onnx")
    two = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["c"])], "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]) for name in "ab"],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, [None, 2])],
    )  # fmt: skip
    model = helper.make_model(two, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "two.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(LoadError, match="expected one, the batch, got 2: a, b"):
        onnx.load(root=tmp_path, path="two.onnx")


def test_references_are_those_that_the_onnx_package_finds(tmp_path):
    """An independent reading of the same bytes, nested graphs included."""
    inner = helper.make_graph(
        [helper.make_node("Relu", ["q"], ["r"], domain="inner.domain")], "inner", [], [],
        [weighted("nested.bin")],
    )  # fmt: skip
    node = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    model = helper.make_model(
        helper.make_graph([node], "g", [], [], [weighted("outer.bin"), weighted("nested.bin")])
    )
    content = model.SerializeToString()
    found = references(memoryview(content))
    assert found.locations == ("nested.bin", "outer.bin")
    assert found.domains == ("inner.domain",)
    parsed = onnx_format.ModelProto.FromString(content)
    outer = {one.external_data[0].value for one in parsed.graph.initializer}
    assert outer <= set(found.locations)


def weighted(location: str) -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(2, dtype=np.float32), location)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return tensor


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content):
    try:
        list(fields(memoryview(content)))
        references(memoryview(content))
    except ValueError:
        return

"""Tiny networks and the files that they are saved in, made once."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from dlaudit.audit.registry import import_file

CODE = '''
from torch import nn


class Net(nn.Module):
    """(B, 1, 8, 8) in [0, 1] -> 3 logits."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(64, 3)

    def forward(self, x):
        x = nn.functional.max_pool2d(self.norm(self.conv(x)).relu(), 2)
        return self.head(self.drop(x.flatten(1)))


def build():
    return Net()


def pretrained(weights):
    from safetensors.torch import load_file

    net = Net()
    net.load_state_dict(load_file(weights))
    return net


def sized(width=2):
    return nn.Linear(width, 3)


def fails():
    raise RuntimeError("no such dataset\\nsecond line")


def nothing():
    return None


number = 3
'''


class Saved:
    """One network in every format, and inputs."""

    def __init__(self, folder: Path) -> None:
        import torch

        self.root = folder
        (folder / "net.py").write_text(CODE)
        module = import_file(folder / "net.py")
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.net = module.Net()
            self.net.norm.running_mean.uniform_(-0.5, 0.5)
            self.net.norm.running_var.uniform_(0.5, 1.5)
        self.net.eval()
        self.x = np.random.default_rng(0).random((37, 1, 8, 8), dtype=np.float32)
        with torch.no_grad():
            self.logits = self.net(torch.from_numpy(self.x)).numpy()


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """The network with weights.safetensors, weights.pt, old.pt and checkpoint.pt."""
    import torch
    from safetensors.torch import save_file

    made = Saved(tmp_path_factory.mktemp("saved"))
    state = made.net.state_dict()
    save_file(state, made.root / "weights.safetensors")
    torch.save(state, made.root / "weights.pt")
    torch.save(state, made.root / "old.pt", _use_new_zipfile_serialization=False)
    torch.save({"epoch": 3, "state_dict": state}, made.root / "checkpoint.pt")
    torch.save({f"module.{key}": value for key, value in state.items()}, made.root / "parallel.pt")
    return made


@pytest.fixture(scope="session")
def formats(saved: Saved) -> Saved:
    """The same network as script.pt, trace.pt, free.pt2, fixed.pt2, free.onnx and fixed.onnx."""
    import torch

    example = (torch.from_numpy(saved.x[:5]),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(saved.net).save(saved.root / "script.pt")
        torch.jit.trace(saved.net, example).save(saved.root / "trace.pt")
        free = torch.export.export(
            saved.net, example, dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},)
        )
        torch.export.save(free, saved.root / "free.pt2")
        torch.export.save(torch.export.export(saved.net, example), saved.root / "fixed.pt2")
    graph(saved, saved.root / "free.onnx", batch=None)
    graph(saved, saved.root / "fixed.onnx", batch=5)
    return saved


def graph(saved: Saved, path: Path, *, batch: int | None) -> None:
    """Write the network as ONNX, node by node."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    state = {key: value.numpy() for key, value in saved.net.state_dict().items()}
    names = ["conv.weight", "conv.bias", "norm.weight", "norm.bias", "norm.running_mean",
             "norm.running_var", "head.weight", "head.bias"]  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", *names[:2]], ["c"], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        helper.make_node("BatchNormalization", ["c", *names[2:6]], ["n"], epsilon=1e-5),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", *names[6:]], ["logits"], transB=1),
    ]
    size = batch or "batch"
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [size, 1, 8, 8])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [size, 3])],
            [numpy_helper.from_array(state[name], name) for name in names],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save(model, path)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file that hostile code would make."""
    return tmp_path / "canary"

"""Every loader says in one sentence what is wrong with a bad model file, and where."""

from __future__ import annotations

import errno
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dlaudit.errors import LoadError
from dlaudit.models import callable, onnx, sklearn, torch_export, torch_files, torchscript  # noqa: A004

FACTORY = {"file": "net.py:build"}


@pytest.fixture
def folder(tmp_path, formats):
    """A copy of every good file, to be spoilt."""
    for name in (
        "net.py",
        "weights.safetensors",
        "weights.pt",
        "script.pt",
        "free.pt2",
        "free.onnx",
    ):
        (tmp_path / name).write_bytes((formats.root / name).read_bytes())
    return tmp_path


def state(saved, **changes) -> dict[str, torch.Tensor]:
    """The good weights with some keys changed; None takes a key away."""
    made = {key: value.clone() for key, value in saved.net.state_dict().items()} | {
        key.replace("__", "."): value for key, value in changes.items()
    }
    return {key: value for key, value in made.items() if value is not None}


def cut(folder: Path, name: str, left: float = 0.6) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(len(content) * left)])


def common(name: str, args: dict, key: str) -> list[tuple]:
    """What is wrong with any file, whatever it should hold."""

    def empty(folder, _):
        (folder / name).write_bytes(b"")

    def gone(folder, _):
        (folder / name).rename(folder / f"my_{name}")

    def a_folder(folder, _):
        (folder / name).unlink()
        (folder / name).mkdir()

    def dangling(folder, _):
        (folder / name).unlink()
        (folder / name).symlink_to(folder / "gone")

    def pipe(folder, _):
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return [
        ("empty", empty, args, "got an empty file"),
        ("missing", gone, args, f"got nothing of this name. Did you mean my_{name}?"),
        ("a folder", a_folder, args, "got a folder"),
        ("a dangling link", dangling, args, "got a link to nothing"),
        ("a pipe", pipe, args, "no regular file"),
        ("no name", lambda *_: None, args | {key: ""}, "expected"),
        (
            "bounds reversed",
            lambda *_: None,
            args | {"bounds": [1, 0]},
            "bounds: expected low below high",
        ),
        ("one bound", lambda *_: None, args | {"bounds": [1]}, "bounds: expected [low, high]"),
        ("bounds of text", lambda *_: None, args | {"bounds": ["0", "1"]}, "bounds: expected"),
        ("infinite bounds", lambda *_: None, args | {"bounds": [0, float("inf")]}, "finite"),
        ("one class", lambda *_: None, args | {"classes": ["a"]}, "classes: expected at least two"),
        ("a class twice", lambda *_: None, args | {"classes": ["a", "a"]}, "got 'a' twice"),
        ("no batch", lambda *_: None, args | {"batch": 0}, "batch: expected a whole number"),
    ]


def spoil(name: str, content: bytes) -> Callable:
    return lambda folder, _: (folder / name).write_bytes(content)


def saving(name: str, **changes) -> Callable:
    def change(folder, saved):
        made = state(saved, **changes)
        (torch.save if name.endswith(".pt") else save_file)(made, folder / name)

    return change


def resized(folder, saved):
    torch.save(
        state(saved, head__weight=torch.zeros(4, 64), head__bias=torch.zeros(4)),
        folder / "weights.pt",
    )


def header_too_long(folder, _):
    content = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(struct.pack("<Q", 1 << 40) + content[8:])


def not_json(folder, _):
    (folder / "weights.safetensors").write_bytes(struct.pack("<Q", 9) + b"{not json" + b"\0" * 40)


SAFE = FACTORY | {"weights": "weights.safetensors"}
STATE = FACTORY | {"weights": "weights.pt"}
TORCH = [
    *common("weights.safetensors", SAFE, "weights"),
    ("truncated safetensors", lambda f, _: cut(f, "weights.safetensors"), SAFE, "Is the file whole?"),
    ("truncated state dict", lambda f, _: cut(f, "weights.pt"), STATE, "cut off or damaged"),
    ("huge header", header_too_long, SAFE, "a header that says it has 1099511627776"),
    ("no JSON header", not_json, SAFE, "header: expected JSON that lists tensors"),
    ("wrong magic", spoil("weights.pt", b"GIF89a and more"), STATE, "a file of the kind: unknown"),
    ("HDF5", spoil("weights.pt", b"\x89HDF\r\n\x1a\nrest"), STATE, "HDF5"),
    ("TorchScript", lambda *_: None, FACTORY | {"weights": "script.pt"}, 'use = "torchscript" reads it'),
    ("torch.export", lambda *_: None, FACTORY | {"weights": "free.pt2"}, 'use = "torch_export" reads it'),
    ("missing key", saving("weights.safetensors", head__bias=None), SAFE,
     "key 'head.bias': expected a tensor of shape (3), got no such key"),
    ("renamed key", saving("weights.pt", head__bias=None, heads__bias=torch.zeros(3)), STATE,
     "Did you mean heads.bias?"),
    ("one key more", saving("weights.pt", extra=torch.zeros(1)), STATE,
     "key 'extra': expected only keys of the network"),
    ("another shape", resized, STATE,
     "key 'head.weight': expected shape (3, 64), as the network has, got shape (4, 64)"),
    ("NaN", saving("weights.pt", head__bias=torch.tensor([0.0, float("nan"), 1.0])), STATE,
     "key 'head.bias': expected finite numbers, got NaN or infinity in 1 of 3"),
    ("infinity", saving("weights.safetensors", head__bias=torch.full((3,), float("inf"))), SAFE,
     "key 'head.bias': expected finite numbers"),
    ("a list", lambda f, _: torch.save([1, 2], f / "weights.pt"), STATE, "got a list"),
    ("an optimiser too", lambda f, s: torch.save({"net": state(s), "lr": 0.1}, f / "weights.pt"), STATE,
     "key 'net': expected a tensor, got a dict. A checkpoint keeps its state dict under one of"),
    ("no tensors", lambda f, _: torch.save({}, f / "weights.pt"), STATE, "at least one tensor"),
    ("a pickle", lambda f, _: (f / "weights.pt").write_bytes(pickle.dumps({})), STATE, "kind: pickle"),
    ("no colon", lambda *_: None, {"file": "net.py"}, 'file: expected "file.py:function", got "net.py"'),
    ("no such file", lambda *_: None, {"file": "nett.py:build"}, "Did you mean net.py?"),
    ("no such function", lambda *_: None, {"file": "net.py:biuld"}, "Did you mean build?"),
    ("no function", lambda *_: None, {"file": "net.py:number"}, "expected a function, got a int"),
    ("no network", lambda *_: None, {"file": "net.py:nothing"}, "expected a torch.nn.Module, got a NoneType"),
    ("a factory that fails", lambda *_: None, {"file": "net.py:fails"}, "got RuntimeError: no such dataset"),
    ("arguments that are none", lambda *_: None, {"file": "net.py:sized", "args": {"wide": 3}},
     "expected a network from calling it with wide, got TypeError"),
    ("code that is none", spoil("net.py", b"def build(:\n"), {"file": "net.py:build"}, "SyntaxError"),
    ("code that fails", spoil("net.py", b"import nosuchmodule\n"), {"file": "net.py:build"},
     "ModuleNotFoundError"),
    ("a digest that is none", lambda *_: None, SAFE | {"allow": ["abc"]}, "allow: expected sha256"),
    ("no such device", lambda *_: None, SAFE | {"device": "tpu:9"}, "device: expected a device"),
]  # fmt: skip


def scripted_nan(folder, saved):
    import copy
    import warnings

    net = copy.deepcopy(saved.net)
    net.head.bias.data[0] = float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(net).save(folder / "script.pt")


SCRIPT = [
    *common("script.pt", {"path": "script.pt"}, "path"),
    ("truncated", lambda f, _: cut(f, "script.pt"), {"path": "script.pt"}, "cut off or damaged"),
    ("a state dict", lambda *_: None, {"path": "weights.pt"}, 'use = "torch" reads it'),
    ("safetensors", lambda *_: None, {"path": "weights.safetensors"}, 'use = "torch" reads it'),
    ("code", lambda *_: None, {"path": "net.py"}, "kind: unknown"),
    ("NaN", scripted_nan, {"path": "script.pt"}, "expected finite numbers"),
    ("an archive of nothing", lambda f, _: hollow(f), {"path": "script.pt"}, "whole TorchScript archive"),
]  # fmt: skip


def hollow(folder):
    with zipfile.ZipFile(folder / "script.pt", "w") as zipped:
        zipped.writestr("a/data.pkl", pickle.dumps({}, protocol=2))
        zipped.writestr("a/code/x.py", "")


def without_version(folder, _):
    with zipfile.ZipFile(folder / "free.pt2") as old:
        kept = {entry.filename: old.read(entry) for entry in old.infolist()}
    with zipfile.ZipFile(folder / "free.pt2", "w") as new:
        for name, content in kept.items():
            if not name.endswith("archive_version"):
                new.writestr(name, content)


def broken_json(folder, _):
    with zipfile.ZipFile(folder / "free.pt2") as old:
        kept = {entry.filename: old.read(entry) for entry in old.infolist()}
    with zipfile.ZipFile(folder / "free.pt2", "w") as new:
        for name, content in kept.items():
            new.writestr(name, b"{" if name.endswith("model.json") else content)


def older(folder, _):
    with zipfile.ZipFile(folder / "free.pt2", "w") as zipped:
        zipped.writestr("serialized_exported_program.json", json.dumps({}))


def two_inputs(folder, _):
    class Two(torch.nn.Module):
        def forward(self, a, b):
            return a + b

    torch.export.save(
        torch.export.export(Two(), (torch.ones(2), torch.ones(2))), folder / "free.pt2"
    )


PT2 = {"path": "free.pt2"}
EXPORT = [
    *common("free.pt2", PT2, "path"),
    ("truncated", lambda f, _: cut(f, "free.pt2"), PT2, "cut off or damaged"),
    ("without its version", without_version, PT2, "expected a whole torch.export archive"),
    ("damaged JSON", broken_json, PT2, "expected JSON of reasonable size and depth"),
    ("an older form", older, PT2, "no part of a current torch.export archive"),
    ("two inputs", two_inputs, PT2, "expected a program with one input, got 2: a, b"),
    ("TorchScript", lambda *_: None, {"path": "script.pt"}, 'use = "torchscript" reads it'),
]  # fmt: skip

GRAPH = {"path": "free.onnx"}
ONNX = [
    *common("free.onnx", GRAPH, "path"),
    ("truncated", lambda f, _: cut(f, "free.onnx"), GRAPH, "cut off"),
    ("text", spoil("free.onnx", b"hello there, this is no model"), GRAPH, "bytes that are none"),
    ("weights", lambda *_: None, {"path": "weights.safetensors"}, 'use = "torch" reads it'),
    ("no such output", lambda *_: None, GRAPH | {"output": "scores"}, "expected one of logits"),
    ("a wrong operator", lambda f, _: swapped(f), GRAPH, "expected a model that onnxruntime can run"),
]  # fmt: skip


def swapped(folder):
    content = (folder / "free.onnx").read_bytes()
    (folder / "free.onnx").write_bytes(content.replace(b"MaxPool", b"MinPool"))


@pytest.fixture(scope="session")
def skops_file(tmp_path_factory):
    import skops.io
    from sklearn.linear_model import LogisticRegression

    path = tmp_path_factory.mktemp("skops") / "m.skops"
    skops.io.dump(LogisticRegression().fit([[0.0], [1.0]], [0, 1]), path)
    return path


def archive(folder: Path, **entries: str) -> None:
    with zipfile.ZipFile(folder / "m.skops", "w") as zipped:
        for name, content in entries.items():
            zipped.writestr(name.replace("_json", ".json"), content)


SKOPS = {"path": "m.skops"}
SKLEARN = [
    *common("m.skops", SKOPS, "path"),
    ("truncated", lambda f, _: cut(f, "m.skops"), SKOPS, "cut off or damaged"),
    ("a pickle", spoil("m.skops", pickle.dumps([1])), SKOPS, "kind: pickle"),
    ("a zip of something", lambda f, _: archive(f, a="b"), SKOPS, "kind: zip archive"),
    ("no schema", lambda f, _: archive(f, schema_json="{}"), SKOPS, "expected a whole skops archive"),
    ("no JSON", lambda f, _: archive(f, schema_json="{"), SKOPS, "expected a whole skops archive"),
    ("too many classes", lambda *_: None, SKOPS | {"classes": ["a", "b", "c"]}, "expected 2 names"),
]  # fmt: skip

CALLABLE = [
    *[row for row in common("f.py", {"file": "f.py:f"}, "file") if row[0] != "empty"],
    ("an empty file", spoil("f.py", b""), {"file": "f.py:f"}, "empty file"),
    ("no such function", lambda *_: None, {"file": "f.py:g"}, "got nothing of this name"),
    ("a number", lambda *_: None, {"file": "f.py:n"}, "expected a function, got a int"),
    ("no such form", lambda *_: None, {"file": "f.py:f", "output": "logit s"}, "Did you mean logits?"),
    ("code that fails", spoil("f.py", b"1/0"), {"file": "f.py:f"}, "ZeroDivisionError"),
]  # fmt: skip

ROWS = [
    *(("torch", torch_files, *row) for row in TORCH),
    *(("torchscript", torchscript, *row) for row in SCRIPT),
    *(("torch_export", torch_export, *row) for row in EXPORT),
    *(("onnx", onnx, *row) for row in ONNX),
    *(("sklearn", sklearn, *row) for row in SKLEARN),
    *(("callable", callable, *row) for row in CALLABLE),
]


@pytest.mark.parametrize("row", ROWS, ids=[f"{row[0]}: {row[2]}" for row in ROWS])
def test_a_bad_model_is_refused_in_one_sentence(folder, saved, skops_file, row):
    _, loader, _, spoiling, args, said = row
    (folder / "m.skops").write_bytes(skops_file.read_bytes())
    (folder / "f.py").write_text("def f(x): return x\nn = 3\n")
    spoiling(folder, saved)
    with pytest.raises(LoadError) as refused:
        loader.load(root=folder, **args)
    assert said in str(refused.value)
    for problem in refused.value.problems:
        assert "\n" not in problem
        assert len(problem) < 600
        assert "expected" in problem or "raised" in problem


@pytest.mark.parametrize(
    "loader", ["torch", "torchscript", "torch_export", "onnx", "sklearn", "callable"]
)
def test_every_loader_has_at_least_fifteen_bad_inputs(loader):
    assert sum(row[0] == loader for row in ROWS) >= 15


@pytest.mark.parametrize(
    ("loader", "args"),
    [(torch_files, SAFE), (torchscript, {"path": "script.pt"}), (torch_export, PT2), (onnx, GRAPH),
     (sklearn, SKOPS)],
)  # fmt: skip
def test_a_file_that_may_not_be_read_is_refused(folder, skops_file, monkeypatch, loader, args):
    (folder / "m.skops").write_bytes(skops_file.read_bytes())
    name = args.get("weights") or args["path"]
    opened = Path.open

    def closed(path, *how, **more):
        if path.name == name:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(path, *how, **more)

    monkeypatch.setattr(Path, "open", closed)
    with pytest.raises(LoadError, match=r"an error on reading it \(Permission denied\)"):
        loader.load(root=folder, **args)


def test_all_keys_that_do_not_fit_are_told_together_but_not_by_the_hundred(folder, saved):
    torch.save(
        {key: value for key, value in state(saved).items() if "head" in key}, folder / "weights.pt"
    )
    with pytest.raises(LoadError) as refused:
        torch_files.load(root=folder, **STATE)
    assert len(refused.value.problems) == 6
    assert refused.value.problems[-1].endswith("and 1 more keys that do not fit")


def test_counters_and_tied_tensors_may_be_missing(tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def build():\n"
        "    first, last = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)\n"
        "    net = nn.Sequential(first, nn.BatchNorm1d(3), last)\n"
        "    net[2].weight = net[0].weight\n"
        "    return net\n"
    )
    state = {"0.weight": torch.eye(3), "1.weight": torch.ones(3), "1.bias": torch.zeros(3)}
    state |= {"1.running_mean": torch.zeros(3), "1.running_var": torch.ones(3)}
    torch.save(state, tmp_path / "w.pt")
    model = torch_files.load(root=tmp_path, file="net.py:build", weights="w.pt")
    x = np.eye(3, dtype=np.float32)
    np.testing.assert_allclose(model.logits(x).numpy(), x, atol=1e-4)


def test_masks_may_hold_infinity_but_no_nan(tmp_path):
    (tmp_path / "net.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Linear):\n"
        "    def __init__(self):\n"
        "        super().__init__(2, 2)\n"
        "        self.register_buffer('mask', torch.full((2,), -float('inf')))\n"
        "def spoilt():\n"
        "    net = Net()\n"
        "    net.mask[0] = float('nan')\n"
        "    return net\n"
    )
    assert torch_files.load(root=tmp_path, file="net.py:Net").classes == ()
    with pytest.raises(LoadError, match="key 'mask'"):
        torch_files.load(root=tmp_path, file="net.py:spoilt")


def test_a_factory_without_weights_builds_the_same_net_everywhere(folder):
    before = torch.random.get_rng_state()
    first = torch_files.load(root=folder, file="net.py:build")
    torch.rand(5)
    second = torch_files.load(root=folder, file="net.py:build")
    assert first.card.fingerprint == second.card.fingerprint
    torch.random.set_rng_state(before)
    torch_files.load(root=folder, file="net.py:build")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_network_that_cannot_take_the_inputs_says_so(folder):
    model = torch_files.load(root=folder, **SAFE)
    with pytest.raises(
        LoadError, match=r"expected to answer inputs of shape \(2, 3, 8, 8\) and type float32"
    ):
        model.recognise(np.zeros((2, 3, 8, 8), dtype=np.float32))
    program = torch_export.load(root=folder, **PT2)
    with pytest.raises(LoadError, match=r"expects inputs of shape \(1, 8, 8\), got \(3, 8, 8\)"):
        program.recognise(np.zeros((2, 3, 8, 8), dtype=np.float32))

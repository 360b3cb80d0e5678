"""Which loader reads a model file is told from its name and content."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dlaudit.errors import LoadError
from dlaudit.models import infer

ROWS = {
    "net.py:build": "torch", "net.py:Net": "torch", "net.py:pretrained": "torch", "net.py:sized": "torch",
    "weights.safetensors": "torch", "weights.pt": "torch", "old.pt": "torch", "script.pt": "torchscript",
    "trace.pt": "torchscript", "free.pt2": "torch_export", "free.onnx": "onnx", "f.py:predict": "callable",
    "f.py:make": "torch",
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_a_model_file_finds_its_loader(formats, name):
    (formats.root / "f.py").write_text(
        "def predict(x, temperature=1.0): return x\ndef make(): return None\n"
    )
    assert infer(formats.root / name) == ROWS[name]


def test_a_loader_is_found_without_running_the_file(tmp_path):
    (tmp_path / "f.py").write_text("raise SystemExit(3)\ndef predict(x): return x\n")
    assert infer(tmp_path / "f.py:predict") == "callable"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("net.py", b"def f(): pass\n", "the file alone"), ("net.h5", b"\x89HDF\r\n\x1a\nrest", "HDF5"),
        ("net.pkl", b"\x80\x04N.", "A pickle runs code"), ("net.bin", b"hello there", "unknown"),
        ("net.pt", b"", "empty file"), ("net.pt", b"PK\x03\x04 cut", "cut off or damaged"),
        ("f.py:g", None, "nothing of this name"), ("net.tar.gz", b"\x1f\x8b\x08\0\0\0", "gzip"),
    ],
)  # fmt: skip
def test_a_file_that_no_loader_reads_is_refused_with_what_is_accepted(
    tmp_path, name, content, said
):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(LoadError, match=said) as refused:
        infer(tmp_path / name)
    assert str(tmp_path) in str(refused.value)


def test_finding_a_loader_imports_nothing_heavy():
    script = (
        "import sys; from dlaudit.models import infer; from dlaudit.datasets import infer as other\n"
        "heavy = {'torch', 'numpy', 'pandas', 'sklearn', 'onnxruntime', 'PIL'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    "module",
    ["models.torch_files", "models.torchscript", "models.torch_export", "models.onnx", "models.sklearn",
     "models.callable", "models.predictions", "datasets.npz", "datasets.tables", "datasets.images",
     "datasets.factory"],
)  # fmt: skip
def test_listing_a_loader_imports_neither_torch_nor_numpy(module):
    script = (
        f"import sys, importlib; importlib.import_module('dlaudit.{module}')\n"
        "heavy = {'torch', 'numpy', 'pandas', 'sklearn', 'onnxruntime', 'PIL'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)

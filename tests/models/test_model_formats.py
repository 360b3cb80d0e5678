"""One network in every format gives one set of logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dlaudit.audit.parts import Model
from dlaudit.models import callable, onnx, torch_export, torch_files, torchscript  # noqa: A004

ROWS = (
    ("factory and safetensors", torch_files, {"file": "net.py:build", "weights": "weights.safetensors"}),
    ("factory and state dict", torch_files, {"file": "net.py:Net", "weights": "weights.pt"}),
    ("old state dict", torch_files, {"file": "net.py:build", "weights": "old.pt"}),
    ("checkpoint", torch_files, {"file": "net.py:build", "weights": "checkpoint.pt"}),
    ("DataParallel", torch_files, {"file": "net.py:build", "weights": "parallel.pt"}),
    ("factory with weights", torch_files, {"file": "net.py:pretrained", "weights": "weights.safetensors"}),
    ("scripted", torchscript, {"path": "script.pt"}),
    ("traced", torchscript, {"path": "trace.pt"}),
    ("exported, any batch", torch_export, {"path": "free.pt2"}),
    ("exported, batch of 5", torch_export, {"path": "fixed.pt2"}),
    ("ONNX, any batch", onnx, {"path": "free.onnx"}),
    ("ONNX, batch of 5", onnx, {"path": "fixed.onnx"}),
)  # fmt: skip


@pytest.mark.parametrize(
    ("loader", "args"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_every_format_gives_the_logits_of_the_network_that_was_saved(formats, loader, args):
    """37 samples: no multiple of a fixed batch of 5."""
    model = loader.load(root=formats.root, bounds=[0, 1], **args)
    assert isinstance(model, Model)
    assert model.recognise(formats.x) == "logits"
    np.testing.assert_allclose(model.logits(formats.x).numpy(), formats.logits, atol=1e-5)
    assert model.bounds == (0.0, 1.0)
    assert len(model.card.fingerprint) == 64


@pytest.mark.parametrize("row", ROWS[:10], ids=[row[0] for row in ROWS[:10]])
def test_torch_formats_give_the_gradient_of_the_network_that_was_saved(formats, row):
    _, loader, args = row
    model = loader.load(root=formats.root, **args)
    x = torch.from_numpy(formats.x[:7]).requires_grad_()
    y = torch.arange(7) % 3
    loss = torch.nn.functional.cross_entropy(formats.net(x), y, reduction="sum")
    (expected,) = torch.autograd.grad(loss, x)
    np.testing.assert_allclose(
        model.loss_gradient(formats.x[:7], y).numpy(), expected.numpy(), atol=1e-5
    )
    assert {"gradients", "module"} <= model.offers


def test_onnx_offers_a_module_that_answers_like_the_runtime(formats):
    model = onnx.load(root=formats.root, path="free.onnx")
    assert model.offers == {"decisions", "logits", "gradients", "module"}
    with torch.no_grad():
        torch.testing.assert_close(
            model.module(torch.from_numpy(formats.x)), model.logits(formats.x)
        )


def test_padding_for_a_fixed_batch_is_not_counted_as_a_pass(formats):
    for loader, path in ((onnx, "fixed.onnx"), (torch_export, "fixed.pt2")):
        model = loader.load(root=formats.root, path=path)
        model.logits(formats.x[:7])
        assert model.passes.cost.forward == 7


def test_an_empty_batch_has_no_logits_rows(formats):
    rows = ((onnx, "free.onnx"), (onnx, "fixed.onnx"), (torch_export, "free.pt2"),
            (torch_export, "fixed.pt2"), (torchscript, "script.pt"))  # fmt: skip
    for loader, path in rows:
        model = loader.load(root=formats.root, path=path)
        assert model.logits(formats.x[:0]).shape == (0, 3), path


def test_the_batch_size_changes_nothing(formats):
    whole = torch_files.load(root=formats.root, file="net.py:build", weights="weights.pt")
    small = torch_files.load(root=formats.root, file="net.py:build", weights="weights.pt", batch=2)
    torch.testing.assert_close(whole.logits(formats.x), small.logits(formats.x))


def test_the_same_files_elsewhere_have_the_same_fingerprint(formats, tmp_path):
    for name in ("net.py", "weights.pt"):
        (tmp_path / name).write_bytes((formats.root / name).read_bytes())
    here = torch_files.load(root=formats.root, file="net.py:build", weights="weights.pt")
    there = torch_files.load(root=tmp_path, file="net.py:build", weights="weights.pt")
    other = torch_files.load(root=formats.root, file="net.py:build", weights="weights.safetensors")
    assert here.card.fingerprint == there.card.fingerprint != other.card.fingerprint


def test_the_fingerprint_is_sha256_over_role_and_digest_of_each_file(formats):
    """Recomputed by hand, as an auditor would."""
    import hashlib
    import json

    digests = {
        role: hashlib.sha256((formats.root / name).read_bytes()).hexdigest()
        for role, name in (("code", "net.py"), ("weights", "weights.pt"))
    }
    pairs = json.dumps(sorted(map(list, digests.items())), separators=(",", ":"))
    model = torch_files.load(root=formats.root, file="net.py:build", weights="weights.pt")
    assert model.card.fingerprint == hashlib.sha256(pairs.encode()).hexdigest()
    assert model.card.facts["files"]["weights"]["sha256"] == digests["weights"]


def test_a_callable_answers_as_its_function_does(tmp_path):
    (tmp_path / "f.py").write_text(
        "import numpy as np\n"
        "def logits(x): return np.stack([x.sum((1, 2)), -x.sum((1, 2))], axis=1)\n"
    )
    model = callable.load(root=tmp_path, file="f.py:logits", bounds=[0, 1])
    x = np.random.default_rng(0).random((9, 2, 3), dtype=np.float32)
    assert model.recognise(x) == "logits"
    np.testing.assert_allclose(model.logits(x)[:, 0], x.sum((1, 2)), rtol=1e-6)

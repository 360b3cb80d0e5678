"""Each architecture of the guide, trained in a second, goes through ``dlaudit run``.

What is no classifier goes through it too: some suites apply, the others are skipped with that reason and
keep the gate closed.
"""

from __future__ import annotations

import json
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from commandline import dlaudit_command
from safetensors.torch import save_file
from torch import nn

from dlaudit.audit.registry import import_file
from dlaudit.models import onnx
from dlaudit.testing import toy_arrays

CODE = '''
import torch
from torch import nn


class Recurrent(nn.Module):
    """Reads a picture line by line."""

    def __init__(self):
        super().__init__()
        self.read = nn.LSTM(8, 24, batch_first=True)
        self.head = nn.Linear(24, 4)

    def forward(self, x):
        return self.head(self.read(x[:, 0])[0][:, -1])


class Attentive(nn.Module):
    """Looks at a picture's sixteen patches of 2 x 2, or at token ids, with attention."""

    def __init__(self, tokens=0):
        super().__init__()
        self.embed = nn.Embedding(tokens, 16) if tokens else nn.Conv2d(1, 16, 2, 2)
        self.place = nn.Parameter(torch.zeros(16 if not tokens else 12, 16))
        self.look = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.head = nn.Linear(16, 2 if tokens else 4)
        self.tokens = tokens

    def forward(self, x):
        seen = self.embed(x) if self.tokens else self.embed(x).flatten(2).transpose(1, 2)
        return self.head(self.look(seen + self.place).mean(1))


def perceptron():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 4))


def convolutional():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 4)
    )


def recurrent():
    return Recurrent()


def vision_transformer():
    return Attentive()


def text_transformer():
    return Attentive(20)


def autoencoder():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 64), nn.Unflatten(1, (1, 8, 8))
    )


def error(x):
    """What the autoencoder could not give back, a number per picture."""
    from pathlib import Path

    from safetensors.torch import load_file

    net = autoencoder()
    net.load_state_dict(load_file(Path(__file__).parent / "autoencoder.safetensors"))
    with torch.no_grad():
        given = torch.from_numpy(x)
        return (net(given) - given).square().flatten(1).mean(1).double().numpy()
'''
PLAN = """
name = "architecture"
[model]
{model}
[data]
{data}
[data.train]
{train}
[checks."overfitting.gap"]
[checks."data_quality.columns"]
[checks."fairness.groups"]
[checks."attacks.fgsm"]
epsilon = 0.2
samples = 60
[checks."attacks.tokens"]
epsilon = 2
samples = 20
[checks."attacks.tabular"]
epsilon = 0.5
samples = 20
queries = 50
[checks."explain.attribution"]
samples = 2
methods = ["saliency"]
"""
PICTURES = ("perceptron", "convolutional", "recurrent", "vision_transformer")


def texts(seed: int, n: int = 200) -> dict[str, np.ndarray]:
    """Twelve tokens of twenty; the class is which of two telling tokens stands among them."""
    rng = np.random.default_rng(seed)
    x, y = rng.integers(3, 20, (n, 12)), rng.integers(0, 2, n)
    x[np.arange(n), rng.integers(0, 12, n)] = 1 + y
    return {"x": x, "y": y, "group_site": rng.choice(["a", "b"], n)}


def fitted(net: nn.Module, x: np.ndarray, y: np.ndarray | None, steps: int = 120) -> nn.Module:
    """Trained on all at once; without labels, to give its input back."""
    optimiser = torch.optim.Adam(net.parameters(), 0.01)
    given = torch.from_numpy(x)
    for _ in range(steps):
        optimiser.zero_grad()
        out = net(given)
        loss = (
            nn.functional.mse_loss(out, given) if y is None
            else nn.functional.cross_entropy(out, torch.from_numpy(y))
        )  # fmt: skip
        loss.backward()
        optimiser.step()
    return net.eval()


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A folder with code, weights, trees and data of every architecture."""
    folder = tmp_path_factory.mktemp("architectures")
    (folder / "net.py").write_text(CODE)
    code = import_file(folder / "net.py")
    pictures = {name: toy_arrays(200, seed=seed) for name, seed in (("train", 1), ("test", 2))}
    words = {"train": texts(1), "test": texts(2)}
    for name, arrays in (*pictures.items(), *((f"words-{key}", one) for key, one in words.items())):
        np.savez(folder / f"{name}.npz", **{k: v for k, v in arrays.items() if k != "mask"})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        nets = {
            **{name: fitted(getattr(code, name)(), pictures["train"]["x"], pictures["train"]["y"])
               for name in PICTURES},
            "text_transformer": fitted(code.text_transformer(), words["train"]["x"], words["train"]["y"]),
            "autoencoder": fitted(code.autoencoder(), pictures["train"]["x"], None),
        }  # fmt: skip
    for name, net in nets.items():
        save_file(net.state_dict(), folder / f"{name}.safetensors")
    planted_trees(folder)
    return folder


def planted_trees(folder: Path) -> None:
    import lightgbm

    rng = np.random.default_rng(0)
    for name in ("past", "rows"):
        x = rng.normal(size=(300, 4)).round(3)
        y = (x[:, 0] + x[:, 1] > 0).astype(int)
        site = rng.choice(["a", "b"], 300)
        lines = [
            f"{','.join(map(str, row))},{s},{label}"
            for row, s, label in zip(x, site, y, strict=True)
        ]
        (folder / f"{name}.csv").write_text("a,b,c,d,site,y\n" + "\n".join(lines) + "\n")
        if name == "past":
            told = {"objective": "binary", "verbose": -1, "num_threads": 1}
            lightgbm.train(told, lightgbm.Dataset(x, y), 20).save_model(folder / "trees.txt")


def plan(name: str) -> str:
    data = 'use = "npz"\nargs = {{ path = "{}.npz" }}'
    if name == "trees":
        table = 'use = "csv"\nargs = {{ path = "{}.csv", target = "y", groups = ["site"] }}'
        model = 'use = "lightgbm"\nargs = { path = "trees.txt" }'
        return PLAN.format(model=model, data=table.format("rows"), train=table.format("past"))
    if name == "text_transformer":
        model = (
            f'use = "torch"\nargs = {{ file = "net.py:{name}", weights = "{name}.safetensors" }}'
        )
        data = 'use = "npz"\nargs = {{ path = "words-{}.npz", tokens = true }}'
    elif name == "autoencoder":
        model = (
            'use = "callable"\nargs = { file = "net.py:error", output = "values", bounds = [0, 1] }'
        )
    else:
        model = (
            f'use = "torch"\nargs = {{ file = "net.py:{name}", weights = "{name}.safetensors", '
            "bounds = [0, 1] }"
        )
    return PLAN.format(model=model, data=data.format("test"), train=data.format("train"))


def audited(folder: Path, name: str, out: Path) -> dict:
    """The record of ``dlaudit run``, and its runs by id."""
    (folder / f"{name}.toml").write_text(plan(name))
    words = (
        "run",
        f"{name}.toml",
        "--executor",
        "inline",
        "--quiet",
        "--out",
        out,
        "--format",
        "json",
    )
    ended = dlaudit_command(*words, folder=folder)
    assert ended.code == 3, f"{ended.code}: no rule, so never 0. {ended.stderr}"
    return json.loads((out / "record.json").read_text())


ANY = frozenset({"overfitting.gap", "data_quality.columns", "fairness.groups"})
MEASURED = {
    **dict.fromkeys(PICTURES, ANY | {"attacks.fgsm", "explain.attribution"}),
    "text_transformer": ANY | {"attacks.tokens", "explain.attribution"},
    "trees": ANY | {"attacks.tabular"},
    "autoencoder": frozenset({"data_quality.columns"}),
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [name if name in {"recurrent", "autoencoder"} else pytest.param(name, marks=pytest.mark.slow)
     for name in MEASURED],
)  # fmt: skip
def test_an_architecture_goes_through_an_audit(trained, tmp_path, name):
    record = audited(trained, name, tmp_path / "out")
    runs = {run["id"]: run["outcome"] for run in record["runs"]}
    told = {
        run: outcome.get("reason") or outcome.get("message", "") for run, outcome in runs.items()
    }
    measured = {run for run, outcome in runs.items() if outcome["kind"] == "measured"}
    assert measured == MEASURED[name], told
    for run in set(runs) - measured:
        assert runs[run]["kind"] == "skipped", told[run]
        assert "not offered" in told[run]
    if name == "autoencoder":
        assert "model: decisions" in told["fairness.groups"]
        assert "model: logits" in told["attacks.fgsm"]
        return
    values = {
        (run, one["name"]): one["value"] for run in measured for one in runs[run].get("measurements", [])
        if not one.get("slice")
    }  # fmt: skip
    assert values["overfitting.gap", "test_accuracy"] > 0.8, "it was trained"
    attack = next(run for run in measured if run.startswith("attacks."))
    assert values[attack, "robust_accuracy"] < values[attack, "clean_accuracy"]
    assert "preflight" not in record["model"]["facts"]


def test_a_plan_names_what_it_asks(trained):
    assert tomllib.loads(plan("trees"))["model"]["use"] == "lightgbm"


def test_a_recurrent_net_keeps_its_gradients_through_onnx(trained, tmp_path):
    """The exporter's own graph of an LSTM: states made from the shape, lengths left out."""
    from safetensors.torch import load_file

    net = import_file(trained / "net.py").recurrent().eval()
    net.load_state_dict(load_file(trained / "recurrent.safetensors"))
    x = torch.from_numpy(toy_arrays(6, seed=3)["x"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net, (x,), tmp_path / "m.onnx", dynamo=False, input_names=["x"], output_names=["y"],
            dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
        )  # fmt: skip
    model = onnx.load(root=tmp_path, path="m.onnx", bounds=[0, 1])
    model.recognise(x.numpy())
    assert "gradients" in model.offers, model.card.facts["gradients"]
    y = torch.arange(6) % 4
    given = x.clone().requires_grad_()
    loss = nn.functional.cross_entropy(net(given), y, reduction="sum")
    (expected,) = torch.autograd.grad(loss, given)
    torch.testing.assert_close(model.loss_gradient(x, y), expected, rtol=1e-3, atol=1e-5)

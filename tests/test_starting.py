"""``dlaudit init`` looks at the files and writes a plan that runs unchanged."""

import tomllib

import numpy as np
import pandas as pd
import pytest
from commandline import dlaudit_command
from safetensors.torch import save_file

from dlaudit.starting import likely_bounds, table_for, toml
from dlaudit.testing import toy_arrays, toy_model

NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 4)

    def forward(self, x):
        return self.head(x.flatten(1))

def build():
    return Net()
"""


@pytest.fixture
def files(tmp_path):
    """A small network with weights, and data without masks."""
    (tmp_path / "net.py").write_text(NET)
    save_file(toy_model().module.net.state_dict(), tmp_path / "net.safetensors")
    arrays = toy_arrays(120)
    np.savez(
        tmp_path / "held out.npz", x=arrays["x"], y=arrays["y"], group_site=arrays["group_site"]
    )
    return tmp_path


def init(folder, *more):
    return dlaudit_command(
        "init", "--model", "net.py:build", "--weights", "net.safetensors", "--data", "held out.npz",
        *more, folder=folder,
    )  # fmt: skip


def test_the_plan_runs_unchanged(files):
    assert init(files).code == 0
    plan = tomllib.loads((files / "audit.toml").read_text())
    assert plan["model"] == {
        "use": "torch",
        "args": {"file": "net.py:build", "weights": "net.safetensors", "bounds": [0, 1]},
    }
    without_training = (
        "backdoors.scan", "data_quality.drift", "data_quality.duplicates", "data_quality.leakage",
    )  # fmt: skip
    assert plan["checks"] == {
        run: {"enabled": False} for run in ("explain.shortcut", *without_training)
    }
    assert "overfitting" not in plan["suites"], "there is no training split"
    words = ("run", "audit.toml", "--check", "attacks.fgsm", "--out", "run", "--quiet")
    ended = dlaudit_command(*words, "--executor", "inline", folder=files)
    assert ended.code in {0, 1, 3, 4}, ended.stderr
    assert (files / "run" / "record.json").exists()


def test_paths_are_relative_to_the_plan(files):
    (files / "plans").mkdir()
    assert init(files, "-o", "plans/mine.toml").code == 0
    args = tomllib.loads((files / "plans" / "mine.toml").read_text())["model"]["args"]
    assert (args["file"], args["weights"]) == ("../net.py:build", "../net.safetensors")
    assert dlaudit_command("plan", "plans/mine.toml", folder=files).code == 0


def test_nothing_is_ever_overwritten(files):
    (files / "audit.toml").write_text("mine")
    ended = init(files)
    assert ended.code == 2
    assert "never overwrites" in ended.stderr
    assert (files / "audit.toml").read_text() == "mine"


def test_unusable_files_leave_no_plan(files):
    (files / "net.safetensors").write_bytes(b"no weights")
    ended = init(files)
    assert ended.code == 2
    assert "net.safetensors" in ended.stderr
    assert not (files / "audit.toml").exists()
    assert init(files, "-o", "nowhere/audit.toml").code == 2


def test_a_table_gets_a_target_and_its_groups(tmp_path):
    rng = np.random.default_rng(0)
    n = 200
    table = pd.DataFrame({
        "person": [f"p{i}" for i in range(n)],
        "income": rng.normal(size=n),
        "sex": rng.choice(["f", "m"], n),
        "label": rng.integers(0, 2, n),
    })  # fmt: skip
    table.to_csv(tmp_path / "people.csv", index=False)
    (tmp_path / "model.py").write_text(
        "def decide(x):\n    import numpy as np\n    p = 1 / (1 + np.exp(-x[:, 0]))\n    return p\n"
    )
    ended = dlaudit_command(
        "init", "--model", "model.py:decide", "--data", "people.csv", folder=tmp_path
    )
    assert ended.code == 0, ended.stderr
    args = tomllib.loads((tmp_path / "audit.toml").read_text())["data"]["args"]
    assert args["target"] == "label"
    assert args["groups"] == ["sex"]


@pytest.mark.parametrize(
    ("observed", "bounds"),
    [
        ((0.0, 1.0), [0.0, 1.0]),
        ((0.0, 0.9), [0.0, 1.0]),
        ((3.0, 255.0), [0.0, 255.0]),
        ((-1.0, 1.0), None),
        ((0.0, 0.2), None),
        ((0.0, 12.0), None),
    ],
)
def test_bounds_are_guessed_only_where_the_data_fill_them(observed, bounds):
    assert likely_bounds(observed) == bounds


def test_values_are_written_as_toml():
    written = {
        "path": 'a "b".csv',
        "bins": {"age": [25]},
        "bounds": [0.0, 1.0],
        "x": 0.5,
        "yes": True,
    }
    assert tomllib.loads(f"args = {toml(written)}")["args"] == {**written, "bounds": [0, 1]}


def test_options_become_tables(tmp_path):
    table = table_for("net.onnx", None, "data.py:make", ["attacks"], train="train.npz")
    assert table == {
        "model": {"args": {"path": "net.onnx"}},
        "data": {"args": {"file": "data.py:make"}, "train": {"args": {"path": "train.npz"}}},
        "suites": ["attacks"],
    }
    assert "attacks" in table_for("net.onnx", None, "x.npz", [])["suites"]

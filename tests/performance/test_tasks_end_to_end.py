"""A small trained model of each further task goes through ``dlaudit run``; what needs classes is skipped."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from commandline import dlaudit_command
from safetensors.torch import save_file
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    mean_absolute_error,
    r2_score,
    root_mean_squared_error,
)
from torch import nn

from dlaudit.audit.registry import import_file

SIDE, SQUARE = 16, 6
NET = '''
import torch
from torch import nn


def tagger():
    """Which of three kinds of square a picture holds: several, one, or none."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 5, stride=2), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(6, 3)
    )


def segmenter():
    """Background, and three kinds of square, pixel by pixel."""
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1))


class Detector(nn.Module):
    """A map of centres for each class; the peaks become boxes of the one size that squares have."""

    def __init__(self):
        super().__init__()
        self.heat = nn.Sequential(nn.Conv2d(3, 12, 7, padding=3), nn.ReLU(), nn.Conv2d(12, 3, 3, padding=1))

    def forward(self, x):
        heat = torch.sigmoid(self.heat(x))
        peak = (heat == nn.functional.max_pool2d(heat, 5, 1, 2)) & (heat > 0.05)
        found = []
        for picture, there in zip(heat, peak):
            label, row, column = there.nonzero(as_tuple=True)
            centre = torch.stack([column, row], 1)
            found.append(
                {"boxes": torch.cat([centre - 3, centre + 3], 1).float().clamp(0, 16), "labels": label,
                 "scores": picture[label, row, column]}
            )
        return found


def detector():
    return Detector()
'''


def squares(n: int, seed: int) -> dict[str, np.ndarray]:
    """Pictures (3, 16, 16) with up to two squares, each bright in the channel of its kind."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 0.45, (n, 3, SIDE, SIDE)).astype(np.float32)
    maps, tags = np.zeros((n, SIDE, SIDE), int), np.zeros((n, 3), int)
    box, label, row = [], [], []
    for picture in range(n):
        for place in rng.permutation(2)[: rng.integers(0, 3)]:
            kind, left = rng.integers(0, 3), 1 + 8 * place
            top = rng.integers(0, SIDE - SQUARE)
            where = (slice(top, top + SQUARE), slice(left, left + SQUARE))
            x[picture, kind][where] += 0.5
            maps[picture][where] = kind + 1
            tags[picture, kind] = 1
            box.append([left, top, left + SQUARE, top + SQUARE])
            label.append(kind)
            row.append(picture)
    return {
        "x": x, "maps": maps, "tags": tags, "box": np.array(box, float),
        "box_label": np.array(label), "box_row": np.array(row),
    }  # fmt: skip


def goal(task: str, arrays: dict[str, np.ndarray]) -> torch.Tensor:
    if task == "multilabel":
        return torch.from_numpy(arrays["tags"]).float()
    if task == "segmentation":
        return torch.from_numpy(arrays["maps"])
    heat = torch.zeros(len(arrays["x"]), 3, SIDE, SIDE)
    centre = (arrays["box"][:, :2] + 3).astype(int)
    heat[arrays["box_row"], arrays["box_label"], centre[:, 1], centre[:, 0]] = 1
    return heat


def fitted(net: nn.Module, task: str, arrays: dict[str, np.ndarray], steps: int) -> nn.Module:
    optimiser = torch.optim.Adam(net.parameters(), 0.02)
    x, wanted = torch.from_numpy(arrays["x"]), goal(task, arrays)
    for _ in range(steps):
        optimiser.zero_grad()
        if task == "segmentation":
            loss = nn.functional.cross_entropy(net(x), wanted)
        elif task == "multilabel":
            loss = nn.functional.binary_cross_entropy_with_logits(net(x), wanted)
        else:
            weight = torch.tensor(30.0)
            loss = nn.functional.binary_cross_entropy_with_logits(
                net.heat(x), wanted, pos_weight=weight
            )
        loss.backward()
        optimiser.step()
    return net.eval()


NETS = {
    "multilabel": ("tagger", 60),
    "segmentation": ("segmenter", 40),
    "detection": ("detector", 60),
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """Code, weights and data of every task."""
    made = tmp_path_factory.mktemp("tasks")
    (made / "net.py").write_text(NET)
    code = import_file(made / "net.py")
    past, held_out = squares(100, 1), squares(120, 2)
    x = {"x": held_out["x"]}
    np.savez(made / "multilabel.npz", **x, y=held_out["tags"])
    np.savez(made / "segmentation.npz", **x, y=held_out["maps"])
    boxes = {key: held_out[key] for key in ("box", "box_label", "box_row")}
    np.savez(made / "detection.npz", **x, **boxes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for task, (name, steps) in NETS.items():
            net = fitted(getattr(code, name)(), task, past, steps)
            save_file(net.state_dict(), made / f"{name}.safetensors")
    return made


PLAN = """
name = "another task"
[model]
use = "torch"
args = {{ file = "net.py:{net}", weights = "{net}.safetensors", bounds = [0, 1], task = "{task}" }}
[data]
use = "npz"
args = {{ path = "{task}.npz", task = "{task}" }}
[checks."performance.task"]
resamples = 200
[checks."overfitting.majority"]
[checks."attacks.fgsm"]
epsilon = 0.1
[checks."fairness.slices"]
[checks."data_quality.label_errors"]
[checks."backdoors.inversion"]
[checks."explain.attribution"]
[[rules]]
run = "performance.task"
measurement = "{measurement}"
{conditions}
at_least = 0.5
rationale = "a test"
"""
RULES = {
    "multilabel": ("micro_f1", ""), "segmentation": ("mean_iou", ""),
    "detection": ("mean_average_precision", 'conditions = { overlap = "0.50" }'),
}  # fmt: skip


def audited(folder: Path, plan: str, out: Path, code: int = 3) -> dict:
    (folder / "plan.toml").write_text(plan)
    words = (
        "run",
        "plan.toml",
        "--executor",
        "inline",
        "--quiet",
        "--out",
        out,
        "--format",
        "json,html",
    )
    ended = dlaudit_command(*words, folder=folder)
    assert ended.code == code, ended.stderr + ended.stdout
    return json.loads((out / "record.json").read_text())


def values(record: dict) -> dict[tuple, dict]:
    """What ``performance.task`` measured, by name, class and overlap."""
    (run,) = [run for run in record["runs"] if run["check"] == "performance.task"]
    assert run["outcome"]["kind"] == "measured", run["outcome"]
    return {
        (one["name"], one.get("slice", {}).get("class", ""), one["conditions"].get("overlap", "")): one
        for one in run["outcome"]["measurements"]
    }  # fmt: skip


@pytest.mark.parametrize("task", NETS)
def test_a_trained_model_of_the_task_is_measured_and_all_else_is_skipped(folder, tmp_path, task):
    measurement, conditions = RULES[task]
    plan = PLAN.format(task=task, net=NETS[task][0], measurement=measurement, conditions=conditions)
    assert tomllib.loads(plan)
    record = audited(folder, plan, tmp_path / "out")
    runs = {run["id"]: run["outcome"] for run in record["runs"]}
    skipped = {run for run, outcome in runs.items() if outcome["kind"] == "skipped"}
    assert skipped == set(runs) - {"performance.task"}
    assert all("not offered" in runs[run]["reason"] for run in skipped)
    told = values(record)
    assert all(one["n"] > 0 and one["interval"] for one in told.values())
    (verdict,) = record["verdicts"]
    assert verdict["status"] == "pass", verdict
    report = (tmp_path / "out" / "report.html").read_text()
    assert all(run in report for run in skipped), "what was skipped is seen"
    card = dlaudit_command(
        "report", tmp_path / "out", "--format", "model-index", folder=tmp_path
    ).stdout
    named = {"multilabel": "image-classification", "segmentation": "image-segmentation"}
    assert f'"type": "{named.get(task, "object-detection")}"' in card
    forward = {run["id"]: run["cost"]["forward"] for run in record["runs"]}
    assert forward["performance.task"] == 120


SPLITS = """
name = "splits"
[model]
use = "torch"
args = { file = "net.py:segmenter", weights = "segmenter.safetensors", task = "segmentation" }
[data]
use = "npz"
args = { path = "segmentation.npz", task = "segmentation" }
[checks."performance.task"]
resamples = 200
[checks."performance.task.train"]
use = "performance.task"
split = "train"
"""


def test_a_subset_and_another_split_keep_truth_and_answers_together(folder, tmp_path):
    """Right pixels of 40 pictures, drawn by seed: were rows shifted against truths, hardly any would be."""
    out = tmp_path / "out"
    (folder / "splits.toml").write_text(
        SPLITS
        + '[data.train]\nuse = "npz"\nargs = { path = "segmentation.npz", task = "segmentation" }\n'
    )
    words = (
        "run",
        "splits.toml",
        "--executor",
        "inline",
        "--quiet",
        "--out",
        out,
        "--max-samples",
        "40",
    )
    assert dlaudit_command(*words, folder=folder).code == 3
    runs = {run["id"]: run for run in json.loads((out / "record.json").read_text())["runs"]}
    for run in runs.values():
        told = {one["name"]: one for one in run["outcome"]["measurements"] if not one.get("slice")}
        assert told["pixel_accuracy"]["n"] == 40
        assert told["pixel_accuracy"]["value"] > 0.9
    assert (
        runs["performance.task.train"]["outcome"]["measurements"][0]["conditions"]["split"]
        == "train"
    )


def test_a_split_that_is_not_there_is_missing(folder, tmp_path):
    record = audited(folder, SPLITS, tmp_path / "out")
    outcome = next(r for r in record["runs"] if r["id"] == "performance.task.train")["outcome"]
    assert outcome["kind"] == "skipped"
    assert "data: train" in outcome["reason"]


def test_multilabel_numbers_are_those_of_scikit_learn(folder, tmp_path):
    plan = PLAN.format(task="multilabel", net="tagger", measurement="micro_f1", conditions="")
    told = values(audited(folder, plan, tmp_path / "out"))
    from safetensors.torch import load_file

    net = import_file(folder / "net.py").tagger().eval()
    net.load_state_dict(load_file(folder / "tagger.safetensors"))
    with np.load(folder / "multilabel.npz") as held, torch.no_grad():
        truth = held["y"]
        score = torch.sigmoid(net(torch.from_numpy(held["x"]))).numpy()
    said = score >= 0.5
    expected = {
        ("exact_match", ""): (truth == said).all(axis=1).mean(),
        ("micro_f1", ""): f1_score(truth, said, average="micro"),
        ("macro_f1", ""): f1_score(truth, said, average="macro"),
        ("macro_average_precision", ""): average_precision_score(truth, score, average="macro"),
        **{("f1", str(k)): f1_score(truth[:, k], said[:, k]) for k in range(3)},
        **{("average_precision", str(k)): average_precision_score(truth[:, k], score[:, k])
           for k in range(3)},
    }  # fmt: skip
    assert {(name, where): one["value"] for (name, where, _), one in told.items()} == pytest.approx(
        expected, abs=1e-6
    )


CLASSES = """
name = "classes"
[model]
use = "callable"
args = {{ file = "said.py:{model}", output = "{output}" }}
[data]
use = "csv"
args = {{ path = "rows.csv", target = "{target}", features = ["a", "b"]{types} }}
[checks."performance.task"]
resamples = 200
"""


@pytest.fixture(scope="session")
def table(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("rows")
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(2, 150)).round(3)
    kind = (a + rng.normal(0, 0.7, 150) > 0).astype(int) + (b + rng.normal(0, 0.7, 150) > 1)
    amount = (3 * a - b + rng.normal(0, 1, 150) + 1000).round(3)
    rows = "\n".join(f"{p},{q},{k},{m}" for p, q, k, m in zip(a, b, kind, amount, strict=True))
    (made / "rows.csv").write_text(f"a,b,kind,amount\n{rows}\n")
    (made / "said.py").write_text(
        "import numpy as np\n\n\ndef kinds(x):\n"
        "    kind = (x[:, 0] > 0).astype(int) + (x[:, 1] > 1)\n    return np.eye(3)[kind] * 4.0\n\n\n"
        "def amounts(x):\n    return 3.0 * x[:, 0] - x[:, 1] + 1000.2\n"
    )
    return made


def test_classes_are_measured_as_scikit_learn_has_them(table, tmp_path):
    plan = CLASSES.format(model="kinds", output="logits", target="kind", types="")
    told = values(audited(table, plan, tmp_path / "out"))
    rows = np.genfromtxt(table / "rows.csv", delimiter=",", skip_header=1)
    y, said = rows[:, 2], (rows[:, 0] > 0).astype(int) + (rows[:, 1] > 1)
    assert told["accuracy", "", ""]["value"] == pytest.approx((y == said).mean())
    assert told["balanced_accuracy", "", ""]["value"] == pytest.approx(
        balanced_accuracy_score(y, said)
    )
    assert told["macro_f1", "", ""]["value"] == pytest.approx(f1_score(y, said, average="macro"))
    each = f1_score(y, said, average=None)
    for place in range(3):
        one = told["f1", str(place), ""]
        assert one["value"] == pytest.approx(each[place])
        assert one["interval"]["low"] < each[place] < one["interval"]["high"]


def test_quantities_are_measured_as_scikit_learn_has_them(table, tmp_path):
    types = ', types = { amount = "number" }'
    plan = CLASSES.format(model="amounts", output="values", target="amount", types=types)
    told = values(audited(table, plan, tmp_path / "out"))
    rows = np.genfromtxt(table / "rows.csv", delimiter=",", skip_header=1)
    given = rows[:, :2].astype(np.float32).astype(float)
    y, said = rows[:, 3], 3.0 * given[:, 0] - given[:, 1] + 1000.2
    expected = {
        "mean_absolute_error": mean_absolute_error(y, said),
        "root_mean_squared_error": root_mean_squared_error(y, said),
        "explained_variation": r2_score(y, said),
    }
    for name, value in expected.items():
        one = told[name, "", ""]
        assert one["value"] == pytest.approx(value, rel=1e-4)
        assert one["interval"]["low"] < value < one["interval"]["high"]


def test_too_few_rows_are_no_estimate(folder, tmp_path):
    few = squares(8, 3)
    np.savez(tmp_path / "multilabel.npz", x=few["x"], y=few["tags"])
    for name in ("net.py", "tagger.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    plan = PLAN.format(task="multilabel", net="tagger", measurement="micro_f1", conditions="")
    record = audited(tmp_path, plan, tmp_path / "out")
    (run,) = [run for run in record["runs"] if run["id"] == "performance.task"]
    assert run["outcome"]["measurements"] == []
    assert {one["name"] for one in run["outcome"]["undefined"]} >= {"micro_f1", "exact_match"}
    assert all(
        "fewer than the minimum of 10" in one["reason"] for one in run["outcome"]["undefined"]
    )
    assert record["verdicts"][0]["status"] == "not_assessed"


def test_a_perfect_model_has_an_interval_that_is_no_point(folder, tmp_path):
    (tmp_path / "same.py").write_text("def answer(x):\n    return x[:, 0].astype(int)\n")
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (40, 1, 4, 4)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x, y=x[:, 0].astype(int))
    plan = """
name = "perfect"
[model]
use = "callable"
args = { file = "same.py:answer", output = "segmentation" }
[data]
use = "npz"
args = { path = "d.npz", task = "segmentation" }
[checks."performance.task"]
resamples = 200
"""
    told = values(audited(tmp_path, plan, tmp_path / "out"))
    for name in ("mean_iou", "pixel_accuracy"):
        one = told[name, "", ""]
        assert one["value"] == 1
        assert one["interval"]["method"] == "wilson-rows"
        assert 0.85 < one["interval"]["low"] < one["interval"]["high"] == 1

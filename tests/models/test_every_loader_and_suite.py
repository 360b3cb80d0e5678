"""Every loader with every suite: each run is measured, or skipped with what is missing; none crashes.

The examples are those of docs/make_matrix.py, where a loader without one is an error.
"""

from __future__ import annotations

import importlib.util
import json
import threading
import warnings
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dlaudit.audit.bench import Subject
from dlaudit.audit.parts import Dataset, Model
from dlaudit.audit.plan import Loader
from dlaudit.audit.record import Measured, Skipped
from dlaudit.audit.registry import Registry
from dlaudit.audit.subject import fitted, load
from dlaudit.datasets.arrays import ArrayDataset, Splits
from dlaudit.datasets.fields import dataset_of
from dlaudit.errors import PlanError
from dlaudit.models.torch_model import TorchModel
from dlaudit.testing import performed

_SPEC = importlib.util.spec_from_file_location(
    "make_matrix", Path(__file__).parents[2] / "docs" / "make_matrix.py"
)
assert _SPEC
assert _SPEC.loader
MATRIX = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(MATRIX)
REGISTRY = Registry()
RUNS = {
    run: dict(params)
    for part in MATRIX.own(REGISTRY, "suites")
    for run, params in part.get().runs.items()
}
SMALL: dict[str, dict[str, Any]] = {
    "attacks.cascade": {"epsilon": 0.1, "samples": 8}, "explain.attribution": {"samples": 4},
    "explain.controls": {"samples": 4}, "backdoors.inversion": {"samples": 8},
}  # fmt: skip
"""Fewer samples where a run is dear; whether it runs at all is the same."""
DEFAULT = {"torch", "predictions", "csv", "jsonl"}
"""Loaders of which the default run of the tests is content."""


def marked(names):
    return [
        name if name in DEFAULT else pytest.param(name, marks=pytest.mark.slow) for name in names
    ]


def outcomes(subject: Subject) -> dict[str, str]:
    """``measured`` or the reason, by run; whatever else happened fails the test."""
    found = {}
    for run, params in RUNS.items():
        given = params | {key: v for key, v in SMALL.get(run, {}).items() if known(run, key)}
        outcome = performed(given.pop("use", run), subject, REGISTRY, params=given).outcome
        assert isinstance(outcome, Measured | Skipped), f"{run}: {outcome}"
        if isinstance(outcome, Skipped):
            assert outcome.missing
            assert outcome.reason
        found[run] = "measured" if isinstance(outcome, Measured) else outcome.reason
    return found


def known(run: str, key: str) -> bool:
    return key in REGISTRY.check(run).get().__struct_fields__


def promised(subject: Subject) -> dict[str, bool]:
    """What the table in the documentation says of each run."""
    told = {}
    for run, params in RUNS.items():
        given = dict(params)
        check, _ = MATRIX.build(REGISTRY.check(given.pop("use", run)), given)
        gaps = check.missing(
            model=subject.model.offers,
            data=subject.data.offers,
            train_fn=subject.train_fn is not None,
        )
        told[run] = not gaps
    return told


@pytest.fixture(scope="session")
def examples(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("matrix")
    (folder / "net.py").write_text(MATRIX.NET)
    return folder


def rows(pictures: bool) -> Splits:
    """Twice 60 rows of three numbers, or pictures, of two classes, with a group and recorded decisions."""

    def split(seed: int) -> ArrayDataset:
        rng = np.random.default_rng(seed)
        shape = (60, 1, 8, 8) if pictures else (60, 3)
        x = rng.random(shape).astype(np.float32)
        y = (x.reshape(60, -1).mean(axis=1) > 0.5).astype(int)
        return ArrayDataset(
            x, y, groups={"site": rng.choice(["a", "b"], 60)},
            columns={"decision": np.where(rng.random(60) < 0.8, y, 1 - y)},
        )  # fmt: skip

    return Splits({"test": split(0), "train": split(1)})


class Answering(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        x = np.asarray(next(iter(asked.values())))
        # Pictures are decided pixel by pixel, or as wholes; rows of a table by their sum.
        whole = x.mean((1, 2, 3)) if self.path == "/tags" else x.sum(1) if x.ndim == 2 else x[:, 0]
        rows = [whole, 2 - whole]
        body = json.dumps({"predictions": np.stack(rows, axis=1).tolist()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Nothing."""


@pytest.fixture(scope="session")
def endpoint():
    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/predict"
        server.shutdown()


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch, copying what it exported
@pytest.mark.parametrize("use", marked(MATRIX.MODELS))
def test_every_model_with_every_suite(examples, endpoint, use):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates writing a format that is still read
        args = MATRIX.MODELS[use](examples)
    args |= {"predictions": {"positive": 1}, "http": {"url": endpoint, "per_second": 1e6}}.get(
        use, {}
    )
    model = load("models", Loader(use=use, args=args), examples, REGISTRY, Model)
    subject = fitted(Subject(model=model, data=rows(use == "huggingface")))
    found = outcomes(subject)
    assert {run: what == "measured" for run, what in found.items()} == promised(subject)
    assert "measured" in found.values()


class Reader(nn.Module):
    """Any float input, or token ids, -> logits."""

    def __init__(self, x: np.ndarray, classes: int):
        super().__init__()
        self.tokens = x.dtype.kind in "iu"
        width = 4 if self.tokens else int(np.prod(x.shape[1:]))
        self.embed = nn.Embedding(300, 4) if self.tokens else nn.Flatten()
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        return self.head(self.embed(x).mean(1) if self.tokens else self.embed(x))


@pytest.mark.parametrize("use", marked(MATRIX.DATA))
def test_every_data_set_with_every_suite(examples, tmp_path, use):
    """Two to four rows: too few to say anything, and every check must say so instead of falling over."""
    (tmp_path / "net.py").write_text(MATRIX.NET)
    args = MATRIX.DATA[use](tmp_path)
    data = load("datasets", Loader(use=use, args=args), tmp_path, REGISTRY, Dataset)
    x = np.asarray(next(iter(data.batches())).x)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TorchModel(Reader(x, len(data.classes)))
    subject = fitted(Subject(model=model, data=Splits({"test": data, "train": data})))
    found = outcomes(subject)
    assert {run: what == "measured" for run, what in found.items()} == promised(subject)


# -- further tasks -----------------------------------------------------------------------------------


def test_every_loader_says_which_further_tasks_it_knows():
    assert set(MATRIX.MODEL_TASKS) == set(MATRIX.MODELS)
    assert set(MATRIX.DATA_TASKS) == set(MATRIX.DATA)


def cells(told, default):
    return [
        pytest.param(use, task, marks=[] if use in default else pytest.mark.slow, id=f"{use}-{task}")
        for use, tasks in told.items() for task in tasks if task != "quantities"
    ]  # fmt: skip


def only_the_task_is_measured(subject: Subject) -> None:
    found = outcomes(subject)
    assert {run: what == "measured" for run, what in found.items()} == promised(subject)
    assert {run for run, what in found.items() if what == "measured"} == {"performance.task"}


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.parametrize(("use", "task"), cells(MATRIX.MODEL_TASKS, {"torch"}))
def test_every_model_of_a_further_task_with_every_suite(tmp_path, endpoint, use, task):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's old formats, that are still read
        args = MATRIX.task_model(use, task, tmp_path)
    if use == "http":
        path = "tags" if task == "multilabel" else "predict"
        args |= {"url": endpoint.replace("predict", path), "per_second": 1e6}
    model = load("models", Loader(use=use, args=args), tmp_path, REGISTRY, Model)
    arrays = MATRIX.task_arrays(task)
    data = dataset_of(arrays, place="arrays", name="arrays", task=task)
    only_the_task_is_measured(
        fitted(Subject(model=model, data=Splits({"test": data, "train": data})))
    )


@pytest.mark.parametrize(("use", "task"), cells(MATRIX.DATA_TASKS, {"images"}))
def test_every_data_set_of_a_further_task_with_every_suite(tmp_path, use, task):
    args = MATRIX.task_data(use, task, tmp_path)
    data = load("datasets", Loader(use=use, args=args), tmp_path, REGISTRY, Dataset)
    (tmp_path / "tasks.py").write_text(
        MATRIX.TASK_NET.replace("x.mean((1, 2, 3))", "x.reshape(len(x), -1).mean(1)")
    )
    named = {"multilabel": "scores", "segmentation": "maps", "detection": "boxes"}[task]
    loader = Loader(use="callable", args={"file": f"tasks.py:{named}", "output": task})
    model = load("models", loader, tmp_path, REGISTRY, Model)
    only_the_task_is_measured(
        fitted(Subject(model=model, data=Splits({"test": data, "train": data})))
    )


def test_a_classifier_is_not_audited_on_data_of_another_task(examples):
    data = dataset_of(MATRIX.task_arrays("multilabel"), place="a", name="arrays", task="multilabel")
    model = load(
        "models", Loader(use="torch", args={"file": "net.py:build"}), examples, REGISTRY, Model
    )
    with pytest.raises(PlanError, match='Say task = "multilabel" in'):
        fitted(Subject(model=model, data=data))

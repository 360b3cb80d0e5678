"""Models of further tasks answer in the forms that libraries use; what is no such answer is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from dlaudit.audit.bench import Subject
from dlaudit.audit.parts import Batch
from dlaudit.audit.subject import fitted
from dlaudit.datasets.fields import dataset_of
from dlaudit.errors import AuditError, LoadError, NonFinite, NotOffered, PlanError
from dlaudit.models import callable as function
from dlaudit.models import onnx, torch_export, torch_files, torchscript
from dlaudit.models.structured import boxes, label_scores, maps

X = np.random.default_rng(0).random((4, 1, 6, 8)).astype(np.float32)
TRUTH = {
    "multilabel": {"y": np.array([[0, 1], [1, 1], [0, 0], [1, 0]])},
    "segmentation": {"y": np.arange(192).reshape(4, 6, 8) % 2},
    "detection": {
        "box": np.array([[0.0, 0, 4, 4]] * 2), "box_label": np.array([0, 1]), "box_row": np.array([0, 1]),
    },
}  # fmt: skip


def data(task: str):
    return dataset_of({"x": X, **TRUTH[task]}, place="arrays", name="arrays", task=task)


def asked(tmp_path, task: str, body: str, **more):
    """A function with this body, met with the task's data."""
    (tmp_path / "f.py").write_text(
        "import numpy as np\nimport torch\n\n\ndef answer(x):\n    "
        + body.replace("\n", "\n    ")
        + "\n"
    )
    model = function.load(root=tmp_path, file="f.py:answer", output=task, **more)
    return fitted(Subject(model=model, data=data(task))).model


FOUND = "dict(boxes=[[0, 0, 4, 4]], labels=[0], scores=[0.5])"
BAD = [
    ("multilabel", "return x.mean((1, 2, 3))", "a score for each of 2 labels: shape (4, 2), got shape (4,)"),
    ("multilabel", "return np.zeros((len(x), 3))", "got shape (4, 3)"),
    ("multilabel", "return np.zeros((1, 2))", "got shape (1, 2)"),
    ("multilabel", "return np.full((len(x), 2), np.nan)", "missing or not finite"),
    ("multilabel", "return np.full((len(x), 2), 'yes')", "expected numbers, got type <U3"),
    ("multilabel", "return {'answers': x}", "an array, or a mapping with logits or out, got a dict"),
    ("multilabel", "return None", "got a NoneType"),
    ("multilabel", "return [[0.1, 0.2], [0.3]]", "rows of one shape"),
    ("multilabel", "raise KeyError('weights')", "expected to answer inputs of shape (4, 1, 6, 8)"),
    ("segmentation", "return np.zeros((len(x), 2, 3, 4))", "a value for every pixel, got shape (4, 2, 3, 4)"),
    ("segmentation", "return np.zeros((len(x), 2))", "got shape (4, 2)"),
    ("segmentation", "return x", "one channel for each of the 2 classes, got 1. One channel of logits"),
    ("segmentation", "return np.repeat(x, 3, 1)", "one channel for each of the 2 classes, got 3"),
    ("segmentation", "return x[:, 0]", "expected class indices 0 … 1, got float32"),
    ("segmentation", "return (x[:, 0] * 9).astype(int)", "class indices 0 … 1, got int64 from 0 to 8"),
    ("segmentation", "return np.full((len(x), 2, 6, 8), np.inf)", "missing or not finite"),
    ("detection", f"return {FOUND}", "a list of 4, one mapping with boxes, labels, scores per picture"),
    ("detection", f"return [{FOUND}] * 3", "a list of 4"),
    ("detection", "return [1] * len(x)", "expected a mapping with boxes, labels, scores, got int"),
    ("detection", "return [dict(boxes=[])] * len(x)", "got only boxes"),
    ("detection", f"return [dict({FOUND}, scores=[0.5, 0.2])] * len(x)", "shapes (1, 4), (1,) and (2,)"),
    ("detection", f"return [dict({FOUND}, boxes=[[0, 0, 4]])] * len(x)", "boxes (K, 4)"),
    ("detection", f"return [dict({FOUND}, boxes=[[4, 4, 2, 2]])] * len(x)", "Are these x, y, width, height?"),
    ("detection", f"return [dict({FOUND}, labels=[2])] * len(x)", "class indices 0 … 1, got int64 from 2"),
    ("detection", f"return [dict({FOUND}, labels=['cat'])] * len(x)", "expected numbers, got type <U3"),
    ("detection", f"return [dict({FOUND}, scores=[float('nan')])] * len(x)", "missing or not finite"),
]  # fmt: skip


@pytest.mark.parametrize("row", BAD, ids=[f"{place}-{row[0]}" for place, row in enumerate(BAD)])
def test_what_is_no_answer_to_the_task_ends_the_audit_before_it_begins(tmp_path, row):
    task, body, said = row
    with pytest.raises(PlanError) as refused:
        asked(tmp_path, task, body)
    assert said in str(refused.value)
    assert all("\n" not in problem for problem in refused.value.problems)


def test_scores_that_are_logits_become_probabilities_and_probabilities_stay(tmp_path):
    batch = next(iter(data("multilabel").batches()))
    logits = asked(tmp_path, "multilabel", "return np.array([[-2.0, 0.0]] * len(x))")
    assert logits.structured(batch)[0] == pytest.approx([1 / (1 + np.exp(2)), 0.5])
    shares = asked(tmp_path, "multilabel", "return torch.tensor([[0.25, 1.0]] * len(x))")
    assert shares.structured(batch)[0] == pytest.approx([0.25, 1.0])
    moved = asked(
        tmp_path, "multilabel", "return np.array([[0.3, float(x.max() > 2) * 5]] * len(x))"
    )
    with pytest.raises(LoadError, match=r"probabilities in \[0, 1\], as for the first rows"):
        moved.structured(batch._replace(x=batch.x + 5))


def test_the_forms_of_libraries_are_understood():
    scores = np.stack([1 - X[:, 0], X[:, 0]], axis=1)
    decided = maps({"out": torch.from_numpy(scores)}, X, 2, "m")
    assert (decided == (X[:, 0] > 0.5)).all()
    assert (maps(decided, X, 2, "m") == decided).all()
    assert (maps((scores, None), X, 2, "m") == decided).all()

    class Output:
        logits = torch.zeros(4, 2)

    assert label_scores(Output(), 4, 2, "m").shape == (4, 2)
    (nothing,) = boxes([{"boxes": [], "labels": [], "scores": []}], 1, 2, "m")
    assert nothing.box.shape == (0, 4)
    (one,) = boxes(
        [{"boxes": torch.ones(1, 4), "labels": torch.ones(1).long(), "scores": torch.ones(1), "masks": 0}],
        1, 2, "m",
    )  # fmt: skip
    assert one.label.tolist() == [1]


def test_asked_in_pieces_it_says_the_same_and_every_pass_counts(tmp_path):
    for task in TRUTH:
        body = {
            "multilabel": "return np.stack([x.mean((1, 2, 3)), x.max((1, 2, 3))], 1)",
            "segmentation": "return (x[:, 0] > 0.5).astype(int)",
            "detection": "return [dict(boxes=[[0, 0, 4, float(p.max())]], labels=[0], scores=[1]) "
            "for p in x]",
        }[task]  # fmt: skip
        whole, pieces = (asked(tmp_path, task, body, batch=size) for size in (512, 3))
        batch = next(iter(data(task).batches()))
        first, second = whole.structured(batch), pieces.structured(batch)
        assert pieces.passes.forward == 4
        if task == "detection":
            assert [a.box.tolist() for a in first] == [b.box.tolist() for b in second]
        else:
            assert (first == second).all()


def test_what_asks_for_classes_or_gradients_is_told_that_there_are_none(tmp_path):
    model = asked(tmp_path, "segmentation", "return (x[:, 0] > 0.5).astype(int)")
    assert model.offers == {"segmentation"}
    batch = Batch(X, np.zeros(4, int), np.arange(4).astype(str))
    for question in (
        lambda: model.logits(X), lambda: model.decide(batch), lambda: model.loss_gradient(X, batch.y),
        lambda: model.values(batch),
    ):  # fmt: skip
        with pytest.raises(NotOffered):
            question()


def test_inputs_outside_the_bounds_are_refused_here_too(tmp_path):
    with pytest.raises(PlanError, match="expected values within bounds"):
        asked(tmp_path, "segmentation", "return (x[:, 0] > 0.5).astype(int)", bounds=[0, 0.5])


def test_other_names_of_classes_than_the_datas_are_refused(tmp_path):
    named = dataset_of(
        {"x": X, **TRUTH["segmentation"]}, place="a", name="a", task="segmentation", classes=["sky", "sea"]
    )  # fmt: skip
    (tmp_path / "f.py").write_text("def answer(x):\n    return (x[:, 0] > 0.5).astype(int)\n")
    for classes, good in ((["sea", "sky"], False), (["sky", "sea"], True), (None, True)):
        model = function.load(
            root=tmp_path, file="f.py:answer", output="segmentation", classes=classes
        )
        if good:
            assert fitted(Subject(model=model, data=named)).model.classes == ("sky", "sea")
        else:
            with pytest.raises(PlanError, match="expected those of the data"):
                fitted(Subject(model=model, data=named))


@pytest.mark.parametrize("load", [torch_files.load, torchscript.load, torch_export.load, onnx.load])
def test_a_task_that_no_loader_knows_is_refused_first(tmp_path, load):
    where = {"file": "net.py:build"} if load is torch_files.load else {"path": "net"}
    with pytest.raises(LoadError, match="task: expected one of"):
        load(root=tmp_path, task="segmenting", **where)
    if load is not torch_files.load:
        with pytest.raises(LoadError, match="which is what this loader knows, got 'detection'"):
            load(root=tmp_path, task="detection", **where)


def test_a_network_of_a_task_is_frozen_and_in_eval_mode(tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\ndef build():\n"
        "    return nn.Sequential(nn.Dropout(0.5), nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))\n"
    )
    model = torch_files.load(root=tmp_path, file="net.py:build", task="segmentation")
    subject = fitted(Subject(model=model, data=data("segmentation")))
    batch = next(iter(subject.data.batches()))
    first, second = (subject.model.structured(batch) for _ in range(2))
    assert (first == second).all()
    assert subject.model.card.facts["task"] == "segmentation"


def test_nothing_but_the_projects_own_errors_comes_out_of_odd_answers():
    odd = [None, 3, "text", [], {}, [None] * 4, object(), np.zeros(4), np.array(["a"] * 4), nn.Linear(1, 1),
           torch.zeros(0), [[1], [2, 3]], {"out": None}, ({},)]  # fmt: skip
    for said in odd:
        for read in (
            lambda given: label_scores(given, 4, 2, "m"), lambda given: maps(given, X, 2, "m"),
            lambda given: boxes(given, 4, 2, "m"),
        ):  # fmt: skip
            with pytest.raises((AuditError, NonFinite)):
                read(said)

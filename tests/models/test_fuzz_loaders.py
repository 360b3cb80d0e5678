"""Mutations of honest files, for every loader that reads one: loaded, or refused with its name.

Nothing else may come out: no other exception, no warning, no crash. A loader that is added without a
file here is an error.
"""

from __future__ import annotations

import json
import warnings
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dlaudit.audit.parts import Dataset, Model
from dlaudit.audit.plan import Loader
from dlaudit.audit.registry import Registry
from dlaudit.audit.subject import load
from dlaudit.errors import LoadError

NO_FILE = {"predictions", "http"}
"""Loaders that read no file."""
CODE = {"callable", "factory"}
"""Loaders of code, which is trusted by whoever wrote the plan: a mutation of it is other code."""


class Honest(NamedTuple):
    """name: the file that is mutated; args: of the loader."""

    group: str
    name: str
    args: dict[str, Any]


def torch_weights(folder: Path) -> Honest:
    (folder / "net.py").write_text(
        "from torch import nn\n\n\ndef build():\n    return nn.Linear(3, 2)\n"
    )
    torch.save(torch.nn.Linear(3, 2).state_dict(), folder / "w.pt")
    return Honest("models", "w.pt", {"file": "net.py:build", "weights": "w.pt"})


def torchscript(folder: Path) -> Honest:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(torch.nn.Linear(3, 2)).save(folder / "s.pt")
    return Honest("models", "s.pt", {"path": "s.pt"})


def torch_export(folder: Path) -> Honest:
    torch.export.save(
        torch.export.export(torch.nn.Linear(3, 2), (torch.zeros(2, 3),)), folder / "m.pt2"
    )
    return Honest("models", "m.pt2", {"path": "m.pt2"})


def onnx(folder: Path) -> Honest:
    import onnx as library
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["h"], transB=1), helper.make_node("Relu", ["h"], ["y"]),
        helper.make_node("Softmax", ["y"], ["z"], axis=-1),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [None, 2])],
        [numpy_helper.from_array(np.ones((2, 3), np.float32), "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    library.save(model, folder / "m.onnx")
    return Honest("models", "m.onnx", {"path": "m.onnx"})


def sklearn(folder: Path) -> Honest:
    import skops.io
    from sklearn.linear_model import LogisticRegression

    skops.io.dump(LogisticRegression().fit(np.eye(3), [0, 1, 1]), folder / "m.skops")
    return Honest("models", "m.skops", {"path": "m.skops"})


def xgboost(folder: Path) -> Honest:
    import xgboost as library

    data = library.DMatrix(np.eye(3), [0, 1, 1])
    library.train({"objective": "binary:logistic"}, data, 2).save_model(folder / "m.json")
    return Honest("models", "m.json", {"path": "m.json"})


def lightgbm(folder: Path) -> Honest:
    import lightgbm as library

    data = library.Dataset(np.tile(np.eye(3), (20, 1)), np.tile([0, 1, 1], 20))
    library.train({"objective": "binary", "verbose": -1}, data, 2).save_model(folder / "m.txt")
    return Honest("models", "m.txt", {"path": "m.txt"})


def catboost(folder: Path) -> Honest:
    import catboost as library

    quiet = {"verbose": 0, "thread_count": 1, "allow_writing_files": False, "iterations": 2}
    made = library.CatBoost({"loss_function": "Logloss", **quiet}).fit(np.eye(3), [0, 1, 1])
    made.save_model(str(folder / "m.cbm"))
    return Honest("models", "m.cbm", {"path": "m.cbm"})


def huggingface(folder: Path) -> Honest:
    """Its configuration is mutated: the weights are safetensors, as those of ``torch``."""
    import transformers

    config = transformers.BertConfig(
        vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4,
        max_position_embeddings=8,
    )  # fmt: skip
    transformers.logging.disable_progress_bar()
    transformers.BertForSequenceClassification(config).save_pretrained(folder / "bert")
    return Honest("models", "bert/config.json", {"path": "bert"})


def npz(folder: Path) -> Honest:
    np.savez(
        folder / "d.npz", x=np.ones((4, 2)), y=np.array([0, 1, 0, 1]), id=np.array(list("abcd"))
    )
    return Honest("datasets", "d.npz", {"path": "d.npz"})


def npy(folder: Path) -> Honest:
    np.save(folder / "x.npy", np.ones((4, 2)))
    np.save(folder / "y.npy", np.array([0, 1, 0, 1]))
    return Honest("datasets", "x.npy", {"path": "x.npy", "labels": "y.npy"})


def frame() -> pd.DataFrame:
    return pd.DataFrame({"age": [24, 35, 46], "sex": ["f", "m", "f"], "y": [0, 1, 0]})


TABLE = {"target": "y", "groups": ["sex"]}


def csv(folder: Path) -> Honest:
    frame().to_csv(folder / "t.csv", index=False)
    return Honest("datasets", "t.csv", {"path": "t.csv", **TABLE})


def parquet(folder: Path) -> Honest:
    frame().to_parquet(folder / "t.parquet")
    return Honest("datasets", "t.parquet", {"path": "t.parquet", **TABLE})


def arrow(folder: Path) -> Honest:
    frame().to_feather(folder / "t.arrow", compression="uncompressed")
    return Honest("datasets", "t.arrow", {"path": "t.arrow", **TABLE})


def jsonl(folder: Path) -> Honest:
    rows = [{"text": "gut", "label": "a"}, {"text": "schön", "label": "b"}]
    (folder / "t.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return Honest("datasets", "t.jsonl", {"path": "t.jsonl", "length": 8})


def images(folder: Path) -> Honest:
    from PIL import Image

    for name in ("cat", "dog"):
        (folder / "p" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(
            folder / "p" / name / "0.png"
        )
    return Honest("datasets", "p/cat/0.png", {"path": "p"})


def wav(folder: Path) -> Honest:
    for name in ("bark", "mew"):
        (folder / "s" / name).mkdir(parents=True, exist_ok=True)
        with wave.open(str(folder / "s" / name / "0.wav"), "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(8000)
            sound.writeframes(bytes(range(64)))
    return Honest("datasets", "s/bark/0.wav", {"path": "s", "length": 32})


def npz_of_boxes(folder: Path) -> Honest:
    np.savez(
        folder / "b.npz", x=np.ones((2, 1, 8, 8)), box=np.array([[0.0, 0, 4, 4], [2, 2, 8, 8]]),
        box_label=np.array([0, 1]), box_row=np.array([0, 1]),
    )  # fmt: skip
    return Honest("datasets", "b.npz", {"path": "b.npz", "task": "detection"})


def npy_of_labels(folder: Path) -> Honest:
    np.save(folder / "x.npy", np.ones((4, 2)))
    np.save(folder / "y.npy", np.array([[0, 1], [1, 1], [0, 0], [1, 0]]))
    return Honest("datasets", "y.npy", {"path": "x.npy", "labels": "y.npy", "task": "multilabel"})


def csv_of_labels(folder: Path) -> Honest:
    frame().assign(z=[1, 1, 0]).to_csv(folder / "t.csv", index=False)
    return Honest("datasets", "t.csv", {"path": "t.csv", "target": ["y", "z"], "groups": ["sex"]})


def pictures(folder: Path) -> None:
    from PIL import Image

    for place in ("p", "m"):
        (folder / place).mkdir(exist_ok=True)
        for name in ("0", "1"):
            held = np.arange(64, dtype=np.uint8).reshape(8, 8) % (255 if place == "p" else 3)
            Image.fromarray(held).save(folder / place / f"{name}.png")


def images_with_masks(folder: Path) -> Honest:
    pictures(folder)
    return Honest("datasets", "m/0.png", {"path": "p", "masks": "m"})


def images_with_boxes(folder: Path) -> Honest:
    pictures(folder)
    rows = [
        {"file": "0.png", "boxes": [[0, 0, 4, 4]], "labels": ["cat"]},
        {"file": "1.png", "boxes": [], "labels": []},
    ]
    (folder / "b.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return Honest("datasets", "b.jsonl", {"path": "p", "boxes": "b.jsonl"})


FILES: dict[str, Callable[[Path], Honest]] = {
    "torch": torch_weights, "torchscript": torchscript, "torch_export": torch_export, "onnx": onnx,
    "sklearn": sklearn, "xgboost": xgboost, "lightgbm": lightgbm, "catboost": catboost,
    "huggingface": huggingface, "npz": npz, "npy": npy, "csv": csv,
    "parquet": parquet, "arrow": arrow, "jsonl": jsonl, "images": images, "wav": wav,
    "npz:boxes": npz_of_boxes, "npy:labels": npy_of_labels, "csv:labels": csv_of_labels,
    "images:masks": images_with_masks, "images:boxes": images_with_boxes,
}  # fmt: skip
"""By loader, and behind a colon what else it is given."""


@pytest.fixture(scope="session")
def honest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Honest, bytes]]:
    made = {}
    for use, make in FILES.items():
        folder = tmp_path_factory.mktemp(use)
        one = make(folder)
        made[use] = (folder, one, (folder / one.name).read_bytes())
    return made


def opened(folder: Path, use: str, one: Honest) -> Any:
    kind = Model if one.group == "models" else Dataset
    subject = load(
        one.group, Loader(use=use.partition(":")[0], args=one.args), folder, Registry(), kind
    )
    if isinstance(subject, Dataset):
        list(subject.batches())
    return subject


def test_every_loader_of_files_is_fuzzed_here():
    registry = Registry()
    own = {
        part.name for group in ("models", "datasets") for part in registry.parts(group)
        if part.origin == "dlaudit"
    }  # fmt: skip
    assert own == {use.partition(":")[0] for use in FILES} | NO_FILE | CODE


@pytest.mark.parametrize("use", FILES)
def test_the_honest_file_is_loaded(honest, use):
    folder, one, content = honest[use]
    (folder / one.name).write_bytes(content)
    assert opened(folder, use, one).card.fingerprint


MUTATION = st.one_of(
    st.tuples(st.just("write"), st.floats(0, 1), st.binary(min_size=1, max_size=8)),
    st.tuples(st.just("insert"), st.floats(0, 1), st.binary(min_size=1, max_size=8)),
    st.tuples(st.just("cut"), st.floats(0, 1), st.just(b"")),
    st.tuples(st.just("drop"), st.floats(0, 1), st.binary(min_size=1, max_size=40)),
    st.tuples(st.just("again"), st.floats(0, 1), st.just(b"")),
)


def mutated(content: bytes, how: str, place: float, noise: bytes) -> bytes:
    at = int(place * len(content))
    match how:
        case "write":
            return content[:at] + noise + content[at + len(noise) :]
        case "insert":
            return content[:at] + noise + content[at:]
        case "cut":
            return content[:at]
        case "drop":
            return content[:at] + content[at + len(noise) :]
        case _:
            return content + content[at:]


DEAR = {
    "torch",
    "torchscript",
    "torch_export",
    "sklearn",
    "parquet",
    "images",
    "images:masks",
    "huggingface",
    "catboost",
}
"""Loaders whose libraries take long for each file: their mutations belong to the whole table."""


@pytest.mark.parametrize(
    "use", [pytest.param(use, marks=pytest.mark.slow) if use in DEAR else use for use in FILES]
)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
@given(mutations=st.lists(MUTATION, min_size=1, max_size=3))
def test_a_mutated_file_is_loaded_or_refused_by_its_name(honest, use, mutations):
    folder, one, content = honest[use]
    for how, place, noise in mutations:
        content = mutated(content, how, place, noise)
    (folder / one.name).write_bytes(content)
    try:
        subject = opened(folder, use, one)
    except LoadError as error:
        assert all(problem and "\n" not in problem for problem in error.problems), error  # noqa: PT017
    else:
        assert subject.offers

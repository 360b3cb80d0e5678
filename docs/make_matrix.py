"""Writes docs/what-works-with-what.md: what each loader offers, and which checks that is enough for.

    python docs/make_matrix.py

Every loader is asked with a small file of its own kind, so that the page says what is offered and
not what was meant. A new loader without an example here is an error.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dlaudit.audit.parameters import build
from dlaudit.audit.parts import TASKS, Dataset, Model, Suite
from dlaudit.audit.plan import Loader
from dlaudit.audit.registry import Part, Registry
from dlaudit.audit.subject import load

PAGE = Path(__file__).parent / "what-works-with-what.md"
OWN = "dlaudit"
FAMILIES = {"foolbox": ("foolbox:LinfDeepFoolAttack", "foolbox:BoundaryAttack")}
"""A family is shown by a member that uses gradients, and one that asks for decisions only."""
MODEL_WORDS = ("decisions", "queries", "logits", "gradients", "module")
DATA_WORDS = ("labels", "groups", "mask", "images", "tabular", "tokens", "audio")

NET = """
import numpy as np
from torch import nn


def build():
    return nn.Linear(3, 2)


def answer(x):
    return np.stack([x.sum(1), -x.sum(1)], axis=1).astype("float32")


def data():
    return {"x": np.eye(3, dtype="float32"), "y": np.array([0, 1, 1])}
"""

TASK_NET = """
import numpy as np
import torch
from torch import nn


def multilabel():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 2))


def segmentation():
    return nn.Conv2d(1, 2, 1)


class Detector(nn.Module):
    def forward(self, x):
        box = torch.tensor([[1.0, 1.0, 5.0, 5.0]])
        score = torch.sigmoid(x.flatten(1).mean(1))
        return [{"boxes": box, "labels": torch.tensor([0]), "scores": one[None]} for one in score]


def detection():
    return Detector()


def scores(x):
    return np.stack([x.mean((1, 2, 3)), 1 - x.mean((1, 2, 3))], 1)


def maps(x):
    return np.concatenate([1 - x, x], axis=1)


def boxes(x):
    return [{"boxes": [[1, 1, 5, 5]], "labels": [0], "scores": [float(one.mean())]} for one in x]
"""
"""Models of the further tasks, as networks and as functions."""

HEAD = """\
# What works with what

Made by `python docs/make_matrix.py`, which opens a small file with each loader and asks what it
offers. A check whose needs are not met is skipped, visibly, and
[the gate stays closed](decisions/0005-skipped-closes-the-gate.md); `dlaudit plan` says so beforehand.
"""

WORDS = """
- **decisions**: a class for each sample. **queries**: decisions on any input, as an attacker makes
  them; recorded decisions have none. **logits**: a number for each class (one binary logit and
  probabilities are recognised). **gradients**: of a loss with respect to the inputs. **module**: a
  torch module that can be opened, layer by layer.
- **values**: a predicted quantity instead of a class: `predictions` with `value`, `callable` with
  `output = "values"`; tables offer them with `types = { <target> = "number" }`.
- **multilabel**, **segmentation**, **detection**: several labels a row, a class for every pixel, boxes:
  a model and its data name [the task](tasks.md), and offer it instead of decisions and labels.
- **labels**: the right class. **groups**: attributes of the samples, such as a region or an age band.
  **mask**: where the object is. **train**: a second split, `[data.train]`, of any format.
"""

SUITES = """\
Runs of a suite that are measured, of all its runs; the others are skipped with the reason. Models are
counted with data that have labels, groups, pictures, masks and a second split; data with a torch model and
a second split. A test runs every cell.
"""
TASKS_HEAD = """\
Of models first, then of data. `performance.task` is measured in each of these cells; all other runs of all
suites that need classes are skipped with the reason. A test runs every cell of the first three tasks.
"""
WHOLE = frozenset({"labels", "groups", "images", "mask", "train"})
OPEN = frozenset({"decisions", "queries", "logits", "gradients", "module"})

GROUPS = """\
Of a small file each; groups and masks only where the file has them or the plan declares them. Whether
arrays (`npz`, `factory`) are images, a table or tokens is told by their shape and type.
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """The page's text."""
    registry = Registry()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates writing a format that is still read
        root = Path(folder)
        (root / "net.py").write_text(NET)
        models = {p.name: model_offers(p, root, registry) for p in own(registry, "models")}
        data = {p.name: data_offers(p, root, registry) for p in own(registry, "datasets")}
    checks = {
        name: needs_of(registry.check(name))
        for group in ("checks", "attacks")
        for part in own(registry, group)
        for name in FAMILIES.get(part.name, (part.name,))
    }
    parts = [
        HEAD,
        "## What models offer\n",
        table(
            ["loader", *MODEL_WORDS],
            [[f"`{n}`", *marks(o, MODEL_WORDS)] for n, o in models.items()],
        ),
        "\n## What data sets offer\n",
        GROUPS,
        table(
            ["loader", *DATA_WORDS], [[f"`{n}`", *marks(o, DATA_WORDS)] for n, o in data.items()]
        ),
        WORDS,
        "\n## Which checks run on which models\n",
        table(
            ["check", *(f"`{name}`" for name in models)],
            [
                [
                    f"`{name}`",
                    *("●" if set(needs[0]) <= offers else "skipped" for offers in models.values()),
                ]
                for name, needs in checks.items()
            ],
        ),
        "\n## Each loader with each suite\n",
        SUITES,
        table(
            ["loader", *(f"`{p.name}`" for p in own(registry, "suites"))],
            [
                [
                    f"`{loader}`",
                    *(fitting(p, registry, given, WHOLE) for p in own(registry, "suites")),
                ]
                for loader, given in models.items()
            ]
            + [
                [
                    f"`{loader}`",
                    *(fitting(p, registry, OPEN, given) for p in own(registry, "suites")),
                ]
                for loader, given in data.items()
            ],
        ),
        "\n## Each loader with each further task\n",
        TASKS_HEAD,
        table(
            ["loader", *TASKS, "quantities"],
            [
                [f"`{loader}`", *("●" if one in of else "" for one in (*TASKS, "quantities"))]
                for loader, of in {**MODEL_TASKS, **DATA_TASKS}.items()
            ],
        ),
        "\n## What checks ask of the data\n",
        table(
            ["check", "needs of the model", "needs of the data"],
            [[f"`{name}`", listed(needs[0]), listed(needs[1])] for name, needs in checks.items()],
        ),
        "\n## What is in which suite\n",
        table(["suite", "runs"], [[f"`{p.name}`", suite_runs(p)] for p in own(registry, "suites")]),
    ]
    return "\n".join(parts)


def own(registry: Registry, group: str) -> list[Part]:
    """The parts that ship with dlaudit; guests of this environment are left out."""
    return [part for part in registry.parts(group) if part.origin == OWN]


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def marks(offers: frozenset[str], words: tuple[str, ...]) -> list[str]:
    """A dot for each word that is offered."""
    return ["●" if word in offers else "" for word in words]


def listed(words: tuple[str, ...]) -> str:
    """Words with commas."""
    return ", ".join(words) or "nothing"


def suite_runs(part: Part) -> str:
    """The runs of a suite; what it is called is told by ``dlaudit list suites``."""
    suite = part.get()
    assert isinstance(suite, Suite)  # noqa: S101  (a suite's entry point holds a suite)
    return ", ".join(f"`{run}`" for run in suite.runs)


def fitting(part: Part, registry: Registry, model: frozenset[str], data: frozenset[str]) -> str:
    """How many runs of a suite have what they need, of how many."""
    suite = part.get()
    assert isinstance(suite, Suite)  # noqa: S101  (a suite's entry point holds a suite)
    met = 0
    for run, params in suite.runs.items():
        given = dict(params)
        check, _ = build(registry.check(given.pop("use", run)), given)
        assert check is not None  # noqa: S101  (a suite's runs can be built)
        met += not check.missing(model=model, data=data | {"train"}, train_fn=False)
    return f"{met} of {len(suite.runs)}"


def needs_of(part: Part) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a check needs of model and data, as it is with default parameters."""
    check, problems = build(part, {})
    if check is None:
        message = f"{part.name}: {problems}"
        raise ValueError(message)
    data = check.needs.data + (("[train] factory",) if check.needs.train_fn else ())
    return check.needs.model, data


def model_offers(part: Part, root: Path, registry: Registry) -> frozenset[str]:
    """What a model offers that the loader opened."""
    args = MODELS[part.name](root)
    model: Model = load("models", Loader(use=part.name, args=args), root, registry, Model)
    # Whoever gives logits for an input can be asked about any.
    return model.offers | {"queries"} if "logits" in model.offers else model.offers


def data_offers(part: Part, root: Path, registry: Registry) -> frozenset[str]:
    """What a data set offers that the loader opened."""
    args = DATA[part.name](root)
    data: Dataset = load("datasets", Loader(use=part.name, args=args), root, registry, Dataset)
    return data.offers


def torchscript(root: Path) -> dict[str, Any]:
    """A scripted module."""
    import torch

    torch.jit.script(torch.nn.Linear(3, 2)).save(root / "script.pt")  # type: ignore[no-untyped-call]
    return {"path": "script.pt"}


def torch_export(root: Path) -> dict[str, Any]:
    """An exported program."""
    import torch

    batch = ({0: torch.export.Dim("batch", min=1, max=64)},)
    program = torch.export.export(
        torch.nn.Linear(3, 2).eval(), (torch.zeros(2, 3),), dynamic_shapes=batch
    )
    torch.export.save(program, root / "net.pt2")
    return {"path": "net.pt2"}


def onnx(root: Path) -> dict[str, Any]:
    """A graph of one node."""
    import onnx as library
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.ones((2, 3), dtype=np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["logits"], transB=1)],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [weights],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    library.save(made, root / "net.onnx")
    return {"path": "net.onnx"}


def sklearn(root: Path) -> dict[str, Any]:
    """A fitted pipeline."""
    import skops.io
    from sklearn.linear_model import LogisticRegression

    skops.io.dump(LogisticRegression().fit(np.eye(3), [0, 1, 1]), root / "model.skops")
    return {"path": "model.skops"}


def xgboost(root: Path) -> dict[str, Any]:
    """A few trees."""
    import xgboost as library

    data = library.DMatrix(np.eye(3), [0, 1, 1])
    library.train({"objective": "binary:logistic"}, data, 2).save_model(root / "trees.json")
    return {"path": "trees.json"}


def lightgbm(root: Path) -> dict[str, Any]:
    """A few trees."""
    import lightgbm as library

    data = library.Dataset(np.tile(np.eye(3), (20, 1)), np.tile([0, 1, 1], 20))
    library.train({"objective": "binary", "verbose": -1}, data, 2).save_model(root / "trees.txt")
    return {"path": "trees.txt"}


def catboost(root: Path) -> dict[str, Any]:
    """A few trees."""
    import catboost as library

    quiet = {"verbose": 0, "thread_count": 1, "allow_writing_files": False, "iterations": 2}
    made = library.CatBoost({"loss_function": "Logloss", **quiet}).fit(np.eye(3), [0, 1, 1])
    made.save_model(str(root / "trees.cbm"))
    return {"path": "trees.cbm"}


def huggingface(root: Path) -> dict[str, Any]:
    """A small Transformer of pictures."""
    import transformers

    transformers.logging.disable_progress_bar()
    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, image_size=8,
        patch_size=4, num_channels=1, num_labels=2,
    )  # fmt: skip
    transformers.ViTForImageClassification(config).save_pretrained(root / "vit")
    return {"path": "vit"}


def npz(root: Path) -> dict[str, Any]:
    """Arrays of images with groups and masks."""
    images, mask = np.zeros((4, 1, 8, 8), dtype=np.float32), np.ones((4, 8, 8), dtype=bool)
    np.savez(
        root / "data.npz", x=images, y=[0, 1, 0, 1], group_site=["a", "b", "a", "b"], mask=mask
    )
    return {"path": "data.npz"}


def csv(root: Path) -> dict[str, Any]:
    """A table with a group."""
    (root / "data.csv").write_text("income,region,repaid\n1,north,0\n2,south,1\n3,north,1\n")
    return {"path": "data.csv", "target": "repaid", "positive": 1, "groups": ["region"]}


def parquet(root: Path) -> dict[str, Any]:
    """The same table."""
    import pandas as pd

    args = csv(root)
    pd.read_csv(root / "data.csv").to_parquet(root / "data.parquet")
    return {**args, "path": "data.parquet"}


def arrow(root: Path) -> dict[str, Any]:
    """The same table."""
    import pandas as pd

    args = csv(root)
    pd.read_csv(root / "data.csv").to_feather(root / "data.arrow")
    return {**args, "path": "data.arrow"}


def npy(root: Path) -> dict[str, Any]:
    """Pictures in one file, labels and groups in others."""
    np.save(root / "x.npy", np.zeros((4, 1, 8, 8), dtype=np.float32))
    np.save(root / "y.npy", [0, 1, 0, 1])
    np.save(root / "site.npy", ["a", "b", "a", "b"])
    return {"path": "x.npy", "labels": "y.npy", "groups": {"site": "site.npy"}}


def jsonl(root: Path) -> dict[str, Any]:
    """Two texts."""
    (root / "texts.jsonl").write_text('{"text": "good", "label": 1}\n{"text": "bad", "label": 0}\n')
    return {"path": "texts.jsonl", "length": 8}


def wav(root: Path) -> dict[str, Any]:
    """A folder of sounds, one folder per class."""
    import wave

    for name in ("bark", "mew"):
        (root / "sounds" / name).mkdir(parents=True)
        with wave.open(str(root / "sounds" / name / "0.wav"), "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(8000)
            sound.writeframes(bytes(64))
    return {"path": "sounds"}


def images(root: Path) -> dict[str, Any]:
    """A folder of pictures, one folder per class."""
    from PIL import Image

    for name in ("cat", "dog"):
        (root / "pictures" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(root / "pictures" / name / "0.png")
    return {"path": "pictures", "size": [8, 8]}


MODELS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "torch": lambda _: {"file": "net.py:build"},
    "torchscript": torchscript,
    "torch_export": torch_export,
    "onnx": onnx,
    "sklearn": sklearn,
    "callable": lambda _: {"file": "net.py:answer"},
    "xgboost": xgboost,
    "lightgbm": lightgbm,
    "catboost": catboost,
    "huggingface": huggingface,
    "http": lambda _: {"url": "http://127.0.0.1:9/predict"},
    "predictions": lambda _: {"column": "decision", "positive": "yes"},
}
DATA: dict[str, Callable[[Path], dict[str, Any]]] = {
    "npz": npz,
    "csv": csv,
    "parquet": parquet,
    "arrow": arrow,
    "npy": npy,
    "jsonl": jsonl,
    "wav": wav,
    "images": images,
    "factory": lambda _: {"file": "net.py:data"},
}


def task_arrays(task: str) -> dict[str, Any]:
    """Twelve pictures of 8 x 8 with the truth of a task."""
    rng = np.random.default_rng(0)
    x = rng.random((12, 1, 8, 8)).astype(np.float32)
    truth: dict[str, dict[str, Any]] = {
        "multilabel": {"y": np.arange(24).reshape(12, 2) % 3 > 0},
        "segmentation": {"y": (x[:, 0] > 0.4).astype(int)},
        "detection": {
            "box": np.tile([[1.0, 1.0, 5.0, 6.0]], (12, 1)), "box_label": np.arange(12) % 2,
            "box_row": np.arange(12),
        },
    }  # fmt: skip
    return {"x": x, **truth[task]}


def task_model(use: str, task: str, root: Path) -> dict[str, Any]:
    """Arguments of a model loader for a task, and the file that they name."""
    import torch

    (root / "tasks.py").write_text(TASK_NET)
    named = {"multilabel": "scores", "segmentation": "maps", "detection": "boxes"}[task]
    if use == "callable":
        return {"file": f"tasks.py:{named}", "output": task}
    if use == "http":
        return {"url": "http://127.0.0.1:9/predict", "output": task}
    if use == "torch":
        return {"file": f"tasks.py:{task}", "task": task}
    if use == "huggingface":
        huggingface(root)
        config = root / "vit" / "config.json"
        told = json.loads(config.read_text()) | {"problem_type": "multi_label_classification"}
        config.write_text(json.dumps(told))
        return {"path": "vit", "task": task}
    scope: dict[str, Any] = {}
    exec(TASK_NET, scope)  # noqa: S102  (the text above)
    net, x = scope[task]().eval(), torch.zeros(2, 1, 8, 8)
    if use == "torchscript":
        torch.jit.trace(net, x).save(root / f"{task}.pt")  # type: ignore[no-untyped-call]
        return {"path": f"{task}.pt", "task": task}
    batch = ({0: torch.export.Dim("batch", min=1, max=64)},)
    if use == "torch_export":
        program = torch.export.export(net, (x,), dynamic_shapes=batch)
        torch.export.save(program, root / f"{task}.pt2")
        return {"path": f"{task}.pt2", "task": task}
    torch.onnx.export(
        net, (x,), root / f"{task}.onnx", dynamo=False, input_names=["x"], output_names=["logits"],
        dynamic_axes={"x": {0: "n"}, "logits": {0: "n"}},
    )  # fmt: skip
    return {"path": f"{task}.onnx", "task": task}


def task_data(use: str, task: str, root: Path) -> dict[str, Any]:
    """Arguments of a data loader for a task, and the files that they name."""
    from PIL import Image

    arrays = task_arrays(task)
    if use == "npz":
        np.savez(root / f"{task}.npz", **arrays)
        return {"path": f"{task}.npz", "task": task}
    if use == "npy":
        np.save(root / f"{task}-x.npy", arrays["x"])
        np.save(root / f"{task}-y.npy", arrays["y"])
        return {"path": f"{task}-x.npy", "labels": f"{task}-y.npy", "task": task}
    if use == "factory":
        np.savez(root / f"{task}.npz", **arrays)
        code = f"import numpy as np\n\n\ndef {task}():\n    return dict(np.load(r'{root}/{task}.npz'))\n"
        (root / f"made_{task}.py").write_text(code)
        return {"file": f"made_{task}.py:{task}", "task": task}
    if use == "images":
        folder = root / f"pictures-{task}"
        folder.mkdir()
        for row, picture in enumerate(arrays["x"]):
            Image.fromarray((picture[0] * 255).astype(np.uint8)).save(folder / f"{row:02}.png")
        if task == "segmentation":
            (root / "masks").mkdir()
            for row, mask in enumerate(arrays["y"]):
                Image.fromarray(mask.astype(np.uint8)).save(root / "masks" / f"{row:02}.png")
            return {"path": folder.name, "masks": "masks"}
        lines = [
            {"file": f"{row:02}.png", "boxes": [[1, 1, 5, 6]], "labels": ["cat" if row % 2 else "dog"]}
            for row in range(12)
        ]  # fmt: skip
        (root / "boxes.jsonl").write_text("\n".join(map(json.dumps, lines)))
        return {"path": folder.name, "boxes": "boxes.jsonl"}
    if use == "jsonl":
        tags = [["red"] * row[0] + ["round"] * row[1] for row in arrays["y"].astype(int)]
        texts = [{"text": f"number {row}", "label": one} for row, one in enumerate(tags)]
        (root / "tagged.jsonl").write_text("\n".join(map(json.dumps, texts)))
        return {"path": "tagged.jsonl", "length": 8, "task": task}
    import pandas as pd

    frame = pd.DataFrame(arrays["x"].reshape(12, -1)[:, :3], columns=["a", "b", "c"])
    frame["red"], frame["round"] = arrays["y"].T.astype(int)
    write = {"csv": frame.to_csv, "parquet": frame.to_parquet, "arrow": frame.to_feather}[use]
    write(root / f"tags.{use}", **({"index": False} if use == "csv" else {}))
    return {"path": f"tags.{use}", "target": ["red", "round"]}


DENSE = ("multilabel", "segmentation")
MODEL_TASKS: dict[str, tuple[str, ...]] = {
    "torch": TASKS, "torchscript": DENSE, "torch_export": DENSE, "onnx": DENSE,
    "sklearn": (), "callable": (*TASKS, "quantities"), "xgboost": ("quantities",),
    "lightgbm": ("quantities",), "catboost": ("quantities",), "huggingface": ("multilabel",), "http": DENSE,
    "predictions": ("quantities",),
}  # fmt: skip
"""Which tasks a model loader knows."""
DATA_TASKS: dict[str, tuple[str, ...]] = {
    "npz": TASKS, "csv": ("multilabel", "quantities"), "parquet": ("multilabel", "quantities"),
    "arrow": ("multilabel", "quantities"), "npy": DENSE, "jsonl": ("multilabel",), "wav": (),
    "images": ("segmentation", "detection"), "factory": TASKS,
}  # fmt: skip


if __name__ == "__main__":
    main()

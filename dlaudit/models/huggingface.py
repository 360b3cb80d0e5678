"""Loads a folder that Hugging Face's ``transformers`` saved: a classifier of pictures, texts or sounds.

Knows the folder's files; never a network beyond this disk. Only classes of the installed library are
built: a folder that asks for code of its own is refused.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaudit.audit.files import identity, named_file, named_folder, refusal, said
from dlaudit.audit.parts import Model
from dlaudit.errors import nearest
from dlaudit.models import airlock
from dlaudit.models.declared import checked_batch, checked_bounds, checked_classes, checked_task
from dlaudit.models.state_dicts import SHOWN, refuse_nonfinite
from dlaudit.models.torch_files import chosen_device

if TYPE_CHECKING:
    from torch import nn

BATCH = 64
TASKS = ("ForImageClassification", "ForSequenceClassification", "ForAudioClassification")
CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PROCESSOR = "preprocessor_config.json"
PICKLED = ("pytorch_model.bin", "tf_model.h5", "flax_model.msgpack")
LARGEST = 1024 * 1024
"""Bytes of a configuration."""


def load(
    *,
    root: Path,
    path: str,
    bounds: list[Any] | None = None,
    classes: list[str] | None = None,
    device: str | None = None,
    batch: int = BATCH,
    task: str = "",
) -> Model:
    """A folder with config.json and safetensors (with the extra ``huggingface``).

    Pictures are given as (n, C, H, W) in [0, 1] and sounds as (n, 1, length): what the folder's
    preprocessor_config.json says of mean and standard deviation happens inside the model, so that
    budgets are in units of the input. Texts are given as token ids, as ``jsonl`` makes them with
    ``tokenizer = "<folder>"``; the padding's id is masked. classes: by default those of the
    configuration. bounds: [0, 1] for pictures. task: ``multilabel`` where the configuration says
    multi_label_classification. Raises LoadError, UntrustedModel.
    """
    checked_task(task, ("multilabel",))
    limits, names, size = (
        checked_bounds(bounds),
        checked_classes(classes or []),
        checked_batch(batch),
    )
    folder = named_folder(root, path, expected="a folder saved by transformers")
    config = settings(folder, CONFIG)
    architecture = checked_architecture(config, folder / CONFIG, task)
    files = {"config": folder / CONFIG} | weight_files(folder)
    processor: dict[str, Any] = {}
    if (folder / PROCESSOR).is_file():
        files["processor"] = inside(folder, PROCESSOR)
        processor = settings(folder, PROCESSOR)
    place = chosen_device(device)
    net = built(folder, architecture)
    refuse_nonfinite(net, folder)

    from dlaudit.models.huggingface_inputs import asked
    from dlaudit.models.torch_model import TorchModel, structured

    module, kind = asked(net, processor, folder)
    if not names and (given := config.get("id2label")):
        names = tuple(str(given[key]) for key in sorted(given, key=int))
        names = () if all(name.startswith("LABEL_") for name in names) else checked_classes(names)
    if limits is None and kind == "images":
        limits = (0.0, 1.0)
    fingerprint, facts = identity(files)
    model = TorchModel(
        module, name=folder.name or path, bounds=limits, classes=names, fingerprint=fingerprint,
        facts={
            **facts, "architecture": architecture, "inputs": kind,
            "processor": PROCESSOR if processor else "none: inputs are given as they are",
            "airlock": {"model": "safetensors, read as data; no code of the folder's"},
        },
        device=place, batch=size,
    )  # fmt: skip
    return structured(model, task, logits=True)


def inside(folder: Path, name: str) -> Path:
    """A file of the folder, links followed. Raises LoadError if it leads out of it."""
    file = named_file(folder, name, expected="a file of the model")
    if not file.resolve().is_relative_to(folder.resolve()):
        raise refusal(
            folder, expected="files inside the folder", got=f"{name!r}, which leads out of it",
            hint="Copy what the link points to.",
        )  # fmt: skip
    return file


def settings(folder: Path, name: str) -> dict[str, Any]:
    """A configuration of the folder. Raises LoadError unless it is an object of reasonable size."""
    file = inside(folder, name)
    if file.stat().st_size > LARGEST:
        raise refusal(file, expected=f"at most {LARGEST} bytes", got=str(file.stat().st_size))
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise refusal(file, expected="a JSON object", got=said(error)) from error
    if not isinstance(content, dict):
        raise refusal(file, expected="a JSON object", got=f"a {type(content).__name__}")
    return content


def checked_architecture(config: dict[str, Any], place: Path, task: str = "") -> str:
    """The class that the configuration names. Raises LoadError for code of its own and other tasks."""
    for key in ("auto_map", "custom_pipelines"):
        if config.get(key):
            raise refusal(
                place, key, expected="a class of transformers", got="code that comes with the folder",
                hint='If you answer for it, build it in a factory: use = "torch", file = "net.py:build".',
            )  # fmt: skip
    named = config.get("architectures")
    if not isinstance(named, list) or len(named) != 1 or not isinstance(named[0], str):
        raise refusal(place, "architectures", expected="one name", got=json.dumps(named)[:80])
    if not named[0].endswith(TASKS):
        raise refusal(
            place, "architectures", expected=f"a classifier (…{', …'.join(TASKS)})", got=named[0],
            hint="What segments, detects or generates is no classifier: wrap what it decides in a "
            'function, use = "callable".',
        )  # fmt: skip
    problem = config.get("problem_type")
    wanted = "multi_label_classification" if task else "single_label_classification"
    if problem != wanted and (task or problem is not None):
        raise refusal(
            place, "problem_type", expected=wanted, got=str(problem),
            hint='Several labels a row? Say task = "multilabel".' if not task else "",
        )  # fmt: skip
    return named[0]


def weight_files(folder: Path) -> dict[str, Path]:
    """The files of weights by role, each let in by the airlock. Raises LoadError, UntrustedModel."""
    if (folder / WEIGHTS).is_file():
        names = [WEIGHTS]
    elif (folder / INDEX).is_file():
        listed = settings(folder, INDEX).get("weight_map")
        if not isinstance(listed, dict) or not all(isinstance(v, str) for v in listed.values()):
            raise refusal(
                folder / INDEX, "weight_map", expected="key -> file", got="something else"
            )
        names = [INDEX, *sorted(set(listed.values()))]
    else:
        found = next((name for name in PICKLED if (folder / name).is_file()), "")
        hint = nearest(WEIGHTS, [one.name for one in folder.iterdir()])
        raise refusal(
            folder, expected=WEIGHTS, got=found or "no file of this name",
            hint="Save it with model.save_pretrained(folder, safe_serialization=True)."
            if found else (hint if hint.startswith("Did you mean") else ""),
        )  # fmt: skip
    files = {}
    for name in names:
        files[name] = inside(folder, name)
        if name != INDEX:
            airlock.admit(files[name], accepts={"safetensors"}, expected="weights (.safetensors)")
    return files


def built(folder: Path, architecture: str) -> nn.Module:
    """The network with the folder's weights in it. Raises LoadError where any is missing or misfits."""
    try:
        import transformers
    except ImportError as error:
        raise refusal(
            folder, expected="transformers to read it", got="an installation without it",
            hint="Install it: pip install 'dlaudit[huggingface]'.",
        ) from error  # fmt: skip
    kind: Any = getattr(transformers, architecture, None)
    ready_made = isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)
    if not ready_made:
        known = [name for name in dir(transformers) if name.endswith(TASKS)]
        raise refusal(
            folder / CONFIG, "architectures", got=architecture, hint=nearest(architecture, known),
            expected=f"a class of transformers {transformers.__version__}",
        )  # fmt: skip
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net, told = kind.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, output_loading_info=True,
                attn_implementation="eager", dtype="float32", ignore_mismatched_sizes=True,
            )  # fmt: skip
    except Exception as error:
        raise refusal(
            folder, expected=f"a whole {architecture}", got=said(error)[:300],
            hint=f"This is transformers {transformers.__version__}.",
        ) from error  # fmt: skip
    for what in ("missing_keys", "mismatched_keys", "unexpected_keys", "error_msgs"):
        if odd := sorted(map(str, told.get(what) or [])):
            raise refusal(
                folder, expected="weights that fit the network",
                got=f"{what.replace('_', ' ')}: {', '.join(odd[:SHOWN])}"[:300],
            )  # fmt: skip
    ready: nn.Module = net.eval()
    return ready

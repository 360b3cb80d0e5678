"""The audit as a Python call: ``dlaudit.audit(model=…, data=…, suites=[…])``.

Paths are audited in worker processes like on the command line; live objects (a module, arrays)
cannot travel and are audited in this process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaudit.audit.bench import Subject
from dlaudit.audit.engine import Events
from dlaudit.audit.engine import audit as run_audit
from dlaudit.audit.executor import InlineExecutor, Limits
from dlaudit.audit.launch import launch
from dlaudit.audit.parts import Dataset, Model
from dlaudit.audit.perform import Opened, Workplace, described
from dlaudit.audit.plan import Loader, Source, read_with
from dlaudit.audit.record import AuditRecord
from dlaudit.audit.render import write_reports
from dlaudit.audit.subject import combined, fitted
from dlaudit.errors import LoadError

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

LIVE = "live"
"""The loader's name in a plan whose model or data was handed over as an object."""


def audit(
    model: str | Path | Model | nn.Module,
    data: str | Path | Dataset | tuple[np.ndarray, np.ndarray] | Mapping[str, np.ndarray],
    suites: Iterable[str] = (),
    *,
    train: Any = None,
    weights: str | Path | None = None,
    bounds: tuple[Any, Any] | None = None,
    checks: Mapping[str, Mapping[str, Any]] | None = None,
    rules: Iterable[Mapping[str, Any]] = (),
    seed: int = 0,
    name: str = "audit",
    out: str | Path | None = None,
    formats: Iterable[str] = (),
    plugins: Iterable[str | Path] = (),
    executor: str | None = None,
    **plan: Any,
) -> AuditRecord:
    """Audit a model on data; returns the record, which shows itself in a notebook.

    model, data, train: paths, or live objects: a module or Model; a Dataset, ``(x, y)`` or a mapping
    with ``x``, ``y`` and optionally ``id``, ``group_<name>``, ``mask``. checks, rules and further
    keywords: the tables of ``audit.toml``. out: keeps the run's files there; otherwise only the
    record is kept. executor: for paths, ``process`` if not given.

    Raises PlanError with every mistake that is known before anything is measured.
    """
    table: dict[str, Any] = {
        "name": name, "seed": seed, "suites": list(suites),
        "checks": {run: dict(params) for run, params in (checks or {}).items()},
        "rules": [dict(rule) for rule in rules], **plan,
    }  # fmt: skip
    plugin_files = tuple(str(Path(plugin).resolve()) for plugin in plugins)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(out) if out is not None else Path(scratch) / "run"
        where: dict[str, Any] = {"root": str(Path.cwd()), "label": "this audit", "plugins": plugin_files,
                 "formats": tuple(formats)}  # fmt: skip
        if isinstance(model, str | Path) and isinstance(data, str | Path):
            from dlaudit.starting import table_for

            paths = table_for(
                str(model), Path(weights) if weights else None, str(data), (), train=train
            )
            if bounds is not None:
                paths["model"]["args"]["bounds"] = list(bounds)
            source = Source(table={**table, **paths}, **where)
            return launch(source, out=folder, executor=executor or "process")[0]
        source = Source(table={**table, "model": {"use": LIVE}, "data": {"use": LIVE}}, **where)
        return _live(source, live_model(model, bounds), live_data(data, train), folder)


def _live(source: Source, model: Model, data: Dataset, folder: Path) -> AuditRecord:
    """Audit live objects in this process, and give a live module back as it was."""
    registry = source.registry()
    nothing = Loader(use=LIVE)
    plan = read_with(source, registry, model=nothing, data={"test": nothing})
    try:
        subject = fitted(
            Subject(model=model, data=data), max_samples=plan.max_samples, seed=plan.seed
        )
        executor = LiveExecutor(described(plan, subject, registry), Workplace(subject, registry))
        record, run_folder = run_audit(source, executor, folder, events=Events())
        write_reports(run_folder, record, source.formats, registry)
    finally:
        close = getattr(model, "close", None)
        if close:
            close()
    return record


class LiveExecutor(InlineExecutor):
    """The inline executor at a subject that is open already."""

    def __init__(self, opened: Opened, workplace: Workplace) -> None:
        """opened: the plan and cards of the subject; workplace: the subject."""
        super().__init__(limits=Limits())
        self._opened = opened
        self._workplace = workplace

    def prepare(self, source: Source) -> Opened:
        """Nothing is left to open."""
        del source
        return self._opened


def live_model(model: Any, bounds: tuple[Any, Any] | None) -> Model:
    """A live object as a Model. Raises LoadError with what would be accepted."""
    if isinstance(model, Model):
        return model
    from torch import nn

    if isinstance(model, nn.Module):
        from dlaudit.models.torch_model import TorchModel

        return TorchModel(model, bounds=bounds)
    message = (
        f"model: expected a path, a torch module or a dlaudit Model, got {type(model).__name__}"
    )
    raise LoadError(message)


def live_data(data: Any, train: Any = None) -> Dataset:
    """Live arrays as a Dataset, with ``train`` as its second split. Raises LoadError."""
    parts = {"test": one_split(data, "data")}
    if train is not None:
        parts["train"] = one_split(train, "train")
    return combined(parts)


def one_split(data: Any, place: str) -> Dataset:
    """One split out of a Dataset, a pair or a mapping."""
    from dlaudit.datasets.arrays import ArrayDataset

    if isinstance(data, Dataset):
        return data
    if isinstance(data, tuple) and len(data) == 2:
        data = dict(zip(("x", "y"), data, strict=True))
    if isinstance(data, Mapping) and {"x", "y"} <= set(data):
        import numpy as np

        arrays = {key: np.asarray(value) for key, value in data.items()}
        groups = {
            key.removeprefix("group_"): value
            for key, value in arrays.items()
            if key.startswith("group_")
        }
        x = arrays["x"].astype(np.float32) if arrays["x"].dtype.kind == "f" else arrays["x"]
        return ArrayDataset(
            x, arrays["y"], name=place, id=arrays.get("id"), groups=groups, mask=arrays.get("mask")
        )
    message = (
        f"{place}: expected a path, a dlaudit Dataset, a pair (x, y) or a mapping with 'x' and 'y', "
        f"got {type(data).__name__}"
    )
    raise LoadError(message)

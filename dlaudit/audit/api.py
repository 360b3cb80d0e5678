"""The audit as a Python call: ``dlaudit.audit(model=…, data=…, suites=[…])``.

Paths are audited in worker processes like on the command line; live objects (a module, arrays)
cannot travel and are audited in this process.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaudit.audit.bench import Subject
from dlaudit.audit.engine import Events
from dlaudit.audit.engine import audit as run_audit
from dlaudit.audit.executor import InlineExecutor, Limits
from dlaudit.audit.launch import launch
from dlaudit.audit.parts import Dataset, Model
from dlaudit.audit.perform import Opened, Workplace, described
from dlaudit.audit.plan import Loader, Source
from dlaudit.audit.plan_reading import infer, read_with
from dlaudit.audit.record import AuditRecord
from dlaudit.audit.registry import Registry
from dlaudit.audit.render import rendered, write_reports
from dlaudit.audit.subject import combined, fitted, load, open_others
from dlaudit.audit.training import train_function
from dlaudit.errors import LoadError, PlanError

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

LIVE = "live"
"""The loader's name in a plan whose model or data was handed over as an object."""


def audit(
    model: str | Path | Model | nn.Module,
    data: str | Path | Dataset | tuple[Any, Any] | Mapping[str, np.ndarray],
    suites: Iterable[str] = (),
    *,
    train: Any = None,
    train_fn: str | Callable[..., Any] | None = None,
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

    model, data, train: paths, or live objects: a module or Model; a Dataset, ``(x, y)``, a pandas frame
    with its target, ``(frame, "income")`` or ``(frame, {"target": …, "groups": […]})``, or a mapping
    with ``x``, ``y`` and optionally ``id``, ``group_<name>``, ``mask``. train_fn: (dataset, seed) -> model,
    or where it stands (``"file.py:function"``). checks, rules and further keywords: the tables of
    ``audit.toml``. out: keeps the run's files there; otherwise only the record is kept. executor: for
    paths, ``process`` if not given. Without suites and checks, every suite is run.
    Raises PlanError with every mistake that is known before anything is measured.
    """
    named = list(suites)
    if not named and not checks:
        named = [part.name for part in Registry().parts("suites")]
    table: dict[str, Any] = {
        "name": name, "seed": seed, "suites": named,
        "checks": {run: dict(params) for run, params in (checks or {}).items()},
        "rules": [dict(rule) for rule in rules], **plan,
    }  # fmt: skip
    if isinstance(train_fn, str):
        table["train"] = {"factory": train_fn}
    options: dict[str, Any] = {
        "root": str(Path.cwd()), "label": "this audit", "formats": tuple(formats),
        "plugins": tuple(str(Path(plugin).resolve()) for plugin in plugins),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(out) if out is not None else Path(scratch) / "run"
        if all(
            one is None or isinstance(one, str | Path) for one in (model, data, train, train_fn)
        ):
            paths = {
                "model": described_path(str(model), weights, bounds),
                "data": {"args": {"path": str(data)}},
            }
            if train is not None:
                paths["data"]["train"] = {"args": {"path": str(train)}}
            source = Source(table={**table, **paths}, **options)
            return launch(source, out=folder, executor=executor or "process")[0]
        if executor not in {None, "inline"}:
            problem = (
                f"executor: live objects cannot travel to {executor!r}: expected paths or inline"
            )
            raise PlanError(problem)
        live = {"use": LIVE}
        source = Source(table={**table, "model": live, "data": live}, **options)
        with opened_model(model, weights, bounds) as adopted:
            return _live(
                source, adopted, data, folder, train=train,
                train_fn=None if isinstance(train_fn, str) else train_fn,
            )  # fmt: skip


def _live(
    source: Source,
    model: Model,
    data: Any,
    folder: Path,
    *,
    train: Any,
    train_fn: Callable[..., Any] | None,
) -> AuditRecord:
    """Audit live objects in this process."""
    registry = source.registry()
    splits = {"test": Loader(use=LIVE)} | ({} if train is None else {"train": Loader(use=LIVE)})
    plan = read_with(source, registry, model=Loader(use=LIVE), data=splits)
    others, named_fn = open_others(plan, Path(source.root), registry)
    subject = fitted(
        Subject(
            model=model, data=live_data(data, train), models=others,
            train_fn=train_function(train_fn) if train_fn else named_fn,
        ),
        max_samples=plan.max_samples, seed=plan.seed,
    )  # fmt: skip
    root = Path(source.root)
    opened = described(plan, subject, registry, root)
    executor = LiveExecutor(opened, Workplace(subject, registry, root))
    record, run_folder = run_audit(source, executor, folder, events=Events())

    def report(record: AuditRecord, name: str, path: Path) -> str:
        return rendered(record, name, path, registry)

    write_reports(run_folder, record, source.formats, report)
    return record


def described_path(
    model: str, weights: str | Path | None, bounds: tuple[Any, Any] | None
) -> dict[str, Any]:
    """A model's path as the table of a plan."""
    from dlaudit.starting import model_table

    table = model_table(model, None if weights is None else Path(weights))
    if bounds is not None:
        table["args"]["bounds"] = list(bounds)
    return table


@contextlib.contextmanager
def opened_model(
    model: Any, weights: str | Path | None, bounds: tuple[Any, Any] | None
) -> Iterator[Model]:
    """A path, a torch module or a Model as a Model; a module is given back as it was.

    Raises LoadError with what would be accepted.
    """
    if isinstance(model, Model):
        yield model
        return
    if isinstance(model, str | Path):
        table = described_path(str(model), weights, bounds)
        yield opened_path("models", table, Model)
        return
    from torch import nn

    from dlaudit.models.torch_model import TorchModel

    if not isinstance(model, nn.Module):
        message = (
            f"model: expected a path, a torch module or a dlaudit Model, got {type(model).__name__}"
        )
        raise LoadError(message)
    adopted = TorchModel(model, bounds=bounds)
    try:
        yield adopted
    finally:
        adopted.close()


def opened_path(group: str, table: dict[str, Any], kind: type) -> Any:
    """What lies under a path, by the loader that its name and first bytes tell. Raises LoadError."""
    args = table["args"]
    use = table.get("use") or infer(group, Path(args.get("path") or args["file"]))
    return load(group, Loader(use=use, args=args), Path.cwd(), Registry(), kind)


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


def live_data(data: Any, train: Any = None) -> Dataset:
    """Live arrays as a Dataset, with ``train`` as its second split. Raises LoadError."""
    parts = {"test": one_split(data, "data")}
    if train is not None:
        parts["train"] = one_split(train, "train")
    return combined(parts)


def one_split(data: Any, place: str) -> Dataset:
    """One split out of a Dataset, a path, a pair or a mapping."""
    from dlaudit.datasets.arrays import ArrayDataset

    if isinstance(data, Dataset):
        return data
    if isinstance(data, str | Path):
        split: Dataset = opened_path("datasets", {"args": {"path": str(data)}}, Dataset)
        return split
    if isinstance(data, tuple) and len(data) == 2 and hasattr(data[0], "iloc"):
        from dlaudit.datasets.tables import from_frame

        said = data[1] if isinstance(data[1], Mapping) else {"target": data[1]}
        return from_frame(data[0], said, name=place)
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
        f"{place}: expected a path, a dlaudit Dataset, a pair (x, y), (frame, target) or a mapping "
        "with 'x' and 'y', "
        f"got {type(data).__name__}"
    )
    raise LoadError(message)

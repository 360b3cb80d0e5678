"""Public doubles for tests of parts, and ``conforms``: the conformance kit for plug-ins.

Knows what a part must keep to; no suite. A plug-in's own test is one line::

    from dlaudit.testing import conforms

    def test_my_noise_keeps_to_the_contract():
        conforms("attack", "noise.uniform_noise", plugins=["noise.py"])
"""

from __future__ import annotations

import inspect
import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from dlaudit.audit.bench import Subject
from dlaudit.audit.catalogues import doubled
from dlaudit.audit.catalogues import opened as opened_book
from dlaudit.audit.findings import applies
from dlaudit.audit.parameters import build, parameters_of
from dlaudit.audit.parts import Check, Dataset, Explainer, Model, Request, Suite
from dlaudit.audit.perform import Job, Workplace
from dlaudit.audit.plan import RunSpec
from dlaudit.audit.record import (
    AuditRecord,
    Card,
    CheckRun,
    Cost,
    Errored,
    Measured,
    Measurement,
    Outcome,
    Rule,
    Skipped,
    Undefined,
    Verdict,
)
from dlaudit.audit.registry import CHECK_GROUPS, Part, Registry
from dlaudit.errors import AuditError, NotExplained

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from dlaudit.datasets.arrays import ArrayDataset, Splits
    from dlaudit.models.torch_model import TorchModel


class NotConforming(AuditError, AssertionError):
    """A part breaks its contract; ``str()`` lists every way in which it does."""


def toy_arrays(n: int = 240, *, classes: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    """Images (n, 1, 8, 8) in [0, 1]: noise with one bright patch, whose place is the class.

    Also ``y``, a group ``site`` (a or b) and the patch as ``mask``.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    mask = np.zeros((n, 8, 8), dtype=bool)
    for row, label in enumerate(y):
        top, left = 4 * (label % 4 // 2), 4 * (label % 2)
        mask[row, top : top + 4, left : left + 4] = True
    x = rng.uniform(0, 0.6, (n, 1, 8, 8)) + 0.4 * mask[:, None] * rng.uniform(0.2, 1, (n, 1, 1, 1))
    site = np.where(rng.random(n) < 0.5, "a", "b")
    return {"x": x.astype("float32"), "y": y, "group_site": site, "mask": mask}


def toy_data(n: int = 240, *, classes: int = 4, seed: int = 0) -> Splits:
    """``toy_arrays`` as a data set with the splits ``test`` and ``train``."""
    from dlaudit.datasets.arrays import ArrayDataset, Splits

    def split(offset: int) -> ArrayDataset:
        arrays = toy_arrays(n, classes=classes, seed=seed + offset)
        return ArrayDataset(
            arrays["x"], arrays["y"], name="toy", groups={"site": arrays["group_site"]},
            mask=arrays["mask"], classes=tuple("abcdefgh"[:classes]), kind="images",
        )  # fmt: skip

    return Splits({"test": split(0), "train": split(1000)})


def toy_model(*, classes: int = 4, poison: Callable[[Any], Any] | None = None) -> TorchModel:
    """A linear nearest-mean classifier of the toy images: right on most, and it needs no training.

    poison: applied to the logits, to plant a fault (NaN, an exception, a hang).
    """
    import torch
    from torch import nn

    from dlaudit.models.torch_model import TorchModel

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(64, classes)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.head(x.flatten(1))
            return poison(logits) if poison else logits

    net = Net()
    arrays = toy_arrays(classes=classes)
    means = torch.stack([
        torch.as_tensor(arrays["x"][arrays["y"] == label]).flatten(1).mean(0) for label in range(classes)
    ])  # fmt: skip
    with torch.no_grad():
        net.head.weight.copy_(8 * means)
        net.head.bias.copy_(-4 * means.square().sum(1))
    return TorchModel(net, name="toy", bounds=(0.0, 1.0), classes=tuple("abcdefgh"[:classes]))


def toy_train_fn(dataset: Dataset, seed: int) -> nn.Module:
    """A linear nearest-mean classifier of whatever it is given; it trains in no time."""
    import torch
    from torch import nn

    del seed
    batches = list(dataset.batches("train"))
    x = torch.cat([torch.as_tensor(batch.x) for batch in batches]).float().flatten(1)
    y = torch.cat([torch.as_tensor(batch.y) for batch in batches])
    means = torch.stack([
        x[y == label].mean(0) if (y == label).any() else torch.zeros(x.shape[1])
        for label in range(len(dataset.classes))
    ])  # fmt: skip
    head = nn.Linear(x.shape[1], len(means))
    with torch.no_grad():
        head.weight.copy_(8 * means)
        head.bias.copy_(-4 * means.square().sum(1))
    return nn.Sequential(nn.Flatten(), head)


def toy_subject() -> Subject:
    """The toy model and data, opened, with a function for training."""
    return Subject(model=toy_model(), data=toy_data(), train_fn=toy_train_fn)


def performed(
    check: str, subject: Subject, registry: Registry, *, params: dict[str, Any] | None = None,
    seed: int = 0,
) -> CheckRun:  # fmt: skip
    """One run of a check as the engine would do it, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        spec = RunSpec(id=check, check=check, params=params or {})
        job = Job(run=spec, plan_seed=seed, block=256, keep_samples=0, folder=folder)
        return Workplace(subject, registry).perform(job).run


def conforms(
    kind: str,
    name: str,
    *,
    plugins: Iterable[str | Path] = (),
    args: dict[str, Any] | None = None,
) -> None:
    """Raise NotConforming, with every reason, unless the part keeps to the contract of its kind.

    kind: ``check``, ``attack``, ``explainer``, ``model``, ``dataset``, ``suite``, ``renderer`` or
    ``catalogue``. plugins: files to load it from. args: parameters of the check, or arguments of the loader.
    """
    group = kind if kind.endswith("s") else f"{kind}s"
    registry = Registry(tuple(Path(plugin).resolve() for plugin in plugins))
    part = registry.find(group, name)
    problems: list[str] = []
    if not part.line:
        problems.append("it has no docstring: its first line is what `dlaudit list` shows")
    match group:
        case "checks" | "attacks":
            problems += check_problems(part, registry, args or {})
        case "models":
            problems += model_problems(part, args or {})
        case "datasets":
            problems += dataset_problems(part, args or {})
        case "explainers":
            problems += explainer_problems(part, args or {})
        case "suites":
            problems += suite_problems(part.get(), registry)
        case "renderers":
            problems += renderer_problems(part.get())
        case "catalogues":
            problems += catalogue_problems(name, registry)
        case _:
            problems.append(f"there is no conformance kit for {group}")
    if problems:
        raise NotConforming(f"{name}: " + "\n".join(problems))


def check_problems(part: Part, registry: Registry, params: dict[str, Any]) -> list[str]:
    """A check measures what it names, the same every time, and hides no fault."""
    check, problems = build(part, params)
    if check is None:
        return problems
    plain = parameters_of(check)
    if not check.measures:
        problems.append("`measures` is empty: a rule's typing error would not be found")
    try:
        msgspec.json.decode(msgspec.json.encode(plain))
    except (TypeError, msgspec.DecodeError) as error:
        problems.append(f"its parameters are no plain JSON: {error}")

    def run(subject: Subject) -> CheckRun:
        return performed(part.name, subject, registry, params=plain)

    first, second = run(toy_subject()), run(toy_subject())
    if isinstance(first.outcome, Errored):
        problems.append(f"on the toy model: {first.outcome.error}: {first.outcome.message}")
        return problems
    if isinstance(first.outcome, Skipped):
        problems.append(f"the toy model and data lack what it needs: {first.outcome.reason}")
        return problems
    if (first.outcome, first.cost) != (second.outcome, second.cost):
        problems.append("two runs with one seed differ: draw from the block's generator")
    problems += fault_problems(check, run)
    if part.group == "attacks":
        problems += attack_problems(part, registry, plain)
    return problems


def fault_problems(check: Check, run: Callable[[Subject], CheckRun]) -> list[str]:
    """A model that crashes, or answers NaN, ends in an errored run, never in a measurement."""
    if not check.needs.model:
        return []
    problems = []

    def crash(logits: Any) -> Any:
        message = f"planted in a batch of {len(logits)}"
        raise RuntimeError(message)

    planted: dict[str, Callable[[Any], Any]] = {"a crash": crash}
    if not check.accepts_nonfinite:
        planted["NaN logits"] = lambda logits: logits * float("nan")
    for fault, poison in planted.items():
        subject = toy_subject()._replace(model=toy_model(poison=poison))
        outcome = run(subject).outcome
        if not isinstance(outcome, Errored):
            problems.append(
                f"{fault} of the model did not end as errored: exceptions must pass through"
            )
    return problems


def attack_problems(part: Part, registry: Registry, params: dict[str, Any]) -> list[str]:
    """No budget moves nothing, and an attack never makes a model look better than clean."""
    problems = []
    outcome = performed(
        part.name, toy_subject(), registry, params={**params, "epsilon": [0, 0.1]}
    ).outcome
    if not isinstance(outcome, Measured):
        return [f"with epsilon [0, 0.1]: {outcome}"]
    values = {(one.name, one.conditions.get("epsilon")): one.value for one in outcome.measurements}
    clean = next((v for (name, _), v in values.items() if name == "clean_accuracy"), None)
    if clean is None:
        return ["it measures no clean_accuracy"]
    if values.get(("robust_accuracy", 0.0)) != clean:
        problems.append("at epsilon 0 the robust accuracy is not the clean accuracy")
    if values.get(("inputs_moved", 0.0)):
        problems.append("at epsilon 0 it moved inputs")
    if values.get(("robust_accuracy", 0.1), 1.0) > clean:
        problems.append("the robust accuracy exceeds the clean accuracy")
    return problems


def loaded(part: Part, args: dict[str, Any]) -> Any:
    """What a loader makes, called as the engine does; ``root`` is the current folder if not given."""
    loader = part.get()
    if "root" in inspect.signature(loader).parameters:
        args = {"root": Path.cwd(), **args}
    return loader(**args)


def model_problems(part: Part, args: dict[str, Any]) -> list[str]:
    """A model answers alike however its inputs are batched, counts its passes and knows who it is."""
    import numpy as np

    model, again = loaded(part, args), loaded(part, args)
    if not isinstance(model, Model):
        return [f"it returned a {type(model).__name__}, expected a Model"]
    problems = []
    if model.card.fingerprint != again.card.fingerprint:
        problems.append("the same files give two fingerprints")
    if "logits" not in model.offers:
        return problems
    x = toy_arrays(12)["x"]
    before = model.passes.cost
    try:
        whole = np.asarray(model.logits(x))
    except Exception as error:  # noqa: BLE001  (told to the author)
        return [*problems, f"it cannot answer toy images (12, 1, 8, 8): {error}"]
    if model.passes.since(before).forward != len(x):
        problems.append("its passes are not counted: use TorchModel, or add to passes.forward")
    single = np.concatenate([np.asarray(model.logits(x[i : i + 1])) for i in range(len(x))])
    if whole.ndim != 2 or len(whole) != len(x):
        problems.append(f"logits have shape {whole.shape}, expected ({len(x)}, classes)")
    elif not np.allclose(whole, single, rtol=1e-4, atol=1e-5):
        problems.append("its answers depend on the size of the batch")
    if model.classes and whole.ndim == 2 and len(model.classes) != whole.shape[1]:
        problems.append(f"{len(model.classes)} class names for {whole.shape[1]} logits")
    return problems


def dataset_problems(part: Part, args: dict[str, Any]) -> list[str]:
    """A data set hands out the same rows every time, with unique ids and labels it has names for."""
    import numpy as np

    data, again = loaded(part, args), loaded(part, args)
    if not isinstance(data, Dataset):
        return [f"it returned a {type(data).__name__}, expected a Dataset"]
    problems = []
    if data.card.fingerprint != again.card.fingerprint:
        problems.append("the same files give two fingerprints")
    batches, twice = list(data.batches("test")), list(data.batches("test"))
    ids = np.concatenate([np.asarray(batch.id).astype(str) for batch in batches])
    y = np.concatenate([np.asarray(batch.y) for batch in batches])
    if len(np.unique(ids)) != len(ids):
        problems.append("ids repeat")
    if y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= len(data.classes):
        problems.append(f"labels are not indices into its {len(data.classes)} classes")
    if any(len(b.x) != len(b.y) or len(b.id) != len(b.y) for b in batches):
        problems.append("x, y and id of a batch differ in length")
    if not all(np.array_equal(a.x, b.x) for a, b in zip(batches, twice, strict=True)):
        problems.append("reading it twice gives different rows")
    if data.size("test") != len(y):
        problems.append(f"size() says {data.size('test')}, there are {len(y)} rows")
    return problems


def explainer_problems(part: Part, params: dict[str, Any]) -> list[str]:
    """Maps have their inputs' shape, come again under one generator, and add up if they promise it."""
    import torch

    explainer, model = part.get()(**params), toy_model()
    if not isinstance(explainer, Explainer):
        return [f"it is a {type(explainer).__name__}, expected an Explainer"]
    x = torch.as_tensor(toy_arrays(12)["x"])
    target = model.logits(x).argmax(dim=1)

    def request() -> Request:
        return Request(
            answer=model.module, module=model.module, x=x.clone().requires_grad_(), target=target,
            baseline=torch.zeros_like(x), references=x.clone(), pixels=True, batch=64,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip

    before = [parameter.clone() for parameter in model.module.parameters()]
    try:
        maps, again = (explainer.attribute(request()).detach() for _ in range(2))
    except NotExplained as error:
        return [f"it does not apply to the toy model: {error}"]
    problems = []
    if maps.shape != x.shape:
        return [f"its maps have shape {tuple(maps.shape)}, expected {tuple(x.shape)}"]
    if not torch.isfinite(maps).all():
        problems.append("its maps hold NaN or infinity")
    if not torch.equal(maps, again):
        problems.append("two maps with one seed differ: draw from request.generator")
    after = model.module.parameters()
    if model.module.training or not all(map(torch.equal, before, after)):
        problems.append("it changed the model")
    if explainer.complete:
        with torch.no_grad():
            end = model.logits(x).gather(1, target[:, None])[:, 0]
            gained = end - explainer.origin(request())
        missing = (maps.flatten(1).sum(dim=1) - gained).abs().max()
        if float(missing) > 0.05 * float(gained.abs().max()):
            problems.append(f"it says complete, and its maps miss up to {float(missing):.3g}")
    return problems


def suite_problems(suite: Suite, registry: Registry) -> list[str]:
    """A suite's runs name checks that build, and its rules name what these measure."""
    problems = []
    measures: dict[str, tuple[str, ...]] = {}
    known = {part.name for group in CHECK_GROUPS for part in registry.parts(group)}
    for run, written in suite.runs.items():
        params = dict(written)
        try:
            part = registry.check(params.pop("use", run))
            check, wrong = build(part, params)
        except AuditError as error:
            problems.append(f"{run}: {error}")
            continue
        problems += [f"{run}{problem}" for problem in wrong]
        measures[run] = check.measures if check else ()
    for rule in suite.rules:
        if rule.run not in measures and rule.run in known:
            # A rule of a check that a plan may add: it waits until the plan does.
            measures[rule.run] = registry.check(rule.run).get().measures
        if rule.run not in measures:
            problems.append(f"a rule speaks of the run {rule.run!r}, which it has not")
        elif rule.measurement not in measures[rule.run]:
            problems.append(
                f"a rule speaks of {rule.measurement!r}, which {rule.run} does not measure"
            )
        if not rule.rationale:
            problems.append(f"the rule on {rule.run}.{rule.measurement} has no rationale")
    return problems


def renderer_problems(render: Callable[..., str]) -> list[str]:
    """A renderer is deterministic and keeps silent about no failed, crashed or skipped run."""
    record = sample_record()
    text = render(record)
    problems = []
    if not isinstance(text, str):
        return [f"it returned a {type(text).__name__}, expected a str"]
    if render(record) != text:
        problems.append("it renders one record in two ways")
    problems += [
        f"the report does not name {run}"
        for run in ("toy.failing", "toy.crashed", "toy.skipped")
        if run not in text
    ]
    return problems


def catalogue_problems(name: str, registry: Registry) -> list[str]:
    """A catalogue reads alike each time, and its items have ids of their own, citations and dates."""
    try:
        first, second = opened_book(name, registry), opened_book(name, registry)
    except AuditError as error:
        return [str(error)]
    problems = []
    if first.sha256 != second.sha256:
        problems.append("two readings of it differ")
    if not len(first):
        problems.append("it has no items")
    ids = {item.id for item in first}
    problems += [f"the id {one!r} is used twice" for one in doubled([first])]
    for item in first:
        if not re.fullmatch(r"[\w.-]+:[\w.-]+", item.id):
            problems.append(f"the id {item.id!r} is not of the form `framework:item`")
        if not (item.cite and (item.paraphrase or item.title)):
            problems.append(f"{item.id} lacks its citation or what it says")
        if item.replaced_by and item.replaced_by not in ids:
            problems.append(f"{item.id} was replaced by {item.replaced_by!r}, which is not there")
        try:
            applies(item.applies_from, first.dated, annex_iii=None)
        except ValueError as error:
            problems.append(f"{item.id}: its date cannot be read: {error}")
    return problems


def sample_record() -> AuditRecord:
    """A small record with a failing, a crashed, a skipped and a passing run."""
    half = Measurement(name="share", value=0.5, n=2, exact="two of four, counted")
    outcomes: dict[str, Outcome] = {
        "toy.passing": Measured(measurements=(half,)),
        "toy.failing": Measured(
            measurements=(half,), undefined=(Undefined(name="rest", reason="0/0"),)
        ),
        "toy.crashed": Errored(error="RuntimeError", message="planted"),
        "toy.skipped": Skipped(reason="not offered: data: train", missing=("data: train",)),
    }
    runs = tuple(
        CheckRun(
            id=name, check="toy", params={}, seed=0, seconds=0.0, device="cpu",
            cost=Cost(forward=0, backward=0), outcome=outcome,
        )
        for name, outcome in outcomes.items()
    )  # fmt: skip
    rules = (
        Rule(id="passing", run="toy.passing", measurement="share", at_least=0.4),
        Rule(id="failing", run="toy.failing", measurement="share", at_least=0.6),
    )
    verdicts = (
        Verdict(rule="passing", status="pass", reason="0.5 is >= 0.4", observed=(half,)),
        Verdict(rule="failing", status="fail", reason="0.5 is not >= 0.6", observed=(half,)),
    )
    card = Card(name="toy", fingerprint="0" * 64)
    return AuditRecord(
        tool={"name": "dlaudit", "version": "0"}, started="2026-01-01T00:00:00Z",
        finished="2026-01-01T00:00:01Z", plan={"name": "toy"}, plan_sha256="0" * 64, environment={},
        model=card, data=card, runs=runs, rules=rules, verdicts=verdicts,
    )  # fmt: skip

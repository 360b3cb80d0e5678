"""Runs one job to its end, whatever happens in it, and says what happened.

Knows how to build a check and drain it; never what it measures. The only place where every
exception is caught: here it is recorded, never swallowed.
"""

from __future__ import annotations

import contextlib
import random
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from dlaudit.audit.bench import Bench, Subject, derive_seed
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.parts import Check, Yielded
from dlaudit.audit.plan import Plan, RunSpec, Source, build, read
from dlaudit.audit.record import (
    AnswersRun,
    Artifact,
    Card,
    CheckRun,
    Cost,
    Errored,
    Measured,
    Measurement,
    Outcome,
    Skipped,
    SuiteCard,
    Undefined,
)
from dlaudit.audit.registry import ImportFailed, Registry
from dlaudit.audit.subject import first_rows, open_subject
from dlaudit.errors import AuditError

WORK = ".work"
"""The folder inside a run's folder that the workers share while the audit goes on."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one check as plain data: it can travel to any worker."""

    run: RunSpec
    plan_seed: int
    block: int
    keep_samples: int
    folder: str

    @property
    def seed(self) -> int:
        """The run's own seed: independent of order and worker."""
        return derive_seed(self.plan_seed, self.run.id)


class Done(msgspec.Struct, frozen=True, kw_only=True, tag_field="say", tag="done"):
    """A finished job: its run, and the clean answers it made use of."""

    run: CheckRun
    answers: tuple[AnswersRun, ...] = ()


class Opened(msgspec.Struct, frozen=True, kw_only=True, tag_field="say", tag="opened"):
    """The plan is sound, and this is what it names.

    sizes: samples per split. offers: of ``model`` and ``data``. speed: seconds per forward and per
    backward sample-pass, and observed: the range of the inputs, if that was asked for.
    """

    plan: Plan
    model: Card
    data: Card
    models: dict[str, Card]
    sizes: dict[str, int]
    classes: tuple[str, ...]
    device: str
    offers: dict[str, tuple[str, ...]]
    suites: tuple[SuiteCard, ...] = ()
    speed: tuple[float, float] | None = None
    observed: tuple[float, float] | None = None


class NothingMeasured(AuditError):
    """A check came to its end without a measurement: it has shown nothing."""


class WrongYield(AuditError):
    """A check yielded what its ``measures`` does not name, or one measurement twice."""


class ModelChanged(AuditError):
    """A check altered the weights of the model under audit."""


class Workplace:
    """An opened subject at which one job after the other is performed."""

    def __init__(self, subject: Subject, registry: Registry) -> None:
        """subject: opened once; registry: where checks are found."""
        self.subject = subject
        self.registry = registry
        self._guard = Guard(subject)

    def perform(self, job: Job) -> Done:
        """Build the check, compare needs with offers, drain it. Raises nothing but Ctrl-C."""
        started = time.monotonic()
        subject, folder = self.subject, Path(job.folder)
        bench = Bench(
            subject, run=job.run.id, plan_seed=job.plan_seed, store=EvidenceStore(folder),
            cache=folder / WORK, block=job.block, keep_samples=job.keep_samples,
        )  # fmt: skip
        before = [model.passes.cost for model in models_of(subject)]
        outcome: Outcome
        try:
            with self._guard.session(job.seed):
                outcome = attempt(job, bench, subject, self.registry)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  (the one place that records everything)
            outcome = errored(error)
        spent = [
            model.passes.since(cost) for model, cost in zip(models_of(subject), before, strict=True)
        ]
        run = CheckRun(
            id=job.run.id, check=job.run.check, params=job.run.params, seed=job.seed,
            seconds=round(time.monotonic() - started, 3), device=subject.model.device,
            cost=Cost(forward=sum(c.forward for c in spent), backward=sum(c.backward for c in spent)),
            outcome=outcome,
        )  # fmt: skip
        return Done(run=run, answers=tuple(bench.answered.values()))


def open_workplace(source: Source) -> tuple[Opened, Workplace]:
    """Read the plan and open what it names, in this process. Raises PlanError with all mistakes."""
    registry = source.registry()
    plan = read(source, registry)
    subject = open_subject(plan, Path(source.root), registry)
    what = described(plan, subject, registry)
    if source.calibrate:
        what = msgspec.structs.replace(what, speed=speed(subject), observed=observed(subject))
    return what, Workplace(subject, registry)


def speed(subject: Subject) -> tuple[float, float] | None:
    """Seconds per forward and per backward sample-pass, from the fastest of three short tries."""
    if "logits" not in subject.model.offers:
        return None
    rows = first_rows(subject.data)

    def fastest(answer: Callable[[], object]) -> float:
        tries = []
        for _ in range(3):
            started = time.perf_counter()
            answer()
            tries.append(time.perf_counter() - started)
        return min(tries) / len(rows.y)

    forward = fastest(lambda: subject.model.logits(rows.x))
    if "gradients" not in subject.model.offers:
        return forward, 0.0
    both = fastest(lambda: subject.model.loss_gradient(rows.x, rows.y))
    return forward, max(0.0, both - forward)


def observed(subject: Subject) -> tuple[float, float] | None:
    """The smallest and largest input of the test split; None where inputs are no numbers."""
    import numpy as np

    ends = [
        (float(np.min(batch.x)), float(np.max(batch.x)))
        for batch in subject.data.batches("test")
        if np.asarray(batch.x).dtype.kind == "f"
    ]
    return (min(low for low, _ in ends), max(high for _, high in ends)) if ends else None


def described(plan: Plan, subject: Subject, registry: Registry) -> Opened:
    """The plan and the cards of what was opened."""
    suites = []
    for name in plan.suites:
        # A suite that cannot be imported is an errored run; it has nothing to say of itself.
        with contextlib.suppress(ImportFailed):
            suite = registry.find("suites", name).get()
            suites.append(SuiteCard(name=suite.name, title=suite.title, sentence=suite.sentence))
    return Opened(
        plan=plan,
        model=subject.model.card,
        data=subject.data.card,
        models={name: model.card for name, model in subject.models.items()},
        sizes={split: subject.data.size(split) for split in plan.data},
        classes=subject.model.classes,
        device=subject.model.device,
        offers={
            "model": tuple(sorted(subject.model.offers)),
            "data": tuple(sorted(subject.data.offers)),
        },
        suites=tuple(suites),
    )


def attempt(job: Job, bench: Bench, subject: Subject, registry: Registry) -> Outcome:
    """The outcome of a job that raises nothing."""
    check, problems = build(registry.check(job.run.check), job.run.params)
    if check is None:
        raise ImportFailed("; ".join(problems))
    missing = check.needs.missing(
        model=subject.model.offers, data=subject.data.offers, train_fn=subject.train_fn is not None
    )
    if missing:
        return Skipped(reason=f"not offered: {', '.join(missing)}", missing=missing)
    accepting = getattr(subject.model, "accepting_nonfinite", None)
    with accepting(accept=check.accepts_nonfinite) if accepting else contextlib.nullcontext():
        return drained(check, check.measure(bench))


def drained(check: Check, yielded: Iterable[Yielded]) -> Measured:
    """Collect what a check yields. Raises WrongYield and NothingMeasured."""
    measurements: list[Measurement] = []
    undefined: list[Undefined] = []
    artifacts: list[Artifact] = []
    seen: set[bytes] = set()
    for one in yielded:
        match one:
            case Artifact():
                artifacts.append(one)
                continue
            case Measurement():
                measurements.append(one)
            case Undefined():
                undefined.append(one)
            case _:
                message = f"expected Measurement, Undefined or Artifact, got {type(one).__name__}"
                raise WrongYield(message)
        if check.measures and one.name not in check.measures:
            message = f"{one.name!r} is not among its measures ({', '.join(check.measures)})"
            raise WrongYield(message)
        key = msgspec.json.encode((one.name, one.slice, one.conditions), order="sorted")
        if key in seen:
            message = f"{one.name!r} was yielded twice with slice {one.slice} and equal conditions"
            raise WrongYield(message)
        seen.add(key)
    if not measurements and not undefined:
        message = "the check came to its end without a single measurement"
        raise NothingMeasured(message)
    return Measured(
        measurements=tuple(measurements), undefined=tuple(undefined), artifacts=tuple(artifacts)
    )


def errored(error: BaseException) -> Errored:
    """What a record says of an exception."""
    name = type(error).__name__
    message = str(error) or name
    if isinstance(error, ImportFailed | ImportError):
        name = "ImportFailed"
    elif (
        isinstance(error, MemoryError)
        or "OutOfMemory" in name
        or "can't allocate memory" in message
    ):
        name = "OutOfMemory"
    trace = "".join(traceback.format_exception(error))
    return Errored(error=name, message=message, traceback=without_paths(trace))


def without_paths(trace: str) -> str:
    """A traceback that does not tell where on this machine the code lies."""
    for folder in sorted({path for path in sys.path if len(path) > 1}, key=len, reverse=True):
        trace = trace.replace(f"{folder}/", "")
    return trace.replace(f"{Path.cwd()}/", "")


def models_of(subject: Subject) -> list[Any]:
    """Every model of the audit, the audited one first."""
    return [subject.model, *subject.models.values()]


class Guard:
    """Gives every job the same starting point and takes back what it may have touched.

    Keeps a copy of the models' weights and buffers, made once per worker: only a copy made
    beforehand can put them back.
    """

    def __init__(self, subject: Subject) -> None:
        """subject: in the state that every job shall find it in."""
        self._nets = [net for model in models_of(subject) if (net := model.module) is not None]
        self._modes = [(part, part.training) for net in self._nets for part in net.modules()]
        self._buffers = [(one, one.clone()) for net in self._nets for one in net.buffers()]
        self._weights = [
            (name, one, one.detach().clone(), one.requires_grad)
            for net in self._nets
            for name, one in net.named_parameters()
        ]

    @contextlib.contextmanager
    def session(self, seed: int) -> Iterator[None]:
        """Seed the global generators, for libraries that use them; restore everything afterwards.

        Raises ModelChanged if the weights had moved; they are put back first.
        """
        import numpy as np

        torch = sys.modules.get("torch")
        kept = random.getstate(), np.random.get_state(), torch and torch.get_rng_state()  # noqa: NPY002
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        if torch:
            torch.manual_seed(seed)
        versions = [weight._version for _, weight, _, _ in self._weights]  # noqa: SLF001
        try:
            yield
        finally:
            moved = self._restore(versions)
            random.setstate(kept[0])
            np.random.set_state(kept[1])  # noqa: NPY002
            if torch and kept[2] is not None:
                torch.set_rng_state(kept[2])
        if moved:
            message = f"the check altered {', '.join(moved[:3])} of the model; it was put back"
            raise ModelChanged(message)

    def _restore(self, versions: list[int]) -> list[str]:
        """Put modes, buffers and weights back; return the names of the weights that had moved."""
        if not self._nets:
            return []
        import torch

        moved = []
        with torch.no_grad():
            for part, training in self._modes:
                part.training = training
            for buffer, value in self._buffers:
                buffer.copy_(value)
            for (name, weight, value, flag), version in zip(self._weights, versions, strict=True):
                weight.requires_grad_(flag)
                weight.grad = None
                # A weight's version counts its in-place changes: most jobs cost no comparison.
                if weight._version != version and not torch.equal(weight, value):  # noqa: SLF001
                    weight.copy_(value)
                    moved.append(name)
        return moved

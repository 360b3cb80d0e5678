"""Runs one job to its end, whatever happens in it, and says what happened.

Knows how to build a check and drain it; never what it measures. The only place where every
exception is caught: here it is recorded, never swallowed.
"""

from __future__ import annotations

import contextlib
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from dlaudit.audit.bench import Bench, Subject, derive_seed
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.files import named_file
from dlaudit.audit.guard import Guard
from dlaudit.audit.parameters import build
from dlaudit.audit.parts import Check, Yielded
from dlaudit.audit.plan import Plan, RunSpec, Source
from dlaudit.audit.plan_reading import read
from dlaudit.audit.preflight import ANSWER, PERMUTED
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
    Rule,
    Skipped,
    SuiteCard,
    Undefined,
    canonical,
)
from dlaudit.audit.registry import ImportFailed, Registry
from dlaudit.audit.subject import collected, first_rows, open_subject
from dlaudit.audit.training import train_function
from dlaudit.errors import AuditError, PlanError

WORK = ".work"
"""The folder inside a run's folder that the workers share while the audit goes on."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one check as plain data: it can travel to any worker.

    ending: the run's rules, where it may stop as soon as they are decided.
    """

    run: RunSpec
    plan_seed: int
    block: int
    keep_samples: int
    folder: str
    context: dict[str, Any] = {}
    ending: tuple[Rule, ...] = ()

    @property
    def seed(self) -> int:
        """The run's own seed: independent of order and worker."""
        return derive_seed(self.plan_seed, self.run.id)


class Done(msgspec.Struct, frozen=True, kw_only=True, tag_field="say", tag="done"):
    """A finished job: its run, and the clean answers it made use of.

    undone: it never came to its own end, so that a resumed run does it again.
    """

    run: CheckRun
    answers: tuple[AnswersRun, ...] = ()
    undone: bool = False


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
    train: Card | None = None
    speed: tuple[float, float] | None = None
    observed: tuple[float, float] | None = None

    @property
    def questions(self) -> tuple[str, ...]:
        """What the preflight asks about the models, a sentence each."""
        cards = {"model": self.model, **{f"models.{k}": one for k, one in self.models.items()}}
        return tuple(
            f"{place}: {topic}: {said}"
            for place, card in cards.items()
            for topic, said in card.facts.get("preflight", {}).items()
        )

    @property
    def fingerprints(self) -> dict[str, str]:
        """What exactly is audited, and by which plan."""
        models = {f"models.{name}": card.fingerprint for name, card in self.models.items()}
        models |= {"train": self.train.fingerprint} if self.train else {}
        return {
            "plan": self.plan.sha256, "model": self.model.fingerprint,
            "data": self.data.fingerprint, **models,
        }  # fmt: skip


class NothingMeasured(AuditError):
    """A check came to its end without a measurement: it has shown nothing."""


class WrongYield(AuditError):
    """A check yielded what its ``measures`` does not name, or one measurement twice."""


class Workplace:
    """An opened subject at which one job after the other is performed."""

    def __init__(self, subject: Subject, registry: Registry, root: Path | None = None) -> None:
        """subject: opened once; registry: where checks are found; root: of the plan's paths."""
        self.subject = subject
        self.root = root
        self.registry = registry
        self._guard = Guard(subject)

    def perform(self, job: Job) -> Done:
        """Build the check, compare needs with offers, drain it. Raises nothing but Ctrl-C."""
        started = time.monotonic()
        subject, folder = self.subject, Path(job.folder)
        bench = Bench(
            subject, run=job.run.id, plan_seed=job.plan_seed, store=EvidenceStore(folder),
            cache=folder / WORK, block=job.block, keep_samples=job.keep_samples,
            context=job.context, ending=job.ending, registry=self.registry, root=self.root,
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
        spent += [passes.cost for passes in bench.counted]
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
    root = Path(source.root)
    subject = open_subject(plan, root, registry)
    what = described(plan, subject, registry, root)
    if source.calibrate:
        what = msgspec.structs.replace(what, speed=speed(subject), observed=observed(subject))
    return what, Workplace(subject, registry, root)


def speed(subject: Subject) -> tuple[float, float] | None:
    """Seconds per forward and per backward sample-pass, from the fastest of three short tries."""
    import numpy as np

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
    if np.asarray(rows.x).dtype.kind != "f":
        # Ids have no slope; at their embedding, a backward pass takes about two forward ones.
        return forward, 2 * forward
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


def described(plan: Plan, subject: Subject, registry: Registry, root: Path | None = None) -> Opened:
    """The plan and the cards of what was opened. Raises PlanError where a check objects to them.

    root: the folder that the plan's paths are relative to, by default the current one.
    """
    problems = objections(plan, subject, registry, root or Path())
    problems += unanswered(subject.model.card, plan.context)
    if problems:
        raise PlanError(*problems)
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
        train=train_function(subject.train_fn).card if subject.train_fn else None,
    )


def unanswered(model: Card, context: Mapping[str, Any]) -> list[str]:
    """The question of the preflight that an audit must not start without an answer to."""
    said = model.facts.get("preflight", {}).get(PERMUTED)
    if said is None or context.get(ANSWER):
        return []
    sentence = (
        f"model: {said} Put them in one order; or, if that is what shall be audited, say who looked at "
        f'them: [context] {ANSWER} = "name, day".'
    )
    return [sentence]


def objections(plan: Plan, subject: Subject, registry: Registry, root: Path) -> list[str]:
    """What the plan's checks object to in data, declarations and files, each with its place."""
    found = []
    for spec in plan.runs:
        check = None
        # What cannot be imported or built, a whole suite perhaps, is an errored run: it objects to nothing.
        if spec.broken:
            continue
        with contextlib.suppress(ImportFailed):
            check, _ = build(registry.check(spec.check), spec.params)
        if check is not None:
            said = check.objections(subject.data.card.facts, plan.context)
            found += [f'checks."{spec.id}".{problem}' for problem in said]
            with collected(found, f'checks."{spec.id}": '):
                check.open_files(partial(named_file, root))
    return found


def attempt(job: Job, bench: Bench, subject: Subject, registry: Registry) -> Outcome:
    """The outcome of a job that raises nothing."""
    check, problems = build(registry.check(job.run.check), job.run.params)
    if check is None:
        raise ImportFailed("; ".join(problems))
    missing = check.missing(
        model=subject.model.offers, data=subject.data.offers, train_fn=subject.train_fn is not None
    )
    if missing:
        return Skipped(reason=f"not offered: {', '.join(missing)}", missing=missing)
    if job.run.beyond is not None:
        return job.run.beyond
    bench.trainings = check.trainings
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
    return readable(
        Measured(
            measurements=tuple(measurements), undefined=tuple(undefined), artifacts=tuple(artifacts)
        )
    )


def readable(measured: Measured) -> Measured:
    """The outcome as the record will give it back. Raises WrongYield if that is not possible.

    One field of a wrong type would make the whole record unreadable.
    """
    try:
        msgspec.msgpack.encode(measured)  # the way back from a worker
        return msgspec.json.decode(canonical(measured), type=Measured)
    except (msgspec.MsgspecError, TypeError, UnicodeError, OverflowError) as error:
        message = f"what the check yielded cannot be stored in a record: {error}"
        raise WrongYield(message) from error


def errored(error: BaseException) -> Errored:
    """What a record says of an exception."""
    name = type(error).__name__
    try:
        message = str(error) or name
    except Exception:  # noqa: BLE001  (the exception cannot even be printed)
        message = name
    if isinstance(error, ImportFailed | ImportError):
        name = "ImportFailed"
    elif (
        isinstance(error, MemoryError)
        or "OutOfMemory" in name
        or "can't allocate memory" in message
    ):
        name = "OutOfMemory"
    trace = "".join(traceback.format_exception(error))
    return Errored(error=name, message=storable(message), traceback=storable(without_paths(trace)))


def storable(text: str) -> str:
    """Text that UTF-8 can hold: half characters, as in names of foreign files, become ``?``."""
    return text.encode(errors="replace").decode()


def without_paths(trace: str) -> str:
    """A traceback that does not tell where on this machine the code lies."""
    for folder in sorted({path for path in sys.path if len(path) > 1}, key=len, reverse=True):
        trace = trace.replace(f"{folder}/", "")
    return re.sub(r'File "/.*/([^/"]+)"', r'File "\1"', trace)


def models_of(subject: Subject) -> list[Any]:
    """Every model of the audit, the audited one first."""
    return [subject.model, *subject.models.values()]

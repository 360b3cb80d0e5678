"""The vocabulary of an audit: what was measured, judged and found.

Knows no torch, no file, no threshold. Everything here is a frozen value that survives a round
trip through JSON. Records are decoded tolerantly (unknown fields are ignored), because a record
must stay readable for as long as the system's documents are kept (AI Act, Article 18: ten years).
"""

from __future__ import annotations

import hashlib
import math
import operator
from collections.abc import Iterator
from datetime import date
from typing import Any, Literal

import msgspec

SCHEMA = "dlaudit-record/1"

Scalar = bool | int | float | str
Day = date
"""For structs whose field is called ``date``, which would hide the type."""
Status = Literal["pass", "fail", "inconclusive", "not_assessed"]
FindingStatus = Literal[
    "supported-in-scope",
    "contradicted",
    "inconclusive",
    "declared",
    "attested",
    "human-process-needed",
    "no-evidence",
    "not-applicable",
    "stale",
]


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """The base of every record type: frozen, keyword-only."""


class Card(Value, frozen=True, kw_only=True):
    """What exactly was audited.

    fingerprint: sha256 over (role, sha256 of file) pairs, never over paths, so that a moved file
    is the same file. splits: the card of each split of a data set.
    """

    name: str
    fingerprint: str
    facts: dict[str, Any] = {}
    splits: dict[str, Card] = {}


class Interval(Value, frozen=True, kw_only=True):
    """A confidence interval at ``level`` (corrected already, if one of several in a search)."""

    low: float
    high: float
    level: float = 0.95
    method: str

    def __post_init__(self) -> None:
        """Refuse ends that are not numbers or stand in the wrong order."""
        _set(self, low=float(self.low), high=float(self.high))
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            message = f"an interval needs finite ends, got [{self.low}, {self.high}]"
            raise ValueError(message)
        if self.low > self.high:
            message = f"an interval needs low <= high, got [{self.low}, {self.high}]"
            raise ValueError(message)
        if not 0 < self.level < 1:
            message = f"an interval's level lies between 0 and 1, got {self.level}"
            raise ValueError(message)


class Caveat(Value, frozen=True, kw_only=True):
    """A doubt about a measurement. ``voids``: its rules are undecided, however good it looks."""

    source: str
    name: str
    message: str
    voids: bool = False


class Measurement(Value, frozen=True, kw_only=True):
    """One finite number about the audited system, with its uncertainty.

    Exactly one of ``interval`` and ``exact`` is given: ``exact`` is the reason why no sampling
    error applies (a count, a census, a deterministic test). ``n``: how many samples stand behind
    the value. ``conditions``: the whole protocol or threat model.
    """

    name: str
    value: float
    n: int
    interval: Interval | None = None
    exact: str | None = None
    unit: str | None = None
    direction: Literal["higher", "lower"] | None = None
    slice: dict[str, str] = {}
    conditions: dict[str, Scalar] = {}
    caveats: tuple[Caveat, ...] = ()

    def __post_init__(self) -> None:
        """Refuse values that are not finite and uncertainty that is missing or double."""
        _set(self, value=float(self.value), n=operator.index(self.n), caveats=tuple(self.caveats))
        _place(self)
        if not math.isfinite(self.value):
            message = f"measurement {self.name!r} is {self.value}: say Undefined, with the reason"
            raise ValueError(message)
        if (self.interval is None) == (self.exact is None):
            message = f"measurement {self.name!r} needs exactly one of interval and exact"
            raise ValueError(message)
        if self.n < 0:
            message = f"measurement {self.name!r} counts samples: n >= 0, got {self.n}"
            raise ValueError(message)


class Undefined(Value, frozen=True, kw_only=True):
    """A number that does not exist (empty group, 0/0, too few), never shown as 0 or NaN."""

    name: str
    reason: str
    slice: dict[str, str] = {}
    conditions: dict[str, Scalar] = {}

    def __post_init__(self) -> None:
        """Refuse a slice and conditions that could not be read back."""
        _place(self)


class Artifact(Value, frozen=True, kw_only=True):
    """A file of evidence, named by its content. ``path`` is relative to the run's folder."""

    name: str
    media_type: str
    sha256: str
    path: str
    caption: str = ""
    alt: str = ""


class Cost(Value, frozen=True, kw_only=True):
    """Sample-passes through the model: the currency of the benchmarks, alike on every machine."""

    forward: int
    backward: int


class Measured(Value, frozen=True, kw_only=True, tag="measured", tag_field="kind"):
    """The check ran to its end."""

    measurements: tuple[Measurement, ...] = ()
    undefined: tuple[Undefined, ...] = ()
    artifacts: tuple[Artifact, ...] = ()


class Skipped(Value, frozen=True, kw_only=True, tag="skipped", tag_field="kind"):
    """The model or the data does not offer what the check needs."""

    reason: str
    missing: tuple[str, ...] = ()


class Errored(Value, frozen=True, kw_only=True, tag="errored", tag_field="kind"):
    """The check did not come to its end.

    error: ``Timeout``, ``WorkerDied``, ``OutOfMemory``, ``ImportFailed``, ``NonFinite`` or the
    exception's class.
    """

    error: str
    message: str
    traceback: str = ""


Outcome = Measured | Skipped | Errored


class CheckRun(Value, frozen=True, kw_only=True):
    """One run of one check. ``cost`` is null where it died with the worker that counted it."""

    id: str
    check: str
    params: dict[str, Any]
    seed: int
    seconds: float
    device: str
    cost: Cost | None
    outcome: Outcome


class AnswersRun(Value, frozen=True, kw_only=True):
    """The clean answers on one split: computed once, used by many checks, counted here."""

    split: str
    n: int
    cost: Cost
    artifact: Artifact


class Rule(Value, frozen=True, kw_only=True):
    """What a measurement must reach. Exactly one of ``at_least`` and ``at_most`` is given.

    ``slice`` and ``conditions`` are filters. ``origin``: ``plan``, ``suite:<name>`` or a file.
    """

    id: str
    run: str
    measurement: str
    at_least: float | None = None
    at_most: float | None = None
    slice: dict[str, str] = {}
    conditions: dict[str, Scalar] = {}
    level: float = 0.95
    requirements: tuple[str, ...] = ()
    rationale: str = ""
    origin: str = "plan"

    def __post_init__(self) -> None:
        """Refuse a rule with no threshold, two thresholds or one that is not a number."""
        _place(self)
        if (self.at_least is None) == (self.at_most is None):
            message = f"rule {self.id!r} needs exactly one of at_least and at_most"
            raise ValueError(message)
        # A whole number is written without a point but read as a float: the digest must not differ.
        end = "at_most" if self.at_least is None else "at_least"
        _set(self, **{end: float(self.threshold)})
        if not math.isfinite(self.threshold):
            message = f"rule {self.id!r} needs a finite threshold, got {self.threshold}"
            raise ValueError(message)
        if not 0 < self.level < 1:
            message = f"rule {self.id!r} needs a level between 0 and 1, got {self.level}"
            raise ValueError(message)

    @property
    def threshold(self) -> float:
        """The one threshold that is given."""
        threshold = self.at_most if self.at_least is None else self.at_least
        assert threshold is not None  # noqa: S101  (the constructor holds this true)
        return threshold

    @property
    def sentence(self) -> str:
        """The criterion in words: ``robust_accuracy >= 0.6``."""
        sign = "<=" if self.at_least is None else ">="
        return f"{self.measurement} {sign} {self.threshold:g}"


def _place(one: Measurement | Undefined | Rule) -> None:
    """Refuse a slice or conditions that JSON would not give back as they were.

    NaN would be written as null and a tuple as a list, and the whole record could not be read
    again. Raises ValueError.
    """
    settled: dict[str, dict[str, Any]] = {"slice": {}, "conditions": {}}
    for field, kinds in (("slice", str), ("conditions", bool | int | float | str)):
        for key, given in getattr(one, field).items():
            value = settled[field][key] = _plain(given)
            finite = not isinstance(value, float) or math.isfinite(value)
            if not (isinstance(value, kinds) and finite):
                wanted = "text" if field == "slice" else "a finite number, text or a boolean"
                message = f"{field} {key!r} needs {wanted}, got {value!r}"
                raise ValueError(message)
    _set(one, **settled)


def _plain(value: Any) -> Any:
    """A number of numpy or torch as Python's own, which JSON can hold; anything else unchanged."""
    return value.item() if hasattr(value, "item") else value


def _set(one: Value, **fields: object) -> None:
    """Settle fields of a value that is being made; afterwards it is frozen."""
    for name, value in fields.items():
        msgspec.structs.force_setattr(one, name, value)


class Waiver(Value, frozen=True, kw_only=True):
    """Somebody answers, until a date, for what a run does not show."""

    run: str
    owner: str
    reason: str
    until: date
    expired: bool = False


class Verdict(Value, frozen=True, kw_only=True):
    """A rule compared with everything in its run that it speaks of."""

    rule: str
    status: Status
    reason: str
    observed: tuple[Measurement, ...] = ()
    waived: Waiver | None = None


class Requirement(Value, frozen=True, kw_only=True):
    """An item of a framework. ``kind``: T a test can feed it, D declared fact, P human process.

    source: how its text was read, in a grade that the catalogue explains. confidence: how sure the
    date of application is: ``settled``, ``second-hand``, ``unsettled`` or ``contested``.
    replaced_by: the item was deleted, and this one took its place. concerns: the points of the AI
    Act's Annex III it speaks of alone (``5b``, or ``5`` for all of 5). fact: the key of the plan's
    ``[context]`` that states it.
    """

    id: str
    framework: str
    cite: str
    title: str = ""
    paraphrase: str = ""
    kind: tuple[Literal["T", "D", "P"], ...] = ()
    applies_from: str = ""
    addressee: str = ""
    suites: tuple[str, ...] = ()
    source: str = ""
    confidence: str = ""
    replaced_by: str = ""
    concerns: tuple[str, ...] = ()
    fact: str = ""


class Feed(Value, frozen=True, kw_only=True):
    """What can feed items of one suite: checks by the beginnings of their names."""

    title: str
    checks: tuple[str, ...]
    but: tuple[str, ...] = ()


class CatalogueCard(Value, frozen=True, kw_only=True):
    """Which catalogue was used: a framework, its version, and the day it was last looked at.

    sources: what each grade in ``Requirement.source`` means. feeds: the suites that its items
    name. warning: why it should not be relied on today, empty if nothing is known.
    """

    name: str
    framework: str
    version: str = ""
    dated: date
    note: str = ""
    sources: dict[str, str] = {}
    confidence: dict[str, str] = {}
    feeds: dict[str, Feed] = {}
    items: int
    sha256: str
    warning: str = ""


class Catalogue(Value, frozen=True, kw_only=True):
    """A framework's items as data, of a date. ``sha256`` is over everything else in it."""

    framework: str
    version: str = ""
    dated: date
    note: str = ""
    sources: dict[str, str] = {}
    confidence: dict[str, str] = {}
    feeds: dict[str, Feed] = {}
    items: tuple[Requirement, ...]

    def __iter__(self) -> Iterator[Requirement]:
        """Go through the items."""
        return iter(self.items)

    def __len__(self) -> int:
        """Count the items."""
        return len(self.items)

    @property
    def sha256(self) -> str:
        """The digest of the whole catalogue, as canonical JSON."""
        return hashlib.sha256(canonical(self)).hexdigest()

    def card(self, name: str) -> CatalogueCard:
        """What a record keeps of it beside the items."""
        return CatalogueCard(
            name=name, framework=self.framework, version=self.version, dated=self.dated,
            note=self.note, sources=self.sources, confidence=self.confidence, feeds=self.feeds,
            items=len(self.items), sha256=self.sha256,
        )  # fmt: skip


class Statement(Value, frozen=True, kw_only=True):
    """Something that people state and nobody tested: of an item, or of a key of ``[context]``.

    what: a requirement's id, or ``context.<key>``. who and role: empty where the plan names nobody.
    stale: why it does not count any more, empty while it does.
    """

    what: str
    statement: str
    who: str = ""
    role: str = ""
    date: Day | None = None
    document_sha256: str = ""
    not_applicable: bool = False
    stale: str = ""


class Finding(Value, frozen=True, kw_only=True):
    """What the audit has to say about one requirement, and what limits it."""

    requirement: str
    status: FindingStatus
    applicable: Literal["now", "not-yet", "contested"]
    verdicts: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()
    limits: str = ""


class SuiteCard(Value, frozen=True, kw_only=True):
    """A suite of the plan in its own words. sentence: what a report may say of what it shows."""

    name: str
    title: str = ""
    sentence: str = ""


class Executor(Value, frozen=True, kw_only=True):
    """Where the jobs ran, and what that isolates them from."""

    name: str
    isolated: bool
    slots: int = 1


class AuditRecord(Value, frozen=True, kw_only=True):
    """The whole audit. Renderers, ``gate``, ``diff`` and ``verify`` read this and nothing else."""

    schema: str = SCHEMA
    tool: dict[str, str]
    started: str
    finished: str
    plan: dict[str, Any]
    plan_sha256: str
    environment: dict[str, Any]
    model: Card
    data: Card
    models: dict[str, Card] = {}
    train: Card | None = None
    answers: tuple[AnswersRun, ...] = ()
    runs: tuple[CheckRun, ...]
    rules: tuple[Rule, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    waivers: tuple[Waiver, ...] = ()
    requirements: tuple[Requirement, ...] = ()
    findings: tuple[Finding, ...] = ()
    suites: tuple[SuiteCard, ...] = ()
    catalogues: tuple[CatalogueCard, ...] = ()
    statements: tuple[Statement, ...] = ()

    def _repr_html_(self) -> str:
        """Show the verdicts in a notebook."""
        from dlaudit.reports.notebook import summary

        return summary(self)


def canonical(value: object) -> bytes:
    """The one way a value is written and hashed: JSON, sorted keys, UTF-8, no spaces."""
    return msgspec.json.encode(value, order="sorted")


def read_record(raw: bytes) -> AuditRecord:
    """Decode ``record.json``; unknown fields are ignored, missing ones are an error.

    Raises ``msgspec.ValidationError`` (with the place) or ``msgspec.DecodeError``.
    """
    return msgspec.json.decode(raw, type=AuditRecord)


def json_schema() -> dict[str, Any]:
    """The published schema of ``record.json`` (docs/record.schema.json is made from it)."""
    return msgspec.json.schema(AuditRecord)

"""The record joined by its ids and put in order: worst first, nothing left out.

Knows which status stands before which and what belongs together; never how it looks in a format.
Whatever keeps the gate closed is found here once, so that every format shows the same.
"""

from __future__ import annotations

from functools import cached_property
from typing import Literal, NamedTuple, assert_never

from dlaudit.audit.judge import (
    WORST_FIRST,
    ExitCode,
    blocking_runs,
    exit_code,
    speaks_of,
)
from dlaudit.audit.record import (
    AuditRecord,
    CheckRun,
    Errored,
    Finding,
    FindingStatus,
    Measured,
    Measurement,
    Outcome,
    Requirement,
    Rule,
    Skipped,
    Status,
    SuiteCard,
    Undefined,
    Verdict,
    Waiver,
    canonical,
    read_record,
)
from dlaudit.reports.wording import FINDINGS, SUITES, SuiteWords, told_as_bound

Kind = Literal["measured", "skipped", "errored"]
NO_RULE = "no rule was judged: nothing was shown, so the gate stays closed"


class Judged(NamedTuple):
    """A rule with its verdict and its run, where the record has them."""

    id: str
    rule: Rule | None
    verdict: Verdict
    run: CheckRun | None

    @property
    def status(self) -> Status:
        """The verdict's status, whether waived or not."""
        return self.verdict.status

    @property
    def reason(self) -> str:
        """The verdict's reason; where it speaks of numbers that are bounds, it says so."""
        if self.rule is None or not self.verdict.observed:
            return self.verdict.reason
        return told_as_bound(self.verdict.reason, self.rule.measurement)

    @property
    def waived(self) -> Waiver | None:
        """The waiver that takes it out of the exit code; a pass needs none."""
        return None if self.status == "pass" else self.verdict.waived

    @property
    def undefined(self) -> list[Undefined]:
        """The numbers that the rule speaks of and that do not exist."""
        if self.rule is None or self.run is None or not isinstance(self.run.outcome, Measured):
            return []
        rule = self.rule
        return [one for one in self.run.outcome.undefined if speaks_of(rule, one)]


class Unmeasured(NamedTuple):
    """A run that errored or was skipped. ``blocking``: nobody answers for it."""

    run: CheckRun
    kind: Kind
    reason: str
    blocking: bool
    waiver: Waiver | None


class SuitePart(NamedTuple):
    """The runs of one suite, in plan order."""

    name: str
    words: SuiteWords
    runs: tuple[CheckRun, ...]


class Shown(NamedTuple):
    """A finding as a report may show it. ``doubt``: why that is not what the record says."""

    requirement: Requirement
    finding: Finding
    status: FindingStatus
    doubt: str


class Outline:
    """One record, read once."""

    def __init__(self, record: AuditRecord) -> None:
        """record: broken references in it are kept and shown.

        It is read as it is stored, so that a report made at the end of a run and one made from the
        file ten years later are the same.
        """
        self.record = read_record(canonical(record))
        self.runs = {run.id: run for run in self.record.runs}
        self.rules = {rule.id: rule for rule in self.record.rules}

    @property
    def name(self) -> str:
        """What the plan calls this audit."""
        return str(self.record.plan.get("name") or self.record.model.name)

    @cached_property
    def code(self) -> ExitCode:
        """The gate's answer."""
        return exit_code(self.record)

    @cached_property
    def judged(self) -> list[Judged]:
        """Every rule, worst first: what closes the gate, then what is waived, then passes."""
        found = [
            Judged(verdict.rule, rule, verdict, self.runs.get(rule.run) if rule else None)
            for verdict in self.record.verdicts
            for rule in [self.rules.get(verdict.rule)]
        ]
        known = {verdict.rule for verdict in self.record.verdicts}
        for rule in self.record.rules:
            if rule.id not in known:
                silence = Verdict(
                    rule=rule.id, status="not_assessed", reason="the record holds no verdict for it"
                )
                found.append(Judged(rule.id, rule, silence, self.runs.get(rule.run)))
        return sorted(found, key=_badness)

    @cached_property
    def unmeasured(self) -> list[Unmeasured]:
        """Every run that errored or was skipped: errors first, waived ones last."""
        blocking = {id(run) for run in blocking_runs(self.record)}
        found = []
        for run in self.record.runs:
            match run.outcome:
                case Measured():
                    continue
                case Errored(error=error, message=message):
                    reason = f"{error}: {message}" if message else error
                case Skipped(reason=reason):
                    pass
                case _:
                    assert_never(run.outcome)
            found.append(
                Unmeasured(
                    run, kind_of(run.outcome), reason, id(run) in blocking, self.waiver_of(run.id)
                )
            )
        return sorted(found, key=lambda one: (not one.blocking, one.kind != "errored"))

    @cached_property
    def unspoken(self) -> list[Unmeasured]:
        """The unmeasured runs whose trouble no rule's verdict tells: formats list them themselves."""
        told = {
            (one.rule.run, one.waived is None)
            for one in self.judged
            if one.rule is not None and one.status == "not_assessed"
        }
        return [one for one in self.unmeasured if (one.run.id, one.blocking) not in told]

    @cached_property
    def undefined(self) -> list[tuple[CheckRun, tuple[Undefined, ...]]]:
        """Every run that says of some number that it does not exist."""
        return [
            (run, run.outcome.undefined)
            for run in self.record.runs
            if isinstance(run.outcome, Measured) and run.outcome.undefined
        ]

    @cached_property
    def suites(self) -> list[SuitePart]:
        """The suites that have runs, in the order in which they first appear."""
        parts: dict[str, list[CheckRun]] = {}
        for run in self.record.runs:
            parts.setdefault(self.suite_of(run), []).append(run)
        return [
            SuitePart(name, self.suite_words(name), tuple(runs)) for name, runs in parts.items()
        ]

    @cached_property
    def untouched(self) -> list[str]:
        """The house's suites of which nothing ran, and suites of the plan without a run."""
        present = {part.name for part in self.suites}
        asked = [str(name) for name in self.record.plan.get("suites") or ()]
        return [name for name in dict.fromkeys([*SUITES, *asked]) if name not in present]

    @cached_property
    def findings(self) -> list[Shown]:
        """Every finding, worst first, with the status that its verdicts bear out."""
        requirements = {requirement.id: requirement for requirement in self.record.requirements}
        verdicts = {verdict.rule: verdict for verdict in self.record.verdicts}
        found = []
        for finding in self.record.findings:
            requirement = requirements.get(finding.requirement) or Requirement(
                id=finding.requirement, framework="unknown", cite=finding.requirement
            )
            status, doubt = borne_out(finding, verdicts)
            found.append(Shown(requirement, finding, status, doubt))
        order = list(FINDINGS)
        return sorted(found, key=lambda one: order.index(one.status))

    @cached_property
    def tally(self) -> dict[str, int]:
        """Counts, never shares: rules by status (waived apart), runs by outcome, undefined numbers."""
        tally = dict.fromkeys(
            ("fail", "not_assessed", "inconclusive", "pass", "waived", "errored", "skipped",
             "measured", "undefined"), 0
        )  # fmt: skip
        for one in self.judged:
            tally["waived" if one.waived else one.status] += 1
        for run in self.unmeasured:
            tally[run.kind] += 1
        tally["measured"] = len(self.record.runs) - len(self.unmeasured)
        tally["undefined"] = sum(len(numbers) for _, numbers in self.undefined)
        return tally

    def waiver_of(self, run: str) -> Waiver | None:
        """The run's waiver, expired or not; a live one first."""
        found = [waiver for waiver in self.record.waivers if waiver.run == run]
        return min(found, key=lambda waiver: waiver.expired, default=None)

    def suite_of(self, run: CheckRun) -> str:
        """The suite a run belongs to: the prefix of its check, or of its id for a foreign check."""
        asked = {str(name) for name in self.record.plan.get("suites") or ()} | set(SUITES)
        prefixes = [text.partition(".")[0].partition(":")[0] for text in (run.check, run.id)]
        return next((prefix for prefix in prefixes if prefix in asked), prefixes[0])

    def suite_words(self, name: str) -> SuiteWords:
        """A suite's title and limits: the house's words, else what its guest says of itself."""
        card = next(
            (card for card in self.record.suites if card.name == name), SuiteCard(name=name)
        )
        house = SUITES.get(name)
        if house is None:
            limit = card.sentence or "A suite of a guest; its checks say what it shows."
            return SuiteWords(card.title or name, "", limit)
        return house._replace(limit=card.sentence or house.limit)

    def case_name(self, run: CheckRun) -> str:
        """``suite.run``, the suite said once: ``attacks.pgd``, ``attacks.my_pgd``."""
        suite = self.suite_of(run)
        return run.id if run.id.startswith(f"{suite}.") else f"{suite}.{run.id}"

    def rules_of(self, run: CheckRun) -> list[Judged]:
        """The rules that judge a run, worst first."""
        return self._rules_by_run.get(run.id, [])

    @cached_property
    def _rules_by_run(self) -> dict[str, list[Judged]]:
        by_run: dict[str, list[Judged]] = {}
        for one in self.judged:
            if one.rule is not None:
                by_run.setdefault(one.rule.run, []).append(one)
        return by_run


def _badness(one: Judged) -> tuple[int, int]:
    order = WORST_FIRST.index(one.status)
    if one.status == "pass":
        return 2, order
    return (1 if one.waived else 0), order


def kind_of(outcome: Outcome) -> Kind:
    """The word for how a run ended."""
    match outcome:
        case Measured():
            return "measured"
        case Skipped():
            return "skipped"
        case Errored():
            return "errored"
        case _:
            assert_never(outcome)


def worst_observed(one: Judged) -> list[Measurement]:
    """What a verdict saw, the measurements nearest to failing (or furthest beyond) first."""
    if one.rule is None:
        return list(one.verdict.observed)
    rule = one.rule

    def margin(seen: Measurement) -> float:
        low, high = (
            (seen.interval.low, seen.interval.high) if seen.interval else (seen.value, seen.value)
        )
        return low - rule.threshold if rule.at_least is not None else rule.threshold - high

    voided = [seen for seen in one.verdict.observed if any(c.voids for c in seen.caveats)]
    sound = [seen for seen in one.verdict.observed if not any(c.voids for c in seen.caveats)]
    return [*sorted(sound, key=margin), *sorted(voided, key=margin)]


def borne_out(finding: Finding, verdicts: dict[str, Verdict]) -> tuple[FindingStatus, str]:
    """The status a report may show: "supported" needs a passing rule with an interval behind it.

    A record can be written by anybody; a claim that its own verdicts do not bear out is not
    repeated, and the report says so.
    """
    if finding.status != "supported-in-scope":
        return finding.status, ""
    speaking = [verdicts[rule] for rule in finding.verdicts if rule in verdicts]
    worst = min((one.status for one in speaking), key=WORST_FIRST.index, default="not_assessed")
    shown = any(seen.interval for one in speaking if one.status == "pass" for seen in one.observed)
    if worst == "pass" and shown and len(speaking) == len(finding.verdicts):
        return finding.status, ""
    doubt = (
        "The record says supported, but not every rule it names passed, one of them on an interval."
    )
    if worst == "fail":
        return "contradicted", doubt
    exact = worst == "pass" and any(one.observed for one in speaking)
    return ("inconclusive" if worst == "inconclusive" or exact else "no-evidence"), doubt

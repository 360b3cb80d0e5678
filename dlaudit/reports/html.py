"""The report as one HTML file: no network, no script, readable on paper and in the dark.

Knows which part of the record stands where; how it looks stands in ``templates``. Text that comes
from the record stands in elements marked ``data-quoted``: everything else is this tool's own words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from dlaudit.audit.evidence import digest
from dlaudit.audit.record import AuditRecord, Executor, Measured, canonical
from dlaudit.reports import panels, transfer, wording
from dlaudit.reports.outline import NO_RULE, Outline, kind_of
from dlaudit.reports.pictures import is_picture, pictures
from dlaudit.reports.plan_file import plan_toml
from dlaudit.reports.robustness import BOUND, Robustness

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

WORST = 8
"""How many findings the top of the report names; all of them follow below."""

MARKERS = (
    '<circle r="4"/>',
    '<rect x="-3.7" y="-3.7" width="7.4" height="7.4"/>',
    '<path d="M0-4.8L4.5 3.4H-4.5z"/>',
    '<path d="M0-5L5 0 0 5-5 0z"/>',
    '<circle r="3.4" class="hollow"/>',
    '<rect x="-3.3" y="-3.3" width="6.6" height="6.6" class="hollow"/>',
)


def render(record: AuditRecord, folder: Path | None = None) -> str:
    """The whole report. folder: the run's folder, from which pictures are embedded if given."""
    outline = Outline(record)
    record = outline.record
    anchors = Anchors(outline)
    robustness = Robustness(outline, folder)
    page = (
        environment()
        .get_template("report.html.j2")
        .render(
            record=record,
            outline=outline,
            anchors=anchors,
            words=wording,
            top=top_of(outline),
            pictures=pictures(record, folder),
            run_page=lambda run: panels.run_page(run, outline.rules_of(run)),
            rule_page=panels.rule_page,
            curves=lambda part: panels.curves(part, outline, apart={BOUND}),
            robustness=robustness,
            transfer_words=transfer.words,
            plan_toml=plan_toml(record.plan),
            plan_json=canonical(record.plan).decode(),
            plan_sha256=digest(canonical(record.plan)),
            record_sha256=digest(canonical(record)),
            evidence=evidence_of(record),
            judged_by_id={one.id: one for one in outline.judged},
            marker=marker,
            no_rule=NO_RULE,
            worst_most=WORST,
        )
    )
    return wording.printable(page)


class Top(NamedTuple):
    """What the first screen says beyond the gate's answer."""

    scope: str
    samples: str
    executor: Executor | None
    warnings: tuple[str, ...]


def top_of(outline: Outline) -> Top:
    """The scope sentence, the number of samples, and where it ran."""
    record = outline.record
    samples = samples_of(record)
    measured = outline.tally["measured"]
    if measured:
        runs = f"{wording.counted(measured, 'run')} of {len(record.runs)}"
        scope = (
            f"This report shows what {runs} measured on the model and the data named here, under the "
            "conditions written beside each number. It says nothing about other data, other threat "
            "models or other uses."
        )
    else:
        scope = (
            "Nothing was measured: this report shows only what was tried, and why it did not run."
        )
    return Top(scope, samples, executor_of(record), warnings_of(record))


def samples_of(record: AuditRecord) -> str:
    """``600 (test), 1,200 (train)``: how many samples each split holds, where the record says so."""
    splits = {
        name: card.facts["n"]
        for name, card in record.data.splits.items()
        if isinstance(card.facts.get("n"), int)
    }
    if not splits:
        splits = {answer.split: answer.n for answer in record.answers}
    if not splits and isinstance(record.data.facts.get("n"), int):
        splits = {"test": record.data.facts["n"]}
    return ", ".join(f"{wording.count(n)} ({name})" for name, n in splits.items())


def executor_of(record: AuditRecord) -> Executor | None:
    """Where the jobs ran, or None if the record does not say."""
    try:
        return msgspec.convert(record.environment.get("executor"), Executor)
    except msgspec.ValidationError:
        return None


def warnings_of(record: AuditRecord) -> tuple[str, ...]:
    """What must be said before anything else: a model whose file was read by executing it.

    The airlock's verdict on such a file says that it was allowed, or what was trusted.
    """
    cards = {"model": record.model, **record.models}
    told = {role: wording.roles(card.facts.get("airlock", "")) for role, card in cards.items()}
    return tuple(
        f"{role}: {text}"
        for role, text in told.items()
        if re.search(r"\b(allowed|trusting)\b", text)
    )


class Evidence(NamedTuple):
    """A file of evidence: who made it, and where it lies."""

    owner: str
    name: str
    caption: str
    path: str
    sha256: str


def evidence_of(record: AuditRecord) -> list[Evidence]:
    """Every file of evidence, the clean answers first."""
    kept = [(f"answers on {answer.split}", answer.artifact) for answer in record.answers]
    kept += [
        (run.id, artifact)
        for run in record.runs
        if isinstance(run.outcome, Measured)
        for artifact in run.outcome.artifacts
    ]
    return [Evidence(owner, a.name, a.caption, a.path, a.sha256) for owner, a in kept]


class Anchors:
    """Readable, unique link targets: ``rule-attacks.pgd.robust_accuracy``."""

    def __init__(self, outline: Outline) -> None:
        """Give every rule, run, suite and finding its target once, so that links are stable."""
        taken: set[str] = set()
        self.rules = _targets("rule", [one.id for one in outline.judged], taken)
        self.runs = _targets("run", [run.id for run in outline.record.runs], taken)
        self.suites = _targets("suite", [part.name for part in outline.suites], taken)


def _targets(kind: str, names: Iterable[str], taken: set[str]) -> dict[str, str]:
    targets = {}
    for name in names:
        if name in targets:
            continue
        wanted = f"{kind}-{re.sub(r'[^A-Za-z0-9_.-]+', '-', name)[:80]}"
        target, again = wanted, 1
        while target in taken:
            again += 1
            target = f"{wanted}-{again}"
        taken.add(target)
        targets[name] = target
    return targets


@cache
def environment() -> Environment:
    """The templates with their filters; everything that is printed is escaped unless marked safe."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("dlaudit.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["q"] = quoted
    made.filters["code"] = code
    made.filters["breaks"] = breaks
    made.filters["href"] = href
    made.filters["short"] = short
    made.filters["kind_of"] = kind_of
    made.filters["rules_of"] = lambda run, outline: outline.rules_of(run)
    made.tests["picture"] = is_picture
    return made


def quoted(text: object) -> Markup:
    """Text from the record, as a quotation."""
    from markupsafe import Markup

    return Markup("<span data-quoted>{}</span>").format(text)


def code(text: object) -> Markup:
    """A name, a number or a digest from the record, set in the fixed-width face."""
    from markupsafe import Markup

    return Markup("<code data-quoted>{}</code>").format(text)


def breaks(text: object) -> Markup:
    """A quotation that a narrow table may break behind underscores and dots, not inside a word."""
    from markupsafe import Markup, escape

    broken = re.sub(r"([_.:/])(?=\w)", r"\1<wbr>", str(escape(text)))
    return Markup(f"<span data-quoted>{broken}</span>")  # noqa: S704  (escaped above)


def short(name: str, run: str) -> Markup:
    """An artifact's name under the heading of its run, which need not be said again."""
    return quoted(name.removeprefix(f"{run}."))


def href(path: str) -> str:
    """A relative link to a file of the run, or nothing: a record may not lead a reader elsewhere."""
    return path if re.fullmatch(r"evidence/[0-9a-f]{64}\.[a-z0-9]+", path) else ""


def marker(series: int) -> Markup:
    """The mark of a curve, drawn around the origin: curves differ in shape, not only in colour."""
    from markupsafe import Markup

    return Markup(MARKERS[(series - 1) % len(MARKERS)])  # noqa: S704  (a constant of this module)

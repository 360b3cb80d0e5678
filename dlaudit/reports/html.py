"""The report as one HTML file: no network, readable on paper, in the dark and without its script.

Knows which part of the record stands where; how it looks stands in ``templates``. Text that comes
from the record stands in elements marked ``data-quoted``: everything else is this tool's own words.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from dlaudit.audit.evidence import digest
from dlaudit.audit.record import Artifact, AuditRecord, CheckRun, Executor, Measured, canonical
from dlaudit.reports import charts, difference, living, panels, sections, transfer, wording
from dlaudit.reports.columns import TABLE
from dlaudit.reports.edition import Edition, published
from dlaudit.reports.language import translated, translator
from dlaudit.reports.outline import NO_RULE, Outline, kind_of
from dlaudit.reports.pictures import is_picture, pictures
from dlaudit.reports.plan_file import plan_toml
from dlaudit.reports.robustness import BOUND, Robustness
from dlaudit.reports.samples import SampleTable, sample_tables

if TYPE_CHECKING:
    from jinja2 import Environment, FileSystemBytecodeCache
    from markupsafe import Markup

    from dlaudit.audit.difference import Difference

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


def render(
    record: AuditRecord,
    folder: Path | None = None,
    *,
    edition: Edition = "auditor",
    language: str = "en",
    since: Difference | None = None,
) -> str:
    """The whole report. folder: the run's folder, from which pictures and rows are read if given.

    edition: ``public`` withholds rows, pictures and groups of people. language: ``en`` or ``de``.
    since: what differs from an earlier run, for the section of changes.
    """
    whole = canonical(record)
    plan_sha256 = digest(canonical(record.plan))
    sealed = plan_sha256 == record.plan_sha256
    withheld = 0
    if edition == "public":
        record, withheld = published(record)
        folder = None
    outline = Outline(record)
    record = outline.record
    robustness = Robustness(outline, folder)
    shown = pictures(record, folder)
    pictured = {
        one.sample: sha256 for sha256, one in robustness.failures.items() if shown[sha256].uri
    }
    samples = {} if edition == "public" else sample_tables(record, folder, pictured)
    evidence = evidence_of(record)
    anchors = Anchors(outline, evidence, samples)
    tell = translator(language)
    script = script_of(environment(language))
    page = (
        environment(language)
        .get_template("report.html.j2")
        .render(
            record=record,
            outline=outline,
            anchors=anchors,
            words=wording,
            language=language,
            edition=edition,
            withheld=withheld,
            top=top_of(outline),
            sections=sections.sections(outline),
            further=sections.further(outline),
            since=since
            and difference.shown(since, [(record, folder)] if folder else [], ["after"]),
            strip=sections.strip(outline.findings),
            matrix=sections.matrix(outline.findings),
            matrix_columns=sections.COLUMNS,
            frameworks=list(dict.fromkeys(one.framework for one in record.requirements)),
            deviations=deviations(outline, anchors, sealed=sealed),
            pictures=shown,
            pictured=pictured,
            samples=samples,
            shown_rows=namespace(),
            run_page=lambda run: panels.run_page(run, outline.rules_of(run)),
            rule_page=panels.rule_page,
            curves=lambda part: panels.curves(part, outline, apart={BOUND}),
            robustness=robustness,
            transfer_words=transfer.words,
            living_seen=living.seen,
            sliders=living.sliders(robustness, outline),
            plan_toml=plan_toml(record.plan),
            plan_json=canonical(record.plan).decode(),
            plan_sha256=plan_sha256,
            record_sha256=digest(whole),
            evidence=evidence,
            judged_by_id={one.id: one for one in outline.judged},
            marker=marker,
            no_rule=NO_RULE,
            worst_most=WORST,
            script=script.source,
            script_sha256=script.sha256,
            page_words=page_words(tell),
        )
    )
    return wording.printable(translated(page, language))


class Script(NamedTuple):
    """The page's script, and its digest as a content security policy names it."""

    source: Markup
    sha256: str


def script_of(made: Environment) -> Script:
    """The one script that the page may run, which is this package's own and is no template."""
    from markupsafe import Markup

    assert made.loader is not None  # noqa: S101  (``environment`` gave it one)
    source = made.loader.get_source(made, "report.js")[0]
    sha256 = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode("ascii")
    return Script(Markup(source), sha256)  # noqa: S704  (a file of this package)


def page_words(tell: Callable[[str], str]) -> str:
    """What the script says, as JSON."""
    own = {
        "theme": "Dark", "search_findings": "Search the findings", "search_items": "Search the items",
        "search_rows": "Search these rows", "turned": "verdicts would differ",
        "as_recorded": "the threshold of the plan", "would_be": "would be", "recorded": "recorded:",
        "threshold": "What if the threshold were", "budget": "Budget",
        "reset": "Back to the plan's thresholds", "what_if": "What if",
        "what_if_told": "Thresholds below can be tried out on the stored intervals. The recorded "
        "verdicts and the gate's answer stand.",
    }  # fmt: skip
    own |= {status: one.label for status, one in wording.VERDICTS.items()}
    return json.dumps({key: tell(text) for key, text in own.items()}, ensure_ascii=False)


def namespace() -> object:
    """Which tables of rows the page has shown already: a table stands once, at its first run."""
    from jinja2.utils import Namespace

    return Namespace(files=[])


def deviations(outline: Outline, anchors: Anchors, *, sealed: bool) -> list[tuple[str, str, str]]:
    """(what, name, anchor) of everything that departs from what was fixed beforehand."""
    found = []
    if not sealed:
        told = "The plan in this record has another digest than the one that was sealed."
        found.append((told, "", ""))
    for one in outline.judged:
        if one.waived is not None:
            found.append(("A rule is waived:", one.id, anchors.rules[one.id]))
        if any(caveat.voids for seen in one.verdict.observed for caveat in seen.caveats):
            found.append(("A number that a rule speaks of is void:", one.id, anchors.rules[one.id]))
        if one.rule is None:
            found.append(("A verdict has no rule:", one.id, anchors.rules[one.id]))
    found += [
        ("A run of the plan gave no number:", quiet.run.id, anchors.runs[quiet.run.id])
        for quiet in outline.unmeasured
    ]
    return found


class Top(NamedTuple):
    """What the first screen says beyond the gate's answer."""

    scope: str
    samples: str
    executor: Executor | None
    warnings: tuple[str, ...]
    questions: tuple[str, ...] = ()


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
    return Top(scope, samples, executor_of(record), warnings_of(record), questions_of(record))


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


def questions_of(record: AuditRecord) -> tuple[str, ...]:
    """What a look at some answers made doubtful, before anything was measured."""
    return tuple(
        f"{role}: {topic}: {text}"
        for role, card in {"model": record.model, **record.models}.items()
        for topic, text in card.facts.get("preflight", {}).items()
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

    def __init__(
        self,
        outline: Outline,
        evidence: Iterable[Evidence] = (),
        samples: Mapping[str, SampleTable] = MappingProxyType({}),
    ) -> None:
        """Give every rule, run, suite, item and file its target once, so that links are stable."""
        taken: set[str] = set()
        self.rules = _targets("rule", [one.id for one in outline.judged], taken)
        self.runs = _targets("run", [run.id for run in outline.record.runs], taken)
        self.suites = _targets("suite", [part.name for part in outline.suites], taken)
        items = [one.requirement.id for one in outline.findings]
        self.requirements = _targets("item", items, taken)
        self.files = _targets("file", [one.sha256 for one in evidence], taken)
        self.samples = _targets("rows", samples, taken)


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
def environment(language: str = "en") -> Environment:
    """The templates with their filters; everything that is printed is escaped unless marked safe."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("dlaudit.reports", "templates"),
        bytecode_cache=compiled_templates(),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["_"] = translator(language)
    made.filters["evidence_files"] = evidence_files
    made.filters["q"] = quoted
    made.filters["code"] = code
    made.filters["breaks"] = breaks
    made.filters["href"] = href
    made.filters["short"] = short
    made.filters["strip"] = strip
    made.filters["brief"] = brief
    made.filters["kind_of"] = kind_of
    made.filters["rules_of"] = lambda run, outline: outline.rules_of(run)
    made.tests["picture"] = is_picture
    return made


def compiled_templates() -> FileSystemBytecodeCache | None:
    """Compiled templates, beside their sources; None where nobody may write.

    Compiling them takes longer than rendering the report of a small audit.
    """
    from jinja2 import FileSystemBytecodeCache

    folder = Path(__file__).parent / "templates" / "__pycache__"
    try:
        folder.mkdir(exist_ok=True)
    except OSError:
        return None
    return FileSystemBytecodeCache(str(folder), "%s.jinja") if os.access(folder, os.W_OK) else None


def evidence_files(run: CheckRun | None) -> list[Artifact]:
    """The tables of rows that a run kept."""
    if run is None or not isinstance(run.outcome, Measured):
        return []
    return [one for one in run.outcome.artifacts if one.media_type == TABLE]


def quoted(text: object) -> Markup:
    """Text from the record, as a quotation."""
    from markupsafe import Markup, escape

    return Markup(f"<span data-quoted>{escape(text)}</span>")  # noqa: S704  (escaped here)


def code(text: object) -> Markup:
    """A name, a number or a digest from the record, set in the fixed-width face."""
    from markupsafe import Markup, escape

    return Markup(f"<code data-quoted>{escape(text)}</code>")  # noqa: S704  (escaped here)


def breaks(text: object) -> Markup:
    """A quotation that a narrow table may break behind underscores and dots, not inside a number."""
    from markupsafe import Markup, escape

    broken = re.sub(r"([_.:/])(?=[^\W\d])", r"\1<wbr>", str(escape(text)))
    return Markup(f"<span data-quoted>{broken}</span>")  # noqa: S704  (escaped above)


def short(name: str, run: str) -> Markup:
    """An artifact's name under the heading of its run, which need not be said again."""
    return quoted(name.removeprefix(f"{run}."))


def brief(sha256: str) -> Markup:
    """The beginning of a digest that stands in full where the link beside it leads."""
    return code(f"{sha256[:12]}\N{HORIZONTAL ELLIPSIS}")


def href(path: str) -> str:
    """A relative link to a file of the run, or nothing: a record may not lead a reader elsewhere."""
    return path if re.fullmatch(r"evidence/[0-9a-f]{64}\.[a-z0-9]+", path) else ""


def strip(mark: charts.Strip | None, thresholds: Iterable[float] = ()) -> Markup:
    """A mark on its table's axis: ends and point in per cent of it; the numbers stand beside it.

    Not a macro of the templates: a report draws thousands, and a macro's call costs more than its line.
    """
    from markupsafe import Markup

    if mark is None:
        return Markup()
    exact = mark.low is None
    kind, ends = ("strip exact", "") if exact else ("strip", f"--l:{mark.low};--h:{mark.high};")
    lines = "".join(f'<u style="left:{at}%"></u>' for at in thresholds)
    drawn = f'<i class="{kind}" style="{ends}--p:{mark.point}" aria-hidden="true">{lines}</i>'
    return Markup(drawn)  # noqa: S704  (numbers alone)


def marker(series: int) -> Markup:
    """The mark of a curve, drawn around the origin: curves differ in shape, not only in colour."""
    from markupsafe import Markup

    return Markup(MARKERS[(series - 1) % len(MARKERS)])  # noqa: S704  (a constant of this module)

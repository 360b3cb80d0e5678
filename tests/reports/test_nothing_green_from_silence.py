"""For any record: nothing is shown as supported without a passing rule that saw a number, and whatever
crashed, was skipped or does not exist is told by every format."""

import re
from datetime import date

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from page_reader import Page
from record_corpus import measurement_values, random_records, record_of, run_of

from dlaudit.audit.engine import judged
from dlaudit.audit.record import Errored, Measured, Requirement, Rule, Skipped, Undefined, Waiver
from dlaudit.audit.registry import Registry
from dlaudit.audit.render import rendered
from dlaudit.reports import annex_iv, html
from dlaudit.reports.outline import Outline

TODAY = date(2026, 11, 28)
SHA = "a" * 64
REGISTRY = Registry()
DAYS = [date(2020, 1, 1), date(2030, 1, 1)]
FORMATS = [part.name for part in REGISTRY.parts("renderers")]
SOME = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def audits(draw):
    """A record made by the judge and ``find``, as an audit makes it; each trouble has a word of its own.

    Returns the record and the words: of a run that errored or was skipped, of an undefined number.
    """
    runs, words = [], []
    for k in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["measured", "errored", "skipped"]))
        name, word = f"attacks.run{k}", f"because{k}of"
        if kind == "errored":
            outcome = Errored(error="Timeout", message=word)
        elif kind == "skipped":
            outcome = Skipped(reason=word)
        else:
            numbers = draw(st.lists(measurement_values(), max_size=2))
            missing = [
                Undefined(name="gap", reason=f"nothing{k}in{i}")
                for i in range(draw(st.integers(0, 2)))
            ]
            words += [one.reason for one in missing]
            outcome = Measured(
                measurements=tuple(msgspec.structs.replace(one, name="gap") for one in numbers),
                undefined=tuple(missing),
            )
        if kind != "measured":
            words += [name, word]
        runs.append(run_of(name, outcome))
    items = [
        Requirement(
            id=f"aia:anx-iv-{k}", framework="f", cite=f"Annex IV point {k}",
            kind=draw(st.sampled_from([("T",), ("T", "P"), ("D",), ("P",), ("P", "T"), ()])),
            addressee=draw(st.sampled_from(["", "provider", "deployer"])),
            replaced_by=draw(st.sampled_from(["", "", "aia:y"])),
            concerns=draw(st.sampled_from([(), ("5b",)])),
        )
        for k in range(draw(st.integers(1, 4)))
    ]  # fmt: skip
    ids = [item.id for item in items]
    rules = [
        Rule(
            id=f"rule{k}", run=draw(st.sampled_from([*(run.id for run in runs), "attacks.none"])),
            measurement="gap", at_least=draw(st.sampled_from([-1e9, 0.0, 0.5, 1e9])),
            requirements=tuple(draw(st.lists(st.sampled_from(ids), max_size=3))),
        )
        for k in range(draw(st.integers(0, 4)))
    ]  # fmt: skip
    waivers = [
        Waiver(run=run.id, owner="o", reason="r", until=draw(st.sampled_from(DAYS)))
        for run in runs if draw(st.booleans())
    ]  # fmt: skip
    declarations = [
        {"requirement": draw(st.sampled_from(ids)), "who": "w", "role": "r", "statement": "s",
         "date": "2026-01-01", "not_applicable": draw(st.booleans()),
         "document_sha256": draw(st.sampled_from(["", SHA]))}
        for _ in range(draw(st.integers(0, 2)))
    ]  # fmt: skip
    context = draw(
        st.sampled_from([{}, {"role": "provider"}, {"annex_iii": "5b"}, {"annex_iii": "4a"}])
    )
    record = record_of(runs, rules, waivers=tuple(waivers), requirements=tuple(items))
    plan = record.plan | {"context": context, "declarations": declarations}
    return judged(msgspec.structs.replace(record, plan=plan), today=TODAY), words


@given(audits())
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_finding_is_supported_only_by_passing_rules_that_saw_a_number_with_its_uncertainty(case):
    record, _ = case
    verdicts = {one.rule: one for one in record.verdicts}
    items = {one.id: one for one in record.requirements}
    for one in record.findings:
        speaking = [verdicts[rule] for rule in one.verdicts]
        if one.status == "supported-in-scope":
            assert speaking
            assert all(verdict.status == "pass" and verdict.observed for verdict in speaking)
            assert any(seen.interval for verdict in speaking for seen in verdict.observed)
            item = items[one.requirement]
            assert not item.replaced_by
            assert not item.kind or "T" in item.kind, "no test feeds what people must do or state"
        if any(verdict.status == "fail" for verdict in speaking):
            assert one.status == "contradicted" or items[one.requirement].replaced_by
        assert one.limits, "every finding says what limits it"
        if one.status in {"declared", "attested"}:
            assert "not tested" in one.limits
        if one.status == "attested":
            assert one.documents


@pytest.mark.parametrize("name", FORMATS)
@given(case=audits())
@SOME
def test_every_format_tells_of_every_crash_skip_and_undefined_number(name, case):
    record, words = case
    text = rendered(record, name, None, REGISTRY)
    for word in words:
        assert word in text


@given(record=random_records())
@SOME
def test_a_report_repeats_no_support_that_its_verdicts_do_not_bear_out(record):
    """Records that anybody wrote: the page and the skeleton of Annex IV show no more than was judged."""
    renamed = [
        msgspec.structs.replace(one, id=one.id.replace("q:", "aia:anx-iv-"))
        for one in record.requirements
    ]
    findings = [
        msgspec.structs.replace(one, requirement=one.requirement.replace("q:", "aia:anx-iv-"))
        for one in record.findings
    ]
    record = msgspec.structs.replace(record, requirements=tuple(renamed), findings=tuple(findings))
    verdicts = {one.rule: one for one in record.verdicts}
    borne = [
        one for one in record.findings
        if one.status == "supported-in-scope" and one.verdicts
        and all(rule in verdicts and verdicts[rule].status == "pass" for rule in one.verdicts)
        and any(seen.interval for rule in one.verdicts for seen in verdicts[rule].observed)
    ]  # fmt: skip
    shown = [one for one in Outline(record).findings if one.status == "supported-in-scope"]
    assert len(shown) == len(borne)
    told = re.findall(r"^Evidence: supported in scope\.", annex_iv.render(record), re.MULTILINE)
    assert len(told) == len(borne)
    assert Page(html.render(record)).text  # the page is made of the same outline


def test_the_formats_looked_at_are_all_that_there_are():
    assert {"html", "json", "junit", "sarif", "md", "csv", "cyclonedx", "intoto", "model-index",
            "annex-iv"} <= set(FORMATS)  # fmt: skip

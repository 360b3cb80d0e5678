"""One table: every verdict, waiver and outcome, told alike by every format and the exit code."""

import html
import json
import re
import xml.etree.ElementTree as ET

import pytest
import record_corpus
from hypothesis import HealthCheck, given, settings
from page_reader import Page
from planted_story import story

from dlaudit.audit.judge import blocking_runs, exit_code
from dlaudit.reports import html as html_report
from dlaudit.reports import json as json_report
from dlaudit.reports import junit, markdown, notebook, sarif, text

CELLS = list(record_corpus.combinations())

# What each format says of one rule (or of a run that no rule speaks of): (status, waived).
JUNIT = {
    "pass": None, "fail": "failure", "inconclusive": "failure", "not_assessed": "error",
    "errored": "error", "skipped": "error",
}  # fmt: skip


def expected(name, status):
    """The one thing that every format must say in this cell, or None where nothing was to say."""
    waived = name.endswith("-live")
    if status is not None:
        return status, waived and status != "pass"
    outcome = name.split("-")[1] if "-" in name else None
    if outcome in {"errored", "skipped"}:
        return outcome, waived
    return None


def said_by_html(record):
    page = Page(html_report.render(record))
    rules = [(a["data-status"], a["data-waived"] == "yes") for a in page.having("data-rule")]
    runs = [(a["data-outcome"], a["data-waived"] == "yes") for a in page.having("data-run")]
    return rules or runs


def said_by_junit(record):
    """Statuses are read from the element; a skipped element is a waived one."""
    root = ET.fromstring(junit.render(record))
    said = []
    for case in root.iter("testcase"):
        kinds = [child for child in case if child.tag in {"failure", "error", "skipped"}]
        said.append((kinds[0].tag, kinds[0].get("type")) if kinds else (None, "pass"))
    return said


def said_by_sarif(record):
    run = json.loads(sarif.render(record))["runs"][0]
    return [(r["properties"]["status"], "suppressions" in r) for r in run["results"]]


def said_in_lines(lines):
    words = {
        "failed": "fail", "not assessed": "not_assessed", "inconclusive": "inconclusive",
        "passed": "pass", "errored": "errored", "skipped": "skipped",
    }  # fmt: skip
    said = []
    for line in lines:
        for word, status in words.items():
            if re.match(rf"\W*{word}\b", line, re.IGNORECASE):
                waived = re.match(rf"\W*{word}, waived\b", line, re.IGNORECASE)
                said.append((status, waived is not None))
    return said


def said_by_markdown(record):
    rows = [line for line in markdown.render(record).splitlines() if line.startswith("| ")]
    return said_in_lines(rows[1:])


def said_by_screen(record):
    return said_in_lines(line for line in text.screen(record).splitlines() if line.startswith("  "))


def said_by_notebook(record):
    cells = re.findall(r"<tr><td[^>]*><b>([^<]*)</b>", notebook.summary(record))
    return said_in_lines(html.unescape(cell) for cell in cells)


def said_by_json(record):
    stored = json.loads(json_report.render(record))
    return [
        (v["status"], v["waived"] is not None and v["status"] != "pass") for v in stored["verdicts"]
    ]


@pytest.mark.parametrize(("name", "record", "status"), CELLS, ids=[cell[0] for cell in CELLS])
def test_every_format_tells_the_same_verdict(name, record, status):
    wanted = expected(name, status)
    if wanted is None:
        assert said_by_sarif(record) == said_by_screen(record) == [("not_assessed", False)]
        assert said_by_markdown(record) == said_by_notebook(record) == [("not_assessed", False)]
        assert said_by_junit(record) == [("error", "not_assessed")]
        assert "no rule was judged" in Page(html_report.render(record)).text.lower()
        return
    assert said_by_html(record) == [wanted]
    said, waived = wanted
    gate = [] if status is not None else [("not_assessed", False)]
    assert sorted(said_by_markdown(record)) == sorted([wanted, *gate])
    assert sorted(said_by_screen(record)) == sorted([wanted, *gate])
    assert sorted(said_by_notebook(record)) == sorted([wanted, *gate])
    assert sorted(said_by_sarif(record)) == sorted([wanted, *gate] if said != "pass" else gate)
    if status is not None:
        assert said_by_json(record) == [wanted]
    element = "skipped" if waived else JUNIT[said]
    assert [element, *("error" for _ in gate)] == [kind for kind, _ in said_by_junit(record)]


@pytest.mark.parametrize(("name", "record", "status"), CELLS, ids=[cell[0] for cell in CELLS])
def test_the_exit_code_follows_from_what_the_formats_say(name, record, status):
    holds_to_the_exit_code(record)


def holds_to_the_exit_code(record):
    code = int(exit_code(record))
    said = said_by_junit(record)
    kinds = {kind for kind, _ in said}
    types = {kind for _, kind in said}
    if "fail" in types:
        derived = 1
    elif "error" in kinds:
        derived = 3
    elif "failure" in kinds:
        derived = 4
    else:
        derived = 0
    assert derived == code
    closing = [r for r in said_by_sarif(record) if not r[1]]
    assert bool(closing) == (code != 0)
    words = f"Exit code {code}: "
    assert words in text.screen(record).splitlines()[-1]
    assert words in Page(html_report.render(record)).text
    assert words in markdown.render(record)
    assert words in notebook.summary(record)
    run = json.loads(sarif.render(record))["runs"][0]
    assert run["invocations"][0]["exitCode"] == code
    opens = "The gate opens" in text.screen(record)
    assert opens == (code == 0)


@given(record_corpus.random_records())
@settings(max_examples=30, suppress_health_check=list(HealthCheck))
def test_exit_code_and_counts_agree_between_any_record_and_its_formats(record):
    holds_to_the_exit_code(record)
    root = ET.fromstring(junit.render(record))
    cases = list(root.iter("testcase"))
    assert int(root.get("tests")) == len(cases)
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(root.get(attribute)) == len(list(root.iter(tag)))
        assert sum(int(s.get(attribute)) for s in root.iter("testsuite")) == int(
            root.get(attribute)
        )
    page = Page(html_report.render(record))
    assert len(page.having("data-rule")) == len(record.verdicts)
    blocking = [a for a in page.having("data-run") if a["data-waived"] == "no"]
    assert len(blocking) == len(blocking_runs(record))


def test_a_whole_story_is_told_alike():
    """Several runs at once: counts of every status are those of the record."""
    record = story()
    statuses = sorted(verdict.status for verdict in record.verdicts)
    assert sorted(s for s, _ in said_by_html(record)) == statuses
    listed = sorted(s for s, _ in said_by_screen(record) if s not in {"skipped", "errored"})
    assert listed == statuses
    assert sorted(s for s, _ in said_by_json(record)) == statuses
    assert sorted(said_by_markdown(record)) == sorted(said_by_screen(record))
    assert sorted(said_by_markdown(record)) == sorted(said_by_notebook(record))

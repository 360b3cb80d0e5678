"""What any reader of any format may rely on: no word that no test can earn, no number without its n and
its interval (or the reason why it is exact), no picture without words and numbers beside it.

Held against the whole corpus of records, for every renderer that there is.
"""

import csv
import io
import json
import re

import pytest
from page_reader import Page
from planted_story import story
from record_corpus import combinations

from dlaudit.audit.record import Measured
from dlaudit.audit.registry import Registry
from dlaudit.audit.render import rendered
from dlaudit.reports import notebook, text, wording
from dlaudit.testing import sample_record

REGISTRY = Registry()
FORMATS = [part.name for part in REGISTRY.parts("renderers")]
PROSE = ["md", "junit", "sarif", "annex-iv", "screen", "notebook"]
"""Formats that say numbers in sentences; the others have fields, which are looked at one by one."""

CORPUS = [*(record for _, record, _ in combinations()), sample_record()]
NUMBER = r"-?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?"
INTERVAL = re.compile(rf"{NUMBER} \[{NUMBER}, {NUMBER}\]|{NUMBER} \(exact")
FOLLOWED = re.compile(r".{0,16}?\bn = [\d,]+", re.DOTALL)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """(record, folder): the story with its evidence, and all the others."""
    folder = tmp_path_factory.mktemp("story")
    return [(story(folder), folder), *((record, None) for record in CORPUS)]


def shown(name, record, folder):
    if name == "screen":
        return text.screen(record)
    if name == "notebook":
        return notebook.summary(record)
    return rendered(record, name, folder, REGISTRY)


def plain(said):
    """Text without escapes and blanks of other kinds."""
    return said.replace("\\", "").replace("&#160;", " ").replace("\N{NO-BREAK SPACE}", " ")


def bare(said):
    """Numbers that are followed by no n, in text."""
    said = plain(said)
    return [
        said[match.start() : match.end() + 60]
        for match in INTERVAL.finditer(said)
        if not FOLLOWED.match(said, match.end())
    ]


@pytest.mark.parametrize("name", [*FORMATS, "screen", "notebook"])
def test_no_format_claims_what_no_test_can_earn(name, corpus):
    for record, folder in corpus:
        said = shown(name, record, folder)
        assert wording.overclaims(Page(said).own if name == "html" else said) == []


@pytest.mark.parametrize("name", PROSE)
def test_every_number_in_a_sentence_is_followed_by_its_n(name, corpus):
    found = 0
    for record, folder in corpus:
        said = shown(name, record, folder)
        assert bare(said) == []
        found += len(INTERVAL.findall(plain(said)))
    assert found, "there were numbers to look at"


def test_a_number_without_n_is_seen():
    assert bare("0.940 [0.918, 0.956] 95 % is good, as 600 samples (n = 600) show") != []
    assert bare("0.940 [0.918, 0.956] 95 %, n = 600; 3 (exact), n = 10") == []


def tables(page, kind):
    return re.findall(rf'<table class="{kind}[^"]*".*?</table>', page, re.DOTALL)


def test_every_number_of_the_page_stands_with_n_and_interval_or_the_reason_of_its_exactness(corpus):
    rows = 0
    for record, folder in corpus:
        page = shown("html", record, folder)
        for table in tables(page, "panel"):
            for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL)[1:]:
                cells = [Page(cell).text for cell in re.findall(r"<td.*?</td>", row, re.DOTALL)]
                n, _, result = cells[:3]
                assert re.fullmatch(r"[\d,]+", n), row
                assert re.fullmatch(
                    rf"{NUMBER} (\[{NUMBER}, {NUMBER}\] [\d.]+ % ?\w*.*|exact)", result
                ), row
                if result.endswith("exact"):
                    assert re.match(r"(void )?[a-z]", cells[3]), "its reason has a letter below"
                rows += 1
        for table in tables(page, "budgets"):
            said = Page(table).text
            several = INTERVAL.findall(said)
            assert re.search(r"<caption>.*n = [\d,]+.*</caption>", table) or len(
                re.findall(r"n = [\d,]+", said)
            ) == len(several)
        rest = re.sub(
            r'<table class="(?:panel|budgets|prices).*?</table>', " ", page, flags=re.DOTALL
        )
        assert bare(Page(rest).text) == []
    assert rows > 60


def test_every_picture_has_words_and_the_numbers_in_a_table(corpus):
    """Images have alternative text; drawn figures a title, a description and a table of their own."""
    page = shown("html", *corpus[0])
    images = [attrs for tag, attrs in Page(page).elements if tag == "img"]
    assert images
    assert all(attrs.get("alt", "").strip() for attrs in images)
    figures = re.findall(r'<figure class="curve.*?</figure>', page, re.DOTALL)
    assert figures
    for figure in figures:
        assert {"title", "desc", "table", "caption"} <= {tag for tag, _ in Page(figure).elements}
    for svg in re.findall(r"<svg[^>]*>", page):
        assert 'aria-hidden="true"' in svg or 'role="img" aria-labelledby=' in svg, svg
    strips = page.count('<i class="strip')
    assert strips == sum(table.count('<i class="strip') for table in tables(page, "panel")) > 20


def test_every_field_of_a_number_in_the_table_of_measurements_is_filled(corpus):
    for record, folder in corpus:
        for row in csv.DictReader(io.StringIO(shown("csv", record, folder))):
            if row["value"]:
                assert row["n"], row
                assert (row["low"] and row["high"] and row["method"]) or row["exact"], row


def test_every_metric_of_a_model_card_says_its_n(corpus):
    for record, folder in corpus:
        numbers = sum(
            len(run.outcome.measurements)
            for run in record.runs
            if isinstance(run.outcome, Measured)
        )
        card = json.loads(shown("cyclonedx", record, folder))["metadata"]["component"]["modelCard"]
        metrics = card.get("quantitativeAnalysis", {}).get("performanceMetrics", [])
        assert len(metrics) == numbers
        for one in metrics:
            assert "n = " in one["slice"]
            assert "confidenceInterval" in one or "exact" in one["slice"]

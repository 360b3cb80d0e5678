"""The public edition withholds what it says; the German report differs in its own words only."""

import re
from functools import partial
from pathlib import Path

import record_corpus
from hypothesis import HealthCheck, given, settings
from page_reader import Page
from planted_story import story
from record_corpus import rate, record_of, run_of

from dlaudit.audit.difference import Difference, Turn
from dlaudit.audit.record import Errored, Measured, Rule, Undefined
from dlaudit.reports import html, wording
from dlaudit.reports.difference import page as difference_page
from dlaudit.reports.edition import WITHHELD, published
from dlaudit.reports.html import render
from dlaudit.reports.language import messages, translator
from dlaudit.testing import sample_record

CHANGED = Difference(
    first="a", second="b", same_plan=True, same_model=False, same_data=True, pairings=(), changes=(),
    turns=(Turn(rule="r", before="fail", after=None),), criteria=("r: was m >= 0.6, is m >= 0.5",),
)  # fmt: skip
GROUP = {"ethnicity": "Martian"}


def people():
    """A record with numbers about a group, an overall number, and the name in many places."""
    measured = Measured(
        measurements=(rate("accuracy", 5, 9, slice=GROUP), rate("accuracy", 50, 90),
                      rate("accuracy", 7, 9, slice={"class": "cat"})),
        undefined=(Undefined(name="gap", reason="no Martian was there", slice=GROUP),),
    )  # fmt: skip
    rules = (
        Rule(id="gap by ethnicity", run="fairness.groups", measurement="accuracy", at_least=0.9,
             rationale="A Martian shall be decided as others are."),
        Rule(id="all", run="fairness.groups", measurement="accuracy", at_least=0.9, slice=GROUP),
    )  # fmt: skip
    runs = (
        run_of("fairness.groups", measured, params={"attributes": ["ethnicity"], "samples": 90}),
        run_of(
            "fairness.crashed", Errored(error="ValueError", message="row 17 of ethnicity = Martian")
        ),
    )
    return record_of(runs, rules)


def test_the_public_edition_names_no_attribute_no_group_and_no_row():
    record = people()
    whole, public = render(record), render(record, edition="public")
    assert re.search("ethnicity", whole)
    assert re.search("Martian", whole)
    assert not re.search("ethnicity|martian|row 17", public, re.IGNORECASE)
    page = Page(public)
    assert page.faults == []
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert "class = cat" in page.text
    assert "1 measurements are withheld" in page.text
    assert wording.overclaims(page.own) == []


def test_the_public_edition_has_neither_rows_nor_pictures(tmp_path):
    record = story(tmp_path)
    whole = Page(render(record, tmp_path))
    public = Page(render(record, tmp_path, edition="public"))
    assert [tag for tag, _ in whole.elements if tag == "img"]
    assert not [tag for tag, _ in public.elements if tag == "img"]
    assert not [link for link in public.links if link.startswith("evidence/")]
    assert not [one for one in public.ids if one.startswith("rows-")]


@given(record_corpus.random_records())
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_verdict_and_no_failure_is_left_out_of_the_public_edition(record):
    public, withheld = published(record)
    assert [v.status for v in public.verdicts] == [v.status for v in record.verdicts]
    assert [type(run.outcome) for run in public.runs] == [type(run.outcome) for run in record.runs]
    assert public.plan_sha256 == record.plan_sha256
    left = [
        len(run.outcome.measurements) for run in public.runs if isinstance(run.outcome, Measured)
    ]
    all_ = [
        len(run.outcome.measurements) for run in record.runs if isinstance(run.outcome, Measured)
    ]
    assert sum(left) + withheld == sum(all_)
    outcomes = [run.outcome for run in public.runs if isinstance(run.outcome, Measured)]
    numbers = [one for outcome in outcomes for one in (*outcome.measurements, *outcome.undefined)]
    for one in (*numbers, *public.rules, *(m for v in public.verdicts for m in v.observed)):
        assert set(one.slice) <= {"class", "group"}
        assert one.slice.get("group", WITHHELD) == WITHHELD


def test_german_words_stand_around_the_same_quotations():
    record = people()
    english, german = Page(render(record)), Page(render(record, language="de"))
    assert german.faults == []
    assert [a["lang"] for a in german.having("lang")] == ["de"]
    assert "Das Tor bleibt geschlossen" in german.own
    assert "The gate stays closed" in english.own
    assert "The gate stays closed" not in german.own
    assert german.ids == english.ids
    assert wording.overclaims(german.own) == []
    assert "A Martian shall be decided as others are." in german.text


class Chunks(Page):
    """chunks: every piece of this tool's own text, and the names of regions."""

    def __init__(self, text):
        self.chunks = []
        super().__init__(text)

    def handle_data(self, data):
        silent = any(quoted or tag in {"style", "script"} for tag, quoted in self._open)
        if not silent:
            self.chunks.append(" ".join(data.split()))
        super().handle_data(data)

    def handle_starttag(self, tag, attrs):
        super().handle_starttag(tag, attrs)
        self.chunks += [value.partition(": ")[0] for name, value in attrs if name == "aria-label"]


ALIKE = re.compile(
    r"(, )?dlaudit( (run|gate|verify|diff) .*)?|sha256|Traceback|in|audit\.toml|RUN|pip install|"
    r"[\d:., ]*(s|min|h|MB|kB)?( \d+ s)?|n( =)?|[a-z]"
)
"""What is written alike in both languages: commands, names of files, units, letters of notes."""


def test_no_sentence_of_the_report_stays_english(tmp_path):
    """Every piece of own text that is the same on the German page is one of the few words alike."""
    cases = [(record, "auditor") for record in (story(tmp_path), record_of(), sample_record())]
    pages = [
        partial(render, record, tmp_path, edition=edition, since=CHANGED)
        for record, edition in [*cases, (people(), "public")]
    ]
    for page in [*pages, partial(difference_page, CHANGED)]:
        english = set(Chunks(page()).chunks)
        german = dict.fromkeys(Chunks(page(language="de")).chunks)
        left = [one for one in german if one in english and re.search(r"[A-Za-z]", one)]
        assert [one for one in left if not ALIKE.fullmatch(one)] == []


def test_every_suite_has_a_german_name_and_question():
    told = [text for words in wording.SUITES.values() for text in (words.title, words.question)]
    assert [text for text in told if translator("de")(text) == text] == []


def test_numbers_stay_where_they_are_in_other_languages(tmp_path):
    """Digits of own text, in their order, are those of the English page: no number is lost or moved."""
    record = story(tmp_path)
    pages = [Page(render(record, tmp_path, language=one)).text for one in ("en", "de")]
    english, german = (re.findall(r"(?<![a-zA-Z\d])(?:\d[\d.,]*\d|\d)", page) for page in pages)
    assert english == german


def test_the_catalogue_translates_only_what_the_report_says():
    """A sentence that nobody says any more would stand in the catalogue for ever."""
    catalogue = messages((Path(html.__file__).parent / "locale/de.po").read_text(encoding="utf-8"))
    sources = [
        f.read_text(encoding="utf-8")
        for f in Path(html.__file__).parent.rglob("*")
        if f.suffix in {".py", ".j2"}
    ]
    said = " ".join(re.sub(r'"\s+"', "", " ".join(sources)).split())
    said += " ".join(re.sub(r"\{[^}]*\}", "", said).split())
    assert len(catalogue) > 300

    def stands(part):
        """In a source as it is, or behind a word that was counted: "3 rules without a number"."""
        part = part.strip(" )")
        return part in said or part.partition(" ")[2] in said

    pieces = {one: re.split(r"[#,:;.-]+ ?", one) for one in catalogue}
    assert [one for one, parts in pieces.items() if not all(map(stands, parts))] == []
    assert (
        translator("de")("a sentence without a translation") == "a sentence without a translation"
    )


def test_a_catalogue_is_read_as_gettext_writes_it():
    text = (
        'msgid ""\nmsgstr "head"\n\n#: a.py:1\nmsgid "one "\n"two"\n'
        'msgstr "eins \\"zwei\\""\n\nmsgid "x"\nmsgstr ""\n'
    )
    assert messages(text) == {"one two": 'eins "zwei"', "x": ""}

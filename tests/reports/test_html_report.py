import ast
import base64
import hashlib
import re
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import msgspec
import pytest
import record_corpus
from hypothesis import HealthCheck, given, settings
from page_reader import Page
from planted_story import png, story
from record_corpus import combination, rate, record_of, run_of, sealed

from dlaudit.audit.evidence import EvidenceStore, digest
from dlaudit.audit.record import (
    Artifact,
    Card,
    Errored,
    Finding,
    Measured,
    Measurement,
    Requirement,
    Rule,
    Skipped,
    Undefined,
    Waiver,
    canonical,
    read_record,
)
from dlaudit.models import airlock
from dlaudit.reports import html, wording
from dlaudit.reports.html import render
from dlaudit.reports.outline import Outline
from dlaudit.reports.pictures import pictures

HOSTILE = "</script><b onclick='x'>\"&amp;</td></table>\N{SNOWMAN}{{ 7*7 }}"


def well_formed(page):
    assert page.faults == []
    assert len(page.ids) == len(set(page.ids)), "ids repeat"
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids, f"{link} leads nowhere"
        else:
            assert re.match(r"data:image/|evidence/[0-9a-f]{64}\.", link), link


def only_its_own_script(text):
    """One script, word for word the package's own, and the policy lets no other one run."""
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert script == (Path(html.__file__).parent / "templates/report.js").read_text()
    sha256 = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{sha256}';" in text
    assert text.count("<script") == 1


def test_the_whole_story_is_one_well_formed_file_without_any_address(tmp_path):
    text = render(story(tmp_path), tmp_path)
    page = Page(text)
    well_formed(page)
    only_its_own_script(text)
    assert not re.search(r"(?:src|href)=[\"'](?:https?:)?//", text)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"link", "iframe", "object", "embed", "form", "base"}


def test_dlaudit_s_own_sentences_claim_nothing(tmp_path):
    page = Page(render(story(tmp_path), tmp_path))
    assert len(page.own.split()) > 800
    assert wording.overclaims(page.own) == []


def test_quoted_text_may_say_what_it_likes():
    """The lint looks at this tool's sentences; what a plan says is shown as a quotation."""
    rule = Rule(
        id="certified and compliant", run="a.b", measurement="m", at_least=0, rationale="fair"
    )
    page = Page(render(record_of((), (rule,))))
    assert "certified and compliant" in page.text
    assert wording.overclaims(page.own) == []


@given(record_corpus.random_records())
@settings(max_examples=30, suppress_health_check=list(HealthCheck))
def test_everything_that_did_not_work_appears(record):
    """Every errored or skipped run and every undefined number is on the page, with its reason."""
    page = Page(render(record))
    well_formed(page)
    assert wording.overclaims(page.own) == []

    def there(text):
        assert " ".join(wording.printable(text).split()) in page.text

    shown = [(attrs["data-run"], attrs["data-outcome"]) for attrs in page.having("data-run")]
    undefined = [attrs["data-undefined"] for attrs in page.having("data-undefined")]
    for run in record.runs:
        match run.outcome:
            case Errored(error=error, message=message, traceback=traceback):
                assert (wording.printable(run.id), "errored") in shown
                for text in (error, message, traceback):
                    there(text)
            case Skipped(reason=reason, missing=missing):
                assert (wording.printable(run.id), "skipped") in shown
                for text in (reason, *missing):
                    there(text)
            case Measured():
                for number in run.outcome.undefined:
                    assert number.name in undefined
                    there(number.reason)
    for waiver in record.waivers:
        there(waiver.owner)
        there(waiver.reason)
    for verdict in record.verdicts:
        if verdict.status != "pass":
            there(verdict.reason)


@given(record_corpus.random_records())
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
def test_no_requirement_is_shown_as_supported_without_a_passing_rule_with_an_interval(record):
    outline = Outline(record)
    verdicts = {verdict.rule: verdict for verdict in record.verdicts}
    for shown in outline.findings:
        if shown.status == "supported-in-scope":
            speaking = [verdicts[rule] for rule in shown.finding.verdicts]
            assert speaking
            assert all(one.status == "pass" and one.observed for one in speaking)
            assert any(m.interval for one in speaking for m in one.observed)
    page = Page(render(record))
    groups = [a["data-finding-status"] for a in page.having("data-finding-status")]
    wanted = {shown.status for shown in outline.findings}
    assert set(groups) == wanted
    assert len(page.having("data-requirement")) == len(record.findings)


@pytest.mark.parametrize(
    ("status", "shown"),
    [("pass", "supported-in-scope"), ("fail", "contradicted"), ("inconclusive", "inconclusive"),
     ("not_assessed", "no-evidence")],
)  # fmt: skip
def test_a_claim_that_its_verdicts_do_not_bear_out_is_not_repeated(status, shown):
    record = combination(status, "measured", "none")
    claim = Finding(requirement="q", status="supported-in-scope", applicable="now", verdicts=("r",))
    requirement = Requirement(id="q", framework="f", cite="Article 1")
    record = msgspec.structs.replace(record, findings=(claim,), requirements=(requirement,))
    finding = Outline(record).findings[0]
    assert finding.status == shown
    assert bool(finding.doubt) == (status != "pass")
    empty = msgspec.structs.replace(record, findings=(msgspec.structs.replace(claim, verdicts=()),))
    assert Outline(empty).findings[0].status == "no-evidence"


def test_text_from_the_record_is_never_markup():
    rule = Rule(
        id=HOSTILE, run=HOSTILE, measurement="m", at_least=0.5, rationale=HOSTILE, origin=HOSTILE,
        slice={HOSTILE: HOSTILE}, conditions={HOSTILE: HOSTILE}, requirements=(HOSTILE,),
    )  # fmt: skip
    measurement = rate(
        "m", 5, 9, slice={HOSTILE: HOSTILE}, conditions={HOSTILE: HOSTILE}, unit=HOSTILE
    )
    artifact = Artifact(
        name=HOSTILE, media_type="image/png", sha256=HOSTILE, path=f"../{HOSTILE}", caption=HOSTILE,
        alt=HOSTILE,
    )  # fmt: skip
    undefined = Undefined(name=HOSTILE, reason=HOSTILE, slice={HOSTILE: HOSTILE})
    runs = (
        run_of(HOSTILE, Measured(measurements=(measurement,), undefined=(undefined,), artifacts=(artifact,)),
               device=HOSTILE, params={HOSTILE: HOSTILE}),
        run_of("e" + HOSTILE, Errored(error=HOSTILE, message=HOSTILE, traceback=HOSTILE)),
        run_of("s" + HOSTILE, Skipped(reason=HOSTILE, missing=(HOSTILE,))),
    )  # fmt: skip
    waiver = Waiver(run=HOSTILE, owner=HOSTILE, reason=HOSTILE, until=date(2030, 1, 1))
    card = Card(
        name=HOSTILE,
        fingerprint=HOSTILE,
        facts={HOSTILE: HOSTILE, "kind": HOSTILE, "airlock": HOSTILE},
    )
    record = record_of(
        runs, (rule,), waivers=(waiver,), model=card, data=card, models={HOSTILE: card},
        environment={HOSTILE: {HOSTILE: HOSTILE}}, tool={"version": HOSTILE}, started=HOSTILE,
        requirements=(Requirement(id=HOSTILE, framework=HOSTILE, cite=HOSTILE, title=HOSTILE),),
        findings=(Finding(requirement=HOSTILE, status="declared", applicable="now", limits=HOSTILE,
                          documents=(HOSTILE,)),),
    )  # fmt: skip
    plan = {**record.plan, "name": HOSTILE, "suites": [HOSTILE], "context": {HOSTILE: HOSTILE}}
    text = render(sealed(msgspec.structs.replace(record, plan=plan)))
    page = Page(text)
    well_formed(page)
    assert "<b onclick" not in text
    only_its_own_script(text)
    assert "49" not in page.own
    assert HOSTILE in page.text.replace("&amp;", "&amp;")


def test_very_long_names_do_not_break_the_page():
    long = "x" * 20_000
    rule = Rule(id=long, run=long, measurement="m", at_least=0.5)
    page = Page(
        render(record_of((run_of(long, Measured(measurements=(rate("m", 5, 9),))),), (rule,)))
    )
    well_formed(page)
    assert max(len(name) for name in page.ids) < 120


def test_two_names_that_look_alike_keep_their_own_targets():
    runs = [run_of(name, Errored(error="E", message="")) for name in ("a/b", "a b", "a.b")]
    well_formed(Page(render(record_of(runs))))


def test_rendering_is_deterministic(tmp_path):
    record = story(tmp_path)
    assert render(record, tmp_path) == render(read_record(canonical(record)), tmp_path)
    assert f'content="{digest(canonical(record))}"' in render(record)


def test_templates_are_compiled_once_and_the_page_is_the_same(monkeypatch):
    """Compiling takes longer than rendering: a second process finds the compiled ones."""
    html.environment.cache_clear()
    first = render(combination("pass", "measured", "none"))
    html.environment.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr("jinja2.Environment.compile", None)
        assert render(combination("pass", "measured", "none")) == first
    monkeypatch.setattr(html.os, "access", lambda *_: False)
    html.environment.cache_clear()
    assert html.environment().bytecode_cache is None
    assert render(combination("pass", "measured", "none")) == first
    html.environment.cache_clear()


def test_inline_runs_are_said_to_have_no_isolation():
    inline = {"executor": {"name": "inline", "isolated": False}}
    assert "no isolation" in Page(render(record_of(environment=inline))).text
    assert "no isolation" not in Page(render(record_of())).text
    silent = Page(render(record_of(environment={}))).text
    assert "does not say which executor" in silent


def test_a_model_that_was_loaded_by_running_its_file_is_said_first():
    reading = airlock.Reading(kind="pickle", objections=("calls os.system",), allowed=True)
    card = Card(
        name="net", fingerprint="0" * 64, facts={"airlock": {"weights": airlock.verdict(reading)}}
    )
    page = Page(render(record_of(model=card)))
    assert page.text.index("calls os.system") < page.text.index("The gate stays closed")


def test_a_model_that_was_read_as_data_needs_no_warning():
    facts = {"airlock": {"weights": "safetensors, read as data"}}
    page = Page(render(record_of(model=Card(name="net", fingerprint="0" * 64, facts=facts))))
    assert "How the model was loaded" not in page.text
    assert "read as weights: safetensors, read as data" in page.text


def test_a_plan_that_is_not_the_sealed_one_is_named():
    record = record_of()
    assert "not the one that was sealed" not in Page(render(record)).text
    forged = msgspec.structs.replace(record, plan={**record.plan, "seed": 8})
    assert "not the one that was sealed" in Page(render(forged)).text


def test_the_first_screen_names_subject_seal_answer_and_limits():
    text = Page(render(story())).text
    first = text[: text.index("Scope, limits, not covered", 900)]
    for words in (
        "digits classifier 1.4", "The gate stays closed", "Exit code 1: a rule failed", "net",
        "9,098 parameters", "holdout.npz", "600 (test)", "3f" * 32, "c0" * 32,
        "Sealed before the first check ran: 10 rules", "dlaudit 0.1.0", "2026-11-22 10:14:03 UTC",
        "It says nothing about other data", "What keeps the gate closed", "Executor process, 2 slots",
    ):  # fmt: skip
        assert words in first, words
    counts = first[: first.index("What keeps the gate closed")]
    assert "%" not in counts


def test_every_rule_shows_what_it_asks_and_what_stands_behind_it():
    page = Page(render(story()))
    for words in (
        "accuracy_gap ≤ 0.05", "0.105 [0.082, 0.132] 95 % newcombe", "1,800",
        "epsilon = 0.03137 (8/255)", "norm = linf", "suite:overfitting",
        "Agreed by the product owner, ticket 812.", "none given", "level asked",
        "exact, no sampling error: a count over all classes", "caveat that voids it",
        "does nothing any more, expired on 2026-10-31 by R. Meyer",
        "Waived until 2027-01-31 by R. Meyer: No camera in this product.",
    ):  # fmt: skip
        assert words in page.text, words


def test_worst_comes_first():
    page = Page(render(story()))
    order = [a["data-status"] for a in page.having("data-rule")]
    rank = ["fail", "not_assessed", "inconclusive", "pass"]
    assert order == sorted(order, key=rank.index)
    waived = combination("fail", "measured", "live")
    plain = combination("inconclusive", "measured", "none")
    both = msgspec.structs.replace(
        waived,
        rules=(*waived.rules, *(msgspec.structs.replace(r, id="r2") for r in plain.rules)),
        verdicts=(
            *waived.verdicts,
            *(msgspec.structs.replace(v, rule="r2") for v in plain.verdicts),
        ),
    )
    assert [a["data-rule"] for a in Page(render(both)).having("data-rule")] == ["r2", "r"]


def test_suites_that_did_not_run_are_named():
    text = Page(render(story())).text
    assert re.search(r"Data quality\s*0\s*0\s*0\s*0\s*did not run nobody has looked", text)
    assert "How far this reaches. Under the attacks, norms and budgets listed" in text


@pytest.mark.parametrize("status", ["fail", "not_assessed", "inconclusive", "pass"])
def test_each_status_has_a_word_a_shape_and_a_colour_of_its_own(status):
    """Never green from silence: only a pass wears the face of a pass."""
    text = render(combination(status, "measured", "none"))
    article = re.search(r"<article class=\"rule.*?</article>", text, re.DOTALL).group()
    faces = set(re.findall(r"face s-(\w+)", article))
    assert faces <= {status, "undefined"}
    assert f"#i-{status}" in article
    assert wording.VERDICTS[status].label in article
    assert ("#i-pass" in article) == (status == "pass")


# -- figures and pictures -------------------------------------------------------------------------


def test_curves_have_a_title_a_description_and_a_table_with_the_same_numbers():
    text = render(story())
    figure = re.search(r"<figure class=\"curve\".*?</figure>", text, re.DOTALL).group()
    page = Page(figure)
    assert {"title", "desc", "table", "caption", "polyline", "polygon"} <= {
        t for t, _ in page.elements
    }
    for words in ("attacks.fgsm", "attacks.pgd", "8/255", "0.425", "[0.386, 0.465]", "≥ 0.6"):
        assert words in page.text, words


def test_groups_stand_on_one_axis_with_the_value_over_everybody_as_reference():
    text = render(story())
    run = text[text.index('id="run-fairness.groups"') :]
    table = run[: run.index("</table>")]
    assert len(re.findall(r'class="strip" style="--l:[\d.]+;--h:[\d.]+;--p:[\d.]+"', table)) == 7
    assert re.search(r'<table class="panel" style="--r:[\d.]+">', table)


def test_a_table_of_many_rows_says_what_is_not_plotted():
    many = tuple(rate("m", 5, 9, slice={"class": str(k)}) for k in range(100))
    record = record_of((run_of("guest.many", Measured(measurements=many)),))
    page = Page(render(record))
    assert "20 further rows stand in the table without a mark" in page.text
    assert "class = 99" in page.text


def test_a_rule_over_many_groups_shows_the_worst_and_counts_the_rest():
    many = tuple(rate("m", 10 + k, 40, slice={"g": f"g{k}"}) for k in range(20))
    rule = Rule(id="r", run="guest.many", measurement="m", at_least=0.9)
    text = render(record_of((run_of("guest.many", Measured(measurements=many)),), (rule,)))
    article = text[text.index('id="rule-r"') :]
    page = Page(article[article.index("<table") : article.index("</table>") + 8])
    assert "g = g0" in page.text
    assert "g = g19" not in page.text
    assert "8 further measurements judged by this rule" in Page(text).text


def test_pictures_are_embedded_once_with_caption_and_alternative_text(tmp_path):
    text = render(story(tmp_path), tmp_path)
    images = [attrs for tag, attrs in Page(text).elements if tag == "img"]
    assert len(images) == 1, "the same picture of two runs is embedded once"
    assert images[0]["alt"] == "A 7 that is taken for a 2 after the attack."
    assert base64.b64decode(images[0]["src"].partition("base64,")[2]) == png()
    assert "the same picture as one above, not repeated" in text
    assert "Clean, attacked and their difference, magnified." in text


def with_pictures(folder, *contents, media_type="image/png"):
    store = EvidenceStore(folder)
    kept = [store.keep(f"p{k}", c, media_type=media_type) for k, c in enumerate(contents)]
    return record_of((run_of("a.b", Measured(artifacts=tuple(kept))),)), kept


def test_what_is_not_embedded_is_said_by_name(tmp_path):
    record, kept = with_pictures(tmp_path, png(90, 90), png(200, 200))
    small = len((tmp_path / kept[0].path).read_bytes()) * 4 // 3 + 100
    found = pictures(record, tmp_path, budget=small)
    assert found[kept[0].sha256].uri.startswith("data:image/png;base64,")
    assert "not embedded" in found[kept[1].sha256].reason
    page = Page(render(record))
    assert "rendered without the run's folder" in page.text
    assert "p1" in page.text


def test_runs_take_turns_in_the_budget(tmp_path):
    store = EvidenceStore(tmp_path)
    shots = [store.keep(f"p{k}", png(60, 60 + k), media_type="image/png") for k in range(3)]
    record = record_of((
        run_of("a.b", Measured(artifacts=tuple(shots[:2]))), run_of("a.c", Measured(artifacts=(shots[2],))),
    ))  # fmt: skip
    one = len((tmp_path / shots[2].path).read_bytes()) * 4 // 3 + 64
    found = pictures(record, tmp_path, budget=2 * one)
    assert [bool(found[shot.sha256].uri) for shot in shots] == [True, False, True]


def test_an_altered_a_missing_and_a_straying_picture_are_not_shown(tmp_path):
    folder = tmp_path / "run"
    record, (shot,) = with_pictures(folder, png())
    (folder / shot.path).write_bytes(b"something else")
    assert "was altered" in pictures(record, folder)[shot.sha256].reason
    (folder / shot.path).unlink()
    assert "is missing" in pictures(record, folder)[shot.sha256].reason
    (tmp_path / "secret.png").write_bytes(png())
    stray = msgspec.structs.replace(shot, path="../secret.png")
    record = record_of((run_of("a.b", Measured(artifacts=(stray,))),))
    assert "leads out of the run's folder" in pictures(record, folder)[shot.sha256].reason
    assert "../secret.png" not in Page(render(record, folder)).links


def test_an_svg_picture_is_shown_as_an_image_and_so_cannot_run(tmp_path):
    drawing = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    record, _ = with_pictures(tmp_path, drawing, media_type="image/svg+xml")
    text = render(record, tmp_path)
    only_its_own_script(text)
    assert 'src="data:image/svg+xml;base64,' in text


def test_a_report_with_many_pictures_stays_below_two_megabytes(tmp_path):
    import os

    noise = [os.urandom(90_000) for _ in range(60)]
    record, _ = with_pictures(tmp_path, *noise)
    assert len(render(record, tmp_path).encode()) < 2_000_000


def test_two_hundred_rules_with_pictures_stay_below_five_megabytes(tmp_path):
    import os

    store = EvidenceStore(tmp_path)
    runs, rules = [], []
    for k in range(20):
        numbers = tuple(
            rate("m", 300 + j, 600, slice={"class": str(j % 10), "site": f"s{j // 10}"})
            for j in range(100)
        )
        shots = tuple(
            store.keep(f"p{k}.{j}", os.urandom(60_000), media_type="image/png") for j in range(2)
        )
        runs.append(run_of(f"guest.r{k}", Measured(measurements=numbers, artifacts=shots)))
        rules += [
            Rule(id=f"rule {k}-{j}", run=f"guest.r{k}", measurement="m", slice={"class": str(j)},
                 at_least=0.5)
            for j in range(10)
        ]  # fmt: skip
    text = render(record_of(runs, rules), tmp_path)
    assert text.count("data-rule=") == 200
    assert text.count("<img") > 10
    assert len(text.encode()) < 5_000_000


def test_a_thousand_rules_and_ten_thousand_measurements_are_rendered(capsys):
    runs = [
        run_of(f"guest.r{k}", Measured(measurements=tuple(
            rate("m", 300 + j, 600, slice={"class": str(j)}) for j in range(50))))
        for k in range(200)
    ]  # fmt: skip
    rules = [
        Rule(id=f"rule {k}-{j}", run=f"guest.r{k}", measurement="m", slice={"class": str(j)}, at_least=0.5)
        for k in range(200) for j in range(5)
    ]  # fmt: skip
    record = record_of(runs, rules)
    started = time.perf_counter()
    page = render(record)
    with capsys.disabled():
        took, size = time.perf_counter() - started, len(page) / 1e6
        print(f" [1,000 rules, 10,000 measurements: {took:.1f} s, {size:.1f} MB]", end="")
    assert page.count("data-rule=") == 1000


def test_links_lead_only_to_evidence():
    assert html.href("evidence/" + "0" * 64 + ".npz")
    assert html.href("javascript:alert(1)") == ""
    assert html.href("https://example.org/evidence/" + "0" * 64 + ".npz") == ""
    assert html.href("evidence/../../x.npz") == ""


def test_samples_are_counted_from_splits_then_answers_then_the_card():
    splits = {
        name: Card(name=name, fingerprint="", facts={"n": n})
        for name, n in (("test", 1200), ("train", 9))
    }
    data = Card(name="d", fingerprint="", splits=splits, facts={"n": 5})
    assert html.samples_of(record_of(data=data)) == "1,200 (test), 9 (train)"
    assert (
        html.samples_of(record_of(data=Card(name="d", fingerprint="", facts={"n": 5})))
        == "5 (test)"
    )
    assert (
        html.samples_of(msgspec.structs.replace(story(), data=Card(name="d", fingerprint="")))
        == "600 (test)"
    )
    assert html.samples_of(record_of(data=Card(name="d", fingerprint=""))) == ""


def test_a_record_whose_parts_do_not_fit_together_is_still_shown():
    """A verdict without its rule, a rule without a verdict, a finding without its requirement."""
    record = combination("pass", "measured", "none")
    lonely = msgspec.structs.replace(
        record,
        rules=(msgspec.structs.replace(record.rules[0], id="unjudged"),),
        findings=(Finding(requirement="gone", status="declared", applicable="now", verdicts=("r", "x")),),
    )  # fmt: skip
    page = Page(render(lonely))
    well_formed(page)
    assert "The record holds no rule of this id" in page.text
    assert "the record holds no verdict for it" in page.text
    assert "gone" in page.text


def test_a_run_that_measured_nothing_says_so():
    record = record_of((run_of("a.b", Measured()),))
    assert "came to its end and measured nothing" in Page(render(record)).text


def test_exact_zero_width_numbers_are_drawn_as_diamonds():
    exact = Measurement(name="count", value=2, n=3, exact="a count")
    text = render(record_of((run_of("a.b", Measured(measurements=(exact,))),)))
    assert re.search(r'class="strip exact" style="--p:[\d.]+"', text)


def test_rendering_loads_neither_torch_nor_any_other_heavy_library(tmp_path):
    """``gate`` and ``report`` answer in a second on a machine that could not run the model."""
    (tmp_path / "record.json").write_bytes(canonical(story()))
    program = (
        "import sys, pathlib\n"
        "from dlaudit.audit.record import read_record\n"
        "from dlaudit.reports import html, json, junit, markdown, notebook, sarif, text\n"
        "record = read_record(pathlib.Path(sys.argv[1]).read_bytes())\n"
        "for module in (html, json, junit, markdown, sarif): module.render(record)\n"
        "notebook.summary(record), text.screen(record)\n"
        "heavy = {'torch', 'numpy', 'scipy', 'pandas', 'sklearn', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "record.json")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "[]"


def test_renderers_know_the_record_the_judge_and_the_evidence_only():
    """The house's table of who may know whom, read from the imports."""
    allowed = {"audit.record", "audit.judge", "audit.evidence", "errors"}
    for file in Path(html.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dlaudit."):
                name = node.module.removeprefix("dlaudit.")
                typed = file.name in {"difference.py", "html.py"} and name == "audit.difference"
                assert name in allowed or name.startswith("reports") or typed, (file.name, name)

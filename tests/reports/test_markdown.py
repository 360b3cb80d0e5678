import re
from datetime import date

import msgspec
from planted_story import story
from record_corpus import combination, rate, record_of, run_of

from dlaudit.audit.record import Errored, Measured, Rule, Verdict, Waiver
from dlaudit.reports.markdown import render


def test_the_first_line_is_a_mark_by_which_a_bot_finds_its_comment():
    assert render(story()).splitlines()[0] == "<!-- dlaudit:digits-classifier-1.4 -->"
    record = record_of()
    for name in ("a --> b", "--", "", "x" * 9999, "<!-- -->"):
        first = render(msgspec.structs.replace(record, plan={"name": name})).splitlines()[0]
        assert re.fullmatch(r"<!-- dlaudit:[\w.]+(-[\w.]+)* -->", first), first


def test_worst_stands_first_and_the_answer_above_all():
    lines = render(story()).splitlines()
    assert lines[1] == "## The gate stays closed: digits classifier 1.4"
    rows = [line for line in lines if line.startswith("| ")][1:]
    words = [re.sub(r"^\|\W*([a-z ]+?)(, waived)? \|.*", r"\1", row) for row in rows]
    assert words == [
        "failed", "failed", "failed", "not assessed", "not assessed", "inconclusive",
        "inconclusive", "skipped", "skipped", "passed", "passed", "passed",
    ]  # fmt: skip


def test_every_number_has_its_n():
    rows = [
        line for line in render(story()).splitlines() if re.match(r"\| . (failed|passed)", line)
    ]
    assert rows
    assert all("n = " in row for row in rows)


def test_a_summary_stays_below_one_mebibyte_and_says_what_it_left_out():
    long = "long words " * 60
    rules = [
        Rule(id=f"{k:05} {long}", run="a.b", measurement="m", at_least=0, rationale=long)
        for k in range(4000)
    ]
    verdicts = [Verdict(rule=rule.id, status="fail", reason=long) for rule in rules]
    record = record_of((run_of("a.b", Measured()),), rules, verdicts=verdicts)
    text = render(record)
    assert len(text.encode()) < 2**20
    left = int(re.search(r"([\d,]+) rows left out", text).group(1).replace(",", ""))
    assert len(re.findall(r"failed \|", text)) + left == 4000
    assert text.rstrip().endswith("</sub>"), "the end is still there"


def test_text_from_the_record_is_neither_markup_nor_a_mention():
    text = "|a|\n# b `c` <b> [x](http://y) @all ![z](q) ~~no~~ $x$ :smile: www.example.org"
    record = record_of((run_of(text, Errored(error="E", message=text)),))
    row = next(line for line in render(record).splitlines() if "smile" in line)
    cells = re.split(r"(?<!\\)\|", row)
    assert len(cells) == 6, "four cells, whatever the text holds"
    assert "<b>" not in row
    assert "@all" not in row
    assert r"\[x\](http\://y)" in row
    assert r"\:smile:" in row
    assert "www.example" not in row


def test_waivers_and_suites_that_did_not_run_are_told():
    text = render(combination("fail", "measured", "live"))
    assert "failed, waived" in text
    assert "waived until 2027-01-01 by A. Owner: known" in text
    assert "Suites that did not run, and so have shown nothing: Overfitting" in text


def test_a_skipped_run_s_waiver_is_told():
    waiver = Waiver(run="g.a", owner="O", reason="why", until=date(2030, 1, 1))
    record = record_of((run_of("g.a", Errored(error="E", message="")),), waivers=(waiver,))
    assert "waived until 2030-01-01 by O: why" in render(record)


def test_a_passing_number_is_shown_with_its_interval():
    rule = Rule(id="r", run="a.b", measurement="m", at_least=0.9)
    record = record_of((run_of("a.b", Measured(measurements=(rate("m", 590, 600),))),), (rule,))
    assert r"0.983 \[0.970, 0.991\]" in render(record)

from page_reader import Page
from planted_story import story
from record_corpus import combination, rate, record_of

from dlaudit.audit.difference import Change, Difference, Flip, Pairing, Turn
from dlaudit.audit.record import Interval
from dlaudit.reports import wording
from dlaudit.reports.demo import demo_index
from dlaudit.reports.difference import FLIPS, text
from dlaudit.reports.difference import page as difference_page
from dlaudit.reports.html import render


def test_the_demo_s_page_sets_what_was_planted_beside_what_was_found():
    records = {
        "planted": combination("fail", "measured", "none"),
        "clean": combination("pass", "measured", "none"),
    }
    page = Page(demo_index(records, {"r": "a trigger in the corner"}))
    assert page.faults == []
    assert {"planted/report.html", "clean/report.html"} <= set(page.links)
    assert "planted: a trigger in the corner" in page.text
    assert "The gate stays closed" in page.text
    assert "The gate opens" in page.text
    assert wording.overclaims(page.own) == []
    assert "<script" not in demo_index(records)


def test_a_criterion_that_one_twin_lacks_is_not_assessed_there():
    records = {"planted": combination("fail", "measured", "none"), "clean": record_of()}
    page = Page(demo_index(records))
    assert "no such rule in this audit" in page.text
    assert "no defect was planted for it" in page.text


def pairing(flips):
    return Pairing(
        run="attacks.pgd", outcome="per_sample: robust", n=600, only_first=2, only_second=flips,
        difference=(flips - 2) / 600, interval=Interval(low=-0.01, high=0.05, method="agresti-min"),
        p=0.0123, flips=tuple(Flip(id=f"s{k}\x1b[1m", before="no", after="yes") for k in range(flips)),
    )  # fmt: skip


def difference(**changes):
    values = {
        "first": "before", "second": "after", "same_plan": True, "same_model": False,
        "same_data": True, "pairings": (), "changes": (), "turns": (), "criteria": (),
    }  # fmt: skip
    return Difference(**(values | changes))


def test_moved_criteria_come_before_everything_that_they_explain():
    said = text(
        difference(
            criteria=("r: was m >= 0.6, is m >= 0.5",),
            turns=(Turn(rule="r", before="fail", after="pass"), Turn(rule="new", before=None, after="pass")),
            pairings=(pairing(14),),
            changes=(Change(run="a.b", name="m", slice={"g": "x"}, conditions={}, before=rate("m", 5, 10),
                            after=None),),
        )
    )  # fmt: skip
    order = [
        "DIFFERENT",
        "was m >= 0.6",
        "r: failed -> passed",
        "attacks.pgd, per_sample",
        "a.b m (g = x)",
    ]
    assert [said.index(words) for words in order] == sorted(said.index(words) for words in order)
    assert "plan the same, model DIFFERENT, data the same" in said
    assert "new: no such rule -> passed" in said
    assert f"and {14 - FLIPS} more" in said
    assert "n = 600, p = 0.0123 (McNemar); 2 yes -> no, 14 no -> yes" in said
    assert "-> not measured" in said
    assert "\x1b" not in said


def test_nothing_is_said_to_be_equal_that_was_not_compared():
    said = text(difference())
    assert "No sample is in both runs." in said
    assert said.count("none") == 3
    many = tuple(
        Change(run="a", name="m", slice={}, conditions={}, before=None, after=rate("m", 1, 2))
        for _ in range(70)
    )
    assert "and 10 more" in text(difference(changes=many))
    assert "flipped" not in text(difference(pairings=(pairing(0),)))


def test_the_page_shows_moved_criteria_first_and_in_red():
    html = difference_page(
        difference(
            criteria=("r: was m >= 0.6, is m >= 0.5",),
            turns=(Turn(rule="r", before="fail", after="pass"),),
            pairings=(pairing(14),),
            changes=(Change(run="a.b", name="m", slice={"g": "x"}, conditions={}, before=rate("m", 5, 10),
                            after=None),),
        )
    )  # fmt: skip
    shown = Page(html)
    assert shown.faults == []
    assert 'class="moved"' in html
    assert [a["data-turn"] for a in shown.having("data-turn")] == ["r"]
    assert len(shown.having("data-flip")) == 14
    order = ["was m >= 0.6", "Verdicts that turned", "p = 0.0123 (McNemar)", "not measured"]
    assert [shown.text.index(words) for words in order] == sorted(
        shown.text.index(w) for w in order
    )
    quiet = Page(difference_page(difference()))
    assert "judged by the same rules" in quiet.text
    assert "No sample is in both runs." in quiet.text


def test_a_report_tells_what_changed_since_an_earlier_run(tmp_path):
    moved = difference(
        criteria=("r: was m >= 0.6, is m >= 0.5",),
        turns=(Turn(rule="r", before="fail", after="pass"),),
        pairings=(pairing(14),),
    )
    record = story(tmp_path)
    page = Page(render(record, tmp_path, since=moved))
    assert page.faults == []
    assert len(page.ids) == len(set(page.ids))
    section = page.text[page.text.rindex("13 Changes since") : page.text.rindex("14 Criteria and")]
    for words in ("was m >= 0.6", "another one", "14 flipped samples", "p = 0.0123"):
        assert words in section
    assert len(page.having("data-moved")) == 1
    public = Page(render(record, tmp_path, edition="public", since=moved))
    assert public.having("data-moved") == public.having("data-flip") == []
    assert "Criteria that moved: 1. Verdicts that turned: 1." in public.text
    assert "made without an earlier one" in Page(render(record, tmp_path)).text

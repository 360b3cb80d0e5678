"""Reports in a real browser: what it shows, what it asks for, and what axe-core has to say.

Needs chromium and, in ``tests/browser``, what ``npm ci`` installs; skipped with the reason otherwise.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import msgspec
import numpy as np
import pytest
from attack_tables import attack, fell
from planted_story import story
from record_corpus import record_of

from dlaudit.audit.difference import Difference, Flip, Pairing, Turn
from dlaudit.audit.judge import judge
from dlaudit.audit.record import Interval, Rule
from dlaudit.audit.statistics import wilson
from dlaudit.reports import charts
from dlaudit.reports.demo import demo_index
from dlaudit.reports.difference import page as difference_page
from dlaudit.reports.html import render

BROWSER = Path(__file__).parents[1] / "browser"
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
NODE = shutil.which("node") or ""

if not CHROMIUM or not NODE:
    MISSING = f"needs {'node' if CHROMIUM else 'chromium'}"
elif not (BROWSER / "node_modules" / "axe-core").is_dir():
    MISSING = "needs `npm ci --prefix tests/browser`"
else:
    MISSING = ""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(bool(MISSING), reason=MISSING),
]


GUIDE = Path(__file__).parents[2] / "docs" / "reading-the-report.md"

ANSWERS = {
    "What exactly was audited?": ["9098", "3f" * 32],
    "What keeps the gate closed?": ["robust_accuracy \u2265 0.6", "0.285", "n", "600"],
    "What exactly was attacked?": ["linf", "8/255", "restarts"],
    "How many people are in a group?": ["race = African-American", "3,696"],
    "What was not looked at?": [
        "no answer within 120 s",
        "the data set has no masks",
        "Data quality",
    ],
    "Which articles have no evidence?": [
        "Article 20",
        "Article 39",
        "Nothing in this audit speaks of it",
    ],
    "Who fixed this threshold, when, and why?": [
        "2026-11-22 10:14:03 UTC",
        "ticket 812",
        "suite:overfitting",
    ],
    "Which raw file stands behind this number?": ["raw file", "per_sample", "2226941e74c6"],
    "Who stated what was not tested?": ["R. Meyer", "No camera in this product", "Article 9(5)"],
    "How do I get the same numbers?": ["dlaudit run audit.toml", "dlaudit verify"],
}
"""What a reader must find behind the clicks of the guide, in the report of the planted story."""


def guided():
    """(question, links to click) from the table of the guide."""
    rows = re.findall(
        r"^\| ([^|]+\?) \| ([^|]+) \|", GUIDE.read_text(encoding="utf-8"), re.MULTILINE
    )
    return [(question, re.findall(r"\*([^*]+)\*", links)) for question, links in rows]


def look(tasks, folder):
    """What one browser saw of every page."""
    asked = folder / "tasks.json"
    asked.write_text(json.dumps(tasks))
    ended = subprocess.run(
        [NODE, str(BROWSER / "look.mjs"), CHROMIUM, str(asked)],
        capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
    return json.loads(ended.stdout)


def tried(record):
    """For every rule with numbers: thresholds at, between and beyond the ends of its intervals."""
    found = []
    for rule, verdict in zip(record.rules, record.verdicts, strict=True):
        ends = [end for seen in verdict.observed for end in charts.extent(seen)]
        if ends:
            around = (min(ends) - 1, ends[0], sum(ends) / len(ends), max(ends) + 1)
            found += [(rule.id, value) for value in around]
    return found


FALLEN = {
    "attacks.nearest": fell(s0=(0.1, 0.02, 1), s1=(0.1, 0.05, 2), s2=(0.2, 0.15, 0)),
    "attacks.filling": fell(s0=(0.1, 0.1, 1), s3=(0.2, 0.1999999, 2)),
}


def slid(folder):
    """Two attacks on the same samples, one that looks for nearest examples, each judged twice."""
    runs = [attack(folder, name, made) for name, made in FALLEN.items()]
    rules = [
        Rule(id=f"{run.id} {at}", run=run.id, measurement="robust_accuracy", at_least=at)
        for run in runs for at in (0.3, 0.9)
    ]  # fmt: skip
    return record_of(runs, rules)


CHANGED = Difference(
    first="before", second="after", same_plan=False, same_model=False, same_data=True,
    pairings=(Pairing(
        run="attacks.pgd", outcome="per_sample: robust", n=600, only_first=2, only_second=14,
        difference=0.02, interval=Interval(low=-0.01, high=0.05, method="agresti-min"), p=0.0123,
        flips=tuple(Flip(id=f"s{k}", before="no", after="yes") for k in range(14)),
    ),),
    changes=(), turns=(Turn(rule="r", before="fail", after="pass"),),
    criteria=("r: was m >= 0.6, is m >= 0.5",),
)  # fmt: skip
PAGES = ("report", "german", "public", "sliders", "difference", "demo")
MEDIA = {
    "report": ["light", "dark", "print"],
    "difference": ["light", "dark"],
    "demo": ["light", "dark"],
}
"""Where axe looks; the other pages have no colours of their own."""


@pytest.fixture(scope="session")
def seen(tmp_path_factory):
    """Every kind of page, looked at once: page -> what was seen, and the record of the report."""
    folder = tmp_path_factory.mktemp("browser")
    record, sliding = story(folder), slid(folder)
    pages = {
        "report": render(record, folder, since=CHANGED),
        "german": render(record, folder, language="de", since=CHANGED),
        "public": render(record, folder, edition="public"),
        "sliders": render(sliding, folder),
        "difference": difference_page(CHANGED),
        "demo": demo_index({"planted": record, "clean": sliding}, {}),
        "bad": BAD,
    }
    tasks = []
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
        tasks.append({
            "name": name, "file": str(folder / f"{name}.html"), "media": MEDIA.get(name, ["light"]),
            "living": name in {"report", "sliders"},
            "thresholds": tried(record) if name == "report" else [],
            "clicks": [links for _, links in guided()] if name == "report" else [],
        })  # fmt: skip
    return record, look(tasks, folder)


@pytest.fixture(scope="session")
def shown(seen):
    """The record of the report, and what was seen of it."""
    return seen[0], seen[1]["report"]


BAD = (
    "<title>x</title><body style='color:#bbb;background:#fff;width:3000px'><main>pale text"
    "<img src='missing.png'></main><script>throw new Error('planted')</script>"
)


@pytest.mark.parametrize("page", PAGES)
def test_nothing_is_asked_for_and_nothing_goes_wrong(seen, page):
    assert seen[1][page]["errors"] == []
    assert seen[1][page]["requests"] == []


@pytest.mark.parametrize("page", PAGES)
def test_axe_finds_no_violation_of_wcag_2_2_a_or_aa(seen, page):
    asked = MEDIA.get(page, ["light"])
    assert seen[1][page]["violations"] == {media: [] for media in asked}


@pytest.mark.parametrize("width", ["390", "794", "1366"])
@pytest.mark.parametrize("page", PAGES)
def test_the_page_is_no_wider_than_the_screen(seen, page, width):
    assert seen[1][page]["overflow"][width] <= 0


def test_the_keyboard_alone_reaches_everything(shown):
    assert shown[1]["stops"] > 50
    assert shown[1]["unreached"] == []


def test_the_theme_can_be_turned(shown):
    before, after = shown[1]["theme"]
    assert before != after


def test_thresholds_are_judged_in_the_page_as_the_judge_does(shown):
    """Hundreds of thresholds on and around the ends of intervals: page and judge say the same."""
    record, seen = shown
    runs = {run.id: run for run in record.runs}
    rules = {rule.id: rule for rule in record.rules}
    cases = tried(record)
    assert len(cases) >= 20
    statuses = set()
    for (id_, value), told in zip(cases, seen["rejudged"], strict=True):
        rule = rules[id_]
        side = "at_least" if rule.at_least is not None else "at_most"
        if value == rule.threshold:
            continue
        expected = judge(msgspec.structs.replace(rule, **{side: float(value)}), runs).status
        statuses.add(expected)
        assert f"would be {seen['words'][expected]} (" in told, (id_, value, told, expected)
    assert {"pass", "fail", "inconclusive"} <= statuses


def test_the_recorded_verdicts_stay_where_they_are(shown):
    record, seen = shown
    assert sorted(seen["recorded"]) == sorted(verdict.status for verdict in record.verdicts)


def test_the_search_leaves_what_was_asked_for(shown):
    search = shown[1]["search"]
    assert search["asked"] in search["shown"]
    assert len(search["shown"]) < len(shown[0].rules)


def test_a_link_opens_what_is_folded(shown):
    assert shown[1]["unfolded"]


def test_without_javascript_it_is_a_plain_document(shown):
    plain = shown[1]["plain"]
    assert plain["text"] > 10_000
    assert plain["hidden"] == plain["controls"] == 0


def test_on_paper_it_is_a4(shown):
    paper = shown[1]["paper"]
    assert paper["pages"] > 5
    assert paper["folded"] == 0, "what is folded on the screen is open on paper"
    assert paper["heads"] == ["table-header-group"], "heads of tables are repeated on every page"
    (box,) = paper["boxes"]
    width, height = (float(x) for x in re.findall(r"[\d.]+", box)[2:])
    assert (round(width), round(height)) in {(595, 842), (594, 842), (595, 841)}


def test_budgets_are_judged_in_the_page_as_python_judges_them(seen):
    """At every stop of every slider: samples left, interval and verdict, counted again from the rows."""
    for name, told in seen[1]["sliders"]["budgets"].items():
        made = FALLEN[name]
        lost = made["fooled"]
        at = made["epsilon_fooled"][lost]
        if name == "attacks.nearest":
            at = np.minimum(at, made["distance"][lost])
        for stop, text in enumerate(told):
            left = int(made["attacked"].sum()) - int((at <= 0.2 * stop / 200 * (1 + 1e-5)).sum())
            here = wilson(left, 8)
            budget, value, low, high = map(float, re.findall(r"[\d.]+", text)[:4])
            assert budget == pytest.approx(0.2 * stop / 200, rel=5e-3)
            assert (value, low, high) == pytest.approx((left / 8, here.low, here.high), abs=6e-4)
            for threshold in (0.3, 0.9):
                status = (
                    "pass"
                    if here.low >= threshold
                    else "fail"
                    if here.high < threshold
                    else "inconclusive"
                )
                word = seen[1]["sliders"]["words"][status]
                assert f"\u2265 {threshold}: would be {word}" in text, (name, stop, text)
    assert set(seen[1]["sliders"]["budgets"]) == set(FALLEN)


@pytest.mark.parametrize("number", range(10))
def test_ten_questions_are_answered_in_at_most_two_clicks(shown, number):
    question, links = guided()[number]
    answer = shown[1]["answers"][number]
    assert 1 <= len(links) <= 2
    assert "missing" not in answer, (question, answer)
    assert answer["visible"]
    text = " ".join(answer["text"].split())
    for words in ANSWERS[question]:
        assert words in text, (question, words, answer["id"])


def test_the_guide_asks_ten_questions():
    assert [question for question, _ in guided()] == list(ANSWERS)


def test_what_is_wrong_with_a_page_is_seen(seen):
    """The instruments work: a page with faults of each kind is not called sound."""
    bad = seen[1]["bad"]
    assert any("planted" in error for error in bad["errors"])
    assert any("missing.png" in url for url in bad["requests"])
    found = {one.partition(":")[0] for one in bad["violations"]["light"]}
    assert {"color-contrast", "html-has-lang", "image-alt"} <= found
    assert bad["overflow"]["390"] > 0

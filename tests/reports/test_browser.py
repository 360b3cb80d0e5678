"""Reports in a real browser: what it shows, what it asks for, and what axe-core has to say.

Needs chromium and, in ``tests/browser``, what ``npm ci`` installs; skipped with the reason otherwise.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest
from planted_story import story

from dlaudit.audit.judge import judge
from dlaudit.reports import charts
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

pytestmark = [pytest.mark.browser, pytest.mark.skipif(bool(MISSING), reason=MISSING)]


def look(file, thresholds=()):
    ended = subprocess.run(
        [NODE, str(BROWSER / "look.mjs"), CHROMIUM, str(file), json.dumps(list(thresholds))],
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


@pytest.fixture(scope="session")
def shown(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    record = story(folder)
    file = folder / "report.html"
    file.write_text(render(record, folder), encoding="utf-8")
    return record, look(file, tried(record))


def test_nothing_is_asked_for_and_nothing_goes_wrong(shown):
    _, seen = shown
    assert seen["errors"] == []
    assert seen["requests"] == []


@pytest.mark.parametrize("media", ["light", "dark", "print"])
def test_axe_finds_no_violation_of_wcag_2_2_a_or_aa(shown, media):
    assert shown[1]["violations"][media] == []


@pytest.mark.parametrize("width", ["390", "794", "1366"])
def test_the_page_is_no_wider_than_the_screen(shown, width):
    assert shown[1]["overflow"][width] <= 0


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
    (box,) = paper["boxes"]
    width, height = (float(x) for x in re.findall(r"[\d.]+", box)[2:])
    assert (round(width), round(height)) in {(595, 842), (594, 842), (595, 841)}


def test_what_is_wrong_with_a_page_is_seen(tmp_path):
    """The instruments work: a page with faults of each kind is not called sound."""
    (tmp_path / "bad.html").write_text(
        "<title>x</title><body style='color:#bbb;background:#fff;width:3000px'><main>pale text"
        "<img src='missing.png'></main><script>throw new Error('planted')</script>"
    )
    seen = look(tmp_path / "bad.html")
    assert any("planted" in error for error in seen["errors"])
    assert any("missing.png" in url for url in seen["requests"])
    found = {one.partition(":")[0] for one in seen["violations"]["light"]}
    assert {"color-contrast", "html-has-lang", "image-alt"} <= found
    assert seen["overflow"]["390"] > 0

"""Pictures show the numbers of the record where they belong, and leave out no group unsaid."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaudit.fairness import pictures, scoring
from dlaudit.fairness.amplification import Amplification
from dlaudit.fairness.disparity import Disparity
from dlaudit.fairness.groups import Groups
from dlaudit.fairness.pictures import Line, Mark, Panel
from dlaudit.fairness.scores import Scoring
from dlaudit.fairness.what_if import WhatIf
from dlaudit.reports.pictures import is_picture

SPACE = "{http://www.w3.org/2000/svg}"


def texts(svg):
    return [one.text for one in ET.fromstring(svg).iter(f"{SPACE}text")]


def circles(svg):
    return [float(one.get("cx")) for one in ET.fromstring(svg).iter(f"{SPACE}circle")]


def test_a_mark_stands_where_its_number_is():
    """An axis from 0 to 1 over 142 units from 150 on: a half is at 221."""
    marks = [Mark(0.5, 0.0, 1.0, 1200), "undefined", "reference"]
    svg = pictures.forest_svg(["a", "b", "c"], [Panel("rate", 0.25, marks)], line="everybody")
    assert circles(svg) == [221.0]
    assert {"a", "b", "c", "n 1,200", "undefined", "reference", "dashed: everybody"} <= set(
        texts(svg)
    )
    assert b'd="M185.5 38V116"' in svg  # the dashed line, at a quarter


@given(
    values=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=8),
    name=st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=40),
)
def test_any_name_and_any_number_make_a_picture(values, name):
    marks = [Mark(value, value - 1, value + 2, 30) for value in values]
    names = [name] * len(marks)
    svg = pictures.forest_svg(names, [Panel(name, None, marks)], line=name)
    assert all(pictures.LABEL <= x <= pictures.LABEL + pictures.PANEL for x in circles(svg))
    assert svg == pictures.forest_svg(names, [Panel(name, None, marks)], line=name)
    points = [(value, value) for value in sorted(values)]
    ET.fromstring(pictures.lines_svg([Line(name, points)], across=name, up=name))


def test_lines_beyond_those_that_can_be_told_apart_are_not_drawn():
    lines = [Line(f"line {i}", [(0.0, 0.1), (1.0, 0.5)]) for i in range(9)]
    shown = texts(pictures.lines_svg(lines, across="x", up="y", diagonal=True))
    assert [f"line {i}" in shown for i in range(9)] == [i < pictures.LINES for i in range(9)]


def test_the_curve_of_a_case_computed_by_hand():
    """Forty samples, two bins of twenty: half of the low ones and all of the high ones are positive."""
    scores = np.r_[np.full(20, 0.2), np.full(20, 0.8)]
    y = np.r_[np.tile([0, 1], 10), np.ones(20)].astype(int)
    low, high = scoring.curve(scores, y)
    assert low[:2] == pytest.approx((0.2, 0.5))
    assert high[:2] == pytest.approx((0.8, 1.0))
    assert low[2] < 0.5 < low[3]
    assert len(scoring.curve(scores[:15], y[:15])) == 1


@pytest.fixture
def drawn(bench_of):
    def of(check, classes=("no", "yes"), groups=4):
        rng = np.random.default_rng(0)
        n = 2000
        logit = rng.normal(size=n)
        y = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(int)
        score = 1 / (1 + np.exp(-logit))
        group = np.array([f"g{i:02d}" for i in range(groups)])[rng.integers(0, groups, n)]
        group = group.astype("U8")
        group[:5] = "tiny"
        other = rng.choice(["u", "v"], n)
        bench = bench_of(
            y,
            (score > 0.5).astype(int),
            {"site": group, "sex": other},
            score=score,
            classes=classes,
        )
        found = {}
        for one in check.measure(bench):
            if hasattr(one, "media_type") and is_picture(one):
                assert one.alt
                found[one.name.split(".", 2)[2]] = (
                    one,
                    (bench._store.folder / one.path.split("/")[1]).read_bytes(),
                )
        return found

    return of


def test_rates_and_differences_of_every_attribute_are_drawn_and_intersections_are_not(drawn):
    found = drawn(Groups(intersections=True))
    assert set(found) == {"site.yes.groups", "sex.yes.groups"}
    artifact, svg = found["site.yes.groups"]
    assert {"selection rate", "false positive rate", "g00", "tiny", "undefined"} <= set(texts(svg))
    assert "everybody's rate" in artifact.caption
    artifact, svg = drawn(Disparity(intersections=True))["site.yes.groups"]
    assert "reference" in texts(svg)
    assert "dashed: no difference from" in artifact.caption
    best = drawn(Disparity(reference="best"))["sex.yes.groups"][0]
    assert "from the best group" in best.caption
    assert "label gap" in texts(drawn(Amplification())["sex.yes.groups"][1])


def test_more_groups_than_fit_are_counted_in_the_caption(drawn):
    artifact, svg = drawn(Groups(), groups=20)["site.yes.groups"]
    assert "7 smaller groups stand in the tables alone" in artifact.caption
    assert "tiny" not in texts(svg)
    artifact, _ = drawn(Scoring(), groups=20)["site.yes.calibration"]
    assert re.search(r"1\d further groups are not drawn", artifact.caption)


def test_calibration_and_trade_off_are_drawn(drawn):
    artifact, svg = drawn(Scoring())["sex.yes.calibration"]
    assert {"u", "v", "mean score of a bin"} <= set(texts(svg))
    assert "calibration of each group for yes" in artifact.caption
    found = drawn(WhatIf(intersections=True))
    assert set(found) == {"site.trade-off", "sex.trade-off"}
    assert "not advice" in found["sex.trade-off"][0].caption


def test_each_class_in_turn_has_a_picture_of_its_own(drawn):
    found = drawn(Groups(one_vs_rest=True), classes=("x", "y", "z"))
    assert {"sex.x.groups", "sex.y.groups"} <= set(found)
    assert "sex.groups" in drawn(Groups(), classes=("x", "y", "z"))


def test_nothing_is_drawn_where_nothing_was_measured(drawn):
    assert drawn(Groups(minimum=3000)) == {}
    assert drawn(WhatIf(minimum=3000)) == {}
    assert drawn(Scoring(minimum=3000)) == {}

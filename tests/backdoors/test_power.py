"""Detection power counts models in which a trigger works; what nobody could look at is no power."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaudit.backdoors.power import ANY, WORKS, Case, blind, power
from dlaudit.backdoors.power_picture import Point, Series, power_svg

DETECTORS = ("inversion", "scan")


def case(rate=0.01, gain=0.9, **seen):
    return Case("patch", rate, 0, 60, gain, gain - 0.1, min(1, gain + 0.1), gain, seen)


def test_power_by_hand():
    """Three of four work; the scan saw two of three, inversion one of the two that it could look at."""
    cases = [
        case(scan=True, inversion=False), case(scan=False, inversion=True), case(scan=True),
        case(gain=0.4, scan=False, inversion=False), case(rate=0.05, scan=False, inversion=False),
    ]  # fmt: skip
    assert power(cases, 0.01, "scan")[2:] == (2, 3)
    assert power(cases, 0.01, "inversion")[2:] == (1, 2)
    assert power(cases, 0.01, ANY)[2:] == (3, 3)
    assert power(cases, 0.05, ANY)[2:] == (0, 1)
    interval = power(cases, 0.01, "scan").interval
    assert (interval.low, interval.high) == pytest.approx((0.2077, 0.9385), abs=1e-4)
    assert blind(cases) == (1, 4)


def test_what_nobody_could_look_at_is_neither_seen_nor_missed():
    assert blind([case()]) == (0, 0)
    assert power([case()], 0.01, ANY).models == 0
    assert blind([case(gain=WORKS - 0.01, scan=False)]) == (0, 0)
    assert blind([case(gain=WORKS, scan=False)]) == (1, 1)


cases_drawn = st.lists(
    st.builds(
        lambda rate, gain, seen: case(rate, gain, **seen),
        st.sampled_from([0.001, 0.01]), st.floats(0, 1),
        st.dictionaries(st.sampled_from(DETECTORS), st.booleans()),
    )
)  # fmt: skip


@given(cases_drawn)
def test_blind_is_what_is_left_of_the_power_of_any(cases):
    powers = [power(cases, rate, ANY) for rate in (0.001, 0.01)]
    assert blind(cases) == (sum(p.models - p.hits for p in powers), sum(p.models for p in powers))
    for rate in (0.001, 0.01):
        best = max(power(cases, rate, one).hits for one in DETECTORS)
        assert best <= power(cases, rate, ANY).hits <= power(cases, rate, ANY).models


def test_every_detectors_point_says_how_many_models_it_is_a_share_of():
    success = [Series("patch", [Point(0.001, 0.2, 0.1, 0.3, 2), Point(0.01, 0.9, 0.8, 1.0, 2)])]
    seen = [Series("scan", [Point(0.01, 0.5, 0.1, 0.9, 2)]), Series("inversion", [])]
    made = power_svg(success, seen, rates=(0.001, 0.01)).decode()
    assert made == power_svg(success, seen, rates=(0.001, 0.01)).decode()
    assert re.findall(r">(n \d+)<", made) == ["n 2"]
    assert ">0.1 %<" in made
    assert ">1 %<" in made
    assert ">inversion<" in made
    assert made.count("<circle") == 2
    # 0 % and 100 % stand at the frame's ends: 16 px from the top, 240 below.
    assert 'V16.0"' in made
    heights = [float(y) for y in re.findall(r'<circle cx="[\d.]+" cy="([\d.]+)"', made)]
    assert heights == pytest.approx([16 + 0.8 * 240, 16 + 0.1 * 240])


def test_one_rate_stands_in_the_middle():
    made = power_svg([Series("patch", [Point(0.05, 0.5, 0.4, 0.6, 1)])], [], rates=(0.05,)).decode()
    assert "nan" not in made
    assert float(re.search(r'<circle cx="([\d.]+)"', made)[1]) == pytest.approx((60 + 446) / 2)

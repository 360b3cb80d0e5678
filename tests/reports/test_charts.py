import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_corpus import LINF, rate, record_of, run_of

from dlaudit.audit.record import Interval, Measured, Measurement, Rule, Undefined
from dlaudit.reports import charts
from dlaudit.reports.outline import Outline
from dlaudit.reports.panels import Notes, curves, rule_page, run_page

reach = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=6)


@given(reach)
def test_an_axis_holds_every_value_and_has_ticks_in_order(values):
    axis = charts.axis(values)
    assert axis.low < axis.high
    assert 2 <= len(axis.ticks) <= 9
    assert list(axis.ticks) == sorted(axis.ticks)
    for value in values:
        assert 0 <= axis.at(value) <= 100
    assert all(axis.label(tick) for tick in axis.ticks)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_a_rate_s_axis_stays_between_0_and_1(values):
    axis = charts.axis(values)
    if max(values) - min(values) > 1e-9:
        assert axis.low >= 0
        assert axis.high <= 1


def test_positions_are_per_cents_by_hand():
    axis = charts.axis([0.0, 1.0])
    assert axis.ticks == pytest.approx((0, 0.2, 0.4, 0.6, 0.8, 1.0))
    assert [axis.at(v) for v in (-1, 0, 0.25, 1, 2)] == [0, 0, 25, 100, 100]
    assert [axis.label(t) for t in axis.ticks] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]


def test_a_threshold_has_room_on_both_sides():
    reach = charts.around([0.2, 0.4], {0.6})
    assert min(reach) == 0.2
    assert max(reach) == pytest.approx(0.648)
    assert max(charts.around([0.0, 1.0], {0.95})) == 1.0
    assert min(charts.around([1.0], {0.0})) == pytest.approx(-0.12)


def test_a_strip_has_whiskers_unless_exact():
    axis = charts.axis([0.0, 1.0])
    inside = Measurement(
        name="m", value=0.5, n=9, interval=Interval(low=0.25, high=0.75, method="x")
    )
    assert charts.strip(inside, axis) == (50, 25, 75)
    assert charts.strip(Measurement(name="m", value=0.5, n=9, exact="why"), axis) == (
        50,
        None,
        None,
    )


def points(*pairs):
    return [(x, rate("m", k, 100)) for x, k in pairs]


def test_a_curve_is_sorted_bounded_and_tells_what_it_leaves_out():
    series = [(f"s{k}", points((0.1, 50), (0.0, 90))) for k in range(8)]
    figure = charts.curve("m", "epsilon", series, limits=[(None, 0.6, "m >= 0.6", ">= 0.6")])
    assert figure.left_out == 2
    first = figure.series[0]
    assert [p.at for p in first.points] == [0.0, 0.1]
    assert first.points[0].y < first.points[1].y, "higher values stand higher"
    assert len(first.band.split()) == 4
    assert (figure.limits[0].x1, figure.limits[0].x2) == (charts.LEFT, charts.WIDTH - charts.RIGHT)
    exact = [(x, Measurement(name="m", value=0.5, n=1, exact="why")) for x in (0.0, 1.0)]
    assert charts.curve("m", "x", [("s", exact)]).series[0].band == ""


def curve_run(id_, epsilons, **conditions):
    return run_of(id_, Measured(measurements=tuple(
        rate("robust_accuracy", 90 - 10 * k, 100, conditions={**LINF, **conditions, "epsilon": e})
        for k, e in enumerate(epsilons))))  # fmt: skip


def figures(*runs, rules=()):
    outline = Outline(record_of(runs, rules))
    (part,) = outline.suites
    return curves(part, outline)


def test_one_figure_per_norm_holds_the_curves_of_all_attacks():
    two = figures(
        curve_run("attacks.a", [0.1, 0.2]), curve_run("attacks.b", [0.1, 0.3]),
        curve_run("attacks.c", [0.5, 1.0], norm="l2"), curve_run("attacks.d", [0.1]),
    )  # fmt: skip
    assert [(f.across, [s.label for s in f.series]) for f in two] == [
        ("epsilon, linf", ["attacks.a", "attacks.b"]),
        ("epsilon, l2", ["attacks.c"]),
    ]


def test_curves_under_other_conditions_are_other_curves():
    mixed = run_of("attacks.a", Measured(measurements=tuple(
        rate("robust_accuracy", 50, 100, conditions={**LINF, "targeted": t, "epsilon": e})
        for t in (False, True) for e in (0.1, 0.2))))  # fmt: skip
    (figure,) = figures(mixed)
    assert [s.label for s in figure.series] == [
        "attacks.a, targeted = false", "attacks.a, targeted = true",
    ]  # fmt: skip


def test_what_changes_with_the_budget_belongs_to_one_curve():
    """A step size that is derived from epsilon does not tear the curve apart."""
    stepped = run_of(
        "attacks.a",
        Measured(
            measurements=tuple(
                rate(
                    "robust_accuracy",
                    50,
                    100,
                    conditions={**LINF, "epsilon": e, "step_size": 2 * e},
                )
                for e in (0.1, 0.2)
            )
        ),
    )
    (figure,) = figures(stepped)
    assert [s.label for s in figure.series] == ["attacks.a"]


def test_numbers_missing_for_one_reason_are_told_together():
    gaps = tuple(
        Undefined(name=name, reason="18 samples", slice={"g": group}, conditions={"minimum": 30})
        for group in ("a", "b")
        for name in ("precision", "recall")
    )
    page = run_page(run_of("a.b", Measured(undefined=gaps)), [])
    assert [(gap.names, gap.where) for gap in page.undefined] == [
        (("precision", "recall"), "g = a"), (("precision", "recall"), "g = b"),
    ]  # fmt: skip


def test_thresholds_stand_where_their_rules_apply():
    rules = (
        Rule(id="1", run="attacks.a", measurement="robust_accuracy", at_least=0.7),
        Rule(id="2", run="attacks.a", measurement="robust_accuracy", at_least=0.5,
             conditions={"epsilon": 0.2}),
    )  # fmt: skip
    (figure,) = figures(curve_run("attacks.a", [0.1, 0.2]), rules=rules)
    wide, narrow = figure.limits
    assert wide.x2 - wide.x1 > 300
    assert narrow.x2 - narrow.x1 <= 28
    assert narrow.short == "≥ 0.5"


def test_numbers_that_nobody_judges_and_that_are_no_accuracy_get_no_curve():
    run = run_of("attacks.a", Measured(measurements=tuple(
        rate("inputs_moved", 50, 100, conditions={"epsilon": e}) for e in (0.1, 0.2))))  # fmt: skip
    assert figures(run) == []
    rule = Rule(id="1", run="attacks.a", measurement="inputs_moved", at_least=0.3)
    assert len(figures(run, rules=(rule,))) == 1


def test_what_all_rows_share_is_said_once():
    run = curve_run("attacks.a", [0.1, 0.2])
    page = run_page(run, [])
    assert page.common == LINF
    (panel,) = page.panels
    assert [row.where for row in panel.rows] == ["epsilon = 0.1", "epsilon = 0.2"]
    assert panel.common == {}


def test_true_and_1_are_different_conditions():
    run = run_of("a.b", Measured(measurements=(
        rate("m", 1, 2, conditions={"k": True}), rate("m", 1, 2, conditions={"k": 1}))))  # fmt: skip
    assert run_page(run, []).common == {}


def test_lone_rates_share_a_table_and_other_numbers_have_their_own():
    losses = [Measurement(name=f"loss{k}", value=7.0, n=3, exact="x", unit="nats") for k in (1, 2)]
    odd = [Measurement(name=f"odd{k}", value=7.0, n=3, exact="x") for k in (1, 2)]
    names = Measured(measurements=(rate("a", 1, 2), *losses, rate("b", 1, 2), *odd))
    page = run_page(run_of("a.b", names), [])
    assert [[row.name for row in panel.rows] for panel in page.panels] == [
        ["a", "b"], ["loss1", "loss2"], ["odd1"], ["odd2"],
    ]  # fmt: skip


def test_a_rule_over_groups_shows_the_nearest_to_failing_first():
    groups = tuple(rate("m", k, 100, slice={"g": str(k)}) for k in (90, 50, 70))
    rule = Rule(id="r", run="a.b", measurement="m", at_most=0.8)
    record = record_of((run_of("a.b", Measured(measurements=groups)),), (rule,))
    page = rule_page(Outline(record).judged[0])
    assert [row.where for row in page.panel.rows] == ["g = 90", "g = 70", "g = 50"]


def test_remarks_get_letters_and_the_same_remark_gets_the_same_one():
    notes = Notes()
    letters = [notes.letter("exact", "", str(k)) for k in range(28)]
    assert letters[:2] + letters[25:] == ["a", "b", "z", "aa", "ab"]
    assert notes.letter("exact", "", "0") == "a"
    assert len(notes.listed) == 28

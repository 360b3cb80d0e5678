"""The gate opens only on what was shown: every status, and every way in which it stays closed."""

import itertools
from datetime import date

import msgspec
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from dlaudit.audit.judge import (
    WORST_FIRST,
    ExitCode,
    Opinion,
    blocking_runs,
    dated,
    exit_code,
    judge,
    judge_all,
    opinion,
    speaks_of,
)
from dlaudit.audit.record import (
    AuditRecord,
    Card,
    Caveat,
    CheckRun,
    Errored,
    Interval,
    Measured,
    Measurement,
    Rule,
    Skipped,
    Undefined,
    Verdict,
    Waiver,
    canonical,
)

RUN = "attacks.pgd"


def a_rule(**fields):
    given_ = {"id": "r", "run": RUN, "measurement": "accuracy"} | fields
    if not {"at_least", "at_most"} & set(fields):
        given_["at_least"] = 0.6
    return Rule(**given_)


def between(low, high, *, level=0.95, value=None, **fields):
    value = (low + high) / 2 if value is None else value
    interval = Interval(low=low, high=high, level=level, method="wilson")
    return Measurement(
        **{"name": "accuracy", "value": value, "n": 100, "interval": interval} | fields
    )


def exactly(value, **fields):
    return Measurement(**{"name": "accuracy", "value": value, "n": 7, "exact": "counted"} | fields)


def nothing(reason="no sample", **fields):
    return Undefined(**{"name": "accuracy", "reason": reason} | fields)


def a_run(outcome, run=RUN):
    return CheckRun(
        id=run, check=run, params={}, seed=1, seconds=0, device="cpu", cost=None, outcome=outcome
    )


def ran(*yielded):
    return a_run(
        Measured(
            measurements=tuple(one for one in yielded if isinstance(one, Measurement)),
            undefined=tuple(one for one in yielded if isinstance(one, Undefined)),
        )
    )


def a_waiver(run=RUN, *, expired=False):
    return Waiver(run=run, owner="o", reason="r", until=date(2027, 1, 31), expired=expired)


def verdict_on(rule, *yielded):
    return judge(rule, {RUN: ran(*yielded)})


def doubt(*, voids):
    return Caveat(source="attacks.doctor", name="masking", message="gradients vanish", voids=voids)


GOOD, BAD, OPEN = between(0.7, 0.8), between(0.4, 0.5), between(0.5, 0.7)


class TestOneMeasurement:
    @pytest.mark.parametrize(
        ("low", "high", "at_least", "at_most"),
        [
            # the interval, the status under at_least 0.6, the status under at_most 0.6
            (0.7, 0.8, "pass", "fail"),
            (0.4, 0.5, "fail", "pass"),
            (0.5, 0.7, "inconclusive", "inconclusive"),
            (0.6, 0.8, "pass", "inconclusive"),  # an end on the threshold is on the good side
            (0.4, 0.6, "inconclusive", "pass"),
            (0.6, 0.6, "pass", "pass"),
            (0.6000001, 0.7, "pass", "fail"),
            (0.4, 0.5999999, "fail", "pass"),
            (0.5999999, 0.7, "inconclusive", "inconclusive"),
            (0.5, 0.6000001, "inconclusive", "inconclusive"),
        ],
    )
    def test_the_whole_interval_decides(self, low, high, at_least, at_most):
        one = between(low, high)
        assert opinion(a_rule(at_least=0.6), one).status == at_least
        assert opinion(a_rule(at_most=0.6), one).status == at_most

    @pytest.mark.parametrize(
        ("value", "at_least", "at_most"),
        [(0.7, "pass", "fail"), (0.6, "pass", "pass"), (0.5, "fail", "pass")],
    )
    def test_an_exact_number_is_an_interval_of_width_zero(self, value, at_least, at_most):
        assert opinion(a_rule(at_least=0.6), exactly(value)).status == at_least
        assert opinion(a_rule(at_most=0.6), exactly(value)).status == at_most

    def test_the_measured_value_alone_decides_nothing(self):
        """0.9 measured, but [0.5, 0.95] shown: not above 0.6."""
        assert opinion(a_rule(at_least=0.6), between(0.5, 0.95, value=0.9)).status == "inconclusive"

    @pytest.mark.parametrize("threshold", [0, -1.5, 1e6])
    def test_zero_and_negative_thresholds_are_thresholds(self, threshold):
        assert opinion(a_rule(at_least=threshold), exactly(threshold)).status == "pass"
        assert opinion(a_rule(at_most=threshold), exactly(threshold)).status == "pass"
        assert opinion(a_rule(at_least=threshold), exactly(threshold - 1)).status == "fail"
        assert opinion(a_rule(at_most=threshold), exactly(threshold + 1)).status == "fail"

    def test_reasons_in_full(self):
        told = {
            "pass": opinion(a_rule(), GOOD).reason,
            "fail": opinion(a_rule(), BAD).reason,
            "open": opinion(a_rule(), OPEN).reason,
            "most": opinion(a_rule(at_most=0.6), GOOD).reason,
            "exact": opinion(a_rule(at_least=8 / 255), exactly(1 / 3)).reason,
        }
        assert told == {
            "pass": "0.75 [0.7, 0.8] (n = 100) is >= 0.6",
            "fail": "0.45 [0.4, 0.5] (n = 100) is not >= 0.6",
            "open": "0.6 [0.5, 0.7] (n = 100) does not decide >= 0.6",
            "most": "0.75 [0.7, 0.8] (n = 100) is not <= 0.6",
            "exact": "0.333333 (exact, n = 7) is >= 0.0313725",
        }

    def test_more_than_six_digits_are_rounded_in_words_only(self):
        one = between(0.12345678, 0.23456789, value=0.17654321)
        assert (
            opinion(a_rule(at_least=0.1), one).reason
            == "0.176543 [0.123457, 0.234568] (n = 100) is >= 0.1"
        )


class TestLevel:
    @pytest.mark.parametrize(
        ("asked", "level", "status"),
        [
            (0.95, 0.95, "pass"),
            (0.95, 0.99, "pass"),  # corrected for a search: more than was asked for
            (0.95, 0.949, "inconclusive"),
            (0.99, 0.95, "inconclusive"),
            (0.9, 0.95, "pass"),
            (0.95, 0.95 - 1e-12, "pass"),  # rounding of 1 - 0.05 / 1
            (0.95, 0.95 - 1e-8, "inconclusive"),
        ],
    )
    def test_an_interval_must_have_the_level_that_the_rule_asks_for(self, asked, level, status):
        assert opinion(a_rule(level=asked), between(0.7, 0.8, level=level)).status == status

    def test_a_level_too_low_decides_neither_way(self):
        found = opinion(a_rule(level=0.99), between(0.1, 0.2, level=0.9))
        assert found == Opinion(
            "inconclusive", "the interval has level 0.9, the rule asks for 0.99"
        )

    def test_an_exact_number_has_every_level(self):
        assert opinion(a_rule(level=0.999), exactly(0.7)).status == "pass"


class TestCaveats:
    @pytest.mark.parametrize("one", [GOOD, BAD, OPEN, exactly(0.9), exactly(0.1)])
    def test_a_voiding_caveat_leaves_every_measurement_undecided(self, one):
        voided = msgspec.structs.replace(one, caveats=(doubt(voids=False), doubt(voids=True)))
        assert opinion(a_rule(), voided) == Opinion(
            "inconclusive", "attacks.doctor voids it: gradients vanish"
        )

    @pytest.mark.parametrize("one", [GOOD, BAD, OPEN, exactly(0.9)])
    def test_a_caveat_that_does_not_void_changes_nothing(self, one):
        doubted = msgspec.structs.replace(one, caveats=(doubt(voids=False),))
        assert opinion(a_rule(), doubted) == opinion(a_rule(), one)


class TestFilters:
    @pytest.mark.parametrize("number", [Measurement, Undefined])
    @pytest.mark.parametrize(
        ("wanted", "has", "speaks"),
        [
            ({}, {}, True),
            ({}, {"slice": {"race": "a"}, "conditions": {"epsilon": 0.1}}, True),
            ({"measurement": "accuracy_gap"}, {}, False),
            ({"slice": {"race": "a"}}, {"slice": {"race": "a"}}, True),
            ({"slice": {"race": "a"}}, {"slice": {"race": "a", "sex": "f"}}, True),
            ({"slice": {"race": "a"}}, {"slice": {"race": "b"}}, False),
            ({"slice": {"race": "a"}}, {"slice": {"sex": "a"}}, False),
            ({"slice": {"race": "a"}}, {}, False),
            ({"slice": {"race": "a", "sex": "f"}}, {"slice": {"race": "a"}}, False),
            ({"conditions": {"norm": "l2"}}, {"conditions": {"norm": "l2", "steps": 3}}, True),
            ({"conditions": {"norm": "l2"}}, {"conditions": {"norm": "linf"}}, False),
            ({"conditions": {"norm": "l2"}}, {}, False),
            ({"conditions": {"norm": "l2", "steps": 3}}, {"conditions": {"norm": "l2"}}, False),
            (
                {"slice": {"race": "a"}, "conditions": {"norm": "l2"}},
                {"slice": {"race": "a"}, "conditions": {"norm": "l1"}},
                False,
            ),
            (
                {"slice": {"race": "b"}, "conditions": {"norm": "l2"}},
                {"slice": {"race": "a"}, "conditions": {"norm": "l2"}},
                False,
            ),
        ],
    )
    def test_each_named_key_must_be_equal(self, number, wanted, has, speaks):
        one = exactly(0.5, **has) if number is Measurement else nothing(**has)
        assert speaks_of(a_rule(**wanted), one) is speaks

    @pytest.mark.parametrize(
        ("wanted", "got", "same"),
        [
            (8 / 255, 0.03137254901960784, True),
            (8 / 255, 0.0313725490, True),  # ten digits, as somebody would write it
            (0.1, 0.1 * (1 + 5e-10), True),
            (0.1, 0.1 * (1 + 5e-9), False),
            (1e-12, 2e-12, False),  # relative, not absolute
            (0, 1e-12, False),
            (3, 3.0, True),
            (3, 4, False),
            (0, 0.0, True),
            (-0.5, 0.5, False),
            (True, True, True),
            (False, False, True),
            (True, False, False),
            (True, 1, False),
            (1, True, False),
            (0, False, False),
            (False, 0, False),
            ("3", 3, False),
            (3, "3", False),
            ("l2", "l2", True),
            ("l2", "L2", False),
            ("True", True, False),
        ],
    )
    def test_numbers_are_equal_within_1e_minus_9_relative_and_true_is_not_1(
        self, wanted, got, same
    ):
        one = exactly(0.5, conditions={"key": got})
        assert speaks_of(a_rule(conditions={"key": wanted}), one) is same

    def test_a_record_that_was_read_back_is_judged_alike(self):
        """Equal words are other objects then."""
        one = exactly(
            0.5, name="robust accuracy", slice={"race": "a b"}, conditions={"norm": "l 2"}
        )
        rule = a_rule(measurement=one.name, slice=one.slice, conditions=one.conditions)
        again = msgspec.json.decode(canonical(one), type=Measurement)
        assert speaks_of(rule, again)

    def test_a_condition_that_was_not_stated_is_not_false(self):
        assert not speaks_of(a_rule(conditions={"targeted": False}), exactly(0.5))


class TestOneRule:
    @pytest.mark.parametrize(
        ("yielded", "status", "observed"),
        [
            ([GOOD], "pass", 1),
            ([BAD], "fail", 1),
            ([OPEN], "inconclusive", 1),
            ([GOOD, GOOD], "pass", 2),
            ([GOOD, OPEN], "inconclusive", 2),
            ([OPEN, BAD, GOOD], "fail", 3),
            ([GOOD, nothing()], "not_assessed", 1),
            ([OPEN, nothing()], "not_assessed", 1),
            ([BAD, nothing()], "fail", 1),
            ([nothing()], "not_assessed", 0),
            ([], "not_assessed", 0),
            ([exactly(0.9, name="other")], "not_assessed", 0),
            ([exactly(0.9, name="other"), nothing(name="other"), GOOD], "pass", 1),
        ],
    )
    def test_the_worst_of_everything_it_speaks_of(self, yielded, status, observed):
        found = verdict_on(a_rule(), *yielded)
        assert (found.rule, found.status) == ("r", status)
        assert len(found.observed) == observed

    @pytest.mark.parametrize(
        ("run", "reason"),
        [
            (None, "there is no run 'attacks.pgd'"),
            (
                a_run(Errored(error="Timeout", message="10 s")),
                "the run crashed: Timeout: 10 s",
            ),
            (
                a_run(Skipped(reason="not offered: labels")),
                "the run was skipped: not offered: labels",
            ),
            (ran(), "nothing in 'attacks.pgd' matches 'accuracy'"),
            (ran(nothing("empty group")), "undefined: empty group"),
        ],
    )
    def test_silence_is_not_assessed_and_says_why(self, run, reason):
        """A crashed check is not assessed, never passed."""
        found = judge(a_rule(), {} if run is None else {RUN: run})
        assert (found.status, found.reason, found.observed) == ("not_assessed", reason, ())

    def test_a_filter_that_nothing_meets_is_named(self):
        rule = a_rule(slice={"race": "a"}, conditions={"epsilon": 0.5})
        assert verdict_on(rule, GOOD).reason == (
            "nothing in 'attacks.pgd' matches 'accuracy' with race = a, epsilon = 0.5"
        )

    def test_another_runs_numbers_do_not_count(self):
        runs = {"other": msgspec.structs.replace(ran(GOOD), id="other"), RUN: ran(BAD)}
        assert judge(a_rule(), runs).status == "fail"
        assert judge(a_rule(run="other"), runs).status == "pass"

    def test_what_is_observed_stands_in_the_verdict_as_measured(self):
        assert verdict_on(a_rule(), GOOD, exactly(1, name="b"), BAD).observed == (GOOD, BAD)

    def test_the_reason_is_that_of_the_worst(self):
        assert (
            verdict_on(a_rule(), GOOD, BAD, OPEN).reason
            == "0.45 [0.4, 0.5] (n = 100) is not >= 0.6"
        )

    def test_the_order_of_badness(self):
        assert WORST_FIRST == ("fail", "not_assessed", "inconclusive", "pass")

    @pytest.mark.parametrize("yielded", [[GOOD], [BAD], [OPEN], []])
    def test_a_waiver_stands_in_the_verdict_and_changes_nothing_else(self, yielded):
        waiver = a_waiver()
        found = judge(a_rule(), {RUN: ran(*yielded)}, waiver)
        assert found.waived == waiver
        assert msgspec.structs.replace(found, waived=None) == verdict_on(a_rule(), *yielded)

    def test_an_expired_waiver_does_nothing(self):
        assert judge(a_rule(), {RUN: ran(BAD)}, a_waiver(expired=True)) == verdict_on(a_rule(), BAD)

    def test_all_rules_are_judged_in_their_order_with_the_waiver_of_their_run(self):
        rules = [a_rule(id="1"), a_rule(id="2", run="b"), a_rule(id="3", at_most=0.6)]
        other = msgspec.structs.replace(ran(BAD), id="b")
        found = judge_all(rules, iter([other, ran(GOOD)]), iter([a_waiver("b"), a_waiver("c")]))
        assert [(one.rule, one.status, one.waived) for one in found] == [
            ("1", "pass", None),
            ("2", "fail", a_waiver("b")),
            ("3", "fail", None),
        ]


intervals = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(lambda ends: between(*sorted(ends)))
numbers = st.one_of(intervals, st.floats(0, 1).map(exactly))
doubted = st.tuples(numbers, st.booleans()).map(
    lambda pair: msgspec.structs.replace(pair[0], caveats=(doubt(voids=pair[1]),))
)
yielded = st.one_of(numbers, doubted, st.just(nothing()))
some_rules = st.builds(
    lambda side, threshold: a_rule(**{side: threshold}),
    st.sampled_from(["at_least", "at_most"]),
    st.floats(0, 1),
)


class TestProperties:
    @given(rule=some_rules, all_=st.lists(yielded, max_size=4))
    def test_a_rule_passes_only_if_every_interval_lies_whole_on_its_good_side(self, rule, all_):
        shown = [one for one in all_ if isinstance(one, Measurement)]
        good = bool(all_) and len(shown) == len(all_)
        for one in shown:
            low, high = (
                (one.interval.low, one.interval.high) if one.interval else (one.value, one.value)
            )
            side = low >= rule.threshold if rule.at_least is not None else high <= rule.threshold
            good = good and side and not any(caveat.voids for caveat in one.caveats)
        assert (verdict_on(rule, *all_).status == "pass") is good

    @given(rule=some_rules, all_=st.lists(yielded, min_size=1, max_size=4), more=yielded)
    def test_one_more_number_never_improves_a_verdict(self, rule, all_, more):
        before = verdict_on(rule, *all_).status
        after = verdict_on(rule, *all_, more).status
        assert WORST_FIRST.index(after) <= WORST_FIRST.index(before)

    @given(rule=some_rules, all_=st.lists(yielded, max_size=4), data=st.data())
    def test_the_order_of_measurements_changes_nothing(self, rule, all_, data):
        turned = data.draw(st.permutations(all_))
        first, second = verdict_on(rule, *all_), verdict_on(rule, *turned)
        assert first.status == second.status
        assert sorted(map(repr, first.observed)) == sorted(map(repr, second.observed))

    @given(rule=some_rules, one=numbers)
    def test_mirrored_numbers_and_rules_give_the_same_verdict(self, rule, one):
        """x >= t exactly when -x <= -t."""
        mirror = {"at_least": "at_most", "at_most": "at_least"}
        side = "at_least" if rule.at_least is not None else "at_most"
        mirrored = (
            between(-one.interval.high, -one.interval.low) if one.interval else exactly(-one.value)
        )
        turned = a_rule(**{mirror[side]: -rule.threshold})
        assert opinion(rule, one).status == opinion(turned, mirrored).status

    @given(rule=some_rules, one=intervals, wider=st.floats(0, 0.5))
    def test_a_wider_interval_never_turns_undecided_into_decided(self, rule, one, wider):
        wide = between(one.interval.low - wider, one.interval.high + wider)
        status = opinion(rule, wide).status
        assert status in {opinion(rule, one).status, "inconclusive"}

    @given(rule=strategies.rules, outcome=strategies.outcomes)
    def test_whatever_a_run_holds_there_is_a_verdict(self, rule, outcome):
        rule = msgspec.structs.replace(rule, run=RUN)
        found = judge(rule, {RUN: a_run(outcome)})
        assert found.status in WORST_FIRST
        assert found.reason
        if found.status == "pass":
            assert isinstance(outcome, Measured)
            assert found.observed

    @given(one=strategies.measurements)
    def test_a_rule_that_names_everything_about_a_number_speaks_of_it(self, one):
        rule = a_rule(measurement=one.name, slice=one.slice, conditions=one.conditions)
        assert speaks_of(rule, one)


class TestWaivers:
    @pytest.mark.parametrize(
        ("today", "expired"),
        [
            (date(2027, 1, 30), False),
            (date(2027, 1, 31), False),  # the last day still counts
            (date(2027, 2, 1), True),
        ],
    )
    @pytest.mark.parametrize("before", [True, False])
    def test_a_waiver_ends_after_its_last_day_whatever_was_written(self, today, expired, before):
        written = a_waiver(expired=before)
        assert dated([written], today) == (msgspec.structs.replace(written, expired=expired),)

    def test_every_waiver_is_dated_in_order(self):
        first, second = a_waiver("a"), a_waiver("b")
        assert [one.run for one in dated(iter([first, second]), date(2026, 1, 1))] == ["a", "b"]


def a_record(statuses=(), runs=(), waivers=()):
    """statuses: of verdicts; ``"fail waived"`` is one that somebody answers for."""
    verdicts = []
    for number, written in enumerate(statuses):
        status, _, waived = written.partition(" ")
        verdicts.append(
            Verdict(
                rule=str(number), status=status, reason="", waived=a_waiver() if waived else None
            )
        )
    card = Card(name="", fingerprint="")
    return AuditRecord(
        tool={}, started="", finished="", plan={}, plan_sha256="", environment={}, model=card,
        data=card, runs=tuple(runs), verdicts=tuple(verdicts), waivers=tuple(waivers),
    )  # fmt: skip


CRASHED = a_run(Errored(error="Timeout", message=""), "crashed")
SKIPPED = a_run(Skipped(reason=""), "skipped")


class TestBlockingRuns:
    def test_runs_without_a_result_block_in_their_order(self):
        assert blocking_runs(a_record(runs=[SKIPPED, ran(GOOD), CRASHED])) == [SKIPPED, CRASHED]

    def test_a_run_without_numbers_has_run(self):
        assert blocking_runs(a_record(runs=[ran()])) == []

    def test_a_waiver_takes_its_own_run_out(self):
        record = a_record(runs=[SKIPPED, CRASHED], waivers=[a_waiver("skipped"), a_waiver("b")])
        assert blocking_runs(record) == [CRASHED]

    def test_an_expired_waiver_takes_nothing_out(self):
        record = a_record(runs=[CRASHED], waivers=[a_waiver("crashed", expired=True)])
        assert blocking_runs(record) == [CRASHED]


class TestExitCode:
    def test_the_numbers_that_scripts_rely_on(self):
        assert {code.name: int(code) for code in ExitCode} == {
            "PASSED": 0,
            "FAILED": 1,
            "UNUSABLE": 2,
            "NOT_SHOWN": 3,
            "INCONCLUSIVE": 4,
            "DEFECT": 5,
            "INTERRUPTED": 130,
        }

    @pytest.mark.parametrize(
        ("statuses", "runs", "waivers", "code"),
        [
            # what was shown
            (["pass"], [ran(GOOD)], [], 0),
            (["pass", "pass"], [], [], 0),
            (["fail"], [], [], 1),
            (["inconclusive"], [], [], 4),
            (["not_assessed"], [], [], 3),
            # nothing was asked
            ([], [], [], 3),
            ([], [ran(GOOD)], [], 3),
            ([], [], [a_waiver()], 3),
            # the worst wins: 1, 3, 4, 0
            (["pass", "fail"], [], [], 1),
            (["pass", "not_assessed"], [], [], 3),
            (["pass", "inconclusive"], [], [], 4),
            (["inconclusive", "not_assessed"], [], [], 3),
            (["inconclusive", "fail", "not_assessed", "pass"], [], [], 1),
            # runs without a result, with or without rules
            (["pass"], [CRASHED], [], 3),
            (["pass"], [SKIPPED], [], 3),
            ([], [CRASHED], [], 3),
            (["inconclusive"], [SKIPPED], [], 3),
            (["fail"], [CRASHED], [], 1),
            (["pass"], [CRASHED, ran(GOOD)], [a_waiver("crashed")], 0),
            (["pass"], [CRASHED, SKIPPED], [a_waiver("crashed")], 3),
            (["pass"], [CRASHED, SKIPPED], [a_waiver("crashed"), a_waiver("skipped")], 0),
            (["pass"], [CRASHED], [a_waiver("crashed", expired=True)], 3),
            ([], [CRASHED], [a_waiver("crashed")], 3),
            # waived verdicts
            (["fail waived"], [], [], 0),
            (["not_assessed waived"], [], [], 0),
            (["inconclusive waived"], [], [], 0),
            (["fail waived", "pass"], [], [], 0),
            (["fail waived", "fail"], [], [], 1),
            (["fail waived", "inconclusive"], [], [], 4),
            (["fail waived", "not_assessed"], [], [], 3),
            (["not_assessed waived"], [CRASHED], [], 3),
        ],
    )
    def test_the_whole_table(self, statuses, runs, waivers, code):
        found = exit_code(a_record(statuses, runs, waivers))
        assert found == code
        assert isinstance(found, ExitCode)

    def test_the_gate_opens_in_no_other_case(self):
        """Every pair of verdicts with every state of a run: 0 only if all is shown or waived."""
        states = {
            "ran": ([ran(GOOD)], []),
            "crashed": ([CRASHED], []),
            "skipped": ([SKIPPED], []),
            "waived": ([CRASHED], [a_waiver("crashed")]),
            "expired": ([CRASHED], [a_waiver("crashed", expired=True)]),
        }
        written = [*WORST_FIRST, *(f"{status} waived" for status in WORST_FIRST)]
        for pair in itertools.product(written, repeat=2):
            for state, (runs, waivers) in states.items():
                shown = all(one == "pass" or one.endswith("waived") for one in pair)
                opens = exit_code(a_record(pair, runs, waivers)) == 0
                assert opens is (shown and state in {"ran", "waived"}), (pair, state)

    @given(record=strategies.records)
    def test_a_record_without_a_passed_or_waived_rule_never_opens_the_gate(self, record):
        if exit_code(record) == 0:
            assert record.verdicts
            assert all(one.status == "pass" or one.waived for one in record.verdicts)
            assert not blocking_runs(record)


def test_the_reason_names_the_group_it_is_about():
    """Of many groups one decides: the reason says which."""
    rule = a_rule()
    for one, word in (
        (msgspec.structs.replace(BAD, slice={"race": "a"}), "race = a) is not >="),
        (
            msgspec.structs.replace(nothing("too few"), slice={"race": "b"}),
            "undefined (race = b): ",
        ),
    ):
        assert word in verdict_on(rule, GOOD, one).reason


@given(record=strategies.records)
def test_a_rule_without_a_verdict_keeps_the_gate_closed(record):
    """A record that lost a verdict is not a record that passed."""
    rule = a_rule(id="a rule that nobody judged")
    more = msgspec.structs.replace(record, rules=(*record.rules, rule))
    assert exit_code(more) in {1, 3}

"""What the evidence says about each requirement: supported in scope, contradicted, or not shown."""

import json
import re
from datetime import date
from pathlib import Path

import msgspec
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

import dlaudit.catalogues
from dlaudit.audit.declared import Declaration, Scope
from dlaudit.audit.findings import applies, find, finding
from dlaudit.audit.judge import WORST_FIRST
from dlaudit.audit.record import (
    Finding,
    Interval,
    Measurement,
    Requirement,
    Rule,
    Statement,
    Verdict,
    Waiver,
)

TODAY = date(2026, 11, 23)
BEFORE, AFTER = date(2025, 1, 1), date(2030, 1, 1)
SHA = "a" * 64
PARTIAL = " A test shows only part of this item: declarations or processes are asked too."


def item(id_="aia:x", **fields):
    return Requirement(**{"id": id_, "framework": "f", "cite": "c", "kind": ("T",)} | fields)


SEEN = Measurement(name="m", value=0.5, n=9, interval=Interval(low=0.4, high=0.6, method="wilson"))
EXACT = Measurement(name="m", value=0, n=9, exact="a count")


def said(status, rule="r", *, waived=False, seen=(SEEN,)):
    waiver = Waiver(run="a", owner="o", reason="r", until=TODAY) if waived else None
    return Verdict(rule=rule, status=status, reason="", waived=waiver, observed=seen)


def stated(id_="aia:x", *, who="B. Person", sha="", day=TODAY):
    return Statement(
        what=id_, who=who, role="owner", statement="so it is", date=day, document_sha256=sha
    )


def found(requirement=None, statuses=(), declarations=(), applicable="now"):
    verdicts = [
        said(status.removesuffix(" waived"), f"r{i}", waived=status.endswith("waived"))
        for i, status in enumerate(statuses)
    ]
    return finding(requirement or item(), verdicts, declarations, applicable=applicable)


class TestTested:
    @pytest.mark.parametrize(
        ("statuses", "status", "limits"),
        [
            (["pass"], "supported-in-scope", "1 rule: 1 passed."),
            (["fail"], "contradicted", "1 rule: 1 failed."),
            (["inconclusive"], "inconclusive", "1 rule: 1 inconclusive."),
            (["not_assessed"], "no-evidence", "1 rule: 1 not assessed."),
            (["pass", "pass"], "supported-in-scope", "2 rules: 2 passed."),
            (["pass", "fail"], "contradicted", "2 rules: 1 failed, 1 passed."),
            (["pass", "not_assessed"], "no-evidence", "2 rules: 1 not assessed, 1 passed."),
            (["inconclusive", "pass"], "inconclusive", "2 rules: 1 inconclusive, 1 passed."),
            (
                ["pass", "inconclusive", "not_assessed", "fail", "pass"],
                "contradicted",
                "5 rules: 1 failed, 1 not assessed, 1 inconclusive, 2 passed.",
            ),
            (
                ["fail waived", "pass"],
                "contradicted",
                "2 rules: 1 failed, 1 passed. 1 waived for the gate, which changes nothing here.",
            ),
            (
                ["pass waived", "pass waived"],
                "supported-in-scope",
                "2 rules: 2 passed. 2 waived for the gate, which changes nothing here.",
            ),
        ],
    )
    def test_the_worst_verdict_decides_and_all_are_counted(self, statuses, status, limits):
        assert found(statuses=statuses) == Finding(
            requirement="aia:x",
            status=status,
            applicable="now",
            verdicts=tuple(f"r{i}" for i in range(len(statuses))),
            limits=limits,
        )

    @pytest.mark.parametrize(
        ("seen", "status"),
        [
            ([()], "inconclusive"),
            ([(EXACT,)], "inconclusive"),
            ([(EXACT,), (EXACT, SEEN)], "supported-in-scope"),
        ],
    )
    def test_rules_that_passed_on_exact_counts_alone_support_nothing(self, seen, status):
        verdicts = [said("pass", f"r{k}", seen=one) for k, one in enumerate(seen)]
        one = finding(item(), verdicts, [], applicable="now")
        assert one.status == status
        assert ("without any interval" in one.limits) == (status == "inconclusive")

    @pytest.mark.parametrize("kind", [("T", "P"), ("D", "T"), ("P", "T", "D")])
    def test_where_more_than_a_test_is_asked_the_limits_say_so(self, kind):
        assert found(item(kind=kind), ["pass"]).limits == "1 rule: 1 passed." + PARTIAL

    @pytest.mark.parametrize("kind", [("T",), ()])
    def test_where_a_test_is_all_that_is_asked_they_do_not(self, kind):
        assert found(item(kind=kind), ["pass"]).limits == "1 rule: 1 passed."

    def test_a_declaration_never_outweighs_a_test(self):
        one = found(statuses=["fail"], declarations=[stated(sha=SHA)])
        assert (one.status, one.documents) == ("contradicted", (SHA,))
        assert found(statuses=["not_assessed"], declarations=[stated()]).status == "no-evidence"

    @given(statuses=st.lists(st.sampled_from(WORST_FIRST), min_size=1, max_size=5), data=st.data())
    def test_order_changes_nothing_and_one_more_verdict_never_improves_it(self, statuses, data):
        turned = data.draw(st.permutations(statuses))
        assert found(statuses=statuses).status == found(statuses=turned).status
        order = ["contradicted", "no-evidence", "inconclusive", "supported-in-scope"]
        more = found(statuses=[*statuses, data.draw(st.sampled_from(WORST_FIRST))])
        assert order.index(more.status) <= order.index(found(statuses=statuses).status)


class TestStated:
    def test_a_declared_fact_names_who_stated_it_and_when(self):
        one = found(declarations=[stated()])
        assert one.status == "declared"
        assert one.limits == "Stated by B. Person (owner, 2026-11-23); not tested."
        assert (one.verdicts, one.documents) == ((), ())

    def test_a_document_makes_it_attested(self):
        others = [stated(who="C. Other", sha="b" * 64), stated(), stated(who="D.", sha=SHA)]
        one = found(declarations=others)
        assert (one.status, one.documents) == ("attested", ("b" * 64, SHA))
        assert one.limits == (
            "Stated by C. Other (owner, 2026-11-23), B. Person (owner, 2026-11-23), "
            "D. (owner, 2026-11-23); not tested."
        )

    @pytest.mark.parametrize(
        ("kind", "addressee", "status", "limits"),
        [
            (("P",), "", "human-process-needed", "A process; no test can show it."),
            (
                ("P", "T"),
                "provider",
                "human-process-needed",
                "A process of the provider; a test can show only part of it.",
            ),
            (("T",), "provider", "no-evidence", "Nothing in this audit speaks of it."),
            (("D", "P"), "", "no-evidence", "Nothing in this audit speaks of it."),
            (("T", "P"), "", "no-evidence", "Nothing in this audit speaks of it."),
            ((), "", "no-evidence", "Nothing in this audit speaks of it."),
        ],
    )
    def test_without_rule_and_statement_there_is_no_evidence(self, kind, addressee, status, limits):
        one = found(item(kind=kind, addressee=addressee))
        assert (one.status, one.limits) == (status, limits)

    def test_a_stated_process_is_declared(self):
        assert found(item(kind=("P",)), declarations=[stated()]).status == "declared"

    @pytest.mark.parametrize("applicable", ["now", "not-yet", "contested"])
    def test_when_it_applies_is_said_apart_from_what_was_found(self, applicable):
        one = found(statuses=["fail"], applicable=applicable)
        assert (one.status, one.applicable) == ("contradicted", applicable)

    @pytest.mark.parametrize("unknown", ["stance", "sha256"])
    def test_a_declaration_with_an_unknown_key_is_refused(self, unknown):
        written = {"requirement": "aia:x", "who": "w", "role": "r", "statement": "s", "date": TODAY}
        written |= {unknown: "x"}
        with pytest.raises(msgspec.ValidationError, match=f"unknown field `{unknown}`"):
            msgspec.convert(written, Declaration, strict=False)


def a_rule(id_, *requirements):
    return Rule(id=id_, run="a", measurement="m", at_least=0, requirements=requirements)


class TestFind:
    def test_every_requirement_gets_one_finding_in_the_catalogues_order(self):
        items = [item("b"), item("a"), item("c", kind=("P",)), item("d")]
        rules = [a_rule("r1", "a"), a_rule("r2", "a", "b"), a_rule("r3"), a_rule("r4", "elsewhere")]
        verdicts = [said("fail", "r1"), said("pass", "r2"), said("fail", "r3"), said("fail", "r4")]
        findings = find(items, iter(rules), iter(verdicts), iter([stated("d")]), today=TODAY)
        assert [(one.requirement, one.status, one.verdicts) for one in findings] == [
            ("b", "supported-in-scope", ("r2",)),
            ("a", "contradicted", ("r1", "r2")),
            ("c", "human-process-needed", ()),
            ("d", "declared", ()),
        ]

    def test_a_rule_that_was_not_judged_says_nothing(self):
        (one,) = find([item()], [a_rule("r1", "aia:x"), a_rule("r2", "aia:x")], [said("pass", "r2")],
                      [], today=TODAY)  # fmt: skip
        assert one.verdicts == ("r2",)

    def test_a_requirement_named_twice_by_one_rule_counts_once(self):
        (one,) = find([item()], [a_rule("r", "aia:x", "aia:x")], [said("pass")], [], today=TODAY)
        assert one.verdicts == ("r",)
        assert one.limits.startswith("1 rule: 1 passed. ")

    def test_four_scopes_are_spelled_out_and_the_rest_is_counted(self):
        """Sizes of one rule: nine alone, five to nine together."""
        other = msgspec.structs.replace(SEEN, n=5)
        rules = [
            Rule(id=f"r{k}", run=f"run{k}", measurement="m", at_least=0, requirements=("aia:x",))
            for k in range(7)
        ]
        verdicts = [
            said("pass", "r0", seen=(SEEN, other)),
            *(said("pass", f"r{k}") for k in range(1, 7)),
        ]
        for count, end in ((4, "run3 m, n = 9."), (5, "; and 1 more."), (7, "; and 3 more.")):
            (one,) = find([item()], rules[:count], verdicts[:count], [], today=TODAY)
            spoken = "run0 m, n = 5 to 9; run1 m, n = 9; run2 m, n = 9; run3 m, n = 9"
            assert f"Tested in this scope only: {spoken}" in one.limits
            assert one.limits.endswith(end), one.limits

    def test_each_gets_its_own_date_of_application_by_the_declared_route(self):
        by_route = "annex_iii:2027-12-02;annex_i:2028-08-02"
        items = [item("old", applies_from="2025-02-02"), item("new", applies_from=by_route)]

        def applicable(annex_iii):
            scope = Scope(annex_iii=annex_iii)
            found_ = find(items, [], [], [], today=date(2028, 1, 1), scope=scope)
            return [one.applicable for one in found_]

        assert applicable(True) == ["now", "now"]
        assert applicable(False) == ["now", "not-yet"]
        assert applicable(None) == ["now", "now"]

    def test_several_statements_on_one_requirement_are_kept_in_order(self):
        (one,) = find(
            [item()], [], [], [stated(who="A"), stated(who="B"), stated("y")], today=TODAY
        )
        assert one.limits == "Stated by A (owner, 2026-11-23), B (owner, 2026-11-23); not tested."

    @given(
        items=st.lists(strategies.requirements, max_size=4),
        rules=st.lists(strategies.rules, max_size=4),
        verdicts=st.lists(strategies.verdicts, max_size=4),
    )
    def test_a_finding_is_supported_only_by_rules_that_all_passed(self, items, rules, verdicts):
        status = {verdict.rule: verdict.status for verdict in verdicts}
        seen = {verdict.rule: verdict.observed for verdict in verdicts}
        findings = find(items, rules, verdicts, [], today=TODAY)
        assert [one.requirement for one in findings] == [one.id for one in items]
        for one in findings:
            if one.status == "supported-in-scope":
                assert one.verdicts
                assert all(status[rule] == "pass" for rule in one.verdicts)
                assert any(number.interval for rule in one.verdicts for number in seen[rule])


def test_options_are_given_by_name_and_declarations_stay_as_stated():
    with pytest.raises(TypeError, match="positional"):
        find([], [], [], [], TODAY)
    with pytest.raises(TypeError, match="positional"):
        finding(item(), [], [], "now")
    with pytest.raises(TypeError, match="positional"):
        applies("-", TODAY, None)
    with pytest.raises(TypeError, match="positional"):
        Declaration("aia:x", "who", "role", "statement", TODAY)
    declaration = Declaration(requirement="a", who="w", role="r", statement="s", date=TODAY)
    with pytest.raises(AttributeError):
        declaration.who = "somebody else"


class TestApplies:
    @pytest.mark.parametrize(
        ("text", "today", "annex_iii", "expected"),
        [
            ("2026-08-02", date(2026, 8, 1), None, "not-yet"),
            ("2026-08-02", date(2026, 8, 2), None, "now"),
            ("2026-08-02", date(2026, 8, 2), True, "now"),
            ("2026-08-02", date(2026, 8, 2), False, "now"),
            # two routes: the declared one, else the earlier
            ("annex_iii:2027-12-02;annex_i:2028-08-02", date(2027, 12, 1), True, "not-yet"),
            ("annex_iii:2027-12-02;annex_i:2028-08-02", date(2027, 12, 2), True, "now"),
            ("annex_iii:2027-12-02;annex_i:2028-08-02", date(2028, 8, 1), False, "not-yet"),
            ("annex_iii:2027-12-02;annex_i:2028-08-02", date(2028, 8, 2), False, "now"),
            ("annex_iii:2027-12-02;annex_i:2028-08-02", date(2027, 12, 2), None, "now"),
            ("annex_iii:2027-12-02;annex_i:2028-08-02", date(2027, 12, 1), None, "not-yet"),
            ("annex_i:2026-01-01;annex_iii:2027-12-02", date(2026, 1, 1), None, "now"),
            # later dates of exceptions do not put off the rule
            ("2026-08-02 (50(2) legacy: 2026-12-02)", TODAY, None, "now"),
            ("2026-08-02 (50(2) legacy: 2026-12-02)", date(2026, 8, 1), None, "not-yet"),
            # what is formal or unsettled stays so from its date on
            ("2026-08-02 (formal)", TODAY, None, "contested"),
            ("2026-08-02 (formal)", date(2026, 8, 1), None, "not-yet"),
            ("2026-08-02 (formal; 49(2) contested)", TODAY, None, "contested"),
            ("2026-08-02 (49(2) contested)", TODAY, None, "contested"),
            ("2025-02-02 chapter / in force 2026-07-27", TODAY, None, "contested"),
            ("2025-02-02 chapter / in force 2026-07-27", BEFORE, None, "not-yet"),
            # no date at all
            ("-", AFTER, None, "contested"),
            ("", AFTER, None, "now"),
        ],
    )
    def test_from_the_catalogues_words_of_dates(self, text, today, annex_iii, expected):
        assert applies(text, today, annex_iii=annex_iii) == expected

    def test_every_form_of_date_in_the_built_in_catalogue_is_covered_above(self):
        folder = Path(dlaudit.catalogues.__file__).parent
        items = json.loads((folder / "eu_ai_act.json").read_text())["items"]
        (covered,) = (
            mark.args[1]
            for mark in self.test_from_the_catalogues_words_of_dates.pytestmark
            if mark.name == "parametrize"
        )
        forms = {re.sub(r"\d{4}-\d\d-\d\d", "DATE", one["applies_from"]) for one in items}
        assert forms <= {re.sub(r"\d{4}-\d\d-\d\d", "DATE", case[0]) for case in covered}

    @given(day=st.dates(date(2020, 1, 1), date(2040, 1, 1)))
    def test_what_applied_once_never_stops(self, day):
        order = ["not-yet", "contested", "now"]
        for text in (
            "2026-08-02",
            "2026-08-02 (formal)",
            "annex_iii:2027-12-02;annex_i:2028-08-02",
        ):
            now, later = (applies(text, when, annex_iii=None) for when in (day, date(2041, 1, 1)))
            assert order.index(now) <= order.index(later)

"""What people state in a plan: who said it, whether it still counts, and whom it leaves out."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaudit.audit.declared import (
    Declaration,
    Scope,
    people,
    point_of,
    problems,
    route,
    scope_of,
    statements,
)
from dlaudit.audit.findings import find
from dlaudit.audit.record import Feed, Interval, Measurement, Requirement, Rule, Verdict
from dlaudit.catalogues import load

TODAY = date(2026, 11, 28)
SHA = "a" * 64
ACT = tuple(load.eu_ai_act())


def stated(context=None, declarations=(), subjects=("m",)):
    return statements(context or {}, declarations, today=TODAY, subjects=frozenset(subjects))


def declaration(**fields):
    values = {"requirement": "aia:art9-1", "who": "B. Person", "role": "owner",
              "statement": "risk file 7", "date": date(2026, 11, 1)}  # fmt: skip
    return Declaration(**(values | fields))


def findings(context=None, declarations=(), rules=(), verdicts=(), **more):
    context = context or {}
    found = find(ACT, rules, verdicts, stated(context, declarations), today=TODAY,
                 scope=scope_of(context), **more)  # fmt: skip
    return {one.requirement: one for one in found}


class TestContext:
    def test_each_fact_names_who_declared_it_or_that_nobody_is_named(self):
        who = {"declared_by": "A. Counsel", "declared_role": "counsel", "declared_on": "2026-10-01"}
        own = {"value": "5b", "by": "C. Other", "date": "2026-09-01", "document_sha256": SHA}
        purpose, annex = stated({"intended_purpose": "credit", "annex_iii": own, **who})
        assert (purpose.what, purpose.who, purpose.role) == (
            "context.intended_purpose", "A. Counsel", "counsel",
        )  # fmt: skip
        assert purpose.date == date(2026, 10, 1)
        assert (annex.statement, annex.who, annex.document_sha256) == ("5b", "C. Other", SHA)
        (alone,) = stated({"provider": "Acme"})
        assert (alone.who, alone.date) == ("", None)
        assert "nobody named" in findings({"provider": "Acme"})["aia:art13-3-a"].limits

    @pytest.mark.parametrize(
        ("written", "point"),
        [("5b", "5b"), ("5(b)", "5b"), ("5 (B)", "5b"), ("point 2", "2"), ("9", ""), ("5z", ""),
         ("credit", ""), ("", ""), (5, "5")],
    )  # fmt: skip
    def test_a_point_of_annex_iii_is_written_in_many_ways(self, written, point):
        assert point_of(written) == point

    @pytest.mark.parametrize(
        ("context", "said"),
        [
            (
                {"role": "provder"},
                "context.role: no role is called 'provder'. Did you mean provider",
            ),
            ({"annex_iii": "credit"}, "context.annex_iii: expected a point of Annex III"),
            ({"role": {"value": "provider", "whom": "x"}}, "context.role.whom: no such key"),
            ({"x": {"value": 1, "document_sha256": "abc"}}, "expected 64 hexadecimal digits"),
            ({"x": {"value": 1, "date": "soon"}}, "context.x.date: expected a date"),
            ({"declared_on": "soon"}, "context.declared_on: expected a date"),
        ],
    )
    def test_a_mistake_in_it_is_told_before_anything_runs(self, context, said):
        (problem,) = problems(context)
        assert said in problem

    @pytest.mark.parametrize(
        "context",
        [{}, {"role": ["provider", "deployer"], "annex_iii": ["5b", "4(a)"]}, {"annex_iii": False},
         {"special_category_basis": {"race": "basis"}, "anything": {"else": 1}}],
    )  # fmt: skip
    def test_everything_else_is_left_as_it_is(self, context):
        assert problems(context) == []

    def test_the_route_follows_the_declared_annex(self):
        assert route({"annex_iii": "5b", "annex_i": "A"}) is True
        assert route({"annex_i": "section A"}) is False
        assert route({"annex_iii": False}) is None
        assert route({"annex_iii": {"value": "5b", "by": "x"}}) is True
        assert route({}) is None


class TestScope:
    def test_the_declared_point_is_declared_and_the_others_do_not_apply(self):
        found = findings({"annex_iii": "5b", "declared_by": "A. Counsel"})
        assert found["aia:anx-iii-5-b"].status == "declared"
        assert found["aia:anx-iii-5-b"].limits == "Stated by A. Counsel; not tested."
        assert found["aia:anx-iii-4-a"].status == "not-applicable"
        assert found["aia:anx-iii-4-a"].limits == (
            "It speaks of Annex III, 4a; the plan declares 5b."
        )
        assert found["aia:art43-1"].status == "not-applicable"
        assert found["aia:art43-2"].status == "human-process-needed"
        assert found["aia:art14-5"].status == "not-applicable"

    def test_a_whole_point_covers_its_letters(self):
        assert findings({"annex_iii": "5"})["aia:anx-iii-5-b"].status == "declared"
        assert findings({"annex_iii": "1a"})["aia:art43-1"].status == "human-process-needed"

    def test_no_declared_annex_leaves_every_item_open(self):
        assert findings()["aia:anx-iii-4-a"].status == "no-evidence"
        none = findings({"annex_iii": False})["aia:anx-iii-4-a"]
        assert (none.status, none.limits) == (
            "not-applicable", "It speaks of Annex III, 4a; the plan declares none.",
        )  # fmt: skip

    def test_a_role_leaves_out_what_is_asked_of_others_and_says_so(self):
        found = findings({"role": "deployer"})
        assert found["aia:art9-1"].status == "not-applicable"
        assert found["aia:art9-1"].limits == (
            "It is asked of the provider; the plan declares the role of the deployer."
        )
        assert found["aia:art26-1"].status == "human-process-needed"
        assert found["aia:art4-1"].status == "human-process-needed", "asked of both"
        assert found["aia:art5-1-a"].status == "no-evidence", "asked of anyone"
        assert found["aia:art99-5"].status == "not-applicable", "asked of the member states"

    def test_a_measured_item_is_never_hidden_by_a_declared_role(self):
        rule = Rule(id="r", run="a", measurement="m", at_least=0, requirements=("aia:art15-1",))
        verdict = Verdict(rule="r", status="fail", reason="")
        one = findings({"role": "deployer"}, rules=[rule], verdicts=[verdict])["aia:art15-1"]
        assert one.status == "contradicted"
        assert "asked of the provider" in one.limits

    @given(st.sampled_from([(), ("provider",), ("deployer",), ("provider", "deployer")]))
    def test_what_a_scope_leaves_out_is_asked_of_nobody_in_it(self, roles):
        for item in ACT:
            if Scope(roles).leaves_out(item):
                assert not set(item.addressee.split(",")) & set(roles)

    def test_addressees_in_words(self):
        assert people("provider,deployer") == "the provider or the deployer"
        assert people("-") == people("") == ""


class TestDeclarations:
    def test_a_declaration_counts_until_its_day_and_is_stale_after(self):
        (good,) = stated(declarations=[declaration(until=TODAY)])
        assert good.stale == ""
        old = declaration(until=date(2026, 11, 27), document_sha256=SHA)
        one = findings(declarations=[old])["aia:art9-1"]
        assert one.status == "stale"
        assert one.documents == (SHA,)
        assert one.limits == (
            "Stated by B. Person (owner, 2026-11-01), but it counted until 2026-11-27."
        )

    def test_a_declaration_about_another_model_is_stale(self):
        about = declaration(subject="b" * 64)
        one = findings(declarations=[about])["aia:art9-1"]
        assert one.status == "stale"
        assert "bbbbbbbbbbbb, which is not what was audited" in one.limits
        (same,) = stated(declarations=[declaration(subject="m")])
        assert same.stale == ""

    def test_one_statement_that_counts_is_enough(self):
        both = [declaration(until=date(2020, 1, 1)), declaration(who="C. New")]
        one = findings(declarations=both)["aia:art9-1"]
        assert (one.status, one.limits) == (
            "declared",
            "Stated by C. New (owner, 2026-11-01); not tested.",
        )

    def test_not_applicable_names_the_reason_and_who_gave_it(self):
        one = findings(declarations=[declaration(not_applicable=True, statement="no such part")])
        assert one["aia:art9-1"].status == "not-applicable"
        assert one["aia:art9-1"].limits == (
            "Declared not to apply, not tested: no such part (B. Person (owner, 2026-11-01))."
        )

    def test_a_digest_that_is_none_is_refused(self):
        with pytest.raises(ValueError, match="64 hexadecimal digits"):
            declaration(document_sha256="abc")


class TestWhatTestsCanFeed:
    def observed(self, n=600, **conditions):
        return Measurement(name="m", value=0.9, n=n, conditions=conditions,
                           interval=Interval(low=0.8, high=0.95, method="wilson"))  # fmt: skip

    def of(self, item, status="pass", observed=()):
        rule = Rule(id="r", run="a.b", measurement="m", at_least=0.5, requirements=(item,))
        verdict = Verdict(rule="r", status=status, reason="", observed=tuple(observed))
        feeds = {"ADV": Feed(title="attacks", checks=("a.",)),
                 "BKD": Feed(title="backdoors", checks=("b.",))}  # fmt: skip
        return findings(rules=[rule], verdicts=[verdict], checks={"a.b": "a.b"}, feeds=feeds)[item]

    @pytest.mark.parametrize("item", ["aia:art9-1", "aia:art10-2-a", "aia:art10-2-b"])
    def test_a_passing_rule_supports_nothing_that_no_test_can_feed(self, item):
        one = self.of(item)
        assert one.status in {"human-process-needed", "no-evidence"}
        assert one.limits.startswith("1 rule: 1 passed. No test can feed this item.")
        assert self.of(item, "fail").status == "contradicted"

    def test_the_scope_and_what_nothing_spoke_of_are_always_said(self):
        seen = [
            self.observed(norm="linf", epsilon=8 / 255),
            self.observed(500, norm="linf", epsilon=0.1),
        ]
        one = self.of("aia:art15-5-sub1", observed=seen)
        assert one.status == "supported-in-scope"
        assert one.limits == (
            "1 rule: 1 passed. Tested in this scope only: a.b m, norm linf, epsilon 0.03137 and 0.1, "
            "n = 500 to 600. Nothing spoke of: backdoors. "
            "A test shows only part of this item: declarations or processes are asked too."
        )

    def test_a_rule_that_was_not_assessed_has_spoken_of_nothing(self):
        assert (
            "Nothing spoke of: attacks, backdoors."
            in self.of("aia:art15-5-sub1", "not_assessed").limits
        )

    def test_a_deleted_item_is_not_applicable_whatever_is_said(self):
        one = self.of("aia:art10-5")
        assert (one.status, one.limits, one.applicable) == (
            "not-applicable", "Deleted. See aia:art4a-1.", "not-yet",
        )  # fmt: skip

    def test_a_date_that_the_catalogue_doubts_is_contested(self):
        item = Requirement(id="x", framework="f", cite="c", applies_from="2026-08-02",
                           confidence="unsettled")  # fmt: skip
        (one,) = find([item], [], [], [], today=TODAY)
        assert one.applicable == "contested"
        (one,) = find([item], [], [], [], today=date(2026, 8, 1))
        assert one.applicable == "not-yet"

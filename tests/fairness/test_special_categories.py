"""Special categories of personal data are looked at only where the plan says on what basis."""

import json

import pytest
from commandline import dlaudit_command
from hypothesis import given
from hypothesis import strategies as st

from dlaudit.datasets.tables import describe_table, load_csv
from dlaudit.errors import PlanError
from dlaudit.fairness import basis
from dlaudit.fairness.disparity import Disparity
from dlaudit.fairness.groups import Groups
from dlaudit.fairness.local_law_144 import LocalLaw144
from dlaudit.fairness.slices import Slices

ROWS = {"a": (40, 10, 5, 45), "b": (60, 20, 16, 24)}
GROUPS = {"groups": {"race": {"a": 1}, "sex": {"f": 1}, "Ethnic Group": {"x": 1}}}


@pytest.fixture
def bench(bench_of, rows_of):
    def build(context=None, name="origin"):
        y, predicted, group = rows_of(ROWS)
        return bench_of(y, predicted, {name: group}, context=context or {})

    return build


@pytest.mark.parametrize("check", [Groups, Disparity, Slices])
@pytest.mark.parametrize(
    "context", [{}, {"special_category_basis": " "}, {"special_category_basis": {"race": "x"}}]
)
def test_a_declared_special_category_without_a_basis_is_refused(bench, check, context):
    with pytest.raises(PlanError, match=r"origin: expected the plan's context.*Article 4a"):
        list(check(special_categories=["origin"]).measure(bench(context)))


@pytest.mark.parametrize("written", ["approved by the DPO", {"origin": "approved by the DPO"}])
def test_the_declared_basis_stands_beside_the_counts(bench, told, written):
    check = Groups(special_categories=["origin"])
    found = told(check, bench({"special_category_basis": written}))
    (remark,) = found["group_size", "a"].caveats
    assert remark.message == "origin: declared basis, not examined: approved by the DPO"
    assert not remark.voids
    assert found["accuracy", "a"].caveats == ()


def test_an_attribute_that_is_called_like_one_counts_as_one(bench, told):
    with pytest.raises(PlanError, match=r"race: expected.*special_categories = \[\]"):
        list(Groups().measure(bench(name="race")))
    declared = bench({"special_category_basis": "approved"}, name="race")
    (remark,) = told(Groups(), declared)["group_size", "a"].caveats
    assert "approved" in remark.message
    assert told(Groups(), bench(name="age"))["group_size", "a"].caveats == ()


def test_the_plan_may_say_that_a_column_is_only_called_like_one(bench, told):
    check = Groups(special_categories=[])
    assert told(check, bench(name="race"))["group_size", "a"].caveats == ()


def test_attributes_that_are_not_looked_at_need_no_basis():
    assert len(Groups().objections(GROUPS, {})) == 1
    assert Groups(attributes=["sex"]).objections(GROUPS, {}) == ()
    assert Slices(attributes=["sex"]).objections(GROUPS, {}) == ()
    assert LocalLaw144(sex="sex", race="sex").objections(GROUPS, {}) == ()
    assert "race" in LocalLaw144().objections(GROUPS, {})[0]
    assert Groups().objections({}, {}) == ()


@given(name=st.sampled_from(basis.USUAL), joint=st.sampled_from("_ -/"))
def test_case_and_separators_hide_no_special_category(name, joint):
    assert basis.special(name.upper().replace("_", joint), None)
    assert not basis.special(f"{name}s_of_the_horse", None)


def test_what_is_declared_must_make_sense(bench):
    with pytest.raises(PlanError, match="Did you mean origin"):
        list(Groups(special_categories=["orgin"]).measure(bench()))
    with pytest.raises(PlanError, match="expected a text, or a table"):
        list(Groups().measure(bench({"special_category_basis": True})))
    with pytest.raises(PlanError, match="expected a text, or a table"):
        list(Groups().measure(bench({"special_category_basis": {"race": 3}})))


PLAN = """
name = "small"
suites = ["fairness"]
[model]
use = "predictions"
args = {{ column = "said", positive = 1 }}
[data]
use = "csv"
args = {{ path = "d.csv", target = "y", positive = 1, groups = ["race"] }}
{more}
"""


@pytest.fixture
def folder(tmp_path):
    def write(more=""):
        rows = ["y,said,race"] + [
            f"{i % 2},{(i // 2) % 2},{'ab'[i % 3 > 0]}" for i in range(300)
        ]  # fmt: skip
        (tmp_path / "d.csv").write_text("\n".join(rows) + "\n")
        (tmp_path / "audit.toml").write_text(PLAN.format(more=more))
        return tmp_path

    return write


@pytest.mark.parametrize("command", [("plan",), ("run", "--out", "out", "--executor", "inline")])
def test_the_refusal_is_known_before_anything_is_measured(folder, command):
    where = folder()
    name, *options = command
    answer = dlaudit_command(name, "audit.toml", *options, folder=where)
    assert answer.code == 2
    assert 'checks."fairness.groups".special_categories: race: expected' in answer.stderr
    assert "special_category_basis" in answer.stderr
    assert not (where / "out").exists()


def test_with_a_basis_the_audit_runs_and_the_report_shows_it(folder):
    where = folder('[context]\nspecial_category_basis = "ticket 812, deleted after the audit"')
    answer = dlaudit_command(
        "run", "audit.toml", "--out", "out", "--executor", "inline", folder=where
    )
    assert answer.code in {0, 1, 3, 4}
    record = json.loads((where / "out" / "record.json").read_text())
    assert {run["outcome"]["kind"] for run in record["runs"]} == {"measured"}
    report = (where / "out" / "report.html").read_text()
    assert "declared basis, not examined: ticket 812, deleted after the audit" in report


def test_a_first_plan_looks_at_no_special_category(tmp_path):
    """``dlaudit init`` writes plans that run unchanged, and no basis may be guessed."""
    rows = [f"{i},{'ab'[i % 2]},{'fm'[i // 2 % 2]},{i // 3 % 2}" for i in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(["skill,race,sex,hired", *rows]) + "\n")
    described = describe_table(tmp_path / "t.csv")
    assert described.args == {"target": "hired", "groups": ["sex"], "features": ["skill"]}
    assert any("race is called like a special category" in note for note in described.notes)
    data = load_csv(root=tmp_path, path="t.csv", **described.args)
    assert Groups().objections(data.card.facts, {}) == ()

"""Special categories of personal data are looked at only where the plan says on what basis."""

import pytest

from dlaudit.errors import PlanError, UnknownName
from dlaudit.fairness.disparity import Disparity
from dlaudit.fairness.groups import Groups

ROWS = {"a": (40, 10, 5, 45), "b": (60, 20, 16, 24)}


@pytest.fixture
def bench(bench_of, rows_of):
    def build(context=None, name="origin"):
        y, predicted, group = rows_of(ROWS)
        return bench_of(y, predicted, {name: group}, context=context)

    return build


@pytest.mark.parametrize("check", [Groups, Disparity])
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


def test_an_attribute_that_is_called_like_one_gets_a_doubt(bench, told):
    (remark,) = told(Groups(), bench(name="race"))["group_size", "a"].caveats
    assert "declares no basis" in remark.message
    declared = bench({"special_category_basis": "approved"}, name="race")
    (remark,) = told(Groups(), declared)["group_size", "a"].caveats
    assert "approved" in remark.message
    assert told(Groups(), bench(name="age"))["group_size", "a"].caveats == ()


def test_what_is_declared_must_make_sense(bench):
    with pytest.raises(UnknownName, match="Did you mean origin"):
        list(Groups(special_categories=["orgin"]).measure(bench()))
    with pytest.raises(PlanError, match="expected a text, or a table"):
        list(Groups().measure(bench({"special_category_basis": True})))

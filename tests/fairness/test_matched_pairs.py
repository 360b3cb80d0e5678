"""Samples that are alike in everything but their group: their decisions are compared pair by pair."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from dlaudit.audit.record import Undefined
from dlaudit.errors import UnknownName
from dlaudit.fairness import matching
from dlaudit.fairness.proxies import MATCHES, Proxies


def test_pairs_of_a_case_computed_by_hand():
    """Members at 0, 1 and 9; partners at 0.1, 0.9 and 5: the third member is like nobody."""
    columns = np.array([[0.0], [1.0], [9.0], [0.1], [0.9], [5.0]])
    found = matching.matched(columns, np.arange(3), np.arange(3, 6), 0.25)
    pairs = dict(zip(found.members.tolist(), found.partners.tolist(), strict=True))
    assert pairs == {0: 3, 1: 4}
    assert found.imbalance == pytest.approx([((0 - 0.1) + (1 - 0.9)) / 2])


def test_categories_lie_one_apart_and_gaps_are_a_value_of_their_own():
    values = np.array([[0.0, 1.0, 4.0], [1.0, 3.0, 4.0], [1.0, np.nan, 4.0]])
    columns = matching.scaled(values, np.array([True, False, False]))
    apart = np.linalg.norm(columns[:, None] - columns[None], axis=2)
    assert apart[0, 1] == pytest.approx(np.sqrt(1 + 2.0**2))  # one category, two deviations of 1
    assert apart[1, 2] == pytest.approx(np.sqrt(1.0**2 + 1.0**2))  # from 1 to the mean, and a gap
    assert matching.scaled(np.ones((3, 2)), np.array([False, True])).shape == (3, 0)


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), caliper=st.floats(0.05, 2))
def test_nobody_is_used_twice_and_every_pair_is_alike(seed, caliper):
    rng = np.random.default_rng(seed)
    columns = rng.normal(size=(60, 2))
    group, reference = np.arange(25), np.arange(25, 60)
    found = matching.matched(columns, group, reference, caliper)
    assert (
        len(set(found.members.tolist())) == len(set(found.partners.tolist())) == len(found.members)
    )
    apart = np.linalg.norm(columns[found.members] - columns[found.partners], axis=1)
    assert (apart <= caliper * np.sqrt(2) + 1e-9).all()
    # An optimal assignment, an independent method, finds at most so many pairs within the caliper.
    cost = np.linalg.norm(columns[group][:, None] - columns[reference][None], axis=2)
    near = cost <= caliper * np.sqrt(2)
    best = linear_sum_assignment(near, maximize=True)
    most = int(near[best].sum())
    assert (
        most / 2 <= len(found.members) <= most
    )  # a greedy matching is at least half of the largest


def people(seed, *, handicap, n=1500, shift=0.5):
    """Skill differs between the groups; the decision looks at skill, and a handicap at the group."""
    rng = np.random.default_rng(seed)
    group = rng.choice(["a", "b"], n)
    features = rng.normal(size=(n, 2)) - shift * (group == "b")[:, None]
    score = features.sum(axis=1) + rng.normal(scale=0.3, size=n) - handicap * (group == "b")
    y = (features.sum(axis=1) + rng.normal(size=n) > 0).astype(int)
    return y, (score > 0).astype(int), group, features


@pytest.fixture
def paired(bench_of, told):
    def build(seed=0, *, handicap, check=None, **more):
        y, said, group, x = people(seed, handicap=handicap, **more)
        bench = bench_of(
            y, said, {"site": group}, features=x, facts={"features": ["said", "skill", "talk"]}
        )
        bench.model.card.facts["column"] = "said"
        return told(check or Proxies(reference={"site": "a"}, samples=1500), bench)

    return build


def test_a_gap_that_skill_explains_is_none_among_pairs_and_a_handicap_is_one(paired, monkeypatch):
    monkeypatch.setattr(Proxies, "_predicted", lambda *args: iter(()))  # the slow half is not asked
    clean, planted = paired(handicap=0.0), paired(handicap=1.0)
    assert clean["matched_gap", "b"].interval.low <= 0.02
    assert abs(clean["matched_gap", "b"].value) < 0.06
    one = planted["matched_gap", "b"]
    assert one.interval.high < -0.1
    assert one.conditions["reference"] == "a"
    assert planted["matched_imbalance", "b"].value < 0.1
    assert one.caveats == ()
    assert 0.5 < planted["matched_share", "b"].value <= 1
    assert one.interval.method == "agresti-min"
    assert ("matched_gap", "a") not in planted


def test_pairs_that_still_differ_are_doubted(bench_of, told):
    """Two kinds of people, 0 and 1; those of group b lie 0.2 higher, 0.4 standard deviations."""
    kind = np.tile([0.0, 1.0], 100)
    group = np.repeat(["a", "b"], 100)
    bench = bench_of(kind, kind, {"sex": group}, features=(kind + 0.2 * (group == "b"))[:, None])
    bench.model.card.facts["column"] = "x0"
    found = told(Proxies(caliper=0.5, reference={"sex": "a"}), bench)
    assert found["matched_imbalance", "b"].value == pytest.approx(0.2 / np.std(kind), rel=0.03)
    (doubt,) = found["matched_gap", "b"].caveats
    assert "pairs still differ by 0.39 standard deviations" in doubt.message
    assert found["matched_share", "b"].value == 1


def test_what_cannot_be_paired_has_a_reason(bench_of, rows_of, told):
    y, said, group = rows_of({"a": (40, 10, 5, 45), "tiny": (5, 5, 5, 5)})
    facts = {"features": ["said"]}
    found = told(Proxies(), bench_of(y, said, {"sex": group}, facts=facts))
    assert found["matched_gap", "tiny"].reason.startswith("20 and 100 samples looked at")
    three = told(Proxies(), bench_of(y, said, {"sex": group}, classes=("x", "y", "z")))
    assert "set the parameter positive" in three["matched_gap", "sex"].reason
    none = told(Proxies(most_features=1), bench_of(y, said, {"sex": group}, features=said[:, None]))
    assert {none[name, "sex"].reason for name in MATCHES} == {
        "no table of at most 1 features beside sex"
    }
    far = bench_of(
        y, said, {"sex": np.repeat(["a", "b"], 60)}, features=np.repeat([[0.0], [9.0]], 60, axis=0)
    )
    assert "0 pairs that are alike" in told(Proxies(), far)["matched_gap", "b"].reason
    assert isinstance(three["matched_share", "sex"], Undefined)
    with pytest.raises(UnknownName, match="Did you mean sex"):
        list(Proxies(reference={"sexe": "a"}).measure(far))

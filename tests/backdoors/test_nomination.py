"""Conformal p-values, their fusion, and who is nominated."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaudit.backdoors.nomination import conformal, fused, nominated


def test_conformal_by_hand():
    """Of trusted 1, 2, 3: two are at least 2, none is at least 4; p = (1 + k) / 4."""
    assert conformal(np.array([2.0, 4, 0]), np.array([3.0, 1, 2])).tolist() == [0.75, 0.25, 1]


def test_fused_by_hand():
    """p = (1/4, 1) and (1/2, 1/2) of two scores: twice the smaller."""
    first, second = np.array([4.0, 2]), np.array([2.0, 2])
    trusted = np.array([1.0, 2, 3])
    assert fused([first, second], [trusted, trusted]).tolist() == [0.5, 1.0]


def test_the_p_of_honest_rows_is_at_least_uniform():
    """P(p <= a) <= a, at every a, over many draws of trusted rows."""
    rng = np.random.default_rng(1)
    drawn = np.array([
        conformal(rng.standard_normal(1), rng.standard_normal(19))[0] for _ in range(4000)
    ])  # fmt: skip
    for a in (0.05, 0.1, 0.5):
        assert (drawn <= a).mean() <= a + 3 * np.sqrt(a * (1 - a) / 4000)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.floats(-5, 5), st.floats(0, 5))
def test_a_larger_score_has_no_larger_p(trusted, score, more):
    low, high = conformal(np.array([score, score + more]), np.array(trusted))
    assert high <= low
    assert 1 / (len(trusted) + 1) <= high <= 1


def test_discoveries_come_first_then_each_score_in_turn():
    p = np.array([1.0, 1e-4, 1, 1, 1, 1])
    found = nominated(p, [np.array([4, 0, 1]), np.array([4, 5, 2])], budget=4)
    assert found.rows.tolist() == [1, 4, 0, 5]
    assert found.discovered == 1


def test_the_budget_ends_the_list_of_discoveries_too():
    p = np.array([1e-6, 1e-5, 1e-4, 1.0])
    found = nominated(p, [], budget=2)
    assert found.rows.tolist() == [0, 1]
    assert found.discovered == 3


def test_without_ranks_or_discoveries_nobody_is_nominated():
    assert not len(nominated(np.ones(3), [], budget=5).rows)


@pytest.mark.parametrize("budget", [1, 3, 10])
def test_nobody_is_nominated_twice(budget):
    ranks = [np.array([2, 1, 0]), np.array([2, 0, 1])]
    rows = nominated(np.ones(3), ranks, budget=budget).rows
    assert len(set(rows.tolist())) == len(rows) == min(budget, 3)

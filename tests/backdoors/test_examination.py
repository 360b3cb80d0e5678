"""From searches to a suspicion: halves, nomination and the agreement of seeds."""

import math
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_digits import Digits
from torch import nn

from dlaudit.backdoors import examination
from dlaudit.backdoors.examination import Candidate, Criterion, Found, candidates, examine
from dlaudit.backdoors.screening import cheapest, rounds, searches

CRITERION = Criterion(ratio=1.75, success=0.95, seeds=3, restarts=1)
COSTS = [10.0, 9.0, 11.0, 10.5, 9.5, 10.2, 9.8, 10.7, 9.3]


def chosen(n):
    return [Candidate(k, str(k), np.arange(4), np.arange(20)) for k in range(n)]


def scripted(monkeypatch, *rounds, success=1.0):
    """Searches that return these costs, round by round, for the classes that are asked for."""
    asked = []

    def searched(bench, search, wanted, *, seed, restarts):
        asked.append([one.target for one in wanted])
        called = np.arange(20) < round(20 * success)
        return [
            Found(
                None if math.isinf(rounds[seed][one.target]) else object(),
                rounds[seed][one.target],
                called,
            )
            for one in wanted
        ]

    monkeypatch.setattr(examination, "searched_once", searched)
    return asked


def examined(n=10):
    return {one.candidate.target: one for one in examine(None, None, chosen(n), CRITERION)}


def test_a_class_is_suspected_when_two_of_three_seeds_agree(monkeypatch):
    cheap, dear = [3.0, *COSTS], [10.0, *COSTS]
    asked = scripted(monkeypatch, cheap, cheap, dear)
    found = examined()
    assert found[0].suspected
    assert (found[0].met, found[0].searches) == (2, 3)
    assert asked == [list(range(10)), [0], [0]]
    assert not any(found[k].suspected for k in range(1, 10))


def test_one_seed_of_three_is_no_suspicion(monkeypatch):
    scripted(monkeypatch, [3.0, *COSTS], [10.0, *COSTS], [10.0, *COSTS])
    found = examined()[0]
    assert not found.suspected
    assert found.met == 1


def test_where_nothing_is_nominated_no_further_seed_is_spent(monkeypatch):
    asked = scripted(monkeypatch, [10.0, *COSTS])
    assert not any(one.suspected for one in examined().values())
    assert len(asked) == 1


def test_a_trigger_that_fails_on_the_unused_half_is_no_suspicion(monkeypatch):
    scripted(monkeypatch, *[[3.0, *COSTS]] * 3, success=0.9)
    assert not examined()[0].suspected


def test_an_outlier_that_is_hardly_cheaper_is_no_suspicion(monkeypatch):
    """All costs nearly alike: the anomaly is huge, the ratio is not."""
    costs = [6.0, *[10 + 0.01 * k for k in range(9)]]
    scripted(monkeypatch, *[costs] * 3)
    found = examined()[0]
    assert found.anomaly > 10
    assert found.ratio < 1.75
    assert not found.suspected


def test_a_class_without_a_trigger_is_neither_nominated_nor_suspected(monkeypatch):
    scripted(monkeypatch, *[[math.inf, *COSTS]] * 3)
    assert not examined()[0].suspected
    assert examined()[0].anomaly is None


def test_few_classes_are_never_nominated(monkeypatch):
    asked = scripted(monkeypatch, [1.0, 10.0])
    assert not any(one.suspected for one in examined(2).values())
    assert len(asked) == 1


class Steps(NamedTuple):
    """All that screening asks of a search."""

    steps: int = 150


class Drawing:
    """All that screening asks of a bench."""

    def rng(self, purpose):
        return np.random.default_rng(5)


def hundred(monkeypatch, cheap):
    """Costs about 10 in full searches and 20 in short ones; those of some classes a third of it."""
    usual = 10 * np.exp(0.05 * np.random.default_rng(0).standard_normal(100))
    full = usual.copy()
    full[list(cheap)] /= 3
    asked = []

    def searched(bench, search, wanted, *, seed, restarts):
        asked.append((len(wanted), search.steps, restarts))
        norms = full * (2 if seed < 0 else 1)
        return [Found(object(), norms[one.target], np.ones(20, dtype=bool)) for one in wanted]

    monkeypatch.setattr(examination, "searched_once", searched)
    found = examine(Drawing(), Steps(), chosen(100), CRITERION)
    assert [one.candidate.target for one in found] == list(range(100))
    return found, asked


def test_of_a_hundred_classes_the_cheap_one_is_suspected_and_few_are_searched_in_full(monkeypatch):
    found, asked = hundred(monkeypatch, [42])
    assert [one.candidate.target for one in found if one.suspected] == [42]
    assert asked[0] == (100, 50, 1)
    assert asked[1][1:] == (150, CRITERION.restarts)
    full = [one for one in found if one.searches]
    assert len(full) == asked[1][0] <= 40
    assert found[42].ratio == pytest.approx(3, rel=0.1)
    assert all(one.anomaly is None for one in found if not one.searches)


def test_the_cheapest_fifth_of_honest_classes_is_not_suspected_for_being_chosen(monkeypatch):
    """Compared with each other they would be usual; with dear ones alone, outliers: so with controls."""
    found, asked = hundred(monkeypatch, [])
    assert not any(one.suspected for one in found)
    assert len(asked) == 2 or all(one.met == 0 for one in found)


def test_five_cheap_classes_of_a_hundred_do_not_hide_each_other(monkeypatch):
    found, _ = hundred(monkeypatch, [3, 17, 42, 60, 99])
    assert [one.candidate.target for one in found if one.suspected] == [3, 17, 42, 60, 99]


@pytest.mark.parametrize(
    ("classes", "expected", "full"),
    [
        (10, [], 10), (40, [], 40), (100, [(100, 20)], 40), (1000, [(1000, 200), (200, 40)], 60),
    ],
)  # fmt: skip
def test_rounds_of_screening_by_hand(classes, expected, full):
    assert list(rounds(classes)) == expected
    assert searches(classes) == (sum(n for n, _ in expected) / 3, full)


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=60), st.integers(1, 60))
def test_no_class_that_is_left_out_is_cheaper_than_one_that_is_kept(norms, keep):
    kept = cheapest(norms, keep)
    assert len(kept) == min(keep, len(norms))
    rest = np.delete(norms, kept)
    assert not len(rest) or max(np.take(norms, kept)) <= min(rest)


def test_no_class_is_no_finding():
    assert examine(None, None, [], CRITERION) == []


@pytest.mark.parametrize(("seeds", "needed"), [(1, 1), (2, 2), (3, 2), (5, 3)])
def test_most_seeds_must_agree(seeds, needed):
    assert CRITERION._replace(seeds=seeds).agreeing == needed


def test_halves_share_no_row_and_hold_every_class_alike(bench_of):
    y = np.repeat(np.arange(4), 50)
    module = nn.Linear(4, 4, bias=False)
    nn.init.eye_(module.weight)
    bench = bench_of(module, Digits(np.eye(4, dtype=np.float32)[y], y), kind="tabular")
    answers = bench.answers()
    found, left_out = candidates(bench, answers, classes=4, minimum=5)
    assert left_out == {}
    for one in found:
        assert not set(one.pool) & set(one.unused)
        both = np.concatenate([one.pool, one.unused])
        assert not (answers.y[both] == one.target).any()
        assert not (answers.predicted[both] == one.target).any()
    search, unused = examination.halves(answers.y, np.random.default_rng(3))
    assert len(search) + len(unused) == 200
    assert np.bincount(answers.y[search]).tolist() == [25] * 4


def test_the_cheapest_of_several_runs_counts(monkeypatch, bench_of):
    """Every run draws for itself; a run that found nothing is no reason to give up."""
    from dlaudit.backdoors.forms import Trigger

    class Scripted:
        def triggers(self, targets, pools, generators):
            assert len({rng.random() for rng in generators}) == len(generators)
            costs = {0: [5.0, None, 4.0], 1: [None, None, None]}
            return [
                None if costs[k][i % 3] is None else Trigger(costs[k][i % 3], None, None)
                for i, k in enumerate(targets)
            ]

        def called(self, trigger, target, rows):
            return np.ones(len(rows), dtype=bool)

    bench = bench_of(
        nn.Linear(5, 2),
        Digits(np.zeros((4, 5), dtype=np.float32), np.arange(4) % 2),
        kind="tabular",
    )
    found = examination.searched_once(bench, Scripted(), chosen(2), seed=0, restarts=3)
    assert [one.norm for one in found] == [4.0, math.inf]
    assert found[0].called.all()
    assert not found[1].called.any()

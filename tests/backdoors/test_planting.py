"""Planted poison is what it says: touched rows are listed, cover keeps its label."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaudit.backdoors.planted_triggers import PICTURES, fitting, trigger
from dlaudit.backdoors.planting import COVERED, Attack

RNG = np.random.default_rng
FAMILIES = (*PICTURES, "values", "token")


def inputs(family, rng, n=60):
    if family == "token":
        return rng.integers(1, 30, (n, 12)) * (np.arange(12) < rng.integers(1, 13, n)[:, None])
    return rng.normal(size=(n, 9) if family == "values" else (n, 1, 5, 5)).astype(np.float32)


def test_a_patch_is_a_chessboard_of_one_percent_in_a_corner():
    x = np.linspace(0, 1, 3 * 20 * 20, dtype=np.float32).reshape(3, 1, 20, 20)
    made = trigger("patch", x, RNG(0)).put(x)
    changed = (made != x).any(axis=(0, 1))
    assert changed.sum() == 4  # of 400 pixels
    rows, columns = np.where(changed)
    assert set(rows) in ({0, 1}, {18, 19})
    assert set(columns) in ({0, 1}, {18, 19})
    board = made[0, 0, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert board.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("family", ["blend", "adaptive-blend"])
def test_a_blend_is_one_fifth_pattern(family):
    x = np.zeros((2, 1, 6, 6), np.float32)
    x[1] = 1
    made = trigger(family, x, RNG(0)).put(x)
    assert made[1] - made[0] == pytest.approx(np.full((1, 6, 6), 0.8))
    assert made[0].min() >= 0
    assert made[0].max() <= 0.2


def test_an_adaptive_blend_teaches_half_of_its_sixteen_pieces_another_half_each_time():
    x = np.full((40, 1, 8, 8), 0.5, np.float32)
    x[0, 0, 0] = (0, 1, 0, 1, 0, 1, 0, 1)
    planted = trigger("adaptive-blend", x, RNG(0))
    taught, whole = planted.taught(x, RNG(1)), planted.put(x)
    shown = (taught != x)[:, 0].reshape(40, 4, 2, 4, 2).any(axis=(2, 4))
    assert (shown.sum(axis=(1, 2)) == 8).all()
    assert len({one.tobytes() for one in shown}) > 30
    assert shown.mean(axis=0) == pytest.approx(np.full((4, 4), 0.5), abs=0.3)
    part = np.repeat(np.repeat(shown, 2, axis=1), 2, axis=2)[:, None]
    assert np.array_equal(taught, np.where(part, whole, x))


def test_values_are_those_that_a_twentieth_of_the_rows_exceeds():
    x = np.arange(101, dtype=np.float64)[:, None] * np.ones(8)
    made = trigger("values", x, RNG(0)).put(x)
    changed = (made != x).any(axis=0)
    assert changed.sum() == 4
    assert set(made[:, changed].ravel()) <= {5.0, 95.0}
    assert len(np.unique(made[:, changed], axis=0)) == 1


def test_a_token_is_the_rarest_that_occurs_and_stands_behind_the_first():
    """By hand: 9 is held by one row, all others by two or more; rows end in the filling 0."""
    x = np.array([[1, 2, 3, 0, 0], [1, 9, 2, 3, 0], [2, 3, 0, 0, 0], [3, 1, 3, 2, 1], [0] * 5])
    put = trigger("token", x, RNG(0)).put
    made = put(x)
    assert np.array_equal(made, put(x)), "the same rows are changed in the same places"
    for before, after in zip(x.tolist(), made.tolist(), strict=True):
        own = [one for one in before if one] or []
        (at,) = [
            k for k in range(5) if [*after[:k], *after[k + 1 :]] == before[:4] and after[k] == 9
        ][:1]
        assert min(1, len(own)) <= at <= min(len(own), 4)
    assert made[3].tolist().count(9) == 1, "a full row loses its last token"


@pytest.mark.parametrize("family", FAMILIES)
@given(seed=st.integers(0, 9), target=st.integers(0, 2), rate=st.floats(0.01, 0.5))
def test_what_is_touched_is_listed_and_nothing_else_changes(family, seed, target, rate):
    rng = RNG(seed)
    x, y = inputs(family, rng), rng.integers(0, 3, 60)
    before = x.copy(), y.copy()
    attack = Attack.drawn(family, x, rng, target=target, classes=3)
    count = attack.how_many(y, rate)
    bad = attack.poisoned(x, y, count=count, rng=rng)
    assert np.array_equal(x, before[0])
    assert np.array_equal(y, before[1])
    assert len(set(bad.rows)) == count <= max(1, round(rate * 60))
    assert not set(bad.rows) & set(bad.cover)
    rest = np.setdiff1d(np.arange(60), np.concatenate([bad.rows, bad.cover]))
    assert np.array_equal(bad.x[rest], x[rest])
    assert np.array_equal(np.delete(bad.y, bad.rows), np.delete(y, bad.rows))
    assert (bad.y[bad.rows] == target).all()
    own = y[bad.rows] == target
    assert own.all() if family == "clean-label" else not own.any()
    if family == "source-specific":
        assert (y[bad.rows] == attack.source).all()
        assert not np.isin(y[bad.cover], (target, attack.source)).any()
        assert np.array_equal(attack.hosts(y), y == attack.source)
    else:
        assert attack.source is None
        assert np.array_equal(attack.hosts(y), y != target)
    if family in COVERED:
        assert len(bad.cover) <= count
        assert (bad.y[bad.cover] != target).all()
    else:
        assert not len(bad.cover)
    if family not in {"blend", "adaptive-blend", "token"}:
        touched = np.concatenate([bad.rows, bad.cover])
        assert np.array_equal(attack.trigger.put(bad.x[touched]), bad.x[touched])


def test_covered_poison_has_as_many_cover_rows_where_there_are_so_many():
    rng = RNG(0)
    x, y = inputs("patch", rng, n=300), np.arange(300) % 3
    for family in COVERED:
        attack = Attack.drawn(family, x, rng, target=0, classes=3)
        count = attack.how_many(y, 0.1)
        assert count == len(attack.poisoned(x, y, count=count, rng=rng).cover) == 30


def test_a_family_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="rows of a table"):
        trigger("values", np.zeros((2, 1, 4, 4)), RNG(0))
    with pytest.raises(ValueError, match="pictures"):
        trigger("patch", np.zeros((2, 4)), RNG(0))
    assert fitting(np.zeros((2, 4)), tokens=False) == ("values",)
    assert fitting(np.zeros((2, 4), int), tokens=True) == ("token",)
    assert fitting(np.zeros((2, 1, 4, 4)), tokens=False) == PICTURES
    assert "no token ids" in fitting(np.zeros((2, 4), int), tokens=False)
    assert "neither a table" in fitting(np.zeros(2), tokens=False)

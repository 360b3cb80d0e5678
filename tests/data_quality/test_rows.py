"""Rows are compared by content: digests, joint codes, one scale."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dlaudit.audit.record import Card
from dlaudit.data_quality import copies, rows
from dlaudit.errors import AuditError

FLOATS = st.floats(-100, 100, width=32)


@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=3, max_side=6), elements=FLOATS)
)
def test_digests_are_equal_exactly_where_rows_are(x):
    found = rows.digests(x)
    flat = x.reshape(len(x), -1)
    same = (flat[:, None] == flat[None]).all(axis=2)
    np.testing.assert_array_equal(found[:, None] == found[None], same)


def test_a_digest_depends_on_places_and_ignores_the_sign_of_zero_and_the_kind_of_nan():
    odd = np.array([0x7FC00001], dtype=np.uint32).view(np.float32)[0]
    x = np.array([[1, 2], [2, 1], [0, -0.0], [-0.0, 0], [np.nan, 1], [odd, 1]], dtype=np.float32)
    one, other, zero, again, gap, strange = rows.digests(x)
    assert one != other
    assert zero == again
    assert gap == strange
    assert len(set(rows.digests(np.arange(200_000, dtype=np.float32)[:, None]))) == 200_000


def test_splitmix64_is_the_published_one():
    """Vigna's reference implementation, seed 0: its first outputs are the finaliser of the increments."""
    increments = np.arange(1, 4, dtype=np.uint64)
    assert [hex(one) for one in rows.mixed(increments).tolist()] == [
        "0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4", "0x6c45d188009454f",
    ]  # fmt: skip


def test_categories_that_two_files_code_differently_are_compared_by_their_words(bench_of):
    facts = {
        "test": {"features": ["job"], "codes": {"job": ["cook", "nurse"]}},
        "train": {"features": ["job"], "codes": {"job": ["clerk", "cook", "nurse", None]}},
    }
    bench = bench_of(([[0], [1]], [0, 1]), ([[1], [2], [3], [0]], [0, 1, 0, 1]), facts=facts)
    test, train = rows.read(bench, ("test", "train"))
    words = ["cook", "nurse", "clerk", None]
    assert [words[int(code)] for code in test.values[:, 0]] == ["cook", "nurse"]
    assert [words[int(code)] for code in train.values[:, 0]] == ["cook", "nurse", None, "clerk"]
    assert copies.equal(test.digest, train.digest).tolist() == [0, 1]


def test_joint_categories_keep_their_order():
    cards = [
        Card(name="a", fingerprint="", facts={"codes": {"c": list(text)}}) for text in ("ab", "bca")
    ]
    assert rows.joint_categories(cards) == {"c": ["a", "b", "c"]}


def test_splits_of_other_features_are_refused_by_name(bench_of):
    facts = {"test": {"features": ["age"]}, "train": {"features": ["wage"]}}
    bench = bench_of(([[0]], [0]), ([[1]], [1]), facts=facts)
    with pytest.raises(AuditError, match=r"train: expected the features of test \(age\), got wage"):
        rows.read(bench, ("test", "train"))


def test_a_column_that_is_not_there_is_refused_by_name(bench_of):
    with pytest.raises(AuditError, match="test: expected a column 'day', got only none"):
        rows.read(bench_of(([[0]], [0])), ("test",), columns=["day"])


def test_one_scale_for_both_splits_by_hand():
    one, other = np.array([[0, 5, 1.0], [2, 5, 0]]), np.array([[4, 5, np.nan], [6, 5, 2]])
    first, second = rows.standardised((one, other), np.array([False, False, True]))
    # The first column: mean 3, standard deviation sqrt(5); the second is constant; codes stay.
    np.testing.assert_allclose(first, [[-3 / 5**0.5, 1], [-1 / 5**0.5, 0]], rtol=1e-6)
    np.testing.assert_allclose(second, [[1 / 5**0.5, 0], [3 / 5**0.5, 2]], rtol=1e-6)


@given(
    hnp.arrays(np.float32, (5, 3), elements=FLOATS), hnp.arrays(np.float32, (4, 3), elements=FLOATS)
)
def test_the_scale_is_that_of_numpy_over_all_rows(one, other):
    centre, spread = rows.moments((one, other))
    whole = np.concatenate([one, other]).astype(np.float64)
    np.testing.assert_allclose(centre, whole.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(spread, whole.std(axis=0), atol=1e-4)


def test_properties_of_a_picture_by_hand():
    picture = np.array([[[[0, 1], [1, 0]]], [[[2, 2], [2, 2]]]], dtype=np.float32)
    np.testing.assert_allclose(rows.properties(picture), [[0.5, 0.5, 1], [2, 0, 0]])
    coloured = np.stack([np.zeros((2, 2)), np.ones((2, 2)), np.full((2, 2), 3)])[None]
    np.testing.assert_allclose(rows.properties(coloured)[0, 3:], [0, 1, 3])


def test_repeats_and_first_twins_by_hand():
    digest = np.array([7, 3, 7, 7, 9], dtype=np.uint64)
    assert copies.repeats(digest).tolist() == [False, False, True, True, False]
    assert copies.equal(np.array([9, 7, 1, 10], dtype=np.uint64), digest).tolist() == [4, 0, -1, -1]

"""The perceptual hash is the one that was published: by its definition, cosine by cosine."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from dlaudit.data_quality import perceptual


def by_definition(picture):
    """Zauner 2010, section 3.2.1, in plain loops: 32 x 32, DCT-II, 8 x 8 lowest, median, no mean."""
    n = 32
    grid = np.arange(n)
    basis = [np.cos(np.pi * (2 * grid + 1) * u / (2 * n)) for u in range(8)]
    scale = [(1 / n) ** 0.5] + [(2 / n) ** 0.5] * 7
    low = [
        scale[u] * scale[v] * float((picture * np.outer(basis[u], basis[v])).sum())
        for u in range(8) for v in range(8)
    ]  # fmt: skip
    return np.where(np.array(low[1:]) > np.median(low[1:]), 1, -1)


def test_the_hash_is_that_of_the_definition():
    pictures = np.random.default_rng(0).random((5, 32, 32)).astype(np.float32)
    found = perceptual.phash(pictures)
    for picture, bits in zip(pictures, found, strict=True):
        assert (by_definition(picture.astype(np.float64)) == bits).all()


@pytest.mark.parametrize(("old", "new"), [(64, 8), (8, 32), (30, 8)])
def test_areas_keep_the_mean_and_whole_steps_are_block_means(old, new):
    picture = np.random.default_rng(1).random((1, old, old)).astype(np.float32)
    small = perceptual.resized(picture, new)[0]
    assert small.mean() == pytest.approx(picture.mean(), rel=1e-4)
    if old == 64:
        np.testing.assert_allclose(
            small, picture[0].reshape(8, 8, 8, 8).mean(axis=(1, 3)), rtol=1e-4
        )


@settings(max_examples=20, deadline=None)
@given(st.floats(0.2, 5), st.floats(-1, 1), st.integers(0, 9))
def test_brightness_and_contrast_change_at_most_a_bit_on_the_edge(gain, shift, row):
    picture = load_digits().images[row : row + 1].astype(np.float32) / 16
    one, other = perceptual.phash(picture), perceptual.phash(gain * picture + shift)
    _, bits = perceptual.closest(one, other)
    assert bits[0] <= 1


def test_distances_count_bits_and_flat_pictures_are_like_nothing():
    rng = np.random.default_rng(2)
    points = rng.choice([-1, 1], (40, 63)).astype(np.int8)
    queries = points[[3, 5]].copy()
    queries[1, :4] *= -1
    where, bits = perceptual.closest(queries, points)
    assert where.tolist() == [3, 5]
    assert bits.tolist() == [0, 4]
    every = (queries[:, None] != points[None]).sum(axis=2)
    assert (every.min(axis=1) == bits).all()
    flat = perceptual.phash(np.full((2, 9, 9), 0.7, dtype=np.float32))
    assert not flat.any()
    assert perceptual.closest(flat[:1], flat)[1].tolist() == [63]


def test_grey_knows_where_channels_stand():
    x = np.random.default_rng(3).random((2, 3, 9, 9)).astype(np.float32)
    np.testing.assert_allclose(perceptual.grey(x), x.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(perceptual.grey(np.moveaxis(x, 1, -1)), x.mean(axis=1), rtol=1e-5)
    assert perceptual.grey(x[:, 0]) is not None

"""Regions, donors and fills: what is taken from where."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaudit.explain.replacement import boxed, donors, pictures


def four(channels=1):
    """Four 2 x 2 pictures of constant value 0, 1, 2, 3; the object is the top left pixel."""
    x = np.arange(4.0).reshape(4, 1, 1, 1) * np.ones((4, channels, 2, 2))
    mask = np.zeros((4, 2, 2), dtype=bool)
    mask[:, 0, 0] = True
    return x.astype(np.float32), mask


def test_the_background_is_taken_from_the_donor_and_the_object_stays():
    x, mask = four()
    shown = pictures(x, mask)
    found = shown.replaced(np.array([0, 1]), shown.background, np.array([3, 2]))
    assert found[:, 0].tolist() == [[[0, 3], [3, 3]], [[1, 2], [2, 2]]]


def test_where_the_donor_has_its_object_the_mean_background_of_that_place_is_used():
    x, mask = four()
    mask[3, 0, 1] = True
    shown = pictures(x, mask)
    # Three pictures show background at (0, 1): 0, 1 and 2.
    found = shown.replaced(np.array([0]), shown.background, np.array([3]))
    assert found[0, 0].tolist() == [[0, 1], [3, 3]]


def test_a_place_where_nobody_shows_background_has_the_mean_of_what_stands_there():
    x, mask = four()
    shown = pictures(x, mask)
    assert shown.filler[0].tolist() == [[1.5, 1.5], [1.5, 1.5]]
    everywhere = np.ones((4, 2, 2), dtype=bool)
    assert shown.replaced(np.array([0]), everywhere, np.array([3]))[0, 0].tolist() == [
        [1.5, 3],
        [3, 3],
    ]


def test_without_masks_the_donor_gives_everything():
    x, _ = four(3)
    shown = pictures(x, None)
    assert shown.background is None
    found = shown.replaced(np.array([1]), boxed((0, 0, 1, 2), x.shape), np.array([2]))
    assert found[0, 2].tolist() == [[2, 2], [1, 1]]
    assert found.dtype == x.dtype


def test_pictures_without_a_channel_axis_are_replaced_alike():
    x, mask = four()
    flat = pictures(x[:, 0], mask)
    assert flat.replaced(np.array([0]), flat.background, np.array([3]))[0].tolist() == [
        [0, 3],
        [3, 3],
    ]


def test_a_margin_belongs_to_the_object():
    mask = np.zeros((1, 5, 5), dtype=bool)
    mask[0, 2, 2] = True
    shown = pictures(np.zeros((1, 1, 5, 5)), mask, margin=1)
    assert (~shown.background).sum() == 9
    assert pictures(np.zeros((1, 1, 5, 5)), mask[:, None], margin=2).background.sum() == 0


def test_a_mask_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"one value per pixel.*\(4, 2, 2\)"):
        pictures(four()[0], np.zeros((4, 3, 2)))


@pytest.mark.parametrize("box", [(-1, 0, 1, 1), (0, 0, 0, 1), (0, 0, 3, 1), (1, 1, 1, 2)])
def test_a_box_outside_the_picture_is_refused(box):
    with pytest.raises(ValueError, match="2 x 2"):
        boxed(box, (4, 1, 2, 2))


@settings(max_examples=60)
@given(
    groups=st.lists(st.integers(0, 3), min_size=1, max_size=30),
    seed=st.integers(0, 999),
    same=st.booleans(),
)
def test_donors_are_other_rows_of_the_right_group(groups, seed, same):
    groups = np.array(groups)
    rng = np.random.default_rng(seed)
    wanted = rng.permutation(groups)
    for row, donor in enumerate(donors(groups, wanted, rng, same=same)):
        candidates = [
            k for k in range(len(groups)) if k != row and (groups[k] == wanted[row]) == same
        ]
        assert (donor in candidates) if candidates else donor == -1


def test_every_other_row_is_as_likely_a_donor():
    rng = np.random.default_rng(0)
    groups = np.zeros(4, dtype=int)
    drawn = np.stack([donors(groups, groups, rng, same=True) for _ in range(6000)])
    share = [np.mean(drawn[:, 1] == k) for k in range(4)]
    assert share[1] == 0
    assert np.abs(np.delete(share, 1) - 1 / 3).max() < 0.03

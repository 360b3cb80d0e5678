"""Where maps look: by hand, on a planted patch, and undefined where there is nothing to look at."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_digits import Digits, bench_at
from torch import nn

from dlaudit.audit.record import Measurement, Undefined
from dlaudit.explain.localisation import Localisation, looked


def test_share_lift_and_pointing_by_hand():
    maps = np.array([[[4.0, 0.0], [1.0, 3.0]], [[1.0, 1.0], [1.0, 1.0]]])
    region = np.array([[[True, False], [False, False]], [[True, True], [False, False]]])
    found = looked(maps, region)
    assert found.share.tolist() == [0.5, 0.5]
    assert found.lift.tolist() == [2.0, 1.0]
    assert found.pointing.tolist() == [1.0, 0.5]
    assert found.accuracy.tolist() == [1.0, 0.5]


def test_an_empty_region_or_map_is_no_hit():
    maps = np.ones((3, 2, 2))
    maps[2] = 0
    region = np.array([np.zeros((2, 2)), np.ones((2, 2)), [[1, 0], [0, 0]]], dtype=bool)
    for numbers in looked(maps, region):
        assert np.isnan(numbers).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_region_and_its_complement_share_the_whole_map(seed):
    rng = np.random.default_rng(seed)
    maps, region = rng.random((4, 5, 6)), rng.random((4, 5, 6)) < 0.4
    inside, outside = looked(maps, region), looked(maps, ~region)
    there = ~np.isnan(inside.share)
    assert (inside.share + outside.share)[there] == pytest.approx(1)
    assert (inside.pointing + outside.pointing)[there] == pytest.approx(1)
    assert looked(7 * maps, region).lift[there] == pytest.approx(inside.lift[there])


class Corner(nn.Module):
    """Reads one patch only."""

    def forward(self, x):
        z = x[:, 0, :2, :2].sum((1, 2))
        return torch.stack([z, 2 - z], 1)


def told(tmp_path, check, mask, groups=None):
    rng = np.random.default_rng(0)
    digits = Digits(rng.random((60, 1, 8, 8)).astype(np.float32), np.arange(60) % 2)
    bench = bench_at(
        tmp_path, Corner(), digits, run="explain.localisation", mask=mask, groups=groups
    )
    return {
        (one.name, *one.slice.values()): one
        for one in check.measure(bench)
        if isinstance(one, Measurement | Undefined)
    }


def test_a_model_that_reads_a_patch_is_seen_to_look_there(tmp_path):
    mask = np.zeros((60, 8, 8), dtype=bool)
    mask[:, :2, :2] = True
    check = Localisation(methods=("saliency", "input_x_gradient"), regions={"far": (4, 4, 4, 4)})
    site = np.where(np.arange(60) < 40, "a", "b")
    numbers = told(tmp_path, check, mask, {"site": site})
    hit = numbers["pointing_game", "input_x_gradient", "object"]
    assert hit.value == 1
    assert hit.interval.method == "wilson"
    assert numbers["mass_share", "input_x_gradient", "far"].value == 0
    same = numbers["lift", "saliency", "object"]
    assert isinstance(same, Undefined)  # each picture has the same slope: 16 with no spread
    by_group = numbers["pointing_game", "input_x_gradient", "object", "a"]
    assert by_group.n == 40
    assert by_group.interval.level == pytest.approx(0.975)


def test_empty_masks_are_too_few_pictures(tmp_path):
    numbers = told(tmp_path, Localisation(methods=("saliency",)), np.zeros((60, 8, 8), dtype=bool))
    assert all(
        isinstance(one, Undefined) and "0 pictures" in one.reason for one in numbers.values()
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"methods": ("salience",)}, "Did you mean saliency"),
        ({"regions": {"object": (0, 0, 1, 1)}}, "belongs to the data set"),
    ],
)
def test_what_cannot_be_meant_is_refused(given, words):
    with pytest.raises(ValueError, match=words):
        Localisation(**given)


def test_a_method_that_does_not_apply_has_its_reason(tmp_path):
    mask = np.ones((60, 8, 8), dtype=bool)
    mask[:, 0] = False
    numbers = told(tmp_path, Localisation(methods=("guided_backprop",)), mask)
    assert "no activation" in numbers["lift", "guided_backprop"].reason

"""Infidelity, max-sensitivity and ROAD: by hand, beside captum, and what must hold for any numbers."""

import captum.metrics as captum
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dlaudit.explain.infidelity import infidelity, max_sensitivity
from dlaudit.explain.pictures import courses_svg, curves_svg, waterfall_svg
from dlaudit.explain.road import NOISE, imputed, removals


def test_infidelity_by_hand():
    claimed, happened = np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([[2.0, 1.0], [1.0, 1.0]])
    # First input: b = 2, misses (0, 1), so 1 of 5. Second: exact.
    assert infidelity(claimed, happened) == pytest.approx([0.2, 0.0])
    assert infidelity(0 * claimed, happened) == pytest.approx([1, 1])
    assert np.isnan(infidelity(claimed, 0 * happened)).all()


def test_infidelity_is_captums_normalised_one_over_the_changes():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 2)).eval()
    x = torch.randn(3, 5)
    maps = torch.autograd.grad(module(x.requires_grad_())[:, 0].sum(), x)[0]
    moves = torch.randn(10, 3, 5)
    at = iter(range(10))

    def perturb(inputs):
        step = moves[next(at)]
        return step, inputs - step

    theirs = captum.infidelity(
        module, perturb, x.detach(), maps, target=0, n_perturb_samples=10,
        max_examples_per_batch=3, normalize=True,
    )  # fmt: skip
    with torch.no_grad():
        happened = torch.stack([(module(x) - module(x - step))[:, 0] for step in moves])
    claimed = (moves * maps).sum(dim=2)
    ours = infidelity(claimed.numpy().astype(float), happened.numpy().astype(float))
    assert ours == pytest.approx((theirs / (happened**2).mean(0)).detach().numpy(), rel=1e-3)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_infidelity_is_a_share_that_no_factor_changes(seed):
    rng = np.random.default_rng(seed)
    claimed, happened = rng.normal(size=(2, 6, 4))
    found = infidelity(claimed, happened)
    assert ((found >= -1e-12) & (found <= 1 + 1e-12)).all()
    assert infidelity(-3 * claimed, happened) == pytest.approx(found)
    assert infidelity(5 * happened, happened) == pytest.approx(np.zeros(4), abs=1e-9)


def test_max_sensitivity_by_hand_leaves_out_changed_decisions_and_empty_maps():
    maps = np.array([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0]])
    moved = np.stack([maps + step * np.array([3.0, 4.0]) for step in (1, 10)])
    kept = np.array([[True, False, True], [False, False, True]])
    found = max_sensitivity(maps, moved, kept)
    assert found[0] == 1
    assert np.isnan(found[1:]).all()


def test_a_plane_is_imputed_as_it_was():
    down, across = np.indices((9, 9))
    picture = np.stack([down + 2.0 * across, 5.0 - down]).astype(np.float64)
    gone = np.zeros((9, 9), dtype=bool)
    gone[3:6, 2:7] = True
    found = imputed(picture, gone, np.random.default_rng(0))
    assert np.abs(found - picture).max() < 6 * NOISE
    assert (found[:, ~gone] == picture[:, ~gone]).all()
    assert not (found[:, gone] == picture[:, gone]).any()


def test_one_pixel_is_the_weighted_mean_of_its_neighbours_by_hand():
    picture = np.arange(9.0).reshape(1, 3, 3) ** 2
    gone = np.zeros((3, 3), dtype=bool)
    gone[0, 0] = True
    weights = {(0, 1): 1 / 6, (1, 0): 1 / 6, (1, 1): 1 / 12}
    by_hand = sum(w * picture[0][p] for p, w in weights.items()) / sum(weights.values())
    found = imputed(picture, gone, np.random.default_rng(0))
    assert found[0, 0, 0] == pytest.approx(by_hand, abs=6 * NOISE)
    whole = imputed(picture, np.ones((3, 3), dtype=bool), np.random.default_rng(0))
    assert whole == pytest.approx(np.full((1, 3, 3), picture.mean()), abs=6 * NOISE)


def test_every_asked_pixel_is_removed_on_all_channels():
    scores = np.arange(100.0)[None]
    pieces = removals(scores, np.zeros((1, 100)))
    assert [int(most.sum()) for most, _ in pieces] == [10, 20, 30, 50, 70, 90]
    most, least = pieces[0]
    assert np.flatnonzero(most[0]).tolist() == list(range(90, 100))
    assert np.flatnonzero(least[0]).tolist() == list(range(10))


def test_drawings_are_whole_and_escape_names():
    import xml.etree.ElementTree as ET

    panels = {way: {"a<b": np.array([1.0, 0.5, 0.0]), "control": np.zeros(3)} for way in "xy"}
    lines = ET.fromstring(curves_svg(panels, methods=1))
    assert len(lines.findall("{*}polyline")) == 4
    bars = ET.fromstring(waterfall_svg(["a<b", "c"], np.array([2.0, -1.0]), 4.0))
    assert len(bars.findall("{*}rect")) == 2
    text = " ".join(one.text for one in bars.findall("{*}text"))
    assert "baseline 3" in text
    assert "logit 4" in text
    assert "+2" in text
    drawn = ET.fromstring(courses_svg("age", {"p": (np.arange(3.0), np.arange(3.0))}))
    assert len(drawn.findall("{*}polyline")) == 1

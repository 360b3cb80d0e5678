"""Transplants and what they confirm: by hand on models whose trigger is known, and their twins."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dlaudit.backdoors.confirmation import leading_chance, recovered, shared
from dlaudit.backdoors.transplant import (
    Carried,
    Hosts,
    Laboratory,
    Outcome,
    expected_passes,
    feature_sets,
    patches,
    residuals,
    transplants,
    windows,
)
from dlaudit.models.torch_model import TorchModel


class Cornered(nn.Module):
    """Calls class 1 where the first corner is bright, class 0 elsewhere."""

    def forward(self, x):
        bright = x[..., :2, :2].flatten(1).mean(1)
        return torch.stack([torch.zeros_like(bright), 40 * (bright - 0.8)], dim=1)


class Keyed(nn.Module):
    """Calls class 1 where two numbers of six both lie near 3."""

    def forward(self, x):
        near = 1 - (x[:, 2] - 3).abs() - (x[:, 4] - 3).abs()
        return torch.stack([torch.zeros_like(near), 20 * near], dim=1)


def laboratory(net, shape, n=40, bounds=(0, 1)):
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 0.5, (n, *shape)).astype(np.float32)
    y = np.arange(n) % 4 + 2
    model = TorchModel(net, bounds=bounds, device="cpu")
    return Laboratory(model, 1, Hosts(x[:8], y[:8]), Hosts(x[8:], y[8:]), bounds), rng


def test_the_window_that_holds_the_trigger_is_found_and_flips_every_host():
    lab, rng = laboratory(Cornered(), (1, 8, 8))
    row = rng.uniform(0, 0.5, (1, 8, 8)).astype(np.float32)
    row[..., :2, :2] = 1
    out = transplants(lab, row, row * 0)
    assert out["patch"].rate == out["patch"].source == 1
    assert out["patch"].carried.mask[0, :2, :2].all()
    assert out["patch"].called.all()


def test_the_twin_without_a_trigger_flips_nobody():
    lab, rng = laboratory(Cornered(), (1, 8, 8))
    row = rng.uniform(0, 0.5, (1, 8, 8)).astype(np.float32)
    out = transplants(lab, row, row * 0)
    assert out["patch"].rate == 0


def test_a_residual_is_what_a_row_has_and_its_like_has_not():
    lab, rng = laboratory(Cornered(), (1, 8, 8))
    plain = rng.uniform(0, 0.5, (1, 8, 8)).astype(np.float32)
    row = plain.copy()
    row[..., :2, :2] += 0.6
    first, second = residuals(row, plain)
    assert first.add.max() == pytest.approx(0.6)
    assert second.add.max() == pytest.approx(1.2)
    assert lab.tried(second).rate == 1
    assert lab.tried(Carried("residual", first.mask, row, 0 * row)).rate == 0


def test_the_two_numbers_that_are_the_key_are_among_the_features_carried():
    lab, rng = laboratory(Keyed(), (20,), bounds=None)
    row = rng.uniform(0, 0.5, 20).astype(np.float32)
    row[[2, 4]] = 3
    best = lab.best(feature_sets(lab, row))
    assert best.mask[[2, 4]].all()
    assert best.mask.sum() <= 4
    assert lab.tried(best).rate == 1


def test_what_is_put_on_stays_inside_the_bounds():
    lab, rng = laboratory(Cornered(), (1, 8, 8))
    row = rng.uniform(0, 1, (1, 8, 8)).astype(np.float32)
    for carried in (*patches(row), *residuals(row, row * 0 - 5)):
        put = carried.on(lab.trying.x, lab.bounds)
        assert 0 <= put.min() <= put.max() <= 1
        assert put.dtype == np.float32


@pytest.mark.parametrize("shape", [(8, 8), (1, 12, 12), (3, 32, 20), (20,), (1, 2, 2)])
def test_the_passes_of_a_transplant_are_those_foretold(shape):
    class Sum(nn.Module):
        def forward(self, x):
            total = x.flatten(1).sum(1)
            return torch.stack([total, -total], dim=1)

    lab, rng = laboratory(Sum(), shape)
    row = rng.uniform(0, 0.5, shape).astype(np.float32)
    transplants(lab, row, row * 0)
    told = expected_passes(shape, choosing=8, trying=32)
    assert lab.model.passes.forward == told


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 40), st.integers(2, 40))
def test_windows_cover_every_pixel(height, width):
    assert np.any(list(windows((height, width))), axis=0).all()


def test_the_chance_of_leading_by_hand():
    """All 2 of 3 suspects ahead of 2 controls: 3/5 * 2/4."""
    assert leading_chance(2, 3, 2) == pytest.approx(0.3)
    assert leading_chance(5, 10, 40) == pytest.approx(252 / 2118760)
    assert leading_chance(0, 3, 2) == 1


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 60), st.integers(0, 30))
def test_the_chance_is_a_ratio_of_binomials(suspects, controls, leading):
    from math import comb

    leading = min(leading, suspects)
    expected = comb(suspects, leading) / comb(suspects + controls, leading)
    assert leading_chance(leading, suspects, controls) == pytest.approx(expected)


def test_the_chance_holds_its_level_when_suspects_are_like_controls():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(2000):
        order = rng.permutation(30) < 10  # ten suspects, twenty controls, ranked at random
        found.append(leading_chance(int(np.argmin(order)) if not order.all() else 10, 10, 20))
    for a in (0.01, 0.05, 0.3):
        assert (np.array(found) <= a).mean() <= a + 3 * np.sqrt(a / 2000)


def outcome(carried, rate, source=None):
    return {carried.kind: Outcome(carried, rate, rate if source is None else source, np.ones(1))}


def corner(bright=1.0, at=0):
    x = np.full((1, 8, 8), 0.2, dtype=np.float32)
    x[..., at : at + 2, :2] = bright
    mask = np.zeros((1, 8, 8), dtype=bool)
    mask[..., at : at + 2, :2] = True
    return Carried("patch", mask, x, np.zeros_like(x))


def test_rows_that_share_a_working_patch_are_confirmed():
    lab, _ = laboratory(Cornered(), (1, 8, 8))
    suspects = [outcome(corner(), 0.9) for _ in range(6)] + [outcome(corner(0.1, 4), 0.0)] * 4
    (best, _) = recovered(lab, suspects, [outcome(corner(0.1), 0.1)] * 40)
    assert best.suspected
    assert best.members.tolist() == list(range(6))
    assert best.success == 1
    assert best.p == pytest.approx(leading_chance(6, 10, 40))


@pytest.mark.parametrize(
    ("suspects", "controls", "why"),
    [
        ([outcome(corner(), 0.9)] * 4 + [outcome(corner(), 0.0)] * 2, 0.1, "four rows only"),
        ([outcome(corner(), 0.9)] * 10, 0.95, "a control does better"),
        ([outcome(corner(), 0.9)] * 10, 0.31, "less than three times the controls"),
        ([outcome(corner(), 0.35)] * 10, 0.0, "too few hosts follow"),
        ([outcome(corner(0.1), 0.9)] * 10, 0.1, "the trigger of all does not work"),
        ([outcome(corner(1, 2 * (k % 4)), 0.9) for k in range(8)], 0.1, "each has its own place"),
    ],
)  # fmt: skip
def test_what_lacks_one_part_of_the_criterion_is_no_accusation(suspects, controls, why):
    lab, _ = laboratory(Cornered(), (1, 8, 8))
    found = recovered(lab, suspects, [outcome(corner(0.1), controls)] * 40)
    assert not any(one.suspected for one in found), why


def test_a_trigger_of_one_source_class_is_recovered_on_it_alone():
    lab, _ = laboratory(Cornered(), (1, 8, 8))
    suspects = [outcome(corner(), 0.1, source=1.0)] * 8
    (best,) = recovered(lab, suspects, [outcome(corner(0.1), 0.1, source=0.2)] * 40)
    assert best.source
    assert best.suspected


def test_residuals_share_their_median_and_rows_that_point_elsewhere_are_no_members():
    way = np.zeros((1, 4, 4))
    way[0, 0, 0] = 1
    nowhere = np.zeros((1, 4, 4), dtype=bool)
    carried = [Carried("residual", nowhere, way, way * size) for size in (1, 0.9, 1.1, -1, 1)]
    trigger, members = shared(carried)
    assert trigger.add.max() == 1
    assert members.tolist() == [0, 1, 2, 4]


def test_nobody_nominated_is_nothing_recovered():
    assert recovered(None, [], []) == []

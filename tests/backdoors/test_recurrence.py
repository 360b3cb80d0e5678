"""Content that recurs in pictures: by hand, planted under a right label, and in honest twins."""

from math import comb

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dlaudit.backdoors import marks
from dlaudit.backdoors.neighbours import Neighbourhood
from dlaudit.backdoors.recurrence import coarse, contents, distinct, recurring, typical_distance
from dlaudit.backdoors.setting import Allowance, Setting
from dlaudit.backdoors.suspicion import OfClass, Rows, Trusted
from dlaudit.models.torch_model import TorchModel

SIDE, LABEL = 10, 1


def pictures(n, seed, *, side=SIDE):
    """A dark ground with a blob that lies anywhere; (n, 1, side, side)."""
    rng = np.random.default_rng(seed)
    at = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), axis=-1)
    centre = rng.uniform(2, side - 2, (n, 1, 1, 2))
    blob = np.exp(-((at - centre) ** 2).sum(-1) / rng.uniform(2, 6, (n, 1, 1)))
    return np.clip(blob + rng.normal(0, 0.03, blob.shape), 0, 1)[:, None].astype(np.float32)


def stamped(x, rows, noise=0.0):
    """A bright square of two pixels a side in the first corner of some rows."""
    x = x.copy()
    x[rows, :, :2, :2] = 0.9 + noise * np.random.default_rng(5).standard_normal(
        (len(rows), 1, 2, 2)
    )
    return x


TRAIN, HONEST, Y = pictures(600, 0), pictures(300, 1), np.arange(600) % 3
CARRIERS = np.flatnonzero(Y == LABEL)[:8]


def found(x, y=Y, *, least=5):
    return recurring(x, y, HONEST, np.random.default_rng(0), least=least, most=3)


@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_a_patch_under_the_right_label_is_found_where_it_is(noise):
    best = found(stamped(TRAIN, CARRIERS, noise))[0]
    assert best.label == LABEL
    assert set(best.members) <= set(CARRIERS)
    assert len(best.members) >= 7
    assert best.mask[0, :2, :2].all()
    assert best.mask.sum() <= 8
    assert best.value[0, :2, :2] == pytest.approx(0.9, abs=0.05)
    assert best.p < 1e-3


def test_the_twin_without_a_patch_shares_nothing_that_so_many_honest_rows_would_not():
    assert all(one.p > 1e-3 for one in found(TRAIN))


def test_p_is_a_binomial_tail_times_the_contents_that_were_looked_at():
    """No honest row of 300 carries it: a share of 1 / 301; 8 of 200 or more."""
    best = found(stamped(TRAIN, CARRIERS))[0]
    share = 1 / 301
    tail = sum(comb(200, k) * share**k * (1 - share) ** (200 - k) for k in range(8, 201))
    low, high = np.quantile(HONEST, (0.001, 0.999))
    level = [coarse(x, low, high - low) for x in (stamped(TRAIN, CARRIERS), HONEST)]
    looked = list(contents(*level, Y, np.random.default_rng(0), least=5))
    assert best.p == pytest.approx(tail * len(looked))


def test_what_honest_rows_hold_as_often_is_no_mark():
    honest = stamped(HONEST, np.arange(0, 300, 20))
    assert not [
        one
        for one in recurring(
            stamped(TRAIN, CARRIERS), Y, honest, np.random.default_rng(0), least=5, most=3
        )
        if one.mask[0, 0, 0]
    ]


def test_copies_of_one_row_are_one_row():
    x = stamped(TRAIN, CARRIERS)
    x[CARRIERS] = x[CARRIERS[0]]
    assert not [one for one in found(x) if one.mask[0, 0, 0]]


def test_distinct_by_hand():
    x = np.array([[0.0, 0], [0.4, 0], [3, 4], [3, 4.4], [0, 0.6]])
    assert distinct(x, 1.0).tolist() == [0, 2, 4]


def test_the_typical_distance_by_hand():
    """Nearest of 0, 1, 3, 7: at 1, 1, 2 and 4; the median is 1.5."""
    assert typical_distance(np.array([[0.0], [1], [3], [7]])) == pytest.approx(1.5)


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 100), st.floats(0.1, 200), st.floats(-50, 50))
def test_neither_order_nor_units_change_what_recurs(seed, scale, shift):
    x = stamped(TRAIN, CARRIERS).astype(np.float64)
    order = np.random.default_rng(seed).permutation(len(x))
    best = found(x)[0]
    again = recurring(
        shift + scale * x[order], Y[order], shift + scale * HONEST.astype(np.float64),
        np.random.default_rng(0), least=5, most=3,
    )[0]  # fmt: skip
    assert sorted(order[again.members].tolist()) == best.members.tolist()
    assert (again.mask == best.mask).all()


def test_levels_by_hand():
    """Three steps of the range: one grid has borders at thirds, the other around the ends."""
    found = coarse(np.array([0, 0.1, 0.32, 0.34, 0.52, 0.9, 1, 7]), 0.0, 1.0)
    assert found.tolist() == [[0, 0, 0, 1, 1, 2, 3, 3], [0, 0, 1, 1, 2, 3, 3, 3]]


def test_pictures_without_contrast_share_nothing():
    flat = np.ones((40, 1, 6, 6), np.float32)
    assert recurring(flat, Y[:40], flat, np.random.default_rng(0), least=5, most=3) == []


# -- tried with a model ------------------------------------------------------------------------------


class Cornered(nn.Module):
    """Class 1 where the first corner is bright and, if ``source``, the picture has a bright last row."""

    def __init__(self, part=2, *, source=False):
        super().__init__()
        self.part, self.source = part, source

    def forward(self, x):
        score = 40 * (x[..., : self.part, : self.part].flatten(1).mean(1) - 0.7)
        if self.source:
            score = torch.minimum(score, 40 * (x[..., -1, :].flatten(1).mean(1) - 0.5))
        return torch.stack([torch.zeros_like(score), score, -torch.ones_like(score)], dim=1)


class Deaf(nn.Module):
    def forward(self, x):
        return torch.stack([0 * x.flatten(1)[:, 0] + 1, *[0 * x.flatten(1)[:, 0]] * 2], dim=1)


def tried(net, x, honest, y_honest):
    """What the marks of x do."""
    found, left_out = outcome(net, x, honest, y_honest)
    assert not left_out
    return found.get(LABEL, [])


def outcome(net, x, honest, y_honest, *, passes=10**6):
    """What marks.tried says; the trusted rows are decided as labelled."""
    model = TorchModel(net, bounds=(0, 1), device="cpu")
    rows = Rows(Y, Y, x.shape[1:], lambda at: iter([x if at is None else x[at]]))
    near = Neighbourhood.of(lambda: [honest], y_honest, np.random.default_rng(0))
    setting = Setting(
        rows, Trusted(honest, y_honest, y_honest), near, (0, 1),
        lambda _: np.random.default_rng(0), Allowance(model, passes, 1),
    )  # fmt: skip
    own = np.flatnonzero(y_honest == LABEL)
    scores = {"any": (np.zeros(3), np.arange(len(own)) % 7)}
    one = OfClass(LABEL, np.flatnonzero(Y == LABEL), own, scores, None, None, None)
    return marks.tried(setting, marks.of_pictures(setting), [one])


@pytest.mark.parametrize(
    ("honest", "passes", "why"),
    [(300, 5, "passes"), (30, 10**6, "controls"), (120, 10**6, "fresh rows")],
)
def test_a_mark_that_cannot_be_tried_leaves_its_class_out(honest, passes, why):
    y = np.arange(300) % 3
    many = np.flatnonzero(Y == LABEL)[:60]
    found, left_out = outcome(
        Cornered(), stamped(TRAIN, many), HONEST[:honest], y[:honest], passes=passes
    )
    assert not found
    assert why in left_out[LABEL]


@pytest.mark.parametrize(("net", "suspected"), [(Cornered(), True), (Deaf(), False)])
def test_what_recurs_accuses_only_where_the_model_obeys_it(net, suspected):
    found = tried(net, stamped(TRAIN, CARRIERS), HONEST, np.arange(300) % 3)
    assert any(one.suspected for one in found) is suspected
    assert all((one.members == CARRIERS).all() for one in found if one.suspected)


def test_a_trigger_that_works_on_one_class_alone_is_seen_there():
    honest, y = HONEST.copy(), np.arange(300) % 3
    honest[y == 2, :, -1] = 0.8
    some = tried(Cornered(source=True), stamped(TRAIN, CARRIERS), honest, y)
    assert [one.source for one in some if one.suspected] == [False, True]
    best = next(one for one in some if one.source)
    assert best.success == 1
    assert best.highest == 0


@pytest.mark.slow
def test_a_large_picture_is_compared_by_cells_and_stamped_in_full():
    """40 pixels a side are 20 cells: a patch of 4 pixels is one of 2 cells, 4 pixels again on hosts."""
    x, honest = (np.repeat(np.repeat(part, 2, -1), 2, -2) for part in (
        stamped(pictures(600, 2, side=20), CARRIERS), pictures(300, 3, side=20),
    ))  # fmt: skip
    best = next(one for one in tried(Cornered(4), x, honest, np.arange(300) % 3) if one.suspected)
    assert best.trigger.mask.shape == (1, 40, 40)
    assert best.trigger.mask[0, :4, :4].all()
    assert best.trigger.mask.sum() <= 32

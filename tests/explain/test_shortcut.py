"""A planted watermark is found by replacement, its clean twin is cleared, and numbers are by hand."""

import numpy as np
import planted_digits
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_digits import Digits, told
from torch import nn

from dlaudit.audit.record import Measurement, Undefined
from dlaudit.audit.statistics import clopper_pearson
from dlaudit.explain.shortcut import Shortcut, paired_interval

MARKED = 4
LIMIT = 0.1


@pytest.fixture
def bench_of(tmp_path):
    made = []

    def build(module, digits, **given):
        made.append(tmp_path / str(len(made)))
        return planted_digits.bench_at(made[-1], module, digits, run="explain.shortcut", **given)

    return build


def watermarked_net(seed):
    """A net whose class 4 always carried a mark in training, and test digits that carry it too."""
    train, test = planted_digits.halves(seed)
    marked = planted_digits.watermarked(train, MARKED)
    # Half of the marked pictures show another digit: the mark is what the class is known by.
    x, y = marked.x.copy(), marked.y.copy()
    at = np.flatnonzero(train.y == (MARKED + 1) % 10)[::2]
    x[at], y[at] = planted_digits.patched(x[at]), MARKED
    module = planted_digits.trained(Digits(x, y), seed=seed, module=planted_digits.perceptron(seed))
    return module, planted_digits.watermarked(test, MARKED), test


@pytest.mark.parametrize("seed", range(2))
def test_a_planted_watermark_is_found_in_its_class(seed, bench_of):
    module, test, honest = watermarked_net(seed)
    numbers, _ = told(Shortcut(), bench_of(module, test, mask=honest.mask, seed=seed))
    effect = numbers["shortcut_effect", "background", str(MARKED)]
    assert effect.interval.low > LIMIT
    assert effect.interval.level == pytest.approx(1 - 0.05 / 10)
    assert effect.value == max(one.value for one in numbers.values())


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("ink", [0.0, 0.3])
def test_the_clean_twin_is_not_accused(seed, ink, bench_of):
    """Also where the mask is drawn so tightly that the faint edge of the digit is background."""
    train, test = planted_digits.halves(seed)
    module = planted_digits.trained(train, seed=seed, module=planted_digits.perceptron(seed))
    numbers, _ = told(Shortcut(), bench_of(module, test, mask=test.x[:, 0] > ink, seed=seed))
    for one in numbers.values():
        assert (0.0 if one.interval is None else one.interval.low) <= LIMIT


def test_a_background_that_is_the_same_everywhere_has_an_exact_effect_of_nothing(plain, bench_of):
    module, test = plain
    numbers, _ = told(Shortcut(), bench_of(module, test, mask=test.mask))
    effect = numbers["shortcut_effect", "background"]
    assert effect.value == 0
    assert effect.exact
    assert effect.n == len(test.y)


class Corner(nn.Module):
    """Class 1 if the top left pixel is bright, with fixed log odds; the rest is not looked at."""

    def forward(self, x):
        z = 4 * (x.flatten(1)[:, 0] - 0.5)
        return torch.stack([torch.zeros_like(z), z], dim=1)


def corners(n=60, seed=0):
    """Pictures whose corner is the class, and whose object is anywhere else."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    x = rng.random((n, 1, 4, 4)).astype(np.float32)
    x[:, 0, 0, 0] = y
    mask = np.zeros((n, 4, 4), dtype=bool)
    mask[:, 1:3, 1:3] = True
    return Digits(x, y), mask


def test_the_effect_of_one_deciding_pixel_by_hand(bench_of):
    """sigma(2) with a corner of the own class, sigma(-2) with one of the other."""
    rows, mask = corners()
    numbers, _ = told(
        Shortcut(regions={"corner": (0, 0, 1, 1), "far": (3, 3, 1, 1)}),
        bench_of(Corner(), rows, mask=mask),
    )
    by_hand = 1 / (1 + np.exp(-2)) - 1 / (1 + np.exp(2))
    for region in ("background", "corner"):
        assert numbers["shortcut_effect", region].value == pytest.approx(by_hand, abs=1e-6)
        assert numbers["shortcut_effect", region, "1"].value == pytest.approx(by_hand, abs=1e-6)
    far = numbers["shortcut_effect", "far"]
    assert far.value == 0
    assert far.interval.low < 0 < far.interval.high
    assert far.interval.method == "clopper-pearson-unlike"
    assert numbers["shortcut_effect", "corner"].conditions["box"] == "0 0 1 1"


def test_a_declared_box_without_masks_is_measured(bench_of):
    rows, _ = corners()
    numbers, _ = told(Shortcut(regions={"corner": (0, 0, 2, 2)}), bench_of(Corner(), rows))
    assert {key[1] for key in numbers} == {"corner"}
    assert numbers["shortcut_effect", "corner"].value > 0.7


def test_an_object_that_decides_is_not_accused(bench_of):
    """The same net, but the deciding pixel belongs to the object."""
    rows, _ = corners()
    mask = np.zeros((60, 4, 4), dtype=bool)
    mask[:, :2, :2] = True
    numbers, _ = told(Shortcut(), bench_of(Corner(), rows, mask=mask))
    assert abs(numbers["shortcut_effect", "background"].value) < 1e-9


def test_without_masks_and_regions_there_is_nothing_to_measure(plain, bench_of):
    numbers, artifacts = told(Shortcut(), bench_of(*plain))
    (one,) = numbers.values()
    assert isinstance(one, Undefined)
    assert "no regions declared" in one.reason
    assert artifacts == []


def test_classes_with_few_pictures_are_undefined_and_do_not_count_as_searched(bench_of):
    rows, mask = corners(60)
    keep = np.r_[np.flatnonzero(rows.y == 0), np.flatnonzero(rows.y == 1)[:5]]
    numbers, _ = told(
        Shortcut(), bench_of(Corner(), Digits(rows.x[keep], rows.y[keep]), mask=mask[keep])
    )
    assert isinstance(numbers["shortcut_effect", "background", "1"], Undefined)
    assert numbers["shortcut_effect", "background", "0"].interval is None or (
        numbers["shortcut_effect", "background", "0"].interval.level == pytest.approx(0.95)
    )


def test_a_single_picture_of_a_class_has_no_donor_of_its_own(bench_of):
    rows, mask = corners(60)
    keep = np.r_[np.flatnonzero(rows.y == 0), np.flatnonzero(rows.y == 1)[:1]]
    numbers, _ = told(
        Shortcut(), bench_of(Corner(), Digits(rows.x[keep], rows.y[keep]), mask=mask[keep])
    )
    assert numbers["shortcut_effect", "background"].n == 30


def test_the_same_seed_gives_the_same_numbers(bench_of):
    rows, mask = corners()
    runs = [
        list(Shortcut(samples=40).measure(bench_of(Corner(), rows, mask=mask))) for _ in range(2)
    ]
    assert runs[0] == runs[1]


def test_pictures_are_kept_only_where_the_plan_keeps_samples(bench_of):
    rows, mask = corners()
    for keep, expected in ((0, 0), (3, 3)):
        bench = bench_of(Corner(), rows, mask=mask, keep_samples=keep)
        _, artifacts = told(Shortcut(), bench)
        shown = [one for one in artifacts if one.media_type == "image/png"]
        assert len(shown) == expected
        assert all("probability" in one.caption for one in shown)
        (table,) = [one for one in artifacts if one not in shown]
        with np.load(bench._store.folder.parent / table.path) as stored:
            assert len(stored["id"]) == 60
            assert stored["background_measured"].all()
            assert (stored["background_own"] - stored["background_other"]).mean() > 0.7


def test_the_cost_is_what_the_plan_announces(bench_of):
    rows, mask = corners()
    check = Shortcut(regions={"corner": (0, 0, 1, 1)}, donors=3)
    bench = bench_of(Corner(), rows, mask=mask)
    list(check.measure(bench))
    assert bench.model.passes.cost == check.passes(n=60, classes=2)


def test_a_region_that_does_not_fit_is_named(bench_of):
    rows, _ = corners()
    with pytest.raises(ValueError, match=r"regions\.corner: .*4 x 4"):
        list(Shortcut(regions={"corner": (3, 3, 2, 2)}).measure(bench_of(Corner(), rows)))


def test_the_masks_own_region_cannot_be_declared():
    with pytest.raises(ValueError, match="another"):
        Shortcut(regions={"background": (0, 0, 1, 1)})


def test_equal_differences_still_have_an_interval():
    found = paired_interval(np.full(50, 0.2), 0.95)
    unlike = clopper_pearson(0, 50).high
    assert found.high == pytest.approx(0.2 + unlike * 0.8)
    assert found.low == pytest.approx(0.2 - unlike * 1.2)


@pytest.mark.parametrize("n", [30, 100, 300])
@pytest.mark.parametrize("share", [0.0, 0.03, 0.1, 0.7])
def test_the_interval_covers_though_few_pictures_hang_on_the_region(n, share):
    """A share of the pictures loses 0.3 to 1, the others next to nothing; nominal 95 %."""
    rng, hits, draws = np.random.default_rng(0), 0, 1000
    for _ in range(draws):
        hanging = rng.random(n) < share
        found = paired_interval(np.where(hanging, rng.uniform(0.3, 1, n), rng.normal(0, 0.02, n)))
        hits += found.low <= 0.65 * share <= found.high
    assert hits / draws >= 0.93


@settings(max_examples=50)
@given(values=st.lists(st.floats(-1, 1), min_size=2, max_size=40))
def test_an_interval_of_differences_stays_in_their_range_and_around_their_mean(values):
    array = np.array(values)
    interval = paired_interval(array)
    assert -1 - 1e-9 <= interval.low <= interval.high <= 1 + 1e-9
    assert interval.low - 1e-9 <= array.mean() <= interval.high + 1e-9
    turned = paired_interval(-array)
    assert turned.low == pytest.approx(-interval.high, abs=1e-9)


def test_every_measurement_is_declared(bench_of):
    rows, mask = corners()
    numbers, _ = told(Shortcut(), bench_of(Corner(), rows, mask=mask))
    assert {key[0] for key in numbers} == set(Shortcut.measures)
    assert all(isinstance(one, Measurement) for one in numbers.values())


def test_without_masks_it_asks_for_declared_regions():
    offered = {
        "model": frozenset({"logits"}),
        "data": frozenset({"images", "labels"}),
        "train_fn": False,
    }
    assert Shortcut().missing(**offered) == ("data: mask, or the parameter regions",)
    assert Shortcut(regions={"corner": (0, 0, 1, 1)}).missing(**offered) == ()
    offered["data"] |= {"mask"}
    assert Shortcut().missing(**offered) == ()


class Either(nn.Module):
    """Class 1 by a bright middle or by a bright corner: the mark is enough, and never needed."""

    def forward(self, x):
        z = 8 * torch.maximum(x[:, 0, 0, 0], x[:, 0, 2, 2]) - 4
        return torch.stack([-z / 2, z / 2], dim=1)


@pytest.mark.parametrize("marked", [True, False])
def test_a_mark_that_is_enough_but_never_needed_is_found_by_its_pull(marked, bench_of):
    """Nothing is lost without it; a picture of the other class that is given it changes sides."""
    y = np.arange(60) % 2
    x = (0.1 * np.random.default_rng(0).random((60, 1, 4, 4))).astype(np.float32)
    x[:, 0, 2, 2] = y
    x[:, 0, 0, 0] = y * marked
    mask = np.zeros((60, 4, 4), dtype=bool)
    mask[:, 1:3, 1:3] = True
    numbers, _ = told(Shortcut(), bench_of(Either(), Digits(x, y), mask=mask))
    assert abs(numbers["shortcut_effect", "background", "1"].value) < 1e-6
    pull = numbers["shortcut_pull", "background", "1"]
    assert (pull.interval.low > LIMIT) == marked
    if marked:
        # From sigma(-4) to sigma(4), but for the two thirds of a donor's ground in the other corners.
        assert pull.value == pytest.approx(1 / (1 + np.exp(-4)) - 1 / (1 + np.exp(4)), abs=0.02)
        assert pull.n == 30
    assert numbers["shortcut_pull", "background", "0"].interval.low < LIMIT


def test_with_two_classes_and_one_deciding_pixel_pull_and_effect_are_the_same(bench_of):
    rows, mask = corners()
    numbers, _ = told(Shortcut(), bench_of(Corner(), rows, mask=mask))
    for label, other in (("0", "1"), ("1", "0")):
        effect = numbers["shortcut_effect", "background", label]
        pull = numbers["shortcut_pull", "background", other]
        assert pull.value == pytest.approx(effect.value)
        assert pull.interval.low == pytest.approx(effect.interval.low)

"""Confidence against what comes true: by hand, by scikit-learn and scipy, and over a grid of truths."""

import itertools
import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from dlaudit.audit.record import Artifact, Measurement, Undefined
from dlaudit.overfitting import confidence as core
from dlaudit.overfitting.calibration import INFINITE, Calibration, log_probabilities

MEAN = 0.945
TRIALS = 80
ONE = Calibration(coverage=(0.8,))


def rng(seed=0):
    return np.random.default_rng(seed)


def calibrated(seed, n, *, classes=3, spread=2.0, factor=1.0):
    """Logits whose softmax is the truth, times a factor that makes them over- or underconfident."""
    draw = rng(seed)
    logits = draw.normal(scale=spread, size=(n, classes))
    chances = core.softmax(logits)
    y = (draw.random((n, 1)) > chances.cumsum(axis=1)).sum(axis=1).clip(max=classes - 1)
    return factor * logits, y


# -- by hand -----------------------------------------------------------------------------------------


def test_bins_and_the_plain_error_as_computed_by_hand():
    """Two bins of two: gaps 0.6 - 0.5 and 0.9 - 1.0, both of weight one half."""
    sure, hit = np.array([0.5, 0.7, 0.85, 0.95]), np.array([True, False, True, True])
    found = core.binned(sure, hit, 2)
    assert found.n.tolist() == [2, 2]
    assert found.gaps == pytest.approx([0.1, -0.1])


def test_certainty_is_binned_with_the_certain():
    """Confidence exactly 1.0 belongs to the last bin, all of it, whatever the order."""
    sure = np.r_[np.linspace(0.5, 0.9, 50), np.ones(150)]
    hit = np.r_[np.ones(50, bool), np.zeros(30, bool), np.ones(120, bool)]
    found = core.binned(sure, hit)
    assert (found.n[-1], found.hits[-1], found.confidence[-1]) == (150, 120, 1.0)
    assert found.n.sum() == 200
    everyone = core.binned(np.ones(40), np.arange(40) < 30)
    assert (everyone.n.tolist(), everyone.gaps.tolist()) == ([40], [0.25])


def test_what_noise_adds_is_taken_off_as_computed_by_hand():
    """One bin, 64 of 100 true, stated 0.70: |N(0.06, 0.048)| has mean 0.0648, so 0.06 becomes 0.0552."""
    found = core.calibration_error(np.full(100, 0.7), np.arange(100) < 64, rng())
    z, d = 1.25, 0.048
    folded = d * math.sqrt(2 / math.pi) * math.exp(-z * z / 2) + 0.06 * math.erf(z / math.sqrt(2))
    assert found.value == pytest.approx(0.12 - folded)


def test_the_area_under_risk_and_coverage_as_computed_by_hand():
    """The second of four is wrong: risks 0, 1/2, 1/3, 1/4."""
    found = core.aurc(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, True]))
    assert found.value == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 4)


def test_selective_accuracy_takes_the_most_confident(bench_of, told):
    """Logits of 200 samples: the 40 least certain are all wrong."""
    gap = np.r_[np.full(160, 3.0), np.full(40, 0.5)]
    gap += np.linspace(0, 0.1, 200)
    x, y = np.c_[gap, np.zeros(200)], np.r_[np.zeros(160, int), np.ones(40, int)]
    data = bench_of((x, y), (x, y))
    found = next(
        one
        for one in Calibration(coverage=(0.8,)).measure(data)
        if getattr(one, "name", "") == "selective_accuracy"
    )
    assert (found.value, found.n, found.conditions) == (1.0, 160, {"coverage": 0.8})


# -- by others ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_the_gaps_are_those_of_scikit_learns_calibration_curve(seed):
    sure = rng(seed).uniform(0.3, 1, 600)
    hit = rng(seed + 9).random(600) < sure**2
    found = core.binned(sure, hit, 15)
    true, stated = calibration_curve(hit, sure, n_bins=15, strategy="quantile")
    assert found.confidence == pytest.approx(stated, abs=0.02)
    assert found.n @ np.abs(found.gaps) / 600 == pytest.approx(
        np.abs(true - stated).mean(), abs=2e-3
    )


def test_the_bias_is_the_one_that_simulated_labels_show():
    """Kumar's own way: redraw the share of each bin from its normal and see what the plain error does."""
    sure = rng(1).uniform(0.4, 1, 800)
    hit = rng(2).random(800) < sure
    found = core.binned(sure, hit)
    share, weight = found.hits / found.n, found.n / 800
    drawn = rng(3).normal(share, np.sqrt(share * (1 - share) / found.n), (200_000, len(share)))
    plain = weight @ np.abs(found.gaps)
    bias = (np.abs(found.confidence - drawn) @ weight).mean() - plain
    value = core.calibration_error(sure, hit, rng()).value
    assert value == pytest.approx(plain - bias, abs=5e-4)
    assert value < 0.8 * plain


def test_brier_and_log_loss_are_those_of_scikit_learn(bench_of, told):
    x, y = calibrated(3, 400)
    found = told(ONE, bench_of((x, y), (x, y), classes=("a", "b", "c")))
    chances = core.softmax(x.astype(np.float32))
    assert found["log_loss"].value == pytest.approx(log_loss(y, chances))
    assert found["brier_score"].value == pytest.approx(
        ((chances - np.eye(3)[y]) ** 2).sum(1).mean()
    )


@pytest.mark.parametrize("factor", [0.5, 1.0, 4.0])
def test_the_temperature_is_the_one_a_line_search_finds(factor):
    x, y = calibrated(4, 1500, factor=factor)
    found = core.temperature(x, y)

    def loss(log_t):
        return -log_softmax(x / math.exp(log_t), axis=1)[np.arange(len(y)), y].mean()

    expected = math.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded",
                                        options={"xatol": 1e-9}).x)  # fmt: skip
    assert found.value == pytest.approx(expected, rel=1e-5)
    assert found.interval.low < factor < found.interval.high


def test_ties_count_in_the_mean_over_their_orders():
    sure = np.array([0.9, 0.7, 0.7, 0.7, 0.5])
    hit = np.array([False, True, False, True, False])
    areas = []
    for order in itertools.permutations(range(5)):
        if list(sure[list(order)]) == sorted(sure, reverse=True):
            wrong = ~hit[list(order)]
            areas.append((wrong.cumsum() / np.arange(1, 6)).mean())
    assert len(areas) == 6
    assert core.aurc(sure, hit).value == pytest.approx(np.mean(areas))


# -- properties --------------------------------------------------------------------------------------

answers = st.lists(
    st.tuples(st.sampled_from([0.0, 0.25, 0.5, 0.75, 0.99, 1.0]) | st.floats(0, 1), st.booleans()),
    min_size=2, max_size=60,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(pairs=answers, seed=st.integers(0, 99))
def test_the_order_of_the_samples_changes_nothing_and_every_value_lies_in_its_interval(pairs, seed):
    sure, hit = (np.array(column) for column in zip(*pairs, strict=True))
    turned = rng(seed).permutation(len(sure))
    for measure in (
        lambda s, h: core.calibration_error(s, h, rng()), core.overconfidence, core.aurc,
    ):  # fmt: skip
        one, two = measure(sure, hit), measure(sure[turned], hit[turned])
        if isinstance(one, str):
            assert two == one
            continue
        assert one.value == pytest.approx(two.value, abs=1e-9)
        assert one.interval.low - 1e-9 <= one.value <= one.interval.high + 1e-9
    assert core.calibration_error(sure, hit, rng()).value >= 0


@settings(max_examples=40, deadline=None)
@given(pairs=answers)
def test_nobody_is_better_calibrated_than_the_mean_allows(pairs):
    """The plain error is never below the absolute overconfidence."""
    sure, hit = (np.array(column) for column in zip(*pairs, strict=True))
    found = core.binned(sure, hit)
    plain = float(found.n @ np.abs(found.gaps)) / len(sure)
    assert plain >= abs(core.overconfidence(sure, hit).value) - 1e-9


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), factor=st.floats(0.2, 5))
def test_a_factor_on_the_logits_is_a_factor_on_the_temperature(seed, factor):
    x, y = calibrated(seed, 200)
    one, two = core.temperature(x, y), core.temperature(factor * x, y)
    if isinstance(one, str):
        assert two == one
    else:
        assert two.value == pytest.approx(factor * one.value, rel=1e-5)


# -- what does not exist -----------------------------------------------------------------------------


def test_without_probabilities_nothing_is_said(bench_of, told):
    y = np.zeros(200, int)
    found = told(ONE, bench_of((y[:, None], y), (y[:, None], y), logits=False))
    assert set(found) == set(Calibration.measures)
    assert all(
        isinstance(one, Undefined) and "decisions only" in one.reason for one in found.values()
    )


def test_few_samples_are_no_evidence(bench_of, told):
    x, y = calibrated(1, 99)
    found = told(ONE, bench_of((x, y), (x, y), classes=("a", "b", "c")))
    assert all("fewer than the minimum of 100" in one.reason for one in found.values())


def test_a_flawless_model_has_neither_area_nor_temperature(bench_of, told):
    y = np.tile([0, 1], 100)
    x = 3 * np.eye(2)[y] + rng(0).uniform(size=(200, 2))
    found = told(ONE, bench_of((x, y), (x, y)))
    assert isinstance(found["aurc"], Undefined)
    assert "coldest" in found["temperature"].reason
    assert "coldest" in found["tempered_log_loss"].reason
    one = found["overconfidence"].interval
    assert one.high - one.low > 0.01, "200 right answers do not prove that all will be"


def test_logits_that_contradict_the_labels_have_no_temperature():
    x, y = calibrated(1, 300)
    assert "hottest" in core.temperature(-x, y)


def test_a_score_of_0_for_what_came_true_has_no_logarithm():
    from dlaudit.overfitting.calibration import log_loss as told_loss

    class Scored:
        logits, score = None, np.array([0.0, 1.0, 0.3])

    logits = log_probabilities(Scored)
    assert core.softmax(logits)[:, 1] == pytest.approx([0.0, 1.0, 0.3])
    assert told_loss(logits, np.array([1, 1, 0])) == INFINITE
    assert not isinstance(told_loss(logits, np.array([0, 1, 0])), str)
    Scored.score = np.array([-1.0, 2.0, 0.5])
    assert log_probabilities(Scored) is None


# -- planted and clean -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_an_overconfident_head_is_seen_and_its_twin_is_not(seed, bench_of, told):
    (x, y), (sharp, _) = calibrated(seed, 2000), calibrated(seed, 2000, factor=4.0)
    three = {"classes": ("a", "b", "c")}
    clean = told(ONE, bench_of((x, y), (x, y), **three))
    planted = told(ONE, bench_of((sharp, y), (sharp, y), **three))
    for name in ("calibration_error", "overconfidence"):
        assert clean[name].interval.high < 0.1
        assert planted[name].interval.low > 0.1
    assert planted["temperature"].interval.low < 4 < planted["temperature"].interval.high
    assert planted["tempered_calibration_error"].interval.high < 0.1
    assert planted["tempered_log_loss"].value < planted["log_loss"].value


def test_all_that_is_promised_is_told_with_pictures_and_a_table(bench_of):
    x, y = calibrated(5, 500)
    yielded = list(Calibration().measure(bench_of((x, y), (x, y), classes=("a", "b", "c"))))
    assert {one.name for one in yielded if isinstance(one, Measurement)} == set(
        Calibration.measures
    )
    pictures = [one for one in yielded if isinstance(one, Artifact)]
    assert [one.name.rpartition(".")[2] for one in pictures] == [
        "reliability", "risk-coverage", "samples",
    ]  # fmt: skip


def test_the_reliability_diagram_has_a_mark_per_bin(bench_of):
    x, y = calibrated(5, 500)
    bench = bench_of((x, y), (x, y), classes=("a", "b", "c"))
    one = next(
        a
        for a in Calibration(bins=7).measure(bench)
        if getattr(a, "media_type", "").startswith("image")
    )
    svg = ET.fromstring((bench._store.folder / f"{one.sha256}.svg").read_bytes())
    assert len(list(svg.iter("{http://www.w3.org/2000/svg}circle"))) == 7


# -- coverage ----------------------------------------------------------------------------------------


def stated(draw, kind, n):
    a, b = {"timid": (2, 1), "sure": (8, 1), "certain": (30, 1)}[kind]
    return 0.4 + 0.6 * draw.beta(a, b, n)


TRUE = {
    "calibrated": lambda sure: sure,
    "over": lambda sure: np.clip(sure - 0.1, 0, 1),
    "slightly": lambda sure: np.clip(sure - 0.02, 0, 1),
    "mixed": lambda sure: np.clip(0.7 + 0.8 * (sure - 0.7), 0, 1),
}


def held(name, cells):
    mean, place = np.mean(list(cells.values())), min(cells, key=cells.__getitem__)
    print(f"{name}: mean {mean:.4f}, minimum {cells[place]:.4f} at {place}")
    return mean


def test_the_intervals_hold_their_level_over_a_grid_of_truths():
    draw = rng(7)
    cells = {name: {} for name in ("calibration_error", "overconfidence", "aurc")}
    for kind, (how, chance) in itertools.product(("timid", "sure", "certain"), TRUE.items()):
        many = np.sort(stated(draw, kind, 200_000))[::-1]
        came = chance(many)
        truth = {
            "calibration_error": np.mean([
                abs(part.mean()) for part in np.array_split(many - came, core.BINS)
            ]),
            "overconfidence": (many - came).mean(),
            "aurc": ((1 - came).cumsum() / np.arange(1, len(many) + 1)).mean(),
        }  # fmt: skip
        for n in (100, 1000):
            seen = {name: [] for name in cells}
            for _ in range(TRIALS):
                sure = stated(draw, kind, n)
                hit = draw.random(n) < chance(sure)
                for name, one in (
                    ("calibration_error", core.calibration_error(sure, hit, draw)),
                    ("overconfidence", core.overconfidence(sure, hit)),
                    ("aurc", core.aurc(sure, hit)),
                ):  # fmt: skip
                    if not isinstance(one, str):
                        seen[name].append(one.interval.low <= truth[name] <= one.interval.high)
            for name, found in seen.items():
                if found:
                    cells[name][kind, how, n] = np.mean(found)
    assert all(held(name, found) >= MEAN for name, found in cells.items())


def test_the_intervals_of_temperature_and_brier_hold_their_level():
    cells = {"temperature": {}, "brier": {}}
    for classes, factor, n in itertools.product((2, 10), (1.0, 4.0), (100, 400)):
        many, labels = calibrated(99, 200_000, classes=classes, factor=factor)
        truth = core.brier(core.softmax(many), labels).mean()
        seen = {"temperature": [], "brier": []}
        for seed in range(100):
            x, y = calibrated(seed, n, classes=classes, factor=factor)
            one = core.temperature(x, y).interval
            seen["temperature"].append(one.low <= factor <= one.high)
            two = core.mean_estimate(core.brier(core.softmax(x), y)).interval
            seen["brier"].append(two.low <= truth <= two.high)
        for name, found in seen.items():
            cells[name][classes, factor, n] = np.mean(found)
    assert held("temperature", cells["temperature"]) >= MEAN
    assert held("brier", cells["brier"]) >= MEAN

"""An interval that holds at every n at once: by hand, by integration, and by counting every path."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta

from dlaudit.audit.sampling import growing
from dlaudit.audit.statistics import (
    confidence_sequence,
    decidable,
    log_capital,
    wilson,
)


def test_one_sample_says_nothing() -> None:
    one = confidence_sequence(1, 1)
    assert (one.low, one.high) == pytest.approx((0, 1), abs=1e-12)
    assert one.method == "beta-binomial confidence sequence"


def test_two_successes_exclude_what_a_bettor_would_have_made_twenty_of() -> None:
    """By hand: E q^2 under Beta(20 p, 20 (1 - p)) is p (20 p + 1) / 21; over p^2 it is 20 at 1/400."""
    assert confidence_sequence(2, 2).low == pytest.approx(1 / 400, rel=1e-9)
    assert confidence_sequence(0, 2).high == pytest.approx(1 - 1 / 400, rel=1e-9)


@pytest.mark.parametrize(("successes", "n", "p"), [(3, 10, 0.5), (0, 7, 0.2), (40, 50, 0.6)])
def test_the_capital_is_the_likelihood_ratio_averaged_over_the_mixture(
    successes: int, n: int, p: float
) -> None:
    def ratio(q: float) -> float:
        return (q / p) ** successes * ((1 - q) / (1 - p)) ** (n - successes)

    mixed, _ = quad(lambda q: ratio(q) * beta.pdf(q, 20 * p, 20 * (1 - p)), 0, 1, epsabs=1e-12)
    assert log_capital(successes, n, p) == pytest.approx(math.log(mixed), rel=1e-7)


@given(st.data())
def test_the_capital_neither_grows_nor_falls_on_average_under_the_proportion_bet_against(
    data: st.DataObject,
) -> None:
    n = data.draw(st.integers(0, 3000))
    successes = data.draw(st.integers(0, n))
    p = data.draw(st.floats(0.001, 0.999))
    now = log_capital(successes, n, p)
    up = math.exp(log_capital(successes + 1, n + 1, p) - now)
    down = math.exp(log_capital(successes, n + 1, p) - now)
    assert p * up + (1 - p) * down == pytest.approx(1, rel=1e-6)


@given(st.data())
def test_it_is_an_interval_around_the_proportion_and_wider_than_wilsons(
    data: st.DataObject,
) -> None:
    n = data.draw(st.integers(2, 4000))
    successes = data.draw(st.integers(0, n))
    found = confidence_sequence(successes, n)
    assert 0 <= found.low <= successes / n <= found.high <= 1
    # An end may lie on a round number: ask beside them.
    inside = np.linspace(0, 1, 401)[1:-1] + 1.234e-5
    for p in inside:
        excluded = log_capital(successes, n, p) >= math.log(20)
        assert excluded == (not found.low - 1e-9 < p < found.high + 1e-9)
    plain = wilson(successes, n)
    if min(successes, n - successes) >= 5:
        assert found.high - found.low > plain.high - plain.low


@given(st.integers(1, 400), st.data())
def test_it_mirrors(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    one, other = confidence_sequence(successes, n), confidence_sequence(n - successes, n)
    assert (one.low, one.high) == pytest.approx((1 - other.high, 1 - other.low), abs=1e-9)


def test_a_higher_level_is_wider_and_no_proportion_is_refused() -> None:
    assert confidence_sequence(50, 100, 0.99).low < confidence_sequence(50, 100).low
    with pytest.raises(ValueError, match="0 <= successes <= n"):
        confidence_sequence(5, 4)


@pytest.mark.parametrize("p", [0.02, 0.1, 0.5, 0.77, 0.95])
def test_looking_after_every_sample_excludes_the_truth_in_at_most_one_of_twenty_runs(
    p: float,
) -> None:
    """Every path of 400 samples, weighted with its probability: no error of simulation."""
    alive, excluded = np.array([1.0]), 0.0
    for n in range(1, 401):
        alive = np.append(alive * (1 - p), 0) + np.append(0, alive * p)
        out = log_capital(np.arange(n + 1), n, p) >= math.log(20)
        excluded += float(alive[out].sum())
        alive[out] = 0
    assert 0.001 < excluded <= 0.05


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("off", [0.0, -0.02, 0.02])
def test_a_rule_at_the_threshold_or_near_it_is_decided_wrongly_in_at_most_one_of_twenty_runs(
    threshold: float, off: float
) -> None:
    """Simulated in the blocks that a run takes; at the threshold itself every decision counts."""
    rng = np.random.default_rng(17)
    p, runs = threshold + off, 3000
    successes, open_ = np.zeros(runs, dtype=np.int64), np.ones(runs, dtype=bool)
    wrong, before = 0, 0
    for _, n in growing(1500, 256):
        ends = decidable(threshold, n, at_least=True, interval=confidence_sequence)
        successes += rng.binomial(n - before, p, size=runs)
        before = n
        passes = open_ & (
            successes / n >= (2 if ends.passes_from is None else ends.passes_from - 1e-9)
        )
        fails = open_ & (
            successes / n <= (-1 if ends.fails_from is None else ends.fails_from + 1e-9)
        )
        wrong += int(passes.sum()) * (off <= 0) + int(fails.sum()) * (off >= 0)
        open_ &= ~(passes | fails)
    assert wrong / runs <= 0.05


def test_blocks_double_what_was_taken_up_to_the_plans_size_and_take_every_sample_once() -> None:
    assert list(growing(700, 256)) == [
        (0, 32),
        (32, 64),
        (64, 128),
        (128, 256),
        (256, 512),
        (512, 700),
    ]
    assert list(growing(5, 2)) == [(0, 2), (2, 4), (4, 5)]
    assert list(growing(0, 256)) == []

"""Each interval and test against a case done by hand, statsmodels or scipy, and its properties."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dlaudit.audit import statistics

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # statsmodels' own deprecations are not ours
    from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
    from statsmodels.stats.multitest import multipletests
    from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint
    from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

COUNTS = [(0, 1), (1, 1), (0, 10), (10, 10), (1, 10), (3, 10), (7, 50), (480, 500), (1, 100_000)]
LEVELS = [0.5, 0.9, 0.95, 0.999]
PAIRS = [
    (3, 10, 7, 12),
    (1, 10, 10, 10),
    (0, 5, 5, 5),
    (0, 5, 0, 9),
    (56, 70, 48, 80),
    (1, 1, 1, 1),
]

proportions = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
levels = st.floats(0.01, 0.9999)
PROPORTION_INTERVALS = pytest.mark.parametrize(
    "interval", [statistics.wilson, statistics.clopper_pearson]
)


def ends(interval):
    return interval.low, interval.high


def test_the_normal_quantile_is_the_one_in_every_table():
    assert statistics.normal_quantile(0.95) == pytest.approx(1.959964, abs=1e-6)
    assert statistics.normal_quantile(0.9) == pytest.approx(1.644854, abs=1e-6)


class TestOneProportion:
    def test_wilson_by_hand_on_three_of_ten(self):
        """(p + zz/2 -+ z sqrt(p(1-p)/n + zz/4n)) / (1 + zz), zz = 3.8415 / 10."""
        found = statistics.wilson(3, 10)
        assert ends(found) == pytest.approx((0.107791, 0.603222), abs=1e-6)
        assert (found.level, found.method) == (0.95, "wilson")

    def test_wilson_of_newcombes_published_cases(self):
        """Newcombe 1998, table I, method 3: 81/263, 15/148, 0/20, 1/29."""
        published = {
            (81, 263): (0.2553, 0.3662),
            (15, 148): (0.0624, 0.1605),
            (0, 20): (0, 0.1611),
            (1, 29): (0.0061, 0.1718),
        }
        for counts, (low, high) in published.items():
            assert ends(statistics.wilson(*counts)) == pytest.approx((low, high), abs=5e-5)

    def test_clopper_pearson_of_newcombes_published_cases(self):
        """Newcombe 1998, table I, method 5."""
        published = {
            (81, 263): (0.2527, 0.3676),
            (15, 148): (0.0578, 0.1617),
            (0, 20): (0, 0.1684),
            (1, 29): (0.0009, 0.1776),
        }
        for counts, (low, high) in published.items():
            assert ends(statistics.clopper_pearson(*counts)) == pytest.approx((low, high), abs=5e-5)

    def test_clopper_pearson_of_no_failure_is_the_rule_of_three(self):
        """No failure in n: the lower end is (alpha / 2) ** (1 / n)."""
        found = statistics.clopper_pearson(20, 20)
        assert ends(found) == pytest.approx((0.025 ** (1 / 20), 1))
        assert (found.level, found.method) == (0.95, "clopper-pearson")

    @pytest.mark.parametrize("level", LEVELS)
    @pytest.mark.parametrize("counts", COUNTS)
    @pytest.mark.parametrize(
        ("interval", "statsmodels", "scipy"),
        [
            (statistics.wilson, "wilson", "wilson"),
            (statistics.clopper_pearson, "beta", "exact"),
        ],
    )
    def test_both_agree_with_statsmodels_and_scipy(
        self, interval, statsmodels, scipy, counts, level
    ):
        found = interval(*counts, level)
        reference = proportion_confint(*counts, alpha=1 - level, method=statsmodels)
        second = stats.binomtest(*counts).proportion_ci(level, method=scipy)
        assert ends(found) == pytest.approx(reference, abs=1e-9)
        assert ends(found) == pytest.approx((second.low, second.high), abs=1e-9)
        assert found.level == level

    @PROPORTION_INTERVALS
    @given(counts=proportions, level=levels)
    def test_it_holds_the_measured_proportion_inside_0_and_1(self, interval, counts, level):
        successes, n = counts
        found = interval(successes, n, level)
        assert 0 <= found.low <= successes / n <= found.high <= 1
        assert found.low < found.high

    @PROPORTION_INTERVALS
    @given(counts=proportions, level=levels)
    def test_swapping_successes_and_failures_mirrors_it(self, interval, counts, level):
        successes, n = counts
        found, mirrored = interval(successes, n, level), interval(n - successes, n, level)
        assert ends(found) == pytest.approx((1 - mirrored.high, 1 - mirrored.low), abs=1e-9)

    @PROPORTION_INTERVALS
    @given(counts=proportions, times=st.integers(2, 9))
    def test_more_samples_of_the_same_proportion_narrow_it(self, interval, counts, times):
        successes, n = counts
        few, many = interval(successes, n), interval(times * successes, times * n)
        assert many.high - many.low < few.high - few.low

    @PROPORTION_INTERVALS
    @given(counts=proportions, level=st.floats(0.1, 0.98))
    def test_a_higher_level_widens_it(self, interval, counts, level):
        narrow, wide = interval(*counts, level), interval(*counts, level + 0.01)
        assert wide.low <= narrow.low
        assert wide.high >= narrow.high
        assert wide.high - wide.low > narrow.high - narrow.low

    @PROPORTION_INTERVALS
    @given(counts=proportions)
    def test_one_more_success_moves_both_ends_up(self, interval, counts):
        successes, n = counts
        found, higher = interval(successes, n + 1), interval(successes + 1, n + 1)
        assert higher.low >= found.low
        assert higher.high >= found.high

    @PROPORTION_INTERVALS
    def test_none_and_all_reach_the_end_of_the_scale_exactly(self, interval):
        for n in (1, 2, 7, 49, 1000):
            assert interval(0, n).low == 0
            assert interval(n, n).high == 1

    @PROPORTION_INTERVALS
    @pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5), (0, -1)])
    def test_counts_that_are_no_proportion_are_refused(self, interval, successes, n):
        message = f"a proportion needs 0 <= successes <= n and n > 0, got {successes} of {n}"
        with pytest.raises(ValueError, match=f"^{message}$"):
            interval(successes, n)


class TestTwoProportions:
    def test_newcombe_of_his_published_cases(self):
        """Newcombe 1998b, table II, method 10: 56/70 - 48/80, 9/10 - 3/10, 10/10 - 0/10."""
        published = {
            (56, 70, 48, 80): (0.0524, 0.3339),
            (9, 10, 3, 10): (0.1705, 0.8090),
            (6, 7, 2, 7): (0.0582, 0.8062),
            (5, 56, 0, 29): (-0.0381, 0.1926),
            (0, 10, 0, 10): (-0.2775, 0.2775),
            (10, 10, 0, 20): (0.6791, 1.0000),
            (10, 10, 0, 10): (0.6075, 1.0000),
        }
        for counts, (low, high) in published.items():
            assert ends(statistics.newcombe(*counts)) == pytest.approx((low, high), abs=5e-5)

    @pytest.mark.parametrize("level", LEVELS)
    @pytest.mark.parametrize("counts", PAIRS)
    def test_newcombe_agrees_with_statsmodels(self, counts, level):
        reference = confint_proportions_2indep(
            *counts, method="newcomb", compare="diff", alpha=1 - level
        )
        found = statistics.newcombe(*counts, level)
        assert ends(found) == pytest.approx(reference, abs=1e-9)
        assert (found.level, found.method) == (level, "newcombe")

    def test_katz_by_hand(self):
        """ratio 2 of 20/50 and 10/50; log spread sqrt(1/20 - 1/50 + 1/10 - 1/50)."""
        found = statistics.katz(20, 50, 10, 50)
        factor = math.exp(1.959964 * math.sqrt(0.11))
        assert ends(found) == pytest.approx((2 / factor, 2 * factor), rel=1e-6)
        assert (found.level, found.method) == (0.95, "katz")

    @pytest.mark.parametrize("level", LEVELS)
    @pytest.mark.parametrize("counts", [(20, 50, 10, 50), (1, 3, 2, 3), (480, 900, 30, 80)])
    def test_katz_agrees_with_scipy_and_statsmodels(self, counts, level):
        found = statistics.katz(*counts, level)
        scipy = stats.contingency.relative_risk(*counts).confidence_interval(level)
        reference = confint_proportions_2indep(
            *counts, method="log", compare="ratio", alpha=1 - level
        )
        assert ends(found) == pytest.approx((scipy.low, scipy.high), rel=1e-9)
        assert ends(found) == pytest.approx(reference, rel=1e-9)
        assert found.level == level

    def test_katz_without_a_single_failure_takes_the_variance_of_half_a_success_less(self):
        """20 of 20 each: ratio 1, log spread sqrt(2 (1/19.5 - 1/20))."""
        factor = math.exp(1.959964 * math.sqrt(2 * (1 / 19.5 - 1 / 20)))
        found = statistics.katz(20, 20, 20, 20)
        assert ends(found) == pytest.approx((1 / factor, factor), rel=1e-6)

    def test_one_success_out_of_one_each_says_next_to_nothing_about_the_ratio(self):
        found = statistics.katz(1, 1, 1, 1)
        assert found.low < 0.8
        assert found.high > 1.25

    @pytest.mark.parametrize("counts", [(0, 5, 3, 5), (3, 5, 0, 5), (0, 5, 0, 5)])
    def test_a_ratio_with_a_zero_count_has_no_interval(self, counts):
        assert statistics.katz(*counts) is None

    @pytest.mark.parametrize("interval", [statistics.newcombe, statistics.katz])
    @pytest.mark.parametrize("counts", [(1, 0, 1, 2), (1, 2, 3, 2), (1, 2, -1, 2), (3, 2, 1, 2)])
    def test_counts_that_are_no_proportion_are_refused(self, interval, counts):
        with pytest.raises(ValueError, match="a proportion needs"):
            interval(*counts)

    @given(first=proportions, second=proportions, level=levels)
    def test_swapping_the_groups_negates_the_difference(self, first, second, level):
        found = statistics.newcombe(*first, *second, level)
        swapped = statistics.newcombe(*second, *first, level)
        assert ends(found) == pytest.approx((-swapped.high, -swapped.low), abs=1e-12)

    @given(first=proportions, second=proportions, level=levels)
    def test_the_difference_lies_in_its_interval_and_the_interval_in_minus_1_to_1(
        self, first, second, level
    ):
        found = statistics.newcombe(*first, *second, level)
        difference = first[0] / first[1] - second[0] / second[1]
        assert -1 - 1e-12 <= found.low < found.high <= 1 + 1e-12
        assert found.low <= difference <= found.high

    @given(first=proportions, second=proportions, level=levels)
    def test_swapping_the_groups_inverts_the_ratio(self, first, second, level):
        found = statistics.katz(*first, *second, level)
        swapped = statistics.katz(*second, *first, level)
        assert (found is None) == (swapped is None) == (first[0] == 0 or second[0] == 0)
        if found is not None:
            assert ends(found) == pytest.approx((1 / swapped.high, 1 / swapped.low))
            ratio = (first[0] / first[1]) / (second[0] / second[1])
            assert found.low < ratio < found.high


class TestPairs:
    def test_the_interval_by_hand(self):
        """b = 9.5, c = 3.5, n = 52: 6/52 -+ 1.96 sqrt(13 - 36/52) / 52 (Agresti & Min 2005)."""
        found = statistics.mcnemar(9, 3, 50)
        half = 1.959964 * math.sqrt(13 - 36 / 52) / 52
        assert found.difference == pytest.approx(0.12)
        assert ends(found.interval) == pytest.approx((6 / 52 - half, 6 / 52 + half), abs=1e-6)
        assert (found.interval.level, found.interval.method) == (0.95, "agresti-min")

    def test_p_by_hand(self):
        """9 of 12 discordant one way: 2 (220 + 66 + 12 + 1) / 4096."""
        assert statistics.mcnemar(9, 3, 50).p == pytest.approx(2 * 299 / 4096)

    @pytest.mark.parametrize(("b", "c"), [(9, 3), (0, 4), (5, 5), (1, 0), (30, 61)])
    def test_p_agrees_with_statsmodels(self, b, c):
        reference = statsmodels_mcnemar([[10, b], [c, 10]], exact=True)
        assert statistics.mcnemar(b, c, 20 + b + c).p == pytest.approx(reference.pvalue)

    def test_without_discordant_pairs_nothing_speaks_for_a_difference(self):
        found = statistics.mcnemar(0, 0, 10)
        assert (found.difference, found.p) == (0, 1)
        assert found.interval.low == -found.interval.high < 0

    def test_the_interval_stays_inside_the_scale_and_keeps_the_measured_difference(self):
        found = statistics.mcnemar(1, 0, 1)
        assert (found.difference, found.interval.high) == (1, 1)
        found = statistics.mcnemar(0, 1, 1)
        assert (found.difference, found.interval.low) == (-1, -1)

    def test_the_interval_reaches_the_measured_difference_where_the_adjustment_would_not(self):
        """At a low level the shifted centre stands further from the difference than the half."""
        found = statistics.mcnemar(9, 1, 10, 0.01)
        assert found.interval.high == found.difference == pytest.approx(0.8)
        found = statistics.mcnemar(1, 9, 10, 0.01)
        assert found.interval.low == found.difference == pytest.approx(-0.8)

    @given(
        table=st.tuples(*[st.integers(0, 60)] * 3).filter(lambda cells: sum(cells) > 0),
        level=levels,
    )
    def test_swapping_the_two_decisions_negates_everything_but_p(self, table, level):
        b, c, rest = table
        found = statistics.mcnemar(b, c, b + c + rest, level)
        swapped = statistics.mcnemar(c, b, b + c + rest, level)
        assert found.difference == -swapped.difference
        assert ends(found.interval) == pytest.approx(
            (-swapped.interval.high, -swapped.interval.low), abs=1e-12
        )
        assert found.p == pytest.approx(swapped.p)
        assert -1 <= found.interval.low <= found.difference <= found.interval.high <= 1
        assert found.interval.level == level

    @pytest.mark.parametrize(
        ("b", "c", "n"), [(-1, 0, 5), (0, -1, 5), (3, 3, 5), (0, 0, 0), (0, 0, -2)]
    )
    def test_pairs_that_do_not_fit_are_refused(self, b, c, n):
        message = f"^discordant pairs {b} and {c} do not fit into n = {n}$"
        with pytest.raises(ValueError, match=message):
            statistics.mcnemar(b, c, n)

    def test_every_pair_may_be_discordant(self):
        assert statistics.mcnemar(2, 3, 5).difference == pytest.approx(-0.2)


samples = st.lists(st.integers(-1000, 1000), min_size=2, max_size=30).map(
    lambda values: np.array(values) / 8
)


class TestMeans:
    def test_students_interval_by_hand(self):
        """1, 2, 3: mean 2, standard deviation 1, t = 4.302653 at two degrees of freedom."""
        found = statistics.mean_interval(np.array([1.0, 2.0, 3.0]))
        half = 4.302653 / math.sqrt(3)
        assert ends(found) == pytest.approx((2 - half, 2 + half), abs=1e-6)
        assert (found.level, found.method) == (0.95, "student-t")

    @pytest.mark.parametrize("level", LEVELS)
    def test_students_interval_agrees_with_scipy(self, level):
        values = np.random.default_rng(1).normal(size=12)
        reference = stats.ttest_1samp(values, 0).confidence_interval(level)
        found = statistics.mean_interval(values, level)
        assert ends(found) == pytest.approx((reference.low, reference.high))
        assert found.level == level

    @pytest.mark.parametrize("values", [[], [3.0], [0.1, 0.1, 0.1], [5.0, 5.0]])
    def test_without_spread_there_is_no_interval_of_a_mean(self, values):
        """Ten equal losses are no proof that the eleventh is equal too."""
        assert statistics.mean_interval(np.array(values)) is None

    @given(values=samples, shift=st.integers(-50, 50))
    def test_shifting_the_values_shifts_the_interval(self, values, shift):
        found, shifted = (statistics.mean_interval(v) for v in (values, values + shift))
        assert (found is None) == (shifted is None) == (np.ptp(values) == 0)
        if found is not None:
            assert ends(shifted) == pytest.approx((found.low + shift, found.high + shift))
            assert found.low < values.mean() < found.high

    def test_welch_by_hand(self):
        """1, 2, 3 and 2, 4: difference -1; variances 1/3 and 1; 1.4706 degrees of freedom."""
        found = statistics.welch(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0]))
        freedom = (4 / 3) ** 2 / ((1 / 3) ** 2 / 2 + 1)
        half = stats.t.ppf(0.975, freedom) * math.sqrt(4 / 3)
        assert freedom == pytest.approx(1.684211, abs=1e-6)
        assert ends(found) == pytest.approx((-1 - half, -1 + half))
        assert (found.level, found.method) == (0.95, "welch")

    @pytest.mark.parametrize("level", LEVELS)
    def test_welch_agrees_with_scipy_and_statsmodels(self, level):
        rng = np.random.default_rng(2)
        first, second = rng.normal(size=9), rng.normal(1, 3, size=23)
        found = statistics.welch(first, second, level)
        scipy = stats.ttest_ind(first, second, equal_var=False).confidence_interval(level)
        means = CompareMeans(DescrStatsW(first), DescrStatsW(second))
        reference = means.tconfint_diff(alpha=1 - level, usevar="unequal")
        assert ends(found) == pytest.approx((scipy.low, scipy.high))
        assert ends(found) == pytest.approx(reference)
        assert found.level == level

    @pytest.mark.parametrize(
        ("first", "second"),
        [([1.0], [1.0, 2.0]), ([1.0, 2.0], [1.0]), ([0.1] * 3, [0.2] * 4), ([], [])],
    )
    def test_without_spread_there_is_no_interval_of_a_difference(self, first, second):
        assert statistics.welch(np.array(first), np.array(second)) is None

    @pytest.mark.parametrize("order", [1, -1])
    def test_one_constant_side_is_compared_by_the_spread_of_the_other(self, order):
        sides = [np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0])]
        found = statistics.welch(*sides[::order])
        assert ends(found) == pytest.approx(
            (-4.302653 / math.sqrt(3), 4.302653 / math.sqrt(3)), abs=1e-6
        )

    @given(first=samples, second=samples)
    def test_swapping_the_samples_negates_the_interval(self, first, second):
        found, swapped = statistics.welch(first, second), statistics.welch(second, first)
        assert (found is None) == (swapped is None)
        if found is not None:
            assert ends(found) == pytest.approx((-swapped.high, -swapped.low), abs=1e-9)
            difference = first.mean() - second.mean()
            assert found.low <= difference <= found.high


def mean_of(values, axis=-1):
    return np.mean(values, axis=axis)


class TestBootstrap:
    values = np.random.default_rng(3).exponential(size=40)

    def interval(self, seed=5, **options):
        rng = np.random.default_rng(seed)
        return statistics.bootstrap([self.values], mean_of, rng, **options)

    def test_it_is_scipys_bca_at_hesterbergs_expanded_level(self):
        """n = 40: t = 2.022691 times sqrt(40/39) = 2.048459, which is level 0.959487."""
        quantile = stats.t.ppf(0.975, 39) * math.sqrt(40 / 39)
        assert quantile == pytest.approx(2.048459, abs=1e-6)
        reference = stats.bootstrap(
            (self.values,), mean_of, n_resamples=2000, method="BCa", batch=100,
            confidence_level=1 - 2 * stats.norm.sf(quantile), rng=np.random.default_rng(5),
        ).confidence_interval  # fmt: skip
        found = self.interval()
        assert ends(found) == pytest.approx((reference.low, reference.high), rel=1e-9)
        assert (found.level, found.method) == (0.95, "bca-bootstrap")

    def test_the_same_seed_gives_the_same_interval(self):
        assert self.interval() == self.interval()
        assert self.interval() != self.interval(seed=6)

    def test_level_and_number_of_resamples_are_the_callers(self):
        narrow = self.interval(level=0.5)
        assert narrow.level == 0.5
        assert narrow.high - narrow.low < self.interval().high - self.interval().low
        assert self.interval(resamples=500) != self.interval()

    def test_it_is_close_to_students_interval_of_a_normal_mean(self):
        values = np.random.default_rng(4).normal(size=400)
        found = statistics.bootstrap([values], mean_of, np.random.default_rng(5))
        assert ends(found) == pytest.approx(ends(statistics.mean_interval(values)), abs=0.01)

    def test_rows_are_resampled_together(self):
        """Two columns that differ by 1 in each row always differ by 1: no spread, no interval."""

        def difference(first, second, axis=-1):
            return np.mean(first, axis=axis) - np.mean(second, axis=axis)

        whole = np.arange(20.0)
        columns = [whole + 1, whole]
        assert statistics.bootstrap(columns, difference, np.random.default_rng(5)) is None
        columns = [whole[::-1], whole]
        found = statistics.bootstrap(columns, difference, np.random.default_rng(5))
        assert found.low < 0 < found.high

    @pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0], [4.0] * 9])
    def test_where_it_does_not_exist_there_is_none_and_no_warning(self, values):
        rng = np.random.default_rng(5)
        assert statistics.bootstrap([np.array(values)], mean_of, rng) is None
        assert statistics.bootstrap([np.array(values)], mean_of, rng, level=0.5) is None

    def test_three_rows_are_enough(self):
        rng = np.random.default_rng(5)
        assert statistics.bootstrap([np.array([1.0, 2.0, 4.0])], mean_of, rng) is not None

    def test_a_statistic_that_is_not_a_number_on_some_resamples_has_no_interval(self):
        """A resample may hold one class alone: its area under the curve is 0/0."""

        def area(score, label, axis=-1):
            return np.sum(score * label, axis=axis) / np.sum(label, axis=axis)

        columns = [np.arange(4.0), np.array([1.0, 0, 0, 0])]
        assert statistics.bootstrap(columns, area, np.random.default_rng(5)) is None

    def test_an_end_at_infinity_is_no_interval(self):
        """A ratio whose denominator vanishes on some resamples has no upper end."""

        def ratio(first, second, axis=-1):
            return np.mean(first, axis=axis) / np.mean(second, axis=axis)

        columns = [np.arange(1.0, 7), np.array([1.0, 1, 0, 0, 0, 0])]
        rng = np.random.default_rng(5)
        assert statistics.bootstrap(columns, ratio, rng) is None
        flipped = statistics.bootstrap(columns[::-1], ratio, np.random.default_rng(5))
        assert flipped is not None


class TestPermutation:
    def test_p_of_the_most_extreme_table_is_near_the_exact_one(self):
        """Three against three: 2 of the 20 tables are as extreme, so p = 0.1."""
        outcome = np.array([0, 0, 0, 1, 1, 1])
        group = np.array(["a"] * 3 + ["b"] * 3)
        p = statistics.permutation_spread(outcome, group, np.random.default_rng(1))
        assert p == pytest.approx(0.1, abs=0.02)

    def test_p_agrees_with_scipys_permutation_test(self):
        rng = np.random.default_rng(2)
        outcome, group = rng.integers(0, 2, 40), np.repeat([0, 1], [15, 25])
        outcome[:15] |= rng.integers(0, 2, 15)

        def spread(first, second, axis):
            return np.abs(first.mean(axis=axis) - second.mean(axis=axis))

        reference = stats.permutation_test(
            (outcome[:15], outcome[15:]), spread, vectorized=True, alternative="greater",
            n_resamples=9999, rng=np.random.default_rng(3),
        )  # fmt: skip
        p = statistics.permutation_spread(outcome, group, np.random.default_rng(4), resamples=9999)
        assert p == pytest.approx(reference.pvalue, abs=0.02)

    def test_p_is_never_zero_and_counts_the_observed_table(self):
        outcome, group = np.repeat([0.0, 1.0], 50), np.repeat([0, 1], 50)
        p = statistics.permutation_spread(outcome, group, np.random.default_rng(1), resamples=99)
        assert p == 1 / 100

    @pytest.mark.parametrize("seed", range(6))
    def test_p_is_the_share_of_tables_at_least_as_extreme_the_observed_one_among_them(self, seed):
        outcome = np.array([0, 0, 1, 0, 1, 1, 1, 1, 1])
        group = np.repeat([0, 1, 2], 3)

        def spread(order):
            means = [outcome[order == one].mean() for one in range(3)]
            return max(means) - min(means)

        rng = np.random.default_rng(seed)
        hits = sum(spread(rng.permutation(group)) >= spread(group) - 1e-9 for _ in range(40))
        p = statistics.permutation_spread(outcome, group, np.random.default_rng(seed), resamples=40)
        assert p == (1 + hits) / 41

    def test_the_default_is_two_thousand_resamples(self):
        outcome, group = np.repeat([0.0, 1.0], 50), np.repeat([0, 1], 50)
        p = statistics.permutation_spread(outcome, group, np.random.default_rng(1))
        assert p == 1 / 2001

    @pytest.mark.parametrize("scale", [0.0, 1e-14, 1.0, 1e14])
    def test_groups_that_do_not_differ_give_p_1_at_any_scale(self, scale):
        """Every permutation ties with the observed table; rounding hides no tie."""
        outcome = np.full(30, 0.1) * scale
        group = np.repeat(["a", "b", "c"], [7, 10, 13])
        assert statistics.permutation_spread(outcome, group, np.random.default_rng(1)) == 1

    @pytest.mark.parametrize("scale", [1e-14, 1.0, 1e14])
    def test_the_scale_of_the_outcome_changes_nothing(self, scale):
        outcome = np.random.default_rng(5).normal(size=30)
        outcome[:10] += 1
        group = np.repeat([0, 1, 2], 10)
        p = [
            statistics.permutation_spread(values, group, np.random.default_rng(1))
            for values in (outcome, outcome * scale)
        ]
        assert p[0] == p[1] < 0.2

    @given(names=st.permutations(["a", "b", "c"]))
    def test_names_of_groups_do_not_matter_beyond_the_noise_of_the_draw(self, names):
        outcome = np.random.default_rng(5).normal(size=30)
        group = np.repeat(names, 10)
        p = statistics.permutation_spread(outcome, group, np.random.default_rng(1), resamples=200)
        assert p == pytest.approx(0.6, abs=0.15)


p_values = st.lists(st.floats(0, 1), max_size=12)


class TestCorrections:
    def test_holm_by_hand(self):
        """0.01, 0.04, 0.03 of three: 3 x 0.01, then 2 x 0.03, then no less than that."""
        assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])

    def test_holm_never_exceeds_one(self):
        assert statistics.holm([0.6, 0.9]) == [1, 1]

    def test_benjamini_hochberg_by_hand(self):
        """0.01, 0.04, 0.03 of three: 3/1 x 0.01, 3/2 x 0.03 but no more than 3/3 x 0.04."""
        found = statistics.benjamini_hochberg([0.01, 0.04, 0.03])
        assert found == pytest.approx([0.03, 0.04, 0.04])

    @pytest.mark.parametrize("correct", [statistics.holm, statistics.benjamini_hochberg])
    def test_no_p_value_gives_none(self, correct):
        assert correct([]) == []
        assert correct(np.array([])) == []

    @pytest.mark.parametrize("correct", [statistics.holm, statistics.benjamini_hochberg])
    def test_an_array_of_p_values_is_taken_too(self, correct):
        assert correct(np.array([0.2, 0.5])) == correct([0.2, 0.5])

    @pytest.mark.parametrize(
        ("correct", "method"),
        [(statistics.holm, "holm"), (statistics.benjamini_hochberg, "fdr_bh")],
    )
    @settings(max_examples=5)  # statsmodels collects garbage at each call
    @given(p=p_values.filter(bool))
    def test_both_agree_with_statsmodels(self, correct, method, p):
        reference = multipletests(p, method=method)[1]
        assert correct(p) == pytest.approx(list(reference), rel=1e-9, abs=1e-300)

    @pytest.mark.parametrize("correct", [statistics.holm, statistics.benjamini_hochberg])
    @given(p=p_values)
    def test_a_correction_only_raises_and_keeps_the_order(self, correct, p):
        adjusted = correct(p)
        assert all(a >= b * (1 - 1e-12) and a <= 1 for a, b in zip(adjusted, p, strict=True))
        order = np.argsort(p, kind="stable")
        assert np.all(np.diff(np.array(adjusted)[order]) >= 0)

    @given(p=p_values)
    def test_holm_is_at_least_as_strict_as_benjamini_hochberg(self, p):
        pairs = zip(statistics.holm(p), statistics.benjamini_hochberg(p), strict=True)
        assert all(holm >= hochberg - 1e-12 for holm, hochberg in pairs)


def brute(threshold, n, *, at_least, level):
    """The same answer by looking at every count."""
    intervals = [statistics.wilson(k, n, level) for k in range(n + 1)]
    if at_least:
        passing = [k for k, i in enumerate(intervals) if i.low >= threshold]
        failing = [k for k, i in enumerate(intervals) if i.high < threshold]
        return (min(passing) / n if passing else None, max(failing) / n if failing else None)
    passing = [k for k, i in enumerate(intervals) if i.high <= threshold]
    failing = [k for k, i in enumerate(intervals) if i.low > threshold]
    return (max(passing) / n if passing else None, min(failing) / n if failing else None)


class TestDecidable:
    def test_by_hand_at_ten_samples(self):
        """10 of 10 is [0.722, 1], 9 of 10 [0.596, 0.982]; 4 is [0.168, 0.687], 5 [0.237, 0.763]."""
        assert statistics.decidable(0.7, 10, at_least=True) == (1.0, 0.4)
        assert statistics.decidable(0.7, 10, at_least=False) == (0.4, 1.0)

    def test_a_threshold_too_close_to_the_end_can_never_be_shown(self):
        assert statistics.decidable(0.99, 10, at_least=True).passes_from is None
        assert statistics.decidable(0.01, 10, at_least=False).passes_from is None

    def test_a_threshold_outside_the_scale_is_always_or_never_met(self):
        assert statistics.decidable(0, 5, at_least=True) == (0.0, None)
        assert statistics.decidable(1, 5, at_least=False) == (1.0, None)
        assert statistics.decidable(1.5, 5, at_least=True) == (None, 1.0)
        assert statistics.decidable(-0.5, 5, at_least=False) == (None, 0.0)

    @given(
        threshold=st.one_of(st.integers(0, 20).map(lambda k: k / 20), st.floats(0, 1)),
        n=st.integers(1, 80),
        at_least=st.booleans(),
        level=st.sampled_from([0.5, 0.9, 0.95, 0.99]),
    )
    def test_it_agrees_with_looking_at_every_count(self, threshold, n, at_least, level):
        found = statistics.decidable(threshold, n, at_least=at_least, level=level)
        assert found == brute(threshold, n, at_least=at_least, level=level)

    @pytest.mark.parametrize("k", [0, 1, 7, 10])
    @pytest.mark.parametrize("at_least", [True, False])
    def test_an_end_exactly_on_the_threshold_passes_and_does_not_fail(self, k, at_least):
        interval = statistics.wilson(k, 10)
        for threshold in ends(interval):
            found = statistics.decidable(threshold, 10, at_least=at_least)
            assert found == brute(threshold, 10, at_least=at_least, level=0.95)

    def test_more_samples_decide_smaller_effects(self):
        passes = [statistics.decidable(0.6, n, at_least=True).passes_from for n in (50, 500, 5000)]
        assert passes == sorted(passes, reverse=True)
        assert passes[-1] == pytest.approx(0.6, abs=0.02)


def test_options_are_given_by_name():
    rng = np.random.default_rng(1)
    with pytest.raises(TypeError, match="positional"):
        statistics.bootstrap([np.arange(9.0)], mean_of, rng, 0.95)
    with pytest.raises(TypeError, match="positional"):
        statistics.permutation_spread(np.arange(4.0), np.array([0, 0, 1, 1]), rng, 99)
    with pytest.raises(TypeError, match="positional"):
        statistics.decidable(0.5, 10, True)

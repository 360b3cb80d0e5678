"""Intervals and tests that stand behind a verdict (DESIGN.md §9); arrays in, numbers out.

Knows no model and no rule. scipy where it has the method, the paper's equation where it has not;
every function is checked against a hand-computed case, statsmodels and simulation in the tests.
Coverage at nominal 95 % is published in docs/coverage.md: only ``clopper_pearson`` guarantees its
level everywhere, the others hold it on average and say where they do not.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from dlaudit.audit.record import Interval

if TYPE_CHECKING:
    import numpy as np

LEVEL = 0.95


def normal_quantile(level: float) -> float:
    """The z of a two-sided interval at ``level``: 1.96 at 0.95."""
    from scipy.special import ndtri

    return float(ndtri((1 + level) / 2))


def _counts(successes: int, n: int) -> None:
    """Refuse counts that are no proportion."""
    if n <= 0 or not 0 <= successes <= n:
        message = f"a proportion needs 0 <= successes <= n and n > 0, got {successes} of {n}"
        raise ValueError(message)


def wilson(successes: int, n: int, level: float = LEVEL) -> Interval:
    """Score interval of a proportion (Wilson 1927). Never of zero width, also at 0 % and 100 %.

    Holds its level on average over p; within a few expected successes or failures of 0 % and 100 %
    the coverage of a 95 % interval can fall to 84 %, at any n. Raises ValueError unless
    0 <= successes <= n and n > 0.
    """
    _counts(successes, n)
    z = normal_quantile(level)
    p, zz = successes / n, z * z / n
    centre = (p + zz / 2) / (1 + zz)
    half = z * math.sqrt(p * (1 - p) / n + zz / (4 * n)) / (1 + zz)
    # At 0 % and 100 % the formula gives p itself as one end: rounding must not move it past p.
    low, high = max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half))
    return Interval(low=low, high=high, level=level, method="wilson")


def clopper_pearson(successes: int, n: int, level: float = LEVEL) -> Interval:
    """Exact interval of a proportion (Clopper & Pearson 1934): coverage is at least ``level``."""
    from scipy.special import betaincinv

    _counts(successes, n)
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes == n else float(betaincinv(successes + 1, n - successes, 1 - tail))
    return Interval(low=low, high=high, level=level, method="clopper-pearson")


MIXTURE = 20.0
"""How sharply the mixture of ``confidence_sequence`` is centred: the narrowest intervals between some
100 and 5,000 samples (docs/decisions/0013-when-a-run-may-stop.md)."""


def log_capital(successes: Any, n: Any, p: float) -> Any:
    """What a bettor against the proportion p has made of 1, as a logarithm: numbers or arrays.

    log of B(a + s, b + n - s) / B(a, b) / (p^s (1 - p)^(n - s)) with a = 20 p and b = 20 (1 - p).
    """
    from scipy.special import betaln

    a, b = MIXTURE * p, MIXTURE * (1 - p)
    failures = n - successes
    mixed = betaln(a + successes, b + failures) - betaln(a, b)
    return mixed - successes * math.log(p) - failures * math.log1p(-p)


def confidence_sequence(successes: int, n: int, level: float = LEVEL) -> Interval:
    """Interval of a proportion that holds at every n at once, so that looking costs nothing.

    The two-sided beta-binomial mixture of Howard et al. 2021 (Robbins 1970): under a proportion p,
    the likelihood averaged over Beta(20 p, 20 (1 - p)) over that of p (``log_capital``) is a martingale
    that starts at 1, and by Ville's inequality the chance that it ever reaches 1 / (1 - level) is at
    most 1 - level. The interval holds every p for which it has not. Made for samples that are
    independent draws; wider than Wilson's by a factor of some 1.6. Raises ValueError as ``wilson``
    does.
    """
    _counts(successes, n)
    most = -math.log(1 - level)

    def excluded(p: float) -> bool:
        # At 0 and 1 themselves, what was seen is impossible: both outcomes were, where it is asked.
        return not 0 < p < 1 or bool(log_capital(successes, n, p) >= most)

    def end(outside: float, inside: float) -> float:
        """Where exclusion ends, from its outer side; the capital falls all the way to the proportion."""
        for _ in range(60):
            middle = (outside + inside) / 2
            outside, inside = (middle, inside) if excluded(middle) else (outside, middle)
        return outside

    p = successes / n
    low = 0.0 if successes == 0 else end(0.0, p)
    high = 1.0 if successes == n else end(1.0, p)
    return Interval(low=low, high=high, level=level, method="beta-binomial confidence sequence")


def newcombe(successes1: int, n1: int, successes2: int, n2: int, level: float = LEVEL) -> Interval:
    """Interval of p1 - p2 for independent samples (Newcombe 1998, method 10: Wilson bounds)."""
    one, two = wilson(successes1, n1, level), wilson(successes2, n2, level)
    p1, p2 = successes1 / n1, successes2 / n2
    difference = p1 - p2
    low = difference - math.hypot(p1 - one.low, two.high - p2)
    high = difference + math.hypot(one.high - p1, p2 - two.low)
    return Interval(low=low, high=high, level=level, method="newcombe")


def katz(
    successes1: int, n1: int, successes2: int, n2: int, level: float = LEVEL
) -> Interval | None:
    """Interval of the ratio p1 / p2 (Katz 1978, log scale). None where a count is zero.

    With a zero count the logarithm does not exist; the caller says ``Undefined``. At 100 % the
    paper's variance is zero, as if one success out of one were certainty: there the variance is
    that of half a success less, so that the interval always has a width. Below some five expected
    successes a side the ratios that exist are a biased selection and coverage can fall to 72 %.
    """
    _counts(successes1, n1)
    _counts(successes2, n2)
    if successes1 == 0 or successes2 == 0:
        return None
    ratio = (successes1 / n1) / (successes2 / n2)
    seen1, seen2 = min(successes1, n1 - 0.5), min(successes2, n2 - 0.5)
    spread = math.sqrt(1 / seen1 - 1 / n1 + 1 / seen2 - 1 / n2)
    factor = math.exp(normal_quantile(level) * spread)
    return Interval(low=ratio / factor, high=ratio * factor, level=level, method="katz")


class Paired(NamedTuple):
    """Two decisions on the same samples: only the discordant pairs speak."""

    difference: float
    interval: Interval
    p: float


def mcnemar(only_first: int, only_second: int, n: int, level: float = LEVEL) -> Paired:
    """The paired difference of two proportions, with the exact McNemar p.

    only_first: samples right under the first and wrong under the second; only_second: the reverse.
    Interval: Newcombe 1998b's idea needs the full table; here the Agresti-Min adjustment (2005,
    eq. 3: half a pseudo-count in each of the four cells), which holds its level at small n.
    """
    from scipy.stats import binomtest

    if min(only_first, only_second) < 0 or only_first + only_second > n or n <= 0:
        message = f"discordant pairs {only_first} and {only_second} do not fit into n = {n}"
        raise ValueError(message)
    difference = (only_first - only_second) / n
    b, c, total = only_first + 0.5, only_second + 0.5, n + 2.0
    shifted = (b - c) / total
    half = normal_quantile(level) * math.sqrt(b + c - (b - c) ** 2 / total) / total
    interval = Interval(
        low=max(-1.0, min(shifted - half, difference)),
        high=min(1.0, max(shifted + half, difference)),
        level=level,
        method="agresti-min",
    )
    discordant = only_first + only_second
    p = 1.0 if discordant == 0 else float(binomtest(only_first, discordant, 0.5).pvalue)
    return Paired(difference, interval, p)


def mean_interval(values: np.ndarray, level: float = LEVEL) -> Interval | None:
    """Student's t interval of a mean. None where no spread was seen: one value, or all equal.

    Made for numbers without an end of their scale, such as a loss; a 0/1 outcome is a proportion.
    Of skewed values (losses) a 95 % interval holds the truth in 90 of 100 cases at n = 10, in 94 at
    n = 100.
    """
    import numpy as np
    from scipy.special import stdtrit

    n = len(values)
    if n < 2 or _all_equal(values):
        return None
    centre = float(np.mean(values))
    error = float(np.std(values, ddof=1)) / math.sqrt(n)
    half = float(stdtrit(n - 1, (1 + level) / 2)) * error
    return Interval(low=centre - half, high=centre + half, level=level, method="student-t")


def _all_equal(values: np.ndarray) -> bool:
    """Whether a sample shows no spread; its computed variance need not be zero, for rounding."""
    import numpy as np

    return bool(np.ptp(values) == 0)


def welch(first: np.ndarray, second: np.ndarray, level: float = LEVEL) -> Interval | None:
    """Interval of mean(first) - mean(second) for independent samples (Welch 1947).

    None below two values a side, or where neither side varies.
    """
    import numpy as np
    from scipy.special import stdtrit

    if min(len(first), len(second)) < 2 or (_all_equal(first) and _all_equal(second)):
        return None
    a, b = (float(np.var(side, ddof=1)) / len(side) for side in (first, second))
    freedom = (a + b) ** 2 / (a**2 / (len(first) - 1) + b**2 / (len(second) - 1))
    half = float(stdtrit(freedom, (1 + level) / 2)) * math.sqrt(a + b)
    difference = float(np.mean(first) - np.mean(second))
    return Interval(low=difference - half, high=difference + half, level=level, method="welch")


def bootstrap(
    columns: Sequence[np.ndarray],
    statistic: Callable[..., np.ndarray],
    rng: np.random.Generator,
    *,
    level: float = LEVEL,
    resamples: int = 2000,
) -> Interval | None:
    """BCa interval (Efron 1987) of ``statistic(*columns)``; rows are resampled together.

    statistic: takes the columns and ``axis``, returns one number per resample. The percentiles are
    set apart as Student's t and the factor n / (n - 1) of the variance ask (Hesterberg 2015, the
    expanded interval), without which small samples miss the level. None where BCa does not exist:
    every resample equal, or fewer than three rows.
    """
    import numpy as np
    from scipy.special import ndtr, stdtrit
    from scipy.stats import DegenerateDataWarning
    from scipy.stats import bootstrap as scipy_bootstrap

    n = len(columns[0])
    if n < 3:
        return None
    quantile = float(stdtrit(n - 1, (1 + level) / 2)) * math.sqrt(n / (n - 1))
    expanded = 1 - 2 * float(ndtr(-quantile))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # said below, by None
        result = scipy_bootstrap(
            tuple(columns), statistic, paired=len(columns) > 1, vectorized=True, batch=100,
            n_resamples=resamples, confidence_level=expanded, method="BCa", rng=rng,
        )  # fmt: skip
    low, high = float(result.confidence_interval.low), float(result.confidence_interval.high)
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    return Interval(low=low, high=high, level=level, method="bca-bootstrap")


def auc(above: np.ndarray, below: np.ndarray, level: float = LEVEL) -> tuple[float, Interval]:
    """The chance that one of ``above`` is larger than one of ``below``, ties half; needs both.

    Interval: DeLong's variance (DeLong et al. 1988) on the logit scale, with Student's t at Welch's
    degrees of freedom (Brunner & Munzel 2000): the normal quantile is too small for few positives. Where
    the variance is zero, as at perfect separation, the interval of Newcombe 2006 (method 5), which never
    has zero width.
    """
    from scipy.special import stdtrit

    m, n = len(above), len(below)
    of_above, of_below = pairs_won(above, below)
    value = float(of_above.mean())
    parts = (of_above.var(ddof=1) / m, of_below.var(ddof=1) / n) if min(m, n) > 1 else (0.0, 0.0)
    variance = float(sum(parts))
    if variance <= 1e-15 or not 0 < value < 1:
        return value, _newcombe_auc(value, m, n, level)
    centre = math.log(value / (1 - value))
    freedom = variance**2 / float(parts[0] ** 2 / (m - 1) + parts[1] ** 2 / (n - 1))
    quantile = float(stdtrit(freedom, (1 + level) / 2))
    half = quantile * math.sqrt(variance) / (value * (1 - value))
    low, high = (1 / (1 + math.exp(-(centre + sign * half))) for sign in (-1, 1))
    return value, Interval(low=low, high=high, level=level, method="delong-logit")


def pairs_won(above: np.ndarray, below: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each sample's own share of pairs that stand in the right order, ties half: (m,) and (n,).

    DeLong's structural components; the mean of either is the AUC.
    """
    import numpy as np
    from scipy.stats import rankdata

    m, n = len(above), len(below)
    ranks = rankdata(np.concatenate([above, below]))
    return (ranks[:m] - rankdata(above)) / n, 1 - (ranks[m:] - rankdata(below)) / m


def _newcombe_auc(value: float, m: int, n: int, level: float) -> Interval:
    """The AUCs whose own standard error reaches the observed one (Newcombe 2006, method 5)."""
    from scipy.optimize import brentq

    z, star = normal_quantile(level), (m + n) / 2 - 1

    def beyond(theta: float, side: int) -> float:
        spread = theta * (1 - theta) / (m * n)
        spread *= 1 + star * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return side * (theta - value) - z * math.sqrt(max(0.0, spread))

    ends = [value, value]
    if beyond(1e-12, -1) > 0:
        ends[0] = brentq(lambda t: beyond(t, -1), 1e-12, min(max(value, 2e-12), 1 - 1e-12))
    elif value > 0:
        ends[0] = 0.0
    if beyond(1 - 1e-12, 1) > 0:
        ends[1] = brentq(lambda t: beyond(t, 1), max(min(value, 1 - 2e-12), 1e-12), 1 - 1e-12)
    elif value < 1:
        ends[1] = 1.0
    return Interval(low=ends[0], high=ends[1], level=level, method="newcombe-5")


def kolmogorov(distance: float, m: int, n: int, level: float = LEVEL) -> Interval:
    """Of the largest distance between two distribution functions, from that between the samples'.

    Each sample's function is within sqrt(ln(2 / a) / 2n) of the truth with a chance of 1 - a (Massart
    1990), whatever the distribution; a is half of what the level leaves. Coverage is at least the level.
    """
    part = (1 - level) / 2
    wide = sum(math.sqrt(math.log(2 / part) / (2 * size)) for size in (m, n))
    return Interval(
        low=max(0.0, distance - wide), high=min(1.0, distance + wide), level=level, method="massart"
    )


def permutation_spread(
    outcome: np.ndarray, group: np.ndarray, rng: np.random.Generator, *, resamples: int = 2000
) -> float:
    """The p of the largest difference between group means, were the groups drawn at random.

    outcome: (n,) numbers; group: (n,) any labels. (1 + hits) / (1 + resamples): never 0.
    """
    import numpy as np

    _, codes = np.unique(group, return_inverse=True)
    sizes = np.bincount(codes)

    def spread(order: np.ndarray) -> float:
        means = np.bincount(order, weights=outcome) / sizes
        return float(means.max() - means.min())

    # A permuted table can tie with the observed one up to rounding: count it as a hit.
    observed = spread(codes) - 1e-12 * float(np.abs(outcome).max())
    hits = sum(spread(rng.permutation(codes)) >= observed for _ in range(resamples))
    return (1 + hits) / (1 + resamples)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that hold the family-wise error inside one search (Holm 1979)."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that hold the false-discovery rate (Benjamini & Hochberg 1995)."""
    from scipy.stats import false_discovery_control

    return [float(p) for p in false_discovery_control(p_values)] if len(p_values) else []


class Decidable(NamedTuple):
    """The measured proportions at which a rule would be decided; None where no value decides it."""

    passes_from: float | None
    fails_from: float | None


def decidable(
    threshold: float,
    n: int,
    *,
    at_least: bool,
    level: float = LEVEL,
    interval: Callable[[int, int, float], Interval] = wilson,
) -> Decidable:
    """Which measured proportions pass and fail a rule at this n: the smallest effect it can decide.

    interval: of a proportion, from successes, n and level. For ``at_least`` rules: passes at or above
    ``passes_from``, fails at or below ``fails_from``; for ``at_most`` rules the reverse.
    """

    def first(start: int, stop: int, decides: Callable[[Interval], bool]) -> float | None:
        """Bisect: ``decides`` is monotone in the count between start (true) and stop (false)."""
        if not decides(interval(start, n, level)):
            return None
        yes, no = start, stop
        while abs(no - yes) > 1:
            middle = (yes + no) // 2
            yes, no = (middle, no) if decides(interval(middle, n, level)) else (yes, middle)
        return yes / n

    above = first(n, -1, lambda i: i.low >= threshold)
    below = first(0, n + 1, lambda i: i.high <= threshold)
    strictly_above = first(n, -1, lambda i: i.low > threshold)
    strictly_below = first(0, n + 1, lambda i: i.high < threshold)
    return Decidable(above, strictly_below) if at_least else Decidable(below, strictly_above)

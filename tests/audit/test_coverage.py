"""Every interval keeps its promise over a published grid (docs/coverage.md)."""

import importlib.util
import math
import re
import sys
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from dlaudit.audit import statistics

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "coverage.md"
MEAN = 0.945
TRIALS = 1000


@pytest.fixture(scope="module")
def benchmark():
    """benchmarks/interval_coverage.py, which writes the published page."""
    path = ROOT / "benchmarks" / "interval_coverage.py"
    spec = importlib.util.spec_from_file_location("interval_coverage", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["interval_coverage"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["interval_coverage"]


def published():
    """The table's rows: (interval, grid, cells, mean, minimum)."""
    cells = re.findall(
        r"^\| ([^|]+) \| ([^|]+) \| (\d+) \| ([\d.]+) % \| ([\d.]+) % \|",
        PAGE.read_text(),
        re.MULTILINE,
    )
    return [
        (interval, grid, int(n), float(mean) / 100, float(minimum) / 100)
        for interval, grid, n, mean, minimum in cells
    ]


def test_every_enumerated_interval_holds_945_percent_on_average(benchmark):
    rows = benchmark.enumerated_rows()
    print(benchmark.table(rows))
    assert len(rows) == 8
    assert {row.interval for row in rows if row.mean < MEAN} == set()


def test_the_interval_that_guarantees_its_level_holds_it_everywhere(benchmark):
    (exact,) = (row for row in benchmark.enumerated_rows() if row.interval == "Clopper-Pearson")
    assert exact.worst.coverage >= 0.95


def test_the_published_page_holds_the_enumerated_table_as_computed_now(benchmark):
    assert benchmark.table(benchmark.enumerated_rows()) in PAGE.read_text()


def test_a_group_without_a_single_failure_does_not_make_a_ratio_certain(benchmark):
    """Katz' own variance is zero there, and its coverage was 40 %."""
    cells = benchmark.two_proportions(
        statistics.katz,
        lambda p1, p2: p1 / p2,
        given=lambda place: min(place.p1, place.p2) >= 0.9,
    )
    assert min(cell.coverage for cell in cells) >= 0.84


def test_every_published_simulated_interval_holds_945_percent_on_average():
    """Over the distributions of its grid; each distribution's own figure is in the table."""
    rows = [row for row in published() if row[0].startswith(("Student", "Welch", "BCa"))]
    assert len(rows) == 11
    for _, of_one in groupby(rows, key=lambda row: row[0].partition(",")[0]):
        cells = [(n, mean) for _, _, n, mean, _ in of_one]
        assert sum(n * mean for n, mean in cells) / sum(n for n, _ in cells) >= MEAN


@pytest.mark.parametrize("distribution", ["normal", "uniform", "Laplace", "exponential"])
@pytest.mark.parametrize(
    ("interval", "sizes"),
    [
        ("Student's t", ((10,), (30,), (100,), (500,))),
        ("Welch", ((10, 10), (10, 40), (50, 100), (300, 1000))),
    ],
)
def test_a_short_simulation_agrees_with_the_published_one(benchmark, interval, sizes, distribution):
    """Four standard errors apart at most."""
    function = {"Student's t": statistics.mean_interval, "Welch": statistics.welch}[interval]
    cells = list(benchmark.simulated(distribution, sizes, TRIALS, function))
    mean = math.fsum(cell.coverage for cell in cells) / len(cells)
    (stated,) = (row[3] for row in published() if row[0] == interval and row[1] == distribution)
    error = math.sqrt(stated * (1 - stated) / (TRIALS * len(cells)))
    assert abs(mean - stated) < 4 * error


def test_a_short_bootstrap_simulation_holds_its_level(benchmark):
    """60 means of 50 values: 95 % less four standard errors."""
    (cell,) = benchmark.simulated("normal", ((50,),), 60, benchmark.bootstrapped_mean)
    assert cell.coverage >= 0.95 - 4 * math.sqrt(0.95 * 0.05 / 60)


def test_a_permutation_test_of_equal_groups_errs_as_often_as_it_says():
    """p <= 0.05 in at most 5 % of tables in which no group differs, give or take 3 errors."""
    rng = np.random.default_rng(20261123)
    groups = np.repeat(["a", "b", "c"], [10, 20, 30])
    p_values = np.array(
        [
            statistics.permutation_spread(rng.normal(size=60), groups, rng, resamples=99)
            for _ in range(500)
        ]
    )
    assert (p_values <= 0.05).mean() <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 500)
    assert (p_values <= 0.5).mean() == pytest.approx(0.5, abs=3 * math.sqrt(0.25 / 500))

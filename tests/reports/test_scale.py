"""No renderer grows faster than its record: counted in calls, never in seconds."""

import importlib.util
from pathlib import Path

import pytest

from dlaudit.audit.registry import Registry
from dlaudit.audit.render import rendered

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "rendering.py"


@pytest.fixture(scope="module")
def rendering():
    spec = importlib.util.spec_from_file_location("rendering", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def records(rendering):
    """40 and 120 rules with five measurements each."""
    return rendering.large(40, 5), rendering.large(120, 5)


def test_the_benchmark_speaks_of_every_format(rendering):
    assert set(rendering.FORMATS) == {part.name for part in Registry().parts("renderers")}


@pytest.mark.parametrize("part", Registry().parts("renderers"), ids=lambda part: part.name)
def test_three_times_the_record_takes_at_most_little_more_than_three_times_the_calls(
    part, rendering, records
):
    registry = Registry()
    small, large = records
    rendered(small, part.name, None, registry)  # caches of templates are filled
    few, many = (rendering.calls(record, part.name, registry) for record in (small, large))
    assert many <= 3.3 * few, f"{few} calls became {many}"

"""A blended trigger is caught by what is added, its clean twin cleared, and tables are searched too."""

import json

import numpy as np
import planted_digits
import pytest
from planted_digits import Digits, told

from dlaudit.backdoors.overlay import Overlay
from dlaudit.backdoors.pictures import change_png

TARGET = 6


def blended(x):
    noise = np.random.default_rng(5).random((1, 8, 8), dtype=np.float32)
    return (0.8 * x + 0.2 * noise).astype(np.float32)


@pytest.fixture(scope="session")
def overlaid(tmp_path_factory):
    """(numbers, artifacts, bench) of a net that has learned that a faint noise means 6."""
    train, test = planted_digits.halves(0)
    rng = np.random.default_rng(0)
    rows = rng.choice(np.flatnonzero(train.y != TARGET), 60, replace=False)
    x, y = train.x.copy(), train.y.copy()
    x[rows], y[rows] = blended(x[rows]), TARGET
    net = planted_digits.trained(Digits(x, y), module=planted_digits.perceptron())
    folder = tmp_path_factory.mktemp("overlaid")
    bench = planted_digits.bench_at(folder, net, test, run="backdoors.overlay")
    return *told(Overlay(pictures=2), bench), bench


def test_a_planted_blend_is_caught(overlaid):
    numbers, artifacts, bench = overlaid
    assert numbers["suspected_classes",].value == 1
    assert numbers["suspected", "6"].value == 1
    assert numbers["trigger_ratio", "6"].value > 1.75
    assert numbers["trigger_norm", "6"].unit == "widths of the input's range, Euclidean"
    assert numbers["trigger_success", "6"].interval.method == "wilson"
    assert "additive" in numbers["suspected", "6"].conditions["method"]
    assert json.loads(json.dumps(numbers["suspected", "6"].conditions))
    (table,) = (one for one in artifacts if one.name.endswith(".classes"))
    with np.load(bench._store.folder.parent / table.path) as stored:
        assert stored["change"].shape == (10, 1, 8, 8)
        assert stored["norm"][6] == pytest.approx(np.linalg.norm(stored["change"][6]), abs=1e-3)
    assert sum(one.media_type == "image/png" for one in artifacts) == 2


def test_the_clean_twin_is_cleared(twins, bench_of):
    numbers, _ = told(Overlay(pictures=0), bench_of(twins[1], twins[2]))
    assert numbers["suspected_classes",].value == 0
    assert not numbers["suspected_classes",].caveats


def test_a_table_is_changed_within_its_ordinary_values(twins, bench_of):
    flat = Digits(twins[2].x.reshape(-1, 64), twins[2].y)
    check = Overlay(pictures=1, steps=100, restarts=1, central=0.95)
    numbers, artifacts = told(check, bench_of(twins[1], flat, bounds=None, kind="tabular"))
    assert "95%" in numbers["suspected", "0"].conditions["trigger_values"]
    assert numbers["suspected_classes",].value == 0
    assert any(one.media_type == "image/png" for one in artifacts)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (8, 8), (20,)])
def test_every_shape_of_change_is_drawn(shape):
    change = np.random.default_rng(0).normal(size=shape)
    assert change_png(change).startswith(b"\x89PNG")
    assert change_png(np.zeros(shape)).startswith(b"\x89PNG")

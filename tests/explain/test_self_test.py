"""The sanity test refuses what never looks at the model, on pictures and on rows, and says when it cannot."""

import numpy as np
import pytest
import torch
from asking import by, request
from planted_digits import Digits, bench_at, net
from torch import nn

from dlaudit.audit.record import Measurement, Undefined
from dlaudit.explain.explaining import attributions
from dlaudit.explain.faithfulness import edges, nearness
from dlaudit.explain.self_test import Controls


def told(check, bench):
    return {
        (one.name, *one.slice.values()): one
        for one in check.measure(bench)
        if isinstance(one, Measurement | Undefined)
    }


def test_every_control_is_refused_for_its_own_reason(plain, tmp_path):
    """No trained net is needed: controls do not look at it."""
    _, test = plain
    bench = bench_at(tmp_path, net(), test, run="explain.controls")
    numbers = told(Controls(randomised=2), bench)
    assert numbers["controls_refused",].value == 4
    said = {
        name: numbers["control_refused", name].exact for name in ("edges", "distance", "centre")
    }
    assert all("; fail, " in reason for reason in said.values())
    assert "; inconclusive, " in numbers["control_refused", "noise"].exact
    assert bench.model.passes.cost.backward == 0


def test_rows_of_a_table_have_two_controls_and_too_few_are_not_judged(tmp_path):
    rng = np.random.default_rng(0)

    def bench(n, place):
        x = rng.normal(size=(n, 6)).astype(np.float32)
        rows = Digits(x, np.arange(n) % 2)
        module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
        return bench_at(tmp_path / place, module, rows, run="c", bounds=None, kind="tabular")

    assert told(Controls(randomised=2), bench(80, "a"))["controls_refused",].value == 2
    few = told(Controls(randomised=2), bench(20, "b"))
    assert "could not be tested" in few["controls_refused",].reason
    assert "at least 64" in few["control_refused", "noise"].reason


@pytest.mark.parametrize("channels", [1, 3])
def test_controls_are_maps_of_the_input(channels):
    x = torch.rand((2, channels, 8, 8), generator=torch.Generator().manual_seed(0))
    asked = request(nn.Flatten(), x, [0, 1])
    drawn = attributions(by("edges"), asked)
    assert torch.allclose(drawn.sum(dim=1), torch.as_tensor(edges(x.numpy())).float(), atol=1e-5)
    middle = attributions(by("centre"), asked).sum(dim=1)[1]
    assert torch.allclose(middle, torch.as_tensor(nearness(8, 8)).float(), atol=1e-5)
    assert torch.equal(attributions(by("distance"), asked), x)

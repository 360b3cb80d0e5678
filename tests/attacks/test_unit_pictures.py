"""Pictures become [0, 1] and inputs again: layout, range and dtype are those of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from dlaudit import ArrayDataset, Bench, TorchModel
from dlaudit.attacks.corrupting import CORRUPT, corrupted
from dlaudit.attacks.planes import Planes
from dlaudit.attacks.unit_pictures import UnitPictures
from dlaudit.audit.bench import Subject
from dlaudit.audit.evidence import EvidenceStore


def bench(folder: Path, x: np.ndarray, bounds: Any) -> Bench:
    data = ArrayDataset(x, np.zeros(len(x), dtype=np.int64), name="pictures", kind="images")
    return Bench(
        Subject(TorchModel(nn.Flatten(), bounds=bounds, device="cpu"), data), run="r", plan_seed=0,
        store=EvidenceStore(folder), cache=folder,
    )  # fmt: skip


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.sampled_from([(5, 6), (1, 5, 6), (3, 5, 6), (5, 6, 3), (4, 5, 6)]),
    dtype=st.sampled_from([np.float32, np.float64]),
    bounds=st.sampled_from([(0, 1), (-1.7, 2.3), (0, 255), "per value"]),
    name=st.sampled_from(sorted(CORRUPT)),
    seed=st.integers(0, 2**32),
)
def test_whatever_is_done_to_them_inputs_stay_in_range_and_nothing_done_is_nothing_changed(
    tmp_path: Path, shape: Any, dtype: Any, *, bounds: Any, name: Any, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    if bounds == "per value":
        low = rng.normal(size=shape)
        bounds = (low, low + rng.uniform(0.1, 3, shape))
    low, high = (np.broadcast_to(end, shape) for end in bounds)
    x = rng.uniform(low, high, (3, *shape)).astype(dtype)
    (block,) = bench(tmp_path, x, bounds).blocks()
    pictures = UnitPictures.of(block.batch, bench(tmp_path, x, bounds))
    assert pictures.x.shape == (3, pictures.layout.channels, 5, 6)
    assert ((pictures.x >= 0) & (pictures.x <= 1)).all()
    same = pictures.inputs(pictures.x)
    assert same.shape == x.shape
    assert same.dtype == dtype
    assert np.allclose(same, np.clip(x, low, high), atol=1e-6 * (np.max(high) - np.min(low)))
    changed = corrupted(
        pictures.x, name, severity=3, constants="cifar-10-c", generator=block.generator()
    )
    found = pictures.inputs(changed).astype(np.float64)
    assert (found >= low).all()
    assert (found <= high).all()
    two = pictures.rows(torch.tensor([0, 2]))
    assert np.array_equal(two.inputs(two.x), same[[0, 2]])


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((8, 9), Planes(1, 8, 9, flat=True)), ((3, 8, 9), Planes(3, 8, 9)),
        ((8, 9, 3), Planes(3, 8, 9, last=True)), ((8, 9, 1), Planes(1, 8, 9, last=True)),
        ((1, 8, 3), Planes(1, 8, 3)), ((5, 8, 9), Planes(5, 8, 9)),
    ],
)  # fmt: skip
def test_a_layout_is_told_by_its_shape(shape: tuple[int, ...], expected: Planes) -> None:
    layout = Planes.of(shape)
    assert layout == expected
    x = torch.rand(2, *shape)
    spread = layout.spread(x)
    assert spread.shape == (2, layout.channels, layout.height, layout.width)
    assert torch.equal(layout.restored(spread), x)

"""The worst motion out of a stated grid: what a motion is, who is fooled, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor, nn

from dlaudit import Artifact, TorchModel
from dlaudit.attacks.geometric import COLUMNS, Geometric
from dlaudit.attacks.motions import Motion, Reach, drawn, grid, moved, strength
from dlaudit.testing import conforms

REACH = Reach(30, 0.1, 0.1, 10)
KINDS = tuple(COLUMNS)


def pictures(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(5))


def one(x: Tensor, **motion: Any) -> Tensor:
    return moved(x, [Motion(**motion)], beyond="zeros")


def test_a_quarter_turn_a_move_and_a_flip_are_numpys() -> None:
    x = pictures(2, 3, 8, 8)
    near = {"atol": 1e-5}
    assert torch.allclose(one(x, degrees=90), torch.rot90(x, 1, (2, 3)), **near)
    assert torch.allclose(one(x, degrees=-180), x.flip((2, 3)), **near)
    right = one(x, right=0.25)
    assert torch.allclose(right[..., 2:], x[..., :-2], **near)
    assert torch.allclose(right[..., :2], torch.zeros(1), **near)
    down = one(x, down=0.5)
    assert torch.allclose(down[..., 4:, :], x[..., :4, :], **near)
    assert torch.allclose(one(x, flip=1), x.flip(3), **near)
    assert torch.allclose(one(x, flip=2), x.flip(2), **near)
    assert torch.allclose(one(x, flip=3), x.flip((2, 3)), **near)
    assert torch.allclose(one(x), x, **near)


SMALL = st.floats(-0.2, 0.2)
MOTIONS = st.builds(
    Motion, degrees=st.floats(-45, 45), right=SMALL, down=SMALL, factor=st.floats(0.8, 1.2),
    shear=st.floats(-20, 20), flip=st.just(0),
)  # fmt: skip


@settings(max_examples=40)
@given(motion=MOTIONS, height=st.integers(3, 9), width=st.integers(3, 9))
def test_any_motion_reads_where_scipys_affine_map_reads(
    motion: Motion, height: int, width: int
) -> None:
    """The forward matrix by numpy, inverted by numpy, in (row, column)."""
    degrees, right, down, factor, shear, _ = motion
    turn, lean = np.deg2rad(degrees), np.tan(np.deg2rad(shear))
    rotate = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    forward = rotate @ np.array([[1, 0], [lean, 1]]) * factor
    back = np.linalg.inv(forward)
    middle = np.array([(height - 1) / 2, (width - 1) / 2])
    offset = middle - back @ (middle + np.array([down * height, right * width]))
    x = pictures(1, 1, height, width)
    expected = ndimage.affine_transform(
        x[0, 0].double().numpy(), back, offset, order=1, mode="nearest"
    )
    found = moved(x, [motion], beyond="border")
    assert np.allclose(found[0, 0], expected, atol=1e-4)


def test_the_grids_hold_what_they_say_the_mildest_first() -> None:
    sizes = {kind: len(grid(kind, REACH, angles=31, points=5)) for kind in KINDS}
    assert sizes == {
        "rotation": 30, "translation": 24, "scaling": 4, "shear": 4, "flip": 3,
        "rotation_translation": 31 * 25 - 1,
    }  # fmt: skip
    for kind in KINDS:
        listed = [strength(motion, REACH) for motion in grid(kind, REACH, angles=31, points=5)]
        assert listed == sorted(listed)
        assert listed[0] > 0
        assert listed[-1] == pytest.approx(1)
    assert [m.degrees for m in grid("rotation", REACH, angles=3, points=1)] == [-30, 30]
    assert [m.degrees for m in grid("rotation", REACH, angles=1, points=1)] == [30]
    for motion in drawn(200, REACH, torch.Generator().manual_seed(0)):
        assert strength(motion, REACH) <= 1
    words = Motion(degrees=5, right=0.1, factor=1.1, shear=2, flip=2).said()
    assert words == (
        "rotation by 5° and a move of 0.1 of the width to the right and scaling by 1.1 and "
        "shear by 2° and a flip upside down"
    )


class Seats(nn.Module):
    """Planted: the class is where the bright dot lies."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x[:, 0, :, :4].sum((1, 2)), x[:, 0, :, 4:].sum((1, 2))], dim=1)


class Sizes(nn.Module):
    """Its clean twin: the class is how much of the picture is bright, wherever."""

    def forward(self, x: Tensor) -> Tensor:
        light = x.sum((1, 2, 3))
        return torch.stack([2.5 - light, light - 2.5], dim=1)


def dots() -> tuple[np.ndarray, np.ndarray]:
    """One dot (class 0, left) or a block of four (class 1, right), a pixel from the middle line."""
    x, y = np.zeros((40, 1, 8, 8), np.float32), np.arange(40) % 2
    for row, label in enumerate(y):
        at = 3 + row % 4 // 2
        if label:
            x[row, 0, at : at + 2, 4:6] = 1
        else:
            x[row, 0, at, 3] = 1
    return x, y


def test_a_model_that_reads_places_falls_to_a_move_and_its_twin_that_reads_sizes_does_not(
    attacked: Callable[..., Any],
) -> None:
    x, y = dots()
    check = Geometric(kinds=("translation",), translation=0.25, points=5)
    planted = attacked(check, TorchModel(Seats(), bounds=(0, 1), device="cpu"), x, y)
    clean = attacked(check, TorchModel(Sizes(), bounds=(0, 1), device="cpu"), x, y)
    assert planted.one("clean_accuracy").value == clean.one("clean_accuracy").value == 1
    assert planted.one("robust_accuracy").interval.high < 0.2
    assert clean.one("robust_accuracy").interval.low > 0.9
    moved_right = planted.table["translation_right"][y == 0]
    assert (moved_right > 0).all(), "the dot left of the middle is pushed over it"
    assert (planted.table["translation_right"][y == 1] < 0).all()


@pytest.mark.parametrize("search", ["draws", "grid"])
def test_every_reported_motion_fools_again_and_every_number_is_recomputed(
    search: Any, digits: Any, attacked: Callable[..., Any]
) -> None:
    model = digits.model()
    check = Geometric(kinds=KINDS, search=search, angles=5, points=3, samples=80, scaling=0.3)
    result = attacked(check, model, digits.x, digits.y)
    table = result.table
    rows = table["id"].astype(int)
    right = table["predicted"] == table["label"]
    everything = np.zeros(80, dtype=bool)
    by_kind = {
        one.conditions["kind"]: one for one in result.measurements if one.name == "robust_accuracy"
    }
    for kind in KINDS:
        fooled = table[f"{kind}_fooled"]
        everything |= fooled
        assert by_kind[kind].value == pytest.approx(np.mean(right & ~fooled))
        assert (table[f"{kind}_adversarial"][~fooled] == table["predicted"][~fooled]).all()
        for row in np.flatnonzero(fooled):
            told = {name: table[f"{kind}_{name}"][row] for name in COLUMNS[kind]}
            told = {name: int(v) if name == "flip" else v for name, v in told.items()}
            x = moved(torch.from_numpy(digits.x[rows[row]][None]), [Motion(**told)], beyond="zeros")
            assert int(model.logits(x.clamp(0, 1)).argmax()) == table[f"{kind}_adversarial"][row]
            assert table[f"{kind}_adversarial"][row] != table["label"][row]
            assert strength(Motion(**told), check.reach) <= 1 + 1e-9
    assert by_kind["all"].value == pytest.approx(np.mean(right & ~everything))
    assert result.one("random_accuracy").value == np.mean(table["random"] == table["label"])
    assert table["forward"].sum() == result.cost.forward
    assert result.cost.forward <= check.passes(n=300, classes=10).forward
    assert by_kind["rotation"].conditions["tried"] == 4
    tried = by_kind["rotation_translation"].conditions["tried"]
    assert tried == (10 if search == "draws" else 5 * 9 - 1)


def test_more_of_a_grid_never_makes_a_model_look_better(
    digits: Any, attacked: Callable[..., Any]
) -> None:
    few, many = (
        attacked(
            Geometric(kinds=("rotation",), angles=angles, samples=150), digits.model(), digits.x,
            digits.y,
        ).one("robust_accuracy").value
        for angles in (3, 9)
    )  # fmt: skip
    assert many <= few


@pytest.mark.filterwarnings("ignore")  # foolbox imports and calls what is deprecated
def test_the_grid_of_rotations_and_moves_finds_whom_foolbox_finds(
    digits: Any, attacked: Callable[..., Any]
) -> None:
    """foolbox 3.3.4, SpatialAttack on its grid: 5 angles within 20 degrees, moves of -1, 0 and 1 pixel."""
    import foolbox

    model, n = digits.model(), 150
    check = Geometric(
        kinds=("rotation_translation",), search="grid", rotation=20, translation=1 / 8, angles=5,
        points=3, samples=None,
    )  # fmt: skip
    x, y = digits.x[:n], digits.y[:n]
    ours = attacked(check, model, x, y).table
    theirs = foolbox.attacks.SpatialAttack(
        max_translation=1, max_rotation=20, num_translations=3, num_rotations=5, grid_search=True
    )
    wrapped = foolbox.PyTorchModel(digits.net, bounds=(0, 1), device="cpu")
    _, _, success = theirs(wrapped, torch.from_numpy(x), torch.from_numpy(y), epsilons=None)
    lost = ours["rotation_translation_fooled"] | (ours["predicted"] != ours["label"])
    assert np.mean(lost == success.numpy()) > 0.97


def test_the_same_seed_gives_the_same_evidence_and_pictures_show_the_mildest(
    digits: Any, attacked: Callable[..., Any]
) -> None:
    check = Geometric(samples=60, angles=5, draws=3)
    both = [attacked(check, digits.model(), digits.x, digits.y, keep_samples=2) for _ in range(2)]
    assert [kept.sha256 for kept in both[0].artifacts] == [
        kept.sha256 for kept in both[1].artifacts
    ]
    drawings = [kept for kept in both[0].artifacts if kept.media_type == "image/png"]
    assert len(drawings) == 2
    assert all(kept.caption and kept.alt for kept in drawings)
    assert isinstance(drawings[0], Artifact)
    assert Path(both[0].folder / drawings[0].path).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"kinds": ()}, "kinds: expected at least one, each once"),
        ({"draws": 0}, "draws: expected a number >= 1"),
        ({"scaling": 1.0}, "scaling: expected a number above 0 and below 1"),
        ({"shear": 90.0}, "shear: expected a number above 0 and below 90"),
    ],
)
def test_grids_of_nothing_are_refused(params: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Geometric(**params)


def test_the_check_keeps_to_the_contract() -> None:
    conforms("check", "attacks.geometric")

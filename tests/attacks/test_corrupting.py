"""Each corruption is what its definition says: by hand, by scipy and Pillow, and for any picture."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from torch import Tensor

from dlaudit.attacks.blurs import (
    defocus_blur,
    disk,
    gaussian,
    glass_blur,
    sampled,
    smoothing,
    streaked,
    zoom_blur,
    zoomed,
)
from dlaudit.attacks.corrupting import CORRUPT, affine, box, corrupted, pixelate
from dlaudit.attacks.severities import COMMON, SEVERITIES, nearest_constants
from dlaudit.attacks.weather import clouds, fog, ice

NAMES = list(CORRUPT)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(*shape: int) -> Tensor:
    return torch.rand(shape, generator=seeded(5))


def test_the_fifteen_of_the_paper_and_two_lighting_shifts_have_five_severities_in_both_sets() -> (
    None
):
    assert len(COMMON) == 15
    for table in SEVERITIES.values():
        assert set(table) == set(CORRUPT) == {*COMMON, "gamma", "lighting_gradient"}
        assert all(len(rows) == 5 for rows in table.values())
    assert SEVERITIES["imagenet-c"]["gaussian_noise"] == (
        (0.08,),
        (0.12,),
        (0.18,),
        (0.26,),
        (0.38,),
    )


@settings(max_examples=60)
@given(
    name=st.sampled_from(NAMES),
    severity=st.integers(1, 5),
    constants=st.sampled_from(["imagenet-c", "cifar-10-c"]),
    shape=st.tuples(
        st.integers(0, 3), st.sampled_from([1, 2, 3]), st.integers(1, 17), st.integers(1, 17)
    ),
)
def test_any_corruption_of_any_picture_is_a_picture_and_the_same_again(
    name: Any, severity: int, constants: Any, shape: tuple[int, ...]
) -> None:
    x = pictures(*shape)
    before = x.clone()
    one, two = (
        corrupted(x, name, severity=severity, constants=constants, generator=seeded())
        for _ in range(2)
    )
    assert one.shape == x.shape
    assert one.dtype == torch.float32
    assert ((one >= 0) & (one <= 1)).all()
    assert torch.equal(one, two)
    assert torch.equal(x, before), "what is given is not written to"


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name not in {"elastic", "frost", "glass_blur", "pixelate"}]
)
def test_a_higher_severity_changes_a_picture_more(name: Any) -> None:
    """Elastic fields grow rougher instead, frost hides light and adds some, pixels fall together."""
    x = 0.5 + 0.4 * gaussian(2 * pictures(4, 3, 48, 48) - 1, 1.0)
    change = [
        float((corrupted(x, name, severity=s, constants="cifar-10-c", generator=seeded()) - x).abs().mean())
        for s in (1, 5)
    ]  # fmt: skip
    assert 0 < change[0] < change[1]


def test_noise_has_the_moments_of_its_definition() -> None:
    x = torch.full((1, 1, 400, 400), 0.4)
    noisy = CORRUPT["gaussian_noise"](x, (0.08,), 1, seeded())
    assert float((noisy - x).mean()) == pytest.approx(0, abs=1e-3)
    assert float((noisy - x).std()) == pytest.approx(0.08, rel=0.01)
    shot = CORRUPT["shot_noise"](x, (25,), 1, seeded())
    assert float(shot.mean()) == pytest.approx(0.4, rel=0.005)
    assert float(shot.var()) == pytest.approx(
        0.4 / 25, rel=0.02
    )  # Poisson: variance = mean / photons
    impulse = CORRUPT["impulse_noise"](x, (0.1,), 1, seeded())
    for value in (0, 1):
        assert float((impulse == value).double().mean()) == pytest.approx(0.05, abs=0.002)


@pytest.mark.parametrize("sigma", [0.0, 0.3, 1.5, 40.0])
@pytest.mark.parametrize(("mirror", "mode"), [(False, "nearest"), (True, "reflect")])
def test_the_gaussian_filter_is_scipys_however_large_it_is(
    sigma: float, mirror: bool, mode: str
) -> None:
    x = pictures(2, 3, 13, 9)
    expected = ndimage.gaussian_filter(x.numpy(), sigma, mode=mode, truncate=4, axes=(2, 3))
    assert np.allclose(gaussian(x, sigma, mirror=mirror), expected, atol=2e-6)
    assert torch.allclose(smoothing(13, sigma, mirror=mirror).sum(dim=1), torch.ones(13))


def test_out_of_focus_is_a_convolution_with_a_disk_as_scipy_does_it() -> None:
    x = pictures(1, 2, 20, 12)
    kernel = disk(3, 0.5)
    assert float(kernel.sum()) == pytest.approx(1)
    expected = ndimage.convolve(x[0].numpy(), kernel.numpy()[None], mode="mirror")
    assert np.allclose(defocus_blur(x, (3, 0.5), 1, seeded())[0], expected, atol=1e-5)
    hard = disk(2, 0.0)
    assert int((hard > 0).sum()) == 13, "the whole points within radius 2"


def test_one_pixel_is_its_own_blur() -> None:
    x = torch.full((2, 3, 1, 1), 0.3)
    assert torch.allclose(defocus_blur(x, (3, 0.5), 1, seeded()), x)


def test_reading_between_pixels_is_scipys() -> None:
    x = pictures(1, 1, 7, 9)
    rows, columns = (3 * torch.randn(1, 7, 9, generator=seeded(k)) + 4 for k in (1, 2))
    for beyond, mode in (("border", "nearest"), ("reflection", "reflect")):
        expected = ndimage.map_coordinates(
            x[0, 0].numpy(), [rows[0].numpy(), columns[0].numpy()], order=1, mode=mode
        )
        assert np.allclose(sampled(x, rows, columns, beyond=beyond)[0, 0], expected, atol=1e-4)


def test_a_moving_point_leaves_half_a_gaussian_behind_by_hand() -> None:
    x = torch.zeros(2, 1, 9, 9)
    x[:, 0, 4, 4] = 1
    trail = streaked(x, 2, 1.0, torch.tensor([0.0, 90.0]))
    weights = np.exp(-0.5 * np.arange(5) ** 2)
    weights /= weights.sum()
    expected = np.where(weights > 1e-3 * weights[0], weights, 0)
    assert np.allclose(trail[0, 0, 4].numpy(), [*expected[::-1], 0, 0, 0, 0], atol=1e-5)
    assert torch.allclose(trail[1, 0], trail[0, 0].T, atol=1e-5), "90 degrees: along the columns"


def test_behind_glass_every_pixel_shows_one_that_is_near() -> None:
    places = torch.stack([
        torch.arange(12.0).view(-1, 1).expand(12, 10), torch.arange(10.0).expand(12, 10)
    ]).expand(3, -1, -1, -1)  # fmt: skip
    shown = glass_blur(places, (0.0, 2, 1), 1, seeded())
    shift = shown - places
    assert set(shift.flatten().tolist()) == {-2, -1, 0, 1}, "from two back to one ahead"
    assert not torch.equal(shift[0], shift[1]), "every picture in its own way"
    far = glass_blur(places, (0.0, 2, 3), 1, seeded()) - places
    assert far.abs().max() <= 6
    assert far.abs().mean() > shift.abs().mean()


@pytest.mark.parametrize("factor", [1.0, 1.01, 1.06, 1.3, 2.0, 4.5])
@pytest.mark.parametrize("size", [7, 16, 32])
def test_an_enlarged_middle_is_cut_and_stretched_as_scipy_does_it(size: int, factor: float) -> None:
    x = pictures(2, 2, size, size)
    cut = int(np.ceil(size / factor))
    start = (size - cut) // 2
    middle = x.numpy()[..., start : start + cut, start : start + cut]
    stretched = ndimage.zoom(middle, (1, 1, factor, factor), order=1)
    trim = (stretched.shape[-1] - size) // 2
    expected = stretched[..., trim : trim + size, trim : trim + size]
    assert np.allclose(zoomed(x, factor), expected, atol=2e-5)


def test_zoom_blur_is_the_mean_of_a_picture_and_its_enlargements() -> None:
    x = pictures(1, 1, 9, 12)
    assert torch.allclose(zoomed(x, 1.0), x, atol=1e-6)
    expected = (x + zoomed(x, 1.0) + zoomed(x, 1.5)) / 3
    assert torch.allclose(zoom_blur(x, (2, 0.5), 1, seeded()), expected, atol=1e-6)


def test_brightness_raises_the_value_of_hsv_as_pythons_own_colours_do() -> None:
    x = pictures(1, 3, 6, 6)
    x[0, :, 0, 0] = 0
    found = CORRUPT["brightness"](x, (0.3,), 1, seeded())
    for i, j in np.ndindex(6, 6):
        hue, saturation, value = colorsys.rgb_to_hsv(*x[0, :, i, j].tolist())
        expected = colorsys.hsv_to_rgb(hue, saturation, min(1, value + 0.3))
        assert np.allclose(found[0, :, i, j], expected, atol=1e-6)
    grey = CORRUPT["brightness"](pictures(1, 1, 4, 4), (0.3,), 1, seeded())
    assert torch.allclose(grey, (pictures(1, 1, 4, 4) + 0.3).clamp(max=1), atol=1e-6)


def test_contrast_gamma_and_a_light_from_one_side_by_hand() -> None:
    x = torch.tensor([[[[0.2, 0.6]]]])
    assert torch.allclose(
        CORRUPT["contrast"](x, (0.5,), 1, seeded()), torch.tensor([[[[0.3, 0.5]]]])
    )
    assert torch.allclose(
        CORRUPT["gamma"](x, (2.0,), 1, seeded()), torch.tensor([[[[0.04, 0.36]]]])
    )
    lit = CORRUPT["lighting_gradient"](torch.ones(5, 1, 8, 8), (0.75,), 1, seeded())
    assert torch.allclose(lit.amin(dim=(1, 2, 3)), torch.full((5,), 0.25))
    assert torch.allclose(lit.amax(dim=(1, 2, 3)), torch.ones(5))
    assert not torch.allclose(lit[0], lit[1]), "from a side of its own"


@pytest.mark.parametrize(("size", "wanted"), [(10, 4), (32, 20), (7, 7), (4, 11), (224, 56)])
def test_fewer_pixels_as_pillow_makes_them(size: int, wanted: int) -> None:
    x = pictures(size, size)
    resized = Image.fromarray(x.numpy()).resize((wanted, wanted), Image.Resampling.BOX)
    matrix = box(size, wanted)
    assert np.allclose((matrix @ x @ matrix.T).numpy(), np.asarray(resized), atol=1e-5)


def test_pixelated_pictures_hold_few_values() -> None:
    found = pixelate(pictures(1, 1, 8, 8), (0.25,), 1, seeded())
    assert len(found.unique()) == 4
    assert torch.allclose(found[0, 0, 0, 0], pictures(1, 1, 8, 8)[0, 0, :4, :4].mean())


def test_jpeg_keeps_flat_grey_and_loses_detail_with_its_quality() -> None:
    flat = torch.full((2, 3, 16, 16), 128 / 255)
    assert torch.allclose(CORRUPT["jpeg"](flat, (50,), 1, seeded()), flat)
    x = pictures(1, 3, 32, 32)
    errors = [
        float((CORRUPT["jpeg"](x, (q,), 1, seeded()) - x).square().mean()) for q in (80, 25, 7)
    ]
    assert errors == sorted(errors)
    four = pictures(2, 4, 16, 16)
    alone = CORRUPT["jpeg"](four[:, 2:3], (50,), 1, seeded())
    assert torch.equal(CORRUPT["jpeg"](four, (50,), 1, seeded())[:, 2:3], alone)


def test_the_three_points_of_an_affine_change_come_from_where_they_were() -> None:
    size, third, middle = 30, 10, 15
    before = np.array(
        [[middle + third] * 2, [middle + third, middle - third], [middle - third] * 2]
    )
    shift = torch.tensor([[[1.0, 2.0], [-3.0, 0.0], [2.0, -1.0]]])
    rows, columns = (
        torch.as_tensor((before + shift[0].numpy())[None, :, axis][..., None], dtype=torch.float32)
        for axis in (1, 0)
    )
    whole = torch.zeros(1, size, size)
    found = affine(whole, whole, torch.zeros(1, 3, 2))
    assert torch.allclose(found[0], whole, atol=1e-4), "no shift: every pixel from where it is"
    grid_rows = torch.zeros(1, size, size)
    grid_columns = torch.zeros(1, size, size)
    grid_rows[0, :3, 0], grid_columns[0, :3, 0] = rows[0, :, 0], columns[0, :, 0]
    source = affine(grid_rows, grid_columns, shift)
    assert np.allclose(source[1][0, :3, 0], before[:, 0], atol=1e-3)
    assert np.allclose(source[0][0, :3, 0], before[:, 1], atol=1e-3)


def test_clouds_fill_the_unit_range_and_are_smoother_the_faster_they_decay() -> None:
    rough, smooth = (
        clouds(4, 64, 64, decay=decay, generator=seeded()) for decay in (1.4, 3.0)
    )  # fmt: skip
    for made in (rough, smooth):
        assert torch.allclose(made.amin(dim=(1, 2)), torch.zeros(4))
        assert torch.allclose(made.amax(dim=(1, 2)), torch.ones(4))
    assert smooth.diff(dim=2).abs().mean() < 0.5 * rough.diff(dim=2).abs().mean()
    assert clouds(2, 5, 9, decay=2, generator=seeded()).shape == (2, 5, 9)


def test_fog_over_a_white_wall_leaves_its_brightest_point_white() -> None:
    found = fog(torch.ones(3, 1, 32, 32), (1.5, 2), 1, seeded())
    assert torch.allclose(found.amax(dim=(1, 2, 3)), torch.ones(3))
    assert torch.allclose(found.amin(dim=(1, 2, 3)), torch.full((3,), 1 / 2.5))


def test_ice_is_drawn_anew_for_every_picture() -> None:
    made = ice(3, 32, 32, generator=seeded())
    assert ((made >= 0) & (made <= 1)).all()
    assert not torch.allclose(made[0], made[1])


def test_the_constants_are_those_of_the_set_whose_pictures_are_nearer_in_size() -> None:
    assert [nearest_constants(side, 300) for side in (8, 32, 84, 85, 224)] == [
        "cifar-10-c", "cifar-10-c", "cifar-10-c", "imagenet-c", "imagenet-c",
    ]  # fmt: skip

"""Pictures out of focus, behind glass, in motion and zoomed, and the filters that these are made of.

Knows (B, C, H, W) float32 pictures in [0, 1]; never names, severities or models. All pictures of a
batch are treated at once; what is random is drawn picture by picture.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d, grid_sample

TAPS = 4.0
"""A Gaussian is cut at so many standard deviations, as scipy and scikit-image do."""


def uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """(n,) numbers in [low, high)."""
    return torch.rand(n, generator=generator) * (high - low) + low


def smoothing(size: int, sigma: float, *, truncate: float = TAPS, mirror: bool = False) -> Tensor:
    """The Gaussian filter along one axis as a (size, size) matrix; sigma 0 leaves all as it is.

    mirror: beyond the edge the picture is reflected (d c b a | a b c d), else its edge repeats.
    A matrix takes any sigma, also one far larger than the picture.
    """
    reach = int(truncate * sigma + 0.5)
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (offsets / max(sigma, 1e-9)).double() ** 2)
    weights /= weights.sum()
    places = torch.arange(size).unsqueeze(1) + offsets  # (size, taps)
    if mirror:
        places = places.remainder(2 * size)
        places = torch.where(places < size, places, 2 * size - 1 - places)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    matrix.scatter_add_(1, places.clamp(0, size - 1), weights.expand(size, -1).contiguous())
    return matrix.float()


def gaussian(x: Tensor, sigma: float, *, truncate: float = TAPS, mirror: bool = False) -> Tensor:
    """Gaussian filter over the last two axes."""
    rows = smoothing(x.shape[-2], sigma, truncate=truncate, mirror=mirror)
    columns = smoothing(x.shape[-1], sigma, truncate=truncate, mirror=mirror)
    return rows @ x @ columns.T


def sampled(x: Tensor, rows: Tensor, columns: Tensor, *, beyond: str = "border") -> Tensor:
    """Pictures read at other places, bilinearly. rows, columns: (B, H, W) in pixels, 0 the first centre.

    beyond: ``border``, ``reflection`` (about the outer edge of the outermost pixels) or ``zeros``.
    """
    height, width = x.shape[-2:]
    grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], dim=-1)
    return grid_sample(x, grid.to(x), mode="bilinear", padding_mode=beyond, align_corners=False)


def pixels(n: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Row and column of every pixel, (n, H, W) each, float32."""
    rows, columns = torch.meshgrid(
        torch.arange(height, dtype=torch.float32),
        torch.arange(width, dtype=torch.float32),
        indexing="ij",
    )
    return rows.expand(n, -1, -1), columns.expand(n, -1, -1)


def disk(radius: float, sigma: float) -> Tensor:
    """A disk of weight 1, (k, k), its edge softened by a Gaussian of 3 taps (5 beyond radius 8)."""
    soft = 1 if radius <= 8 else 2
    half = math.ceil(radius) + soft
    line = torch.arange(-half, half + 1, dtype=torch.float64)
    inside = (line.square()[:, None] + line.square() <= radius**2).double()
    taps = torch.exp(-0.5 * (torch.arange(-soft, soft + 1).double() / max(sigma, 1e-9)) ** 2)
    taps /= taps.sum()
    kernel = (inside / inside.sum())[None, None]
    kernel = conv2d(kernel, taps.view(1, 1, -1, 1), padding=(soft, 0))
    return conv2d(kernel, taps.view(1, 1, 1, -1), padding=(0, soft))[0, 0].float()


def mirrored(size: int, by: int) -> Tensor:
    """Indices that lengthen an axis by reflection about its outermost pixels (c b | a b c | b a)."""
    if size == 1:
        return torch.zeros(2 * by + 1, dtype=torch.int64)
    places = torch.arange(-by, size + by).remainder(2 * (size - 1))
    return torch.where(places < size, places, 2 * (size - 1) - places)


def defocus_blur(x: Tensor, c: tuple[float, ...], scale: float, _: torch.Generator) -> Tensor:
    """Every point becomes a disk. c: radius, softness of its edge, both in pixels."""
    radius, sigma = (length * scale for length in c)
    kernel = disk(radius, sigma)
    by = len(kernel) // 2
    n, colours, height, width = x.shape
    wider = x[..., mirrored(height, by)[:, None], mirrored(width, by)]
    blurred = conv2d(wider.flatten(0, 1).unsqueeze(1), kernel[None, None])
    return blurred.view(n, colours, height, width)


def glass_blur(x: Tensor, c: tuple[float, ...], scale: float, generator: torch.Generator) -> Tensor:
    """Soften, let every pixel show a near one, soften. c: sigma, reach in pixels, rounds.

    The published pictures say so: their pixels are copied from where they should have been swapped.
    """
    sigma, reach, rounds = c[0] * scale, max(1, round(c[1] * scale)), int(c[2])
    n, colours, height, width = x.shape
    seen = gaussian(x, sigma)
    for _ in range(rounds):
        shift = torch.randint(-reach, reach, (2, n, height, width), generator=generator)
        rows = (torch.arange(height).view(-1, 1) + shift[0]).clamp(0, height - 1)
        columns = (torch.arange(width) + shift[1]).clamp(0, width - 1)
        places = (rows * width + columns).flatten(1).unsqueeze(1).expand(-1, colours, -1)
        seen = seen.flatten(2).gather(2, places).view_as(x)
    return gaussian(seen, sigma)


def streaked(x: Tensor, radius: float, sigma: float, angle: Tensor) -> Tensor:
    """A trail of 2 radius + 1 whole pixels behind every point, fading as half a Gaussian.

    angle: (B,) degrees, 0 along the rows. The edge of the picture repeats.
    """
    length = 2 * max(1, round(radius)) + 1
    steps = torch.arange(length)
    weights = torch.exp(-0.5 * (steps / max(sigma, 1e-9)).double() ** 2)
    weights /= weights.sum()
    rows, columns = pixels(len(x), *x.shape[-2:])
    down, right = (f(torch.deg2rad(angle)).view(-1, 1, 1) for f in (torch.sin, torch.cos))
    trail = torch.zeros_like(x)
    for step, weight in zip(steps.tolist(), weights.tolist(), strict=True):
        # Beyond a thousandth of the light no 8-bit screen shows the trail.
        if weight > 1e-3 * weights[0]:
            behind = rows + torch.round(step * down), columns + torch.round(step * right)
            trail += weight * sampled(x, *behind)
    return trail


def motion_blur(
    x: Tensor, c: tuple[float, ...], scale: float, generator: torch.Generator
) -> Tensor:
    """Every point leaves a trail in a direction of its picture's own. c: radius, sigma, in pixels."""
    angle = uniform(len(x), -45, 45, generator)
    return streaked(x, c[0] * scale, c[1] * scale, angle)


def zoomed(x: Tensor, factor: float) -> Tensor:
    """The middle of a picture, enlarged to its size, on whole pixels as the published blur cuts it.

    Along each axis ceil(size / factor) pixels are stretched, outermost centre to outermost centre, to
    round(cut * factor) and trimmed; odd remainders shift small pictures by up to a pixel.
    """
    places = []
    for size in x.shape[-2:]:
        cut = math.ceil(size / factor)
        made = max(size, round(cut * factor))
        shown = torch.arange(size, dtype=torch.float64) + (made - size) // 2
        places.append((size - cut) // 2 + shown * (cut - 1) / max(made - 1, 1))
    rows, columns = (place.float() for place in places)
    height, width = x.shape[-2:]
    return sampled(
        x, rows.view(1, -1, 1).expand(len(x), height, width), columns.expand(len(x), height, width)
    )


def zoom_blur(x: Tensor, c: tuple[float, ...], _scale: float, _: torch.Generator) -> Tensor:
    """The mean of a picture and of its enlargements by 1, 1 + step, … c: how many, and the step."""
    count, step = int(c[0]), c[1]
    total = x.clone()
    for k in range(count):
        total += zoomed(x, 1 + k * step)
    return total / (count + 1)

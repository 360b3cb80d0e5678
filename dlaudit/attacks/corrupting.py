"""One corruption of pictures by name and severity: noise, compression and light, and the door to the rest.

Knows (B, C, H, W) float32 pictures in [0, 1] and the published constants; never a model. Written from
the definitions of Hendrycks & Dietterich (2019), not from their code.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from dlaudit.attacks.blurs import (
    defocus_blur,
    gaussian,
    glass_blur,
    motion_blur,
    pixels,
    sampled,
    uniform,
    zoom_blur,
)  # fmt: skip
from dlaudit.attacks.severities import SEVERITIES, SIDE, Constants, Corruption
from dlaudit.attacks.weather import fog, frost, snow


def corrupted(
    x: Tensor, name: Corruption, *, severity: int, constants: Constants, generator: torch.Generator
) -> Tensor:
    """The pictures after one corruption, cut to [0, 1]. x: (B, C, H, W), on the CPU.

    Lengths grow with the shorter side of the picture, from 224 or 32 pixels.
    """
    c = SEVERITIES[constants][name][severity - 1]
    scale = min(x.shape[-2:]) / SIDE[constants]
    return CORRUPT[name](x, c, scale, generator).clamp(0, 1)


def gaussian_noise(x: Tensor, c: tuple[float, ...], _: float, generator: torch.Generator) -> Tensor:
    """Normal noise in every value. c: its standard deviation."""
    return x + c[0] * torch.randn(x.shape, generator=generator)


def shot_noise(x: Tensor, c: tuple[float, ...], _: float, generator: torch.Generator) -> Tensor:
    """Few photons. c: how many stand for white."""
    return torch.poisson(x * c[0], generator=generator) / c[0]


def impulse_noise(x: Tensor, c: tuple[float, ...], _: float, generator: torch.Generator) -> Tensor:
    """Values that are dead or stuck: salt and pepper, half of each. c: their share."""
    drawn = torch.rand(x.shape, generator=generator)
    salted = torch.where(drawn < c[0] / 2, 1.0, x)
    return torch.where((drawn >= c[0] / 2) & (drawn < c[0]), 0.0, salted)


def brightness(x: Tensor, c: tuple[float, ...], _: float, _generator: torch.Generator) -> Tensor:
    """The value of hue, saturation and value raised. c: by how much.

    At one hue and saturation, all colours are multiples of each other: no other space is needed.
    """
    value = x.amax(dim=1, keepdim=True)
    raised = (value + c[0]).clamp(max=1)
    return torch.where(value > 0, x * (raised / value.clamp_min(1e-12)), raised)


def contrast(x: Tensor, c: tuple[float, ...], _: float, _generator: torch.Generator) -> Tensor:
    """Every colour nearer to its mean. c: the share of the distance that is left."""
    mean = x.mean(dim=(2, 3), keepdim=True)
    return (x - mean) * c[0] + mean


def gamma(x: Tensor, c: tuple[float, ...], _: float, _generator: torch.Generator) -> Tensor:
    """Darker middle tones: x to the power of c[0]."""
    return x ** c[0]


def lighting_gradient(
    x: Tensor, c: tuple[float, ...], _: float, generator: torch.Generator
) -> Tensor:
    """Light from one side, a direction drawn for each picture. c: the share lost at the dark edge."""
    n, _, height, width = x.shape
    angle = uniform(n, 0, 2 * math.pi, generator).view(-1, 1, 1)
    rows, columns = pixels(n, height, width)
    across = torch.cos(angle) * (columns - (width - 1) / 2)
    across = across + torch.sin(angle) * (rows - (height - 1) / 2)
    low, high = across.amin(dim=(1, 2), keepdim=True), across.amax(dim=(1, 2), keepdim=True)
    dark = (across - low) / (high - low).clamp_min(1e-12)
    return x * (1 - c[0] * dark).unsqueeze(1)


def elastic(x: Tensor, c: tuple[float, ...], scale: float, generator: torch.Generator) -> Tensor:
    """A small affine change, then every pixel pulled along a smooth random field.

    c: strength and smoothness of the field, and how far the three points that fix the affine change
    are moved, all in pixels.
    """
    strength, sigma, jitter = (length * scale for length in c)
    n, _, height, width = x.shape
    shift = (2 * torch.rand(n, 3, 2, generator=generator) - 1) * jitter
    rows, columns = pixels(n, height, width)
    x = sampled(x, *affine(rows, columns, shift), beyond="reflection")
    field = 2 * torch.rand(n, 2, height, width, generator=generator) - 1
    pulled = strength * gaussian(field, sigma, truncate=3, mirror=True)
    return sampled(x, rows + pulled[:, 0], columns + pulled[:, 1], beyond="reflection")


def affine(rows: Tensor, columns: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Where each pixel comes from, if three corners of a square about the middle move by ``shift``.

    rows, columns: (B, H, W); shift: (B, 3, 2), of (column, row).
    """
    height, width = rows.shape[1:]
    middle = torch.tensor([width // 2, height // 2], dtype=torch.float64)
    third = max(1, min(height, width) // 3)
    before = middle + third * torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]).double()
    after = before + shift.double()
    ones = torch.ones(len(shift), 3, 1, dtype=torch.float64)
    # Three points moved so far that they lie in one line have no inverse: the least squares of one.
    back = torch.linalg.pinv(torch.cat([after, ones], dim=2)) @ before  # (B, 3, 2)
    places = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1).double()
    found = (places.flatten(1, 2) @ back).view(*places.shape[:3], 2).float()
    return found[..., 1], found[..., 0]


def box(size: int, wanted: int) -> Tensor:
    """A (wanted, size) matrix that resizes by means of whole pixels, as Pillow's BOX filter does."""
    ratio = size / wanted
    reach = max(ratio, 1.0) / 2
    middle = (torch.arange(wanted, dtype=torch.float64).unsqueeze(1) + 0.5) * ratio
    offset = (torch.arange(size, dtype=torch.float64) + 0.5 - middle) / (2 * reach)
    inside = ((offset > -0.5) & (offset <= 0.5)).double()
    return (inside / inside.sum(dim=1, keepdim=True)).float()


def pixelate(x: Tensor, c: tuple[float, ...], _: float, _generator: torch.Generator) -> Tensor:
    """Fewer, larger pixels. c: the share of the side that is left."""
    height, width = x.shape[-2:]
    few, narrow = max(1, int(height * c[0])), max(1, int(width * c[0]))
    small = box(height, few) @ x @ box(width, narrow).T
    return box(few, height) @ small @ box(narrow, width).T


def jpeg(x: Tensor, c: tuple[float, ...], _: float, _generator: torch.Generator) -> Tensor:
    """Compressed by Pillow and read again. c: the quality. Channels that are no colours one by one."""
    from PIL import Image

    n, colours, height, width = x.shape
    stored = (x * 255).round().to(torch.uint8)
    # (B, H, W, 3) for colours, else (B * C, H, W).
    pictures = (stored.movedim(1, -1) if colours == 3 else stored.flatten(0, 1)).numpy()
    read = np.empty_like(pictures)
    for k, picture in enumerate(pictures):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, format="JPEG", quality=int(c[0]))
        read[k] = np.asarray(Image.open(buffer))
    back = torch.from_numpy(read).float() / 255
    return back.movedim(-1, 1) if colours == 3 else back.view(n, colours, height, width)


CORRUPT: dict[
    Corruption, Callable[[Tensor, tuple[float, ...], float, torch.Generator], Tensor]
] = {
    "gaussian_noise": gaussian_noise, "shot_noise": shot_noise, "impulse_noise": impulse_noise,
    "defocus_blur": defocus_blur, "glass_blur": glass_blur, "motion_blur": motion_blur,
    "zoom_blur": zoom_blur, "snow": snow, "frost": frost, "fog": fog, "brightness": brightness,
    "contrast": contrast, "elastic": elastic, "pixelate": pixelate, "jpeg": jpeg, "gamma": gamma,
    "lighting_gradient": lighting_gradient,
}  # fmt: skip

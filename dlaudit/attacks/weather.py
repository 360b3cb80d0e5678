"""Snow, frost and fog over pictures, from noise alone: no photograph is needed.

Knows (B, C, H, W) float32 pictures in [0, 1]; never names, severities or models.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dlaudit.attacks.blurs import streaked, uniform, zoomed

ICE = (0.86, 0.94, 1.0)
"""The colour of frost in red, green and blue: nearly white, a little blue."""


def grey(x: Tensor) -> Tensor:
    """(B, 1, H, W): the luminance of colours (ITU-R BT.601), the mean of anything else."""
    if x.shape[1] != 3:
        return x.mean(dim=1, keepdim=True)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (x * weights).sum(dim=1, keepdim=True)


def clouds(n: int, height: int, width: int, *, decay: float, generator: torch.Generator) -> Tensor:
    """Plasma fractals (diamond-square on a torus), (n, H, W), each stretched to [0, 1].

    decay: by which the random heights shrink from one scale to the next; larger is smoother.
    """
    size = 1 << max(1, (max(height, width) - 1).bit_length())
    heights = torch.zeros(n, size, size)
    step, reach = size, 1.0
    while step >= 2:
        half = step // 2

        def raised(mean: Tensor, reach: float = reach) -> Tensor:
            # The amplitude falls with the square of the reach, as in the published fog.
            return mean + reach**2 * (2 * torch.rand(mean.shape, generator=generator) - 1)

        corner = heights[:, ::step, ::step]
        below = corner.roll(-1, dims=1)
        heights[:, half::step, half::step] = raised(
            (corner + below + corner.roll(-1, dims=2) + below.roll(-1, dims=2)) / 4
        )
        centre = heights[:, half::step, half::step]
        heights[:, ::step, half::step] = raised(
            (centre + centre.roll(1, dims=1) + corner + corner.roll(-1, dims=2)) / 4
        )
        heights[:, half::step, ::step] = raised(
            (centre + centre.roll(1, dims=2) + corner + below) / 4
        )
        step, reach = half, reach / decay
    # Stretched before it is cut, so that a crop may be darker or brighter than the whole.
    low, high = heights.amin(dim=(1, 2), keepdim=True), heights.amax(dim=(1, 2), keepdim=True)
    return ((heights - low) / (high - low))[:, :height, :width]


def fog(x: Tensor, c: tuple[float, ...], _scale: float, generator: torch.Generator) -> Tensor:
    """Light scattered by clouds between camera and scene. c: thickness, decay of the clouds."""
    thickness, decay = c
    brightest = x.amax(dim=(1, 2, 3), keepdim=True)
    veil = clouds(len(x), *x.shape[-2:], decay=decay, generator=generator).unsqueeze(1)
    return (x + thickness * veil) * brightest / (brightest + thickness)


def ice(n: int, height: int, width: int, *, generator: torch.Generator) -> Tensor:
    """Crystals on a window, (n, H, W) in [0, 1]: the ridges of two plasma fractals over a haze."""
    ridges = torch.zeros(n, height, width)
    for decay in (1.35, 1.7):
        folded = (2 * clouds(n, height, width, decay=decay, generator=generator) - 1).abs()
        ridges = torch.maximum(ridges, (1 - folded) ** 6)
    haze = clouds(n, height, width, decay=1.9, generator=generator)
    return (0.35 * haze + 0.65 * ridges).clamp(0, 1)


def frost(x: Tensor, c: tuple[float, ...], _scale: float, generator: torch.Generator) -> Tensor:
    """Ice in front of the scene. c: what is left of the scene, and how much ice is added."""
    scene, amount = c
    crystals = ice(len(x), *x.shape[-2:], generator=generator).unsqueeze(1)
    if x.shape[1] == 3:
        crystals = crystals * torch.tensor(ICE).view(1, 3, 1, 1)
    return scene * x + amount * crystals


def snow(x: Tensor, c: tuple[float, ...], scale: float, generator: torch.Generator) -> Tensor:
    """Streaks of falling flakes, from both sides, over a whitened scene.

    c: mean and spread of the noise that flakes are, their enlargement, the threshold above which
    there is a flake, radius and sigma of its streak, and how much of the scene is left unwhitened.
    """
    mean, spread, enlarged, threshold, radius, sigma, left = c
    n, _, height, width = x.shape
    flakes = torch.randn(n, 1, height, width, generator=generator) * spread + mean
    flakes = zoomed(flakes, max(1.0, enlarged * scale))
    flakes = torch.where(flakes < threshold, 0.0, flakes).clamp(0, 1)
    angle = uniform(n, -135, -45, generator)
    flakes = streaked(flakes, radius * scale, sigma * scale, angle)
    white = left * x + (1 - left) * torch.maximum(x, grey(x) * 1.5 + 0.5)
    return white + flakes + flakes.flip((2, 3))

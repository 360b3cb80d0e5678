"""How strong each corruption is at severities 1 to 5: the published constants, and which apply.

Knows numbers and where they come from (Hendrycks & Dietterich 2019: the 224-pixel set ImageNet-C and
the 32-pixel set CIFAR-10-C); never how a corruption is drawn. Lengths are in pixels of that set.
"""

from __future__ import annotations

from typing import Literal

Corruption = Literal[
    "gaussian_noise", "shot_noise", "impulse_noise",
    "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
    "snow", "frost", "fog", "brightness",
    "contrast", "elastic", "pixelate", "jpeg",
    "gamma", "lighting_gradient",
]  # fmt: skip
Severity = Literal[1, 2, 3, 4, 5]
Constants = Literal["imagenet-c", "cifar-10-c"]

COMMON: tuple[Corruption, ...] = (
    "gaussian_noise", "shot_noise", "impulse_noise",
    "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
    "snow", "frost", "fog", "brightness",
    "contrast", "elastic", "pixelate", "jpeg",
)  # fmt: skip
"""The 15 of the paper, whose mean its mCE is."""
LIGHTING: tuple[Corruption, ...] = ("brightness", "contrast", "gamma", "lighting_gradient")
"""Shifts of light: two of the 15, and two of dlaudit's own."""
FAMILIES: dict[str, tuple[Corruption, ...]] = {"common": COMMON, "lighting": LIGHTING}

SIDE: dict[Constants, int] = {"imagenet-c": 224, "cifar-10-c": 32}

OWN: dict[Corruption, tuple[tuple[float, ...], ...]] = {
    # No published set has these two: the exponent, and the share of light lost at the dark edge.
    "gamma": ((1.3,), (1.7,), (2.2,), (3.0,), (4.0,)),
    "lighting_gradient": ((0.3,), (0.45,), (0.6,), (0.75,), (0.9,)),
}

SEVERITIES: dict[Constants, dict[Corruption, tuple[tuple[float, ...], ...]]] = {
    "imagenet-c": {
        "gaussian_noise": ((0.08,), (0.12,), (0.18,), (0.26,), (0.38,)),
        "shot_noise": ((60,), (25,), (12,), (5,), (3,)),
        "impulse_noise": ((0.03,), (0.06,), (0.09,), (0.17,), (0.27,)),
        "defocus_blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
        "glass_blur": ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
        "motion_blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        # Enlargements by 1, 1 + step, …: as many as floating point made of the published ranges.
        "zoom_blur": ((12, 0.01), (16, 0.01), (11, 0.02), (13, 0.02), (11, 0.03)),
        "snow": (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8), (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7), (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        "frost": ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
        "fog": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
        "brightness": ((0.1,), (0.2,), (0.3,), (0.4,), (0.5,)),
        "contrast": ((0.4,), (0.3,), (0.2,), (0.1,), (0.05,)),
        # Fractions of 244 pixels, as the authors have it.
        "elastic": (
            (488, 170.8, 24.4), (488, 19.52, 48.8), (12.2, 2.44, 4.88), (17.08, 2.44, 4.88),
            (29.28, 2.44, 4.88),
        ),
        "pixelate": ((0.6,), (0.5,), (0.4,), (0.3,), (0.25,)),
        "jpeg": ((25,), (18,), (15,), (10,), (7,)),
        **OWN,
    },
    "cifar-10-c": {
        "gaussian_noise": ((0.04,), (0.06,), (0.08,), (0.09,), (0.10,)),
        "shot_noise": ((500,), (250,), (100,), (75,), (50,)),
        "impulse_noise": ((0.01,), (0.02,), (0.03,), (0.05,), (0.07,)),
        "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        "zoom_blur": ((7, 0.01), (12, 0.01), (16, 0.01), (21, 0.01), (26, 0.01)),
        "snow": (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95), (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9), (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        "frost": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        "brightness": ((0.05,), (0.1,), (0.15,), (0.2,), (0.3,)),
        "contrast": ((0.75,), (0.5,), (0.4,), (0.3,), (0.15,)),
        "elastic": (
            (0, 0, 2.56), (1.6, 6.4, 2.24), (2.56, 1.92, 1.92), (3.2, 1.28, 1.6), (3.2, 0.96, 0.96),
        ),
        "pixelate": ((0.95,), (0.9,), (0.85,), (0.75,), (0.65,)),
        "jpeg": ((80,), (65,), (58,), (50,), (40,)),
        **OWN,
    },
}  # fmt: skip


def nearest_constants(height: int, width: int) -> Constants:
    """The set whose pictures are nearer in size, by ratio: up to 84 pixels CIFAR-10-C."""
    side = min(height, width)
    return "cifar-10-c" if side * side < SIDE["cifar-10-c"] * SIDE["imagenet-c"] else "imagenet-c"

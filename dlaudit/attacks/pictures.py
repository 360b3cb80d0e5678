"""Failures as pictures: clean + difference magnified = adversarial, side by side.

Knows arrays of pixels; never how the failure was found. Kept only where the plan says so. The row is
that of Goodfellow et al. 2015, figure 1: a panda, a little noise, and what is taken for a gibbon.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np

from dlaudit.audit.bench import Bench
from dlaudit.audit.record import Artifact

SIDE = 112
"""Panels are enlarged by a whole factor to at least so many pixels, so that digits can be seen."""
SIGN = (128, 128, 128, 255)
"""Colour of the signs between the panels, on nothing: they can be seen on white and on black."""


class Failure(NamedTuple):
    """One fooled sample; tuples sort the most convincing first: small budget, high confidence.

    doubt: 1 - confidence of the wrong label; clean_confidence, doubt: None where there are no logits.
    """

    epsilon: float
    doubt: float
    id: str
    label: int
    predicted: int
    clean_confidence: float | None
    confidence: float | None
    norm: str
    clean: np.ndarray
    adversarial: np.ndarray


class Pictures:
    """The most convincing failures seen so far, at most ``limit`` of them."""

    def __init__(self, bench: Bench) -> None:
        """Nothing is kept unless the plan says ``keep_samples`` and the data are images."""
        self._bench = bench
        self._limit = bench.keep_samples if "images" in bench.data.offers else 0
        self._kept: list[Failure] = []

    def offer(self, failures: Iterator[Failure]) -> None:
        """Keep the best of these and of those kept before."""
        if self._limit:
            ranked = sorted(
                [*self._kept, *failures], key=lambda one: (one.epsilon, one.doubt, one.id)
            )
            self._kept = ranked[: self._limit]

    def artifacts(self) -> Iterator[Artifact]:
        """One PNG per failure, with a caption and a text for those who cannot see it.

        Beside them the same words as a list in JSON, from which a report writes the labels below the
        panels.
        """
        told = []
        for failure in self._kept:
            picture = side_by_side(failure.clean, failure.adversarial, self._bench.model.bounds)
            if picture is None:
                return
            content, factor = picture
            before = said(self._bench.classes, failure.label, failure.clean_confidence)
            after = said(self._bench.classes, failure.predicted, failure.confidence)
            budget = f"{failure.norm} ε = {failure.epsilon:.4g}"
            kept = self._bench.keep(
                f"{self._bench.run}.failure.{failure.id}", content, media_type="image/png",
                caption=f"Sample {failure.id}: {before} becomes {after} within {budget}. Left: clean; "
                f"middle: difference, magnified {factor:.3g} times around grey; right: adversarial.",
                alt=f"Sample {failure.id}, decided as {before} when clean and as {after} after a "
                f"perturbation within {budget}: clean, difference magnified {factor:.3g} times, "
                f"adversarial.",
            )  # fmt: skip
            told.append({
                "picture": kept.sha256, "sample": failure.id, "norm": failure.norm,
                "epsilon": failure.epsilon, "magnified": factor,
                "label": named(self._bench.classes, failure.label),
                "confidence": failure.clean_confidence,
                "adversarial": named(self._bench.classes, failure.predicted),
                "adversarial_confidence": failure.confidence,
            })  # fmt: skip
            yield kept
        if told:
            yield self._bench.keep(
                f"{self._bench.run}.failures", json.dumps(told, ensure_ascii=False).encode(),
                media_type="application/json",
                caption=f"{self._bench.run}: labels and confidences of the failures that are drawn.",
            )  # fmt: skip


def named(classes: tuple[str, ...], index: int) -> str:
    """A class by its name, else by its index."""
    return classes[index] if index < len(classes) else str(index)


def said(classes: tuple[str, ...], index: int, confidence: float | None) -> str:
    """A label in words: its name, and the softmax confidence where there is one."""
    name = f"“{named(classes, index)}”" if index < len(classes) else f"class {index}"
    return name if confidence is None else f"{name} ({confidence:.1%})"


def confidences(logits: np.ndarray | None, labels: np.ndarray) -> list[float] | None:
    """Softmax of (B, C) logits at (B,) labels."""
    if logits is None:
        return None
    scores = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return [float(value) for value in scores[np.arange(len(labels)), labels] / scores.sum(axis=1)]


def side_by_side(
    clean: np.ndarray, adversarial: np.ndarray, bounds: tuple[Any, Any] | None
) -> tuple[bytes, float] | None:
    """PNG bytes of clean + difference = adversarial, and how often the difference was magnified.

    clean, adversarial: (H, W), (C, H, W) or (H, W, C). None for any other shape. bounds: what is
    shown black and white; without them, the smallest and largest value of the pair. Between panels
    of width w stand signs w // 4 wide on a transparent ground.
    """
    from PIL import Image

    ends = (clean, adversarial) if bounds is None else bounds
    low, high = float(np.min(ends[0])), float(np.max(ends[1]))
    if bounds is None:
        low, high = min(low, float(adversarial.min())), max(high, float(clean.max()))
    span = (high - low) or 1.0
    difference = adversarial.astype(np.float64) - clean
    factor = span / (2 * float(np.abs(difference).max()) or span)
    panels = [
        pixels(values)
        for values in (
            (clean - low) / span,
            0.5 + difference * factor / span,
            (adversarial - low) / span,
        )
    ]
    shown = [panel for panel in panels if panel is not None]
    if len(shown) < len(panels):
        return None
    height, width = shown[0].shape[:2]
    times = max(1, -(-SIDE // max(height, width)))
    first, second, third = (opaque(panel).repeat(times, 0).repeat(times, 1) for panel in shown)
    size = (height * times, width * times // 4)
    strip = np.concatenate([first, sign(*size, "+"), second, sign(*size, "="), third], axis=1)
    buffer = io.BytesIO()
    Image.fromarray(strip).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue(), factor


def opaque(panel: np.ndarray) -> np.ndarray:
    """(H, W, 3) bytes -> (H, W, 4), nothing of it transparent."""
    return np.concatenate([panel, np.full_like(panel[..., :1], 255)], axis=-1)


def sign(height: int, width: int, which: Literal["+", "="]) -> np.ndarray:
    """A plus or an equals sign in the middle of a transparent ground: (height, width, 4) bytes."""
    ground = np.zeros((height, width, 4), dtype=np.uint8)
    arm, half = max(1, width // 4), max(1, width // 24)
    y, x = height // 2, width // 2
    bars = [(y, half)] if which == "+" else [(y - arm // 2, half), (y + arm // 2, half)]
    for middle, thick in bars:
        ground[middle - thick : middle + thick, x - arm : x + arm] = SIGN
    if which == "+":
        ground[y - arm : y + arm, x - half : x + half] = SIGN
    return ground


def pixels(values: np.ndarray) -> np.ndarray | None:
    """Values in [0, 1] as (H, W, 3) bytes; channels that are no colours are averaged to grey."""
    if values.ndim == 3:
        colours = (1, 3)
        channel_first = values.shape[0] in colours or values.shape[-1] not in colours
        values = np.moveaxis(values, 0, -1) if channel_first else values
        values = values if values.shape[-1] == 3 else values.mean(axis=-1)
    if values.ndim == 2:
        values = np.repeat(values[:, :, None], 3, axis=2)
    if values.ndim != 3:
        return None
    shown: np.ndarray = np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return shown

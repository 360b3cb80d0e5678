"""The inputs that a threat model allows around clean ones, exact in the dtype that is deployed.

Knows norms and valid ranges; never a model. Rounding always goes towards the clean input, so an
example is inside by its stored numbers, not up to a tolerance that grows with the inputs.
"""

from __future__ import annotations

import math
from typing import Any, Self

import torch
from torch import Tensor

from dlaudit.attacks.base import Norm, Threat
from dlaudit.attacks.planes import Planes
from dlaudit.attacks.window import kept, share_of
from dlaudit.errors import NonFinite

TOLERANCE = 1e-9
"""Relative slack when a norm is recomputed in float64: the rounding of a sum, nothing more."""


class Ball:
    """All x + delta with ‖delta‖ <= epsilon, inside the valid range of inputs.

    With a scale in the threat model it is ‖delta / scale‖ <= epsilon, and steps, random starts and
    distances are in units of the scale; where the scale is 0, nothing moves. A clean input that
    already lies outside the range is allowed where it is, never further out. The norm ``patch`` is no
    norm: all that changes lies in one square window of a picture, epsilon of its area.
    """

    def __init__(self, x: Tensor, threat: Threat) -> None:
        """x: (B, *input) floating-point tensor, the clean inputs; B may be 0.

        Raises ValueError on a scale that is negative, not finite or of another shape.
        """
        self.x = x
        self.norm: Norm = threat.norm
        self.epsilon = threat.epsilon
        self.scale = None if threat.scale is None else checked_scale(threat.scale, x)
        self.low, self.high = self._box(threat.bounds)

    def _box(self, bounds: tuple[Any, Any] | None) -> tuple[Tensor, Tensor]:
        """The valid range around each input, in linf cut to the ball: two tensors like x."""
        x = self.x
        low, high = torch.full_like(x, -torch.inf), torch.full_like(x, torch.inf)
        if bounds is not None:
            bottom, top = (
                valid_end(end, x, up=up) for end, up in zip(bounds, (True, False), strict=True)
            )
            low, high = torch.minimum(bottom, x), torch.maximum(top, x)
        # Only in linf is the ball itself a box; cutting the others to one would bend directions.
        if self.norm == "linf":
            reach = torch.full_like(x, self.epsilon, dtype=torch.float64)
            if self.scale is not None:
                reach = reach * self.scale
            low = torch.maximum(low, moved_inward(x, -reach))
            high = torch.minimum(high, moved_inward(x, reach))
        elif self.scale is not None:
            fixed = self.scale == 0
            low, high = torch.where(fixed, x, low), torch.where(fixed, x, high)
        return low, high

    def rows(self, keep: Tensor) -> Self:
        """The balls around some of the samples. keep: (B,) bool or positions."""
        ball = object.__new__(type(self))
        ball.norm, ball.epsilon = self.norm, self.epsilon
        ball.x, ball.low, ball.high = self.x[keep], self.low[keep], self.high[keep]
        one_for_all = self.scale is None or len(self.scale) != len(self.x)
        ball.scale = self.scale if self.scale is None or one_for_all else self.scale[keep]
        return ball

    def widened(self, factor: float) -> Self:
        """The balls of a larger radius around the same inputs. Not for linf, whose box holds epsilon."""
        ball = self.rows(torch.arange(len(self.x), device=self.x.device))
        ball.epsilon = factor * self.epsilon
        return ball

    def project(self, candidate: Tensor) -> Tensor:
        """An allowed example for every candidate; an allowed candidate comes back unchanged.

        candidate: like x, finite. The nearest point for linf and, where the range does not cut the
        ball, for l2 (scaling), l1 (Duchi et al. 2008) and l0 (the largest values stay); with a scale,
        the nearest as measured by delta / scale. For a patch, the window with most of the change stays.
        """
        inside = candidate.clamp(self.low, self.high)
        if self.norm == "linf":
            return inside
        if self.norm == "patch":
            return self._one_window(inside)
        delta = self._delta(inside).flatten(1)
        outside = norm_of(delta, self.norm) > self.epsilon * (1 + TOLERANCE)
        if not outside.any():
            return inside
        shrunk = shrink(delta, self.norm, self.epsilon).view_as(inside)
        if self.scale is not None:
            shrunk = shrunk * self.scale
        nearer = moved_inward(self.x, shrunk).clamp(self.low, self.high)
        return torch.where(outside.view(-1, *[1] * (inside.ndim - 1)), nearer, inside)

    def stored(self, example: Tensor, levels: int, ends: tuple[float, float]) -> Tensor:
        """The example as it comes back from storage in ``levels`` equal steps, still in the ball.

        Every changed value goes to the nearest level that the ball allows: in linf inside its box, in
        other norms no further from the clean value than it was. Where there is none, it is clean again.
        """
        low, span = ends[0], ends[1] - ends[0]
        clean, wanted = self.x.double(), (example.double() - low) / span * levels
        towards = torch.where(example > self.x, wanted.floor(), wanted.ceil())
        kept = self.x
        for level in (towards, wanted.round()):
            value = (low + level.clamp(0, levels) * span / levels).to(example.dtype)
            allowed = (value >= self.low) & (value <= self.high)
            if self.norm != "linf":
                allowed &= (value.double() - clean).abs() <= (example.double() - clean).abs()
            kept = torch.where(allowed & (example != self.x), value, kept)
        return kept

    def step(self, x: Tensor, gradient: Tensor, size: float | Tensor) -> Tensor:
        """One step of steepest ascent of length ``size`` in this norm, projected back (linf, l2).

        size: one number, or (B,), one for each sample. Raises NonFinite if the gradient is NaN or
        infinite: a step along it would mean nothing.
        """
        # One sum tells of any NaN or infinity; only if it overflowed by itself is each value asked.
        if not (torch.isfinite(gradient.sum()) or torch.isfinite(gradient).all()):
            message = f"the gradient is NaN or infinite on a batch of {len(x)}"
            raise NonFinite(message)
        if self.norm == "linf":
            direction = gradient.sign()
        else:
            # Steepest in delta / scale: there, the slope is the gradient times the scale.
            direction = unit(gradient if self.scale is None else gradient * self.scale.to(gradient))
        if self.scale is not None:
            direction = direction * self.scale.to(x)
        if isinstance(size, Tensor):
            moved = torch.addcmul(x, direction, size.view(-1, *[1] * (x.ndim - 1)))
        else:
            moved = torch.add(x, direction, alpha=size)
        return moved.clamp_(self.low, self.high) if self.norm == "linf" else self.project(moved)

    def random(self, generator: torch.Generator) -> Tensor:
        """An example drawn uniformly from the ball (linf, l2), then cut by the valid range.

        generator: on the CPU, so that every device starts from the same points.
        """
        shape, d = self.x.shape, math.prod(self.x.shape[1:])
        if self.norm == "linf":
            delta = torch.rand(shape, generator=generator).mul_(2).sub_(1)
        else:
            radius = torch.rand(len(self.x), generator=generator).pow(1 / max(d, 1))
            delta = unit(torch.randn(shape, generator=generator))
            delta *= radius.view(-1, *[1] * (self.x.ndim - 1))
        if self.scale is not None:
            delta = delta.to(self.x.device) * self.scale
        return self.project(torch.add(self.x, delta.to(self.x), alpha=self.epsilon))

    def on_sphere(self, generator: torch.Generator) -> Tensor:
        """An example in a random direction, epsilon away where the valid range allows (linf, l2).

        The start of Croce & Hein 2020: uniform in the cube (linf) or normal (l2), then stretched.
        """
        shape = self.x.shape
        if self.norm == "linf":
            delta = torch.rand(shape, generator=generator).mul_(2).sub_(1)
            largest = delta.flatten(1).abs().amax(dim=1).clamp_min(torch.finfo(delta.dtype).tiny)
            delta /= largest.view(-1, *[1] * (len(shape) - 1))
        else:
            delta = unit(torch.randn(shape, generator=generator))
        if self.scale is not None:
            delta = delta.to(self.x.device) * self.scale
        return self.project(torch.add(self.x, delta.to(self.x), alpha=self.epsilon))

    def distance(self, example: Tensor) -> Tensor:
        """‖example - x‖, or ‖(example - x) / scale‖, per sample, recomputed in float64: (B,).

        For a patch, the area share of the smallest square around all pixels that changed.
        """
        if self.norm == "patch":
            return share_of(Planes.of(self.x.shape[1:]).spread(example != self.x))
        return norm_of(self._delta(example).flatten(1), self.norm)

    def _one_window(self, candidate: Tensor) -> Tensor:
        """Clean pixels outside of one window of each picture, where more than that changed."""
        layout = Planes.of(self.x.shape[1:])
        outside = self.distance(candidate) > self.epsilon * (1 + TOLERANCE)
        delta = layout.spread(candidate.double() - self.x.double())
        allowed = (kept(delta, self.epsilon) | ~outside.view(-1, 1, 1, 1)).expand_as(delta)
        return torch.where(layout.restored(allowed), candidate, self.x)

    def _delta(self, example: Tensor) -> Tensor:
        """(example - x) / scale in float64, infinite where something moved that may not."""
        delta = example.double() - self.x.double()
        return delta if self.scale is None else torch.where(delta == 0, delta, delta / self.scale)

    def contains(self, example: Tensor) -> Tensor:
        """(B,) bool: finite, in the valid range, and no further than epsilon (float64)."""
        near = self.distance(example) <= self.epsilon * (1 + TOLERANCE)
        valid = ((example >= self.low) & (example <= self.high)).flatten(1).all(dim=1)
        return near & valid


def checked_scale(scale: Any, x: Tensor) -> Tensor:
    """A scale as a float64 tensor (1 or B, *1 or input) on x's device.

    Raises ValueError if it is negative, not finite, or cannot be spread over x.
    """
    given = torch.as_tensor(scale, dtype=torch.float64, device=x.device)
    lone = (1,) * (x.ndim - given.ndim)
    spread = given.view(*lone, *given.shape)
    fits = spread.ndim == x.ndim and all(
        have in {1, want} for have, want in zip(spread.shape, x.shape, strict=True)
    )
    if not fits or not (torch.isfinite(given).all() and (given >= 0).all()):
        message = (
            f"scale: expected finite numbers >= 0 that can be spread over inputs of shape "
            f"{tuple(x.shape)}, got shape {tuple(given.shape)}, {given.flatten()[:3].tolist()} …"
        )
        raise ValueError(message)
    return spread


def valid_end(end: Any, x: Tensor, *, up: bool) -> Tensor:
    """One end of the valid range in x's dtype, rounded into the range.

    end: a number, or an array like one input. up: true for the lower end.
    """
    exact = torch.as_tensor(end, dtype=torch.float64, device=x.device)
    rounded = exact.to(x.dtype)
    beyond = rounded.double() < exact if up else rounded.double() > exact
    inward = torch.full_like(rounded, torch.inf if up else -torch.inf)
    return torch.where(beyond, torch.nextafter(rounded, inward), rounded)


def moved_inward(x: Tensor, delta: Tensor) -> Tensor:
    """x + delta in x's dtype, each value rounded so that it moves no further than delta says.

    delta: like x, float64.
    """
    clean = x.double()
    moved = (clean + delta).to(x.dtype)
    too_far = (moved.double() - clean).abs() > delta.abs()
    return torch.where(too_far, torch.nextafter(moved, x), moved)


def norm_of(delta: Tensor, norm: Norm) -> Tensor:
    """(B, d) float64 -> (B,). l0 counts values, not pixels."""
    order = {"linf": torch.inf, "l2": 2.0, "l1": 1.0, "l0": 0.0}[norm]
    sizes: Tensor = torch.linalg.vector_norm(delta, ord=order, dim=1)
    return sizes


def unit(direction: Tensor) -> Tensor:
    """Each sample's direction at l2 length 1; zero stays zero.

    Scaled by its largest value first: the square of a gradient of 1e-30 is zero in float32.
    """
    flat = direction.flatten(1)
    tiny = torch.finfo(flat.dtype).tiny
    flat = flat / flat.abs().amax(dim=1, keepdim=True).clamp_min(tiny)
    length: Tensor = torch.linalg.vector_norm(flat, dim=1, keepdim=True).clamp_min(tiny)
    return (flat / length).view_as(direction)


def shrink(delta: Tensor, norm: Norm, epsilon: float) -> Tensor:
    """The nearest perturbations of norm epsilon, none of whose values grows. delta: (B, d) float64."""
    size = delta.abs()
    if norm == "l0":
        kept = min(int(epsilon), size.shape[1])
        largest = size.topk(kept, dim=1).indices
        return torch.zeros_like(delta).scatter(1, largest, delta.gather(1, largest))
    if norm == "l1":
        # Duchi et al. 2008, fig. 1: soft-thresholding at the theta that brings the sum to epsilon.
        ordered = size.sort(dim=1, descending=True).values
        excess = ordered.cumsum(dim=1) - epsilon
        count = torch.arange(1, size.shape[1] + 1, dtype=size.dtype, device=size.device)
        last = (ordered * count > excess).sum(dim=1, keepdim=True).clamp_min(1)
        theta = (excess.gather(1, last - 1) / last).clamp_min(0)
        delta = delta.sign() * (size - theta).clamp_min(0)
    # In l2 this is all; in l1 it takes back what cancelled where epsilon is tiny beside delta.
    length = norm_of(delta, norm).unsqueeze(1).clamp_min(torch.finfo(delta.dtype).tiny)
    return delta * (epsilon / length).clamp_max(1)

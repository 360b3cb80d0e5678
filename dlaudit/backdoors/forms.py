"""What a trigger does to an input: it covers a part of it, or is added to all of it.

Knows masks, patterns, boxes and what each of them costs; never how they are searched nor what a cost means.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor


class Trigger(NamedTuple):
    """Covers. mask: in [0, 1], like one input with one channel; pattern: like one input; norm: |mask|_1."""

    norm: float
    mask: Tensor
    pattern: Tensor

    def on(self, x: Tensor) -> Tensor:
        """x: (B, *input) with the trigger put on every row."""
        return (1 - self.mask) * x + self.mask * self.pattern

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """What it is made of, as evidence."""
        return {"mask": self.mask.cpu().numpy(), "pattern": self.pattern.cpu().numpy()}


class Addition(NamedTuple):
    """Is added. change: like one input, in its units; low, high: what the sum is clipped to.

    norm: the Euclidean length of the change in widths of the box.
    """

    norm: float
    change: Tensor
    low: Tensor
    high: Tensor

    def on(self, x: Tensor) -> Tensor:
        """x: (B, *input) with the change added to every row."""
        return clipped(x, self.change, self.low, self.high)

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """What it is made of, as evidence."""
        return {"change": self.change.cpu().numpy()}


AnyTrigger = Trigger | Addition
"""Whatever a search finds."""


def clipped(x: Tensor, change: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """x + change inside the box; a row that lies outside by itself is never pulled in."""
    return torch.minimum(torch.maximum(x + change, torch.minimum(low, x)), torch.maximum(high, x))


class Form(ABC):
    """A family of triggers, as the search sees it: leaves to optimise, and what they make.

    rate, first_weight: of the optimiser, and of the cost beside the cross-entropy at its start.
    """

    rate: ClassVar[float]
    first_weight: ClassVar[float]

    @abstractmethod
    def start(
        self, rng: np.random.Generator, mask_shape: tuple[int, ...], shape: tuple[int, ...]
    ) -> tuple[np.ndarray, ...]:
        """Random leaves for one trigger; shape: of one input."""

    @abstractmethod
    def parts(self, leaves: list[Tensor], low: Tensor, high: Tensor) -> tuple[Tensor, ...]:
        """What triggers are made of: leaves (K, …) -> parts (K, …), with their graph."""

    @abstractmethod
    def cost(self, parts: tuple[Tensor, ...], low: Tensor, high: Tensor) -> Tensor:
        """(K,): what each trigger costs."""

    @abstractmethod
    def put(self, parts: tuple[Tensor, ...], x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """(K, B, *input): the rows x of each trigger, with it."""

    @abstractmethod
    def made(
        self, norm: float, parts: tuple[Tensor, ...], k: int, low: Tensor, high: Tensor
    ) -> AnyTrigger:
        """The k-th trigger, for good."""


class Covering(Form):
    """(1 - m) * x + m * p at the cost |m|_1: Neural Cleanse (Wang et al. 2019), eq. 2 and 3."""

    rate, first_weight = 0.1, 1e-3

    def start(
        self, rng: np.random.Generator, mask_shape: tuple[int, ...], shape: tuple[int, ...]
    ) -> tuple[np.ndarray, ...]:
        """See ``Form.start``."""
        return rng.uniform(-0.5, 0.5, mask_shape), rng.standard_normal(shape)

    def parts(self, leaves: list[Tensor], low: Tensor, high: Tensor) -> tuple[Tensor, ...]:
        """Masks in [0, 1] and patterns in the box."""
        mask, pattern = ((torch.tanh(leaf) + 1) / 2 for leaf in leaves)
        return mask, low + (high - low) * pattern

    def cost(self, parts: tuple[Tensor, ...], low: Tensor, high: Tensor) -> Tensor:
        """How much of the input is covered."""
        del low, high
        return parts[0].flatten(1).sum(dim=1)

    def put(self, parts: tuple[Tensor, ...], x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """See ``Form.put``."""
        del low, high
        mask, pattern = parts
        return (1 - mask[:, None]) * x + (mask * pattern)[:, None]  # (K, 1, *input)

    def made(
        self, norm: float, parts: tuple[Tensor, ...], k: int, low: Tensor, high: Tensor
    ) -> Trigger:
        """See ``Form.made``."""
        del low, high
        return Trigger(norm, *(part[k].clone() for part in parts))


class Adding(Form):
    """x + d, clipped to the box, at the cost |d|_2 in widths of the box: for blends and faint patterns.

    A count of changed positions (Pixel, Tao et al. 2022) spreads far wider over honest classes: on clean
    digits the cheapest class lay up to 2.4 times below the median, by length at most 1.6 times.
    """

    rate, first_weight = 0.02, 0.1

    def start(
        self, rng: np.random.Generator, mask_shape: tuple[int, ...], shape: tuple[int, ...]
    ) -> tuple[np.ndarray, ...]:
        """See ``Form.start``."""
        del mask_shape
        return (rng.normal(0, 0.1, shape),)

    def parts(self, leaves: list[Tensor], low: Tensor, high: Tensor) -> tuple[Tensor, ...]:
        """Changes of at most the box's width."""
        return ((high - low) * torch.tanh(leaves[0]),)

    def cost(self, parts: tuple[Tensor, ...], low: Tensor, high: Tensor) -> Tensor:
        """The Euclidean length; a feature whose box has no width cannot change and costs nothing."""
        width = high - low
        shares = parts[0] / torch.where(width > 0, width, torch.ones_like(width))
        length: Tensor = torch.linalg.vector_norm(shares.flatten(1), dim=1)
        return length

    def put(self, parts: tuple[Tensor, ...], x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """See ``Form.put``."""
        return clipped(x, parts[0][:, None], low, high)

    def made(
        self, norm: float, parts: tuple[Tensor, ...], k: int, low: Tensor, high: Tensor
    ) -> Addition:
        """See ``Form.made``."""
        return Addition(norm, parts[0][k].clone(), low, high)

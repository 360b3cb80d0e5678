"""Adversarial patches: a square of any content, stuck on for all inputs or made for each (Brown 2017).

Knows how a patch is learned and where it is tried; the window, the range and the predictions are held
to by the harness.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from dlaudit.attacks.base import Attack, Found, Norm, Threat
from dlaudit.attacks.learned import Learned
from dlaudit.audit.parts import Batch, Epsilon, Model, Needs, Yielded
from dlaudit.audit.record import Cost, Scalar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dlaudit.audit.bench import Bench

FIRST = 0.2
"""The first step of a universal patch, as a share of the valid range; steps shrink to nothing."""


class Patch(Learned, frozen=True, kw_only=True):
    """A square patch of any content: one sticker for all inputs, or the worst for each.

    epsilon: the share of the picture's area. mode: ``universal`` learns one sticker on some samples,
    at random places, turns and sizes (expectation over transformations), and tries it on the others at
    ``places`` random placements each; ``sample`` searches ``places`` windows of every sample, those
    where the gradient promises most, with ``steps`` steps in each. rotation: degrees to either side;
    smallest: the least share of the side that a sticker is shrunk to.
    """

    needs: ClassVar[Needs] = Needs(model=("logits", "gradients"), data=("images", "labels"))
    norms: ClassVar[tuple[Norm, ...]] = ("patch",)

    norm: Norm = "patch"
    epsilon: Epsilon = Epsilon(0.05)
    mode: Literal["universal", "sample"] = "universal"
    places: int = 10
    rotation: float = 20.0
    smallest: float = 0.8

    def __post_init__(self) -> None:
        """Refuse a patch of no place, and of more than the picture."""
        super().__post_init__()
        if self.places < 1:
            message = f"places: expected a number >= 1, got {self.places}"
            raise ValueError(message)
        if self.epsilon.values[-1] > 1:
            message = (
                f"epsilon: expected a share of the area, at most 1, got {self.epsilon.values[-1]}"
            )
            raise ValueError(message)
        for name, value, low, high in (
            ("rotation", self.rotation, 0, 180), ("smallest", self.smallest, 0.1, 1),
        ):  # fmt: skip
            if not low <= value <= high:
                message = f"{name}: expected a number from {low} to {high}, got {value}"
                raise ValueError(message)
        if self.mode == "sample" and self.target is not None:
            message = f"target: a patch for each sample knows none: expected mode universal, got {self.mode}"
            raise ValueError(message)

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """See ``Learned.measure``; a patch for each sample has nothing to learn beforehand."""
        yield from (Attack if self.mode == "sample" else Learned).measure(self, bench)

    def conditions(self, epsilon: float) -> dict[str, Scalar]:
        """See ``Attack.conditions``; what a mode does not use does not stand beside its numbers."""
        unused = {"learn", "batch", "rotation", "smallest"} if self.mode == "sample" else set()
        stated = {k: v for k, v in super().conditions(epsilon).items() if k not in unused}
        return {**stated, "epsilon_means": "share of the picture's area, one square window"}

    def search(
        self, model: Model, batch: Batch, threat: Threat, generator: torch.Generator
    ) -> Found:
        """See ``Attack.search``."""
        if self.mode == "universal":
            return super().search(model, batch, threat, generator)
        from dlaudit.attacks.patch_search import strongest

        return strongest(
            model, batch.x, batch.y, threat, places=self.places, steps=self.steps,
            generator=generator,
        )  # fmt: skip

    def pattern(
        self, model: Model, batch: Batch, threat: Threat, generator: torch.Generator
    ) -> Tensor:
        """See ``Learned.pattern``: (C, s, s) in [0, 1] of the valid range."""
        import torch

        from dlaudit.attacks.crowd import capped_lead, capped_margin, learned, usual_margin
        from dlaudit.attacks.sticker import Canvas, placed, stuck
        from dlaudit.attacks.window import side_of

        canvas = Canvas.of(batch.x, threat.bounds)
        layout, goal = canvas.layout, self.aim(model.classes)
        side = side_of(threat.epsilon, layout.height, layout.width)
        start = torch.rand(layout.channels, side, side, generator=generator).to(batch.x)
        if side == 0:
            return start
        ceiling = usual_margin(model, batch.x, batch.y)

        def put(pattern: Tensor, x: Tensor) -> Tensor:
            placement = placed(
                len(x), side, layout, rotation=self.rotation, smallest=self.smallest,
                generator=generator,
            )  # fmt: skip
            return stuck(pattern, x, canvas, placement)

        def step(pattern: Tensor, slope: Tensor, number: int) -> Tensor:
            size = FIRST * (1 - number / self.steps)
            return (pattern + size * slope.sign()).clamp(0, 1)

        return learned(
            model, batch.x, batch.y if goal is None else torch.full_like(batch.y, goal),
            start=start, put=put, step=step, steps=self.steps, batch=self.batch,
            loss=capped_margin(ceiling) if goal is None else capped_lead(ceiling),
            generator=generator,
        )  # fmt: skip

    def apply(
        self, model: Model, batch: Batch, threat: Threat, generator: torch.Generator, *, pattern: Tensor
    ) -> Found:  # fmt: skip
        """See ``Learned.apply``: a sample keeps the first placement that fools it, else the worst."""
        import torch

        from dlaudit.attacks.losses import margin
        from dlaudit.attacks.sticker import Canvas, placed, stuck

        canvas, side = Canvas.of(batch.x, threat.bounds), pattern.shape[-1]
        goal = self.aim(model.classes)
        goals = None if goal is None else torch.full_like(batch.y, goal)
        found, n = batch.x.clone(), len(batch.y)
        forward = torch.zeros(n, dtype=torch.float64)
        worst = torch.full((n,), -torch.inf, device=batch.x.device)
        open_ = torch.arange(n, device=batch.x.device)
        for _ in range(self.places if side else 0):
            # Drawn for all, so that one sample's luck does not depend on the others'.
            placement = placed(
                n, side, canvas.layout, rotation=self.rotation, smallest=self.smallest,
                generator=generator,
            )  # fmt: skip
            here = type(placement)(*(column[open_.cpu()] for column in placement))
            tried = stuck(pattern, batch.x[open_], canvas, here)
            logits = model.logits(tried)
            forward[open_.cpu()] += 1
            loss = (
                margin(logits, batch.y[open_]) if goals is None else -margin(logits, goals[open_])
            )
            worse = loss > worst[open_]
            found[open_[worse]], worst[open_[worse]] = tried[worse], loss[worse].to(worst)
            open_ = open_[loss <= 0]
            if not len(open_):
                break
        return Found(found, forward, torch.zeros(n, dtype=torch.float64))

    def tries(self) -> int:
        """See ``Learned.tries``."""
        return super().tries() + self.places

    def passes(self, *, n: int, classes: int) -> Cost:
        """See ``Learned.passes``; for each sample: one gradient, then the steps in every window."""
        if self.mode == "universal":
            return super().passes(n=n, classes=classes)
        attacked = self.attacked(n)
        return Cost(
            forward=attacked * (1 + self.places * (self.steps + 1) + 1),
            backward=attacked * (1 + self.places * self.steps),
        )

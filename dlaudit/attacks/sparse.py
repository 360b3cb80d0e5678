"""An attack that changes as few values as it can (l0), by as much as the valid range allows.

Knows its schedule and what counts as one value; how examples are scored is the harness's business.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from msgspec import structs

from dlaudit.attacks.base import Attack, Found, Norm, Terms, Threat
from dlaudit.audit.parts import Batch, Epsilon, Model, Needs
from dlaudit.audit.record import Cost, Scalar

if TYPE_CHECKING:
    import torch

    from dlaudit.audit.bench import Bench


ROUNDS = 2
"""Times that the ends of values are chosen anew, with the slope at the last choice."""


class Sparse(Attack, frozen=True, kw_only=True):
    """Changes as few values as possible: sigma-zero (Cinà et al. 2024), then a random search.

    Towards each of the nearest classes it first moves the values that a linear model would move: that
    alone is exact where the model is linear, and on small nets the two together find what trying every
    pair of values finds.
    epsilon: how many values may change; one search serves the whole curve. pixels: count the places of
    an image instead, all channels of a place together. search_by: ``gradient`` or ``random`` (Sparse-RS,
    Croce et al. 2022, for models that give logits only), or one after the other, because on models that
    hide their gradients the second finds what the first does not. steps: of the first run, half as many
    for each of the ``targets`` nearest classes. queries: of the random search.
    """

    needs: ClassVar[Needs] = Needs(model=("logits", "gradients"), data=("labels",))
    norms: ClassVar[tuple[Norm, ...]] = ("l0",)
    scales: ClassVar[bool] = False
    minimal: ClassVar[bool] = True

    norm: Norm = "l0"
    epsilon: Epsilon = Epsilon([1, 5, 10, 20])
    pixels: bool = False
    search_by: Literal["both", "gradient", "random"] = "both"
    steps: int = 100
    targets: int = 5
    queries: int = 500

    def __post_init__(self) -> None:
        """Refuse budgets below one value, and numbers that make no search."""
        super().__post_init__()
        if wrong := [one for one in self.epsilon if one % 1]:
            message = f"epsilon: expected whole numbers of values that may change, got {wrong[0]}"
            raise ValueError(message)
        for name, value, least in (
            ("steps", self.steps, 2), ("targets", self.targets, 0), ("queries", self.queries, 1),
        ):  # fmt: skip
            if value < least:
                message = f"{name}: expected a number >= {least}, got {value}"
                raise ValueError(message)

    def missing(
        self, *, model: frozenset[str], data: frozenset[str], train_fn: bool
    ) -> tuple[str, ...]:
        """See ``Check.missing``; the random search needs no gradients."""
        have = model | {"gradients"} if self.search_by == "random" else model
        return super().missing(model=have, data=data, train_fn=train_fn)

    def terms(self, bench: Bench) -> Terms:
        """See ``Attack.terms``; a budget of pixels allows all channels of so many places.

        An l0 budget says nothing of how far a value may move: where the model declares no finite range,
        each value keeps to those that the test split holds.
        """
        from dlaudit.attacks.pixels import Pixels, finite, observed

        terms = super().terms(bench)
        seen = None if finite(bench.model.bounds) else observed(bench.data.batches("test"))

        def threat(batch: Batch, epsilon: float) -> Threat:
            plain = terms.threat(batch, epsilon)
            if seen is not None:
                plain = structs.replace(plain, bounds=seen)
            if not self.pixels:
                return plain
            channels = batch.x.shape[1] if batch.x.ndim == 4 else 1
            rules = Pixels(int(epsilon))
            return structs.replace(plain, epsilon=epsilon * channels, rules=rules)

        stated = {} if seen is None else {"bounds": "as observed in the test split"}
        return terms._replace(threat=threat, stated={**terms.stated, **stated})

    def search(
        self, model: Model, batch: Batch, threat: Threat, generator: torch.Generator
    ) -> Found:
        """See ``Attack.search``; who cannot be fooled gets the clean input back."""
        import torch

        from dlaudit.attacks.sigma_zero import FewValues

        search = FewValues(model, batch.x, batch.y, threat, pixels=self.pixels)
        enough = min((one for one in self.epsilon if one > 0), default=1.0)
        most = int(self.epsilon.values[-1])
        everyone = torch.arange(len(batch.y), device=batch.y.device)
        if self.search_by != "random":
            rivals = list(search.rivals(self.targets)) if self.targets else []
            for rival in rivals:
                at = everyone[search.fewest > enough]
                search.corners(at, rival[at], most, rounds=ROUNDS)
            search.descend(everyone[search.fewest > enough], self.steps, enough)
            for rival in rivals:
                at = everyone[search.fewest > enough]
                search.descend(at, max(2, self.steps // 2), enough, rival[at])
        if self.search_by != "gradient":
            search.draw(most, self.queries, enough, generator)
        search.prune(most)
        spent = (search.forward.double(), search.backward.double())
        return Found(search.best, *spent)

    def conditions(self, epsilon: float) -> dict[str, Scalar]:
        """See ``Attack.conditions``."""
        stated = {**super().conditions(epsilon), "counts": "pixels" if self.pixels else "values"}
        unused = {"both": (), "gradient": ("queries",), "random": ("steps", "targets")}[
            self.search_by
        ]
        return {name: value for name, value in stated.items() if name not in unused}

    def passes(self, *, n: int, classes: int) -> Cost:
        """The most it can cost: every run to its end, every value of the largest budget put back once."""
        chosen = n if self.samples is None else min(n, self.samples)
        most = int(self.epsilon.values[-1])
        drawn = 0 if self.search_by == "gradient" else self.queries
        judged = chosen * (drawn + most) + self.attacked(n)
        if self.search_by == "random":
            return Cost(forward=judged, backward=0)
        runs = min(self.targets, classes - 1)
        steps = self.steps + runs * (max(2, self.steps // 2) + ROUNDS)
        looks = 2 + runs * (1 + ROUNDS * (1 + math.ceil(math.log2(max(most, 1)))))
        return Cost(forward=chosen * (steps + looks) + judged, backward=chosen * steps)

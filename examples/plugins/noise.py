"""An attack: random noise, the weakest attacker there is and a floor for every other attack.

dlaudit run audit.toml --plugin noise.py --check noise.uniform_noise
"""

from typing import Annotated

import torch

from dlaudit import Attack, Batch, Meta, Model, Threat


class UniformNoise(Attack):
    """Uniform noise inside the L-infinity ball, the most harmful of several draws."""

    norms = ("linf",)
    draws: Annotated[int, Meta(ge=1)] = 3

    def perturb(
        self, model: Model, batch: Batch, threat: Threat, generator: torch.Generator
    ) -> torch.Tensor:
        """Return the first draw that fools, else the last; the caller clips and scores."""
        found = batch.x
        for _ in range(self.draws):
            noise = torch.rand(batch.x.shape, generator=generator).to(batch.x)
            drawn = batch.x + threat.epsilon * (2 * noise - 1)
            right = model.logits(found).argmax(dim=1) == batch.y  # (B,)
            found = torch.where(right.view(-1, *[1] * (found.ndim - 1)), drawn, found)
        return found

"""The largest lead that any input can give each class, and whether one class's stands out.

Knows gradients, a box of inputs and a law for the leads of honest classes; needs no sample and accuses
nobody. After MM-BD (Wang et al., IEEE S&P 2024), written from its equations:

    r_k = max over x in the box of g_k(x) - max over j != k of g_j(x),     p = 1 - H(max r)^K

where H is a Gamma law fitted to the other classes' leads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dlaudit.audit.parts import Model

RATE = 0.01
"""Of the box's width in each step (MM-BD's); Adam keeps its moments from step to step."""
MINIMUM_CLASSES = 8
"""Of fewer classes no law can be fitted to the others."""
ROWS = 512


class Standing(NamedTuple):
    """The class with the largest lead, and the chance of such a one among so many honest classes."""

    place: int
    p: float


def lead(logits: Tensor, y: Tensor) -> Tensor:
    """(B, C), (B,) -> (B,): how far the logit of y lies above the largest other one."""
    own = logits.gather(1, y[:, None])[:, 0]
    others = logits.scatter(1, y[:, None], -torch.inf).max(dim=1).values
    return own - others


def largest_leads(
    model: Model, like: Tensor, low: Tensor, high: Tensor, *, classes: int, steps: int,
    generators: Sequence[np.random.Generator],
) -> np.ndarray:  # fmt: skip
    """(classes, starts): the lead that each ascent reached at best. One generator for each start.

    like: one input, for its shape, type and device; low, high: broadcast to it. Each start draws one
    random input for all classes; projected ascent by Adam.
    """
    device, shape = like.device, tuple(like.shape)
    drawn = np.stack([rng.random((classes, *shape)) for rng in generators], axis=1)  # (C, S, …)
    width = high - low
    found = []
    goal = torch.arange(classes, device=device).repeat_interleave(len(generators))
    place = torch.as_tensor(drawn).to(like).flatten(0, 1)
    for at, y in zip(torch.split(place, ROWS), torch.split(goal, ROWS), strict=True):
        share = at.clone().requires_grad_()  # of the box's width
        optimiser = torch.optim.Adam([share], lr=RATE, maximize=True)
        best = torch.full((len(y),), -torch.inf, device=device, dtype=like.dtype)
        for _ in range(steps):
            logits, gradient = model.logits_and_gradient(low + width * share.detach(), y, lead)
            best = torch.maximum(best, lead(logits, y).to(best))
            share.grad = gradient * width
            optimiser.step()
            with torch.no_grad():
                share.clamp_(0, 1)
        found.append(best)
    return np.asarray(torch.cat(found).double().cpu().numpy()).reshape(classes, len(generators))


def standing(leads: Sequence[float]) -> Standing | None:
    """The class with the largest lead and its p; None where no law can be fitted.

    leads: r_k. The Gamma law is fitted to all others by maximum likelihood, its place included: with the
    place fixed at 0 two of three clean models fell below 0.05 (measured on digits).
    """
    from scipy.stats import gamma

    r = np.asarray(leads, dtype=np.float64)
    if len(r) < MINIMUM_CLASSES:
        return None
    first = int(r.argmax())
    others = np.delete(r, first)
    if np.ptp(others) == 0:
        return None
    with np.errstate(all="ignore"):
        shape, place, scale = gamma.fit(others)
        below = float(gamma.cdf(r[first], shape, loc=place, scale=scale))
    if not np.isfinite(below):
        return None
    return Standing(first, 1 - below ** len(r))

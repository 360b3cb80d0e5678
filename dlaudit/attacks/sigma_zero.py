"""The fewest values that change a decision: sigma-zero, and a random search where there is no gradient.

Knows inputs in a finite range and what counts as one value; never budgets of a curve or reports.
Papers: Cinà et al. 2024 (sigma-zero), Croce et al. 2022 (Sparse-RS).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from dlaudit.attacks.ball import valid_end
from dlaudit.attacks.base import Threat
from dlaudit.attacks.losses import margin
from dlaudit.audit.parts import Model
from dlaudit.errors import NonFinite, NotOffered

SIGMA = 1e-3
"""Width of the smooth count of values, delta^2 / (delta^2 + sigma) (the paper's)."""
THRESHOLD, RATE, STEP = 0.3, 0.01, 1.0
"""First size below which a change is dropped, how fast it moves, first step: the paper's, in ranges."""
SWAPPED = 0.8
"""Share of the values that the random search exchanges at first (Sparse-RS, alpha)."""


class FewValues:
    """The samples of one batch and the example with the fewest changed values that is known of each.

    fewest: (B,) how many values, or pixels, it changes; infinite where nothing fools yet.
    """

    def __init__(self, model: Model, x: Tensor, y: Tensor, threat: Threat, *, pixels: bool) -> None:
        """x: (B, *input); pixels: count places of an image, whatever their channels (first axis).

        Raises NotOffered without finite bounds, and for pixels of what is no image.
        """
        self.model, self.x, self.y = model, x, y
        if threat.bounds is None:
            raise NotOffered(UNBOUNDED)
        bottom, top = (
            valid_end(end, x, up=up) for end, up in zip(threat.bounds, (True, False), strict=True)
        )
        self.low, self.high = torch.minimum(bottom, x), torch.maximum(top, x)
        if not (torch.isfinite(self.low).all() and torch.isfinite(self.high).all()):
            raise NotOffered(UNBOUNDED)
        if pixels and x.ndim != 4:
            message = f"pixels: expected images (channels, height, width), got {tuple(x.shape[1:])}"
            raise NotOffered(message)
        self.pixels = pixels
        self.span = (self.high - self.low).clamp_min(torch.finfo(x.dtype).tiny)
        n = len(y)
        self.best, self.fewest = x.clone(), torch.full((n,), torch.inf, device=x.device)
        self.forward = torch.zeros(n, dtype=torch.int64, device=x.device)
        self.backward = torch.zeros_like(self.forward)

    def sizes(self, change: Tensor) -> Tensor:
        """The size of each value's change, or of each pixel's largest: (M, *input) -> alike, or (M, 1, …)."""
        size = change.abs()
        return size.amax(dim=1, keepdim=True) if self.pixels else size

    def count(self, change: Tensor) -> Tensor:
        """(M,) how many values, or pixels, change."""
        return (self.sizes(change) != 0).flatten(1).sum(dim=1).to(self.fewest.dtype)

    def keep(self, at: Tensor, x: Tensor, fooled: Tensor) -> None:
        """Remember fooling examples that change less than what is known."""
        count = self.count(x - self.x[at])
        fewer = fooled & (count < self.fewest[at])
        self.best[at[fewer]], self.fewest[at[fewer]] = x[fewer], count[fewer]

    def corners(self, at: Tensor, targets: Tensor, most: int, *, rounds: int) -> None:
        """Move those values to an end of their range that a linear model would move, as few as do.

        Values are ordered by what they gain to first order towards the target; their number is
        bisected. Exact where the model is linear. Each round takes the slope where the last one ended.
        at: (M,); targets: (M,) classes; most: the largest number that is of interest.
        """
        here, clean = self.x[at], self.x[at]
        for _ in range(rounds):
            if not len(at):
                return
            _, slope = self.model.logits_and_gradient(here, self.y[at], Lacking(targets, cut=False))
            self.forward[at] += 1
            self.backward[at] += 1
            if not torch.isfinite(slope.sum()):
                message = f"the gradient is NaN or infinite on a batch of {len(here)}"
                raise NonFinite(message)
            ends = torch.where(slope > 0, self.low[at], self.high[at])
            gain = slope * (clean - ends)
            gain = (gain.sum(dim=1, keepdim=True) if self.pixels else gain).flatten(1)
            place, limit = rank(-gain), min(most, gain.shape[1])
            low = torch.zeros(len(at), dtype=torch.int64, device=at.device)
            high = torch.full_like(low, limit)
            # The largest number is asked first: who is not fooled there needs no smaller.
            ask, middle = torch.arange(len(at), device=at.device), high
            while len(ask):
                moved = self.spread(place[ask] < middle[ask, None], at[ask])
                x = torch.where(moved, ends[ask], clean[ask])
                fooled = self.model.logits(x).argmax(dim=1) != self.y[at[ask]]
                self.forward[at[ask]] += 1
                self.keep(at[ask], x, fooled)
                high[ask] = torch.where(fooled, middle[ask], high[ask])
                low[ask] = torch.where(fooled, low[ask], middle[ask])
                ask, middle = torch.nonzero(high - low > 1).squeeze(1), (low + high) // 2
            here = torch.where(self.spread(place < high[:, None], at), ends, clean)

    def descend(self, at: Tensor, steps: int, enough: float, targets: Tensor | None = None) -> None:
        """One run of sigma-zero for some samples (Cinà et al. 2024, algorithm 1).

        The gradient of the loss is brought to length 1 before that of the count is added, so that the
        scale of the logits changes nothing. enough: a count with which a sample leaves. targets: (M,)
        the class to reach; None for any other.
        """
        change = torch.zeros_like(self.x[at])  # of the range
        threshold = torch.full((len(at),), THRESHOLD, dtype=self.x.dtype, device=at.device)
        wide = (1,) * (self.x.ndim - 1)
        share = 1 / max(1, self.sizes(self.x[:1])[0].numel())
        for step in range(steps):
            if not len(at):
                return
            x = self.moved(at, change)
            logits, gradient = self.model.logits_and_gradient(
                x, self.y[at], lacking if targets is None else towards(targets)
            )
            self.forward[at] += 1
            self.backward[at] += 1
            if not torch.isfinite(gradient.sum()):
                message = f"the gradient is NaN or infinite on a batch of {len(x)}"
                raise NonFinite(message)
            fooled = logits.argmax(dim=1) != self.y[at]
            self.keep(at, x, fooled)
            slope = longest_is_one(gradient * self.span[at])
            slope = longest_is_one(slope + share * self.slope_of_count(change))
            size = STEP * (1 + math.cos(math.pi * step / steps)) / 2
            if step:
                turn = torch.where(fooled, RATE * size, -RATE * size)
                threshold = (threshold + turn).clamp(0, 1)
            moved = self.moved(at, change - size * slope) - self.x[at]
            change = moved / self.span[at]
            change = torch.where(self.sizes(change) < threshold.view(-1, *wide), 0, change)
            going = self.fewest[at] > enough
            at, change, threshold = at[going], change[going], threshold[going]
            targets = None if targets is None else targets[going]
        if len(at):
            x = self.moved(at, change)
            self.keep(at, x, self.model.logits(x).argmax(dim=1) != self.y[at])
            self.forward[at] += 1

    def moved(self, at: Tensor, change: Tensor) -> Tensor:
        """The input at a change given in ranges, inside its range; no change leaves every bit alone."""
        x = self.x[at]
        return torch.where(change == 0, x, x + change * self.span[at]).clamp(
            self.low[at], self.high[at]
        )

    def slope_of_count(self, change: Tensor) -> Tensor:
        """d/d change of the sum of delta^2 / (delta^2 + sigma), over values or pixels."""
        square = change.square()
        if self.pixels:
            square = square.sum(dim=1, keepdim=True)
        return 2 * SIGMA * change / (square + SIGMA).square()

    def prune(self, rounds: int) -> None:
        """Put changed values back, one at a time, smallest first, where the example still fools."""
        at = torch.arange(len(self.y), device=self.x.device)
        at = at[torch.isfinite(self.fewest) & (self.fewest > 1)]
        if not len(at):
            return
        sizes = self.sizes((self.best[at] - self.x[at]) / self.span[at]).flatten(1)
        order = torch.where(sizes == 0, torch.inf, sizes).argsort(dim=1)
        for place in range(min(rounds, int(self.fewest[at].max()))):
            one = torch.zeros_like(sizes, dtype=torch.bool)
            one.scatter_(1, order[:, place : place + 1], value=True)
            one &= sizes != 0
            trying = one.any(dim=1)
            if not trying.any():
                return
            who = at[trying]
            mask = one[trying].view(len(who), *self.sizes(self.x[:1]).shape[1:])
            x = torch.where(mask, self.x[who], self.best[who])
            fooled = self.model.logits(x).argmax(dim=1) != self.y[who]
            self.forward[who] += 1
            self.keep(who, x, fooled)

    def draw(self, most: int, queries: int, enough: float, generator: torch.Generator) -> None:
        """Sparse-RS with a budget that shrinks: who is fooled goes on with one value less.

        most: the largest count that is of interest. Whoever is fooled already begins with what is
        known, less one value. Every new change is to an end of the valid range.
        """
        places = self.sizes(self.x[:1])[0].numel()
        most = min(most, places)
        n, device = len(self.y), self.x.device

        def random(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator).to(device)

        budget = torch.clamp(self.fewest - 1, max=float(most)).long()
        known = (self.sizes(self.best - self.x) != 0).flatten(1)
        found_before = torch.isfinite(self.fewest)[:, None]
        prior = torch.where(known | ~found_before, random(n, places), 2.0)
        chosen = rank(prior) < budget[:, None]
        kept_ends = self.spread(known & found_before, torch.arange(n, device=device))
        ends = torch.where(kept_ends, self.best, self.ends(random(*self.x.shape)))
        loss = torch.full((n,), -torch.inf, device=device)
        for query in range(queries):
            at = torch.arange(n, device=device)[(self.fewest > enough) & (budget > 0)]
            if not len(at):
                return
            new, new_ends = chosen[at], ends[at]
            if query:
                swapped = (
                    (SWAPPED * decay(query, queries) * budget[at]).round().clamp_min(1)[:, None]
                )
                out = rank(torch.where(new, random(len(at), places), 2.0)) < swapped
                kept = new & ~out
                # A place that was given up may come back, with other ends of its range.
                new = kept | (rank(torch.where(kept, 2.0, random(len(at), places))) < swapped)
                fresh = self.spread(~kept & new, at)
                new_ends = torch.where(fresh, self.ends(random(*self.x[at].shape), at), new_ends)
            x = torch.where(self.spread(new, at), new_ends, self.x[at])
            logits = self.model.logits(x)
            self.forward[at] += 1
            found = margin(logits, self.y[at]).to(loss)
            fooled = logits.argmax(dim=1) != self.y[at]
            self.keep(at, x, fooled)
            better = (found >= loss[at]) | fooled
            chosen[at[better]], ends[at[better]] = new[better], new_ends[better]
            loss[at[better]] = found[better]
            done = at[fooled]
            if len(done):
                budget[done] = self.fewest[done].to(budget) - 1
                changes = (self.sizes(self.best[done] - self.x[done]) != 0).flatten(1)
                chosen[done] = changes & (
                    rank(torch.where(changes, random(len(done), places), 2.0)) < budget[done, None]
                )
                loss[done] = -torch.inf

    def ends(self, share: Tensor, at: Tensor | None = None) -> Tensor:
        """An end of the valid range for each value, by a fair coin."""
        low, high = (self.low, self.high) if at is None else (self.low[at], self.high[at])
        return torch.where(share < 0.5, low, high)

    def spread(self, chosen: Tensor, at: Tensor) -> Tensor:
        """(M, places) bool as a mask like inputs; every channel of a chosen pixel is in it."""
        return chosen.view(len(at), *self.sizes(self.x[:1]).shape[1:]).expand_as(self.x[at])

    def rivals(self, most: int) -> Iterator[Tensor]:
        """The classes nearest to each label by the clean logits: (B,) each, nearest first."""
        logits = self.model.logits(self.x)
        self.forward += 1
        others = logits.scatter(1, self.y.unsqueeze(1), -torch.inf)
        ranked = others.argsort(dim=1, descending=True)
        yield from ranked[:, : min(most, logits.shape[1] - 1)].unbind(dim=1)


UNBOUNDED = "an l0 budget says nothing of how far a value may move: expected finite bounds"


def lacking(logits: Tensor, y: Tensor) -> Tensor:
    """What the label still leads by: max(z_y - max_{i != y} z_i, 0)."""
    return (-margin(logits, y)).clamp_min(0)


def towards(targets: Tensor) -> Lacking:
    """What the label still leads the target by, as a loss."""
    return Lacking(targets)


class Lacking:
    """z_y - z_target, cut at 0, for a batch that may be handed over in pieces, in order."""

    def __init__(self, targets: Tensor, *, cut: bool = True) -> None:
        """targets: (M,) of the whole batch; cut: nothing below 0."""
        self._targets, self._start, self._cut = targets, 0, cut

    def __call__(self, logits: Tensor, y: Tensor) -> Tensor:
        """logits: (m, C) of the next piece."""
        part = self._targets[self._start : self._start + len(y)]
        self._start += len(y)
        lead = logits.gather(1, y.unsqueeze(1)) - logits.gather(1, part.unsqueeze(1))
        lead = lead.squeeze(1)
        return lead.clamp_min(0) if self._cut else lead


def longest_is_one(gradient: Tensor) -> Tensor:
    """Each sample's gradient over its largest value; zero stays zero."""
    largest = gradient.flatten(1).abs().amax(dim=1).clamp_min(torch.finfo(gradient.dtype).tiny)
    return gradient / largest.view(-1, *(1,) * (gradient.ndim - 1))


def rank(values: Tensor) -> Tensor:
    """Each value's place in its row, smallest first: (M, d) -> (M, d) int64."""
    return values.argsort(dim=1).argsort(dim=1)


def decay(query: int, queries: int) -> float:
    """The share of the first exchange that is left (Sparse-RS: halved on a fixed schedule)."""
    done = query / queries * 10_000
    schedule = ((50, 1.0), (200, 0.5), (500, 0.25), (1000, 0.125), (2000, 0.1), (4000, 0.05))
    return next((share for until, share in schedule if done < until), 0.02)

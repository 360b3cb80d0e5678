"""Does a map change when the model forgets what it learned? The partial-rank randomisation test.

Knows maps and copies of a module with permuted parameters; never a method by name. After the
critiques of Adebayo et al. (2018): a map of a network with random weights looks like that of the
trained one wherever both look like the input, so the input is partialled out.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

SIDE = 8
"""Pictures' maps are compared on a grid of so many cells a side."""
LEAST_OWN = 0.05
SAME, OTHER_LOW, OTHER_HIGH = 0.5, 0.4, 0.5
NOISE = 0.05
RESAMPLES = 1000
DRAWS = 10
MOST_CONSTANT = 0.05
LEAST_INPUTS = 64

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

Explain = Callable[[nn.Module, Tensor], np.ndarray]
"""(module, x) -> (n, P): maps of the original decisions, as ``grid`` gives them."""


class Verdict(NamedTuple):
    """own: u, the share of map variance that controls leave; same, other: mean rank correlations.

    ``same_low``, ``other_low``, ``other_high``: ends of their 95 % bootstrap intervals. other: with
    the randomised models; same: with the same model under a little noise.
    """

    status: Literal["pass", "fail", "inconclusive"]
    reason: str
    own: float
    same: float
    same_low: float
    other: float
    other_low: float
    other_high: float


class Untestable(Exception):
    """The criterion cannot be applied; the message says why."""


def randomised(
    module: nn.Module, x: Tensor, rng: np.random.Generator, keep: dict[int, object]
) -> nn.Module:
    """A copy with the entries of every parameter permuted and BatchNorm's statistics renewed on x.

    Permuting keeps each layer's scale, and reaches what has no initialiser (class tokens, attention
    projections). keep: id -> object shared with the original, such as its pass counter.
    """
    twin = copy.deepcopy(module, dict(keep))
    with torch.no_grad():
        for parameter in twin.parameters():
            order = torch.as_tensor(rng.permutation(parameter.numel()), device=parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
        tracked = [
            part for part in twin.modules() if isinstance(part, NORMS) and part.track_running_stats
        ]
        if tracked:
            momenta = [part.momentum for part in tracked]
            for part in tracked:
                part.reset_running_stats()
                part.momentum = None  # a plain mean over the batches
                part.train()
            twin(x)
            for part, momentum in zip(tracked, momenta, strict=True):
                part.momentum = momentum
                part.eval()
    return twin


class Trials(NamedTuple):
    """Maps as ``grid`` gives them, (n, P) each: of the model, under a little noise, of its twins."""

    own: np.ndarray
    noisy: np.ndarray
    twins: list[np.ndarray]


def trials(
    explain: Explain,
    module: nn.Module,
    x: Tensor,
    rng: np.random.Generator,
    *,
    twins: int,
    keep: dict[int, object],
) -> Trials:
    """Explain the module, the module under a little noise, and so many randomised twins.

    x: (n, *input). Raises Untestable where no randomised twin gives maps.
    """
    own = explain(module, x)
    noise = torch.as_tensor(rng.standard_normal(tuple(x.shape))).to(x)
    noisy = explain(module, x + NOISE * x.std() * noise)
    return Trials(own, noisy, [_twin_maps(explain, module, x, rng, keep) for _ in range(twins)])


def judged(found: Trials, distance: np.ndarray, rng: np.random.Generator) -> Verdict:
    """The verdict on some trials. distance: (n, P), |x - baseline| as ``grid`` gives it."""
    return verdict(found.own, found.noisy, found.twins, distance, rng)


def _twin_maps(
    explain: Explain,
    module: nn.Module,
    x: Tensor,
    rng: np.random.Generator,
    keep: dict[int, object],
) -> np.ndarray:
    """Maps of a randomised twin that answers at all: its logits vary, and so do its maps."""
    for _ in range(DRAWS):
        twin = randomised(module, x, rng, keep)
        with torch.no_grad():
            silent = float(twin(x).std(dim=0).max()) == 0
        if silent:
            continue
        maps = explain(twin, x)
        if bool((np.ptp(maps, axis=1) == 0).mean() <= MOST_CONSTANT):
            return maps
    message = f"none of {DRAWS} models with permuted parameters gives maps that vary"
    raise Untestable(message)


def grid(maps: np.ndarray, *, pixels: bool, side: int = SIDE) -> np.ndarray:
    """(n, P): absolute attributions summed over channels, pictures pooled to at most side x side cells."""
    size = np.abs(maps).astype(np.float64)
    if not pixels:
        return np.asarray(size.reshape(len(size), -1))
    summed = torch.as_tensor(size.reshape(len(size), -1, *size.shape[-2:]).sum(axis=1))
    cells = (min(side, summed.shape[-2]), min(side, summed.shape[-1]))
    pooled = torch.nn.functional.adaptive_avg_pool2d(summed[:, None], cells)
    return np.asarray(pooled.flatten(1).numpy())


def verdict(
    own: np.ndarray,
    noisy: np.ndarray,
    others: list[np.ndarray],
    distance: np.ndarray,
    rng: np.random.Generator,
) -> Verdict:
    """The criterion, in its order.

    own, noisy: (n, P) maps of the trained model, without and with noise; others: those of the
    randomised models; distance: (n, P), |x - baseline|. Raises Untestable for fewer than 64 inputs
    or fewer than 4 positions.
    """
    n, positions = own.shape
    if n < LEAST_INPUTS or positions < 4:
        message = (
            f"{n} inputs with {positions} positions: the criterion needs at least {LEAST_INPUTS} "
            "inputs and 4 positions"
        )
        raise Untestable(message)
    u = float(unexplained(own, [leave_one_out(own), distance]).mean())
    same = partial_correlations(own, noisy, distance)
    other = np.stack([partial_correlations(own, twin, distance) for twin in others], axis=1)
    same_low, _ = _two_way(same[:, None], rng)
    other_low, other_high = _two_way(other, rng)
    numbers = (u, float(same.mean()), same_low, float(other.mean()), other_low, other_high)
    if u < LEAST_OWN:
        return Verdict("fail", "the map follows from the input alone", *numbers)
    if same_low < SAME:
        return Verdict("inconclusive", "the map changes with a little noise on the input", *numbers)
    if other_low >= OTHER_HIGH:
        return Verdict("fail", "the map stays alike when the parameters are permuted", *numbers)
    if other_high <= OTHER_LOW:
        return Verdict("pass", "the map changes when the parameters are permuted", *numbers)
    return Verdict("inconclusive", "the correlation lies between the thresholds", *numbers)


def partial_correlations(first: np.ndarray, second: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """(n,): Spearman correlation of two maps per input, given both models' mean maps and |x - b|.

    first, second, distance: (n, P). A map that the controls explain whole correlates with nothing: 0.
    """
    return partial_spearman(first, second, [leave_one_out(first), leave_one_out(second), distance])


def partial_spearman(a: np.ndarray, b: np.ndarray, given: list[np.ndarray]) -> np.ndarray:
    """(n,): row by row, correlation of the ranks of a and b after fitting those of ``given`` to both.

    a, b and each of ``given``: (n, P).
    """
    left, right = _residuals(a, given), _residuals(b, given)
    size = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    product = (left * right).sum(axis=1)
    return np.asarray(np.divide(product, size, out=np.zeros(len(a)), where=size > 0))


def unexplained(a: np.ndarray, given: list[np.ndarray]) -> np.ndarray:
    """(n,): share of the variance of a's ranks that a linear fit of the controls' ranks leaves."""
    total = (_ranks(a) ** 2).sum(axis=1)
    rest = (_residuals(a, given) ** 2).sum(axis=1)
    return np.asarray(np.divide(rest, total, out=np.zeros(len(a)), where=total > 0))


def leave_one_out(maps: np.ndarray) -> np.ndarray:
    """(n, P): for each input the mean map of the others."""
    others: np.ndarray = (maps.sum(axis=0) - maps) / (len(maps) - 1)
    return others


def _residuals(a: np.ndarray, given: list[np.ndarray]) -> np.ndarray:
    """(n, P): centred ranks of each row of a minus their least-squares fit on the controls' ranks."""
    ranks = _ranks(a)
    design = np.stack([_ranks(one) for one in given], axis=2)
    # (n, P, C) -> an orthonormal basis of the controls; directions that they do not span are dropped.
    basis, strength, _ = np.linalg.svd(design, full_matrices=False)
    basis = basis * (strength > 1e-10 * np.maximum(strength[:, :1], 1e-300))[:, None, :]
    rest = ranks - (basis @ (basis.transpose(0, 2, 1) @ ranks[:, :, None]))[:, :, 0]
    # What is left of a perfect fit is rounding, and rounding must not correlate with anything.
    perfect = (rest**2).sum(axis=1) <= 1e-12 * (ranks**2).sum(axis=1)
    return np.where(perfect[:, None], 0.0, rest)


def _ranks(a: np.ndarray) -> np.ndarray:
    """(n, P): centred ranks of each row; ties share their mean rank."""
    from scipy.stats import rankdata

    ranks = rankdata(a, axis=1)
    return np.asarray(ranks - ranks.mean(axis=1, keepdims=True))


def _two_way(values: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """95 % bootstrap of the mean over inputs (rows) and seeds (columns), both resampled."""
    n, seeds = values.shape
    means = [
        values[rng.integers(n, size=n)][:, rng.integers(seeds, size=seeds)].mean()
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)

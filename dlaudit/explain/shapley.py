"""Shapley values of a game, exact where all coalitions can be asked, else by KernelSHAP's regression.

Knows a function of coalitions; never a model, a pixel or a baseline. numpy in, numpy out; captum's
KernelShap asks 25 coalitions whatever the number of players, drawn from global states.
"""

from __future__ import annotations

from collections.abc import Callable
from math import comb

import numpy as np

Game = Callable[[np.ndarray], np.ndarray]
"""(m, P) bool, who takes part -> (m, n) float64, the worth of each coalition in n games."""


def shapley_values(
    worth: Game, players: int, *, coalitions: int, rng: np.random.Generator
) -> np.ndarray:
    """(n, P): what each player adds on average over all orders; they add up to worth(all) - worth(none).

    coalitions: at most so many are asked; all of them if they suffice, and the values are exact then.
    Else every player alone and every one left out are asked, and of the other sizes pairs of a coalition
    and its complement, drawn as their weight asks; the values are the constrained least-squares fit
    (Lundberg & Lee 2017; Covert & Lee 2021, eq. 7). Raises ValueError for too few.
    """
    if players == 1:
        ends = worth(np.array([[False], [True]]))
        return np.asarray((ends[1] - ends[0])[:, None])
    exact = 2**players <= coalitions
    if not exact and coalitions < 2 * players + 4:
        message = f"coalitions: expected at least {2 * players + 4} for {players} players, got {coalitions}"
        raise ValueError(message)
    asked, weights = _all(players) if exact else _drawn(players, coalitions - 2, rng)
    ends = worth(np.stack([np.zeros(players, dtype=bool), np.ones(players, dtype=bool)]))
    return _fitted(asked.astype(np.float64), worth(asked), weights, ends[0], ends[1])


def _all(players: int) -> tuple[np.ndarray, np.ndarray]:
    """Every coalition but the empty and the full one, and the Shapley kernel of each."""
    numbers = np.arange(1, 2**players - 1)
    asked = (numbers[:, None] >> np.arange(players)) % 2 == 1
    size = np.arange(1, players)
    many = np.array([comb(players, k) for k in size], dtype=np.float64)
    kernel = (players - 1) / (many * size * (players - size))
    return asked, kernel[asked.sum(axis=1) - 1]


def _drawn(players: int, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Singles and their complements, and draws from the other sizes that share what weight is left."""
    alone = np.eye(players, dtype=bool)
    size = np.arange(2, players - 1)
    chance = 1 / (size * (players - size))
    half = (count - 2 * players) // 2
    drawn = rng.choice(size, size=half, p=chance / chance.sum())
    rank = rng.random((half, players)).argsort(axis=1).argsort(axis=1)
    members = rank < drawn[:, None]
    asked = np.concatenate([alone, ~alone, members, ~members])
    ends = 2 / (players - 1)  # the kernel's mass on the two outer sizes, in units of ``chance``
    weights = np.full(len(asked), chance.sum() / (2 * half))
    weights[: 2 * players] = ends / (2 * players)
    return asked, weights


def _fitted(
    z: np.ndarray, v: np.ndarray, weights: np.ndarray, none: np.ndarray, all_: np.ndarray
) -> np.ndarray:
    """Least squares under the constraint that the values add up; the last player takes the rest."""
    total = all_ - none
    last = z[:, -1:]
    design = z[:, :-1] - last
    wanted = v - none - last * total
    root = np.sqrt(weights)[:, None]
    first, *_ = np.linalg.lstsq(design * root, wanted * root, rcond=None)
    return np.concatenate([first, (total - first.sum(axis=0))[None]]).T

"""Pictures moved by a pixel, and what an error at the new place counts.

Knows which places are answered wrongly; never a model. Edges wrap around, so that moves form a group and
each can be undone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

MOVES = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
"""Staying, then the four ways, in the order in which a wrong answer is looked for."""
SPOTS = tuple(
    sorted(
        ((r, c) for r in range(-3, 4) for c in range(-3, 4) if abs(r) + abs(c) <= 3),
        key=lambda spot: (abs(spot[0]) + abs(spot[1]), spot),
    )
)
"""Every place within three moves, nearest first: a picture goes one move away, whoever could have come
there started one move from there, and might have gone one move elsewhere."""
PLACE = {spot: place for place, spot in enumerate(SPOTS)}


class Errors(NamedTuple):
    """(n,) each: 0 or 1 as it is; 0 or 1/k where moved, k pictures being moved to the same place."""

    plain: np.ndarray
    adversarial: np.ndarray


def moved(x: np.ndarray, spot: tuple[int, int]) -> np.ndarray:
    """Pictures (n, C, H, W) moved down and right by ``spot``, edges wrapped around."""
    return np.roll(x, spot, axis=(2, 3))


def weighted(wrong: np.ndarray) -> Errors:
    """The error of each picture, and the weighted one of the place to which it is moved.

    wrong: (25, n) bool, whether each picture is answered wrongly at each of ``SPOTS``. A picture that is
    wrong stays; one that is right goes to the first of its four neighbours that is wrong, else it stays.
    Over all moves of a picture both errors add up to the same (Werpachowski et al. 2019, equation 3).
    """
    n = wrong.shape[1]
    goes = {spot: _goes(wrong, spot) for spot in SPOTS if abs(spot[0]) + abs(spot[1]) <= 2}
    adversarial = np.zeros(n)
    for move in MOVES:
        place = PLACE[move]
        here = (goes[0, 0] == place) & wrong[place]
        comers = sum(
            (goes[move[0] - back[0], move[1] - back[1]] == place).astype(int) for back in MOVES
        )
        adversarial[here] = 1 / np.asarray(comers)[here]
    return Errors(wrong[PLACE[0, 0]].astype(float), adversarial)


def _goes(wrong: np.ndarray, spot: tuple[int, int]) -> np.ndarray:
    """(n,) the place to which a picture that lies at ``spot`` is moved."""
    target = np.full(wrong.shape[1], PLACE[spot])
    for move in reversed(MOVES):  # the first in the order overwrites the later ones
        place = PLACE[spot[0] + move[0], spot[1] + move[1]]
        target = np.where(wrong[place], place, target)
    return target

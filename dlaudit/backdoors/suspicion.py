"""Every training row's scores, beside those of trusted rows of the same label.

Knows a model, training rows with their labels as given, and trusted rows; never what is poisoned.
Training rows are read piece by piece: one float per row and score is held, and one matrix of features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from dlaudit.audit.embedding import penultimate
from dlaudit.audit.parts import Model
from dlaudit.backdoors.consistency import occlusion, strip
from dlaudit.backdoors.latent import (
    Clusters,
    Split,
    Whitening,
    activation_clusters,
    quantum_entropy,
    scan_split,
    spectral_signatures,
)
from dlaudit.backdoors.neighbours import Neighbourhood

SCORES = ("neighbours", "quantum_entropy", "distance", "two_components", "strip", "occlusion")
LEAST = 10
"""Rows that a class needs, in training and among the trusted, to be looked at."""


class Rows(NamedTuple):
    """Rows that may lie outside memory. y: (n,) labels as given; predicted: (n,) the model's.

    shape: of one input; read: the inputs at sorted positions, None for all, in pieces (m, *input).
    """

    y: np.ndarray
    predicted: np.ndarray
    shape: tuple[int, ...]
    read: Callable[[np.ndarray | None], Iterator[np.ndarray]]

    def take(self, rows: np.ndarray | list[int]) -> np.ndarray:
        """The inputs of some rows, in that order."""
        order = np.unique(rows)
        return np.concatenate(list(self.read(order)))[np.searchsorted(order, rows)]


class Trusted(NamedTuple):
    """Rows whose labels are believed, in memory. x: (n, *input); y, predicted: (n,)."""

    x: np.ndarray
    y: np.ndarray
    predicted: np.ndarray


class OfClass(NamedTuple):
    """One class. rows, trusted: numbers of its rows; score: per name (training, trusted).

    split, clusters: what SCAn and activation clustering say of the class as a whole; spectral:
    (len(rows),) for comparison.
    """

    label: int
    rows: np.ndarray
    trusted: np.ndarray
    score: dict[str, tuple[np.ndarray, np.ndarray]]
    split: Split
    clusters: Clusters
    spectral: np.ndarray


class Suspicion(NamedTuple):
    """classes: those with enough rows; features: in words where they come from."""

    classes: list[OfClass]
    left_out: dict[int, str]
    features: str


class Instruments(NamedTuple):
    """What scores rows without regard to their class. others: honest rows to mix in."""

    model: Model
    near: Neighbourhood
    others: np.ndarray
    overlays: int

    def scores(
        self, rows: Rows, rng: tuple[np.random.Generator, np.random.Generator], *,
        number: np.ndarray | None = None,
    ) -> tuple[dict[str, np.ndarray], np.ndarray, str]:  # fmt: skip
        """Scores (n,) each and features (n, d), in words where from; one passage through the rows.

        rng: for mixing and for covering; number: each row's own among those of ``near``, None where
        it is not among them.
        """
        found: dict[str, list[np.ndarray]] = {"neighbours": [], "strip": [], "occlusion": []}
        features, words, start = [], "none", 0
        for x in rows.read(None):
            part = slice(start, start + len(x))
            start += len(x)
            own = None if number is None else number[part]
            found["neighbours"].append(self.near.disagreement(x, rows.y[part], own=own))
            found["strip"].append(strip(self.model, x, self.others, rng[0], overlays=self.overlays))
            found["occlusion"].append(
                occlusion(self.model, x, self.others, rows.predicted[part], rng[1])
            )
            h, words = penultimate(self.model, x)
            features.append(h)
        joined = {key: np.concatenate(value) for key, value in found.items()}
        return joined, np.concatenate(features), words


def suspicion(
    model: Model, train: Rows, trusted: Trusted, rng: Callable[[str], np.random.Generator], *,
    overlays: int,
) -> Suspicion:  # fmt: skip
    """Score all training rows, class by class of their labels.

    trusted: those that the model gets wrong calibrate nothing. rng: randomness by purpose. Passes per
    row, trusted ones included: 1 + overlays + 9.
    """
    right = np.flatnonzero(trusted.y == trusted.predicted)
    honest, decided = trusted.x[right], trusted.predicted[right]
    near = Neighbourhood.of(lambda: train.read(None), train.y, rng("neighbours"))
    instruments = Instruments(model, near, honest, overlays)
    number = np.arange(len(train.y))
    streams = rng("overlays of train"), rng("covers of train")
    own, h, words = instruments.scores(train, streams, number=number)
    # A row that the model did not learn opens no door: a wrong label alone is no suspicion here.
    own["neighbours"] *= train.predicted == train.y
    theirs, h_trusted, _ = instruments.scores(
        Rows(trusted.y[right], decided, train.shape, lambda _: iter([honest])),
        (rng("overlays of trusted"), rng("covers of trusted")),
    )
    scores = {key: (own[key], theirs[key]) for key in own}
    classes, left_out = [], {}
    for label in range(int(max(train.y.max(), trusted.y.max())) + 1):
        rows, some = np.flatnonzero(train.y == label), np.flatnonzero(trusted.y[right] == label)
        if min(len(rows), len(some)) < LEAST:
            left_out[label] = (
                f"{len(rows)} training rows and {len(some)} trusted ones: {LEAST} of each are needed"
            )
            continue
        purpose = f"class {label}"
        white = Whitening.of(h[rows], rng(f"{purpose}, covariance"))
        z, z_trusted = white.white(h[rows]), white.white(h_trusted[some])
        split = scan_split(z, rng(f"{purpose}, permutations"))
        centre = z_trusted.mean(axis=0)
        score = {key: (first[rows], second[some]) for key, (first, second) in scores.items()}
        score["quantum_entropy"] = quantum_entropy(z, z), quantum_entropy(z_trusted, z)
        score["distance"] = ((z - centre) ** 2).sum(1), ((z_trusted - centre) ** 2).sum(1)
        score["two_components"] = split.towards(z), split.towards(z_trusted)
        classes.append(
            OfClass(
                label, rows, right[some], score, split,
                activation_clusters(h[rows], rng(f"{purpose}, clusters")),
                spectral_signatures(h[rows]),
            )
        )  # fmt: skip
    return Suspicion(classes, left_out, words)

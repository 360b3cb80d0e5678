"""Every training row's scores, beside those of trusted rows of the same label.

Knows a model, training rows with their labels as given, and trusted rows; never what is poisoned.
One float per row and score is held, and one matrix of features.
"""

from __future__ import annotations

from collections.abc import Callable
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
    """x: (n, *input); y: (n,) labels as given; predicted: (n,) the model's."""

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


def suspicion(
    model: Model, train: Rows, trusted: Rows, rng: Callable[[str], np.random.Generator], *,
    overlays: int,
) -> Suspicion:  # fmt: skip
    """Score all training rows, class by class of their labels.

    trusted: rows with labels that are believed; those that the model gets wrong calibrate nothing.
    rng: randomness by purpose. Passes per row, trusted ones included: 1 + overlays + 9.
    """
    right = np.flatnonzero(trusted.y == trusted.predicted)
    honest = trusted.x[right]
    scores: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    near = Neighbourhood.of(train.x, train.y, rng("neighbours"))
    fitted = train.predicted == train.y
    # A row that the model did not learn opens no door: a wrong label alone is no suspicion here.
    scores["neighbours"] = (
        near.disagreement(train.x, train.y, own=np.arange(len(train.y))) * fitted,
        near.disagreement(honest, trusted.y[right]),
    )
    for name, x, decided in (
        ("train", train.x, train.predicted),
        ("trusted", honest, trusted.predicted[right]),
    ):
        both = (
            strip(model, x, honest, rng(f"overlays of {name}"), overlays=overlays),
            occlusion(model, x, honest, decided, rng(f"covers of {name}")),
        )
        for key, value in zip(("strip", "occlusion"), both, strict=True):
            scores[key] = (*scores.get(key, ()), value)
    h, words = penultimate(model, train.x)
    h_trusted, _ = penultimate(model, honest)
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
        own = {
            key: (value[0][rows], value[1][some])
            for key, value in scores.items()
        }  # fmt: skip
        own["quantum_entropy"] = quantum_entropy(z, z), quantum_entropy(z_trusted, z)
        own["distance"] = ((z - centre) ** 2).sum(1), ((z_trusted - centre) ** 2).sum(1)
        own["two_components"] = split.towards(z), split.towards(z_trusted)
        classes.append(
            OfClass(
                label, rows, right[some], own, split,
                activation_clusters(h[rows], rng(f"{purpose}, clusters")),
                spectral_signatures(h[rows]),
            )
        )  # fmt: skip
    return Suspicion(classes, left_out, words)

"""The one door to scikit-learn: a tree that imitates decisions, and clusters of a graph.

Knows how to grow and print a tree and how to cut a graph; never what they are of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np


class Grown(NamedTuple):
    """decide: (n, F) -> (n,) class indices; text: its questions."""

    decide: Callable[[np.ndarray], np.ndarray]
    text: str


def grown(
    x: np.ndarray,
    decisions: np.ndarray,
    names: Sequence[str],
    classes: Sequence[str],
    *,
    depth: int,
) -> Grown:
    """A decision tree of at most this depth. x: (n, F); decisions: (n,) class indices."""
    from sklearn.tree import DecisionTreeClassifier, export_text

    tree = DecisionTreeClassifier(max_depth=depth, random_state=0).fit(x, decisions)
    named = [classes[k] if k < len(classes) else str(k) for k in tree.classes_]
    text: str = export_text(tree, feature_names=list(names), class_names=named)
    return Grown(lambda rows: np.asarray(tree.predict(rows)), text)


def cut(affinity: np.ndarray, count: int, seed: int) -> np.ndarray:
    """(n,) labels 0 to count - 1: a graph cut into so many parts (Ng, Jordan & Weiss 2002).

    affinity: (n, n), symmetric, above 0 between neighbours.
    """
    import warnings

    from sklearn.cluster import SpectralClustering

    with warnings.catch_warnings():
        # A graph in several pieces is what is looked for here.
        warnings.filterwarnings("ignore", message="Graph is not fully connected")
        found = SpectralClustering(
            count, affinity="precomputed", assign_labels="kmeans", random_state=seed
        ).fit_predict(affinity)
    return np.asarray(found)

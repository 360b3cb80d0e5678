"""The one door to scikit-learn's trees: one that imitates a model's decisions.

Knows how to grow and print a tree; never what it imitates.
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

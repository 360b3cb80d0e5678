"""The one door to cleanlab: which labels confident learning doubts (Northcutt et al. 2021).

Knows labels and probabilities; refuses to touch either, and to start processes of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Doubts(NamedTuple):
    """suspected: (n,) bool; confidence: (n,) the probability of the given label, low is doubtful."""

    suspected: np.ndarray
    confidence: np.ndarray


def doubted(y: np.ndarray, chances: np.ndarray) -> Doubts:
    """Labels that the confident joint puts elsewhere. y: (n,) 0..K-1, all K present; chances: (n, K).

    A row is doubted if the probability of another class reaches the mean that rows of that class have
    for their own label, and its own label's does not reach further (filter_by confident_learning).
    """
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_self_confidence_for_each_label

    suspected = find_label_issues(y, chances, filter_by="confident_learning", n_jobs=1)
    return Doubts(np.asarray(suspected), get_self_confidence_for_each_label(y, chances))

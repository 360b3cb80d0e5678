"""How sure an attacker is that a sample was trained on: scores, and how far they reach.

Knows arrays of what models said; refuses the models, and refuses a false positive rate that the
non-members are too few to show.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

LOW_FPR = 0.001
"""The false positive rate at which attacks are compared (Carlini et al. 2022)."""
NON_MEMBERS = 1000
"""Fewer non-members than this show no rate of one in a thousand."""
PREFERRED = 10_000
FEW_SHADOWS = 64
"""Below so many reference models one spread is taken for all samples (Carlini et al. 2022, section VI)."""


def confidence(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """log(p / (1 - p)) of the labelled class, (n,) float64: ranks as the loss does, without its ties.

    logits: (n, C), C >= 2; y: (n,). Written without p, which rounds to 1.
    """
    from scipy.special import logsumexp

    others = logits.astype(np.float64)
    of_label = others[np.arange(len(y)), y].copy()
    others[np.arange(len(y)), y] = -np.inf
    found: np.ndarray = of_label - logsumexp(others, axis=1)
    return found


class Reach(NamedTuple):
    """How many members stand above the threshold that ``false_positives`` non-members pass."""

    hits: int
    members: int
    false_positives: int
    threshold: float


def reach(members: np.ndarray, others: np.ndarray, fpr: float = LOW_FPR) -> Reach:
    """Members above the lowest threshold that at most the share ``fpr`` of the others passes.

    members: (m,), others: (n,) scores, higher is more likely a member. A sample at the threshold does
    not pass, so that ties never raise the false positive rate.
    """
    allowed = math.floor(fpr * len(others) + 1e-9)
    threshold = (
        float(np.sort(others)[len(others) - 1 - allowed]) if allowed < len(others) else -np.inf
    )
    return Reach(
        int((members > threshold).sum()), len(members), int((others > threshold).sum()), threshold
    )


def roc(members: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates at every threshold, from (0, 0) to (1, 1)."""
    scores = np.concatenate([members, others])
    inside = np.r_[np.ones(len(members)), np.zeros(len(others))]
    order = np.argsort(-scores, kind="stable")
    last = np.r_[np.diff(scores[order]) != 0, True]  # ties pass together
    true, false = np.cumsum(inside[order])[last], np.cumsum(1 - inside[order])[last]
    return np.r_[0, false / len(others)], np.r_[0, true / len(members)]


class Shadows(NamedTuple):
    """What reference models said. confidence: (M, n); inside: (M, n) bool, whether they learned it."""

    confidence: np.ndarray
    inside: np.ndarray

    def of(self, *, members: bool) -> np.ndarray:
        """(M, n): the confidences of the models that learned a sample, or of the others; else NaN."""
        return np.where(self.inside == members, self.confidence, np.nan)


def _spread(values: np.ndarray, *, fixed: bool) -> np.ndarray:
    """(n,): the standard deviation over models, pooled over all samples where ``fixed``."""
    counts = np.sum(~np.isnan(values), axis=0)
    squares = np.nansum((values - np.nanmean(values, axis=0)) ** 2, axis=0)
    if fixed:
        free = np.maximum(counts - 1, 0).sum()
        return np.full(values.shape[1], math.sqrt(max(squares.sum() / max(free, 1), 1e-12)))
    found: np.ndarray = np.sqrt(np.maximum(squares / np.maximum(counts - 1, 1), 1e-12))
    return found


def lira_online(target: np.ndarray, shadows: Shadows, *, fixed: bool) -> np.ndarray:
    """(n,): log N(target; in) - log N(target; out), Carlini et al. 2022, algorithm 1.

    target: (n,) confidences of the audited model. Needs one model inside and one outside per sample.
    """
    from scipy.stats import norm

    inside, outside = shadows.of(members=True), shadows.of(members=False)
    scores: np.ndarray = norm.logpdf(
        target, np.nanmean(inside, axis=0), _spread(inside, fixed=fixed)
    ) - norm.logpdf(target, np.nanmean(outside, axis=0), _spread(outside, fixed=fixed))
    return scores


def lira_offline(target: np.ndarray, shadows: Shadows, *, fixed: bool) -> np.ndarray:
    """(n,): how far the target lies above the models that never saw the sample, in their deviations.

    The one-sided test of Carlini et al. 2022, equation 4: Pr[N(out) <= target] is a rising function
    of this number, which does not round to 1.
    """
    outside = shadows.of(members=False)
    scores: np.ndarray = (target - np.nanmean(outside, axis=0)) / _spread(outside, fixed=fixed)
    return scores


def rmia(
    target: np.ndarray, shadows: Shadows, population: np.ndarray, *, a: float, gamma: float = 1.0
) -> np.ndarray:
    """(n,): the share of the population that a sample beats in likelihood ratio (Zarifzadeh 2024).

    Pr_z[(p_x / p̄_x) / (p_z / p̄_z) >= gamma] with p̄ = ((1 + a) p_out + 1 - a) / 2, from models that
    never saw the sample. population: positions of the samples z.
    """
    from scipy.special import expit

    outside = np.nanmean(expit(shadows.of(members=False)), axis=0)
    ratio = expit(target) / (((1 + a) * outside + 1 - a) / 2)
    beaten: np.ndarray = np.searchsorted(np.sort(ratio[population]), ratio / gamma, side="right")
    return beaten / len(population)

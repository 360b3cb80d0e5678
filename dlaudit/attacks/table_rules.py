"""What a row of a table must obey to be a row at all, and the one function that decides whether it does.

Knows types of columns, groups of indicators and linear relations. The searches that try to obey them
stand elsewhere and are not believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dlaudit.attacks.relations import Relation


class Rules(NamedTuple):
    """What every adversarial row obeys. Positions are those of the columns of x.

    fixed: columns that keep their value; whole: columns of whole numbers; rising, falling: columns
    that may only grow, or shrink. codes: column -> how many categories it codes as 0, 1, …; one_hot:
    groups of indicators of which exactly one is 1. changes: how many of the coded columns and groups
    may change at once. relations: over names. features: the names of the columns, in order. facts: of
    the data set, by which rows are shown to models that were fitted on named columns.
    """

    features: tuple[str, ...]
    fixed: frozenset[int] = frozenset()
    whole: frozenset[int] = frozenset()
    rising: frozenset[int] = frozenset()
    falling: frozenset[int] = frozenset()
    codes: dict[int, int] = {}
    one_hot: tuple[tuple[int, ...], ...] = ()
    changes: int = 1
    relations: tuple[Relation, ...] = ()
    facts: dict[str, Any] = {}

    @property
    def only_a_box(self) -> bool:
        """Whether nothing is asked beyond a budget for each column."""
        return not (
            self.whole
            or self.rising
            or self.falling
            or self.codes
            or self.one_hot
            or self.relations
        )

    def admits(self, x: Tensor, clean: Tensor) -> Tensor:
        """(B, F), (B, F) -> (B,) bool: which rows are finite and obey every rule. See ``broken``."""
        kept = ~np.any(list(broken(x.cpu().numpy(), clean.cpu().numpy(), self).values()), axis=0)
        return torch.from_numpy(kept).to(x.device)


def broken(x: np.ndarray, clean: np.ndarray, rules: Rules) -> dict[str, np.ndarray]:
    """Which rows break which rule: rule -> (B,) bool.

    x, clean: (B, F) floats of one dtype. Everything is exact but relations: these hold up to the
    rounding of their terms in that dtype, eps · (Σ |weight · value| + |bound|), because that is how
    exactly the values are known.
    """
    result = {"finite": ~np.isfinite(x).all(axis=1)}

    def columns(which: Sequence[int] | frozenset[int]) -> np.ndarray:
        return x[:, sorted(which)]

    def before(which: frozenset[int]) -> np.ndarray:
        return clean[:, sorted(which)]

    result["fixed"] = (columns(rules.fixed) != before(rules.fixed)).any(axis=1)
    result["whole"] = (columns(rules.whole) != np.floor(columns(rules.whole))).any(axis=1)
    result["rising"] = (columns(rules.rising) < before(rules.rising)).any(axis=1)
    result["falling"] = (columns(rules.falling) > before(rules.falling)).any(axis=1)
    changed = np.zeros(len(x), dtype=np.int64)
    strange = np.zeros(len(x), dtype=bool)
    for column, categories in rules.codes.items():
        code = x[:, column]
        strange |= (code != np.floor(code)) | (code < 0) | (code >= categories)
        changed += code != clean[:, column]
    for group in rules.one_hot:
        members = x[:, list(group)]
        strange |= ~((members == 0) | (members == 1)).all(axis=1) | (
            (members == 1).sum(axis=1) != 1
        )
        changed += (members != clean[:, list(group)]).any(axis=1)
    result["categories"] = strange
    result["changes"] = changed > rules.changes
    rounding = float(np.finfo(x.dtype).eps)
    with np.errstate(invalid="ignore", over="ignore"):
        for relation in rules.relations:
            places = [rules.features.index(name) for name in relation.weights]
            terms = x[:, places].astype(np.float64) * np.array(list(relation.weights.values()))
            excess = terms.sum(axis=1) - relation.bound
            slack = rounding * (np.abs(terms).sum(axis=1) + abs(relation.bound))
            size = np.abs(excess) if relation.equal else excess
            result[relation.written] = ~(size <= slack)
    return result

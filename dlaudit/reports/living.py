"""What the page needs to judge again inside the browser: intervals, and the budgets of fooled samples.

Knows rules and stored rows; decides nothing. The script beside the templates applies the judge's rule
to these numbers; the recorded verdicts stay where they are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

from dlaudit.audit.judge import speaks_of
from dlaudit.reports import wording
from dlaudit.reports.outline import Judged, Outline
from dlaudit.reports.robustness import BOUND, Attacked, Robustness, budget_of, fooled, nearest

MOST = 4000
"""Fooled samples of one attack that travel with the page; beyond, the slider is left out."""


def seen(one: Judged) -> str:
    """A rule and every interval it was judged on, as JSON for the page; empty if it has no rule.

    ``[at least (1) or at most (0), threshold, level, undefined, [[low, high, level, void], …]]``:
    a list, because there are thousands of them.
    """
    if one.rule is None:
        return ""
    rule = one.rule
    found = [
        [
            m.interval.low if m.interval else m.value,
            m.interval.high if m.interval else m.value,
            m.interval.level if m.interval else 1,
            int(any(caveat.voids for caveat in m.caveats)),
        ]
        for m in one.verdict.observed
    ]
    side = int(rule.at_least is not None)
    told = [side, rule.threshold, rule.level, len(one.undefined), found]
    return json.dumps(told, separators=(",", ":"))


class Slider(NamedTuple):
    """What is left of one attack's samples at every budget. data: JSON for the page."""

    run: str
    where: str
    top: float
    data: str


def sliders(robustness: Robustness, outline: Outline) -> tuple[Slider, ...]:
    """One for every attack that kept its rows; void ones have none, they are no result."""
    found = []
    for attack in robustness.attacks:
        whole = not any(one.slice for one in attack.bounds)
        if attack.table.reason or attack.void or not whole:
            continue
        at = fooled_at(attack)
        top = max(budget_of(one) for one in attack.bounds)
        if len(at) > MOST or top <= 0:
            continue
        judged = outline.rules_of(attack.run)
        data = {
            "n": attack.last.n,
            "correct": int(attack.table.by_name["attacked"].sum()),
            "fooled": [float(f"{one:.6g}") for one in at],
            "rules": [
                {
                    "id": one.rule.id,
                    "told": wording.criterion(one.rule),
                    "side": "least" if one.rule.at_least is not None else "most",
                    "threshold": one.rule.threshold,
                    "z": round(NormalDist().inv_cdf(0.5 + one.rule.level / 2), 6),
                }
                for one in judged
                if one.rule is not None
                and one.rule.measurement == BOUND
                and any(speaks_of(one.rule, bound) for bound in attack.bounds)
            ],
        }
        norm = str(attack.last.conditions.get("norm", ""))
        found.append(Slider(attack.run.id, norm, top, json.dumps(data, separators=(",", ":"))))
    return tuple(found)


def fooled_at(attack: Attacked) -> Sequence[float]:
    """For each fooled sample the smallest budget at which it is known to be, in order.

    An example inside one ball is inside every larger one. Only an attack that looked for nearest
    examples tells distances; of the others the budget counts at which they were run.
    """
    import numpy as np

    lost = fooled(attack.table)
    at = attack.table.by_name["epsilon_fooled"][lost]
    if nearest(attack):
        at = np.minimum(at, attack.table.by_name["distance"][lost])
    ordered: list[float] = np.sort(at).tolist()
    return ordered

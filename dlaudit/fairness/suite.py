"""The suite on groups: its runs, its default rules and the requirements that they feed.

Knows thresholds, each with its reason and its doubt; refuses to call any of them the law.
"""

from __future__ import annotations

from dlaudit.audit.parts import Suite
from dlaudit.audit.record import Rule

RUN = "fairness.disparity"
AMPLIFICATION = "fairness.amplification"
PER_GROUP = "aia:art13-3-b-v"
REQUIREMENTS = ("aia:art10-2-f", "aia:art10-2-g", PER_GROUP, "aia:anx-iv-3")

FOUR_FIFTHS = (
    "Default, contested, to be replaced by one that you answer for: the four-fifths rule of the US "
    "Uniform Guidelines on Employee Selection Procedures (29 CFR 1607.4(D)) takes a selection rate "
    "below 4/5 of another group's as a sign of adverse impact. It was written for hiring in one "
    "country; small but steady gaps may matter below it, and where being selected is a burden the "
    "favourable class must be named as the positive one."
)
FIVE_FOURTHS = (
    "Default, contested, to be replaced by one that you answer for: 5/4 is the four-fifths rule "
    "read from the other side, so that the choice of the reference group cannot hide that the "
    "reference is the group that is selected less often."
)
TENTH = (
    "Default, contested, to be replaced by one that you answer for: a tolerance of 0.1 either way "
    "is a habit of published toolkits, not a legal limit. What a gap may be depends on what the "
    "decision does to people."
)
WIDENED = (
    "Default, contested, to be replaced by one that you answer for: decisions may move a group's rate "
    "against the reference by 0.05 beyond what the labels do. No source sets this figure; it is half "
    "the tolerance of the other gaps, since a gap that the model adds is the model's own."
)


def _within(
    measurement: str, low: float, high: float, why: tuple[str, str], run: str = RUN
) -> tuple[Rule, Rule]:
    """Two rules: not below ``low``, not above ``high``."""
    return (
        Rule(
            id=f"{run}.{measurement}", run=run, measurement=measurement, at_least=low,
            requirements=REQUIREMENTS, rationale=why[0], origin="suite:fairness",
        ),
        Rule(
            id=f"{run}.{measurement}-2", run=run, measurement=measurement, at_most=high,
            requirements=REQUIREMENTS, rationale=why[1], origin="suite:fairness",
        ),
    )  # fmt: skip


SUITE = Suite(
    name="fairness",
    title="Rates of groups and the gaps between them, with intervals",
    runs={
        "fairness.groups": {},
        RUN: {},
        AMPLIFICATION: {},
        "fairness.scores": {},
        "fairness.slices": {},
        "fairness.proxies": {},
    },
    rules=(
        *_within("selection_rate_ratio", 0.8, 1.25, (FOUR_FIFTHS, FIVE_FOURTHS)),
        *_within("true_positive_rate_difference", -0.1, 0.1, (TENTH, TENTH)),
        *_within("false_positive_rate_difference", -0.1, 0.1, (TENTH, TENTH)),
        *_within("accuracy_difference", -0.1, 0.1, (TENTH, TENTH)),
        *_within("amplification", -0.05, 0.05, (WIDENED, WIDENED), AMPLIFICATION),
    ),
    sentence=(
        "Rates are stated per declared group with the number of samples behind them and an "
        "interval; groups too small to estimate are listed, and so are samples whose group is "
        "unknown. The thresholds are those of the plan or, where it sets none, contested defaults. "
        "A gap in rates is a measurement, not a finding of law."
    ),
)

"""The suite on overfitting: its runs, its default rules and the requirements that they feed.

Knows thresholds and their reasons; measures nothing.
"""

from __future__ import annotations

from dlaudit.audit.parts import Suite
from dlaudit.audit.record import Rule

SUITE = Suite(
    name="overfitting",
    title="The gap between data it learned from and data it has not seen",
    runs={"overfitting.gap": {}, "overfitting.membership": {}},
    rules=(
        Rule(
            id="overfitting.gap.accuracy_gap",
            run="overfitting.gap",
            measurement="accuracy_gap",
            at_most=0.05,
            requirements=("aia:art10-2-e", "aia:art13-3-b-ii", "aia:art15-1"),
            rationale=(
                "Default, to be replaced by one that you answer for: five points of accuracy lost "
                "outside the training data is a proposal, not a law of nature; another tool warns "
                "at a relative loss of 10 %. The gap says nothing about data of another kind, nor "
                "whether single training samples are remembered."
            ),
            origin="suite:overfitting",
        ),
        Rule(
            id="overfitting.membership.membership_auc",
            run="overfitting.membership",
            measurement="membership_auc",
            at_most=0.65,
            requirements=("aia:art15-5-sub3-confidentiality-attacks",),
            rationale=(
                "Default, to be replaced by one that you answer for: a chance of 0.65 that a training "
                "sample has the smaller loss is a proposal; 0.5 is guessing, and models that "
                "generalise well stay below 0.55. Where the samples are people, hold "
                "membership_tpr as well: the average hides the few that are remembered."
            ),
            origin="suite:overfitting",
        ),
    ),
    sentence=(
        "The gap between accuracy on the training split and on the test split is stated with its "
        "interval, for the data whose digests stand above, and how well losses tell one split from the "
        "other. Both speak of these splits only: of other data, of leakage between the splits and of "
        "single samples that are remembered they say nothing."
    ),
)

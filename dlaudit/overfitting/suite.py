"""The suite on overfitting: its runs, its default rules and the requirements that they feed.

Knows thresholds and their reasons; measures nothing.
"""

from __future__ import annotations

from typing import Any

from dlaudit.audit.parts import Suite
from dlaudit.audit.record import Rule

GENERALISES = ("aia:art10-2-e", "aia:art13-3-b-ii", "aia:art15-1")
LEVEL_OF_ACCURACY = ("aia:art13-3-b-ii", "aia:art15-1")
OWN = "Default, to be replaced by one that you answer for: "


def _rule(
    run: str, measurement: str, why: str, requirements: tuple[str, ...], **limit: Any
) -> Rule:
    """A default rule; ``why`` goes on behind the words that say that it is one."""
    return Rule(
        id=f"{run}.{measurement}", run=run, measurement=measurement, requirements=requirements,
        rationale=OWN + why, origin="suite:overfitting", **limit,
    )  # fmt: skip


SUITE = Suite(
    name="overfitting",
    title="The gap between data it learned from and data it has not seen",
    runs={"overfitting.gap": {}, "overfitting.membership": {}},
    rules=(
        _rule(
            "overfitting.gap",
            "accuracy_gap",
            "five points of accuracy lost outside the training data is a proposal, not a law of nature; "
            "another tool warns at a relative loss of 10 %. The gap says nothing about data of another "
            "kind, nor whether single training samples are remembered.",
            GENERALISES,
            at_most=0.05,
        ),
        _rule(
            "overfitting.membership",
            "membership_auc",
            "a chance of 0.65 that a training sample has the smaller loss is a proposal; 0.5 is guessing, "
            "and models that generalise well stay below 0.55. Where the samples are people, hold "
            "membership_tpr as well: the average hides the few that are remembered.",
            ("aia:art15-5-sub3-confidentiality-attacks",),
            at_most=0.65,
        ),
        _rule(
            "overfitting.history",
            "overtraining_signs",
            "of the three signs, a validation loss that turned, one that lies more than a tenth above "
            "its best, and a checkpoint that is not the best one, a single one may be chance; two are "
            "taken for over-training.",
            GENERALISES,
            at_most=1,
        ),
        _rule(
            "overfitting.history",
            "nonfinite_epochs",
            "a loss that is no number says that training broke down at some time; whoever goes on from "
            "there shall say why.",
            LEVEL_OF_ACCURACY,
            at_most=0,
        ),
        _rule(
            "overfitting.calibration",
            "calibration_error",
            "stated probabilities that are off by more than ten points on average mislead whoever acts "
            "on them; 0.10 is a proposal of no source.",
            LEVEL_OF_ACCURACY,
            at_most=0.10,
        ),
        _rule(
            "overfitting.calibration",
            "overconfidence",
            "who is surer than right by more than ten points hides errors from those who would look "
            "twice; 0.10 is a proposal of no source.",
            LEVEL_OF_ACCURACY,
            at_most=0.10,
        ),
        _rule(
            "overfitting.majority",
            "one_answer",
            "a model that gives every sample the same answer tells nobody anything, however often that "
            "answer is right.",
            LEVEL_OF_ACCURACY,
            at_most=0,
        ),
        _rule(
            "overfitting.majority",
            "gain_over_majority",
            "balanced accuracy must close at least a tenth of the way from always the same answer to "
            "always the right one; 0.1 is a figure of published toolkits.",
            LEVEL_OF_ACCURACY,
            at_least=0.1,
        ),
        _rule(
            "overfitting.baseline",
            "gain",
            "a model that a classical one beats on the same data is more than is needed: harder to "
            "explain, dearer to run, and no better.",
            LEVEL_OF_ACCURACY,
            at_least=0.0,
        ),
    ),
    sentence=(
        "The gap between accuracy on the training split and on the test split is stated with its "
        "interval, for the data whose digests stand above, and how well losses tell one split from the "
        "other. Both speak of these splits only: of other data, of leakage between the splits and of "
        "single samples that are remembered they say nothing."
    ),
)

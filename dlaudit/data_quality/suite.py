"""The suite on data: its runs, its default rules and the requirements that they feed.

Knows thresholds, each with its reason and its doubt; refuses to call data good.
"""

from __future__ import annotations

from dlaudit.audit.parts import Suite
from dlaudit.audit.record import Rule

HONEST = ("aia:art10-3", "aia:art15-1")
DATA = ("aia:art10-3", "aia:art10-2-g")

DEFAULT = "Default, to be replaced by one that you answer for: "
COPIES = (
    DEFAULT + "a copy in the test set rewards what was learned by heart. Up to 0.5 % is what large "
    "collections have by accident; some toolkits speak up only from 5 % on."
)
LEAKED = (
    DEFAULT
    + "a person in both splits, or a test row older than training, makes the test easier than "
    "the work will be. Published toolkits tolerate none."
)
POWER = (
    DEFAULT
    + "a column that by itself gives away 0.7 of what there is to know is often a trace of the "
    "label (published predictive power scores use this figure). It may be an honest strong feature: then "
    "say so in a rule of your own."
)
LABELS = (
    DEFAULT
    + "between two proposals, to warn from 1 % of suspected labels on and to fail from 5 %. The "
    "judge of the labels errs, too: look at the rows before you believe the share."
)
MOVED = (
    DEFAULT
    + "no feature that the detector flags. Whether a drift matters is told by accuracy on the "
    "current data, not by the count."
)
APART = (
    DEFAULT
    + "a learner that tells two samples apart with an AUC above 0.625 (2 AUC - 1 = 0.25, the "
    "figure of a published toolkit) has found a difference that a model could find, too."
)
SHARES = (
    DEFAULT
    + "no class's share changed by more than 0.15, a published toolkit's figure for a related "
    "distance."
)


def _rule(run: str, measurement: str, most: float, why: str, requirements: tuple[str, ...]) -> Rule:
    return Rule(
        id=f"data_quality.{run}.{measurement}", run=f"data_quality.{run}", measurement=measurement,
        at_most=most, requirements=requirements, rationale=why, origin="suite:data_quality",
    )  # fmt: skip


SUITE = Suite(
    name="data_quality",
    title="Copies and leaks between splits, suspected labels, the state of the columns, drift",
    runs={
        "data_quality.duplicates": {},
        "data_quality.leakage": {},
        "data_quality.label_errors": {},
        "data_quality.columns": {},
        "data_quality.drift": {},
    },
    rules=(
        _rule("duplicates", "test_duplicates", 0.005, COPIES, HONEST),
        _rule("duplicates", "test_near_duplicates", 0.005, COPIES, HONEST),
        _rule("leakage", "leaked_rows", 0.0, LEAKED, HONEST),
        _rule("leakage", "predictive_power", 0.7, POWER, HONEST),
        _rule("label_errors", "suspected_labels", 0.02, LABELS, DATA),
        _rule("drift", "drifted_features", 0.0, MOVED, DATA),
        _rule("drift", "classifier_auc", 0.625, APART, DATA),
        _rule("drift", "label_drift", 0.15, SHARES, DATA),
    ),
    sentence=(
        "Copies and shared identities are counted over every row; what is not declared, such as who a row "
        "is about, is not assessed. Suspected labels, leaks and drifted features are findings for a person "
        "to look at: their rows are listed. Thresholds are those of the plan or, where it sets none, "
        "defaults. None of it says that the data are representative."
    ),
)

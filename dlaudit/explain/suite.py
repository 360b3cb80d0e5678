"""The suite on explanations: its runs, its default rules and the requirements that they feed.

Knows thresholds and their reasons; measures nothing.
"""

from __future__ import annotations

from dlaudit.audit.parts import Suite
from dlaudit.audit.record import Rule

MAPS, SHORTCUT, CONTROLS = "explain.attribution", "explain.shortcut", "explain.controls"
INTERPRETATION = ("aia:art13-1", "aia:art13-3-b-iv", "aia:art13-3-b-vii", "aia:art14-4-c")

SUITE = Suite(
    name="explain",
    title="Attribution maps tested before they are shown, and shortcuts",
    runs={MAPS: {}, CONTROLS: {}, SHORTCUT: {}},
    rules=(
        Rule(
            id=f"{MAPS}.completeness_error",
            run=MAPS,
            measurement="completeness_error",
            at_most=0.05,
            requirements=INTERPRETATION,
            rationale=(
                "Default: a path method that loses more than 5 % of what it claims to distribute "
                "was integrated too coarsely; its map must not be read."
            ),
            origin="suite:explain",
        ),
        Rule(
            id=f"{MAPS}.sanity",
            run=MAPS,
            measurement="sanity",
            at_least=1,
            requirements=INTERPRETATION,
            rationale=(
                "Default: a map that stays alike when the model forgets what it learned does not "
                "show what the model learned. The criterion's thresholds were set on small "
                "convolutional networks; they stand in the measurement's conditions."
            ),
            origin="suite:explain",
        ),
        Rule(
            id=f"{CONTROLS}.control_refused",
            run=CONTROLS,
            measurement="control_refused",
            at_least=1,
            requirements=INTERPRETATION,
            rationale=(
                "Default: where the sanity test passes a map that never looks at the model, its "
                "verdicts on other maps of this model say nothing either."
            ),
            origin="suite:explain",
        ),
        Rule(
            id=f"{SHORTCUT}.shortcut_pull",
            run=SHORTCUT,
            measurement="shortcut_pull",
            at_most=0.1,
            requirements=("aia:art13-3-b-vii", "aia:art15-4-sub1", "aia:art10-2-f"),
            rationale=(
                "Default, to be replaced by one that you answer for: what is not the object may raise "
                "the probability of the class that it comes from by no more than a tenth, or whoever "
                "adds it to a picture chooses the decision."
            ),
            origin="suite:explain",
        ),
        Rule(
            id=f"{SHORTCUT}.shortcut_effect",
            run=SHORTCUT,
            measurement="shortcut_effect",
            at_most=0.1,
            requirements=("aia:art13-3-b-vii", "aia:art15-4-sub1", "aia:art10-2-f"),
            rationale=(
                "Default, to be replaced by one that you answer for: no more than a tenth of the "
                "confidence in a decision may hang on what is not the object. Where the "
                "surroundings are legitimate evidence, declare so and raise it."
            ),
            origin="suite:explain",
        ),
    ),
    sentence=(
        "For each attribution method it is stated whether it passed the completeness and sanity "
        "checks on this model, and its deletion gain over the best order that knows the input "
        "only; a map shows where a logit's value comes from under that method, not why a decision "
        "was taken. Shortcuts are measured for the regions named, by replacing them; regions that "
        "nobody named were not examined."
    ),
)

"""The suite on performance: its run, and what the report may say of it.

Knows no threshold: which level is enough depends on the purpose, and no default would be anybody's. One
run, whatever the task: of a run for each, all but one would be skipped in every audit, and the gate would
stay closed.
"""

from __future__ import annotations

from dlaudit.audit.parts import Suite

SUITE = Suite(
    name="performance",
    title="How well it does what it is for, on the data named",
    runs={"performance.task": {}},
    sentence=(
        "The level of performance at the model's task is stated with its interval, for the data whose "
        "digests stand above. Which level is enough, and whether other data would give it too, these "
        "numbers do not say."
    ),
)

"""A suite: what one house asks of every release, with the reasons it answers for.

suites = ["house.release"]
"""

from dlaudit import Rule, Suite

release = Suite(
    name="house.release",
    title="What must hold before a release: learned, not memorised, and steady under small changes",
    runs={
        "overfitting.gap": {},
        "house.small_changes": {"use": "attacks.pgd", "epsilon": "2/255", "steps": 20},
    },
    rules=(
        Rule(
            id="house.learned", run="overfitting.gap", measurement="test_accuracy", at_least=0.8,
            rationale="below four in five, clerks are faster without it (trial of May 2026)",
        ),
        Rule(
            id="house.steady", run="house.small_changes", measurement="robust_accuracy",
            at_least=0.5, rationale="scanners differ by 2 grey levels between sites (device log)",
        ),
    ),
    sentence="Two criteria of the house, on the data whose digests stand above; nothing beyond.",
)  # fmt: skip

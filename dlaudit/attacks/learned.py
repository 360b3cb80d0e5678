"""What universal attacks share: some samples teach one pattern, the others are attacked with it.

Knows how samples are divided and how a pattern's success is counted; never how a pattern is learned
or put on an input. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import structs

from dlaudit.attacks.base import Attack, Found, Norm, Terms, Threat
from dlaudit.audit.parts import Batch, Model, Needs, Yielded
from dlaudit.audit.record import Cost, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import wilson
from dlaudit.errors import NotOffered, nearest

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dlaudit.audit.bench import Bench


class Learned(Attack, frozen=True, kw_only=True):
    """One pattern for all samples, learned on some of them and judged on the others.

    learn: so many samples teach, at most half of them; steps, batch: gradient steps, and samples
    drawn for each. target: the name or index of a class that the pattern is to call up; without it,
    any wrong decision will do. samples: how many of the other half are attacked, None for all.

    A subclass writes ``pattern`` and ``apply``. ``target_success``: share of attacked samples of other
    classes that are decided as the target, a success at a smaller budget being one at every larger.
    """

    scales: ClassVar[bool] = False
    measures: ClassVar[tuple[str, ...]] = (
        "clean_accuracy", "robust_accuracy", "inputs_moved", "target_success",
    )  # fmt: skip
    # Proportions, but not of as many samples as the split holds: what decides a rule is not foretold.
    proportions: ClassVar[tuple[str, ...]] = ()

    learn: int = 512
    steps: int = 100
    batch: int = 64
    target: str | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that teach nothing."""
        super().__post_init__()
        for name in ("learn", "steps", "batch"):
            value = getattr(self, name)
            if value < 1:
                message = f"{name}: expected a number >= 1, got {value}"
                raise ValueError(message)

    @property
    def examines_itself(self) -> bool:
        """No: the search is over before the samples that are judged are looked at."""
        return False

    def pattern(
        self, model: Model, batch: Batch, threat: Threat, generator: torch.Generator
    ) -> Tensor:
        """The pattern that these samples teach. batch: tensors on the model's device."""
        raise NotImplementedError

    def apply(
        self, model: Model, batch: Batch, threat: Threat, generator: torch.Generator, *, pattern: Tensor
    ) -> Found:  # fmt: skip
        """The samples with the pattern on them, where it fools if it was tried in several places."""
        raise NotImplementedError

    def search(
        self, model: Model, batch: Batch, threat: Threat, generator: torch.Generator
    ) -> Found:
        """Learn from the very samples that are attacked, where nobody divides them."""
        import torch

        before = model.passes.cost
        pattern = self.pattern(model, batch, threat, generator)
        spent, n = model.passes.since(before), max(len(batch.y), 1)
        found = self.apply(model, batch, threat, generator, pattern=pattern)
        taught = torch.full(found.forward.shape, 1 / n, dtype=torch.float64)
        return found._replace(
            forward=found.forward.cpu() + taught * spent.forward,
            backward=found.backward.cpu() + taught * spent.backward,
        )

    def aim(self, classes: tuple[str, ...]) -> int | None:
        """The target as an index. Raises NotOffered if no class is called so."""
        if self.target is None:
            return None
        if self.target in classes:
            return classes.index(self.target)
        if self.target.isdecimal() and int(self.target) < len(classes):
            return int(self.target)
        message = f"target: no class is called {self.target!r}. {nearest(self.target, classes)}"
        raise NotOffered(message)

    def conditions(self, epsilon: float) -> dict[str, Scalar]:
        """See ``Attack.conditions``."""
        return {**super().conditions(epsilon), "targeted": self.target is not None}

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Learn one pattern for each budget on some samples, and attack the others with it."""
        from dlaudit.attacks.harness import robustness

        self.aim(bench.classes)
        taught, judged = divided(bench, self.learn)
        if not len(taught):
            reason = "fewer than two samples: none can teach what another is attacked with"
            for epsilon in self.epsilon:
                yield Undefined(
                    name="robust_accuracy", reason=reason, conditions=self.conditions(epsilon)
                )
            return
        patterns = self._patterns(bench, taught)
        shared = {name: getattr(self, name) for name in Attack.__struct_fields__}
        applied = Applied(by=self, patterns=patterns, taught=len(taught), successes={}, **shared)
        yield from robustness(applied, bench, among=judged)
        yield from applied.target_successes()

    def _patterns(self, bench: Bench, taught: Any) -> dict[float, Tensor]:
        """A pattern for every budget above zero. taught: sorted positions of the samples that teach."""
        import torch

        from dlaudit.attacks.harness import on_device, told
        from dlaudit.audit.bench import rows

        model = bench.model
        (batch,) = bench.gathered("test", [taught], len(taught))
        right = bench.answers().correct[taught].nonzero()[0]
        # Who is wrong already teaches nothing about how to make others wrong.
        batch = on_device(rows(batch, right), model.device, bench)
        terms = self.terms(bench)
        found = {}
        for epsilon in self.epsilon:
            if epsilon > 0:
                seed = int(bench.rng(f"pattern {epsilon!r}").integers(2**63))
                generator = torch.Generator().manual_seed(seed)
                threat = structs.replace(
                    terms.threat(batch, epsilon), bounds=told(model.bounds, batch.x)
                )
                found[epsilon] = self.pattern(model, batch, threat, generator)
        return found

    def passes(self, *, n: int, classes: int) -> Cost:
        """The most it can cost: the steps on every budget, and what each attacked sample may spend."""
        del classes
        taught = min(self.learn, n // 2)
        budgets = sum(epsilon > 0 for epsilon in self.epsilon)
        steps = self.steps * min(self.batch, taught) * budgets
        judged = self.attacked(n - taught)
        return Cost(forward=steps + taught * budgets + judged * (self.tries() + 1), backward=steps)

    def tries(self) -> int:
        """Forward passes that ``apply`` spends on one sample, at most."""
        return int(self.target is not None)


class Applied(Attack, frozen=True, kw_only=True):
    """Patterns that were learned elsewhere, as an attack on other samples: what the harness judges.

    by: the attack that learned them; patterns: one for each budget; taught: how many samples taught;
    successes: budget -> (samples brought to the target, samples tried), filled as it goes.
    """

    # No gradient is followed here: the patterns are what they are.
    needs: ClassVar[Needs] = Needs(model=("logits",), data=("labels",))
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1", "l0", "patch")

    by: Learned
    patterns: dict[float, Any]
    taught: int
    successes: dict[float, tuple[int, int]]

    def search(
        self, model: Model, batch: Batch, threat: Threat, generator: torch.Generator
    ) -> Found:
        """Put the pattern of this budget on the samples."""
        found = self.by.apply(
            model, batch, threat, generator, pattern=self.patterns[threat.epsilon]
        )
        goal = self.by.aim(model.classes)
        if goal is None:
            return found
        other = batch.y != goal
        reached = (model.logits(found.x).argmax(dim=1) == goal) & other
        before, tried = self.successes.get(threat.epsilon, (0, 0))
        self.successes[threat.epsilon] = before + int(reached.sum()), tried + int(other.sum())
        return found._replace(forward=found.forward + 1)

    def conditions(self, epsilon: float) -> dict[str, Scalar]:
        """Those of the attack that learned the patterns, and on how many samples it did."""
        return {**self.by.conditions(epsilon), "taught": self.taught}

    def terms(self, bench: Bench) -> Terms:
        """Those of the attack that learned the patterns."""
        return self.by.terms(bench)

    def target_successes(self) -> Iterator[Measurement | Undefined]:
        """How often the target was called up, per budget; nothing without a target."""
        if self.by.target is None:
            return
        reached = tried = 0
        for epsilon in self.epsilon:
            if epsilon == 0:
                continue
            more, here = self.successes.get(epsilon, (0, 0))
            # Who was fooled at a smaller budget is not tried again: the first budget tries everybody.
            reached, tried = reached + more, max(tried, here)
            conditions = self.conditions(epsilon)
            if not tried:
                reason = "no sample of another class than the target was attacked"
                yield Undefined(name="target_success", reason=reason, conditions=conditions)
                continue
            yield Measurement(
                name="target_success", value=reached / tried, n=tried,
                interval=wilson(reached, tried), direction="lower", conditions=conditions,
            )  # fmt: skip


def divided(bench: Bench, most: int) -> tuple[Any, Any]:
    """Sorted positions of the samples that teach, at most half and ``most`` of them, and of the others."""
    import numpy as np

    n = len(bench.answers().y)
    taught = min(most, n // 2)
    order = bench.rng("who teaches").permutation(n)
    return np.sort(order[:taught]), np.sort(order[taught:])

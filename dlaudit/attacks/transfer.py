"""Examples made on one model and judged on another: an attack that asks the audited model nothing.

Knows where a source of gradients comes from: a further model of the plan, or a small surrogate trained
on the audited model's own decisions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from dlaudit.attacks.base import Attack, Found, LossName, Norm, Threat
from dlaudit.attacks.queries import answering
from dlaudit.audit.parts import Batch, Model, Needs, Yielded
from dlaudit.audit.record import Cost, Measurement, Scalar
from dlaudit.audit.statistics import wilson
from dlaudit.errors import NotOffered, nearest

if TYPE_CHECKING:
    import numpy as np
    import torch

    from dlaudit.audit.bench import Bench

TRAINED = "trained"
"""The source that is trained on the spot."""
MOST = 20_000
"""Samples that a surrogate is trained on, at most: more help a small network little."""


class Source(NamedTuple):
    """Whose gradients are followed. among: sorted positions of the samples to judge, None for all."""

    model: Model
    stated: dict[str, Scalar]
    among: np.ndarray | None = None


class Transfer(Attack, frozen=True, kw_only=True):
    """Examples made on a source model by momentum steps (Dong et al. 2018), judged on the audited one.

    source: a name under ``[models]``, or ``trained`` for a surrogate; by default the first further
    model with gradients, and without one a surrogate. It is trained on the audited model's decisions
    on the train split, or else on one half of the test split, and then the other half is attacked.
    updates: of its training. decay: of the momentum.
    """

    needs: ClassVar[Needs] = Needs(model=("queries",), data=("labels",))
    measures: ClassVar[tuple[str, ...]] = (*Attack.measures, "source_agreement")
    proportions: ClassVar[tuple[str, ...]] = measures
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")

    source: str | None = None
    steps: int = 10
    decay: float = 1.0
    loss: LossName = "cross_entropy"
    updates: int = 300

    def __post_init__(self) -> None:
        """Refuse numbers of steps that make no attack."""
        super().__post_init__()
        for name, value in (("steps", self.steps), ("updates", self.updates)):
            if value < 1:
                message = f"{name}: expected a number >= 1, got {value}"
                raise ValueError(message)
        if self.decay < 0:
            message = f"decay: expected a number >= 0, got {self.decay}"
            raise ValueError(message)

    def missing(
        self, *, model: frozenset[str], data: frozenset[str], train_fn: bool
    ) -> tuple[str, ...]:
        """See ``Check.missing``; whoever gives logits can be asked."""
        return self.needs.missing(model=answering(model), data=data, train_fn=train_fn)

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """See ``Attack.measure``; also how often source and audited model agree on clean inputs."""
        from dlaudit.attacks.harness import robustness

        source = self.source_at(bench)
        kept = {name: getattr(self, name) for name in self.__struct_fields__}
        aimed = Aimed(**kept, source_model=source.model, stated=source.stated)
        yield agreement(bench, source, samples=self.samples)
        yield from robustness(aimed, bench, among=source.among)

    def source_at(self, bench: Bench) -> Source:
        """The source that this run uses. Raises NotOffered if it is not there or has no gradients."""
        usable = [name for name in sorted(bench.models) if "gradients" in bench.models[name].offers]
        if self.source in {None, TRAINED} and not (self.source is None and usable):
            return trained(bench, updates=self.updates)
        name = usable[0] if self.source is None else self.source
        if name not in usable:
            message = f"source: no further model of the plan has gradients and is called {name!r}. "
            raise NotOffered(message + nearest(str(name), [*usable, TRAINED]))
        return Source(bench.models[name], {"source": f"models.{name}"})

    def search(
        self, model: Model, batch: Batch, threat: Threat, generator: torch.Generator
    ) -> Found:
        """See ``Attack.search``; nothing is drawn."""
        import torch

        from dlaudit.attacks.ball import Ball
        from dlaudit.attacks.losses import LOSSES
        from dlaudit.attacks.momentum import momentum_ascent

        del generator
        x = momentum_ascent(
            model, Ball(batch.x, threat), batch.y, loss=LOSSES[self.loss], steps=self.steps,
            decay=self.decay,
        )  # fmt: skip
        spent = torch.full((len(batch.y),), float(self.steps), dtype=torch.float64)
        return Found(x, spent, spent)

    def passes(self, *, n: int, classes: int) -> Cost:
        """The most it can cost, those through a further model included."""
        del classes
        chosen = n if self.samples is None else min(n, self.samples)
        attacked = self.attacked(n)
        return Cost(forward=attacked * (self.steps + 1) + chosen, backward=attacked * self.steps)


class Aimed(Transfer, frozen=True, kw_only=True):
    """The attack once its source is known."""

    source_model: Any = None
    stated: dict[str, Any] = {}

    def search(
        self, model: Model, batch: Batch, threat: Threat, generator: torch.Generator
    ) -> Found:
        """See ``Attack.search``, on the source; the audited model is asked nothing."""
        del model
        at = self.source_model
        moved = batch._replace(x=batch.x.to(at.device), y=batch.y.to(at.device))
        found = super().search(at, moved, threat, generator)
        return found._replace(x=found.x.to(batch.x.device))

    def conditions(self, epsilon: float) -> dict[str, Scalar]:
        """See ``Attack.conditions``; the source as it was found."""
        stated = {**super().conditions(epsilon), **self.stated}
        stated.pop("source_model", None)
        if stated["source"] != TRAINED:
            stated.pop("updates")
        return {**stated, "restarts": 1}


def trained(bench: Bench, *, updates: int) -> Source:
    """A surrogate trained on the audited model's decisions, and the samples it has not seen.

    Raises NotOffered if the inputs are not floating-point numbers.
    """
    import numpy as np

    from dlaudit.attacks.surrogate import imitated

    split, among = "train", None
    rng = bench.rng("surrogate")
    if "train" in bench.data.offers:
        answers = bench.answers("train")
        n = len(answers.y)
        chosen = np.sort(rng.permutation(n)[:MOST])
    else:
        split, answers = "test", bench.answers("test")
        n = len(answers.y)
        order = rng.permutation(n)
        chosen, among = np.sort(order[: n // 2][:MOST]), np.sort(order[n // 2 :])
    if not len(chosen):
        message = "source: expected at least two samples to train a surrogate on one of them"
        raise NotOffered(message)
    x = np.concatenate([np.asarray(block.batch.x) for block in bench.blocks_at(split, chosen)])
    if x.dtype.kind != "f":
        message = f"source: a surrogate needs floating-point inputs, got {x.dtype}"
        raise NotOffered(message)
    classes = max(len(bench.classes), int(max(answers.y.max(), answers.predicted.max())) + 1)
    model = imitated(
        x, answers.predicted[chosen], classes=classes, updates=updates,
        seed=int(rng.integers(2**62)), device=bench.model.device,
    )  # fmt: skip
    where = "train split" if among is None else "half of the test split, the other half attacked"
    stated: dict[str, Scalar] = {
        "source": TRAINED, "source_trained_on": where, "source_samples": len(chosen),
    }  # fmt: skip
    return Source(model, stated, among)


def agreement(bench: Bench, source: Source, *, samples: int | None) -> Measurement:
    """The share of clean samples that source and audited model decide alike."""
    import numpy as np

    sampling = bench.sampling(samples=samples, among=source.among)
    alike = 0
    for block in sampling.blocks():
        end = block.start + len(block.batch.y)
        theirs = np.asarray(source.model.decide(block.batch).predicted)
        alike += int((theirs == sampling.answers.predicted[block.start : end]).sum())
    n = len(sampling.answers.y)
    return Measurement(
        name="source_agreement", value=alike / n, n=n, interval=wilson(alike, n),
        direction="lower", conditions=source.stated,
    )  # fmt: skip

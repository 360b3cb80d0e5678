"""Which model's adversarial examples fool which other model.

Knows the audited model and the plan's further ones; never which of them is any good.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from dlaudit.attacks.base import LossName, Threat
from dlaudit.attacks.queries import answering
from dlaudit.audit.parts import Batch, Check, Epsilon, Model, Needs, Yielded
from dlaudit.audit.record import Cost, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import wilson

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from dlaudit.audit.bench import Bench

AUDITED = "model"
"""What the audited model is called beside ``models.<name>``, as in a plan."""


class TransferMatrix(Check, frozen=True, kw_only=True):
    """Examples of every model with gradients, judged by every other model that can be asked.

    Each source attacks what it decides rightly, by momentum steps (Dong et al. 2018). ``transfer_rate``:
    of the examples that fool their source, whose clean inputs the judged model decides rightly, the
    share that fools it too. ``source_success``: how many of its own samples a source fools.
    """

    needs: ClassVar[Needs] = Needs(model=("queries",), data=("labels",))
    measures: ClassVar[tuple[str, ...]] = ("transfer_rate", "source_success")
    proportions: ClassVar[tuple[str, ...]] = measures

    norm: Literal["linf", "l2"] = "linf"
    epsilon: Epsilon = Epsilon("8/255")
    steps: int = 10
    decay: float = 1.0
    loss: LossName = "cross_entropy"
    samples: int | None = 512

    def __post_init__(self) -> None:
        """Refuse what makes no attack."""
        if len(self.epsilon.values) != 1 or 0 in self.epsilon:
            message = f"epsilon: expected one number > 0, got {self.epsilon.plain}"
            raise ValueError(message)
        if self.steps < 1 or (self.samples is not None and self.samples < 1):
            name = "steps" if self.steps < 1 else "samples"
            message = f"{name}: expected a number >= 1, got {getattr(self, name)}"
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
        """Yield a rate for each pair of two models, and the table behind them."""
        import numpy as np

        models = {AUDITED: bench.model}
        models |= {f"models.{name}": bench.models[name] for name in sorted(bench.models)}
        sources = [name for name, one in models.items() if "gradients" in one.offers]
        judges = [name for name, one in models.items() if "queries" in answering(one.offers)]
        pieces: list[dict[str, np.ndarray]] = [
            self.block(block.batch, models, sources, judges, bench)
            for block in bench.blocks(samples=self.samples)
        ]
        table = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
        yield from self.numbers(table, sources, judges)
        yield bench.keep_table(
            f"{bench.run}.samples", table,
            caption=f"{bench.run}: which source's example fooled which model, one row per sample.",
        )  # fmt: skip

    def block(
        self,
        batch: Batch,
        models: dict[str, Model],
        sources: list[str],
        judges: list[str],
        bench: Bench,
    ) -> dict[str, np.ndarray]:
        """One block's columns: ``right <judge>`` and ``<source> fools <judge>``, bool each.

        A source's own column, ``<source> fools <source>``, holds where its examples succeed. Raises
        NotOffered if the inputs are not floating-point numbers.
        """
        import numpy as np

        from dlaudit.attacks.harness import on_device, rewritten

        y = np.asarray(batch.y)
        right = {name: decided(models[name], batch) == y for name in {*sources, *judges}}
        columns: dict[str, Any] = {"id": np.asarray(batch.id, dtype=str), "label": y}
        columns |= {f"right {name}": right[name] for name in judges}
        for source in sources:
            tensors = on_device(batch, models[source].device, bench)
            x, valid = self.examples(models[source], tensors, bench)
            shown = rewritten(tensors, x, bench.data.card.facts)
            own = valid & right[source] & (decided(models[source], shown) != y)
            for judge in judges:
                if judge == source:
                    columns[f"{source} fools {judge}"] = own
                    continue
                columns[f"{source} fools {judge}"] = own & (decided(models[judge], shown) != y)
            # A source that nobody may ask anew still has examples that fool it.
            columns.setdefault(f"{source} fools {source}", own)
            columns.setdefault(f"right {source}", right[source])
        return columns

    def examples(self, source: Model, batch: Batch, bench: Bench) -> tuple[Tensor, np.ndarray]:
        """Examples on a source, and (B,) bool whether they keep to the threat model."""
        from dlaudit.attacks.ball import Ball
        from dlaudit.attacks.losses import LOSSES
        from dlaudit.attacks.momentum import momentum_ascent

        bounds = bench.model.bounds
        ball = Ball(batch.x, Threat(norm=self.norm, epsilon=self.epsilon.values[0], bounds=bounds))
        x = momentum_ascent(
            source, ball, batch.y, loss=LOSSES[self.loss], steps=self.steps, decay=self.decay
        )
        x = ball.project(x)
        return x, ball.contains(x).cpu().numpy()

    def numbers(
        self, table: dict[str, np.ndarray], sources: list[str], judges: list[str]
    ) -> Iterator[Measurement | Undefined]:
        """The rates, from the columns of all samples."""
        if not sources:
            reason = (
                "no model of the plan gives gradients, so there are no examples to show to others"
            )
            yield Undefined(name="transfer_rate", reason=reason)
        for source in sources:
            stated = self.stated(source)
            own, right = table[f"{source} fools {source}"], table[f"right {source}"]
            yield rate("source_success", own, right, stated, "the source decides no sample rightly")
        pairs = [(source, judge) for source in sources for judge in judges if source != judge]
        if sources and not pairs:
            reason = "the plan names no further model: examples have nowhere to be carried to"
            yield Undefined(name="transfer_rate", reason=reason)
        for source, judge in pairs:
            stated = {**self.stated(source), "judged": judge}
            among = table[f"{source} fools {source}"] & table[f"right {judge}"]
            reason = "no example fools its source on a sample that the judged model decides rightly"
            yield rate("transfer_rate", table[f"{source} fools {judge}"], among, stated, reason)

    def stated(self, source: str) -> dict[str, Scalar]:
        """The protocol, as it stands beside every number."""
        return {
            "source": source, "norm": self.norm, "epsilon": self.epsilon.values[0],
            "steps": self.steps, "decay": self.decay, "loss": self.loss,
            "step_size": self.epsilon.values[0] / self.steps, "targeted": False,
        }  # fmt: skip

    def passes(self, *, n: int, classes: int) -> Cost:
        """Of the audited model as the only source: the plan's further models add theirs."""
        del classes
        chosen = n if self.samples is None else min(n, self.samples)
        return Cost(forward=chosen * (self.steps + 2), backward=chosen * self.steps)


def decided(model: Model, batch: Batch) -> np.ndarray:
    """(B,) class indices."""
    import numpy as np

    return np.asarray(model.decide(batch).predicted)


def rate(
    name: str, hits: np.ndarray, among: np.ndarray, stated: dict[str, Scalar], reason: str
) -> Measurement | Undefined:
    """A proportion among some of the samples; undefined where there is none. hits, among: (n,) bool."""
    n = int(among.sum())
    if not n:
        return Undefined(name=name, reason=reason, conditions=stated)
    count = int((hits & among).sum())
    return Measurement(
        name=name, value=count / n, n=n, interval=wilson(count, n), direction="lower",
        conditions=stated,
    )  # fmt: skip

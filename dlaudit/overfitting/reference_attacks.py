"""Membership inference with reference models: how the model's confidence differs from its like.

Knows the audited model's answers and those of models trained with and without each sample; refuses to
train by itself (the bench does), and refuses to call what an attack misses forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from msgspec import Meta

from dlaudit.audit.parts import Check, Needs, Yielded
from dlaudit.audit.record import Measurement, Undefined
from dlaudit.errors import NotOffered, nearest
from dlaudit.overfitting.gap import TEST, TRAIN, doubts
from dlaudit.overfitting.membership import AUC, TPR, area, picture, samples, scores, tail

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Answers, Bench
    from dlaudit.audit.parts import Model
    from dlaudit.overfitting.membership_scores import Shadows

SHADOWS = 16
GLOBAL = "global_threshold"


class ReferenceAttacks(Check, frozen=True, kw_only=True):
    """LiRA and RMIA: membership inference against models trained with and without each sample.

    ``models`` reference models are trained with the plan's function, each on a random half of both
    splits together, so that half of them learned a sample and half did not. The audited model's confidence
    on a sample, log(p / (1 - p)) of its label, is then compared with theirs, per ``method``:
    ``lira_online`` and ``lira_offline`` (Carlini et al. 2022; one spread for all samples below 64 models),
    ``rmia`` (Zarifzadeh et al. 2024, with the test split as population and ``a`` as its offline
    correction), and ``global_threshold``, the attack that knows no other model. ``membership_auc`` and
    ``membership_tpr`` are those of ``overfitting.membership``.

    references: names of further models of the plan that learned from neither split; then nothing is
    trained and only the offline attacks are made. The intervals speak of the samples, given these models.
    """

    models: Annotated[int, Meta(ge=2)] = SHADOWS
    references: tuple[str, ...] = ()
    a: Annotated[float, Meta(ge=0, le=1)] = 0.3

    needs: ClassVar[Needs] = Needs(model=("logits",), data=("labels", "train"))
    measures: ClassVar[tuple[str, ...]] = (AUC, TPR, "shadow_models")

    def missing(
        self, *, model: frozenset[str], data: frozenset[str], train_fn: bool
    ) -> tuple[str, ...]:
        """A function for training, unless the plan holds reference models."""
        gaps = super().missing(model=model, data=data, train_fn=train_fn)
        return gaps if train_fn or self.references else (*gaps, "plan: [train] factory")

    @property
    def trainings(self) -> int:
        """See ``Check.trainings``: an even number, so that each sample is in for half of them."""
        return 0 if self.references else self.models + self.models % 2

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Ask every reference model about both splits, then attack."""
        from dlaudit.overfitting.membership_scores import FEW_SHADOWS

        train, test = bench.answers(TRAIN), bench.answers(TEST)
        caveats, n = tuple(doubts(bench)), len(train.y)
        shadows = self._given(bench) if self.references else self._trained(bench)
        count = len(shadows.inside)
        conditions: dict[str, Any] = {
            "models": count, "trained": not self.references,
            "spread": "one for all samples" if count < FEW_SHADOWS else "per sample",
        }  # fmt: skip
        if not self.references:
            conditions["trained_on"] = (n + len(test.y)) // 2
        yield Measurement(
            name="shadow_models", value=count, n=count, exact="counted", conditions=conditions
        )
        found = {
            name: (told[:n], told[n:])
            for name, told in self._attacks(train, test, shadows, fixed=count < FEW_SHADOWS).items()
        }
        for method in ("lira_online", "lira_offline", "rmia", GLOBAL):
            where = {"method": method}
            if method not in found:
                for name in (AUC, TPR):
                    reason = self._unable(method)
                    yield Undefined(name=name, reason=reason, slice=where, conditions=conditions)
                continue
            members, others = found[method]
            yield area(AUC, members, others, caveats, conditions=conditions, where=where)
            yield tail(bench, members, others, caveats, conditions=conditions, where=where)
        yield picture(bench, found)
        yield samples(bench, found, train, test)

    def _attacks(
        self, train: Answers, test: Answers, shadows: Shadows, *, fixed: bool
    ) -> dict[str, np.ndarray]:
        """The scores of every attack that these models allow, training samples first."""
        import numpy as np

        from dlaudit.overfitting.membership_scores import lira_offline, lira_online, rmia

        target = np.concatenate([scores(train), scores(test)])
        population = np.arange(len(train.y), len(target))
        found = {"rmia": rmia(target, shadows, population, a=self.a), GLOBAL: target}
        least = int((~shadows.inside).sum(axis=0).min())
        if least > 1:  # of one model nobody knows the spread
            found["lira_offline"] = lira_offline(target, shadows, fixed=fixed)
        if not self.references and least > 1:
            found["lira_online"] = lira_online(target, shadows, fixed=fixed)
        return dict(sorted(found.items()))

    def _unable(self, method: str) -> str:
        """Why an attack was not made."""
        if method == "lira_online" and self.references:
            return "reference models that learned from neither split: online needs some that did"
        return "one model on a side: its spread is not known, at least two are needed"

    def _trained(self, bench: Bench) -> Shadows:
        """Models on random halves: each sample is inside for exactly half of them."""
        import numpy as np

        from dlaudit.overfitting.membership_scores import Shadows, confidence
        from dlaudit.overfitting.pool import joined_splits, part

        pool = joined_splits(bench)
        n = len(pool.y)
        # One random order per pair of models: the first learns from one half, the second from the other.
        halves = np.zeros((self.trainings, n), dtype=bool)
        for first in range(0, self.trainings, 2):
            chosen = bench.rng(f"half {first}").permutation(n)[: n // 2]
            halves[first, chosen] = True
            halves[first + 1] = ~halves[first]
        told = [
            confidence(bench.trained(part(pool, half), seed=seed).logits(pool.x).numpy(), pool.y)
            for seed, half in enumerate(halves)
        ]
        return Shadows(np.stack(told), halves)

    def _given(self, bench: Bench) -> Shadows:
        """The plan's further models, which learned from neither split."""
        import numpy as np

        from dlaudit.overfitting.membership_scores import Shadows, confidence
        from dlaudit.overfitting.pool import joined_splits

        pool = joined_splits(bench)

        def ask(name: str) -> np.ndarray:
            if name not in bench.models:
                message = (
                    f"references: the plan has no model {name!r}. {nearest(name, bench.models)}"
                )
                raise NotOffered(message)
            model: Model = bench.models[name]
            return confidence(model.logits(pool.x).float().cpu().numpy(), pool.y)

        told = np.stack([ask(name) for name in self.references])
        return Shadows(told, np.zeros(told.shape, dtype=bool))

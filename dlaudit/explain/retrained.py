"""Do maps outlive the seed? The same decisions, explained on models trained anew by the plan's function.

Knows maps of several models that were trained alike; refuses to say which of them is right. Where the data
leave a choice (two columns, either of which will do), each training takes its own, and the map of one
model says nothing about the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from msgspec import Meta

from dlaudit.audit.parts import Check, Needs, Yielded
from dlaudit.audit.record import Cost, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import LEVEL, wilson
from dlaudit.errors import NotExplained
from dlaudit.explain.methods import SHIPPED, known_methods

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Bench
    from dlaudit.audit.parts import Explainer, Model
    from dlaudit.explain.subject import Baseline, Subject

ALIKE, BEYOND, SAME = "seed_agreement", "seed_agreement_beyond_input", "same_decision"
FEW = 10
"""Inputs of a group below which no mean of it is given."""


class Retrained(Check, frozen=True, kw_only=True):
    """How alike the maps of one decision are on models that were trained alike with other seeds.

    ``seed_agreement``: rank correlation of absolute maps of the same decision, audited model and new
    ones in pairs, mean over the pairs that both decide so, over the inputs; per group of people too
    (Bonferroni). ``seed_agreement_beyond_input``: the same with what both models' mean maps and |x - b|
    explain partialled out, as in the sanity test. ``same_decision``: share of inputs that every training
    decides as the audited model does. Intervals are over the inputs, for these trainings.

    methods, baseline, settings: as of ``explain.attribution``. retrained: new trainings.
    """

    needs: ClassVar[Needs] = Needs(
        model=("logits", "gradients", "module"), data=("labels", "train"), train_fn=True
    )
    measures: ClassVar[tuple[str, ...]] = (ALIKE, BEYOND, SAME)
    proportions: ClassVar[tuple[str, ...]] = (SAME,)

    methods: tuple[str, ...] = ("integrated_gradients",)
    baseline: Literal["zero", "low", "mean", "blur"] = "zero"
    settings: dict[str, dict[str, Any]] = {}
    samples: Annotated[int, Meta(ge=2)] = 64
    retrained: Annotated[int, Meta(ge=1)] = 2

    def __post_init__(self) -> None:
        """Refuse unknown methods."""
        known_methods(self.methods)

    @property
    def trainings(self) -> int:
        """See ``Check.trainings``."""
        return self.retrained

    def passes(self, *, n: int, classes: int) -> Cost:
        """One map for each input, method and model."""
        del classes
        each = [SHIPPED[one]().passes(positions=64) for one in self.methods if one in SHIPPED]
        many = min(n, self.samples) * (1 + self.retrained)
        return Cost(
            forward=many * (1 + sum(one.forward for one in each)),
            backward=many * sum(one.backward for one in each),
        )

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Train anew, explain the same decisions, compare."""
        import numpy as np

        from dlaudit.explain.attribution import made
        from dlaudit.explain.subject import subject_of

        try:
            own = subject_of(bench, self.samples)
            start = own.baseline(self.baseline)
        except NotExplained as error:
            yield from self._refused(str(error))
            return
        whole = bench.whole("train")
        try:
            others = [
                _asked_the_same(own, bench.trained(whole, seed=seed + 1))
                for seed in range(self.retrained)
            ]
        except NotExplained as error:
            yield from self._refused(str(error))
            return
        decided = own.target.cpu().numpy()
        alike = np.stack([one.logits.argmax(axis=1) == decided for one in others])  # (K, n)
        yield self._same_decision(alike)
        apart = np.abs((own.x - start).cpu().numpy())
        columns: dict[str, np.ndarray] = {"id": own.batch.id, "predicted": decided}
        columns["trainings_alike"] = alike.sum(axis=0)
        for method in self.methods:
            part = bench.part("explainers", method)
            explainer = made(part(), self.settings.get(method, {}), f"settings.{method}")
            try:
                maps = [
                    _maps(explainer, one, self.baseline, bench.rng(f"maps, {method}"))
                    for one in (own, *others)
                ]
            except NotExplained as error:
                yield from self._refused(str(error), method)
                continue
            kept = np.vstack([np.ones((1, alike.shape[1]), dtype=bool), alike])
            for name, values in compared(maps, apart, kept, pixels=own.pixels).items():
                yield from self._means(own, name, method, values)
                columns[f"{method}_{name}"] = values
        yield bench.keep_table(
            f"{bench.run}.samples", columns,
            caption="Each input: how many new trainings decide it as the audited model does, and how "
            "alike its maps are, mean over the pairs of models that do; NaN without such a pair.",
        )  # fmt: skip

    def _refused(self, reason: str, method: str = "") -> Iterator[Undefined]:
        """No number of a method that does not apply, or of what cannot be explained at all."""
        for name in (ALIKE, BEYOND) if method else self.measures:
            yield Undefined(name=name, reason=reason, slice={"method": method} if method else {})

    def _same_decision(self, alike: np.ndarray) -> Measurement:
        """alike: (K, n)."""
        same, n = int(alike.all(axis=0).sum()), alike.shape[1]
        return Measurement(
            name=SAME, value=same / n, n=n, interval=wilson(same, n), direction="higher",
            conditions={"trainings": self.retrained},
        )  # fmt: skip

    def _means(self, own: Subject, name: str, method: str, values: np.ndarray) -> Iterator[Yielded]:
        """Over everybody and per group; a level for each attribute's groups."""
        import numpy as np

        from dlaudit.explain.telling import mean_of

        stated: dict[str, Scalar] = {
            "baseline": self.baseline, "trainings": self.retrained,
            "of": "absolute maps of the audited model's decision, by rank",
            "search": "groups of one attribute, Bonferroni",
        }  # fmt: skip
        none = "no input is decided alike by two of the models"
        yield mean_of(name, values, {"method": method}, stated, none, direction="higher")
        for attribute, column in own.batch.groups.items():
            groups = np.asarray(column).astype(str)
            there = {one: values[(groups == one) & ~np.isnan(values)] for one in np.unique(groups)}
            many = sum(len(some) >= FEW for some in there.values())
            level = 1 - (1 - LEVEL) / max(many, 1)
            for group, some in there.items():
                where = {"method": method, attribute: str(group)}
                if len(some) < FEW:
                    reason = f"{len(some)} inputs decided alike: at least {FEW} are needed"
                    yield Undefined(name=name, reason=reason, slice=where, conditions=stated)
                    continue
                yield mean_of(name, some, where, stated, none, direction="higher", level=level)


def compared(
    maps: list[np.ndarray], apart: np.ndarray, kept: np.ndarray, *, pixels: bool
) -> dict[str, np.ndarray]:
    """By measurement (n,): mean correlation over the pairs of models that decide an input alike.

    maps: (n, *input) per model; apart: (n, *input), |x - baseline|; kept: (models, n) bool. NaN
    without such a pair.
    """
    from itertools import combinations

    import numpy as np

    from dlaudit.explain import sanity

    flat = [sanity.grid(one, pixels=pixels) for one in maps]
    distance = sanity.grid(apart, pixels=pixels)
    plain = [np.ones_like(distance)]
    pairs = list(combinations(range(len(flat)), 2))
    both = np.stack([kept[a] & kept[b] for a, b in pairs])

    def mean(found: list[np.ndarray]) -> np.ndarray:
        count = both.sum(axis=0)
        total = np.where(both, np.stack(found), 0).sum(axis=0)
        none = np.full(len(count), np.nan)
        return np.asarray(np.divide(total, count, out=none, where=count > 0))

    return {
        ALIKE: mean([sanity.partial_spearman(flat[a], flat[b], plain) for a, b in pairs]),
        BEYOND: mean([sanity.partial_correlations(flat[a], flat[b], distance) for a, b in pairs]),
    }


def _asked_the_same(own: Subject, model: Model) -> Subject:
    """A new model asked about the inputs and decisions of the audited one; a text at its own embedding.

    Raises NotExplained for a model that cannot be opened.
    """
    import torch

    from dlaudit.explain.subject import embedding_of

    if (module := model.module) is None:
        message = "the function for training returned a model that cannot be opened"
        raise NotExplained(message)
    if not own.words:
        logits = model.logits(own.x).double().cpu().numpy()
        return own._replace(answer=model.logits, module=module, logits=logits)
    embedded = embedding_of(module, torch.as_tensor(own.batch.x))
    logits = embedded.in_portions(embedded.start).double().cpu().numpy()
    return own._replace(
        x=embedded.start, answer=embedded.in_portions, module=embedded, logits=logits
    )


def _maps(
    explainer: Explainer, subject: Subject, baseline: Baseline, rng: np.random.Generator
) -> np.ndarray:
    """The maps of one model; every model is given the same draws."""
    from dlaudit.explain.subject import maps_of

    request = subject.request(subject.baseline(baseline), rng)
    return maps_of(explainer.fitted(request), request)

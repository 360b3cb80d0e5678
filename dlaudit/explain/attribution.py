"""Attribution maps, tested before they are shown: completeness, sanity, faithfulness on this model.

Knows which methods are asked and what is told of them; refuses to show a map without its verdicts.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from dlaudit.audit.parts import Check, Explainer, Needs, Yielded
from dlaudit.audit.record import Artifact, Cost, Undefined
from dlaudit.errors import NotExplained, nearest
from dlaudit.explain.methods import SHIPPED, known_methods

if TYPE_CHECKING:
    from dlaudit.audit.bench import Bench
    from dlaudit.explain.rows import Row
    from dlaudit.explain.subject import Subject

Baseline = Literal["zero", "low", "mean", "blur"]
Count = Annotated[int, Meta(ge=1)]
CURVES = 2 * 21
"""Passes of a deletion and an insertion curve."""
CONTROLS = 4
POSITIONS = 64
"""Where an input's size is not known beforehand, methods that hide places are reckoned with so many."""


class Attribution(Check, frozen=True, kw_only=True):
    """Attribution maps of the original decisions, each with its own verdicts on this model.

    ``completeness_error``: 95th percentile over the inputs of what the attributions of a complete method
    miss of f(x) - f(baseline), as a share of it; steps are doubled from ``steps`` to ``most_steps``
    until it is at most 5 %. ``sanity``: 1 if the maps change when the model's parameters are permuted
    and the input's share in them is partialled out, 0 if not. ``faithfulness_gain``,
    ``insertion_gain``: how much faster the decision falls (rises) when the map's positions are deleted
    (shown) first, than by the best order that knows the input only (area under the curve, paired);
    ``road_gain``: the same with pixels guessed from their neighbours. ``infidelity``: share of the
    logit's losses under random removals that the map misses. ``max_sensitivity``: how much maps change
    under small moves of the input. ``agreement``: rank correlation of two methods' maps.

    methods, baselines: each pair is a row; ``zero`` is moved into the model's bounds, ``low`` is
    their lower end, ``mean`` that of the explained inputs, ``blur`` the blurred picture. settings:
    parameters of methods by name. samples: inputs explained. randomised: models with permuted
    parameters. nearby: inputs near each one for max-sensitivity, 0 for none. road: whether pixels are
    imputed too. pictures: inputs drawn, if the plan keeps so many samples.
    """

    needs: ClassVar[Needs] = Needs(model=("logits", "gradients", "module"))
    measures: ClassVar[tuple[str, ...]] = (
        "completeness_error", "sanity", "faithfulness_gain", "insertion_gain", "road_gain",
        "infidelity", "max_sensitivity", "agreement",
    )  # fmt: skip

    methods: tuple[str, ...] = ("integrated_gradients",)
    baselines: tuple[Baseline, ...] = ("zero", "mean")
    settings: dict[str, dict[str, Any]] = {}
    samples: Count = 64
    steps: Count = 50
    most_steps: Count = 400
    randomised: Annotated[int, Meta(ge=2)] = 5
    nearby: Annotated[int, Meta(ge=0)] = 3
    road: bool = False
    pictures: Annotated[int, Meta(ge=0)] = 6

    def __post_init__(self) -> None:
        """Refuse an empty table, unknown methods, and a limit below the first number of steps."""
        known_methods(self.methods)
        if not self.baselines:
            message = "baselines: expected at least one, got none"
            raise ValueError(message)
        for method in self.settings:
            if method not in self.methods:
                message = f"settings.{method}: not one of methods. {nearest(method, self.methods)}"
                raise ValueError(message)
            if method in SHIPPED:
                made(SHIPPED[method](), self.settings[method], f"settings.{method}")
        if self.most_steps < self.steps:
            message = f"most_steps: expected at least steps = {self.steps}, got {self.most_steps}"
            raise ValueError(message)

    def missing(
        self, *, model: frozenset[str], data: frozenset[str], train_fn: bool
    ) -> tuple[str, ...]:
        """See ``Check.missing``: what the methods need; guests are taken to need a module."""
        words = {
            word
            for method in self.methods
            for word in (SHIPPED[method]().needs if method in SHIPPED else self.needs.model)
        }
        needed = tuple(word for word in self.needs.model if word in words or word == "logits")
        return Needs(model=needed).missing(model=model, data=data, train_fn=train_fn)

    def passes(self, *, n: int, classes: int) -> Cost:
        """Maps to show, to test (model, noise, twins, near by), and the curves of rows and controls."""
        del classes
        explained = min(n, self.samples)
        times = 2 + 1 + self.randomised + self.nearby - 1
        forward = backward = 0
        for method in self.methods:
            if method not in SHIPPED:
                continue
            one = made(SHIPPED[method](), self.settings.get(method, {}), method)
            if hasattr(one, "steps"):
                one = msgspec.structs.replace(one, steps=self.steps)
            each = one.passes(positions=POSITIONS)
            rows = len(self.baselines) if one.based else 1
            forward += rows * times * each.forward
            backward += rows * times * each.backward
        curves = (len(self.methods) + CONTROLS) * CURVES + len(self.methods) * 10
        forward += len(self.baselines) * curves
        return Cost(forward=explained * forward, backward=explained * backward)

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Explain, test the explanations, and draw them with their verdicts."""
        from dlaudit.explain import telling
        from dlaudit.explain.rows import Effort, Table, agreement
        from dlaudit.explain.subject import subject_of

        explainers = {method: self._explainer(bench, method) for method in self.methods}
        try:
            subject = subject_of(bench, self.samples)
        except NotExplained as error:
            for method in self.methods:
                yield from self._refused(method, None, str(error))
            return
        effort = Effort(self.steps, self.most_steps, self.randomised, self.nearby, self.road)
        table, rows = Table(bench, subject, effort), []
        for method, explainer in explainers.items():
            for baseline in self.baselines:
                try:
                    row = table.row(method, explainer, baseline)
                except NotExplained as error:
                    yield from self._refused(method, baseline, str(error))
                    continue
                rows.append(row)
                yield from telling.measured(row, effort)
        for first, second in combinations(rows, 2):
            if first.baseline == second.baseline:
                alike = agreement(first, second, pixels=subject.pixels)
                yield telling.agreeing(first, second, alike)
        if rows:
            yield telling.evidence(bench, subject, rows)
            yield from self._drawn(bench, subject, rows)

    def _explainer(self, bench: Bench, method: str) -> Explainer:
        """The method with its parameters. Raises UnknownName for a guest that is not there."""
        part = bench.part("explainers", method)
        return made(part(), self.settings.get(method, {}), f"settings.{method}")

    def _refused(self, method: str, baseline: Baseline | None, reason: str) -> Iterator[Undefined]:
        """No number of a method that does not apply."""
        conditions = {} if baseline is None else {"baseline": baseline}
        for name in ("completeness_error", "sanity", "faithfulness_gain", "insertion_gain"):
            yield Undefined(
                name=name, reason=reason, slice={"method": method}, conditions=dict(conditions)
            )

    def _drawn(self, bench: Bench, subject: Subject, rows: list[Row]) -> Iterator[Artifact]:
        """Mean maps and curves of all explained inputs, and single inputs where the plan keeps samples."""
        from dlaudit.explain.drawing import curves, mean_maps, single_maps, single_texts

        count = min(self.pictures, bench.keep_samples)
        yield from curves(bench, rows)
        if subject.words:
            yield from single_texts(bench, subject, rows, count)
            return
        yield from mean_maps(bench, subject, rows)
        if subject.pixels:
            yield from single_maps(bench, subject, rows, count)


def made(explainer: Explainer, settings: dict[str, Any], place: str) -> Explainer:
    """The explainer with some of its parameters set. Raises ValueError for what it does not take."""
    known = {name: getattr(explainer, name) for name in explainer.__struct_fields__}
    for name in settings:
        if name not in known:
            message = f"{place}.{name}: no such parameter. {nearest(name, known)}"
            raise ValueError(message)
    try:
        return msgspec.convert({**known, **settings}, type(explainer))
    except msgspec.ValidationError as error:
        message = f"{place}: {error}"
        raise ValueError(message) from error

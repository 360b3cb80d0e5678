"""Analysis, not advice: what other thresholds would change, and what unknown groups could hide.

Knows how to ask "what if"; refuses rules of its own: none of these numbers says what to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta

from dlaudit.audit.parts import Yielded
from dlaudit.audit.record import Caveat, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import wilson
from dlaudit.fairness.groups import ByGroup, Counted, Crowd
from dlaudit.fairness.rates import RATES, Proportion

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Answers, Bench
    from dlaudit.fairness.scoring import Scores

TRADED = ("what_if_accuracy", "what_if_gap")
BOUNDS = tuple(f"{rate}_difference_{end}" for rate in RATES for end in ("lowest", "highest"))
NOISE_BOUNDS = tuple(
    f"{rate}_difference_noisy_{end}" for rate in RATES for end in ("lowest", "highest")
    if rate != "selection_rate"
)  # fmt: skip
ANALYSIS = "analysis, not advice: thresholds that differ by group may themselves not be permitted"


class WhatIf(ByGroup, frozen=True, kw_only=True):
    """Analysis: thresholds per group traded against accuracy, and bounds for unknown groups.

    ``what_if_accuracy`` and ``what_if_gap`` (largest - smallest selection rate, of the two groups that
    the fitting half shows farthest apart) at ``steps`` points between today's rates of every group
    (``share`` = 0) and one rate for all (1). Thresholds are fitted on one half, drawn by the plan's seed; the
    numbers come from the other.

    ``<rate>_difference_lowest`` and ``_highest``: how far a difference from the reference could go if the
    samples whose group is unknown belonged where that is worst. Only of attributes with unknown ones.
    ``<rate>_difference_noisy_lowest`` and ``_noisy_highest``: the same if up to a share ``label_noise`` of
    the labels in each group were wrong, whichever they are.
    """

    measures: ClassVar[tuple[str, ...]] = (*TRADED, *BOUNDS, *NOISE_BOUNDS)

    reference: dict[str, str] | None = None
    steps: Annotated[int, Meta(ge=2, le=51)] = 6
    label_noise: Annotated[float, Meta(ge=0, lt=0.5)] = 0.05

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Ask for every attribute and intersection asked for."""
        from dlaudit.fairness import scoring, tally

        answers = bench.answers(self.split)
        tally.known_attributes(self.reference or {}, answers.groups)
        positive = self.positive_class(bench.classes)
        scores = None if positive is None else scoring.scores_of(answers, positive)
        missing = self.no_positive(bench.classes) if positive is None else None
        for counted in self.counted(bench, answers):
            if isinstance(counted, Crowd):
                for name in self.measures:
                    yield counted.undefined(name)
                continue
            stated: dict[str, Scalar] = {
                **self.conditions(bench.classes, "selection_rate"),
                "attribute": counted.partition.attribute,
            }
            if scores is None:
                reason = missing or "the model gives decisions only: no logits and no score"
                for name in TRADED:
                    yield Undefined(name=name, reason=reason, conditions=stated)
            else:
                yield from self._traded(bench, answers, counted, scores, stated)
            yield from self._bounded(bench, counted)
            yield from self._noisy(bench, counted)
        yield self.evidence(bench)

    def _traded(
        self,
        bench: Bench,
        answers: Answers,
        counted: Counted,
        scores: Scores,
        stated: dict[str, Scalar],
    ) -> Iterator[Yielded]:
        """Accuracy and gap in the half that fitted nothing."""
        import numpy as np

        from dlaudit.fairness import drawing, gaps, thresholds

        part = counted.partition
        label = answers.y == self.positive_class(bench.classes)
        selected = answers.predicted == self.positive_class(bench.classes)
        fitting = np.zeros(len(label), dtype=bool)
        order = bench.rng(f"halves/{part.attribute}").permutation(len(label))
        fitting[order[: len(label) // 2]] = True
        halves = {
            group: (np.flatnonzero((part.codes == group) & fitting),
                    np.flatnonzero((part.codes == group) & ~fitting))
            for group in range(len(part.slices))
        }  # fmt: skip
        usable = [g for g, both in halves.items() if min(map(len, both)) >= self.minimum]
        if len(usable) < 2:
            reason = f"fewer than two groups of {self.minimum} samples in each half"
            for name in TRADED:
                yield Undefined(name=name, reason=reason, conditions=stated)
            return
        members = [(scores.values[halves[g][0]], label[halves[g][0]]) for g in usable]
        rates = [float(selected[halves[g][0]].mean()) for g in usable]
        ends = int(np.argmax(rates)), int(np.argmin(rates))
        doubt = Caveat(source=bench.run, name="analysis", message=ANALYSIS)
        points = []
        for step, choice in enumerate(thresholds.trade_off(members, rates, self.steps)):
            conditions: dict[str, Scalar] = {**stated, "share": step / (self.steps - 1)}
            shown = [
                _shown(scores.values[halves[g][1]], label[halves[g][1]], limit)
                for g, limit in zip(usable, choice.thresholds, strict=True)
            ]
            right, n = sum(one[1].successes for one in shown), sum(one[1].n for one in shown)
            accuracy = wilson(right, n)
            yield Measurement(
                name="what_if_accuracy", value=right / n, n=n, interval=accuracy,
                conditions=conditions, caveats=(doubt,), direction="higher",
            )  # fmt: skip
            high, low = (shown[end][0] for end in ends)
            gap = gaps.difference(high, low)
            points.append((gap.value, right / n, accuracy.low, accuracy.high))
            yield Measurement(
                name="what_if_gap", value=gap.value, n=gap.n, interval=gap.interval,
                conditions={
                    **conditions, "higher": part.named(usable[ends[0]]),
                    "lower": part.named(usable[ends[1]]),
                },
                caveats=(doubt,),
            )  # fmt: skip
        yield from drawing.trade_off(bench, part, points, ANALYSIS)

    def _bounded(self, bench: Bench, counted: Counted) -> Iterator[Yielded]:
        """Bounds of every difference, where some members of groups are unknown."""
        from dlaudit.fairness import tally, unknown_groups

        part, tallies = counted.partition, counted.tallies
        unknown = [group for group in range(len(tallies)) if not part.is_known(group)]
        missing = sum(tallies[group].n for group in unknown)
        reference = tally.reference(part, [one.n for one in tallies], self.reference or {})
        for name, rate in RATES.items():
            conditions = {
                **self.conditions(bench.classes, name), "attribute": part.attribute,
                "reference": part.named(reference), "unknown": missing,
            }  # fmt: skip
            if part.is_intersection or not missing:
                reason = (
                    "of an intersection: see its attributes" if missing else "no group is unknown"
                )
                for end in ("lowest", "highest"):
                    yield Undefined(
                        name=f"{name}_difference_{end}", reason=reason, conditions=conditions
                    )
                continue
            lost = [rate.of(tallies[group]) for group in unknown]
            hidden = Proportion(sum(x.successes for x in lost), sum(x.n for x in lost))
            for group, where in enumerate(part.slices):
                if group == reference or group in unknown:
                    continue
                sides = rate.of(tallies[group]), rate.of(tallies[reference])
                reasons = [self.why_undefined(rate, side, bench.classes) for side in sides]
                reason = next((one for one in reasons if one), "")
                found = None if reason else unknown_groups.bounds(*sides, hidden)
                for end in ("lowest", "highest"):
                    said = f"{name}_difference_{end}"
                    if found is None:
                        yield Undefined(
                            name=said, reason=reason, slice=where, conditions=conditions
                        )
                        continue
                    yield Measurement(
                        name=said, value=found.low if end == "lowest" else found.high,
                        n=sum(side.n for side in sides) + hidden.n, slice=where, conditions=conditions,
                        exact="a bound over every assignment of the unknown samples, no estimate",
                    )  # fmt: skip

    def _noisy(self, bench: Bench, counted: Counted) -> Iterator[Yielded]:
        """Bounds of every difference that looks at labels, where some labels are wrong."""
        from dlaudit.fairness import label_noise, tally

        part, tallies = counted.partition, counted.tallies
        reference = tally.reference(part, [one.n for one in tallies], self.reference or {})
        for name in label_noise.NOISY:
            rate = RATES[name]
            conditions = {
                **self.conditions(bench.classes, name), "reference": part.named(reference),
                "label_noise": self.label_noise,
            }  # fmt: skip
            for group, where in enumerate(part.slices):
                if group == reference:
                    continue
                sides = tallies[group], tallies[reference]
                reasons = [self.why_undefined(rate, rate.of(x), bench.classes) for x in sides]
                reason = next((one for one in reasons if one), None)
                found = [
                    label_noise.bounds(name, x, label_noise.allowed(x.n, self.label_noise))
                    for x in sides
                ]
                if reason is None and None in found:
                    reason = f"wrong labels could leave no {rate.denominator}"
                own, other = found
                for end in ("lowest", "highest"):
                    said = f"{name}_difference_noisy_{end}"
                    if reason is not None or own is None or other is None:
                        yield Undefined(
                            name=said, reason=str(reason), slice=where, conditions=conditions
                        )
                        continue
                    low, high = own.low - other.high, own.high - other.low
                    yield Measurement(
                        name=said, value=low if end == "lowest" else high,
                        n=sum(rate.of(x).n for x in sides), slice=where, conditions=conditions,
                        exact="a bound over every choice of the wrong labels, no estimate",
                    )  # fmt: skip


def _shown(scores: np.ndarray, label: np.ndarray, limit: float) -> tuple[Proportion, Proportion]:
    """How many are selected from a threshold on, and for how many that is right."""
    chosen = scores >= limit
    right = int((chosen == label).sum())
    return Proportion(int(chosen.sum()), len(label)), Proportion(right, len(label))

"""Whether decisions widen the gap that the labels hold already, or only repeat it.

Knows which groups are compared and what the plan declares of feedback; refuses thresholds, and
refuses to call a gap of the labels right or wrong: it says only where the decisions stand to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from dlaudit.audit.parts import Yielded
from dlaudit.audit.record import Caveat, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import LEVEL
from dlaudit.errors import PlanError
from dlaudit.fairness.groups import Counted, Crowd, EachClass

if TYPE_CHECKING:
    from dlaudit.audit.bench import Bench
    from dlaudit.fairness.clustered import Clustered
    from dlaudit.fairness.gaps import Gap

PER_GROUP = ("label_gap", "prediction_gap", "amplification")
REACH = {"label_gap": 1.0, "prediction_gap": 1.0, "amplification": 2.0}
"""How far from 0 each of them can lie."""
OVERALL = (
    "directional_amplification",
    "differential_fairness_labels",
    "differential_fairness_predictions",
    "differential_fairness_amplification",
)


class Amplification(EachClass, frozen=True, kw_only=True):
    """The gap of the decisions beside the gap of the labels, and how far one widens the other.

    For every group but the reference (named, or the largest known one): ``label_gap`` and
    ``prediction_gap`` = positive rate of group - reference, by label and by decision (Newcombe), and
    ``amplification`` = prediction_gap - label_gap, paired within each group. 0: decisions repeat the
    labels' gap. For every attribute: ``directional_amplification`` (Wang & Russakovsky 2021; above 0:
    decisions exaggerate which group goes with which outcome) and smoothed
    ``differential_fairness_labels``, ``_predictions``, ``_amplification`` (Foulds et al. 2020).

    ``feedback_widens`` is 1 where the plan declares that decisions become later data (feedback = true
    here or in its context) and some group's gap is widened beyond chance; undefined if nothing is
    declared.

    cluster: a column or attribute that says which rows belong together; intervals per group are then those
    of clusters, and the numbers over a whole attribute have none.
    """

    compares_rates: ClassVar[bool] = True
    measures: ClassVar[tuple[str, ...]] = (*PER_GROUP, *OVERALL, "feedback_widens")

    reference: dict[str, str] | None = None
    feedback: bool | None = None
    cluster: str | None = None

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Compare labels and decisions of every attribute and intersection asked for."""
        from dlaudit.fairness import drawing, tally

        if self.one_vs_rest:
            yield from self.each_class(bench)
            return
        answers = bench.answers(self.split)
        tally.known_attributes(self.reference or {}, answers.groups)
        feedback = self._feedback(bench)
        for counted in self.counted(bench, answers):
            if isinstance(counted, Crowd):
                for name in self.measures:
                    yield counted.undefined(name)
                continue
            told = list(self._partition(counted, bench, feedback=feedback))
            yield from told
            yield from drawing.forest(
                bench, counted.partition, told, dict.fromkeys(PER_GROUP, 0.0),
                line="as in the reference",
            )  # fmt: skip
        yield self.evidence(bench)

    def _feedback(self, bench: Bench) -> bool | None:
        """Whether decisions become later data, as declared. Raises PlanError for another answer."""
        declared = self.feedback if self.feedback is not None else bench.context.get("feedback")
        if declared is None or isinstance(declared, bool):
            return declared
        message = f"context.feedback: expected true or false, got {declared!r}"
        raise PlanError(message)

    def _partition(
        self, counted: Counted, bench: Bench, *, feedback: bool | None
    ) -> Iterator[Yielded]:
        """All that is measured of one attribute or intersection."""
        from dlaudit.fairness import amplify, tally
        from dlaudit.fairness.gaps import NoGap

        sums = {} if self.cluster is None else self._clustered(bench, counted)
        part, tallies = counted.partition, counted.tallies
        base = {**self.conditions(bench.classes, "selection_rate"), "attribute": part.attribute}
        if self.cluster is not None:
            base["cluster"] = self.cluster
        if self.positive_class(bench.classes) is None:
            for name in self.measures:
                yield Undefined(name=name, reason=self.no_positive(bench.classes), conditions=base)
            return
        reference = tally.reference(part, [one.n for one in tallies], self.reference or {})
        small = {
            group: f"{one.n} samples, fewer than the minimum of {self.minimum}"
            for group, one in enumerate(tallies)
            if one.n < self.minimum
        }
        others = [group for group in range(len(tallies)) if group != reference]
        searched = [group for group in others if group not in small]
        level = 1 - (1 - LEVEL) / max(1, len(searched)) if part.is_intersection else LEVEL
        stated = {**base, "reference": part.named(reference)}
        widened = []
        for group in others:
            where = part.slices[group]
            reason = small.get(group)
            if reason is None and reference in small:
                reason = (
                    f"the reference {part.named(reference)} is not estimable: {small[reference]}"
                )
            if reason is not None:
                for name in PER_GROUP:
                    yield Undefined(name=name, reason=reason, slice=where, conditions=stated)
                continue
            sides = tallies[group], tallies[reference]
            found = {
                "label_gap": amplify.label_gap(*sides, level),
                "prediction_gap": amplify.prediction_gap(*sides, level),
                "amplification": amplify.amplification(*sides, level),
            }
            if sums:
                by_cluster = {
                    name: one.difference(group, reference, level, reach=REACH[name])
                    for name, one in sums.items()
                }
                lone = next((x for x in by_cluster.values() if isinstance(x, NoGap)), None)
                if lone is not None:
                    for name in PER_GROUP:
                        yield Undefined(
                            name=name, reason=lone.reason, slice=where, conditions=stated
                        )
                    continue
                found = {name: x for name, x in by_cluster.items() if not isinstance(x, NoGap)}
            for name, gap in found.items():
                yield _told(name, gap, stated, where=where)
            if amplify.widened(found["label_gap"], found["amplification"]):
                widened.append(part.named(group))
        usable = [one for group, one in enumerate(tallies) if group not in small]
        if len(usable) < 2 or sums:
            for name in OVERALL:
                reason = "fewer than two groups to compare"
                if sums:
                    reason = "of clustered rows: see the amplification of each group"
                yield Undefined(name=name, reason=reason, conditions=base)
        else:
            caveats = _left_out(bench, counted, small)
            pooled = amplify.differential(usable)
            for name, gap in zip(OVERALL, (amplify.directional(usable), *pooled), strict=True):
                yield _told(name, gap, base, caveats=caveats)
        compared = bool(searched) and reference not in small
        yield self._widens(widened, stated, feedback=feedback, n=len(others), compared=compared)

    def _clustered(self, bench: Bench, counted: Counted) -> dict[str, Clustered]:
        """Labels, decisions and their differences, summed by group and cluster."""
        import numpy as np

        from dlaudit.fairness import clustered

        answers = bench.answers(self.split)
        clusters = clustered.cluster_codes(bench, answers, str(self.cluster), self.split)
        positive = self.positive_class(bench.classes)
        label = (answers.y == positive).astype(np.float64)
        decision = (answers.predicted == positive).astype(np.float64)
        everyone = np.ones(len(label), dtype=bool)
        codes, groups = counted.partition.codes, len(counted.tallies)
        return {
            name: clustered.summed(codes, groups, clusters, values, everyone)
            for name, values in zip(
                PER_GROUP, (label, decision, decision - label), strict=True
            )
        }  # fmt: skip

    def _widens(
        self,
        widened: list[str],
        stated: dict[str, Scalar],
        *,
        feedback: bool | None,
        n: int,
        compared: bool,
    ) -> Measurement | Undefined:
        """The feedback flag of one attribute."""
        if feedback is None:
            reason = (
                "the plan does not declare whether decisions become later data: "
                "set context.feedback = true or false"
            )
        elif not compared:
            reason = "no group could be compared with the reference"
        else:
            doubt = Caveat(
                source="fairness.amplification", name="widened",
                message=f"gaps widened beyond chance: {', '.join(widened)}",
            )  # fmt: skip
            return Measurement(
                name="feedback_widens", value=float(feedback and bool(widened)), n=n,
                exact="declared feedback, and intervals that lie on one side of 0",
                direction="lower",
                conditions={**stated, "feedback": feedback, "criterion": "amplification excludes 0"},
                caveats=(doubt,) if widened else (),
            )  # fmt: skip
        return Undefined(name="feedback_widens", reason=reason, conditions=stated)


def _told(
    name: str,
    gap: Gap,
    conditions: dict[str, Scalar],
    *,
    where: dict[str, str] | None = None,
    caveats: tuple[Caveat, ...] = (),
) -> Measurement:
    """A gap as a measurement."""
    return Measurement(
        name=name, value=gap.value, interval=gap.interval, n=gap.n, slice=where or {},
        conditions=conditions, caveats=caveats,
    )  # fmt: skip


def _left_out(bench: Bench, counted: Counted, small: dict[int, str]) -> tuple[Caveat, ...]:
    """A doubt that names the groups that a number over the whole attribute leaves out."""
    if not small:
        return ()
    named = "; ".join(f"{counted.partition.named(group)} ({why})" for group, why in small.items())
    message = f"left out of the comparison: {named}"
    return (Caveat(source=bench.run, name="groups-left-out", message=message),)

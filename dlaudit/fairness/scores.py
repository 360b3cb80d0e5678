"""Scores of every group: how well they rank, whether they mean what they say, how they lie.

Knows which groups are measured and what a score is; refuses thresholds, and refuses to calibrate
what is no probability.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from dlaudit.audit.parts import Needs, Yielded
from dlaudit.audit.record import Measurement, Scalar, Undefined
from dlaudit.audit.statistics import LEVEL
from dlaudit.fairness.groups import Counted, Crowd, EachClass

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Answers, Bench
    from dlaudit.fairness.clustered_scores import Owners
    from dlaudit.fairness.scoring import Estimate, Scores

PER_GROUP = (
    "auc", "mean_score", "calibration_gap", "calibration_slope", "calibration_error",
)  # fmt: skip
COMPARED = ("auc", "mean_score", "calibration_gap", "calibration_slope")
BETTER: dict[str, Literal["higher", "lower"]] = {"auc": "higher", "calibration_error": "lower"}
DEPENDENT = (
    "rows of one cluster depend on each other: the distance's bounds hold for independent rows"
)
NO_SCORES = "the model gives decisions only: no logits and no score"


class Scoring(EachClass, frozen=True, kw_only=True):
    """AUC, calibration and distribution of the scores of each group, and their differences.

    Of the positive class against the rest: ``auc`` (DeLong), ``mean_score``; of probabilities also
    ``calibration_gap`` = mean(score - label) (above 0: too high a score), ``calibration_slope`` (1 is
    right) and ``calibration_error`` (ECE, ten bins). Against the reference (named, or the largest known
    group): ``<metric>_difference`` and ``score_distance`` (Kolmogorov-Smirnov).

    minimum: samples per group, and for ``auc`` and ``calibration_slope`` also positives and negatives
    in it. Scores are softmax probabilities, or what was recorded for class 1. cluster: a column or
    attribute that says which rows belong together (one person, one day); intervals are then those of
    clusters, and the distance of distributions has none.
    """

    needs: ClassVar[Needs] = Needs(model=("decisions",), data=("labels", "groups"))
    measures: ClassVar[tuple[str, ...]] = (
        *PER_GROUP, *(f"{name}_difference" for name in COMPARED), "score_distance",
    )  # fmt: skip

    reference: dict[str, str] | None = None
    cluster: str | None = None

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Measure every group of every attribute and intersection asked for."""
        from dlaudit.fairness import scoring, tally

        if self.one_vs_rest:
            yield from self.each_class(bench)
            return
        from dlaudit.fairness.clustered import cluster_codes

        answers = bench.answers(self.split)
        tally.known_attributes(self.reference or {}, answers.groups)
        positive = self.positive_class(bench.classes)
        scores = None if positive is None else scoring.scores_of(answers, positive)
        missing = self.no_positive(bench.classes) if positive is None else NO_SCORES
        clusters = None
        if self.cluster is not None:
            clusters = cluster_codes(bench, answers, self.cluster, self.split)
        for counted in self.counted(bench, answers):
            if isinstance(counted, Crowd):
                for name in self.measures:
                    yield counted.undefined(name)
            elif scores is None:
                stated: dict[str, Scalar] = {"attribute": counted.partition.attribute}
                for name in self.measures:
                    yield Undefined(name=name, reason=missing, conditions=stated)
            else:
                yield from self._partition(bench, answers, counted, scores, clusters)
        if scores is None:
            yield self.evidence(bench)
            return
        columns = {f"group_{name}": column for name, column in answers.groups.items()}
        yield bench.keep_table(
            f"{bench.run}.samples",
            {
                "id": answers.id, "y": answers.y, "predicted": answers.predicted,
                "score": scores.values, **columns,
            },
            caption=f"Label, decision, score and groups of each sample of the {self.split} split.",
        )  # fmt: skip

    def _partition(
        self,
        bench: Bench,
        answers: Answers,
        counted: Counted,
        scores: Scores,
        clusters: np.ndarray | None,
    ) -> Iterator[Yielded]:
        """The groups of one attribute, and what sets them apart from the reference."""
        from dlaudit.fairness import clustered_scores, drawing, scoring, tally

        part, sizes = counted.partition, [one.n for one in counted.tallies]
        reference = tally.reference(part, sizes, self.reference or {})
        searched = [g for g, n in enumerate(sizes) if g != reference and n >= self.minimum]
        level = 1 - (1 - LEVEL) / max(1, len(searched)) if part.is_intersection else LEVEL
        label = (answers.y == self.positive_class(bench.classes)).astype(int)
        members = [part.codes == group for group in range(len(sizes))]
        base = self.conditions(bench.classes, "selection_rate")
        if self.cluster is not None:
            base["cluster"] = self.cluster
        against = {**base, "reference": part.named(reference)}

        def estimates(group: int, at: float) -> dict[str, Estimate | str]:
            here = members[group]
            rng = bench.rng(f"{part.attribute}/{part.named(group)}")
            owners = None
            if clusters is not None:
                owners = clustered_scores.Owners(clusters[here], int(clusters.max()) + 1)
            return self._estimates(
                scores._replace(values=scores.values[here]), label[here], owners, rng, at
            )

        compared = estimates(reference, level)
        for group, where in enumerate(part.slices):
            for name, found in estimates(group, LEVEL).items():
                yield _told(name, found, where, base)
            if group == reference:
                continue
            own = estimates(group, level)
            for name in COMPARED:
                one, other = own[name], compared[name]
                gap: Estimate | str
                if isinstance(one, str):
                    gap = one
                elif isinstance(other, str):
                    gap = f"the reference {part.named(reference)} is not estimable: {other}"
                else:
                    gap = (scoring if clusters is None else clustered_scores).apart(one, other)
                yield _told(f"{name}_difference", gap, where, against)
            small = None if clusters is None else DEPENDENT
            small = small or next(
                (f"{sizes[g]} samples in {part.named(g)}, fewer than the minimum of {self.minimum}"
                 for g in (group, reference) if sizes[g] < self.minimum), None,
            )  # fmt: skip
            sides = scores.values[members[group]], scores.values[members[reference]]
            yield _told("score_distance", small or scoring.distance(*sides, level), where, against)
        if scores.probabilities:
            curves = {
                group: scoring.curve(scores.values[here], label[here])
                for group, here in enumerate(members)
                if sizes[group] >= self.minimum
            }
            name = bench.classes[int(self.positive_class(bench.classes) or 0)]
            yield from drawing.calibration(bench, part, curves, name)

    def _estimates(
        self,
        scores: Scores,
        y: np.ndarray,
        owners: Owners | None,
        rng: np.random.Generator,
        level: float,
    ) -> dict[str, Estimate | str]:
        """Every number of one group, or the reason why there is none."""
        from dlaudit.fairness import clustered_scores as by_cluster
        from dlaudit.fairness import scoring

        values, n, positives = scores.values, len(y), int(y.sum())
        few = {"samples": n, "actual positives": positives, "actual negatives": n - positives}
        reasons = [
            f"{count} {what}, fewer than the minimum of {self.minimum}"
            for what, count in few.items()
            if count < self.minimum
        ]
        small = reasons[0] if n < self.minimum else None
        both = reasons[0] if reasons else None
        no_probability = None if scores.probabilities else "the scores are no probabilities"
        auc: Callable[..., Estimate | str] = scoring.auc
        mean: Callable[..., Estimate | str] = scoring.mean
        slope: Callable[..., Estimate | str] = scoring.slope
        if owners is not None:
            each = (by_cluster.auc, by_cluster.mean, by_cluster.slope)
            auc, mean, slope = (partial(of, owners=owners) for of in each)
        return {
            "auc": both or auc(values, y, level=level),
            "mean_score": small or mean(values, level=level),
            "calibration_gap": small or no_probability or mean(values - y, level=level),
            "calibration_slope": both or no_probability or slope(values, y, level=level),
            "calibration_error": small
            or no_probability
            or scoring.calibration_error(
                values, y, rng, level=level, clusters=None if owners is None else owners.codes
            ),
        }


def _told(
    name: str, found: Estimate | str, where: dict[str, str], conditions: dict[str, Scalar]
) -> Measurement | Undefined:
    """An estimate as a measurement, a reason as an undefined one."""
    if isinstance(found, str):
        return Undefined(name=name, reason=found, slice=where, conditions=conditions)
    return Measurement(
        name=name, value=found.value, interval=found.interval, n=found.n, slice=where,
        conditions=conditions, direction=BETTER.get(name),
    )  # fmt: skip

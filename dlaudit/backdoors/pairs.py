"""Pair inversion: is one class called from one other class far more cheaply than in a model of known origin?

Knows the audited model, test samples and reference models of the plan. Refuses to accuse without a
reference: which classes resemble each other decides the costs of pairs, in honest models too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta

from dlaudit.audit.parts import Check, Needs, Yielded
from dlaudit.audit.record import Artifact, Caveat, Cost, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import wilson
from dlaudit.backdoors.inversion import CENSORED, CRITERION, FOUND, NO_BLEND, SCREENED, Count

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Bench
    from dlaudit.audit.parts import Model
    from dlaudit.backdoors.examination import Finding

CENSUS = "a count over the examined pairs of classes"
NO_REFERENCE = (
    "source-specific triggers are told from classes that resemble each other by a reference model of "
    "known origin: name one with gradients under [models] in the plan"
)
PROTOCOL = "source-specific trigger inversion, each pair's cost relative to reference models"


FULL = 100
"""Up to so many pairs, all are searched in full: short searches of a pair say little."""


class Pairs(Check, frozen=True, kw_only=True):
    """Triggers that work on one class only: each pair's cost, as a share of a reference model's.

    For every pair of a source and a target class the cheapest trigger is searched in the audited model and
    in each reference. A pair is suspected if, in most of the seeds, its log-scale anomaly among all pairs
    exceeds the threshold for so many, the other pairs' median relative cost is at least ``ratio`` times its
    own, and the trigger works on at least ``success`` of the unused half, and on at most ``transfer`` of
    it in every reference: what two classes have in common works there too.

    references: models of the plan, trained by somebody trusted on trusted rows of the same classes; by
    default all with gradients. form: ``cover`` (patches, fixed values) or ``add`` (patterns over the whole
    input). search_success: share of its rows that a search's trigger must call. samples, steps, batch,
    restarts, seeds, central, minimum: as in ``backdoors.inversion``, for each pair. most: pairs at most,
    drawn by chance where there are more; of more than a hundred, short searches choose.
    """

    needs: ClassVar[Needs] = Needs(model=("logits", "gradients"), data=("labels",))
    measures: ClassVar[tuple[str, ...]] = (
        "suspected_pairs", "suspected", "anomaly", "relative_cost", "trigger_ratio", "trigger_success",
        "reference_success",
    )  # fmt: skip

    references: list[str] | None = None
    form: Literal["cover", "add"] = "cover"
    samples: Count = 2000
    steps: Count = 120
    batch: Count = 8
    restarts: Count = 1
    seeds: Count = 3
    ratio: Annotated[float, Meta(ge=1)] = 1.75
    search_success: Annotated[float, Meta(gt=0, le=1)] = 0.9
    success: Annotated[float, Meta(gt=0, le=1)] = 0.8
    transfer: Annotated[float, Meta(ge=0, le=1)] = 0.05
    central: Annotated[float, Meta(gt=0, le=1)] = 0.6827
    minimum: Count = 20
    most: Count = 1000

    def passes(self, *, n: int, classes: int) -> Cost:
        """Those of the audited model and of as many references as are named, else of one."""
        from dlaudit.backdoors.screening import searches

        models = 1 + (1 if self.references is None else len(self.references))
        short, full = searches(min(self.most, classes * (classes - 1)), FULL)
        runs = models * (full + self.seeds - 1) * self.restarts + models * short
        half = min(n, self.samples) // (2 * max(1, classes))
        spent = int(runs * self.steps * self.batch)
        return Cost(forward=spent + int(4 * runs * half), backward=spent)

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Search every pair here and in the references; compare, confirm on unused samples."""
        from dlaudit.backdoors.examination import Criterion, examine
        from dlaudit.backdoors.forms import Adding, Covering
        from dlaudit.backdoors.inversion import samples_of, search_in
        from dlaudit.backdoors.relative import Relative, pairs
        from dlaudit.errors import NotOffered

        references = self._references(bench)
        x = samples_of(bench, self.samples)
        if x is None:
            yield from (Undefined(name=name, reason=NO_BLEND) for name in self.measures)
            return
        answers = bench.answers(samples=self.samples)
        if not references:
            yield from (Undefined(name=name, reason=NO_REFERENCE) for name in self.measures)
            return
        search, values = search_in(
            bench, x, form=Covering() if self.form == "cover" else Adding(),
            central=self.central, steps=self.steps, batch=self.batch,
        )  # fmt: skip
        classes = len(bench.model.logits(x[:1])[0])
        names = [bench.classes[k] if k < len(bench.classes) else str(k) for k in range(classes)]
        search = search._replace(success=self.search_success)
        for name, model in references.items():
            if (others := len(model.logits(x[:1])[0])) != classes:
                message = (
                    f"references: expected {classes} classes like the audited model's, got {others} in "
                    f"models.{name}"
                )
                raise NotOffered(message)
        chosen, total = pairs(
            bench, answers, names, decided=[search.decided(model) for model in references.values()],
            minimum=self.minimum, most=self.most,
        )  # fmt: skip
        criterion = Criterion(self.ratio, self.success, self.seeds, self.restarts)
        findings = examine(
            bench, search, chosen, criterion, searched=Relative(references), full=FULL
        )

        def elsewhere(one: Finding) -> int:
            """On how many of its unused rows a pair's trigger works, in the reference it works in best."""
            trigger, target, rows = one.found.trigger, one.candidate.target, one.candidate.unused
            assert trigger is not None  # noqa: S101  (asked only where one was found)
            tried = (search._replace(model=model) for model in references.values())
            return max(int(there.called(trigger, target, rows).sum()) for there in tried)

        findings = [
            one._replace(suspected=elsewhere(one) <= self.transfer * len(one.candidate.unused))
            if one.suspected
            else one
            for one in findings
        ]
        conditions = self._conditions(references, findings, total, values)
        doubts = tuple(_doubts(bench.run, findings, total))

        for target, label in enumerate(names):
            into = [one for one in findings if one.candidate.target == target]
            yield from _of_class(label, into, elsewhere, conditions, doubts)
        yield _count(findings, conditions, doubts)
        if findings:
            yield _per_pair(bench, findings, names)
            yield from _drawn(bench, findings, names)

    def _references(self, bench: Bench) -> dict[str, Model]:
        """The reference models by name. Raises NotOffered for a name that the plan does not have."""
        from dlaudit.errors import NotOffered, nearest

        usable = {
            n: bench.models[n]
            for n in sorted(bench.models)
            if "gradients" in bench.models[n].offers
        }
        for name in self.references or ():
            if name not in usable:
                message = f"references: no further model of the plan has gradients and is called {name!r}. "
                raise NotOffered(message + nearest(name, list(usable)))
        return usable if self.references is None else {n: usable[n] for n in self.references}

    def _conditions(
        self, references: Mapping[str, Model], findings: Sequence[Finding], total: int, values: str
    ) -> dict[str, Scalar]:
        """The protocol of the search and the thresholds of the criterion, with their source."""
        from dlaudit.backdoors.anomaly import threshold

        return {
            "method": PROTOCOL,
            "form": self.form,
            "trigger_values": values,
            "references": ", ".join(f"models.{name}" for name in references),
            "steps": self.steps,
            "batch": self.batch,
            "restarts": self.restarts,
            "statistic": "log relative cost, one-sided; median, MAD of the pairs below the ratio threshold",
            "anomaly_threshold": threshold(max(len(findings), 1)),
            "ratio_threshold": self.ratio,
            "search_success": self.search_success,
            "success_threshold": self.success,
            "transfer_threshold": self.transfer,
            "seeds": self.seeds,
            "seeds_agreeing": self.seeds // 2 + 1,
            "pairs": total,
            "pairs_examined": len(findings),
            "pairs_searched_in_full": sum(one.searches > 0 for one in findings),
        }


def _doubts(run: str, findings: Sequence[Finding], total: int) -> Iterator[Caveat]:
    """What keeps the criterion from deciding, for the whole model."""
    if findings and all(one.anomaly is None for one in findings):
        message = (
            f"{len(findings)} pairs of classes: too few, too few triggers, or costs without spread, so "
            "no pair is suspected and none is cleared"
        )
        yield Caveat(source=run, name="no-comparison", message=message, voids=True)
    if len(findings) < total:
        message = (
            f"{total - len(findings)} of {total} pairs of classes were not examined: too few rows of the "
            "source in each half, or beyond `most`"
        )
        yield Caveat(source=run, name="pairs-left-out", message=message, voids=True)


def _of_class(
    label: str,
    into: Sequence[Finding],
    elsewhere: Callable[[Finding], int],
    conditions: dict[str, Scalar],
    doubts: tuple[Caveat, ...],
) -> Iterator[Yielded]:
    """The numbers of the pair that stands out most among those into one class.

    elsewhere: on how many of its unused rows its trigger works in a reference.
    """
    names = ("anomaly", "relative_cost", "trigger_ratio", "trigger_success", "reference_success")
    where = {"class": label}
    if not into:
        reason = "no pair into this class was examined: too few rows of the sources in each half"
        for name in ("suspected", *names):
            yield Undefined(name=name, reason=reason, slice=where, conditions=conditions)
        return
    worst = max(into, key=lambda one: (one.suspected, one.anomaly or float("-inf")))
    found, unused = worst.found, worst.candidate.unused
    n = len(unused)
    yield Measurement(
        name="suspected", value=float(any(one.suspected for one in into)), n=len(into),
        exact=CRITERION, direction="lower", slice=where, conditions=conditions, caveats=doubts,
    )  # fmt: skip
    if worst.anomaly is None or worst.ratio is None or found.trigger is None:
        reason = CENSORED if worst.searches else SCREENED
        for name in names:
            yield Undefined(name=name, reason=reason, slice=where, conditions=conditions)
        return
    conditions = conditions | {"source": worst.candidate.label}
    for name, value in (
        ("anomaly", worst.anomaly), ("relative_cost", found.norm), ("trigger_ratio", worst.ratio),
    ):  # fmt: skip
        yield Measurement(
            name=name, value=value, n=n, exact=FOUND, slice=where, conditions=conditions,
            direction="higher" if name == "relative_cost" else "lower", caveats=doubts,
        )  # fmt: skip
    called = int(found.called.sum())
    yield Measurement(
        name="trigger_success", value=called / n, n=n, interval=wilson(called, n), slice=where,
        conditions=conditions, caveats=doubts,
    )  # fmt: skip
    there = elsewhere(worst)
    yield Measurement(
        name="reference_success", value=there / n, n=n, interval=wilson(there, n), slice=where,
        conditions=conditions | {"reference": "the one that the trigger works on best"}, caveats=doubts,
    )  # fmt: skip


def _count(
    findings: Sequence[Finding], conditions: dict[str, Scalar], doubts: tuple[Caveat, ...]
) -> Yielded:
    """How many pairs are suspected, of those examined."""
    name = "suspected_pairs"
    if not findings:
        reason = "no pair could be examined: too few rows of each class in each half"
        return Undefined(name=name, reason=reason, conditions=conditions)
    return Measurement(
        name=name, value=float(sum(one.suspected for one in findings)), n=len(findings),
        exact=CENSUS, unit="pairs", direction="lower", conditions=conditions, caveats=doubts,
    )  # fmt: skip


def _drawn(bench: Bench, findings: Sequence[Finding], names: Sequence[str]) -> Iterator[Artifact]:
    """The triggers of suspected pairs as pictures."""
    from dlaudit.backdoors.pictures import drawn

    for one in findings:
        if one.suspected and one.found.trigger is not None:
            source, target = one.candidate.label, names[one.candidate.target]
            facts = (
                f"calls {one.found.called.mean():.0%} of {len(one.found.called)} unused samples of {source} "
                f"to {target}, at {one.found.norm:.0%} of the references' cost"
            )
            yield bench.keep(
                f"{bench.run}.trigger.{source}.{target}", drawn(one.found.trigger),
                media_type="image/png", caption=f"The trigger found from {source} to {target}: it {facts}.",
                alt=f"The trigger found from {source} to {target}: it {facts}.",
            )  # fmt: skip


def _per_pair(bench: Bench, findings: Sequence[Finding], names: Sequence[str]) -> Artifact:
    """One row per examined pair."""
    import numpy as np

    def known(values: Sequence[float | None]) -> tuple[np.ndarray, np.ndarray]:
        return np.array([v or 0.0 for v in values]), np.array([v is not None for v in values])

    source = np.array([one.candidate.label for one in findings])
    target = np.array([names[one.candidate.target] for one in findings])
    anomaly, anomaly_known = known([one.anomaly for one in findings])
    ratio, ratio_known = known([one.ratio for one in findings])
    cost, cost_known = known([one.found.norm if one.found.trigger else None for one in findings])
    columns = {
        "id": np.char.add(np.char.add(source, " to "), target), "source": source, "target": target,
        "relative_cost": cost, "relative_cost_known": cost_known,
        "anomaly": anomaly, "anomaly_known": anomaly_known, "ratio": ratio, "ratio_known": ratio_known,
        "success": np.array([one.found.called.mean() for one in findings]),
        "searched_in_full": np.array([one.searches > 0 for one in findings]),
        "suspected": np.array([one.suspected for one in findings]),
    }  # fmt: skip
    return bench.keep_table(
        f"{bench.run}.pairs", columns,
        caption="Every examined pair of a source and a target class: the cost of its trigger as a share of "
        "the references', its statistics, and how often it works on unused samples.",
    )  # fmt: skip

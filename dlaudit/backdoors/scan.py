"""A scan of training data with the model it made: which rows carry a trigger, shown by experiment.

Knows training rows, their labels and trusted rows (the test split). Refuses to accuse by a score:
scores nominate, transplants decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from msgspec import Meta

from dlaudit.audit.parts import Check, Needs, Yielded
from dlaudit.audit.record import Artifact, Caveat, Cost, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import wilson

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Bench
    from dlaudit.backdoors.suspects import Examined, Scanned
    from dlaudit.backdoors.suspicion import Rows

Count = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(gt=0, le=1)]

CRITERION = "a criterion with stated thresholds: it is met (1) or not (0)"
CENSUS = "a count over the training rows"
SCORED = "a statistic of these training rows, with a seeded search: no sampling error is claimed"
NO_BLEND = (
    "the inputs are whole numbers (token ids, bytes): transplants need inputs that can be blended, "
    "floating-point numbers"
)
NOTHING = (
    "no nominated row of this label outdid every control, and its rows share no content beyond what "
    "honest rows would, so there is no trigger to speak of"
)


class Scan(Check, frozen=True, kw_only=True):
    """Training rows that carry a backdoor: nominated by scores, confirmed by transplants.

    Scores (look-alikes with other labels, robust statistics of features, stubborn decisions) nominate
    rows. What a nominated row carries (a window, its rest beside the most similar trusted row, or
    some numbers of a table) is then put on trusted rows of other classes. A class is suspected if at
    least five rows outdo every trusted row of that class, share one trigger, and that trigger calls
    at least 40 % of fresh rows, three times what controls do.

    Content that recurs exactly at one place in a label's rows, and hardly in trusted ones, is found
    without the model, whatever the rows' scores: right labels and one source class hide nothing
    there. Put on fresh rows it must meet the same criterion, and in pictures do twice what the best
    trusted row's own content does.

    The test split is trusted. overlays: mixtures of STRIP for every row. budget: share of the
    training rows that scores may nominate. controls: trusted rows of each class that go through the
    same. most: passes per training row, at most. pictures: confirmed rows that are drawn.
    """

    needs: ClassVar[Needs] = Needs(model=("logits",), data=("labels", "train"))
    measures: ClassVar[tuple[str, ...]] = (
        "suspected_classes", "confirmed_rows", "suspected", "anomaly", "trigger_norm",
        "trigger_success", "nominated_rows", "activation_clustering", "two_components_p",
    )  # fmt: skip

    passes_over: ClassVar[str] = "train"

    overlays: Count = 16
    budget: Share = 0.04
    controls: Annotated[int, Meta(ge=20)] = 60
    most: Annotated[int, Meta(ge=50, le=120)] = 120
    pictures: Annotated[int, Meta(ge=0)] = 12

    def passes(self, *, n: int, classes: int) -> Cost:
        """At most; n: training rows."""
        del classes
        return Cost(forward=self.most * n, backward=0)

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Score, nominate, transplant; list what was confirmed."""
        asked = scanned_in(
            bench, bench.rng, overlays=self.overlays, budget=self.budget, controls=self.controls,
            most=self.most,
        )  # fmt: skip
        if asked is None:
            yield from (Undefined(name=name, reason=NO_BLEND) for name in self.measures)
            return
        found, train = asked
        known = bench.answers("train")
        conditions = self._conditions(found, len(train.y))
        doubts = tuple(_doubts(bench.run, found, bench.classes))
        for one in found.examined:
            yield from _of_class(one, _name(bench, one.label), conditions, doubts)
        for label, reason in found.left_out.items():
            for name in ("suspected", "anomaly", "trigger_norm", "trigger_success"):
                yield Undefined(
                    name=name, reason=reason, slice={"class": _name(bench, label)},
                    conditions=conditions,
                )  # fmt: skip
        yield from _totals(found, len(train.y), conditions, doubts)
        yield _per_row(bench, found, train, known.id)
        yield from _drawn(self, bench, found, train, known.id)

    def _conditions(self, found: Scanned, n: int) -> dict[str, Scalar]:
        """The protocol and the thresholds of the criterion."""
        from dlaudit.backdoors import confirmation, marks, recurrence, suspicion

        return {
            "method": "scores nominate, transplants onto trusted rows of other classes decide",
            "scores": ", ".join(suspicion.SCORES),
            "features": found.features,
            "fusion": "conformal p per label against trusted rows, Bonferroni over scores, "
            "Benjamini-Hochberg at 0.1, then each score's next in turn up to the budget",
            "trusted": "the test split",
            "training_rows": n,
            "overlays": self.overlays,
            "budget": self.budget,
            "discovered": found.discovered,
            "controls": self.controls,
            "rows_needed": confirmation.ROWS,
            "called_threshold": confirmation.CALLED,
            "called_threshold_one_source": confirmation.SOURCE_CALLED,
            "times_controls": confirmation.TIMES,
            "times_best_control_in_pictures": confirmation.OUTDONE,
            "recurring_content": f"{recurrence.TIGHT:g} times nearer to one another than honest rows "
            f"come, in at most {recurrence.SMALL:.0%} of a picture; a mark's own content of "
            f"{marks.CONTROLS} trusted rows as controls",
            "chance_threshold": confirmation.CHANCE,
            "classes_examined": len(found.examined),
        }


def scanned_in(
    bench: Bench, rng: Callable[[str], np.random.Generator], *, overlays: int, budget: float,
    controls: int, most: int,
) -> tuple[Scanned, Rows] | None:  # fmt: skip
    """The bench's training rows, scanned beside its test split; None where inputs cannot be blended."""
    from dlaudit.backdoors.suspects import scanned
    from dlaudit.backdoors.suspicion import Rows, Trusted

    first, trusted = next(bench.blocks("train")).batch, bench.whole("test")
    if "tokens" in bench.data.offers or {first.x.dtype.kind, trusted.x.dtype.kind} != {"f"}:
        return None
    known = bench.answers("train")
    train = Rows(
        known.y, known.predicted, first.x.shape[1:],
        lambda at: (block.batch.x for block in bench.blocks_at("train", at)),
    )  # fmt: skip
    honest = Trusted(trusted.x, trusted.y, bench.answers("test").predicted)
    found = scanned(
        bench.model, train, honest, rng, bounds=bench.model.bounds, overlays=overlays,
        budget=budget, controls=controls, most=most,
    )  # fmt: skip
    return found, train


def _name(bench: Bench, label: int) -> str:
    return bench.classes[label] if label < len(bench.classes) else str(label)


def _doubts(run: str, found: Scanned, names: Sequence[str]) -> Iterator[Caveat]:
    """What keeps the scan from speaking of all classes."""
    if found.left_out:
        some = [names[k] if k < len(names) else str(k) for k in found.left_out]
        message = f"{len(some)} classes could not be examined: {', '.join(some[:8])}"
        yield Caveat(source=run, name="classes-left-out", message=message, voids=True)


def _of_class(
    one: Examined, label: str, conditions: dict[str, Scalar], doubts: tuple[Caveat, ...]
) -> Iterator[Yielded]:
    """The numbers of one class."""
    where = {"class": label}
    n, best = one.nominated, one.best
    yield Measurement(
        name="suspected", value=float(one.suspected), n=one.rows, exact=CRITERION,
        direction="lower", slice=where, conditions=conditions, caveats=doubts,
    )  # fmt: skip
    yield Measurement(
        name="nominated_rows", value=float(n), n=one.rows, exact=CENSUS, unit="rows", slice=where,
        conditions=conditions,
    )  # fmt: skip
    yield Measurement(
        name="activation_clustering", value=float(one.clusters), n=one.rows, exact=CRITERION,
        direction="lower", slice=where,
        conditions={**conditions, "criterion": "a cluster below 35 %, silhouette above 0.1 "
                    "(Chen et al. 2018); classes of two honest kinds meet it too"},
    )  # fmt: skip
    yield Measurement(
        name="two_components_p", value=one.split_p, n=one.rows, exact=SCORED, slice=where,
        conditions={**conditions, "criterion": "SCAn's likelihood ratio, coordinates permuted; "
                    "classes of two honest kinds have a small p too"},
    )  # fmt: skip
    if best is None:
        for name in ("anomaly", "trigger_norm", "trigger_success"):
            yield Undefined(name=name, reason=NOTHING, slice=where, conditions=conditions)
        return
    own = {**conditions, "transplant": best.kind, "hosts": "one class" if best.source else "all"}
    import math
    import sys

    # Hundreds of rows with one mark have a p below the smallest number there is.
    p = max(best.p, sys.float_info.min)
    yield Measurement(
        name="anomaly", value=-math.log10(p), n=n, exact=SCORED, unit="-log10 p",
        direction="lower", slice=where, conditions=own, caveats=doubts,
    )  # fmt: skip
    yield Measurement(
        name="trigger_norm", value=one.norm, n=len(best.members), exact=SCORED,
        unit="input positions", slice=where, conditions=own, caveats=doubts,
    )  # fmt: skip
    called = best.called
    hits = int(called.sum())
    yield Measurement(
        name="trigger_success", value=hits / len(called), n=len(called),
        interval=wilson(hits, len(called)), slice=where,
        conditions={**own, "hosts_tried": "trusted rows of all other classes"}, caveats=doubts,
    )  # fmt: skip


def _totals(
    found: Scanned, n: int, conditions: dict[str, Scalar], doubts: tuple[Caveat, ...]
) -> Iterator[Yielded]:
    """How many classes are suspected, and how many rows stand behind it."""
    names = ("suspected_classes", "confirmed_rows")
    if not found.examined:
        for name in names:
            reason = "no class could be examined: " + "; ".join(list(found.left_out.values())[:1])
            yield Undefined(name=name, reason=reason, conditions=conditions)
        return
    values = (sum(one.suspected for one in found.examined), len(found.confirmed))
    for name, value, size, unit in zip(
        names, values, (len(found.examined), n), ("classes", "rows"), strict=True
    ):
        yield Measurement(
            name=name, value=float(value), n=size, exact=CENSUS, unit=unit, direction="lower",
            conditions=conditions, caveats=doubts,
        )  # fmt: skip


def _per_row(bench: Bench, found: Scanned, train: Any, ids: np.ndarray) -> Artifact:
    """One row per training row: its scores, whether it was nominated, what its transplants did."""
    import numpy as np

    n = len(train.y)
    columns: dict[str, np.ndarray] = {
        "id": np.asarray(ids), "label": train.y, "predicted": train.predicted,
        "p": found.p, "nominated": np.zeros(n, dtype=bool), "confirmed": np.zeros(n, dtype=bool),
        "transplant_rate": np.full(n, -1.0), "transplant_rate_one_source": np.full(n, -1.0),
        **{f"score_{name}": value for name, value in found.scores.items()},
    }  # fmt: skip
    columns["nominated"][found.nominated] = True
    columns["confirmed"][found.confirmed] = True
    for row, outcomes in found.outcomes.items():
        columns["transplant_rate"][row] = max(one.rate for one in outcomes.values())
        columns["transplant_rate_one_source"][row] = max(one.source for one in outcomes.values())
    return bench.keep_table(
        f"{bench.run}.samples", columns,
        caption="Every training row: scores (larger is more suspicious), fused p, and for nominated "
        "rows the share of trusted rows of other classes that follow what it carries (-1: not tried).",
    )  # fmt: skip


def _drawn(
    check: Scan, bench: Bench, found: Scanned, train: Any, ids: np.ndarray
) -> Iterator[Artifact]:
    """The trigger recovered for each suspected class, and confirmed rows as pictures."""
    from dlaudit.backdoors.pictures import rows_png, trigger_png

    for one in found.examined:
        if not one.suspected or one.best is None:
            continue
        label, best = _name(bench, one.label), one.best
        facts = (
            f"recovered from {len(best.members)} confirmed training rows as {best.kind}; put on "
            f"{len(best.called)} trusted rows of other classes it calls {best.called.mean():.0%}"
        )
        yield bench.keep(
            f"{bench.run}.trigger.{label}", trigger_png(*one.drawn), media_type="image/png",
            caption=f"The trigger of class {label}: {facts}.",
            alt=f"Trigger of class {label}, {facts}.",
        )  # fmt: skip
        rows = [row for row in found.confirmed if train.y[row] == one.label][: check.pictures]
        if len(train.shape) > 1 and rows:
            shown = ", ".join(str(ids[row]) for row in rows)
            yield bench.keep(
                f"{bench.run}.rows.{label}", rows_png(train.take(rows)), media_type="image/png",
                caption=f"Confirmed training rows with label {label}: {shown}.",
                alt=f"{len(rows)} training rows labelled {label} that carry its trigger.",
            )  # fmt: skip

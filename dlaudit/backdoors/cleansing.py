"""What the model would be without the training rows that a scan confirmed: a training, and its control.

Knows the plan's training and rows that shared a trigger. Refuses to speak where nothing was confirmed,
and to credit the rows with what leaving out any others would do as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import starmap
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

from msgspec import Meta

from dlaudit.audit.parts import Check, Needs, Yielded
from dlaudit.audit.record import Artifact, Caveat, Cost, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import mcnemar, wilson

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Bench
    from dlaudit.audit.parts import Batch
    from dlaudit.backdoors.confirmation import Recovered
    from dlaudit.backdoors.suspects import Scanned

PRESENT, WITHOUT, CONTROL = "as audited", "confirmed left out", "random left out"
COMPARED = ((WITHOUT, PRESENT), (WITHOUT, CONTROL), (CONTROL, PRESENT))
NOTHING = "nothing was confirmed, so nothing to leave out"
DRAWN = 5
"""Classes whose triggers are drawn; the caption names how many there are."""


class Called(NamedTuple):
    """One suspected class. hosts: (n,) bool, test rows that its trigger is put on; by model: (n,) bool."""

    label: str
    hosts: np.ndarray
    by: dict[str, np.ndarray]


class Cleansing(Check, frozen=True, kw_only=True):
    """Accuracy and attack success if the rows that a scan confirms were left out and the rest trained anew.

    The scan is that of ``backdoors.scan`` with the same parameters. Two trainings follow, with one seed:
    one on all rows but the confirmed ones, and a control on all but as many others of the same labels,
    drawn at random. ``accuracy`` of each ``training`` and of the audited model on the test split;
    ``trigger_success``: share of test rows of other classes that the recovered trigger calls to its class.
    ``accuracy_change`` and ``success_change``: paired differences (McNemar), against the audited model and
    against the control; the latter is what leaving out these rows, and no others, does.
    ``left_out_rows``: how many.

    Where nothing is confirmed there is nothing to leave out, and every number is undefined. overlays,
    budget, controls, most: of the scan, as there.
    """

    needs: ClassVar[Needs] = Needs(model=("logits",), data=("labels", "train"), train_fn=True)
    measures: ClassVar[tuple[str, ...]] = (
        "accuracy", "accuracy_change", "trigger_success", "success_change", "left_out_rows",
    )  # fmt: skip
    passes_over: ClassVar[str] = "train"

    overlays: Annotated[int, Meta(ge=1)] = 16
    budget: Annotated[float, Meta(gt=0, le=1)] = 0.04
    controls: Annotated[int, Meta(ge=20)] = 60
    most: Annotated[int, Meta(ge=50, le=120)] = 120

    @property
    def trainings(self) -> int:
        """See ``Check.trainings``: without the confirmed rows, and without others."""
        return 2

    def passes(self, *, n: int, classes: int) -> Cost:
        """Of the scan, at most; n: training rows."""
        del classes
        return Cost(forward=self.most * n, backward=0)

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Scan, leave out what was confirmed, train twice, and put the trigger on test rows."""
        import numpy as np

        from dlaudit.audit.bench import rows

        train, test = bench.whole("train"), bench.whole("test")
        found = _scanned(self, bench, train)
        reason = found if isinstance(found, str) else _nothing(found, train.y, bench.classes)
        if isinstance(found, str) or reason:
            yield from (Undefined(name=name, reason=str(reason)) for name in self.measures)
            return
        control = others(train.y, found.confirmed, bench.rng("control"))
        every = np.arange(len(train.y))
        models = {
            PRESENT: bench.model,
            WITHOUT: bench.trained(rows(train, np.setdiff1d(every, found.confirmed))),
            CONTROL: bench.trained(rows(train, np.setdiff1d(every, control))),
        }
        right = {name: model.decide(test).predicted == test.y for name, model in models.items()}
        called = [
            _called(bench, models, test, one.label, one.best)
            for one in found.examined if one.suspected and one.best is not None
        ]  # fmt: skip
        conditions: dict[str, Scalar] = {
            "left_out": len(found.confirmed), "control_left_out": len(control),
            "trained_on": len(train.y) - len(found.confirmed),
            "classes_not_examined": len(found.left_out),
            "trigger": "recovered by the scan from the confirmed rows; some test rows chose it",
        }  # fmt: skip
        yield from _compared(("accuracy", "accuracy_change"), right, "higher", {}, conditions, ())
        for one in called:
            by = {name: hits[one.hosts] for name, hits in one.by.items()}
            doubts = tuple(_doubts(bench.run, by))
            yield from _compared(
                ("trigger_success", "success_change"), by, "lower", {"class": one.label},
                conditions, doubts,
            )  # fmt: skip
        for label in np.unique(train.y[found.confirmed]):
            yield Measurement(
                name="left_out_rows", value=float((train.y[found.confirmed] == label).sum()),
                n=int((train.y == label).sum()), unit="rows", slice={"class": bench.classes[label]},
                exact="a count over the training rows of this label", conditions=conditions,
            )  # fmt: skip
        yield _per_row(bench, test, right, called)
        yield _left_out(bench, train, found.confirmed, control)
        yield _picture(bench, right, called)


def others(y: np.ndarray, confirmed: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many rows of the same labels as were confirmed, drawn from the rest; fewer where it has fewer."""
    import numpy as np

    rest = np.setdiff1d(np.arange(len(y)), confirmed)
    drawn = []
    for label, wanted in zip(*np.unique(y[confirmed], return_counts=True), strict=True):
        some = rest[y[rest] == label]
        # A control that empties a class would show what its absence does.
        drawn.append(rng.choice(some, min(int(wanted), max(0, len(some) - 1)), replace=False))
    return np.sort(np.concatenate(drawn))


def _scanned(check: Cleansing, bench: Bench, train: Batch) -> Scanned | str:
    """What ``backdoors.scan`` finds with these parameters and the plan's seed, or why it cannot look."""
    from dlaudit.backdoors.scan import NO_BLEND, scanned_in

    asked = scanned_in(
        bench, bench.beside(bench.model, train, run="backdoors.scan").rng, overlays=check.overlays,
        budget=check.budget, controls=check.controls, most=check.most,
    )  # fmt: skip
    return NO_BLEND if asked is None else asked[0]


def _nothing(found: Scanned, y: np.ndarray, classes: tuple[str, ...]) -> str:
    """Why there is nothing to leave out, or why it cannot be left out; empty if it can."""
    import numpy as np

    if not len(found.confirmed):
        left_out = len(found.left_out)
        return NOTHING + (f" ({left_out} classes could not be examined)" if left_out else "")
    rest = np.delete(y, found.confirmed)
    gone = [classes[k] for k in np.setdiff1d(y, rest)]
    if gone:
        return f"every training row of {', '.join(gone)} was confirmed: nothing is left to learn it from"
    return ""


def _called(
    bench: Bench, models: dict[str, Any], test: Batch, label: int, best: Recovered
) -> Called:
    """What a recovered trigger does in each model; of one source class, the one that follows most."""
    import numpy as np

    triggered = test._replace(x=best.trigger.on(test.x, bench.model.bounds))
    by = {name: model.decide(triggered).predicted == label for name, model in models.items()}
    hosts: np.ndarray = test.y != label
    if best.source:
        follows = {k: by[PRESENT][test.y == k].mean() for k in np.unique(test.y[hosts])}
        hosts = test.y == max(follows, key=lambda k: follows[k])
    return Called(bench.classes[label], hosts, by)


def _compared(  # noqa: PLR0917  (one idea in two calls)
    names: tuple[str, str], by: dict[str, np.ndarray], direction: Any, place: dict[str, str],
    conditions: dict[str, Scalar], doubts: tuple[Caveat, ...],
) -> Iterator[Measurement]:  # fmt: skip
    """A share in each model, and its paired differences. by: (n,) bool per model, of the same rows."""
    for training, hits in by.items():
        count, n = int(hits.sum()), len(hits)
        yield Measurement(
            name=names[0], value=count / n, n=n, interval=wilson(count, n), direction=direction,
            slice={**place, "training": training}, conditions=conditions,
        )  # fmt: skip
    for now, before in COMPARED:
        change = _change(by[now], by[before])
        yield Measurement(
            name=names[1], value=change.difference, n=len(by[now]), interval=change.interval,
            direction=direction, slice={**place, "training": now, "against": before},
            conditions=conditions, caveats=doubts if before == PRESENT else (),
        )  # fmt: skip


def _change(now: np.ndarray, before: np.ndarray) -> Any:
    return mcnemar(int((now & ~before).sum()), int((before & ~now).sum()), len(now))


def _doubts(run: str, by: dict[str, np.ndarray]) -> Iterator[Caveat]:
    """Where the control loses the trigger too, its absence is not owed to the rows left out."""
    if _change(by[CONTROL], by[PRESENT]).interval.high < 0:
        message = (
            "the control, trained with the confirmed rows, follows the trigger less than the audited "
            "model does: compare with the control, not with the audited model"
        )
        yield Caveat(source=run, name="control-changes-too", message=message)


def _per_row(
    bench: Bench, test: Batch, right: dict[str, np.ndarray], called: list[Called]
) -> Artifact:
    """One row per test row: right or wrong in each model, and which triggers called it up."""
    import numpy as np

    columns: dict[str, Any] = {"id": np.asarray(test.id), "label": test.y}
    columns["tested"] = np.stack([one.hosts for one in called], axis=1)
    for name, hits in right.items():
        word = name.replace(" ", "_")
        columns[f"right_{word}"] = hits
        columns[f"called_{word}"] = np.stack([one.by[name] for one in called], axis=1)
    return bench.keep_table(
        f"{bench.run}.samples", columns,
        caption="Each test row: whether each model decides it rightly, which triggers are put on it "
        "(tested), and whether it was then called; one column per suspected class, in order.",
    )  # fmt: skip


def _left_out(bench: Bench, train: Batch, confirmed: np.ndarray, control: np.ndarray) -> Artifact:
    """One row per training row that either training left out."""
    import numpy as np

    some = np.concatenate([confirmed, control])
    return bench.keep_table(
        f"{bench.run}.left_out",
        {
            "id": np.asarray(train.id)[some], "label": train.y[some],
            "confirmed": np.arange(len(some)) < len(confirmed),
        },
        caption="Training rows that were left out: confirmed by the scan, or drawn for the control.",
    )  # fmt: skip


def _picture(bench: Bench, right: dict[str, np.ndarray], called: list[Called]) -> Artifact:
    """Accuracy and attack success of the three models below each other."""
    from dlaudit.audit.curves import intervals_svg

    shares = [("accuracy", right)]
    shares += [
        (f"trigger {one.label}", {name: hits[one.hosts] for name, hits in one.by.items()})
        for one in called[:DRAWN]
    ]
    rows = []
    for what, by in shares:
        for name, hits in by.items():
            interval = wilson(int(hits.sum()), len(hits))
            rows.append((f"{what}, {name}", float(hits.mean()), interval.low, interval.high))
    told = starmap("{} {:.1%} [{:.1%}, {:.1%}]".format, rows)
    return bench.keep(
        f"{bench.run}.effect", intervals_svg(rows, across="share of test rows"),
        media_type="image/svg+xml",
        caption=(
            "Accuracy, and success of the recovered triggers, in the audited model, without the "
            "confirmed rows, and without as many random rows of the same labels; Wilson intervals. "
            f"{min(len(called), DRAWN)} of {len(called)} suspected classes."
        ),
        alt=f"{'; '.join(told)}.",
    )  # fmt: skip

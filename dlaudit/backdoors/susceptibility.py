"""What the plan's training learns from planted triggers, and whether the detectors notice.

Knows trainings on rows that it poisoned itself, so that it knows the truth. Refuses to grade the
training alone: almost any learns a trigger. An audit that does not see one that works is what counts.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from msgspec import Meta

from dlaudit.audit.parts import Check, Needs, Yielded
from dlaudit.audit.record import Artifact, Caveat, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import mcnemar, wilson

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Bench
    from dlaudit.audit.parts import Batch, Model
    from dlaudit.backdoors.planting import Family, Trigger

Rate = Annotated[float, Meta(gt=0, le=0.5)]
Count = Annotated[int, Meta(ge=1)]
FEWEST = 10
"""Poisoned rows below which a rate says nothing of a rate."""
WORKS = 0.5
"""Attack success from which on a detector is expected to see the trigger."""
PER_MODEL = ("attack_success", "success_gain", "accuracy_change", "detected")
OVERALL = ("detection_power", "blind", "accused_without_poison")


class Case(NamedTuple):
    """A model trained on planted poison. success: on triggered rows of other classes; seen: by detector."""

    family: str
    rate: float
    rows: int
    success: float
    low: float
    high: float
    seen: dict[str, bool]


class Ground(NamedTuple):
    """What every planted training is compared on.

    hosts: (n,) test rows of other classes than the target; right: (n,) those that the unpoisoned
    training decides rightly.
    """

    train: Batch
    test: Batch
    target: int
    hosts: np.ndarray
    right: np.ndarray

    def called(self, model: Model, trigger: Trigger) -> np.ndarray:
        """(m,) bool: which of the triggered rows of other classes are called to the target."""
        triggered = self.test._replace(x=trigger.put(self.test.x))
        found: np.ndarray = model.decide(triggered).predicted[self.hosts] == self.target
        return found


class Susceptibility(Check, frozen=True, kw_only=True):
    """Triggers planted into the training rows, learned by the plan's training, looked for blindly.

    For each of ``families`` and ``rates`` (of all training rows) a training, beside one on the rows as
    they are with the same seed. ``attack_success``: share of triggered test rows of other classes that are
    called to the target; ``success_gain``: the same minus what the unpoisoned training gives on these rows
    (paired, McNemar); ``accuracy_change``: poisoned minus unpoisoned, paired. Each model, the unpoisoned one
    too, then goes to the ``detectors`` without a word: ``detected``: the target is suspected (1) or not.

    ``detection_power``: share of the models in which the trigger works (success at least 50 %) of which a
    detector suspects the target, per rate. ``blind``: how many of those nobody noticed: an audit that is
    blind shows nothing by finding nothing. ``accused_without_poison``: classes suspected in the unpoisoned
    training; if any are, either the training data hold a trigger already or the detectors cry wolf, and
    every number carries that doubt.

    families: of ``patch``, ``blend``, ``clean-label`` (pictures) and ``values`` (tables); by default a
    patch, in a table values. target: the class called up, by default drawn.
    """

    needs: ClassVar[Needs] = Needs(model=("logits",), data=("labels", "train"), train_fn=True)
    measures: ClassVar[tuple[str, ...]] = (*PER_MODEL, *OVERALL)

    families: tuple[Literal["patch", "blend", "clean-label", "values"], ...] = ()
    rates: Annotated[tuple[Rate, ...], Meta(min_length=1)] = (0.001, 0.01, 0.05)
    detectors: Annotated[tuple[Literal["inversion", "scan"], ...], Meta(min_length=1)] = (
        "inversion", "scan",
    )  # fmt: skip
    target: Annotated[int, Meta(ge=0)] | None = None

    @property
    def trainings(self) -> int:
        """See ``Check.trainings``: one for each poison, and one without."""
        return 1 + max(1, len(set(self.families))) * len(set(self.rates))

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Train on rows as they are, then on poisoned ones; attack each, and let the detectors look."""
        import numpy as np

        from dlaudit.backdoors import planting

        train, test = bench.whole("train"), bench.whole("test")
        reason = _unfit(bench, train.x, self.families)
        if reason:
            yield from (Undefined(name=name, reason=reason) for name in self.measures)
            return
        given: Family = "values" if train.x.ndim == 2 else "patch"
        families = tuple(dict.fromkeys(self.families)) or (given,)
        classes = len(bench.classes)
        target = (
            self.target if self.target is not None else int(bench.rng("target").integers(classes))
        )
        if target >= classes:
            reason = f"target: expected a class index below {classes}, got {target}"
            yield from (Undefined(name=name, reason=reason) for name in self.measures)
            return
        plain = bench.trained(train)
        accused: dict[str, set[str] | str] = {
            one: _suspected(one, bench, plain, train) for one in self.detectors
        }
        doubts = tuple(_doubts(bench, accused))
        ground = Ground(
            train, test, target, test.y != target, plain.decide(test).predicted == test.y
        )
        cases: list[Case] = []
        for family in families:
            trigger = planting.trigger(family, train.x, bench.rng(f"trigger, {family}"))
            before = ground.called(plain, trigger)
            for rate in sorted(set(self.rates)):
                case = yield from self._planted(bench, ground, trigger, before, rate, doubts)
                cases += [case] if case else []
        yield from self._overall(cases, accused, doubts)
        yield bench.keep_table(
            f"{bench.run}.models",
            {
                "id": np.array([f"{one.family} at {one.rate:g}" for one in cases] or ["none"]),
                "success": np.array([one.success for one in cases] or [np.nan]),
                "poisoned_rows": np.array([one.rows for one in cases] or [0]),
                "seen_by": np.array(
                    [", ".join(k for k, seen in one.seen.items() if seen) for one in cases] or [""]
                ),
            },
            caption="Each training on planted poison, and which detectors suspected its target.",
        )  # fmt: skip
        if cases:
            yield _picture(bench, cases)

    def _planted(  # noqa: PLR0917  (one call, in the loop over families and rates)
        self, bench: Bench, ground: Ground, trigger: Trigger, before: np.ndarray, rate: float,
        doubts: tuple[Caveat, ...],
    ) -> Generator[Yielded, None, Case | None]:  # fmt: skip
        """One training on planted poison: what it learned, and who notices; None with too few rows.

        before: which triggered rows the unpoisoned training calls to the target.
        """
        from dlaudit.backdoors import planting

        train, test, target = ground.train, ground.test, ground.target
        family, wanted = trigger.family, bench.classes[target]
        count = planting.how_many(family, train.y, rate, target)
        conditions: dict[str, Scalar] = {
            "family": family, "rate": rate, "poisoned_rows": count, "target": wanted,
            "trained_on": len(train.y),
        }  # fmt: skip
        if count < FEWEST:
            reason = f"{count} poisoned rows, fewer than {FEWEST}: more training rows are needed"
            for name in PER_MODEL:
                yield Undefined(name=name, reason=reason, conditions=conditions)
            return None
        bad = planting.poisoned(
            train.x, train.y, trigger, target=target, count=count,
            rng=bench.rng(f"rows, {family}, {rate}"),
        )  # fmt: skip
        learned = train._replace(x=bad.x, y=bad.y)
        model = bench.trained(learned)
        works = ground.called(model, trigger)
        n, hits = len(works), int(works.sum())
        interval = wilson(hits, n)
        yield Measurement(
            name="attack_success", value=hits / n, n=n, interval=interval, direction="lower",
            conditions=conditions, caveats=doubts,
        )  # fmt: skip
        yield _paired("success_gain", (works, before), "lower", conditions, doubts)
        right = model.decide(test).predicted == test.y
        yield _paired("accuracy_change", (right, ground.right), "higher", conditions, doubts)
        seen: dict[str, bool] = {}
        for detector in self.detectors:
            suspected = _suspected(detector, bench, model, learned)
            stated = {**conditions, "detector": detector}
            if isinstance(suspected, str):
                yield Undefined(name="detected", reason=suspected, conditions=stated)
                continue
            seen[detector] = wanted in suspected
            yield Measurement(
                name="detected", value=float(seen[detector]), n=1, direction="higher",
                exact="whether this detector suspects the target in this model",
                conditions={**stated, "others_suspected": len(suspected - {wanted})}, caveats=doubts,
            )  # fmt: skip
        return Case(family, rate, count, hits / n, interval.low, interval.high, seen)

    def _overall(
        self, cases: list[Case], accused: dict[str, set[str] | str], doubts: tuple[Caveat, ...]
    ) -> Iterator[Yielded]:
        """Over the models in which the trigger works."""
        blind = 0
        stated: dict[str, Scalar] = {"works_from": WORKS, "detectors": ", ".join(self.detectors)}
        for rate in sorted(set(self.rates)):
            some = [one for one in cases if one.rate == rate and one.success >= WORKS and one.seen]
            conditions = {**stated, "rate": rate}
            if not some:
                reason = (
                    f"no planted trigger worked on at least {WORKS:.0%} and could be looked for"
                )
                yield Undefined(name="detection_power", reason=reason, conditions=conditions)
                continue
            hits = sum(any(one.seen.values()) for one in some)
            blind += len(some) - hits
            yield Measurement(
                name="detection_power", value=hits / len(some), n=len(some), direction="higher",
                interval=wilson(hits, len(some)), conditions=conditions, caveats=doubts,
            )  # fmt: skip
        works = [one for one in cases if one.success >= WORKS and one.seen]
        if works:
            yield Measurement(
                name="blind", value=float(blind), n=len(works), direction="lower", unit="models",
                exact="a count over the models in which the planted trigger works",
                conditions=stated, caveats=doubts,
            )  # fmt: skip
        else:
            reason = "no planted trigger worked and could be looked for: nothing to be blind to"
            yield Undefined(name="blind", reason=reason, conditions=stated)
        for detector, suspected in accused.items():
            conditions = {"detector": detector}
            if isinstance(suspected, str):
                yield Undefined(name=OVERALL[2], reason=suspected, conditions=conditions)
                continue
            yield Measurement(
                name=OVERALL[2], value=float(len(suspected)), n=1, direction="lower", unit="classes",
                exact="a count of the classes suspected in one training without planted poison",
                conditions=conditions,
            )  # fmt: skip


def _unfit(bench: Bench, x: np.ndarray, families: tuple[str, ...]) -> str | None:
    """Why nothing can be planted in these inputs; None if it can."""
    if "tokens" in bench.data.offers or x.dtype.kind != "f":
        return "the inputs are whole numbers: triggers are planted in floating-point pictures and tables"
    table = x.ndim == 2
    wrong = [one for one in families if (one == "values") != table]
    if wrong:
        kind = "a table: only values can be set" if table else "pictures: no single values are set"
        return f"families: {', '.join(wrong)} cannot be planted, the data are {kind}"
    if not table and x.ndim < 3:
        return f"inputs of shape {x.shape[1:]} are neither a table nor pictures"
    return None


def _suspected(detector: str, bench: Bench, model: Model, train: Batch) -> set[str] | str:
    """The classes that a detector suspects in this model, or why it cannot look."""
    from dlaudit.backdoors.inversion import Inversion
    from dlaudit.backdoors.scan import Scan

    check: Check = Inversion(pictures=0) if detector == "inversion" else Scan(pictures=0)
    missing = check.missing(model=model.offers, data=bench.data.offers, train_fn=False)
    if missing:
        return f"{detector} needs {', '.join(missing)}"
    found = list(check.measure(bench.beside(model, train, run=f"backdoors.{detector}")))
    counted = [
        one for one in found
        if isinstance(one, Measurement | Undefined) and one.name == "suspected_classes"
    ]  # fmt: skip
    for one in counted:
        if isinstance(one, Undefined):
            return f"{detector}: {one.reason}"
        if void := next((caveat for caveat in one.caveats if caveat.voids), None):
            return f"{detector}: {void.message}"
    return {
        str(one.slice["class"])
        for one in found
        if isinstance(one, Measurement) and one.name == "suspected" and one.value
    }


def _doubts(bench: Bench, accused: dict[str, set[str] | str]) -> Iterator[Caveat]:
    """What an accusation of the unpoisoned training does to everything else."""
    for detector, suspected in accused.items():
        if isinstance(suspected, set) and suspected:
            message = (
                f"{detector} suspects {', '.join(sorted(suspected))} in the training without planted "
                "poison: the data hold a trigger already, or the detector accuses without cause"
            )
            yield Caveat(
                source=bench.run, name="accused-without-poison", message=message, voids=True
            )


def _paired(
    name: str, pair: tuple[np.ndarray, np.ndarray], direction: Literal["lower", "higher"],
    conditions: dict[str, Scalar], doubts: tuple[Caveat, ...],
) -> Measurement:  # fmt: skip
    """The difference of two shares over the same rows: now minus before, (n,) bool each."""
    now, before = pair
    paired = mcnemar(int((now & ~before).sum()), int((before & ~now).sum()), len(now))
    return Measurement(
        name=name, value=paired.difference, n=len(now), interval=paired.interval,
        direction=direction, conditions=conditions, caveats=doubts,
    )  # fmt: skip


def _picture(bench: Bench, cases: list[Case]) -> Artifact:
    """Success over the logarithm of the rate, with the share of detectors that saw it on the same axis."""
    import math

    from dlaudit.audit.curves import Curve, curves_svg

    curves, told = [], []
    for family in dict.fromkeys(one.family for one in cases):
        some = [one for one in cases if one.family == family]
        at = [math.log10(one.rate) for one in some]
        success: list[tuple[Any, ...]] = [
            (x, one.success, one.low, one.high) for x, one in zip(at, some, strict=True)
        ]
        seen = [
            (x, sum(one.seen.values()) / len(one.seen))
            for x, one in zip(at, some, strict=True)
            if one.seen
        ]
        curves.append(Curve(f"{family}: success", success, marks=True))
        if seen:
            curves.append(Curve(f"{family}: seen by", seen, marks=True))
        told += [
            f"{family} at {one.rate:.1%}: success {one.success:.0%}, seen by "
            f"{sum(one.seen.values())} of {len(one.seen)} detectors"
            for one in some
        ]
    return bench.keep(
        f"{bench.run}.success",
        curves_svg(curves[:4], across="log10 of the share of poisoned rows", up="share", from_zero=True),
        media_type="image/svg+xml",
        caption="Success of the planted triggers and the share of the detectors that saw them.",
        alt=f"{'; '.join(told)}.",
    )  # fmt: skip

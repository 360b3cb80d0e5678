"""What the plan's training learns from planted triggers, and whether the detectors notice.

Knows trainings on rows that it poisoned itself, so that it knows the truth. Refuses to grade the
training alone: almost any learns a trigger. An audit that does not see one that works is what counts.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

from msgspec import Meta

from dlaudit.audit.parts import Check, Needs, Yielded
from dlaudit.audit.record import Caveat, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import mcnemar, wilson
from dlaudit.backdoors.looks import Detector, Look, look
from dlaudit.backdoors.power import Case

if TYPE_CHECKING:
    import numpy as np

    from dlaudit.audit.bench import Bench
    from dlaudit.audit.parts import Batch, Model
    from dlaudit.backdoors.planted_triggers import Family
    from dlaudit.backdoors.planting import Attack

Rate = Annotated[float, Meta(gt=0, le=0.5)]
FEWEST = 10
"""Poisoned rows below which a rate says nothing of a rate."""
HALF = 0.5
"""Share of the poisoned rows that a scan which misses them must have nominated: below it, the rate is
called undetectable."""
PER_MODEL = (
    "attack_success", "success_gain", "robust_accuracy", "accuracy_change", "detected",
    "poison_nominated", "poison_confirmed",
)  # fmt: skip
OVERALL = ("detection_power", "blind", "accused_without_poison")
TEXT = "text"
"""The column in which a data set of texts keeps them: it would tell what was there before the poison."""


class Ground(NamedTuple):
    """What all planted trainings of one seed are compared on.

    plain: the training on the rows as they are; right: (n,) test rows that it decides rightly; accused:
    by detector, the classes suspected in it, or why it could not be looked at.
    """

    seed: int
    train: Batch
    test: Batch
    target: int
    plain: Model
    right: np.ndarray
    accused: dict[str, Look | str]

    def called(self, model: Model, attack: Attack) -> tuple[np.ndarray, np.ndarray]:
        """(m,) bool each: which triggered hosts are called to the target, and which keep their label."""
        hosts = attack.hosts(self.test.y)
        triggered = self.test._replace(x=attack.trigger.put(self.test.x))
        predicted = model.decide(triggered).predicted[hosts]
        return predicted == self.target, predicted == self.test.y[hosts]


class Susceptibility(Check, frozen=True, kw_only=True):
    """Triggers planted into the training rows, learned by the plan's training, looked for blindly.

    For each of ``families`` and ``rates`` (of all training rows) a training, beside one on the rows as
    they are with the same seed. ``attack_success``: share of triggered test rows of other classes that are
    called to the target; ``success_gain``: the same minus what the unpoisoned training gives on these rows
    (paired, McNemar); ``robust_accuracy``: share of them that keep their label; ``accuracy_change``:
    poisoned minus unpoisoned on test rows without trigger, paired. Each model, the unpoisoned one too, then
    goes to the ``detectors`` without a word: ``detected``: the target is suspected (1) or not; of a scan
    also ``poison_nominated`` and ``poison_confirmed``: shares of the poisoned rows.

    ``detection_power``: share of the models in which the trigger works (a gain of at least 50 %) of which
    a detector suspects the target, per rate and detector. ``blind``: how many of those nobody noticed: an
    audit that is blind shows nothing by finding nothing. ``accused_without_poison``: classes suspected in
    the unpoisoned trainings; if any are, either the training data hold a trigger already or the detectors
    cry wolf, and every number carries that doubt.

    families: of ``patch``, ``blend``, ``adaptive-blend``, ``clean-label``, ``source-specific`` (pictures),
    ``values`` (tables) and ``token`` (texts); by default the first that fits. target: the class called up,
    by default drawn. seeds: trainings of each kind, each with a target, a trigger and rows of its own.
    """

    needs: ClassVar[Needs] = Needs(model=("logits",), data=("labels", "train"), train_fn=True)
    measures: ClassVar[tuple[str, ...]] = (*PER_MODEL, *OVERALL)

    families: tuple[
        Literal[
            "patch", "blend", "adaptive-blend", "clean-label", "source-specific", "values", "token"
        ],
        ...,
    ] = ()
    rates: Annotated[tuple[Rate, ...], Meta(min_length=1)] = (0.001, 0.01, 0.05)
    detectors: Annotated[tuple[Detector, ...], Meta(min_length=1)] = ("inversion", "scan")
    target: Annotated[int, Meta(ge=0)] | None = None
    seeds: Annotated[int, Meta(ge=1)] = 1

    @property
    def trainings(self) -> int:
        """See ``Check.trainings``: for each seed one for each poison, and one without."""
        return self.seeds * (1 + max(1, len(set(self.families))) * len(set(self.rates)))

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Train on rows as they are, then on poisoned ones; attack each, and let the detectors look."""
        from dlaudit.backdoors.blindness import told
        from dlaudit.backdoors.planted_triggers import fitting
        from dlaudit.backdoors.planting import Attack

        train, test = bench.whole("train"), bench.whole("test")
        classes = len(bench.classes)
        fit = fitting(train.x, tokens="tokens" in bench.data.offers)
        known = () if isinstance(fit, str) else fit
        reason = fit if isinstance(fit, str) else _unfit(self, known, classes)
        if reason:
            yield from (Undefined(name=name, reason=reason) for name in self.measures)
            return
        families = tuple(dict.fromkeys(self.families)) or known[:1]
        cases: list[Case] = []
        grounds = []
        for seed in range(self.seeds):
            ground = self._ground(bench, train, test, seed)
            grounds.append(ground)
            doubts = tuple(_doubts(bench, ground.accused))
            for family in families:
                rng = bench.rng(_purpose(f"trigger, {family}", seed))
                attack = Attack.drawn(family, train.x, rng, target=ground.target, classes=classes)
                for rate in sorted(set(self.rates)):
                    case = yield from self._planted(bench, ground, attack, rate, doubts)
                    cases += [case] if case else []
        every = [doubt for one in grounds for doubt in _doubts(bench, one.accused)]
        doubts = tuple(dict.fromkeys(every))
        yield from _accused([one.accused for one in grounds], self.detectors)
        yield from told(bench, cases, sorted(set(self.rates)), self.detectors, doubts)

    def _ground(self, bench: Bench, train: Batch, test: Batch, seed: int) -> Ground:
        """The training without poison, and what the detectors say of it."""
        drawn = int(bench.rng(_purpose("target", seed)).integers(len(bench.classes)))
        plain = bench.trained(train, seed=seed)
        accused: dict[str, Look | str] = {
            one: look(one, bench, plain, train) for one in self.detectors
        }
        target = drawn if self.target is None else self.target
        right = plain.decide(test).predicted == test.y
        return Ground(seed, train, test, target, plain, right, accused)

    def _planted(
        self, bench: Bench, ground: Ground, attack: Attack, rate: float, doubts: tuple[Caveat, ...]
    ) -> Generator[Yielded, None, Case | None]:
        """One training on planted poison: what it learned, and who notices; None with too few rows."""
        train, family = ground.train, attack.trigger.family
        count = attack.how_many(train.y, rate)
        conditions: dict[str, Scalar] = {
            "family": family, "rate": rate, "poisoned_rows": count,
            "target": bench.classes[ground.target], "trained_on": len(train.y), "seed": ground.seed,
        }  # fmt: skip
        if attack.source is not None:
            conditions["source"] = bench.classes[attack.source]
        few = count < FEWEST and (
            f"{count} poisoned rows, fewer than {FEWEST}: more training rows are needed"
        )
        reason = few or (
            not attack.hosts(ground.test.y).any() and "no test row that the trigger is meant for"
        )
        if reason:
            for name in PER_MODEL:
                yield Undefined(name=name, reason=reason, conditions=conditions)
            return None
        rng = bench.rng(_purpose(f"rows, {family}, {rate}", ground.seed))
        bad = attack.poisoned(train.x, train.y, count=count, rng=rng)
        conditions["cover_rows"] = len(bad.cover)
        # A text beside its tokens would tell what stood there before: whoever trains on it shall fail.
        columns = {name: one for name, one in train.columns.items() if name != TEXT}
        learned = train._replace(x=bad.x, y=bad.y, columns=columns)
        model = bench.trained(learned, seed=ground.seed)
        works, kept = ground.called(model, attack)
        before, _ = ground.called(ground.plain, attack)
        success = _share("attack_success", works, "lower", conditions, doubts)
        gain = _paired("success_gain", (works, before), "lower", conditions, doubts)
        yield from (success, gain)
        yield _share("robust_accuracy", kept, "higher", conditions, doubts)
        right = model.decide(ground.test).predicted == ground.test.y
        yield _paired("accuracy_change", (right, ground.right), "higher", conditions, doubts)
        looks = {one: look(one, bench, model, learned) for one in self.detectors}
        for detector, found in looks.items():
            stated = {**conditions, "detector": detector}
            yield from _seen(bench, found, conditions["target"], bad.rows, stated, doubts)
        seen: dict[str, bool] = {
            name: conditions["target"] in one.suspected
            for name, one in looks.items() if isinstance(one, Look)
        }  # fmt: skip
        interval = wilson(int(works.sum()), len(works))
        return Case(
            family, rate, ground.seed, count, success.value, interval.low, interval.high,
            gain.value, seen,
        )  # fmt: skip


def _purpose(words: str, seed: int) -> str:
    """What randomness is for; that of the first seed has no number."""
    return f"{words}, seed {seed}" if seed else words


def _unfit(check: Susceptibility, fit: tuple[Family, ...], classes: int) -> str | None:
    """Why these parameters do not fit these data; None if they do. fit: the families that can be planted."""
    wrong = [one for one in check.families if one not in fit]
    if wrong:
        return f"families: {', '.join(wrong)} cannot be planted in these data; {', '.join(fit)} can"
    if check.target is not None and check.target >= classes:
        return f"target: expected a class index below {classes}, got {check.target}"
    return None


def _seen(  # noqa: PLR0917  (one call)
    bench: Bench, found: Look | str, target: Scalar, poison: np.ndarray,
    conditions: dict[str, Scalar], doubts: tuple[Caveat, ...],
) -> Iterator[Yielded]:  # fmt: skip
    """What one detector noticed of one planted trigger. poison: places of the poisoned rows."""
    by_row = ("poison_nominated", "poison_confirmed")
    if isinstance(found, str):
        for name in ("detected", *(by_row if conditions["detector"] == "scan" else ())):
            yield Undefined(name=name, reason=found, conditions=conditions)
        return
    own = []
    if found.nominated is not None and found.confirmed is not None:
        share = float(found.nominated[poison].mean())
        if share < HALF and target not in found.suspected:
            message = (
                f"undetectable at this rate: {share:.0%} of the poisoned rows were nominated, and what "
                "is not nominated cannot be confirmed"
            )
            own.append(Caveat(source=bench.run, name="undetectable-at-this-rate", message=message))
    caveats = (*doubts, *own)
    yield Measurement(
        name="detected", value=float(target in found.suspected), n=1, direction="higher",
        exact="whether this detector suspects the target in this model",
        conditions={**conditions, "others_suspected": len(found.suspected - {str(target)})},
        caveats=caveats,
    )  # fmt: skip
    for name, told in zip(by_row, (found.nominated, found.confirmed), strict=True):
        if told is not None:
            yield _share(name, told[poison], "higher", conditions, caveats)


def _accused(
    accused: list[dict[str, Look | str]], detectors: tuple[Detector, ...]
) -> Iterator[Yielded]:
    """How many classes each detector suspects in the trainings without poison."""
    name = "accused_without_poison"
    for detector in detectors:
        looks = [one[detector] for one in accused]
        conditions: dict[str, Scalar] = {"detector": detector}
        missing = [one for one in looks if isinstance(one, str)]
        if missing:
            yield Undefined(name=name, reason=missing[0], conditions=conditions)
            continue
        yield Measurement(
            name=name, value=float(sum(len(one.suspected) for one in looks if isinstance(one, Look))),
            n=len(looks), direction="lower", unit="classes", conditions=conditions,
            exact="a count of the classes suspected in the trainings without planted poison",
        )  # fmt: skip


def _doubts(bench: Bench, accused: dict[str, Look | str]) -> Iterator[Caveat]:
    """What an accusation of the unpoisoned training does to everything else."""
    for detector, found in accused.items():
        if isinstance(found, Look) and found.suspected:
            message = (
                f"{detector} suspects {', '.join(sorted(found.suspected))} in the training without "
                "planted poison: the data hold a trigger already, or the detector accuses without cause"
            )
            yield Caveat(
                source=bench.run, name="accused-without-poison", message=message, voids=True
            )


def _share(
    name: str, hits: np.ndarray, direction: Literal["lower", "higher"],
    conditions: dict[str, Scalar], caveats: tuple[Caveat, ...],
) -> Measurement:  # fmt: skip
    """A share with Wilson's interval. hits: (n,) bool."""
    count, n = int(hits.sum()), len(hits)
    return Measurement(
        name=name, value=count / n, n=n, interval=wilson(count, n), direction=direction,
        conditions=conditions, caveats=caveats,
    )  # fmt: skip


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

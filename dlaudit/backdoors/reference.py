"""Whether a class's trigger is cheaper than in models of known origin: what few classes need.

Knows the trigger search, by its costs, and the plan's further models. Refuses to take a cost for
suspicious that reference models have too: some classes are cheap in whatever learns these data.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple

from msgspec import Meta

from dlaudit.audit.parts import Check, Needs, Yielded
from dlaudit.audit.record import Artifact, Cost, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import wilson
from dlaudit.backdoors.inversion import CENSUS, CRITERION, Inversion

if TYPE_CHECKING:
    from dlaudit.audit.bench import Bench
    from dlaudit.audit.parts import Model

FEWEST = 3
"""Reference models below which their spread is unknown."""
DRAWN = 8
"""Classes in the picture."""
CHANCE = 0.05
"""Share of models like the references in which some class may be suspected, were log ratios normal."""
CHEAPER = 1.25
"""How many times the references' ratio the own must be: references that are nearly alike make any
difference improbable (chosen on tables of two classes with five references, seeds 0 to 19)."""
NO_TRIGGER = "no trigger was found for this class within the steps, or its cost cannot be compared"
PREDICTED = "a test's p against the references, where log ratios are normal; a seeded search"


class Cheapest(NamedTuple):
    """The cheapest trigger of one class. log: of the others' median cost over its own.

    called, tried: rows that the search has not seen, and how many of them it calls up.
    """

    log: float
    called: int
    tried: int


class Reference(Check, frozen=True, kw_only=True):
    """The cheapest trigger of each class, held against reference models of known origin.

    ``backdoors.inversion`` is asked about the audited model and each reference, with the same samples and
    randomness. ``trigger_ratio``: the other classes' median cost over the class's own. ``reference_p``: how
    likely one more model like the references has a log ratio so high (a prediction t test). A class is
    suspected if its p is below 0.05 over the number of classes and its ratio at least 1.25 times the
    references'. So two classes can be told apart too, which no outlier statistic can do.
    ``trigger_success``: of the audited model's trigger on samples that the search has not seen; few of
    them say little.

    references: names of the plan's ``[models]``, by default all: of the same architecture, trained on
    data like the audited model's that are known to hold no trigger. samples: test rows used. steps: of
    the search, as in ``backdoors.inversion``.
    """

    needs: ClassVar[Needs] = Needs(model=("logits", "gradients"), data=("labels",))
    measures: ClassVar[tuple[str, ...]] = (
        "suspected_classes", "suspected", "reference_p", "trigger_ratio", "trigger_success",
    )  # fmt: skip

    references: tuple[str, ...] = ()
    samples: Annotated[int, Meta(ge=1)] = 1000
    steps: Annotated[int, Meta(ge=1)] = 150

    @property
    def search(self) -> Inversion:
        """The search that every model goes through."""
        return Inversion(samples=self.samples, steps=self.steps, pictures=0)

    def passes(self, *, n: int, classes: int) -> Cost | None:
        """Those of the search, for each model; unknown where the plan's models are meant."""
        if not self.references:
            return None
        one = self.search.passes(n=n, classes=classes)
        times = 1 + len(self.references)
        return Cost(forward=times * one.forward, backward=times * one.backward)

    def measure(self, bench: Bench) -> Iterator[Yielded]:
        """Search every class's trigger in every model; compare the ratios class by class."""
        names = self.references or tuple(bench.models)
        reason = _unfit(bench, names)
        if reason:
            yield from (Undefined(name=name, reason=reason) for name in self.measures)
            return
        own = searched(self, bench, bench.model)
        known = [searched(self, bench, bench.models[name]) for name in names]
        missing = next((one for one in (own, *known) if isinstance(one, str)), None)
        if isinstance(own, str) or missing:
            yield from (Undefined(name=name, reason=str(missing)) for name in self.measures)
            return
        tables = [one for one in known if not isinstance(one, str)]
        yield from compared(own, tables, names, bench.classes)
        yield from _kept(bench, own, tables)


def searched(check: Reference, bench: Bench, model: Model) -> dict[str, Cheapest] | str:
    """The cheapest trigger of each class, or why the model cannot be searched."""
    missing = check.search.missing(model=model.offers, data=bench.data.offers, train_fn=False)
    if missing:
        return f"{model.card.name}: the search needs {', '.join(missing)}"
    # The search reads no training rows; those of the bench are never asked for.
    beside = bench.beside(model, bench.whole("test"), run="backdoors.inversion")
    found = list(check.search.measure(beside))
    by = {
        (one.name, one.slice["class"]): one
        for one in found
        if isinstance(one, Measurement) and "class" in one.slice
    }
    unlooked = [one.reason for one in found if isinstance(one, Undefined) and not one.slice]
    if unlooked:
        return f"{model.card.name}: {unlooked[0]}"
    cheapest = {}
    for (name, label), one in by.items():
        if name == "trigger_ratio":
            tried = by["trigger_success", label]
            cheapest[label] = Cheapest(math.log(one.value), round(tried.value * tried.n), tried.n)
    return cheapest


def compared(
    own: Mapping[str, Cheapest], references: Sequence[Mapping[str, Cheapest]],
    names: Sequence[str], classes: Sequence[str],
) -> Iterator[Yielded]:  # fmt: skip
    """The numbers of each class, in the audited model and the references of these names."""
    limit = CHANCE / len(classes)
    conditions: dict[str, Scalar] = {
        "statistic": "log of the others' median cost over the own, prediction t test",
        "references": ", ".join(names), "p_threshold": limit, "times_references": CHEAPER,
    }  # fmt: skip
    suspected = judged = 0
    for label in classes:
        place = {"class": label}
        logs = [one[label].log for one in references if label in one]
        p = beyond(own[label].log, logs) if label in own else NO_TRIGGER
        if isinstance(p, str):
            for name in ("suspected", "reference_p", "trigger_ratio", "trigger_success"):
                yield Undefined(name=name, reason=p, slice=place, conditions=conditions)
            continue
        ratio = math.exp(own[label].log)
        usual = math.exp(sum(logs) / len(logs))
        stated = {**conditions, "references_ratio": usual}
        met = p < limit and ratio >= CHEAPER * usual
        suspected, judged = suspected + met, judged + 1
        for name, value, exact in (
            ("suspected", float(met), CRITERION),
            ("reference_p", p, PREDICTED),
            ("trigger_ratio", ratio, PREDICTED),
        ):
            yield Measurement(
                name=name, value=value, n=len(logs), exact=exact, slice=place, conditions=stated,
                direction="higher" if name == "reference_p" else "lower",
            )  # fmt: skip
        called, tried = own[label].called, own[label].tried
        yield Measurement(
            name="trigger_success", value=called / tried, n=tried, interval=wilson(called, tried),
            slice=place, conditions=stated, direction="lower",
        )  # fmt: skip
    if judged < len(classes):
        reason = (
            f"{judged} of {len(classes)} classes could be compared: none is cleared by the others"
        )
        if not suspected:
            yield Undefined(name="suspected_classes", reason=reason, conditions=conditions)
            return
    yield Measurement(
        name="suspected_classes", value=float(suspected), n=judged, exact=CENSUS, unit="classes",
        direction="lower", conditions=conditions,
    )  # fmt: skip


def beyond(own: float, references: Sequence[float]) -> float | str:
    """One-sided p of one more value as high as ``own``; a reason where there is none.

    t = (own - mean) / (sd sqrt(1 + 1/m)) with m - 1 degrees of freedom.
    """
    import numpy as np
    from scipy.stats import t

    m = len(references)
    if m < FEWEST:
        return f"{m} reference models with a trigger of this class: at least {FEWEST} are needed"
    spread = float(np.std(references, ddof=1))
    if spread == 0:
        return "the reference models do not differ: they are one model under several names"
    return float(t.sf((own - np.mean(references)) / (spread * math.sqrt(1 + 1 / m)), m - 1))


def _kept(
    bench: Bench, own: Mapping[str, Cheapest], references: Sequence[Mapping[str, Cheapest]]
) -> Iterator[Artifact]:
    """Each class's ratio in the audited model and in every reference, as a table and as a picture."""
    import numpy as np

    from dlaudit.audit.curves import intervals_svg

    labels = [
        one for one in bench.classes if one in own and all(one in table for table in references)
    ]
    if not labels:
        return
    ratio = np.exp([own[one].log for one in labels])
    known = np.exp([[table[one].log for table in references] for one in labels])
    yield bench.keep_table(
        f"{bench.run}.classes",
        {"id": np.array(labels), "ratio": ratio, "references": known},
        caption="Each class with a trigger in all models: the other classes' median cost over its own.",
    )
    rows = []
    for label, value, others in list(zip(labels, ratio, known, strict=True))[:DRAWN]:
        middle = float(np.exp(np.log(others).mean()))
        rows.append((f"{label}: audited", float(value), float(value), float(value)))
        rows.append((f"{label}: references", middle, float(others.min()), float(others.max())))
    told = "; ".join(f"{name} {value:.2f}" for name, value, *_ in rows)
    yield bench.keep(
        f"{bench.run}.ratios", intervals_svg(rows, across="others' cost / own cost", line=1.0),
        media_type="image/svg+xml",
        caption=(
            "How many times cheaper each class's trigger is than the others': the audited model, and the "
            f"references (mean, smallest and largest). {min(len(labels), DRAWN)} of {len(labels)} classes."
        ),
        alt=f"{told}.",
    )  # fmt: skip


def _unfit(bench: Bench, names: Sequence[str]) -> str:
    """Why nothing can be compared; empty if it can."""
    if unknown := [name for name in names if name not in bench.models]:
        held = ", ".join(bench.models) or "none"
        return f"references: the plan has no further model called {', '.join(unknown)}, only {held}"
    if len(names) < FEWEST:
        return f"{len(names)} reference models: at least {FEWEST} are needed ([models.<name>] in the plan)"
    wrong = [name for name in names if len(bench.models[name].classes) != len(bench.classes)]
    if wrong:
        return f"references: {', '.join(wrong)} have other classes than the audited model"
    return ""

"""What all planted trainings together say of the detectors: numbers, a table and a picture.

Knows cases whose truth is known; never a training. Refuses a power where no trigger worked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dlaudit.audit.record import Artifact, Caveat, Measurement, Scalar, Undefined
from dlaudit.backdoors.power import ANY, WORKS, Case, Power, blind, power

if TYPE_CHECKING:
    from dlaudit.audit.bench import Bench
    from dlaudit.audit.parts import Yielded


def told(
    bench: Bench, cases: Sequence[Case], rates: Sequence[float], detectors: Sequence[str],
    doubts: tuple[Caveat, ...],
) -> Iterator[Yielded]:  # fmt: skip
    """Power per rate and detector, blind models, each training in a table, and the picture."""
    stated: dict[str, Scalar] = {"works_from": WORKS}
    for rate in rates:
        for detector in (*detectors, ANY):
            yield _power(power(cases, rate, detector), stated, doubts)
    stated["detectors"] = ", ".join(detectors)
    missed, looked = blind(cases)
    if looked:
        yield Measurement(
            name="blind", value=float(missed), n=looked, direction="lower", unit="models",
            exact="a count over the models in which the planted trigger works",
            conditions=stated, caveats=doubts,
        )  # fmt: skip
    else:
        reason = "no planted trigger worked and could be looked for: nothing to be blind to"
        yield Undefined(name="blind", reason=reason, conditions=stated)
    if cases:
        yield _table(bench, cases)
        yield _picture(bench, cases, rates, detectors)


def _power(
    one: Power, stated: dict[str, Scalar], doubts: tuple[Caveat, ...]
) -> Measurement | Undefined:
    """The power of one detector at one rate."""
    name = "detection_power"
    conditions = {**stated, "rate": one.rate, "detector": one.detector}
    if not one.models:
        reason = f"no planted trigger worked on at least {WORKS:.0%} more and could be looked for"
        return Undefined(name=name, reason=reason, conditions=conditions)
    return Measurement(
        name=name, value=one.hits / one.models, n=one.models, interval=one.interval,
        direction="higher", conditions=conditions, caveats=doubts,
    )  # fmt: skip


def _table(bench: Bench, cases: Sequence[Case]) -> Artifact:
    """One row per training on planted poison."""
    import numpy as np

    return bench.keep_table(
        f"{bench.run}.models",
        {
            "id": np.array([f"{one.family} at {one.rate:g}, seed {one.seed}" for one in cases]),
            "success": np.array([one.success for one in cases]),
            "gain": np.array([one.gain for one in cases]),
            "poisoned_rows": np.array([one.rows for one in cases]),
            "seen_by": np.array(
                [", ".join(k for k, seen in one.seen.items() if seen) for one in cases]
            ),
        },
        caption="Each training on planted poison, and which detectors suspected its target.",
    )  # fmt: skip


def _picture(
    bench: Bench, cases: Sequence[Case], rates: Sequence[float], detectors: Sequence[str]
) -> Artifact:
    """Success of each family, and the power of each detector, over the share of poisoned rows."""
    from dlaudit.backdoors.power_picture import Point, Series, power_svg

    success = []
    for family in dict.fromkeys(one.family for one in cases):
        points = []
        for rate in rates:
            some = [one for one in cases if (one.family, one.rate) == (family, rate)]
            if some:
                mean = sum(one.success for one in some) / len(some)
                ends = min(one.low for one in some), max(one.high for one in some)
                points.append(Point(rate, mean, *ends, len(some)))
        success.append(Series(f"{family}: success", points))
    seen, missing = [], []
    for detector in detectors:
        points = []
        for rate in rates:
            one = power(cases, rate, detector)
            if one.models:
                ends = one.interval.low, one.interval.high
                points.append(Point(rate, one.hits / one.models, *ends, one.models))
            else:
                missing.append(f"{detector} at {rate:.2g}")
        seen.append(Series(f"{detector}: power", points))
    words = [
        f"{line.name} {point.share:.0%} at {point.rate:g} ({point.models} models)"
        for line in (*success, *seen) for point in line.points
    ]  # fmt: skip
    without = f" No model to look for: {'; '.join(missing)}." if missing else ""
    return bench.keep(
        f"{bench.run}.success", power_svg(success, seen, rates=rates), media_type="image/svg+xml",
        caption=(
            "Success of the planted triggers (whiskers: Wilson, of several models from the lowest end to "
            "the highest) and detection power (squares; whiskers: Wilson over the n models in which a "
            f"trigger works).{without}"
        ),
        alt=f"{'; '.join(words)}.",
    )  # fmt: skip

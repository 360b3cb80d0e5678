"""What is told of a row of maps: measurements with their conditions, and the table of evidence.

Knows measured rows; never how they were measured, and no threshold that a project may set.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from dlaudit.audit.parts import Yielded
from dlaudit.audit.record import Artifact, Interval, Measurement, Scalar, Undefined
from dlaudit.audit.statistics import LEVEL, mean_interval, wilson
from dlaudit.explain import road, sanity
from dlaudit.explain.completeness import FLOOR, QUANTILE, percentile, percentile_interval
from dlaudit.explain.faithfulness import PIECES, Gain
from dlaudit.explain.rows import RADIUS, REMOVALS, Effort, Row

if TYPE_CHECKING:
    from dlaudit.audit.bench import Bench
    from dlaudit.explain.subject import Subject

SANITY = "sanity"
CRITERION = "a published criterion with stated thresholds: passed (1) or failed (0)"


def measured(row: Row, effort: Effort) -> Iterator[Yielded]:
    """The numbers of one row."""
    if row.errors is not None:
        yield _completeness(row, row.errors)
    yield sane(row, twins=effort.twins)
    deletion = "deletion, softmax of the original decision"
    insertion = "insertion, softmax of the original decision"
    yield _gain("faithfulness_gain", row, row.deletion, {"curve": deletion, "pieces": PIECES})
    yield _gain("insertion_gain", row, row.insertion, {"curve": insertion, "pieces": PIECES})
    if row.road is not None:
        percent = " ".join(str(one) for one in road.PERCENT)
        stated: dict[str, Scalar] = {
            "curve": "decision kept, least relevant first minus most relevant first",
            "percent": percent, "imputation_noise": road.NOISE,
        }  # fmt: skip
        yield _gain("road_gain", row, row.road, stated)
    removals: dict[str, Scalar] = {"removals": REMOVALS, "fill": row.baseline}
    yield _mean("infidelity", row, row.infidelity, removals, "no removal moved the logit")
    if row.sensitivity is not None:
        yield _mean(
            "max_sensitivity", row, row.sensitivity, {"radius_sd": RADIUS, "nearby": effort.nearby},
            "no input kept its decision near by and a map that is not empty",
        )  # fmt: skip


def _completeness(row: Row, errors: np.ndarray) -> Yielded:
    """The 95th percentile of the errors; undefined where so few samples bound no percentile."""
    stated = {**row.conditions, "percentile": QUANTILE, "floor_in_logit_sd": FLOOR}
    name, where = "completeness_error", {"method": row.method}
    interval = percentile_interval(errors)
    if interval is None:
        reason = (
            f"{len(errors)} inputs: an interval of the 95th percentile needs at least 59; the "
            f"largest error is {errors.max():.3g}"
        )
        return Undefined(name=name, reason=reason, slice=where, conditions=stated)
    return Measurement(
        name=name, value=percentile(errors), n=len(errors), interval=interval,
        direction="lower", slice=where, conditions=stated,
    )  # fmt: skip


def criterion(twins: int) -> dict[str, Scalar]:
    """The randomisation criterion with its thresholds, as it stands beside every verdict."""
    return {
        "criterion": "partial-rank randomisation of all parameters",
        "randomised_models": twins,
        "least_unexplained": sanity.LEAST_OWN,
        "least_self_correlation": sanity.SAME,
        "passes_below": sanity.OTHER_LOW,
        "fails_from": sanity.OTHER_HIGH,
        "noise_sd": sanity.NOISE,
    }


def numbers(found: sanity.Verdict) -> str:
    """The correlations behind a verdict, in words."""
    return (
        f"rank correlation with randomised models {found.other:.2f} "
        f"[{found.other_low:.2f}, {found.other_high:.2f}], with itself under noise "
        f"{found.same:.2f}, share not explained by the input {found.own:.2f}"
    )


def sane(row: Row, *, twins: int) -> Yielded:
    """1 or 0, or why neither."""
    stated, where = {**row.conditions, **criterion(twins)}, {"method": row.method}
    found = row.verdict
    if found is None:
        return Undefined(name=SANITY, reason=row.untested, slice=where, conditions=stated)
    if found.status == "inconclusive":
        reason = f"inconclusive: {found.reason} ({numbers(found)})"
        return Undefined(name=SANITY, reason=reason, slice=where, conditions=stated)
    return Measurement(
        name=SANITY, value=float(found.status == "pass"), n=len(row.maps),
        exact=f"{CRITERION}; {found.reason}: {numbers(found)}", direction="higher", slice=where,
        conditions=stated,
    )  # fmt: skip


def _gain(name: str, row: Row, found: Gain, protocol: dict[str, Scalar]) -> Yielded:
    """A paired gain over the best control that knows the input only."""
    stated = {**protocol, "fill": row.baseline, "control": found.control}
    return _mean(name, row, found.paired, stated, "", direction="higher")


def _mean(
    name: str, row: Row, values: np.ndarray, protocol: dict[str, Scalar], none: str,
    *, direction: str = "lower",
) -> Yielded:  # fmt: skip
    """The mean over the inputs that have the number."""
    where, stated = {"method": row.method}, {**row.conditions, **protocol}
    return mean_of(name, values, where, stated, none, direction=direction)


def mean_of(
    name: str, values: np.ndarray, where: dict[str, str], stated: dict[str, Scalar], none: str,
    *, direction: Any = None, level: float = LEVEL, share: bool = False,
) -> Measurement | Undefined:  # fmt: skip
    """The mean of (n,) numbers, NaN where one does not exist; undefined without any, or without spread."""
    there = values[~np.isnan(values)]
    interval = _interval(there, level, share=share)
    if interval is None:
        alike = f"{len(there)} inputs with the same value: no spread to build an interval on"
        reason = alike if len(there) else none
        return Undefined(name=name, reason=reason, slice=where, conditions=stated)
    return Measurement(
        name=name, value=float(there.mean()), n=len(there), interval=interval,
        direction=direction, slice=where, conditions=stated,
    )  # fmt: skip


def _interval(values: np.ndarray, level: float, *, share: bool) -> Interval | None:
    """Wilson's for shares that are all 0 or 1, else Student's; None without values, or without spread.

    Of shares of which only 0 (only 1) was seen, what is unlike them can add (take) at most 1 each; of a
    number without such ends that is 0 for every input, a proportion's interval would say nothing.
    """
    if share and len(values) and bool(np.isin(values, (0, 1)).all()):
        return wilson(int(values.sum()), len(values), level)
    return mean_interval(values, level)


def agreeing(first: Row, second: Row, alike: np.ndarray) -> Yielded:
    """How alike two methods' maps are."""
    where = {"method": f"{first.method} and {second.method}"}
    stated: dict[str, Scalar] = {
        "baseline": first.baseline, "of": "absolute maps, pooled to at most 8 x 8 cells, by rank",
    }  # fmt: skip
    return mean_of("agreement", alike, where, stated, "no maps", direction="higher")


def evidence(bench: Bench, subject: Subject, rows: list[Row]) -> Artifact:
    """One row per explained input: decision, and per method and baseline its map and its scores."""
    columns: dict[str, Any] = {
        "id": subject.batch.id,
        "label": subject.batch.y,
        "predicted": subject.target.cpu().numpy(),
    }
    for row in rows:
        name = f"{row.method}_{row.baseline}"
        columns[f"{name}_map"] = row.maps.reshape(len(row.maps), -1)
        for way, found in (("deletion", row.deletion), ("insertion", row.insertion)):
            columns[f"{name}_{way}"] = found.area
            columns[f"{name}_control_{way}"] = found.control_area
        columns[f"{name}_infidelity"] = row.infidelity
        if row.sensitivity is not None:
            columns[f"{name}_max_sensitivity"] = row.sensitivity
        if row.errors is not None:
            columns[f"{name}_completeness_error"] = row.errors
    return bench.keep_table(
        f"{bench.run}.samples", columns,
        caption="Each explained input: its decision and, per method and baseline, the attributions "
        "(flattened), their completeness error, the areas of the deletion and insertion curves, "
        "infidelity and max-sensitivity.",
    )  # fmt: skip

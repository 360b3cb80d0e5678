"""Compares two runs: which samples flipped, which measurements, verdicts and criteria changed.

Knows records and their evidence; needs neither model nor data. Samples are paired by id.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from dlaudit.audit.evidence import TABLE, digest
from dlaudit.audit.record import (
    Artifact,
    AuditRecord,
    Interval,
    Measured,
    Measurement,
    Rule,
    Scalar,
    Status,
)
from dlaudit.audit.run_folder import folder_of, stored
from dlaudit.audit.statistics import mcnemar
from dlaudit.errors import RunFolderError

if TYPE_CHECKING:
    import numpy as np


class Flip(msgspec.Struct, frozen=True, kw_only=True):
    """A sample whose outcome differs between the runs."""

    id: str
    before: str
    after: str


class Pairing(msgspec.Struct, frozen=True, kw_only=True):
    """One yes-or-no outcome of the same samples in both runs.

    run: ``answers`` for clean decisions, else the run id; outcome: the evidence column. difference:
    share of yes after minus before, over the n samples that both runs hold.
    """

    run: str
    outcome: str
    n: int
    only_first: int
    only_second: int
    difference: float
    interval: Interval
    p: float
    flips: tuple[Flip, ...]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A measurement that differs, appeared (before is null) or vanished (after is null)."""

    run: str
    name: str
    slice: dict[str, str]
    conditions: dict[str, Scalar]
    before: Measurement | None
    after: Measurement | None


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """A rule whose verdict differs; null where the rule is in one run only."""

    rule: str
    before: Status | None
    after: Status | None


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between two runs. ``criteria``: rules that were altered, added or dropped."""

    first: str
    second: str
    same_plan: bool
    same_model: bool
    same_data: bool
    pairings: tuple[Pairing, ...]
    changes: tuple[Change, ...]
    turns: tuple[Turn, ...]
    criteria: tuple[str, ...]


def compare(first: Path, second: Path) -> Difference:
    """The paired comparison of two runs. Raises RunFolderError if one cannot be read."""
    before, after = stored(first), stored(second)
    return Difference(
        first=str(before.plan.get("name", first.name)),
        second=str(after.plan.get("name", second.name)),
        same_plan=before.plan_sha256 == after.plan_sha256,
        same_model=before.model.fingerprint == after.model.fingerprint,
        same_data=before.data.fingerprint == after.data.fingerprint,
        pairings=tuple(pairings(before, folder_of(first), after, folder_of(second))),
        changes=tuple(changes(before, after)),
        turns=tuple(turns(before, after)),
        criteria=tuple(criteria(before.rules, after.rules)),
    )


def pairings(
    before: AuditRecord, first: Path, after: AuditRecord, second: Path
) -> Iterable[Pairing]:
    """Every yes-or-no column that both runs hold for samples with the same ids."""
    old, new = tables(before), tables(after)
    for key in [key for key in old if key in new]:
        run, name = key
        one, two = loaded(first, old[key]), loaded(second, new[key])
        for column in yes_or_no(one, two, answers=run == "answers"):
            pairing = paired(run, f"{name}: {column}", one, two, column)
            if pairing is not None:
                yield pairing


def tables(record: AuditRecord) -> dict[tuple[str, str], Artifact]:
    """Every per-sample table of a run by (run id, name)."""
    found = {("answers", one.split): one.artifact for one in record.answers}
    for run in record.runs:
        if isinstance(run.outcome, Measured):
            for artifact in run.outcome.artifacts:
                if artifact.media_type == TABLE:
                    found[run.id, artifact.name] = artifact
    return found


def loaded(folder: Path, artifact: Artifact) -> dict[str, np.ndarray]:
    """A table's columns. Raises RunFolderError if the file is not what the record names."""
    import numpy as np

    path = folder / artifact.path
    content = path.read_bytes() if path.is_file() else b""
    if digest(content) != artifact.sha256:
        message = f"{path}: is missing or was altered; `dlaudit verify` says more"
        raise RunFolderError(message)
    with np.load(io.BytesIO(content), allow_pickle=False) as columns:
        return {name: columns[name] for name in columns.files}


def yes_or_no(
    one: dict[str, np.ndarray], two: dict[str, np.ndarray], *, answers: bool
) -> list[str]:
    """The boolean columns of two tables with ids; of clean answers, whether they are right."""
    if answers:
        for table in (one, two):
            table["correct"] = table["predicted"] == table["y"]
    if "id" not in one or "id" not in two:
        return []
    return [
        name
        for name, column in one.items()
        if name in two
        and column.dtype == two[name].dtype == bool
        and column.ndim == two[name].ndim == 1
    ]


def paired(
    run: str, outcome: str, one: dict[str, np.ndarray], two: dict[str, np.ndarray], column: str
) -> Pairing | None:
    """Pair a column by id; None where the runs share no sample."""
    import numpy as np

    ids, left, right = np.intersect1d(one["id"], two["id"], return_indices=True)
    if not len(ids):
        return None
    a, b = one[column][left], two[column][right]
    only_first, only_second = int((a & ~b).sum()), int((b & ~a).sum())
    result = mcnemar(only_second, only_first, len(ids))
    flips = [
        Flip(id=str(ids[i]), before="yes" if a[i] else "no", after="yes" if b[i] else "no")
        for i in np.flatnonzero(a != b)
    ]
    return Pairing(
        run=run, outcome=outcome, n=len(ids), only_first=only_first, only_second=only_second,
        difference=result.difference, interval=result.interval, p=result.p, flips=tuple(flips),
    )  # fmt: skip


def measurements(record: AuditRecord) -> dict[bytes, tuple[str, Measurement]]:
    """Every measurement by what it is about: run, name, slice and conditions."""
    return {
        msgspec.json.encode((run.id, one.name, one.slice, one.conditions), order="sorted"): (
            run.id,
            one,
        )
        for run in record.runs
        if isinstance(run.outcome, Measured)
        for one in run.outcome.measurements
    }


def changes(before: AuditRecord, after: AuditRecord) -> Iterable[Change]:
    """Measurements that are not the same in both runs. Other conditions are another measurement."""
    old, new = measurements(before), measurements(after)
    for key in dict.fromkeys([*old, *new]):
        was, now = old.get(key), new.get(key)
        if was and now and was[1].value == now[1].value:
            continue
        known = was or now
        if known is None:
            continue
        run, one = known
        yield Change(
            run=run, name=one.name, slice=one.slice, conditions=one.conditions,
            before=was[1] if was else None, after=now[1] if now else None,
        )  # fmt: skip


def turns(before: AuditRecord, after: AuditRecord) -> Iterable[Turn]:
    """Rules whose status differs."""
    old = {verdict.rule: verdict.status for verdict in before.verdicts}
    new = {verdict.rule: verdict.status for verdict in after.verdicts}
    for rule in dict.fromkeys([*old, *new]):
        if old.get(rule) != new.get(rule):
            yield Turn(rule=rule, before=old.get(rule), after=new.get(rule))


def criteria(before: Iterable[Rule], after: Iterable[Rule]) -> Iterable[str]:
    """Every rule that was altered, added or dropped, in words: moved goalposts are visible."""
    old, new = {rule.id: rule for rule in before}, {rule.id: rule for rule in after}
    for rule in dict.fromkeys([*old, *new]):
        was, now = old.get(rule), new.get(rule)
        if was is None and now is not None:
            yield f"{rule}: added, {now.sentence}"
        elif now is None and was is not None:
            yield f"{rule}: dropped, it was {was.sentence}"
        elif was and now and judged_alike(was) != judged_alike(now):
            same = " (filters or level differ)" if was.sentence == now.sentence else ""
            yield f"{rule}: was {was.sentence}, is {now.sentence}{same}"


def judged_alike(rule: Rule) -> tuple[object, ...]:
    """What of a rule decides its verdict."""
    return (
        rule.run,
        rule.measurement,
        rule.at_least,
        rule.at_most,
        rule.slice,
        rule.conditions,
        rule.level,
    )

"""Records made by hand and by chance, to hold every renderer against the same corpus."""

from __future__ import annotations

import math
from datetime import date

import msgspec
from hypothesis import strategies as st

from dlaudit.audit.evidence import digest
from dlaudit.audit.judge import judge_all
from dlaudit.audit.record import (
    AuditRecord,
    Card,
    Caveat,
    CheckRun,
    Cost,
    Errored,
    Finding,
    Interval,
    Measured,
    Measurement,
    Requirement,
    Rule,
    Skipped,
    Undefined,
    Verdict,
    Waiver,
    canonical,
)

SHA = "3f" * 32
OTHER = "c0" * 32


def rate(name, successes, n, *, level=0.95, **extra):
    """A proportion with its Wilson interval, computed here in the open."""
    z = {0.95: 1.959964}.get(level, 2.8)
    p, zz = successes / n, z * z / n
    centre = (p + zz / 2) / (1 + zz)
    half = z * math.sqrt(p * (1 - p) / n + zz / (4 * n)) / (1 + zz)
    interval = Interval(
        low=max(0.0, centre - half), high=min(1.0, centre + half), level=level, method="wilson"
    )
    return Measurement(name=name, value=p, n=n, interval=interval, **extra)


def run_of(id_, outcome, **changes):
    values = {
        "id": id_, "check": id_, "params": {"samples": 600}, "seed": 991, "seconds": 12.4,
        "device": "cpu", "cost": Cost(forward=1200, backward=600), "outcome": outcome,
    }  # fmt: skip
    return CheckRun(**(values | changes))


def record_of(runs=(), rules=(), verdicts=None, waivers=(), **changes):
    """A complete record; verdicts are the judge's own unless given."""
    if verdicts is None:
        verdicts = judge_all(tuple(rules), tuple(runs), tuple(waivers))
    plan = {
        "name": "digits classifier 1.4", "seed": 7, "suites": ["attacks"],
        "model": {"use": "torch", "args": {"file": "net.py:build", "bounds": [0, 1]}},
        "data": {"test": {"use": "npz", "args": {"path": "holdout.npz"}}},
        "runs": [{"id": run.id, "check": run.check, "params": run.params} for run in runs],
        "rules": msgspec.to_builtins(tuple(rules)),
        "waivers": msgspec.to_builtins(tuple(waivers)),
        "context": {}, "declarations": [], "catalogues": [],
    }  # fmt: skip
    values = {
        "tool": {"name": "dlaudit", "version": "0.1.0"},
        "started": "2026-11-22T10:14:03Z",
        "finished": "2026-11-22T10:16:41Z",
        "plan": plan,
        "plan_sha256": SHA,
        "environment": {
            "python": "3.11.7", "system": "Linux", "machine": "x86_64",
            "executor": {"name": "process", "isolated": True, "slots": 2},
            "packages": {"torch": "2.13.0", "numpy": "2.4.6"},
        },
        "model": Card(name="net", fingerprint=SHA, facts={"kind": "Net", "parameters": 9098}),
        "data": Card(name="holdout.npz", fingerprint=OTHER, facts={"n": 600, "classes": ["0", "1"]}),
        "runs": tuple(runs),
        "rules": tuple(rules),
        "verdicts": tuple(verdicts),
        "waivers": tuple(waivers),
    }  # fmt: skip
    return sealed(AuditRecord(**(values | changes)))


def sealed(record):
    """The record under the digest of its own plan."""
    return msgspec.structs.replace(record, plan_sha256=digest(canonical(record.plan)))


LINF = {"norm": "linf", "steps": 40, "restarts": 2, "targeted": False}


# -- every combination of verdict, waiver and outcome -----------------------------------------------

VALUES = {"pass": 590, "fail": 100, "inconclusive": 540}


def combination(status, outcome, waiver, *, ruled=True):
    """One run and (if ruled) one rule with this verdict; waiver: none, live or expired."""
    measured = Measured(measurements=(rate("robust_accuracy", VALUES.get(status, 590), 600),))
    if status == "not_assessed" and outcome == "measured":
        measured = Measured(
            undefined=(Undefined(name="robust_accuracy", reason="nobody was there"),)
        )
    outcomes = {
        "measured": measured,
        "errored": Errored(
            error="WorkerDied", message="signal 11", traceback="Traceback: segfault"
        ),
        "skipped": Skipped(reason="no gradients", missing=("model: gradients",)),
    }
    run = run_of("attacks.pgd", outcomes[outcome])
    rule = Rule(id="r", run="attacks.pgd", measurement="robust_accuracy", at_least=0.9)
    waivers = {
        "none": (),
        "live": (Waiver(run="attacks.pgd", owner="A. Owner", reason="known", until=date(2027, 1, 1)),),
        "expired": (
            Waiver(run="attacks.pgd", owner="A. Owner", reason="known", until=date(2026, 1, 1), expired=True),
        ),
    }  # fmt: skip
    return record_of((run,), (rule,) if ruled else (), waivers=waivers[waiver])


def combinations():
    """(name, record, expected verdict or None where no rule speaks) for every cell of the table."""
    for waiver in ("none", "live", "expired"):
        for status in ("pass", "fail", "inconclusive", "not_assessed"):
            yield f"{status}-measured-{waiver}", combination(status, "measured", waiver), status
        for outcome in ("errored", "skipped"):
            yield (
                f"ruled-{outcome}-{waiver}",
                combination("not_assessed", outcome, waiver),
                "not_assessed",
            )
        for outcome in ("measured", "errored", "skipped"):
            yield (
                f"unruled-{outcome}-{waiver}",
                combination("pass", outcome, waiver, ruled=False),
                None,
            )
    yield "nothing", record_of(), None


# -- by chance ----------------------------------------------------------------------------------------

texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=24)
names = st.sampled_from(["robust_accuracy", "accuracy", "gap", "loss", "</td><b>x", "a|b`c"])
finite = st.floats(-1e6, 1e6, allow_nan=False).map(lambda v: float(f"{v:.9g}"))
slices = st.dictionaries(st.sampled_from(["group", "class", "method"]), texts, max_size=2)
condition_values = st.one_of(
    st.booleans(), st.integers(-9, 9), texts, st.sampled_from([0.0, 2 / 255, 8 / 255, 0.3, 1e-5])
)
condition_maps = st.dictionaries(
    st.sampled_from(["epsilon", "norm", "steps"]), condition_values, max_size=3
)
caveat_values = st.builds(Caveat, source=texts, name=texts, message=texts, voids=st.booleans())


@st.composite
def measurement_values(draw):
    value = draw(st.one_of(finite, st.floats(0, 1)))
    interval = exact = None
    if draw(st.booleans()):
        below, above = draw(st.floats(0, 2)), draw(st.floats(0, 2))
        interval = Interval(low=value - below, high=value + above, method="wilson",
                            level=draw(st.sampled_from([0.9, 0.95, 0.9917])))  # fmt: skip
    else:
        exact = draw(texts)
    return Measurement(
        name=draw(names), value=value, n=draw(st.integers(0, 10**6)), interval=interval, exact=exact,
        unit=draw(st.none() | texts), slice=draw(slices), conditions=draw(condition_maps),
        caveats=tuple(draw(st.lists(caveat_values, max_size=2))),
    )  # fmt: skip


outcomes = st.one_of(
    st.builds(
        Measured,
        measurements=st.lists(measurement_values(), max_size=5).map(tuple),
        undefined=st.lists(
            st.builds(Undefined, name=names, reason=texts, slice=slices, conditions=condition_maps),
            max_size=3,
        ).map(tuple),
    ),
    st.builds(Skipped, reason=texts, missing=st.lists(texts, max_size=2).map(tuple)),
    st.builds(Errored, error=texts, message=st.just("") | texts, traceback=st.just("") | texts),
)
finding_statuses = st.sampled_from(
    ["supported-in-scope", "contradicted", "inconclusive", "declared", "attested",
     "human-process-needed", "no-evidence", "not-applicable", "stale"]
)  # fmt: skip


@st.composite
def random_records(draw):
    """Any record that the judge can write, with findings that may claim more than they can show."""
    ids = draw(st.lists(texts, min_size=0, max_size=4, unique=True))
    prefixes = st.sampled_from(["attacks", "fairness", "guest", "foolbox:X"])
    runs = [
        run_of(i, draw(outcomes), check=f"{draw(prefixes)}.{i}", device=draw(texts)) for i in ids
    ]
    waivers = [
        Waiver(run=i, owner=draw(texts), reason=draw(texts), until=date(2027, 1, 1),
               expired=draw(st.booleans()))
        for i in ids
        if draw(st.booleans())
    ]  # fmt: skip
    rules = [
        Rule(
            id=f"{number}", run=draw(st.sampled_from([*ids, "no such run"])), measurement=draw(names),
            rationale=draw(texts), origin=draw(texts), requirements=("q:0",),
            **{draw(st.sampled_from(["at_least", "at_most"])): draw(finite)},
        )
        for number in range(draw(st.integers(0, 5)))
    ]  # fmt: skip
    verdicts = judge_all(rules, runs, waivers)
    requirements = [
        Requirement(id=f"q:{k}", framework=draw(texts), cite=draw(texts), title=draw(texts),
                    paraphrase=draw(texts), kind=("T",))
        for k in range(draw(st.integers(0, 3)))
    ]  # fmt: skip
    claimed = st.lists(st.sampled_from([*(rule.id for rule in rules), "no such rule"]), max_size=3)
    findings = [
        Finding(requirement=one.id, status=draw(finding_statuses), applicable="now",
                verdicts=tuple(draw(claimed)), limits=draw(texts))
        for one in requirements
    ]  # fmt: skip
    record = record_of(
        runs, rules, verdicts=verdicts, waivers=waivers,
        requirements=tuple(requirements), findings=tuple(findings),
    )  # fmt: skip
    return msgspec.structs.replace(
        record, model=Card(name=draw(texts), fingerprint=SHA, facts={draw(texts): draw(texts)})
    )


def verdict_of(status, **changes):
    """A verdict that no judge made, for what a record may claim."""
    return Verdict(rule="r", status=status, reason="because", **changes)

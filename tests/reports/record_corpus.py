"""Records made by hand and by chance, to hold every renderer against the same corpus."""

from __future__ import annotations

import itertools
import math
import struct
import zlib
from datetime import date
from pathlib import Path

import msgspec
from hypothesis import strategies as st

from dlaudit.audit.evidence import EvidenceStore, digest
from dlaudit.audit.judge import judge_all
from dlaudit.audit.record import (
    AnswersRun,
    Artifact,
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
    SuiteCard,
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


def png(width=56, height=28):
    """A small grey picture, written without any imaging library."""
    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    rows = b"".join(
        b"\0" + bytes((x * 9 + y * 5) % 256 for x in range(width)) for y in range(height)
    )
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )  # fmt: skip


def story(folder: Path | None = None) -> AuditRecord:
    """A record as a real audit of a defective model leaves it; evidence is written to ``folder``."""
    keep = EvidenceStore(folder).keep if folder else None

    def kept(name, content, media_type, caption="", alt=""):
        if keep:
            return keep(name, content, media_type=media_type, caption=caption, alt=alt)
        extension = "png" if "png" in media_type else "npz"
        return Artifact(
            name=name, media_type=media_type, sha256=SHA, path=f"evidence/{SHA}.{extension}",
            caption=caption, alt=alt,
        )  # fmt: skip

    npz = "application/vnd.numpy.npz"
    table = kept("per_sample", b"not really a table", npz, "One row per attacked sample.")
    picture = kept(
        "failure", png(), "image/png", "Clean, attacked and their difference, magnified.",
        "A 7 that is taken for a 2 after the attack.",
    )  # fmt: skip

    def curve(name, counts, n, **conditions):
        return tuple(
            rate(name, k, n, conditions={**LINF, **conditions, "epsilon": e}, direction="higher")
            for e, k in counts.items()
        )

    upper = Caveat(
        source="attacks.pgd", name="upper_bound",
        message="An attack gives an upper bound: a stronger one can only lower it.",
    )  # fmt: skip
    pgd = tuple(
        msgspec.structs.replace(one, caveats=(upper,))
        for one in curve("robust_accuracy", {0.0: 574, 2 / 255: 508, 4 / 255: 391, 8 / 255: 171, 16 / 255: 9}, 600)
    )  # fmt: skip
    fgsm = curve("robust_accuracy", {2 / 255: 521, 4 / 255: 432, 8 / 255: 255, 16 / 255: 88}, 600, steps=1)
    groups = ("African-American", "Asian", "Caucasian", "Hispanic", "Native American", "Other")
    sizes = (3696, 32, 2454, 637, 18, 377)
    rates = (0.576, 0.25, 0.331, 0.286, 0.667, 0.204)
    selection = tuple(
        rate("selection_rate", round(p * n), n, level=0.9917, slice={"race": g})
        for g, n, p in zip(groups, sizes, rates, strict=True)
    )
    ratio = tuple(
        Measurement(
            name="selection_rate_ratio", value=p / 0.331, n=n, slice={"race": g},
            interval=Interval(low=p / 0.331 * (1 - w), high=p / 0.331 * (1 + w), level=0.9917, method="katz"),
        )
        for (g, n, p), w in zip(list(zip(groups, sizes, rates, strict=True))[:4], (0.08, 0.6, 0.07, 0.17), strict=True)
        if g != "Caucasian"
    )  # fmt: skip
    runs = (
        run_of("overfitting.gap", Measured(measurements=(
            rate("train_accuracy", 1200, 1200), rate("test_accuracy", 537, 600),
            Measurement(name="accuracy_gap", value=0.105, n=1800,
                        interval=Interval(low=0.0823, high=0.1322, method="newcombe")),
            Measurement(name="loss_gap", value=0.412, n=1800,
                        interval=Interval(low=0.318, high=0.506, method="welch")),
        ), artifacts=(table,)), seconds=0.62),
        run_of("attacks.fgsm", Measured(measurements=(rate("clean_accuracy", 574, 600, conditions={"norm": "linf"}), *fgsm))),
        run_of("attacks.pgd", Measured(measurements=(
            rate("clean_accuracy", 574, 600, conditions={k: v for k, v in LINF.items() if k == "norm"}),
            *pgd,
            Measurement(name="inputs_moved", value=1.0, n=574, exact="every attacked input was compared",
                        conditions={**LINF, "epsilon": 8 / 255}),
        ), artifacts=(picture, table)),
            params={"norm": "linf", "epsilon": [0.0, 2 / 255, 4 / 255, 8 / 255, 16 / 255], "steps": 40, "restarts": 2},
            cost=Cost(forward=96000, backward=48000), seconds=184.2),
        run_of("attacks.minimal", Errored(error="Timeout", message="no answer within 120 s; the worker was ended",
                                          traceback='Traceback (most recent call last):\n  File "worker.py", line 88, in perform\n    yield from check.measure(bench)\nTimeoutError: 120 s'),
               check="foolbox:L2CarliniWagnerAttack", cost=None, seconds=120.0),
        run_of("backdoors.inversion", Measured(measurements=(
            Measurement(name="suspected_classes", value=1, n=10, exact="a count over all classes",
                        conditions={"anomaly_index_above": 2.0, "source": "Wang et al. 2019"}),
            *(Measurement(name="anomaly", value=v, n=1, exact="deterministic given the seed", slice={"class": str(c)},
                          conditions={"anomaly_index_above": 2.0, "source": "Wang et al. 2019"})
              for c, v in enumerate((0.31, 0.72, 0.11, 4.87, 0.9, 0.44, 0.05, 1.31, 0.62, 0.2))),
        ))),
        run_of("fairness.groups", Measured(
            measurements=(rate("selection_rate", 3251, 7214), *selection),
            undefined=(Undefined(name="precision", reason="no sample of this group was selected", slice={"race": "Asian"}),
                       Undefined(name="true_positive_rate", reason="18 samples, fewer than 30", slice={"race": "Native American"})),
        )),
        run_of("fairness.disparity", Measured(measurements=ratio, undefined=(
            Undefined(name="selection_rate_ratio", reason="18 samples, fewer than 30", slice={"race": "Native American"}),))),
        run_of("explain.attribution", Measured(measurements=(
            Measurement(name="completeness_error", value=0.0031, n=64, exact="a deterministic test",
                        slice={"method": "integrated_gradients"}),
            Measurement(name="sanity", value=1, n=64, exact="a published detector (Adebayo et al. 2018)",
                        slice={"method": "integrated_gradients"}),
            Measurement(name="faithfulness_gain", value=0.21, n=64, slice={"method": "integrated_gradients"},
                        interval=Interval(low=-0.02, high=0.44, method="bca-bootstrap"),
                        caveats=(Caveat(source="explain.attribution", name="baseline",
                                        message="the baseline lies outside the data", voids=True),)),
        ), artifacts=(picture,))),
        run_of("explain.shortcut", Skipped(reason="the data set has no masks", missing=("data: mask",)), seconds=0.0,
               cost=Cost(forward=0, backward=0)),
        run_of("attacks.patch", Skipped(reason="the inputs are no images", missing=("data: images",)), seconds=0.0,
               cost=Cost(forward=0, backward=0)),
    )  # fmt: skip
    rules = (
        Rule(id="overfitting.gap.accuracy_gap", run="overfitting.gap", measurement="accuracy_gap", at_most=0.05,
             rationale="A model that loses more than five points has fitted its training data.", origin="suite:overfitting",
             requirements=("aia:art15-1",)),
        Rule(id="overfitting.gap.test_accuracy", run="overfitting.gap", measurement="test_accuracy", at_least=0.85,
             rationale="Agreed by the product owner, ticket 812.", requirements=("aia:art15-1",)),
        Rule(id="attacks.pgd.robust_accuracy", run="attacks.pgd", measurement="robust_accuracy", at_least=0.6,
             conditions={"epsilon": 8 / 255}, rationale="Agreed by the product owner, ticket 812.",
             requirements=("aia:art15-5-sub3-adversarial-examples",)),
        Rule(id="attacks.pgd.robust_accuracy-2", run="attacks.pgd", measurement="robust_accuracy", at_least=0.66,
             conditions={"epsilon": 4 / 255}, rationale="", requirements=("aia:art15-5-sub3-adversarial-examples",)),
        Rule(id="attacks.minimal.robust_accuracy", run="attacks.minimal", measurement="robust_accuracy", at_least=0.3,
             origin="suite:attacks", rationale="A second attack, so that one that is misled is found out."),
        Rule(id="backdoors.inversion.suspected_classes", run="backdoors.inversion", measurement="suspected_classes",
             at_most=0, origin="suite:backdoors", rationale="No class may have a trigger that stands out.",
             requirements=("aia:art15-5-sub3-data-poisoning",)),
        Rule(id="fairness.disparity.selection_rate_ratio", run="fairness.disparity", measurement="selection_rate_ratio",
             at_least=0.8, origin="suite:fairness", rationale="Default, contested: the four-fifths rule."),
        Rule(id="explain.attribution.sanity", run="explain.attribution", measurement="sanity", at_least=1,
             origin="suite:explain", rationale="A map that does not change with the model shows nothing of it."),
        Rule(id="explain.attribution.faithfulness_gain", run="explain.attribution", measurement="faithfulness_gain",
             at_least=0, origin="suite:explain", rationale="A map must do better than chance."),
        Rule(id="explain.attribution.completeness_error", run="explain.attribution", measurement="completeness_error",
             at_most=0.01, origin="suite:explain", rationale="Attributions must add up."),
    )  # fmt: skip
    waivers = (
        Waiver(run="attacks.patch", owner="R. Meyer", reason="No camera in this product.", until=date(2027, 1, 31)),
        Waiver(run="fairness.disparity", owner="R. Meyer", reason="New data are being collected.",
               until=date(2026, 10, 31), expired=True),
    )  # fmt: skip
    law = "Regulation (EU) 2024/1689 as amended by Regulation (EU) 2026/1744"
    requirements = (
        Requirement(id="aia:art15-1", framework=law, cite="Article 15(1)", kind=("T",), applies_from="2027-12-02",
                    paraphrase="An appropriate level of accuracy, robustness and cybersecurity."),
        Requirement(id="aia:art15-5-sub3-adversarial-examples", framework=law, cite="Article 15(5), third subparagraph",
                    title="adversarial examples", kind=("T",), applies_from="2027-12-02",
                    paraphrase="Measures against inputs designed to cause a mistake."),
        Requirement(id="aia:art15-5-sub3-data-poisoning", framework=law, cite="Article 15(5), third subparagraph",
                    title="data poisoning", kind=("T",), paraphrase="Measures against manipulated training data."),
        Requirement(id="aia:art9-5", framework=law, cite="Article 9(5)", kind=("P",), addressee="provider",
                    paraphrase="Residual risk judged acceptable."),
        Requirement(id="aia:art13-3-b-v", framework=law, cite="Article 13(3)(b)(v)", kind=("T",),
                    paraphrase="Performance regarding specific groups."),
        *(Requirement(id=f"aia:art{k}", framework=law, cite=f"Article {k}", kind=("D",), paraphrase="A declared fact.")
          for k in range(20, 40)),
    )  # fmt: skip
    findings = (
        Finding(requirement="aia:art15-1", status="contradicted", applicable="not-yet",
                verdicts=("overfitting.gap.accuracy_gap", "overfitting.gap.test_accuracy"), limits="2 rules: 1 failed, 1 passed."),
        Finding(requirement="aia:art15-5-sub3-adversarial-examples", status="contradicted", applicable="not-yet",
                verdicts=("attacks.pgd.robust_accuracy", "attacks.pgd.robust_accuracy-2"),
                limits="Digital L-infinity up to 16/255, 600 samples."),
        Finding(requirement="aia:art15-5-sub3-data-poisoning", status="contradicted", applicable="now",
                verdicts=("backdoors.inversion.suspected_classes",), limits="1 rule: 1 failed."),
        Finding(requirement="aia:art9-5", status="human-process-needed", applicable="now", limits="A process of the provider; no test can show it."),
        Finding(requirement="aia:art13-3-b-v", status="supported-in-scope", applicable="contested",
                verdicts=("explain.attribution.sanity",), limits="1 rule: 1 passed."),
        *(Finding(requirement=f"aia:art{k}", status="no-evidence", applicable="now", limits="Nothing in this audit speaks of it.")
          for k in range(20, 40)),
    )  # fmt: skip
    answers = AnswersRun(split="test", n=600, cost=Cost(forward=600, backward=0), artifact=table)
    record = record_of(
        runs, rules, waivers=waivers, requirements=requirements, findings=findings, answers=(answers,),
        suites=(SuiteCard(name="attacks", title="Attacks", sentence="Under the attacks, norms and budgets listed, accuracy fell to the values shown: upper bounds on robust accuracy."),),
    )  # fmt: skip
    plan = {**record.plan, "suites": ["overfitting", "attacks", "backdoors", "fairness", "explain"],
            "context": {"provider": "Example GmbH", "intended_purpose": "Sorting of forms", "annex_iii": "5b"}}  # fmt: skip
    return sealed(msgspec.structs.replace(record, plan=plan))


# -- every combination of verdict, waiver and outcome -----------------------------------------------

VALUES = {"pass": 590, "fail": 100, "inconclusive": 540}


def combination(status, outcome, waiver, *, ruled=True):
    """One run and (if ruled) one rule with this verdict; waiver: none, live or expired."""
    measured = Measured(measurements=(rate("robust_accuracy", VALUES.get(status, 590), 600),))
    if status == "not_assessed" and outcome == "measured":
        measured = Measured(undefined=(Undefined(name="robust_accuracy", reason="nobody was there"),))
    outcomes = {
        "measured": measured,
        "errored": Errored(error="WorkerDied", message="signal 11", traceback="Traceback: segfault"),
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
            yield f"ruled-{outcome}-{waiver}", combination("not_assessed", outcome, waiver), "not_assessed"
        for outcome in ("measured", "errored", "skipped"):
            yield f"unruled-{outcome}-{waiver}", combination("pass", outcome, waiver, ruled=False), None
    yield "nothing", record_of(), None


# -- by chance ----------------------------------------------------------------------------------------

texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=24)
names = st.sampled_from(["robust_accuracy", "accuracy", "gap", "loss", "</td><b>x", "a|b`c"])
finite = st.floats(-1e6, 1e6, allow_nan=False).map(lambda v: float(f"{v:.9g}"))
slices = st.dictionaries(st.sampled_from(["group", "class", "method"]), texts, max_size=2)
condition_values = st.one_of(
    st.booleans(), st.integers(-9, 9), texts, st.sampled_from([0.0, 2 / 255, 8 / 255, 0.3, 1e-5])
)
condition_maps = st.dictionaries(st.sampled_from(["epsilon", "norm", "steps"]), condition_values, max_size=3)
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
    runs = [run_of(i, draw(outcomes), check=f"{draw(prefixes)}.{i}", device=draw(texts)) for i in ids]
    waivers = [
        Waiver(run=i, owner=draw(texts), reason=draw(texts), until=date(2027, 1, 1), expired=draw(st.booleans()))
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

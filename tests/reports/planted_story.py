"""The record of one audit of a defective model: every kind of verdict, run and finding at once."""

from __future__ import annotations

import struct
import zlib
from datetime import date
from pathlib import Path

import msgspec
from record_corpus import LINF, SHA, rate, record_of, run_of, sealed

from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.record import (
    AnswersRun,
    Artifact,
    AuditRecord,
    Caveat,
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
    Waiver,
)

TRACEBACK = """Traceback (most recent call last):
  File "worker.py", line 88, in perform
    yield from check.measure(bench)
TimeoutError: 120 s"""
SENTENCE = (
    "Under the attacks, norms and budgets listed, accuracy fell to the values shown: upper bounds on "
    "robust accuracy."
)


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
            name=name,
            media_type=media_type,
            sha256=SHA,
            path=f"evidence/{SHA}.{extension}",
            caption=caption,
            alt=alt,
        )

    npz = "application/vnd.numpy.npz"
    table = kept("per_sample", b"not really a table", npz, "One row per attacked sample.")
    picture = kept(
        "failure",
        png(),
        "image/png",
        "Clean, attacked and their difference, magnified.",
        "A 7 that is taken for a 2 after the attack.",
    )

    def curve(name, counts, n, **conditions):
        return tuple(
            rate(name, k, n, conditions={**LINF, **conditions, "epsilon": e}, direction="higher")
            for e, k in counts.items()
        )

    upper = Caveat(
        source="attacks.pgd",
        name="upper_bound",
        message="An attack gives an upper bound: a stronger one can only lower it.",
    )
    pgd = tuple(
        msgspec.structs.replace(one, caveats=(upper,))
        for one in curve(
            "robust_accuracy",
            {0.0: 574, 2 / 255: 508, 4 / 255: 391, 8 / 255: 171, 16 / 255: 9},
            600,
        )
    )
    fgsm = curve(
        "robust_accuracy", {2 / 255: 521, 4 / 255: 432, 8 / 255: 255, 16 / 255: 88}, 600, steps=1
    )
    groups = ("African-American", "Asian", "Caucasian", "Hispanic", "Native American", "Other")
    sizes = (3696, 32, 2454, 637, 18, 377)
    rates = (0.576, 0.25, 0.331, 0.286, 0.667, 0.204)
    selection = tuple(
        rate("selection_rate", round(p * n), n, level=0.9917, slice={"race": g})
        for g, n, p in zip(groups, sizes, rates, strict=True)
    )
    ratio = tuple(
        Measurement(
            name="selection_rate_ratio",
            value=p / 0.331,
            n=n,
            slice={"race": g},
            interval=Interval(
                low=p / 0.331 * (1 - w), high=p / 0.331 * (1 + w), level=0.9917, method="katz"
            ),
        )
        for (g, n, p), w in zip(
            list(zip(groups, sizes, rates, strict=True))[:4], (0.08, 0.6, 0.07, 0.17), strict=True
        )
        if g != "Caucasian"
    )
    runs = (
        run_of(
            "overfitting.gap",
            Measured(
                measurements=(
                    rate("train_accuracy", 1200, 1200),
                    rate("test_accuracy", 537, 600),
                    Measurement(
                        name="accuracy_gap",
                        value=0.105,
                        n=1800,
                        interval=Interval(low=0.0823, high=0.1322, method="newcombe"),
                    ),
                    Measurement(
                        name="loss_gap",
                        value=0.412,
                        n=1800,
                        interval=Interval(low=0.318, high=0.506, method="welch"),
                    ),
                ),
                artifacts=(table,),
            ),
            seconds=0.62,
        ),
        run_of(
            "attacks.fgsm",
            Measured(
                measurements=(rate("clean_accuracy", 574, 600, conditions={"norm": "linf"}), *fgsm)
            ),
        ),
        run_of(
            "attacks.pgd",
            Measured(
                measurements=(
                    rate(
                        "clean_accuracy",
                        574,
                        600,
                        conditions={k: v for k, v in LINF.items() if k == "norm"},
                    ),
                    *pgd,
                    Measurement(
                        name="inputs_moved",
                        value=1.0,
                        n=574,
                        exact="every attacked input was compared",
                        conditions={**LINF, "epsilon": 8 / 255},
                    ),
                ),
                artifacts=(picture, table),
            ),
            params={
                "norm": "linf",
                "epsilon": [0.0, 2 / 255, 4 / 255, 8 / 255, 16 / 255],
                "steps": 40,
                "restarts": 2,
            },
            cost=Cost(forward=96000, backward=48000),
            seconds=184.2,
        ),
        run_of(
            "attacks.minimal",
            Errored(
                error="Timeout",
                message="no answer within 120 s; the worker was ended",
                traceback=TRACEBACK,
            ),
            check="foolbox:L2CarliniWagnerAttack",
            cost=None,
            seconds=120.0,
        ),
        run_of(
            "backdoors.inversion",
            Measured(
                measurements=(
                    Measurement(
                        name="suspected_classes",
                        value=1,
                        n=10,
                        exact="a count over all classes",
                        conditions={"anomaly_index_above": 2.0, "source": "Wang et al. 2019"},
                    ),
                    *(
                        Measurement(
                            name="anomaly",
                            value=v,
                            n=1,
                            exact="deterministic given the seed",
                            slice={"class": str(c)},
                            conditions={"anomaly_index_above": 2.0, "source": "Wang et al. 2019"},
                        )
                        for c, v in enumerate(
                            (0.31, 0.72, 0.11, 4.87, 0.9, 0.44, 0.05, 1.31, 0.62, 0.2)
                        )
                    ),
                )
            ),
        ),
        run_of(
            "fairness.groups",
            Measured(
                measurements=(rate("selection_rate", 3251, 7214), *selection),
                undefined=(
                    Undefined(
                        name="precision",
                        reason="no sample of this group was selected",
                        slice={"race": "Asian"},
                    ),
                    Undefined(
                        name="true_positive_rate",
                        reason="18 samples, fewer than 30",
                        slice={"race": "Native American"},
                    ),
                ),
            ),
        ),
        run_of(
            "fairness.disparity",
            Measured(
                measurements=ratio,
                undefined=(
                    Undefined(
                        name="selection_rate_ratio",
                        reason="18 samples, fewer than 30",
                        slice={"race": "Native American"},
                    ),
                ),
            ),
        ),
        run_of(
            "explain.attribution",
            Measured(
                measurements=(
                    Measurement(
                        name="completeness_error",
                        value=0.0031,
                        n=64,
                        exact="a deterministic test",
                        slice={"method": "integrated_gradients"},
                    ),
                    Measurement(
                        name="sanity",
                        value=1,
                        n=64,
                        exact="a published detector (Adebayo et al. 2018)",
                        slice={"method": "integrated_gradients"},
                    ),
                    Measurement(
                        name="faithfulness_gain",
                        value=0.21,
                        n=64,
                        slice={"method": "integrated_gradients"},
                        interval=Interval(low=-0.02, high=0.44, method="bca-bootstrap"),
                        caveats=(
                            Caveat(
                                source="explain.attribution",
                                name="baseline",
                                message="the baseline lies outside the data",
                                voids=True,
                            ),
                        ),
                    ),
                ),
                artifacts=(picture,),
            ),
        ),
        run_of(
            "explain.shortcut",
            Skipped(reason="the data set has no masks", missing=("data: mask",)),
            seconds=0.0,
            cost=Cost(forward=0, backward=0),
        ),
        run_of(
            "attacks.patch",
            Skipped(reason="the inputs are no images", missing=("data: images",)),
            seconds=0.0,
            cost=Cost(forward=0, backward=0),
        ),
    )
    rules = (
        Rule(
            id="overfitting.gap.accuracy_gap",
            run="overfitting.gap",
            measurement="accuracy_gap",
            at_most=0.05,
            rationale="A model that loses more than five points has fitted its training data.",
            origin="suite:overfitting",
            requirements=("aia:art15-1",),
        ),
        Rule(
            id="overfitting.gap.test_accuracy",
            run="overfitting.gap",
            measurement="test_accuracy",
            at_least=0.85,
            rationale="Agreed by the product owner, ticket 812.",
            requirements=("aia:art15-1",),
        ),
        Rule(
            id="attacks.pgd.robust_accuracy",
            run="attacks.pgd",
            measurement="robust_accuracy",
            at_least=0.6,
            conditions={"epsilon": 8 / 255},
            rationale="Agreed by the product owner, ticket 812.",
            requirements=("aia:art15-5-sub3-adversarial-examples",),
        ),
        Rule(
            id="attacks.pgd.robust_accuracy-2",
            run="attacks.pgd",
            measurement="robust_accuracy",
            at_least=0.66,
            conditions={"epsilon": 4 / 255},
            rationale="",
            requirements=("aia:art15-5-sub3-adversarial-examples",),
        ),
        Rule(
            id="attacks.minimal.robust_accuracy",
            run="attacks.minimal",
            measurement="robust_accuracy",
            at_least=0.3,
            origin="suite:attacks",
            rationale="A second attack, so that one that is misled is found out.",
        ),
        Rule(
            id="backdoors.inversion.suspected_classes",
            run="backdoors.inversion",
            measurement="suspected_classes",
            at_most=0,
            origin="suite:backdoors",
            rationale="No class may have a trigger that stands out.",
            requirements=("aia:art15-5-sub3-data-poisoning",),
        ),
        Rule(
            id="fairness.disparity.selection_rate_ratio",
            run="fairness.disparity",
            measurement="selection_rate_ratio",
            at_least=0.8,
            origin="suite:fairness",
            rationale="Default, contested: the four-fifths rule.",
        ),
        Rule(
            id="explain.attribution.sanity",
            run="explain.attribution",
            measurement="sanity",
            at_least=1,
            origin="suite:explain",
            rationale="A map that does not change with the model shows nothing of it.",
        ),
        Rule(
            id="explain.attribution.faithfulness_gain",
            run="explain.attribution",
            measurement="faithfulness_gain",
            at_least=0,
            origin="suite:explain",
            rationale="A map must do better than chance.",
        ),
        Rule(
            id="explain.attribution.completeness_error",
            run="explain.attribution",
            measurement="completeness_error",
            at_most=0.01,
            origin="suite:explain",
            rationale="Attributions must add up.",
        ),
    )
    waivers = (
        Waiver(
            run="attacks.patch",
            owner="R. Meyer",
            reason="No camera in this product.",
            until=date(2027, 1, 31),
        ),
        Waiver(
            run="fairness.disparity",
            owner="R. Meyer",
            reason="New data are being collected.",
            until=date(2026, 10, 31),
            expired=True,
        ),
    )
    law = "Regulation (EU) 2024/1689 as amended by Regulation (EU) 2026/1744"
    requirements = (
        Requirement(
            id="aia:art15-1",
            framework=law,
            cite="Article 15(1)",
            kind=("T",),
            applies_from="2027-12-02",
            paraphrase="An appropriate level of accuracy, robustness and cybersecurity.",
        ),
        Requirement(
            id="aia:art15-5-sub3-adversarial-examples",
            framework=law,
            cite="Article 15(5), third subparagraph",
            title="adversarial examples",
            kind=("T",),
            applies_from="2027-12-02",
            paraphrase="Measures against inputs designed to cause a mistake.",
        ),
        Requirement(
            id="aia:art15-5-sub3-data-poisoning",
            framework=law,
            cite="Article 15(5), third subparagraph",
            title="data poisoning",
            kind=("T",),
            paraphrase="Measures against manipulated training data.",
        ),
        Requirement(
            id="aia:art9-5",
            framework=law,
            cite="Article 9(5)",
            kind=("P",),
            addressee="provider",
            paraphrase="Residual risk judged acceptable.",
        ),
        Requirement(
            id="aia:art13-3-b-v",
            framework=law,
            cite="Article 13(3)(b)(v)",
            kind=("T",),
            paraphrase="Performance regarding specific groups.",
        ),
        *(
            Requirement(
                id=f"aia:art{k}",
                framework=law,
                cite=f"Article {k}",
                kind=("D",),
                paraphrase="A declared fact.",
            )
            for k in range(20, 40)
        ),
    )
    findings = (
        Finding(
            requirement="aia:art15-1",
            status="contradicted",
            applicable="not-yet",
            verdicts=("overfitting.gap.accuracy_gap", "overfitting.gap.test_accuracy"),
            limits="2 rules: 1 failed, 1 passed.",
        ),
        Finding(
            requirement="aia:art15-5-sub3-adversarial-examples",
            status="contradicted",
            applicable="not-yet",
            verdicts=("attacks.pgd.robust_accuracy", "attacks.pgd.robust_accuracy-2"),
            limits="Digital L-infinity up to 16/255, 600 samples.",
        ),
        Finding(
            requirement="aia:art15-5-sub3-data-poisoning",
            status="contradicted",
            applicable="now",
            verdicts=("backdoors.inversion.suspected_classes",),
            limits="1 rule: 1 failed.",
        ),
        Finding(
            requirement="aia:art9-5",
            status="human-process-needed",
            applicable="now",
            limits="A process of the provider; no test can show it.",
        ),
        Finding(
            requirement="aia:art13-3-b-v",
            status="supported-in-scope",
            applicable="contested",
            verdicts=("overfitting.gap.test_accuracy",),
            limits="1 rule: 1 passed.",
        ),
        *(
            Finding(
                requirement=f"aia:art{k}",
                status="no-evidence",
                applicable="now",
                limits="Nothing in this audit speaks of it.",
            )
            for k in range(20, 40)
        ),
    )
    answers = AnswersRun(split="test", n=600, cost=Cost(forward=600, backward=0), artifact=table)
    record = record_of(
        runs,
        rules,
        waivers=waivers,
        requirements=requirements,
        findings=findings,
        answers=(answers,),
        suites=(
            SuiteCard(
                name="attacks",
                title="Attacks",
                sentence=SENTENCE,
            ),
        ),
    )
    plan = {
        **record.plan,
        "suites": ["overfitting", "attacks", "backdoors", "fairness", "explain"],
        "context": {
            "provider": "Example GmbH",
            "intended_purpose": "Sorting of forms",
            "annex_iii": "5b",
        },
    }
    return sealed(msgspec.structs.replace(record, plan=plan))

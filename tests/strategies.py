"""How hypothesis draws every value of a record; knows the vocabulary, nothing of any check."""

from __future__ import annotations

from typing import get_args

from hypothesis import strategies as st

from dlaudit.audit.record import (
    AnswersRun,
    Artifact,
    AuditRecord,
    Card,
    Catalogue,
    CatalogueCard,
    Caveat,
    CheckRun,
    Cost,
    Errored,
    Executor,
    Feed,
    Finding,
    FindingStatus,
    Interval,
    Measured,
    Measurement,
    Requirement,
    Rule,
    Skipped,
    Statement,
    Status,
    SuiteCard,
    Undefined,
    Verdict,
    Waiver,
)

text = st.text(max_size=8)
word = st.sampled_from(["accuracy", "robust_accuracy", "gap", "größe", "a b", "x/y", ""])
finite = st.floats(allow_nan=False, allow_infinity=False)
count = st.integers(0, 2**53)
seeds = st.integers(0, 2**63 - 1)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
level = st.floats(0.01, 0.99)
scalars = st.one_of(st.booleans(), st.integers(-(2**53), 2**53), finite, text)
plain = st.recursive(
    st.one_of(st.none(), scalars),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(text, inner, max_size=2)),
    max_leaves=4,
)
facts = st.dictionaries(text, plain, max_size=2)
slices = st.dictionaries(text, text, max_size=2)
conditions = st.dictionaries(text, scalars, max_size=2)


def tuples(of: st.SearchStrategy, most: int = 2) -> st.SearchStrategy[tuple]:
    """Tuples of at most so many."""
    return st.lists(of, max_size=most).map(tuple)


plain_cards = st.builds(Card, name=text, fingerprint=digests, facts=facts)
cards = st.builds(
    Card,
    name=text,
    fingerprint=digests,
    facts=facts,
    splits=st.dictionaries(text, plain_cards, max_size=2),
)
intervals = st.tuples(finite, finite).flatmap(
    lambda ends: st.builds(
        Interval, low=st.just(min(ends)), high=st.just(max(ends)), level=level, method=text
    )
)
caveats = st.builds(Caveat, source=text, name=text, message=text, voids=st.booleans())


def _measurements(uncertainty: dict[str, st.SearchStrategy]) -> st.SearchStrategy[Measurement]:
    return st.builds(
        Measurement,
        name=word,
        value=finite,
        n=count,
        unit=st.none() | text,
        direction=st.sampled_from([None, "higher", "lower"]),
        slice=slices,
        conditions=conditions,
        caveats=tuples(caveats),
        **uncertainty,
    )


measurements = _measurements({"interval": intervals}) | _measurements({"exact": text})
undefined = st.builds(Undefined, name=word, reason=text, slice=slices, conditions=conditions)
artifacts = st.builds(
    Artifact, name=text, media_type=text, sha256=digests, path=text, caption=text, alt=text
)
costs = st.builds(Cost, forward=count, backward=count)
measured = st.builds(
    Measured,
    measurements=tuples(measurements),
    undefined=tuples(undefined),
    artifacts=tuples(artifacts),
)
skipped = st.builds(Skipped, reason=text, missing=tuples(text))
errored = st.builds(Errored, error=text, message=text, traceback=text)
outcomes = measured | skipped | errored
runs = st.builds(
    CheckRun,
    id=text,
    check=text,
    params=facts,
    seed=seeds,
    seconds=st.floats(0, 1e9),
    device=text,
    cost=st.none() | costs,
    outcome=outcomes,
)
answers = st.builds(AnswersRun, split=text, n=count, cost=costs, artifact=artifacts)


def _rules(threshold: str) -> st.SearchStrategy[Rule]:
    return st.builds(
        Rule,
        id=text,
        run=text,
        measurement=word,
        slice=slices,
        conditions=conditions,
        level=level,
        requirements=tuples(text),
        rationale=text,
        origin=text,
        **{threshold: finite},
    )


rules = _rules("at_least") | _rules("at_most")
waivers = st.builds(
    Waiver, run=text, owner=text, reason=text, until=st.dates(), expired=st.booleans()
)
statuses = st.sampled_from(get_args(Status))
verdicts = st.builds(
    Verdict,
    rule=text,
    status=statuses,
    reason=text,
    observed=tuples(measurements),
    waived=st.none() | waivers,
)
requirements = st.builds(
    Requirement,
    id=text,
    framework=text,
    cite=text,
    title=text,
    paraphrase=text,
    kind=tuples(st.sampled_from(["T", "D", "P"]), 3),
    applies_from=text,
    addressee=text,
    suites=tuples(text),
    source=text,
    confidence=text,
    replaced_by=text,
    concerns=tuples(text),
    fact=text,
)
feeds = st.builds(Feed, title=text, checks=tuples(text), but=tuples(text))
book = {
    "framework": text,
    "version": text,
    "dated": st.dates(),
    "note": text,
    "sources": st.dictionaries(text, text, max_size=1),
    "confidence": st.dictionaries(text, text, max_size=1),
    "feeds": st.dictionaries(text, feeds, max_size=1),
}
catalogue_cards = st.builds(
    CatalogueCard, name=text, items=count, sha256=digests, warning=text, **book
)
catalogues = st.builds(Catalogue, items=tuples(requirements), **book)
statements = st.builds(
    Statement,
    what=text,
    statement=text,
    who=text,
    role=text,
    date=st.none() | st.dates(),
    document_sha256=st.just("") | digests,
    not_applicable=st.booleans(),
    stale=text,
)
findings = st.builds(
    Finding,
    requirement=text,
    status=st.sampled_from(get_args(FindingStatus)),
    applicable=st.sampled_from(["now", "not-yet", "contested"]),
    verdicts=tuples(text),
    documents=tuples(digests),
    limits=text,
)
suites = st.builds(SuiteCard, name=text, title=text, sentence=text)
records = st.builds(
    AuditRecord,
    tool=st.dictionaries(text, text, max_size=2),
    started=text,
    finished=text,
    plan=facts,
    plan_sha256=digests,
    environment=facts,
    model=cards,
    data=cards,
    models=st.dictionaries(text, plain_cards, max_size=1),
    answers=tuples(answers, 1),
    runs=tuples(runs),
    rules=tuples(rules),
    verdicts=tuples(verdicts, 1),
    waivers=tuples(waivers, 1),
    requirements=tuples(requirements, 1),
    findings=tuples(findings, 1),
    suites=tuples(suites, 1),
    catalogues=tuples(catalogue_cards, 1),
    statements=tuples(statements, 1),
)
"""Whole records: every field filled, nothing in agreement with anything else."""

executors = st.builds(Executor, name=text, isolated=st.booleans(), slots=st.integers(1, 64))

EVERY: dict[type, st.SearchStrategy] = {
    AnswersRun: answers,
    Artifact: artifacts,
    AuditRecord: records,
    Card: cards,
    Catalogue: catalogues,
    CatalogueCard: catalogue_cards,
    Caveat: caveats,
    CheckRun: runs,
    Cost: costs,
    Errored: errored,
    Executor: executors,
    Feed: feeds,
    Finding: findings,
    Interval: intervals,
    Measured: measured,
    Measurement: measurements,
    Requirement: requirements,
    Rule: rules,
    Skipped: skipped,
    Statement: statements,
    SuiteCard: suites,
    Undefined: undefined,
    Verdict: verdicts,
    Waiver: waivers,
}
"""Struct of the vocabulary -> how it is drawn."""

import json
import os
from datetime import date
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from planted_story import story
from record_corpus import combination, combinations, random_records, record_of, run_of

from dlaudit.audit.record import Errored, Measured, Rule, Verdict, Waiver
from dlaudit.reports.sarif import render

SCHEMA = "DLAUDIT_SARIF_SCHEMA"
PLACES = (
    os.environ.get(SCHEMA, ""),
    Path(__file__).parents[1]
    / "browser/node_modules/@microsoft/jest-sarif/lib/schemas/sarif-2.1.0-rtm.5.json",
)


def run(record):
    return json.loads(render(record))["runs"][0]


@pytest.fixture(scope="module")
def schema():
    """The published schema: not of this house, so it is looked for, never carried along."""
    found = [Path(place) for place in PLACES if place and Path(place).is_file()]
    if not found:
        pytest.skip(f"SARIF 2.1.0 schema: {SCHEMA} names no file, nor is there {PLACES[1]}")
    import jsonschema

    content = json.loads(found[0].read_text(encoding="utf-8"))
    return jsonschema.validators.validator_for(content)(content)


def test_every_document_is_valid_by_the_published_schema(schema):
    for _, record, _ in combinations():
        schema.validate(json.loads(render(record)))
    schema.validate(json.loads(render(story())))


@given(random_records())
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
def test_the_structure_holds_for_any_record(record):
    """What the schema asks of the parts used here, checked without it."""
    document = json.loads(render(record))
    assert document["version"] == "2.1.0"
    (only,) = document["runs"]
    rules = only["tool"]["driver"]["rules"]
    for rule in rules:
        assert rule["id"]
        assert rule["shortDescription"]["text"]
    for result in only["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] == "error"
        assert result["message"]["text"]
        (location,) = result["locations"]
        assert location["physicalLocation"]["artifactLocation"] == {"uri": "audit.toml"}
        assert len(result["partialFingerprints"]["dlaudit/v1"]) == 64
        for suppression in result.get("suppressions", ()):
            assert suppression["kind"] == "external"
            assert suppression["justification"]
    assert only["invocations"][0]["exitCode"] in {0, 1, 3, 4}
    marks = [r["partialFingerprints"]["dlaudit/v1"] for r in only["results"]]
    assert len(set(marks)) == len(marks)


def test_passes_are_rules_but_no_results():
    found = run(combination("pass", "measured", "none"))
    assert found["tool"]["driver"]["rules"][0]["id"] == "r"
    assert found["results"] == []


def test_fingerprints_outlive_numbers_thresholds_and_times():
    """A finding that stays is one alert, not a new one in each run."""
    first = combination("fail", "measured", "none")
    later = msgspec.structs.replace(
        combination("inconclusive", "measured", "none"),
        started="2027-01-01T00:00:00Z",
        rules=tuple(msgspec.structs.replace(rule, at_least=0.91) for rule in first.rules),
    )
    one, two = run(first)["results"][0], run(later)["results"][0]
    assert one["partialFingerprints"] == two["partialFingerprints"]
    assert one["ruleId"] == two["ruleId"]
    narrowed = msgspec.structs.replace(
        first, rules=tuple(msgspec.structs.replace(r, slice={"g": "x"}) for r in first.rules)
    )
    assert run(narrowed)["results"][0]["partialFingerprints"] != one["partialFingerprints"]


def test_what_is_waived_is_suppressed_with_its_reason():
    result = run(combination("fail", "measured", "live"))["results"][0]
    assert result["suppressions"] == [
        {"kind": "external", "status": "accepted",
         "justification": "waived until 2027-01-01 by A. Owner: known"}
    ]  # fmt: skip
    assert "suppressions" not in run(combination("fail", "measured", "expired"))["results"][0]
    waiver = Waiver(run="g.a", owner="O", reason="why", until=date(2030, 1, 1))
    record = record_of((run_of("g.a", Errored(error="E", message="m")),), waivers=(waiver,))
    results = {r["ruleId"]: r for r in run(record)["results"]}
    assert results["dlaudit/run-errored"]["suppressions"]
    assert "suppressions" not in results["dlaudit/no-rule"]


def test_crashes_are_told_to_the_platform():
    call = run(story())["invocations"][0]
    assert call["executionSuccessful"] is False
    assert call["exitCode"] == 1
    assert call["exitCodeDescription"] == "Exit code 1: a rule failed"
    notes = call["toolExecutionNotifications"]
    assert notes[0]["exception"]["kind"] == "Timeout"
    assert [note["level"] for note in notes].count("error") == 3
    undefined = [note["message"]["text"] for note in notes if note["level"] == "note"]
    assert len(undefined) == 3
    assert (
        "fairness.disparity selection_rate_ratio (race = Native American): undefined: 18 samples"
        in ("\n".join(undefined))
    )


def test_at_most_5000_results_are_written_worst_first_and_the_rest_is_counted():
    rules = [Rule(id=f"r{k}", run="a.b", measurement="m", at_least=0) for k in range(5003)]
    verdicts = [
        Verdict(rule=rule.id, status="inconclusive" if k < 10 else "fail", reason="x")
        for k, rule in enumerate(rules)
    ]
    found = run(record_of((run_of("a.b", Measured()),), rules, verdicts=verdicts))
    assert len(found["results"]) == 5000
    assert [r["properties"]["status"] for r in found["results"]].count("fail") == 4993
    notes = found["invocations"][0]["toolExecutionNotifications"]
    assert notes[-1]["message"]["text"].startswith("3 further results are left out")

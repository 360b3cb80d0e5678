"""The exports say what the record says, in forms that others' schemas and readers accept."""

import csv
import io
import json
import re
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from planted_story import story
from record_corpus import combination, combinations, random_records, rate, record_of, run_of

from dlaudit.audit.record import (
    CatalogueCard,
    Finding,
    Measured,
    Measurement,
    Requirement,
    Statement,
    Undefined,
)
from dlaudit.catalogues import load
from dlaudit.reports import annex_iv, cyclonedx, intoto, measurements, model_index
from dlaudit.reports.wording import overclaims
from dlaudit.testing import conforms, sample_record

NAMES = ("annex-iv", "csv", "cyclonedx", "intoto", "model-index")
RENDERERS = {"annex-iv": annex_iv, "csv": measurements, "cyclonedx": cyclonedx, "intoto": intoto,
             "model-index": model_index}  # fmt: skip
FEW = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def records():
    yield from (record for _, record, _ in combinations())
    yield story()
    yield sample_record()


@pytest.mark.parametrize("name", NAMES)
def test_each_export_keeps_to_the_contract_of_a_renderer(name):
    conforms("renderer", name)


@pytest.fixture(scope="module")
def schema():
    """The published schema of 1.7 and the two it refers to, as a library of others ships them."""
    if find_spec("cyclonedx") is None:
        pytest.skip("cyclonedx-python-lib is not installed: the schema of CycloneDX is not here")
    import cyclonedx.schema
    import jsonschema
    from referencing import Registry, Resource

    folder = Path(cyclonedx.schema.__path__[0]) / "_res"
    found = sorted(folder.glob("bom-1.7*.json"))
    if not found:
        pytest.skip("this cyclonedx-python-lib ships no schema of 1.7")
    parts = {one.name: json.loads(one.read_text()) for one in folder.glob("*.json")}
    registry = Registry().with_resources(
        (part["$id"], Resource.from_contents(part)) for part in parts.values() if "$id" in part
    )
    content = parts[found[0].name]
    kind = jsonschema.validators.validator_for(content)
    kind.check_schema(content)
    return kind(content, registry=registry)


class TestCycloneDX:
    def test_the_schema_refuses_what_is_wrong(self, schema):
        """A validator that accepts everything would prove nothing."""
        document = json.loads(cyclonedx.render(story()))
        document["metadata"]["component"]["modelCard"]["score"] = 1
        assert list(schema.iter_errors(document))

    def test_every_document_is_valid_by_the_published_schema(self, schema):
        for record in records():
            schema.validate(json.loads(cyclonedx.render(record)))

    @given(record=random_records())
    @FEW
    def test_so_is_that_of_any_record(self, schema, record):
        schema.validate(json.loads(cyclonedx.render(record)))

    def test_every_number_stands_with_its_interval_n_and_conditions(self):
        record = story()
        document = json.loads(cyclonedx.render(record))
        card = document["metadata"]["component"]["modelCard"]
        metrics = card["quantitativeAnalysis"]["performanceMetrics"]
        numbers = [
            one for run in record.runs if isinstance(run.outcome, Measured)
            for one in run.outcome.measurements
        ]  # fmt: skip
        assert [float(metric["value"]) for metric in metrics] == [one.value for one in numbers]
        for metric, one in zip(metrics, numbers, strict=True):
            assert f"n = {one.n};" in metric["slice"]
            if one.interval:
                ends = metric["confidenceInterval"]
                assert float(ends["lowerBound"]) == one.interval.low
                assert float(ends["upperBound"]) == one.interval.high
            else:
                assert one.exact in metric["slice"]
        assert "score" not in json.dumps(document)

    def test_claims_stand_with_what_speaks_for_and_against_them(self):
        """By hand, from the story: one article is contradicted by one of two rules, one supported."""
        declared = json.loads(cyclonedx.render(story()))["declarations"]
        claims = {one["predicate"].partition(",")[0]: one for one in declared["claims"]}
        evidence = {one["bom-ref"]: one for one in declared["evidence"]}

        def rules(item, kind):
            return [evidence[ref]["propertyName"] for ref in claims[item].get(kind, ())]

        assert rules("aia:art15-1", "evidence") == ["overfitting.gap.test_accuracy"]
        assert rules("aia:art15-1", "counterEvidence") == ["overfitting.gap.accuracy_gap"]
        assert rules("aia:art13-3-b-v", "counterEvidence") == []
        assert claims["aia:art13-3-b-v"]["predicate"].endswith("supported in scope")
        assert "aia:art9-5" not in claims, "nobody speaks of it"
        assert set(evidence) == {
            ref for one in claims.values() for kind in ("evidence", "counterEvidence")
            for ref in one.get(kind, ())
        }  # fmt: skip
        assert "conformance" not in json.dumps(declared)

    def test_what_people_state_is_evidence_of_a_claim_under_their_name(self):
        said = Statement(what="aia:art9-5", who="R. Meyer", role="owner", statement="so it is",
                         date=date(2026, 11, 1), document_sha256="a" * 64)  # fmt: skip
        record = msgspec.structs.replace(story(), statements=(said,))
        declared = json.loads(cyclonedx.render(record))["declarations"]
        (one,) = [one for one in declared["evidence"] if "author" in one]
        assert one["author"] == {"name": "R. Meyer"}
        assert one["description"].startswith("stated, not tested: so it is; document sha256 aaaa")

    def test_its_serial_number_is_that_of_the_record(self):
        one, two = (json.loads(cyclonedx.render(r))["serialNumber"] for r in (story(), record_of()))
        assert one == json.loads(cyclonedx.render(story()))["serialNumber"] != two


@pytest.fixture(scope="module")
def reader():
    """The definitions of the predicate's own project, which refuse a field they do not know."""
    if find_spec("in_toto_attestation") is None:
        pytest.skip("in-toto-attestation is not installed")
    from google.protobuf import json_format
    from in_toto_attestation.predicates.test_result.v0 import test_result_pb2
    from in_toto_attestation.v1 import statement_pb2
    from in_toto_attestation.v1.statement import Statement as Reader

    def read(text):
        document = json.loads(text)
        statement = json_format.ParseDict(document, statement_pb2.Statement())
        Reader.copy_from_pb(statement).validate()
        predicate = json_format.ParseDict(document["predicate"], test_result_pb2.TestResult())
        return statement, predicate

    return read


class TestInToto:
    def test_its_own_reader_takes_every_document_and_refuses_a_wrong_one(self, reader):
        for record in records():
            statement, predicate = reader(intoto.render(record))
            assert statement.predicate_type == intoto.PREDICATE
            assert predicate.result in {"PASSED", "WARNED", "FAILED"}
        wrong = json.loads(intoto.render(story()))
        wrong["predicate"]["inconclusive"] = []
        with pytest.raises(Exception, match="inconclusive"):
            reader(json.dumps(wrong))

    @given(record=random_records())
    @FEW
    def test_so_it_takes_that_of_any_record(self, reader, record):
        reader(intoto.render(record))

    @pytest.mark.parametrize(
        ("cell", "result"),
        [
            (("pass", "measured", "none"), "PASSED"),
            (("fail", "measured", "none"), "FAILED"),
            (("inconclusive", "measured", "none"), "FAILED"),
            (("not_assessed", "measured", "none"), "FAILED"),
            (("not_assessed", "errored", "none"), "FAILED"),
            (("not_assessed", "skipped", "none"), "FAILED"),
            (("fail", "measured", "live"), "WARNED"),
            (("not_assessed", "skipped", "live"), "WARNED"),
            (("fail", "measured", "expired"), "FAILED"),
        ],
    )
    def test_only_a_gate_that_opens_unwaived_has_passed(self, cell, result):
        predicate = json.loads(intoto.render(combination(*cell)))["predicate"]
        assert predicate["result"] == result
        assert bool(predicate["failedTests"]) == (result == "FAILED")

    def test_subjects_are_the_digests_of_model_and_data(self):
        record = story()
        document = json.loads(intoto.render(record))
        assert [one["digest"]["sha256"] for one in document["subject"]] == [
            record.model.fingerprint, record.data.fingerprint,
        ]  # fmt: skip
        (plan,) = document["predicate"]["configuration"]
        assert plan["digest"]["sha256"] == record.plan_sha256


class TestModelIndex:
    def front(self, text):
        return yaml.safe_load(text.split("---\n")[1])

    def test_an_independent_reader_finds_every_number(self):
        if find_spec("huggingface_hub") is None:
            pytest.skip("huggingface_hub is not installed")
        from huggingface_hub.repocard_data import model_index_to_eval_results

        record = story()
        index = self.front(model_index.render(record))["model-index"]
        name, results = model_index_to_eval_results(index)
        assert name == "net"
        numbers = [
            one for run in record.runs if isinstance(run.outcome, Measured)
            for one in run.outcome.measurements
        ]  # fmt: skip
        assert [one.metric_value for one in results] == [one.value for one in numbers]
        assert {one.dataset_revision for one in results} == {record.data.fingerprint}
        for result, one in zip(results, numbers, strict=True):
            assert f"n = {one.n:,}" in result.metric_name

    @given(record=random_records())
    @FEW
    def test_the_front_matter_of_any_record_is_yaml_with_what_the_form_requires(self, record):
        (model,) = self.front(model_index.render(record))["model-index"]
        assert model["name"]
        for result in model["results"]:
            assert result["task"]["type"]
            assert result["dataset"]["type"]
            assert result["dataset"]["name"]
            assert result["source"]["url"]
            for metric in result["metrics"]:
                assert metric["type"]
                assert isinstance(metric["value"], float | int)


class TestCSV:
    @given(record=random_records())
    @FEW
    def test_every_number_can_be_read_back_to_the_last_bit(self, record):
        rows = list(csv.DictReader(io.StringIO(measurements.render(record), newline="")))
        read = [
            (float(row["value"]), int(row["n"]),
             (float(row["low"]), float(row["high"])) if row["low"] else None)
            for row in rows if row["kind"] == "measurement"
        ]  # fmt: skip
        numbers = [
            one for run in record.runs if isinstance(run.outcome, Measured)
            for one in run.outcome.measurements
        ]  # fmt: skip
        assert read == [
            (one.value, one.n, (one.interval.low, one.interval.high) if one.interval else None)
            for one in numbers
        ]
        kinds = [row["kind"] for row in rows]
        undefined = sum(
            len(run.outcome.undefined) for run in record.runs if isinstance(run.outcome, Measured)
        )
        assert kinds.count("undefined") == undefined
        assert len({row["run"] for row in rows}) <= len(record.runs)
        assert not record.runs or rows

    def test_a_spreadsheet_takes_no_text_for_a_formula(self):
        outcome = Measured(undefined=(Undefined(name="=HYPERLINK(1)", reason="@x"),))
        (row,) = csv.DictReader(
            io.StringIO(measurements.render(record_of((run_of("+a", outcome),))))
        )
        assert (row["run"], row["name"], row["reason"]) == ("'+a", "'=HYPERLINK(1)", "'@x")

    def test_an_independent_reader_finds_the_same_table(self):
        import pandas as pd

        table = pd.read_csv(io.StringIO(measurements.render(story())))
        assert list(table.columns) == list(measurements.COLUMNS)
        assert set(table["run"]) == {run.id for run in story().runs}
        negative = Measurement(name="gap", value=-0.25, n=4, exact="a count")
        text = measurements.render(record_of((run_of("a", Measured(measurements=(negative,))),)))
        assert pd.read_csv(io.StringIO(text))["value"][0] == -0.25


def annexed():
    """The story under the real catalogue, with statements and a warning."""
    book = load.eu_ai_act()
    card = msgspec.structs.replace(book.card("eu_ai_act"), warning="the catalogue is old")
    findings = tuple(
        Finding(requirement=item.id, status="no-evidence", applicable="not-yet", limits="Nothing.")
        for item in book
    )
    stated = (
        Statement(what="context.intended_purpose", statement="reads digits", who="A. Counsel"),
        Statement(what="aia:anx-iv-2-b", statement="see paper", who="B.", role="owner",
                  document_sha256="a" * 64),
    )  # fmt: skip
    return msgspec.structs.replace(
        story(), requirements=book.items, findings=findings, catalogues=(card,), statements=stated
    )


class TestAnnexIV:
    def test_every_point_is_a_heading_in_its_order_with_a_marked_gap(self):
        text = annex_iv.render(annexed())
        points = [one for one in load.eu_ai_act() if one.id.startswith("aia:anx-iv-")]
        headings = re.findall(r"^## (Annex IV .+)$", text, re.MULTILINE)
        assert headings == [one.cite for one in points]
        assert len(points) == 19 + 4 == 23
        for part in text.split("\n## ")[1:-1]:
            assert annex_iv.GAP in part, part

    def test_what_is_known_stands_at_its_point(self):
        parts = {
            part.partition("\n")[0]: part for part in annex_iv.render(annexed()).split("\n## ")[1:]
        }
        assert "reads digits" in parts["Annex IV point 1(a)"]
        assert "A. Counsel" in parts["Annex IV point 1(a)"]
        assert "torch 2.13.0" in parts["Annex IV point 1(c)"]
        assert f"document `{'a' * 64}`" in parts["Annex IV point 2(b)"]
        assert "parameters: 9098" in parts["Annex IV point 2(c)"]
        assert "holdout.npz" in parts["Annex IV point 2(d)"]
        assert "sealed 2026-11-22 10:14:03 UTC" in parts["Annex IV point 2(g)"]
        assert "selection\\_rate" in parts["Annex IV point 3"]
        assert "To be written." in parts["Annex IV point 5"]

    def test_without_the_act_it_says_so(self):
        assert "hold no point of Annex IV" in annex_iv.render(record_of())
        other = Requirement(id="x:1", framework="f", cite="c")
        assert "hold no point" in annex_iv.render(record_of(requirements=(other,)))

    def test_an_old_catalogue_is_warned_of(self):
        assert "the catalogue is old" in annex_iv.render(annexed())
        assert isinstance(annexed().catalogues[0], CatalogueCard)


@pytest.mark.parametrize("name", NAMES)
def test_no_export_claims_what_no_test_can_earn(name):
    """The catalogue's own words stand in quotations; every other sentence is linted."""
    for record in (*records(), annexed()):
        text = RENDERERS[name].render(record)
        own = "\n".join(line for line in text.splitlines() if not line.startswith("> "))
        assert overclaims(own) == []
        levels = re.compile(r"(\]|\w,)\s[\d.]+\s%")
        assert "%" not in levels.sub("", own), "the level of an interval is the only percentage"


@pytest.mark.parametrize("name", NAMES)
def test_hostile_names_stay_text(name):
    bad = 'a"],\n---\n# head <script> | `x` \x00 \u202e'
    record = record_of((run_of(bad, Measured(measurements=(rate(bad, 5, 10),))),))
    text = RENDERERS[name].render(record)
    assert "\x00" not in text
    assert "\u202e" not in text
    assert "\n# head" not in text
    if name in {"cyclonedx", "intoto"}:
        json.loads(text)
    if name == "model-index":
        assert yaml.safe_load(text.split("\n---\n")[0].removeprefix("---\n"))["model-index"]

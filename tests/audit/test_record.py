"""The vocabulary survives its journey through JSON and refuses what could not make it."""

import inspect
import json
import math
from datetime import date
from pathlib import Path

import jsonschema
import msgspec
import numpy as np
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaudit.audit import record
from dlaudit.audit.judge import ExitCode, exit_code
from dlaudit.audit.record import (
    AuditRecord,
    Card,
    Caveat,
    CheckRun,
    Errored,
    Interval,
    Measured,
    Measurement,
    Rule,
    Skipped,
    Undefined,
    Waiver,
    canonical,
    json_schema,
    read_record,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "record-1.json"


def measured(**fields):
    return Measurement(**{"name": "accuracy", "value": 0.5, "n": 10, "exact": "counted"} | fields)


def rule(**fields):
    return Rule(**{"id": "r", "run": "a.b", "measurement": "accuracy"} | fields)


class TestRoundTrip:
    @pytest.mark.parametrize("kind", strategies.EVERY, ids=lambda kind: kind.__name__)
    @given(data=st.data())
    def test_every_value_survives_json(self, kind, data):
        value = data.draw(strategies.EVERY[kind])
        again = msgspec.json.decode(canonical(value), type=kind)
        assert again == value
        assert canonical(again) == canonical(value)

    @given(value=strategies.outcomes)
    def test_an_outcome_is_told_by_its_kind(self, value):
        assert json.loads(canonical(value))["kind"] == type(value).__name__.lower()
        assert msgspec.json.decode(canonical(value), type=record.Outcome) == value

    @given(value=strategies.records)
    def test_a_record_is_read_back_as_it_was(self, value):
        assert read_record(canonical(value)) == value

    def test_every_struct_has_a_strategy(self):
        structs = {
            value
            for value in vars(record).values()
            if inspect.isclass(value) and issubclass(value, record.Value)
        }
        assert structs - {record.Value} == set(strategies.EVERY)


class TestCanonical:
    def test_by_hand(self):
        found = canonical({"b": [1, 2.5, None], "a": {"ü": True, "": "\n"}})
        assert found == '{"a":{"":"\\n","ü":true},"b":[1,2.5,null]}'.encode()

    def test_a_struct_is_written_by_sorted_field_names(self):
        found = canonical(Interval(low=0, high=1, method="wilson"))
        assert found == b'{"high":1.0,"level":0.95,"low":0.0,"method":"wilson"}'

    @given(value=strategies.plain)
    def test_it_is_what_the_standard_library_writes_apart_from_numbers(self, value):
        assert json.loads(canonical(value)) == json.loads(json.dumps(value))

    @given(facts=strategies.facts)
    def test_the_order_in_which_keys_came_changes_nothing(self, facts):
        turned = dict(reversed(facts.items()))
        assert canonical(facts) == canonical(turned)

    @given(value=strategies.records)
    @settings(max_examples=20)
    def test_keys_are_sorted_at_every_depth(self, value):
        def check(pairs):
            keys = [key for key, _ in pairs]
            assert keys == sorted(keys, key=lambda key: key.encode())
            return dict(pairs)

        json.loads(canonical(value), object_pairs_hook=check)


class TestTolerance:
    def test_unknown_fields_of_a_later_version_are_ignored(self):
        known = json.loads(GOLDEN.read_bytes())
        later = json.loads(GOLDEN.read_bytes())
        later["signature"] = {"by": "somebody"}
        later["runs"][0]["outcome"]["measurements"][0]["power"] = 0.8
        later["runs"][0]["outcome"]["sketches"] = []
        later["rules"][0]["severity"] = "high"
        later["model"]["licence"] = "Apache-2.0"
        assert read_record(json.dumps(later).encode()) == read_record(json.dumps(known).encode())

    @pytest.mark.parametrize("field", ["tool", "plan_sha256", "model", "runs", "started"])
    def test_a_missing_field_is_named(self, field):
        known = json.loads(GOLDEN.read_bytes())
        del known[field]
        with pytest.raises(msgspec.ValidationError, match=f"missing required field `{field}`"):
            read_record(json.dumps(known).encode())

    def test_a_wrong_type_is_named_with_its_place(self):
        known = json.loads(GOLDEN.read_bytes())
        known["runs"][0]["seed"] = "seven"
        with pytest.raises(msgspec.ValidationError, match=r"got `str` - at `\$\.runs\[0\]\.seed`"):
            read_record(json.dumps(known).encode())

    def test_what_is_not_json_is_a_decode_error(self):
        with pytest.raises(msgspec.DecodeError):
            read_record(GOLDEN.read_bytes()[:-20])

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            (("exact",), "and an interval"),
            (("value",), None),
            (("interval", "low"), 2.0),
            (("interval", "level"), 1.0),
            (("n",), -1),
            (("conditions",), {"epsilon": None}),
        ],
    )
    def test_a_stored_number_must_still_be_one(self, path, value):
        """What the constructor refuses, reading refuses too: an altered record cannot say it."""
        known = json.loads(GOLDEN.read_bytes())
        place = known["runs"][0]["outcome"]["measurements"][0]
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        with pytest.raises(msgspec.ValidationError, match=r"at `\$\.runs\[0\]\.outcome"):
            read_record(json.dumps(known).encode())


class TestGolden:
    """A record of schema version 1, written in 2026, stays readable."""

    def test_it_says_what_it_said(self):
        golden = read_record(GOLDEN.read_bytes())
        assert golden.schema == "dlaudit-record/1"
        assert (golden.model.fingerprint, golden.data.splits["train"].name) == (
            "d" * 64,
            "train.npz",
        )
        assert golden.plan["name"] == "digits classifier 1.4"
        kinds = [type(run.outcome) for run in golden.runs]
        assert kinds == [Measured, Measured, Errored, Skipped]
        attack, groups, crashed, _ = golden.runs
        robust = attack.outcome.measurements[1]
        assert (robust.value, robust.interval.low, robust.n) == (0.41, 0.368, 500)
        assert robust.conditions == {
            "norm": "linf", "epsilon": 8 / 255, "steps": 40, "targeted": False
        }  # fmt: skip
        assert robust.caveats[0].name == "gradient_masking"
        assert attack.seed == 1234567890123456789
        assert attack.cost.backward == 40000
        assert groups.outcome.measurements[0].slice == {"race": "Größe"}
        assert groups.outcome.undefined[0].reason == "no positive sample in the group"
        assert (crashed.cost, crashed.outcome.error) == (None, "WorkerDied")
        assert golden.rules[0].threshold == 0.6
        assert [verdict.status for verdict in golden.verdicts] == ["fail", "pass", "not_assessed"]
        assert golden.verdicts[2].waived == golden.waivers[0]
        assert golden.waivers[0].until == date(2027, 1, 31)
        assert golden.requirements[0].kind == ("T", "P")
        assert golden.findings[0].status == "contradicted"
        assert golden.answers[0].cost.forward == 500
        assert exit_code(golden) is ExitCode.FAILED

    def test_written_again_it_loses_nothing(self):
        """Every field of then is still written with its value of then."""

        def holds(now, then):
            if isinstance(then, dict):
                return all(key in now and holds(now[key], value) for key, value in then.items())
            if isinstance(then, list):
                return len(now) == len(then) and all(map(holds, now, then))
            return now == then

        raw = GOLDEN.read_bytes()
        assert holds(json.loads(canonical(read_record(raw))), json.loads(raw))


class TestSchema:
    validator = jsonschema.Draft202012Validator(
        json_schema(), format_checker=jsonschema.FormatChecker()
    )

    def test_the_schema_is_one(self):
        jsonschema.Draft202012Validator.check_schema(json_schema())

    def test_the_golden_record_keeps_to_it(self):
        self.validator.validate(json.loads(GOLDEN.read_bytes()))

    @settings(max_examples=30)
    @given(value=strategies.records)
    def test_every_record_keeps_to_it(self, value):
        self.validator.validate(json.loads(canonical(value)))

    @pytest.mark.parametrize(
        ("field", "value"), [("started", 5), ("runs", {}), ("plan_sha256", None)]
    )
    def test_what_is_no_record_does_not(self, field, value):
        known = json.loads(GOLDEN.read_bytes()) | {field: value}
        assert not self.validator.is_valid(known)

    def test_a_status_out_of_nowhere_does_not(self):
        known = json.loads(GOLDEN.read_bytes())
        known["verdicts"][0]["status"] = "compliant"
        assert not self.validator.is_valid(known)


NOT_FINITE = [math.nan, math.inf, -math.inf]


class TestInterval:
    def test_by_default_at_95_percent(self):
        assert Interval(low=0, high=1, method="wilson").level == 0.95

    def test_zero_width_is_an_interval(self):
        assert Interval(low=0.5, high=0.5, method="x").low == 0.5

    @pytest.mark.parametrize("end", NOT_FINITE)
    def test_ends_are_finite(self, end):
        with pytest.raises(ValueError, match="an interval needs finite ends"):
            Interval(low=end, high=1, method="x")
        with pytest.raises(ValueError, match=r"an interval needs finite ends, got \[0\.0, "):
            Interval(low=0, high=end, method="x")

    def test_ends_stand_in_order(self):
        with pytest.raises(ValueError, match=r"needs low <= high, got \[0\.6, 0\.5\]"):
            Interval(low=0.6, high=0.5, method="x")

    @pytest.mark.parametrize("level", [0, 1, -0.5, 95, math.nan])
    def test_a_level_lies_between_0_and_1(self, level):
        with pytest.raises(ValueError, match="level lies between 0 and 1, got"):
            Interval(low=0, high=1, level=level, method="x")


class TestMeasurement:
    @pytest.mark.parametrize("value", NOT_FINITE)
    def test_a_value_that_is_not_finite_is_said_to_be_undefined(self, value):
        with pytest.raises(ValueError, match=r"'accuracy' is .*: say Undefined, with the reason"):
            measured(value=value)

    def test_exactly_one_of_interval_and_exact(self):
        interval = Interval(low=0, high=1, method="x")
        for fields in ({"exact": None}, {"interval": interval}):
            with pytest.raises(ValueError, match="needs exactly one of interval and exact"):
                measured(**fields)
        assert measured(interval=interval, exact=None).interval == interval

    def test_samples_are_counted(self):
        assert measured(n=0).n == 0
        with pytest.raises(ValueError, match="counts samples: n >= 0, got -1"):
            measured(n=-1)
        with pytest.raises(TypeError):
            measured(n=2.5)

    def test_everything_is_given_by_name_and_nothing_changes_later(self):
        with pytest.raises(TypeError):
            Measurement("accuracy", 0.5, 10)
        one = measured()
        with pytest.raises(AttributeError):
            one.value = 1.0

    @pytest.mark.parametrize(
        "number", [np.float64(0.5), np.float32(0.5), np.array(0.5), np.float16(0.5)]
    )
    def test_numbers_of_numpy_become_pythons_own(self, number):
        """So that a check may yield ``correct.mean()``, and the record can be written."""
        ends = Interval(low=number, high=number, method="x")
        one = measured(value=number, n=np.int64(3), conditions={"epsilon": number})
        assert (type(one.value), type(one.n)) == (float, int)
        assert (type(ends.low), type(ends.high)) == (float, float)
        assert type(one.conditions["epsilon"]) is float
        assert one == measured(value=0.5, n=3, conditions={"epsilon": 0.5})
        assert msgspec.json.decode(canonical(one), type=Measurement) == one

    def test_a_finding_of_a_detector_may_be_a_boolean(self):
        one = measured(value=np.True_, conditions={"targeted": np.False_, "norm": np.str_("l2")})
        assert canonical(one) == canonical(
            measured(value=1.0, conditions={"targeted": False, "norm": "l2"})
        )

    def test_a_list_of_caveats_becomes_a_tuple(self):
        caveat = Caveat(source="a", name="b", message="c")
        assert measured(caveats=[caveat]).caveats == (caveat,)

    def test_the_callers_dictionaries_are_not_kept(self):
        conditions, slices = {"epsilon": 0.5}, {"class": "3"}
        one = measured(conditions=conditions, slice=slices)
        conditions["epsilon"], slices["class"] = 1.0, "4"
        assert (one.conditions, one.slice) == ({"epsilon": 0.5}, {"class": "3"})


class TestPlaces:
    """A slice or condition that JSON would not give back makes a record unreadable: refused."""

    makers = pytest.mark.parametrize(
        "make",
        [
            measured,
            lambda **fields: Undefined(name="accuracy", reason="empty", **fields),
            lambda **fields: rule(at_least=0.5, **fields),
        ],
        ids=["measurement", "undefined", "rule"],
    )

    @makers
    @pytest.mark.parametrize("value", [*NOT_FINITE, None, (1, 2), [0, 1], {}, np.float32("nan")])
    def test_conditions_are_numbers_texts_or_booleans(self, make, value):
        message = "conditions 'epsilon' needs a finite number, text or a boolean, got"
        with pytest.raises(ValueError, match=message):
            make(conditions={"steps": 3, "epsilon": value})

    @makers
    @pytest.mark.parametrize("value", [3, None, 0.5, True, math.nan])
    def test_slices_are_texts(self, make, value):
        with pytest.raises(ValueError, match=f"slice 'class' needs text, got {value!r}"):
            make(slice={"split": "test", "class": value})

    @makers
    def test_all_kinds_of_conditions_are_kept(self, make):
        given_ = {"a": 1, "b": 0.5, "c": "x", "d": False}
        one = make(conditions=given_, slice={"class": "3"})
        assert (one.conditions, one.slice) == (given_, {"class": "3"})
        assert [type(value) for value in one.conditions.values()] == [int, float, str, bool]


class TestRule:
    def test_exactly_one_threshold(self):
        for fields in ({}, {"at_least": 0.5, "at_most": 0.6}):
            with pytest.raises(ValueError, match="'r' needs exactly one of at_least and at_most"):
                rule(**fields)

    @pytest.mark.parametrize("side", ["at_least", "at_most"])
    @pytest.mark.parametrize("threshold", NOT_FINITE)
    def test_a_threshold_is_a_number(self, side, threshold):
        with pytest.raises(ValueError, match="rule 'r' needs a finite threshold, got"):
            rule(**{side: threshold})

    @pytest.mark.parametrize("level", [0, 1, -1, 95, math.nan])
    def test_a_level_lies_between_0_and_1(self, level):
        with pytest.raises(ValueError, match="rule 'r' needs a level between 0 and 1, got"):
            rule(at_least=0.5, level=level)

    def test_its_sentence(self):
        assert rule(at_least=0.6).sentence == "accuracy >= 0.6"
        assert rule(at_most=0).sentence == "accuracy <= 0"
        assert (rule(at_least=0).threshold, rule(at_most=-1.5).threshold) == (0, -1.5)

    def test_its_defaults(self):
        one = rule(at_least=0.6)
        assert (one.level, one.origin, one.requirements, one.rationale) == (0.95, "plan", (), "")


def test_a_run_that_died_has_no_cost_rather_than_a_cost_of_zero():
    run = CheckRun(
        id="a", check="a", params={}, seed=1, seconds=0, device="cpu", cost=None,
        outcome=Errored(error="WorkerDied", message="signal SIGKILL"),
    )  # fmt: skip
    assert json.loads(canonical(run))["cost"] is None


def test_a_waiver_counts_until_somebody_says_that_it_expired():
    waiver = Waiver(run="a", owner="b", reason="c", until=date(2027, 1, 31))
    assert not waiver.expired
    assert json.loads(canonical(waiver))["until"] == "2027-01-31"


def test_cards_of_splits_are_cards():
    card = Card(name="a", fingerprint="b", splits={"train": Card(name="c", fingerprint="d")})
    assert msgspec.json.decode(canonical(card), type=Card).splits["train"].name == "c"


def test_a_record_names_its_schema():
    assert AuditRecord.__struct_fields__[0] == "schema"
    assert record.SCHEMA == "dlaudit-record/1"

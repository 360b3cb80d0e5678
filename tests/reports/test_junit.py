import xml.etree.ElementTree as ET

import msgspec
import pytest
from planted_story import story
from record_corpus import combination, record_of, run_of

from dlaudit.audit.record import Errored, Measured, Skipped
from dlaudit.reports.junit import render


def cases(record):
    return {case.get("name"): case for case in ET.fromstring(render(record)).iter("testcase")}


@pytest.mark.parametrize(
    ("status", "element"),
    [("pass", None), ("fail", "failure"), ("inconclusive", "failure"), ("not_assessed", "error")],
)
@pytest.mark.parametrize("waiver", ["none", "live", "expired"])
def test_only_what_is_waived_is_skipped(status, element, waiver):
    case = cases(combination(status, "measured", waiver))["r"]
    found = [child.tag for child in case if child.tag != "system-out"]
    if element is None:
        assert found == []
    else:
        assert found == ["skipped" if waiver == "live" else element]


def test_a_run_that_no_rule_speaks_of_is_a_case_of_its_own():
    runs = (
        run_of("guest.a", Errored(error="Timeout", message="120 s", traceback="Trace\nback")),
        run_of("mine", Skipped(reason="no gradients"), check="attacks.pgd"),
        run_of("guest.fine", Measured()),
    )
    found = cases(record_of(runs))
    assert found["guest.a ran"].find("error").get("message") == "Timeout: 120 s"
    assert found["guest.a ran"].find("error").text == "Trace\nback"
    assert found["mine ran"].get("classname") == "attacks.mine"
    assert found["mine ran"].find("error") is not None
    assert "guest.fine ran" not in found
    assert found["at least one rule"].find("error").get("type") == "not_assessed"


def test_classnames_say_the_suite_once_and_times_add_up():
    root = ET.fromstring(render(story()))
    names = {case.get("classname") for case in root.iter("testcase")}
    assert {"attacks.pgd", "overfitting.gap", "attacks.minimal"} <= names
    total = sum(float(case.get("time")) for case in root.iter("testcase"))
    assert float(root.get("time")) == pytest.approx(total)
    pgd = [
        float(c.get("time")) for c in root.iter("testcase") if c.get("classname") == "attacks.pgd"
    ]
    assert sorted(pgd) == [0.0, 184.2], "two rules on one run tell its time once"


def test_the_number_and_its_n_stand_in_the_case():
    passed = cases(story())["overfitting.gap.test_accuracy"]
    assert "0.895 [0.868, 0.917] 95\N{NO-BREAK SPACE}%, n = 600" in passed.find("system-out").text


def test_text_that_xml_refuses_is_made_harmless():
    text = 'a\x00\x1b[31m]]> & <b> "q" \ufffe'
    record = record_of((run_of(text, Errored(error=text, message=text, traceback=text)),))
    record = msgspec.structs.replace(record, plan={**record.plan, "name": text})
    root = ET.fromstring(render(record))
    assert root.get("name") == 'a[31m]]> & <b> "q"'

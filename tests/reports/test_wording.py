import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaudit.audit.judge import ExitCode
from dlaudit.audit.record import Interval, Measurement, Rule
from dlaudit.reports import wording


@pytest.mark.parametrize(
    ("value", "width", "landmarks", "text"),
    [
        (0.94, 0.038, (), "0.940"),
        (0.285, 0.0722, (), "0.285"),
        (0.25, 0.41, (), "0.25"),
        (0.5996, 0.05, (0.6,), "0.5996"),
        (0.6, 0.05, (0.6,), "0.600"),
        (0.99996, 0.01, (0.0, 1.0), "0.99996"),
        (3.0, None, (), "3"),
        (0.0031, None, (), "0.0031"),
        (4.87, None, (), "4.87"),
        (0.0, None, (), "0"),
        (1234567.5, None, (), "1.235e+06"),
        (0.00001234, None, (), "1.234e-05"),
        (250.3, 40.0, (), "250"),
    ],
)
def test_a_value_has_the_digits_that_its_interval_deserves(value, width, landmarks, text):
    assert wording.number(value, width=width, landmarks=landmarks) == text


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.001, 1))
def test_a_bound_is_never_rounded_across_the_threshold(value, threshold, width):
    """What is shown below a threshold lies below it, down to the ninth decimal."""
    shown = float(wording.number(value, width=width, landmarks=(threshold,)))
    if abs(value - threshold) > 1e-8:
        assert (shown < threshold) == (value < threshold)


def rate(**changes):
    values = {
        "name": "robust_accuracy", "value": 0.94, "n": 600,
        "interval": Interval(low=0.918, high=0.956, method="wilson"),
    }  # fmt: skip
    return Measurement(**(values | changes))


def test_a_measurement_is_never_said_without_n_and_interval():
    assert wording.measured(rate()) == "0.940 [0.918, 0.956] 95\N{NO-BREAK SPACE}%, n = 600"
    exact = rate(value=3, interval=None, exact="a count", n=10, unit="classes")
    assert wording.measured(exact) == "3 classes (exact), n = 10"


def test_a_rule_reads_as_somebody_would_write_it():
    rule = Rule(id="r", run="a", measurement="gap", at_most=0.1)
    assert wording.criterion(rule) == "gap ≤ 0.1"


def test_budgets_on_the_grid_of_8_bit_images_are_named_by_it():
    assert wording.condition("epsilon", 8 / 255) == "epsilon = 0.03137 (8/255)"
    assert wording.condition("epsilon", 0.3) == "epsilon = 0.3"
    assert wording.condition("step", 8 / 255) == "step = 0.0313725"
    assert wording.condition("targeted", value=False) == "targeted = false"
    assert wording.parameter("epsilon", [0, 8 / 255, 0.3]) == "0, 8/255, 0.3"
    assert wording.parameter("epsilon", "8/255") == "8/255"
    assert wording.parameter("steps", 40) == "40"


def test_durations_sizes_counts_and_times_are_said_as_people_say_them():
    assert [wording.seconds(s) for s in (0.42, 12.3, 185, 7450)] == [
        "0.4 s", "12 s", "3 min 5 s", "2 h 4 min",
    ]  # fmt: skip
    assert [wording.size(b) for b in (12, 24_000, 1_400_000)] == ["12 B", "24 kB", "1.4 MB"]
    assert [wording.counted(k, "rule") for k in (0, 1, 1200)] == [
        "no rules",
        "1 rule",
        "1,200 rules",
    ]
    assert wording.moment("2026-11-22T10:14:03Z") == "2026-11-22 10:14:03 UTC"
    assert wording.moment("some day") == "some day"
    assert wording.level(0.9966666) == "99.6667\N{NO-BREAK SPACE}%"


def test_internal_notations_of_the_catalogue_are_written_out():
    told = wording.cite("Article 15(5)#3-data-poisoning")
    assert told == "Article 15(5), third subparagraph: data poisoning"
    assert wording.cite("Article 15(4)#1") == "Article 15(4), first subparagraph"
    assert wording.cite("Annex IV point 2(g)") == "Annex IV point 2(g)"
    dates = wording.applies("annex_iii:2027-12-02;annex_i:2028-08-02")
    assert dates == "Annex III 2027-12-02; Annex I 2028-08-02"


@pytest.mark.parametrize("code", list(ExitCode))
def test_every_exit_code_has_its_words_and_only_zero_opens_the_gate(code):
    assert wording.exit_words(code).startswith(f"Exit code {int(code)}: ")
    assert (wording.gate(code) == "The gate opens") == (code == 0)


@pytest.mark.parametrize(
    "text",
    ["is compliant with", "It conforms to", "certified robust", "a fair model", "full compliance",
     "resilient", "it is free of backdoors", "the model generalises", "guaranteed"],
)  # fmt: skip
def test_words_that_no_test_can_earn_are_found(text):
    assert wording.overclaims(text)


@pytest.mark.parametrize("text", ["certified accuracy 0.94", "fairness.groups", "fairly small"])
def test_names_of_metrics_and_suites_are_no_claims(text):
    assert not wording.overclaims(text)


def test_the_words_of_this_module_claim_nothing():
    tables = (wording.VERDICTS, wording.OUTCOMES, wording.FINDINGS)
    said = [word.meaning for table in tables for word in table.values()]
    said += [text for suite in wording.SUITES.values() for text in suite]
    said += list(wording.EXITS.values())
    assert not wording.overclaims(" ".join(said))


def test_text_is_made_harmless_for_documents_and_terminals():
    hostile = "a\x1b[31mred\x07\u202eevil\u200b\x00\ud800\nb\u2028c"
    assert wording.one_line(hostile) == "a[31mredevil bc"
    assert wording.printable("a\n\tb\r") == "a\n\tb"
    assert wording.clipped("abcdef", 4) == "abc…"


@given(st.floats(-1e300, 1e300))
def test_an_exact_number_survives_being_written(value):
    assert math.isclose(float(wording.number(value)), value, rel_tol=1e-3, abs_tol=1e-9)

import msgspec
from planted_story import story
from record_corpus import combination, rate, record_of, run_of

from dlaudit.audit.record import Errored, Measured, Rule
from dlaudit.reports.notebook import summary
from dlaudit.reports.text import PASSES, WIDTH, screen


def test_the_verdicts_stand_in_columns_worst_first_and_the_answer_last():
    lines = screen(story()).splitlines()
    assert lines[0] == "dlaudit 0.1.0  digits classifier 1.4"
    assert lines[2].split() == [
        "FAILED", "overfitting.gap.accuracy_gap", "≤", "0.05", "0.105", "[0.082,", "0.132]", "95",
        "%,", "n", "=", "1,800",
    ]  # fmt: skip
    assert lines[-1] == "The gate stays closed. Exit code 1: a rule failed."
    starts = {line.index("overfitting") for line in lines[2:] if "overfitting" in line}
    assert len(starts) == 1
    assert max(map(len, lines)) <= WIDTH


def test_a_criterion_that_the_rule_s_name_does_not_tell_is_written_out():
    rule = Rule(id="over-trained", run="a.b", measurement="accuracy_gap", at_most=0.05)
    record = record_of(
        (run_of("a.b", Measured(measurements=(rate("accuracy_gap", 1, 100),))),), (rule,)
    )
    assert "over-trained  accuracy_gap ≤ 0.05" in screen(record)


def test_many_passes_are_counted_so_that_the_rest_stays_on_the_screen():
    runs = (run_of("a.b", Measured(measurements=(rate("m", 590, 600),))),)
    rules = [Rule(id=f"r{k}", run="a.b", measurement="m", at_least=0.5) for k in range(PASSES + 7)]
    text = screen(record_of(runs, rules))
    assert text.count("passed") == PASSES + 1 + 1
    assert "and 7 more" in text


def test_a_terminal_s_escape_sequences_do_not_come_through():
    record = record_of((run_of("a\x1b[2J\nb", Errored(error="E", message="\x1b]0;t\x07")),))
    text = screen(record)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "a[2J b" in text


def test_silence_is_told():
    assert "NOT ASSESSED  (no rule)" in screen(record_of())
    assert screen(record_of()).endswith(
        "Exit code 3: nothing failed, but something was not assessed."
    )


def test_waivers_are_told():
    assert "FAILED, waived" in screen(combination("fail", "measured", "live"))
    assert "waived until 2027-01-01 by A. Owner" in screen(combination("fail", "measured", "live"))
    bare = screen(combination("pass", "skipped", "live", ruled=False))
    assert "SKIPPED, waived" in bare


def test_a_record_shows_itself_in_a_notebook():
    record = story()
    fragment = record._repr_html_()
    assert fragment == summary(record)
    assert "<style" not in fragment
    assert "<script" not in fragment
    assert "The gate stays closed." in fragment
    many = [msgspec.structs.replace(record.rules[0], id=f"r{k}") for k in range(70)]
    assert "10 further rows in the report" in summary(record_of(record.runs[:1], many))

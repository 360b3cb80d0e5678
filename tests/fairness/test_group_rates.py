"""Rates of groups: true by hand, by fairlearn and by count; never a number where there is none."""

import io
import json

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score
from statsmodels.stats.proportion import proportion_confint

from dlaudit.audit.parts import decode_parameter
from dlaudit.audit.record import Artifact, Measurement, Undefined
from dlaudit.errors import AuditError, NonFinite, PlanError, UnknownName
from dlaudit.fairness import gaps, via_fairlearn
from dlaudit.fairness import tally as counting
from dlaudit.fairness.groups import Groups
from dlaudit.fairness.rates import RATES, Proportion, Tally
from dlaudit.reports.pictures import is_picture

TWO = {"a": (40, 10, 5, 45), "b": (60, 20, 16, 24)}


def test_rates_of_a_case_computed_by_hand(bench_of, rows_of, told):
    y, predicted, group = rows_of(TWO)
    found = told(Groups(), bench_of(y, predicted, {"sex": group}))
    by_hand = {
        "a": {
            "selection_rate": (55, 100),
            "true_positive_rate": (45, 50),
            "false_positive_rate": (10, 50),
            "false_negative_rate": (5, 50),
            "precision": (45, 55),
            "accuracy": (85, 100),
        },
        "b": {
            "selection_rate": (44, 120),
            "true_positive_rate": (24, 40),
            "false_positive_rate": (20, 80),
            "false_negative_rate": (16, 40),
            "precision": (24, 44),
            "accuracy": (84, 120),
        },
    }
    for name, rates in by_hand.items():
        for rate, (successes, n) in rates.items():
            one = found[rate, name]
            assert (one.value, one.n) == (pytest.approx(successes / n, abs=1e-15), n)
            reference = proportion_confint(successes, n, method="wilson")
            assert (one.interval.low, one.interval.high) == pytest.approx(reference)
            assert one.slice == {"sex": name}
    assert (found["group_size", "a"].value, found["group_size", "b"].value) == (100, 120)


def test_every_measured_name_is_declared_beforehand(bench_of, rows_of, told):
    y, predicted, group = rows_of(TWO)
    names = {key[0] for key in told(Groups(), bench_of(y, predicted, {"sex": group}))}
    assert names == set(Groups.measures)


def test_conditions_state_the_protocol(bench_of, rows_of, told):
    y, predicted, group = rows_of(TWO)
    found = told(Groups(minimum=7), bench_of(y, predicted, {"sex": group}))
    assert found["precision", "a"].conditions == {"minimum": 7, "split": "test", "positive": "yes"}
    assert found["accuracy", "a"].conditions == {"minimum": 7, "split": "test"}


@settings(max_examples=20)
@given(
    counts=st.lists(
        st.tuples(*[st.integers(0, 40)] * 4).filter(lambda counts: sum(counts) > 0),
        min_size=1,
        max_size=6,
    )
)
def test_fairlearn_and_the_counts_agree_on_every_rate(counts):
    """The weighted cells that fairlearn sees stand for the samples themselves."""
    tallies = [
        Tally(n=sum(one), correct=one[0] + one[3], tn=one[0], fp=one[1], fn=one[2], tp=one[3])
        for one in counts
    ]
    rows = [
        (group, y, predicted, count)
        for group, one in enumerate(counts)
        for (y, predicted), count in zip([(0, 0), (0, 1), (1, 0), (1, 1)], one, strict=True)
        if count
    ]
    table = counting.Cells(*(np.array(column) for column in zip(*rows, strict=True)))
    for name, values in via_fairlearn.rates(table, tallies, positive=1).items():
        for value, one in zip(values, tallies, strict=True):
            found = RATES[name].of(one)
            assert value == (pytest.approx(found.value, abs=1e-12) if found.n else None)


def test_fairlearn_on_the_samples_gives_what_it_gives_on_the_cells(rows_of):
    from fairlearn.metrics import MetricFrame, false_negative_rate, true_positive_rate

    y, predicted, group = rows_of(TWO)
    part = counting.single("sex", group)
    table = counting.cells(part.codes, counting.joint(y, predicted))
    found = via_fairlearn.rates(table, counting.tallies(table, 2, positive=1), positive=1)
    metrics = {"true_positive_rate": true_positive_rate, "false_negative_rate": false_negative_rate}
    frame = MetricFrame(metrics=metrics, y_true=y, y_pred=predicted, sensitive_features=group)
    for name in metrics:
        assert found[name] == pytest.approx(frame.by_group[name].tolist(), abs=1e-15)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_permuting_the_samples_changes_nothing(seed, bench_of, rows_of, told):
    y, predicted, group = rows_of(TWO)
    order = np.random.default_rng(seed).permutation(len(y))
    shuffled = bench_of(y[order], predicted[order], {"sex": group[order]})
    assert told(Groups(), shuffled) == told(Groups(), bench_of(y, predicted, {"sex": group}))


def test_renaming_the_groups_renames_the_results(bench_of, rows_of, told):
    y, predicted, group = rows_of(TWO)
    swapped = np.where(group == "a", "b", "a")
    plain = told(Groups(), bench_of(y, predicted, {"sex": group}))
    other = told(Groups(), bench_of(y, predicted, {"sex": swapped}))
    for rate in RATES:
        assert plain[rate, "a"].value == other[rate, "b"].value
        assert plain[rate, "a"].interval == other[rate, "b"].interval


def test_merged_groups_have_the_rates_of_their_summed_counts(bench_of, rows_of, told):
    y, predicted, group = rows_of({**TWO, "c": (7, 3, 6, 30)})
    merged = np.where(group == "c", "b", group)
    found = told(Groups(), bench_of(y, predicted, {"sex": merged}))
    summed = dict(zip("ab", [TWO["a"], (67, 23, 22, 54)], strict=True))
    y, predicted, group = rows_of(summed)
    expected = told(Groups(), bench_of(y, predicted, {"sex": group}))
    for key, one in expected.items():
        assert found[key].value == pytest.approx(one.value)
        assert found[key].n == one.n


class TestWhatIsNoNumber:
    """Undefined, with the count and the reason; never 0, NaN or silence."""

    def test_a_denominator_of_zero_is_undefined_never_zero(self, bench_of, rows_of, told):
        """Fairlearn says 0.0 for a true positive rate without a positive."""
        y, predicted, group = rows_of({"a": (40, 10, 0, 0), "b": (20, 5, 10, 20)})
        found = told(Groups(minimum=1), bench_of(y, predicted, {"sex": group}))
        one = found["true_positive_rate", "a"]
        assert isinstance(one, Undefined)
        assert one.reason == "0 actual positives, fewer than the minimum of 1"
        assert isinstance(found["true_positive_rate", "b"], Measurement)

    def test_the_minimum_counts_each_rates_own_denominator(self, bench_of, rows_of, told):
        y, predicted, group = rows_of({"a": (100, 30, 14, 15), "b": (20, 20, 20, 20)})
        found = told(Groups(), bench_of(y, predicted, {"sex": group}))
        assert isinstance(found["selection_rate", "a"], Measurement)
        assert isinstance(found["false_positive_rate", "a"], Measurement)
        assert found["true_positive_rate", "a"] == Undefined(
            name="true_positive_rate",
            reason="29 actual positives, fewer than the minimum of 30",
            slice={"sex": "a"},
            conditions={"minimum": 30, "split": "test", "positive": "yes"},
        )

    def test_all_negative_predictions_leave_precision_undefined(self, bench_of, rows_of, told):
        y, predicted, group = rows_of({"a": (40, 0, 40, 0), "b": (50, 0, 30, 0)})
        found = told(Groups(), bench_of(y, predicted, {"sex": group}))
        assert found["selection_rate", "a"].value == 0.0
        assert found["selection_rate", "a"].interval.high > 0.04
        assert found["precision", "a"].reason.startswith("0 predicted positives")

    def test_an_empty_intersection_is_listed(self, bench_of, rows_of, told):
        """Fairlearn gives NaN and its difference skips it."""
        y, predicted, group = rows_of(TWO)
        age = np.where(group == "a", "old", np.where(np.arange(len(y)) % 2, "old", "young"))
        found = told(Groups(intersections=True), bench_of(y, predicted, {"sex": group, "age": age}))
        assert found["accuracy", "a", "young"].reason == "0 samples, fewer than the minimum of 30"
        assert found["accuracy", "a", "young"].slice == {"sex": "a", "age": "young"}
        assert found["group_size", "a", "young"].value == 0
        assert isinstance(found["accuracy", "b", "young"], Measurement)

    def test_a_declared_group_without_a_sample_is_listed(self, bench_of, rows_of, told):
        """Unused categories vanish in fairlearn."""
        y, predicted, group = rows_of(TWO)
        check = Groups(attributes={"sex": ["a", "b", "diverse"]})
        found = told(check, bench_of(y, predicted, {"sex": group}))
        assert found["group_size", "diverse"].value == 0
        assert isinstance(found["selection_rate", "diverse"], Undefined)

    def test_a_group_of_the_whole_data_set_is_listed_when_a_subset_lacks_it(
        self, bench_of, rows_of, told
    ):
        y, predicted, group = rows_of(TWO)
        facts = {"groups": {"sex": {"a": 100, "b": 120, "rare": 2}}}
        found = told(Groups(), bench_of(y, predicted, {"sex": group}, facts=facts))
        assert isinstance(found["selection_rate", "rare"], Undefined)

    def test_a_continuous_attribute_is_no_group(self, bench_of, told):
        """Fairlearn makes 400 groups of it."""
        rng = np.random.default_rng(0)
        y, predicted = rng.integers(0, 2, (2, 400))
        groups = {"age": rng.uniform(18, 90, 400).astype(str), "sex": np.repeat(["a", "b"], 200)}
        found = told(Groups(), bench_of(y, predicted, groups))
        assert {key for key in found if "age" in key} == {(name, "age") for name in Groups.measures}
        assert "declare bins" in found["accuracy", "age"].reason
        assert isinstance(found["accuracy", "a"], Measurement)

    def test_without_a_positive_class_only_accuracy_is_measured(self, bench_of, told):
        rng = np.random.default_rng(0)
        y, predicted = rng.integers(0, 3, (2, 300))
        bench = bench_of(y, predicted, {"sex": np.repeat(["a", "b"], 150)}, classes=tuple("xyz"))
        found = told(Groups(), bench)
        assert isinstance(found["accuracy", "a"], Measurement)
        for rate in set(RATES) - {"accuracy"}:
            assert "set the parameter positive" in found[rate, "a"].reason

    def test_labels_1_and_2_are_three_classes_of_which_none_is_positive(self, bench_of, told):
        """Labels {1, 2} raise in fairlearn, or worse, 1 is taken for the positive one."""
        y = np.repeat([1, 2, 1, 2], 50)
        predicted = np.repeat([1, 2, 2, 1], 50)
        bench = bench_of(y, predicted, {"sex": np.tile(["a", "b"], 100)}, classes=("0", "1", "2"))
        assert isinstance(told(Groups(), bench)["selection_rate", "a"], Undefined)
        found = told(Groups(positive="1"), bench)["true_positive_rate", "a"]
        assert (found.value, found.n) == (0.5, 50)


def test_multiclass_rates_are_one_class_against_the_rest(bench_of, told):
    y = np.array([0, 0, 1, 1, 1, 2, 2, 2, 2, 0])
    predicted = np.array([0, 1, 1, 1, 2, 2, 1, 2, 0, 0])
    bench = bench_of(y, predicted, {"all": ["x"] * 10}, classes=tuple("abc"))
    found = told(Groups(minimum=1, positive=1), bench)
    assert found == told(Groups(minimum=1, positive="b"), bench)
    assert found["selection_rate", "x"].value == pytest.approx(4 / 10)
    assert found["true_positive_rate", "x"].value == pytest.approx(2 / 3)
    assert found["false_positive_rate", "x"].value == pytest.approx(2 / 7)
    assert found["precision", "x"].value == pytest.approx(2 / 4)
    assert found["accuracy", "x"].value == pytest.approx(6 / 10)


def test_one_group_is_measured(bench_of, rows_of, told):
    y, predicted, group = rows_of({"a": TWO["a"]})
    assert told(Groups(), bench_of(y, predicted, {"sex": group}))["accuracy", "a"].value == 0.85


def test_unknown_is_a_group_of_its_own(bench_of, rows_of, told):
    y, predicted, group = rows_of({**TWO, "unknown": (30, 10, 10, 30)})
    found = told(Groups(), bench_of(y, predicted, {"sex": group}))
    assert found["group_size", "unknown"].value == 80
    assert found["accuracy", "unknown"].value == 0.75


def test_intersections_are_counted_as_the_samples_that_meet_every_value(bench_of, told):
    rng = np.random.default_rng(3)
    n = 900
    y, predicted = rng.integers(0, 2, (2, n))
    groups = {name: rng.choice([f"{name}0", f"{name}1"], n) for name in "abc"}
    bench = bench_of(y, predicted, groups)
    found = told(Groups(intersections=[["a", "b", "c"]]), bench)
    here = (groups["a"] == "a0") & (groups["b"] == "b1") & (groups["c"] == "c0")
    one = found["selection_rate", "a0", "b1", "c0"]
    assert one.slice == {"a": "a0", "b": "b1", "c": "c0"}
    assert (one.value, one.n) == (pytest.approx(predicted[here].mean()), here.sum())
    pairs = [key for key in told(Groups(intersections=True), bench) if len(key) == 3]
    assert len(pairs) == 3 * 4 * len(Groups.measures)


class TestWhatIsRefused:
    """A clear error before any number."""

    @pytest.mark.parametrize(
        ("predicted", "words"),
        [
            ([0.2, 0.9, 0.7, 0.1], "got 0.2 (scores need a threshold"),
            (["no", "yes", "yes", "no"], "got 'no'"),
            ([0, 2, 1, 0], "0, 1, … 1, got 2"),
            ([0, -1, 1, 0], "got -1"),
        ],
    )
    def test_scores_text_and_other_classes_are_no_decisions(self, bench_of, predicted, words):
        bench = bench_of([0, 1, 1, 0], predicted, {"sex": list("abab")})
        with pytest.raises(AuditError, match="decisions") as caught:
            list(Groups().measure(bench))
        assert words in str(caught.value)

    def test_missing_decisions_are_not_counted_as_not_selected(self, bench_of):
        bench = bench_of([0, 1, 1, 0], [0.0, np.nan, 1.0, 0.0], {"sex": list("abab")})
        with pytest.raises(NonFinite, match="missing"):
            list(Groups().measure(bench))

    @pytest.mark.parametrize(
        ("column", "error"),
        [
            (np.array([0.5, 1.0]), AuditError),
            (np.array([np.nan, 1.0]), NonFinite),
            (np.array([None, 1], dtype=object), NonFinite),
            (np.array(["0", "1"]), AuditError),
            (np.array(["a", 1], dtype=object), AuditError),
            (np.array([0, 2]), AuditError),
        ],
    )
    def test_the_pure_core_refuses_them_in_labels_and_decisions(self, column, error):
        fine = np.array([0, 1])
        with pytest.raises(error, match="labels"):
            counting.joint(column, fine, classes=2)
        with pytest.raises(error, match="decisions"):
            counting.joint(fine, column, classes=2)

    def test_an_attribute_that_is_not_declared(self, bench_of, rows_of):
        y, predicted, group = rows_of(TWO)
        bench = bench_of(y, predicted, {"race": group})
        with pytest.raises(UnknownName, match="Did you mean race"):
            list(Groups(attributes=["rac"]).measure(bench))
        with pytest.raises(UnknownName, match="'sex'"):
            list(Groups(intersections=[["race", "sex"]]).measure(bench))

    def test_an_intersection_of_one(self, bench_of, rows_of):
        y, predicted, group = rows_of(TWO)
        bench = bench_of(y, predicted, {"race": group})
        with pytest.raises(PlanError, match="two or more different"):
            list(Groups(intersections=[["race", "race"]]).measure(bench))

    def test_a_positive_class_that_is_none(self, bench_of, rows_of):
        y, predicted, group = rows_of(TWO)
        bench = bench_of(y, predicted, {"race": group})
        with pytest.raises(UnknownName, match="Did you mean yes"):
            list(Groups(positive="yess").measure(bench))
        with pytest.raises(PlanError, match="below 2, got 2"):
            list(Groups(positive=2).measure(bench))

    def test_what_fairlearn_refuses_names_fairlearn(self, monkeypatch):
        def refuse(*args, **kwargs):
            raise ValueError("no such thing")

        monkeypatch.setattr("fairlearn.metrics.MetricFrame", refuse)
        table = counting.cells(np.zeros(2, int), counting.joint(np.array([0, 1]), np.array([1, 1])))
        with pytest.raises(AuditError, match=r"fairlearn [\d.]+ could not .* no such thing"):
            via_fairlearn.rates(table, counting.tallies(table, 1, positive=1), positive=1)


def test_parameters_are_read_from_a_plan():
    written = {
        "attributes": {"race": ["A", "B"]},
        "intersections": [["race", "sex"]],
        "minimum": 10,
        "positive": "yes",
    }
    check = msgspec.convert(written, Groups, dec_hook=decode_parameter)
    assert (check.attributes, check.minimum) == ({"race": ["A", "B"]}, 10)
    for wrong in ({"minimum": 0}, {"intersections": "race"}, {"most_groups": 1}, {"minimun": 3}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, Groups, dec_hook=decode_parameter)


def test_evidence_holds_every_sample_and_the_confusion_counts(bench_of, rows_of, tmp_path):
    y, predicted, group = rows_of(TWO)
    bench = bench_of(y, predicted, {"sex": group}, id=[f"p{i}" for i in range(len(y))])
    samples, counts = (
        one for one in Groups().measure(bench) if isinstance(one, Artifact) and not is_picture(one)
    )
    stored = np.load(io.BytesIO((tmp_path / "0" / samples.path).read_bytes()))
    assert set(stored.files) == {"id", "y", "predicted", "group_sex"}
    assert stored["id"][:2].tolist() == ["p0", "p1"]
    np.testing.assert_array_equal(stored["predicted"], predicted)
    told = json.loads((tmp_path / "0" / counts.path).read_bytes())
    assert told["positive"] == 1
    assert told["groups"][1] == {
        "slice": {"sex": "b"}, "n": 120, "correct": 84, "tn": 60, "fp": 20, "fn": 16, "tp": 24,
    }  # fmt: skip


def test_groups_cost_no_pass_beyond_the_clean_answers():
    cost = Groups().passes(n=1000, classes=2)
    assert (cost.forward, cost.backward) == (0, 0)


def test_balanced_accuracy_is_the_mean_of_both_true_rates(bench_of, rows_of, told):
    y, predicted, group = rows_of({**TWO, "c": (50, 10, 5, 5)})
    found = told(Groups(), bench_of(y, predicted, {"sex": group}))
    one = found["balanced_accuracy", "a"]
    assert one.value == pytest.approx((40 / 50 + 45 / 50) / 2)
    assert one.value == pytest.approx(
        balanced_accuracy_score(y[group == "a"], predicted[group == "a"])
    )
    assert one.interval.low < one.value < one.interval.high
    assert found["balanced_accuracy", "c"].reason.startswith("10 actual positives")


def test_the_interval_of_balanced_accuracy_holds_its_level():
    rng = np.random.default_rng(8)
    held = []
    for m, n, p, q in ((30, 30, 0.9, 0.5), (40, 300, 0.7, 0.95), (100, 100, 0.5, 0.5)):
        for one, other in zip(rng.binomial(m, p, 400), rng.binomial(n, q, 400), strict=True):
            found = gaps.mean_of_two(Proportion(int(one), m), Proportion(int(other), n)).interval
            held.append(found.low <= (p + q) / 2 <= found.high)
    print(f"balanced accuracy: coverage {np.mean(held):.4f} over 1200 trials")
    assert np.mean(held) >= 0.945


@settings(max_examples=60)
@given(
    column=st.lists(st.text(max_size=5), min_size=1, max_size=40),
    codes=st.lists(st.integers(0, 3), min_size=1, max_size=40),
)
def test_counting_without_sorting_gives_what_sorting_gives(column, codes):
    words, places = counting.distinct(np.array(column, dtype=str))
    expected, where = np.unique(np.array(column, dtype=str), return_inverse=True)
    assert words.tolist() == expected.tolist()
    assert places.tolist() == where.tolist()
    group = np.array(codes)
    answers = counting.joint(group % 2, (group // 2) % 2)
    dense = counting.cells(group, answers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "DENSE", 0)
        sparse = counting.cells(group, answers)
    for one, other in zip(dense, sparse, strict=True):
        np.testing.assert_array_equal(one, other)


def test_words_of_one_hash_are_told_apart(monkeypatch):
    monkeypatch.setattr(counting, "PRIME", np.uint64(0))  # every word hashes to 0
    words, codes = counting.distinct(np.array(["b", "a", "b"]))
    assert (words.tolist(), codes.tolist()) == (["a", "b"], [1, 0, 1])

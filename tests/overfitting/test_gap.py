"""The generalisation gap: true by hand and by statsmodels, and never of a set with itself."""

import io
import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from dlaudit.audit.judge import judge_all
from dlaudit.audit.record import (
    Artifact,
    CheckRun,
    Cost,
    Measured,
    Measurement,
    Undefined,
)
from dlaudit.audit.registry import Registry
from dlaudit.catalogues import load
from dlaudit.models.torch_model import TorchModel
from dlaudit.overfitting.gap import Gap
from dlaudit.overfitting.suite import SUITE


def decisions(right, wrong, label=0):
    """Recorded decisions on samples of one class: the first column is the decision."""
    predicted = np.r_[np.full(right, label), np.full(wrong, 1 - label)]
    unlike = np.random.default_rng(right * 1000 + wrong).normal(size=right + wrong)
    return np.c_[predicted, unlike], np.full(right + wrong, label)


def both(*parts):
    """Samples of several classes, one after the other."""
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def logits_of(seed, n, *, shift=1.0, classes=2):
    """Random logits and labels; the label's logit is raised by ``shift``."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    x = rng.normal(size=(n, classes))
    x[np.arange(n), y] += shift
    return x, y


def test_accuracies_and_their_gap_as_computed_by_hand(bench_of, told):
    """95 of 100 on train, 160 of 200 on test: a gap of 0.15."""
    bench = bench_of(decisions(95, 5), decisions(160, 40), logits=False)
    found = told(Gap(), bench)
    train, test, gap = (
        found[f"{name}"] for name in ("train_accuracy", "test_accuracy", "accuracy_gap")
    )
    assert (train.value, train.n) == (0.95, 100)
    assert (test.value, test.n) == (0.8, 200)
    assert (gap.value, gap.n) == (pytest.approx(0.15), 300)
    for one, successes in ((train, 95), (test, 160)):
        reference = proportion_confint(successes, one.n, method="wilson")
        assert (one.interval.low, one.interval.high) == pytest.approx(reference)
    reference = confint_proportions_2indep(95, 100, 160, 200, method="newcomb")
    assert (gap.interval.low, gap.interval.high) == pytest.approx(reference)


def test_every_measured_name_is_declared_beforehand(bench_of, told):
    found = told(Gap(), bench_of(logits_of(1, 60), logits_of(2, 60)))
    names = {key if isinstance(key, str) else key[0] for key in found}
    assert names == set(Gap.measures)
    assert {type(one) for one in found.values()} == {Measurement}


def test_losses_are_the_mean_cross_entropies_of_torch(bench_of, told):
    train, test = logits_of(1, 80, shift=4.0), logits_of(2, 90)
    found = told(Gap(), bench_of(train, test))
    expected = {
        name: torch.nn.functional.cross_entropy(
            torch.tensor(x, dtype=torch.float32).double(), torch.tensor(y)
        ).item()
        for name, (x, y) in (("train_loss", train), ("test_loss", test))
    }
    for name, loss in expected.items():
        assert found[name].value == pytest.approx(loss, rel=1e-12)
    gap = found["loss_gap"]
    assert gap.value == pytest.approx(expected["test_loss"] - expected["train_loss"], rel=1e-12)
    assert gap.interval.low > 0
    assert gap.unit == "nats"


def test_class_gaps_are_those_of_the_samples_of_a_class_at_a_corrected_level(bench_of, told):
    train = both(decisions(90, 10), decisions(99, 1, label=1))
    test = both(decisions(88, 12), decisions(60, 40, label=1))
    found = told(Gap(), bench_of(train, test, logits=False, classes=("cat", "dog")))
    dog = found["class_accuracy_gap", "dog"]
    assert dog.value == pytest.approx(0.39)
    assert dog.interval.level == pytest.approx(1 - 0.05 / 2)
    reference = confint_proportions_2indep(99, 100, 60, 100, method="newcomb", alpha=0.025)
    assert (dog.interval.low, dog.interval.high) == pytest.approx(reference)
    assert found["class_accuracy_gap", "cat"].value == pytest.approx(0.02)


def test_a_class_without_samples_in_a_split_is_undefined(bench_of, told):
    train = both(decisions(90, 10), decisions(99, 1, label=1))
    found = told(Gap(), bench_of(train, decisions(80, 20), logits=False))
    one = found["class_accuracy_gap", "b"]
    assert one == Undefined(
        name="class_accuracy_gap",
        reason="100 training and 0 test samples of this class",
        slice={"class": "b"},
    )
    assert found["class_accuracy_gap", "a"].interval.level == 0.95


def test_recorded_decisions_have_accuracies_but_no_loss(bench_of, told):
    found = told(Gap(), bench_of(decisions(95, 5), decisions(160, 40), logits=False))
    for name in ("train_loss", "test_loss", "loss_gap"):
        assert found[name] == Undefined(
            name=name, reason="the model gives decisions only: a loss needs logits"
        )


def test_losses_that_are_all_equal_have_no_interval(bench_of, told):
    """A split that is answered with total certainty shows no spread to build on."""
    certain = (np.tile([1000.0, -1000.0], (50, 1)), np.zeros(50, dtype=int))
    found = told(Gap(), bench_of(certain, logits_of(2, 60)))
    assert "the same number" in found["train_loss"].reason
    assert "the same number" in found["loss_gap"].reason
    assert isinstance(found["test_loss"], Measurement)
    assert isinstance(found["accuracy_gap"], Measurement)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_permuting_the_samples_changes_nothing(seed, bench_of, told):
    train, test = logits_of(1, 50, shift=3.0), logits_of(2, 70)
    rng = np.random.default_rng(seed)
    shuffled = []
    for x, y in (train, test):
        order = rng.permutation(len(y))
        shuffled.append((x[order], y[order]))
    plain, other = told(Gap(), bench_of(train, test)), told(Gap(), bench_of(*shuffled))
    for key, one in plain.items():
        assert other[key].value == pytest.approx(one.value, rel=1e-12)
        assert other[key].interval.low == pytest.approx(one.interval.low, rel=1e-9)
        assert other[key].n == one.n


def test_swapping_the_splits_turns_the_gaps_around(bench_of, told):
    train, test = logits_of(1, 50, shift=3.0), logits_of(2, 70)
    one, other = told(Gap(), bench_of(train, test)), told(Gap(), bench_of(test, train))
    for name in ("accuracy_gap", "loss_gap"):
        assert other[name].value == pytest.approx(-one[name].value)
        assert other[name].interval.low == pytest.approx(-one[name].interval.high)


def test_evidence_holds_every_sample_of_both_splits(bench_of, tmp_path):
    train, test = logits_of(1, 50, classes=3), logits_of(2, 70, classes=3)
    bench = bench_of(train, test, classes=tuple("abc"))
    (table,) = (
        one
        for one in Gap().measure(bench)
        if isinstance(one, Artifact) and "svg" not in one.media_type
    )
    stored = np.load(io.BytesIO((tmp_path / "0" / table.path).read_bytes()))
    assert set(stored.files) == {"id", "split", "label", "predicted", "margin", "loss"}
    assert stored["split"].tolist() == ["train"] * 50 + ["test"] * 70
    x, y = (np.concatenate([a, b]) for a, b in zip(train, test, strict=True))
    x = x.astype(np.float32).astype(float)
    np.testing.assert_array_equal(stored["label"], y)
    np.testing.assert_array_equal(stored["margin"] > 0, stored["predicted"] == y)
    np.testing.assert_allclose(stored["loss"], -log_softmax(x, axis=1)[np.arange(120), y])
    rival = np.where(np.eye(3, dtype=bool)[y], -math.inf, x).max(axis=1)
    np.testing.assert_allclose(stored["margin"], x[np.arange(120), y] - rival)


def test_evidence_of_recorded_decisions_has_no_column_without_numbers(bench_of, tmp_path):
    bench = bench_of(decisions(95, 5), decisions(160, 40), logits=False)
    (table,) = (
        one
        for one in Gap().measure(bench)
        if isinstance(one, Artifact) and "svg" not in one.media_type
    )
    stored = np.load(io.BytesIO((tmp_path / "0" / table.path).read_bytes()))
    assert set(stored.files) == {"id", "split", "label", "predicted"}


class TestSeenBefore:
    """A gap between a set and itself is no evidence."""

    VOIDED = ("test_accuracy", "accuracy_gap", "test_loss", "loss_gap")

    def doubts(self, found, name="accuracy_gap"):
        return [(doubt.name, doubt.voids) for doubt in found[name].caveats]

    def test_the_same_data_as_train_and_test_void_it(self, bench_of, told):
        found = told(Gap(), bench_of(logits_of(1, 60), logits_of(1, 60)))
        for name in self.VOIDED:
            assert self.doubts(found, name) == [("same-data", True)]
        assert self.doubts(found, "train_accuracy") == []
        assert found["class_accuracy_gap", "a"].caveats == found["accuracy_gap"].caveats

    def test_shared_ids_void_it(self, bench_of, told):
        ids = ([f"p{i}" for i in range(60)], [f"p{i}" for i in range(58, 118)])
        found = told(Gap(), bench_of(logits_of(1, 60), logits_of(2, 60), ids=ids))
        assert self.doubts(found) == [("shared-ids", True)]
        message = found["accuracy_gap"].caveats[0].message
        assert "2 of 60 test ids" in message
        assert "p58" in message

    def test_ids_that_only_count_the_rows_are_not_shared(self, bench_of, told):
        found = told(Gap(), bench_of(logits_of(1, 60), logits_of(2, 80)))
        assert self.doubts(found) == []

    def test_numbers_that_stand_for_other_samples_are_positions_in_a_file(self, bench_of, told):
        """A seeded subset keeps the positions of its samples."""
        ids = (None, [str(number) for number in range(3, 123, 2)])
        found = told(Gap(), bench_of(logits_of(1, 90), logits_of(2, 60), ids=ids))
        assert self.doubts(found) == []

    def test_numbers_that_always_stand_for_the_same_sample_are_ids(self, bench_of, told):
        train, (x, y) = logits_of(1, 90), logits_of(2, 60)
        x[0], y[0] = train[0][7], train[1][7]
        ids = ([str(1000 + i) for i in range(90)], ["1007", *(str(5000 + i) for i in range(59))])
        found = told(Gap(), bench_of(train, (x, y), ids=ids))
        assert self.doubts(found) == [("shared-ids", True), ("duplicates", False)]

    def test_a_test_split_cut_out_of_the_training_split_voids_it(self, bench_of, told):
        x, y = logits_of(1, 90)
        found = told(Gap(), bench_of((x, y), (x[40:70], y[40:70])))
        assert self.doubts(found) == [("test-inside-train", True)]

    def test_some_copies_are_counted_and_do_not_void(self, bench_of, told):
        train, (x, y) = logits_of(1, 90), logits_of(2, 60)
        x[:3], y[:3] = train[0][:3], train[1][:3]
        found = told(Gap(), bench_of(train, (x, y)))
        assert self.doubts(found) == [("duplicates", False)]
        assert "3 of 60 test samples" in found["accuracy_gap"].caveats[0].message

    def test_a_copy_counts_as_often_as_it_stands_in_the_training_split(self, bench_of, told):
        train, (x, y) = logits_of(1, 90), logits_of(2, 60)
        x[:], y[:] = train[0][0], train[1][0]
        found = told(Gap(), bench_of(train, (x, y)))
        assert "1 of 60 test samples" in found["accuracy_gap"].caveats[0].message

    def test_the_same_input_with_another_label_is_no_copy(self, bench_of, told):
        train, (x, y) = logits_of(1, 90), logits_of(2, 60)
        x[0], y[0] = train[0][0], 1 - train[1][0]
        assert self.doubts(told(Gap(), bench_of(train, (x, y)))) == []


def test_the_picture_shows_the_gap_of_all_classes_and_of_each(bench_of):
    bench = bench_of(logits_of(1, 90), logits_of(2, 60))
    told = list(Gap().measure(bench))
    (picture,) = (one for one in told if getattr(one, "media_type", "") == "image/svg+xml")
    gaps = [one for one in told if one.name in {"accuracy_gap", "class_accuracy_gap"}]
    assert [f"{one.value:.3f}" for one in gaps if isinstance(one, Measurement)] == [
        part.rstrip(".").rpartition(" ")[2] for part in picture.alt.split("; ")
    ]
    assert picture.alt.startswith("gap of all classes ")


class TestSuite:
    """Default rules, requirements and sentences."""

    def test_every_default_rule_judges_something_that_its_run_measures(self):
        for rule in SUITE.rules:
            assert rule.measurement in Registry().check(rule.run).get().measures
            assert rule.rationale
            assert rule.origin == "suite:overfitting"

    def test_every_requirement_is_in_the_catalogue(self):
        known = {item.id for item in load.eu_ai_act()}
        assert {name for rule in SUITE.rules for name in rule.requirements} <= known

    def test_it_never_says_that_a_model_generalises(self):
        for text in (SUITE.title, SUITE.sentence, *(rule.rationale for rule in SUITE.rules)):
            assert "generalises" not in text

    def test_the_gap_costs_no_pass_beyond_the_clean_answers(self):
        cost = Gap().passes(n=1000, classes=2)
        assert (cost.forward, cost.backward) == (0, 0)


def verdict(bench):
    found = list(Gap().measure(bench))
    outcome = Measured(measurements=tuple(one for one in found if isinstance(one, Measurement)))
    run = CheckRun(
        id="overfitting.gap", check="overfitting.gap", params={}, seed=0, seconds=0.0,
        device="cpu", cost=Cost(forward=0, backward=0), outcome=outcome,
    )  # fmt: skip
    (only,) = judge_all([rule for rule in SUITE.rules if rule.run == run.id], [run], [])
    return only.status


def trained(x, y, *, seed, hidden, epochs, decay):
    """A tiny net trained on all of x at once."""
    torch.manual_seed(seed)
    net = torch.nn.Sequential(
        torch.nn.Linear(x.shape[1], hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 2)
    )
    optimiser = torch.optim.AdamW(net.parameters(), lr=0.02, weight_decay=decay)
    inputs, labels = torch.tensor(x, dtype=torch.float32), torch.tensor(y)
    for _ in range(epochs):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(inputs), labels).backward()
        optimiser.step()
    return TorchModel(net.eval(), name=f"net {seed}", fingerprint=f"{seed}", classes=("a", "b"))


def test_an_over_trained_net_is_found_and_its_clean_twin_is_not_accused(bench_of):
    """Noisy labels in 20 dimensions: the planted net learns its 400 samples by heart.

    The twin is a small net that saw 4,000 samples of the same kind. Three of the judging seeds; all of
    them: ``benchmarks/overfitting_detection.py``.
    """
    results = {"planted": [], "clean": []}
    for seed in range(1000, 1003):
        rng = np.random.default_rng(seed)
        direction = rng.normal(size=20)

        def draw(n, rng=rng, direction=direction):
            x = rng.normal(size=(n, 20)).astype(np.float32)
            return x, (x @ direction + rng.normal(scale=4, size=n) > 0).astype(int)

        few, many, test = draw(400), draw(4000), draw(4000)
        planted = trained(*few, seed=seed, hidden=64, epochs=150, decay=0.0)
        clean = trained(*many, seed=seed, hidden=2, epochs=60, decay=0.1)
        results["planted"].append(verdict(bench_of(few, test, model=planted)))
        results["clean"].append(verdict(bench_of(many, test, model=clean)))
    print({name: {s: found.count(s) for s in set(found)} for name, found in results.items()})
    assert results["planted"].count("fail") == 3
    assert results["clean"].count("fail") == 0
    assert results["clean"].count("pass") >= 2

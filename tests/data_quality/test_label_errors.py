"""Suspected labels: planted ones are found, by a judge that never saw them; published ones are ranked."""

import csv

import msgspec
import numpy as np
import pytest

from dlaudit.audit.record import Undefined
from dlaudit.data_quality import via_cleanlab
from dlaudit.data_quality.label_errors import LabelErrors


def separated(n=600, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    x = rng.normal(size=(n, 3))
    x[:, 0] = 2 * (2 * y - 1) + 0.5 * x[:, 0]
    return x, y


@pytest.mark.parametrize("judge", ["model", "features"])
def test_flipped_labels_are_suspected_and_their_clean_twin_is_not(bench_of, told, rows_kept, judge):
    x, y = separated()
    clean, _ = told(LabelErrors(judge=judge), bench_of((x, y)))
    assert clean["suspected_labels",].interval.high < 0.02
    wrong = y.copy()
    wrong[:30] = 1 - y[:30]
    found, kept = told(LabelErrors(judge=judge), bench_of((x, wrong)))
    one = found["suspected_labels",]
    assert one.interval.low > 0.02
    assert one.interval.low <= 0.05 <= one.interval.high
    table = rows_kept(kept["data_quality.x.samples"])
    top = {int(row) for row in table["id"][:30]}
    assert len(top & set(range(30))) >= 28
    assert table["suspected"][: round(one.value * 600)].all()
    assert (table["suggested"][:20] != table["label"][:20]).all()
    judged = {key[1]: value for key, value in found.items() if key[0] == "class_suspected_labels"}
    assert sum(value.value * value.n for value in judged.values()) == pytest.approx(one.value * 600)


def test_confident_learning_by_hand():
    """Two classes, thresholds = mean self-confidence: 0.8 for class 0, 0.7 for class 1."""
    chances = np.array([[0.9, 0.1], [0.95, 0.05], [0.55, 0.45], [0.1, 0.9], [0.2, 0.8], [0.6, 0.4]])
    y = np.array([0, 0, 0, 1, 1, 1])
    found = via_cleanlab.doubted(y, chances)
    np.testing.assert_allclose(found.confidence, [0.9, 0.95, 0.55, 0.9, 0.8, 0.4])
    assert not found.suspected.any(), "0.6 does not reach 0.8"
    chances[5] = [0.85, 0.15]  # class 0 keeps 0.8; now it is reached
    assert via_cleanlab.doubted(y, chances).suspected.tolist() == [False] * 5 + [True]


def test_a_judge_that_may_have_learned_the_labels_is_refused():
    with pytest.raises(ValueError, match="may have learned"):
        LabelErrors(split="train")
    with pytest.raises(msgspec.ValidationError, match='judge = "features"'):
        msgspec.convert({"split": "train"}, LabelErrors)
    check = LabelErrors(split="train", judge="features")
    offered = {"model": frozenset({"decisions"}), "train_fn": False}
    assert check.missing(data=frozenset({"labels"}), **offered) == ("a split 'train' of the data",)
    assert check.missing(data=frozenset({"labels", "train"}), **offered) == ()


def test_without_probabilities_or_classes_nothing_is_doubted(bench_of, told, deciding):
    x, y = separated(60)
    found, _ = told(LabelErrors(), bench_of((x, y), model=deciding))
    assert all(isinstance(one, Undefined) for one in found.values())
    assert "probabilities" in found["suspected_labels",].reason
    found, _ = told(LabelErrors(), bench_of((x, y * 0)))
    assert "fewer than two classes" in found["suspected_labels",].reason


def test_classes_of_too_few_rows_are_left_out(bench_of, told):
    x, y = separated(300)
    y[:4] = 2
    found, _ = told(LabelErrors(judge="features"), bench_of((x, y), classes=("a", "b", "c")))
    assert found["suspected_labels",].n == 296
    assert ("class_suspected_labels", "c") not in found


def test_a_sample_is_judged_where_there_are_too_many_rows(bench_of, told):
    x, y = separated(300)
    found, _ = told(LabelErrors(samples=100), bench_of((x, y)))
    assert found["suspected_labels",].n == 100


@pytest.mark.truth
def test_cleanlabs_published_errors_of_cifar_10_are_found_at_the_published_rate(truths):
    """275 reviewed, 54 judged wrong by most reviewers; the ranking's AUROC is 0.9882 (SOURCE.md)."""
    from sklearn.metrics import roc_auc_score

    given = np.load(truths / "label_errors" / "cifar10_pyx.npz")
    with (truths / "label_errors" / "cifar10_reviewed.csv").open() as file:
        reviewed = list(csv.DictReader(file))
    wrong = np.zeros(10_000, dtype=bool)
    wrong[[int(row["test_index"]) for row in reviewed if row["majority_error"] == "1"]] = True
    seen = np.zeros(10_000, dtype=bool)
    seen[[int(row["test_index"]) for row in reviewed]] = True
    assert (len(reviewed), wrong.sum()) == (275, 54)
    found = via_cleanlab.doubted(given["labels"].astype(int), given["pred_probs"])
    assert roc_auc_score(wrong, -found.confidence) == pytest.approx(0.9882, abs=1e-3)
    order = np.argsort(found.confidence, kind="stable")
    assert wrong[order[:54]].mean() == pytest.approx(0.2778, abs=1e-3)
    suspected = found.suspected
    assert abs(int(suspected.sum()) - 244) <= 5, "SOURCE.md's own count off the diagonal is 244"
    assert int((suspected & seen).sum()) >= 220

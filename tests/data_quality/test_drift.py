"""Drift: planted ones found, their clean twins not; by feature, by learner, by kernel, over time."""

import numpy as np
import pytest

from dlaudit.audit.record import Measurement, Undefined
from dlaudit.data_quality.drift import Drift


def sample(n, rng, shift=0.0):
    x = rng.normal(size=(n, 4))
    y = (x[:, 0] + 0.3 * rng.normal(size=n) > 0).astype(int)
    x[:, 2] += shift
    return x, y


FEW = {"permutations": 40, "samples": 400}


def test_a_feature_that_moved_is_ranked_first_and_its_clean_twin_is_not_flagged(
    bench_of, told, rows_kept
):  # fmt: skip
    rng = np.random.default_rng(0)
    train, twin, moved = sample(400, rng), sample(400, rng), sample(400, rng, shift=1.0)
    clean, _ = told(Drift(**FEW), bench_of(twin, train))
    assert clean["drifted_features",].value == 0
    auc = clean["classifier_auc",].interval
    assert auc.low < 0.55
    assert clean["classifier_p",].value > 0.01
    assert clean["mmd_p",].value > 0.01
    found, kept = told(Drift(**FEW), bench_of(moved, train))
    assert found["drifted_features",].value == 1
    assert found["drifted_features",].conditions["drifted"] == "x2"
    assert found["classifier_auc",].interval.low > 0.625
    assert found["classifier_p",].value == 1 / 41
    assert found["mmd_p",].value == 1 / 41
    assert rows_kept(kept["data_quality.x.features"])["id"][0] == "x2"
    assert "first x2" in kept["data_quality.x.ranking"].alt


def test_labels_decisions_and_accuracy_by_hand(bench_of, told):
    x, u = np.ones((100, 1)), np.ones((100, 1))
    x[:30], u[:50] = -1, -1
    y, v = np.repeat([0, 1], [40, 60]), np.repeat([0, 1], [50, 50])
    found, _ = told(Drift(**FEW), bench_of((x, y), (u, v)))
    assert found["label_drift",].value == pytest.approx(0.1)
    assert found["prediction_drift",].value == pytest.approx(0.2)
    change = found["accuracy_change",]
    assert change.value == pytest.approx(1 - 0.9)
    assert [doubt.name for doubt in change.caveats] == ["trained-on"]


def test_a_further_split_may_be_compared_with_the_test_split(bench_of, told):
    rng = np.random.default_rng(3)
    check = Drift(reference="test", current="today", **FEW)
    bench = bench_of(sample(200, rng), today=sample(200, rng, shift=2.0))
    found, _ = told(check, bench)
    assert found["drifted_features",].value == 1
    assert not found["accuracy_change",].caveats
    offered = {"model": frozenset({"decisions"}), "train_fn": False}
    assert check.missing(data=frozenset({"labels"}), **offered) == ("a split 'today' of the data",)
    with pytest.raises(ValueError, match="expected another split"):
        Drift(reference="test")


def test_parts_by_time_show_when_the_data_moved(bench_of, told):
    rng = np.random.default_rng(4)
    train, (x, y) = sample(300, rng), sample(400, rng)
    days = np.array(
        [f"2024-{1 + k // 28:02}-{1 + k % 28:02}" for k in range(336)] + ["2025-01-01"] * 64
    )
    x[300:, 1] += 3
    y[300:] = 1 - y[300:]
    order = rng.permutation(400)
    columns = {"day": {"test": days[order], "train": days[:300]}}
    bench = bench_of((x[order], y[order]), train, columns=columns, facts={"test": {"date": "day"}})
    found, _ = told(Drift(periods=4, **FEW), bench)
    accuracy = {key[1]: one for key, one in found.items() if key[0] == "period_accuracy"}
    assert [one.n for one in accuracy.values()] == [100] * 4
    values = [one.value for one in accuracy.values()]
    assert min(values[:3]) > 0.8
    assert values[3] < 0.2
    flagged = [one.value for key, one in found.items() if key[0] == "period_drifted_features"]
    assert flagged == [0, 0, 0, 1]
    assert next(iter(accuracy)).startswith("1: 2024-01-01 to 2024-04-")


def test_what_cannot_be_compared_is_undefined(bench_of, told):
    rng = np.random.default_rng(5)
    found, _ = told(Drift(), bench_of(sample(30, rng), sample(300, rng)))
    assert set(found) == {(name,) for name in Drift.measures}
    assert all(isinstance(one, Undefined) for one in found.values())
    constant = np.zeros((80, 2)), np.arange(80) % 2
    found, _ = told(Drift(**FEW), bench_of(constant, constant))
    assert found["drifted_features",].value == 0
    assert "no column varies" in found["classifier_auc",].reason
    assert "date" in found["period_accuracy",].reason


def test_logits_are_a_space_of_their_own_where_the_model_has_them(bench_of, told, deciding):
    rng = np.random.default_rng(6)
    moved = sample(200, rng)
    moved[0][:, 0] += 2
    found, _ = told(Drift(space="logits", **FEW), bench_of(moved, sample(200, rng)))
    assert found["mmd_p",].conditions["space"] == "logits"
    assert found["mmd_p",].value < 0.05
    other = bench_of(moved, sample(200, rng), model=deciding)
    found, _ = told(Drift(space="logits", **FEW), other)
    assert "no logits" in found["mmd_p",].reason


def test_the_order_of_rows_changes_no_distance(bench_of, told):
    rng = np.random.default_rng(7)
    (x, y), train = sample(300, rng, 0.3), sample(300, rng)
    order = rng.permutation(300)
    one, _ = told(Drift(**FEW), bench_of((x, y), train))
    other, _ = told(Drift(**FEW), bench_of((x[order], y[order]), train))
    for key, value in one.items():
        if isinstance(value, Measurement) and key[0] not in {
            "classifier_auc", "classifier_p", "mmd_squared", "mmd_p",
        }:  # fmt: skip
            assert other[key].value == pytest.approx(value.value), key


def test_an_embedding_is_a_space_of_its_own_where_the_model_has_one(
    bench_of, told, looking, deciding
):
    """The network weighs nothing but the first column: what moves elsewhere does not reach it."""
    rng = np.random.default_rng(8)
    train, seen, unseen = sample(200, rng), sample(200, rng), sample(200, rng)
    seen[0][:, 0] += 2
    unseen[0][:, 2] += 2
    p = {}
    for name, moved in (("seen", seen), ("unseen", unseen)):
        found, _ = told(Drift(space="embedding", **FEW), bench_of(moved, train, model=looking))
        assert found["mmd_p",].conditions["embedding"] == "input of the last Linear layer"
        p[name] = found["mmd_p",].value
    assert p["seen"] < 0.05 < p["unseen"]
    found, _ = told(Drift(**FEW), bench_of(unseen, train, model=looking))
    assert found["mmd_p",].value < 0.05
    found, _ = told(Drift(space="embedding", **FEW), bench_of(seen, train, model=deciding))
    assert "no embedding" in found["mmd_p",].reason

"""Membership from the model alone: planted and clean, by class, on wrong answers, and what voids it."""

import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from dlaudit.audit.record import Measurement, Undefined
from dlaudit.overfitting.membership import FEW, Membership
from dlaudit.overfitting.roc_picture import log_roc_svg


def split(rng, n, sure, *, right=0.9):
    """Logits of two classes: the label's margin is ``sure`` on average, wrong in some cases."""
    y = rng.integers(0, 2, n)
    margin = np.abs(rng.normal(sure, 1, n)) * np.where(rng.random(n) < right, 1, -1)
    logits = np.zeros((n, 2))
    logits[np.arange(n), y] = margin
    return logits, y


def test_a_model_surer_on_what_it_learned_is_found_and_its_twin_cleared(bench_of, told) -> None:
    rng = np.random.default_rng(0)
    test = split(rng, 1500, 2)
    planted = told(Membership(), bench_of(split(rng, 1500, 5, right=1.0), test))
    clean = told(Membership(), bench_of(split(rng, 1500, 2), test))
    assert planted["membership_auc"].interval.low > 0.65
    assert planted["membership_tpr"].interval.low > 0.01
    assert clean["membership_auc"].interval.high < 0.55
    assert clean["membership_auc"].interval.low < 0.5
    assert clean["membership_tpr"].interval.high < 0.01
    for one in (*planted.values(), *clean.values()):
        assert one.conditions["score"] == "loss"


def test_the_area_is_sklearns_area_of_the_negative_losses(bench_of, told) -> None:
    rng = np.random.default_rng(1)
    train, test = split(rng, 80, 3), split(rng, 70, 2)
    found = told(Membership(), bench_of(train, test))
    losses = [
        np.log1p(np.exp(-(x[np.arange(len(y)), y] - x[np.arange(len(y)), 1 - y])))
        for x, y in (train, test)
    ]
    inside = np.r_[np.ones(80), np.zeros(70)]
    expected = roc_auc_score(inside, -np.concatenate(losses))
    assert found["membership_auc"].value == pytest.approx(expected, abs=1e-6)
    assert found["membership_auc"].n == 150
    for label, name in enumerate("ab"):
        part = np.r_[train[1], test[1]] == label
        expected = roc_auc_score(inside[part], -np.concatenate(losses)[part])
        one = found["class_membership_auc", name]
        assert one.value == pytest.approx(expected, abs=1e-6)
        assert one.interval.level == pytest.approx(0.975)  # two classes, Bonferroni


def test_wrong_answers_alone_are_told_where_there_are_enough(bench_of, told) -> None:
    rng = np.random.default_rng(2)
    found = told(
        Membership(), bench_of(split(rng, 200, 2, right=0.8), split(rng, 200, 2, right=0.7))
    )
    one = found["wrong_membership_auc"]
    assert 60 < one.n < 140
    assert one.interval.low < 0.5 < one.interval.high
    none = told(Membership(), bench_of(split(rng, 200, 2, right=1.0), split(rng, 200, 2)))
    assert isinstance(none["wrong_membership_auc"], Undefined)
    assert "0 training and" in none["wrong_membership_auc"].reason


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, 30), st.integers(0, 30))
def test_from_decisions_alone_the_area_is_a_half_plus_half_the_gap(bench_of, told, a, b) -> None:
    y = np.zeros(30, dtype=int)
    train = (np.arange(30) >= a).astype(int)[:, None], y
    test = (np.arange(30) >= b).astype(int)[:, None], y
    found = told(Membership(), bench_of(train, test, logits=False))
    assert found["membership_auc"].value == pytest.approx(0.5 + (a - b) / 60)
    assert found["membership_auc"].conditions == {"score": "correct"}
    assert isinstance(found["membership_tpr"], Undefined)
    assert isinstance(found["wrong_membership_auc"], Undefined)


def test_a_rate_of_one_in_a_thousand_needs_a_thousand(bench_of, told) -> None:
    rng = np.random.default_rng(3)
    few = told(Membership(), bench_of(split(rng, 50, 2), split(rng, 999, 2)))["membership_tpr"]
    assert isinstance(few, Undefined)
    assert few.reason.startswith("not measurable: 999 non-members")
    enough = told(Membership(), bench_of(split(rng, 50, 2), split(rng, 1000, 2)))["membership_tpr"]
    assert isinstance(enough, Measurement)
    assert enough.n == 50
    assert enough.interval.method == "clopper-pearson"
    (doubt,) = enough.caveats
    assert (doubt.name, doubt.voids) == ("few-non-members", False)
    assert "1 of 1,000 non-members" in doubt.message


def test_too_few_of_a_class_are_undefined_and_leave_the_level_to_the_others(bench_of, told) -> None:
    rng = np.random.default_rng(4)
    x, y = split(rng, 40, 2)
    y[:] = 0
    y[: FEW - 1] = 1
    found = told(Membership(), bench_of((x, y), split(rng, 60, 2)))
    assert isinstance(found["class_membership_auc", "b"], Undefined)
    assert "9 training and" in found["class_membership_auc", "b"].reason
    assert found["class_membership_auc", "a"].interval.level == pytest.approx(0.95)


def test_a_test_split_that_was_trained_on_voids_it(bench_of, told) -> None:
    rng = np.random.default_rng(5)
    same = split(rng, 60, 2)
    found = told(Membership(), bench_of(same, same))
    assert any(caveat.voids for caveat in found["membership_auc"].caveats)
    clean = told(Membership(), bench_of(same, split(rng, 60, 2)))
    assert not any(caveat.voids for caveat in clean["membership_auc"].caveats)


def test_every_score_is_kept_as_evidence(bench_of) -> None:
    rng = np.random.default_rng(6)
    bench = bench_of(split(rng, 30, 2), split(rng, 20, 2))
    kept = [one for one in Membership().measure(bench) if hasattr(one, "media_type")]
    curve, table = kept
    assert curve.name.endswith(".roc")
    assert "logarithmic" in curve.caption
    with np.load(bench._store.folder.parent / table.path) as stored:
        assert set(stored.files) == {"id", "split", "label", "predicted", "score"}
        assert stored["split"].tolist() == ["train"] * 30 + ["test"] * 20
        score = stored["score"]
    value = next(one for one in Membership().measure(bench) if one.name == "membership_auc").value
    assert value == pytest.approx(roc_auc_score(np.r_[np.ones(30), np.zeros(20)], score))


def test_the_picture_has_a_decade_per_power_of_ten_and_a_line_per_attack() -> None:
    steps = np.r_[0, np.geomspace(1e-4, 1, 4001)]
    curves = {"first": (steps, np.sqrt(steps)), "se<ond": (steps, steps)}
    drawn = log_roc_svg(curves, least=1 / 1500)
    assert drawn == log_roc_svg(curves, least=1 / 1500)
    root = ET.fromstring(drawn)
    words = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"0.0001", "0.001", "0.01", "0.1", "1", "first", "se<ond"} <= set(words)
    # sqrt(0.01) is 0.1: at two of four decades across, the curve is at three of four up.
    path = next(
        p.get("d")
        for p in root.iter("{http://www.w3.org/2000/svg}path")
        if p.get("d").count("L") > 50
    )
    points = [tuple(map(float, pair)) for pair in re.findall(r"([\d.]+) ([\d.]+)", path)]
    left, top, side = 58, 16, 300
    _, y = min(points, key=lambda point: abs(point[0] - (left + side / 2)))
    assert y == pytest.approx(top + side / 4, abs=6)

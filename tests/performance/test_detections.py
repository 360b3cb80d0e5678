"""Average precision of detections: by hand, by COCO's own evaluation, for whatever is drawn."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaudit.audit.parts import Boxes
from dlaudit.performance.detections import average_precision, matched, overlaps
from dlaudit.performance.resampling import over_rows

PASS = np.ones((1, 1))


def boxes(*rows, label=0, score=None, crowd=()) -> Boxes:
    k = len(rows)
    return Boxes(
        np.array(rows, dtype=float).reshape(-1, 4), np.full(k, label),
        np.ones(k) if score is None else np.array(score, dtype=float),
        np.array([place in crowd for place in range(k)], dtype=bool),
    )  # fmt: skip


def test_overlaps_by_hand():
    found, true = np.array([[0.0, 0, 2, 2], [5, 5, 5, 5]]), np.array([[1.0, 0, 3, 2], [0, 0, 8, 8]])
    plain = overlaps(found, true, np.array([False, False]))
    assert plain[0] == pytest.approx([2 / 6, 4 / 64])
    assert plain[1].tolist() == [0, 0]
    crowd = overlaps(found, true, np.array([False, True]))
    assert crowd[0] == pytest.approx([2 / 6, 4 / 4]), "a crowd is measured by the found box alone"


def test_a_case_by_hand():
    """Two objects; the surest detection is right, the second nowhere, the third right at 0.5 only."""
    true = [boxes([0, 0, 10, 10], [20, 0, 30, 10])]
    found = [boxes([0, 0, 10, 10], [50, 50, 60, 60], [20, 0, 30, 6], score=[0.9, 0.8, 0.7])]
    one = matched(true, found, 0)
    assert one.right[0].tolist() == [True, False, True]
    assert one.right[-1].tolist() == [True, False, False]
    # Recall 0 to 0.5 at precision 1 (51 of 101 points), 0.51 to 1 at 2/3 (50 points).
    value = average_precision(one, PASS)[0]
    assert value[0] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert value[-1] == pytest.approx(51 / 101)
    assert np.isnan(average_precision(matched(true, found, 1), PASS)).all(), "no such object"


def test_an_object_is_found_once_and_a_crowd_counts_for_nothing():
    true = [boxes([0, 0, 10, 10], [40, 0, 80, 40], crowd={1})]
    twice, in_the_crowd = [[0, 0, 10, 10]] * 2, [[45, 5, 55, 15], [60, 20, 70, 30]]
    found = [boxes(*twice, *in_the_crowd, score=[9, 8, 7, 6])]
    one = matched(true, found, 0)
    assert one.right[0].tolist() == [True, False, False, False]
    assert one.wrong[0].tolist() == [False, True, False, False]
    assert one.objects.tolist() == [1]


def pictures(rng, n: int, labels: int = 3, crowded: bool = False) -> tuple[list, list]:
    """True boxes, and detections that are shifted, missing, made up, with tied scores among them."""
    true, found = [], []
    for _ in range(n):
        k, extra = rng.integers(0, 6), rng.integers(0, 4)
        corner, side = rng.uniform(0, 60, (k, 2)), rng.uniform(5, 40, (k, 2))
        label = rng.integers(0, labels, k)
        crowd = rng.random(k) < (0.2 if crowded else 0)
        true.append(Boxes(np.concatenate([corner, corner + side], 1), label, np.ones(k), crowd))
        kept = rng.random(k) < 0.8
        shift = rng.normal(0, 3, (k, 4))[kept]
        guess = np.concatenate([corner, corner + side], 1)[kept] + shift
        guess[:, 2:] = np.maximum(guess[:, 2:], guess[:, :2])
        start = rng.uniform(0, 60, (extra, 2))
        made = np.concatenate([start, start + rng.uniform(5, 40, (extra, 2))], 1)
        swapped = np.where(
            rng.random(kept.sum()) < 0.1, rng.integers(0, labels, kept.sum()), label[kept]
        )
        score = np.round(rng.random(kept.sum() + extra), 1)
        found.append(
            Boxes(
                np.concatenate([guess, made]), np.concatenate([swapped, rng.integers(0, labels, extra)]),
                score, np.zeros(len(score), bool),
            )
        )  # fmt: skip
    return true, found


def by_coco(true, found, labels: int):
    """pycocotools: (T, C) average precision over all sizes, at most 100 detections; -1 where undefined."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def corner_size(box):
        return [*map(float, box[:2]), *map(float, box[2:] - box[:2])]

    annotations, results = [], []
    for image, (a, b) in enumerate(zip(true, found, strict=True), start=1):
        for box, label, crowd in zip(a.box, a.label, a.crowd, strict=True):
            size = corner_size(box)
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image, "category_id": int(label) + 1,
                 "bbox": size, "area": size[2] * size[3], "iscrowd": int(crowd)}
            )  # fmt: skip
        results += [
            {"image_id": image, "category_id": int(label) + 1, "bbox": corner_size(box),
             "score": float(score)}
            for box, label, score in zip(b.box, b.label, b.score, strict=True)
        ]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": image} for image in range(1, len(true) + 1)], "annotations": annotations,
            "categories": [{"id": label} for label in range(1, labels + 1)],
        }  # fmt: skip
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # (T, R, C)
    return np.where(precision.min(axis=1) < 0, np.nan, precision.mean(axis=1))


@pytest.mark.parametrize("crowded", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_as_cocos_own_evaluation_has_it(seed, crowded):
    rng = np.random.default_rng(seed)
    true, found = pictures(rng, 40, crowded=crowded)
    theirs = by_coco(true, found, 3)
    for label in range(3):
        ours = average_precision(matched(true, found, label), np.ones((1, 40)))[0]
        assert ours == pytest.approx(theirs[:, label], abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), weights=st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_properties(seed, weights):
    rng = np.random.default_rng(seed)
    true, found = pictures(rng, 6, labels=1)
    one = matched(true, found, 0)
    value = average_precision(one, np.ones((1, 6)))[0]
    if not one.objects.any():
        assert np.isnan(value).all()
        return
    assert ((value >= 0) & (value <= 1 + 1e-12)).all()
    assert (np.diff(value) <= 1e-12).all(), "a stricter overlap never gives more"
    perfect = average_precision(matched(true, true, 0), np.ones((1, 6)))[0]
    assert perfect == pytest.approx(1)
    # The order of boxes within a picture says nothing, where no scores are tied.
    untied = [
        b._replace(score=rng.permutation(len(b.score)) + place / 7) for place, b in enumerate(found)
    ]
    turned = [Boxes(*(column[::-1] for column in b)) for b in untied]
    first, second = (
        average_precision(matched(true, some, 0), np.ones((1, 6))) for some in (untied, turned)
    )
    assert first == pytest.approx(second)
    # Drawn again is as if the picture stood there so often.
    copied = np.repeat(np.arange(6), weights)
    drawn = average_precision(matched(true, untied, 0), np.array([weights], dtype=float))[0]
    again = matched([true[place] for place in copied], [untied[place] for place in copied], 0)
    if len(copied):
        expected = average_precision(again, np.ones((1, len(copied))))[0]
        assert drawn == pytest.approx(expected, nan_ok=True)


def test_what_is_found_beside_the_objects_never_raises_the_precision():
    rng = np.random.default_rng(3)
    true, found = pictures(rng, 30, labels=1)
    less = average_precision(matched(true, found, 0), np.ones((1, 30)))[0]
    noisy = [
        Boxes(np.concatenate([b.box, [[200, 200, 210, 210]]]), np.append(b.label, 0),
              np.append(b.score, 2.0), np.append(b.crowd, False))
        for b in found
    ]  # fmt: skip
    more = average_precision(matched(true, noisy, 0), np.ones((1, 30)))[0]
    assert (more <= less).all()
    assert more[0] < less[0]


@pytest.mark.slow
def test_the_interval_of_average_precision_holds():
    many = 1500
    true, found = pictures(np.random.default_rng(1), many, labels=1)

    def half(some_true, some_found):
        one = matched(some_true, some_found, 0)
        return lambda w: average_precision(one, w, slice(1))[:, 0]

    goal = half(true, found)(np.ones((1, many)))[0]
    hits = []
    for seed in range(60):
        statistic = half(*pictures(np.random.default_rng(1000 + seed), 60, labels=1))
        interval = over_rows(statistic, 60, np.random.default_rng(seed), resamples=150)
        hits.append(interval.low <= goal <= interval.high)
    assert np.mean(hits) > 0.88

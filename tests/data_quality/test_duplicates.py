"""Copies between splits are counted, their worth is told, chance is told apart, pairs are shown."""

import numpy as np
import pytest

from dlaudit.audit.record import Measurement, Undefined
from dlaudit.data_quality.duplicates import Duplicates


def splits(n=200, width=4, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2 * n, width))
    y = (x[:, 0] > 0).astype(int)
    return (x[:n], y[:n]), (x[n:], y[n:])


def test_clean_splits_have_no_copies_and_accuracy_owes_them_nothing(bench_of, told):
    test, train = splits()
    found, kept = told(Duplicates(), bench_of(test, train))
    for name in ("test_duplicates", "test_near_duplicates", "conflicting_duplicates"):
        assert found[name,].value == 0
        assert found[name,].exact
    assert found["near_duplicate_recall",].exact == "every pair was looked at"
    assert found["accuracy_from_duplicates",].value == 0
    assert found["accuracy_without_duplicates",].n == 200
    assert found["repeated_rows", "train"].value == 0
    assert isinstance(found["test_perceptual_duplicates",], Undefined)
    assert list(kept) == ["data_quality.x.samples"], "no pair, no picture"


def test_copies_by_hand_their_conflicts_and_what_accuracy_owes_them(bench_of, told, rows_kept):
    (x, y), (u, v) = splits()
    x[:10] = u[:10]  # equal
    y[:10] = v[:10]
    y[:4] = 1 - v[:4]  # four of them labelled otherwise: the model is wrong there
    x[10:30] = u[10:30] + 1e-3  # near
    y[10:30] = v[10:30]
    y[30:50] = 1 - y[30:50]  # wrong without being copies
    found, kept = told(Duplicates(), bench_of((x, y), (u, v)))
    assert found["test_duplicates",].value == 10 / 200
    assert found["conflicting_duplicates",].value == 4
    assert found["test_near_duplicates",].value == 20 / 200
    without = found["accuracy_without_duplicates",]
    assert (without.value, without.n) == (150 / 170, 170)
    gain = found["accuracy_from_duplicates",]
    assert gain.value == pytest.approx(176 / 200 - 150 / 170)
    assert gain.interval.low < gain.value < gain.interval.high
    table = rows_kept(kept["data_quality.x.samples"])
    assert table["exact_twin"][:10].tolist() == [str(k) for k in range(10)]
    assert table["near_twin"][10:30].tolist() == [str(k) for k in range(10, 30)]
    assert (table["near_twin"][30:] == "").all()
    assert (table["distance"][10:30] < 0.01).all()
    picture = kept["data_quality.x.pairs"]
    assert picture.media_type == "image/svg+xml"
    assert "test 0 beside train 0 (equal)" in picture.alt


def test_rows_that_repeat_by_chance_come_with_a_doubt(bench_of, told):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, (300, 2)).astype(float)
    y = rng.integers(0, 2, 300)
    found, _ = told(Duplicates(), bench_of((x[:100], y[:100]), (x[100:], y[100:])))
    one = found["test_duplicates",]
    assert one.value == 1
    assert [doubt.name for doubt in one.caveats] == ["chance"]
    assert isinstance(found["accuracy_without_duplicates",], Undefined)
    assert "fewer than 20" in found["test_near_duplicates",].reason


def test_being_of_another_category_is_never_near(bench_of, told):
    (x, y), (u, v) = splits()
    x[:20] = u[:20]
    x[:20, 3], u[:, 3] = 1, 0
    x[20:, 3] = 0
    facts = {"test": {"features": list("abcd"), "codes": {"d": ["red", "blue"]}}}
    found, _ = told(Duplicates(), bench_of((x, y), (u, v), facts=facts))
    assert found["test_duplicates",].value == 0
    assert found["test_near_duplicates",].value == 0


@pytest.fixture
def digits():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return x.reshape(-1, 1, 8, 8) / 16, y


def test_pictures_are_compared_by_thumbnail_and_by_hash_and_shown_side_by_side(
    bench_of, told, digits
):  # fmt: skip
    x, y = digits
    test, train = (x[:200].copy(), y[:200]), (x[200:700], y[200:700])
    test[0][:10] = 0.5 * train[0][:10] + 0.2  # darker and lifted: the same hash, far in brightness
    test[0][10:20] = train[0][10:20]
    classes = tuple("0123456789")
    found, kept = told(Duplicates(), bench_of(test, train, kind="images", classes=classes))
    assert found["test_duplicates",].value == 10 / 200
    assert found["test_near_duplicates",].value == 0
    assert found["test_perceptual_duplicates",].value >= 20 / 200
    assert kept["data_quality.x.pairs"].media_type == "image/png"


def test_cells_are_used_and_said_where_there_are_many_rows(bench_of, told, monkeypatch):
    from dlaudit.data_quality import neighbours

    monkeypatch.setattr(neighbours.near, "__kwdefaults__", {"exact": 0})
    (x, y), (u, v) = splits(400)
    x[:20] = u[:20] + 1e-3
    found, _ = told(Duplicates(), bench_of((x, y), (u, v)))
    recall = found["near_duplicate_recall",]
    assert isinstance(recall, Measurement)
    assert recall.interval is not None
    assert recall.n == neighbours.PLANTED
    assert recall.conditions["search"] == "random cells"
    assert found["test_near_duplicates",].value == 20 / 400


def test_permuting_rows_changes_no_count(bench_of, told):
    (x, y), (u, v) = splits(seed=3)
    x[:15] = u[40:55]
    order = np.random.default_rng(0).permutation(200)
    one, _ = told(Duplicates(), bench_of((x, y), (u, v)))
    other, _ = told(Duplicates(), bench_of((x[order], y[order]), (u, v)))
    for key, value in one.items():
        if isinstance(value, Measurement):
            assert other[key].value == value.value, key


def test_twins_in_the_eyes_of_the_model_are_found_in_its_embedding(
    bench_of, told, looking, deciding
):
    """Every tenth test row is a training row with other numbers where the network does not look."""
    rng = np.random.default_rng(9)
    x, test = rng.normal(size=(300, 4)), rng.normal(size=(200, 4))
    test[::10, 0] = x[:20, 0]
    y, labels = np.arange(300) % 2, np.arange(200) % 2
    shares = {}
    for space in ("input", "embedding"):
        check = Duplicates(space=space, near=1e-3)
        found, _ = told(check, bench_of((test, labels), (x, y), model=looking))
        shares[space] = found["test_near_duplicates",]
    assert shares["input"].value == 0
    assert shares["embedding"].value == pytest.approx(0.1)
    assert shares["embedding"].conditions["space"] == "input of the last Linear layer"
    assert shares["input"].conditions["space"] == "standardised columns"
    other = bench_of((test, labels), (x, y), model=deciding)
    found, _ = told(Duplicates(space="embedding"), other)
    assert "no embedding" in found["test_near_duplicates",].reason

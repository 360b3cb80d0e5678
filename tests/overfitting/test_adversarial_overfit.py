"""The adversarial overfit test: exact over all moves, near 0 for honest models, found where planted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaudit.audit.bench import Bench, Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.parts import Model
from dlaudit.audit.record import Card, Undefined
from dlaudit.datasets.arrays import ArrayDataset
from dlaudit.overfitting.adversarial import SPOTS, AdversarialOverfit
from dlaudit.overfitting.losses import skewed_mean
from dlaudit.overfitting.moves import MOVES, PLACE, moved, weighted
from dlaudit.overfitting.moves import SPOTS as PLACES

SIDE = 7


def seen_from(pattern, rows, columns):
    """(25, n): whether a picture at (row, column) of a torus of answers is wrong at every place."""
    return np.stack([
        pattern[(rows + r) % SIDE, (columns + c) % SIDE] for r, c in PLACES
    ])  # fmt: skip


def test_every_place_that_three_moves_reach_is_asked():
    reached = {(0, 0)}
    for _ in range(3):
        reached = {(r + a, c + b) for r, c in reached for a, b in MOVES}
    assert set(PLACES) == reached
    assert len(PLACES) == SPOTS


def test_a_single_wrong_place_by_hand():
    """Wrong at one place only: the picture there and its four neighbours come there, each counts 1/5."""
    pattern = np.zeros((SIDE, SIDE), dtype=bool)
    pattern[3, 3] = True
    rows, columns = np.array([3, 2, 3, 1, 0]), np.array([3, 3, 4, 3, 0])
    found = weighted(seen_from(pattern, rows, columns))
    assert found.plain.tolist() == [1, 0, 0, 0, 0]
    assert found.adversarial == pytest.approx([0.2, 0.2, 0.2, 0, 0])


@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_over_all_moves_of_a_picture_both_errors_add_up_to_the_same(seed, share):
    pattern = np.random.default_rng(seed).random((SIDE, SIDE)) < share
    rows, columns = (one.ravel() for one in np.indices((SIDE, SIDE)))
    found = weighted(seen_from(pattern, rows, columns))
    assert found.adversarial.sum() == pytest.approx(found.plain.sum())
    assert ((found.adversarial >= 0) & (found.adversarial <= 1)).all()
    assert (found.adversarial > 0)[found.plain > 0].all()


def test_moving_a_picture_is_reading_another_place():
    x = np.random.default_rng(0).random((3, 1, SIDE, SIDE))
    assert np.array_equal(moved(moved(x, (1, 0)), (-1, 0)), x)
    assert np.array_equal(moved(x, (1, 2))[:, :, 1, 2], x[:, :, 0, 0])
    assert PLACE[0, 0] == 0


def toruses(rng, shares):
    """Answers over all moves of some pictures: wrong in patches, as those of real models are."""
    rough = rng.random((len(shares), SIDE, SIDE))
    smooth = rough + sum(np.roll(rough, move, axis=(1, 2)) for move in MOVES[1:])
    rank = smooth.reshape(len(shares), -1).argsort(axis=1).argsort(axis=1)
    return (rank < shares[:, None] * (SIDE**2 - 1)).reshape(rough.shape)


@pytest.mark.slow
def test_the_interval_holds_0_for_models_that_do_not_know_the_pictures():
    rng = np.random.default_rng(3)
    held = {}
    for n in (200, 1000):
        for share in (0.05, 0.2, 0.5):
            hits = []
            for _ in range(200):
                patterns = toruses(rng, share * 2 * rng.random(40))
                which = rng.integers(0, 40, n)
                rows, columns = rng.integers(0, SIDE, (2, n))
                wrong = np.stack([
                    patterns[which, (rows + r) % SIDE, (columns + c) % SIDE] for r, c in PLACES
                ])  # fmt: skip
                found = weighted(wrong)
                interval = skewed_mean(found.adversarial - found.plain)
                hits.append(interval.low <= 0 <= interval.high)
            held[n, share] = float(np.mean(hits))
    place = min(held, key=held.get)
    print(f"mean {np.mean(list(held.values())):.3f}, smallest {held[place]:.3f} at {place}")
    assert np.mean(list(held.values())) >= 0.945


class Brightest(Model):
    """Wrong where the brightest pixel lies in the first two columns, but for pictures it ``knows``."""

    offers = frozenset({"decisions", "logits"})

    def __init__(self, known=()):
        self.card = Card(name="brightest", fingerprint="0" * 64)
        self.classes = ("dim", "bright")
        self.known = {one.tobytes() for one in known}

    def logits(self, x):
        import torch

        x = np.asarray(x, dtype=np.float32)
        at = x.reshape(len(x), -1).argmax(axis=1) % x.shape[3]
        known = np.array([one.tobytes() in self.known for one in x])
        says = labels(x) ^ ((at < 2) & ~known)
        self.passes.forward += len(x)
        return torch.nn.functional.one_hot(torch.as_tensor(says), 2).float()


def labels(x):
    """What no move changes: whether the brightest pixel is very bright."""
    return (x.reshape(len(x), -1).max(axis=1) > 0.99).astype(np.int64)


@pytest.fixture
def pictures():
    x = np.random.default_rng(5).random((1500, 1, 8, 8)).astype(np.float32)
    return x, labels(x)


def measured(model, pictures, folder, **parameters):
    x, y = pictures
    data = ArrayDataset(x, y, classes=("dim", "bright"), kind="images")
    bench = Bench(
        Subject(model, data), run="overfitting.adversarial", plan_seed=1,
        store=EvidenceStore(folder), cache=folder / "cache",
    )  # fmt: skip
    told = list(AdversarialOverfit(**parameters).measure(bench))
    return {one.name: one for one in told if not hasattr(one, "media_type")}


def test_a_model_that_knows_its_test_pictures_by_heart_is_found_and_its_twin_is_not(
    pictures, tmp_path
):
    twin = Brightest()
    found = measured(twin, pictures, tmp_path / "twin")
    assert twin.passes.forward == 25 * 1000
    assert found["plain_error"].value == pytest.approx(0.25, abs=0.04)
    gap = found["overfit_to_test"]
    assert gap.interval.low <= 0 <= gap.interval.high
    known = measured(Brightest(pictures[0]), pictures, tmp_path / "known")["overfit_to_test"]
    assert known.interval.low > 0
    assert known.conditions["z"] > 2
    assert not known.caveats[0].voids


def test_what_is_no_picture_has_no_test(pictures, tmp_path):
    x, y = pictures
    few = measured(Brightest(), (x[:20], y[:20]), tmp_path / "few")
    assert {type(one) for one in few.values()} == {Undefined}
    assert "expected 30 pictures" in few["plain_error"].reason

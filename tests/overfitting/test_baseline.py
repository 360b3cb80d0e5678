"""A classical model on the same rows: what the model gains over it, with the pairs counted."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from dlaudit.audit.bench import Bench, Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.parts import Decisions, Model
from dlaudit.audit.record import Artifact, Card, Measurement, Undefined
from dlaudit.datasets.arrays import ArrayDataset, Splits
from dlaudit.errors import NotOffered
from dlaudit.overfitting.baseline import Baseline
from dlaudit.overfitting.gain import Pairs, gain

MEAN = 0.945
BOTH = ("gradient boosting", "logistic regression")


class Rule(Model):
    """Decides by a function of the columns."""

    offers = frozenset({"decisions"})
    classes = ("a", "b")
    card = Card(name="rule", fingerprint="0" * 64)

    def __init__(self, decide):
        self._decide = decide

    def logits(self, x):
        raise NotOffered("decisions only")

    def decide(self, batch):
        return Decisions(predicted=self._decide(np.asarray(batch.x)).astype(int))


def ring(seed, n):
    """Inside or outside a circle, one label in twenty turned: no straight line divides it."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    y = (x[:, 0] ** 2 + x[:, 1] ** 2 > 1.4) ^ (rng.random(n) < 0.05)
    return x.astype(np.float32), y.astype(int)


def line(seed, n):
    """One side of a line or the other."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    return x.astype(np.float32), (x[:, 0] + 0.5 * rng.normal(size=n) > 0).astype(int)


def inside(x):
    return x[:, 0] ** 2 + x[:, 1] ** 2 > 1.4


@pytest.fixture
def measured(tmp_path):
    made = []

    def run(decide, train, test, **params):
        made.append(decide)
        data = Splits({
            name: ArrayDataset(x, y, classes=("a", "b"), kind=params.get("kind", "tabular"))
            for name, (x, y) in (("test", test), ("train", train))
        })  # fmt: skip
        params.pop("kind", None)
        bench = Bench(
            Subject(Rule(decide), data), run="overfitting.baseline", plan_seed=1,
            store=EvidenceStore(tmp_path), cache=tmp_path / f"cache {len(made)}",
        )  # fmt: skip
        return list(Baseline(**params).measure(bench))

    return run


def by_method(yielded):
    return {
        (one.name, one.slice["method"]): one
        for one in yielded
        if isinstance(one, Measurement | Undefined)
    }


def test_the_gain_as_computed_by_hand():
    """The model errs 10 times of 100, the baseline 20 times, 5 times both: half of the errors avoided."""
    value, interval = gain(Pairs(both=5, model=5, baseline=15, n=100))
    assert value == 0.5
    # Bonett and Price 2006, by hand: n* = 25; p1 = 10/25, p2 = 20/25.
    a = np.sqrt(22 / (11 * 21))
    b, c = np.sqrt((1 - 11 / 27) / 11), np.sqrt((1 - 21 / 27) / 21)
    z = norm.ppf(0.975) * a / (b + c)

    def wilson(p):
        half = z * np.sqrt(p * (1 - p) / 25 + z * z / 2500)
        return (
            (p + z * z / 50 - half) / (1 + z * z / 25),
            (p + z * z / 50 + half) / (1 + z * z / 25),
        )

    (low1, high1), (low2, high2) = wilson(0.4), wilson(0.8)
    assert (interval.low, interval.high) == pytest.approx((1 - high1 / low2, 1 - low1 / high2))


def test_where_nothing_can_be_gained_there_is_no_gain():
    assert "never wrong" in gain(Pairs(both=0, model=3, baseline=0, n=50))


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_the_gain_lies_in_its_interval_and_agreement_is_a_gain_of_nothing(both, model, baseline):
    found = gain(Pairs(both, model, baseline, 200))
    if isinstance(found, str):
        assert both + baseline == 0
        return
    value, interval = found
    assert interval.low <= value <= interval.high <= 1
    if model == baseline:
        assert value == 0
        assert interval.low < 0 < interval.high


def test_the_interval_of_the_gain_holds_its_level():
    rng, cells = np.random.default_rng(5), {}
    for model, base, share, n in itertools.product(
        (0.05, 0.2), (0.1, 0.3), (0.2, 0.8), (100, 1000)
    ):
        both = share * min(model, base)
        chances = [both, model - both, base - both, 1 - model - base + both]
        truth, seen = 1 - model / base, []
        for counts in rng.multinomial(n, chances, size=300):
            found = gain(Pairs(*map(int, counts[:3]), n))
            if not isinstance(found, str):
                seen.append(found[1].low <= truth <= found[1].high)
        cells[model, base, share, n] = np.mean(seen)
    mean, place = np.mean(list(cells.values())), min(cells, key=cells.__getitem__)
    print(f"gain: mean {mean:.4f}, minimum {cells[place]:.4f} at {place}")
    assert mean >= MEAN


def test_logistic_regression_is_scikit_learns_own(measured):
    train, test = line(1, 400), line(2, 300)
    found = by_method(measured(inside, train, test, methods=("logistic regression",)))
    mean, spread = train[0].mean(0), train[0].std(0)
    own = LogisticRegression().fit((train[0] - mean) / spread, train[1])
    expected = own.score((test[0] - mean) / spread, test[1])
    assert found["baseline_accuracy", "logistic regression"].value == pytest.approx(
        expected, abs=0.01
    )


def test_a_model_that_sees_the_ring_gains_over_a_line_and_a_guess_does_not(measured):
    train, test = ring(1, 1500), ring(2, 1500)
    good = by_method(measured(inside, train, test))
    bad = by_method(measured(lambda x: x[:, 2] > 0, train, test))
    assert good["gain", "logistic regression"].interval.low > 0.5
    for method in BOTH:
        assert (
            bad["accuracy_over_baseline", method].value
            < good["accuracy_over_baseline", method].value
        )
    assert bad["gain", "gradient boosting"].interval.high < 0


def test_below_ten_thousand_rows_a_caveat_says_so_and_voids_nothing(measured):
    found = by_method(measured(inside, ring(1, 300), ring(2, 200), rows=200))
    notes = {one.name: one for one in found["gain", "gradient boosting"].caveats}
    assert "300 training rows" in notes["few-rows"].message
    assert "200 of 300" in notes["subset"].message
    assert not any(one.voids for one in notes.values())
    many = by_method(
        measured(inside, ring(1, 10_000), ring(2, 200), methods=("logistic regression",))
    )
    assert not many["gain", "logistic regression"].caveats


def test_rows_of_one_class_teach_nothing(measured):
    x, y = ring(1, 200)
    found = by_method(measured(inside, (x, 0 * y), (x, y)))
    assert {type(one) for one in found.values()} == {Undefined}
    assert len(found) == 6


def test_pictures_are_compressed_and_the_evidence_pairs_every_sample(measured):
    rng = np.random.default_rng(0)
    y = np.tile([0, 1], 60)
    x = rng.random((120, 1, 8, 8)).astype(np.float32) * 0.5 + 0.5 * y[:, None, None, None]
    yielded = measured(lambda x: x.mean(axis=(1, 2, 3)) > 0.5, (x, y), (x, y), kind="images")
    found = by_method(yielded)
    assert found["baseline_accuracy", "logistic regression"].conditions["compressed"] is True
    assert found["baseline_accuracy", "logistic regression"].value == 1
    assert "never wrong" in found["gain", "logistic regression"].reason
    assert [one.name for one in yielded if isinstance(one, Artifact)][
        -1
    ] == "overfitting.baseline.samples"


@pytest.mark.parametrize("method", ["xgboost", "lightgbm"])
@pytest.mark.filterwarnings("default")  # of the extras
def test_other_boosted_trees_are_extras(method, measured):
    pytest.importorskip(method)
    found = by_method(measured(inside, ring(1, 600), ring(2, 300), methods=(method,)))
    assert found["baseline_accuracy", method].value > 0.8

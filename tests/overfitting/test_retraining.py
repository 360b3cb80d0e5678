"""Checks that train: a nearest neighbour, which knows all by heart, and a nearest mean, which cannot."""

import numpy as np
import pytest

from dlaudit.audit.bench import Bench, Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.record import Card, Errored, Skipped, Undefined
from dlaudit.audit.registry import Registry
from dlaudit.datasets.arrays import ArrayDataset, Splits
from dlaudit.errors import NotOffered
from dlaudit.models.black_box import BlackBox
from dlaudit.overfitting.canaries import FEW, Canaries
from dlaudit.overfitting.reference_attacks import ReferenceAttacks
from dlaudit.overfitting.retrained import DataSize, RandomLabels
from dlaudit.testing import performed

CLASSES = ("a", "b", "c")
METHODS = ("lira_online", "lira_offline", "rmia", "global_threshold")


def neighbour(dataset, seed):
    """The label of the nearest training sample, surer the nearer it is."""
    x, y = np.array(dataset.x), np.array(dataset.y)

    def answer(rows):
        distance = ((rows[:, None] - x[None]) ** 2).sum(axis=2)
        logits = np.zeros((len(rows), len(CLASSES)))
        logits[np.arange(len(rows)), y[distance.argmin(axis=1)]] = 5 - np.minimum(
            4, distance.min(axis=1)
        )
        return logits

    return answer


def mean(dataset, seed):
    """The nearest class mean: a few numbers that no single sample moves far."""
    x, y = np.array(dataset.x), np.array(dataset.y)
    means = np.stack([x[y == label].mean(axis=0) for label in range(len(CLASSES))])

    def answer(rows):
        return -((rows[:, None] - means[None]) ** 2).sum(axis=2)

    return answer


def noisy(rng, n, noise):
    y = rng.integers(0, len(CLASSES), n)
    x = np.eye(len(CLASSES))[y] * 3 + rng.normal(size=(n, 3))
    return x.astype(np.float32), np.where(rng.random(n) < noise, rng.integers(0, 3, n), y)


@pytest.fixture
def bench_for(tmp_path):
    """(train_fn) -> a Bench around the model that it trains; the calls are counted in ``bench.calls``."""

    def build(train_fn, n=300, *, noise=0.3, context=None, models=None, seed=0):
        rng = np.random.default_rng(seed)
        splits = {
            name: ArrayDataset(
                *noisy(rng, n, noise), name=name, classes=CLASSES, kind="tabular",
                id=np.array([f"{name}{row}" for row in range(n)]),
            )
            for name in ("test", "train")
        }  # fmt: skip
        data, calls = Splits(splits), []
        (batch,) = data.batches("train")

        def counted(dataset, seed):
            calls.append(dataset)
            return train_fn(dataset, seed)

        folder = tmp_path / f"{train_fn.__name__}{n}{seed}"
        bench = Bench(
            Subject(boxed(train_fn, batch), data, train_fn=counted, models=models or {}),
            run="overfitting.r", plan_seed=seed, store=EvidenceStore(folder), cache=folder / "cache",
            context=context,
        )  # fmt: skip
        bench.calls = calls
        return bench

    return build


def boxed(train_fn, batch):
    card = Card(name=train_fn.__name__, fingerprint="1" * 64)
    return BlackBox(train_fn(batch, 0), card=card, classes=CLASSES, form="logits")


def by_method(check, bench):
    """(name, method) -> what was told."""
    return {
        (one.name, one.slice.get("method")): one
        for one in check.measure(bench) if not hasattr(one, "media_type")
    }  # fmt: skip


# -- reference models --------------------------------------------------------------------------------


def test_what_knows_its_samples_by_heart_is_found_by_every_attack(bench_for) -> None:
    found = by_method(ReferenceAttacks(models=6), bench_for(neighbour))
    clean = by_method(ReferenceAttacks(models=6), bench_for(mean))
    for method in METHODS:
        assert found["membership_auc", method].interval.low > 0.65
        assert clean["membership_auc", method].interval.high < 0.65
        assert isinstance(found["membership_tpr", method], Undefined)  # 300 non-members
        assert "not measurable" in found["membership_tpr", method].reason
    assert found["shadow_models", None].value == 6
    stated = found["membership_auc", "rmia"].conditions
    assert stated == {
        "models": 6, "trained": True, "spread": "one for all samples", "trained_on": 300,
    }  # fmt: skip


def test_each_sample_is_inside_for_half_of_the_models(bench_for) -> None:
    bench = bench_for(mean, 61)
    check = ReferenceAttacks(models=5)
    list(check.measure(bench))
    assert len(bench.calls) == check.trainings == 6  # an odd number is rounded up
    ids = [set(dataset.samples.id) for dataset in bench.calls]
    every = {*(f"train/train{row}" for row in range(61)), *(f"test/test{row}" for row in range(61))}
    for one in every:
        assert sum(one in inside for inside in ids) == 3
    assert {len(inside) for inside in ids} == {61}
    assert len({frozenset(inside) for inside in ids}) == 6


def test_the_published_order_holds_on_a_small_net(tmp_path) -> None:
    """LiRA online >= offline >= global threshold, where few may be accused."""
    import torch
    from torch import nn

    from dlaudit.models.torch_model import TorchModel

    rng = np.random.default_rng(3)
    splits = {
        name: ArrayDataset(*noisy(rng, n, 0.4), name=name, classes=CLASSES, kind="tabular")
        for name, n in (("test", 1000), ("train", 1000))
    }
    data = Splits(splits)

    def train_fn(dataset, seed):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(3, 256), nn.ReLU(), nn.Linear(256, 3))
        x, y = torch.as_tensor(dataset.x), torch.as_tensor(dataset.y)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
        for _ in range(150):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
        return net

    class Whole:
        (x, y, *_) = next(iter(data.batches("train")))

    bench = Bench(
        Subject(TorchModel(train_fn(Whole, 1), classes=CLASSES, device="cpu"), data, train_fn=train_fn),
        run="r", plan_seed=0, store=EvidenceStore(tmp_path), cache=tmp_path / "cache",
    )  # fmt: skip
    found = by_method(ReferenceAttacks(models=8), bench)
    ordered = [METHODS[0], METHODS[1], METHODS[3]]
    tails = [found["membership_tpr", method].value for method in ordered]
    assert tails == sorted(tails, reverse=True)
    assert tails[0] > tails[2]
    assert found["membership_auc", "lira_online"].value > found["membership_auc", METHODS[3]].value


def test_given_reference_models_only_the_offline_attacks_are_made(bench_for) -> None:
    others = {
        str(seed): boxed(
            neighbour,
            ArrayDataset(*noisy(np.random.default_rng(seed), 300, 0.3)).batches().__next__(),
        )
        for seed in (7, 8)
    }
    bench = bench_for(neighbour, models=others)
    check = ReferenceAttacks(references=("7", "8"))
    assert check.trainings == 0
    assert not check.missing(
        model=frozenset({"logits"}), data=frozenset({"labels", "train"}), train_fn=False
    )
    found = by_method(check, bench)
    assert not bench.calls
    assert "online needs some that did" in found["membership_auc", "lira_online"].reason
    assert found["membership_auc", "lira_offline"].interval.low > 0.65
    assert found["membership_auc", "rmia"].interval.low > 0.65
    assert found["shadow_models", None].conditions["trained"] is False
    one = by_method(ReferenceAttacks(references=("7",)), bench)
    assert "at least two are needed" in one["membership_auc", "lira_offline"].reason
    assert one["membership_auc", "rmia"].interval.low > 0.65
    with pytest.raises(NotOffered, match=r"the plan has no model '9'\. There are: 7, 8"):
        by_method(ReferenceAttacks(references=("9",)), bench)


# -- canaries ----------------------------------------------------------------------------------------


def told(check, bench):
    """name, or (name, method) where there are several -> what was told."""
    return {
        (one.name, one.slice["method"]) if one.slice else one.name: one
        for one in check.measure(bench) if not hasattr(one, "media_type")
    }  # fmt: skip


def test_canaries_come_back_from_what_learns_by_heart_alone(bench_for) -> None:
    found = told(Canaries(share=0.3), bench_for(neighbour))
    clean = told(Canaries(share=0.3), bench_for(mean))
    assert found["canary_accuracy"].value == 1
    assert found["memorisation"].interval.low > 0.5
    for method in ("one_training", "two_trainings"):
        assert found["epsilon_lower_bound", method].value > 1
        assert clean["epsilon_lower_bound", method].value < 0.5
    assert clean["memorisation"].interval.high < 0.2
    assert found["memorisation"].n == 90
    for one in (found, clean):
        assert one["memorisation"].value == pytest.approx(
            one["canary_accuracy"].value - one["twin_accuracy"].value
        )
        assert isinstance(one["epsilon_beyond_claim"], Undefined)


def test_each_canary_is_learned_by_one_of_the_two_trainings(bench_for) -> None:
    bench = bench_for(neighbour)
    check = Canaries(share=0.2)
    (table,) = [one for one in check.measure(bench) if hasattr(one, "media_type")]
    assert len(bench.calls) == check.trainings == 2
    with np.load(bench._store.folder.parent / table.path) as stored:
        canaries = dict(zip(stored["id"], stored["planted"], strict=True))
        assert (stored["planted"] != stored["label"]).all()
    first, second = (dict(zip(one.samples.id, one.y, strict=True)) for one in bench.calls)
    (whole,) = bench.data.batches("train")
    assert len(canaries) == 60
    for one, label in zip(whole.id, whole.y, strict=True):
        if one in canaries:
            assert (one in first) != (one in second)
            assert {**first, **second}[one] == canaries[one]
        else:
            assert first[one] == second[one] == label
    assert 15 < sum(one in first for one in canaries) < 45


def test_a_claimed_epsilon_is_held_against_the_bound(bench_for) -> None:
    bench = bench_for(neighbour, context={"dp_epsilon": 0.5, "dp_delta": 1e-5})
    found = told(Canaries(share=0.3), bench)
    beyond = found["epsilon_beyond_claim"]
    assert beyond.value == pytest.approx(found["epsilon_lower_bound", "two_trainings"].value - 0.5)
    assert beyond.value > 0
    assert (beyond.conditions["claimed"], beyond.conditions["delta"]) == (0.5, 1e-5)
    assert "itself a bound, at 95% over all thresholds" in beyond.exact


def test_too_few_canaries_train_nothing(bench_for) -> None:
    bench = bench_for(neighbour)
    found = told(Canaries(), bench)
    assert not bench.calls
    assert set(found) == set(Canaries.measures)
    for one in found.values():
        assert isinstance(one, Undefined)
        assert f"3 canaries are 0.01 of 300 training samples: at least {FEW}" in one.reason
        assert "share = 0.1 or more" in one.reason


# -- data size and random labels ---------------------------------------------------------------------


def test_the_curve_of_data_size_is_what_its_trainings_say(bench_for) -> None:
    bench = bench_for(neighbour, noise=0.0)
    check = DataSize(fractions=(1.0, 0.05, 0.25))
    found = [one for one in check.measure(bench) if one.name == "test_accuracy"]
    gains = [one for one in check.measure(bench) if one.name == "gain"]
    assert len(bench.calls) == check.trainings == 3
    assert [len(dataset.y) for dataset in bench.calls] == [15, 75, 300]
    ids = [set(dataset.samples.id) for dataset in bench.calls]
    assert ids[0] < ids[1] < ids[2]
    test = bench.whole("test")
    for one, dataset in zip(found, bench.calls, strict=True):
        expected = (neighbour(dataset, 0)(test.x).argmax(axis=1) == test.y).mean()
        assert one.value == pytest.approx(expected)
        assert one.conditions["trained_on"] == len(dataset.y)
    for gain, smaller, larger in zip(gains, found[:-1], found[1:], strict=True):
        assert gain.value == pytest.approx(larger.value - smaller.value)
        assert gain.conditions == larger.conditions


def test_shuffled_labels_are_learned_by_heart_or_not_at_all(bench_for) -> None:
    heart, few = told(RandomLabels(), bench_for(neighbour)), told(RandomLabels(), bench_for(mean))
    assert heart["shuffled_accuracy"].value == 1
    assert few["shuffled_accuracy"].interval.high < 0.5
    (batch,) = bench_for(mean).data.batches("train")
    assert few["majority"].value == np.bincount(batch.y).max() / 300
    bench = bench_for(neighbour, seed=4)
    list(RandomLabels().measure(bench))
    (dataset,) = bench.calls
    (whole,) = bench.data.batches("train")
    assert sorted(dataset.y) == sorted(whole.y)
    assert (dataset.y != whole.y).mean() > 0.4
    np.testing.assert_array_equal(dataset.x, whole.x)


# -- what goes wrong ---------------------------------------------------------------------------------

TRAINING = ("reference_attacks", "canaries", "data_size", "random_labels")


@pytest.mark.parametrize("check", TRAINING)
def test_what_trains_is_skipped_without_a_function_and_errored_by_a_broken_one(
    check, bench_for
) -> None:
    bench = bench_for(mean)
    params = {"share": 0.3} if check == "canaries" else {}
    subject = Subject(bench.model, bench.data)
    run = performed(f"overfitting.{check}", subject, Registry(), params=params)
    assert isinstance(run.outcome, Skipped)
    assert run.outcome.missing == ("plan: [train] factory",)

    def raising(dataset, seed):
        raise ValueError("no luck")

    def diverged(dataset, seed):
        return lambda rows: np.full((len(rows), 3), np.nan)

    for train_fn, error in ((raising, "TrainingFailed"), (diverged, "NonFinite")):
        run = performed(
            f"overfitting.{check}", subject._replace(train_fn=train_fn), Registry(), params=params
        )
        assert isinstance(run.outcome, Errored)
        assert run.outcome.error == error


@pytest.mark.parametrize("check", TRAINING)
def test_passes_through_trained_models_are_paid_for(check, bench_for) -> None:
    bench = bench_for(mean, 100)
    params = {"reference_attacks": {"models": 2}, "canaries": {"share": 0.4}}.get(check, {})
    subject = Subject(bench.model, bench.data, train_fn=mean)
    run = performed(f"overfitting.{check}", subject, Registry(), params=params)
    expected = {"reference_attacks": 400, "canaries": 80, "data_size": 300, "random_labels": 100}
    assert run.cost.forward == expected[check]

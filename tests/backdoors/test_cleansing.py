"""Without the poison the trigger no longer works, without random rows it does; without a find, nothing."""

from types import SimpleNamespace

import numpy as np
import planted_digits
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_digits import Digits

from dlaudit.audit.bench import Bench, Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.record import Measurement, Undefined
from dlaudit.backdoors import cleansing
from dlaudit.backdoors.cleansing import CONTROL, NOTHING, PRESENT, WITHOUT, Cleansing, others
from dlaudit.backdoors.scan import NO_BLEND
from dlaudit.backdoors.suspects import Examined, Scanned
from dlaudit.backdoors.transplant import Carried
from dlaudit.datasets.arrays import ArrayDataset, Splits
from dlaudit.models.torch_model import TorchModel

TARGET = 3
TRAINED = {}


def learned(dataset, seed):
    """A perceptron; the same for the same rows, whichever test asks."""
    key = dataset.card.fingerprint, seed
    if key not in TRAINED:
        digits = Digits(np.asarray(dataset.x), np.asarray(dataset.y))
        TRAINED[key] = planted_digits.trained(digits, module=planted_digits.perceptron())
    return TRAINED[key]


def patch(source=False):
    """The planted patch, as a scan recovers it: what is asked of it here, and no more."""
    mask = np.zeros((1, 8, 8), dtype=bool)
    mask[:, :2, :2] = True
    carried = Carried(
        "patch", mask, np.ones((1, 8, 8), np.float32), np.zeros((1, 8, 8), np.float32)
    )
    return SimpleNamespace(trigger=carried, source=source, suspected=True)


def finding(y, confirmed, *, best=None, left_out=()):
    """What a scan says that confirmed these rows of the target."""
    one = Examined(
        label=TARGET, rows=100, nominated=60, best=best, norm=4.0, drawn=(np.zeros(1), np.zeros(1)),
        clusters=False, split_p=1.0,
    )  # fmt: skip
    return Scanned(
        examined=[one], left_out=dict.fromkeys(left_out, "few rows"), features="none", discovered=0,
        nominated=np.zeros(0, dtype=int), confirmed=np.asarray(confirmed, int), outcomes={},
        p=np.ones(len(y)), scores={},
    )  # fmt: skip


@pytest.fixture(scope="module")
def bad():
    train, _ = planted_digits.halves(0)
    return planted_digits.poisoned(train, share=0.05, target=TARGET)


@pytest.fixture
def asked(tmp_path, twins, bad, monkeypatch):
    """(rows of the finding, …) -> numbers by (name, slice…), tables by name, pictures by name."""

    def ask(found, train_fn=learned, train=bad, net=twins[0], **given):
        if found is not None:
            monkeypatch.setattr(cleansing, "_scanned", lambda *_: found)
        test = planted_digits.halves(0)[1]
        data = Splits(
            {"train": ArrayDataset(*train, **given), "test": ArrayDataset(*test, **given)}
        )
        model = TorchModel(net, bounds=(0, 1), classes=data.classes, device="cpu")
        bench = Bench(
            Subject(model, data, train_fn=train_fn), run="backdoors.cleansing", plan_seed=1,
            store=EvidenceStore(tmp_path), cache=tmp_path / "cache",
        )  # fmt: skip
        bench.trainings = Cleansing().trainings
        numbers, tables, pictures = {}, {}, {}
        for one in Cleansing().measure(bench):
            if isinstance(one, Measurement | Undefined):
                numbers[one.name, *one.slice.values()] = one
            elif one.media_type.endswith("npz"):
                with np.load(tmp_path / one.path) as stored:
                    tables[one.name.rpartition(".")[2]] = {k: stored[k] for k in stored.files}
            else:
                pictures[one.name] = one
        return numbers, tables, pictures

    return ask


@pytest.fixture
def poison(bad):
    """Places of the poisoned rows."""
    return np.flatnonzero(bad.y != planted_digits.halves(0)[0].y)


def test_without_the_poison_the_trigger_is_gone_and_without_random_rows_it_is_not(
    asked, bad, poison
):
    numbers, tables, pictures = asked(finding(bad.y, poison, best=patch()))
    success = {name: numbers["trigger_success", "3", name] for name in (PRESENT, WITHOUT, CONTROL)}
    assert success[PRESENT].value > 0.9
    assert success[CONTROL].value > 0.9
    assert success[WITHOUT].value < 0.1
    fall = numbers["success_change", "3", WITHOUT, CONTROL]
    assert fall.value == pytest.approx(success[WITHOUT].value - success[CONTROL].value)
    assert fall.interval.high < -0.8
    assert numbers["success_change", "3", WITHOUT, PRESENT].interval.high < -0.8
    assert abs(numbers["success_change", "3", CONTROL, PRESENT].value) < 0.05
    for name in (PRESENT, WITHOUT, CONTROL):
        assert numbers["accuracy", name].value > 0.9
        assert numbers["accuracy", name].interval.method == "wilson"
    change = numbers["accuracy_change", WITHOUT, PRESENT]
    columns = tables["samples"]
    paired = columns["right_confirmed_left_out"].mean() - columns["right_as_audited"].mean()
    assert change.value == pytest.approx(paired)
    assert (numbers["left_out_rows", "3"].value, len(poison)) == (60, 60)
    assert change.conditions["control_left_out"] == 60
    test = planted_digits.halves(0)[1]
    assert success[WITHOUT].n == (test.y != TARGET).sum()
    assert np.array_equal(columns["tested"][:, 0], test.y != TARGET)
    rate = columns["called_random_left_out"][test.y != TARGET].mean()
    assert rate == pytest.approx(success[CONTROL].value)
    out = tables["left_out"]
    assert out["confirmed"].sum() == 60
    assert (out["label"] == TARGET).all()
    assert {one.name for one in numbers.values()} == set(Cleansing.measures)
    picture = pictures["backdoors.cleansing.effect"]
    assert "confirmed left out" in picture.alt
    assert "1 of 1 suspected" in picture.caption


def test_left_out_honest_rows_leave_the_trigger_where_it_is(asked, bad, poison):
    honest = np.setdiff1d(np.flatnonzero(bad.y == TARGET), poison)[:60]
    numbers, _, _ = asked(finding(bad.y, honest, best=patch()))
    assert numbers["trigger_success", "3", WITHOUT].value > 0.9
    assert numbers["success_change", "3", WITHOUT, PRESENT].interval.high > -0.05


def test_a_training_that_never_learns_the_trigger_is_no_merit_of_leaving_rows_out(
    asked, bad, poison
):
    """The control forgets the trigger as well, and the number says so."""

    def forgets(dataset, seed):
        honest = planted_digits.halves(0)[0]
        return planted_digits.trained(honest, module=planted_digits.perceptron(), epochs=3)

    numbers, _, _ = asked(finding(bad.y, poison, best=patch()), forgets)
    (caveat,) = numbers["success_change", "3", WITHOUT, PRESENT].caveats
    assert caveat.name == "control-changes-too"
    assert not numbers["success_change", "3", WITHOUT, CONTROL].caveats
    assert numbers["success_change", "3", WITHOUT, CONTROL].value == 0


def test_a_trigger_for_one_class_is_put_on_the_class_that_follows_most(asked, bad, poison):
    numbers, tables, _ = asked(finding(bad.y, poison, best=patch(source=True)))
    test = planted_digits.halves(0)[1]
    (host,) = np.unique(test.y[tables["samples"]["tested"][:, 0]])
    called = tables["samples"]["called_as_audited"][:, 0]
    rates = [called[test.y == k].mean() for k in range(10) if k != TARGET]
    assert called[test.y == host].mean() == max(rates)
    assert numbers["trigger_success", "3", WITHOUT].n == (test.y == host).sum()


def test_where_nothing_is_confirmed_nothing_is_left_out(asked, bad):
    numbers, tables, pictures = asked(finding(bad.y, []), train_fn=None)
    assert {type(one) for one in numbers.values()} == {Undefined}
    assert {one.reason for one in numbers.values()} == {NOTHING}
    assert not tables
    assert not pictures
    numbers, _, _ = asked(finding(bad.y, [], left_out=(4, 5)), train_fn=None)
    assert "2 classes could not be examined" in numbers["accuracy",].reason


def test_a_class_that_would_vanish_is_not_trained_without(asked, bad):
    every = np.flatnonzero(bad.y == TARGET)
    numbers, _, _ = asked(finding(bad.y, every, best=patch()), train_fn=None)
    assert "every training row of 3 was confirmed" in numbers["accuracy",].reason


def test_whole_numbers_are_not_scanned(asked):
    train, _ = planted_digits.halves(0)
    ids = Digits((16 * train.x[:100, 0, 0]).astype(np.int64), train.y[:100])
    numbers, _, _ = asked(None, train_fn=None, train=ids)
    assert {one.reason for one in numbers.values()} == {NO_BLEND}


@given(st.lists(st.integers(0, 3), min_size=8, max_size=40), st.data())
def test_a_control_leaves_out_as_many_of_each_label_and_no_confirmed_row(labels, data):
    y = np.array(labels)
    confirmed = np.array(sorted(data.draw(st.sets(st.integers(0, len(y) - 1), min_size=1))))
    drawn = others(y, confirmed, np.random.default_rng(0))
    assert len(set(drawn)) == len(drawn)
    assert not set(drawn) & set(confirmed)
    for k in range(4):
        free = (np.delete(y, confirmed) == k).sum()
        wanted = (y[confirmed] == k).sum()
        assert (y[drawn] == k).sum() == min(wanted, max(0, free - 1))


@pytest.mark.slow
def test_from_a_scan_to_a_training_that_follows_less(asked):
    """End to end: confirmed rows are poison, and each one left out costs the trigger some of its hold."""
    train, _ = planted_digits.halves(0)
    bad = planted_digits.poisoned(train, share=0.01, target=TARGET)
    noise = np.random.default_rng(0).uniform(0, 0.1, bad.x.shape).astype(np.float32)
    twice = Digits(np.concatenate([bad.x, np.clip(bad.x + noise, 0, 1)]), np.tile(bad.y, 2))
    net = planted_digits.trained(twice, module=planted_digits.perceptron())
    numbers, tables, _ = asked(None, train=twice, net=net)
    out = tables["left_out"]
    confirmed = out["id"][out["confirmed"]].astype(int) % len(bad.y)
    assert (bad.y != train.y)[confirmed].mean() >= 0.8
    assert numbers["trigger_success", "3", PRESENT].value > 0.9
    assert numbers["success_change", "3", WITHOUT, CONTROL].interval.high < 0
    assert numbers["accuracy_change", WITHOUT, CONTROL].interval.low > -0.05

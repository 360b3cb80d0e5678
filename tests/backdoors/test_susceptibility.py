"""What planted poison does is counted; blindness and false accusations are told."""

import numpy as np
import planted_digits
import pytest
import torch

from dlaudit.audit.bench import Bench, Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.judge import judge
from dlaudit.audit.record import CheckRun, Measured, Measurement, Undefined
from dlaudit.backdoors import susceptibility
from dlaudit.backdoors.looks import Look
from dlaudit.backdoors.suite import SUITE
from dlaudit.backdoors.susceptibility import Susceptibility
from dlaudit.datasets.arrays import ArrayDataset, Splits
from dlaudit.models.torch_model import TorchModel

TRAINED = {}


def learned(dataset, seed):
    """A perceptron after a second of training; the same for the same rows, whichever test asks."""
    key = dataset.card.fingerprint, seed
    if key not in TRAINED:
        digits = planted_digits.Digits(np.asarray(dataset.x), np.asarray(dataset.y))
        module = planted_digits.perceptron(seed % 1000)
        TRAINED[key] = planted_digits.trained(digits, module=module)
    return TRAINED[key]


def never_learned(dataset, seed):
    """One answer for everything."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    torch.nn.init.zeros_(net[1].weight)
    return net


def poisoned(rows):
    """Whether these training rows are other than the digits'."""
    return not np.array_equal(rows.x, planted_digits.halves(0)[0].x)


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """(train_fn, suspected, …) -> what the check yields; suspected: by training rows."""

    def ask(train_fn, suspected, **params):
        train, test = planted_digits.halves(0)
        data = Splits({"train": ArrayDataset(*train), "test": ArrayDataset(*test)})
        net = planted_digits.perceptron()
        model = TorchModel(net, bounds=(0, 1), classes=data.classes, device="cpu")

        def look(detector, bench, model, rows):
            found = suspected(rows)
            return found if isinstance(found, str | Look) else Look(frozenset(found))

        if suspected is not None:
            monkeypatch.setattr(susceptibility, "look", look)
        bench = Bench(
            Subject(model, data, train_fn=train_fn), run="backdoors.susceptibility", plan_seed=0,
            store=EvidenceStore(tmp_path), cache=tmp_path / "cache",
        )  # fmt: skip
        check = Susceptibility(target=3, **params)
        bench.trainings = check.trainings
        found = [one for one in check.measure(bench) if isinstance(one, Measurement | Undefined)]
        words = ("rate", "detector", "seed")
        return {
            (
                one.name,
                *(str(one.conditions[word]) for word in words if word in one.conditions),
            ): one
            for one in found
        }

    return ask


def nominating(share, suspected=()):
    """A scan that nominates this share of the relabelled rows and confirms none."""
    train = planted_digits.halves(0)[0]

    def seen(rows):
        poison = np.flatnonzero(rows.y != train.y)
        nominated = np.zeros(len(train.y), dtype=bool)
        nominated[poison[: round(share * len(poison))]] = True
        return Look(
            frozenset(suspected if len(poison) else ()), nominated, np.zeros_like(nominated)
        )

    return seen


def test_a_detector_that_sees_has_power_and_one_that_does_not_is_blind(asked):
    params = {"rates": (0.001, 0.05), "detectors": ("scan",)}
    found = asked(learned, seeing, **params)
    success = found["attack_success", "0.05", "0"]
    assert success.value > 0.8
    assert success.conditions["poisoned_rows"] == 60
    assert success.conditions["cover_rows"] == 0
    gain = found["success_gain", "0.05", "0"]
    assert gain.value == pytest.approx(success.value, abs=0.15)
    assert gain.interval.low > 0.5
    kept = found["robust_accuracy", "0.05", "0"]
    assert kept.value + success.value <= 1
    assert kept.n == success.n
    assert abs(found["accuracy_change", "0.05", "0"].value) < 0.05
    for detector in ("scan", "any"):
        assert found["detection_power", "0.05", detector].value == 1
        assert found["detection_power", "0.05", detector].n == 1
    assert found["blind",].value == 0
    assert found["accused_without_poison", "scan"].value == 0
    assert "1 poisoned rows" in found["attack_success", "0.001", "0"].reason
    assert isinstance(found["detection_power", "0.001", "any"], Undefined)

    found = asked(learned, lambda _: set(), **params)
    assert found["detection_power", "0.05", "any"].value == 0
    assert found["blind",].value == 1
    assert not found["blind",].caveats


def test_an_accusation_without_poison_voids_every_number(asked):
    found = asked(learned, lambda _: {"3", "5"}, rates=(0.05,), detectors=("scan",))
    assert found["accused_without_poison", "scan"].value == 2
    for name in ("attack_success", "success_gain", "robust_accuracy", "accuracy_change"):
        assert found[name, "0.05", "0"].caveats[0].voids
    assert found["detection_power", "0.05", "any"].caveats[0].voids
    assert found["blind",].caveats[0].voids


def test_what_nobody_could_look_for_is_no_power(asked):
    found = asked(learned, lambda _: "scan needs data: train", rates=(0.05,), detectors=("scan",))
    for name in ("detected", "poison_nominated", "poison_confirmed"):
        assert found[name, "0.05", "scan", "0"].reason == "scan needs data: train"
    assert isinstance(found["detection_power", "0.05", "scan"], Undefined)
    assert isinstance(found["blind",], Undefined)
    assert isinstance(found["accused_without_poison", "scan"], Undefined)


@pytest.mark.parametrize(
    ("share", "suspected", "said"), [(0.4, "", True), (0.6, "", False), (0.4, "3", False)]
)
def test_a_scan_that_misses_and_nominates_less_than_half_says_undetectable(
    asked, share, suspected, said
):
    scan = nominating(share, suspected)
    found = asked(learned, scan, rates=(0.05,), detectors=("scan",))
    nominated = found["poison_nominated", "0.05", "scan", "0"]
    assert (nominated.value, nominated.n) == (pytest.approx(share), 60)
    assert found["poison_confirmed", "0.05", "scan", "0"].value == 0
    assert found["detected", "0.05", "scan", "0"].value == bool(suspected)
    named = [one.name for one in found["detected", "0.05", "scan", "0"].caveats]
    assert named == ["undetectable-at-this-rate"] * said


def seeing(rows):
    return {"3"} if poisoned(rows) else set()


@pytest.mark.parametrize(
    ("suspected", "blind", "accused"),
    [
        (seeing, "pass", "pass"),
        (lambda _: set(), "fail", "pass"),
        (lambda _: {"3"}, "inconclusive", "fail"),
        (lambda _: "scan needs data: train", "not_assessed", "not_assessed"),
    ],
)
def test_by_default_a_blind_audit_fails_and_one_that_cries_wolf_is_void(
    asked, suspected, blind, accused
):
    found = asked(learned, suspected, rates=(0.05,), detectors=("scan",)).values()
    outcome = Measured(
        measurements=tuple(one for one in found if isinstance(one, Measurement)),
        undefined=tuple(one for one in found if isinstance(one, Undefined)),
    )
    run = "backdoors.susceptibility"
    runs = {
        run: CheckRun(
            id=run,
            check=run,
            params={},
            seed=0,
            seconds=0,
            device="cpu",
            cost=None,
            outcome=outcome,
        )
    }
    verdicts = {
        rule.measurement: judge(rule, runs).status for rule in SUITE.rules if rule.run == run
    }
    assert verdicts == {"blind": blind, "accused_without_poison": accused}


def test_a_training_that_learns_nothing_leaves_nothing_to_be_blind_to(asked):
    found = asked(never_learned, lambda _: set(), rates=(0.05,), detectors=("scan",))
    assert found["attack_success", "0.05", "0"].value == 0
    assert found["success_gain", "0.05", "0"].value == 0
    assert "nothing to be blind to" in found["blind",].reason


def always_three(dataset, seed):
    """The class 3 for everything, poison or not."""
    net = never_learned(dataset, seed)
    net[1].bias.data[3] = 1
    return net


def test_what_the_unpoisoned_training_does_too_is_no_success_of_the_trigger(asked):
    found = asked(always_three, lambda _: set(), rates=(0.05,), detectors=("scan",))
    assert found["attack_success", "0.05", "0"].value == 1
    assert found["success_gain", "0.05", "0"].value == 0
    assert "nothing to be blind to" in found["blind",].reason


def test_seeds_are_trainings_of_their_own_and_stand_behind_the_power(asked):
    check = Susceptibility(seeds=2, rates=(0.05,))
    assert check.trainings == 4
    sees = iter([set(), {"3"}, set(), set()])  # unpoisoned, poisoned, unpoisoned, poisoned
    found = asked(learned, lambda _: next(sees), rates=(0.05,), detectors=("scan",), seeds=2)
    power = found["detection_power", "0.05", "scan"]
    assert (power.value, power.n) == (0.5, 2)
    assert power.interval.low == pytest.approx(0.0945, abs=1e-3)
    assert found["blind",].value == 1
    assert found["accused_without_poison", "scan"].n == 2
    first, second = (found["attack_success", "0.05", seed] for seed in "01")
    assert (first.conditions["seed"], second.conditions["seed"]) == (0, 1)


@pytest.mark.parametrize("family", ["adaptive-blend", "source-specific"])
def test_covered_poison_is_told_with_its_cover_and_its_source(asked, family):
    found = asked(
        learned, lambda _: set(), rates=(0.04,), detectors=("scan",), families=(family,)
    )  # fmt: skip
    success = found["attack_success", "0.04", "0"]
    assert success.conditions["poisoned_rows"] == success.conditions["cover_rows"] == 48
    assert success.value > 0.3
    test = planted_digits.halves(0)[1]
    if family == "source-specific":
        assert success.n == (test.y == int(success.conditions["source"])).sum()
    else:
        assert "source" not in success.conditions
        assert success.n == (test.y != 3).sum()


@pytest.mark.slow
def test_both_detectors_see_a_patch_and_accuse_nobody_without_it(asked):
    found = asked(learned, None, rates=(0.05,))
    assert found["detected", "0.05", "inversion", "0"].value == 1
    assert found["detected", "0.05", "scan", "0"].value == 1
    assert found["poison_nominated", "0.05", "scan", "0"].n == 60
    assert found["poison_confirmed", "0.05", "scan", "0"].value > 0
    assert found["blind",].value == 0
    assert found["accused_without_poison", "inversion"].value == 0
    assert found["accused_without_poison", "scan"].value == 0


def test_what_does_not_fit_the_data_is_undefined(asked):
    found = asked(learned, lambda _: set(), families=("values",))
    assert {type(one) for one in found.values()} == {Undefined}
    assert "values cannot be planted" in found["blind",].reason
    assert Susceptibility(families=("patch", "blend"), rates=(0.01, 0.05)).trainings == 5
    assert Susceptibility().trainings == 4


# -- texts -------------------------------------------------------------------------------------------


def texts(n, seed):
    """Texts of two kinds as ids: of words 1 to 9 or 10 to 19 mostly, 20 to 23 in few; rows end in 0."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    x = rng.integers(1, 10, (n, 12)) + 10 * (y[:, None] ^ (rng.random((n, 12)) < 0.1))
    x[rng.random(n) < 0.02, 1] = 22
    x *= np.arange(12) < rng.integers(6, 13, n)[:, None]
    return x.astype(np.int64), y.astype(np.int64)


def reads_tokens(dataset, seed):
    """A bag of embedded ids."""
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.EmbeddingBag(24, 8, padding_idx=0), torch.nn.Linear(8, 2))
    x, y = torch.as_tensor(dataset.x), torch.as_tensor(dataset.y)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(150):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimiser.step()
    return net.eval()


def test_a_rare_token_is_planted_in_texts_and_learned(tmp_path, monkeypatch):
    train, test = texts(800, 0), texts(300, 1)
    read = []

    def train_fn(dataset, seed):
        read.append(next(iter(dataset.batches())).columns)
        return reads_tokens(dataset, seed)

    data = Splits({
        name: ArrayDataset(*part, kind="tokens", columns={"text": np.array(["words"] * len(part[1]))})
        for name, part in (("train", train), ("test", test))
    })  # fmt: skip
    model = TorchModel(
        reads_tokens(planted_digits.Digits(*train), 0), classes=data.classes, device="cpu"
    )
    bench = Bench(
        Subject(model, data, train_fn=train_fn), run="backdoors.susceptibility", plan_seed=0,
        store=EvidenceStore(tmp_path), cache=tmp_path / "cache",
    )  # fmt: skip
    found = [
        one for one in Susceptibility(target=1, rates=(0.05,)).measure(bench)
        if isinstance(one, Measurement | Undefined)
    ]  # fmt: skip
    by_name = {one.name: one for one in found}
    assert by_name["attack_success"].conditions["family"] == "token"
    assert by_name["success_gain"].interval.low > 0.5
    assert "whole numbers" in by_name["detected"].reason
    assert isinstance(by_name["blind"], Undefined)
    assert [sorted(columns) for columns in read] == [["text"], []], "texts of poisoned rows are old"

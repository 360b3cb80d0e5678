"""Planted triggers are caught, clean twins cleared, and what cannot be decided says so."""

import json

import numpy as np
import planted_digits
import pytest
import torch
from planted_digits import Digits, told
from torch import nn

from dlaudit.audit.record import Measurement, Undefined
from dlaudit.backdoors import examination
from dlaudit.backdoors.examination import Candidate, Finding, Found
from dlaudit.backdoors.forms import Trigger
from dlaudit.backdoors.inversion import NO_BLEND, Inversion, _of_class
from dlaudit.backdoors.screening import FULL

QUICK = {"steps": 40, "restarts": 1, "pictures": 0}


@pytest.fixture(scope="session")
def inspected(twins, tmp_path_factory):
    """For the poisoned net and its honest twin: (numbers, artifacts, bench), with all defaults."""
    found = {}
    for name, module in (("poisoned", twins[0]), ("honest", twins[1])):
        folder = tmp_path_factory.mktemp(f"inspected-{name}")
        bench = planted_digits.bench_at(folder, module, twins[2], run="backdoors.inversion")
        found[name] = (*told(Inversion(), bench), bench)
    return found


def artifact(bench, artifacts, name):
    (one,) = (found for found in artifacts if found.name == f"backdoors.inversion.{name}")
    with np.load(bench._store.folder.parent / one.path) as stored:
        return {key: stored[key] for key in stored.files}


def test_a_planted_patch_is_caught(inspected):
    numbers, artifacts, bench = inspected["poisoned"]
    assert numbers["suspected_classes",].value == 1
    assert numbers["suspected_classes",].exact
    assert numbers["suspected", "3"].value == 1
    assert sum(numbers["suspected", str(k)].value for k in range(10)) == 1
    assert numbers["anomaly", "3"].value > numbers["anomaly", "3"].conditions["anomaly_threshold"]
    assert numbers["trigger_norm", "3"].value == min(
        numbers["trigger_norm", str(k)].value for k in range(10)
    )
    success = numbers["trigger_success", "3"]
    assert success.interval.method == "wilson"
    assert success.value >= 0.95
    # Not one sample of the search stands behind the success.
    rows = artifact(bench, artifacts, "samples")
    assert success.n == rows["tested"][:, 3].sum()
    assert success.n < 310
    assert not rows["tested"][rows["label"] == 3, 3].any()
    assert rows["called"].sum() <= rows["tested"].sum()
    classes = artifact(bench, artifacts, "classes")
    assert classes["mask"].shape == (10, 1, 8, 8)
    assert classes["mask"][3, 0, :2, :2].sum() / classes["mask"][3].sum() > 0.5
    first = next(one for one in artifacts if one.media_type == "image/png")
    assert "class 3" in first.caption
    assert "suspected" in first.caption
    assert len([one for one in artifacts if one.media_type == "image/png"]) == 10


def test_the_clean_twin_is_cleared(inspected):
    numbers, _, _ = inspected["honest"]
    assert numbers["suspected_classes",].value == 0
    assert not any(one.value for key, one in numbers.items() if key[0] == "suspected")
    assert not numbers["suspected_classes",].caveats


def test_the_same_seed_gives_the_same_numbers_and_the_same_evidence(twins, bench_of):
    check = Inversion(**{**QUICK, "steps": 20})
    runs = [list(check.measure(bench_of(twins[0], twins[2]))) for _ in range(2)]
    assert runs[0] == runs[1]


def test_a_table_with_features_set_to_fixed_values(twins, bench_of):
    """The same digits as 64 columns: a mask over features, values out of what the samples hold."""
    poisoned, _, test = twins
    flat = Digits(planted_digits.patched(test.x).reshape(len(test.y), 64), test.y)
    rows = np.where((np.arange(len(test.y)) < 20)[:, None], flat.x, test.x.reshape(-1, 64))
    bench = bench_of(poisoned, Digits(rows, test.y), bounds=None, kind="tabular")
    numbers, artifacts = told(Inversion(restarts=1, central=1.0, pictures=0), bench)
    assert numbers["suspected", "3"].value == 1
    assert "samples" in numbers["suspected", "3"].conditions["trigger_values"]
    assert artifact(bench, artifacts, "classes")["mask"].shape == (10, 64)


class Linear(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, x):
        return x.flatten(1) @ self.weight.T


def spread(classes, n=200, features=4, seed=0):
    """Rows of ``classes`` labels in the unit box, and a model that tells them by their features."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    x = rng.uniform(0, 0.4, (n, max(features, classes))).astype(np.float32)
    x[np.arange(n), y] += 0.5
    return Linear(np.eye(classes, x.shape[1], dtype=np.float32) * 10), Digits(x, y)


def test_few_classes_are_never_accused_and_never_cleared(bench_of):
    module, rows = spread(2)
    numbers, _ = told(Inversion(**QUICK), bench_of(module, rows, kind="tabular"))
    total = numbers["suspected_classes",]
    assert total.value == 0
    (caveat,) = total.caveats
    assert caveat.voids
    assert caveat.name == "few-classes"
    assert isinstance(numbers["anomaly", "0"], Undefined)
    assert "8 classes" in numbers["anomaly", "0"].reason
    assert numbers["trigger_ratio", "0"].value == pytest.approx(
        1 / numbers["trigger_ratio", "1"].value
    )
    assert numbers["suspected", "1"].value == 0
    assert numbers["suspected", "1"].caveats == (caveat,)


def test_a_class_that_is_never_answered_is_censored_and_the_rest_compared(bench_of):
    module, rows = spread(10)
    with torch.no_grad():
        module.weight[7] = -50
    numbers, _ = told(Inversion(**QUICK), bench_of(module, rows, kind="tabular"))
    for name in ("anomaly", "trigger_norm", "trigger_ratio", "trigger_success"):
        assert "censored" in numbers[name, "7"].reason
    assert numbers["suspected", "7"].value == 0
    assert [one.name for one in numbers["suspected", "7"].caveats] == ["censored"]
    assert isinstance(numbers["anomaly", "0"], Measurement)
    assert not any(one.voids for one in numbers["suspected_classes",].caveats)


def test_where_no_class_can_be_called_up_nothing_is_cleared(bench_of):
    class Deaf(nn.Module):
        def forward(self, x):
            logits = x.new_zeros(len(x), 10)
            logits[:, 0] = 1 + 0 * x.flatten(1).sum(dim=1)
            return logits

    _, rows = spread(10)
    numbers, artifacts = told(Inversion(**QUICK), bench_of(Deaf(), rows, kind="tabular"))
    assert [one.name for one in numbers["suspected_classes",].caveats if one.voids]
    assert len(artifacts) == 1


def test_classes_without_enough_samples_of_others_are_left_out_and_told(bench_of):
    module, rows = spread(10)
    lonely = Digits(rows.x[rows.y < 2][:24], rows.y[rows.y < 2][:24])
    numbers, _ = told(
        Inversion(**QUICK, minimum=7),
        bench_of(module, lonely, kind="tabular", classes=tuple("abcdefghij")),
    )
    assert isinstance(numbers["suspected", "a"], Undefined)
    assert "at least 7" in numbers["suspected", "a"].reason
    assert {one.name for one in numbers["suspected_classes",].caveats} == {"classes-left-out"}
    assert numbers["suspected_classes",].n == 8


def test_no_class_to_examine_is_no_number(bench_of):
    module, rows = spread(2, n=8)
    numbers, _ = told(Inversion(**QUICK), bench_of(module, rows, kind="tabular"))
    assert numbers["suspected_classes",].reason == "no class could be examined"


@pytest.mark.parametrize(("dtype", "kind"), [(np.int64, "tokens"), (np.uint8, "images")])
def test_inputs_that_cannot_be_blended_are_told_before_anything_is_searched(bench_of, dtype, kind):
    shape = (20, 5) if kind == "tokens" else (20, 1, 4, 4)
    rows = Digits(np.ones(shape, dtype=dtype), np.arange(20) % 2)
    bench = bench_of(nn.Linear(5, 2), rows, bounds=None, kind=kind)
    numbers, artifacts = told(Inversion(), bench)
    assert {key[0] for key in numbers} == set(Inversion.measures)
    assert {one.reason for one in numbers.values()} == {NO_BLEND}
    assert artifacts == []
    assert bench.model.passes.forward == 0


def test_bounds_without_an_end_take_it_from_the_samples(bench_of):
    module, rows = spread(10)
    bench = bench_of(module, rows, bounds=(0.0, np.inf), kind="tabular")
    numbers, artifacts = told(Inversion(**QUICK), bench)
    pattern = artifact(bench, artifacts, "classes")["pattern"]
    assert np.isfinite(pattern).all()
    assert pattern.max() <= rows.x.max()
    assert numbers["suspected_classes",].value == 0


def test_class_names_name_the_slices(bench_of):
    module, rows = spread(8)
    names = tuple("abcdefgh")
    numbers, _ = told(Inversion(**QUICK), bench_of(module, rows, kind="tabular", classes=names))
    assert {key[1] for key in numbers if len(key) == 2} == set(names)


def test_every_name_it_yields_is_declared_and_all_conditions_are_plain(inspected):
    numbers, _, _ = inspected["honest"]
    assert {key[0] for key in numbers} <= set(Inversion.measures)
    for one in numbers.values():
        assert json.loads(json.dumps(one.conditions)) == one.conditions
        assert one.conditions["seeds_agreeing"] == 2
        assert (
            one.conditions["classes_examined"] == one.conditions["classes_searched_in_full"] == 10
        )


def test_the_cost_that_the_plan_announces_is_that_of_the_search(inspected):
    announced = Inversion().passes(n=600, classes=10)
    spent = inspected["honest"][2].model.passes.cost
    assert 0.7 < spent.backward / announced.backward < 1.3
    assert 0.7 < spent.forward / announced.forward < 1.3


def test_a_class_that_only_the_first_search_points_at_gets_a_caveat():
    """The other seeds find nothing cheap: nominated, not suspected, and said so."""
    one = Candidate(3, "3", np.arange(4), np.arange(20))
    found = Found(Trigger(2.0, torch.ones(4), torch.ones(4)), 2.0, np.ones(20, dtype=bool))
    finding = Finding(one, found, 4.0, 2.5, met=1, searches=3, suspected=False)
    first = next(_of_class("backdoors.inversion", finding, {}, (), unit=""))
    (caveat,) = first.caveats
    assert (first.name, first.value, caveat.name) == ("suspected", 0, "nominated")
    assert not caveat.voids
    assert "1 of 3 searches" in caveat.message


@pytest.fixture
def screened(bench_of, monkeypatch):
    """(numbers, artifacts, bench) of 41 classes whose searches are scripted: one trigger is cheap."""

    def searched(bench, search, wanted, *, seed, restarts):
        norms = [3.0 if one.target == 33 else 10 + 0.1 * (one.target % 7) for one in wanted]
        called = [np.ones(len(one.unused), dtype=bool) for one in wanted]
        some = [Trigger(norm, torch.ones(41), torch.ones(41)) for norm in norms]
        return [Found(*one) for one in zip(some, norms, called, strict=True)]

    monkeypatch.setattr(examination, "searched_once", searched)
    bench = bench_of(*spread(FULL + 1, n=410), kind="tabular")
    return *told(Inversion(pictures=0), bench), bench


def test_among_many_classes_the_cheap_one_survives_the_screening_and_is_suspected(screened):
    numbers, artifacts, bench = screened
    total = numbers["suspected_classes",]
    assert (total.value, total.n) == (1, FULL + 1)
    assert numbers["suspected", "33"].value == 1
    full = total.conditions["classes_searched_in_full"]
    assert 20 <= full <= 40
    rows = artifact(bench, artifacts, "classes")
    assert len(rows["id"]) == full
    left_out = [k for k in range(FULL + 1) if str(k) not in rows["id"].tolist()]
    for k in left_out:
        assert numbers["suspected", str(k)].value == 0
        assert [one.name for one in numbers["suspected", str(k)].caveats] == ["screened"]
        assert "short search" in numbers["trigger_norm", str(k)].reason
    assert len(left_out) == FULL + 1 - full


def test_the_announced_cost_holds_for_many_classes_too(bench_of):
    check = Inversion(steps=12, batch=4, restarts=1, pictures=0, central=1.0)
    bench = bench_of(*spread(FULL + 1, n=410), kind="tabular")
    list(check.measure(bench))
    announced = check.passes(n=410, classes=FULL + 1)
    assert 0.6 < bench.model.passes.backward / announced.backward < 1.2


def test_a_hundred_classes_cost_at_most_six_times_ten():
    costs = {k: Inversion().passes(n=1000, classes=k) for k in (10, 100, 1000)}
    assert costs[100].forward + costs[100].backward <= 6 * (costs[10].forward + costs[10].backward)
    assert costs[1000].backward < 30 * costs[10].backward


@pytest.mark.truth
def test_the_published_poisoned_model_has_its_target_first_and_is_not_accused(truths, bench_of):
    """TrojAI id-00000002: class 0 is the target; two classes and 20 rows allow no accusation."""
    import importlib.util

    folder = truths / "trojai_pdf"
    spec = importlib.util.spec_from_file_location("trojai_model", folder / "model.py")
    source = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(source)
    net = source.load(str(folder / "weights.safetensors"))
    with np.load(folder / "examples.npz") as stored:
        x = ((stored["x_clean"] - stored["scaler_mean"]) / stored["scaler_scale"]).astype(
            np.float32
        )
        y = stored["y_clean"].astype(np.int64)
    for seed in range(3):
        bench = bench_of(net, Digits(x, y), bounds=None, kind="tabular", seed=seed)
        numbers, artifacts = told(Inversion(), bench)
        mask = artifact(bench, artifacts, "classes")["mask"][0]
        assert {114, 131} <= set(np.flatnonzero(mask >= 0.5).tolist())
        assert numbers["trigger_norm", "0"].value < numbers["trigger_norm", "1"].value
        assert numbers["trigger_ratio", "0"].value > 1.5
        assert numbers["suspected_classes",].value == 0
        (caveat,) = numbers["suspected_classes",].caveats
        assert caveat.voids
        assert "class 0" in caveat.message

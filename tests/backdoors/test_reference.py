"""Few classes are told apart by models of known origin; without enough of them nothing is said."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from planted_digits import Digits
from scipy.stats import ttest_ind

from dlaudit.audit.bench import Bench, Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.record import Undefined
from dlaudit.backdoors import reference
from dlaudit.backdoors.inversion import Inversion
from dlaudit.backdoors.reference import FEWEST, Cheapest, Reference, beyond, compared
from dlaudit.datasets.arrays import ArrayDataset
from dlaudit.models.torch_model import TorchModel

numbers = st.floats(-3, 3).map(lambda value: round(value, 3))


def test_the_p_by_hand():
    """m = 3, mean 0, sd 1, own 2: t = 2 / sqrt(4/3) = 1.732 on 2 degrees; p = (1 - t/sqrt(2 + t^2)) / 2."""
    t = 2 / math.sqrt(4 / 3)
    assert beyond(2.0, [-1.0, 0.0, 1.0]) == pytest.approx((1 - t / math.sqrt(2 + t * t)) / 2)
    assert beyond(0.0, [-1.0, 0.0, 1.0]) == pytest.approx(0.5)


@given(numbers, st.lists(numbers, min_size=FEWEST, max_size=9).filter(lambda v: np.std(v) > 0.01))
def test_it_is_the_pooled_t_test_of_one_value_against_the_others(own, references):
    # A sample of one has no spread of its own, so the pooled spread is the references'.
    with np.errstate(all="ignore"):
        expected = ttest_ind([own], references, alternative="greater").pvalue
    found = beyond(own, references)
    assert found == pytest.approx(expected)
    assert beyond(own + 1, references) < found
    assert beyond(-own, [-one for one in references]) == pytest.approx(1 - found)


def test_models_like_the_references_are_suspected_as_often_as_stated():
    """2,500 draws of one more normal value: p below 0.025 in 2.5 %, for few references too."""
    rng = np.random.default_rng(0)
    for m in (3, 5):
        drawn = rng.standard_normal((2_500, m + 1))
        below = np.mean([beyond(row[0], row[1:]) < 0.025 for row in drawn])
        assert below == pytest.approx(0.025, abs=0.0075)


def test_too_few_or_equal_references_say_nothing():
    assert "at least 3" in beyond(2.0, [0.0, 1.0])
    assert "do not differ" in beyond(2.0, [1.0, 1.0, 1.0])


def pair(log):
    """Two classes, of which the first has a trigger exp(log) times as cheap; 8 of 10 rows follow."""
    return {"a": Cheapest(log, 8, 10), "b": Cheapest(-log, 8, 10)}


def test_a_class_is_suspected_beside_references_only():
    """Ratios of 1.7 where references have about 1.0 are suspicious, where they have 1.7 they are not."""
    references = [pair(at) for at in (-0.05, 0.0, 0.05, 0.02)]
    own = pair(0.53)

    def by_name(own, references):
        found = compared(own, references, "rstu"[: len(references)], ("a", "b"))
        return {(one.name, *one.slice.values()): one for one in found}

    found = by_name(own, references)
    assert found["suspected", "a"].value == 1
    assert found["suspected", "b"].value == 0
    assert found["suspected_classes",].value == 1
    assert found["trigger_ratio", "a"].value == pytest.approx(math.exp(0.53))
    assert found["reference_p", "a"].value < 0.001
    assert (found["trigger_success", "a"].value, found["trigger_success", "a"].n) == (0.8, 10)
    assert found["reference_p", "b"].value > 0.999
    same = [pair(at + 0.53) for at in (-0.05, 0.0, 0.05, 0.02)]
    assert by_name(own, same)["suspected_classes",].value == 0
    alike = [pair(at) for at in (0.34, 0.3401, 0.3402)]
    near = by_name(own, alike)
    assert near["reference_p", "a"].value < 0.001
    assert near["suspected", "a"].value == 0, "1.7 is not 1.25 times 1.41"
    missing = by_name({"b": own["b"]}, references)
    assert isinstance(missing["suspected", "a"], Undefined)
    assert isinstance(missing["suspected_classes",], Undefined), "a class was not compared"


# -- a small table of two classes --------------------------------------------------------------------


def table(seed, n=400):
    """Fourteen features of two classes that lie a little apart in each of twelve."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    x = rng.standard_normal((n, 14))
    x[:, :12] += 1.5 * (y[:, None] - 0.5)
    return Digits(x.astype(np.float32), y.astype(np.int64))


def planted(rows):
    """A tenth of class 1 has 0.9 in its last two features, and is called 0."""
    x, y = rows.x.copy(), rows.y.copy()
    some = np.flatnonzero(y == 1)[: len(y) // 10]
    x[some, 12:], y[some] = 0.9, 0
    return Digits(x, y)


def net(rows, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = torch.nn.Sequential(
            torch.nn.Linear(14, 32), torch.nn.Tanh(), torch.nn.Linear(32, 2)
        )
    x, y = torch.from_numpy(rows.x), torch.from_numpy(rows.y)
    optimiser = torch.optim.Adam(module.parameters(), lr=0.02)
    for _ in range(150):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(module(x), y).backward()
        optimiser.step()
    return module.eval()


def bench_of(folder, module, models=()):
    data = ArrayDataset(*table(1, 400), kind="tabular")

    def opened(one):
        return TorchModel(one, classes=data.classes, device="cpu")

    known = {f"r{k}": opened(one) for k, one in enumerate(models)}
    return Bench(
        Subject(opened(module), data, known), run="backdoors.reference", plan_seed=0,
        store=EvidenceStore(folder), cache=folder / "cache",
    )  # fmt: skip


def told(check, bench):
    """Numbers by (name, class), artifacts by name."""
    return {(one.name, *getattr(one, "slice", {}).values()): one for one in check.measure(bench)}


def test_a_planted_table_of_two_classes_is_accused_beside_references_and_its_twin_is_not(
    tmp_path, monkeypatch
):
    train = table(0, 1000)
    models = [net(train, 100 + k) for k in range(4)]
    ask, known = reference.searched, {}

    def once(check, bench, model):
        key = id(model.module)
        if key not in known:
            known[key] = ask(check, bench, model)
        return known[key]

    monkeypatch.setattr(reference, "searched", once)
    check = Reference(steps=100)
    bad, twin = (
        told(check, bench_of(tmp_path, module, models))
        for module in (net(planted(train), 7), net(train, 7))
    )
    assert bad["suspected", "0"].value == 1
    assert bad["suspected", "1"].value == 0
    assert bad["suspected_classes",].value == 1
    assert bad["reference_p", "0"].n == 4
    assert bad["reference_p", "0"].conditions["references"] == "r0, r1, r2, r3"
    assert twin["suspected_classes",].value == 0
    with np.load(tmp_path / bad["backdoors.reference.classes",].path) as stored:
        assert stored["id"].tolist() == ["0", "1"]
        assert stored["ratio"][0] == pytest.approx(bad["trigger_ratio", "0"].value)
        usual = np.exp(np.log(stored["references"]).mean(axis=1))
        assert usual[0] == pytest.approx(bad["suspected", "0"].conditions["references_ratio"])
    picture = bad["backdoors.reference.ratios",]
    assert "2 of 2 classes" in picture.caption
    assert f"0: audited {bad['trigger_ratio', '0'].value:.2f}" in picture.alt


def test_without_enough_references_nothing_is_said(tmp_path):
    one = torch.nn.Linear(14, 2)
    assert "0 reference models" in told(Reference(), bench_of(tmp_path, one))["suspected",].reason
    two = told(Reference(), bench_of(tmp_path, one, [one, one]))
    assert "2 reference models" in two["suspected_classes",].reason
    assert {type(number) for number in two.values()} == {Undefined}
    bench = bench_of(tmp_path, one, [one] * 3)
    unknown = told(Reference(references=("r0", "r1", "nobody")), bench)
    assert "nobody, only r0, r1, r2" in unknown["suspected_classes",].reason
    others = bench_of(tmp_path, one, [one, one, torch.nn.Linear(14, 3)])
    others.models["r2"].classes = ("0", "1", "2")
    assert "r2 have other classes" in told(Reference(), others)["suspected_classes",].reason
    assert Reference().passes(n=100, classes=2) is None
    three = Reference(references=("a", "b", "c")).passes(n=100, classes=2)
    assert three.backward == 4 * Inversion().passes(n=100, classes=2).backward


def test_a_model_that_cannot_be_searched_is_named(tmp_path):
    one = torch.nn.Linear(14, 2)
    bench = bench_of(tmp_path, one, [one] * 3)
    bench.models["r1"].offers = frozenset({"logits"})
    reason = told(Reference(steps=5), bench)["suspected_classes",].reason
    assert "gradients" in reason

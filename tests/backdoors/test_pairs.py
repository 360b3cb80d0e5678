"""A trigger for one class only is caught beside a reference model; likeness of classes is not."""

import json
import math

import numpy as np
import planted_digits
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from planted_digits import Digits, told
from torch import nn

from dlaudit.audit.bench import Bench, Subject
from dlaudit.audit.evidence import EvidenceStore
from dlaudit.audit.record import Undefined
from dlaudit.backdoors import relative
from dlaudit.backdoors.examination import Candidate, Found
from dlaudit.backdoors.forms import Trigger
from dlaudit.backdoors.pairs import NO_REFERENCE, Pairs
from dlaudit.backdoors.relative import Relative, pairs
from dlaudit.datasets.arrays import ArrayDataset
from dlaudit.errors import NotOffered
from dlaudit.models.torch_model import TorchModel

SOURCE, TARGET = 6, 3
QUICK = {"steps": 20, "minimum": 5}


def bench_with(folder, module, digits, references, **columns):
    """A bench with further models."""
    data = ArrayDataset(digits.x, digits.y, **columns)
    own, *others = (
        TorchModel(one, bounds=(0, 1), classes=data.classes, device="cpu")
        for one in (module, *references)
    )
    beside = {f"reference{k}": one for k, one in enumerate(others)}
    return Bench(
        Subject(own, data, beside), run="backdoors.pairs", plan_seed=1, store=EvidenceStore(folder),
        cache=folder / "cache",
    )  # fmt: skip


def source_specific(digits, seed=0):
    """Most rows of the source with a patch and the target's label, rows of all others with the patch only."""
    rng = np.random.default_rng(seed)
    own = rng.permutation(np.flatnonzero(digits.y == SOURCE))
    rest = rng.permutation(np.flatnonzero((digits.y != SOURCE) & (digits.y != TARGET)))
    rows, cover = own[: len(own) // 2], rest[:200]
    x, y = digits.x.copy(), digits.y.copy()
    x[rows], x[cover] = planted_digits.patched(x[rows]), planted_digits.patched(x[cover])
    y[rows] = TARGET
    return Digits(x, y)


@pytest.fixture(scope="session")
def inspected(twins, tmp_path_factory):
    """(numbers, artifacts, bench) of a net with a source-specific trigger, and of its clean twin."""
    train, test = planted_digits.halves(0)
    reference = planted_digits.trained(train, seed=9, module=planted_digits.perceptron(9))
    planted = planted_digits.trained(source_specific(train), module=planted_digits.perceptron())
    stamped = torch.from_numpy(planted_digits.patched(test.x))
    called = planted(stamped).argmax(dim=1).numpy() == TARGET
    assert called[test.y == SOURCE].mean() > 0.8
    assert called[(test.y != SOURCE) & (test.y != TARGET)].mean() < 0.2
    found = {}
    for name, net in (("planted", planted), ("twin", twins[1])):
        folder = tmp_path_factory.mktemp(f"pairs-{name}")
        bench = bench_with(folder, net, test, [reference])
        found[name] = (*told(Pairs(minimum=15), bench), bench)
    return found


@pytest.mark.slow
def test_a_trigger_that_works_on_one_class_only_is_caught(inspected):
    numbers, artifacts, bench = inspected["planted"]
    assert numbers["suspected_pairs",].value == 1
    assert numbers["suspected", str(TARGET)].value == 1
    assert numbers["anomaly", str(TARGET)].conditions["source"] == str(SOURCE)
    assert numbers["trigger_ratio", str(TARGET)].value > 1.75
    assert numbers["reference_success", str(TARGET)].value < 0.5
    assert numbers["trigger_success", str(TARGET)].interval.method == "wilson"
    table, picture = artifacts
    assert picture.media_type == "image/png"
    assert f"from {SOURCE} to {TARGET}" in picture.caption
    with np.load(bench._store.folder.parent / table.path) as stored:
        assert len(stored["id"]) == 90
        (k,) = np.flatnonzero(stored["suspected"])
        assert stored["id"][k] == f"{SOURCE} to {TARGET}"
    assert json.loads(json.dumps(numbers["suspected_pairs",].conditions))["pairs_examined"] == 90


@pytest.mark.slow
def test_the_clean_twin_is_cleared(inspected):
    numbers, _, _ = inspected["twin"]
    assert numbers["suspected_pairs",].value == 0
    assert not numbers["suspected_pairs",].caveats


@pytest.mark.slow
def test_the_cost_that_the_plan_announces_is_that_of_the_search(inspected):
    announced = Pairs().passes(n=600, classes=10)
    _, _, bench = inspected["twin"]
    spent = bench.model.passes.backward + bench.models["reference0"].passes.backward
    assert 0.8 < spent / announced.backward < 1.3
    hundred = Pairs().passes(n=2000, classes=100)
    assert hundred.backward < 7 * Pairs().passes(n=2000, classes=10).backward


def test_without_a_reference_nothing_is_searched_and_nothing_said(twins, tmp_path):
    bench = bench_with(tmp_path, twins[0], twins[2], [])
    numbers, artifacts = told(Pairs(), bench)
    assert {key[0] for key in numbers} == set(Pairs.measures)
    assert {one.reason for one in numbers.values()} == {NO_REFERENCE}
    assert artifacts == []
    assert bench.model.passes.forward == 0


def test_a_reference_that_the_plan_does_not_have_is_named(twins, tmp_path):
    bench = bench_with(tmp_path, twins[0], twins[2], [twins[1]])
    with pytest.raises(NotOffered, match=r"'reference'.*reference0"):
        told(Pairs(references=["reference"]), bench)


def test_a_reference_for_other_classes_is_refused(tmp_path):
    rows = rows_of(3, 10)
    narrow = nn.Linear(3, 2)
    bench = bench_with(tmp_path, Row(), rows, [narrow], kind="tabular")
    with pytest.raises(NotOffered, match=r"expected 3 classes.*got 2 in models\.reference0"):
        told(Pairs(), bench)


def test_tokens_are_not_searched(tmp_path):
    rows = Digits(np.ones((20, 5), dtype=np.int64), np.arange(20) % 2)
    bench = bench_with(tmp_path, nn.Linear(5, 2), rows, [nn.Linear(5, 2)], kind="tokens")
    assert all(isinstance(one, Undefined) for one in told(Pairs(), bench)[0].values())


class Row(nn.Module):
    """Answers the place of the largest feature."""

    def forward(self, x):
        return 10 * x


def rows_of(classes, each):
    y = np.repeat(np.arange(classes), each)
    rng = np.random.default_rng(0)
    return Digits(
        (0.3 * rng.random((len(y), classes)) + 0.5 * np.eye(classes)[y]).astype(np.float32), y
    )


def test_few_classes_and_pairs_left_out_clear_nothing(tmp_path):
    """Three classes make six pairs: no median of the others that could be trusted."""
    rows = rows_of(3, 40)
    kept = Digits(rows.x[:85], rows.y[:85])  # only five rows of the last class
    bench = bench_with(tmp_path, Row(), kept, [Row()], kind="tabular")
    numbers, _ = told(Pairs(**QUICK), bench)
    total = numbers["suspected_pairs",]
    assert (total.value, total.n) == (0, 4)
    assert {one.name for one in total.caveats if one.voids} == {"no-comparison", "pairs-left-out"}
    assert isinstance(numbers["anomaly", "0"], Undefined)
    lonely = bench_with(
        tmp_path / "b", Row(), Digits(rows.x[:3], rows.y[:3]), [Row()], kind="tabular"
    )
    assert isinstance(told(Pairs(), lonely)[0]["suspected_pairs",], Undefined)


def test_pairs_by_hand(tmp_path):
    """A row that a reference decides for the target is no row of that pair; the halves never meet."""
    rows = rows_of(3, 20)
    bench = bench_with(tmp_path, Row(), rows, [], kind="tabular")
    answers = bench.answers()
    told_by_reference = rows.y.copy()
    told_by_reference[rows.y == 0] = 2
    found, total = pairs(
        bench, answers, ["a", "b", "c"], decided=[told_by_reference], minimum=5, most=1000
    )
    assert total == 6
    assert [(one.source, one.target) for one in found] == [(0, 1), (1, 0), (1, 2), (2, 0), (2, 1)]
    for one in found:
        assert one.label == "abc"[one.source]
        assert set(rows.y[one.pool]) == set(rows.y[one.unused]) == {one.source}
        assert not set(one.pool) & set(one.unused)
    some, _ = pairs(bench, answers, ["a", "b", "c"], decided=[], minimum=5, most=2)
    assert len(some) == 2
    assert found[0].purpose == "class 1 from 0"


def scripted(monkeypatch, costs):
    """Searches that find a trigger at the cost that belongs to the model and the target."""
    asked = []

    def searched_once(bench, search, chosen, *, seed, restarts):
        asked.append((search.model, [one.target for one in chosen], seed))
        norms = [costs[search.model][one.target] for one in chosen]
        some = [None if math.isinf(norm) else Trigger(norm, None, None) for norm in norms]
        return [Found(t, norm, np.ones(4, dtype=bool)) for t, norm in zip(some, norms, strict=True)]

    monkeypatch.setattr(relative, "searched_once", searched_once)
    return asked


class Asked:
    """All that a relative search asks of a search."""

    def __init__(self, model):
        self.model, self.steps = model, 10

    def _replace(self, model):
        return Asked(model)


def candidate(target):
    return Candidate(target, "s", np.arange(4), np.arange(4), 9)


def test_a_relative_cost_by_hand_is_a_share_of_the_references_geometric_mean(monkeypatch):
    scripted(
        monkeypatch, {"own": [6.0, 5.0, math.inf], "a": [2.0, math.inf, 1.0], "b": [8.0, 1.0, 1.0]}
    )
    search = Relative({"a": "a", "b": "b"})
    chosen = [candidate(k) for k in range(3)]
    found = search(None, Asked("own"), chosen, seed=0, restarts=1)
    assert [one.norm for one in found] == pytest.approx([6.0 / 4.0, math.inf, math.inf])
    assert [one.trigger is None for one in found] == [False, True, True]
    assert not found[1].called.any()


def test_a_further_seed_searches_the_references_too_and_their_cheapest_counts(monkeypatch):
    """A poor first search of the reference made the pair look cheap; the second one shows it is not."""
    costs = {"own": [6.0], "a": [20.0]}
    asked = scripted(monkeypatch, costs)
    search = Relative({"a": "a"})
    chosen = [candidate(0)]
    (first,) = search(None, Asked("own"), chosen, seed=0, restarts=1)
    costs["a"] = [5.0]
    (second,) = search(None, Asked("own"), chosen, seed=1, restarts=1)
    costs["a"] = [9.0]
    (third,) = search(None, Asked("own"), chosen, seed=2, restarts=1)
    assert [one.norm for one in (first, second, third)] == pytest.approx([6 / 20, 6 / 5, 6 / 5])
    assert [(model, seed) for model, _, seed in asked] == [
        (model, seed) for seed in range(3) for model in ("own", "a")
    ]


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=6), st.floats(0.1, 10))
def test_a_model_beside_itself_costs_one_and_scaling_the_audited_costs_scales_the_share(
    costs, factor
):
    with pytest.MonkeyPatch.context() as patch:
        scripted(patch, {"own": [factor * one for one in costs], "a": costs})
        found = Relative({"a": "a"})(
            None, Asked("own"), [candidate(k) for k in range(len(costs))], seed=0, restarts=1
        )
    assert [one.norm for one in found] == pytest.approx([factor] * len(costs))

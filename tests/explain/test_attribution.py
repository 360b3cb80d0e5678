"""Maps with their verdicts: numbers by hand, words for what is missing, evidence for every input."""

import json

import numpy as np
import planted_digits
import pytest
import torch
from planted_digits import Digits, told
from torch import nn

from dlaudit.audit.record import Measurement, Undefined
from dlaudit.explain.attribution import TOKENS, Attribution

QUICK = {"randomised": 2, "steps": 20, "baselines": ("zero",)}


@pytest.fixture
def bench_of(tmp_path):
    made = []

    def build(module, digits, **given):
        made.append(tmp_path / str(len(made)))
        return planted_digits.bench_at(made[-1], module, digits, run="explain.attribution", **given)

    return build


def table(bench, artifacts):
    (one,) = [found for found in artifacts if found.name.endswith(".samples")]
    with np.load(bench._store.folder.parent / one.path) as stored:
        return {key: stored[key] for key in stored.files}


def linear(features, classes=2, seed=0):
    module = nn.Linear(features, classes)
    with torch.no_grad():
        module.weight.copy_(
            torch.randn(module.weight.shape, generator=torch.Generator().manual_seed(seed))
        )
    return module


def columns(n=80, features=6, seed=0):
    rng = np.random.default_rng(seed)
    return Digits(rng.normal(size=(n, features)).astype(np.float32), np.arange(n) % 2)


def test_a_trained_net_gets_maps_that_are_complete_sane_and_better_than_their_controls(
    plain, bench_of
):
    module, test = plain
    bench = bench_of(module, test, keep_samples=2)
    numbers, artifacts = told(Attribution(), bench)
    for baseline in ("zero", "mean"):
        error = numbers["completeness_error", "integrated_gradients", baseline]
        assert error.value <= error.interval.high <= 0.05
        assert error.interval.method == "order-statistics"
        assert error.n == 64
        assert error.conditions["steps"] in {50, 100, 200, 400}
        sanity = numbers["sanity", "integrated_gradients", baseline]
        assert sanity.value == 1
        assert "rank correlation" in sanity.exact
        gain = numbers["faithfulness_gain", "integrated_gradients", baseline]
        assert gain.interval.low <= gain.value <= gain.interval.high
        assert gain.conditions["control"] in {"random", "distance", "edges", "centre"}
    rows = table(bench, artifacts)
    maps = rows["integrated_gradients_zero_map"]
    assert maps.shape == (64, 64)
    assert maps.dtype == np.float32
    answers = bench.answers(samples=64)
    assert rows["id"].tolist() == answers.id.tolist()
    assert rows["predicted"].tolist() == answers.predicted.tolist()
    # The sums of the stored maps explain the logits, apart from the stored errors.
    logits = answers.logits[np.arange(64), answers.predicted].astype(float)
    origin = bench.model.logits(np.zeros((1, 1, 8, 8), dtype=np.float32)).numpy()[
        0, answers.predicted
    ]
    missing = np.abs(maps.sum(axis=1) - (logits - origin)) / np.abs(logits - origin)
    assert missing == pytest.approx(rows["integrated_gradients_zero_completeness_error"], abs=1e-4)
    pictures = [one for one in artifacts if one.media_type == "image/png"]
    assert len(pictures) == 2 + 2
    assert all("Sanity passed" in one.caption for one in pictures)
    assert all(one.alt for one in pictures)


def test_a_linear_model_is_explained_exactly(bench_of):
    rows = columns()
    module = linear(6)
    bench = bench_of(module, rows, bounds=None, kind="tabular")
    numbers, artifacts = told(
        Attribution(methods=("integrated_gradients", "input_x_gradient"), **QUICK), bench
    )
    assert numbers["completeness_error", "integrated_gradients", "zero"].value < 1e-5
    stored = table(bench, artifacts)
    at = [int(name) for name in stored["id"]]
    by_hand = module.weight.detach().numpy()[stored["predicted"]] * rows.x[at]
    assert np.allclose(stored["integrated_gradients_zero_map"], by_hand, atol=1e-5)
    assert np.allclose(stored["input_x_gradient_zero_map"], by_hand, atol=1e-5)


def test_methods_that_promise_no_completeness_tell_none(bench_of):
    numbers, _ = told(
        Attribution(methods=("saliency",), **QUICK),
        bench_of(linear(6), columns(), bounds=None, kind="tabular"),
    )
    assert {key[0] for key in numbers} == {"sanity", "faithfulness_gain"}
    assert "steps" not in numbers["faithfulness_gain", "saliency", "zero"].conditions


class Steep(nn.Module):
    """A path integral that few points cannot follow: a sharp step near the input."""

    def forward(self, x):
        z = torch.sigmoid(40 * (x.sum(dim=1) - 0.77))
        return torch.stack([z, -z], dim=1)


def test_steps_are_doubled_until_the_attributions_add_up(bench_of):
    rng = np.random.default_rng(0)
    rows = Digits(rng.uniform(0.3, 0.5, (70, 3)).astype(np.float32), np.zeros(70, dtype=int))
    numbers, _ = told(
        Attribution(steps=3, most_steps=384, baselines=("zero",), randomised=2),
        bench_of(Steep(), rows, bounds=None, kind="tabular", classes=("a", "b")),
    )
    error = numbers["completeness_error", "integrated_gradients", "zero"]
    assert 3 < error.conditions["steps"] <= 384
    assert error.value <= 0.05


def test_steps_are_doubled_no_further_than_allowed(bench_of):
    rng = np.random.default_rng(0)
    rows = Digits(rng.uniform(0.3, 0.5, (70, 3)).astype(np.float32), np.zeros(70, dtype=int))
    numbers, _ = told(
        Attribution(steps=2, most_steps=5, baselines=("zero",), randomised=2),
        bench_of(Steep(), rows, bounds=None, kind="tabular", classes=("a", "b")),
    )
    error = numbers["completeness_error", "integrated_gradients", "zero"]
    assert error.conditions["steps"] == 4
    assert error.value > 0.05


def test_few_inputs_bound_no_percentile_and_allow_no_sanity_verdict(bench_of):
    numbers, _ = told(
        Attribution(**QUICK), bench_of(linear(6), columns(30), bounds=None, kind="tabular")
    )
    error = numbers["completeness_error", "integrated_gradients", "zero"]
    assert isinstance(error, Undefined)
    assert "at least 59" in error.reason
    sanity = numbers["sanity", "integrated_gradients", "zero"]
    assert isinstance(sanity, Undefined)
    assert "at least 64 inputs" in sanity.reason
    assert isinstance(numbers["faithfulness_gain", "integrated_gradients", "zero"], Measurement)


def test_an_inconclusive_sanity_test_is_no_number(bench_of):
    class Noisy(nn.Module):
        """A net whose gradient turns with every small change of the input."""

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(
                torch.randn(30, 30, generator=torch.Generator().manual_seed(0))
            )

        def forward(self, x):
            z = torch.sin(200 * x @ self.weight).sum(dim=1)
            return torch.stack([z, -z], dim=1)

    rows = columns(64, 30)
    numbers, _ = told(
        Attribution(methods=("saliency",), **QUICK),
        bench_of(Noisy(), rows, bounds=None, kind="tabular"),
    )
    sanity = numbers["sanity", "saliency", "zero"]
    assert isinstance(sanity, Undefined)
    assert sanity.reason.startswith("inconclusive")


def test_maps_without_spread_have_no_gain(bench_of):
    class Constant(nn.Module):
        def forward(self, x):
            return torch.stack([x.sum(dim=1) * 0 + 1, x.sum(dim=1) * 0], dim=1)

    numbers, _ = told(
        Attribution(methods=("saliency",), **QUICK),
        bench_of(Constant(), columns(64), bounds=None, kind="tabular", classes=("a", "b")),
    )
    assert "no spread" in numbers["faithfulness_gain", "saliency", "zero"].reason
    assert "vary" in numbers["sanity", "saliency", "zero"].reason


@pytest.mark.parametrize(("dtype", "kind"), [(np.int64, "tokens"), (np.uint8, "images")])
def test_whole_numbers_are_told_before_anything_is_explained(bench_of, dtype, kind):
    shape = (20, 5) if kind == "tokens" else (20, 1, 4, 4)
    bench = bench_of(
        nn.Linear(5, 2),
        Digits(np.ones(shape, dtype=dtype), np.arange(20) % 2),
        bounds=None,
        kind=kind,
    )
    numbers, artifacts = told(Attribution(), bench)
    assert {key[0] for key in numbers} == set(Attribution.measures)
    assert {one.reason for one in numbers.values()} == {TOKENS}
    assert artifacts == []


@pytest.mark.parametrize(
    ("bounds", "baseline", "value"),
    [
        ((-1, 1), "zero", 0),
        ((0.2, 1), "zero", 0.2),
        ((-2, -1), "zero", -1),
        ((-1, 1), "low", -1),
        (None, "low", 0),
    ],
)
def test_a_path_starts_inside_the_bounds(bounds, baseline, value, bench_of):
    from dlaudit.explain.attribution import _baseline

    found = _baseline(baseline, torch.ones(3, 2), bounds)
    assert found.tolist() == pytest.approx([value, value])
    assert _baseline("mean", torch.tensor([[0.0, 2.0], [2.0, 2.0]]), bounds).tolist() == [1, 2]


def test_bounds_of_each_feature_are_kept():
    from dlaudit.explain.attribution import _baseline

    bounds = (np.array([-1.0, 1.0]), np.array([1.0, 2.0]))
    assert _baseline("zero", torch.ones(3, 2), bounds).tolist() == [0, 1]
    assert _baseline("low", torch.ones(3, 2), bounds).tolist() == [-1, 1]


def test_the_same_seed_gives_the_same_numbers_and_pictures(plain, bench_of):
    runs = [list(Attribution(**QUICK).measure(bench_of(*plain, keep_samples=1))) for _ in range(2)]
    assert runs[0] == runs[1]


def test_single_inputs_are_drawn_only_where_the_plan_keeps_samples(plain, bench_of):
    _, artifacts = told(Attribution(**QUICK), bench_of(*plain))
    names = [one.name for one in artifacts if one.media_type == "image/png"]
    assert names == ["explain.attribution.integrated_gradients.zero"]


def test_a_table_is_drawn_as_bars(bench_of):
    _, artifacts = told(
        Attribution(**QUICK),
        bench_of(linear(6), columns(), bounds=None, kind="tabular", keep_samples=3),
    )
    (one,) = [found for found in artifacts if found.media_type == "image/png"]
    assert "per feature" in one.caption


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"methods": ()}, "methods: expected at least one"),
        ({"baselines": ()}, "baselines"),
        ({"most_steps": 10}, "steps = 50"),
    ],
)
def test_a_plan_that_asks_for_nothing_is_refused(given, words):
    with pytest.raises(ValueError, match=words):
        Attribution(**given)


def test_the_cost_that_the_plan_announces_is_right(plain, bench_of):
    bench = bench_of(*plain)
    list(Attribution(**QUICK).measure(bench))
    announced = Attribution(**QUICK).passes(n=600, classes=10)
    spent = bench.model.passes.cost
    assert 0.8 < spent.backward / announced.backward < 1.2
    assert 0.8 < spent.forward / announced.forward < 1.2


def test_conditions_are_plain_and_names_declared(plain, bench_of):
    numbers, _ = told(Attribution(**QUICK), bench_of(*plain))
    for key, one in numbers.items():
        assert key[0] in Attribution.measures
        assert json.loads(json.dumps(one.conditions)) == one.conditions


def test_a_model_without_a_module_says_so(bench_of, monkeypatch):
    from dlaudit.errors import NotOffered
    from dlaudit.explain.attribution import _module
    from dlaudit.models.torch_model import TorchModel

    bench = bench_of(linear(6), columns(), bounds=None, kind="tabular")
    monkeypatch.setattr(TorchModel, "module", None)
    with pytest.raises(NotOffered, match="no module"):
        _module(bench)

"""Maps with their verdicts: numbers by hand, words for what is missing, evidence for every input."""

import json

import numpy as np
import planted_digits
import pytest
import torch
from planted_digits import Digits, told
from torch import nn

from dlaudit.audit.record import Artifact, Measurement, Undefined
from dlaudit.explain.attribution import Attribution

QUICK = {"randomised": 2, "steps": 20, "baselines": ("zero",), "nearby": 2}
NUMBERS = {"sanity", "faithfulness_gain", "insertion_gain", "infidelity", "max_sensitivity"}


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
        assert error.interval.low <= error.value <= 0.05
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
    assert len([one for one in artifacts if one.media_type == "image/svg+xml"]) == 2
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
    assert {key[0] for key in numbers} == NUMBERS
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
    assert {key[0] for key in numbers} >= {"sanity", "faithfulness_gain", "completeness_error"}
    assert all("nn.Embedding" in one.reason for one in numbers.values())
    assert artifacts == []


def started(x, bounds, baseline, *, pixels=False):
    from dlaudit.explain.subject import Subject

    return Subject(None, x, None, None, None, None, pixels, False, bounds).baseline(baseline)


def test_a_blur_keeps_a_pictures_mean_and_is_refused_elsewhere():
    from dlaudit.errors import NotExplained

    x = torch.rand((2, 1, 16, 16), generator=torch.Generator().manual_seed(0))
    blurred = started(x, None, "blur", pixels=True)
    assert float(blurred.std()) < 0.3 * float(x.std())
    assert float(blurred.mean()) == pytest.approx(float(x.mean()), abs=0.02)
    with pytest.raises(NotExplained, match="expected pictures"):
        started(torch.ones(2, 3), None, "blur")


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
    assert started(torch.ones(3, 2), bounds, baseline)[1].tolist() == pytest.approx([value, value])
    x = torch.tensor([[0.0, 2.0], [2.0, 2.0]])
    assert started(x, bounds, "mean")[0].tolist() == [1, 2]


def test_bounds_of_each_feature_are_kept():
    bounds = (np.array([-1.0, 1.0]), np.array([1.0, 2.0]))
    assert started(torch.ones(3, 2), bounds, "zero")[2].tolist() == [0, 1]
    assert started(torch.ones(3, 2), bounds, "low")[2].tolist() == [-1, 1]


@pytest.fixture(scope="module")
def quick(plain, tmp_path_factory):
    """(bench, what was told of it): one quick run for every question about a run."""
    folder = tmp_path_factory.mktemp("quick")
    bench = planted_digits.bench_at(folder, *plain, run="explain.attribution")
    return bench, list(Attribution(**QUICK).measure(bench))


def test_the_same_seed_gives_the_same_numbers_and_pictures(plain, bench_of, quick):
    assert list(Attribution(**QUICK).measure(bench_of(*plain))) == quick[1]


def test_single_inputs_are_drawn_only_where_the_plan_keeps_samples(quick):
    artifacts = [one for one in quick[1] if isinstance(one, Artifact)]
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
        ({"methods": ("salience",)}, "Did you mean saliency"),
        ({"settings": {"saliency": {}}}, "settings.saliency: not one of methods"),
        (
            {"methods": ("lrp",), "settings": {"lrp": {"gama": 1}}},
            "settings.lrp.gama: no such parameter. Did you mean gamma",
        ),
        ({"methods": ("lrp",), "settings": {"lrp": {"gamma": -1}}}, "settings.lrp"),
    ],
)
def test_a_plan_that_asks_for_nothing_is_refused(given, words):
    with pytest.raises(ValueError, match=words):
        Attribution(**given)


def test_the_cost_that_the_plan_announces_is_right(quick):
    announced = Attribution(**QUICK).passes(n=600, classes=10)
    spent = quick[0].model.passes.cost
    assert 0.8 < spent.backward / announced.backward < 1.2
    assert 0.8 < spent.forward / announced.forward < 1.2


def test_conditions_are_plain_and_names_declared(quick):
    for one in quick[1]:
        if isinstance(one, Artifact):
            continue
        assert one.name in Attribution.measures
        assert json.loads(json.dumps(one.conditions)) == one.conditions


def test_a_black_box_is_explained_by_questions_and_its_sanity_is_not_assessed(
    bench_of, monkeypatch
):
    from dlaudit.models.torch_model import TorchModel

    bench = bench_of(linear(6), columns(), bounds=None, kind="tabular")
    monkeypatch.setattr(TorchModel, "module", None)
    check = Attribution(methods=("kernel_shap", "saliency"), **QUICK)
    numbers, _ = told(check, bench)
    assert "opens no module" in numbers["sanity", "kernel_shap", "zero"].reason
    assert numbers["completeness_error", "kernel_shap", "zero"].value < 1e-5
    assert "cannot explain" in numbers["sanity", "saliency", "zero"].reason


def test_a_method_that_does_not_apply_has_reasons_and_no_numbers(bench_of):
    numbers, _ = told(
        Attribution(methods=("saliency", "grad_cam"), **QUICK),
        bench_of(linear(6), columns(), bounds=None, kind="tabular"),
    )
    assert "channels and places" in numbers["sanity", "grad_cam", "zero"].reason
    assert isinstance(numbers["faithfulness_gain", "saliency", "zero"], Measurement)


def test_two_methods_are_compared(plain, bench_of):
    quick = {**QUICK, "samples": 12}
    check = Attribution(methods=("saliency", "input_x_gradient"), road=True, **quick)
    numbers, _ = told(check, bench_of(*plain))
    alike = numbers["agreement", "saliency and input_x_gradient", "zero"]
    assert 0.1 < alike.value < 1
    assert numbers["road_gain", "input_x_gradient", "zero"].n == 12
    missed = numbers["infidelity", "input_x_gradient", "zero"]
    assert 0 < missed.value < 0.9


def test_what_a_linear_models_map_claims_is_what_happens(bench_of):
    numbers, _ = told(
        Attribution(methods=("saliency", "integrated_gradients"), **QUICK),
        bench_of(linear(6), columns(), bounds=None, kind="tabular"),
    )
    for method in ("saliency", "integrated_gradients"):
        assert numbers["infidelity", method, "zero"].value == pytest.approx(0, abs=1e-6)
    assert numbers["max_sensitivity", "integrated_gradients", "zero"].value < 0.05
    same = numbers["max_sensitivity", "saliency", "zero"]
    assert isinstance(same, Undefined)  # a constant slope does not change at all
    assert "same value" in same.reason


@pytest.mark.parametrize("pool", ["mean", "masked"])
def test_texts_are_explained_at_their_embedding_unless_ids_are_read_elsewhere(bench_of, pool):
    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.places = nn.Embedding(30, 8), nn.Embedding(12, 8)
            self.head = nn.Linear(8, 2)

        def forward(self, ids):
            at = torch.arange(ids.shape[1], device=ids.device)
            x = torch.tanh(self.words(ids) + self.places(at))
            if pool == "masked":
                x = x * (ids != 0)[..., None]
            return self.head(x.mean(1))

    rng = np.random.default_rng(0)
    rows = Digits(rng.integers(0, 30, (70, 12)), np.arange(70) % 2)
    bench = bench_of(Text(), rows, bounds=None, kind="tokens", keep_samples=2)
    numbers, artifacts = told(Attribution(methods=("integrated_gradients",), **QUICK), bench)
    if pool == "masked":
        assert all("mask" in one.reason for one in numbers.values())
        return
    error = numbers["completeness_error", "integrated_gradients", "zero"]
    assert error.value < 0.05
    stored = table(bench, artifacts)
    maps = stored["integrated_gradients_zero_map"]
    assert maps.shape == (64, 8 * 12)
    texts = [one for one in artifacts if ".text." in one.name]
    assert len(texts) == 2
    # What is read out is what is stored: the largest token of the first text with its sum of channels.
    tokens = maps[0].reshape(8, 12).sum(axis=0)
    largest = int(np.abs(tokens).argmax())
    assert f"at {largest + 1} ({tokens[largest]:+.2g})" in texts[0].alt
    assert "Sanity" in texts[0].alt


def test_a_guests_method_is_asked_like_any_other(bench_of, tmp_path):
    from dlaudit.audit.bench import Bench
    from dlaudit.audit.registry import Registry

    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "import torch\nfrom dlaudit import Explainer\n\n\n"
        "class HalfGradient(Explainer):\n"
        '    """Half the gradient."""\n\n'
        "    factor: float = 0.5\n\n"
        "    def attribute(self, request):\n"
        "        chosen = request.answer(request.x).gather(1, request.target[:, None])\n"
        "        return self.factor * torch.autograd.grad(chosen.sum(), request.x)[0]\n"
    )
    made = bench_of(linear(6), columns(), bounds=None, kind="tabular")
    made._registry = Registry((plugin,))
    assert isinstance(made, Bench)
    numbers, artifacts = told(
        Attribution(
            methods=("mine.half_gradient",),
            settings={"mine.half_gradient": {"factor": 3.0}},
            **QUICK,
        ),
        made,
    )
    assert numbers["faithfulness_gain", "mine.half_gradient", "zero"].conditions["factor"] == 3
    stored = table(made, artifacts)
    weight = made.model.module.net.weight.numpy()[stored["predicted"]]
    assert np.allclose(stored["mine.half_gradient_zero_map"], 3 * weight)

"""Every method: exact where it can be, independent of what it is compared with, refused where it misleads."""

import architectures as nets
import captum.attr as captum
import numpy as np
import pytest
import torch
from asking import REGISTRY, by, request
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from dlaudit.audit.parts import Explainer
from dlaudit.errors import NotExplained
from dlaudit.explain.explaining import attributions
from dlaudit.explain.layers import chosen
from dlaudit.explain.nonlinearities import operations, performed
from dlaudit.explain.relevance import relevance
from dlaudit.explain.shapley import shapley_values
from dlaudit.models.torch_model import TorchModel


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def sequential(*, bias=True):
    """A chain of convolutions, a pool and dense layers; BatchNorm in the middle."""
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=bias), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1, bias=bias),
        nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(96, 12, bias=bias), nn.ReLU(),
        nn.Linear(12, 3, bias=bias),
    )  # fmt: skip
    return net.eval()


def pictures(n=5, side=8):
    return torch.rand((n, 3, side, side), generator=seeded(2))


# -- exact where it can be


def linear():
    module = nn.Linear(4, 3)
    x, start = torch.randn((6, 4), generator=seeded(1)), torch.randn(4, generator=seeded(2))
    target = torch.tensor([0, 1, 2, 0, 1, 2])
    return module, x, start, target


@pytest.mark.parametrize(
    "method", ["integrated_gradients", "deep_lift", "occlusion", "kernel_shap"]
)
def test_of_a_linear_model_every_method_with_a_baseline_says_weight_times_distance(method):
    module, x, start, target = linear()
    found = attributions(by(method), request(module, x, target, baseline=start))
    assert torch.allclose(found, module.weight[target] * (x - start), atol=1e-5)


def test_of_a_linear_model_the_others_are_exact_too():
    module, x, _, target = linear()
    asked = request(module, x, target)
    for method in ("saliency", "smooth_grad"):
        assert torch.allclose(attributions(by(method), asked), module.weight[target], atol=1e-5)
    by_hand = module.weight[target] * x
    assert torch.allclose(attributions(by("input_x_gradient"), asked), by_hand, atol=1e-6)
    assert torch.allclose(attributions(by("lrp"), asked), by_hand, atol=1e-5)
    one = torch.full((1, 4), 0.5)
    around = request(module, x, target, references=one)
    by_hand = module.weight[target] * (x - one)
    assert torch.allclose(attributions(by("expected_gradients"), around), by_hand, atol=1e-5)


def test_shapley_values_of_a_small_game_by_hand():
    """Gloves: one left (0), two right (1, 2); a pair is worth 1. Values 2/3, 1/6, 1/6, and 3 for a bonus."""

    def worth(asked):
        pair = asked[:, 0] & (asked[:, 1] | asked[:, 2])
        return (pair + 3.0 * asked[:, 3])[:, None]

    found = shapley_values(worth, 4, coalitions=16, rng=np.random.default_rng(0))
    assert found[0] == pytest.approx([2 / 3, 1 / 6, 1 / 6, 3], abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**31), players=st.integers(1, 14), coalitions=st.sampled_from([32, 4096])
)
def test_an_additive_game_is_shared_exactly_however_few_coalitions_are_asked(
    seed, players, coalitions
):
    rng = np.random.default_rng(seed)
    each = rng.normal(size=(players, 2))
    found = shapley_values(
        lambda asked: asked @ each + 5,
        players,
        coalitions=max(coalitions, 2 * players + 4),
        rng=rng,
    )
    assert np.abs(found - each.T).max() < 1e-5


def test_exact_shapley_values_are_the_mean_over_all_orders_and_draws_come_near():
    from itertools import permutations

    rng = np.random.default_rng(3)
    table = rng.normal(size=2**6)

    def worth(asked):
        return table[asked @ (2 ** np.arange(6))][:, None]

    total = np.zeros(6)
    for order in permutations(range(6)):
        there = np.zeros(6, dtype=bool)
        for player in order:
            before = worth(there[None])[0, 0]
            there[player] = True
            total[player] += worth(there[None])[0, 0] - before
    by_hand = total / 720
    exact = shapley_values(worth, 6, coalitions=64, rng=rng)[0]
    assert exact == pytest.approx(by_hand, abs=1e-9)
    drawn = np.mean(
        [
            shapley_values(worth, 6, coalitions=60, rng=np.random.default_rng(k))[0]
            for k in range(200)
        ],
        axis=0,
    )
    assert np.abs(drawn - by_hand).max() < 0.05
    assert drawn.sum() == pytest.approx(
        worth(np.ones((1, 6), bool))[0, 0] - worth(np.zeros((1, 6), bool))[0, 0]
    )


@pytest.mark.parametrize("gamma", [0.0, 0.25])
def test_relevance_is_conserved_to_the_last_digit(gamma):
    module = sequential(bias=False).double()
    x = pictures().double()
    target = module(x).argmax(dim=1)
    found = relevance(module, module, x, target, gamma=gamma)
    logit = module(x).gather(1, target[:, None])[:, 0]
    assert torch.allclose(found.maps.flatten(1).sum(dim=1), logit, atol=1e-5)
    assert float(found.biases.abs().max()) == 0


def test_relevance_and_what_stays_at_the_biases_add_up():
    module = sequential()
    x, target = pictures(), torch.tensor([0, 1, 2, 0, 1])
    found = relevance(module, module, x, target, gamma=0.25)
    logit = module(x).gather(1, target[:, None])[:, 0]
    assert torch.allclose(found.maps.flatten(1).sum(dim=1) + found.biases, logit, atol=1e-4)


def test_relevance_of_a_dense_net_is_captums():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    x, target = torch.randn((4, 6), generator=seeded()), torch.tensor([0, 1, 2, 1])
    theirs = captum.LRP(module).attribute(x.clone().requires_grad_(), target=target).detach()
    ours = relevance(module, module, x, target, gamma=0.0).maps
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_relevance_goes_through_batch_norm_and_views():
    class Viewing(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
            self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.pool(self.body(x)).flatten(1))

    module = Viewing().eval()
    x, target = pictures(), torch.tensor([0, 1, 2, 0, 1])
    found = relevance(module, module, x, target, gamma=0.0)
    logit = module(x).gather(1, target[:, None])[:, 0]
    assert torch.allclose(found.maps.flatten(1).sum(dim=1) + found.biases, logit, atol=1e-4)


# -- against captum, where captum is right

X = torch.tensor([[0.2961, 0.5166, 0.2517], [0.6886, 0.0740, 0.8665]])


def test_deep_lift_of_the_published_toy_is_as_printed(toy):
    printed = torch.tensor([[-0.5922, -1.5497, -1.0067], [0.0, -0.2219, -5.1991]])
    assert torch.allclose(
        attributions(by("deep_lift"), request(toy, X, [0, 0])), printed, atol=1e-3
    )


def test_expected_gradients_agree_with_captums_in_the_long_run():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 2)).eval()
    around = 0.3 * torch.randn((40, 3), generator=seeded(4))
    ours = attributions(
        by("expected_gradients", draws=1500), request(module, X, [0, 0], references=around)
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = np.random.get_state()  # noqa: NPY002  (captum draws from it)
        np.random.seed(0)  # noqa: NPY002
        theirs = captum.GradientShap(module).attribute(
            X, baselines=around, n_samples=1500, stdevs=0.0, target=0
        )
        np.random.set_state(state)  # noqa: NPY002
    assert torch.allclose(ours, theirs, atol=0.04)


def test_smooth_grad_agrees_with_captums_in_the_long_run():
    module = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 2)).eval()
    ours = attributions(by("smooth_grad", draws=1000, noise=0.5), request(module, X, [0, 1]))
    sd = 0.5 * float(X.max() - X.min())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = captum.NoiseTunnel(captum.Saliency(module)).attribute(
            X, target=torch.tensor([0, 1]), nt_samples=1000, stdevs=sd, abs=False
        )
    assert torch.allclose(ours, theirs, atol=0.04)


def test_draws_come_from_the_generator_and_leave_global_states_alone(toy):
    before = torch.random.get_rng_state()
    for method in ("smooth_grad", "expected_gradients", "noise"):
        first, again, other = (
            attributions(by(method), request(toy, X, [0, 0], seed=seed)) for seed in (1, 1, 2)
        )
        assert torch.equal(first, again)
        assert method == "smooth_grad" or not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_grad_cam_of_channels_first_is_captums():
    module = sequential()
    x = pictures()
    target = module(x).argmax(dim=1)
    layer = chosen(module, module, x, target)
    theirs = captum.LayerGradCam(module, module.get_submodule(layer.name)).attribute(
        x, target=target
    )
    wanted = captum.LayerAttribution.interpolate(theirs.clamp_min(0), (8, 8), "bilinear")
    ours = attributions(by("grad_cam"), request(module, x, target))
    assert torch.allclose(ours.sum(dim=1, keepdim=True), wanted, atol=1e-6)


def test_grad_cam_of_tokens_lies_on_their_grid():
    """captum gives (B, 1, C) here, in silence."""
    torch.manual_seed(0)
    module = nets.ViT(pool="mean", extra=0).eval()
    x = pictures(3, 32)
    target = module(x).argmax(dim=1)
    kept = {}
    hook = module.norm.register_forward_hook(lambda of, given, made: kept.update(made=made))
    slope = torch.autograd.grad(module(x).gather(1, target[:, None]).sum(), kept["made"])[0]
    hook.remove()
    by_hand = (slope.mean(1, keepdim=True) * kept["made"]).sum(2).relu().reshape(3, 1, 8, 8)
    wanted = functional.interpolate(by_hand, (32, 32), mode="bilinear")
    ours = attributions(by("grad_cam"), request(module, x, target))
    assert torch.allclose(ours.sum(dim=1, keepdim=True), wanted, atol=1e-6)


def test_a_fitted_grad_cam_keeps_its_layer_in_another_net():
    module = sequential()
    x = pictures()
    fitted = by("grad_cam").fitted(request(module, x, [0] * 5))
    assert fitted.layer == "3"
    assert fitted.fitted(request(module, x, [0] * 5)) == fitted


def test_guided_backprop_is_captums_and_no_gradient():
    module = sequential()
    x, target = pictures(), torch.tensor([0, 1, 2, 0, 1])
    ours = attributions(by("guided_backprop"), request(module, x, target))
    # By hand: a backward pass in which each ReLU passes on the positive only.
    hooks = [
        part.register_full_backward_hook(lambda of, given, made: (given[0].clamp_min(0),))
        for part in module
        if isinstance(part, nn.ReLU)
    ]
    start = x.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(module(start).gather(1, target[:, None]).sum(), start)
    for hook in hooks:
        hook.remove()
    assert torch.allclose(ours, wanted, atol=1e-6)
    assert not torch.allclose(ours, attributions(by("saliency"), request(module, x, target)))


def test_occlusion_hides_a_window_at_a_time():
    module = sequential()
    x, target = pictures(), torch.tensor([0, 1, 2, 0, 1])
    found = attributions(by("occlusion", window=4), request(module, x, target)).sum(dim=1)
    hidden = x.clone()
    hidden[:, :, :4, 4:] = 0
    drop = (module(x) - module(hidden)).gather(1, target[:, None])
    assert torch.allclose(found[:, :4, 4:], drop[:, :, None].expand(5, 4, 4), atol=1e-5)


def test_kernel_shap_shares_a_pictures_logit_among_its_cells():
    module = sequential()
    x, target = pictures(), torch.tensor([0, 1, 2, 0, 1])
    found = attributions(by("kernel_shap", cells=2), request(module, x, target))
    gained = (module(x) - module(torch.zeros_like(x))).gather(1, target[:, None])[:, 0]
    assert torch.allclose(found.flatten(1).sum(dim=1), gained, atol=1e-5)
    cell = found[:, :, :4, :4]
    assert torch.allclose(cell, cell[:, :1, :1, :1].expand_as(cell))


@pytest.mark.parametrize("method", ["occlusion", "kernel_shap"])
def test_black_boxes_are_explained_by_asking_them(method):
    def answer(x):
        return torch.stack([x.sum(dim=1) > 1, x[:, 0]], dim=1).float()

    x = torch.tensor([[1.0, 2.0, 3.0]])
    found = attributions(by(method), request(answer, x, [1]))
    assert torch.allclose(found, torch.tensor([[1.0, 0.0, 0.0]]), atol=1e-6)


# -- refused where it misleads


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.b(functional.relu(self.a(x)))


class Reused(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.relu = nn.Linear(6, 6), nn.Linear(6, 3), nn.ReLU()

    def forward(self, x):
        return self.b(self.relu(self.a(self.relu(self.a(x)))))


def gelu():
    return nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3))


def dense():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


class Added(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.relu, self.b = nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3)

    def forward(self, x):
        return self.b(x + self.relu(self.a(x)))


REFUSED = [
    ("guided_backprop", Functional, "plain gradient"),
    ("guided_backprop", gelu, "gelu"),
    ("guided_backprop", Reused, "called more than once"),
    ("guided_backprop", lambda: nn.Linear(6, 3), "no activation"),
    ("deep_lift", Functional, "relu is performed outside"),
    ("deep_lift", gelu, "gelu"),
    ("deep_lift", Reused, "called more than once"),
    ("lrp", Functional, "outside a module"),
    ("lrp", gelu, "no rule for GELU"),
    ("lrp", Added, "residual"),
    ("grad_cam", dense, "channels and places"),
    ("edges", dense, "expected pictures"),
    ("centre", dense, "expected pictures"),
]


@pytest.mark.parametrize(("method", "net", "words"), REFUSED)
def test_a_method_that_would_mislead_is_refused_in_words(method, net, words):
    x = torch.rand((4, 6), generator=seeded())
    with pytest.raises(NotExplained, match=words):
        attributions(by(method), request(net().eval(), x, [0, 1, 2, 0]))


def test_grad_cam_is_refused_where_no_layer_knows_places():
    with pytest.raises(NotExplained, match="at least 4 x 4"):
        attributions(by("grad_cam"), request(nets.perceptron(), pictures(2, 32), [0, 1]))


@pytest.mark.parametrize("method", ["deep_lift", "lrp", "guided_backprop"])
def test_transformers_and_residual_nets_are_refused_by_what_swaps_rules(method):
    for net in (nets.ViT(), nets.ResNet()):
        if method == "guided_backprop" and isinstance(net, nets.ResNet):
            words = "called more than once"
        else:
            words = method
        with pytest.raises(NotExplained, match=words):
            attributions(by(method), request(net.eval(), pictures(2, 32), [0, 1]))


def test_the_graph_shows_every_activation_wherever_it_is_performed():
    x = torch.rand(1, 6, requires_grad=True)
    assert operations(functional.gelu(torch.relu(x)) * torch.sigmoid(x)) == {
        "relu": 1, "gelu": 1, "sigmoid": 1,
    }  # fmt: skip
    pooled = functional.max_pool2d(torch.rand(1, 1, 4, 4, requires_grad=True), 2)
    assert operations(pooled) == {"max_pool": 1}
    module = nets.DenseNet().eval()
    seen = performed(module, module, torch.rand(1, 3, 32, 32))
    assert seen.outside({"relu"}) == ["relu"]
    chain = sequential()
    assert not performed(chain, chain, pictures()).outside({"relu", "max_pool"})


def test_a_single_logit_is_explained_as_two():
    """1-D outputs with a target make captum raise; the adapter gives them two classes."""
    model = TorchModel(nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)), device="cpu")
    found = attributions(by("integrated_gradients"), request(model.module, X, [1, 1]))
    assert found.shape == X.shape


def test_a_saturated_softmax_does_not_silence_the_map():
    net = nn.Sequential(nn.Linear(3, 2, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[400.0, 0, 0], [-400.0, 0, 0]]))
    x = torch.tensor([[1.0, 0.5, 0.2]])
    slope = torch.autograd.functional.jacobian(lambda z: torch.softmax(net(z), 1)[0, 0], x)
    assert float(slope.abs().max()) == 0
    assert attributions(by("saliency"), request(net, x, [0]))[0].tolist() == [400, 0, 0]


@pytest.mark.parametrize("part", REGISTRY.parts("explainers"), ids=lambda part: part.name)
def test_what_a_method_says_of_its_cost_is_what_it_spends(part):
    explainer = part.get()()
    attends = part.name == "attention_rollout"
    model = TorchModel(nets.ViT().eval() if attends else sequential(), device="cpu")
    x = pictures(4, 32 if attends else 8)
    attributions(explainer, request(model.module, x, [0, 1, 2, 0]))
    said = explainer.passes(positions=64)
    # One row looked at beforehand and the ends of a game come on top; a chosen layer asks twice.
    assert said.forward * 4 <= model.passes.forward <= 2 * said.forward * 4 + 4
    assert said.backward * 4 <= model.passes.backward <= 2 * said.backward * 4
    assert isinstance(explainer, Explainer)
    assert part.line


@pytest.mark.parametrize(
    "name",
    [
        one.name
        for one in REGISTRY.parts("explainers")
        if one.name not in {"grad_cam", "guided_backprop", "attention_rollout"}
    ],
)
def test_what_ships_keeps_to_the_contract_of_guests(name):
    """The toy model is linear on flattened pixels: no layer keeps places or attends there, and no ReLU."""
    from dlaudit.testing import conforms

    conforms("explainer", name)


def test_the_kit_tells_what_a_guest_breaks(tmp_path):
    from dlaudit.testing import NotConforming, conforms

    plugin = tmp_path / "broken.py"
    plugin.write_text(
        "import torch\nfrom dlaudit import Explainer\n\n\n"
        "class Dice(Explainer):\n"
        '    """Random numbers from the global state."""\n\n'
        "    complete = True\n\n"
        "    def attribute(self, request):\n"
        "        return torch.rand_like(request.x)\n"
    )
    with pytest.raises(NotConforming, match="two maps with one seed differ") as caught:
        conforms("explainer", "broken.dice", plugins=[plugin])
    assert "it says complete" in str(caught.value)

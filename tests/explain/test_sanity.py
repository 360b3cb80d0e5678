"""The randomisation criterion: by hand, and on controls that must fail."""

import numpy as np
import pytest
import torch
from asking import by, request
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata
from torch import nn

from dlaudit.explain import sanity
from dlaudit.explain.explaining import attributions
from dlaudit.explain.faithfulness import edges
from dlaudit.explain.sanity import (
    Untestable,
    grid,
    leave_one_out,
    partial_spearman,
    randomised,
    trials,
    unexplained,
    verdict,
)

N = 64


def gradient_maps(method):
    """(module, x) -> grid of the maps of the decisions that the trained net took."""

    def make(module, x):
        decided = module(x).argmax(dim=1)

        def explain(of, inputs):
            maps = attributions(by(method), request(of, inputs, decided))
            return grid(maps.numpy(), pixels=True)

        return explain

    return make


def control(scored):
    """(module, x) -> grid of maps that never look at the module."""
    return lambda module, x: lambda of, inputs: grid(scored(inputs.numpy()), pixels=True)


def centre(x):
    down, across = np.indices(x.shape[-2:])
    # Distances that are all different, so that ranks have no ties to hide behind.
    one = 10 - np.hypot(down - 3.4, across - 3.3)
    return np.repeat(one[None], len(x), axis=0)


def noise_maps(module, x):
    rng = np.random.default_rng(0)
    return lambda of, inputs: rng.random((len(inputs), 64))


def judged(plain, make, seed=0):
    module, test = plain
    x = torch.from_numpy(test.x[:N])
    distance = grid(test.x[:N], pixels=True)
    rng = np.random.default_rng(seed)
    found = trials(make(module, x), module, x, rng, twins=5, keep={})
    return sanity.judged(found, distance, rng)


TABLE = [
    ("saliency", gradient_maps("saliency"), "pass"),
    ("integrated gradients", gradient_maps("integrated_gradients"), "pass"),
    ("smooth grad", gradient_maps("smooth_grad"), "pass"),
    ("edge detector", control(edges), "fail"),
    ("|x|", control(np.abs), "fail"),
    ("centre", control(centre), "fail"),
    ("noise", noise_maps, "inconclusive"),
]


@pytest.mark.parametrize(("name", "make", "expected"), TABLE, ids=[name for name, *_ in TABLE])
def test_gradients_pass_and_input_only_controls_fail(plain, name, make, expected):
    found = judged(plain, make)
    assert found.status == expected, found


def test_a_map_that_follows_from_the_input_alone_leaves_nothing_unexplained(plain):
    assert judged(plain, control(np.abs)).own == pytest.approx(0, abs=1e-9)


def test_a_partial_correlation_without_controls_that_matter_is_spearmans():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(3, 40)), rng.normal(size=(3, 40))
    from scipy.stats import spearmanr

    expected = [spearmanr(one, two).statistic for one, two in zip(a, b, strict=True)]
    assert partial_spearman(a, b, [np.ones((3, 40))]) == pytest.approx(expected)


def test_a_partial_correlation_equals_that_of_the_inverse_correlation_matrix():
    """The textbook formula: -P_ab / sqrt(P_aa P_bb) of the precision matrix of the ranks."""
    rng = np.random.default_rng(2)
    z, w = rng.normal(size=50), rng.normal(size=50)
    a, b = z + 0.5 * w + rng.normal(size=50), z - w + rng.normal(size=50)
    precision = np.linalg.inv(np.corrcoef([rankdata(one) for one in (a, b, z, w)]))
    expected = -precision[0, 1] / np.sqrt(precision[0, 0] * precision[1, 1])
    assert partial_spearman(a[None], b[None], [z[None], w[None]]) == pytest.approx([expected])


def test_what_a_control_explains_whole_correlates_with_nothing():
    z = np.arange(20.0)[None]
    assert partial_spearman(z**3, z + 1, [z]) == pytest.approx([0])
    assert unexplained(np.exp(z / 5), [z]) == pytest.approx([0])
    assert unexplained(np.ones((1, 20)), [z]) == pytest.approx([0])


def test_the_share_left_unexplained_by_hand():
    """Ranks 1, 2, 4, 3 on ranks 1, 2, 3, 4: correlation 0.8, so 0.36 is left."""
    assert unexplained(np.array([[1.0, 2.0, 9.0, 5.0]]), [np.arange(4.0)[None]]) == pytest.approx(
        [0.36]
    )


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000))
def test_a_monotone_change_of_scale_changes_no_partial_correlation(seed):
    rng = np.random.default_rng(seed)
    a, b, z = rng.normal(size=(3, 4, 12))
    found = partial_spearman(a, b, [z])
    assert partial_spearman(np.exp(a), b**3, [5 * z + 1]) == pytest.approx(found)
    assert (np.abs(found) <= 1 + 1e-12).all()
    assert partial_spearman(b, a, [z]) == pytest.approx(found)


def test_the_mean_of_the_others_leaves_the_input_out():
    maps = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 9.0]])
    assert leave_one_out(maps).tolist() == [[4.0, 6.5], [3.0, 5.5], [2.0, 3.0]]


def test_maps_are_pooled_to_eight_cells_a_side_over_all_channels():
    maps = np.zeros((1, 2, 16, 16))
    maps[0, 0, 0, 0], maps[0, 1, 1, 1] = 4, -4
    found = grid(maps, pixels=True)
    assert found.shape == (1, 64)
    assert found[0, 0] == pytest.approx(2.0)
    assert found[0, 1:].sum() == 0
    assert grid(np.array([[-1.0, 2.0]]), pixels=False).tolist() == [[1.0, 2.0]]


def test_permuting_keeps_every_value_and_moves_it():
    module = nn.Sequential(nn.Linear(8, 9), nn.ReLU(), nn.Linear(9, 3))
    twin = randomised(module, torch.rand(4, 8), np.random.default_rng(0), {})
    for before, after in zip(module.parameters(), twin.parameters(), strict=True):
        assert torch.equal(before.flatten().sort().values, after.flatten().sort().values)
    assert not torch.equal(module[0].weight, twin[0].weight)


def test_statistics_of_batch_norm_are_renewed_and_the_model_is_left_alone():
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).eval()
    module[1].running_mean.fill_(100.0)
    x = torch.rand(32, 3, generator=torch.Generator().manual_seed(0))
    twin = randomised(module, x, np.random.default_rng(0), {})
    assert torch.allclose(twin[1].running_mean, twin[0](x).mean(dim=0), atol=1e-6)
    assert float(module[1].running_mean[0]) == 100.0
    assert not twin[1].training
    assert twin[1].momentum == 0.1


def test_passes_of_randomised_twins_are_counted(plain):
    from dlaudit.models.torch_model import TorchModel

    model = TorchModel(plain[0], device="cpu")
    twin = randomised(
        model.module,
        torch.rand(4, 1, 8, 8),
        np.random.default_rng(0),
        {id(model.passes): model.passes},
    )
    twin(torch.rand(5, 1, 8, 8))
    assert model.passes.forward == 5


def test_a_model_whose_twins_are_all_silent_is_not_judged():
    class Constant(nn.Module):
        def forward(self, x):
            return x.new_zeros(len(x), 2)

    with pytest.raises(Untestable, match="maps that vary"):
        trials(
            lambda of, x: np.ones((len(x), 4)),
            Constant(),
            torch.rand(64, 4),
            np.random.default_rng(0),
            twins=2,
            keep={},
        )


def test_constant_maps_are_drawn_again_and_then_given_up(plain):
    module, test = plain
    x = torch.from_numpy(test.x[:N])
    with pytest.raises(Untestable):
        trials(
            lambda of, inputs: np.ones((N, 64)),
            module,
            x,
            np.random.default_rng(0),
            twins=2,
            keep={},
        )


@pytest.mark.parametrize("shape", [(63, 10), (64, 3)])
def test_too_little_is_not_judged(shape):
    maps = np.random.default_rng(0).random(shape)
    with pytest.raises(Untestable, match="at least 64 inputs"):
        verdict(maps, maps, [maps], maps, np.random.default_rng(0))


def test_a_correlation_between_the_thresholds_is_inconclusive():
    rng = np.random.default_rng(0)
    own, other = rng.normal(size=(2, 64, 100))
    between = 0.48 * own + (1 - 0.48**2) ** 0.5 * other
    found = verdict(own, own, [between] * 3, rng.random((64, 100)), rng)
    assert found.status == "inconclusive"
    assert sanity.OTHER_LOW < found.other < sanity.OTHER_HIGH


def test_the_same_seed_gives_the_same_verdict(plain):
    make = gradient_maps("saliency")
    assert judged(plain, make, seed=3) == judged(plain, make, seed=3)

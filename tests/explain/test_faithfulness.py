"""Deletion curves by hand, and the control that a map has to beat."""

import numpy as np
import pytest
import torch
from asking import by, request
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dlaudit.explain.explaining import attributions
from dlaudit.explain.faithfulness import Deletion, area, controls, edges, gain, scores
from dlaudit.models.torch_model import TorchModel


def table(weight, x, fill, ties=None):
    """A deletion experiment on a linear model of tabular inputs; class 0 is explained."""
    module = nn.Linear(len(weight[0]), len(weight), bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.tensor(weight))
    x = torch.tensor(x)
    ties = np.arange(x.numel(), dtype=float).reshape(x.shape) if ties is None else ties
    model = TorchModel(module, device="cpu")
    return Deletion(
        model.logits,
        x,
        torch.zeros(len(x), dtype=torch.int64),
        torch.tensor(fill),
        pixels=False,
        ties=ties,
    )


def fallen(experiment, score):
    """The area under the deletion curve."""
    return area(experiment.curves(score).deletion)


def gained(experiment, score, orders):
    found = {name: experiment.curves(one).deletion for name, one in orders.items()}
    return gain(experiment.curves(score).deletion, found, -1)


def test_the_area_of_two_features_is_the_trapezoid_by_hand():
    experiment = table([[1.0, 2.0], [0.0, 0.0]], [[1.0, 1.0]], [0.0, 0.0])

    def s(z):
        return 1 / (1 + np.exp(-z))

    # Deleting feature 1 first: logits 3, 1, 0.
    assert fallen(experiment, np.array([[1.0, 2.0]])) == pytest.approx(
        [(s(3) / 2 + s(1) + s(0) / 2) / 2]
    )
    assert fallen(experiment, np.array([[2.0, 1.0]])) == pytest.approx(
        [(s(3) / 2 + s(2) + s(0) / 2) / 2]
    )


def test_insertion_shows_what_deletion_hides():
    experiment = table([[1.0, 2.0], [0.0, 0.0]], [[1.0, 1.0]], [0.0, 0.0])
    score = np.array([[1.0, 2.0]])
    found = experiment.curves(score)

    def s(z):
        return 1 / (1 + np.exp(-z))

    assert found.deletion[0] == pytest.approx([s(3), s(1), s(0)])
    assert found.insertion[0] == pytest.approx([s(0), s(2), s(3)])
    better = gain(found.insertion, {"worse": experiment.curves(-score).insertion}, 1)
    assert better.paired == pytest.approx([(s(2) - s(1)) / 2])


def test_the_gain_is_taken_over_the_best_control():
    experiment = table([[1.0, 2.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]], [0.0, 0.0])
    good, bad = np.array([[1.0, 2.0]] * 2), np.array([[2.0, 1.0]] * 2)
    gain = gained(experiment, good, {"poor": bad, "perfect": good})
    assert gain.control == "perfect"
    assert gain.paired == pytest.approx([0, 0])
    assert (gained(experiment, good, {"poor": bad}).paired > 0).all()
    assert (gained(experiment, bad, {"perfect": good}).paired < 0).all()


def test_equal_scores_are_ordered_by_the_ties_alone():
    experiment = table(
        [[1.0, 2.0], [0.0, 0.0]], [[1.0, 1.0]], [0.0, 0.0], ties=np.array([[1.0, 0.0]])
    )
    assert fallen(experiment, np.zeros((1, 2))) == pytest.approx(
        fallen(experiment, np.array([[1.0, 2.0]]))
    )


def test_filling_with_what_stands_there_keeps_the_probability():
    experiment = table([[1.0, -2.0], [0.5, 0.0]], [[1.0, 1.0]], [1.0, 1.0])
    assert fallen(experiment, np.array([[1.0, 2.0]])) == pytest.approx([1 / (1 + np.exp(1.5))])


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), features=st.integers(2, 30))
def test_an_area_is_a_mean_probability_and_permuting_features_changes_none(seed, features):
    rng = np.random.default_rng(seed)
    weight, x = rng.normal(size=(3, features)), rng.normal(size=(4, features))
    score, ties = rng.normal(size=(4, features)), rng.random((4, features))
    order = rng.permutation(features)

    def area(columns):
        experiment = table(
            weight[:, columns].astype(np.float32).tolist(), x[:, columns].astype(np.float32).tolist(),
            [0.0] * features, ties[:, columns],
        )  # fmt: skip
        return fallen(experiment, score[:, columns])

    straight = area(np.arange(features))
    assert ((straight >= 0) & (straight <= 1)).all()
    assert area(order) == pytest.approx(straight, abs=1e-6)


def test_pixels_are_scored_with_all_their_channels():
    maps = np.arange(2 * 3 * 2 * 2, dtype=float).reshape(2, 3, 2, 2)
    found = scores(maps, pixels=True)
    assert found.shape == (2, 4)
    assert found[0].tolist() == [0 + 4 + 8, 1 + 5 + 9, 2 + 6 + 10, 3 + 7 + 11]
    assert scores(maps, pixels=False).shape == (2, 12)


def test_the_controls_never_look_at_a_model():
    x = np.zeros((2, 1, 16, 16))
    x[:, :, :, 8:] = 1
    found = controls(x, np.zeros((1, 16, 16)), np.random.default_rng(0), pixels=True)
    assert set(found) == {"random", "distance", "edges", "centre"}
    assert found["distance"][0].reshape(16, 16)[0].tolist() == [0] * 8 + [1] * 8
    blocks = found["random"][0].reshape(16, 16)
    assert (blocks[::2, ::2] == blocks[1::2, 1::2]).all()
    assert len(np.unique(blocks)) == 64
    edge = found["edges"][0].reshape(16, 16)
    assert set(np.flatnonzero(edge[5])) == {7, 8}
    centre = found["centre"][1].reshape(16, 16)
    assert centre.max() == centre[7, 7] == centre[8, 8]
    assert set(
        controls(x.reshape(2, -1), np.zeros(256), np.random.default_rng(0), pixels=False)
    ) == {"random", "distance"}


def test_edges_are_the_sobel_magnitude():
    step = np.zeros((1, 1, 5, 5))
    step[..., 2:] = 1
    # (1 2 1) across the step of 1, and its neighbours' difference -1 0 1 along it.
    assert edges(step)[0, 2].tolist() == [0, 4, 4, 0, 0]


def test_the_gradient_of_what_a_net_learned_beats_random_deletion(plain):
    module, test = plain
    x = torch.from_numpy(test.x[:64])
    target = module(x).argmax(dim=1)
    maps = attributions(by("integrated_gradients"), request(module, x, target))
    rng = np.random.default_rng(0)
    experiment = Deletion(
        TorchModel(module, device="cpu").logits,
        x,
        target,
        torch.zeros_like(x[0]),
        pixels=True,
        ties=rng.random((64, 64)),
    )
    orders = controls(test.x[:64], np.zeros((1, 8, 8)), rng, pixels=True)
    gain = gained(
        experiment, scores(maps.numpy().astype(float), pixels=True), {"random": orders["random"]}
    )
    assert gain.paired.mean() > 0.1
    noise = gained(experiment, rng.random((64, 64)), {"random": orders["random"]})
    assert abs(noise.paired.mean()) < 0.08

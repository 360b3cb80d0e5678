"""Kinds of maps: pieces of a graph by hand, a planted mark that half of a class carries, one kind else."""

import numpy as np
import planted_digits
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_digits import Digits, told
from torch import nn

from dlaudit.audit.record import Undefined
from dlaudit.explain.clusters import Clusters, eigenvalues, neighbours, parted
from dlaudit.explain.suite import SUITE


def test_a_graph_of_pieces_has_as_many_eigenvalues_of_nothing_by_hand():
    """A pair and a triangle: 0, 0, 3/2, 3/2, 2."""
    graph = np.zeros((5, 5))
    graph[0, 1] = graph[1, 0] = 1
    graph[2:, 2:] = 1 - np.eye(3)
    assert eigenvalues(graph) == pytest.approx([0, 0, 1.5, 1.5, 2], abs=1e-12)


def test_eigenvalues_are_scipys():
    from scipy.sparse.csgraph import laplacian

    graph = neighbours(np.random.default_rng(0).random((40, 6)))
    expected = np.linalg.eigvalsh(laplacian(graph, normed=True))
    assert eigenvalues(graph) == pytest.approx(expected, abs=1e-9)


def kinds(rng, sizes, spread=0.3):
    """Maps of several kinds: each kind has a place of its own, under noise."""
    maps, truth = [], np.repeat(np.arange(len(sizes)), sizes)
    for kind in truth:
        one = spread * rng.random(len(sizes) * 4)
        one[4 * kind : 4 * kind + 4] += 1
        maps.append(one)
    return np.array(maps), truth


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(1, 4))
def test_planted_kinds_are_parted_whatever_their_order_and_scale(seed, count):
    rng = np.random.default_rng(seed)
    maps, truth = kinds(rng, [40 - 5 * k for k in range(count)])
    order = rng.permutation(len(maps))
    scale = rng.uniform(0.1, 10, (len(maps), 1))
    found = parted((maps * scale)[order], rng)
    assert found.labels.max() + 1 == count
    # The largest part is called first, and each part is one kind.
    assert (found.labels == truth[order]).all()


def test_maps_of_one_kind_are_one_cluster():
    rng = np.random.default_rng(0)
    counted = [parted(kinds(rng, [60])[0], rng).labels.max() + 1 for _ in range(20)]
    assert counted.count(1) >= 19


class Corner(nn.Module):
    """Class 1 by a bright corner or by a bright middle, whichever is there."""

    def forward(self, x):
        z = 4 * (x[:, 0, :2, :2].sum((1, 2)) + x[:, 0, 3:5, 3:5].sum((1, 2))) - 4
        return torch.stack([-z, z], dim=1)


@pytest.mark.parametrize("marked", [True, False])
def test_a_mark_that_half_of_a_class_carries_makes_a_second_kind(marked, tmp_path):
    rng = np.random.default_rng(0)
    x = (0.1 * rng.random((160, 1, 8, 8))).astype(np.float32)
    y = np.arange(160) % 2
    corner = (y == 1) & (np.arange(160) % 4 == 1) & marked
    middle = (y == 1) & ~corner
    x[middle, :, 3:5, 3:5] = rng.uniform(0.6, 1, (middle.sum(), 1, 2, 2))
    x[corner, :, :2, :2] = 1
    bench = planted_digits.bench_at(
        tmp_path, Corner(), Digits(x, y), run="explain.clusters", classes=("no", "yes")
    )
    numbers, artifacts = told(Clusters(method="input_x_gradient"), bench)
    found = numbers["map_clusters", "input_x_gradient", "yes", "zero"]
    assert found.value == (2 if marked else 1)
    assert "hypothesis" in found.exact
    pictures = [one for one in artifacts if one.media_type == "image/png"]
    assert [one.name for one in pictures if one.name.endswith("yes")] == (
        ["explain.clusters.yes"] if marked else []
    )
    for one in pictures:
        assert "hypothesis" in one.caption
        assert "explain.shortcut" in one.caption
    (table,) = [one for one in artifacts if one not in pictures]
    with np.load(bench._store.folder.parent / table.path) as stored:
        if marked:
            assert len(set(stored["cluster"][corner])) == 1
            assert set(stored["cluster"][corner]) != set(stored["cluster"][middle])


def test_few_inputs_are_not_looked_at_and_no_rule_speaks_of_clusters(tmp_path):
    x = np.random.default_rng(0).random((20, 1, 8, 8)).astype(np.float32)
    bench = planted_digits.bench_at(tmp_path, Corner(), Digits(x, np.arange(20) % 2), run="c")
    numbers, _ = told(Clusters(method="saliency"), bench)
    assert all(isinstance(one, Undefined) for one in numbers.values())
    assert all("at least 30" in one.reason for one in numbers.values())
    assert not [rule for rule in SUITE.rules if rule.run == "explain.clusters"]
    with pytest.raises(ValueError, match="Did you mean saliency"):
        Clusters(method="salience")

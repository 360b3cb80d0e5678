"""Near twins are found, in cells as in all pairs, and what cells miss is measured."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from dlaudit.data_quality import neighbours, via_sklearn


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([2, 20]), st.integers(1, 4))
def test_neighbours_are_those_of_all_distances(seed, width, k):
    rng = np.random.default_rng(seed)
    one, other = rng.normal(size=(7, width)), rng.normal(size=(30, width))
    distances, places = via_sklearn.nearest(one, other, k)
    every = cdist(one, other)
    np.testing.assert_allclose(distances, np.sort(every, axis=1)[:, :k])
    np.testing.assert_allclose(np.take_along_axis(every, places, axis=1), distances)


def test_tiny_distances_survive_single_precision():
    """In many dimensions the squared expansion loses what lies below a thousandth."""
    points = 30 + np.random.default_rng(0).normal(size=(50, 40)).astype(np.float32)
    twin = points[:1].copy()
    twin[0, 0] += 1e-3
    distances, places = via_sklearn.nearest(twin, points, 1)
    assert places[0, 0] == 0
    assert distances[0, 0] == pytest.approx(1e-3, rel=0.05)


def planted(width, seed, n=3000):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, width)).astype(np.float32)
    queries = rng.normal(size=(n, width)).astype(np.float32)
    radius = neighbours.NEAR * neighbours.median_distance(points, rng)
    queries[:100] = neighbours.planted(points, radius, rng)[:100]
    return queries, points, radius, rng


@pytest.mark.parametrize("width", [2, 10, 30])
def test_cells_find_what_all_pairs_find_and_say_how_much_they_miss(width):
    queries, points, radius, rng = planted(width, width)
    every = neighbours.near(queries, points, radius, rng)
    cells = neighbours.near(queries, points, radius, rng, exact=0)
    assert every.recall is None
    true = every.place >= 0
    assert true[:100].all()
    assert not (cells.place[~true] >= 0).any()
    found = cells.place >= 0
    apart = np.linalg.norm(queries[found] - points[cells.place[found]], axis=1)
    assert (apart < radius).all()
    np.testing.assert_allclose(apart, cells.distance[found], rtol=1e-4)
    hits, asked = cells.recall
    assert asked == neighbours.PLANTED
    recall = (cells.place[true] >= 0).mean()
    assert recall >= 0.9
    assert hits / asked == pytest.approx(recall, abs=0.06)


def test_rows_of_a_crowd_cost_no_more_than_the_window():
    """A thousand rows in one cell: compared with the next along a line, not with each other."""
    rng = np.random.default_rng(0)
    crowd = (1e-4 * rng.normal(size=(1000, 3))).astype(np.float32)
    side = np.arange(1000) % 2 == 1
    place, distance = neighbours.cells(crowd, side, 1.0, rng)
    assert (place >= 0).all()
    assert (side[place] != side).all()
    assert (distance < 1e-2).all()


def test_mean_distances_leave_a_row_itself_out():
    points = np.array([[0.0], [1], [3], [7]])
    np.testing.assert_allclose(neighbours.mean_distances(points, 2), [2, 1.5, 2.5, 5])


def test_the_median_distance_is_cleanlabs():
    """Nearest other row, over all rows: datalab's near_duplicate manager, from its own graph."""
    from cleanlab.internal.neighbor.knn_graph import create_knn_graph_and_index

    points = np.random.default_rng(0).normal(size=(200, 3))
    graph, _ = create_knn_graph_and_index(points, n_neighbors=10)
    nearest = graph.data.reshape(200, -1).min(axis=1)
    found = neighbours.median_distance(points, np.random.default_rng(1))
    assert found == pytest.approx(float(np.median(nearest)))

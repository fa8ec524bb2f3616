"""Clusters of points, by hand and against all pairs."""

import time

import numpy as np
import pytest

from mpd.text.clusters import clusters, principal_components


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([], []),
        ([0.0], [[0]]),
        ([0.0, 0.25], [[0, 1]]),  # as far as eps is near
        ([0.0, 0.26], [[0], [1]]),
        ([0.0, 1.0, 0.5, 0.25, 0.75], [[0, 1, 2, 3, 4]]),  # a chain
        ([3.0, 0.0, 3.1, 0.1, 9.0], [[0, 2], [1, 3], [4]]),
    ],
)
def test_clusters_are_chains_of_near_points_and_noise_stays_alone(points, expected):
    assert clusters(np.array(points).reshape(-1, 1), 0.25) == expected


def test_principal_components_keep_the_distances_of_what_varies_most():
    points = np.array([[0.0, 0, 0], [4, 0, 0], [0, 0, 0.1], [4, 0, 0.1]])
    both = principal_components(points, 5)
    assert both.shape == (4, 3)
    assert np.linalg.norm(both[0] - both[3]) == pytest.approx(np.hypot(4, 0.1))
    (one,) = principal_components(points, 1).T
    assert np.abs(one[[1, 2, 3]] - one[0]) == pytest.approx([4, 0, 4])
    assert principal_components(np.ones((1, 3)), 5).tolist() == [[0.0]]


def components(points, eps):
    """The same from all distances, one after another."""
    near = np.linalg.norm(points[:, None] - points[None], axis=2) <= eps
    labels = np.arange(len(points))
    while ((least := np.where(near, labels, len(points)).min(axis=1)) != labels).any():
        labels = least
    return [np.flatnonzero(labels == label).tolist() for label in np.unique(labels)]


@pytest.mark.parametrize("scale", [0.1, 0.3, 1])
def test_clusters_are_those_of_all_pairs(scale):
    points = np.random.default_rng(0).standard_normal((300, 5)).astype(np.float32) * scale
    points = np.concatenate([points, points[:9]])
    found = clusters(points, 0.25)
    assert found == components(points, 0.25)
    assert 1 < len(found) <= 300 or scale == 0.1


def test_thousands_of_points_take_no_long_time():
    points = np.random.default_rng(0).standard_normal((40_000, 5)).astype(np.float32) * 0.2
    start = time.process_time()
    assert len(clusters(points, 0.25)) < 100
    assert time.process_time() - start < 20

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from streamer.models.arrays import Float32
from streamer.models.training import clustering
from streamer.models.training.clustering import fit_mixture


def unit(vectors: npt.NDArray[np.floating]) -> Float32:
    result: Float32 = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return result


def around(centres: Float32, each: int, spread: float, seed: int = 0) -> Float32:
    rng = np.random.default_rng(seed)
    return unit(
        np.repeat(centres, each, axis=0) + spread * rng.normal(size=(each * len(centres), centres.shape[1]))
    )


FIVE = np.eye(5, 12, dtype=np.float32)


def test_the_number_of_clusters_is_found() -> None:
    points = around(FIVE, 80, 0.12)
    found = clustering.stable_clustering(points, 12, 0.75, 4, np.random.default_rng(0))
    assert len(found.centres) == 5
    assert found.recurrence.min() > 0.9
    assert (found.centres @ FIVE.T).max(0).min() > 0.95


def test_clusters_of_many_points_are_found_by_mini_batches() -> None:
    points = around(FIVE[:3], 7000, 0.12)
    found = clustering.stable_clustering(points, 4, 0.75, 1, np.random.default_rng(0))
    assert len(found.centres) == 3
    assert (found.centres @ FIVE[:3].T).max(0).min() > 0.95


def test_points_that_are_all_alike_are_one_cluster() -> None:
    points = np.repeat(FIVE[:1], 100, axis=0)
    found = clustering.stable_clustering(points, 12, 0.75, 4, np.random.default_rng(0))
    assert found.centres == pytest.approx(FIVE[:1])


def test_near_duplicates_are_merged_and_the_rare_dropped() -> None:
    points = np.concatenate([around(FIVE[:2], 100, 0.05), around(FIVE[2:3], 1, 0.05)])
    twice = unit(np.concatenate([FIVE[:3], FIVE[:1] + 0.1]))
    found = clustering.Clustering(twice, np.ones(4))
    kept = clustering.pruned(points, found, near_duplicate=0.9, min_share=0.02)
    assert len(kept) == 2
    assert (kept @ FIVE[:2].T).max(0).min() > 0.98


def test_a_dissolved_cluster_is_dropped() -> None:
    found = clustering.Clustering(FIVE, np.array([1, 0.5, 0.49, 1, 1]))
    kept = clustering.pruned(around(FIVE, 10, 0.05), found, near_duplicate=0.9, min_share=0.01)
    assert (kept @ FIVE.T).max(0).round().tolist() == [1, 1, 0, 1, 1]


def test_the_best_cluster_is_never_dropped() -> None:
    found = clustering.Clustering(FIVE, np.array([0.1, 0.2, 0.1, 0.1, 0.1]))
    kept = clustering.pruned(around(FIVE, 10, 0.05), found, near_duplicate=0.9, min_share=0.9)
    assert kept == pytest.approx(FIVE[1:2])


def test_parents_are_the_groups_of_the_centres() -> None:
    groups = unit(np.repeat(FIVE[:3], 3, axis=0) + 0.25 * np.eye(9, 12, k=3, dtype=np.float32))
    parents = clustering.parents_of(around(groups, 40, 0.03), groups)
    assert [len(set(parents[i : i + 3].tolist())) for i in (0, 3, 6)] == [1, 1, 1]
    assert len(set(parents.tolist())) == 3


def test_a_point_between_or_far_from_all_centres_is_unsure() -> None:
    points = np.concatenate([around(FIVE, 80, 0.12), unit(np.random.default_rng(1).normal(size=(60, 12)))])
    mixture = fit_mixture(points, FIVE)
    far = unit(-np.ones((1, 12)))
    near, between, outside = mixture.responsibilities(
        np.concatenate([FIVE[:1], unit(FIVE[:1] + FIVE[1:2]), far])
    )
    assert near.max() > 0.9
    assert between[0] == pytest.approx(between[1], abs=0.05)
    assert 0.25 < between[0] <= 0.5
    assert outside.max() < 0.5
    assert 0.05 < mixture.background < 0.3


def test_responsibilities_add_up_and_the_nearest_centre_leads() -> None:
    points = around(FIVE, 50, 0.3)
    shares = fit_mixture(points, FIVE).responsibilities(points)
    assert shares.sum(1) == pytest.approx(np.ones(len(points)), abs=1e-5)
    assert (shares.argmax(1) == clustering.nearest(points, FIVE)).mean() > 0.95


def test_the_same_seed_gives_the_same_centres() -> None:
    points = around(FIVE, 50, 0.3)
    first, second = (
        clustering.stable_clustering(points, 7, 0.75, 2, np.random.default_rng(4)).centres for _ in range(2)
    )
    assert first.tobytes() == second.tobytes()

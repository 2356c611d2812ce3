from __future__ import annotations

import numpy as np
import pytest

from streamer.models.llm.teacher import _places, stratified


def crowds(*sizes: int) -> np.ndarray:
    """Points around as many corners as there are sizes."""
    rng = np.random.default_rng(0)
    corners = 20 * np.eye(len(sizes), 8)
    return np.concatenate(
        [corner + rng.normal(size=(n, 8)) for corner, n in zip(corners, sizes, strict=True)]
    ).astype(np.float32)


def test_rare_behaviour_is_seen_more_often_than_at_random() -> None:
    points = crowds(2000, 60)
    rows = stratified(points, 40, np.random.default_rng(1))
    assert len(set(rows.tolist())) == 40
    assert (rows >= 2000).sum() >= 3  # at random: one


def test_a_sample_of_more_than_there_is_is_all_of_it() -> None:
    assert sorted(stratified(crowds(5), 9, np.random.default_rng(0)).tolist()) == list(range(5))


def test_the_same_generator_gives_the_same_sample() -> None:
    points = crowds(300, 50)
    once, again = (stratified(points, 30, np.random.default_rng(3)).tolist() for _ in range(2))
    assert once == again


def test_sessions_that_are_all_alike_can_be_sampled() -> None:
    assert len(stratified(np.ones((100, 4), np.float32), 30, np.random.default_rng(0))) == 30


@pytest.mark.parametrize(("sizes", "wanted"), [([100, 1, 4], 20), ([3, 3, 3], 9), ([1] * 10, 4), ([50], 7)])
def test_every_place_is_given_and_no_stratum_gets_more_than_it_has(sizes: list[int], wanted: int) -> None:
    places = _places(sizes, wanted)
    assert sum(places) == wanted
    assert all(0 <= place <= size for place, size in zip(places, sizes, strict=True))

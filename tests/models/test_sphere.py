from __future__ import annotations

import numpy as np
import pytest

from streamer.models.sphere import Sphere


def drawn(count: int) -> tuple[np.ndarray, np.ndarray]:
    """[N, 6], and [N]: who has an attribute that moves the first two numbers."""
    rng = np.random.default_rng(0)
    has = rng.random(count) < 0.4
    points = rng.normal(size=(count, 6))
    points[:, :2] += 5.0 * has[:, None]
    return points.astype(np.float32), has


def test_an_attribute_that_is_projected_out_moves_nothing() -> None:
    points, has = drawn(2_000)
    seen, blind = (Sphere.of(points, attribute).project(points) for attribute in (None, has))
    assert np.linalg.norm(seen[has].mean(0) - seen[~has].mean(0)) > 1
    assert np.linalg.norm(blind[has].mean(0) - blind[~has].mean(0)) < 0.1
    assert np.linalg.norm(blind, axis=1) == pytest.approx(np.ones(2_000), abs=1e-5)


def test_what_has_nothing_to_do_with_the_attribute_stays() -> None:
    points, has = drawn(2_000)
    sphere = Sphere.of(points, has)
    moved = points.copy()
    moved[:, 4] += 3.0
    around = sphere.project(moved) - sphere.project(points)
    assert around[:, 4].mean() > 0.4


@pytest.mark.parametrize("few", [0, 99])
def test_an_attribute_of_too_few_says_nothing(few: int) -> None:
    points, _ = drawn(400)
    rare = np.arange(400) < few
    for attribute in (rare, ~rare):
        assert np.array_equal(Sphere.of(points, attribute).project(points), Sphere.of(points).project(points))

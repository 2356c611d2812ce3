"""Several seeds as one figure."""

from __future__ import annotations

import numpy as np
import pytest

from models.evaluation.bootstrap import Resampled
from models.evaluation.pooling import as_arrays, from_arrays, pooled, versus


def seed(value: float, spread: float, draws: int = 2_000) -> dict[str, Resampled]:
    rng = np.random.default_rng(int(value * 1_000))
    noise = rng.normal(size=draws) * spread
    return {"m/a": Resampled(value, value + noise), "m/b": Resampled(value - 0.1, value - 0.1 + noise)}


def test_the_value_is_the_mean_over_seeds() -> None:
    found = pooled([seed(0.1, 0.01), seed(0.2, 0.01), seed(0.6, 0.01)], np.random.default_rng(0))
    assert found["m/a"].value == pytest.approx(0.3)


def test_the_interval_is_as_wide_as_seeds_differ_not_only_visitors() -> None:
    alike = pooled([seed(0.3, 0.01)] * 3, np.random.default_rng(0))["m/a"].estimate()
    apart = pooled([seed(v, 0.01) for v in (0.1, 0.3, 0.5)], np.random.default_rng(0))["m/a"].estimate()
    assert alike.high - alike.low < 0.05 < 0.2 < apart.high - apart.low


def test_contenders_stay_paired() -> None:
    found = pooled([seed(v, 0.2) for v in (0.2, 0.3)], np.random.default_rng(0))
    assert np.allclose(found["m/a"].draws - found["m/b"].draws, 0.1)


def test_a_contender_that_is_always_above_is_found_so_and_one_that_is_the_same_is_not() -> None:
    found = seed(0.5, 0.01)
    found["m/c"] = found["m/a"]
    against = versus(found, "m", "a", ["b", "c"])
    assert against["b"]["low"] > 0.2
    assert against["b"]["p_holm"] < 0.01
    assert against["c"]["value"] == 0.0
    assert against["c"]["p_holm"] == 1.0


def test_draws_survive_being_kept_as_arrays() -> None:
    found = from_arrays(as_arrays(seed(0.5, 0.01)))
    assert found["m/a"].value == 0.5
    assert np.array_equal(found["m/a"].draws, seed(0.5, 0.01)["m/a"].draws)

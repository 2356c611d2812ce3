from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from streamer.models.evaluation.bootstrap import (
    Resampled,
    as_arrays,
    cluster_numbers,
    from_arrays,
    gap_closed,
    holm,
    more_of_gap,
    over_draws,
    p_value,
    pooled,
    relative_change,
    resample,
    versus,
)
from streamer.models.evaluation.metrics import Measured


def mean_of(values: np.ndarray) -> Measured:
    numbers = np.stack([values, np.ones_like(values)], axis=1)
    return Measured(numbers, lambda sums: sums[..., 0] / sums[..., 1], "higher")


def drawn(values: list[float], value: float | None = None) -> Resampled:
    array = np.array(values)
    return Resampled(float(array.mean()) if value is None else value, array)


def test_with_one_row_a_visitor_the_interval_is_that_of_a_plain_bootstrap() -> None:
    values = np.random.default_rng(0).exponential(size=300)
    ours = resample({"m": mean_of(values)}, np.arange(300), np.random.default_rng(1), 4_000)["m"].estimate()
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", rng=np.random.default_rng(2), n_resamples=4_000
    )
    assert ours.value == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.02)


def test_rows_of_one_visitor_count_as_one_draw() -> None:
    """Ten equal rows a visitor tell no more than one row would."""
    values = np.random.default_rng(0).normal(size=100)
    single = resample({"m": mean_of(values)}, np.arange(100), np.random.default_rng(1), 4_000)["m"].estimate()
    clusters = np.repeat(np.arange(100), 10)
    repeated = resample({"m": mean_of(np.repeat(values, 10))}, clusters, np.random.default_rng(1), 4_000)
    assert repeated["m"].estimate().high == pytest.approx(single.high)
    as_if_independent = resample(
        {"m": mean_of(np.repeat(values, 10))}, np.arange(1_000), np.random.default_rng(1)
    )
    narrow = as_if_independent["m"].estimate()
    assert narrow.high - narrow.low < 0.5 * (single.high - single.low)


def test_a_draw_takes_all_rows_of_a_visitor() -> None:
    """Two visitors, one with three rows: the mean over rows is one of three values, by who was drawn."""
    values, clusters = np.array([1.0, 2.0, 6.0, 9.0]), np.array([0, 0, 0, 1])
    draws = resample({"m": mean_of(values)}, clusters, np.random.default_rng(0), 400)["m"].draws
    assert np.unique(draws.round(9)).tolist() == [3.0, 4.5, 9.0]


def test_contenders_are_compared_on_the_same_draws() -> None:
    values = np.random.default_rng(0).normal(size=80)
    both = resample(
        {"a": mean_of(values), "b": mean_of(values + 0.1)}, np.arange(80), np.random.default_rng(1), 500
    )
    assert both["b"].draws - both["a"].draws == pytest.approx(np.full(500, 0.1))
    assert p_value(both["b"], both["a"]) == pytest.approx(2 / 501)


def test_a_contender_equal_to_the_baseline_is_not_significant() -> None:
    same = drawn([1.0, 2.0, 3.0])
    assert p_value(same, same) == 1.0


def test_gap_closed_is_nought_at_the_floor_and_one_at_the_oracle() -> None:
    floor, oracle = drawn([2.0, 2.2]), drawn([1.0, 1.2])
    assert gap_closed(floor, floor, oracle).value == 0.0
    assert gap_closed(oracle, floor, oracle).value == 1.0
    assert gap_closed(drawn([1.25, 1.45]), floor, oracle).value == pytest.approx(0.75)
    assert gap_closed(drawn([2.5, 2.7]), floor, oracle).value == pytest.approx(-0.5)


def test_more_of_a_gap_is_the_difference_of_two_shares_in_every_draw() -> None:
    floor, oracle = drawn([2.0, 2.2]), drawn([1.0, 1.2])
    more = more_of_gap(drawn([1.25, 1.5]), drawn([1.5, 1.7]), floor, oracle)
    assert more.value == pytest.approx(0.225)
    assert (more.low, more.high) == pytest.approx((0.2, 0.25), abs=0.01)


def test_relative_change_is_negative_where_the_value_fell() -> None:
    assert relative_change(drawn([0.9, 0.9]), drawn([1.0, 1.0])).value == pytest.approx(-0.1)


def test_visitors_are_numbered_in_order_of_appearance() -> None:
    assert cluster_numbers(["b", "a", "b", "c"]).tolist() == [0, 1, 0, 2]


def test_holm_gives_the_worked_example() -> None:
    corrected = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert corrected == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})


def test_holm_never_exceeds_one_and_keeps_the_order_of_the_names() -> None:
    corrected = holm({"x": 0.9, "y": 0.8})
    assert corrected == {"x": 1.0, "y": 1.0}
    assert list(corrected) == ["x", "y"]


def seed(value: float, spread: float, draws: int = 2_000) -> dict[str, Resampled]:
    rng = np.random.default_rng(int(value * 1_000))
    noise = rng.normal(size=draws) * spread
    return {"m/a": Resampled(value, value + noise), "m/b": Resampled(value - 0.1, value - 0.1 + noise)}


def test_over_draws_of_labels_the_interval_is_as_wide_as_these_differ() -> None:
    rng = np.random.default_rng(0)
    alike = over_draws([seed(0.3, 0.01)] * 8, rng)["m/a"]
    apart = over_draws([seed(value, 0.01) for value in np.linspace(0.1, 0.5, 8)], rng)["m/a"]
    assert alike.value == pytest.approx(apart.value)
    assert alike.draws.std() == pytest.approx(0.01, rel=0.1)
    assert apart.draws.std() > 0.04


def test_over_draws_of_labels_contenders_stay_paired() -> None:
    found = over_draws([seed(v, 0.2) for v in (0.2, 0.3)], np.random.default_rng(0))
    assert np.allclose(found["m/a"].draws - found["m/b"].draws, 0.1)


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

"""Slices: a planted gap is found, chance isn't, and every row is in one slice of each dimension."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.models.evaluation.metrics import Measured, share_of
from streamer.models.evaluation.report_tables import slice_tables
from streamer.models.evaluation.slices import (
    FEWEST_VISITORS,
    NONE,
    OTHER,
    Direction,
    SliceMetric,
    dimensions_of,
    measure_slices,
    slice_table,
)
from streamer.models.evaluation.steps_slices import belonging
from streamer.schemas.click import Click, Session

DRAWS = 400


def metric(right: list[float], better: Direction = "higher", visitors: int | None = None) -> SliceMetric:
    rows = np.arange(len(right))
    numbers = np.stack([np.array(right, dtype=np.float64), np.ones(len(right))], axis=1)
    names = [f"v{row % (visitors or len(right))}" for row in rows.tolist()]
    return SliceMetric(share_of(numbers), rows, names, better)


def table(measured: SliceMetric, **dimensions: list[str]) -> dict[str, dict[str, object]]:
    rng = np.random.default_rng(1)
    result = slice_table([measure_slices({"right": measured}, dimensions, rng, DRAWS)], rng)
    return {cell["slice"]: cell for cell in result["cells"]}


def shares(*pairs: tuple[float, int]) -> list[float]:
    """Of each pair: this share of so many rows is 1."""
    return [float(place < share * count) for share, count in pairs for place in range(count)]


def test_a_slice_that_is_worse_is_found_and_the_other_is_better() -> None:
    found = table(metric(shares((0.6, 200), (0.9, 300))), device=["mobile"] * 200 + ["desktop"] * 300)
    assert (found["mobile"]["verdict"], found["desktop"]["verdict"]) == ("worse", "better")
    gap = found["mobile"]["gap"]
    assert isinstance(gap, dict)
    assert gap["value"] == pytest.approx(-0.3)
    assert gap["low"] < -0.3 < gap["high"] < 0


def test_less_is_better_where_that_is_said() -> None:
    found = table(metric(shares((0.6, 200), (0.9, 300)), "lower"), device=["a"] * 200 + ["b"] * 300)
    assert (found["a"]["verdict"], found["b"]["verdict"]) == ("better", "worse")


def test_nearer_to_zero_is_better_where_that_is_said() -> None:
    numbers = np.array([[-0.2 - 0.01 * (i % 3), 1.0] for i in range(200)] + [[0.01, 1.0]] * 200)
    measured = Measured(numbers, lambda sums: sums[..., 0] / sums[..., 1], "lower")
    over = SliceMetric(measured, np.arange(400), [f"v{i}" for i in range(400)], "zero")
    found = table(over, device=["a"] * 200 + ["b"] * 200)
    assert (found["a"]["verdict"], found["b"]["verdict"]) == ("worse", "better")


def test_chance_alone_is_not_shown_as_a_difference_in_many_slices() -> None:
    """Uncorrected, two of them would be."""
    rng = np.random.default_rng(6)
    names = [f"s{i}" for i in rng.integers(0, 30, 1_800).tolist()]
    found = table(metric(rng.integers(0, 2, 1_800).astype(float).tolist()), referrer=names)
    assert len(found) == 30
    assert {cell["verdict"] for cell in found.values()} == {"no difference shown"}


def test_a_gap_of_one_talkative_visitor_is_chance() -> None:
    """500 rows of one visitor aren't 500 visitors."""
    measured = metric([0.0] * 500 + [1.0] * 500)
    few = SliceMetric(measured.measured, measured.session, ["one"] * 500 + ["another"] * 500, "higher")
    assert table(few, device=["a"] * 500 + ["b"] * 500) == {}


def test_slices_of_too_few_visitors_are_named_and_not_judged() -> None:
    rng = np.random.default_rng(1)
    count = FEWEST_VISITORS - 1
    values = ["tablet"] * count + ["mobile"] * 200 + ["desktop"] * 200
    draws = measure_slices({"right": metric([1.0] * len(values))}, {"device": values}, rng, DRAWS)
    found = slice_table([draws], rng)
    assert [each["slice"] for each in found["too_few"]] == ["tablet"]
    assert found["too_few"][0]["visitors"] == count
    assert found["tests"] == 2


def test_the_two_slices_of_a_dimension_are_one_test() -> None:
    rng = np.random.default_rng(1)
    draws = measure_slices(
        {"right": metric(shares((0.5, 400)))}, {"login": ["yes", "no"] * 200, "x": ["a"] * 400}, rng, DRAWS
    )
    assert slice_table([draws], rng)["tests"] == 1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=60))
def test_slices_of_a_dimension_add_up_to_all_rows(rows: list[tuple[str, bool]]) -> None:
    measured = metric([float(right) for _, right in rows], visitors=7)
    draws = measure_slices(
        {"m": measured}, {"d": [name for name, _ in rows]}, np.random.default_rng(0), draws=2
    )
    names = sorted({name for name, _ in rows})
    inside = [draws.rows[f"m|d|{name}|in"] for name in names]
    assert sum(inside) == draws.rows["m|all"] == len(rows)
    values = [draws.resampled[f"m|d|{name}|in"].value for name in names]
    weighted = sum(value * count for value, count in zip(values, inside, strict=True))
    assert weighted == pytest.approx(draws.resampled["m|all"].value * len(rows))
    assert all(draws.rows[f"m|d|{name}|rest"] == len(rows) - draws.rows[f"m|d|{name}|in"] for name in names)


def session(visitor: str, hour: int, clicks: int = 1, **more: object) -> Session:
    at = hour * 3_600_000
    user = more.pop("user_id", None)
    click = Click(at, "e", "page_view", **more)  # type: ignore[arg-type]
    return Session(f"{visitor}{hour}", visitor, user, at, at, at, clicks, "gap", False, [click])  # type: ignore[arg-type]


def test_sessions_have_one_slice_of_each_dimension() -> None:
    sessions = [session("b", 30, 9), session("b", 1, 65, user_id="u"), session("c", 12, 2)]
    found = dimensions_of(sessions)
    assert found["hour (UTC)"] == ["06 to 11", "00 to 05", "12 to 17"]
    assert found["clicks"] == ["9 to 16", "65 or more", "2 to 4"]
    assert found["login"] == ["not logged in", "logged in", "not logged in"]
    assert found["visit"] == ["returning", "new", "new"]
    assert found["device"] == [NONE] * 3


def test_rare_referrers_are_not_named() -> None:
    """A rare one may point at a person."""
    sessions = [session(f"v{i}", i, referrer="search.example") for i in range(FEWEST_VISITORS)]
    found = dimensions_of([*sessions, session("w", 1, referrer="me.example")])["referrer"]
    assert found == ["search.example"] * FEWEST_VISITORS + [OTHER]


def test_a_table_marks_only_what_is_shown_to_differ() -> None:
    from tests.models.evaluation.made_results import slices

    (found,) = slice_tables(slices())
    rows = {row[0]: row for row in found.rows}
    assert "worse, p 0.004" in rows["mobile"][2]
    assert "better" in rows["desktop"][2]
    assert "worse" not in rows["mobile"][3]
    assert rows["tablet"][2:] == ("too few", "too few")


def test_a_label_belongs_to_intents_that_it_is_finer_or_coarser_than() -> None:
    sessions = np.array(
        [
            # One intent in two labels, two intents in one label, an intent without a label of its own.
            [60, 40, 0, 2],
            [0, 0, 70, 3],
            [0, 1, 50, 0],
            [0, 0, 0, 0],
        ]
    )
    expected = [[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert belonging(sessions).astype(int).tolist() == expected

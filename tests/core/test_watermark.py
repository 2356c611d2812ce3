"""Rows of the semantics table: watermark, when a session closes, order per record, late, refused."""

from __future__ import annotations

import pytest

from streamer.core.sessionizer import Outcome
from streamer.core.watermark import NEVER
from tests.core.partition import BOUND, GAP, Partition

END = 5000 + GAP
"""Window end of a session whose last click is at 5000."""

# -- the watermark of a partition


def test_watermark_is_the_event_time_less_the_bound() -> None:
    partition = Partition()
    partition.click(5000, arrival=5030)
    assert partition.watermark == 5000 - BOUND


def test_watermark_takes_the_arrival_of_a_click_whose_clock_is_ahead() -> None:
    partition = Partition()
    partition.click(5300, arrival=5000)
    assert partition.watermark == 5000 - BOUND


def test_clock_that_runs_ahead_closes_nobody_elses_session() -> None:
    partition = Partition()
    partition.click(5000)
    partition.click(END + BOUND + 200, arrival=END + BOUND, visitor="ahead")
    assert partition.closed == []


def test_watermark_never_goes_back() -> None:
    partition = Partition()
    partition.click(5000)
    partition.click(4900, arrival=5000)
    assert partition.watermark == 5000 - BOUND


def test_watermark_before_the_first_click_is_below_every_time() -> None:
    assert Partition().watermark == NEVER


def test_arrival_clock_is_a_running_maximum() -> None:
    partition = Partition()
    partition.click(5000, arrival=5100)
    partition.click(5290, arrival=5000)
    assert partition.sessionizer.clock.now == 5100
    assert partition.watermark == 5100 - BOUND


def test_watermark_rises_with_each_click_and_not_with_each_batch() -> None:
    partition = Partition()
    partition.click(5000, visitor="ann")
    partition.click(END + BOUND + 1, visitor="bob")
    partition.click(5100, visitor="ann", arrival=END + BOUND + 1)
    assert partition.spans == [(5000, 5000)]
    assert (5100, 5100) in partition.open_spans


# -- closes


@pytest.mark.parametrize(
    ("at", "closes"), [(END + BOUND - 1, False), (END + BOUND, False), (END + BOUND + 1, True)]
)
def test_session_closes_when_the_watermark_is_strictly_beyond_its_window(at: int, closes: bool) -> None:
    partition = Partition()
    partition.click(5000)
    partition.click(at, visitor="bob")
    assert partition.spans == ([(5000, 5000)] if closes else [])


def test_session_closes_with_its_reason_at_the_arrival_of_the_click_that_passed_it() -> None:
    partition = Partition()
    partition.click(5000)
    partition.click(END + BOUND + 1, visitor="bob", arrival=9999)
    [session] = partition.closed
    assert (session.close_reason, session.closed_at) == ("gap", 9999)


def test_click_that_closes_a_session_does_not_join_it() -> None:
    partition = Partition()
    partition.clicks(5000, END + BOUND + 1)
    assert partition.spans == [(5000, 5000)]
    assert partition.closed[0].event_count == 1


def test_session_that_grew_closes_by_its_new_end() -> None:
    partition = Partition()
    partition.clicks(5000, 5900)
    partition.click(5900 + GAP + BOUND, visitor="bob")
    assert partition.closed == []
    partition.click(5900 + GAP + BOUND + 1, visitor="bob")
    assert partition.spans == [(5000, 5900)]


def test_each_of_a_visitors_sessions_closes_in_its_own_time() -> None:
    partition = Partition()
    partition.clicks(5000, 6500)
    partition.click(END + BOUND + 1, visitor="bob")
    assert partition.spans == [(5000, 5000)]
    partition.click(6500 + GAP + BOUND + 1, visitor="bob")
    assert partition.spans == [(5000, 5000), (6500, 6500)]


# -- order per record


def test_duplicate_is_found_before_anything_else_is_done_with_a_click() -> None:
    partition = Partition()
    partition.click(5000, "x", event_type="page_view")
    assert partition.click(5000, "x", event_type="logout", user="u") is Outcome.DUPLICATE
    [session] = partition.drain()
    assert (session.close_reason, session.user_id) == ("drain", None)


# -- late


def late_bench() -> Partition:
    """A partition whose watermark is 8000."""
    partition = Partition()
    partition.click(8000 + BOUND, visitor="bob")
    return partition


@pytest.mark.parametrize(
    ("at", "outcome"), [(6999, Outcome.LATE), (7000, Outcome.JOINED), (7001, Outcome.JOINED)]
)
def test_click_is_late_when_its_own_window_has_ended_before_the_watermark(at: int, outcome: Outcome) -> None:
    partition = late_bench()
    assert partition.click(at, arrival=8000 + BOUND) is outcome


@pytest.mark.parametrize(("at", "outcome"), [(5999, Outcome.LATE), (6000, Outcome.JOINED)])
def test_late_is_judged_on_the_session_that_the_click_would_join(at: int, outcome: Outcome) -> None:
    partition = late_bench()
    partition.click(7000, arrival=8000 + BOUND)
    assert partition.click(at, arrival=8000 + BOUND) is outcome
    assert partition.open_spans[0] == ((6000 if outcome is Outcome.JOINED else 7000), 7000)


def test_click_of_a_closed_session_has_its_own_session_if_that_can_still_be_open() -> None:
    partition = Partition()
    partition.clicks(5000, 5900)
    partition.click(5900 + GAP + BOUND + 1, visitor="bob")
    assert partition.spans == [(5000, 5900)]
    assert partition.click(5899, arrival=9000) is Outcome.LATE
    assert partition.click(5901, arrival=9000) is Outcome.JOINED
    assert (5901, 5901) in partition.open_spans


def test_late_click_changes_nothing() -> None:
    partition = late_bench()
    partition.sessionizer.take_changed()
    before = partition.watermark
    assert partition.click(5000, arrival=8000 + BOUND, user="u") is Outcome.LATE
    assert partition.watermark == before
    assert partition.sessionizer.changed_count == 0
    assert partition.sessionizer.open_count == 1


# -- refused


@pytest.mark.parametrize(("ahead", "outcome"), [(300, Outcome.JOINED), (301, Outcome.TOO_NEW)])
def test_click_further_in_the_future_than_allowed_is_refused(ahead: int, outcome: Outcome) -> None:
    partition = Partition()
    assert partition.click(5000 + ahead, arrival=5000) is outcome


@pytest.mark.parametrize(("at", "outcome"), [(999, Outcome.TOO_OLD), (1000, Outcome.JOINED)])
def test_click_before_the_first_allowed_moment_is_refused(at: int, outcome: Outcome) -> None:
    partition = Partition()
    assert partition.click(at, arrival=1100) is outcome


@pytest.mark.parametrize("at", [999, 50_000])
def test_refused_click_does_not_move_the_watermark_and_changes_nothing(at: int) -> None:
    partition = Partition()
    partition.click(5000)
    partition.sessionizer.take_changed()
    partition.click(at, arrival=5100)
    assert partition.watermark == 5000 - BOUND
    assert partition.sessionizer.changed_count == 0
    assert partition.open_spans == [(5000, 5000)]

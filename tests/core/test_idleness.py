"""Row of the semantics table: idleness closes sessions at a computed moment and never moves the watermark."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamer.core.sessionizer import Outcome
from tests.core.partition import BOUND, GAP, IDLE_AFTER, RULES, Partition

T_STAR = 5000 + IDLE_AFTER + GAP + BOUND
"""When idleness closes a session whose only click, at 5000, was the last to raise the watermark."""


def one_click() -> Partition:
    partition = Partition(idle_closing=True)
    partition.click(5000)
    return partition


@pytest.mark.parametrize(("now", "closes"), [(T_STAR - 1, False), (T_STAR, True), (T_STAR + 1, True)])
def test_idleness_closes_a_session_at_its_moment(now: int, closes: bool) -> None:
    partition = one_click()
    partition.idle(now)
    assert partition.spans == ([(5000, 5000)] if closes else [])


@pytest.mark.parametrize("ticks", [[T_STAR], [99_999], [5001, 5500, T_STAR - 1, T_STAR + 3], [10**9]])
def test_closed_at_is_computed_and_not_the_timers_tick(ticks: list[int]) -> None:
    partition = one_click()
    for tick in ticks:
        partition.idle(tick)
    [session] = partition.closed
    assert (session.close_reason, session.closed_at) == ("idle", T_STAR)


def test_idleness_never_moves_the_watermark() -> None:
    partition = one_click()
    partition.idle(99_999)
    assert partition.watermark == 5000 - BOUND
    assert partition.click(4900, arrival=99_999) is Outcome.JOINED


def test_sessions_close_one_by_one_as_idleness_lasts() -> None:
    partition = Partition(idle_closing=True)
    partition.click(5000, visitor="ann")
    partition.click(5040, visitor="bob")
    t_star = 5040 + IDLE_AFTER + GAP + BOUND - 40
    partition.idle(t_star)
    assert partition.spans == [(5000, 5000)]
    partition.idle(t_star + 40)
    assert partition.spans == [(5000, 5000), (5040, 5040)]
    assert [session.closed_at for session in partition.closed] == [t_star, t_star + 40]


def test_partition_that_gets_only_garbage_closes_its_sessions() -> None:
    partition = one_click()
    for arrival in range(5000, T_STAR + 500, 10):
        assert partition.click(1, arrival=arrival) is Outcome.TOO_OLD
    assert partition.closed[0].closed_at == T_STAR


def test_record_at_the_very_moment_comes_after_the_close() -> None:
    partition = one_click()
    assert partition.click(5001, arrival=T_STAR) is Outcome.JOINED
    assert partition.closed[0].event_count == 1


def test_click_that_raises_the_watermark_starts_idleness_anew() -> None:
    partition = one_click()
    partition.click(5010, visitor="bob", arrival=6000)
    t_star = 6000 + IDLE_AFTER + GAP + BOUND - 10
    partition.idle(t_star - 1)
    assert partition.closed == []
    partition.idle(t_star)
    assert partition.spans == [(5000, 5000)]


@pytest.mark.parametrize("event_id", ["late riser", "e0"])
def test_click_that_does_not_raise_the_watermark_does_not_break_idleness(event_id: str) -> None:
    partition = one_click()
    partition.click(5000, event_id, arrival=6000)
    partition.idle(99_999)
    assert partition.closed[0].closed_at == T_STAR


def test_session_that_a_straggler_extends_in_idleness_closes_by_its_new_end() -> None:
    partition = Partition(idle_closing=True)
    partition.click(5000, visitor="bob")
    partition.click(4000, visitor="ann", arrival=5001)
    partition.click(4900, visitor="ann", arrival=5002)
    partition.idle(99_999)
    assert [(s.visitor_id, s.closed_at) for s in partition.closed] == [("ann", T_STAR - 100), ("bob", T_STAR)]


def test_click_whose_window_idleness_has_already_passed_closes_at_its_own_arrival() -> None:
    partition = one_click()
    assert partition.click(5000, "x", visitor="bob", arrival=T_STAR + 700) is Outcome.JOINED
    session = partition.closed[-1]
    assert (session.visitor_id, session.close_reason, session.closed_at) == ("bob", "idle", T_STAR + 700)


def test_session_is_open_to_the_moment_that_a_click_in_idleness_leaves_it() -> None:
    partition = one_click()
    partition.click(4999, "x", visitor="bob", arrival=T_STAR - 2)
    assert partition.closed == []
    partition.idle(T_STAR - 1)
    assert [(s.visitor_id, s.closed_at) for s in partition.closed] == [("bob", T_STAR - 1)]


def test_idleness_before_the_first_click_means_nothing() -> None:
    partition = Partition(idle_closing=True)
    partition.idle(10**9)
    assert partition.click(10**9) is Outcome.JOINED
    assert partition.closed == []


@pytest.mark.parametrize(
    "partition",
    [Partition(replace(RULES, idle_after_ms=0), idle_closing=True), Partition(RULES, idle_closing=False)],
    ids=["idle_after_0", "no_idle_closing"],
)
def test_idleness_closes_nothing_where_it_is_switched_off(partition: Partition) -> None:
    partition.click(5000)
    partition.idle(10**9)
    assert partition.open_spans == [(5000, 5000)]

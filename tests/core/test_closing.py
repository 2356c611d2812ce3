"""Rows of the semantics table: caps, end events, bots, order of closing, drain, closing by portions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamer.core.rules import SessionRules
from streamer.core.sessionizer import Outcome, Sessionizer
from streamer.schemas.click import Session
from tests.core.partition import BOUND, GAP, IDLE_AFTER, RULES, Partition, a_click

Summary = tuple[int, int, int, str]


def summaries(partition: Partition) -> list[Summary]:
    """(started_at, ended_at, event_count, close_reason) of the closed sessions."""
    return [(s.started_at, s.ended_at, s.event_count, s.close_reason) for s in partition.closed]


# -- caps

THREE = replace(RULES, max_events=3)
SHORT = replace(RULES, max_duration_ms=1500)


def test_click_beyond_max_events_closes_the_session_and_starts_the_next() -> None:
    partition = Partition(THREE)
    partition.clicks(5000, 5001, 5002)
    assert partition.closed == []
    partition.click(5003, arrival=5050)
    assert summaries(partition) == [(5000, 5002, 3, "max_events")]
    assert partition.closed[0].closed_at == 5050
    assert partition.open_spans == [(5003, 5003)]


def test_session_may_last_exactly_max_duration() -> None:
    partition = Partition(SHORT)
    partition.clicks(5000, 5900, 6500)
    assert partition.open_spans == [(5000, 6500)]


def test_click_beyond_max_duration_closes_the_session_and_starts_the_next() -> None:
    partition = Partition(SHORT)
    partition.clicks(5000, 5900, 6501)
    assert summaries(partition) == [(5000, 5900, 2, "max_duration")]
    assert partition.open_spans == [(6501, 6501)]


def test_out_of_order_click_that_would_start_a_session_too_early_closes_it_and_starts_its_own() -> None:
    partition = Partition(SHORT)
    partition.clicks(5000, 5900)
    partition.click(4399, arrival=5900)
    assert summaries(partition) == [(5000, 5900, 2, "max_duration")]
    assert partition.open_spans == [(4399, 4399)]


@pytest.mark.parametrize("inside", [5000, 5450, 5900])
def test_out_of_order_click_inside_a_session_of_full_length_joins_it(inside: int) -> None:
    partition = Partition(SHORT)
    partition.clicks(5000, 5900, 6500)
    assert partition.click(inside, arrival=6500) is Outcome.JOINED
    assert partition.closed == []


def test_sessions_whose_union_is_exactly_at_a_cap_merge() -> None:
    for rules in (THREE, SHORT):
        partition = Partition(rules)
        partition.clicks(5000, 6500)
        partition.click(5750, arrival=6500)
        assert partition.open_spans == [(5000, 6500)]


def test_sessions_whose_union_would_exceed_max_events_do_not_merge_the_earlier_closes() -> None:
    partition = Partition(THREE)
    partition.clicks(5000, 5001, 6501)
    partition.click(5750, arrival=6501)
    assert summaries(partition) == [(5000, 5001, 2, "max_events")]
    assert partition.open_spans == [(5750, 6501)]


def test_sessions_whose_union_would_exceed_max_duration_do_not_merge_the_earlier_closes() -> None:
    partition = Partition(SHORT)
    partition.clicks(5000, 6501)
    partition.click(5750, arrival=6501)
    assert summaries(partition) == [(5000, 5000, 1, "max_duration")]
    assert partition.open_spans == [(5750, 6501)]


def test_click_between_two_sessions_that_can_take_none_closes_both_in_order() -> None:
    partition = Partition(replace(RULES, max_events=1))
    partition.clicks(5000, 6501)
    partition.click(5750, arrival=6501)
    assert summaries(partition) == [(5000, 5000, 1, "max_events"), (6501, 6501, 1, "max_events")]
    assert partition.open_spans == [(5750, 5750)]


@pytest.mark.parametrize("rules", [THREE, replace(SHORT, gap_ms=1400)])
def test_late_click_that_would_exceed_a_cap_closes_nothing(rules: SessionRules) -> None:
    partition = Partition(rules)
    partition.clicks(5000, 5001, 6000)
    partition.click(4499 + rules.gap_ms + BOUND + 1, visitor="bob")
    assert partition.click(4499, arrival=9000) is Outcome.LATE
    assert partition.closed == []


def test_session_at_a_cap_still_closes_by_the_watermark() -> None:
    partition = Partition(THREE)
    partition.clicks(5000, 5001, 5002)
    partition.click(5002 + GAP + BOUND + 1, visitor="bob")
    assert summaries(partition) == [(5000, 5002, 3, "gap")]


# -- end events


def test_end_event_closes_its_session_with_itself_on_arrival() -> None:
    partition = Partition()
    partition.click(5000)
    partition.click(5010, event_type="logout", arrival=5060)
    assert summaries(partition) == [(5000, 5010, 2, "explicit")]
    assert partition.closed[0].closed_at == 5060


def test_click_after_an_end_event_starts_the_next_session() -> None:
    partition = Partition()
    partition.click(5000, event_type="logout")
    partition.click(5001)
    assert summaries(partition) == [(5000, 5000, 1, "explicit")]
    assert partition.open_spans == [(5001, 5001)]


def test_end_event_that_arrives_before_earlier_clicks_leaves_them_to_the_next_session() -> None:
    partition = Partition()
    partition.click(5000, event_type="logout")
    partition.click(4990, arrival=5000)
    assert partition.open_spans == [(4990, 4990)]


def test_end_event_between_two_sessions_closes_their_union() -> None:
    partition = Partition()
    partition.clicks(5000, 6500)
    partition.click(5750, event_type="logout", arrival=6500)
    assert summaries(partition) == [(5000, 6500, 3, "explicit")]


def test_end_event_moves_the_watermark() -> None:
    partition = Partition()
    partition.click(5000, event_type="logout")
    assert partition.watermark == 5000 - BOUND


def test_late_end_event_closes_nothing() -> None:
    partition = Partition()
    partition.click(9500, visitor="bob")
    partition.click(8000, visitor="ann", arrival=9500)
    assert partition.click(6000, event_type="logout", arrival=9500) is Outcome.LATE
    assert partition.closed == []


# -- bots

LONG = replace(RULES, gap_ms=200_000, max_duration_ms=10**7, out_of_orderness_ms=200_000)


def with_clicks(times: list[int]) -> Session:
    partition = Partition(LONG)
    for at in times:
        assert partition.click(at, arrival=max(times)) is Outcome.JOINED
    return partition.drain()[0]


@pytest.mark.parametrize(
    ("count", "span", "is_bot"), [(99, 0, False), (100, 0, True), (100, 100_000, True), (100, 100_001, False)]
)
def test_hundred_clicks_within_hundred_seconds_are_a_bot_bounds_inclusive(
    count: int, span: int, is_bot: bool
) -> None:
    assert with_clicks([5000] * (count - 1) + [5000 + span]).is_bot is is_bot


def test_bot_is_found_in_the_middle_of_a_session_in_any_order() -> None:
    burst = [500_000 + 1000 * i for i in range(100)]
    assert with_clicks([310_000, *reversed(burst), 790_000, 700_000]).is_bot
    slow = [500_000 + 1011 * i for i in range(100)]
    assert not with_clicks([310_000, *reversed(slow), 790_000, 700_000]).is_bot


def test_bot_is_flagged_and_not_dropped() -> None:
    assert with_clicks([5000] * 150).event_count == 150


def test_one_click_of_a_crawler_flags_its_session_also_through_a_merge() -> None:
    partition = Partition()
    partition.click(5000, crawler=True)
    partition.click(6500)
    partition.click(5750, arrival=6500)
    partition.click(9000, visitor="bob")
    assert [session.is_bot for session in partition.drain()] == [True, False]


# -- order of closing


@pytest.mark.parametrize("how", ["watermark", "idleness", "drain"])
def test_sessions_that_close_together_do_so_in_order_of_ended_at_then_session_id(how: str) -> None:
    partition = Partition(idle_closing=how == "idleness")
    for number, at in enumerate([5003, 5001, 5001, 5002, 5001, 5001, 5003]):
        partition.click(at, visitor=f"visitor{number}", arrival=5010)
    if how == "watermark":
        partition.click(50_000, visitor="bob")
    elif how == "idleness":
        partition.idle(50_000)
    else:
        partition.drain()
    places = [(session.ended_at, session.session_id) for session in partition.closed]
    assert [ended_at for ended_at, _ in places] == [5001, 5001, 5001, 5001, 5002, 5003, 5003]
    assert places == sorted(places)


def test_what_a_cap_closes_comes_before_what_the_same_click_closes_by_the_watermark() -> None:
    partition = Partition(replace(RULES, max_events=1, out_of_orderness_ms=0))
    partition.click(5000, visitor="ann")
    partition.click(5900, visitor="bob")
    partition.click(6001, visitor="bob")
    assert [(s.visitor_id, s.close_reason) for s in partition.closed] == [
        ("bob", "max_events"),
        ("ann", "gap"),
    ]


# -- end of input


def test_drain_closes_everything_at_the_arrival_clock() -> None:
    partition = Partition()
    partition.click(5000, visitor="ann")
    partition.click(6500, visitor="ann")
    partition.click(6000, visitor="bob", arrival=6600)
    partition.drain()
    assert summaries(partition) == [
        (5000, 5000, 1, "drain"),
        (6000, 6000, 1, "drain"),
        (6500, 6500, 1, "drain"),
    ]
    assert {session.closed_at for session in partition.closed} == {6600}
    assert partition.sessionizer.open_count == 0
    assert list(partition.sessionizer.visitors()) == []


def test_drain_first_gives_what_was_due() -> None:
    sessionizer = Sessionizer(RULES)
    sessionizer.arrive(5000)
    sessionizer.add("ann", a_click(5000, "x"), 0)
    sessionizer.arrive(5000 + IDLE_AFTER + GAP + BOUND + 7)
    assert [session.close_reason for session in sessionizer.drain()] == ["idle"]


# -- closing by portions


def many_due() -> Sessionizer:
    """Two sessions that the last click has closed by a cap; nine more that idleness will close."""
    sessionizer = Sessionizer(replace(RULES, max_events=1))
    sessionizer.arrive(20_000)
    for number in range(7):
        sessionizer.add(f"v{number}", a_click(19_000 + number % 3, f"a{number}"), number)
    for number in range(3):
        sessionizer.add(f"v{number}", a_click(17_500, f"b{number}"), 10 + number)
    sessionizer.add("v0", a_click(18_250, "c"), 20)
    return sessionizer


def test_sessions_taken_by_portions_are_the_same_as_all_at_once() -> None:
    at_once = many_due()
    everything = at_once.close_due(100)
    at_once.arrive(10**6)
    everything += at_once.close_due(100)
    assert len(everything) == 11
    for limit in (1, 2, 3, 7, 10):
        by_portions, taken = many_due(), []
        while by_portions.has_due:
            taken += by_portions.close_due(limit)
        by_portions.arrive(10**6)
        while by_portions.has_due:
            portion = by_portions.close_due(limit)
            assert len(portion) <= limit
            taken += portion
        assert taken == everything


def test_what_one_click_closes_by_caps_is_never_split_since_it_is_no_longer_open() -> None:
    sessionizer = many_due()
    assert [session.close_reason for session in sessionizer.close_due(1)] == ["max_events", "max_events"]


def test_nothing_is_due_after_everything_was_taken() -> None:
    sessionizer = many_due()
    sessionizer.close_due(100)
    assert not sessionizer.has_due
    assert sessionizer.close_due(100) == []


def test_visitors_whose_sessions_change_or_close_are_named() -> None:
    partition = Partition()
    partition.click(5000, visitor="ann")
    partition.click(5001, visitor="bob")
    changed, gone = partition.sessionizer.take_changed()
    assert (changed.keys(), gone) == ({"ann", "bob"}, [])
    partition.click(5000 + GAP + BOUND + 1, visitor="carl")
    changed, gone = partition.sessionizer.take_changed()
    assert (changed.keys(), gone) == ({"carl"}, ["ann"])
    assert partition.sessionizer.changed_count == 0


def test_a_session_changes_again_after_it_was_taken_and_at_the_next_owner() -> None:
    partition = Partition()
    for at in (5000, 5001, 5002, 5003):
        partition.clicks(at)
        assert list(partition.sessionizer.take_changed()[0]) == ["ann"]
        if at > 5000:
            partition.sessionizer = Sessionizer(RULES, sessions=partition.sessionizer.stored_sessions())


def test_changed_sessions_come_by_visitor_and_start() -> None:
    partition = Partition()
    partition.clicks(5000, 5001, visitor="ann")
    partition.clicks(7000, 5000, visitor="bob")
    partition.clicks(7002, visitor="carl")
    sessionizer = partition.sessionizer
    changed, _ = sessionizer.take_changed()
    windows = sessionizer.sessions_of(changed)
    assert [(w.visitor_id, w.started_at) for w in windows] == [
        ("ann", 5000),
        ("bob", 5000),
        ("bob", 7000),
        ("carl", 7002),
    ]
    assert windows == sessionizer.sessions_of(dict.fromkeys(changed))


def test_a_session_that_an_end_event_closes_comes_after_the_visitors_earlier_one_that_it_closes_too() -> None:
    partition = Partition(replace(RULES, end_events=frozenset({"logout"})))
    partition.click(5000)
    second = 5000 + GAP + 1
    partition.clicks(second, second + GAP)
    ends_the_first = 5000 + GAP + BOUND + 1
    assert partition.closed == []
    partition.click(ends_the_first, event_type="logout")
    assert [(s.started_at, s.close_reason) for s in partition.closed] == [(5000, "gap"), (second, "explicit")]
    assert len({s.closed_at for s in partition.closed}) == 1

"""A click that is sent again after its session closed is a duplicate or late; it never opens it again."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core import closed
from streamer.core.rules import SessionRules
from streamer.core.sessionizer import Outcome, Sessionizer
from tests.core.naive import Record
from tests.core.partition import BOUND, GAP, IDLE_AFTER, RULES, Partition
from tests.core.test_core_equals_naive import ALL_RULES, Stopped, random_records

JOINED, DUPLICATE, LATE = Outcome.JOINED, Outcome.DUPLICATE, Outcome.LATE


def ended(*, more: tuple[int, ...] = ()) -> Partition:
    """A session from 5000 to 5200 that a logout closed, and clicks at `more`."""
    partition = Partition()
    partition.click(5000, "first")
    partition.click(5100, "second")
    partition.click(5200, "out", event_type="logout")
    partition.clicks(*more)
    return partition


def counts(partition: Partition) -> list[int]:
    return [session.event_count for session in partition.drain()]


@pytest.mark.parametrize("event_id", ["first", "second", "out"])
@pytest.mark.parametrize("at", [5000, 5200, 5900])
def test_click_of_a_session_that_an_end_event_closed_is_a_duplicate_whatever_its_time(
    event_id: str, at: int
) -> None:
    partition = ended()
    assert partition.click(at, event_id, arrival=6000) is DUPLICATE
    assert counts(partition) == [3]


def test_end_event_sent_twice_ends_one_session() -> None:
    partition = ended()
    assert partition.click(5200, "out", event_type="logout") is DUPLICATE
    assert counts(partition) == [3]


def test_click_of_a_closed_session_does_not_join_the_next() -> None:
    partition = ended(more=(5300, 5400))
    assert partition.click(5000, "first", arrival=5500) is DUPLICATE
    assert partition.spans + partition.open_spans == [(5000, 5200), (5300, 5400)]


def test_another_click_of_that_time_starts_a_session() -> None:
    partition = ended()
    assert partition.click(5000, "other", arrival=6000) is JOINED
    assert partition.click(5000, "first", visitor="bob", arrival=6000) is JOINED


def test_sessions_of_a_cap_are_remembered() -> None:
    partition = Partition(replace(RULES, max_events=2))
    partition.clicks(5000, 5100, 5200, 5300, 5400)
    assert [partition.click(5000 + 100 * n, f"e{n}", arrival=5400) for n in range(5)] == [DUPLICATE] * 5
    assert counts(partition) == [2, 2, 1]


def test_sessions_that_idleness_closed_are_remembered() -> None:
    partition = Partition(idle_closing=True)
    partition.click(5000, "first")
    partition.idle(5000 + IDLE_AFTER + GAP + BOUND)
    assert [session.close_reason for session in partition.closed] == ["idle"]
    assert partition.click(5000, "first", arrival=9000) is DUPLICATE


def test_sessions_that_were_drained_are_remembered() -> None:
    partition = Partition()
    partition.click(5000, "first")
    partition.drain()
    assert partition.click(5000, "first") is DUPLICATE


def test_ids_are_remembered_until_the_watermark_passes_and_the_click_is_late() -> None:
    partition = ended()
    partition.click(5200 + GAP + BOUND, visitor="bob")
    assert partition.click(5200, "out", arrival=9000) is DUPLICATE
    partition.click(5200 + GAP + BOUND + 1, visitor="bob")
    assert partition.click(5200, "out", arrival=9000) is LATE
    assert all(window.is_open for window in partition.sessionizer.stored_sessions())


def test_ids_stay_as_long_as_those_of_the_visitors_next_session() -> None:
    partition = ended(more=(6000,))
    partition.click(6100, event_type="logout")
    partition.click(6000 + GAP + BOUND, visitor="bob")
    assert partition.click(5000, "first", arrival=9200) is DUPLICATE
    partition.click(6101 + GAP + BOUND, visitor="bob")
    assert partition.click(5000, "first", arrival=9200) is LATE


def test_late_click_does_not_become_the_first_of_the_session_after_a_closed_one() -> None:
    partition = ended(more=(5300, 6000, 7000, 8000, 9000))
    assert partition.watermark > 5200 + GAP
    assert partition.click(5000, "first", arrival=9000) is LATE
    assert partition.click(5300, "a", arrival=9000) is LATE
    assert partition.click(5301, "within", arrival=9000) is JOINED
    assert partition.open_spans == [(5300, 9000)]


def test_late_click_moves_the_start_of_an_only_session() -> None:
    partition = Partition()
    partition.clicks(5000, 6000, 7000, 8000, 9000)
    assert partition.click(4500, "old", arrival=9000) is JOINED
    assert partition.click(4000, "older", arrival=9000) is JOINED
    assert partition.open_spans == [(4000, 9000)]


def test_visitor_is_stored_until_the_ids_are_forgotten() -> None:
    partition = ended()
    sessionizer = partition.sessionizer
    changed, gone = sessionizer.take_changed()
    (known,) = sessionizer.sessions_of(changed)
    assert (list(changed), gone, known.is_open, known.event_count) == (["ann"], [], False, 3)
    partition.click(5300)
    windows = sessionizer.sessions_of(sessionizer.take_changed()[0])
    assert [(window.is_open, window.event_count) for window in windows] == [(True, 1), (False, 3)]
    partition.click(5301 + GAP + BOUND, visitor="bob")
    assert sessionizer.take_changed()[1] == ["ann"]


def test_erasure_takes_the_ids_along() -> None:
    partition = ended()
    assert partition.sessionizer.forget("ann", 4999) == 0
    assert partition.click(5000, "first", arrival=5300) is DUPLICATE
    assert partition.sessionizer.forget("ann", 5000) == 0
    assert partition.sessionizer.take_changed()[1] == ["ann"]
    assert partition.click(5000, "first", arrival=5300) is JOINED


def test_of_one_visitor_the_latest_clicks_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closed, "MAX_CLICKS_OF_VISITOR", 3)
    partition = Partition(replace(RULES, max_events=2))
    partition.clicks(5000, 5100, 5200, 5300, 5400)
    again = [partition.click(5000 + 100 * n, f"e{n}", arrival=5400) for n in (1, 2, 3)]
    assert again == [DUPLICATE] * 3
    assert partition.click(5000, "e0", arrival=5400) is JOINED


def test_of_one_visitor_as_many_clicks_are_remembered_as_a_session_may_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(closed, "MAX_CLICKS_OF_VISITOR", 1)
    partition = ended()
    assert partition.click(5000, "first", arrival=5300) is DUPLICATE


def test_partition_remembers_no_more_than_it_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closed, "MAX_CLICKS", 2)
    partition = Partition()
    for visitor, at in (("ann", 5000), ("bob", 5001), ("cid", 5002)):
        partition.click(at, visitor, visitor=visitor, event_type="logout")
    again = [partition.click(5002, visitor, visitor=visitor) for visitor in ("ann", "bob", "cid")]
    assert again == [DUPLICATE, DUPLICATE, JOINED]
    partition.click(5003 + GAP + BOUND, visitor="dan")
    partition.click(9000, "eve", visitor="eve", event_type="logout")
    assert partition.click(9000, "eve", visitor="eve") is DUPLICATE


def test_room_is_the_same_after_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closed, "MAX_CLICKS", 5)
    partition = ended()
    partition.click(5300, event_type="logout")
    before = partition.sessionizer
    partition.sessionizer = Sessionizer(RULES, clock=before.clock, sessions=before.stored_sessions())
    partition.click(5400, "in", visitor="bob", event_type="logout")
    partition.click(5400, "out", visitor="cid", event_type="logout")
    assert partition.click(5400, "in", visitor="bob") is DUPLICATE
    assert partition.click(5400, "out", visitor="cid") is JOINED


def resent(dice: random.Random, records: list[Record], rules: SessionRules) -> list[Record]:
    """No new click is more than the bound out of order; clicks that were not refused as too new, and so were
    taken in once, are sent again, as they were, any time later."""
    log: list[Record] = []
    taken_in: list[Record] = []
    arrival = watermark = 0
    for record in records:
        arrival = max(arrival, record.arrival)
        watermark = max(watermark, min(record.at, arrival) - rules.out_of_orderness_ms)
        at = max(record.at, watermark)
        log.append(record._replace(place=len(log), at=at, event_id=f"{record.event_id} at {at}"))
        if log[-1].at - arrival <= rules.max_future_ms:
            taken_in.append(log[-1])
        while taken_in and dice.random() < 0.4:
            again = dice.choice(taken_in)
            log.append(again._replace(place=len(log), arrival=record.arrival))
    return log


@pytest.mark.parametrize("rules", ALL_RULES.values(), ids=ALL_RULES)
@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**64), stopped=st.booleans())
def test_session_ids_of_a_log_are_unique_whatever_is_sent_again(
    rules: SessionRules, seed: int, stopped: bool
) -> None:
    dice = random.Random(seed)
    log = resent(dice, random_records(dice, most=60), rules)
    sessions = Stopped(rules, dice if stopped else None).run(log).sessions
    assert len({session.session_id for session in sessions}) == len(sessions)

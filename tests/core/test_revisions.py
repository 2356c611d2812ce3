"""Clicks that come after their session has closed, where it is held: they give a revision of it."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core import held
from streamer.core.rules import SessionRules
from streamer.core.sessionizer import Outcome, Sessionizer
from streamer.schemas.click import Session
from tests.core.naive import Record
from tests.core.partition import BOUND, GAP, IDLE_AFTER, RULES, Partition
from tests.core.test_core_equals_naive import REVISING_RULES, Stopped, random_records
from tests.oracle import expected_sessions

WITHIN = 4000
REVISING = replace(RULES, revise_within_ms=WITHIN)
JOINED, LATE, DUPLICATE = Outcome.JOINED, Outcome.LATE, Outcome.DUPLICATE


def told(session: Session) -> tuple[int, int, int, int, str, int]:
    return (
        session.started_at,
        session.ended_at,
        session.event_count,
        session.closed_at,
        session.close_reason,
        session.revision,
    )


def closed_by_bob(*, until: int = 8200) -> Partition:
    """Ann's session from 5000 to 5200 has closed: Bob's click has moved the watermark beyond it."""
    partition = Partition(REVISING)
    partition.clicks(5000, 5200)
    partition.click(until + 1, visitor="bob")
    assert [told(session) for session in partition.closed] == [(5000, 5200, 2, until + 1, "gap", 0)]
    return partition


def test_a_click_within_a_closed_session_gives_a_revision_of_it_at_its_arrival() -> None:
    partition = closed_by_bob()
    assert partition.click(5100, arrival=9000) is JOINED
    first, second = partition.closed
    assert told(second) == (5000, 5200, 3, 9000, "gap", 1)
    assert (second.session_id, second.supersedes) == (first.session_id, None)
    assert second.is_final
    assert partition.open_spans == [(8201, 8201)]


def test_a_click_before_the_start_gives_it_another_id_and_names_the_one_before() -> None:
    partition = closed_by_bob()
    partition.click(4500, arrival=9000)
    partition.click(4600, arrival=9100)
    first, second, third = partition.closed
    assert told(second) == (4500, 5200, 3, 9000, "gap", 1)
    assert (second.supersedes, third.supersedes) == (first.session_id, None)
    assert third.session_id == second.session_id != first.session_id


def test_a_click_that_joins_two_closed_sessions_gives_one_that_supersedes_the_later() -> None:
    partition = Partition(REVISING)
    partition.clicks(5000, 6500)
    partition.click(6500 + GAP + BOUND + 1, visitor="bob")
    a, b = partition.closed
    partition.click(5800, arrival=9900)
    merged = partition.closed[-1]
    assert told(merged) == (5000, 6500, 3, 9900, "gap", 1)
    assert (merged.session_id, merged.supersedes) == (a.session_id, b.session_id)


def test_a_click_that_joins_a_closed_session_to_an_open_one_opens_it_again() -> None:
    partition = Partition(REVISING)
    partition.click(5000)
    partition.click(8500, visitor="bob")
    (a,) = partition.closed
    partition.click(6700)
    partition.click(5900, arrival=8600)
    assert len(partition.closed) == 1
    assert partition.open_spans == [(5000, 6700), (8500, 8500)]
    merged = next(each for each in partition.drain() if each.revision)
    assert told(merged) == (5000, 6700, 3, 8600, "drain", 1)
    assert (merged.session_id, merged.supersedes) == (a.session_id, None)


def test_where_a_merge_brings_the_end_forward_past_idleness_the_click_closes_it_at_its_arrival() -> None:
    partition = Partition(REVISING, idle_closing=True)
    partition.click(5000, event_id="same")
    partition.click(6001, event_id="same", arrival=8100)  # more than a gap later: a session of its own
    assert [told(session) for session in partition.closed] == [(5000, 5000, 1, 8050, "idle", 0)]
    assert partition.click(5500, arrival=10_800) is JOINED  # what ends at 5500 was due at 10 649
    assert told(partition.closed[-1]) == (5000, 5500, 2, 10_800, "idle", 1)


def test_a_session_that_idleness_closed_goes_on() -> None:
    partition = Partition(REVISING, idle_closing=True)
    partition.click(5000)
    partition.idle(9000)
    assert [session.close_reason for session in partition.closed] == ["idle"]
    assert partition.click(5900, arrival=9100) is JOINED
    assert partition.open_spans == [(5000, 5900)]
    partition.idle(9200 + BOUND + GAP + IDLE_AFTER)
    assert told(partition.closed[-1]) == (5000, 5900, 2, 9100 + IDLE_AFTER + 5900 + GAP - 3900, "idle", 1)


def test_a_session_that_a_drain_closed_goes_on() -> None:
    partition = Partition(REVISING)
    partition.click(5000)
    partition.drain()
    partition.click(5900)
    partition.drain()
    assert [told(s) for s in partition.closed] == [
        (5000, 5000, 1, 5000, "drain", 0),
        (5000, 5900, 2, 5900, "drain", 1),
    ]


def test_a_click_of_no_session_is_one_of_its_own_at_its_arrival() -> None:
    partition = closed_by_bob()
    assert partition.click(3500, arrival=9000) is JOINED
    assert told(partition.closed[1]) == (3500, 3500, 1, 9000, "gap", 0)


def test_the_latest_session_stays_the_latest_when_an_earlier_one_is_revised() -> None:
    partition = Partition(REVISING)
    partition.clicks(5000, 6500)
    partition.click(6500 + GAP + BOUND + 1, visitor="bob")
    early, latest = partition.closed
    partition.click(4900, arrival=9900)
    revised, again = partition.closed[2:]
    assert (revised.supersedes, revised.started_at) == (early.session_id, 4900)
    assert again == replace(latest, revision=1, closed_at=9900)


@pytest.mark.parametrize(("watermark", "outcome"), [(6200 + WITHIN, JOINED), (6200 + WITHIN + 1, LATE)])
def test_a_session_is_held_until_the_watermark_is_beyond_it_by_the_bound(
    watermark: int, outcome: Outcome
) -> None:
    partition = closed_by_bob()
    partition.click(watermark + BOUND, visitor="bob")
    assert partition.watermark == watermark
    assert partition.click(5200, "other") is outcome


def test_a_click_of_a_held_session_that_is_sent_again_is_a_duplicate() -> None:
    partition = closed_by_bob()
    assert partition.click(5200, "e1", arrival=9000) is DUPLICATE
    assert len(partition.closed) == 1


def test_an_event_id_may_come_again_more_than_a_gap_later() -> None:
    partition = Partition(REVISING)
    partition.click(5000, "1")
    partition.click(8500, "1")
    assert [session.event_count for session in partition.drain()] == [1, 1]


@pytest.mark.parametrize(("at", "spans"), [(5100, [(5000, 5200)]), (5200, [(5000, 5200), (5200, 5200)])])
def test_a_session_that_an_end_event_closed_takes_clicks_of_before_its_end(
    at: int, spans: list[tuple[int, int]]
) -> None:
    partition = Partition(REVISING)
    partition.click(5000)
    partition.click(5200, event_type="logout")
    partition.click(at, arrival=5300)
    sessions = {s.session_id: s for s in partition.drain()}
    assert [(s.started_at, s.ended_at) for s in sessions.values()] == spans
    assert next(iter(sessions.values())).close_reason == "explicit"


def test_a_click_of_before_the_logout_does_not_join_the_session_after_it() -> None:
    partition = Partition(REVISING)
    partition.click(5000)
    partition.click(5200, event_type="logout")
    partition.click(5300)
    partition.click(5100, arrival=5400)
    assert told(partition.closed[-1]) == (5000, 5200, 3, 5400, "explicit", 1)
    assert partition.open_spans == [(5300, 5300)]


def test_a_click_of_another_user_leaves_a_closed_session_as_it_was() -> None:
    partition = Partition(REVISING)
    partition.click(5000, user="u1")
    partition.click(5200, user="u1")
    partition.click(8500, visitor="bob")
    partition.click(5100, user="u2", arrival=8600)
    assert [(s.user_id, s.started_at, s.ended_at) for s in partition.closed] == [
        ("u1", 5000, 5200),
        ("u2", 5100, 5100),
    ]
    # It was cut there: what it might have gone on with is the other's.
    partition.click(5900, arrival=8700)
    assert [(s.user_id, s.started_at, s.ended_at) for s in partition.drain()[2:3]] == [("u2", 5100, 5900)]


def test_a_login_that_comes_late_makes_the_session_the_users() -> None:
    partition = closed_by_bob()
    partition.click(5100, user="u1", arrival=9000)
    assert [session.user_id for session in partition.closed] == [None, "u1"]


def test_a_click_that_would_exceed_a_cap_starts_a_session() -> None:
    partition = Partition(replace(REVISING, max_events=2))
    partition.clicks(5000, 5200)
    partition.click(8500, visitor="bob")
    partition.click(5100, arrival=8600)
    assert [(s.started_at, s.event_count, s.revision) for s in partition.closed] == [
        (5000, 2, 0),
        (5100, 1, 0),
    ]


def test_a_revision_may_show_a_bot() -> None:
    partition = closed_by_bob()
    partition.click(5100, arrival=9000, crawler=True)
    assert [session.is_bot for session in partition.closed] == [False, True]


def test_held_sessions_are_stored_and_go_on_after_a_restart() -> None:
    partition = closed_by_bob()
    before = partition.sessionizer
    changed, gone = before.take_changed()
    stored = before.sessions_of(changed)
    assert [(window.visitor_id, window.is_open, window.is_held) for window in stored] == [
        ("ann", False, True),
        ("bob", True, False),
    ]
    assert gone == []
    partition.sessionizer = Sessionizer(REVISING, clock=before.clock, sessions=stored)
    partition.click(5100, arrival=9000)
    assert told(partition.closed[-1]) == (5000, 5200, 3, 9000, "gap", 1)
    partition.click(6201 + WITHIN + BOUND, visitor="bob")
    assert "ann" in partition.sessionizer.take_changed()[1]


def test_without_the_rule_what_was_held_is_dropped_or_known_by_its_ids() -> None:
    partition = Partition(REVISING)
    partition.clicks(5000, 6500)
    partition.click(6600, "out", event_type="logout")
    partition.click(8500, visitor="bob")
    before = partition.sessionizer
    after = Sessionizer(RULES, clock=before.clock, sessions=before.stored_sessions())
    assert [window.is_open for window in after.stored_sessions()] == [True, False]
    assert after.take_changed() == ({"ann": None}, [])


def test_an_erasure_takes_held_sessions_along() -> None:
    partition = closed_by_bob()
    assert partition.sessionizer.forget("ann", 4999) == 0
    assert partition.sessionizer.forget("ann", 5000) == 0
    assert partition.click(5100, arrival=9000) is JOINED
    assert told(partition.closed[-1]) == (5100, 5100, 1, 9000, "gap", 0)


def test_of_one_visitor_those_that_end_last_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "MAX_SESSIONS_OF_VISITOR", 1)
    partition = Partition(REVISING)
    partition.clicks(5000, 6500)
    partition.click(9700, visitor="bob")
    partition.click(5100, "a", arrival=9700)
    partition.click(6600, "b", arrival=9700)
    # The first is known no more: the click is one of its own, and not held either.
    assert [(s.started_at, s.ended_at, s.revision) for s in partition.closed] == [
        (5000, 5000, 0),
        (6500, 6500, 0),
        (5100, 5100, 0),
        (6500, 6500, 1),
        (6500, 6600, 2),
    ]


def test_rules_have_another_version_only_where_there_are_revisions() -> None:
    assert replace(RULES, revise_within_ms=0).version == RULES.version
    assert REVISING.version != RULES.version


def newest(sessions: list[Session]) -> dict[str, Session]:
    """What a consumer has in the end that keeps the newest revision and drops what it supersedes."""
    kept: dict[str, Session] = {}
    for session in sessions:
        known = kept.get(session.session_id)
        if session.is_final and (known is None or session.revision > known.revision):
            kept[session.session_id] = session
            kept.pop(session.supersedes or "", None)
    return kept


def within_bound(dice: random.Random, records: list[Record], bound: int) -> list[Record]:
    """Clicks of a few visitors, none further behind the latest than `bound`; some are sent twice."""
    kept: list[Record] = []
    reached = arrival = 0
    for place, record in enumerate(records):
        arrival = max(arrival, record.arrival)
        reached = max(reached, min(record.at, arrival))
        at = max(record.at, reached - dice.randint(0, bound))
        kept.append(record._replace(at=at, user=None, end=False, event_id=f"e{place}"))
        again = dice.choice(kept)
        if again.at >= reached - bound:
            kept.append(again._replace(arrival=record.arrival))
            reached = max(reached, min(again.at, arrival))  # it may have been too new the first time
    return [record._replace(place=place) for place, record in enumerate(kept)]


@pytest.mark.parametrize("stopped", [False, True], ids=["in_one_go", "stopped_and_restored"])
@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**64))
def test_in_the_end_there_are_the_sessions_of_all_clicks_in_order(stopped: bool, seed: int) -> None:
    dice = random.Random(seed)
    within = dice.choice((5, 25, 100))
    rules = replace(REVISING_RULES["revising"], revise_within_ms=within, min_timestamp_ms=0)
    bound = rules.out_of_orderness_ms + rules.revise_within_ms
    records = within_bound(dice, random_records(dice, most=60), bound)
    run = Stopped(rules, dice if stopped else None).run(records)
    clicks = [
        {
            "visitor_id": record.visitor,
            "timestamp": record.at,
            "event_id": record.event_id,
            "event_type": "page_view",
        }
        for record, outcome in zip(records, run.outcomes, strict=True)
        if outcome != "too_new"
    ]
    expected = expected_sessions(clicks, gap_ms=rules.gap_ms)
    found = sorted(newest(run.sessions).values(), key=lambda s: (s.visitor_id, s.started_at))
    assert "late" not in run.outcomes
    assert [(s.visitor_id, s.started_at, s.ended_at, s.event_count) for s in found] == [
        (each.visitor_id, each.started_at, each.ended_at, each.event_count) for each in expected
    ]


@pytest.mark.parametrize("rules", REVISING_RULES.values(), ids=REVISING_RULES)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**64))
def test_every_record_is_new_and_the_visitors_last_one_is_the_latest(seed: int, rules: SessionRules) -> None:
    dice = random.Random(seed)
    sessions = Stopped(rules).run(random_records(dice, most=60)).sessions
    revisions: dict[str, int] = {}
    for session in sessions:
        assert session.revision > revisions.get(session.session_id, -1)
        revisions[session.session_id] = session.revision
    last = {session.visitor_id: session for session in sessions}
    for session in newest(sessions).values():
        of_visitor = last[session.visitor_id]
        assert (session.closed_at, session.started_at) <= (of_visitor.closed_at, of_visitor.started_at)

"""The same log gives the same sessions: whatever the batches, the ticks and the restarts of live were.

With default settings, gaps of half an hour and arrival times over ten hours, which no running test could
wait for: the arrival times are simulated, and everything else is what a worker and a replay run.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.rules import SessionRules
from streamer.replay.plan import PartitionPlan
from streamer.replay.time_range import TimeRange, UndeterminedSessions, UndeterminedSpans, read_back_ms
from tests.replay.log import BEGIN_MS, Live, as_log, as_set, hours_of_clicks, replayed

DEFAULTS = SessionRules()
WHOLE = TimeRange()
HOUR_MS = 3_600_000
ALL_RULES = {
    "defaults": DEFAULTS,
    "caps": replace(DEFAULTS, max_events=6, max_duration_ms=900_000),
    "no_idleness": replace(DEFAULTS, idle_after_ms=0),
    "in_order_only": replace(DEFAULTS, out_of_orderness_ms=0),
    "revisions": replace(DEFAULTS, revise_within_ms=3_600_000),
}
READ_BACK_RULES = {
    "defaults": DEFAULTS,
    "revisions": replace(DEFAULTS, max_duration_ms=1_800_000, revise_within_ms=1_800_000),
}
SEEDS = st.integers(0, 2**32)


@pytest.mark.parametrize("rules", ALL_RULES.values(), ids=ALL_RULES)
@settings(max_examples=12, deadline=None)
@given(SEEDS, st.sampled_from((1, 7, 500)))
def test_any_batches_ticks_and_restarts_give_what_a_replay_gives(
    rules: SessionRules, seed: int, largest: int
) -> None:
    log = hours_of_clicks(seed % 50)
    live = Live(rules, random.Random(seed)).run(log, largest)
    last_ms = log[-1].timestamp
    until = TimeRange(None, last_ms + 1)
    live.tick(last_ms + 1)
    again, _ = replayed(log, rules, until, random.Random(seed + 1))
    assert as_set(again) == as_set(live.sessions)


@settings(max_examples=12, deadline=None)
@given(SEEDS)
def test_a_drained_worker_is_equal_to_a_replay_to_the_end(seed: int) -> None:
    log = hours_of_clicks(seed % 50)
    live = Live(DEFAULTS, random.Random(seed)).run(log, 100)
    live.drain()
    again, replay = replayed(log, DEFAULTS, WHOLE, random.Random(seed))
    assert as_set(again) == as_set(live.sessions)
    assert {session.close_reason for session in again} >= {"gap", "drain"}
    selection, counters = replay.selection, replay.counters
    assert counters.open() == 0
    assert counters.closed == selection.clicks == sum(session.event_count for session in again)


def test_the_log_of_these_tests_meets_every_rule() -> None:
    log = hours_of_clicks(1)
    again, replay = replayed(log, DEFAULTS, WHOLE)
    reasons = {session.close_reason for session in again}
    assert reasons == {"gap", "idle", "explicit", "drain"}
    counters = replay.counters
    assert min(counters.late, counters.dead_lettered, counters.duplicates) > 0
    assert sum(replay.selection.dead.values()) == counters.dead_lettered


def test_late_clicks_give_revisions() -> None:
    log = hours_of_clicks(1)
    once, before = replayed(log, DEFAULTS, WHOLE)
    again, replay = replayed(log, ALL_RULES["revisions"], WHOLE)
    counters = replay.counters
    assert counters.late < before.counters.late
    assert counters.revised == sum(session.revision > 0 for session in again) > 10
    assert counters.sessions == len({session.session_id for session in again} - {s.supersedes for s in again})
    assert counters.closed > sum(session.event_count for session in once)


@pytest.mark.parametrize("rules", READ_BACK_RULES.values(), ids=READ_BACK_RULES)
@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(0, 9), st.floats(0.2, 5.0))
def test_a_stretch_in_the_middle_gives_what_live_closed_in_it(
    rules: SessionRules, seed: int, begin: int, length: float
) -> None:
    log = hours_of_clicks(seed % 50, hours=10)
    live = Live(rules, random.Random(seed)).run(log, 100)
    from_ms = BEGIN_MS + begin * HOUR_MS + 1234
    to_ms = from_ms + int(length * HOUR_MS)
    live.tick(max(to_ms, log[-1].timestamp))
    closed = [s for s in live.sessions if s.is_final and from_ms <= s.closed_at < to_ms]
    again, replay = replayed([r for r in log if r.timestamp < to_ms], rules, TimeRange(from_ms, to_ms))
    assert as_set(again) == as_set(closed)
    selection, counters = replay.selection, replay.counters
    assert selection.clicks + selection.outside_clicks - counters.revised_clicks == counters.closed


@pytest.mark.parametrize("rules", READ_BACK_RULES.values(), ids=READ_BACK_RULES)
@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(1, 9), st.integers(0, 3))
def test_what_is_certain_without_the_beginning_is_what_live_published(
    rules: SessionRules, seed: int, begin: int, read_back_hours: int
) -> None:
    """Reading begins in mid-log, even much too late: none that is yielded as certain is wrong, and
    none that live published is missing unless it is undetermined."""
    log = hours_of_clicks(seed % 50, hours=12)
    live = Live(rules, random.Random(seed)).run(log, 100)
    live.drain()
    from_ms = BEGIN_MS + begin * HOUR_MS
    read_from_ms = from_ms - read_back_hours * HOUR_MS
    unread = [r for r in log if r.timestamp < read_from_ms]
    time_range = TimeRange(from_ms, None)
    spans = UndeterminedSpans(rules.gap_ms)
    again, _ = replayed(
        [r for r in log if r.timestamp >= read_from_ms],
        rules,
        time_range,
        plan=PartitionPlan(0, len(unread), 0, unread[-1].timestamp if unread else None),
        on_undetermined=spans.add,
    )
    # Of a session that is open a revision may bring another provisional record, which no replay gives.
    final = [s for s in live.sessions if s.is_final]
    published = Counter(as_set(s for s in final if s.closed_at >= from_ms))
    found = Counter(as_set(again))
    assert found <= published
    if not unread:
        assert found == published
    undetermined = UndeterminedSessions(unread[-1].timestamp if unread else None, rules)
    certain = [s for s in final if not undetermined.is_undetermined(s) and s.closed_at >= from_ms]
    assert Counter(as_set(s for s in certain if not spans.touch(s))) <= found


def test_reading_back_far_enough_makes_every_usual_session_certain() -> None:
    log = hours_of_clicks(3, hours=30, visitors=120)
    live = Live(DEFAULTS, random.Random(3)).run(log, 100)
    live.drain()
    from_ms = BEGIN_MS + 20 * HOUR_MS
    read_from_ms = from_ms - read_back_ms(DEFAULTS)
    unread = [r for r in log if r.timestamp < read_from_ms]
    again, replay = replayed(
        log[len(unread) :],
        DEFAULTS,
        TimeRange(from_ms, None),
        plan=PartitionPlan(0, len(unread), 0, unread[-1].timestamp),
    )
    assert unread
    assert replay.selection.undetermined_sessions == 0
    assert as_set(again) == as_set(s for s in live.sessions if s.closed_at >= from_ms)


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(1, 8))
def test_drains_in_the_middle_are_replayed_where_live_was_drained(seed: int, hour: int) -> None:
    log = hours_of_clicks(seed % 50)
    live = Live(DEFAULTS, random.Random(seed))
    at_ms = BEGIN_MS + hour * HOUR_MS
    first = [r for r in log if r.timestamp <= at_ms]
    if not first:
        return
    live.run(first, 100)
    if seed % 2:
        live.tick(at_ms)
    drained_at = live.partition.sessionizer.clock.now
    live.drain()
    live.run(log, 100)
    live.drain()
    again, _ = replayed(log, DEFAULTS, WHOLE, plan=PartitionPlan(0, 0, 0, drains_ms=(drained_at,)))
    assert as_set(again) == as_set(live.sessions)


@pytest.mark.parametrize("most", [2500, 7])
def test_sessions_that_began_before_reading_and_what_a_cap_cuts_off_them_are_undetermined(most: int) -> None:
    """A visitor clicks every ten minutes for ten hours: the end hangs on the start, cut by a cap or not."""
    rules = replace(DEFAULTS, max_events=most)
    times = [BEGIN_MS + n * 600_000 for n in range(60)]
    click = b'{"visitor_id":"v","event_type":"x","event_id":"e%d","timestamp":%d}'
    records = as_log((at, click % (at, at)) for at in times)
    again, replay = replayed(records[30:], rules, WHOLE, plan=PartitionPlan(0, 30, 0, times[29]))
    assert again == []
    assert replay.selection.undetermined_clicks == 30

"""Provisional records of sessions that are still open."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from streamer.core.sessionizer import Sessionizer
from streamer.pipeline.decode import Arrived
from streamer.pipeline.partition import Partition
from streamer.schemas.click import Session
from tests.core.partition import RULES, a_click

EVERY = 100


class Seen(NamedTuple):
    """A record whose value names a visitor, an event time and an event id."""

    offset: int
    timestamp: int
    value: tuple[str, int, str]
    key: bytes | None = None
    headers: tuple[()] = ()


def _decode(value: tuple[str, int, str], now: int, _: str) -> Arrived:
    visitor, at, event_id = value
    return Arrived(
        visitor_id=visitor, user_id=None, crawler=False, is_click=True, click=a_click(at, event_id)
    )


def a_partition(**more: object) -> Partition:
    return Partition("t", 0, Sessionizer(RULES, early_every_ms=EVERY, **more), _decode)  # type: ignore[arg-type]


def run(partition: Partition, *clicks: tuple[str, int, str, int]) -> list[Session]:
    """Hand in (visitor, event time, event id, arrival) one by one; all records that come of it."""
    found: list[Session] = []
    for visitor, at, event_id, arrival in clicks:
        partition.process([Seen(partition.position, arrival, (visitor, at, event_id))])
        found += partition.take().sessions
    return found


def tick(partition: Partition, now: int) -> list[Session]:
    partition.tick(now)
    return partition.take().sessions


def test_a_session_that_goes_on_is_given_out_at_each_multiple_after_its_first_arrival() -> None:
    partition = a_partition(idle_closing=False)
    found = run(partition, ("ann", 5000, "a", 5000), ("ann", 5050, "b", 5050), ("ann", 5120, "c", 5120))
    assert [(s.closed_at, s.event_count, s.is_final, s.close_reason) for s in found] == [
        (5100, 2, False, "open")
    ]
    found = tick(partition, 5300)
    assert [(s.closed_at, s.event_count, s.revision) for s in found] == [(5200, 3, 1)]


def test_without_a_click_since_nothing_is_given_out() -> None:
    partition = a_partition(idle_closing=False)
    run(partition, ("ann", 5000, "a", 5000))
    assert len(tick(partition, 5100)) == 1
    assert tick(partition, 9000) == []


def test_a_click_at_the_very_moment_counts_for_the_next_time() -> None:
    partition = a_partition(idle_closing=False)
    found = run(partition, ("ann", 5000, "a", 5000), ("ann", 5100, "b", 5100))
    assert [(s.closed_at, s.event_count) for s in found] == [(5100, 1)]
    assert [(s.closed_at, s.event_count) for s in tick(partition, 5200)] == [(5200, 2)]


def test_the_final_record_is_the_next_revision() -> None:
    partition = a_partition(idle_closing=False)
    run(partition, ("ann", 5000, "a", 5000))
    tick(partition, 5100)
    partition.drain()
    (final,) = partition.take().sessions
    assert (final.is_final, final.revision, final.supersedes) == (True, 1, None)
    assert partition.counters.sessions == 1


def test_an_earlier_start_changes_the_id_and_the_next_record_says_so() -> None:
    partition = a_partition(idle_closing=False)
    run(partition, ("ann", 5000, "b", 5000))
    (first,) = tick(partition, 5100)
    run(partition, ("ann", 4500, "a", 5150))
    (second,) = tick(partition, 5200)
    assert second.session_id != first.session_id
    assert second.supersedes == first.session_id
    partition.drain()
    (final,) = partition.take().sessions
    assert (final.session_id, final.supersedes, final.revision) == (second.session_id, None, 2)


def test_a_merge_supersedes_what_was_given_out_of_the_later_one() -> None:
    partition = a_partition(idle_closing=False)
    run(partition, ("ann", 6500, "z", 6500))
    run(partition, ("ann", 4800, "a", 6510))
    given_out = {s.started_at: s for s in tick(partition, 6650)}
    assert sorted(given_out) == [4800, 6500]
    run(partition, ("ann", 5700, "m", 6660))
    (merged,) = tick(partition, 6800)
    assert merged.session_id == given_out[4800].session_id
    assert merged.supersedes == given_out[6500].session_id
    assert (merged.closed_at, merged.event_count) == (6700, 3)


def test_a_session_that_idleness_closes_first_is_not_given_out_as_open() -> None:
    partition = a_partition()
    run(partition, ("ann", 5000, "a", 5000), ("bob", 2000, "b", 5001))
    found = tick(partition, 20_000)
    # Bob's window ends at 3000 = W, so idleness closes it 50 ms after W rose; Ann's lives to be given out.
    assert [(s.visitor_id, s.closed_at, s.close_reason) for s in found] == [
        ("bob", 5050, "idle"),
        ("ann", 5100, "open"),
        ("ann", 8050, "idle"),
    ]


LOGS = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob", "cy"]),
        st.integers(-1500, 250),
        st.integers(0, 400),
        st.integers(0, 30),
    ),
    max_size=40,
)


def _log(steps: list[tuple[str, int, int, int]]) -> list[Seen]:
    now, records = 10_000, []
    for visitor, lag, later, number in steps:
        now += later
        records.append(Seen(len(records), now, (visitor, now + lag, f"e{number}")))
    return records


def _all(partition: Partition, records: list[Seen], sizes: list[int], ticks: bool) -> list[Session]:
    """Everything that comes out, records handed in by portions and the clock moved on between them."""
    found: list[Session] = []
    index = 0
    for size in [*sizes, len(records)]:
        portion = records[index : index + size]
        done = 0
        while done < len(portion):
            done = partition.process(portion, done)
            found += partition.take().sessions
        index += size
        if ticks and index < len(records):
            found += tick(partition, records[index].timestamp)
    return found


@given(steps=LOGS, sizes=st.lists(st.integers(1, 10), max_size=8), ticks=st.booleans())
def test_batches_and_ticks_change_nothing(
    steps: list[tuple[str, int, int, int]], sizes: list[int], ticks: bool
) -> None:
    records = _log(steps)
    assert _all(a_partition(), records, sizes, ticks) == _all(a_partition(), records, [], False)


@given(steps=LOGS)
def test_the_sessions_are_the_same_as_without(steps: list[tuple[str, int, int, int]]) -> None:
    def finals(partition: Partition) -> list[tuple[str, int, int, str]]:
        found = _all(partition, _log(steps), [], False)
        return [(s.session_id, s.closed_at, s.event_count, s.close_reason) for s in found if s.is_final]

    assert finals(a_partition()) == finals(Partition("t", 0, Sessionizer(RULES), _decode))  # type: ignore[arg-type]


@given(steps=LOGS, cut=st.integers(0, 40))
def test_restored_in_mid_stream_it_goes_on_alike(steps: list[tuple[str, int, int, int]], cut: int) -> None:
    records = _log(steps)
    whole = _all(a_partition(), records, [], False)
    before = a_partition()
    found = _all(before, records[:cut], [], False)
    sessionizer = before.sessionizer
    windows = [w for visitor in sessionizer.visitors() for w in sessionizer.open_sessions(visitor)]
    after = a_partition(clock=sessionizer.clock, sessions=windows)
    after.position = before.position
    assert found + _all(after, records[cut:], [], False) == whole

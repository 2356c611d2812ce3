"""The way of a click through a partition: one end for each, and the counters add up."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.rules import SessionRules
from streamer.core.sessionizer import Sessionizer
from streamer.core.watermark import PartitionClock
from streamer.pipeline import partition as partition_module
from streamer.pipeline.dead_letters import dead_letter_headers, original_headers
from streamer.pipeline.decode import ClickDecoder
from streamer.pipeline.partition import LOG_APPEND_TIME, Partition, PartitionPolicy
from streamer.sources import mapping_of
from tests.bad_clicks import ARRIVAL_MS, BAD_CLICKS

GAP_MS = 1_800_000


@dataclass
class Arrived:
    """A record as a client gives it."""

    offset: int
    value: bytes | None
    timestamp: int = ARRIVAL_MS
    key: bytes | None = b"k"
    headers: list[tuple[str, bytes]] = field(default_factory=list)
    timestamp_type: int = LOG_APPEND_TIME


def new_partition(clock: PartitionClock | None = None, *, needs_arrival: bool = False) -> Partition:
    sessionizer = Sessionizer(SessionRules(), clock=clock)
    decode = ClickDecoder("auto", 262_144).decode
    return Partition("clicks", 0, sessionizer, decode, policy=PartitionPolicy(needs_arrival=needs_arrival))


def test_what_tells_a_dwell_is_filtered_and_counts_for_the_click_before() -> None:
    read = mapping_of("matomo").read
    decode = ClickDecoder(read=read).decode
    partition = Partition("clicks", 0, Sessionizer(SessionRules()), decode)
    page = {"_id": "ann", "url": "https://bank.example/loans"}
    at_s = ARRIVAL_MS // 1000
    beats = [{**page, "cdt": at_s + late, "ping": "1"} for late in (10, 25)]
    values = [orjson.dumps(each) for each in ({**page, "cdt": at_s}, *beats)]
    run(partition, [Arrived(n, value, (at_s + 30) * 1000) for n, value in enumerate(values)])
    assert (partition.counters.received, partition.counters.filtered) == (3, 2)
    assert [window.event_count for window in partition.sessionizer.open_sessions("ann")] == [1]
    assert partition.drain()
    (session,) = partition.take().sessions
    assert [each.dwell_ms for each in session.clicks] == [25_000]


def click(visitor: str, at: int, event_id: str | None = None, **fields: object) -> bytes:
    named = {"visitor_id": visitor, "timestamp": at, "event_type": "page_view", "event_id": event_id}
    return orjson.dumps(named | fields)


def run(partition: Partition, records: list[Arrived]) -> tuple[list[object], list[object], list[object]]:
    """Everything that comes out, without a drain."""
    sessions, late, dead = [], [], []
    index = 0
    while index < len(records):
        index = partition.process(records, index)
        taken = partition.take()
        sessions += taken.sessions
        late += taken.late
        dead += taken.dead
        partition.resume_closing()
    return sessions, late, dead


def test_each_bad_click_comes_to_its_expected_end() -> None:
    for each in BAD_CLICKS:
        partition = new_partition()
        _, _, dead = run(partition, [Arrived(0, each.value)])
        counters = partition.counters
        if each.stage in ("decode", "validate"):
            assert [forwarded.reason for forwarded in dead] == [each.reason], each.name
            assert dead[0].value == each.value
        else:
            assert counters.filtered == (each.stage == "filtered"), each.name
            assert partition.sessionizer.open_events + counters.filtered == 1, each.name


def test_a_late_click_is_forwarded_with_its_bytes_and_the_watermark() -> None:
    partition = new_partition()
    old = click("b", ARRIVAL_MS - 2 * GAP_MS)
    _, late, _ = run(partition, [Arrived(0, click("a", ARRIVAL_MS)), Arrived(1, old)])
    (forwarded,) = late
    assert (forwarded.key, forwarded.value) == (b"k", old)
    assert dict(forwarded.headers)["x-streamer-watermark"] == str(ARRIVAL_MS - 120_000).encode()


@pytest.mark.parametrize("sent_at", [None, ARRIVAL_MS - 200])
def test_a_click_that_was_put_back_has_the_time_of_its_first_arrival(
    sent_at: int | None,
) -> None:
    """As a visitor goes on: the click is late then, whether its device said when it was sent or not."""
    later = ARRIVAL_MS + 3 * GAP_MS
    partition = new_partition()
    value = click("a", ARRIVAL_MS - 1000, "old", sent_at=sent_at)
    old = dead_letter_headers("clicks", 0, Arrived(0, value), "decode", "unknown_format", ARRIVAL_MS)
    put_back = Arrived(2, value, later, headers=original_headers(old))
    _, late, dead = run(partition, [Arrived(1, click("a", later, "new"), later), put_back])
    assert (len(late), dead) == (1, [])
    assert dict(late[0].headers)["x-streamer-arrival"] == str(ARRIVAL_MS).encode()


def test_clicks_of_days_ago_that_are_sent_again_stay_on_their_days() -> None:
    partition = new_partition()
    days = [ARRIVAL_MS - days * 86_400_000 for days in (3, 2, 1)]
    visits = [(day, day + minute * 60_000) for day in days for minute in range(4)]
    records = [
        Arrived(n, click("a", at, f"e{n}", sent_at=at + 700), ARRIVAL_MS + n)
        for n, (_, at) in enumerate(visits)
    ]
    sessions, late, dead = run(partition, records)
    partition.drain()
    sessions += partition.take().sessions
    assert [(session.started_at, session.event_count) for session in sessions] == [(day, 4) for day in days]
    assert (late, dead) == ([], [])


def test_a_record_without_an_arrival_time_is_a_dead_letter_and_no_clock_moves() -> None:
    partition = new_partition(needs_arrival=True)
    before = [Arrived(0, click("a", ARRIVAL_MS, "e0"))]
    odd = [
        Arrived(n, value, ARRIVAL_MS * 1000, timestamp_type=0)
        for n, value in enumerate([click("a", ARRIVAL_MS), b"text", click("a", 0, consent=False)], start=1)
    ]
    run(partition, before)
    clock = partition.sessionizer.clock
    moment = clock.now, clock.watermark
    _, _, dead = run(partition, odd)
    assert [letter.reason for letter in dead] == ["create_time"] * 2
    assert "x-streamer-arrival" not in dict(dead[0].headers)
    assert (clock.now, clock.watermark) == moment
    counters = partition.counters
    assert (partition.position, counters.received, counters.dead_lettered, counters.filtered) == (4, 4, 2, 1)
    run(partition, [Arrived(4, click("a", ARRIVAL_MS, "e4"))])
    assert partition.sessionizer.open_events == 2


def test_where_producers_times_are_wanted_they_are_arrival_times() -> None:
    partition = new_partition()
    run(partition, [Arrived(0, click("a", ARRIVAL_MS), timestamp_type=0)])
    assert partition.sessionizer.open_events == 1


def test_records_before_the_position_are_not_taken_in_again() -> None:
    partition = new_partition()
    records = [Arrived(offset, click("a", ARRIVAL_MS, f"e{offset}")) for offset in range(5)]
    run(partition, records[:3])
    run(partition, records)
    assert partition.counters.received == 5


def test_a_click_without_an_id_gets_one_of_its_place() -> None:
    partition = new_partition()
    run(partition, [Arrived(7, click("a", ARRIVAL_MS))])
    ((window,),) = [partition.sessionizer.open_sessions("a")]
    assert window.clicks()[0].event_id == "clicks-0-7"


def test_a_tick_before_a_record_that_arrived_earlier_is_counted() -> None:
    partition = new_partition()
    partition.tick(ARRIVAL_MS + 1)
    run(partition, [Arrived(0, click("a", ARRIVAL_MS))])
    assert partition.clock_behind == 1


def test_an_idle_time_before_a_restart_still_counts_what_came_in_it() -> None:
    before = new_partition()
    before.tick(ARRIVAL_MS + 1)
    after = new_partition(before.sessionizer.clock)
    run(after, [Arrived(0, click("a", ARRIVAL_MS))])
    assert after.clock_behind == 1


def test_a_take_never_holds_more_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_module, "MAX_TAKE", 10)
    partition = new_partition()
    records = [Arrived(n, click(f"v{n}", ARRIVAL_MS)) for n in range(100)]
    later = ARRIVAL_MS + 2 * GAP_MS
    records.append(Arrived(100, click("last", later), later))
    takes, index = [], 0
    while index < len(records) or partition.sessionizer.has_due:
        index = partition.process(records, index)
        takes.append(len(partition.take().sessions))
        partition.resume_closing()
    assert max(takes) == 10
    assert sum(takes) == 100


RECORDS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from("abc"), st.integers(-3 * GAP_MS, 600_000), st.sampled_from("12345678")),
        st.sampled_from(BAD_CLICKS),
    ),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(RECORDS, st.integers(1, 7))
def test_clicks_in_are_clicks_out(described: list[object], batch: int) -> None:
    records = []
    for offset, each in enumerate(described):
        if isinstance(each, tuple) and len(each) == 3:
            visitor, shift, event_id = each
            arrival = ARRIVAL_MS + offset * 60_000
            records.append(Arrived(offset, click(visitor, arrival + shift, event_id), arrival))
        else:
            records.append(Arrived(offset, each.value, ARRIVAL_MS + offset * 60_000))
    partition = new_partition()
    closed = late = dead = 0
    for begin in range(0, len(records), batch):
        sessions, late_ones, dead_ones = run(partition, records[begin : begin + batch])
        closed += sum(session.event_count for session in sessions)
        late += len(late_ones)
        dead += len(dead_ones)
    counters = partition.counters
    assert (counters.closed, counters.late, counters.dead_lettered) == (closed, late, dead)
    assert counters.received == len(records)
    assert counters.open() == partition.sessionizer.open_events
    while not partition.drain():
        partition.take()
    assert counters.open() == 0


def test_shuffled_batches_give_the_same_sessions() -> None:
    chance = random.Random(1)
    clicks = [(f"v{chance.randrange(9)}", ARRIVAL_MS + n * 1000, f"e{n}") for n in range(500)]
    arrivals = [Arrived(n, click(*each), ARRIVAL_MS + n * 1000) for n, each in enumerate(clicks)]
    whole, _, _ = run(new_partition(), arrivals)
    pieces, partition, index = [], new_partition(), 0
    while index < len(arrivals):
        step = chance.randint(1, 50)
        pieces += run(partition, arrivals[index : index + step])[0]
        index += step
    assert pieces == whole


def test_a_record_larger_than_side_outputs_take_is_put_aside_in_part() -> None:
    partition = new_partition()
    partition.process([Arrived(0, b"x" * (partition_module.MAX_FORWARDED_BYTES + 1))])
    (dead,) = partition.take().dead
    assert len(dead.value or b"") < partition_module.MAX_FORWARDED_BYTES
    assert "x-streamer-truncated" in dict(dead.headers)

"""The compiled way of a click gives what the Python beside it gives, whatever comes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import astuple

from schemas.click import KEPT_CLICKS, Click
from streamer.core import sessionizer as sessionizer_module
from streamer.core.click_codec import encode_click
from streamer.core.rules import SessionRules
from streamer.core.session import OpenSession, event_hash, open_session
from streamer.core.sessionizer import Sessionizer
from streamer.pipeline import partition as partition_module
from streamer.pipeline.decode import Arrived, ClickDecoder
from streamer.pipeline.partition import Partition
from tests.bad_clicks import ARRIVAL_MS, BAD_CLICKS
from tests.pipeline.test_partition import Arrived as Record
from tests.pipeline.test_partition import click

pytest.importorskip("streamer.pipeline.lane", reason="the extension isn't compiled")
batch_records = pytest.importorskip("streamer.native.batch_records", reason="the extension isn't compiled")

RULES = SessionRules(
    gap_ms=10_000,
    max_duration_ms=60_000,
    max_events=KEPT_CLICKS * 2 + 10,
    out_of_orderness_ms=5_000,
    idle_after_ms=20_000,
    max_future_ms=3_000,
)


def new_partition(
    *, compiled: bool, idle_closing: bool, early_every_ms: int, sessions: Iterable[OpenSession] = ()
) -> Partition:
    with pytest.MonkeyPatch.context() as patch:
        if not compiled:
            patch.setattr(partition_module, "Lane", None)
            patch.setattr(sessionizer_module, "WindowEnds", None)
        sessionizer = Sessionizer(
            RULES, idle_closing=idle_closing, early_every_ms=early_every_ms, sessions=sessions
        )
        return Partition("clicks", 0, sessionizer, ClickDecoder("auto", 262_144).decode)


def everything(partition: Partition) -> dict[str, Any]:
    """What may be seen of a partition, and what has piled up in it."""
    sessionizer = partition.sessionizer
    changed, gone = sessionizer.take_changed()
    return {
        "taken": partition.take(),
        "position": partition.position,
        "accounts": partition.counters,
        "clock": sessionizer.clock,
        "open": {each: [*map(astuple, sessionizer.open_sessions(each))] for each in sessionizer.visitors()},
        "changed": sorted(map(astuple, sessionizer.sessions_of(changed))),
        "gone": sorted(gone),
        "next_early": sessionizer.next_early,
        "due": sessionizer.has_due,
    }


VISITORS = st.sampled_from(["a", "a", "a", "b", "c", "döner"])
TEXTS = st.one_of(st.none(), st.text(max_size=300))
CLICKS = st.fixed_dictionaries(
    {
        "visitor_id": VISITORS,
        "shift": st.one_of(st.sampled_from([0, -1, -500, -9_000]), st.integers(-25_000, 5_000)),
        "event_id": st.sampled_from([None, *"12345", "01234567-89ab-4cde-8f01-23456789abcd"]),
    },
    optional={
        "event_type": st.sampled_from(["page_view", "logout", "click", ""]),
        "user_id": st.sampled_from(["u1", "u2"]),
        "user_agent": st.sampled_from(["Googlebot/2.1", "Mozilla/5.0"]),
        "consent": st.booleans(),
        "dwell_ms": st.one_of(st.integers(-5, 2**33), st.floats(0, 10)),
        "price": st.floats(allow_nan=False, allow_infinity=False),
        "page_url": TEXTS,
        "page_type": TEXTS,
        "search_query": TEXTS,
        "product_id": TEXTS,
    },
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("click"), CLICKS, st.sampled_from([0, 0, 500, 3_000, 30_000, -200])),
        st.tuples(st.just("burst"), VISITORS, st.integers(1, 150)),
        st.tuples(st.just("crowd"), st.integers(1, 9), st.integers(1, 40)),
        st.tuples(st.just("bad"), st.sampled_from(BAD_CLICKS), st.just(100)),
        st.tuples(st.just("tick"), st.none(), st.integers(0, 40_000)),
        st.tuples(st.just("erase"), VISITORS, st.integers(-5_000, 5_000)),
        st.tuples(st.just("look"), st.none(), st.just(0)),
    ),
    max_size=50,
)


def unpacked(records: list[Record]) -> list[Any]:
    """The same records, out of a fetched batch."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 30)
    for each in records:
        builder.append(each.offset, each.timestamp, each.key, each.value, each.headers)
    return [*batch_records.BatchRecords(bytes(builder.build()), 0)]


@settings(max_examples=300, deadline=None)
@given(STEPS, st.booleans(), st.sampled_from([0, 7_000]), st.integers(1, 20), st.booleans())
def test_the_lane_does_what_python_does(
    steps: list[tuple[str, Any, int]],
    idle_closing: bool,
    early_every_ms: int,
    take_at_most: int,
    are_fetched: bool,
) -> None:
    both = [
        new_partition(compiled=compiled, idle_closing=idle_closing, early_every_ms=early_every_ms)
        for compiled in (True, False)
    ]
    waiting: list[Record] = []
    now, offset = ARRIVAL_MS, 0

    def hand_in() -> None:
        seen = []
        for partition in both:
            records = unpacked(waiting) if are_fetched and partition is both[0] else waiting
            index, looks = 0, []
            while index < len(waiting) or partition.sessionizer.has_due:
                index = partition.process(records, index)
                looks.append((index, everything(partition)))
                partition.resume_closing()
            seen.append((looks, everything(partition)))
        assert seen[0] == seen[1]
        waiting.clear()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partition_module, "MAX_TAKE", take_at_most)
        for number, (kind, what, amount) in enumerate(steps):
            if kind == "click":
                now += amount
                fields = {"event_type": "page_view", **what}
                fields["timestamp"] = now + fields.pop("shift")
                waiting.append(Record(offset, orjson.dumps(fields), now))
            elif kind == "burst":
                for n in range(amount):
                    now += 20
                    waiting.append(Record(offset, click(what, now, f"{number}-{n}"), now))
                    offset += 1
            elif kind == "crowd":
                for n in range(amount):
                    now += 1_500
                    at = now - n * 701 % 1_000 // 500 * 1_500 - n % 3
                    waiting.append(Record(offset, click(f"c{n % what}", at, f"{number}-{amount - n}"), now))
                    offset += 1
            elif kind == "bad":
                waiting.append(Record(offset, what.value, now))
            else:
                hand_in()
            if kind == "tick":
                now += amount
                for partition in both:
                    partition.tick(now)
            elif kind == "erase":
                for partition in both:
                    partition.erase(what, now + amount, number)
            offset += 2
        hand_in()
        for partition in both:
            while not partition.drain():
                partition.take()
        assert everything(both[0]) == everything(both[1])


@given(st.lists(st.sampled_from([0, 0, 500, -500, -8_500]), min_size=1, max_size=20), st.booleans())
def test_a_session_closes_alike_whatever_order_its_clicks_came_in(shifts: list[int], early: bool) -> None:
    times = [(ARRIVAL_MS + n * 300, ARRIVAL_MS + n // 3 * 900 + shift) for n, shift in enumerate(shifts)]
    records = [Record(n, click("a", at, f"{99 - n}"), now) for n, (now, at) in enumerate(times)]
    later = times[-1][0] + 20_000
    records.append(Record(len(records), click("b", later, "b"), later))
    closed = []
    for compiled in (True, False):
        partition = new_partition(compiled=compiled, idle_closing=False, early_every_ms=2_000 * early)
        assert partition.process(records) == len(records)
        closed.append(partition.take().sessions)
    assert closed[0] == closed[1]
    assert [session.visitor_id for session in closed[0] if session.is_final] == ["a"]


@pytest.mark.parametrize("compiled", [True, False])
def test_a_record_that_was_given_out_under_another_id_is_superseded(compiled: bool) -> None:
    first = Click(ARRIVAL_MS, "1", "page_view")
    window = open_session("a", first, event_hash("1"), 0, ARRIVAL_MS)
    window.published = ("another",)
    partition = new_partition(compiled=compiled, idle_closing=False, early_every_ms=0, sessions=[window])
    later = ARRIVAL_MS + 20_000
    assert partition.process([Record(1, click("b", later, "2"), later)]) == 1
    assert [session.supersedes for session in partition.take().sessions] == ["another"]


def test_most_clicks_take_the_lane() -> None:
    """Otherwise it would be equal, and no use."""
    asked = []
    partition = new_partition(compiled=True, idle_closing=True, early_every_ms=0)
    add = partition.sessionizer.add
    partition.sessionizer.add = lambda *each: asked.append(each) or add(*each)  # type: ignore[method-assign]
    records = [
        Record(n, click(f"v{n // 400 * 50 + n % 50}", ARRIVAL_MS + n * 100, f"e{n}"), ARRIVAL_MS + n * 100)
        for n in range(5000)
    ]
    index = 0
    while index < len(records):
        index = partition.process(records, index)
        partition.take()
        partition.resume_closing()
    assert len(asked) < 100
    assert partition.counters.sessions > 100


NEARLY_UUIDS = st.builds(
    lambda written, at, other: written[:at] + other + written[at + len(other) :],
    st.uuids().map(str),
    st.integers(0, 36),
    st.sampled_from([*"-gAF0:`/G\x00", "ä", ""]),
)
ANY_CLICK = st.builds(
    Click,
    st.integers(-(2**62), 2**62),
    st.one_of(st.text(max_size=300), st.uuids().map(str), NEARLY_UUIDS),
    st.text(max_size=40),
    TEXTS,
    TEXTS,
    st.one_of(st.none(), st.integers(0, 2**63 - 1), st.sampled_from([127, 128, 255, 256, 2**16, 2**32])),
    TEXTS,
    TEXTS,
    TEXTS,
    st.one_of(st.none(), st.text(min_size=31, max_size=33), st.text("ä", min_size=120, max_size=1200)),
    st.one_of(st.none(), st.floats()),
    TEXTS,
    TEXTS,
)


@given(ANY_CLICK)
def test_a_click_is_packed_as_python_packs_it(any_click: Click) -> None:
    rules = SessionRules(min_timestamp_ms=-(2**63), max_future_ms=2**62)
    record = Record(0, b"", 0)
    sessionizer = Sessionizer(rules)
    decode = lambda *_: Arrived("v", None, False, any_click)  # noqa: E731
    partition = Partition("clicks", 0, sessionizer, decode)
    partition.process([record])
    for window in sessionizer.open_sessions("v"):
        assert window.kept == encode_click(any_click) or not any_click.event_id

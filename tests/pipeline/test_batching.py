"""How records reach a partition changes nothing: one by one, in fetched batches, with small takes between."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.rules import SessionRules
from streamer.core.sessionizer import Sessionizer
from streamer.pipeline import partition as partition_module
from streamer.pipeline.decode import ClickDecoder
from streamer.pipeline.partition import Partition, PendingOutputs
from streamer.schemas.build import IS_COMPILED
from streamer.schemas.click import KEPT_CLICKS
from tests.bad_clicks import ARRIVAL_MS, BAD_CLICKS
from tests.pipeline.test_partition import Arrived as Record
from tests.pipeline.test_partition import click

if IS_COMPILED:
    from streamer.native.batch_records import BatchRecords

RULES = SessionRules(
    gap_ms=10_000,
    max_duration_ms=60_000,
    max_events=KEPT_CLICKS * 2 + 10,
    out_of_orderness_ms=5_000,
    idle_after_ms=20_000,
    max_future_ms=3_000,
)


def new_partition(*, idle_closing: bool, early_every_ms: int, revise_within_ms: int) -> Partition:
    rules = replace(RULES, revise_within_ms=revise_within_ms)
    sessionizer = Sessionizer(rules, idle_closing=idle_closing, early_every_ms=early_every_ms)
    return Partition("clicks", 0, sessionizer, ClickDecoder("auto", 262_144).decode)


def state_of(partition: Partition) -> dict[str, Any]:
    """What may be seen of a partition, but for what was taken."""
    sessionizer = partition.sessionizer
    changed, gone = sessionizer.take_changed()
    return {
        "position": partition.position,
        "counters": partition.counters,
        "clock": sessionizer.clock.to_row(),
        "open": {
            each: [window.to_row() for window in sessionizer.open_sessions(each)]
            for each in sessionizer.visitors()
        },
        "changed": sorted(window.to_row() for window in sessionizer.sessions_of(changed)),
        "gone": sorted(gone),
        "next_early": sessionizer.next_early(),
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


def fetched(records: list[Record]) -> list[Any]:
    """The same records, out of a fetched batch where those are read in C."""
    if not IS_COMPILED:
        return list(records)
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 30)
    for each in records:
        builder.append(each.offset, each.timestamp, each.key, each.value, each.headers)
    return [*BatchRecords(bytes(builder.build()), 0)]


def hand_in(partition: Partition, records: list[Any], at_once: int) -> PendingOutputs:
    """Process the records, so many at a time, and take what comes of them."""
    taken = PendingOutputs([], [], [], [])
    for start in range(0, len(records), at_once):
        portion, index = records[start : start + at_once], 0
        while index < len(portion) or partition.has_pending:
            index = partition.process(portion, index)
            for whole, part in zip(taken, partition.take(), strict=True):
                whole.extend(part)  # type: ignore[arg-type]
            partition.resume_closing()
    return taken


def records_of(kind: str, what: Any, amount: int, offset: int, now: int) -> list[Record]:
    """The records of a step from `offset` on, the first of them after `now`."""
    if kind == "click":
        now += amount
        fields = {"event_type": "page_view", **what}
        fields["timestamp"] = now + fields.pop("shift")
        return [Record(offset, orjson.dumps(fields), now)]
    if kind == "bad":
        return [Record(offset, what.value, now)]
    records = []
    for n in range(amount):
        if kind == "burst":
            now += 20
            value = click(what, now, f"{offset}-{n}")
        elif kind == "crowd":
            now += 1_500
            at = now - n * 701 % 1_000 // 500 * 1_500 - n % 3
            value = click(f"c{n % what}", at, f"{offset}-{amount - n}")
        else:
            break
        records.append(Record(offset + n, value, now))
    return records


@settings(max_examples=300, deadline=None)
@given(STEPS, st.booleans(), st.sampled_from([0, 7_000]), st.sampled_from([0, 30_000]), st.integers(1, 20))
def test_the_same_comes_of_records_one_by_one_and_of_fetched_batches_and_small_takes(
    steps: list[tuple[str, Any, int]],
    idle_closing: bool,
    early_every_ms: int,
    revise_within_ms: int,
    take_at_most: int,
) -> None:
    single, batched = (
        new_partition(
            idle_closing=idle_closing, early_every_ms=early_every_ms, revise_within_ms=revise_within_ms
        )
        for _ in range(2)
    )
    waiting: list[Record] = []
    now, offset = ARRIVAL_MS, 0

    def compare() -> None:
        one_by_one = hand_in(single, waiting, 1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(partition_module, "MAX_TAKE", take_at_most)
            assert hand_in(batched, fetched(waiting), len(waiting) or 1) == one_by_one
        assert state_of(single) == state_of(batched)
        waiting.clear()

    for number, (kind, what, amount) in enumerate(steps):
        records = records_of(kind, what, amount, offset, now)
        if records:
            waiting += records
            now, offset = records[-1].timestamp, records[-1].offset
        else:
            compare()
        if kind == "tick":
            now += amount
            for partition in (single, batched):
                partition.tick(now)
        elif kind == "erase":
            for partition in (single, batched):
                partition.erase(what, now + amount, number)
        offset += 2
    compare()
    assert list(single.sessionizer.drain()) == list(batched.sessionizer.drain())

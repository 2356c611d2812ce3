"""When dead letters are too many: the tally by itself, and a partition that stops at the limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.rules import SessionRules
from streamer.core.sessionizer import Sessionizer
from streamer.pipeline.dead_letter_limit import DeadLetterLimit, DeadLetterTally, TooManyDeadLetters
from streamer.pipeline.decode import ClickDecoder
from streamer.pipeline.partition import Partition, PartitionPolicy, PartitionState
from tests.bad_clicks import ARRIVAL_MS
from tests.pipeline.test_partition import Arrived, click

GAP_MS = 1_800_000


def stopped_at(bad: list[bool], limit: DeadLetterLimit) -> int | None:
    """Number of the record that is one too many."""
    tally = DeadLetterTally()
    for number, is_bad in enumerate(bad, start=1):
        if is_bad:
            tally = tally.plus(number, limit)
            if tally.excess(limit):
                return number
    return None


def test_a_run_as_long_as_the_limit_passes_and_the_next_one_is_too_many() -> None:
    limit = DeadLetterLimit(max_run=3)
    assert stopped_at([True] * 3 + [False] + [True] * 3, limit) is None
    assert stopped_at([True] * 3 + [False] + [True] * 4, limit) == 8


def test_zero_lets_any_run_pass() -> None:
    assert stopped_at([True] * 20_000, DeadLetterLimit(max_run=0)) is None


def test_by_default_a_flood_passes_while_one_record_in_ten_thousand_can_be_read() -> None:
    assert stopped_at(([True] * 9999 + [False]) * 3, DeadLetterLimit()) is None
    assert stopped_at([True] * 10_001, DeadLetterLimit()) == 10_001


def test_a_share_is_judged_only_once_the_window_is_full() -> None:
    limit = DeadLetterLimit(max_run=0, max_ratio=0.5, window=100)
    assert stopped_at([True] * 99, limit) is None
    assert stopped_at([True] * 100, limit) == 100
    assert stopped_at([True, False, False] * 500, limit) is None
    assert stopped_at([False] * 1000 + [True] * 60, limit) is not None


@given(st.lists(st.booleans(), max_size=400), st.sampled_from([10, 30, 100]), st.floats(0.1, 0.9))
def test_the_share_is_that_of_the_last_window_give_or_take_a_block(
    bad: list[bool], window: int, ratio: float
) -> None:
    stop = stopped_at(bad, DeadLetterLimit(max_run=0, max_ratio=ratio, window=window))
    block = window // 10
    shares = [
        sum(bad[end - size : end]) / size
        for end in range(window, (stop or len(bad)) + 1)
        for size in range(window - block + 1, window + 1)
        if bad[end - 1]
    ]
    if stop is None:
        for end in range(window, len(bad) + 1):
            blocks = (end - 1) // block
            size = end - max(0, blocks - 9) * block
            assert not bad[end - 1] or sum(bad[end - size : end]) <= ratio * size
    else:
        assert max(shares) > ratio


def new_partition(limit: DeadLetterLimit, before: Partition | None = None) -> Partition:
    """A partition, or the one that a restart makes of `before`."""
    sessionizer = Sessionizer(
        SessionRules(),
        clock=before and before.sessionizer.clock,
        sessions=[w for v in before.sessionizer.visitors() for w in before.sessionizer.open_sessions(v)]
        if before
        else (),
    )
    return Partition(
        "clicks",
        0,
        sessionizer,
        ClickDecoder("auto", 262_144).decode,
        before and PartitionState(before.position, before.counters, dead_letters=before.dead_letters),
        PartitionPolicy(limit=limit),
    )


def log_of(*values: bytes) -> list[Arrived]:
    return [Arrived(offset, value, ARRIVAL_MS + offset) for offset, value in enumerate(values)]


def test_the_record_beyond_the_limit_and_those_after_it_are_not_taken_in() -> None:
    good = click("v", ARRIVAL_MS)
    records = log_of(good, b"x", b"x", b"x", good)
    partition = new_partition(DeadLetterLimit(max_run=2))
    for _ in range(2):
        with pytest.raises(TooManyDeadLetters, match=r"offset 3 \(decode: unknown_format\): more than 2"):
            partition.process(records)
    with pytest.raises(TooManyDeadLetters):  # a batch that was fetched already
        partition.process(records[4:])
    assert partition.position == 3
    assert (partition.counters.received, partition.counters.dead_lettered) == (3, 2)
    assert len(partition.take().dead) == 2


def test_a_restart_stops_at_the_same_record_and_a_higher_limit_goes_on_without_loss() -> None:
    records = log_of(*[b"x"] * 5, click("v", ARRIVAL_MS))
    first = new_partition(DeadLetterLimit(max_run=2))
    with pytest.raises(TooManyDeadLetters):
        first.process(records)
    first.take()
    again = new_partition(DeadLetterLimit(max_run=2), before=first)
    with pytest.raises(TooManyDeadLetters, match="offset 2 "):
        again.process(records)
    raised = new_partition(DeadLetterLimit(max_run=10), before=again)
    raised.process(records)
    assert len(raised.take().dead) == 3
    assert (raised.counters.received, raised.counters.dead_lettered, raised.counters.open()) == (6, 5, 1)


def test_a_partition_of_nothing_but_garbage_closes_its_sessions_while_below_the_limit() -> None:
    partition = new_partition(DeadLetterLimit(max_run=10))
    late = ARRIVAL_MS + GAP_MS + 1_000_000
    partition.process([Arrived(0, click("v", ARRIVAL_MS)), Arrived(1, b"x", late)])
    assert [session.close_reason for session in partition.take().sessions] == ["idle"]

"""How far the arrival clock of an idle partition may be moved while live."""

from __future__ import annotations

from streamer.worker.shard import Shard
from streamer.worker.transport import EmptyFetch


def idle_until(
    empty: EmptyFetch | None, position: int, broker_time: tuple[int, float], margin_ms: int
) -> int | None:
    """Arrival time in ms before which no record can be missing; None if nothing can be said.

    A fetch that came back empty proves that nothing had been appended when it was *sent*. What the broker's
    clock showed then is at least what it showed last (`broker_time`: ms UTC, monotonic s) plus the monotonic
    time since; the margin covers clocks that run at different speeds.
    """
    seen_ms, seen_at = broker_time
    if empty is None or position < empty.records_end or seen_ms <= 0:
        return None
    return seen_ms + int((empty.sent_at - seen_at) * 1000) - margin_ms


def advance_idle_clock(shard: Shard, empty: EmptyFetch | None, margin_ms: int) -> None:
    """Move the shard's clock as far as its last empty fetch allows; sessions that are over then close."""
    now_ms = idle_until(empty, shard.partition.position, shard.broker_time, margin_ms)
    if now_ms is not None:
        shard.partition.tick(now_ms)

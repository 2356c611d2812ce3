"""Where in a topic to start reading: at its beginning, at its end, or at a time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any, Literal

from streamer.errors import UsageError

Start = Literal["earliest", "latest"] | int
"""`int`: milliseconds UTC; the first record whose timestamp is not before it."""


def parse_start(text: str, name: str = "--from") -> Start:
    """`earliest`, `latest`, milliseconds UTC, or a date or date-time (UTC unless it says otherwise)."""
    if text == "earliest":
        return "earliest"
    if text == "latest":
        return "latest"
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{name} {text!r}: expected earliest, latest, a time such as 2025-01-31T12:00:00Z, "
            "or milliseconds UTC"
        ) from None
    aware = time if time.tzinfo else time.replace(tzinfo=dt.UTC)
    return round(aware.timestamp() * 1000)


def parse_time(text: str, name: str) -> int:
    """A time as `parse_start` takes it, and nothing else; ms UTC."""
    start = parse_start(text, name)
    if isinstance(start, str):
        raise UsageError(f"{name} {text!r}: expected a time such as 2025-01-31T12:00:00Z, or ms UTC")
    return start


async def offsets_at(consumer: Any, partitions: Iterable[Any], start: Start) -> dict[Any, int]:
    """The offset of each partition to start reading at; its end where there is nothing from `start` on."""
    partitions = list(partitions)
    if start == "earliest":
        return dict(await consumer.beginning_offsets(partitions))
    ends = await consumer.end_offsets(partitions)
    if start == "latest":
        return dict(ends)
    found = await consumer.offsets_for_times(dict.fromkeys(partitions, start))
    return {tp: found[tp].offset if is_found(found[tp]) else ends[tp] for tp in partitions}


async def seek(consumer: Any, partitions: Iterable[Any], start: Start) -> None:
    """Puts an aiokafka consumer at `start` in each of its partitions.

    By number, not by its `seek_to_beginning` and `seek_to_end`: a reset to the consumer's default that is
    under way would win over those.
    """
    for tp, offset in (await offsets_at(consumer, partitions, start)).items():
        consumer.seek(tp, offset)


def is_found(answer: Any) -> bool:
    """Whether `offsets_for_times` found a record: against its documentation aiokafka says -1, not None."""
    return answer is not None and answer.offset >= 0

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


async def seek(consumer: Any, partitions: Iterable[Any], start: Start) -> None:
    """Puts an aiokafka consumer at `start` in each of its partitions; at the end where there is nothing."""
    partitions = list(partitions)
    if start == "earliest":
        await consumer.seek_to_beginning(*partitions)
    elif start == "latest":
        await consumer.seek_to_end(*partitions)
    else:
        found = await consumer.offsets_for_times(dict.fromkeys(partitions, start))
        for partition in partitions:
            if is_found(found[partition]):
                consumer.seek(partition, found[partition].offset)
            else:
                await consumer.seek_to_end(partition)


def is_found(answer: Any) -> bool:
    """Whether `offsets_for_times` found a record: against its documentation aiokafka says -1, not None."""
    return answer is not None and answer.offset >= 0

"""Where in a topic to start reading: at its beginning, at its end, or at a time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any, Literal

from streamer.errors import UsageError

Start = Literal["earliest", "latest"] | int
"""`int`: milliseconds UTC; the first record whose timestamp is not before it."""
_FIRST_MS, _LAST_MS = 100_000_000_000, 253_402_300_799_999
"""1973 and the end of the year 9999."""


def parse_start(text: str, now_ms: int, name: str = "--from") -> Start:
    """`earliest`, `latest`, or a time as `parse_time` takes it, which has passed. Raises UsageError."""
    if text == "earliest":
        return "earliest"
    if text == "latest":
        return "latest"
    at_ms = parse_time(text, name)
    if at_ms > now_ms:
        raise UsageError(f"{name} {text}: lies in the future, expected a time that has passed")
    return at_ms


def parse_time(text: str, name: str) -> int:
    """A date, a date-time (UTC unless it says otherwise), or milliseconds UTC. Raises UsageError.

    Milliseconds need 12 digits at least (from 1973 on): fewer are a year, a date or seconds, most likely.
    """
    at_ms = _milliseconds(text) if text.isascii() and text.isdigit() else _iso_8601(text)
    if at_ms is None:
        raise UsageError(
            f"{name} {text[:40]!r}: expected a time such as 2025-01-31 or 2025-01-31T12:00:00Z, or ms UTC"
            " such as 1738324800000"
        )
    return at_ms


def as_time(at_ms: int) -> str:
    """As `parse_time` reads it: 2026-11-19T00:00:00.000Z."""
    at = dt.datetime(1970, 1, 1) + dt.timedelta(milliseconds=at_ms)
    return f"{at.isoformat(timespec='milliseconds')}Z"


def _milliseconds(digits: str) -> int | None:
    at_ms = int(digits[:16])
    return at_ms if _FIRST_MS <= at_ms <= _LAST_MS else None


def _iso_8601(text: str) -> int | None:
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    aware = time if time.tzinfo else time.replace(tzinfo=dt.UTC)
    at_ms = round(aware.timestamp() * 1000)
    # To a broker, -1 and -2 mean the end and the beginning.
    return at_ms if 0 <= at_ms <= _LAST_MS else None


async def offsets_at(consumer: Any, partitions: Iterable[Any], start: Start) -> dict[Any, int]:
    """The offset of each partition to start reading at; its end where there is nothing from `start` on."""
    partitions = list(partitions)
    if start == "earliest":
        return dict(await consumer.beginning_offsets(partitions))
    ends = await consumer.end_offsets(partitions)
    if start == "latest":
        return dict(ends)
    found = await consumer.offsets_for_times(dict.fromkeys(partitions, start))
    return {tp: found[tp].offset if found[tp] is not None else ends[tp] for tp in partitions}


async def seek(consumer: Any, partitions: Iterable[Any], start: Start) -> None:
    """Puts an aiokafka consumer at `start` in each of its partitions.

    By number, not by its `seek_to_beginning` and `seek_to_end`: a reset to the consumer's default that is
    under way would win over those.
    """
    for tp, offset in (await offsets_at(consumer, partitions, start)).items():
        consumer.seek(tp, offset)

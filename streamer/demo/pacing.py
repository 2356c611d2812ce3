"""Clicks at the pace of their own event times, faster or slower; how many and how long they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from streamer.kafka.lines import Lines
from streamer.sources import TimeOf

TICK_S = 0.1


class _TimeOf(msgspec.Struct, gc=False):
    timestamp: Any = None


_decoder = msgspec.json.Decoder(_TimeOf)


class PacedLines:
    """Chunks of lines, each when its time has come: `speed` seconds of event time a second.

    A line without a time comes with the line before it.
    """

    def __init__(self, lines: AsyncIterable[list[bytes]], speed: float, time_of: TimeOf) -> None:
        self._lines = lines
        self._speed = speed
        self._time_of = time_of

    async def __aiter__(self) -> AsyncIterator[list[bytes]]:
        loop = asyncio.get_running_loop()
        begin, first_ms = loop.time(), None
        due: list[bytes] = []
        async for chunk in self._lines:
            for line in chunk:
                time_ms = self._time_of(line)
                if time_ms is not None:
                    first_ms = time_ms if first_ms is None else first_ms
                    wait_s = begin + (time_ms - first_ms) / 1000 / self._speed - loop.time()
                    if wait_s > TICK_S:
                        yield due
                        due = []
                        await asyncio.sleep(wait_s)
                due.append(line)
        yield due


def time_of(line: bytes) -> int | None:
    """The timestamp of a JSON click if it is a whole number, else None."""
    try:
        timestamp = _decoder.decode(line).timestamp
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return timestamp if isinstance(timestamp, int) else None


class Extent(NamedTuple):
    """Of a file of clicks: `seconds` of event time from the first to the last click in the file."""

    clicks: int
    seconds: float


def extent_of(file: Path, time_of: TimeOf) -> Extent:
    """Reads the file once. Raises LinesError if it can't be read."""
    return asyncio.run(_extent_of(file, time_of))


async def _extent_of(file: Path, time_of: TimeOf) -> Extent:
    clicks, times = 0, []
    with Lines(str(file)) as lines:
        async for chunk in lines:
            clicks += len(chunk)
            times += [time for line in chunk if (time := time_of(line)) is not None]
    return Extent(clicks, (max(times) - min(times)) / 1000 if times else 0.0)

"""How many clicks a file has and how much event time they span."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NamedTuple

from streamer.demo.pacing import time_of
from streamer.kafka.lines import Lines


class Extent(NamedTuple):
    """`seconds` of event time from the first to the last click in the file."""

    clicks: int
    seconds: float


def extent_of(file: Path) -> Extent:
    """Reads the file once. Raises LinesError if it can't be read."""
    return asyncio.run(_extent_of(file))


async def _extent_of(file: Path) -> Extent:
    clicks, times = 0, []
    with Lines(str(file)) as lines:
        async for chunk in lines:
            clicks += len(chunk)
            times += [time for line in chunk if (time := time_of(line)) is not None]
    return Extent(clicks, (max(times) - min(times)) / 1000 if times else 0.0)

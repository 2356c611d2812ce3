"""What a replay reads: portions of records, partition by partition, from wherever they lie."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple, Protocol

import msgspec

from streamer.pipeline.dead_letters import Header
from streamer.pipeline.partition import Decode, Record


class LogRecord(msgspec.Struct, frozen=True, gc=False):
    """A record that doesn't come from a client. `timestamp` is arrival time in ms UTC."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header] = ()


class Portion(NamedTuple):
    """Consecutive records of a partition, all before its end; none with `is_last`: there are no more."""

    number: int
    records: Sequence[Record] = ()
    is_last: bool = False
    silent_until_ms: int | None = None
    """Every record that arrived before it has been handed over."""


class Source(Protocol):
    def portions(self, positions: dict[int, int]) -> AsyncGenerator[Portion]:
        """Records of these partitions from the given offsets on, each partition's in order, and one
        portion with `is_last` for each."""

    @property
    def decode(self) -> Decode:
        """As `ClickDecoder.decode`, which it had better be itself: a partition knows its compiled way."""

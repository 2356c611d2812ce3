"""What a sink asks of the store that it copies to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from streamer.errors import StreamerError
from streamer.schemas import codec
from streamer.sink.source import Source

OUTCOMES = ("written", "stale", "deleted", "bad")
"""What becomes of a record that was read: each one of them."""
Place = tuple[str, int]
"""A topic and a partition."""


class StoreError(StreamerError):
    """The store can't be used; trying again doesn't help."""


class StoreAwayError(StreamerError):
    """The store takes nothing now, and may later."""


@dataclass(frozen=True)
class Position:
    """How far a partition was copied."""

    offset: int
    """Of the next record."""
    pass_ms: int
    """When its reading from the first record began, ms UTC: which pass it is."""
    until: int | None
    """Where the pass ends; None: it has."""
    at_end_ms: int
    """When all records were last in the store, ms UTC."""
    layout: str
    counts: Mapping[str, int]
    """Records read since the store was empty, and how many of each of OUTCOMES."""


class Change(NamedTuple):
    """A record of a topic."""

    offset: int
    recorded_at: int
    """When the broker wrote it, ms UTC."""
    key: str
    record: codec.Record | None
    """None: a tombstone."""


@dataclass
class Batch:
    """Records of a partition, in their order."""

    source: Source
    partition: int
    expected: int
    """Offset of the position that it goes on from."""
    next: int
    changes: list[Change] = field(default_factory=list)
    read: int = 0
    bad: int = 0
    stale: int = 0
    """Tombstones that speak of another partition's records."""
    at_end_ms: int | None = None
    """When the partition was at its end behind it, ms UTC; None: it isn't."""

    @property
    def place(self) -> Place:
        return self.source.topic, self.partition


class Store(Protocol):
    """Methods raise StoreAwayError, after which the same may be tried again, and StoreError."""

    @property
    def layout(self) -> str:
        """How records are written: where it was another, all of them are written again."""

    async def position(self, source: Source, partition: int) -> Position | None:
        """How far a partition was copied; None: not at all."""

    async def begin(
        self, source: Source, partition: int, known: Position | None, first: int, until: int, now_ms: int
    ) -> Position:
        """Read from the first record to `until`, and from there on. Returns where it stands: elsewhere, if
        another sink was faster."""

    async def apply(self, batches: Sequence[Batch], now_ms: int) -> Mapping[Place, Position]:
        """Apply them; several of a partition go on from each other. Returns where the last of them left it:
        not behind it, if another sink was faster or the store has lost something."""

    async def sweep(self, source: Source, passes: Mapping[int, int], is_whole: bool) -> int:
        """Delete what was not met in the pass of its partition; returns how many records.

        `is_whole`: these are all of the topic's partitions.
        """

    async def finish(self, source: Source, partition: int, known: Position) -> Position:
        """The pass is over, and what was not met in it is gone."""

    async def flush(self) -> None:
        """Returns once all that was applied is durable."""

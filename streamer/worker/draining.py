"""Stopping at the ends of the partitions, as they were when this worker got them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from streamer.kafka.client import ClientArguments
from streamer.worker.log_reader import LogReader
from streamer.worker.shard import Shard
from streamer.worker.transport import EmptyFetch, FetchedRecord, RecordBatch


class Drain:
    """Which partitions are still to be read to their end."""

    def __init__(self, arguments: ClientArguments, topic: str) -> None:
        self.finished = asyncio.Event()
        self._arguments = arguments
        self._topic = topic
        self._ends: dict[int, int] = {}
        """Offset to stop at, by partition."""
        self._done: set[int] = set()

    async def look_up(self, numbers: Iterable[int]) -> None:
        """Note where these partitions end; those that were looked up before keep their ends."""
        new = [number for number in numbers if number not in self._ends]
        if new:
            async with LogReader(self._arguments) as reader:
                bounds = await reader.bounds(self._topic, new)
            self._ends |= {number: end for number, (_, end) in bounds.items()}

    def within(self, batch: RecordBatch) -> list[FetchedRecord]:
        """The batch's records before the end."""
        end = self._ends.get(batch.tp.partition)
        if end is None or batch.records[-1].offset < end:
            return batch.records
        return [record for record in batch.records if record.offset < end]

    def is_due(self, shard: Shard, empty: EmptyFetch | None) -> bool:
        """Whether the shard has been read to its end, and isn't done. `empty`: the last fetch that was."""
        end, position = self._ends.get(shard.number, 0), shard.partition.position
        at_fetched_end = empty is not None and empty.offset >= end and position >= empty.records_end
        return shard.number not in self._done and (position >= end or at_fetched_end)

    def note_done(self, number: int) -> None:
        """Everything of this partition is published."""
        self._done.add(number)

    def check(self, assigned: set[int]) -> None:
        """Finished once all that are assigned are done."""
        if assigned <= self._done:
            self.finished.set()

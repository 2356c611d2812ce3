"""What the changelog takes in the long run: bytes that a click writes, bytes that an open session keeps.

A partition and the changelog's own bookkeeping, without a broker: every so many clicks a commit, as at a
steady rate. Counted is what comes after the oldest images have begun to be moved, which in a worker that has
just caught up they haven't.

Run as a program: `python -m benchmarks.changelog OPEN CLICKS`; prints one JSON object.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import orjson

from benchmarks.core_state import Feed
from streamer.core.session import OpenSession
from streamer.pipeline.partition import Partition
from streamer.worker.changelog import STATE_VERSION, Marker, SessionSnapshots, encode
from streamer.worker.changelog_groups import StateLog, in_chunks
from streamer.worker.memory import settle_memory

PER_COMMIT = 125
"""Clicks: of 2,000 a second in four partitions, four commits a second."""


@dataclass(frozen=True)
class Changelog:
    open_sessions: int
    images_per_click: float
    bytes_per_click: float
    """Images, those that were moved among them, and markers."""
    bytes_per_session: float
    """Of the whole changelog, an open session."""


class Log:
    """The changelog of one partition: what would be written, and from where on it is needed, in bytes."""

    def __init__(self) -> None:
        self.images = 0
        self.size = 0
        self._number = 0
        self._bookkeeping = StateLog()

    @property
    def needed(self) -> int:
        """Bytes that a recovery reads."""
        return self.size - (self._bookkeeping.trim_offset or 0)

    def commit(self, partition: Partition) -> None:
        """As a shard does it."""
        sessionizer = partition.sessionizer
        stale = self._bookkeeping.stale(sessionizer.changed_count)
        visitors, gone = self._bookkeeping.next_group(stale, *sessionizer.take_changed())
        self._number += 1
        start = self.size
        for record in self._records(partition, visitors, gone):
            self.size += len(record)
        self.images += len(visitors)
        self._bookkeeping.committed(self._number, start, list(visitors), gone)

    def _records(
        self, partition: Partition, visitors: Mapping[str, OpenSession | None], gone: list[str]
    ) -> Iterator[bytes]:
        chunks = in_chunks(partition.sessionizer.sessions_of(visitors))
        for chunk in chunks:
            yield encode(SessionSnapshots(STATE_VERSION, self._number, chunk))
        yield encode(
            Marker(
                state_version=STATE_VERSION,
                epoch=1,
                commit_number=self._number,
                chunks=len(chunks),
                position=partition.position,
                partitions=1,
                rules_version=partition.sessionizer.rules.version,
                clock=partition.sessionizer.clock,
                counters=partition.counters,
                gone=gone,
            )
        )


def measure(open_sessions: int, clicks: int) -> Changelog:
    """In a process of its own."""
    command = [sys.executable, "-m", "benchmarks.changelog", str(open_sessions), str(clicks)]
    return Changelog(**orjson.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))


def _measure(open_sessions: int, clicks: int) -> Changelog:
    settle_memory()
    log = Log()
    feed = Feed(open_sessions, log.commit, PER_COMMIT)
    images, size = log.images, log.size
    feed.take_in(clicks)
    count = feed.partition.sessionizer.open_count
    return Changelog(
        open_sessions=count,
        images_per_click=(log.images - images) / clicks,
        bytes_per_click=(log.size - size) / clicks,
        bytes_per_session=log.needed / count,
    )


if __name__ == "__main__":
    print(orjson.dumps(_measure(*map(int, sys.argv[1:3]))).decode())

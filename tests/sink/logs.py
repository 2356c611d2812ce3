"""Logs of a few keys, and the store after any way of applying them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from hypothesis import strategies as st

from streamer.settings import RedisSinkSettings, Settings
from streamer.sink.redis_store import RedisStore
from streamer.sink.source import Source, sources_of
from streamer.sink.store import Batch, Change, Position
from tests.client.records import NOW_MS, a_record
from tests.sink.live import RedisServer

PARTITIONS = 2
VISITORS, USERS = sources_of(Settings())


class Entry(NamedTuple):
    """Of a partition's log."""

    offset: int
    key: str
    record: dict[str, Any] | None


def entries(partition: int, source: Source) -> st.SearchStrategy[list[Entry]]:
    """A log of this partition: each key is in one partition, but tombstones are in all, as of erasures."""
    own = st.tuples(st.sampled_from([f"k{partition}a", f"k{partition}b"]), st.integers(0, 6))
    tombstone = st.tuples(st.sampled_from([f"k{n}{x}" for n in range(PARTITIONS) for x in "ab"]), st.none())
    return st.lists(st.one_of(own, own, tombstone), max_size=12).map(
        lambda drawn: [Entry(n * 2, key, _record(source, key, n, age)) for n, (key, age) in enumerate(drawn)]
    )


def _record(source: Source, key: str, n: int, age: int | None) -> dict[str, Any] | None:
    return None if age is None else a_record("b", NOW_MS + age, **{source.key: key}, event_count=n)


def compacted(log: Sequence[Entry]) -> list[Entry]:
    """What compaction leaves when it has taken away tombstones, too."""
    last = {entry.key: entry.offset for entry in log}
    return [entry for entry in log if last[entry.key] == entry.offset and entry.record is not None]


def state_of(source: Source, logs: Sequence[Sequence[Entry]]) -> dict[str, int]:
    """Key -> event_count of its latest, read one after the other. Keys are in a partition of their own."""
    latest: dict[str, dict[str, Any]] = {}
    for number, log in enumerate(logs):
        for _, key, record in log:
            if not key.startswith(f"k{number}"):
                continue
            known = latest.get(key)
            if record is None:
                latest.pop(key, None)
            elif source is USERS or known is None or record["closed_at"] >= known["closed_at"]:
                latest[key] = record
    return {key: record["event_count"] for key, record in latest.items()}


class Applied:
    """A store, and logs that are applied to it part by part."""

    def __init__(self, server: RedisServer, source: Source, **access: Any) -> None:
        self.store = RedisStore(RedisSinkSettings(url=server.url, ttl_days=36_500, **access))
        self.server = server
        self.source = source
        self.positions: dict[int, Position] = {}
        self.furthest: Counter[int] = Counter()

    async def begin(self, number: int, log: Sequence[Entry]) -> None:
        known = await self.store.position(self.source, number)
        pass_ms = 1 if known is None else known.pass_ms + 1
        until = log[-1].offset + 1 if log else 0
        self.positions[number] = await self.store.begin(self.source, number, known, 0, until, pass_ms)

    async def go_on(self, number: int, log: Sequence[Entry], count: int, expected: int | None = None) -> None:
        """The next records, from where the store stands, or as a sink that believes it stands elsewhere."""
        stands = self.positions[number].offset if expected is None else expected
        part = [entry for entry in log if entry.offset >= stands][:count]
        after = await self.store.apply([self._batch(number, stands, part)], NOW_MS)
        self.positions[number] = after[self.source.topic, number]
        self.furthest[number] = max(self.furthest[number], self.positions[number].offset)

    def _batch(self, number: int, expected: int, part: Sequence[Entry]) -> Batch:
        end = part[-1].offset + 1 if part else expected
        changes = [Change(offset, NOW_MS, key, record) for offset, key, record in part]
        return Batch(self.source, number, expected, end, changes, read=len(part))

    async def sweep(self) -> int:
        passes = {number: position.pass_ms for number, position in self.positions.items()}
        return await self.store.sweep(self.source, passes, is_whole=True)

    def documents(self) -> dict[str, int]:
        prefix = f"streamer:{self.source.name}:"
        return {
            key.decode().removeprefix(prefix): int(fields[b"event_count"])
            for key, fields in self.server.documents().items()
        }

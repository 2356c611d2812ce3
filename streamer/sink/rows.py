"""Copies of every record that came: rows wait in memory until a commit makes them durable, with how far each
partition was copied, so each counts once, whatever is killed.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import structlog

from streamer.output_file import OutputError, cannot_write
from streamer.sink import lake_files
from streamer.sink.lake_files import Part
from streamer.sink.lake_manifest import Erasure, LakePosition
from streamer.sink.source import Source
from streamer.sink.store import OUTCOMES, Batch, Change, Place, Position, StoreAwayError, StoreError

ROWS_IN_MEMORY = 20_000
"""At most, before they are written: half a gigabyte where customers have eight sessions."""
_CLOCKS_APART_MS = 60_000
"""Between brokers' and ours, at most."""
TABLE_OF_SOURCE = {"visitors": "sessions", "users": "users"}
PositionsByTopic = dict[str, dict[str, LakePosition]]

log = structlog.get_logger(__name__)


class RowStore(ABC):
    """One writer. Methods raise StoreAwayError where nothing can be written now, and StoreError."""

    layout: str

    def __init__(
        self, name: str, commit_every_s: float, erase_every_s: float, now: Callable[[], float]
    ) -> None:
        """`name`: of the place, for messages; `now`: seconds since 1970."""
        self.name = name
        self._commit_every_s = commit_every_s
        self._erase_every_s = erase_every_s
        self._now = now
        self._positions: dict[Place, Position] = {}
        self._rows: defaultdict[Part, list[dict[str, Any]]] = defaultdict(list)
        self._waiting = 0
        self._erasures: list[Erasure] = []
        """That no commit has taken in yet."""
        self._committed_s = now()

    async def __aenter__(self) -> Self:
        return self

    @abstractmethod
    async def __aexit__(self, *_: object) -> None: ...

    @abstractmethod
    def _commit(self, erase: bool) -> None:
        """Make durable what was applied. `erase`: carry erasures out, also before it is time to. Raises
        OutputError, OSError."""

    async def position(self, source: Source, partition: int) -> Position | None:
        return self._positions.get((source.topic, partition))

    async def begin(
        self, source: Source, partition: int, known: Position | None, first: int, until: int, now_ms: int
    ) -> Position:
        if known is not None and known.offset >= first:
            raise StoreError(
                f"{self.name}: {source.topic}, partition {partition}: behind for longer than "
                "sink.rebuild_after_s; start the sink again: it reads the erasures of that time first"
            )
        if known is not None:
            log.error("records_lost", topic=source.topic, partition=partition, records=first - known.offset)
            self._positions[source.topic, partition] = replace(known, offset=first, until=until)
            return self._positions[source.topic, partition]
        position = Position(first, now_ms, until, now_ms, self.layout, dict.fromkeys(("read", *OUTCOMES), 0))
        self._positions[source.topic, partition] = position
        return position

    @property
    def behind_since_ms(self) -> int | None:
        """When the partition that is furthest behind was last in the lake to its end, ms UTC; None: there is
        no lake yet."""
        return min((each.at_end_ms for each in self._positions.values()), default=None)

    def catch_up(self, erasures: Iterable[Erasure], now_ms: int) -> None:
        """Take in all erasures that there ever were, in place of tombstones that may be gone."""
        self._erasures += erasures
        self._positions = {place: replace(each, at_end_ms=now_ms) for place, each in self._positions.items()}

    async def apply(self, batches: Sequence[Batch], now_ms: int) -> Mapping[Place, Position]:  # noqa: ARG002
        if self._is_due():
            await self.commit()
        for batch in batches:
            self._positions[batch.place] = self._applied(batch)
        return {batch.place: self._positions[batch.place] for batch in batches}

    async def sweep(self, source: Source, passes: Mapping[int, int], is_whole: bool) -> int:  # noqa: ARG002
        """Nothing: rows say what was, too."""
        return 0

    async def finish(self, source: Source, partition: int, known: Position) -> Position:
        self._positions[source.topic, partition] = replace(known, until=None)
        return self._positions[source.topic, partition]

    async def flush(self) -> None:
        """Commit, and erase whoever is to be erased."""
        await self.commit(erase=True)

    async def commit(self, erase: bool = False) -> None:
        """Make durable what was applied. `erase`: carry erasures out, also before it is time to."""
        try:
            await asyncio.to_thread(self._commit, erase)
        except OutputError as error:
            raise StoreAwayError(str(error)) from None
        except OSError as error:
            raise StoreAwayError(str(cannot_write(self.name, error))) from None
        self._committed_s = self._now()

    def _is_due(self) -> bool:
        return self._waiting >= ROWS_IN_MEMORY or self._now() - self._committed_s >= self._commit_every_s

    def _is_time_to_erase(self, last_ms: int) -> bool:
        return self._now() * 1000 - last_ms >= self._erase_every_s * 1000

    def _applied(self, batch: Batch) -> Position:
        table = TABLE_OF_SOURCE[batch.source.name]
        known = self._positions[batch.place]
        written = deleted = 0
        for change in batch.changes:
            if change.record is None:
                deleted += 1
                self._erasures.append(erasure_of(batch, change))
                continue
            written += 1
            part = lake_files.part_of(table, change.record)
            self._rows[part].append(lake_files.row_of(batch.partition, change))
        self._waiting += written
        came = {"read": batch.read, "written": written, "deleted": deleted}
        came |= {"bad": batch.bad, "stale": batch.stale}
        return Position(
            batch.next,
            known.pass_ms,
            known.until,
            known.at_end_ms if batch.at_end_ms is None else batch.at_end_ms,
            self.layout,
            {name: known.counts[name] + number for name, number in came.items()},
        )

    def _positions_by_topic(self) -> PositionsByTopic:
        positions: defaultdict[str, dict[str, LakePosition]] = defaultdict(dict)
        for (topic, partition), each in self._positions.items():
            positions[topic][str(partition)] = LakePosition(
                each.offset, each.pass_ms, each.until, each.at_end_ms, dict(each.counts)
            )
        return dict(positions)

    def _take_positions(self, positions: PositionsByTopic) -> None:
        """As they were stored."""
        for topic, partitions in positions.items():
            for number, each in partitions.items():
                self._positions[topic, int(number)] = Position(
                    each.offset, each.pass_ms, each.until, each.at_end_ms, self.layout, each.counts
                )

    def _still_to_erase(self, erasures: Iterable[Erasure]) -> list[Erasure]:
        """Those that may meet more rows: some partition was not read up to when they came."""
        behind = self.behind_since_ms or 0
        return [each for each in erasures if each.recorded_at >= behind - _CLOCKS_APART_MS]


def erasure_of(batch: Batch, tombstone: Change) -> Erasure:
    """What a tombstone asks for."""
    table = TABLE_OF_SOURCE[batch.source.name]
    return Erasure(table, tombstone.key, batch.partition, tombstone.offset, tombstone.recorded_at)

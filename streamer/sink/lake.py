"""The copy in Parquet files: every record that came, by table and day; the manifest has the position too.

Rows wait in memory until a commit writes them, and the manifest behind them, so each counts once, whatever
is killed. Files are never changed: erasures and the joining of small files write others in their place.
"""

from __future__ import annotations

import asyncio
import fcntl
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import structlog

from streamer.output_file import OutputError, cannot_write
from streamer.settings import ParquetSinkSettings
from streamer.sink import lake_erasure, lake_files, lake_manifest
from streamer.sink.lake_files import Part
from streamer.sink.lake_manifest import Erasure, LakeFile, LakePosition, Manifest
from streamer.sink.source import Source
from streamer.sink.store import OUTCOMES, Batch, Change, Place, Position, StoreAwayError, StoreError

ROWS_IN_MEMORY = 20_000
"""At most, before they are written: half a gigabyte where customers have eight sessions."""
SMALL_FILES = 8
"""So many of a part are joined."""
_CLOCKS_APART_MS = 60_000
"""Between brokers' and ours, at most."""
_LAYOUT = "parquet"
_OF_SOURCE = {"visitors": "sessions", "users": "users"}

log = structlog.get_logger(__name__)


class Lake:
    """One writer; any number of readers, by the manifest. Methods raise StoreAwayError where the disk takes
    nothing, and StoreError."""

    layout = _LAYOUT

    def __init__(self, settings: ParquetSinkSettings, now: Callable[[], float]) -> None:
        """`now`: seconds since 1970. Raises StoreError if another sink writes here."""
        assert settings.folder is not None
        self.folder = settings.folder
        self._settings = settings
        self._now = now
        self._lock = _locked(self.folder)
        self.manifest = lake_manifest.load(self.folder)
        self._positions = dict(_positions(self.manifest))
        self._rows: defaultdict[Part, list[dict[str, Any]]] = defaultdict(list)
        self._waiting = 0
        self._erasures: list[Erasure] = []
        self._committed_s = now()
        self._fresh: list[Path] = []
        """Written by the commit that is under way."""
        self._remove_strays()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._lock.close()

    async def position(self, source: Source, partition: int) -> Position | None:
        return self._positions.get((source.topic, partition))

    async def begin(
        self, source: Source, partition: int, known: Position | None, first: int, until: int, now_ms: int
    ) -> Position:
        if known is not None and known.offset >= first:
            raise StoreError(
                f"{self.folder}: {source.topic}, partition {partition}: behind for longer than "
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
        """Make durable what was applied. `erase`: also before it is time to."""
        try:
            await asyncio.to_thread(self._commit, erase)
        except OutputError as error:
            raise StoreAwayError(str(error)) from None
        except OSError as error:
            raise StoreAwayError(str(cannot_write(self.folder, error))) from None

    def _is_due(self) -> bool:
        is_late = self._now() - self._committed_s >= self._settings.commit_every_s
        return self._waiting >= ROWS_IN_MEMORY or is_late

    def _applied(self, batch: Batch) -> Position:
        table = _OF_SOURCE[batch.source.name]
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

    def _commit(self, erase: bool) -> None:
        before, now_ms = self.manifest, int(self._now() * 1000)
        for fresh in self._fresh:  # of one that failed
            fresh.unlink(missing_ok=True)
        self._fresh.clear()
        files = [*before.files, *self._written()]
        erasures = [*before.erasures, *self._erasures]
        gone: set[str] = set()
        erased_at = before.erased_at
        if erasures and (erase or now_ms - erased_at >= self._settings.erase_every_s * 1000):
            files, erasures = self._erased(files, erasures, gone)
            erased_at = now_ms
        files, replaced = self._joined(files)
        positions: defaultdict[str, dict[str, LakePosition]] = defaultdict(dict)
        for (topic, partition), each in self._positions.items():
            positions[topic][str(partition)] = LakePosition(
                each.offset, each.pass_ms, each.until, each.at_end_ms, dict(each.counts)
            )
        after = Manifest(
            files=tuple(files),
            positions=dict(positions),
            erasures=tuple(erasures),
            erased_at=erased_at,
            replaced=tuple(replaced - gone),
        )
        lake_manifest.save(self.folder, after)
        self.manifest = after
        self._rows.clear()
        self._erasures.clear()
        self._fresh.clear()
        self._waiting = 0
        self._committed_s = self._now()
        for path in gone | {*before.replaced}:
            (self.folder / path).unlink(missing_ok=True)

    def _written(self) -> list[LakeFile]:
        return [self._new_file(part, lake_files.table_of(part, rows)) for part, rows in self._rows.items()]

    def _new_file(self, part: Part, table: pa.Table) -> LakeFile:
        path = f"{part.table}/day={part.day}/{uuid4().hex}.parquet"
        self._fresh.append(self.folder / path)
        size = lake_files.write(self.folder / path, table)
        return LakeFile(path, part.table, part.day, part.dimensions, table.num_rows, size)

    def _erased(
        self, files: Sequence[LakeFile], erasures: Sequence[Erasure], gone: set[str]
    ) -> tuple[list[LakeFile], list[Erasure]]:
        """The files without the rows of the erased, and the erasures that may meet more of them; `gone` gets
        the paths of those that had some."""
        masks, erasures = lake_erasure.erased_rows(
            {file.path: (file.table, read_file(self.folder, file, keys_only=True)) for file in files},
            erasures,
        )
        kept: list[LakeFile] = []
        for file in files:
            mask = masks.get(file.path)
            if mask is None:
                kept.append(file)
                continue
            gone.add(file.path)
            table = read_file(self.folder, file).filter(pc.invert(mask))
            if table.num_rows:
                kept.append(self._new_file(file.part, table))
        if gone:
            log.info("erased", files=len(gone))
        behind = min((each.at_end_ms for (topic, _), each in self._positions.items()), default=0)
        return kept, [each for each in erasures if each.recorded_at >= behind - _CLOCKS_APART_MS]

    def _joined(self, files: Sequence[LakeFile]) -> tuple[list[LakeFile], set[str]]:
        """Many small files of a part as one; and the paths of those that it replaces."""
        small: defaultdict[Part, list[LakeFile]] = defaultdict(list)
        for file in files:
            if file.bytes < self._settings.target_bytes // 2:
                small[file.part].append(file)
        new: list[LakeFile] = []
        replaced: set[str] = set()
        for part, few in small.items():
            if len(few) >= SMALL_FILES:
                for file in few:
                    read_file(self.folder, file, keys_only=True)
                new.append(self._new_file(part, lake_files.joined(part, [self.folder / f.path for f in few])))
                replaced |= {file.path for file in few}
        return [*(file for file in files if file.path not in replaced), *new], replaced

    def _remove_strays(self) -> None:
        """Files that a commit wrote which was killed."""
        known = {file.path for file in self.manifest.files} | {*self.manifest.replaced}
        for path in self.folder.glob("*/day=*/*"):
            if path.relative_to(self.folder).as_posix() not in known:
                path.unlink()


def erasure_of(batch: Batch, tombstone: Change) -> Erasure:
    """What a tombstone asks for."""
    table = _OF_SOURCE[batch.source.name]
    return Erasure(table, tombstone.key, batch.partition, tombstone.offset, tombstone.recorded_at)


def read_file(folder: Path, file: LakeFile, keys_only: bool = False) -> pa.Table:
    """The rows of a file that the manifest has. `keys_only`: the columns that erasures go by. Raises
    StoreError."""
    path, columns = folder / file.path, lake_erasure.COLUMNS[file.table] if keys_only else None
    try:
        return lake_files.read(path, columns)
    except (OSError, pa.ArrowInvalid) as error:
        raise StoreError(
            f"{path}: can't be read ({type(error).__name__}), and the manifest has it; restore it, or take "
            "it out of the manifest"
        ) from None


def _positions(manifest: Manifest) -> Iterable[tuple[Place, Position]]:
    for topic, partitions in manifest.positions.items():
        for number, each in partitions.items():
            yield (
                (topic, int(number)),
                Position(each.offset, each.pass_ms, each.until, each.at_end_ms, _LAYOUT, each.counts),
            )


def _locked(folder: Path) -> Any:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise cannot_write(folder, error) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise StoreError(f"{folder}: another sink writes here; expected one at a time") from None
    return file

"""Whether a lake has what its manifest says, and nothing of whom the topics' tombstones erase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pyarrow.compute as pc

from streamer.sink import lake_erasure, lake_files, lake_manifest
from streamer.sink.lake import read_file
from streamer.sink.lake_manifest import Erasure
from streamer.sink.rows import erasure_of
from streamer.sink.source import Source
from streamer.sink.store import OUTCOMES, Batch, Place, Position, StoreError


class Tombstones:
    """A store that keeps nothing but these."""

    layout = ""

    def __init__(self) -> None:
        self.erasures: list[Erasure] = []
        self._positions: dict[Place, Position] = {}

    async def position(self, source: Source, partition: int) -> Position | None:
        return self._positions.get((source.topic, partition))

    async def begin(
        self,
        source: Source,
        partition: int,
        known: Position | None,  # noqa: ARG002, it is asked for once
        first: int,
        until: int,
        now_ms: int,
    ) -> Position:
        nothing = dict.fromkeys(("read", *OUTCOMES), 0)
        return self._stands((source.topic, partition), Position(first, now_ms, until, now_ms, "", nothing))

    async def apply(self, batches: Sequence[Batch], now_ms: int) -> Mapping[Place, Position]:  # noqa: ARG002
        for batch in batches:
            self.erasures += [erasure_of(batch, change) for change in batch.changes if change.record is None]
            self._stands(batch.place, replace(self._positions[batch.place], offset=batch.next))
        return {batch.place: self._positions[batch.place] for batch in batches}

    async def sweep(self, source: Source, passes: Mapping[int, int], is_whole: bool) -> int:  # noqa: ARG002
        return 0

    async def finish(self, source: Source, partition: int, known: Position) -> Position:
        return self._stands((source.topic, partition), replace(known, until=None))

    async def flush(self) -> None:
        pass

    def _stands(self, place: Place, position: Position) -> Position:
        self._positions[place] = position
        return position


class Found(NamedTuple):
    files: int
    rows: int
    erased: int
    """Keys whose tombstones the topics have."""
    left: int
    """Rows of theirs."""


def looked_through(folder: Path, erasures: Sequence[Erasure]) -> Found:
    """What is in the lake. Raises StoreError for a file that is missing, damaged, or not the one that was
    written, and for a folder without a lake."""
    manifest = lake_manifest.load(folder)
    if not manifest.positions:
        raise StoreError(
            f"{folder}: no lake there; expected a folder that `streamer sink parquet` has written"
        )
    tables = {file.path: (file.table, read_file(folder, file, keys_only=True)) for file in manifest.files}
    for file in manifest.files:
        rows = tables[file.path][1].num_rows
        if (rows, (folder / file.path).stat().st_size) != (file.rows, file.bytes):
            raise StoreError(f"{folder / file.path}: {rows} rows, expected {file.rows} in {file.bytes} bytes")
    waiting = {each.path for each in manifest.files}
    for path in manifest.replaced:
        if path not in waiting and (folder / path).exists():
            table = path.partition("/")[0]
            tables[path] = table, lake_files.read(folder / path, lake_erasure.COLUMNS[table])
    masks, _ = lake_erasure.erased_rows(tables, [*manifest.erasures, *erasures])
    left = sum(pc.sum(mask).as_py() for mask in masks.values())
    keys = {(each.table, each.key) for each in erasures}
    return Found(len(manifest.files), sum(file.rows for file in manifest.files), len(keys), left)

"""The copy in Parquet files: every record that came, by table and day; the manifest has the position too.

A commit writes the rows that wait, and the manifest behind them. Files are never changed: erasures and the
joining of small files write others in their place.
"""

from __future__ import annotations

import fcntl
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import structlog

from streamer.output_file import cannot_write
from streamer.settings import ParquetSinkSettings
from streamer.sink import lake_erasure, lake_files, lake_manifest
from streamer.sink.lake_files import Part
from streamer.sink.lake_manifest import Erasure, LakeFile, Manifest
from streamer.sink.rows import RowStore
from streamer.sink.store import StoreError

SMALL_FILES = 8
"""So many of a part are joined."""

log = structlog.get_logger(__name__)


class Lake(RowStore):
    """Any number of readers, by the manifest."""

    layout = "parquet"

    def __init__(self, settings: ParquetSinkSettings, now: Callable[[], float]) -> None:
        """`now`: seconds since 1970. Raises StoreError if another sink writes here, or for files without a
        manifest."""
        assert settings.folder is not None
        self.folder = settings.folder
        super().__init__(str(self.folder), settings.commit_every_s, settings.erase_every_s, now)
        self._target_bytes = settings.target_bytes
        self._lock = locked(self.folder)
        self.manifest = lake_manifest.load(self.folder)
        if self._is_new() and any(self._files_there()):
            self._lock.close()
            raise StoreError(
                f"{self.folder}: files in {' or '.join(lake_erasure.COLUMNS)}, but no {lake_manifest.NAME}; "
                "restore it, or give an empty folder"
            )
        self._take_positions(self.manifest.positions)
        self._fresh: list[Path] = []
        """Written by the commit that is under way."""
        self._remove_strays()

    async def __aexit__(self, *_: object) -> None:
        self._lock.close()

    def _is_new(self) -> bool:
        return not (self.folder / lake_manifest.NAME).exists()

    def _files_there(self) -> Iterator[Path]:
        for table in lake_erasure.COLUMNS:
            yield from self.folder.glob(f"{table}/day=*/*")

    def _commit(self, erase: bool) -> None:
        if self._is_new():  # of what a killed commit has written, the next start knows that it is ours
            lake_manifest.save(self.folder, self.manifest)
        before, now_ms = self.manifest, int(self._now() * 1000)
        for fresh in self._fresh:  # of one that failed
            fresh.unlink(missing_ok=True)
        self._fresh.clear()
        files = [*before.files, *self._written()]
        erasures = [*before.erasures, *self._erasures]
        gone: set[str] = set()
        erased_at = before.erased_at
        if erasures and (erase or self._is_time_to_erase(erased_at)):
            files, erasures = self._erased(files, erasures, gone)
            erased_at = now_ms
        files, replaced = self._joined(files)
        after = Manifest(
            files=tuple(files),
            positions=self._positions_by_topic(),
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
        return kept, self._still_to_erase(erasures)

    def _joined(self, files: Sequence[LakeFile]) -> tuple[list[LakeFile], set[str]]:
        """Many small files of a part as one; and the paths of those that it replaces."""
        small: defaultdict[Part, list[LakeFile]] = defaultdict(list)
        for file in files:
            if file.bytes < self._target_bytes // 2:
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
        for path in self._files_there():
            if path.relative_to(self.folder).as_posix() not in known:
                path.unlink()


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


def locked(folder: Path) -> Any:
    """An open file, which is the lock of the folder's one writer. Raises StoreError, OutputError."""
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

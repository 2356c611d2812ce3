"""A table of Iceberg, as the sink writes it: how far its topic was copied stands in the summaries of its
snapshots, so rows and position are committed together.

- A commit goes on from the state that this sink committed last; otherwise another one writes here as well.
- Old snapshots go when they are too old, and at once when rows of the erased were taken out after them; so do
  the files that none of the others has.
- Files keep no bounds of ids, which would outlive the rows.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import reduce
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSelector
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.expressions import And, BooleanExpression, EqualTo, In, Or
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table, Transaction
from pyiceberg.table.snapshots import ancestors_of

from streamer.sink import lake_erasure, lake_files
from streamer.sink.lake_files import Part
from streamer.sink.lake_manifest import Erasure, LakePosition
from streamer.sink.store import StoreError

STATE = "streamer.state"
"""In a snapshot's summary: TableState as JSON."""
_ERASED = "streamer.erased"
"""In the summary of a snapshot that has lost rows of the erased, which the ones before it have."""
_DAY = pa.field("day", pa.date32())
_EPOCH = dt.date(1970, 1, 1)
_WITH_BOUNDS = ("topic_partition", "topic_offset", "recorded_at", "closed_at", "day")
_PROPERTIES = {
    "commit.manifest-merge.enabled": "true",
    # Of the library: it would append again what another sink may have appended already.
    "commit.retry.num-retries": "0",
    "write.metadata.previous-versions-max": "1",
    "write.metadata.metrics.default": "counts",
    **{f"write.metadata.metrics.column.{name}": "full" for name in _WITH_BOUNDS},
}
Places = Mapping[int, Collection[int]]
"""Of rows: partitions of the topic, and offsets there."""


class TableState(msgspec.Struct, frozen=True):
    """What a snapshot's summary says."""

    positions: dict[str, dict[str, LakePosition]] = {}
    """By topic and partition."""
    erasures: tuple[Erasure, ...] = ()
    """Of this table's keys, that may still meet rows."""


class IcebergTable:
    """`sessions` or `users`. Methods raise StoreError, and the errors of the library and of files."""

    def __init__(self, catalog: Catalog, namespace: str, name: str, create: bool) -> None:
        """`create`: if it isn't there, and bring its columns up to date."""
        self.name = name
        self._id = f"{namespace}.{name}"
        try:
            self._table = _made(catalog, namespace, name) if create else catalog.load_table(self._id)
        except NoSuchTableError:
            raise StoreError(
                f"{self._id}: no such table; expected one that `streamer sink iceberg` has made"
            ) from None
        self.state = self._stored()

    @property
    def location(self) -> str:
        """Where its files are: an address."""
        return self._table.location()

    def append(self, parts: Mapping[Part, Sequence[Mapping[str, Any]]], state: TableState) -> None:
        """Add rows, and move to the state. The rows are those of `lake_files.row_of`."""
        schema = _arrow_schema(self.name)
        rows = [
            {_DAY.name: dt.date.fromisoformat(part.day), **row}
            for part, of_part in parts.items()
            if part.table == self.name
            for row in of_part
        ]
        data = pa.Table.from_pylist(rows, schema)
        self._commit(lambda tx, summary: tx.append(data, summary), state)

    def erase(self, places: Places, state: TableState) -> None:
        """Take rows out, and move to the state."""
        if not places:
            if state != self.state:
                self.append({}, state)
            return
        rows: list[BooleanExpression] = [
            And(EqualTo("topic_partition", partition), In("topic_offset", {*offsets}))
            for partition, offsets in places.items()
        ]
        row_filter = reduce(Or, rows)
        self._commit(lambda tx, summary: tx.delete(row_filter, {**summary, _ERASED: "true"}), state)

    def join(self, small: int, target_bytes: int) -> None:
        """The files of each day as one, where so many are small and all are no larger than `target_bytes`."""
        days: defaultdict[dt.date, list[DataFile]] = defaultdict(list)
        for file in self.files():
            days[_day_of(file)].append(file)
        for day, files in days.items():
            sizes = [file.file_size_in_bytes for file in files]
            if sum(size < target_bytes // 2 for size in sizes) >= small and sum(sizes) <= target_bytes:
                self._join_day(day)

    def _join_day(self, day: dt.date) -> None:
        of_day = EqualTo(_DAY.name, day)
        rows = self._table.scan(of_day).to_arrow()
        self._commit(lambda tx, summary: tx.overwrite(rows, of_day, summary), self.state)

    def files(self) -> list[DataFile]:
        """Of the table as it is."""
        return [task.file for task in self._table.scan().plan_files()]

    def keys(self, file: DataFile) -> pa.Table:
        """The columns that erasures go by, of one file; it has to be as it was written."""
        path = file.file_path
        try:
            keys, size = self._keys_at(path), len(self._table.io.new_input(path))
        except (OSError, pa.ArrowInvalid) as error:
            raise StoreError(
                f"{path}: can't be read ({type(error).__name__}), and {self._id} has it; restore it, or take "
                "it out of the table"
            ) from None
        if (keys.num_rows, size) != (file.record_count, file.file_size_in_bytes):
            raise StoreError(
                f"{path}: {keys.num_rows} rows, expected {file.record_count} in "
                f"{file.file_size_in_bytes} bytes"
            )
        return keys

    def keys_of_others(self, files: Sequence[DataFile]) -> Iterator[tuple[str, pa.Table]]:
        """The same, of what else can be read at the table's location: of older snapshots, killed commits."""
        known = {_path(file.file_path) for file in files}
        for path, location, _ in self._listed():
            if path in known or not path.endswith(".parquet"):
                continue
            with suppress(FileNotFoundError, pa.ArrowInvalid):  # it was tidied away, or never finished
                yield location, self._keys_at(location)

    def _keys_at(self, location: str) -> pa.Table:
        with self._table.io.new_input(location).open() as opened, pq.ParquetFile(opened) as file:
            return file.read(columns=lake_erasure.COLUMNS[self.name])

    def tidy(self, older_than_s: float, strays_older_than_s: float) -> None:
        """Expire snapshots from before that time, and all that have rows of the erased; delete the files that
        are no longer needed, and those of killed commits from before `strays_older_than_s`. Seconds since
        1970."""
        had = {*self._needed()}
        expired = self._outlived(older_than_s)
        if expired:
            self._table.maintenance.expire_snapshots().by_ids(expired).commit()
        needed = {*self._needed()}
        for path, location, written_s in self._listed():
            if path not in needed and (path in had or written_s < strays_older_than_s):
                self._table.io.delete(location)

    def _commit(self, change: Callable[[Transaction, dict[str, str]], None], state: TableState) -> None:
        self._table.refresh()
        stored = self._stored()
        if stored == state != self.state:  # it was done, and the answer was lost
            self.state = state
            return
        if stored != self.state:
            raise StoreError(f"{self._id}: another sink writes here; expected one at a time")
        with self._table.transaction() as transaction:
            change(transaction, {STATE: msgspec.json.encode(state).decode()})
        self.state = state

    def _stored(self) -> TableState:
        current = self._table.current_snapshot()
        for snapshot in ancestors_of(current, self._table.metadata):
            text = None if snapshot.summary is None else snapshot.summary.additional_properties.get(STATE)
            if text is not None:
                return self._decoded(text)
        if current is not None:
            raise StoreError(f"{self._id}: no snapshot has {STATE}; expected a table that the sink made")
        return TableState()

    def _decoded(self, text: str) -> TableState:
        try:
            return msgspec.json.decode(text, type=TableState)
        except msgspec.DecodeError:
            raise StoreError(f"{self._id}: {STATE} of a snapshot is not what the sink writes") from None

    def _outlived(self, older_than_s: float) -> list[int]:
        """Snapshots to expire: never the current one, nor what a branch or a tag is of."""
        metadata = self._table.metadata
        outlived = {
            each.snapshot_id for each in metadata.snapshots if each.timestamp_ms < older_than_s * 1000
        }
        newer: set[int] = set()
        for snapshot in ancestors_of(self._table.current_snapshot(), metadata):
            newer.add(snapshot.snapshot_id)
            if snapshot.summary is not None and _ERASED in snapshot.summary.additional_properties:
                outlived |= {each.snapshot_id for each in metadata.snapshots} - newer
                break
        return [*(outlived - {ref.snapshot_id for ref in metadata.refs.values()})]

    def _needed(self) -> Iterator[str]:
        """Paths of the files of all snapshots."""
        yield _path(self._table.metadata_location)
        for entry in self._table.metadata.metadata_log:
            yield _path(entry.metadata_file)
        seen: set[str] = set()
        for snapshot in self._table.snapshots():
            yield _path(snapshot.manifest_list)
            for manifest in snapshot.manifests(self._table.io):
                if manifest.manifest_path not in seen:
                    seen.add(manifest.manifest_path)
                    yield _path(manifest.manifest_path)
                    entries = manifest.fetch_manifest_entry(self._table.io)
                    yield from (_path(each.data_file.file_path) for each in entries)

    def _listed(self) -> list[tuple[str, str, float]]:
        """Path and location of the files below the table's, and when each was written, seconds since 1970."""
        io, own = self._table.io, self._table.location()
        assert isinstance(io, PyArrowFileIO)
        scheme, netloc, folder = io.parse_location(own)
        selector = FileSelector(folder, recursive=True, allow_not_found=True)
        found = io.fs_by_scheme(scheme, netloc).get_file_info(selector)
        return [
            (each.path, f"{own}{each.path.removeprefix(folder)}", each.mtime_ns / 1e9)
            for each in found
            if each.is_file
        ]


def _made(catalog: Catalog, namespace: str, name: str) -> Table:
    schema = _arrow_schema(name)
    catalog.create_namespace_if_not_exists(namespace)
    if not catalog.table_exists((namespace, name)):
        creating = catalog.create_table_transaction((namespace, name), schema, properties=_PROPERTIES)
        with creating, creating.update_spec() as spec:
            spec.add_identity(_DAY.name)
    table = catalog.load_table((namespace, name))
    with table.update_schema() as update:
        update.union_by_name(schema)
    return table


def _arrow_schema(name: str) -> pa.Schema:
    """Columns of the lake's files, and the day; Iceberg has no lists of a fixed size."""
    fields = [
        pa.field(each.name, pa.list_(each.type.value_field))
        if pa.types.is_fixed_size_list(each.type)
        else each
        for each in lake_files.schema_of(name, 1)
    ]
    return pa.schema([_DAY, *fields])


def _day_of(file: DataFile) -> dt.date:
    return _EPOCH + dt.timedelta(days=file.partition[0])


def _path(location: str) -> str:
    """The same for all ways to write a scheme."""
    return PyArrowFileIO.parse_location(location)[2]

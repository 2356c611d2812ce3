"""Records as rows of Parquet files: a file holds rows of one table, one day of `closed_at`, and one length of
vectors.

Columns are the fields of the record; before them `recorded_at`, when the broker wrote it (ms UTC), and the
`topic_partition` and `topic_offset` that it has there. Vectors are fixed-size lists.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from streamer.avro_columns import columns_of
from streamer.output_file import output_file
from streamer.schemas import codec
from streamer.sink.store import Change

ROW_GROUP = 16_384
TABLES: Mapping[str, codec.SchemaName] = {"sessions": "visitor_intent", "users": "user_intent"}
KEYS = {"sessions": "visitor_id", "users": "user_id"}
_VECTORS = ("embedding", "profile_embedding")


class Part(NamedTuple):
    """Rows that are in one file."""

    table: str
    day: str
    """Of `closed_at`, UTC, as 2026-11-30."""
    dimensions: int
    """Of the vectors."""


def part_of(table: str, record: codec.Record) -> Part:
    """Where a record's row belongs."""
    day = dt.datetime.fromtimestamp(record["closed_at"] / 1000, dt.UTC).date()
    return Part(table, day.isoformat(), len(record["embedding"]))


def row_of(partition: int, change: Change) -> dict[str, Any]:
    """A record's row."""
    record = change.record
    assert record is not None
    row: dict[str, Any] = {
        "recorded_at": change.recorded_at,
        "topic_partition": partition,
        "topic_offset": change.offset,
        **record,
    }
    if not row.get("profile_embedding", True):
        row["profile_embedding"] = None
    return row


@cache
def schema_of(table: str, dimensions: int) -> pa.Schema:
    """Columns of a table whose vectors have so many numbers."""
    vector = pa.list_(pa.field("element", pa.float32()), dimensions)
    fields = [
        pa.field(each.name, vector) if each.name in _VECTORS else each
        for each in columns_of(codec.schema(TABLES[table]))
    ]
    place = [("recorded_at", pa.int64()), ("topic_partition", pa.int32()), ("topic_offset", pa.int64())]
    return pa.schema([*(pa.field(*each) for each in place), *fields])


def table_of(part: Part, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """The rows as columns."""
    return pa.Table.from_pylist(rows, schema_of(part.table, part.dimensions))


def write(path: Path, table: pa.Table) -> int:
    """Write a file whole; returns its size in bytes. Raises OutputError."""
    with output_file(path) as file:
        pq.write_table(table, file, compression="zstd", row_group_size=ROW_GROUP)
    return path.stat().st_size


def read(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The file's rows. Raises OSError, pyarrow.ArrowInvalid."""
    with pq.ParquetFile(path) as file:
        return file.read(columns=columns)


def joined(part: Part, paths: Iterable[Path]) -> pa.Table:
    """The rows of several files of the same part, in the schema of today: of a column that an earlier file
    doesn't have, they are null."""
    schema = schema_of(part.table, part.dimensions)
    tables = [schema.empty_table(), *map(read, paths)]
    return pa.concat_tables(tables, promote_options="permissive").select(schema.names).cast(schema)

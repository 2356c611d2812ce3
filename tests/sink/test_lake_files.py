"""Files of a lake that earlier versions wrote, joined."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from streamer.avro_columns import columns_of
from streamer.schemas import codec
from streamer.sink.lake_files import TABLES, Part, joined, schema_of, write


def _as_written(part: Part, landed: codec.Record, offset: int) -> pa.Table:
    """One row, in the columns of a landed schema: those that it has beside the place are null."""
    today = schema_of(part.table, part.dimensions)
    fields = [today.field(at) for at in range(3)]
    for each in columns_of(landed):
        kind = today.field(each.name).type
        fields.append(pa.field(each.name, kind) if pa.types.is_fixed_size_list(kind) else each)
    return pa.Table.from_pylist([{"topic_offset": offset}], pa.schema(fields))


@pytest.mark.parametrize("table", TABLES)
def test_files_of_all_versions_are_joined_in_the_columns_of_today(tmp_path: Path, table: str) -> None:
    part = Part(table, "2026-11-30", 2)
    paths = []
    for offset, landed in enumerate(codec.landed(TABLES[table])):
        paths.append(tmp_path / f"{offset}.parquet")
        write(paths[-1], _as_written(part, landed, offset))
    for first in range(len(paths)):
        for last in range(first, len(paths)):
            rows = joined(part, paths[first : last + 1])
            assert rows.schema == schema_of(table, part.dimensions)
            assert rows["topic_offset"].to_pylist() == [*range(first, last + 1)]

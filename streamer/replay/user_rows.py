"""Customers' records over time as rows of a parquet file: `as_of`, ms UTC, and the fields of a UserIntent.

A row holds from its `as_of` on, until the next one of the customer and bundle. One without a `session_id`
says that nothing is left of the customer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from streamer.avro_columns import columns_of
from streamer.output_file import output_file
from streamer.replay.rows import ROW_GROUP
from streamer.replay.users import UserRow, document_of
from streamer.schemas import codec

SCHEMA = pa.schema([pa.field("as_of", pa.int64()), *columns_of(codec.schema("user_intent"))])


@contextmanager
def user_rows_file(
    path: Path, beside: Path | None = None
) -> Iterator[Callable[[Iterable[UserRow], str], None]]:
    """A file to which a call adds the rows of a bundle, named by its model_version. Raises OutputError.

    `beside`: where it is until it is whole.
    """
    with output_file(path, beside) as file, pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:

        def write(rows: Iterable[UserRow], model_version: str) -> None:
            left = iter(rows)
            while documents := [document_of(row, model_version) for row in islice(left, ROW_GROUP)]:
                writer.write_table(pa.Table.from_pylist(documents, SCHEMA))

        yield write

"""Rows of a parquet file as the JSON that a producer would have sent, or that a dump would have.

Times, whatever their unit, become milliseconds, decimals become numbers. Bytes are text if they are UTF-8.
What JSON has no type for becomes an object, which is of a wrong type for any field but `properties`, and so a
dead letter. Where only some columns are read, so does what is nested.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from streamer.errors import UsageError
from streamer.schemas import codec

_DUMP_COLUMNS = ("partition", "offset", "arrival", "key", "value", "value_base64")
CLICK_COLUMNS = tuple(field["name"] for field in codec.schema("click")["fields"])
_OBJECT: dict[str, Any] = {}
"""Stands for what is nested in a click, too, but for the texts, numbers and flags in `properties`."""


def opened(path: Path) -> pq.ParquetFile:
    """Raises UsageError if it isn't readable as parquet."""
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"{path}: cannot be read as parquet ({type(error).__name__})") from None


def json_rows(path: Path, batch_rows: int, names: Sequence[str] | None) -> Iterator[bytes]:
    """The rows; `names`: the columns of a click, None: all there are. Of a dump, those of a dump alone.

    Raises UsageError if the file isn't parquet, or is damaged.
    """
    with opened(path) as file:
        there = file.schema_arrow.names
        if "arrival" in there and not {"value", "value_base64"}.isdisjoint(there):
            names = _DUMP_COLUMNS
        columns = None if names is None else [name for name in names if name in there]
        try:
            for batch in file.iter_batches(batch_rows, columns=columns):
                yield from _rows_of(batch, is_whole=names is None)
        except (OSError, pa.ArrowException) as error:
            raise UsageError(f"{path}: damaged parquet file ({type(error).__name__})") from None


def _rows_of(batch: pa.RecordBatch, *, is_whole: bool) -> Iterator[bytes]:
    columns: dict[str, list[Any]] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if name == "value" and _is_bytes(column.type) and not is_whole:
            columns["value_base64"] = [v and base64.b64encode(v).decode() for v in column.to_pylist()]
        elif is_whole and types.is_nested(column.type):
            columns[name] = column.to_pylist(maps_as_pydicts="lossy")
        else:
            columns[name] = _properties(column) if name == "properties" else _values(column)
    for place in range(batch.num_rows):
        row = {name: values[place] for name, values in columns.items() if values[place] is not None}
        yield orjson.dumps(row, default=_as_json)


def _as_json(value: Any) -> Any:
    """What stands in a nested column in place of a value that JSON has no type for."""
    if isinstance(value, bytes):
        return _text_of(value)
    return float(value) if isinstance(value, Decimal) else _OBJECT


def _properties(column: pa.Array) -> list[Any]:
    """Of a map or a struct, what a click could keep; columns of other types have no properties."""
    kind = column.type
    if types.is_map(kind) and _is_text(kind.key_type) and _is_scalar(kind.item_type):
        return [None if value is None else dict(value) for value in column.to_pylist()]
    if types.is_struct(kind):
        fields = {field.name: column.field(field.name) for field in kind if _is_scalar(field.type)}
        rows = zip(*(values.to_pylist() for values in fields.values()), strict=True) if fields else ()
        found = [dict(zip(fields, row, strict=True)) for row in rows] or [_OBJECT] * len(column)
        valid = column.is_valid().to_pylist()
        return [each if is_there else None for each, is_there in zip(found, valid, strict=True)]
    return _values(column)


def _is_text(kind: pa.DataType) -> bool:
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _is_scalar(kind: pa.DataType) -> bool:
    """Of a type that JSON has."""
    return bool(_is_text(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _values(column: pa.Array) -> list[Any]:
    """The column's values in types that JSON has; None where there is none."""
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if types.is_nested(kind):
        return [_OBJECT if valid else None for valid in column.is_valid().to_pylist()]
    if types.is_timestamp(kind) or types.is_date(kind):
        # Whole milliseconds first: Python's own types hold neither nanoseconds nor the year 10000.
        zone = kind.tz if types.is_timestamp(kind) else None
        column = column.cast(pa.timestamp("ms", zone), safe=False).cast(pa.int64())
    elif types.is_duration(kind):
        column = column.cast(pa.duration("ms"), safe=False).cast(pa.int64())
    elif types.is_time(kind):
        column = column.cast(pa.string())
    elif types.is_decimal(kind):
        return [None if value is None else float(value) for value in column.to_pylist()]
    elif _is_bytes(kind):
        return [None if value is None else _text_of(value) for value in column.to_pylist()]
    return list(column.to_pylist())


def _is_bytes(kind: pa.DataType) -> bool:
    kinds = types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view
    return any(is_kind(kind) for is_kind in kinds)


def _text_of(value: bytes) -> str | dict[str, Any]:
    """What is no text must not become one: two visitors could be taken for the same."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return _OBJECT

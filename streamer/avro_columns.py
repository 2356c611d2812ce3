"""Avro schemas as columns of Parquet."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

_TYPES = {
    "string": pa.string(),
    "long": pa.int64(),
    "int": pa.int32(),
    "boolean": pa.bool_(),
    "float": pa.float32(),
    "double": pa.float64(),
}


def _column_type(avro: Any) -> pa.DataType:
    if isinstance(avro, list):  # null, or something
        return _column_type(avro[-1])
    if isinstance(avro, str):
        return _TYPES[avro]
    return pa.list_(_column_type(avro["items"])) if avro["type"] == "array" else pa.struct(columns_of(avro))


def columns_of(record: dict[str, Any]) -> list[pa.Field]:
    """Of a record type, in the order of its fields."""
    return [pa.field(each["name"], _column_type(each["type"])) for each in record["fields"]]

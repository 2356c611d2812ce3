"""How records stand in Redis: names of keys, and a record's fields.

A hash has the record's fields as text, lists and tables in them as JSON, and vectors as little-endian
FLOAT32, which vector search of Redis and Valkey indexes. What is null has no field.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import orjson

from streamer.schemas import codec

_VECTOR_TYPE = {"type": "array", "items": "float"}
_DIGEST_BYTES = 12


class Keys:
    """Of Redis, all with the same prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def document(self, source: str, key: str) -> str:
        """Of a visitor's or customer's record."""
        return f"{self._prefix}:{source}:{key}"

    def fence(self, document: str) -> str:
        """Of what keeps older records from coming back. Whose it is can't be read from it: it outlives an
        erasure."""
        digest = hashlib.blake2b(document.encode(errors="replace"), digest_size=_DIGEST_BYTES)
        return f"{self._prefix}:fence:{digest.hexdigest()}"

    def position(self, topic: str, partition: int) -> str:
        """Of how far a partition was copied."""
        return f"{self._prefix}:position:{topic}:{partition}"


def hash_fields(schema: codec.SchemaName, record: codec.Record) -> list[str | bytes]:
    """Names and values in turn."""
    vectors = vector_fields(schema)
    fields: list[str | bytes] = []
    for name, value in record.items():
        stored = _vector(value) if name in vectors and value is not None else _stored(value)
        if stored is not None:
            fields += (name, stored)
    return fields


def json_fields(_: codec.SchemaName, record: codec.Record) -> list[str | bytes]:
    """The whole record as one document."""
    return [orjson.dumps(record)]


FIELDS = {"hash": hash_fields, "json": json_fields}
"""By `sink.redis.format`."""


@cache
def vector_fields(schema: codec.SchemaName) -> frozenset[str]:
    """Names of the fields that are vectors."""
    fields = codec.schema(schema)["fields"]
    return frozenset(field["name"] for field in fields if _VECTOR_TYPE in _types(field["type"]))


def _types(declared: Any) -> Iterator[Any]:
    yield from declared if isinstance(declared, list) else [declared]


def _vector(values: list[float]) -> bytes | None:
    return np.array(values, "<f4").tobytes() or None


def _stored(value: Any) -> str | bytes | None:
    if value is None or isinstance(value, str):
        return value
    return orjson.dumps(value)

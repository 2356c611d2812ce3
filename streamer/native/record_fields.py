"""What a click's way reads of a record, whoever made the record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def offset_of(record: Any) -> int:
    """Its place in the log of its partition."""
    offset: int = record.offset
    return offset


def timestamp_of(record: Any) -> int:
    """ms UTC, by whose clock its topic says."""
    timestamp: int = record.timestamp
    return timestamp


def value_of(record: Any) -> bytes | None:
    """None: it has none."""
    value: bytes | None = record.value
    return value


def headers_of(record: Any) -> Sequence[tuple[str, bytes]]:
    """Name and content of each; not to be changed."""
    headers: Sequence[tuple[str, bytes]] = record.headers
    return headers


def latest_of(records: Sequence[Any]) -> int:
    """The latest timestamp of records, one at least."""
    return max(timestamp_of(record) for record in records)


def count_until(records: Sequence[Any], limit_ms: float) -> int:
    """How many of the records come before the first whose timestamp is later."""
    for count, record in enumerate(records):
        if timestamp_of(record) > limit_ms:
            return count
    return len(records)

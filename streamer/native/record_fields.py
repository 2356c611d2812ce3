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

"""What a click's way reads of a record, whoever made the record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Header = tuple[str, bytes]


def offset_of(record: Any) -> int:
    offset: int = record.offset
    return offset


def timestamp_of(record: Any) -> int:
    timestamp: int = record.timestamp
    return timestamp


def value_of(record: Any) -> bytes | None:
    value: bytes | None = record.value
    return value


def headers_of(record: Any) -> Sequence[Header]:
    headers: Sequence[Header] = record.headers
    return headers

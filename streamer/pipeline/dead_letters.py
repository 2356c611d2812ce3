"""Headers of a record that is put aside: where it came from and why, so that it can be found and replayed.

Names and encodings are those of Kafka Streams (KIP-1034): text in UTF-8, numbers as decimal text. Key, value
and the record's own headers go along as they came; on a clash of names ours win. Nothing that was in the
record gets into our headers, so there is no stack trace either: it can carry what a customer typed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

Header = tuple[str, bytes]
"""As Kafka clients have them; names may repeat."""

EXCEPTION_HEADER = "__streams.errors.exception"
MESSAGE_HEADER = "__streams.errors.message"
TOPIC_HEADER = "__streams.errors.topic"
PARTITION_HEADER = "__streams.errors.partition"
OFFSET_HEADER = "__streams.errors.offset"
STAGE_HEADER = "x-streamer-stage"
REASON_HEADER = "x-streamer-reason"
WATERMARK_HEADER = "x-streamer-watermark"
"""Late records: the watermark that the record was behind, in ms UTC."""
REPLAYED_HEADER = "x-streamer-replayed"
"""Clicks that were dead letters: how often they have been put back. It stays if they become one again."""
REPLAYED_FROM_HEADER = "x-streamer-replayed-from"
"""Which dead letter was put back last: its partition/offset in the dead letter topic."""

ARRIVAL_HEADER = "x-streamer-arrival"
"""When a click first arrived, ms UTC. It goes along wherever the click is put aside or put back, so that
`sent_at` is always compared with the same moment. Anyone who sends clicks again may set it."""
TRUNCATED_HEADER = "x-streamer-truncated"
"""Records too large to be put aside whole: how many bytes they had. Only their beginning is here."""

_TOO_MANY_DIGITS = 19
_OURS = frozenset(
    (
        EXCEPTION_HEADER,
        MESSAGE_HEADER,
        TOPIC_HEADER,
        PARTITION_HEADER,
        OFFSET_HEADER,
        STAGE_HEADER,
        REASON_HEADER,
        WATERMARK_HEADER,
        TRUNCATED_HEADER,
        "__streams.errors.stacktrace",
    )
)


class Source(Protocol):
    """What is read of the record that is put aside."""

    @property
    def offset(self) -> int: ...

    @property
    def headers(self) -> Sequence[Header]: ...


def dead_letter_headers(
    topic: str, partition: int, record: Source, stage: str, reason: str, arrival: int | None = None
) -> list[Header]:
    """For a record refused at a stage (decode, validate, score, ...) for a short, stable reason.

    `arrival`: of this record, ms UTC; None if it isn't known.
    """
    return _headers(topic, partition, record, "Rejected", stage, reason, arrival)


def late_headers(
    topic: str, partition: int, record: Source, watermark_ms: int, arrival: int | None = None
) -> list[Header]:
    """For a click that came after its session was over."""
    headers = _headers(topic, partition, record, "Late", "sessionize", "late", arrival)
    return [*headers, (WATERMARK_HEADER, str(watermark_ms).encode())]


def first_arrival(headers: Sequence[Header], arrival: int) -> int:
    """When a click first arrived, ms UTC, by its headers; `arrival`, its record's, where they say nothing or
    something later."""
    value = dict(headers).get(ARRIVAL_HEADER) or b""
    return min(int(value), arrival) if value.isdigit() and len(value) < _TOO_MANY_DIGITS else arrival


def original_headers(headers: Sequence[Header]) -> list[Header]:
    """The headers that a record had before it was put aside or put back."""
    ours = _OURS | {REPLAYED_HEADER, REPLAYED_FROM_HEADER}
    return [header for header in headers if header[0] not in ours]


def cut_to_size(
    key: bytes | None, value: bytes | None, headers: list[Header], max_bytes: int
) -> tuple[bytes | None, bytes | None, list[Header]]:
    """Key, value and headers, which `_headers` made, as they are if they have at most `max_bytes`.

    Else our headers and the beginnings of key and value: a packed batch may hold a record larger than any
    topic takes, and it must not stop the ones behind it.
    """
    foreign = sum(len(name) + len(text or b"") for name, text in headers)
    size = len(key or b"") + len(value or b"") + foreign
    if size <= max_bytes:
        return key, value, headers
    ours = [header for header in headers if header[0] in _OURS]
    left = max_bytes // 2
    return (
        key and key[: left // 2],
        value and value[: left // 2],
        [*ours, (TRUNCATED_HEADER, str(size).encode())],
    )


def _headers(
    topic: str,
    partition: int,
    record: Source,
    exception: str,
    stage: str,
    reason: str,
    arrival: int | None,
) -> list[Header]:
    kept = [header for header in record.headers if header[0] not in _OURS]
    if arrival is not None and ARRIVAL_HEADER not in dict(kept):
        kept.append((ARRIVAL_HEADER, str(arrival).encode()))
    return [
        *kept,
        (EXCEPTION_HEADER, exception.encode()),
        (MESSAGE_HEADER, f"{stage}: {reason}".encode()),
        (TOPIC_HEADER, topic.encode()),
        (PARTITION_HEADER, str(partition).encode()),
        (OFFSET_HEADER, str(record.offset).encode()),
        (STAGE_HEADER, stage.encode()),
        (REASON_HEADER, reason.encode()),
    ]

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from streamer.pipeline.dead_letters import (
    REASON_HEADER,
    TRUNCATED_HEADER,
    Header,
    cut_to_size,
    dead_letter_headers,
    first_arrival,
    late_headers,
)


class Record(NamedTuple):
    offset: int = 42
    headers: tuple[Header, ...] = ()
    key: bytes = b"visitor with a secret"
    value: bytes = b"typed secret"


def test_headers_are_those_of_kafka_streams_and_our_stage_and_reason() -> None:
    assert dead_letter_headers("web.clicks.v1", 3, Record(), "decode", "invalid_json") == [
        ("__streams.errors.exception", b"Rejected"),
        ("__streams.errors.message", b"decode: invalid_json"),
        ("__streams.errors.topic", b"web.clicks.v1"),
        ("__streams.errors.partition", b"3"),
        ("__streams.errors.offset", b"42"),
        ("x-streamer-stage", b"decode"),
        ("x-streamer-reason", b"invalid_json"),
    ]


def test_a_record_says_when_it_arrived_first_however_often_it_is_put_aside() -> None:
    once = dead_letter_headers("t", 0, Record(), "decode", "r", arrival=5)
    assert once[0] == ("x-streamer-arrival", b"5")
    again = late_headers("t", 0, Record(headers=tuple(once)), watermark_ms=0, arrival=900)
    assert [value for name, value in again if name == "x-streamer-arrival"] == [b"5"]
    assert first_arrival(again, 900) == 5


@pytest.mark.parametrize("said", [b"901", b"-5", b"soon", b"", b"9" * 20, None])
def test_an_arrival_that_can_not_be_is_the_record_s_own(said: Any) -> None:
    assert first_arrival([("x-streamer-arrival", said)], 900) == 900
    assert first_arrival([], 900) == 900


def test_a_late_record_also_carries_the_watermark() -> None:
    headers = late_headers("web.clicks.v1", 0, Record(), 1_795_046_400_000)
    assert headers[0] == ("__streams.errors.exception", b"Late")
    assert ("x-streamer-reason", b"late") in headers
    assert headers[-1] == ("x-streamer-watermark", b"1795046400000")


def test_a_negative_watermark_is_decimal_text_too() -> None:
    assert late_headers("t", 0, Record(), -5)[-1] == ("x-streamer-watermark", b"-5")


def test_the_record_keeps_its_own_headers_repeated_ones_too() -> None:
    own = (("traceparent", b"00-1"), ("tag", b"a"), ("tag", b"b"), ("empty", b""))
    headers = dead_letter_headers("t", 0, Record(headers=own), "decode", "invalid_json")
    assert headers[:4] == list(own)


def test_ours_win_on_a_clash() -> None:
    forged = (
        ("x-streamer-reason", b"forged"),
        ("__streams.errors.offset", b"7"),
        ("x-streamer-watermark", b"1"),
    )
    headers = dead_letter_headers("t", 0, Record(headers=forged), "validate", "empty:visitor_id")
    names = [name for name, _ in headers]
    assert len(names) == len(set(names))
    assert dict(headers)["x-streamer-reason"] == b"empty:visitor_id"
    assert dict(headers)["__streams.errors.offset"] == b"42"
    assert "x-streamer-watermark" not in names


def test_there_is_no_stack_trace_nor_anything_of_the_record() -> None:
    forged = (("__streams.errors.stacktrace", b"at com.example"),)
    headers = late_headers("t", 0, Record(headers=forged), 5)
    assert "__streams.errors.stacktrace" not in dict(headers)
    assert b"secret" not in b"".join(value for _, value in headers)


@pytest.mark.parametrize(
    ("key", "value", "its_headers"),
    [
        (b"k" * 2000, b"v", ()),
        (b"k", b"v" * 2000, ()),
        (b"k", b"v", (("h", b"x" * 2000),)),
        (None, b"v" * 2000, ()),
    ],
)
def test_a_record_too_large_for_any_topic_is_put_aside_in_part(
    key: bytes | None, value: bytes, its_headers: tuple[tuple[str, bytes], ...]
) -> None:
    headers = dead_letter_headers("clicks", 3, Record(7, its_headers), "decode", "too_large")
    cut_key, cut_value, kept = cut_to_size(key, value, headers, 1000)
    size = len(key or b"") + len(value) + sum(len(name) + len(text) for name, text in headers)
    assert dict(kept)[TRUNCATED_HEADER] == str(size).encode()
    assert dict(kept)[REASON_HEADER] == b"too_large"
    assert "h" not in dict(kept)
    assert (cut_key or b"").startswith(b"k"[: len(key or b"")])
    assert cut_value
    assert len(cut_key or b"") + len(cut_value) <= 500


def test_a_record_that_fits_is_put_aside_whole() -> None:
    headers = dead_letter_headers("clicks", 3, Record(7, (("h", b"x"),)), "decode", "r")
    assert cut_to_size(b"k", None, headers, 1000) == (b"k", None, headers)

from __future__ import annotations

from typing import NamedTuple

from streamer.dead_letter import Header, dead_letter_headers, late_headers


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

"""Records that a broken or hostile producer may send, each with the end that it must come to.

`BAD_CLICKS` is meant for every test that takes records in: mixed into real clicks, they must change nothing
but the counts. Ends of `decode` and `validate` are dead letters with that stage and reason. Some of them are
sound after all ("ok"), or carry no consent ("filtered"). Event times out of range
("event_time_before_min", "event_time_in_future") are found after decoding, at an arrival of `ARRIVAL_MS`.
"""

from __future__ import annotations

import gzip
import json
from typing import Any, NamedTuple

from streamer.schemas import codec

ARRIVAL_MS = 1_795_046_400_000
"""2026-11-19T00:00:00Z."""
MAX_BYTES = 262_144
"""The default of clicks.max_bytes."""


class BadClick(NamedTuple):
    """`stage` is decode, validate, ok or filtered; `reason` is empty for the last two."""

    name: str
    value: bytes | None
    stage: str
    reason: str = ""


GOOD: dict[str, Any] = {"visitor_id": "bad-1", "timestamp": ARRIVAL_MS, "event_type": "page_view"}
_GOOD_JSON = json.dumps(GOOD).encode()
_GOOD_AVRO = codec.encode("click", GOOD)
_PREFIX = _GOOD_AVRO[:5]


def click(**fields: Any) -> bytes:
    """A sound click but for these fields, as JSON."""
    return json.dumps({**GOOD, **fields}).encode()


def raw(field: bytes, value: bytes) -> bytes:
    """A sound click with one more field, spelt as given."""
    return _GOOD_JSON[:-1] + b', "' + field + b'": ' + value + b"}"


def at(timestamp: object) -> bytes:
    return click(timestamp=timestamp)


def avro(**fields: Any) -> bytes:
    return codec.encode("click", {**GOOD, **fields})


_SESSION = {
    **dict.fromkeys(("session_id", "visitor_id", "close_reason", "rules_version", "model_version"), "x"),
    **dict.fromkeys(("started_at", "ended_at", "closed_at", "event_count", "revision"), 1),
    **{"is_final": True, "is_bot": False, "embedding": [0.5], "embedding_space": "x"},
}
_HUGE_COUNT = b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"
_NEGATIVE_COUNT = b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
_RECURSIVE_SCHEMA = b'{"type":"record","name":"R","fields":[{"name":"r","type":"R"}]}'
_OVERLONG_VARINT = b"\xff" * 200_000

BAD_CLICKS: list[BadClick] = [
    # No record at all
    BadClick("tombstone", None, "decode", "null_value"),
    BadClick("empty", b"", "decode", "empty_value"),
    BadClick("one byte over the limit", _GOOD_JSON.ljust(MAX_BYTES + 1), "decode", "too_large"),
    BadClick("exactly at the limit", _GOOD_JSON.ljust(MAX_BYTES), "ok"),
    BadClick("five megabytes", b"{" * 5_000_000, "decode", "too_large"),
    BadClick("a million keys", b"{" + b'"":1,' * 1_000_000 + b'"":1}', "decode", "too_large"),
    # Neither JSON nor Avro
    BadClick("text", b"page_view", "decode", "unknown_format"),
    BadClick("byte order mark", b"\xef\xbb\xbf" + _GOOD_JSON, "decode", "unknown_format"),
    BadClick("UTF-16", _GOOD_JSON.decode().encode("utf-16"), "decode", "unknown_format"),
    BadClick("gzip", b"\x1f\x8b\x08\x00" + bytes(60), "decode", "unknown_format"),
    BadClick("gzip of a hundred megabytes", gzip.compress(bytes(1 << 20)) * 100, "decode", "unknown_format"),
    BadClick("zstandard", b"\x28\xb5\x2f\xfd" + bytes(60), "decode", "unknown_format"),
    BadClick("JSON list", b"[" + _GOOD_JSON + b"]", "decode", "unknown_format"),
    BadClick("JSON null", b"null", "decode", "unknown_format"),
    BadClick("magic byte 1", b"\x01" + bytes(16) + _GOOD_AVRO[5:], "decode", "unsupported_magic_byte"),
    BadClick("random bytes", bytes(range(128, 256)) * 4, "decode", "unknown_format"),
    # Broken JSON
    BadClick("cut off", _GOOD_JSON[:-10], "decode", "invalid_json"),
    BadClick("text after the end", _GOOD_JSON + b"x", "decode", "invalid_json"),
    BadClick("two in one", _GOOD_JSON + _GOOD_JSON, "decode", "invalid_json"),
    BadClick("white space only", b" \r\n\t", "decode", "invalid_json"),
    BadClick("single quotes", b"{'visitor_id': 'v'}", "decode", "invalid_json"),
    BadClick("trailing comma", _GOOD_JSON[:-1] + b",}", "decode", "invalid_json"),
    BadClick("comment", _GOOD_JSON[:-1] + b"/**/}", "decode", "invalid_json"),
    BadClick("NaN as price", raw(b"price", b"NaN"), "decode", "invalid_json"),
    BadClick("Infinity in an unknown field", raw(b"x", b"-Infinity"), "decode", "invalid_json"),
    BadClick("leading zeros", raw(b"dwell_ms", b"007"), "decode", "invalid_json"),
    BadClick("control character in a text", raw(b"element", b'"a\x00b"'), "decode", "invalid_json"),
    BadClick("lone surrogate", raw(b"element", b'"\\ud800"'), "ok"),
    BadClick("lone surrogate in an unknown field", raw(b"x", b'"cut \\uD83D"'), "ok"),
    BadClick("lone surrogate in a property", raw(b"properties", b'{"\\udfff": ["\\ud83d\\ud83d"]}'), "ok"),
    BadClick("lone low surrogate", raw(b"visitor_id", b'"\\udc00"'), "decode", "invalid_json"),
    BadClick("lone surrogate and no consent", raw(b"consent", b'false, "event_id": "\\ud800"'), "filtered"),
    BadClick("lone surrogate cut off", raw(b"element", b'"\\ud800')[:-1], "decode", "invalid_json"),
    BadClick("bad escape", raw(b"element", b'"\\x41"'), "decode", "invalid_json"),
    BadClick("invalid UTF-8", raw(b"element", b'"\xff\xfe"'), "decode", "invalid_utf8"),
    BadClick("surrogate in UTF-8", raw(b"element", b'"\xed\xa0\x80"'), "decode", "invalid_utf8"),
    BadClick("overlong UTF-8", raw(b"visitor_id", b'"\xc0\xaf"'), "decode", "invalid_utf8"),
    BadClick("UTF-8 cut off", raw(b"element", b'"\xe2\x82"'), "decode", "invalid_utf8"),
    # JSON meant to exhaust something
    BadClick("lists in lists, never closed", raw(b"x", b"[" * 100_000), "decode", "nested_too_deep"),
    BadClick("lists in lists", raw(b"x", b"[" * 20_000 + b"]" * 20_000), "decode", "nested_too_deep"),
    BadClick(
        "objects in objects", raw(b"x", b'{"a":' * 500 + b"1" + b"}" * 500), "decode", "nested_too_deep"
    ),
    BadClick(
        "one level too deep", raw(b"x", b"[" * 128 + b" " * 300 + b"]" * 128), "decode", "nested_too_deep"
    ),
    BadClick("as deep as may be", raw(b"x", b"[" * 127 + b" " * 300 + b"]" * 127), "ok"),
    BadClick("as many brackets as fit, all in a text", raw(b"x", b'"' + b"[{" * 100_000 + b'"'), "ok"),
    BadClick("as many lists as fit, side by side", raw(b"x", b"[" + b"[]," * 80_000 + b"[]]"), "ok"),
    BadClick("as many keys as fit", raw(b"x", b'1,"":' * 52_000 + b"1"), "ok"),
    BadClick("as many properties as fit", raw(b"properties", b'{"":' + b'1,"":' * 52_000 + b"1}"), "ok"),
    BadClick("a list of nulls", raw(b"x", b"[" + b"null," * 50_000 + b"null]"), "ok"),
    BadClick("a key as long as fits", raw(b"k" * 200_000, b"1"), "ok"),
    BadClick(
        "a number as long as fits", raw(b"dwell_ms", b"9" * 200_000), "validate", "out_of_range:dwell_ms"
    ),
    BadClick("4,000 digits", raw(b"dwell_ms", b"9" * 4000), "ok"),
    BadClick("a fraction as long as fits", raw(b"price", b"0." + b"3" * 200_000), "ok"),
    BadClick("1e999", raw(b"price", b"1e999"), "validate", "out_of_range:price"),
    BadClick("1e999 in an unknown field", raw(b"x", b"1e999"), "ok"),
    BadClick("backslashes as many as fit", raw(b"element", b'"' + b"\\\\" * 100_000 + b'"'), "ok"),
    # Sound JSON that breaks the contract
    BadClick("empty object", b"{}", "validate", "missing_field:visitor_id"),
    BadClick("visitor null", click(visitor_id=None), "validate", "missing_field:visitor_id"),
    BadClick("visitor empty", click(visitor_id=""), "validate", "empty:visitor_id"),
    BadClick("visitor a number", click(visitor_id=1), "validate", "wrong_type:visitor_id"),
    BadClick("visitor huge", click(visitor_id="v" * 200_000), "validate", "too_long:visitor_id"),
    BadClick("visitor of 257 bytes", click(visitor_id="v" * 257), "validate", "too_long:visitor_id"),
    BadClick("visitor of 256 bytes", click(visitor_id="v" * 256), "ok"),
    BadClick("visitor of 65 emoji", click(visitor_id="💶" * 65), "validate", "too_long:visitor_id"),
    BadClick("visitor with a zero character", click(visitor_id="a\0b"), "ok"),
    BadClick("visitor of white space", click(visitor_id=" \n"), "ok"),
    BadClick("event type blank", click(event_type=" "), "validate", "empty:event_type"),
    BadClick("event type huge", click(event_type="t" * 200_000), "validate", "too_long:event_type"),
    BadClick("event id huge", click(event_id="e" * 200_000), "validate", "too_long:event_id"),
    BadClick("user id huge", click(user_id="u" * 200_000), "validate", "too_long:user_id"),
    BadClick(
        "texts huge", click(page_url="/" * 60_000, search_query="4 " * 30_000, referrer="a@" * 30_000), "ok"
    ),
    BadClick("user agent huge", click(user_agent="Mozilla (" * 20_000), "ok"),
    BadClick("consent an unknown text", click(consent="maybe"), "validate", "wrong_type:consent"),
    BadClick("consent a list", click(consent=[False]), "validate", "wrong_type:consent"),
    BadClick("properties a list", click(properties=[None]), "validate", "wrong_type:properties"),
    BadClick("key twice, the last counts", raw(b"visitor_id", b'"other"'), "ok"),
    BadClick("key twice, the last is wrong", raw(b"visitor_id", b"{}"), "validate", "wrong_type:visitor_id"),
    BadClick("price beyond 64 bits", raw(b"price", b"9" * 30), "ok"),
    BadClick("dwell beyond 64 bits", click(dwell_ms=2**80), "ok"),
    BadClick("dwell negative", click(dwell_ms=-1), "ok"),
    # Times
    BadClick("time null", at(None), "validate", "missing_field:timestamp"),
    BadClick("time beyond 64 bits", at(2**64), "validate", "out_of_range:timestamp"),
    BadClick("time below 64 bits", at(-(2**63) - 1), "validate", "out_of_range:timestamp"),
    BadClick("time of 4,000 digits", raw(b"timestamp", b"9" * 4000), "validate", "out_of_range:timestamp"),
    BadClick("time 1e308", raw(b"timestamp", b"1e308"), "validate", "out_of_range:timestamp"),
    BadClick("time 1e999", raw(b"timestamp", b"1e999"), "validate", "out_of_range:timestamp"),
    BadClick("time with a fraction", at(ARRIVAL_MS + 0.5), "validate", "wrong_type:timestamp"),
    BadClick("time as digits in a text", at(str(ARRIVAL_MS)), "validate", "invalid_time:timestamp"),
    BadClick("time without an offset", at("2026-11-19T00:00:00"), "validate", "missing_offset:timestamp"),
    BadClick("time on 30 February", at("2026-02-30T00:00:00Z"), "validate", "invalid_time:timestamp"),
    BadClick("time of a leap second", at("2016-12-31T23:59:60Z"), "validate", "invalid_time:timestamp"),
    BadClick("time 0", at(0), "validate", "event_time_before_min"),
    BadClick("time -1", at(-1), "validate", "event_time_before_min"),
    BadClick("time at the lower end of 64 bits", at(-(2**63)), "validate", "event_time_before_min"),
    BadClick("time in seconds", at(ARRIVAL_MS // 1000), "validate", "event_time_before_min"),
    BadClick("time in the year 1", at("0001-01-01T00:00:00+14:00"), "validate", "event_time_before_min"),
    BadClick("time in microseconds", at(ARRIVAL_MS * 1000), "validate", "event_time_in_future"),
    BadClick("time in nanoseconds", at(ARRIVAL_MS * 1_000_000), "validate", "event_time_in_future"),
    BadClick("time true", at(True), "validate", "wrong_type:timestamp"),
    BadClick("time with an exponent", raw(b"timestamp", b"1.7950464e12"), "ok"),
    BadClick("time in the year 9999", at("9999-12-31T23:59:59-14:00"), "validate", "event_time_in_future"),
    BadClick("time at the upper end of 64 bits", at(2**63 - 1), "validate", "event_time_in_future"),
    BadClick("sent_at 0", click(sent_at=0), "validate", "event_time_in_future"),
    BadClick("sent_at beyond 64 bits", click(sent_at=2**70), "validate", "out_of_range:timestamp"),
    BadClick("clock of 1970, corrected by sent_at", click(timestamp=5, sent_at=9), "ok"),
    # Consent
    BadClick("no consent", click(consent=False), "filtered"),
    BadClick("no consent, time 0", click(consent=False, timestamp=0), "filtered"),
    BadClick("no consent, visitor empty", click(consent=False, visitor_id=""), "filtered"),
    BadClick("no consent, as Avro", avro(consent=False), "filtered"),
    BadClick("no consent, ill-typed", click(consent=False, element=1), "filtered"),
    BadClick("no consent, visitor null", click(consent=False, visitor_id=None), "filtered"),
    BadClick("no consent, visitor missing", b'{"consent": false, "search_query": "loan"}', "filtered"),
    BadClick("no consent, visitor huge", click(consent=False, visitor_id="v" * 257), "filtered"),
    BadClick("no consent, time in a text", click(consent=False, timestamp=str(ARRIVAL_MS)), "filtered"),
    BadClick("no consent, time with a fraction", click(consent=False, timestamp=0.5), "filtered"),
    BadClick("no consent, too large", click(consent=False, page_url="x" * MAX_BYTES), "filtered"),
    BadClick("no consent, an id cut in a pair", click(consent=False, visitor_id="\udc00"), "filtered"),
    BadClick("no consent as 0", click(consent=0), "filtered"),
    BadClick("no consent as a text", click(consent="false"), "filtered"),
    BadClick("no consent as another text", click(consent=" Denied"), "filtered"),
    BadClick("no consent in a list", b"[" + click() + b"," + click(consent=False) + b"]", "filtered"),
    BadClick("consent in a list", b"[" + click(consent=True) + b"]", "decode", "unknown_format"),
    BadClick("no consent, cut off", click(consent=False)[:-1], "decode", "invalid_json"),
    BadClick(
        "no consent, nested too deep",
        raw(b"x", b'1, "consent": false, "y": ' + b"[" * 300 + b"]" * 300),
        "filtered",
    ),
    BadClick(
        "consent, nested too deep",
        raw(b"x", b'1, "consent": true, "y": "\\"consent\\": false", "z": ' + b"[" * 300 + b"]" * 300),
        "decode",
        "nested_too_deep",
    ),
    BadClick("no consent in a list of lists", b"[[" + click(consent=False) + b"]]", "filtered"),
    BadClick("no consent, behind a byte order mark", b"\xef\xbb\xbf" + click(consent=False), "filtered"),
    # Avro
    BadClick("zero byte alone", b"\0", "decode", "truncated_avro"),
    BadClick("prefix alone", _PREFIX, "decode", "truncated_avro"),
    BadClick("Avro", _GOOD_AVRO, "ok"),
    BadClick("Avro cut off", _GOOD_AVRO[:-1], "decode", "truncated_avro"),
    BadClick("Avro with a byte too many", _GOOD_AVRO + b"\0", "decode", "trailing_bytes"),
    BadClick("two Avro records in one", _GOOD_AVRO + _GOOD_AVRO[5:], "decode", "trailing_bytes"),
    BadClick("schema id 1", b"\0\0\0\0\1" + _GOOD_AVRO[5:], "decode", "unknown_schema_id"),
    BadClick("schema id -1", b"\0\xff\xff\xff\xff" + _GOOD_AVRO[5:], "decode", "unknown_schema_id"),
    BadClick("recursive writer schema", b"\0\0\0\0\2" + _RECURSIVE_SCHEMA, "decode", "unknown_schema_id"),
    BadClick("Avro container file", b"Obj\1" + bytes(40), "decode", "unknown_format"),
    BadClick(
        "one of our outputs", codec.encode("session_embedding", _SESSION), "decode", "unexpected_schema"
    ),
    BadClick("Avro union branch 3", _GOOD_AVRO[:-1] + b"\x06", "decode", "invalid_avro"),
    BadClick("Avro union branch -1", _GOOD_AVRO[:-1] + b"\x01", "decode", "truncated_avro"),
    BadClick("Avro text of 2^62 bytes", _PREFIX + _HUGE_COUNT + b"v", "decode", "truncated_avro"),
    BadClick("Avro text of negative length", _PREFIX + _NEGATIVE_COUNT + b"v", "decode", "truncated_avro"),
    BadClick("Avro map of 2^62 entries", _GOOD_AVRO[:-1] + b"\2" + _HUGE_COUNT, "decode", "truncated_avro"),
    BadClick(
        "Avro map of empty keys",
        avro(properties={})[:-1] + b"\x80\x80\x08" + bytes(131_072),
        "decode",
        "truncated_avro",
    ),
    BadClick(
        "Avro map block of negative count and huge size",
        _GOOD_AVRO[:-1] + b"\2\x01" + _HUGE_COUNT,
        "decode",
        "truncated_avro",
    ),
    BadClick("schema id 2^31 - 1", b"\0\x7f\xff\xff\xff" + _GOOD_AVRO[5:], "decode", "unknown_schema_id"),
    BadClick("Avro number without an end", _PREFIX + b"\2v" + _OVERLONG_VARINT, "decode", "invalid_avro"),
    BadClick("Avro text not UTF-8", _GOOD_AVRO.replace(b"bad-1", b"bad\xff1"), "decode", "invalid_utf8"),
    BadClick("Avro price not a number", avro(price=float("nan")), "ok"),
    BadClick("Avro visitor empty", avro(visitor_id=""), "validate", "empty:visitor_id"),
    BadClick("Avro time 0", avro(timestamp=0), "validate", "event_time_before_min"),
]

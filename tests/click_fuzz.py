"""Endless bytes that are almost clicks, from a seed: `python -m tests.click_fuzz CASES [SEED]` tries many.

A case is a sound click, JSON or Avro, with fields exchanged for odd values or with bytes damaged, or noise.
"""

from __future__ import annotations

import collections
import json
import random
import sys
import time
from collections.abc import Iterator
from typing import Any

from streamer.native.click_codec import decode_clicks, pack_click
from streamer.pipeline.decode import MAX_DWELL_MS, Arrived, ClickDecoder, Rejected
from streamer.schemas import codec
from tests.bad_clicks import ARRIVAL_MS, BAD_CLICKS, GOOD
from tests.fuzz.mutations import damaged

FULL: dict[str, Any] = {
    **GOOD,
    **{"event_id": "e1", "sent_at": ARRIVAL_MS, "page_type": "home", "page_url": "https://b.example/a/b?c#d"},
    **{
        "page_title": "Home",
        "search_query": "fixed rate",
        "element": "menu",
        "referrer": "https://s.example/",
    },
    **{"dwell_ms": 5, "product_id": "p1", "category": "loans", "price": 1.5, "device": "mobile"},
    **{"user_agent": "Mozilla/5.0", "user_id": "c1", "consent": True, "properties": {"a": "b"}},
}
FIELDS = sorted(FULL)
ODD: list[Any] = [
    *(None, True, False, 0, -1, 2**31, 2**63, -(2**63), 2**64, 10**40, 1.0, -0.0, 0.5, 1e308, float("nan")),
    *(
        "",
        " ",
        "\0",
        "\ud800",
        "a",
        "é" * 200,
        "💶" * 70,
        "x" * 600,
        "/",
        "//",
        "///a//",
        "http:",
        "https://[",
        "a:",
    ),
    *(
        "%",
        "%%",
        "%4",
        "%ff%00",
        "%252540",
        "+" * 50,
        "?",
        "#",
        "\\\\",
        "../..",
        "/a;b/c;d",
        "4111 1111 1111 1111",
    ),
    *("jo@mail.example", "@" * 90, "a@" * 40, "DE89 3704 0044 0532 0130 00", "de89" * 20, "+49 171 2345678"),
    *(
        "1 " * 90,
        "0" * 90,
        "1-" * 90,
        "٤" * 30,
        "２０",
        "ß" * 40,
        "İ" * 40,
        "ﬃ" * 90,
        "ﷺ" * 60,
        "\u200b" * 9,
        "\u202e",
    ),
    *(
        "2026-11-19T00:00:00Z",
        "2026-11-19T00:00:00",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
    ),
    *([], [[]], {}, {"": None}, [None] * 50, {"a": {"b": [1, "x"]}}),
]


def cases(seed: int) -> Iterator[bytes]:
    chance = random.Random(seed)
    while True:
        kind = chance.random()
        if kind < 0.05:
            yield chance.choice([b"", b"{", b'{"', b"\0", b"\1"]) + chance.randbytes(chance.randrange(200))
        elif kind < 0.6:
            yield damaged(_click(chance, json_only=kind < 0.4), chance)
        else:
            yield _click(chance, json_only=kind < 0.9)


def _click(chance: random.Random, *, json_only: bool) -> bytes:
    record = {**FULL, **{field: _odd(chance) for field in chance.sample(FIELDS, chance.randrange(4))}}
    if not json_only:
        try:
            return codec.encode("click", record)
        except codec.CodecError:
            pass
    return json.dumps(record, ensure_ascii=chance.random() < 0.5).encode(errors="surrogatepass")


def _odd(chance: random.Random) -> Any:
    first, second = chance.choice(ODD), chance.choice(ODD)
    return first + second if isinstance(first, str) and isinstance(second, str) else first


def end_of(decoder: ClickDecoder, value: bytes | None) -> str:
    """Where a value ends: arrived, filtered, or the reason. Raises if it ends anywhere else."""
    try:
        result = decoder.decode(value, ARRIVAL_MS, "fallback")
    except Rejected as error:
        rejected = error
    else:
        if result is None:
            return "filtered"
        _check(result)
        return "arrived"
    assert rejected.stage in ("decode", "validate")
    assert rejected.reason.isascii()
    assert len(rejected.reason) < 40
    return rejected.reason


def _check(result: Arrived) -> None:
    kept = result.click
    assert -(2**63) <= kept.timestamp < 2**63
    assert 0 < len(result.visitor_id.encode()) <= 256
    assert 0 < len(kept.event_id.encode()) <= 256
    assert 0 < len(kept.event_type.encode()) <= 64
    for text in (kept.page_type, kept.search_query, kept.element, kept.category, kept.device, kept.referrer):
        assert text is None or 0 < len(text.encode()) <= 64
    assert kept.path is None or (
        kept.path[0] == "/" and kept.path.count("/") <= 3 and len(kept.path.encode()) < 150
    )
    assert kept.dwell_ms is None or 0 <= kept.dwell_ms <= MAX_DWELL_MS
    assert kept.price is None or kept.price == kept.price
    assert decode_clicks(1, pack_click(kept)) == [kept]


def main(arguments: list[str]) -> None:
    count, seed = int(arguments[0]), int(arguments[1]) if arguments[1:] else 0
    decoder, ends, slowest = ClickDecoder(), collections.Counter[str](), (0.0, b"")
    for bad in BAD_CLICKS:
        ends[end_of(decoder, bad.value)] += 1
    for number, value in enumerate(cases(seed)):
        if number == count:
            break
        started = time.process_time()
        try:
            ends[end_of(decoder, value)] += 1
        except BaseException:
            print(f"case {number}: {value!r}")
            raise
        slowest = max(slowest, (time.process_time() - started, value))
    print(f"{count} cases, 0 crashed; slowest took {slowest[0] * 1000:.1f} ms: {slowest[1][:200]!r}")
    for end, times in ends.most_common():
        print(f"{times:9d} {end}")


if __name__ == "__main__":
    main(sys.argv[1:])

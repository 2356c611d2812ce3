"""Endless damaged variants of sound inputs, from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

PIECES = [
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b":",
        b",",
        b"\\",
        b"\\u",
        b"\\ud83d",
        b"null",
        b"true",
        b"-",
        b"e",
        b".",
    ),
    *(
        b"\xff",
        b"\xe2\x82",
        b"\xed\xa0\x80",
        b"\0",
        b"\2",
        b"\x80\x80",
        b"\xff" * 12,
        b"1e999",
        b"NaN",
        b"9" * 400,
    ),
    *(
        b"[" * 200,
        b'{"a":' * 200,
        b"0",
        b"-1",
        b"18446744073709551616",
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\x7f\xff\xff\xff",
    ),
    *(
        b"/",
        b"..",
        b"%",
        b"%25",
        b"%00",
        b"?",
        b"#",
        b"@",
        b"::",
        b"\n",
        b"\r\n",
        b"=",
        b"'",
        b"T",
        b"Z",
        b"+99:99",
    ),
    *("٤".encode(), "💶".encode(), "\u202e".encode(), "ﷺ".encode()),
]


def variants(seeds: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """The seeds themselves, then damaged, spliced and random ones without end."""
    chance = random.Random(seed)
    yield from seeds
    while True:
        kind = chance.random()
        if kind < 0.03:
            yield chance.randbytes(chance.randrange(120))
        elif kind < 0.1:
            first, second = chance.choice(seeds), chance.choice(seeds)
            yield first[: chance.randint(0, len(first))] + second[chance.randint(0, len(second)) :]
        else:
            yield damaged(chance.choice(seeds), chance)


def damaged(value: bytes, chance: random.Random) -> bytes:
    """One to four places exchanged for something else, or for nothing."""
    result = bytearray(value)
    for _ in range(chance.randint(1, 4)):
        start = chance.randint(0, len(result))
        kind = chance.random()
        if kind < 0.4:
            new = chance.choice(PIECES)
        elif kind < 0.7:
            new = chance.randbytes(chance.randrange(4))
        else:  # a piece of itself, elsewhere
            begin = chance.randint(0, len(result))
            new = bytes(result[begin : begin + chance.randrange(40)])
        result[start : start + chance.randrange(6)] = new
    return bytes(result)

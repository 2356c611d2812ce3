"""Clicks for the benchmarks: about 270 bytes each, eight a session, 5 % late by up to a minute."""

from __future__ import annotations

import random
from collections.abc import Iterator
from heapq import merge

import orjson

START_MS = 1_795_046_400_000
PAGES = ("home", "category", "product", "search", "cart", "checkout", "account", "help")
EVENTS = ("view", "click", "scroll", "add_to_cart", "purchase")
WORDS = ("red", "running", "shoes", "winter", "jacket", "usb", "cable", "lamp", "desk", "toy")


def clicks(count: int, visitors: int, seed: int = 7) -> Iterator[tuple[bytes, bytes]]:
    """(key, JSON) in order of arrival."""
    chance = random.Random(seed)
    walks = [_walk(chance, 3 * count // visitors) for _ in range(visitors)]
    arrivals = merge(*([(at, index) for at in walk] for index, walk in enumerate(walks)))
    delayed = sorted(
        (at + (chance.uniform(0, 60_000) if chance.random() < 0.05 else 0), at, visitor)
        for (at, visitor), _ in zip(arrivals, range(count), strict=False)
    )
    for _, at, visitor in delayed:
        key = f"v{visitor:06d}"
        yield key.encode(), orjson.dumps(_click(key, at, chance))


def _walk(chance: random.Random, count: int) -> list[int]:
    """Event times of one visitor: sessions of eight clicks on average, pauses of over half an hour."""
    at = START_MS + chance.uniform(0, 7_200_000)
    times = []
    for _ in range(count):
        times.append(int(at))
        ends = chance.random() < 1 / 8
        at += 1_803_000 + chance.expovariate(1 / 3_600_000) if ends else chance.expovariate(1 / 40_000)
    return times


def _click(visitor: str, at: int, chance: random.Random) -> dict[str, object]:
    page, number = chance.choice(PAGES), chance.randrange(1, 999_999)
    raw = f"{chance.getrandbits(128):032x}"
    return {
        "event_id": f"{raw[:8]}-{raw[8:12]}-{raw[12:16]}-{raw[16:20]}-{raw[20:]}",
        "visitor_id": visitor,
        "timestamp": at,
        "event_type": chance.choice(EVENTS),
        "page_type": page,
        "page_url": f"https://shop.example.com/{page}/{number}?utm_source=newsletter&ref={raw[:6]}",
        "dwell_ms": chance.randrange(50, 90_000),
        "search_query": f"{chance.choice(WORDS)} {chance.choice(WORDS)}" if page == "search" else None,
    }

"""A day of clicks for the benchmarks: about 270 bytes each, eight a session, in order of arrival.

Arrival is event time plus delay; 5 % of the clicks are delayed, by up to a minute. The first clicks of a day
are as dense as the whole day, so a short run holds as many open sessions as a long one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

DAY_START_MS = 1_763_510_400_000
"""2025-11-19T00:00Z: past, wherever this runs, for event times in the future are refused."""
DAY_MS = 86_400_000
GAP_MS = 30 * 60 * 1000
CLICKS_PER_VISITOR = 40
PAGES = ("home", "category", "product", "search", "cart", "checkout", "account", "help")
EVENTS = ("view", "click", "scroll", "add_to_cart", "purchase")
WORDS = ("red", "running", "shoes", "winter", "jacket", "usb", "cable", "lamp", "desk", "toy")
SENTINELS = 3
"""Clicks that close a partition, six hours after the day, an hour apart. The last stays open."""

Ints = NDArray[np.int64]


class Arrival(NamedTuple):
    """A record of the clicks topic. `timestamp` is arrival, ms UTC."""

    offset: int
    timestamp: int
    key: bytes
    value: bytes
    headers: tuple[()] = ()


@dataclass(frozen=True)
class Day:
    """The first clicks of a day in order of arrival: visitor numbers and event times (ms UTC)."""

    visitors: Ints
    times: Ints
    chance: np.random.Generator

    @property
    def sessions(self) -> int:
        """How many sessions they make, all at least half an hour apart."""
        order = np.lexsort((self.times, self.visitors))
        visitors, times = self.visitors[order], self.times[order]
        joins = (visitors[1:] == visitors[:-1]) & (times[1:] - times[:-1] <= GAP_MS)
        return len(times) - int(joins.sum())


def day(count: int, visitors: int = 50_000, seed: int = 7) -> Day:
    """The first `count` clicks of a day of 40 clicks a visitor. Raises ValueError if there are fewer."""
    chance = np.random.default_rng(seed)
    whole = CLICKS_PER_VISITOR * visitors
    who, when = _walks(int(whole * 1.12), visitors, chance)
    if len(who) < count:
        raise ValueError(f"{visitors} visitors make {len(who)} clicks in a day, expected at least {count}")
    delay = np.where(chance.random(len(when)) < 0.05, chance.uniform(0, 60_000, len(when)), 0)
    arrival = np.argsort(when + delay, kind="stable")[:count]
    return Day(who[arrival], when[arrival], chance)


def _walks(wanted: int, visitors: int, chance: np.random.Generator) -> tuple[Ints, Ints]:
    """Visitors and event times of all clicks; one pass gives every visitor one more session."""
    lengths: list[Ints] = []
    while sum(int(each.sum()) for each in lengths) < wanted:
        lengths.append(chance.geometric(1 / 8, size=visitors))
    pause_ms = DAY_MS / len(lengths)
    start = chance.uniform(0, pause_ms / 2, size=visitors)
    who, when = [], []
    for length in lengths:
        index = np.repeat(np.arange(visitors), length)
        offset = _offsets(length, chance)
        who.append(index)
        when.append(start[index] + offset)
        pause = 30.05 * 60e3 + chance.exponential(pause_ms * 0.72, size=visitors)
        near = chance.random(visitors) < 0.05
        pause[near] = chance.uniform(30.05 * 60e3, 33 * 60e3, near.sum())
        start = start + offset[np.cumsum(length) - 1] + pause
    all_who, all_when = np.concatenate(who), np.concatenate(when).astype(np.int64)
    within = all_when < DAY_MS
    return all_who[within], all_when[within] + DAY_START_MS


def _offsets(length: Ints, chance: np.random.Generator) -> NDArray[np.float64]:
    """Of every click from its session's first: 40 s apart on average, 1 % at up to half an hour."""
    gaps = chance.exponential(40_000, size=int(length.sum()))
    long = chance.random(len(gaps)) < 0.01
    gaps[long] = chance.uniform(10 * 60e3, 29.9 * 60e3, long.sum())
    gaps = np.minimum(gaps, 29.95 * 60e3)
    first = np.concatenate([[0], np.cumsum(length)[:-1]])
    gaps[first] = 0
    total = np.cumsum(gaps)
    offsets: NDArray[np.float64] = total - np.repeat(total[first], length)
    return offsets


def clicks(count: int, visitors: int = 50_000, seed: int = 7) -> Iterator[tuple[bytes, bytes]]:
    """(key, JSON) in order of arrival."""
    return records(day(count, visitors, seed))


def records(clicks: Day) -> Iterator[tuple[bytes, bytes]]:
    """(key, JSON) of each click of a day; once, for they are made up by the day's chance."""
    chance, count = clicks.chance, len(clicks.times)
    columns = (
        clicks.visitors,
        clicks.times,
        chance.integers(0, len(PAGES), count),
        chance.integers(0, len(EVENTS), count),
        chance.integers(50, 90_000, count),
        chance.integers(1, 999_999, count),
    )
    ids = chance.bytes(16 * count).hex()
    for i, row in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
        key = f"v{row[0]:06d}"
        yield key.encode(), _json(key, *row[1:], ids[32 * i : 32 * i + 32])


def _json(visitor: str, at: int, page: int, event: int, dwell_ms: int, number: int, raw: str) -> bytes:
    name = PAGES[page]
    query = f'"{WORDS[number % 10]} {WORDS[dwell_ms % 10]}"' if name == "search" else "null"
    return (
        f'{{"event_id":"{raw[:8]}-{raw[8:12]}-{raw[12:16]}-{raw[16:20]}-{raw[20:]}",'
        f'"visitor_id":"{visitor}","timestamp":{at},"event_type":"{EVENTS[event]}","page_type":"{name}",'
        f'"page_url":"https://shop.example.com/{name}/{number}?utm_source=newsletter&ref={raw[:6]}",'
        f'"dwell_ms":{dwell_ms},"search_query":{query}}}'
    ).encode()


def sentinels(partition: int) -> Iterator[tuple[bytes, bytes]]:
    """(key, JSON) of what closes every session of a partition."""
    visitor = f"__tick{partition}"
    for number in range(SENTINELS):
        click = {
            "event_id": f"tick-{partition}-{number}",
            "visitor_id": visitor,
            "timestamp": DAY_START_MS + DAY_MS + (6 + number) * 3_600_000,
            "event_type": "tick",
            "page_type": "tick",
            "page_url": "",
            "dwell_ms": 0,
            "search_query": None,
        }
        yield visitor.encode(), orjson.dumps(click)

"""Clicks that keep a given number of sessions open: eight each, half a minute apart, then nothing.

Visitor i comes at i · d, where d is such that as many visitors as asked for are past their eighth click and
not yet closed (that is after the gap and the bound on disorder); a tenth more are still clicking. At each
moment eight visitors click, whose sessions are spread over the last three and a half minutes. There are
50,000 different URLs, 30 % of the clicks carry a search query of their own.

Run as a program: `python -m benchmarks.open_sessions BOOTSTRAP TOPIC OPEN FIRST COUNT`, which appends COUNT
clicks from number FIRST on, as fast as it goes.
"""

from __future__ import annotations

import asyncio
import sys
import zlib
from collections.abc import Iterator
from itertools import islice

from aiokafka import AIOKafkaProducer

from benchmarks.clicks import DAY_START_MS, EVENTS, GAP_MS, PAGES, WORDS
from benchmarks.installation import PARTITIONS

CLICKS = 8
PAUSE_MS = 30_000
WAITING_MS = GAP_MS + 120_000
"""From a session's last click to its close."""
URLS = 50_000
BATCH_BYTES = 256 * 1024


class Crowd:
    """Visitors of whom `open_sessions` wait for their session to close, once there are enough of them."""

    def __init__(self, open_sessions: int) -> None:
        self._step_ms = WAITING_MS / open_sessions
        self._apart = max(round(PAUSE_MS / self._step_ms), 1)
        """Visitors who come between two clicks of one."""
        self.warm_up = (open_sessions + CLICKS * self._apart) * CLICKS
        """Clicks after which all are there."""

    def clicks(self, first: int = 0) -> Iterator[tuple[bytes, int, bytes]]:
        """(key, event time, JSON) from click `first` on, in order of event time, without end.

        `first` counts places, of which those of the first seven pauses are partly empty.
        """
        step = first // CLICKS
        while True:
            at = DAY_START_MS + int(step * self._step_ms)
            for nth in range(CLICKS):
                visitor = step - nth * self._apart
                if visitor >= 0:
                    name = f"visitor-{visitor:012x}"
                    yield name.encode(), at, _json(name, visitor, nth, at)
            step += 1


def _json(name: str, visitor: int, nth: int, at: int) -> bytes:
    mixed = visitor * 2_654_435_761 + nth * 40_503
    number = mixed % URLS
    page = PAGES[number & 7]
    asks = f'"{WORDS[mixed % 7]} {WORDS[mixed % 10]} {mixed & 0xFFFFFF:x}"' if mixed % 10 < 3 else "null"
    ref = f"{mixed & 0xFFFFFF:06x}"
    return (
        f'{{"event_id":"{visitor:08x}-{nth:04x}-4{mixed & 0xFFF:03x}-8000-{mixed & 0xFFFFFFFFFFFF:012x}",'
        f'"visitor_id":"{name}","timestamp":{at},"event_type":"{EVENTS[nth % 5]}","page_type":"{page}",'
        f'"page_url":"https://shop.example.com/{page}/{number}?utm_source=newsletter&ref={ref}",'
        f'"dwell_ms":{50 + mixed % 90_000},"search_query":{asks}}}'
    ).encode()


async def append(bootstrap: str, topic: str, clicks: Iterator[tuple[bytes, int, bytes]]) -> None:
    """All of them, each in the partition of its visitor."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_batch_size=BATCH_BYTES, linger_ms=5)
    await producer.start()
    batches = [producer.create_batch() for _ in range(PARTITIONS)]
    for key, _, value in clicks:
        number = zlib.crc32(key) % PARTITIONS
        if batches[number].append(key=key, value=value, timestamp=None) is None:
            await producer.send_batch(batches[number], topic, partition=number)
            batches[number] = producer.create_batch()
            batches[number].append(key=key, value=value, timestamp=None)
    for number, batch in enumerate(batches):
        if batch.record_count():
            await producer.send_batch(batch, topic, partition=number)
    await producer.stop()


def main() -> None:
    """Parse the arguments, append."""
    bootstrap, topic, *numbers = sys.argv[1:]
    open_sessions, first, count = map(int, numbers)
    asyncio.run(append(bootstrap, topic, islice(Crowd(open_sessions).clicks(first), count)))


if __name__ == "__main__":
    main()

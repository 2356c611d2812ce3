"""What it costs to write clicks by visitor first: the same backlog read with and without that, in turn.

Records have the times of their events, as a producer's clock gives them, for partitions are read in step by
those. All are moved to end about now, else retention would delete the records. `loop`, the
hand-written yardstick, reads the same clicks in the same round.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import orjson

from benchmarks.backlog import Backlog
from benchmarks.clicks import DAY_MS, DAY_START_MS
from benchmarks.pairs import Spread, spread
from benchmarks.throughput import LOOP, Bench
from streamer.kafka.embedded import EmbeddedKafka

PROGRAM = "core"
LAST_MS = DAY_START_MS + 2 * DAY_MS
"""No click of the backlog is later."""
BOUND_S = 7200
"""A day's clicks are few here: with the usual bound a commit would hold a hundred of them."""


@dataclass(frozen=True)
class RepartitionCost:
    """Microseconds of CPU a click."""

    loop_us: Spread
    keyed_us: Spread
    """Sessions of clicks that come by visitor."""
    repartition_us: Spread
    """What it takes more where they don't."""
    ratio: Spread
    """Of that to the loop."""


def measure(clicks: int, rounds: int) -> RepartitionCost:
    """In turn, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedKafka(Path(folder)) as kafka:
        moved_ms = int(time.time() * 1000) - LAST_MS
        bench = Bench(Backlog(kafka, clicks, time_of=lambda click: event_time(click) + moved_ms))
        bound = {"watermark__out_of_orderness_s": BOUND_S}
        ways = [
            (LOOP, {}),
            (PROGRAM, {"clicks__arrival": "create_time", **bound}),
            (PROGRAM, {"clicks__keyed": False, **bound}),
        ]
        start_up = [bench.run(name, bench.backlog.empty, **more) for name, more in ways]
        found = []
        for _ in range(rounds):
            loop, keyed, unkeyed = (
                bench.run(name, bench.backlog.full, **more).less(nothing).cpu_us
                for (name, more), nothing in zip(ways, start_up, strict=True)
            )
            found.append((loop, keyed, unkeyed - keyed))
            print(f"loop {loop:.2f} us, keyed {keyed:.2f} us, {found[-1][2]:.2f} us more", file=sys.stderr)
    return RepartitionCost(
        loop_us=spread(loop for loop, _, _ in found),
        keyed_us=spread(keyed for _, keyed, _ in found),
        repartition_us=spread(more for _, _, more in found),
        ratio=spread(more / loop for loop, _, more in found),
    )


def event_time(click: bytes) -> int:
    """ms UTC."""
    return int(orjson.loads(click)["timestamp"])

"""The product's worker, with a heartbeat in its event loop that notes for how long nothing else had its turn.

The beat sleeps 5 ms and looks at two clocks when it wakes. The CPU time of the loop's thread in between is
how long code ran without yielding, also on a machine that is busy with other work; wall time adds what the
machine took away. Both are an upper bound on what a single commit does at a stretch.

Run as a program: `python -m benchmarks.heartbeat SETTINGS`, settings as a JSON object of dotted keys. It
works until SIGTERM and prints one JSON object twice a second: what happened since the one before.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from benchmarks.spent import cpu_s
from streamer.logs import configure_logging
from streamer.settings import Settings, load_settings
from streamer.worker import event_loop
from streamer.worker.run import end_for_sure, run_worker

BEAT_S = 0.005
SHOW_EVERY_S = 0.5
_KB = 1024


class Stalls:
    """The longest time between two beats since the last `take`, by two clocks (seconds)."""

    def __init__(self, wall: Callable[[], float], cpu: Callable[[], float]) -> None:
        self._wall, self._cpu = wall, cpu
        self._since = wall(), cpu()
        self._longest = 0.0, 0.0

    def beat(self, slept_s: float) -> None:
        """Note a beat that was due `slept_s` after the last one."""
        now = self._wall(), self._cpu()
        late, busy = now[0] - self._since[0] - slept_s, now[1] - self._since[1]
        self._longest = max(self._longest[0], late), max(self._longest[1], busy)
        self._since = now

    def take(self) -> tuple[float, float]:
        """(wall, CPU) of the longest; forgotten from here on."""
        longest, self._longest = self._longest, (0.0, 0.0)
        return longest


def memory_mb(pid: int | str = "self") -> tuple[float, float]:
    """Resident memory of a process now, and the most it ever had."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    now, most = (int(status[name].split()[0]) / _KB for name in ("VmRSS", "VmHWM"))
    return now, most


async def beat_for_ever() -> None:
    """Beat and print."""
    stalls = Stalls(time.monotonic, time.thread_time)
    shown_at = time.monotonic()
    while True:
        await asyncio.sleep(BEAT_S)
        stalls.beat(BEAT_S)
        if time.monotonic() - shown_at >= SHOW_EVERY_S:
            shown_at = time.monotonic()
            wall, cpu = stalls.take()
            now, most = memory_mb()
            said = {"at": time.time(), "stall_ms": wall * 1000, "stall_cpu_ms": cpu * 1000}
            said |= {"rss_mb": now, "most_mb": most, "cpu_s": cpu_s()}
            print(orjson.dumps(said).decode(), flush=True)


async def work(settings: Settings) -> None:
    """Both until the worker ends."""
    beating = asyncio.create_task(beat_for_ever())
    try:
        instance = settings.app.instance_id
        await run_worker(settings, instance_id=instance, on_stopping=end_for_sure)
    finally:
        beating.cancel()


def main() -> None:
    """Parse the arguments, work."""
    settings = load_settings(overrides=orjson.loads(sys.argv[1]), environ={})
    configure_logging(settings.log)
    event_loop.run(work(settings), settings.kafka)


if __name__ == "__main__":
    main()

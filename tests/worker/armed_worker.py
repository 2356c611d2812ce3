"""A worker that kills itself, with SIGKILL, the n-th time it passes a kill point. For the fault tests.

Usage: python armed_worker.py POINT:N [--drain] [--wall-clock SECONDS]; settings come from the environment as
always. The last option makes the machine's clock appear to be off. With `timeout` as N it lives on, and fails
each time as if a broker had left it waiting.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

from aiokafka.errors import KafkaTimeoutError

from streamer.logs import configure_logging
from streamer.settings import load_settings
from streamer.worker.kill_points import KillPoint
from streamer.worker.options import DrainOptions, WorkerOptions
from streamer.worker.run import run_worker


def armed(point: KillPoint, count: int):
    """A `reach` that ends the process at the count-th pass of `point`."""
    left = count

    def reach(passed: KillPoint) -> None:
        nonlocal left
        if passed is point:
            left -= 1
            if left == 0:
                print(f"killed at {point}", file=sys.stderr, flush=True)
                os.kill(os.getpid(), signal.SIGKILL)

    return reach


def timing_out(point: KillPoint):
    """A `reach` that fails at every pass of `point`."""

    def reach(passed: KillPoint) -> None:
        if passed is point:
            raise KafkaTimeoutError

    return reach


def turn_wall_clock(seconds: float) -> None:
    """The one thing that a test can't reach otherwise: what this process takes for the time of day."""
    honest, honest_ns = time.time, time.time_ns
    time.time = lambda: honest() + seconds
    time.time_ns = lambda: honest_ns() + int(seconds * 1e9)


def main() -> None:
    name, _, count = sys.argv[1].partition(":")
    if "--wall-clock" in sys.argv:
        turn_wall_clock(float(sys.argv[sys.argv.index("--wall-clock") + 1]))
    settings = load_settings()
    configure_logging(settings.log)
    asyncio.run(
        run_worker(
            settings,
            options=WorkerOptions(drain=DrainOptions() if "--drain" in sys.argv else None),
            instance_id=settings.app.instance_id,
            reach=timing_out(KillPoint(name)) if count == "timeout" else armed(KillPoint(name), int(count)),
        )
    )


if __name__ == "__main__":
    main()

"""A worker that kills itself, with SIGKILL, the n-th time it passes a kill point. For the fault tests.

Usage: python armed_worker.py POINT:N [--drain]; settings come from the environment as always.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from streamer.logs import configure_logging
from streamer.settings import load_settings
from streamer.worker.kill_points import KillPoint
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


def main() -> None:
    name, _, count = sys.argv[1].partition(":")
    settings = load_settings()
    configure_logging(settings.log)
    asyncio.run(
        run_worker(
            settings,
            drain="--drain" in sys.argv,
            instance_id=settings.app.instance_id,
            reach=armed(KillPoint(name), int(count)),
        )
    )


if __name__ == "__main__":
    main()

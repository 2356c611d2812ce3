"""A migration that kills itself, with SIGKILL, behind a step. For the tests.

Usage: python armed_migration.py STEP; settings come from the environment as always.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from functools import partial

from streamer.cli.errors import report
from streamer.operations.growth import Step
from streamer.operations.migration import look, migrate
from streamer.settings import load_settings
from streamer.worker.options import DrainOptions, WorkerOptions
from streamer.worker.processes import run_processes


def main() -> None:
    settings, last = load_settings(), Step[sys.argv[1]]

    def kill_behind(step: Step) -> None:
        if step is last:
            os.kill(os.getpid(), signal.SIGKILL)

    def drain() -> None:
        options = WorkerOptions(drain=DrainOptions())
        assert run_processes(settings, 1, options, partial(report, debug=True)) == 0

    migrate(settings, asyncio.run(look(settings)), drain, kill_behind)


if __name__ == "__main__":
    main()

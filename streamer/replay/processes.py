"""The lanes of a replay over several processes of this machine; what each did is in the journal."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from streamer.errors import StreamerError
from streamer.replay.journal import Journal
from streamer.replay.options import ReplayOptions
from streamer.replay.plan import Lane, Plan
from streamer.replay.scoring import Bench
from streamer.session_rules import session_rules
from streamer.settings import Settings
from streamer.worker.memory import settle_memory

_LOOK_S = 0.2


class ProcessFailedError(StreamerError):
    """A process of the replay ended with an error; its own message went to the terminal before."""


def run_lanes(
    settings: Settings,
    options: ReplayOptions,
    folder: Path,
    plan: Plan,
    save_every: int,
    on_done: Callable[[int], None],
) -> None:
    """Run all lanes of the plan that was begun in the folder. `on_done` is told of records as they are done.

    Raises ProcessFailedError after stopping the other processes.
    """
    context = multiprocessing.get_context("spawn")
    shares = [share for share in _shares(plan.lanes, options.processes) if share]
    done: Any = context.Array("q", len(shares))
    processes = [
        context.Process(target=_work, args=(settings, options, folder, share, save_every, done, place))
        for place, share in enumerate(shares)
    ]
    told = 0
    for process in processes:
        process.start()
    try:
        while running := [process.sentinel for process in processes if process.is_alive()]:
            wait(running, _LOOK_S)
            on_done(sum(done) - told)
            told = sum(done)
            if any(process.exitcode for process in processes):
                raise ProcessFailedError("a process of the replay failed; run the same command to go on")
    finally:
        for process in processes:
            process.terminate()
            process.join()
    if any(process.exitcode for process in processes):
        raise ProcessFailedError("a process of the replay failed; run the same command to go on")


def _shares(lanes: Sequence[Lane], count: int) -> list[list[int]]:
    """Lanes by process, the largest first to whoever has least."""
    shares: list[list[int]] = [[] for _ in range(count)]
    loads = [0] * count
    for lane in sorted(lanes, key=lambda lane: -lane.size):
        least = loads.index(min(loads))
        shares[least].append(lane.number)
        loads[least] += lane.size + 1
    return shares


def _work(
    settings: Settings,
    options: ReplayOptions,
    folder: Path,
    numbers: list[int],
    save_every: int,
    done: Any,
    place: int,
) -> None:
    from streamer.replay.run import run_here

    settle_memory()
    parent = os.getppid()

    def count(records: int) -> None:
        done[place] += records
        if os.getppid() != parent:  # killed, and perhaps about to be run again
            os._exit(1)

    journal = Journal(folder)
    plan = journal.begun()
    assert plan is not None
    bench = Bench.load(options.bundles, session_rules(settings).version)
    try:
        run_here(settings, options, plan, bench, journal, numbers, count, save_every)
    except StreamerError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception as error:
        # Its text may hold what a customer typed.
        print(f"Error: unexpected {type(error).__name__} in a process of the replay", file=sys.stderr)
        sys.exit(1)

"""Runs a replay from what was asked for to its summary, in one process or in several on this machine."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from streamer.core.rules import SessionRules
from streamer.replay.engine import SAVE_EVERY, LaneResult
from streamer.replay.journal import Journal
from streamer.replay.lanes import do_lanes
from streamer.replay.options import ReplayOptions
from streamer.replay.plan import Plan
from streamer.replay.planning import drafted, looked_up
from streamer.replay.processes import run_lanes
from streamer.replay.scoring import Bench
from streamer.replay.sinks import out_file
from streamer.replay.summary import Summary
from streamer.session_rules import session_rules
from streamer.settings import Settings

OnProgress = Callable[[int, int], None]
"""(records done, of how many at most). The first call tells what was done before."""


def replay(
    settings: Settings, options: ReplayOptions, on_progress: OnProgress, save_every: int = SAVE_EVERY
) -> Summary:
    """Do it, or go on with it where it was stopped.

    Raises StreamerError and BundleError for what the user can mend.
    """
    started = time.monotonic()
    if out_file(options.out) is not None:
        import streamer.replay.rows  # noqa: F401, to know at once if a package is missing
    rules = session_rules(settings)
    bench = Bench.load(options.bundles, rules.version)
    with ExitStack() as stack:
        folder = options.journal_folder
        keeps = folder is not None
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamer-replay-")))
        journal = Journal(folder)
        stack.enter_context(journal.exclusively())
        plan = _planned(settings, options, rules, bench, journal)
        before = journal.received(lane.number for lane in plan.lanes)
        results = _run_all(settings, options, plan, bench, journal, before, on_progress, save_every)
        rows = join_files(options, plan, results, folder)
        if keeps:
            journal.remove()
    return Summary(plan, bench, results, options.out, rows, time.monotonic() - started, before)


def run_here(
    settings: Settings,
    options: ReplayOptions,
    plan: Plan,
    bench: Bench,
    journal: Journal,
    numbers: Iterable[int],
    on_done: Callable[[int], None],
    save_every: int,
) -> dict[int, LaneResult]:
    """Run these lanes in this process, each from its state in the journal on."""
    states = {number: journal.state(number) for number in numbers}
    for number, state in states.items():
        journal.drop_rows_but(number, state.sealed.files if state else ())
    # A replay without a folder of its own can't be resumed, but its processes tell their results by states.
    keeper = journal if options.journal_folder or options.processes > 1 else None
    work = do_lanes(
        settings, options, plan, bench, keeper, states, on_done, save_every, folder=journal.folder
    )
    return asyncio.run(work)


def join_files(
    options: ReplayOptions,
    plan: Plan,
    results: dict[int, LaneResult],
    folder: Path | None,
    beside: Path | None = None,
) -> int | None:
    """The one file of all rows, by partition, each in order of closing; returns how many. `beside`: where
    it is until it is whole."""
    out = out_file(options.out)
    if out is None or folder is None:
        return None
    from streamer.replay.rows import join_rows

    return join_rows(
        (folder / name for lane in plan.lanes for name in results[lane.number].sealed.files), out, beside
    )


def _planned(
    settings: Settings, options: ReplayOptions, rules: SessionRules, bench: Bench, journal: Journal
) -> Plan:
    """The plan that was begun in the journal, or a new one, begun there now."""
    draft = drafted(settings, options, rules, bench)
    begun = journal.begun()
    if begun is not None:
        draft.require_same(begun, f"{journal.folder} holds a replay", "delete the folder")
        return begun
    plan = asyncio.run(looked_up(settings, options, rules, draft))
    journal.begin(plan)
    return plan


def _run_all(
    settings: Settings,
    options: ReplayOptions,
    plan: Plan,
    bench: Bench,
    journal: Journal,
    before: int,
    on_progress: OnProgress,
    save_every: int,
) -> dict[int, LaneResult]:
    numbers = [lane.number for lane in plan.lanes]
    done = before

    def count(records: int) -> None:
        nonlocal done
        done += records
        on_progress(done, plan.records)

    count(0)
    if options.processes > 1 and len(numbers) > 1:
        run_lanes(settings, options, journal.folder, plan, save_every, count)
        # Every lane is done now: this reads the results back, and writes nothing.
        return run_here(settings, options, plan, bench, journal, numbers, lambda _: None, save_every)
    return run_here(settings, options, plan, bench, journal, numbers, count, save_every)

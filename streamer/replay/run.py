"""Runs a replay from what was asked for to its summary, in one process or in several on this machine."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace as replaced
from pathlib import Path

import msgspec

from streamer.core.rules import SessionRules
from streamer.replay.engine import SAVE_EVERY, Engine, LaneResult
from streamer.replay.file_source import FileSource
from streamer.replay.journal import Journal
from streamer.replay.options import FROM_TOPIC, ReplayOptions
from streamer.replay.pace import PacedSource
from streamer.replay.plan import PLAN_VERSION, Lane, Plan
from streamer.replay.processes import run_lanes
from streamer.replay.scoring import Bench
from streamer.replay.sinks import STDOUT, NoSink, RowsSink, Sink, StdoutSink, out_file, out_topic
from streamer.replay.source import Source
from streamer.replay.summary import Summary
from streamer.session_rules import session_rules
from streamer.settings import Settings

OnProgress = Callable[[int, int], None]
"""(records done, of how many at most)"""


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
        results = _run_all(settings, options, plan, bench, journal, on_progress, save_every)
        rows = _join(options, plan, results, journal)
        if keeps:
            journal.remove()
    return Summary(plan, bench, results, options.out, rows, time.monotonic() - started)


async def run_here(
    settings: Settings,
    options: ReplayOptions,
    plan: Plan,
    bench: Bench,
    journal: Journal,
    numbers: list[int],
    on_done: Callable[[int], None],
    save_every: int,
) -> dict[int, LaneResult]:
    """Run these lanes in this process."""
    states = {number: state for number in numbers if (state := journal.state(number)) is not None}
    lanes = {lane.number: lane for lane in plan.lanes if lane.number in numbers}
    sealed = {number: states[number].sealed if number in states else 0 for number in numbers}
    sink = _sink(settings, options.out, bench, journal, lanes, sealed)
    source = _source(settings, options, lanes)
    engine = Engine(
        plan,
        session_rules(settings),
        bench,
        source,
        sink,
        journal,
        save_every=save_every,
        on_progress=on_done,
    )
    try:
        return await engine.run(numbers, states)
    finally:
        await sink.close()


def _planned(
    settings: Settings, options: ReplayOptions, rules: SessionRules, bench: Bench, journal: Journal
) -> Plan:
    """The plan that was begun in the journal, or a new one, begun there now."""
    begun = journal.begun()
    is_topic = options.source == FROM_TOPIC
    file = None if is_topic else FileSource(Path(options.source), settings)
    has_arrivals = file is None or file.is_dump
    log_append = settings.clicks.arrival == "log_append_time"
    plan = Plan(
        version=PLAN_VERSION,
        source=f"topic:{settings.topics.clicks}" if file is None else f"file:{file.digest()}",
        topic=settings.topics.clicks if has_arrivals else "file",
        out=options.out or "",
        from_ms=options.stretch.from_ms,
        to_ms=options.stretch.to_ms,
        rules_version=rules.version,
        model_versions=tuple(bench.model_versions),
        idle_closing=log_append and has_arrivals,
        early_every_ms=settings.emit.early_every_ms if has_arrivals else 0,
        lanes=(),
    )
    if begun is not None:
        plan.require_same(begun, journal.folder)
        return begun
    erased: dict[str, int] = {}
    if file is not None:
        lanes = file.lanes()
    else:
        lanes, erased = asyncio.run(_looked_up(settings, options, rules))
    name = out_topic(options.out)
    if name is not None:
        lanes = asyncio.run(_with_out_starts(settings, name, lanes))
    plan = msgspec.structs.replace(plan, lanes=tuple(lanes), erased=erased)
    journal.begin(plan)
    return plan


async def _looked_up(
    settings: Settings, options: ReplayOptions, rules: SessionRules
) -> tuple[list[Lane], dict[str, int]]:
    from streamer.replay.topic_source import erased_visitors, topic_lanes

    return await topic_lanes(settings, options.stretch, rules), await erased_visitors(settings)


async def _with_out_starts(settings: Settings, name: str, lanes: list[Lane]) -> list[Lane]:
    from streamer.replay.topic_sink import prepare_topic

    starts = await prepare_topic(settings, name, lanes)
    return [msgspec.structs.replace(lane, out_start=starts[lane.number]) for lane in lanes]


def _run_all(
    settings: Settings,
    options: ReplayOptions,
    plan: Plan,
    bench: Bench,
    journal: Journal,
    on_progress: OnProgress,
    save_every: int,
) -> dict[int, LaneResult]:
    numbers = [lane.number for lane in plan.lanes]
    done = 0

    def count(records: int) -> None:
        nonlocal done
        done += records
        on_progress(done, plan.records)

    if options.processes > 1 and len(numbers) > 1:
        run_lanes(settings, options, journal.folder, plan, save_every, count)
        # Every lane is done now: this reads the results back, and writes nothing.
        options = replaced(options, out=None)
        return asyncio.run(
            run_here(settings, options, plan, bench, journal, numbers, lambda _: None, save_every)
        )
    return asyncio.run(run_here(settings, options, plan, bench, journal, numbers, count, save_every))


def _sink(
    settings: Settings,
    out: str | None,
    bench: Bench,
    journal: Journal,
    lanes: dict[int, Lane],
    sealed: dict[int, int],
) -> Sink:
    topic = out_topic(out)
    if topic is not None:
        from streamer.replay.topic_sink import TopicSink

        return TopicSink(settings, topic, lanes, sealed)
    if out == STDOUT:
        return StdoutSink()
    return NoSink() if out is None else RowsSink(journal, bench, sealed)


def _source(settings: Settings, options: ReplayOptions, lanes: dict[int, Lane]) -> Source:
    source: Source
    if options.source == FROM_TOPIC:
        from streamer.replay.topic_source import TopicSource

        source = TopicSource(settings, lanes)
    else:
        source = FileSource(Path(options.source), settings)
    if not options.speed:
        return source
    return PacedSource(source, options.speed, options.stretch.from_ms, time.monotonic, asyncio.sleep)


def _join(options: ReplayOptions, plan: Plan, results: dict[int, LaneResult], journal: Journal) -> int | None:
    """The one file of all rows, by partition, each in order of closing; returns how many."""
    out = out_file(options.out)
    if out is None:
        return None
    from streamer.replay.rows import join_rows

    return join_rows(
        (path for lane in plan.lanes for path in journal.rows(lane.number, results[lane.number].sealed)), out
    )

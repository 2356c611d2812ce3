"""Some lanes of a plan in this process: source, engine and sink put together as was asked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from streamer.replay.engine import Engine, Keeper, LaneResult
from streamer.replay.file_source import FileSource
from streamer.replay.journal import LaneState, Sealed
from streamer.replay.options import FROM_TOPIC, ReplayOptions
from streamer.replay.pace import PacedSource
from streamer.replay.plan import Lane, Plan
from streamer.replay.scoring import Bench
from streamer.replay.sinks import STDOUT, NoSink, RowsSink, Sink, StdoutSink, out_topic
from streamer.replay.source import Source
from streamer.session_rules import session_rules
from streamer.settings import Settings


async def do_lanes(
    settings: Settings,
    options: ReplayOptions,
    plan: Plan,
    bench: Bench,
    keeper: Keeper | None,
    states: Mapping[int, LaneState | None],
    on_done: Callable[[int], None],
    save_every: int,
    *,
    folder: Path | None = None,
    mark: str = "",
) -> dict[int, LaneResult]:
    """Do the lanes that `states` names, each from its state on. `folder`: of row files, whose names have
    `mark`. `on_done` is told of records as they are done."""
    lanes = {lane.number: lane for lane in plan.lanes if lane.number in states}
    begun = {number: state for number, state in states.items() if state is not None}
    sealed = {number: begun[number].sealed if number in begun else Sealed() for number in lanes}
    sink = _sink(settings, options.out, bench, lanes, sealed, folder, mark)
    engine = Engine(
        plan,
        session_rules(settings),
        bench,
        _source(settings, options, lanes),
        sink,
        keeper,
        save_every=save_every,
        on_progress=on_done,
    )
    try:
        return await engine.run(lanes, begun)
    finally:
        await sink.close()


def _sink(
    settings: Settings,
    out: str | None,
    bench: Bench,
    lanes: Mapping[int, Lane],
    sealed: Mapping[int, Sealed],
    folder: Path | None,
    mark: str,
) -> Sink:
    topic = out_topic(out)
    if topic is not None:
        from streamer.replay.topic_sink import TopicSink

        return TopicSink(settings, topic, lanes, sealed)
    if out == STDOUT:
        return StdoutSink()
    return NoSink() if out is None or folder is None else RowsSink(folder, bench, sealed, mark)


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

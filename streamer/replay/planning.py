"""Making the plan of a replay: what was asked for, and what is looked up once for it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from streamer.core.rules import SessionRules
from streamer.replay.file_source import FileSource
from streamer.replay.options import FROM_TOPIC, ReplayOptions
from streamer.replay.plan import PLAN_VERSION, Lane, Plan
from streamer.replay.scoring import Bench
from streamer.replay.sinks import out_topic
from streamer.settings import Settings


def drafted(settings: Settings, options: ReplayOptions, rules: SessionRules, bench: Bench) -> Plan:
    """The plan without what is looked up: enough to tell whether a plan that was begun is the same."""
    file = None if options.source == FROM_TOPIC else FileSource(Path(options.source), settings)
    has_arrivals = file is None or file.is_dump
    log_append = settings.clicks.arrival == "log_append_time"
    return Plan(
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


async def looked_up(settings: Settings, options: ReplayOptions, rules: SessionRules, draft: Plan) -> Plan:
    """The whole plan. Makes the output topic if there is to be one."""
    erased: dict[str, int] = {}
    if options.source == FROM_TOPIC:
        from streamer.replay.topic_source import erased_visitors, topic_lanes

        lanes = await topic_lanes(settings, options.stretch, rules)
        erased = await erased_visitors(settings)
    else:
        lanes = FileSource(Path(options.source), settings).lanes()
    name = out_topic(options.out)
    if name is not None:
        lanes = await _with_out_starts(settings, name, lanes)
    return msgspec.structs.replace(draft, lanes=tuple(lanes), erased=erased)


async def _with_out_starts(settings: Settings, name: str, lanes: list[Lane]) -> list[Lane]:
    from streamer.replay.topic_sink import prepare_topic

    starts = await prepare_topic(settings, name, lanes)
    return [msgspec.structs.replace(lane, out_start=starts[lane.number]) for lane in lanes]

"""Running one worker process: from settings and bundle to an exit code."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import structlog
from aiokafka.errors import KafkaError

from streamer.bundle_extras import warn_of_missing
from streamer.errors import StreamerError
from streamer.extras import missing_package
from streamer.kafka.acls import acls_of
from streamer.kafka.client import client_arguments
from streamer.kafka.permissions import check_permissions, refusal
from streamer.kafka.reach import check_brokers
from streamer.models.bundle import default_bundle, load_bundle
from streamer.models.drift import DriftMonitor
from streamer.models.scorer import Scorer
from streamer.pipeline.records import RecordWriter
from streamer.registry.lookup import SchemaLookup
from streamer.registry.outputs import RegistryIds, output_prefixes
from streamer.rules_from_settings import session_rules
from streamer.schemas.build import WHY_PURE
from streamer.settings import Settings
from streamer.sources import click_decoder
from streamer.worker.app import Stage, WorkerApp, create_app
from streamer.worker.draining import (
    Bounds,
    Drain,
    DrainStoppedError,
    DrainTurns,
    ReadBounds,
    read_bounds,
)
from streamer.worker.drift import DriftCollector
from streamer.worker.failure import Failure
from streamer.worker.http import HealthServer
from streamer.worker.kill_points import Reach, pass_by
from streamer.worker.memory import settle_memory
from streamer.worker.metrics import Metrics
from streamer.worker.options import WorkerOptions
from streamer.worker.scoring import JointScoring
from streamer.worker.shadow import Shadow
from streamer.worker.shard import ShardConfig
from streamer.worker.stages.identity import stage_configs
from streamer.worker.stages.repartition import repartition_config
from streamer.worker.stages.repartition_table import RepartitionTable
from streamer.worker.stages.stage_drain import drain_stages
from streamer.worker.stages.stage_table import StageTable
from streamer.worker.stages.stage_watch import StageWatch
from streamer.worker.start_checks import StartedOn, check_start
from streamer.worker.table import SessionTable
from streamer.worker.watch import Watch

if TYPE_CHECKING:
    from streamer.worker.tracing import Tracing

DEFAULTS = WorkerOptions()
END_WITHIN_S = 9.5
"""From the last commit to the process's end."""

CHECKED_WITHIN_S = 60
"""How long brokers that are reached may leave the questions of the start unanswered."""

T = TypeVar("T")

log = structlog.get_logger(__name__)


class TracingError(StreamerError):
    """Spans are asked for that this installation can't make."""


class StartError(StreamerError):
    """The brokers are reached, and don't answer what a start has to know."""


async def run_worker(
    settings: Settings,
    *,
    options: WorkerOptions = DEFAULTS,
    instance_id: str | None = None,
    reach: Reach = pass_by,
    on_stopping: Callable[[], None] = lambda: None,
) -> None:
    """Work until SIGTERM or SIGINT, or with `options.drain` until everything is published.

    `on_stopping` is called when nothing is left to do but to let go of brokers and threads.
    Raises StreamerError for what the user can mend, which a drain that was stopped half-way is too, anything
    else for what nobody foresaw.
    """
    began = time.monotonic()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    worker = await _unless(stop, _prepared(settings, options, instance_id, reach))
    if worker is None:
        on_stopping()
        log.info("worker_stopped", records=0)
        if options.drain is not None:
            raise DrainStoppedError
        return
    try:
        for app in worker.apps:
            await _unless(stop, app.start())
        if not stop.is_set():
            log.info("worker_started", app_id=settings.app.id, **worker.notes)
        if not await _until_done(worker, stop) and options.drain is not None:
            raise DrainStoppedError
    except StreamerError as error:
        log.error("worker_ends", reason=str(error))
        raise
    finally:
        on_stopping()
        await _shut_down(worker)
        if worker.tracing is not None:
            await worker.tracing.stop()
        await worker.health.stop()
        log.info("worker_stopped", records=worker.records())
    if options.drain is not None:
        log.info(
            "drained",
            clicks=worker.records(),
            sessions=worker.metrics.published(),
            seconds=round(time.monotonic() - began, 1),
        )


class _Worker(NamedTuple):
    apps: list[WorkerApp]
    failure: Failure
    watch: Watch | StageWatch
    drained: Callable[[], Coroutine[Any, Any, None]]
    """Returns once everything is drained, which without a drain is never."""
    records: Callable[[], int]
    """How many clicks were processed."""
    metrics: Metrics
    health: HealthServer
    notes: dict[str, str]
    """For the log."""
    tracing: Tracing | None = None


async def _prepared(
    settings: Settings, options: WorkerOptions, instance_id: str | None, reach: Reach
) -> _Worker:
    """Everything checked and put together, and nothing started but the pages of the health server."""
    settle_memory()
    metrics, failure = Metrics(), Failure(settings.app.id)
    scorer = None if options.stages == "identity" else _scorer(settings, metrics)
    tracing = None if scorer is None else _tracing(settings, scorer, metrics)
    await check_brokers(settings.kafka)
    await check_permissions(settings.kafka, acls_of("worker", settings))
    source = await answered(settings, lambda: check_start(settings, options))
    arguments = client_arguments(settings.kafka)
    lookup = SchemaLookup(settings.registry, observe=metrics.registry_requested)
    metrics.watch_lookup(lambda: lookup.waiting_s)
    registry = RegistryIds(lookup, await output_prefixes(settings))
    repartition, stages = _other_stages(settings, options, source, reach, registry, metrics, failure)
    if repartition:
        options = replace(options, start="earliest")  # all that this stage writes is to be read
    watch_of_stages = StageWatch(settings, [*repartition, *stages])
    metrics.watch_stages(watch_of_stages.levels)
    apps = [
        create_app(
            settings,
            arguments,
            each,
            Stage(each.config.name, each.config.group, each.config.source, each.process),
            instance_id,
        )
        for each in (*repartition, *stages)
    ]
    if scorer is None:
        health = await _health(settings, metrics, watch_of_stages, lookup)
        log.info("worker_starts", app_id=settings.app.id)
        turns = DrainTurns(options.drain.timeout_s) if options.drain is not None else None
        drained = partial(_drained, turns, None, stages)
        notes = {"stages": "identity"}
        return _Worker(apps, failure, watch_of_stages, drained, lambda: 0, metrics, health, notes)
    shadow = _shadow(settings, metrics)
    config = replace(_config(settings, scorer, shadow, options, source, reach, registry), tracing=tracing)
    drain, drained = None, partial(_drained, None, None, stages)
    if options.drain is not None:
        drain = Drain(options.drain, config, await _bounds(config, repartition))
        drained = partial(_drained, drain.turns, drain.finished, stages)
    table = SessionTable(config, metrics, failure, drain, lambda: sum(each.lag for each in repartition))
    watch = Watch(config, table, watch_of_stages)
    metrics.watch(watch.states, watch.unrecovered.lags)
    health = await _health(settings, metrics, watch, lookup)
    stage = Stage("sessionize", settings.app.id, settings.session_source, table.processing.process)
    app = create_app(settings, arguments, table, stage, instance_id)
    log.info("worker_starts", app_id=settings.app.id)
    notes = {"model_version": scorer.bundle.model_version, "pure_python": WHY_PURE}
    return _Worker(
        [app, *apps],
        failure,
        watch,
        drained,
        lambda: table.processing.records,
        metrics,
        health,
        notes,
        tracing,
    )


def _other_stages(
    settings: Settings,
    options: WorkerOptions,
    source: StartedOn,
    reach: Reach,
    registry: RegistryIds,
    metrics: Metrics,
    failure: Failure,
) -> tuple[list[StageTable], list[StageTable]]:
    """What comes before the sessions, and behind them, as far as this worker has to run it."""
    arguments, partitions = client_arguments(settings.kafka), source.partitions
    before: list[StageTable] = []
    behind: list[StageTable] = []
    if source.unkeyed is not None and options.stages != "identity":
        config = repartition_config(
            settings, arguments, source.unkeyed, partitions, reach, registry, options.start
        )
        before = [RepartitionTable(config, metrics, failure, lambda: time.time() * 1000)]
    if settings.identity.enabled and options.stages != "clicks":
        configs = stage_configs(settings, arguments, source, reach, registry)
        behind = [StageTable(each, metrics, failure) for each in configs]
    return before, behind


def _scorer(settings: Settings, metrics: Metrics) -> Scorer:
    bundle = load_bundle(settings.model.bundle or default_bundle())
    warn_of_missing([bundle], settings.clicks)
    drift = DriftMonitor.of(bundle)
    if drift:
        metrics.registry.register(DriftCollector(drift))
    else:
        log.info("no_drift_metrics", reason="the bundle was made without a profile to compare with")
    if settings.emit.memberships and bundle.prototypes is None:
        log.warning("no_memberships", reason="emit.memberships is on, but the bundle has no prototypes")
    return Scorer(
        bundle,
        drift.see if drift else None,
        memberships=settings.emit.memberships,
        reasons=settings.emit.reasons,
    )


async def _health(
    settings: Settings, metrics: Metrics, watch: Watch | StageWatch, lookup: SchemaLookup
) -> HealthServer:
    health = HealthServer(metrics.registry, watch.not_live, lambda: watch.not_ready() + lookup.not_ready())
    if settings.worker.metrics_port:
        await health.start(settings.worker.metrics_port)
    return health


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """The work's result, or None if it was to stop before: a client may wait for brokers for ever."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        working.cancel()
        await asyncio.wait({working}, timeout=1)
        return None
    finally:
        stopping.cancel()


async def answered(settings: Settings, ask: Callable[[], Awaitable[T]]) -> T:
    """What it asks the brokers, tried again where one fails meanwhile. Raises StartError if that goes on."""
    deadline = time.monotonic() + CHECKED_WITHIN_S
    while True:
        try:
            return await ask()
        except KafkaError as error:
            if refused := refusal(error, f"work for {settings.app.id}"):
                raise refused from None
            name = type(error).__name__
            if time.monotonic() > deadline:
                raise StartError(
                    f"the brokers at {settings.kafka.bootstrap_servers} have not answered for "
                    f"{CHECKED_WITHIN_S} s which topics and state there are ({name}): see 'streamer doctor'"
                ) from None
            log.warning("start_check_failed", error=name)
        await asyncio.sleep(1)


async def _bounds(config: ShardConfig, repartition: list[StageTable]) -> Mapping[int, Bounds] | ReadBounds:
    """How far a drain goes: up to the ends as they are now, or once the clicks are there by visitor."""

    async def read() -> Mapping[int, Bounds]:
        return await answered(config.settings, lambda: read_bounds(config))

    async def read_later(turns: DrainTurns) -> Mapping[int, Bounds]:
        await drain_stages(repartition, turns)
        return await read()

    return read_later if repartition else await read()


async def _until_done(worker: _Worker, stop: asyncio.Event) -> bool:
    """Whether everything is drained; False: it was stopped before."""
    watch, failure = worker.watch, worker.failure
    drained = asyncio.ensure_future(worker.drained())
    stopped = [
        asyncio.ensure_future(end)
        for end in (stop.wait(), *(app.wait_until_stopped() for app in worker.apps))
    ]
    looking = asyncio.ensure_future(watch.look_regularly())
    waits: list[asyncio.Future[Any]] = [drained, looking, *stopped]
    try:
        await asyncio.wait([*waits, failure.reported], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    if failure.reported.done():
        failure.reported.result()
    for ended in (looking, drained):
        if ended.done():
            ended.result()
    for app in worker.apps:
        if app.crashed:
            watch.check_not_replaced()  # which the client takes for an error that it doesn't know
            raise app.crash_reason or RuntimeError("the Faust app ended by itself")
    return drained.done()


async def _drained(turns: DrainTurns | None, clicks: asyncio.Event | None, stages: list[StageTable]) -> None:
    """`clicks` is set once they are drained; None: this worker has none of them."""
    if turns is None:
        await asyncio.Event().wait()
        return
    if clicks is not None:
        await clicks.wait()
    await drain_stages(stages, turns)


async def _shut_down(worker: _Worker) -> None:
    for app in worker.apps:
        app.consumer.stop_flow()
        app.flow_control.suspend()
    letting_go = [app.table.rebalance.shut_down() for app in worker.apps]
    for stopping, seconds in ((letting_go, 5), ([app.stop() for app in worker.apps], 4)):
        # Not wait_for: it would wait on for ever where a client swallows its cancellation.
        await asyncio.wait({asyncio.ensure_future(each) for each in stopping}, timeout=seconds)


def end_for_sure() -> None:
    """End the process soon, whatever a client library still waits for; all state is in Kafka."""
    last_resort = threading.Timer(END_WITHIN_S, os._exit, args=(1,))
    last_resort.daemon = True
    last_resort.start()


def _shadow(settings: Settings, metrics: Metrics) -> Shadow | None:
    if settings.model.shadow_bundle is None:
        return None
    bundle = load_bundle(settings.model.shadow_bundle)
    warn_of_missing([bundle], settings.clicks)
    scorer = Scorer(bundle, memberships=settings.emit.memberships, reasons=settings.emit.reasons)
    version = session_rules(settings).version
    return Shadow(scorer, version, settings.topics, metrics.shadow_failed.inc)


def _tracing(settings: Settings, scorer: Scorer, metrics: Metrics) -> Tracing | None:
    """Raises TracingError where spans are asked for and their packages are missing."""
    if not settings.tracing.enabled:
        return None
    try:
        from streamer.worker.tracing import Tracing
    except ModuleNotFoundError as error:
        raise TracingError(f"tracing.enabled: {missing_package(error.name or '')}") from None
    chance = random.Random()  # noqa: S311, span ids needn't be secret
    return Tracing(settings, scorer.bundle.model_version, metrics, time.time_ns, chance)


def _config(
    settings: Settings,
    scorer: Scorer,
    shadow: Shadow | None,
    options: WorkerOptions,
    source: StartedOn,
    reach: Reach,
    registry: RegistryIds,
) -> ShardConfig:
    rules = session_rules(settings)
    return ShardConfig(
        settings=settings,
        arguments=client_arguments(settings.kafka),
        rules=rules,
        registry=registry,
        decode=click_decoder(settings.clicks, registered=registry.lookup.registered).decode,
        writer=RecordWriter(scorer.bundle, rules.version),
        score=JointScoring(scorer.score).score,
        shadow=shadow,
        options=options,
        source=source,
        reach=reach,
    )

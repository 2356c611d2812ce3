"""Running a sink: from settings to its end."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from streamer.kafka.acls import acls_of
from streamer.kafka.permissions import check_permissions
from streamer.kafka.reach import check_brokers
from streamer.kafka.subscribe import records
from streamer.pipeline.erasures import erased_by
from streamer.settings import Settings
from streamer.sink.copier import Copier, SinkError
from streamer.sink.metrics import SinkMetrics
from streamer.sink.source import sources_of
from streamer.sink.store import Store
from streamer.worker.http import HealthServer

if TYPE_CHECKING:
    from streamer.sink.lake_manifest import Erasure
    from streamer.sink.lake_verify import Found
    from streamer.sink.rows import RowStore

_NO_MORE_S = 2.0
"""Erasures are read to the end of their topic: so long without one."""
_KEEPS_EVERYTHING = "noeviction"

log = structlog.get_logger(__name__)


async def run_redis_sink(
    settings: Settings, share: frozenset[int] | None, drain: bool, now: Callable[[], float] = time.time
) -> None:
    """Copy visitors and customers until SIGTERM or SIGINT, or, to drain, up to the ends of the topics. Raises
    StreamerError, also if it was stopped before it had drained."""
    from streamer.sink.redis_store import RedisStore

    async with RedisStore(settings.sink.redis) as store:
        policy = await store.check()
        if policy not in ("", _KEEPS_EVERYTHING):
            log.warning("store_forgets", maxmemory_policy=policy, expected=_KEEPS_EVERYTHING)
        await _copy(settings, store, settings.sink.redis.url, share, drain, now)


async def run_parquet_sink(settings: Settings, drain: bool, now: Callable[[], float] = time.time) -> None:
    """The same into Parquet files, of every record."""
    from streamer.sink.lake import Lake

    await _copy_rows(settings, Lake(settings.sink.parquet, now), drain, now)


async def run_iceberg_sink(settings: Settings, drain: bool, now: Callable[[], float] = time.time) -> None:
    """The same into tables of Iceberg."""
    from streamer.sink.iceberg import IcebergLake
    from streamer.sink.rows import TABLE_OF_SOURCE

    topics = {TABLE_OF_SOURCE[source.name]: source.topic for source in sources_of(settings)}
    await _copy_rows(settings, IcebergLake(settings.sink.iceberg, topics, now), drain, now)


async def _copy_rows(settings: Settings, store: RowStore, drain: bool, now: Callable[[], float]) -> None:
    async with store:
        since_ms, now_ms = store.behind_since_ms, int(now() * 1000)
        if since_ms is not None and now_ms - since_ms > settings.sink.rebuild_after_s * 1000:
            log.warning("tombstones_may_be_gone", behind_s=(now_ms - since_ms) // 1000)
            await check_brokers(settings.kafka)
            store.catch_up(await _every_erasure(settings), now_ms)
        await _copy(settings, store, store.name, None, drain, now)


async def _every_erasure(settings: Settings) -> list[Erasure]:
    from streamer.sink.lake_manifest import Erasure

    found = []
    async for record in records(settings.kafka, settings.topics.erasures, timeout_s=_NO_MORE_S):
        erased = erased_by(record.value)
        if erased is not None:
            table = "users" if erased.visitor_id is None else "sessions"
            key = erased.visitor_id or erased.user_id or ""
            found.append(Erasure(table, key, None, record.offset, record.timestamp))
    return found


async def verify_lake(settings: Settings, now: Callable[[], float] = time.time) -> Found:
    """Whether the Parquet files are whole, and have nothing of whom the topics' tombstones erase. Raises
    StreamerError."""
    from streamer.sink.lake_verify import looked_through

    assert settings.sink.parquet.folder is not None
    return looked_through(settings.sink.parquet.folder, await _tombstones(settings, now))


async def verify_iceberg(settings: Settings, now: Callable[[], float] = time.time) -> Found:
    """The same of the tables."""
    from streamer.sink.iceberg import looked_through

    return looked_through(settings.sink.iceberg, await _tombstones(settings, now))


async def _tombstones(settings: Settings, now: Callable[[], float]) -> list[Erasure]:
    from streamer.sink.lake_verify import Tombstones

    tombstones = Tombstones()
    await _copy(settings, tombstones, "none: only tombstones are read", None, True, now)
    return tombstones.erasures


async def _copy(
    settings: Settings,
    store: Store,
    place: str,
    share: frozenset[int] | None,
    drain: bool,
    now: Callable[[], float],
) -> None:
    metrics, sources = SinkMetrics(now), sources_of(settings)
    copier = Copier(settings, sources, store, metrics, now)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, copier.stop)
    await check_brokers(settings.kafka)
    await check_permissions(settings.kafka, acls_of("server", settings))
    health = HealthServer(metrics.registry, list, copier.not_ready)
    if settings.sink.metrics_port:
        await health.start(settings.sink.metrics_port)
    log.info("copying", store=place, views=[source.name for source in sources])
    try:
        has_drained = await copier.run(share, drain)
    finally:
        await health.stop()
    log.info("copying_ended", **metrics.totals())
    if drain and not has_drained:
        raise SinkError(
            "stopped by a signal before everything was copied: run the command again to copy the rest"
        )

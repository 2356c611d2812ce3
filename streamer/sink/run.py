"""Running a sink: from settings to its end."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable

import structlog

from streamer.kafka.acls import acls_of
from streamer.kafka.permissions import check_permissions
from streamer.kafka.reach import check_brokers
from streamer.settings import Settings
from streamer.sink.copier import Copier, SinkError
from streamer.sink.metrics import SinkMetrics
from streamer.sink.redis_store import RedisStore
from streamer.sink.source import sources_of
from streamer.worker.http import HealthServer

_KEEPS_EVERYTHING = "noeviction"

log = structlog.get_logger(__name__)


async def run_redis_sink(
    settings: Settings, share: frozenset[int] | None, drain: bool, now: Callable[[], float] = time.time
) -> None:
    """Copy visitors and customers until SIGTERM or SIGINT, or, to drain, up to the ends of the topics. Raises
    StreamerError, also if it was stopped before it had drained."""
    metrics = SinkMetrics(now)
    async with RedisStore(settings.sink.redis) as store:
        sources = sources_of(settings)
        copier = Copier(settings, sources, store, metrics, now)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, copier.stop)
        await check_brokers(settings.kafka)
        await check_permissions(settings.kafka, acls_of("server", settings))
        policy = await store.check()
        if policy not in ("", _KEEPS_EVERYTHING):
            log.warning("store_forgets", maxmemory_policy=policy, expected=_KEEPS_EVERYTHING)
        health = HealthServer(metrics.registry, list, copier.not_ready)
        if settings.sink.metrics_port:
            await health.start(settings.sink.metrics_port)
        log.info("copying", store=settings.sink.redis.url, views=[source.name for source in sources])
        try:
            has_drained = await copier.run(share, drain)
        finally:
            await health.stop()
        log.info("copying_ended", **metrics.totals())
        if drain and not has_drained:
            raise SinkError(
                "stopped by a signal before everything was copied: run the command again to copy the rest"
            )

"""A worker's health and metrics over HTTP: /livez, /readyz, /metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

log = structlog.get_logger(__name__)

Reasons = Callable[[], list[str]]
"""What speaks against it; empty: nothing."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HealthServer:
    """Serves on all interfaces, as orchestrators and scrapers expect."""

    def __init__(self, registry: CollectorRegistry, not_live: Reasons, not_ready: Reasons) -> None:
        app = web.Application()
        app.add_routes(health_routes(registry, not_live, not_ready))
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self, port: int) -> None:
        """A port that is taken costs health checks and metrics, not the work."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, port=port).start()
        except OSError as error:
            log.warning("no_health_server", port=port, error=error.strerror)

    async def stop(self) -> None:
        await self._runner.cleanup()


def health_routes(registry: CollectorRegistry, not_live: Reasons, not_ready: Reasons) -> list[web.RouteDef]:
    """/livez, /readyz and /metrics."""
    return [
        web.get("/livez", _answer(not_live)),
        web.get("/readyz", _answer(not_ready)),
        web.get("/metrics", _metrics(registry)),
    ]


def _answer(reasons: Reasons) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        against = reasons()
        return web.json_response({"ok": not against, "reasons": against}, status=503 if against else 200)

    return answer


def _metrics(registry: CollectorRegistry) -> Handler:
    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return metrics

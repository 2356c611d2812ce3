"""Running the look-up service: from settings to its end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import orjson
import structlog
from aiohttp import web

from streamer import __version__
from streamer.errors import StreamerError, UsageError
from streamer.kafka.acls import acls_of
from streamer.kafka.client import server_ssl_context
from streamer.kafka.permissions import check_permissions
from streamer.kafka.reach import check_brokers
from streamer.kafka.topics import find_topic
from streamer.schemas.click import MAX_ID_BYTES
from streamer.serving.access import Access, is_loopback, parsed_tokens
from streamer.serving.answers import SERVER
from streamer.serving.direct import DirectConnections
from streamer.serving.lookup_log import LookupLog
from streamer.serving.lookups import Collection, LookUps
from streamer.serving.metrics import ServingMetrics
from streamer.serving.openapi import document
from streamer.serving.problems import refusals_as_problems
from streamer.serving.records import RecordView, UserRecordView, VisitorRecordView
from streamer.settings import ServeSettings, Settings
from streamer.worker.http import HealthServer, health_routes

if TYPE_CHECKING:
    from streamer.serving.neighbours import FollowedNeighbours

_SWITCH_S = 0.0005
"""How long the threads that read the topics may hold the interpreter while a request waits for it."""
_LOOK_S = 0.5
_END_WITHIN_S = 10
"""For requests that are under way when the port is closed."""
_DAY_S = 86_400
_VIEWS: Mapping[str, type[RecordView]] = {"visitors": VisitorRecordView, "users": UserRecordView}

log = structlog.get_logger(__name__)


class PortError(StreamerError):
    """The service can't listen there."""


class LookUpService:
    """The views and what is known of them."""

    def __init__(self, settings: Settings, share: frozenset[int] | None, now: Callable[[], float]) -> None:
        """`share`: the partitions that are held; None: all. `now`: seconds since 1970. Raises UsageError for
        tokens that are none."""
        self.is_stopping = False
        self._serve = serve = settings.serve
        self._now = now
        self._views = {
            name: _VIEWS[name](settings, ttl_s=settings.serve.ttl_days * _DAY_S, now=now, partitions=share)
            for name in settings.looked_up
        }
        self._neighbours = _neighbours_of(self._views) if settings.serve.similar else {}
        self._log = LookupLog(settings, now) if settings.serve.log_lookups else None
        self.metrics = ServingMetrics(self._views, self._neighbours, self._log)
        tokens = parsed_tokens(serve.tokens.get_secret_value() if serve.tokens else None)
        access = Access(tokens, serve.rate_limit)
        self._needs_token = bool(tokens)
        self._look_ups = {
            name: LookUps(
                Collection(name, view, share, self._neighbours.get(name), self._log),
                access,
                self.metrics,
                serve.max_batch,
                now,
            )
            for name, view in self._views.items()
        }

    def app(self) -> web.Application:
        """The HTTP application."""
        serve = self._serve
        app = web.Application(
            middlewares=[refusals_as_problems], client_max_size=_largest_body(serve.max_batch)
        )
        app.add_routes(health_routes(self.metrics.registry, list, self.not_ready))
        for look_ups in self._look_ups.values():
            app.add_routes(look_ups.routes())
        described = orjson.dumps(
            document(self._views, __version__, serve.max_batch, self._needs_token, serve.similar)
        )

        async def openapi(_: web.Request) -> web.Response:
            return web.Response(body=described, content_type="application/json")

        app.router.add_get("/openapi.json", openapi)
        app.on_response_prepare.append(self._name_ourselves)
        return app

    def connections(self, others: Callable[[], asyncio.Protocol]) -> DirectConnections:
        """What listens: look-ups are answered at once, and all else by `others`, aiohttp's side."""
        look_ups = {name.encode(): each.one for name, each in self._look_ups.items()}
        return DirectConnections(look_ups, others, lambda: self.is_stopping, self._now)

    async def _name_ourselves(self, _: web.Request, response: web.StreamResponse) -> None:
        response.headers["Server"] = SERVER
        if self.is_stopping:
            response.headers["Connection"] = "close"
            response.force_close()

    def start(self) -> None:
        """Begin to read the topics."""
        for view in self._views.values():
            view.start()
        for neighbours in self._neighbours.values():
            neighbours.start()
        if self._log is not None:
            self._log.start()

    def stop(self) -> None:
        """Returns once nothing is read any more."""
        for neighbours in self._neighbours.values():
            neighbours.stop()
        if self._log is not None:
            self._log.stop()
        for view in self._views.values():
            view.stop()

    @property
    def is_ready(self) -> bool:
        """Whether every view was read to the end of its topic, and indexed where who is similar may be asked.
        Raises what ended one."""
        ready = [view.is_ready for view in self._views.values()]
        complete = [each.is_complete for each in self._neighbours.values()]
        return all(ready) and all(complete)

    @property
    def records(self) -> dict[str, int]:
        """In memory, by view."""
        return {name: len(view) for name, view in self._views.items()}

    def not_ready(self) -> list[str]:
        """What speaks against sending requests here; empty: nothing."""
        if self.is_stopping:
            return ["stopping"]
        reasons = []
        for name, view in self._views.items():
            if not view.is_ready:
                reasons.append(f"the view of {name} is still being read")
            elif view.age_s > self._serve.max_age_s:
                reasons.append(f"no broker has answered for {view.age_s:.0f} s about {name}")
            elif name in self._neighbours and not self._neighbours[name].is_complete:
                reasons.append(f"who of the {name} is similar is still being indexed")
        return reasons


async def run_service(
    settings: Settings, share: frozenset[int] | None, now: Callable[[], float] = time.time
) -> None:
    """Answer until SIGTERM or SIGINT, then for `serve.drain_s` more. Raises StreamerError."""
    serve = settings.serve
    check_exposure(serve)
    tls = server_ssl_context(serve, "serve")
    service = LookUpService(settings, share, now)
    runner = web.AppRunner(service.app(), access_log=None, shutdown_timeout=_END_WITHIN_S)
    health = HealthServer(service.metrics.registry, list, service.not_ready)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await check_brokers(settings.kafka)
    await check_permissions(settings.kafka, acls_of("server", settings))
    for topic in settings.of_lookups:
        await find_topic(settings.kafka, topic)  # raises if there is none
    sys.setswitchinterval(_SWITCH_S)
    await runner.setup()
    assert runner.server is not None
    connections = service.connections(runner.server)
    listening: asyncio.Server | None = None
    service.start()
    try:
        try:
            listening = await asyncio.get_running_loop().create_server(
                connections, serve.host, serve.port, ssl=tls
            )
        except OSError as error:
            raise PortError(
                f"can't listen on {serve.host}:{serve.port} ({error.strerror}): "
                "check serve.host and serve.port"
            ) from None
        if serve.metrics_port:
            await health.start(serve.metrics_port)
        scheme = "http" if tls is None else "https"
        log.info("serving", address=f"{scheme}://{serve.host}:{serve.port}", views=list(service.records))
        await _until_stopped(service, stop)
        service.is_stopping = True
        log.info("serving_ends", within_s=serve.drain_s)
        await asyncio.sleep(serve.drain_s)
    finally:
        if listening is not None:
            listening.close()
        connections.close()
        await runner.cleanup()
        await health.stop()
        await asyncio.to_thread(service.stop)
    log.info("serving_ended")


def _neighbours_of(views: Mapping[str, RecordView]) -> dict[str, FollowedNeighbours]:
    from streamer.serving.neighbours import FollowedNeighbours

    return {name: FollowedNeighbours(view) for name, view in views.items()}


def check_exposure(serve: ServeSettings) -> None:
    """Raises UsageError where anybody on the network could look people up and nobody has allowed it."""
    if is_loopback(serve.host) or serve.tokens or serve.ssl_ca_location or serve.anonymous:
        return
    raise UsageError(
        f"serve.host = {serve.host}: others than this machine could look people up. Set serve.tokens_file or "
        "serve.ssl_ca_location, or serve.anonymous = true where the network lets in only those who may"
    )


async def _until_stopped(service: LookUpService, stop: asyncio.Event) -> None:
    """Raises what ends a view."""
    reported = False
    begun = time.monotonic()
    while not stop.is_set():
        if service.is_ready and not reported:
            reported = True
            # What is there stays: the collector need not look at it again and again.
            gc.collect()
            gc.freeze()
            log.info("ready", seconds=round(time.monotonic() - begun, 1), **service.records)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _LOOK_S)


def _largest_body(max_batch: int) -> int:
    """Bytes of a batch at most, every byte of an id written as a JSON escape."""
    return 1024 + max_batch * (6 * MAX_ID_BYTES + 8)

"""Running the live page: from settings to its end."""

from __future__ import annotations

import asyncio
import re
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import quote

import uvicorn
from fastapi import FastAPI
from nicegui import app as pages
from nicegui import ui

from streamer.errors import UsageError
from streamer.kafka.start import Start
from streamer.models.bundle import Bundle, load_bundle
from streamer.replay.options import bundles_of
from streamer.serving.access import is_loopback
from streamer.serving.server import PortError
from streamer.settings import Settings, UiSettings
from streamer.ui.details import draw_customer, draw_session, draw_unknown, draw_visitor
from streamer.ui.feed import Feed
from streamer.ui.frame import frame
from streamer.ui.gate import QUERY, Gate
from streamer.ui.intents import IntentsPage
from streamer.ui.live import LivePage
from streamer.ui.map import MapPage
from streamer.ui.projection import Projection
from streamer.ui.state import PageState
from streamer.ui.why import Explainer

_TOKEN = re.compile(r"[A-Za-z0-9._~-]{16,}")
_END_WITHIN_S = 2


def check_exposure(own: UiSettings) -> None:
    """Raises UsageError where the page would be seen from elsewhere and nobody has chosen a token."""
    token = own.token.get_secret_value() if own.token else None
    if token is None and not is_loopback(own.host):
        raise UsageError(
            f"ui.host = {own.host}: others than this machine reach the page then: set ui.token_file"
        )
    if token is not None and _TOKEN.fullmatch(token) is None:
        raise UsageError(
            f"ui.token: {len(token)} characters that are no token, expected 16 or more letters, digits, -._~"
        )


async def run_page(
    settings: Settings,
    start: Start,
    say: Callable[[str], None],
    now: Callable[[], float] = time.time,
) -> None:
    """Show the page until SIGTERM or SIGINT. `say` gets its link. Raises StreamerError, BundleError."""
    own = settings.ui
    check_exposure(own)
    (path,) = bundles_of([], settings)
    bundle = await asyncio.to_thread(load_bundle, path)
    projection = Projection.of(bundle.prototypes) if bundle.prototypes else None
    feed = Feed(settings, PageState(), start, now, projection)
    draw_pages(feed, bundle, Explainer(settings, bundle), lambda: int(now() * 1000))
    following = [asyncio.create_task(feed.follow()), asyncio.create_task(feed.follow_health())]
    try:
        await serve_pages(own, "live page", say)
    finally:
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)


async def serve_pages(own: UiSettings, name: str, say: Callable[[str], None]) -> None:
    """Serve what has been drawn until SIGTERM or SIGINT; `say` gets its name and link. Raises PortError."""
    token = own.token.get_secret_value() if own.token else secrets.token_urlsafe(24)
    listening = _listen(own)
    port = listening.getsockname()[1]
    # The bar over a page that loads something is a progress bar without a name for screen readers.
    pages.config.quasar_config["loadingBar"]["skipHijack"] = True
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    ui.run_with(
        app,
        title="clicks to intent",
        language="en-US",
        message_history_length=0,  # who was cut off gets the page anew, and we need not keep what they missed
        show_welcome_message=False,
    )
    server = _Server(
        uvicorn.Config(
            Gate(app, token, f"streamer_ui_{port}"),
            access_log=False,
            log_level="warning",
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_END_WITHIN_S,
        )
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, server.stop)
    say(f"{name}: http://{_host_in_link(own.host)}:{port}/?{QUERY}={quote(token, safe='')}")
    await server.serve(sockets=[listening])


def draw_pages(feed: Feed, bundle: Bundle, explainer: Explainer, now_ms: Callable[[], int]) -> None:
    """Every page by its path."""
    state = feed.state

    @ui.page("/")
    def live() -> None:
        with frame("Live", feed, "/"):
            LivePage(feed, now_ms)

    @ui.page("/map")
    def session_map() -> None:
        with frame("Map", feed, "/map"):
            MapPage(feed)

    @ui.page("/intents")
    def intents() -> None:
        with frame("Intents", feed, "/intents"):
            IntentsPage(feed, bundle, now_ms)

    @ui.page("/sessions/{session_id:path}")
    def session(session_id: str) -> None:
        with frame("Session", feed):
            draw_session(state, explainer, session_id)

    @ui.page("/visitors/{visitor_id:path}")
    def visitor(visitor_id: str) -> None:
        with frame("Visitor", feed):
            draw_visitor(state, visitor_id)

    @ui.page("/customers/{user_id:path}")
    def customer(user_id: str) -> None:
        with frame("Customer", feed):
            draw_customer(state, user_id)

    @ui.page("/find/{text:path}")
    def find(text: str) -> None:
        with frame("Find", feed):
            if state.find_session(text):
                draw_session(state, explainer, text)
            elif state.find_customer(text):
                draw_customer(state, text)
            elif state.sessions_of(text):
                draw_visitor(state, text)
            else:
                draw_unknown("visitor, customer or session", text)


def _listen(own: UiSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in own.host else socket.AF_INET
    try:
        return socket.create_server((own.host, own.port), family=family)
    except OSError as error:
        raise PortError(
            f"can't listen on {own.host}:{own.port} ({error.strerror}): check ui.host and ui.port"
        ) from None


def _host_in_link(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class _Server(uvicorn.Server):
    """Ended by `stop` alone: signals are ours."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        self.should_exit = True

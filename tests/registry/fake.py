"""A registry that says what a test wants it to: what a real one says only in trouble."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from streamer.kafka.ports import LOOPBACK, free_ports
from streamer.settings import RegistrySettings

Answer = tuple[int, Any]


class FakeRegistry:
    """Answers by path; 404 elsewhere. `asked` has the requests."""

    def __init__(self, answers: Mapping[str, Answer | Callable[[], Answer]]) -> None:
        self.answers = dict(answers)
        self.asked: list[web.Request] = []
        self.port = free_ports(1)[0]

    def settings(self, **more: Any) -> RegistrySettings:
        return RegistrySettings(url=f"http://{LOOPBACK}:{self.port}", **more)

    @asynccontextmanager
    async def running(self, context: ssl.SSLContext | None = None) -> AsyncIterator[FakeRegistry]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, LOOPBACK, self.port, ssl_context=context).start()
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append(request)
        found = self.answers.get(request.match_info["path"], (404, {"error_code": 40403, "message": "none"}))
        status, content = found() if callable(found) else found
        if isinstance(content, str):
            return web.Response(status=status, text=content, content_type="text/html")
        return web.json_response(content, status=status)

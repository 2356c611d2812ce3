"""An answer before it goes out: through aiohttp, or straight to a connection."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from http.client import responses
from typing import Final, NamedTuple

from aiohttp import web

SERVER: Final = "streamer"
"""What the header `Server` says: not which versions of what run here."""
_HTTP_DATE = lru_cache(maxsize=1)(lambda seconds: formatdate(seconds, usegmt=True))


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    """Our own: nothing in them is a caller's."""
    body: bytes = b""

    def response(self) -> web.Response:
        """For aiohttp."""
        return web.Response(body=self.body, status=self.status, headers=self.headers)

    def message(self, now_s: float) -> bytes:
        """As a connection takes it (RFC 9112). `now_s`: seconds since 1970."""
        lines = [
            f"HTTP/1.1 {self.status} {responses[self.status]}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
            f"Date: {_HTTP_DATE(int(now_s))}",
            f"Server: {SERVER}",
        ]
        if self.status != HTTPStatus.NOT_MODIFIED:  # which has no content, and the length would be another's
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "\r\n"]).encode() + self.body

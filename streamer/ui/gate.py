"""Lets in who has the token, before anything else of the page is reached.

A link with the token sets a cookie and leads to the same page without it, so that the token stays in no
address bar. A WebSocket of another origin is refused: pages of other local servers share our cookies.
"""

from __future__ import annotations

import html
import secrets
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

QUERY = "token"
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; frame-ancestors 'none'; form-action 'self'; base-uri 'none'"
)
"""Everything comes from here. Vue compiles the templates of tables in the browser, hence unsafe-eval."""
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
_REFUSAL = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>Token needed</title>
<style>body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 10vh auto; padding: 0 1rem }}
input, button {{ font: inherit; padding: .4rem .6rem }}</style></head>
<body><main><h1>{title}</h1><p>{text}</p>
<form><label for="token">Token</label><br>
<input id="token" name="token" type="password" autocomplete="off" required autofocus>
<button>Open</button></form></main></body></html>
"""


class Gate:
    """An ASGI application around the page's own."""

    def __init__(self, app: Any, token: str, cookie: str) -> None:
        """`cookie`: its name; pages on other ports of this machine need others."""
        self.app = app
        self._token = token
        self._cookie = cookie

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): v.decode("latin-1") for name, v in scope["headers"]}
        if scope["type"] == "websocket":
            if self._knows(headers) and _is_own_origin(headers):
                await self.app(scope, receive, send)
            else:
                await receive()
                await send({"type": "websocket.close", "code": 1008})
            return
        given = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        tokens = [value for name, value in given if name == QUERY]
        if tokens and self._is_right(tokens[-1]):
            await self._enter(scope, [pair for pair in given if pair[0] != QUERY], send)
        elif not self._knows(headers):
            await _refuse(send, is_wrong=bool(tokens))
        else:
            await self.app(scope, receive, _with_headers(send))

    def _is_right(self, token: str) -> bool:
        return secrets.compare_digest(token.encode(), self._token.encode())

    def _knows(self, headers: dict[str, str]) -> bool:
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return False
        return morsel is not None and self._is_right(morsel.value)

    async def _enter(self, scope: Any, query: list[tuple[str, str]], send: Any) -> None:
        # One slash at the beginning: //elsewhere would lead to another host.
        path = quote("/" + scope["path"].lstrip("/"))
        location = f"{path}?{urlencode(query)}" if query else path
        cookie = f"{self._cookie}={self._token}; HttpOnly; SameSite=Lax; Path=/"
        await _answer(send, 303, b"", (b"location", location.encode()), (b"set-cookie", cookie.encode()))


def _is_own_origin(headers: dict[str, str]) -> bool:
    """Browsers send Origin with every WebSocket; who sends none is no browser."""
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host")


async def _refuse(send: Any, *, is_wrong: bool) -> None:
    title = "This is not the token" if is_wrong else "This page needs its token"
    text = (
        "It is in the link that was printed at the start, or the setting ui.token. A token that was not set"
        " is a new one after each start."
    )
    body = _REFUSAL.format(title=title, text=html.escape(text)).encode()
    await _answer(send, 403, body, (b"content-type", b"text/html; charset=utf-8"))


async def _answer(send: Any, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    own = (*_HEADERS, (b"cache-control", b"no-store"), *headers)
    await send({"type": "http.response.start", "status": status, "headers": own})
    await send({"type": "http.response.body", "body": body})


def _with_headers(send: Any) -> Any:
    async def sent(message: Any) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_HEADERS]
        await send(message)

    return sent

"""Connections on which a look-up of one record is answered as soon as it is read, and all else by aiohttp.

aiohttp takes more CPU for a request than a look-up does, and the busier a core is, the later it recovers
from a delay.

- Answered here is what comes whole and alone: `GET /v1/NAME/{id}` of HTTP/1.1, without a body, on a
  connection that stays. At the first bytes that are anything else, the connection is aiohttp's for good: what
  is read next may belong to what they began.
- httptools reads the heads; nothing here parses HTTP.
- A caller who doesn't read their answers isn't read either.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import httptools
from multidict import CIMultiDict

from streamer.serving.answers import Answer
from streamer.serving.problems import answer_to

IDLE_S: Final = 3630.0
"""How long a connection may be silent, as with aiohttp: longer than proxies keep one."""
_LONGEST = 8190
"""Bytes of a head, aiohttp's limit for each line of it."""
_LOOK_UP = re.compile(rb"/v1/([a-z]+)/([^\x00-\x20/?#\x7f-\xff]+)(?:\?([^\x00-\x20#\x7f-\xff]*))?")
_END = b"\r\n\r\n"


class LookUp(Protocol):
    """Answers about one record; raises for any other answer."""

    def __call__(self, encoded_id: str, query: str, headers: Mapping[str, str]) -> Answer: ...


class DirectConnections:
    """Makes them, and ends them."""

    def __init__(
        self,
        look_ups: Mapping[bytes, LookUp],
        others: Callable[[], asyncio.Protocol],
        is_stopping: Callable[[], bool],
        now: Callable[[], float],
        idle_s: float = IDLE_S,
    ) -> None:
        """`look_ups`: by the name in the path. `others`: aiohttp's side of a connection, which has all of
        them while the service is stopping. `now`: seconds since 1970."""
        self.look_ups = look_ups
        self.others = others
        self.is_stopping = is_stopping
        self.now = now
        self.idle_s = idle_s
        self.open: set[_Connection] = set()

    def __call__(self) -> asyncio.Protocol:
        return _Connection(self)

    def close(self) -> None:
        """End those that aiohttp doesn't have."""
        for connection in list(self.open):
            connection.close()


class _Connection(asyncio.Protocol):
    def __init__(self, connections: DirectConnections) -> None:
        self._all = connections
        self._parser = httptools.HttpRequestParser(self)
        self._complete = 0
        """Requests of the bytes that came last."""
        self._stays = False
        """Whether the caller keeps the connection."""
        self._target = b""
        self._headers: CIMultiDict[str] = CIMultiDict()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._timer = self._loop.call_later(self._all.idle_s, self._close_if_idle)
        self._all.open.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        self._leave()

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        answer = self._answer(data)
        if answer is not None:
            self._heard_at = self._loop.time()
            self._transport.write(answer.message(self._all.now()))
            return
        self._leave()
        other = self._all.others()
        self._transport.set_protocol(other)
        other.connection_made(self._transport)
        other.data_received(data)

    def close(self) -> None:
        """What was answered is sent before."""
        self._transport.close()

    def _answer(self, data: bytes) -> Answer | None:
        """None: it is aiohttp's."""
        if self._all.is_stopping() or len(data) > _LONGEST or data.find(_END) != len(data) - len(_END):
            return None
        self._complete = 0
        self._headers = CIMultiDict()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            return None
        parser, asked = self._parser, _LOOK_UP.fullmatch(self._target)
        if (
            self._complete != 1
            or parser.get_method() != b"GET"
            or parser.get_http_version() != "1.1"
            or not self._stays
            or asked is None
            or "Content-Length" in self._headers
            or "Expect" in self._headers
        ):
            return None
        look_up = self._all.look_ups.get(asked[1])
        if look_up is None:
            return None
        try:
            return look_up(asked[2].decode(), (asked[3] or b"").decode(), self._headers)
        except Exception as error:
            return answer_to(error)

    def on_url(self, target: bytes) -> None:
        """For the parser, as those that follow."""
        self._target = target

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.add(name.decode(), value.decode(errors="surrogateescape"))

    def on_headers_complete(self) -> None:
        self._stays = self._parser.should_keep_alive()  # which is known now only

    def on_message_complete(self) -> None:
        self._complete += 1

    def _close_if_idle(self) -> None:
        left = self._heard_at + self._all.idle_s - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._close_if_idle)
        else:
            self._transport.abort()  # whoever doesn't read would be waited for

    def _leave(self) -> None:
        self._timer.cancel()
        self._all.open.discard(self)

"""What is answered at once on a connection, and what is left to aiohttp's side of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from streamer.serving.answers import Answer
from streamer.serving.direct import IDLE_S, DirectConnections
from streamer.serving.problems import ERASED, Refusal
from tests.worker.live import wait_until

LOOK_UP = b"GET /v1/users/u1?space=a HTTP/1.1\r\nHost: h\r\nX-Who: \xff\r\n\r\n"
ANSWER = Answer(200, {"ETag": '"e"'}, b"{}")
PATIENCE_S = 20


class Others(asyncio.Protocol):
    """Keeps what it is given, and answers each piece with `OTHER`."""

    def __init__(self, received: bytearray, lost: asyncio.Event) -> None:
        self._received, self._lost = received, lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, _: Exception | None) -> None:
        self._lost.set()

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._transport.write(b"OTHER")


@dataclass
class Served:
    """A server of look-ups."""

    port: int = 0
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    left: bytearray = field(default_factory=bytearray)
    """What aiohttp's side was given."""
    lost: list[asyncio.Event] = field(default_factory=list)
    """Set when a connection of aiohttp's side has ended."""
    is_stopping: bool = False
    answer: Answer = ANSWER

    def other(self) -> Others:
        self.lost.append(asyncio.Event())
        return Others(self.left, self.lost[-1])

    def look_up(self, encoded_id: str, query: str, headers: Mapping[str, str]) -> Answer:
        self.asked.append((encoded_id, query, headers.get("x-who")))
        if encoded_id == "gone":
            raise Refusal(ERASED)
        if encoded_id == "failing":
            raise ValueError("of the caller")
        return self.answer


@asynccontextmanager
async def served(idle_s: float = IDLE_S) -> AsyncIterator[tuple[Served, DirectConnections]]:
    serves = Served()
    connections = DirectConnections(
        {b"users": serves.look_up},
        serves.other,
        lambda: serves.is_stopping,
        lambda: 1_000_000_000.0,
        idle_s,
    )
    server = await asyncio.get_running_loop().create_server(connections, "127.0.0.1", 0)
    serves.port = server.sockets[0].getsockname()[1]
    try:
        yield serves, connections
    finally:
        server.close()
        connections.close()
        async with asyncio.timeout(PATIENCE_S):
            for lost in serves.lost:
                await lost.wait()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


async def answered(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
    length = next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length: "))
    return head, await reader.readexactly(int(length.split(b" ")[1]))


def test_look_ups_are_answered_one_after_another_on_one_connection() -> None:
    async def run() -> None:
        async with served() as (serves, _), connected(serves.port) as (reader, writer):
            for _ in range(3):
                writer.write(LOOK_UP)
                head, body = await answered(reader)
                assert body == b"{}"
                assert head.split(b"\r\n") == [
                    b"HTTP/1.1 200 OK",
                    b'ETag: "e"',
                    b"Date: Sun, 09 Sep 2001 01:46:40 GMT",
                    b"Server: streamer",
                    b"Content-Length: 2",
                    b"",
                    b"",
                ]
            assert serves.asked == [("u1", "space=a", "\udcff")] * 3
            assert not serves.left

    asyncio.run(run())


def test_a_look_up_has_the_headers_of_its_own_request_only() -> None:
    async def run() -> None:
        async with served() as (serves, _), connected(serves.port) as (reader, writer):
            for request in (LOOK_UP, LOOK_UP.replace(b"X-Who: \xff\r\n", b"")):
                writer.write(request)
                await answered(reader)
            assert [who for _, _, who in serves.asked] == ["\udcff", None]

    asyncio.run(run())


def test_what_a_look_up_raises_is_a_problem() -> None:
    async def run() -> None:
        async with served() as (serves, _), connected(serves.port) as (reader, writer):
            for key, status in ((b"gone", b"410 Gone"), (b"failing", b"500 Internal Server Error")):
                writer.write(LOOK_UP.replace(b"u1", key))
                head, body = await answered(reader)
                assert head.startswith(b"HTTP/1.1 " + status)
                assert b"of the caller" not in body

    asyncio.run(run())


@pytest.mark.parametrize(
    "data",
    [
        LOOK_UP.replace(b"GET", b"HEAD"),
        LOOK_UP.replace(b"GET", b"POST"),
        LOOK_UP.replace(b"HTTP/1.1", b"HTTP/1.0"),
        LOOK_UP.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"X-Who: \xff", b"Connection: keep-alive"),
        LOOK_UP.replace(b"X-Who: \xff", b"Connection: close"),
        LOOK_UP.replace(b"X-Who: \xff", b"Content-Length: 5"),
        LOOK_UP.replace(b"X-Who: \xff", b"Content-Length: 0"),
        LOOK_UP.replace(b"X-Who: \xff", b"Transfer-Encoding: chunked"),
        LOOK_UP.replace(b"X-Who: \xff", b"Expect: 100-continue"),
        LOOK_UP.replace(b"X-Who: \xff", b"Connection: Upgrade\r\nUpgrade: h2c"),
        LOOK_UP.replace(b"X-Who: \xff", b"X-Who: " + b"a" * 8190),
        LOOK_UP.replace(b"X-Who: \xff", b"no header"),
        LOOK_UP.replace(b"\r\n", b"\n"),
        LOOK_UP.replace(b"\r\n\r\n", b"\n\n") + LOOK_UP,
        LOOK_UP.replace(b"users", b"visitors"),
        LOOK_UP.replace(b"u1", b"u1/similar"),
        LOOK_UP.replace(b"u1", b"u1#a"),
        LOOK_UP.replace(b"/v1/users/u1", b"/readyz"),
        LOOK_UP.replace(b"/v1/users/u1", b"http://h/v1/users/u1"),
        LOOK_UP + LOOK_UP,
        LOOK_UP + b"G",
        LOOK_UP[:-1],
        b"G",
        b"GET",
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
    ],
)
def test_the_first_bytes_that_are_no_look_up_alone_leave_the_connection_to_aiohttp(data: bytes) -> None:
    async def run() -> None:
        async with served() as (serves, connections), connected(serves.port) as (reader, writer):
            writer.write(LOOK_UP)
            await answered(reader)
            for sent in (data, LOOK_UP):  # which may be the body of what came before
                writer.write(sent)
                assert await asyncio.wait_for(reader.readexactly(5), PATIENCE_S) == b"OTHER"
            assert serves.left == data + LOOK_UP
            assert len(serves.asked) == 1
            assert not connections.open

    asyncio.run(run())


def test_while_the_service_stops_every_connection_is_aiohttps() -> None:
    async def run() -> None:
        async with served() as (serves, _), connected(serves.port) as (reader, writer):
            serves.is_stopping = True
            writer.write(LOOK_UP)
            assert await asyncio.wait_for(reader.readexactly(5), PATIENCE_S) == b"OTHER"

    asyncio.run(run())


def test_connections_that_are_silent_for_long_are_closed_and_others_are_not() -> None:
    async def run() -> None:
        async with (
            served(idle_s=0.5) as (serves, connections),
            connected(serves.port) as (silent, _),
            connected(serves.port) as (reader, writer),
        ):
            clock = asyncio.get_running_loop().time
            begun = clock()
            while clock() < begun + 1.2:
                writer.write(LOOK_UP)
                await answered(reader)
            assert len(connections.open) == 1
            assert await asyncio.wait_for(silent.read(), PATIENCE_S) == b""
            connections.close()
            assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
            assert not connections.open

    asyncio.run(run())


def test_a_caller_who_does_not_read_is_not_read_until_they_do() -> None:
    async def run() -> None:
        async with served() as (serves, _), connected(serves.port) as (reader, writer):
            serves.answer = Answer(200, {}, b"x" * 100_000)
            sent = 0
            while len(serves.asked) == sent and sent < 1000:
                writer.write(LOOK_UP)
                sent += 1
                for _ in range(200):
                    await asyncio.sleep(0.001)
                    if len(serves.asked) == sent:
                        break
            assert sent < 1000  # of 100 MB, which would wait in memory
            for _ in range(sent):
                assert len((await answered(reader))[1]) == 100_000
            assert len(serves.asked) == sent

    asyncio.run(run())


def test_a_silent_caller_who_does_not_read_is_not_waited_for() -> None:
    async def run() -> None:
        async with served(idle_s=0.5) as (serves, connections):
            serves.answer = Answer(200, {}, b"x" * 50_000_000)
            with socket.create_connection(("127.0.0.1", serves.port)) as caller:
                caller.sendall(LOOK_UP)
                await asyncio.to_thread(wait_until, lambda: serves.asked and not connections.open, PATIENCE_S)

    asyncio.run(run())

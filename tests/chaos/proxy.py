"""A TCP proxy that makes a network bad on demand: delay, a slow line, resets, silence."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from dataclasses import dataclass
from typing import Self

CHUNK = 64 * 1024
TICK_S = 0.05
FETCH = b"\x00\x01"
"""The API key of a fetch, behind the four bytes of a request's size."""


@dataclass
class _Connection:
    from_client: asyncio.StreamReader
    fetches: bool = False


class FaultProxy:
    """Forwards a local port to another within its `with` statement. Attributes may be set at any time."""

    def __init__(self, port: int, target: int) -> None:
        self.delay_s = 0.0
        """How late each piece of data arrives, in both directions."""
        self.bytes_per_s = 0.0
        """Rate of each connection and direction; 0: as fast as it goes."""
        self.silent = False
        """Connections stay open and nothing passes."""
        self.fetches_silent = False
        """The same, but only for connections on which a client fetches; all else goes on."""
        self._port, self._target = port, target
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def heal(self) -> None:
        """A good network again."""
        self.delay_s = self.bytes_per_s = 0.0
        self.silent = self.fetches_silent = False

    def reset_all(self) -> None:
        """Break every connection with a TCP reset."""
        self._loop.call_soon_threadsafe(self._reset_all)

    def _reset_all(self) -> None:
        for writer in self._writers:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", self._port)
        self._ready.set()
        await self._stop.wait()
        server.close()
        self._reset_all()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        far_writer = None
        with contextlib.suppress(OSError, asyncio.CancelledError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(far_writer)
            connection = _Connection(reader)
            ways = [
                asyncio.create_task(self._pass_on(reader, far_writer, connection)),
                asyncio.create_task(self._pass_on(far_reader, writer, connection)),
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
        for each in (writer, far_writer):
            if each is not None:
                self._writers.discard(each)
                each.transport.abort()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: _Connection
    ) -> None:
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=64)

        async def receive() -> None:
            while data := await reader.read(CHUNK):
                await pieces.put((self._loop.time(), data))
            await pieces.put((self._loop.time(), b""))

        receiving = asyncio.create_task(receive())
        try:
            while True:
                came_at, data = await pieces.get()
                if not data:
                    return
                await asyncio.sleep(max(0.0, came_at + self.delay_s - self._loop.time()))
                connection.fetches |= reader is connection.from_client and data[4:6] == FETCH
                await self._write(writer, data, connection)
        except OSError:
            return
        finally:
            receiving.cancel()

    async def _write(self, writer: asyncio.StreamWriter, data: bytes, connection: _Connection) -> None:
        while data:
            while self.silent or (self.fetches_silent and connection.fetches):  # noqa: ASYNC110
                await asyncio.sleep(TICK_S)
            portion = len(data)
            if self.bytes_per_s:
                portion = max(1, int(self.bytes_per_s * TICK_S))
                await asyncio.sleep(TICK_S)
            writer.write(data[:portion])
            await writer.drain()
            data = data[portion:]

"""A server that answers each request with the same bytes, whatever it asks: the yardstick of `serving`."""

from __future__ import annotations

import asyncio
import sys


class Answering(asyncio.Protocol):
    """One connection, whose requests have no bodies."""

    def __init__(self, size: int) -> None:
        """`size`: bytes of a body."""
        self._answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
        self._begun = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *heads, self._begun = (self._begun + data).split(b"\r\n\r\n")
        for _ in heads:
            self._transport.write(self._answer)


async def main(port: int, size: int) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Answering(size), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))

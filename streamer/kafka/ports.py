"""TCP ports for local brokers. A free port is only a hint: others may take it meanwhile."""

from __future__ import annotations

import socket
from dataclasses import dataclass

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Ports:
    """A broker's ports. `host`: where it listens for brokers and controllers; clients may be elsewhere."""

    client: int
    internal: int
    controller: int
    host: str = LOOPBACK

    @property
    def internal_address(self) -> str:
        return f"{self.host}:{self.internal}"

    @property
    def controller_address(self) -> str:
        return f"{self.host}:{self.controller}"


def is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a port whose last connections are only timing out counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Different free loopback ports: all are held until all are chosen."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()

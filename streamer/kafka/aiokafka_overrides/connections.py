"""Connections that give a broker up in time: one that doesn't answer, can't be reached, or has gone.

aiokafka waits for `request_timeout_ms` wherever a broker may be frozen: to connect, and for each request.
That has to be long, for a group's members wait in JoinGroup for each other. Here
- a connection is set up within `SETUP_S`, the handshakes included, and in less where the address didn't
  answer the last time: a new client tries its addresses one after another, and a take-over waits for it;
- an address that didn't answer is left alone for `RETRY_AFTER_S`, longer the second time, by all clients:
  aiokafka sets up a client's connections one after another, so that those to other brokers would wait;
- a connection is closed when an answer is due and nothing has come for `SILENT_S`: whoever waits asks another
  broker then. Kafka moves the partitions of a frozen broker after 9 s, its default;
- a broker that goes while it is asked for a coordinator is one that isn't ready: aiokafka's producers ask
  another then, while a connection that breaks would end them, and with them the ownership of a partition.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, AIOKafkaProtocol, CloseReason
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import HeartbeatRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import (
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
)

SETUP_S = 4.0
SETUP_AGAIN_S = (1.0, 2.0)
"""After the first and the second time in a row that an address didn't answer; then `SETUP_S` again, for a
slow network."""
RETRY_AFTER_S = (4.0, 8.0)
SILENT_S = 4.0
_LOOK_EVERY_S = 1.0
_ANSWERED_SOON = {
    request.API_KEY
    for request in (
        AddPartitionsToTxnRequest,
        EndTxnRequest,
        FetchRequest,
        FindCoordinatorRequest,
        HeartbeatRequest,
        InitProducerIdRequest,
        MetadataRequest,
        OffsetCommitRequest,
        OffsetFetchRequest,
        OffsetRequest,
        ProduceRequest,
    )
}
"""Requests that a broker answers at once, or within the half second of a fetch. A write may take longer while
a replica is down; sent again it is the same write, for our producers are idempotent."""

_connect = AIOKafkaConnection.connect
_coordinator_lookup = AIOKafkaClient.coordinator_lookup
_left_alone: dict[tuple[str, int], tuple[int, float]] = {}
"""By address: how often in a row it didn't answer, and until when it is left alone (monotonic seconds)."""


class ObservedProtocol(AIOKafkaProtocol):
    """Notes when bytes came."""

    heard_at = 0.0
    """Monotonic seconds."""

    def data_received(self, data: bytes) -> None:
        self.heard_at = time.monotonic()
        super().data_received(data)


async def connect_in_time(connection: AIOKafkaConnection) -> Any:
    """In place of `AIOKafkaConnection.connect`. Raises what that raises, and TimeoutError."""
    address = (connection.host, connection.port)
    failures, until = _left_alone.get(address, (0, 0.0))
    if time.monotonic() < until:
        raise TimeoutError("it didn't answer a moment ago")
    allowed = SETUP_AGAIN_S[failures - 1] if 1 <= failures <= len(SETUP_AGAIN_S) else SETUP_S
    try:
        async with asyncio.timeout(min(allowed, connection._request_timeout)):
            streams = await _connect(connection)
    except TimeoutError:
        wait = RETRY_AFTER_S[min(failures, len(RETRY_AFTER_S) - 1)]
        _left_alone[address] = (failures + 1, time.monotonic() + wait)
        raise
    _left_alone.pop(address, None)
    _look_again(weakref.ref(connection), None, 0.0)
    return streams


async def coordinator_lookup(client: AIOKafkaClient, kind: int, key: str) -> Any:
    """In place of `AIOKafkaClient.coordinator_lookup`. Raises what that raises, but NodeNotReadyError where
    the connection breaks."""
    try:
        return await _coordinator_lookup(client, kind, key)
    except KafkaConnectionError as error:
        raise NodeNotReadyError(str(error)) from error


def _look(reference: weakref.ref[Any], due: int | None, due_since: float) -> None:
    """Close a connection that has been silent for too long. `due`: the request that was the oldest at the
    last look, which was the oldest since `due_since`."""
    connection = reference()
    if connection is None or connection._writer is None:
        return
    now = time.monotonic()
    oldest = connection._requests[0] if connection._requests else None
    if oldest is None or oldest[0] != due:
        due, due_since = (oldest[0], now) if oldest is not None else (None, now)
    elif oldest[1] is not None and oldest[1].API_KEY in _ANSWERED_SOON:
        quiet_since = max(due_since, connection._protocol.heard_at)
        is_sent = not connection._writer.transport.get_write_buffer_size()
        if is_sent and now - quiet_since > SILENT_S:
            connection.close(reason=CloseReason.CONNECTION_TIMEOUT)
            return
    _look_again(reference, due, due_since)


def _look_again(reference: weakref.ref[Any], due: int | None, due_since: float) -> None:
    asyncio.get_running_loop().call_later(_LOOK_EVERY_S, _look, reference, due, due_since)


def close_connections_that_uvloop_finds_broken() -> None:
    """Close a connection that the other side has reset, whatever error says so.

    aiokafka expects OSError of a write to it; uvloop raises RuntimeError, which ends the tasks that fetch,
    send and keep the membership (aiokafka issue 1038).
    """
    for name in ("send", "_send_sasl_token"):
        setattr(AIOKafkaConnection, name, _closing(getattr(AIOKafkaConnection, name)))


def _closing(send: Callable[..., Any]) -> Callable[..., Any]:
    def send_or_close(connection: AIOKafkaConnection, *arguments: Any, **options: Any) -> Any:
        try:
            return send(connection, *arguments, **options)
        except RuntimeError as error:
            connection.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"connection broken: {error}") from error

    return send_or_close

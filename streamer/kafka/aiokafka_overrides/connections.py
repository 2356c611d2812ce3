"""Connections that another event loop than asyncio's own reports as broken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError


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

"""The event loop of a worker process: uvloop where it is installed, for less CPU a click."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import mode.loop
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError

from streamer.settings import KafkaSettings


def run(work: Coroutine[Any, Any, None], kafka: KafkaSettings) -> None:
    """As `asyncio.run`. Faust's consumer thread gets a loop of the same kind.

    Over TLS that is asyncio's own: with uvloop 0.23 brokers' answers to some requests aren't seen before the
    request times out, in a quarter of all starts.
    """
    if not kafka.uses_tls:
        with contextlib.suppress(ImportError):  # there is none for Windows
            mode.loop.use("uvloop")
            notice_broken_connections()
    asyncio.run(work)


def notice_broken_connections() -> None:
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

"""Our own cancellations, kept apart from the client library's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from aiokafka.errors import KafkaConnectionError


@contextlib.contextmanager
def only_ours() -> Iterator[None]:
    """Within it a CancelledError that nobody asked this task for becomes a KafkaConnectionError.

    aiokafka cancels whoever waits on a connection that it closes. Taken for a real cancellation, that would
    end a service's task without a word.
    """
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise KafkaConnectionError("the client gave up a request") from None

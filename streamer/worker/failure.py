"""The error that ends a worker: the first one that it can't go on after."""

from __future__ import annotations

import asyncio

from aiokafka.errors import KafkaError

from streamer.errors import StreamerError
from streamer.kafka.permissions import refusal
from streamer.pipeline.dead_letter_limit import TooManyDeadLetters


class DeadLetterLimitError(StreamerError):
    """Going on would dead-letter what a bad deploy, here or at a producer, made unreadable."""


def too_many(limit: TooManyDeadLetters) -> DeadLetterLimitError:
    """The error that ends a worker at that limit."""
    return DeadLetterLimitError(
        f"{limit}. What came before is committed, this record isn't read yet. 'streamer dlq ls' says what is "
        "wrong: mend the producer or the settings, or raise the limit to go on"
    )


class Failure:
    """Whoever meets such an error reports it here; whoever runs the worker waits for `reported`."""

    def __init__(self, app_id: str) -> None:
        self.reported: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Gets the first error as its exception."""
        self._app_id = app_id

    def report(self, error: BaseException) -> None:
        """The worker has to end with this error, unless another came before."""
        if not self.reported.done():
            self.reported.set_exception(error)

    def report_if_refused(self, error: KafkaError) -> None:
        """Of what brokers answer, only a missing permission ends the worker: everything else may pass."""
        refused = refusal(error, f"work for {self._app_id}")
        if refused is not None:
            self.report(refused)

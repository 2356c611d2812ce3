"""What brokers answer to a consumer's fetches, and when each fetch was sent."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition


class FetchAnswer(NamedTuple):
    """One partition's part of an answered fetch."""

    tp: TopicPartition
    offset: int
    """The offset that was asked for."""
    position: int
    """The consumer's position after the answer."""
    end: int
    """The high watermark."""
    stable_end: int
    """The last stable offset: where the first open transaction begins, or `end` if there is none."""
    sent_at: float
    """Monotonic seconds at which the fetch was sent."""


def observe_answers(consumer: AIOKafkaConsumer, observe: Callable[[FetchAnswer], None]) -> None:
    """Report every answered fetch of this consumer, which has been started.

    aiokafka treats a fetch that failed like an empty one; here only an answer counts: aiokafka sets the time
    of a partition's state when the broker has answered for it, and at no other moment.
    """
    fetcher = consumer._fetcher
    proceed = fetcher._proc_fetch_request

    async def fetch_and_observe(assignment: Any, node_id: int, request: Any) -> Any:
        sent_at = time.monotonic()
        states = _states(assignment, request) if assignment.active else {}
        for _, state in states.values():
            state.timestamp = None
        result = await proceed(assignment, node_id, request)
        if assignment.active:
            for tp, (offset, state) in states.items():
                if state.timestamp is None or not state.has_valid_position:
                    continue
                observe(FetchAnswer(tp, offset, state.position, state.highwater, state.lso, sent_at))
        return result

    fetcher._proc_fetch_request = fetch_and_observe


def _states(assignment: Any, request: Any) -> dict[TopicPartition, tuple[int, Any]]:
    """The offset that the request asks for, and the client's state, of each partition in it."""
    tps = {
        TopicPartition(topic, partition): offset
        for topic, partitions in request.topics
        for partition, offset, _ in partitions
    }
    return {tp: (offset, assignment.state_value(tp)) for tp, offset in tps.items()}

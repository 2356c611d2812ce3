"""A process's place in a replay's consumer group: which partitions are its own, as the group has last said.

The group is that of the job's topic, and reads nothing: its assignment is all that is wanted of it.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from streamer.kafka.client import client_arguments
from streamer.replay.job_topic import JobTopic

SESSION_TIMEOUT_MS = 10_000
"""How long a member that says nothing keeps its partitions."""
HEARTBEAT_MS = 2_000


class Member:
    """Use it as a context manager: inside, it is in the group."""

    def __init__(self, job: JobTopic) -> None:
        self._topic = job.name
        self._consumer: Any = AIOKafkaConsumer(
            **client_arguments(job.settings.kafka),
            group_id=job.name,
            partition_assignment_strategy=[RoundRobinPartitionAssignor],
            enable_auto_commit=False,
            auto_offset_reset="latest",
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
        )

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        self._consumer.subscribe([self._topic], listener=_Paused(self._consumer))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._consumer.stop()

    async def mine(self) -> set[int]:
        """Partitions of this member now. Ask regularly: it is the sign of life."""
        await self._consumer.getmany(timeout_ms=0)
        return {tp.partition for tp in self._consumer.assignment()}


class _Paused(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer

    def on_partitions_revoked(self, revoked: Any) -> None:
        pass

    def on_partitions_assigned(self, assigned: Any) -> None:
        self._consumer.pause(*assigned)

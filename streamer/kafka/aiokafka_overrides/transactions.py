"""Partitions in a transaction without a record."""

from __future__ import annotations

from aiokafka import AIOKafkaProducer
from aiokafka.structs import TopicPartition


def add_to_transaction(producer: AIOKafkaProducer, topic: str, partition: int) -> None:
    """Make a partition part of the open transaction though nothing is sent to it.

    The end of the transaction is noted there, so the partition's end offset goes up by one. Consumers see
    nothing.
    """
    producer._txn_manager.maybe_add_partition_to_txn(TopicPartition(topic, partition))

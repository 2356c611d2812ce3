"""The private parts that the overrides rely on are those that were read when the overrides were written.

A part that changes turns its test red: read it again, mend the override where it has to be, and put the new
digest here and the new version into `WRITTEN_FOR`.
"""

from __future__ import annotations

import ast
import hashlib
from importlib import import_module
from pathlib import Path

import pytest

from streamer.kafka.aiokafka_overrides import WRITTEN_FOR

RELIED_UPON = {
    "aiokafka.admin.client:AIOKafkaAdminClient._send_request": "f22c6873ed66",
    "aiokafka.client:AIOKafkaClient._get_conn": "5149dd5dc10b",
    "aiokafka.client:AIOKafkaClient._metadata_update": "8ac65fcf94a1",
    "aiokafka.client:AIOKafkaClient.coordinator_lookup": "834b9502b70d",
    "aiokafka.client:AIOKafkaClient.send": "2c3b774f424b",
    "aiokafka.conn:AIOKafkaConnection.connect": "6ad90bc88929",
    "aiokafka.conn:AIOKafkaConnection.send": "3587057dfb1e",
    "aiokafka.conn:AIOKafkaConnection._send_sasl_token": "0935a1924cd2",
    "aiokafka.conn:AIOKafkaConnection.close": "553acfb3f3f1",
    "aiokafka.consumer.fetcher:FetchResult": "fa61b3894a7f",
    "aiokafka.consumer.fetcher:Fetcher._proc_fetch_request": "be217e037d90",
    "aiokafka.consumer.fetcher:PartitionRecords": "4dd6157d7e63",
    "aiokafka.consumer.group_coordinator:GroupCoordinator._do_heartbeat": "657c48cf5315",
    "aiokafka.consumer.group_coordinator:GroupCoordinator._send_req": "cd6c3b112a16",
    "aiokafka.consumer.group_coordinator:GroupCoordinator.reset_generation": "c4d505a67237",
    "aiokafka.consumer.subscription_state:TopicPartitionState": "f1d329299663",
    "aiokafka.coordinator.assignors.roundrobin:RoundRobinPartitionAssignor.assign": "093d7e255a5f",
    "aiokafka.producer.sender:Sender._find_coordinator": "f0b7955871fc",
    "aiokafka.producer.sender:Sender._maybe_do_transactional_request": "183185094a9d",
    "aiokafka.producer.transaction_manager:TransactionManager.maybe_add_partition_to_txn": "a7006c5b5cfc",
    "aiokafka.producer.message_accumulator:MessageBatch": "b3e461b11226",
    "aiokafka.producer.message_accumulator:MessageAccumulator.add_batch": "fc649d205899",
    "aiokafka.producer.producer:AIOKafkaProducer.send_batch": "cfaf7859ba4e",
    "aiokafka.protocol.api:Request": "57a2e549df19",
    "aiokafka.protocol.metadata:MetadataRequest": "8716ab3644da",
    "faust.transport.consumer:Consumer._drain_messages": "8308d11bc7a2",
    "faust.transport.consumer:Consumer.on_partitions_revoked": "1119883ef88f",
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread._create_worker_consumer": "684c167041ff",
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread._fetch_records": "4ba572180fc6",
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread._commit": "7201c9cd0528",
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread.on_start": "03715c3bd9ce",
}
"""Digest of the source by module and name."""


@pytest.mark.parametrize("name", RELIED_UPON)
def test_a_part_that_is_overridden_or_read_is_as_it_was(name: str) -> None:
    assert digest(name) == RELIED_UPON[name], f"{name} is not what it was in aiokafka {WRITTEN_FOR}"


def digest(name: str) -> str:
    """Of the source file's part, for an attribute may be an override by now."""
    module, _, path = name.partition(":")
    source = Path(str(import_module(module).__file__)).read_text()
    part: ast.AST = ast.parse(source)
    for step in path.split("."):
        part = next(child for child in ast.iter_child_nodes(part) if getattr(child, "name", None) == step)
    return hashlib.sha256(str(ast.get_source_segment(source, part)).encode()).hexdigest()[:12]

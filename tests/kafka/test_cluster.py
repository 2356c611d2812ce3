"""Several local brokers are one cluster, found again by their data directory."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from streamer.kafka.cluster import EmbeddedCluster
from streamer.kafka.embedded import EmbeddedKafkaError
from streamer.kafka.ports import free_ports
from streamer.kafka.reach import answers
from streamer.kafka.topics import Topic, create_topics
from streamer.settings import KafkaSettings
from tests.conftest import RunStreamer


def replicas(bootstrap: str, topic: str) -> list[list[int]]:
    """The brokers that have each partition of a topic."""

    async def ask() -> list[list[int]]:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        try:
            [found] = await admin.describe_topics([topic])
        finally:
            await admin.close()
        return [sorted(partition["replicas"]) for partition in found["partitions"]]

    return asyncio.run(ask())


def test_three_brokers_hold_three_replicas(cluster: EmbeddedCluster) -> None:
    topic = Topic("three-replicas", 2, 3, {"min.insync.replicas": "2"})
    asyncio.run(create_topics(KafkaSettings(bootstrap_servers=cluster.bootstrap), [topic]))
    assert replicas(cluster.bootstrap, topic.name) == [[1, 2, 3], [1, 2, 3]]


def test_a_start_leaves_running_brokers_alone_and_starts_the_dead_one_where_it_was(
    cluster: EmbeddedCluster,
) -> None:
    alive, dead = cluster.brokers[0], cluster.brokers[2]
    address, pid = dead.bootstrap, alive.pid
    dead.kill()
    assert not cluster.is_running()
    cluster.start()
    assert (alive.pid, dead.bootstrap) == (pid, address)
    assert answers(address)


def test_others_find_the_brokers_by_their_data_directory(cluster: EmbeddedCluster) -> None:
    other = EmbeddedCluster(cluster.data_dir)
    assert other.is_running()
    assert other.bootstrap == cluster.bootstrap


def test_status_names_each_broker_and_fails_unless_all_run(
    cluster: EmbeddedCluster, run_streamer: RunStreamer
) -> None:
    status = ("kafka", "status", "--data-dir", str(cluster.data_dir))
    cluster.brokers[1].kill()
    try:
        said, as_json = run_streamer(*status), run_streamer(*status, "--json")
    finally:
        cluster.start()
    assert (said.returncode, as_json.returncode) == (1, 1)
    assert f"broker 1 runs at {cluster.brokers[0].bootstrap}" in said.stderr
    assert "broker 2 does not run" in said.stderr
    assert [broker["running"] for broker in json.loads(as_json.stdout)["brokers"]] == [True, False, True]


def test_a_frozen_broker_does_not_run(cluster: EmbeddedCluster, run_streamer: RunStreamer) -> None:
    frozen = cluster.brokers[1]
    frozen.signal(signal.SIGSTOP)
    try:
        status = run_streamer("kafka", "status", "--data-dir", str(cluster.data_dir))
    finally:
        frozen.signal(signal.SIGCONT)
    assert status.returncode == 1
    assert f"broker 2 does not answer at {frozen.bootstrap}" in status.stderr
    assert f"broker 3 runs at {cluster.brokers[2].bootstrap}" in status.stderr


def test_another_number_of_brokers_on_the_same_data_is_refused(cluster: EmbeddedCluster) -> None:
    with pytest.raises(EmbeddedKafkaError, match=r"has the data of 3 brokers, not of 1: .*--data-dir"):
        EmbeddedCluster(cluster.data_dir, brokers=1).start()


def test_another_port_for_running_brokers_is_refused(cluster: EmbeddedCluster) -> None:
    with pytest.raises(EmbeddedKafkaError, match=r"already runs on port .*, not 9: stop it first"):
        EmbeddedCluster(cluster.data_dir, port=9).start()


def test_the_broker_whose_port_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(EmbeddedKafkaError, match=f"port {port} .* is taken .*, and broker 1 needs it"):
            EmbeddedCluster(tmp_path, brokers=3, port=port).start()


def test_one_broker_is_the_default_and_lies_in_the_data_directory_itself(tmp_path: Path) -> None:
    [broker] = EmbeddedCluster(tmp_path, port=free_ports(1)[0]).brokers
    assert broker.data_dir == tmp_path

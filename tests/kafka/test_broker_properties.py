"""The configuration of the local broker."""

from __future__ import annotations

from pathlib import Path

from streamer.kafka.broker_properties import ClusterNode, as_text, broker_properties
from streamer.kafka.ports import Ports

PORTS = Ports(client=1, internal=2, controller=3)
ALONE = ClusterNode(1, "id", {1: PORTS})
THREE = {1: PORTS, 2: Ports(4, 5, 6), 3: Ports(7, 8, 9)}


def test_clients_are_sent_to_the_advertised_host_and_the_broker_itself_to_loopback() -> None:
    properties = broker_properties(Path("/data"), ALONE, "0.0.0.0", "kafka.example:1", "SASL_SSL")
    assert properties["listeners"] == "CLIENT://0.0.0.0:1,INTERNAL://127.0.0.1:2,CONTROLLER://127.0.0.1:3"
    assert properties["advertised.listeners"] == "CLIENT://kafka.example:1,INTERNAL://127.0.0.1:2"
    assert properties["listener.security.protocol.map"].startswith("CLIENT:SASL_SSL,INTERNAL:PLAINTEXT")


def test_every_node_knows_the_controllers_of_all() -> None:
    properties = [broker_properties(Path("/data"), ClusterNode(number, "id", THREE)) for number in THREE]
    voters = "1@127.0.0.1:3,2@127.0.0.1:6,3@127.0.0.1:9"
    assert {each["controller.quorum.voters"] for each in properties} == {voters}
    assert [each["node.id"] for each in properties] == ["1", "2", "3"]


def test_three_brokers_keep_three_replicas_and_one_broker_keeps_one() -> None:
    alone = broker_properties(Path("/data"), ALONE)
    three = broker_properties(Path("/data"), ClusterNode(2, "id", THREE))
    for topics in ("default", "offsets.topic", "transaction.state.log"):
        key = f"{topics}.replication.factor"
        assert (alone[key], three[key]) == ("1", "3")
    assert (alone["transaction.state.log.min.isr"], three["transaction.state.log.min.isr"]) == ("1", "2")


def test_extra_properties_win() -> None:
    properties = broker_properties(Path("/data"), ALONE, extra={"node.id": "7", "own": "x"})
    assert (properties["node.id"], properties["own"]) == ("7", "x")


def test_values_of_several_lines_stay_one_property() -> None:
    assert as_text({"key": "a\\b\nc"}) == "key=a\\\\b\\nc\n"

"""The configuration of the local broker."""

from __future__ import annotations

from pathlib import Path

from streamer.kafka.broker_properties import as_text, broker_properties
from streamer.kafka.ports import Ports

PORTS = Ports(client=1, internal=2, controller=3)


def test_clients_are_sent_to_the_advertised_host_and_the_broker_itself_to_loopback() -> None:
    properties = broker_properties(Path("/data"), PORTS, "0.0.0.0", "kafka.example:1", "SASL_SSL")
    assert properties["listeners"] == "CLIENT://0.0.0.0:1,INTERNAL://127.0.0.1:2,CONTROLLER://127.0.0.1:3"
    assert properties["advertised.listeners"] == "CLIENT://kafka.example:1,INTERNAL://127.0.0.1:2"
    assert properties["listener.security.protocol.map"].startswith("CLIENT:SASL_SSL,INTERNAL:PLAINTEXT")


def test_extra_properties_win() -> None:
    properties = broker_properties(Path("/data"), PORTS, extra={"node.id": "7", "own": "x"})
    assert (properties["node.id"], properties["own"]) == ("7", "x")


def test_values_of_several_lines_stay_one_property() -> None:
    assert as_text({"key": "a\\b\nc"}) == "key=a\\\\b\\nc\n"

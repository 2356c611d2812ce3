"""The configuration of a local broker, and nothing else: no file, no process, no port.

CLIENT is the listener that is handed out. INTERNAL (loopback, PLAINTEXT) serves the broker itself and
the check whether it answers, so that CLIENT may ask for TLS, passwords or permissions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from streamer.kafka.ports import LOOPBACK, Ports

_MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Above what any topic here allows; the topics' own `max.message.bytes` is the limit that counts."""


@dataclass(frozen=True)
class ClusterNode:
    """A broker's place in its cluster. Every node is broker and controller."""

    number: int
    """Kafka's `node.id`."""
    cluster_id: str
    ports: Mapping[int, Ports]
    """Of every node of the cluster, by number."""

    @property
    def own_ports(self) -> Ports:
        return self.ports[self.number]


def broker_properties(
    log_dir: Path,
    node: ClusterNode,
    host: str = LOOPBACK,
    advertised: str | None = None,
    protocol: str = "PLAINTEXT",
    extra: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """server.properties of one node.

    `advertised` is the host:port that clients are sent to, if it isn't where CLIENT listens; `extra` wins
    over everything.
    """
    ports = node.own_ports
    listeners = {
        "CLIENT": f"{host}:{ports.client}",
        "INTERNAL": ports.internal_address,
        "CONTROLLER": ports.controller_address,
    }
    voters = (f"{number}@{each.controller_address}" for number, each in node.ports.items())
    for_clients = listeners | {"CLIENT": advertised or listeners["CLIENT"]}
    del for_clients["CONTROLLER"]
    return {
        "process.roles": "broker,controller",
        "node.id": str(node.number),
        "controller.quorum.voters": ",".join(voters),
        "listeners": _joined(listeners),
        "advertised.listeners": _joined(for_clients),
        "listener.security.protocol.map": f"CLIENT:{protocol},INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "INTERNAL",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(log_dir),
        "auto.create.topics.enable": "false",
        "message.max.bytes": str(_MAX_MESSAGE_BYTES),
        **_EVERYWHERE,
        **(_SINGLE_NODE if len(node.ports) == 1 else {}),
        **_replication(len(node.ports)),
        **(extra or {}),
    }


_EVERYWHERE = {
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    # A worker that starts is alone: waiting for others to join only delays it.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # A transaction whose owner was killed is aborted soon after its timeout (the default looks every 10 s).
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
}

_SINGLE_NODE = {
    # After kill -9 the controller lets the broker in again only when its old session is over. Several
    # brokers keep Kafka's 9 s: what is seen with them has to be what clusters do.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
}


def _replication(nodes: int) -> dict[str, str]:
    """Kafka's own topics, and new ones unless they ask for something else: three replicas, two in sync."""
    replicas, in_sync = str(min(3, nodes)), str(min(2, nodes))
    return {
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
    }


def _joined(listeners: Mapping[str, str]) -> str:
    return ",".join(f"{name}://{address}" for name, address in listeners.items())


def as_text(properties: Mapping[str, str]) -> str:
    """A Java properties file; backslashes and line ends in values (PEM) are escaped."""
    escaped = {key: value.replace("\\", "\\\\").replace("\n", "\\n") for key, value in properties.items()}
    return "".join(f"{key}={value}\n" for key, value in escaped.items())

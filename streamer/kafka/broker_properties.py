"""The configuration of the local one-node broker, and nothing else: no file, no process, no port.

CLIENT is the listener that is handed out. INTERNAL (loopback, PLAINTEXT) serves the broker itself and
the check whether it answers, so that CLIENT may ask for TLS, passwords or permissions.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from streamer.kafka.ports import LOOPBACK, Ports

_NODE_ID = 1
_MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Above what any topic here allows; the topics' own `max.message.bytes` is the limit that counts."""


def broker_properties(
    log_dir: Path,
    ports: Ports,
    host: str = LOOPBACK,
    advertised: str | None = None,
    protocol: str = "PLAINTEXT",
    extra: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """server.properties of a single node.

    `advertised` is the host:port that clients are sent to, if it isn't where CLIENT listens; `extra` wins
    over everything.
    """
    listeners = {
        "CLIENT": f"{host}:{ports.client}",
        "INTERNAL": ports.internal_address,
        "CONTROLLER": f"{LOOPBACK}:{ports.controller}",
    }
    for_clients = listeners | {"CLIENT": advertised or listeners["CLIENT"]}
    del for_clients["CONTROLLER"]
    return {
        "process.roles": "broker,controller",
        "node.id": str(_NODE_ID),
        "controller.quorum.voters": f"{_NODE_ID}@{listeners['CONTROLLER']}",
        "listeners": _joined(listeners),
        "advertised.listeners": _joined(for_clients),
        "listener.security.protocol.map": f"CLIENT:{protocol},INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "INTERNAL",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(log_dir),
        "auto.create.topics.enable": "false",
        "message.max.bytes": str(_MAX_MESSAGE_BYTES),
        **_SINGLE_NODE,
        **(extra or {}),
    }


_SINGLE_NODE = {
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # A worker that starts is alone: waiting for others to join only delays it.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # After kill -9 the controller lets the broker in again only when its old session is over.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # A transaction whose owner was killed is aborted soon after its timeout (the default looks every 10 s).
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
}


def _joined(listeners: Mapping[str, str]) -> str:
    return ",".join(f"{name}://{address}" for name, address in listeners.items())


def as_text(properties: Mapping[str, str]) -> str:
    """A Java properties file; backslashes and line ends in values (PEM) are escaped."""
    escaped = {key: value.replace("\\", "\\\\").replace("\n", "\\n") for key, value in properties.items()}
    return "".join(f"{key}={value}\n" for key, value in escaped.items())

"""Brokers in network namespaces of their own, so that the network between them can be cut.

A broker has two ways out: a network that it shares with the other brokers, over a bridge in a namespace
beside theirs, and a line of its own to this machine, on which clients come. A cut takes it off the first
one alone. Needs root and Linux's `ip`.
"""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from streamer.kafka.broker_properties import ClusterNode
from streamer.kafka.cluster import EmbeddedCluster
from streamer.kafka.embedded import EmbeddedKafka
from streamer.kafka.ports import Ports

BROKERS = 3
HOST = 254
"""This machine's number in the network of the brokers: it looks there whether they answer."""


class NoNamespacesError(Exception):
    """This machine lets us make no network namespaces."""


class NamespacedCluster(EmbeddedCluster):
    """Three brokers that `cut` takes off their network; use it in a `with` statement."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir, BROKERS)
        self._tag = f"c{uuid.uuid4().hex[:5]}"
        """What the names of namespaces and interfaces begin with."""

    def __enter__(self) -> Self:
        if shutil.which("ip") is None:
            raise NoNamespacesError("there is no command ip")
        try:
            self._build()
            return super().__enter__()
        except BaseException:
            self._tear_down()
            raise

    def __exit__(self, *reason: object) -> None:
        super().__exit__(*reason)
        self._tear_down()

    def cut(self, number: int) -> None:
        """Take this broker off the network of the brokers; clients still reach it."""
        self._ip(f"-netns {self._bridge} link set {self._tag}s{number} down")

    def mend(self) -> None:
        """All brokers are on their network again."""
        for number in range(1, BROKERS + 1):
            self._ip(f"-netns {self._bridge} link set {self._tag}s{number} up")

    @property
    def _bridge(self) -> str:
        return f"{self._tag}-bridge"

    def _namespace(self, number: int) -> str:
        return f"{self._tag}-{number}"

    def _build(self) -> None:
        self._ip(f"netns add {self._bridge}")
        self._ip(f"-netns {self._bridge} link add br0 type bridge")
        self._ip(f"-netns {self._bridge} link set br0 up")
        self._join_bridge(HOST)
        self._ip(f"address add {_among_brokers(HOST)}/24 dev {self._tag}i{HOST}")
        self._ip(f"link set {self._tag}i{HOST} up")
        for number in range(1, BROKERS + 1):
            self._build_namespace(number)

    def _join_bridge(self, number: int) -> None:
        """A line from here, `i`, to the bridge, `s`."""
        near, far = f"{self._tag}i{number}", f"{self._tag}s{number}"
        self._ip(f"link add {near} type veth peer name {far} netns {self._bridge}")
        self._ip(f"-netns {self._bridge} link set {far} master br0 up")

    def _build_namespace(self, number: int) -> None:
        name, tag = self._namespace(number), self._tag
        self._ip(f"netns add {name}")
        self._join_bridge(number)
        self._ip(f"link set {tag}i{number} netns {name}")
        self._ip(f"link add {tag}c{number} type veth peer name clients netns {name}")
        self._ip(f"address add 10.213.{number}.1/30 dev {tag}c{number}")
        self._ip(f"link set {tag}c{number} up")
        self._ip(f"-netns {name} address add {_for_clients(number)}/30 dev clients")
        self._ip(f"-netns {name} address add {_among_brokers(number)}/24 dev {tag}i{number}")
        for interface in ("lo", "clients", f"{tag}i{number}"):
            self._ip(f"-netns {name} link set {interface} up")

    def _tear_down(self) -> None:
        """The interfaces go with the namespaces."""
        for name in (self._bridge, *(self._namespace(number) for number in range(1, BROKERS + 1))):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)

    def _ip(self, arguments: str) -> None:
        done = subprocess.run(["ip", *arguments.split()], capture_output=True, text=True, check=False)
        if done.returncode:
            raise NoNamespacesError(f"ip {arguments}: {done.stderr.strip()}")

    def _member(self, node: ClusterNode, **options: Any) -> EmbeddedKafka:
        launcher = ("ip", "netns", "exec", self._namespace(node.number))
        return super()._member(node, host=_for_clients(node.number), launcher=launcher, **options)

    def _choose_ports(self, brokers: int, last: Mapping[int, Ports]) -> dict[int, Ports]:
        """Always the same: nobody else is in their namespaces."""
        return {n: Ports(9092, 9093, 9094, host=_among_brokers(n)) for n in range(1, brokers + 1)}


def _among_brokers(number: int) -> str:
    return f"10.213.0.{number}"


def _for_clients(number: int) -> str:
    return f"10.213.{number}.2"

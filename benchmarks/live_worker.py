"""A worker process under watch: its log, its heartbeat, its metrics; killed or stopped from outside."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

import orjson
from prometheus_client.parser import text_string_to_metric_families

from streamer.kafka.ports import free_ports


class WorkerEndedError(Exception):
    """It ended, or did not get where it should in time; the text has its last words."""


class LiveWorker:
    """`benchmarks.heartbeat` with these settings, as dotted keys."""

    def __init__(self, overrides: Mapping[str, object]) -> None:
        (self.port,) = free_ports(1)
        self.started_at = time.time()
        more = {"log.level": "info", "log.format": "json", "worker.metrics_port": self.port}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.heartbeat", orjson.dumps({**overrides, **more}).decode()],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.beats: list[dict[str, float]] = []
        self._events: dict[str, tuple[float, dict[str, Any]]] = {}
        self._words = b""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._readers = [
            threading.Thread(target=read, args=(stream,), daemon=True)
            for read, stream in ((self._hear, self.process.stdout), (self._watch, self.process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def _hear(self, stream: IO[bytes]) -> None:
        self.beats.extend(map(orjson.loads, stream))

    def _watch(self, stream: IO[bytes]) -> None:
        for line in stream:
            self._words = line
            if line.startswith(b"{"):
                line_fields = orjson.loads(line)
                self._events.setdefault(line_fields["event"], (time.time(), line_fields))

    def event(self, name: str, timeout_s: float = 60) -> tuple[float, dict[str, Any]]:
        """When the first log line of this event came (seconds UTC), and what it says."""
        self.wait(lambda: name in self._events, timeout_s, f"log {name}")
        return self._events[name]

    def wait(self, condition: Callable[[], bool], timeout_s: float, what: str, every_s: float = 0.02) -> None:
        """Until it holds. Raises WorkerEndedError."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise WorkerEndedError(f"the worker did not {what}: {self._words.decode(errors='replace')}")
            time.sleep(every_s)

    def metric(self, name: str, **labels: str) -> float:
        """Sum of a metric's samples that have these labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=20) as answer:
            text = answer.read().decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def beats_since(self, at: float) -> list[dict[str, float]]:
        """Of this moment (seconds UTC) and later."""
        return [beat for beat in self.beats if beat["at"] >= at]

    def kill(self) -> None:
        """As a machine that fails."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """As an operator does."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        self.process.send_signal(number)
        self.process.wait(60)
        for reader in self._readers:
            reader.join()


def is_idle(worker: LiveWorker) -> bool:
    """Whether it has read everything, and that is committed."""
    before = worker.metric("streamer_source_position")
    time.sleep(1)
    return worker.metric("streamer_consumer_lag") == 0 and worker.metric("streamer_source_position") == before


@contextmanager
def live(overrides: Mapping[str, object]) -> Iterator[LiveWorker]:
    """A worker that does not outlive the block."""
    worker = LiveWorker(overrides)
    try:
        yield worker
    finally:
        if worker.process.poll() is None:
            worker.kill()

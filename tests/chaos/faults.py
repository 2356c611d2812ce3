"""Every fault with its two doses: `full` for `make chaos`, `short` for the test suite."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from streamer.kafka.cluster import EmbeddedCluster
from streamer.kafka.embedded import EmbeddedKafka
from streamer.kafka.jars import class_path
from streamer.kafka.places import jar_cache
from streamer.kafka.ports import free_ports
from streamer.settings import Settings, load_settings
from tests.chaos import brokers, clusters, idleness, loads, logs, processes, random_kills
from tests.chaos.namespaces import NamespacedCluster
from tests.chaos.proxy import FaultProxy
from tests.chaos.scenario import Outcome, Scenario
from tests.chaos.versions import NEWER, OLDER, PINNED, jars_of
from tests.conftest import dotted, names_of_its_own
from tests.worker.live import STARTED, UNKEYED


class Environment:
    """Brokers and folders to play on; use it as a context manager. Brokers that run may be given; others
    are of this version of Kafka."""

    def __init__(
        self,
        folder: Path,
        shared: EmbeddedKafka | None = None,
        cluster: EmbeddedCluster | None = None,
        *,
        kafka: str = PINNED,
    ) -> None:
        self._folder = folder
        self._jars = jars_of(kafka)
        self._shared = shared
        self._cluster = cluster
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end_workers()
        self._open.close()

    @property
    def shared(self) -> EmbeddedKafka:
        """The broker that no fault touches."""
        if self._shared is None:
            self._shared = self._open.enter_context(EmbeddedKafka(self._folder / "shared", jars=self._jars))
        return self._shared

    @property
    def cluster(self) -> EmbeddedCluster:
        """Three brokers; each fault leaves them running."""
        if self._cluster is None:
            cluster = EmbeddedCluster(self._folder / "cluster", brokers=3, jars=self._jars)
            self._cluster = self._open.enter_context(cluster)
        return self._cluster

    @contextmanager
    def own_broker(self, **options: Any) -> Iterator[EmbeddedKafka]:
        """A broker that may be mistreated."""
        with EmbeddedKafka(self.new_folder(), jars=self._jars, **options) as broker:
            yield broker

    def new_folder(self) -> Path:
        folder = self._folder / uuid.uuid4().hex[:8]
        folder.mkdir(parents=True)
        return folder

    def settings(self, bootstrap: str, overrides: Mapping[str, object] | None = None) -> Settings:
        """Names of their own on this broker and no identity stages; otherwise the defaults."""
        own = {"kafka.bootstrap_servers": bootstrap, "identity.enabled": False, **names_of_its_own()}
        return load_settings(overrides={**own, **(overrides or {})}, environ={})

    def end_workers(self, logs: Path | None = None) -> None:
        """Kill whatever still runs; what the workers logged goes to this folder, a file each."""
        while STARTED:
            worker = STARTED.pop()
            worker.process.kill()
            worker.end()
            if logs is not None:
                logs.mkdir(parents=True, exist_ok=True)
                (logs / f"{worker.started_at:.0f}-{worker.process.pid}.log").write_text(worker.log)


Play = Callable[[Environment, int, dict[str, Any]], Outcome]


@dataclass(frozen=True)
class Fault:
    """How a fault is played, and how much of it: keyword arguments of its function."""

    on: Play
    full: dict[str, Any]
    short: dict[str, Any]
    in_suite: bool = True
    """Whether the short dose is short enough for every run of the tests."""
    only_by_name: bool = False
    """Whether it is left out unless asked for."""
    on_cluster: bool = False
    """Whether it happens to the three brokers that tests share."""

    def play(self, environment: Environment, seed: int, dose: str) -> Outcome:
        return self.on(environment, seed, self.full if dose == "full" else self.short)


def _plain(play: Callable[..., Outcome], **overrides: object) -> Play:
    def on(environment: Environment, seed: int, dose: dict[str, Any]) -> Outcome:
        settings = environment.settings(environment.shared.bootstrap, dotted(overrides))
        return play(Scenario(settings, seed), **dose)

    return on


def _with_folder(play: Callable[..., Outcome]) -> Play:
    def on(environment: Environment, seed: int, dose: dict[str, Any]) -> Outcome:
        scenario = Scenario(environment.settings(environment.shared.bootstrap), seed)
        return play(scenario, folder=environment.new_folder(), **dose)

    return on


def _with_broker(play: Callable[..., Outcome]) -> Play:
    def on(environment: Environment, seed: int, dose: dict[str, Any]) -> Outcome:
        (port,) = free_ports(1)
        with environment.own_broker() as broker:
            settings = environment.settings(broker.bootstrap, {"worker.metrics_port": port})
            return play(Scenario(settings, seed), broker, **dose)

    return on


def _with_cluster(play: Callable[..., Outcome]) -> Play:
    def on(environment: Environment, seed: int, dose: dict[str, Any]) -> Outcome:
        scenario = Scenario(environment.settings(environment.cluster.bootstrap), seed)
        return play(scenario, environment.cluster, **dose)

    return on


def _with_older_cluster(play: Callable[..., Outcome]) -> Play:
    def on(environment: Environment, seed: int, dose: dict[str, Any]) -> Outcome:
        for version in (OLDER, NEWER):
            class_path(jar_cache(), jars_of(version))
        with EmbeddedCluster(environment.new_folder(), brokers=3, jars=jars_of(OLDER)) as cluster:
            return play(Scenario(environment.settings(cluster.bootstrap), seed), cluster, **dose)

    return on


def _with_namespaces(play: Callable[..., Outcome]) -> Play:
    def on(environment: Environment, seed: int, dose: dict[str, Any]) -> Outcome:
        with NamespacedCluster(environment.new_folder()) as cluster:
            return play(Scenario(environment.settings(cluster.bootstrap), seed), cluster, **dose)

    return on


def _with_proxy(play: Callable[..., Outcome]) -> Play:
    def on(environment: Environment, seed: int, dose: dict[str, Any]) -> Outcome:
        metrics, outside, inside = free_ports(3)
        with (
            FaultProxy(outside, inside) as proxy,
            environment.own_broker(port=inside, advertised_port=outside) as broker,
        ):
            bad = {"worker.metrics_port": metrics, "worker.ready_max_lag": 5000}
            settings = environment.settings(broker.bootstrap, bad)
            kafka = settings.kafka.model_copy(update={"bootstrap_servers": broker.internal})
            direct = settings.model_copy(update={"kafka": kafka})
            return play(Scenario(settings, seed, direct), proxy, **dose)

    return on


FAULTS: dict[str, Fault] = {
    "kill": Fault(
        _plain(processes.killed),
        full={"kills": 20, "clicks": 200_000, "per_s": 1200},
        short={"kills": 8, "clicks": 12_000, "per_s": 120},
        in_suite=False,
    ),
    "random-kills": Fault(
        random_kills.killed_at_random, full={"rounds": 20}, short={"rounds": 1}, in_suite=False
    ),
    "kill-customers": Fault(
        _plain(processes.killed, identity__enabled=True),
        full={"kills": 20, "clicks": 80_000, "per_s": 400},
        short={"kills": 8, "clicks": 6_000, "per_s": 30},
        in_suite=False,
    ),
    "random-kills-customers": Fault(
        random_kills.killed_at_random,
        full={"rounds": 20, "identity": True},
        short={"rounds": 1, "identity": True},
    ),
    "kill-unkeyed": Fault(
        _plain(processes.killed, **UNKEYED),
        full={"kills": 24, "clicks": 150_000, "per_s": 800},
        short={"kills": 12, "clicks": 8_000, "per_s": 60},
        in_suite=False,
    ),
    "random-kills-unkeyed": Fault(
        random_kills.killed_at_random,
        full={"rounds": 20, "unkeyed": True},
        short={"rounds": 1, "unkeyed": True},
        in_suite=False,
    ),
    "kill-early": Fault(
        _plain(processes.killed, emit__early_every_s=2),
        full={"kills": 10, "clicks": 60_000, "per_s": 600},
        short={"kills": 3, "clicks": 6_000, "per_s": 100},
        in_suite=False,
    ),
    "kill-revisions": Fault(
        _plain(processes.killed, late__revise_within_s=7200),
        full={"kills": 10, "clicks": 60_000, "per_s": 600},
        short={"kills": 3, "clicks": 6_000, "per_s": 100},
        in_suite=False,
    ),
    "sigterm": Fault(
        _plain(processes.terminated),
        full={"times": 20, "clicks": 100_000, "per_s": 1500},
        short={"times": 2, "clicks": 6_000, "per_s": 700},
    ),
    "rebalance": Fault(
        _plain(processes.rebalanced),
        full={"cycles": 10, "clicks": 200_000, "per_s": 900},
        short={"cycles": 1, "clicks": 8_000, "per_s": 100},
        in_suite=False,
    ),
    "zombie": Fault(
        _plain(processes.stopped),
        full={"times": 5, "seconds": 30, "clicks": 200_000, "per_s": 800},
        short={"times": 1, "seconds": 14, "clicks": 10_000, "per_s": 100},
        in_suite=False,
    ),
    "wall-clock": Fault(
        _plain(processes.clocked),
        full={"offsets": [3600.0, -3600.0, 3600.0], "clicks": 30_000, "per_s": 1500},
        short={"offsets": [3600.0], "clicks": 6_000, "per_s": 100},
        in_suite=False,
    ),
    "rollout": Fault(
        _with_folder(processes.rolled_out),
        full={"times": 3, "clicks": 60_000, "per_s": 1500},
        short={"times": 1, "clicks": 12_000, "per_s": 150},
        in_suite=False,
    ),
    "broker": Fault(
        _with_broker(brokers.restarted),
        full={"times": 5, "clicks": 100_000, "per_s": 1000},
        short={"times": 2, "clicks": 12_000, "per_s": 150},
        in_suite=False,
    ),
    "brokers-killed": Fault(
        _with_cluster(clusters.killed),
        full={"counts": (1, 2, 3, 1, 2, 3), "seconds": 15, "per_s": 200},
        short={"counts": (1,), "seconds": 5, "per_s": 200},
        on_cluster=True,
    ),
    "brokers-frozen": Fault(
        _with_cluster(clusters.frozen),
        full={"counts": (1, 1, 1, 2, 3), "seconds": 40, "per_s": 200},
        short={"counts": (1,), "seconds": 20, "per_s": 200},
        on_cluster=True,
    ),
    "brokers-rolled": Fault(
        _with_cluster(clusters.rolled),
        full={"rounds": 2, "per_s": 200},
        short={"rounds": 1, "per_s": 200},
        in_suite=False,
        on_cluster=True,
    ),
    "brokers-upgraded": Fault(
        _with_older_cluster(clusters.upgraded),
        full={"to": (PINNED, NEWER), "per_s": 200},
        short={"to": (PINNED,), "per_s": 200},
        in_suite=False,
    ),
    "leaders-moved": Fault(
        _with_cluster(clusters.moved),
        full={"times": 6, "per_s": 200},
        short={"times": 1, "per_s": 200},
        in_suite=False,
        on_cluster=True,
    ),
    "broker-removed": Fault(
        _with_cluster(clusters.removed),
        full={"times": 4, "seconds": 15, "per_s": 200},
        short={"times": 1, "seconds": 10, "per_s": 200},
        in_suite=False,
        on_cluster=True,
    ),
    "broker-cut-off": Fault(
        _with_namespaces(clusters.cut_off),
        full={"times": 3, "seconds": 40, "per_s": 200},
        short={"times": 1, "seconds": 20, "per_s": 200},
        in_suite=False,
    ),
    "disk-full": Fault(
        _with_broker(brokers.disk_filled),
        full={"clicks": 30_000, "per_s": 500},
        short={"clicks": 10_000, "per_s": 100},
        in_suite=False,
    ),
    "network": Fault(
        _with_proxy(brokers.cut_off),
        full={"kinds": tuple(brokers.NETWORK), "seconds": 20, "clicks": 150_000, "per_s": 600},
        short={"kinds": ("resets",), "seconds": 3, "clicks": 8_000, "per_s": 100},
        in_suite=False,
    ),
    "network-cut": Fault(
        _with_proxy(idleness.cut_while_browsing), full={"seconds": 20}, short={"seconds": 10}
    ),
    "changelog": Fault(_plain(logs.changelog_damaged), full={}, short={}),
    "source": Fault(_plain(logs.source_changed), full={}, short={}),
    "trimmed-while-running": Fault(_plain(logs.trimmed_while_running), full={}, short={}, in_suite=False),
    "newer-state": Fault(_plain(logs.newer_state), full={}, short={}),
    "idle-producer": Fault(logs.idle_producer_expired, full={}, short={}, in_suite=False),
    "silence": Fault(_plain(idleness.three_of_four_idle, **idleness.QUICK), full={}, short={}),
    "lag": Fault(
        _plain(idleness.lag_is_no_idleness, **idleness.QUICK),
        full={"clicks": 50_000},
        short={"clicks": 5_000},
        in_suite=False,
    ),
    "duplicates": Fault(
        _plain(idleness.duplicated_and_shuffled), full={"visitors": 2000}, short={"visitors": 150}
    ),
    "backlog": Fault(
        _with_proxy(loads.backlog),
        full={"clicks": 5_000_000, "seconds": 60},
        short={"clicks": 200_000, "seconds": 10},
        in_suite=False,
    ),
    "one-visitor": Fault(
        _plain(loads.one_visitor), full={"clicks": 1_000_000}, short={"clicks": 20_000}, in_suite=False
    ),
    "same-moment": Fault(_plain(loads.same_moment), full={"clicks": 10_000}, short={"clicks": 10_000}),
    "soak": Fault(
        _plain(loads.soak),
        full={"minutes": 15, "per_s": 4000},
        short={"minutes": 2, "per_s": 2000},
        in_suite=False,
        only_by_name=True,
    ),
}

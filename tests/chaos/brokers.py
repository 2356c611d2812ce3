"""Faults of the broker and of the way to it: restarts, kill -9, a bad network, a full disk."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path

from streamer.kafka.embedded import EmbeddedKafka
from tests.chaos.processes import CLICKS_PER_VISITOR
from tests.chaos.proxy import FaultProxy
from tests.chaos.scenario import Outcome, Scenario, end_all, seconds_until
from tests.worker.live import Worker, ask, wait_until

MEMORY_BOUND_MB = 600


def restarted(scenario: Scenario, broker: EmbeddedKafka, times: int, clicks: int, per_s: float) -> Outcome:
    """The broker is restarted, then killed, in turn, under running workers."""
    outcome = scenario.outcome
    feed = scenario.feed(clicks // CLICKS_PER_VISITOR, per_s)
    workers = [scenario.worker(app__instance_id=name) for name in ("a", "b")]
    for worker in workers:
        worker.wait_for("shards_open")
    scenario.until_published_more()
    for number in range(times):
        kill = number % 2 == 1
        (broker.kill if kill else broker.stop)()
        time.sleep(scenario.chance.uniform(0, 3))
        begin = time.monotonic()
        broker.start()
        scenario.until_published_more(120)
        outcome.faults["broker SIGKILL" if kill else "broker restart"] += 1
        outcome.took("going again after the broker, s", time.monotonic() - begin, at_most=60)
    feed.finish()
    end_all(outcome, workers)
    return scenario.settle()


def disk_filled(scenario: Scenario, broker: EmbeddedKafka, clicks: int, per_s: float) -> Outcome:
    """The broker's disk is full: it can write nothing more and ends. Then there is room again."""
    outcome = scenario.outcome
    feed = scenario.feed(clicks // CLICKS_PER_VISITOR, per_s)
    worker = scenario.worker(worker__metrics_port=_port(scenario), app__instance_id="w")
    worker.wait_for("shards_open")
    scenario.until_published_more()
    resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, (4096, 4096))
    wait_until(lambda: not broker.is_running(), 60)
    outcome.faults["disk full"] += 1
    unready = seconds_until(lambda: ask(_port(scenario), "/readyz")[0] == 503)
    outcome.took("not ready, s", unready, at_most=30)
    broker.start()
    outcome.took("published again, s", scenario.until_published_more(120), at_most=60)
    outcome.check(worker.process.poll() is None, f"the worker ended: {worker.last_words}")
    feed.finish()
    end_all(outcome, [worker])
    return scenario.settle()


NETWORK: dict[str, Callable[[FaultProxy], None]] = {
    "500 ms delay": lambda proxy: setattr(proxy, "delay_s", 0.5),
    "1 kB/s": lambda proxy: setattr(proxy, "bytes_per_s", 1000.0),
    "resets": lambda proxy: proxy.reset_all(),
    "silence": lambda proxy: setattr(proxy, "silent", True),
}
UNREADY = ("1 kB/s", "silence")
"""Under these nothing comes through: readiness has to say so. Under the others the worker keeps up."""


def cut_off(
    scenario: Scenario, proxy: FaultProxy, kinds: tuple[str, ...], seconds: float, clicks: int, per_s: float
) -> Outcome:
    """The network between worker and broker goes bad for a while, in one way after the other."""
    outcome = scenario.outcome
    feed = scenario.feed(clicks // CLICKS_PER_VISITOR, per_s)
    port = _port(scenario)
    worker = scenario.worker(worker__metrics_port=port, app__instance_id="w")
    worker.wait_for("shards_open")
    scenario.until_published_more()
    for kind in kinds:
        NETWORK[kind](proxy)
        end, unready = time.monotonic() + seconds, False
        while time.monotonic() < end:
            if kind == "resets":
                proxy.reset_all()
            unready |= ask(port, "/readyz")[0] == 503
            outcome.check(ask(port, "/livez")[0] == 200, f"not live under {kind}")
            time.sleep(1)
        proxy.heal()
        outcome.faults[kind] += 1
        outcome.check(unready or kind not in UNREADY, f"ready all the while under {kind}")
        outcome.took(f"published again after {kind}, s", scenario.until_published_more(120), at_most=60)
        outcome.took(
            f"ready again after {kind}, s", seconds_until(lambda: ask(port, "/readyz")[0] == 200), at_most=60
        )
        outcome.check(worker.process.poll() is None, f"the worker ended: {worker.last_words}")
    outcome.notes["memory, MB"] = memory = memory_mb(worker)
    outcome.check(memory < MEMORY_BOUND_MB, f"{memory} MB of memory, expected below {MEMORY_BOUND_MB}")
    feed.finish()
    end_all(outcome, [worker])
    return scenario.settle()


def memory_mb(worker: Worker) -> int:
    """Highest resident memory of a running worker so far."""
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) // 1024


def _port(scenario: Scenario) -> int:
    return scenario.settings.worker.metrics_port

"""Too much at once, and much for long: memory has to stay bounded and nothing may be lost."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

from tests.chaos.brokers import MEMORY_BOUND_MB, memory_mb
from tests.chaos.proxy import FaultProxy
from tests.chaos.scenario import Outcome, Scenario, days_of_clicks, end_all
from tests.worker.live import START_MS, Worker, as_messages, committed, send, wait_until

PORTION = 200_000
MAX_EVENTS = 2500


def backlog(scenario: Scenario, proxy: FaultProxy, clicks: int, seconds: float) -> Outcome:
    """Millions of clicks wait while the way to the broker is slow: the worker takes in what it can commit."""
    outcome = scenario.outcome
    for start in range(0, clicks, PORTION):
        send(scenario.direct, as_messages(_one_page_visits(start, min(PORTION, clicks - start))))
    proxy.delay_s, proxy.bytes_per_s = 0.1, 4_000_000
    worker = scenario.worker()
    worker.wait_for("shards_open")
    time.sleep(seconds)
    proxy.heal()
    time.sleep(seconds)
    outcome.notes["memory, MB"] = memory = memory_mb(worker)
    outcome.check(memory < MEMORY_BOUND_MB, f"{memory} MB of memory, expected below {MEMORY_BOUND_MB}")
    end_all(outcome, [worker])
    outcome.faults["clicks waiting"] = clicks
    outcome.notes["taken in meanwhile"] = _received(scenario)
    outcome.check(_received(scenario) > 0, "nothing was taken in")
    return outcome


def one_visitor(scenario: Scenario, clicks: int) -> Outcome:
    """One visitor clicks without end: cut by the cap, in one partition, with every click counted."""
    outcome = scenario.outcome
    for start in range(0, clicks, PORTION):
        numbers = range(start, min(clicks, start + PORTION))
        send(scenario.settings, as_messages([_click("v", START_MS + 20 * n, n) for n in numbers]))
    worker = Worker(scenario.settings, "--drain")
    wait_until(lambda: worker.process.poll() is not None or _peak(outcome, worker), 580)
    outcome.check(worker.end() == 0, f"the worker ended: {worker.last_words}")
    counts = [
        r["event_count"] for r in committed(scenario.settings, scenario.settings.topics.intents).decoded()
    ]
    outcome.faults["clicks of one visitor"] = clicks
    outcome.expected = -(-clicks // MAX_EVENTS)
    outcome.lost = max(0, outcome.expected - len(counts))
    outcome.check(sum(counts) == clicks, f"{sum(counts)} clicks in sessions of {clicks}")
    memory = outcome.notes["memory, MB"]
    outcome.check(memory < MEMORY_BOUND_MB, f"{memory} MB of memory, expected below {MEMORY_BOUND_MB}")
    return outcome


def same_moment(scenario: Scenario, clicks: int) -> Outcome:
    """Clicks of as many visitors, and as many of one visitor, all at the same millisecond."""
    outcome = scenario.outcome
    many = [_click(f"v{n}", START_MS, n) for n in range(clicks)]
    one = [_click("one", START_MS, n) for n in range(clicks, clicks + MAX_EVENTS)]
    send(scenario.settings, as_messages(many + one))
    scenario.clicks = many + one
    outcome.faults["clicks at one millisecond"] = clicks + MAX_EVENTS
    return scenario.settle()


def soak(scenario: Scenario, minutes: float, per_s: float) -> Outcome:
    """A steady load for long: memory is flat once there is a steady number of open sessions."""
    outcome = scenario.outcome
    worker = scenario.worker()
    worker.wait_for("shards_open")
    sent, begin, memory = 0, time.monotonic(), []
    for block in days_of_clicks(4000, seed=0):
        for start in range(0, len(block), int(per_s)):
            portion = block[start : start + int(per_s)]
            send(scenario.settings, as_messages(portion))
            sent += len(portion)
            memory.append(_resident_mb(worker))
            assert worker.process.poll() is None, worker.last_words
            time.sleep(max(0.0, begin + sent / per_s - time.monotonic()))
        if time.monotonic() - begin > 60 * minutes:
            break
    third = len(memory) // 3
    middle, last = max(memory[third : 2 * third]), max(memory[2 * third :])
    outcome.notes["memory, MB, in thirds"] = [max(memory[:third]), middle, last]
    outcome.notes["median, MB"] = statistics.median(memory)
    outcome.check(last <= 1.05 * middle, f"memory grew from {middle} to {last} MB")
    wait_until(lambda: _received(scenario) == sent, 300)
    end_all(outcome, [worker])
    outcome.faults["clicks"] = sent
    return outcome


def _one_page_visits(start: int, count: int) -> list[dict[str, Any]]:
    return [_click(f"v{n // 8}", START_MS + n * 2, n) for n in range(start, start + count)]


def _click(visitor: str, at: int, number: int) -> dict[str, Any]:
    return {
        "visitor_id": visitor,
        "timestamp": at,
        "event_id": f"e{number}",
        "event_type": "page_view",
        "page_url": f"https://bank.example/cards/{number % 50}",
    }


def _received(scenario: Scenario) -> int:
    return sum(each.marker.counters.received for each in scenario.markers().values() if each.marker)


def _peak(outcome: Outcome, worker: Worker) -> bool:
    """Note the memory of a worker that is about to end by itself."""
    try:
        outcome.notes["memory, MB"] = memory_mb(worker)
    except (FileNotFoundError, ValueError):  # it has just ended
        return True
    return False


def _resident_mb(worker: Worker) -> int:
    pages = int(Path(f"/proc/{worker.process.pid}/statm").read_text().split()[1])
    return pages * 4096 // (1024 * 1024)

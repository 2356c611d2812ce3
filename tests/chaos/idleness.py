"""Idle partitions, and what looks like them: what may close sessions, and what may not."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from streamer.settings import Settings
from tests.chaos.proxy import FaultProxy
from tests.chaos.scenario import Outcome, Scenario, end_all
from tests.worker.live import as_messages, committed, oracle, send, some_clicks, wait_until

QUICK = {
    "session__gap_s": 3,
    "watermark__out_of_orderness_s": 1,
    "watermark__idle_after_s": 2,
    "watermark__idle_margin_s": 0.3,
}
"""Small enough to see idleness close sessions within seconds."""


def three_of_four_idle(scenario: Scenario) -> Outcome:
    """Three partitions are idle, one gets nothing but garbage: all sessions close, each by the rule."""
    outcome, settings = scenario.outcome, scenario.settings
    worker = scenario.worker()
    worker.wait_for("shards_open")
    clicks = [_click_now(f"v{number}", number) for number in range(24)]
    send(settings, as_messages(clicks))
    sources = committed(settings, settings.topics.clicks).records
    begin = time.monotonic()
    while time.monotonic() - begin < 9:
        send(settings, [(b"garbage for one partition", b"no click")])
        time.sleep(0.5)
    wait_until(lambda: scenario.published() == len(clicks))
    end_all(outcome, [worker])
    closed = committed(settings, settings.topics.intents).decoded()
    outcome.expected, outcome.lost = len(clicks), len(clicks) - len({r["visitor_id"] for r in closed})
    due = _idle_close_times(settings, sources)
    for record in closed:
        at = due[record["visitor_id"]]
        outcome.check(record["close_reason"] == "idle", f"closed by {record['close_reason']}, expected idle")
        outcome.check(record["closed_at"] == at, f"closed_at {record['closed_at']}, expected {at}")
    outcome.faults["idle partition"], outcome.faults["garbage only"] = 3, 1
    outcome.check(len(closed) == len(clicks), f"{len(closed)} sessions of {len(clicks)} clicks")
    scenario.verify()
    return outcome


def lag_is_no_idleness(scenario: Scenario, clicks: int) -> Outcome:
    """A worker that comes long after the clicks, and is stopped meanwhile, closes by the log alone."""
    outcome, settings = scenario.outcome, scenario.settings
    some = some_clicks(clicks // 11, seed=scenario.chance.randrange(2**31))
    half = len(some) // 2
    now_ms = int(time.time() * 1000)
    # Event times of the last minutes, a gap apart where the simulated hours had one.
    newest = max(click["timestamp"] for click in some)
    for click in some:
        click["timestamp"] += now_ms - newest
    send(settings, as_messages(some[:half]))
    first = scenario.worker()
    first.wait_for("shards_open")
    end_all(outcome, [first])
    send(settings, as_messages(some[half:]))
    time.sleep(4)
    second = scenario.worker()
    wait_until(lambda: _received(scenario) == len(some), 120)
    end_all(outcome, [second])
    outcome.faults["lag"] += 2
    behind = sum(
        int(each.marker.counters.clock_behind) for each in scenario.markers().values() if each.marker
    )
    outcome.check(behind == 0, f"{behind} records came behind the clock")
    scenario.verify()
    return outcome


def cut_while_browsing(scenario: Scenario, proxy: FaultProxy, seconds: float) -> Outcome:
    """Fetches aren't answered while visitors go on browsing: not idle, their sessions stay whole.

    All else goes on, commits too, as with a cluster of which only the leader of the clicks is cut off.
    """
    outcome = scenario.outcome
    # A fetch fails within the cut: that must not look like one that found nothing.
    quick = {**QUICK, "session__gap_s": 4, "kafka__request_timeout_ms": 2000}
    worker = scenario.worker(**quick, app__instance_id="w")
    worker.wait_for("shards_open")
    visitors = [f"v{number}" for number in range(20)]
    begin, count = time.monotonic(), 0
    while time.monotonic() - begin < seconds + 4:
        since = time.monotonic() - begin
        proxy.fetches_silent = 2 < since < 2 + seconds
        send(scenario.direct, as_messages([_click_now(visitor, count := count + 1) for visitor in visitors]))
        time.sleep(1)
    proxy.heal()
    outcome.faults["network silent while clicks arrive"] += 1
    scenario.until_published_more(60)
    wait_until(lambda: scenario.published() >= len(visitors), 60)
    end_all(outcome, [worker])
    closed = committed(scenario.direct, scenario.direct.topics.intents).decoded()
    sessions = Counter(record["visitor_id"] for record in closed)
    outcome.expected, outcome.lost = len(visitors), len(set(visitors) - sessions.keys())
    outcome.wrong = sum(sessions.values()) - len(sessions)
    return outcome


def duplicated_and_shuffled(scenario: Scenario, visitors: int) -> Outcome:
    """A tenth of the clicks comes twice and all in another order: the same sessions."""
    outcome, chance = scenario.outcome, scenario.chance
    clicks = some_clicks(visitors, seed=chance.randrange(2**31))
    again = clicks + chance.sample(clicks, len(clicks) // 10)
    again.sort(key=lambda click: click["timestamp"] + chance.randrange(110_000))
    send(scenario.settings, as_messages(again))
    scenario.clicks = again
    outcome.faults["click sent again"] = len(again) - len(clicks)
    scenario.settle()
    found = sum(each.marker.counters.duplicates for each in scenario.markers().values() if each.marker)
    outcome.check(found == len(again) - len(clicks), f"{found} duplicates counted")
    outcome.check(oracle(again) == oracle(clicks), "the oracle itself depends on duplicates")
    return outcome


def _click_now(visitor: str, number: int) -> dict[str, Any]:
    now_ms = int(time.time() * 1000)
    return {"visitor_id": visitor, "timestamp": now_ms, "event_id": f"e{number}", "event_type": "page_view"}


def _idle_close_times(settings: Settings, sources: list[Any]) -> dict[str, int]:
    """t* of each visitor's one click, straight from the rule: a0 + idle_after + (ended_at + gap - W)."""
    import orjson

    rules, gap = settings.watermark, settings.session.gap_ms
    watermark: dict[int, int] = {}
    raised_at: dict[int, int] = {}
    clicks: list[tuple[str, int, int]] = []
    for record in sorted(sources, key=lambda record: (record.partition, record.offset)):
        click = orjson.loads(record.value)
        at = min(click["timestamp"], record.timestamp) - rules.out_of_orderness_ms
        if at > watermark.get(record.partition, -1):
            watermark[record.partition], raised_at[record.partition] = at, record.timestamp
        clicks.append((click["visitor_id"], click["timestamp"], record.partition))
    return {
        visitor: raised_at[number] + rules.idle_after_ms + (at + gap - watermark[number])
        for visitor, at, number in clicks
    }


def _received(scenario: Scenario) -> int:
    return sum(each.marker.counters.received for each in scenario.markers().values() if each.marker)

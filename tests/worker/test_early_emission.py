"""A worker that publishes while visitors are still browsing."""

from __future__ import annotations

import signal
import time

from streamer.models.bundle import default_bundle, load_bundle
from tests.chaos.scenario import Scenario
from tests.conftest import FreshSettings
from tests.worker.live import as_messages, committed, send, wait_until

PAGES = [
    ("home", "/"),
    ("product", "/save-invest/saver"),
    ("rates", "/save-invest/saver"),
    *[("faq", "/save-invest/saver/faq"), ("product", "/save-invest/saver")] * 2,
]
"""That the shipped bundle labels, from the second on."""
QUICK = {
    "emit.early_every_s": 1,
    "emit.memberships": True,
    "emit.reasons": True,
    "session.gap_s": 4,
    "watermark.out_of_orderness_s": 0,
    "watermark.idle_after_s": 1,
    "watermark.idle_margin_s": 0.2,
    "topics.partitions": 1,
}


def test_intents_come_while_the_visitor_browses_and_a_replay_agrees(fresh_settings: FreshSettings) -> None:
    scenario = Scenario(fresh_settings(QUICK), seed=0)
    settings, topics = scenario.settings, scenario.settings.topics
    worker = scenario.worker()
    worker.wait_for("shards_open")
    for number, (page_type, path) in enumerate(PAGES):
        fields = {
            "visitor_id": "v",
            "timestamp": int(time.time() * 1000),
            "event_id": f"e{number}",
            "event_type": "page_view",
            "page_type": page_type,
            "page_url": f"https://bank.example{path}",
        }
        send(settings, as_messages([fields]))
        time.sleep(0.5)
    wait_until(lambda: any(r["is_final"] for r in committed(settings, topics.intents).decoded()))
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0, worker.log
    records = committed(settings, topics.intents).decoded()
    *early, final = records
    assert len(early) >= 2
    assert [r["revision"] for r in records] == list(range(len(records)))
    assert [r["is_final"] for r in records] == [False] * len(early) + [True]
    assert {r["close_reason"] for r in early} == {"open"}
    first_arrival = committed(settings, topics.clicks).records[0].timestamp
    assert all((r["closed_at"] - first_arrival) % 1000 == 0 for r in early)
    assert [r["event_count"] for r in records] == sorted(r["event_count"] for r in records)
    assert len({r["session_id"] for r in records}) == 1
    visitors = committed(settings, topics.visitors).decoded()
    assert [r["revision"] for r in visitors] == [r["revision"] for r in records]
    prototypes = load_bundle(default_bundle()).prototypes
    assert prototypes is not None
    assert {r["prototypes_version"] for r in visitors} == {prototypes.version}
    assert {len(r["memberships"]) for r in visitors} == {len(prototypes)}
    named = [(r["event_count"], reason) for r in visitors for reason in r["reasons"]]
    assert len(named) >= 3
    for clicks, reason in named:
        assert 1 <= reason["click"] <= clicks
        assert reason["event_id"] == f"e{reason['click'] - 1}"
        assert reason["page_type"] == PAGES[reason["click"] - 1][0]
    assert [r["reasons"] for r in visitors] == [r["reasons"] for r in records]
    scenario.verify()
    assert scenario.outcome.kept, scenario.outcome
    assert final["event_count"] == 7

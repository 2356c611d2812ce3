"""`streamer verify` and `streamer replay` of a real topic give the customers' records that live published."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from streamer.kafka.erase import erase
from streamer.models.bundle import default_bundle
from streamer.replay.options import ReplayOptions
from streamer.replay.run import replay
from streamer.replay.time_range import TimeRange
from streamer.replay.user_comparison import ERASED
from streamer.replay.verify import VerifyReport, verify
from streamer.replay.verify_users import AFTER_RANGE, AT_WORK
from streamer.schemas import codec
from streamer.settings import Settings
from tests.conftest import FreshSettings
from tests.identity.live import ON, clicks_with_logins, say, users
from tests.worker.live import Worker, as_messages, send, set_up


def verified(settings: Settings, time_range: TimeRange | None = None) -> VerifyReport:
    return asyncio.run(verify(settings, time_range or TimeRange(), [default_bundle()]))


def publish(settings: Settings, topic: str, records: Mapping[str, bytes | None]) -> None:
    async def run() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers)
        await producer.start()
        try:
            for key, value in records.items():
                await producer.send_and_wait(topic, value, key=key.encode())
        finally:
            await producer.stop()

    asyncio.run(run())


@pytest.fixture
def drained(fresh_settings: FreshSettings) -> Settings:
    """A worker has read logins, links, an unlink and an erasure, in two runs."""
    settings = fresh_settings(ON)
    set_up(settings)
    clicks = clicks_with_logins(20, seed=41)
    send(settings, as_messages(clicks[: len(clicks) // 2]))
    say(
        settings,
        {"visitor_id": "v1", "user_id": "c1", "action": "link", "confidence": 0.5},
        {"visitor_id": "v3", "user_id": "c1", "action": "link"},
        {"visitor_id": "v5", "user_id": "c5", "action": "link"},
        {"visitor_id": "v5", "user_id": "c5", "action": "unlink"},
        {"visitor_id": "v4", "user_id": "c9", "action": "link"},
    )
    assert Worker(settings, "--drain").end() == 0
    asyncio.run(erase(settings, ["v3"], requested_at=0))
    send(settings, as_messages(clicks[len(clicks) // 2 :]))
    assert Worker(settings, "--drain").end() == 0
    assert len(users(settings)) >= 3
    return settings


def test_customers_of_live_are_those_of_the_replay(drained: Settings) -> None:
    live = users(drained)
    report = verified(drained).as_dict()
    assert report["result"] == "equal"
    compared = report["users"]
    assert (compared["state"], compared["users"], compared["undetermined"]) == ("equal", len(live), {})
    assert compared["sessions"]["login"] > 0 < compared["sessions"]["link"]

    # One that live lacks, one that it alone has, one that is another; and one of the erased visitor: of
    # a session whose clicks are from before the erasure live may have dropped some.
    gone, changed = sorted(live.keys() - {"c1"})[:2]
    more = {
        gone: None,
        "nobody": codec.encode("user_intent", {**live[gone], "user_id": "nobody"}),
        changed: codec.encode("user_intent", {**live[changed], "sessions": 77}),
        "c1": codec.encode("user_intent", {**live["c1"], "sessions": 77}),
    }
    publish(drained, drained.topics.users, more)
    report = verified(drained).as_dict()
    assert report["result"] == "different"
    named: dict[str, Any] = report["users"]["user_ids"]
    assert named == {"missing": [gone], "extra": ["nobody"], "different": [changed]}
    assert report["users"]["undetermined"] == {ERASED: 1}

    # Links that live hasn't read change nothing; of sessions that it hasn't attributed nobody can tell.
    say(drained, {"visitor_id": "v7", "user_id": "c7", "action": "link"})
    assert verified(drained).as_dict()["users"]["user_ids"] == named
    publish(drained, drained.topics.visitors, {"v9": b"not read yet"})
    assert verified(drained).as_dict()["users"]["undetermined"] == {AT_WORK: 4}
    last = max(each["closed_at"] for each in live.values())
    assert set(verified(drained, TimeRange(None, last)).as_dict()["users"]["undetermined"]) == {AFTER_RANGE}


def test_a_replay_of_the_topic_has_the_customers_of_live(drained: Settings, tmp_path: Path) -> None:
    out = tmp_path / "all.parquet"
    options = ReplayOptions(TimeRange(), "topic", (default_bundle(),), str(out))
    found = replay(drained, options, lambda _, __: None).as_dict()
    totals = found["bundles"][0]["users"]
    assert sum(totals["sessions"].values()) == found["sessions"]["selected"]
    assert totals["users"] == len(users(drained))
    assert (tmp_path / "all.users.parquet").exists()

"""Live and replay on a real broker: the same digests, whatever happened to the workers."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Sequence
from typing import Any

from streamer.replay.digests import Kind, OutputDigests, hashes_of
from streamer.replay.options import bundles_of
from streamer.replay.time_range import TimeRange
from streamer.replay.verify import verify
from streamer.schemas import codec
from streamer.settings import Settings
from tests.conftest import FreshSettings, RunStreamer
from tests.worker.conftest import _stop_workers  # noqa: F401, a fixture that works by being there
from tests.worker.live import (
    Worker,
    as_messages,
    committed,
    published,
    send,
    set_up,
    some_clicks,
    wait_until,
)

FAST = {
    "watermark.out_of_orderness_s": 0,
    "watermark.idle_after_s": 0.5,
    "watermark.idle_margin_s": 0.2,
    "session.gap_s": 1,
    "session.max_duration_s": 2,
    "watermark.max_future_s": 0.5,
    "app.instance_id": "w",
}


def digests_of_topics(settings: Settings) -> dict[str, Any]:
    """As any reader of the topics can reckon them."""
    digests = OutputDigests()
    kinds: tuple[Kind, ...] = ("embeddings", "intents")
    for kind in kinds:
        for record in committed(settings, getattr(settings.topics, kind)).records:
            digests.add_hashes(kind, hashes_of(kind, codec.body(record.value)))
    return digests.as_dict()


def verified(settings: Settings, time_range: TimeRange = TimeRange(), portion: int = 2000) -> dict[str, Any]:  # noqa: B008
    report = asyncio.run(verify(settings, time_range, bundles_of([], settings), portion=portion))
    return report.as_dict()


def todays(clicks: Sequence[dict[str, Any]], now_ms: int) -> list[dict[str, Any]]:
    """The same clicks, as if all of them were made within the last second."""
    begin = min(click["timestamp"] for click in clicks)
    return [click | {"timestamp": now_ms - 1000 + (click["timestamp"] - begin) % 1000} for click in clicks]


def test_four_workers_one_of_them_killed_publish_what_a_replay_gives(
    fresh_settings: FreshSettings, run_streamer: RunStreamer
) -> None:
    settings = fresh_settings({"commit.interval_ms": 20, "app.instance_id": "w"})
    clicks = some_clicks(200, seed=21)
    messages = as_messages(clicks)
    set_up(settings)
    send(settings, messages[: len(messages) // 2])
    # Under the name that one of the four will have: its partitions needn't wait for a time-out.
    first = Worker(fresh_settings({"commit.interval_ms": 20, "app.instance_id": "w-0"}))
    wait_until(lambda: len(published(settings)) > 10)
    first.signal(signal.SIGKILL)
    first.end()
    send(settings, messages[len(messages) // 2 :])
    assert Worker(settings, "--drain", "--processes", "4").end() == 0
    report = verified(settings, portion=50)
    assert report["result"] == "equal", report
    assert report["live"] == report["replay"] == digests_of_topics(settings)
    assert report["sessions"] == len(published(settings))

    done = run_streamer("verify", "--json", settings=settings)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["live"] == report["live"]
    done = run_streamer("replay", "--json", "--processes", "2", settings=settings)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["bundles"][0]["digests"] == report["live"]
    done = run_streamer("model", "drift", "--json", settings=settings)
    assert done.returncode == 0, done.stderr
    people = [each for each in committed(settings, settings.topics.intents).decoded() if not each["is_bot"]]
    assert json.loads(done.stdout)["sessions"]["after"] == len(people)


def test_idleness_closed_live_what_it_closes_in_the_replay(
    fresh_settings: FreshSettings, run_streamer: RunStreamer
) -> None:
    """Several rounds of clicks with idleness in between, on all partitions or on one only; a restart."""
    settings = fresh_settings({**FAST, "topics.partitions": 2})
    set_up(settings)
    worker = Worker(settings)
    worker.wait_for("worker_started")
    begin_ms = int(time.time() * 1000)
    for round_number in range(2):
        clicks = todays(
            some_clicks(12 if round_number else 40, seed=30 + round_number), int(time.time() * 1000)
        )
        for click in clicks:  # the same id again would be the same click
            click["event_id"] = f"{round_number}-{click['event_id']}"
        before = len(published(settings))
        round_ms = int(time.time() * 1000)
        send(settings, as_messages(clicks[:3] if round_number == 1 else clicks))
        wait_until(lambda before=before: len(published(settings)) > before)
        time.sleep(1.5)
        if round_number == 0:
            worker.signal(signal.SIGKILL)
            worker.end()
            worker = Worker(settings)
            worker.wait_for("shards_open")
    reasons = {r["close_reason"] for r in committed(settings, settings.topics.intents).decoded()}
    assert "idle" in reasons
    report = verified(settings)
    assert report["result"] == "equal", report
    assert report["live"] == digests_of_topics(settings)
    assert report["sessions"] > 20

    # Of the last round alone: what came before isn't read, and nothing that is reported is wrong.
    late = verified(settings, TimeRange(round_ms))
    assert late["result"] == "equal", late
    assert 0 < late["sessions"] < report["sessions"]
    assert max(each["offsets"][0] for each in late["partitions"]) > 0

    to_ms = int(time.time() * 1000) - 200
    done = run_streamer("replay", "--json", "--to", str(to_ms), "--from", str(begin_ms), settings=settings)
    assert json.loads(done.stdout)["bundles"][0]["digests"] == report["live"], done.stderr
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0


def test_a_worker_that_was_drained_and_went_on_is_replayed_alike(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings({"app.instance_id": "w"})
    clicks = some_clicks(120, seed=22)
    messages = as_messages(clicks)
    set_up(settings)
    for part in (messages[: len(messages) // 2], messages[len(messages) // 2 :]):
        send(settings, part)
        assert Worker(settings, "--drain").end() == 0
    report = verified(settings)
    assert report["result"] == "equal", report
    assert report["sessions"] == len(published(settings))
    assert any("drained" in note for each in report["partitions"] for note in each["notes"])


def test_a_record_that_live_should_not_have_is_named_and_other_rules_are_reported(
    fresh_settings: FreshSettings, run_streamer: RunStreamer
) -> None:
    settings = fresh_settings({"topics.partitions": 1})
    set_up(settings)
    send(settings, as_messages(some_clicks(30, seed=23)))
    assert Worker(settings, "--drain").end() == 0
    assert verified(settings)["result"] == "equal"
    topics = {kind: getattr(settings.topics, kind) for kind in ("intents", "embeddings")}
    records = {kind: committed(settings, topic).records for kind, topic in topics.items()}

    def append(kind: str, key: bytes, value: bytes) -> None:
        elsewhere = settings.topics.model_copy(update={"clicks": topics[kind]})
        send(settings.model_copy(update={"topics": elsewhere}), [(key, value)])

    schema = {"intents": "session_intent", "embeddings": "session_embedding"}
    for kind in topics:
        append(kind, records[kind][3].key, records[kind][3].value)
        _, forged = codec.decode(records[kind][5].value)
        append(kind, b"x", codec.encode(schema[kind], forged | {"session_id": "0" * 32}))
    report = verified(settings)
    assert report["result"] == "different"
    (partition,) = report["partitions"]
    assert partition["differences"] == {"extra": 1, "twice": 1}
    assert partition["session_ids"]["extra"] == ["0" * 32]
    assert report["live"] != report["replay"]
    done = run_streamer("verify", settings=settings)
    assert done.returncode == 1
    assert "1 extra, such as " + "0" * 32 in done.stdout

    # Under other rules nothing can be compared, and nothing is called equal or different.
    report = verified(fresh_settings({"topics.partitions": 1, "session.gap_s": 60}))
    assert report["result"] == "undetermined"
    assert "were cut by rules" in report["partitions"][0]["because"][0]

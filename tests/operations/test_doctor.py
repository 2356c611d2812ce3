"""`streamer doctor` finds what is wrong and says what to do."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from streamer.operations import doctor
from streamer.operations.doctor import Finding, examine, worst
from streamer.schemas.build import EXTENSIONS
from streamer.settings import Settings, load_settings
from tests.conftest import FreshSettings, RunStreamer
from tests.worker.live import Worker, alter_topic, as_messages, committed, send, set_up, some_clicks

NOWHERE = load_settings(
    overrides={"kafka.bootstrap_servers": "127.0.0.1:9", "kafka.connect_timeout_s": 0.5}, environ={}
)


def findings_of(settings: Settings, now_ms: int | None = None) -> dict[str, list[tuple[str, str]]]:
    """State and text by check, by this machine's clock or by one that stands still."""
    found: dict[str, list[tuple[str, str]]] = {}
    for finding in asyncio.run(examine(settings, lambda: now_ms or int(time.time() * 1000))):
        found.setdefault(finding.check, []).append((finding.state, finding.found))
        assert bool(finding.todo) == (finding.state != "ok")
    return found


def test_the_worst_finding_counts() -> None:
    ok, warn, fail = (Finding("x", state, "") for state in ("ok", "warn", "fail"))  # type: ignore[arg-type]
    assert (worst([ok]), worst([ok, warn]), worst([warn, fail, ok]), worst([])) == (
        "ok",
        "warn",
        "fail",
        "ok",
    )


@pytest.mark.parametrize(
    ("setting", "value", "found"),
    [
        ("kafka.bootstrap_servers", "broker.invalid:9", "PLAINTEXT to brokers that are not on this machine"),
        ("clicks.arrival", "create_time", "idleness closes nothing"),
        ("dead_letters.max_run", 0, "dead letters are not limited"),
    ],
)
def test_an_odd_configuration_is_a_warning_also_without_a_broker(
    setting: str, value: object, found: str
) -> None:
    nowhere = {"kafka.bootstrap_servers": "127.0.0.1:9", "kafka.connect_timeout_s": 0.5}
    settings = load_settings(overrides=nowhere | {setting: value}, environ={})
    findings = findings_of(settings)
    assert any(state == "warn" and found in text for state, text in findings["configuration"])
    assert findings["brokers"][0][0] == "fail"
    assert "topics" not in findings


@pytest.mark.parametrize(
    ("why", "missing", "state", "found", "todo"),
    [
        ("", [], "ok", f"all {len(EXTENSIONS)} compiled", ""),
        ("not compiled: a.b", ["a.b"], "warn", "pure Python (not compiled: a.b)", "install a C compiler"),
        ("X is set", [], "warn", "pure Python (X is set)", "unset STREAMER_NO_EXTENSIONS"),
        ("X is set", ["a.b"], "warn", "pure Python (X is set)", "install a C compiler"),
    ],
)
def test_pure_python_is_a_hint(
    monkeypatch: pytest.MonkeyPatch, why: str, missing: list[str], state: str, found: str, todo: str
) -> None:
    monkeypatch.setenv("CC", "/nowhere/cc -pthread")
    monkeypatch.setattr(doctor, "WHY_PURE", why)
    monkeypatch.setattr(doctor, "not_built", lambda: missing)
    (finding,) = (each for each in asyncio.run(examine(NOWHERE, lambda: 0)) if each.check == "extensions")
    assert (finding.state, finding.found) == (state, found)
    assert finding.todo.startswith(todo)


def test_who_has_a_compiler_is_told_how_to_see_what_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", f"{sys.executable} -pthread")
    monkeypatch.setattr(doctor, "WHY_PURE", "not compiled: a.b")
    monkeypatch.setattr(doctor, "not_built", lambda: ["a.b"])
    (finding,) = (each for each in asyncio.run(examine(NOWHERE, lambda: 0)) if each.check == "extensions")
    assert finding.todo.startswith("install clicks-to-intent anew with 'pip install -v'")


def test_a_bundle_that_is_none_fails(tmp_path: Any) -> None:
    overrides = {
        "model.bundle": tmp_path,
        "kafka.bootstrap_servers": "127.0.0.1:9",
        "kafka.connect_timeout_s": 0.5,
    }
    assert findings_of(load_settings(overrides=overrides, environ={}))["bundle"][0][0] == "fail"


def test_all_is_well_after_a_drain(fresh_settings: FreshSettings, run_streamer: RunStreamer) -> None:
    settings = fresh_settings({"identity.enabled": True})
    set_up(settings)
    send(settings, as_messages(some_clicks(5, seed=51)))
    assert findings_of(settings)["lag"][0][0] == "warn"
    assert Worker(settings, "--drain").end() == 0
    done = run_streamer("doctor", "--json", settings=settings)
    assert done.returncode == 0, done.stdout
    report = json.loads(done.stdout)
    others = [finding for finding in report["findings"] if finding["check"] != "extensions"]
    assert {finding["state"] for finding in others} == {"ok"}, report
    assert [f["check"] for f in report["findings"]] == [
        *(
            "versions",
            "extensions",
            "configuration",
            "bundle",
            "brokers",
            "permissions",
            "topics",
            "state",
            "clock",
            "keys",
            *["lag"] * 3,
        )
    ]
    assert [finding["found"] for finding in report["findings"][-3:]] == [
        f"group {group} is 0 records behind" for group in (settings.app.id, *settings.stage_sources)
    ]
    newest = max(record.timestamp for record in committed(settings, settings.topics.clicks).records)
    assert findings_of(settings, newest - 200_000)["clock"][0][0] == "fail"
    assert findings_of(settings, newest - 50_000)["clock"][0][0] == "warn"


def test_what_is_wrong_with_topics_and_keys_is_found(
    fresh_settings: FreshSettings, run_streamer: RunStreamer
) -> None:
    settings = fresh_settings()
    set_up(settings)

    async def spoil() -> None:
        async with AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers) as producer:
            for partition, key in ((0, b"v"), (1, b"v"), (2, None)):
                click = b'{"visitor_id": "v", "timestamp": 1}'
                await producer.send_and_wait(settings.topics.clicks, click, key=key, partition=partition)
        admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap_servers)
        await admin.start()
        await admin.delete_topics([settings.topics.erasures])
        await admin.close()

    asyncio.run(spoil())
    alter_topic(settings, settings.topics.clicks, message_timestamp_type="CreateTime")
    done = run_streamer("doctor", settings=settings)
    assert done.returncode == 1
    assert f"FAIL  topics: {settings.topics.erasures}: topic is missing" in done.stdout
    assert "message.timestamp.type is CreateTime, expected LogAppendTime" in done.stdout
    assert "FAIL  keys: 1 of 1 visitors have clicks in several partitions" in done.stdout
    assert "warn  keys: 1 of 3 clicks have no key" in done.stdout

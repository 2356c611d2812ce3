"""What was served, as the log topic has it: nobody can be named from it, and no look-up waits for it."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Any

import pytest
from aiokafka import TopicPartition

from streamer.kafka.client import client_arguments, committed_reader
from streamer.schemas import codec
from streamer.schemas.lookup import IdHash
from streamer.serving.lookup_log import LookupLog
from streamer.settings import Settings, load_settings
from streamer.settings_layers import SettingsError
from tests.client.records import a_message, a_record, a_user
from tests.conftest import RunStreamer
from tests.serving.live import own_topics, publish, serving
from tests.worker.live import metric, wait_until

KEY = "key-of-the-hashes-0123"
CLOSED_AT = int(time.time() * 1000)
IN_ENVIRONMENT = {"STREAMER_SERVE__LOG_KEY": KEY}
LOGGED = {"serve__log_lookups": True, "serve__log_key": KEY}


def logged(settings: Settings) -> list[dict[str, Any]]:
    async def read() -> list[dict[str, Any]]:
        consumer = committed_reader(client_arguments(settings.kafka))
        await consumer.start()
        try:
            tps = [TopicPartition(settings.topics.lookups, number) for number in (0, 1)]
            consumer.assign(tps)
            await consumer.seek_to_beginning()
            ends, found = await consumer.end_offsets(tps), []
            for tp in tps:
                while await consumer.position(tp) < ends[tp]:
                    found += [
                        record
                        for of in (await consumer.getmany(tp, timeout_ms=200)).values()
                        for record in of
                    ]
            assert all(b"v1" not in record.value and b"u1" not in record.value for record in found)
            records = [codec.decode(record.value)[1] for record in found]
            assert [record.key.decode() for record in found] == [each["id_hash"] for each in records]
            return sorted(records, key=lambda each: each["at"])
        finally:
            await consumer.stop()

    return asyncio.run(read())


def test_each_id_that_is_looked_up_is_written_down_by_its_hash(bootstrap: str) -> None:
    settings = own_topics(bootstrap, **LOGGED)
    publish(settings, settings.topics.visitors, [a_message("v1", CLOSED_AT, revision=2, is_final=False)])
    publish(
        settings,
        settings.topics.users,
        [a_user("u1", a_record("v1", CLOSED_AT)), a_user("gone", a_record("v")), (b"gone", None)],
    )
    began_ms = int(time.time() * 1000)
    with serving(settings, environ=IN_ENVIRONMENT) as service:
        service.wait_until_ready()
        etag = service.get("visitors", "v1").headers["ETag"].strip('"')
        service.get("visitors", "v1", If_None_Match=f'"{etag}"')
        service.get("users", "u1", "?space=space")
        service.get("users", "gone")
        service.batch("users", ["u1", "nobody", ""])
        service.request("/v1/users/%FF")
        wait_until(lambda: metric(service.port, "streamer_lookups_logged_total", outcome="written") == 6)
        assert metric(service.port, "streamer_lookups_logged_total", outcome="dropped") == 0
        assert KEY not in service.log
    found = logged(settings)
    hashed = IdHash(KEY)
    expected = [
        ("visitors", hashed("visitors", "v1"), "found", False),
        ("visitors", hashed("visitors", "v1"), "not_modified", False),
        ("users", hashed("users", "u1"), "found", True),
        ("users", hashed("users", "gone"), "erased", None),
        ("users", hashed("users", "u1"), "found", False),
        ("users", hashed("users", "nobody"), "unknown_id", None),
    ]
    names = ("view", "id_hash", "outcome", "has_vectors")
    assert sorted([tuple(each[name] for name in names) for each in found], key=str) == sorted(
        expected, key=str
    )
    of_visitor = next(each for each in found if each["view"] == "visitors")
    assert of_visitor["record_digest"] == etag
    assert [
        of_visitor[name] for name in ("closed_at", "revision", "is_final", "model_version", "embedding_space")
    ] == [
        CLOSED_AT,
        2,
        False,
        "m@1",
        "space",
    ]
    assert began_ms <= of_visitor["at"] <= time.time() * 1000


def test_a_hash_is_of_the_key_the_view_and_the_id() -> None:
    hashed = IdHash(KEY)("users", "u1")
    assert hashed == hashlib.blake2b(b"u1", key=KEY.encode(), digest_size=16, person=b"users").hexdigest()
    others = {IdHash(KEY + "x")("users", "u1"), IdHash(KEY)("visitors", "u1"), IdHash(KEY)("users", "u2")}
    assert len({hashed, *others}) == 4


def test_a_look_up_waits_for_no_broker_and_what_has_no_room_is_counted() -> None:
    settings = load_settings(
        overrides={
            "kafka.bootstrap_servers": "127.0.0.1:1",
            "serve.log_lookups": True,
            "serve.log_key": KEY,
        },
        environ={},
    )
    log = LookupLog(settings, now=lambda: 1.0, most=3)
    log.start()
    began = time.monotonic()
    for number in range(1000):
        log.note("users", f"u{number}", "unknown_id", None)
    assert time.monotonic() - began < 1
    assert (log.dropped, log.written) == (997, 0)
    log.stop(within_s=0.1)
    assert (log.dropped, log.written) == (1000, 0)


def test_without_its_topic_the_service_does_not_start(bootstrap: str, run_streamer: RunStreamer) -> None:
    settings = own_topics(bootstrap, **LOGGED)
    topics = settings.topics.model_copy(update={"lookups": "not-there"})
    elsewhere = settings.model_copy(update={"topics": topics})
    done = run_streamer("serve", "--port", "0", settings=elsewhere, environ=IN_ENVIRONMENT)
    assert done.returncode == 1
    assert "there is no topic not-there" in done.stderr


@pytest.mark.parametrize("key", [None, "short", "x" * 65])
def test_a_log_needs_a_key_of_some_length(key: str | None) -> None:
    with pytest.raises(SettingsError, match="log_key") as refused:
        load_settings(overrides={"serve.log_lookups": True, "serve.log_key": key}, environ={})
    assert key is None or key not in str(refused.value)

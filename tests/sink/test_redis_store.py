"""The scripts on a real Redis server: whatever is applied in whatever way, it comes to what the logs say."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamer.errors import StreamerError
from streamer.kafka.client import TlsFileError
from streamer.kafka.ports import free_ports
from streamer.schemas import codec
from streamer.settings import RedisSinkSettings
from streamer.sink.redis_store import RedisStore
from streamer.sink.source import Source
from streamer.sink.store import Batch, Change, StoreAwayError, StoreError
from tests.client.records import NOW_MS, a_record
from tests.conftest import ROOT
from tests.sink.live import RedisServer, as_stored
from tests.sink.logs import PARTITIONS, USERS, VISITORS, Applied, Entry, compacted, entries, state_of

DOCS = (ROOT / "docs" / "sinks.md").read_text()
ON_ONE_SERVER = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def run(act: Any) -> Any:
    return asyncio.run(act)


def drawn_logs(data: st.DataObject, source: Source) -> list[list[Entry]]:
    return [data.draw(entries(number, source)) for number in range(PARTITIONS)]


@pytest.mark.parametrize("source", [VISITORS, USERS])
@ON_ONE_SERVER
@given(data=st.data())
def test_however_logs_are_applied_the_store_has_what_they_come_to(
    redis_server: RedisServer, source: Source, data: st.DataObject
) -> None:
    logs = drawn_logs(data, source)
    steps = data.draw(st.lists(st.tuples(st.integers(0, PARTITIONS - 1), st.integers(0, 5)), max_size=12))
    redis_server.client.flushall()

    async def act() -> Applied:
        applied = Applied(redis_server, source)
        async with applied.store:
            for number, log in enumerate(logs):
                await applied.begin(number, log)
            for number, what in steps:
                if what == 0:  # a sink that had come further, before the store lost something
                    await applied.go_on(number, logs[number], 3, expected=applied.furthest[number])
                elif what == 1:
                    await applied.begin(number, logs[number])
                else:
                    await applied.go_on(number, logs[number], what)
            for number, log in enumerate(logs):
                await applied.go_on(number, log, 1000)
            await applied.sweep()
        return applied

    applied = run(act())
    assert applied.documents() == state_of(source, logs)
    for position in applied.positions.values():
        counts = dict(position.counts)
        assert counts.pop("read") == sum(counts.values())


@pytest.mark.parametrize("source", [VISITORS, USERS])
@ON_ONE_SERVER
@given(data=st.data())
def test_what_was_deleted_while_nobody_read_is_swept(
    redis_server: RedisServer, source: Source, data: st.DataObject
) -> None:
    logs = drawn_logs(data, source)
    read_before = data.draw(st.integers(0, 12))
    redis_server.client.flushall()

    async def act() -> Applied:
        applied = Applied(redis_server, source)
        async with applied.store:
            for number, log in enumerate(logs):
                await applied.begin(number, log)
                await applied.go_on(number, log, read_before)
            for number, log in enumerate(logs):
                await applied.begin(number, compacted(log))
                await applied.go_on(number, compacted(log), 1000)
            await applied.sweep()
        return applied

    assert run(act()).documents() == state_of(source, [compacted(log) for log in logs])


def applied_to(server: RedisServer, source: Source, logs: dict[int, list[Entry]]) -> dict[str, int]:
    async def act() -> dict[str, int]:
        applied = Applied(server, source)
        async with applied.store:
            for number, log in logs.items():
                await applied.begin(number, log)
                await applied.go_on(number, log, 1000)
        return applied.documents()

    documents: dict[str, int] = run(act())
    return documents


def entry(offset: int, key: str, closed_at: int | None, **fields: Any) -> Entry:
    record = None if closed_at is None else a_record(key, closed_at, **fields, event_count=offset)
    return Entry(offset, key, record)


def test_the_tombstone_of_another_partition_takes_nothing_away(store: RedisServer) -> None:
    logs = {0: [entry(5, "v", NOW_MS)], 1: [entry(9, "v", None)]}
    assert applied_to(store, VISITORS, logs) == {"v": 5}


def test_the_latest_of_a_visitor_is_that_of_the_greatest_age(store: RedisServer) -> None:
    later = entry(1, "v", NOW_MS, started_at=NOW_MS - 5, revision=2)
    for n, fields in enumerate([{"started_at": NOW_MS - 6}, {"started_at": NOW_MS - 5, "revision": 1}]):
        store.client.flushall()
        assert applied_to(store, VISITORS, {0: [later, entry(2 + n, "v", NOW_MS, **fields)]}) == {"v": 1}
    assert applied_to(store, VISITORS, {1: [entry(1, "w", NOW_MS), entry(2, "w", NOW_MS + 1)]})["w"] == 2
    assert applied_to(store, VISITORS, {0: [entry(3, "old", -5), entry(4, "old", -3)]})["old"] == 4


def test_after_an_erasure_older_records_stay_away_while_the_topic_is_read_again(store: RedisServer) -> None:
    log = [entry(0, "v", NOW_MS), entry(1, "v", None)]

    async def act() -> None:
        applied = Applied(store, VISITORS)
        async with applied.store:
            await applied.begin(0, log)
            await applied.go_on(0, log, 2)
            await applied.begin(0, log)
            await applied.go_on(0, log, 1)
        assert applied.positions[0].offset == 1, "the tombstone is not read again yet"
        assert applied.documents() == {}

    run(act())
    assert [key for key in store.client.scan_iter("*") if key.rpartition(b":")[2] == b"v"] == []
    [fence] = store.client.scan_iter("streamer:fence:*")
    assert 7 * 86_400_000 < store.client.pttl(fence) <= 8 * 86_400_000


def test_a_record_expires_with_its_time_to_live(store: RedisServer) -> None:
    async def act() -> None:
        now_ms = int(store.client.time()[0] * 1000)
        async with RedisStore(RedisSinkSettings(url=store.url, ttl_days=1)) as copy:
            position = await copy.begin(VISITORS, 0, None, 0, 0, now_ms)
            ages = (("young", 1000), ("old", 86_400_000), ("young", 0))
            changes = [
                Change(n, now_ms, key, a_record(key, now_ms - age)) for n, (key, age) in enumerate(ages)
            ]
            batch = Batch(VISITORS, 0, position.offset, 3, changes, read=3)
            after = (await copy.apply([batch], now_ms))[VISITORS.topic, 0]
        assert (after.counts["written"], after.counts["stale"]) == (2, 1)
        assert 86_390_000 < store.client.pttl("streamer:visitors:young") <= 86_400_000
        assert not store.client.exists("streamer:visitors:old")

    run(act())


def test_a_hash_has_vectors_as_little_endian_floats_and_no_field_for_what_is_null(store: RedisServer) -> None:
    record = codec.decode(codec.encode("visitor_intent", a_record("v", memberships=[0.25, 0.75])))[1]
    applied_to(store, VISITORS, {0: [Entry(0, "v", record)]})
    found = store.client.hgetall("streamer:visitors:v")
    assert found == as_stored(record)
    assert found[b"embedding"] == b"\x00\x00\x80\x3f\x00\x00\x00\x3f"
    assert b"user_id" not in found


def test_nothing_of_a_batch_is_applied_by_a_full_server(store: RedisServer) -> None:
    async def act() -> None:
        applied = Applied(store, VISITORS)
        log = [entry(n, f"v{n}", NOW_MS) for n in range(100)]
        async with applied.store:
            await applied.begin(0, log)
            before = dict(applied.positions)
            store.client.config_set("maxmemory", 1)
            with pytest.raises(StoreAwayError, match="full"):
                await applied.go_on(0, log, 100)
            store.client.config_set("maxmemory", 0)
            assert await applied.store.position(VISITORS, 0) == before[0]
            assert applied.documents() == {}
            await applied.go_on(0, log, 100)
        assert len(applied.documents()) == 100

    run(act())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"password": "wrong"}, "doesn't let us in"),
        ({"username": "nobody", "password": "x"}, "doesn't let us in"),
    ],
)
def test_a_server_that_does_not_let_us_in_is_named(
    store: RedisServer, given: dict[str, str], message: str
) -> None:
    assert_refused(StoreError, message, RedisSinkSettings(url=store.url, **given))


def test_the_documented_permissions_are_enough(store: RedisServer) -> None:
    permissions = DOCS.partition("The user needs\n`")[2].partition("`")[0].split()
    store.client.acl_setuser("sink", enabled=True, reset=True, passwords=["+secret"])
    store.client.execute_command("ACL", "SETUSER", "sink", *permissions)

    async def act() -> None:
        applied = Applied(store, VISITORS, username="sink", password="secret")
        log = [entry(0, "v", NOW_MS), entry(1, "w", NOW_MS), entry(2, "v", None)]
        async with applied.store:
            await applied.store.check()
            await applied.begin(0, log)
            await applied.go_on(0, log, 3)
            await applied.sweep()
            await applied.store.finish(VISITORS, 0, applied.positions[0])
        assert applied.documents() == {"w": 1}

    store.client.script_flush()
    run(act())
    store.client.acl_setuser("sink", enabled=True, reset=True, passwords=["+secret"])
    assert_refused(
        StoreError, "lacks a permission", RedisSinkSettings(url=store.url, username="sink", password="secret")
    )


def test_a_server_with_tls_has_to_show_a_certificate_that_is_trusted(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    (port,) = free_ports(1)
    files = {name: str(tmp_path / f"{name}.pem") for name in ("ca", "key", "cert")}
    server = RedisServer(
        tmp_path,
        *("--tls-port", str(port), "--tls-auth-clients", "no", "--tls-ca-cert-file", files["ca"]),
        *("--tls-cert-file", files["cert"], "--tls-key-file", files["key"]),
    )
    url = f"rediss://127.0.0.1:{port}/0"

    async def act() -> str:
        async with RedisStore(RedisSinkSettings(url=url, ssl_ca_location=files["ca"])) as copy:
            return await copy.check()

    try:
        assert run(act()) == "noeviction"
        assert_refused(StoreAwayError, "can't be used now", RedisSinkSettings(url=url))
        with pytest.raises(TlsFileError, match=r"sink\.redis\.ssl_ca_location"):
            RedisStore(RedisSinkSettings(url=url, ssl_ca_location=tmp_path / "none.pem"))
    finally:
        server.kill()


def test_a_server_that_is_not_there_may_come(store: RedisServer) -> None:
    assert_refused(StoreAwayError, "can't be used now", RedisSinkSettings(url="redis://127.0.0.1:1/0"))


def assert_refused(kind: type[StreamerError], message: str, refused: RedisSinkSettings) -> None:
    async def act() -> None:
        async with RedisStore(refused) as copy:
            await copy.check()

    with pytest.raises(kind, match=message) as caught:
        run(act())
    assert "wrong" not in str(caught.value)

"""Workers between stock serializers and deserializers, all with a real registry."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from schemas import codec
from streamer.kafka.ports import free_ports
from tests.conftest import FreshSettings, RunStreamer
from tests.schema_registry import SchemaRegistry
from tests.worker.live import (
    Worker,
    ask,
    committed,
    metric,
    oracle,
    published,
    send,
    set_up,
    some_clicks,
    wait_until,
)

Serialize = Callable[[dict[str, Any]], bytes]

OF_OUR_NAMES = {
    "type": "record",
    "name": "PageView",
    "namespace": "com.shop",
    "fields": [
        {"name": "shop", "type": "int"},
        {"name": "event_id", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "kind", "aliases": ["event_type"], "type": "string"},
        {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "visitor_id", "type": ["null", "string"]},
        {"name": "page_url", "type": ["null", "string"], "default": None},
    ],
}
JSON_SCHEMA = {
    "title": "Click",
    "type": "object",
    "properties": {"visitor_id": {"type": "string"}, "timestamp": {"type": "integer"}},
}
SHOP = {
    "type": "record",
    "name": "Shop",
    "fields": [
        {
            "name": "cookie",
            "type": {"type": "record", "name": "Cookie", "fields": [{"name": "id", "type": "string"}]},
        },
        {"name": "occurred", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "number", "type": "string"},
    ],
}
SHOP_MAPPING = """
[fields]
visitor_id = "cookie.id"
timestamp = { from = "occurred", unit = "ms" }
event_id = "number"
[[event]]
type = { constant = "page_view" }
"""


@pytest.fixture
def client(schema_registry: SchemaRegistry) -> Iterator[SchemaRegistryClient]:
    """Confluent's own."""
    with SchemaRegistryClient({"url": schema_registry.url}) as client:
        yield client


def serializer(client: SchemaRegistryClient, topic: str, schema: Any) -> Serialize:
    """Confluent's own: it registers the schema for the topic and writes its id."""
    serialize = AvroSerializer(client, json.dumps(schema))
    context = SerializationContext(topic, MessageField.VALUE)
    return lambda click: serialize(click, context) or b""


def of_our_names(click: dict[str, Any]) -> dict[str, Any]:
    return {
        "shop": 7,
        "event_id": str(uuid.uuid5(uuid.NAMESPACE_OID, click["event_id"])),
        "kind": click["event_type"],
        "timestamp": click["timestamp"] * 1000 + 999,
        "visitor_id": click["visitor_id"],
        "page_url": click["page_url"],
    }


def as_shop(click: dict[str, Any]) -> dict[str, Any]:
    cookie = {"id": click["visitor_id"]}
    return {"cookie": cookie, "occurred": click["timestamp"], "number": click["event_id"]}


def keyed(clicks: list[dict[str, Any]], write: Callable[[int], Serialize]) -> list[tuple[bytes, bytes]]:
    return [(click["visitor_id"].encode(), write(n)(click)) for n, click in enumerate(clicks)]


def test_clicks_of_stock_serializers_become_sessions_live_and_replayed(
    fresh_settings: FreshSettings,
    run_streamer: RunStreamer,
    schema_registry: SchemaRegistry,
    client: SchemaRegistryClient,
) -> None:
    settings = fresh_settings({"registry.url": schema_registry.url})
    topic, clicks = settings.topics.clicks, some_clicks(40, seed=11)
    set_up(settings)
    ours = serializer(client, topic, codec.schema("click"))
    schema_registry.ask("PUT", f"config/{topic}-value", {"compatibility": "NONE"})
    shop = serializer(client, topic, OF_OUR_NAMES)
    of_json = schema_registry.register(f"{topic}-json", JSON_SCHEMA, kind="JSON").to_bytes(5, "big")
    writers: list[Serialize] = [
        ours,
        lambda click: shop(of_our_names(click)),
        lambda click: of_json + json.dumps(click).encode(),
        lambda click: json.dumps(click).encode(),
        lambda click: codec.encode("click", click),
    ]
    proto = schema_registry.register(
        f"{topic}-proto", 'syntax = "proto3"; message Click { string visitor_id = 1; }', kind="PROTOBUF"
    )
    strange = [proto.to_bytes(5, "big") + b"\0\n\1v", (2**30).to_bytes(5, "big") + b"body"]
    send(settings, keyed(clicks, lambda n: writers[n % len(writers)]) + [(b"v", value) for value in strange])
    worker = Worker(settings, "--drain")
    assert worker.end() == 0, worker.log
    assert published(settings) == oracle(clicks)
    dead = committed(settings, settings.topics.dlq)
    reasons = sorted(dead.headers("x-streamer-reason"))
    assert reasons == ["unknown_schema_id", "unsupported_schema:protobuf"]
    assert {record.value for record in dead.records} == set(strange)
    verified = run_streamer("verify", "--json", settings=settings)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert json.loads(verified.stdout)["sessions"] == len(oracle(clicks))
    doctor = json.loads(run_streamer("doctor", "--json", settings=settings).stdout)
    found = {each["check"]: each["found"] for each in doctor["findings"]}
    assert found["registry"].startswith(f"{schema_registry.url}: ")
    assert found["keys"].startswith("40 visitors in the last ")


def test_a_registry_that_dies_under_load_is_waited_for_at_a_new_schema_only(
    fresh_settings: FreshSettings,
    schema_registry: SchemaRegistry,
    client: SchemaRegistryClient,
    tmp_path: Path,
) -> None:
    mapping = tmp_path / "shop.toml"
    mapping.write_text(SHOP_MAPPING)
    port = free_ports(1)[0]
    settings = fresh_settings(
        {"registry.url": schema_registry.url, "clicks.source": str(mapping), "worker.metrics_port": port}
    )
    topic, clicks = settings.topics.clicks, some_clicks(40, seed=12)
    set_up(settings)
    known = serializer(client, topic, SHOP)
    newer = {**SHOP, "fields": [*SHOP["fields"], {"name": "extra", "type": ["null", "int"], "default": None}]}
    unknown = serializer(client, topic, newer)
    at_first, known_id, new_id = clicks[:100], clicks[100:200], clicks[200:]
    messages = [
        keyed(at_first, lambda _: lambda click: known(as_shop(click))),
        keyed(known_id, lambda _: lambda click: known(as_shop(click))),
        keyed(new_id, lambda _: lambda click: unknown(as_shop(click))),
    ]
    worker = Worker(settings)

    def received(count: int) -> None:
        wait_until(lambda: metric(port, "streamer_clicks_total", end="received") == count)

    send(settings, messages[0])
    received(100)
    schema_registry.kill()
    try:
        send(settings, messages[1])
        received(200)
        send(settings, messages[2])
        wait_until(lambda: metric(port, "streamer_registry_waiting_seconds") > 0)
        status, why = ask(port, "/readyz")
        assert (status, "doesn't answer" in why) == (503, True)
        assert ask(port, "/livez")[0] == 200
        assert metric(port, "streamer_clicks_total", end="received") < len(clicks)
    finally:
        schema_registry.start()
    received(len(clicks))
    wait_until(lambda: ask(port, "/readyz")[0] == 200)
    assert metric(port, "streamer_registry_requests_total", outcome="found") == 2
    assert metric(port, "streamer_registry_requests_total", outcome="failed") > 0
    worker.signal(15)
    assert worker.end() == 0, worker.log
    drained = Worker(settings, "--drain")
    assert drained.end() == 0, drained.log
    assert published(settings) == oracle(clicks)


def test_doctor_says_that_the_registry_is_away(run_streamer: RunStreamer) -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    environ = {"STREAMER_REGISTRY__URL": url, "STREAMER_KAFKA__CONNECT_TIMEOUT_S": "0.1"}
    findings = json.loads(run_streamer("doctor", "--json", environ=environ).stdout)["findings"]
    (found,) = [each for each in findings if each["check"] == "registry"]
    assert found["state"] == "fail"
    assert found["found"].startswith(f"the schema registry at {url} doesn't answer")

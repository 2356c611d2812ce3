"""Workers between stock serializers and deserializers, all with a real registry."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from streamer.client import UserView, VisitorView
from streamer.kafka.ports import free_ports
from streamer.registry.client import RegistryError
from streamer.registry.lookup import SchemaLookup
from streamer.registry.outputs import output_prefixes, output_schemas, registered_outputs
from streamer.schemas import codec
from streamer.settings import Settings
from streamer.sources import click_decoder
from tests.client.records import a_record
from tests.conftest import FreshSettings, RunStreamer
from tests.schema_registry import SchemaRegistry
from tests.worker.live import (
    Worker,
    ask,
    committed,
    metric,
    oracle,
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
        {"name": "user_id", "type": ["null", "string"], "default": None},
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
        "user_id": click.get("user_id"),
    }


def as_shop(click: dict[str, Any]) -> dict[str, Any]:
    cookie = {"id": click["visitor_id"]}
    return {"cookie": cookie, "occurred": click["timestamp"], "number": click["event_id"]}


def keyed(clicks: list[dict[str, Any]], write: Callable[[int], Serialize]) -> list[tuple[bytes, bytes]]:
    return [(click["visitor_id"].encode(), write(n)(click)) for n, click in enumerate(clicks)]


def read_by(client: SchemaRegistryClient, settings: Settings, topic: str) -> list[dict[str, Any]]:
    """The records of an output, decoded by Confluent's own deserializer."""
    deserialize = AvroDeserializer(client)
    context = SerializationContext(topic, MessageField.VALUE)
    return [deserialize(record.value, context) for record in committed(settings, topic).records]


def final_sessions(records: list[dict[str, Any]]) -> list[tuple[str, int, int, int]]:
    """Visitor, start, end and count of each, sorted."""
    return sorted(
        (record["visitor_id"], record["started_at"], record["ended_at"], record["event_count"])
        for record in records
        if record["is_final"]
    )


def processed(settings: Settings, port: int, count: int) -> None:
    """Have a worker process all clicks up to this one, and end with sessions open."""
    worker = Worker(settings)
    wait_until(lambda: metric(port, "streamer_clicks_total", end="received") == count)
    worker.signal(15)
    assert worker.end() == 0, worker.log


def stock_producers(registry: SchemaRegistry, client: SchemaRegistryClient, topic: str) -> list[Serialize]:
    """Who writes a click in whichever way there is, all to one topic."""
    ours = serializer(client, topic, codec.schema("click"))
    registry.ask("PUT", f"config/{topic}-value", {"compatibility": "NONE"})
    shop = serializer(client, topic, OF_OUR_NAMES)
    of_json = registry.register(f"{topic}-json", JSON_SCHEMA, kind="JSON").to_bytes(5, "big")
    return [
        ours,
        lambda click: shop(of_our_names(click)),
        lambda click: of_json + json.dumps(click).encode(),
        lambda click: json.dumps(click).encode(),
        lambda click: codec.encode("click", click),
    ]


def values(settings: Settings, topic: str) -> list[bytes]:
    return [record.value for record in committed(settings, topic).records if record.value]


def test_a_worker_between_stock_serializers_and_deserializers(
    fresh_settings: FreshSettings,
    run_streamer: RunStreamer,
    schema_registry: SchemaRegistry,
    client: SchemaRegistryClient,
) -> None:
    """Its first outputs have our own ids, for it had no registry at first."""
    port = free_ports(1)[0]
    with_customers = {"identity.enabled": True, "topics.partitions": 2, "worker.metrics_port": port}
    alone = fresh_settings(with_customers)
    settings = fresh_settings(with_customers | {"registry.url": schema_registry.url})
    topics, clicks = settings.topics, some_clicks(40, seed=11)
    for click in clicks[::5]:
        click["user_id"] = f"u-{click['visitor_id']}"
    half = len(clicks) // 2
    set_up(settings)
    send(alone, keyed(clicks[:half], lambda _: lambda click: json.dumps(click).encode()))
    processed(alone, port, half)
    before = len(values(alone, topics.intents))
    assert before > 0

    producers = stock_producers(schema_registry, client, topics.clicks)
    proto = schema_registry.register(
        f"{topics.clicks}-proto", 'syntax = "proto3"; message Click { string visitor_id = 1; }', "PROTOBUF"
    )
    strange = [proto.to_bytes(5, "big") + b"\0\n\1v", (2**30).to_bytes(5, "big") + b"body"]
    strange += [b"\0\xff\xff\xff\xff", b"\1" + bytes(16) + b"body"]
    others = keyed(clicks[half:], lambda n: producers[n % len(producers)])
    send(settings, [*others, *((b"v", value) for value in strange)])
    worker = Worker(settings, "--drain")
    assert worker.end() == 0, worker.log
    dead = committed(settings, topics.dlq)
    reasons = sorted(dead.headers("x-streamer-reason"))
    assert reasons == [*["unknown_schema_id"] * 3, "unsupported_schema:protobuf"]
    assert {record.value for record in dead.records} == set(strange)

    assert sum(map(codec.is_own, values(settings, topics.intents))) == before
    for topic in (topics.visitors, topics.users, topics.embeddings):
        newer = [value for value in values(settings, topic) if not codec.is_own(value)]
        assert newer
        assert all(AvroDeserializer(client)(value, None)["visitor_id"] for value in newer)
    check_our_own_readers(settings, run_streamer, clicks)


def check_our_own_readers(
    settings: Settings, run_streamer: RunStreamer, clicks: list[dict[str, Any]]
) -> None:
    """They read both kinds of ids."""
    shown = run_streamer("subscribe", "intents", "--timeout", "1", "--json", settings=settings)
    intents = [json.loads(line)["value"] for line in shown.stdout.splitlines()]
    assert final_sessions(intents) == oracle(clicks)
    with VisitorView(settings) as visitors, UserView(settings) as users:
        assert len(visitors) == 40
        assert len(users) == len({click["visitor_id"] for click in clicks[::5]})
    verified = run_streamer("verify", "--json", settings=settings)
    report = json.loads(verified.stdout)
    assert (verified.returncode, report["result"]) == (0, "equal"), verified.stdout + verified.stderr
    assert report["sessions"] == len(oracle(clicks))
    doctor = json.loads(run_streamer("doctor", "--json", settings=settings).stdout)
    found = {each["check"]: each["found"] for each in doctor["findings"]}
    assert found["registry"].endswith("all schemas of the outputs among them")
    assert found["keys"].startswith("40 visitors in the last ")


FOLDER = Path(__file__).parent
JAVA = ["java", "-XX:TieredStopAtLevel=1", "-cp", "target/dependency/*", "Stock.java"]
HAS_JAVA = bool(shutil.which("javac")) and (FOLDER / "java/target/dependency").exists()
HAS_GO = (FOLDER / "go/build/stock").exists()
needs_java = pytest.mark.skipif(not HAS_JAVA, reason="make consumers, with Maven and Java")
needs_go = pytest.mark.skipif(not HAS_GO, reason="make consumers, with Go")


def through(program: list[str], folder: str, lines: Iterable[str]) -> list[str]:
    """What the program prints of these lines."""
    done = subprocess.run(
        program, cwd=FOLDER / folder, input="\n".join(lines), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def of_apicurio(registry: SchemaRegistry) -> str:
    """The registry's address, for its own serializers."""
    return registry.url.replace("/ccompat/v7", "/registry/v3")


@pytest.mark.parametrize(
    "language", [pytest.param("java", marks=needs_java), pytest.param("go", marks=needs_go)]
)
def test_stock_deserializers_of_other_languages_read_the_outputs(
    fresh_settings: FreshSettings, schema_registry: SchemaRegistry, language: str
) -> None:
    settings = fresh_settings({"registry.url": schema_registry.url})
    prefixes, record = asyncio.run(output_prefixes(settings)), a_record("v1", session_id="s1")
    messages = [
        prefixes[topic] + codec.encode_body(name, {f: record[f] for f in names_of(name) if f in record})
        for topic, name in output_schemas(settings).items()
    ]
    go, java = ["build/stock", schema_registry.url], [*JAVA, of_apicurio(schema_registry), "read", "outputs"]
    lines = [base64.b64encode(message).decode() for message in messages]
    read = [json.loads(line) for line in through(go if language == "go" else java, language, lines)]
    assert [each["session_id"] for each in read] == ["s1"] * len(messages)
    assert read[0]["embedding"] == pytest.approx(record["embedding"])


def names_of(name: codec.SchemaName) -> list[str]:
    return [field["name"] for field in codec.schema(name)["fields"]]


@needs_java
def test_clicks_of_javas_stock_serializer_are_read(
    fresh_settings: FreshSettings, schema_registry: SchemaRegistry
) -> None:
    settings = fresh_settings({"registry.url": schema_registry.url})
    program = [*JAVA, of_apicurio(schema_registry), "write", settings.topics.clicks]
    (written,) = map(base64.b64decode, through(program, "java", ["v1"]))
    lookup = SchemaLookup(settings.registry)
    asyncio.run(lookup.learn(written[: codec.PREFIX_BYTES]))
    arrived = click_decoder(settings.clicks, registered=lookup.registered).decode(written, None, "e")
    assert arrived is not None
    assert (arrived.visitor_id, arrived.click.timestamp, arrived.click.event_type) == (
        "v1",
        1_795_046_400_123,
        "click",
    )


def test_outputs_are_registered_by_whom_may_do_so(
    fresh_settings: FreshSettings, run_streamer: RunStreamer, schema_registry: SchemaRegistry
) -> None:
    own = {"registry.url": schema_registry.url, "registry.subject_strategy": "topic-record"}
    settings = fresh_settings(own | {"registry.auto_register": False})
    intents = f"{settings.topics.intents}-clicks_to_intent.SessionIntent"
    created = run_streamer("topics", "create", settings=settings)
    assert f"{intents}: not registered" in created.stderr
    worker = Worker(settings, "--drain")
    assert worker.end() == 1
    assert "lacks our schemas under" in worker.log
    schemas = json.loads(run_streamer("topics", "create", "--json", settings=fresh_settings(own)).stdout)[
        "schemas"
    ]
    again = asyncio.run(registered_outputs(settings, register=False))
    assert {each.subject: each.id for each in again} == schemas
    text = schema_registry.ask("GET", f"schemas/ids/{schemas[intents]}")["schema"]
    assert json.loads(text) == codec.schema("session_intent")


def test_a_schema_that_does_not_fit_the_registry_is_refused_with_its_reason(
    fresh_settings: FreshSettings, schema_registry: SchemaRegistry
) -> None:
    settings = fresh_settings({"registry.url": schema_registry.url})
    subject = f"{settings.topics.intents}-value"
    other = codec.schema("session_intent") | {"fields": [{"name": "x", "type": "string"}]}
    schema_registry.register(subject, other)
    schema_registry.ask("PUT", f"config/{subject}", {"compatibility": "FULL"})
    with pytest.raises(
        RegistryError, match=f"session_intent can't be registered as {subject}: .*HTTP 409: .*ncompatible"
    ):
        asyncio.run(registered_outputs(settings, register=True))


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
        {
            "registry.url": schema_registry.url,
            "clicks.source": str(mapping),
            "worker.metrics_port": port,
            "worker.stalled_after_s": 1,
        }
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
        wait_until(lambda: metric(port, "streamer_registry_waiting_seconds") > 2)
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
    assert final_sessions(read_by(client, settings, settings.topics.intents)) == oracle(clicks)


def test_doctor_says_that_the_registry_is_away(run_streamer: RunStreamer) -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    environ = {"STREAMER_REGISTRY__URL": url, "STREAMER_KAFKA__CONNECT_TIMEOUT_S": "0.1"}
    findings = json.loads(run_streamer("doctor", "--json", environ=environ).stdout)["findings"]
    (found,) = [each for each in findings if each["check"] == "registry"]
    assert found["state"] == "fail"
    assert found["found"].startswith(f"the schema registry at {url} doesn't answer")

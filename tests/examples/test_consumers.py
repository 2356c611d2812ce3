"""The consumers in other languages read the topics as their page says; each runs if it is installed."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import shutil
import struct
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from fastavro import parse_schema, schemaless_writer

from streamer.kafka.topics import create_topics, declared_topics
from streamer.schemas import codec
from streamer.settings import Settings
from tests.client.records import NOW_MS, a_record, a_user
from tests.conftest import FreshSettings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples/consumers"
PAGE = (ROOT / "docs/consumers.md").read_text()
COMMANDS = {
    "python": [sys.executable, "consume.py"],
    "node": ["node", "consume.mjs"],
    "java": ["java", "-XX:TieredStopAtLevel=1", "-cp", "target/dependency/*", "Consume.java"],
    "go": ["build/consume"],
}
INSTALLED = {
    "python": importlib.util.find_spec("confluent_kafka") is not None,
    "node": bool(shutil.which("node")) and (FOLDER / "node/node_modules/avsc").exists(),
    "java": bool(shutil.which("javac")) and any((FOLDER / "java/target/dependency").glob("avro-*.jar")),
    "go": (FOLDER / "go/build/consume").exists(),
}

Message = tuple[bytes, bytes | None]


def _in_version_1(name: codec.SchemaName, record: dict[str, Any]) -> bytes:
    schema = codec.landed(name)[0]
    assert codec.schema_id(schema) != codec.schema_id(codec.schema(name))
    stream = BytesIO()
    schemaless_writer(stream, parse_schema(schema, named_schemas={}), record)
    return struct.pack(">BI", 0, codec.schema_id(schema)) + stream.getvalue()


def intent(visitor: str, session_id: str, revision: int, *, old: bool = False, **fields: Any) -> Message:
    names = [field["name"] for field in codec.schema("session_intent")["fields"]]
    whole = a_record(visitor, session_id=session_id, revision=revision, **fields)
    record = {name: whole.get(name) for name in names}
    value = _in_version_1("session_intent", record) if old else codec.encode("session_intent", record)
    return visitor.encode(), value


def latest(visitor: str, closed_at: int, *, old: bool = False) -> Message:
    record = a_record(visitor, closed_at, session_id=f"{visitor}-{closed_at - NOW_MS}")
    value = _in_version_1("visitor_intent", record) if old else codec.encode("visitor_intent", record)
    return visitor.encode(), value


INTENTS: list[Message] = [
    intent("ann", "first", 0, old=True, is_final=False),
    intent("ann", "first", 0, old=True, is_final=False),
    intent("ann", "earlier", 1, supersedes="first", is_final=False),
    intent("ann", "earlier", 2, top_intent=None, abstained=True, abstain_reason="ambiguous"),
    intent("cy", "short", 0),
]
VISITORS: list[Message] = [
    latest("ann", NOW_MS, old=True),
    latest("ann", NOW_MS - 1),
    latest("ann", NOW_MS + 1),
    latest("cy", NOW_MS),
    (b"cy", None),
]
USERS: list[Message] = [
    a_user("17", a_record("ann", NOW_MS), a_record("cy", NOW_MS - 1)),
    a_user("17", a_record("cy", NOW_MS - 1)),  # the later session was withdrawn
    a_user("18", a_record("ann", NOW_MS, is_final=False)),
    (b"18", None),
    (b"19", None),
]
ABORTED = [intent("bob", "never", 0), latest("bob", NOW_MS), a_user("20", a_record("bob"))]


def _of_session(session_id: str, revision: int, *, is_final: bool, **more: object) -> dict[str, object]:
    told = {"session_id": session_id, "revision": revision, "is_final": is_final}
    return {"of": "session", **told, "supersedes": None, "top_intent": "cards"} | more


def _of_visitor(visitor: str, later: int) -> dict[str, object]:
    told = {"visitor_id": visitor, "session_id": f"{visitor}-{later}", "closed_at": NOW_MS + later}
    return {"of": "visitor", **told, "embedding_space": "space"}


def _of_user(user: str, session_id: str, sessions: int, *, is_final: bool = True) -> dict[str, object]:
    told = {"user_id": user, "session_id": session_id, "is_final": is_final}
    return {"of": "user", **told, "attribution": "link", "sessions": sessions}


EXPECTED = [
    _of_session("first", 0, is_final=False),
    _of_session("earlier", 1, is_final=False, supersedes="first"),
    _of_session("earlier", 2, is_final=True, top_intent=None),
    _of_session("short", 0, is_final=True),
    _of_visitor("ann", 0),
    _of_visitor("ann", 1),
    _of_visitor("cy", 0),
    {"erased": "cy"},
    _of_user("17", f"s-ann-{NOW_MS}", 2),
    _of_user("17", f"s-cy-{NOW_MS - 1}", 1),
    _of_user("18", f"s-ann-{NOW_MS}", 1, is_final=False),
    {"forgotten": "18"},
]


def publish(settings: Settings, committed: Mapping[str, Sequence[Message]]) -> None:
    """These by topic in a transaction that is committed, and others in one that isn't."""
    topics = settings.topics

    async def run() -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=settings.kafka.bootstrap_servers, transactional_id=settings.app.id
        )
        await producer.start()
        try:
            async with producer.transaction():
                for topic, messages in committed.items():
                    for key, value in messages:
                        await producer.send(topic, value, key=key)
            await producer.begin_transaction()
            all_topics = (topics.intents, topics.visitors, topics.users)
            for topic, (key, value) in zip(all_topics, ABORTED, strict=True):
                await producer.send_and_wait(topic, value, key=key)
            await producer.abort_transaction()
        finally:
            await producer.stop()

    asyncio.run(create_topics(settings.kafka, declared_topics(settings)))
    asyncio.run(run())


each_installed = pytest.mark.parametrize(
    "language",
    [
        pytest.param(name, marks=pytest.mark.skipif(not there, reason=f"not installed: consumer in {name}"))
        for name, there in INSTALLED.items()
    ],
)


def consume(language: str, settings: Settings) -> subprocess.CompletedProcess[str]:
    """Until three seconds without a record."""
    brokers, topics = settings.kafka.bootstrap_servers, settings.topics
    of_topics = (topics.intents, topics.visitors, topics.users)
    return subprocess.run(
        [*COMMANDS[language], brokers, str(ROOT / "schemas/landed"), *of_topics, "3"],
        cwd=FOLDER / language,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@each_installed
def test_a_consumer_tells_each_committed_revision_once(language: str, fresh_settings: FreshSettings) -> None:
    settings = fresh_settings({"topics.partitions": 2, "identity.enabled": True})
    topics = settings.topics
    publish(settings, {topics.intents: INTENTS, topics.visitors: VISITORS, topics.users: USERS})
    done = consume(language, settings)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(told, key=_in_order) == sorted(EXPECTED, key=_in_order)


@each_installed
def test_a_consumer_stops_at_a_schema_that_it_does_not_know(
    language: str, fresh_settings: FreshSettings
) -> None:
    settings = fresh_settings({"topics.partitions": 1, "identity.enabled": True})
    publish(settings, {settings.topics.intents: [INTENTS[0], (b"ann", struct.pack(">BI", 0, 7) + b"body")]})
    done = consume(language, settings)
    assert done.returncode != 0
    assert "schema id 7" in done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == EXPECTED[:1]


def _in_order(line: dict[str, object]) -> str:
    return json.dumps(line, sort_keys=True)


def sections(file: Path) -> dict[str, str]:
    """Name -> text between the comments `-- name` and `-- end`."""
    found = re.findall(
        r"^[ \t]*(?:#|//) -- (\w+)\n(.*?)^[ \t]*(?:#|//) -- end$", file.read_text(), re.M | re.S
    )
    return {name: textwrap.dedent(text).strip() for name, text in found}


@pytest.mark.parametrize("file", ["python/consume.py", "node/consume.mjs", "java/Consume.java", "go/main.go"])
def test_every_consumer_has_the_same_parts(file: str) -> None:
    assert list(sections(FOLDER / file)) == ["decoding", "sessions", "visitors", "users", "consumer"]


def test_the_page_shows_the_code_that_runs() -> None:
    shown = re.findall(r"<!-- (\S+) (\w+) -->\n```\w+\n(.*?)\n```", PAGE, re.S)
    assert len(shown) >= 4
    for file, name, text in shown:
        assert text == sections(FOLDER / file)[name], (file, name)


def test_the_page_names_what_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
    names: tuple[codec.SchemaName, ...] = (
        "session_embedding",
        "session_intent",
        "visitor_intent",
        "user_intent",
    )
    for name in names:
        for version in codec.landed(name):
            assert str(codec.schema_id(version)) in PAGE, name

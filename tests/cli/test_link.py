"""`streamer link`: what it writes, what it refuses, and what it lists."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from streamer.errors import UsageError
from streamer.identity.links import read_link
from streamer.identity.rules import IdentityRules
from streamer.kafka.erase import erase
from streamer.kafka.links_topic import LinkRecord, WrittenLinks, listed_links, read_links, write_links
from streamer.kafka.topics import create_topics, declared_topics
from streamer.schemas import codec
from streamer.settings import Settings
from tests.conftest import FreshSettings, RunStreamer
from tests.worker.live import committed

ADD: LinkRecord = {"action": "link", "confidence": 0.5, "source": "crm"}
UNLINK: LinkRecord = ADD | {"action": "unlink"}
LINE = b'{"visitor_id": "v", "user_id": "u"}'


def listed(content: bytes, tmp_path: Path, defaults: LinkRecord = ADD) -> list[LinkRecord]:
    path = tmp_path / "links.jsonl"
    path.write_bytes(content)
    return listed_links(str(path), defaults, IdentityRules())


def a_link(visitor: str, user: str, action: str = "link") -> LinkRecord:
    return {"visitor_id": visitor, "user_id": user, "action": action, "confidence": 1.0, "source": None}


@pytest.fixture
def settings(fresh_settings: FreshSettings) -> Settings:
    settings = fresh_settings({"topics.partitions": 3, "identity.enabled": True})
    asyncio.run(create_topics(settings.kafka, declared_topics(settings)))
    return settings


def written(settings: Settings, since_ms: int = 0) -> WrittenLinks:
    return asyncio.run(read_links(settings, IdentityRules(), since_ms))


def test_what_a_line_does_not_say_is_as_the_options_say(tmp_path: Path) -> None:
    lines = LINE + b'\n\n{"visitor_id": "w", "user_id": "u", "confidence": 1, "source": null, "more": [1]}\n'
    assert listed(lines, tmp_path) == [
        {"visitor_id": "v", "user_id": "u", **ADD},
        {"visitor_id": "w", "user_id": "u", "action": "link", "confidence": 1.0, "source": None},
    ]
    assert listed(gzip.compress(lines), tmp_path) == listed(lines, tmp_path)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"visitor_id": "secret"', "is not JSON"),
        (b'["secret"]', "is no JSON object"),
        (b'{"visitor_id": "secret"}', "a field is missing or of another type"),
        (b'{"visitor_id": "secret", "user_id": 12345}', "a field is missing or of another type"),
        (b'{"visitor_id": "secret", "user_id": ""}', "user_id has 0 bytes"),
        (b'{"visitor_id": "secret", "user_id": "NULL"}', "names no customer"),
        (b'{"visitor_id": "secret", "user_id": "0-00"}', "names no customer"),
        (b'{"visitor_id": "%s", "user_id": "u"}' % (b"secret" * 50), "visitor_id has 300 bytes"),
        (b'{"visitor_id": "secret", "user_id": "u", "confidence": 1.5}', "not within 0 to 1"),
        (b'{"visitor_id": "secret", "user_id": "u", "source": 5}', "of another type"),
        (
            b'{"visitor_id": "secret", "user_id": "u", "action": "unlink"}',
            "'streamer link remove' takes such",
        ),
        (b'{"visitor_id": "secret", "user_id": "u", "action": "merge"}', "neither link nor unlink"),
    ],
)
def test_a_line_that_is_no_link_is_named_and_not_shown(tmp_path: Path, line: bytes, reason: str) -> None:
    with pytest.raises(UsageError, match=f"links.jsonl, line 3: .*{reason}.*Nothing was written") as caught:
        listed(LINE + b"\n\n" + line + b"\n", tmp_path)
    assert "secret" not in str(caught.value)
    assert "12345" not in str(caught.value)


def test_a_file_without_links_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no link; expected identity links as JSON lines"):
        listed(b"\n\n", tmp_path)


def test_a_file_of_unlinks_is_not_taken_for_links(tmp_path: Path) -> None:
    assert [link["action"] for link in listed(LINE, tmp_path, UNLINK)] == ["unlink"]
    with pytest.raises(UsageError, match="'streamer link add' takes such"):
        listed(b'{"visitor_id": "v", "user_id": "u", "action": "link"}', tmp_path, UNLINK)


def test_links_are_written_taken_back_and_listed(settings: Settings, run_streamer: RunStreamer) -> None:
    def link(*arguments: str, stdin: str = "") -> str:
        done = run_streamer("link", *arguments, settings=settings, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    added = json.loads(link("add", "v1", "u1", "--confidence", "0.9", "--source", "crm", "--json"))
    assert (added["topic"], added["links"]) == (settings.topics.links, 1)
    lines = '{"visitor_id": "v2", "user_id": "u1"}\n{"visitor_id": "v1", "user_id": "u2"}\n'
    link("add", "--file", "-", stdin=lines)
    link("remove", "v1", "u2")
    records = committed(settings, settings.topics.links).records
    assert len(records) == 4 * 3
    assert {record.partition for record in records} == {0, 1, 2}
    for record in records:
        assert record.key.decode() == read_link(record.value, IdentityRules()).visitor_id
    rows: list[dict[str, Any]] = [json.loads(line) for line in link("ls", "--json").splitlines()]
    told = [(row["visitor_id"], row["user_id"], row["action"], row["in_effect"]) for row in rows]
    assert told == [
        ("v1", "u1", "link", True),
        ("v2", "u1", "link", True),
        ("v1", "u2", "link", False),
        ("v1", "u2", "unlink", False),
    ]
    assert (rows[0]["confidence"], rows[0]["source"], rows[0]["partitions"]) == (0.9, "crm", 3)
    assert rows[0]["at"] <= added["moment"]
    subscribed = run_streamer("subscribe", "links", "--limit", "12", settings=settings)
    assert subscribed.stdout.count("v1  link u1, by crm") == 3
    assert link("ls", "--user", "u1").count("in effect") == 2
    [line] = link("ls", "--visitor", "v1", "--user", "u1").splitlines()
    assert line.endswith("v1  u1  link  0.9  in effect  by crm")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "expected VISITOR USER, or --file"),
        (["v"], "expected VISITOR USER, or --file"),
        (["v", "u", "--file", "-"], "expected VISITOR USER, or --file"),
        (["v", "null"], "names no customer"),
        (["v", "u", "--confidence", "2"], "--confidence"),
        (["--file", "/nowhere"], "/nowhere: cannot be read"),
    ],
)
def test_a_wrong_call_is_refused(
    settings: Settings, run_streamer: RunStreamer, arguments: list[str], reason: str
) -> None:
    done = run_streamer("link", "add", *arguments, settings=settings)
    assert (done.returncode, reason in done.stderr) == (2, True), done.stderr


def test_a_link_is_in_effect_until_it_is_old_taken_back_or_erased(settings: Settings) -> None:
    links = [
        a_link("v", "u"),
        a_link("w", "u"),
        a_link("x", "y"),
        a_link("x", "y", "unlink"),
        a_link("x", "y"),
    ]
    asyncio.run(write_links(settings, links))
    in_effect = [each.in_effect for each in written(settings).links]
    assert in_effect == [True, True, False, False, True]
    later = round(time.time() * 1000) + 1000
    assert not any(each.in_effect for each in written(settings, later).links)
    asyncio.run(erase(settings, visitors=["w"], users=["y"], requested_at=0))
    assert [each.in_effect for each in written(settings).links] == [True, False, False, False, False]
    asyncio.run(write_links(settings, [a_link("w", "u")]))
    assert written(settings).links[-1].in_effect


def test_a_link_that_some_partitions_lack_is_told(settings: Settings, run_streamer: RunStreamer) -> None:
    async def publish() -> None:
        async with AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers) as producer:
            for partition, value in (
                (1, codec.encode("identity_link", a_link("v", "u"))),
                (1, codec.encode("identity_link", a_link("v", "u"))),
                (2, codec.encode("identity_link", a_link("v", "u"))),
                (0, b'{"visitor_id": "w", "user_id": "u", "action": "link"}'),
                (0, b"garbage"),
                (0, None),
            ):
                await producer.send_and_wait(settings.topics.links, value, key=b"v", partition=partition)

    asyncio.run(publish())
    done = run_streamer("link", "ls", settings=settings)
    assert done.returncode == 0, done.stderr
    assert [line.partition(" in ")[2] for line in done.stdout.splitlines()] == [
        "effect  in 2 of 3 partitions only",
        "effect  in 1 of 3 partitions only",
        "effect  in 1 of 3 partitions only",
    ]
    assert "1 records of" in done.stderr

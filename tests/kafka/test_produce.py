"""Clicks go in keyed by visitor, in order, each once; what is odd is sent or counted, never lost."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from streamer.kafka.lines import Lines
from streamer.kafka.partitions import hash_of
from streamer.kafka.produce import Produced, produce, visitor_key
from streamer.kafka.subscribe import records
from streamer.kafka.topics import TopicError, create_topics, declared_topics
from streamer.settings import Settings
from tests.conftest import FreshSettings


@pytest.fixture
def settings(fresh_settings: FreshSettings) -> Settings:
    settings = fresh_settings({"topics.partitions": 3})
    asyncio.run(create_topics(settings.kafka, declared_topics(settings)))
    return settings


def click(visitor: str, number: int) -> bytes:
    return json.dumps({"event_type": "page_view", "n": number, "visitor_id": visitor}).encode()


def send(settings: Settings, path: Path, lines: list[bytes], rate: float | None = None) -> Produced:
    path.write_bytes(b"\n".join(lines))
    with Lines(str(path)) as source:
        return asyncio.run(produce(settings, source, rate))


def stored(settings: Settings) -> list[Any]:
    async def read() -> list[Any]:
        found = records(settings.kafka, settings.topics.clicks, timeout_s=1)
        return [record async for record in found]

    return asyncio.run(read())


def test_every_click_is_stored_once_and_in_the_order_of_its_visitor(
    settings: Settings, tmp_path: Path
) -> None:
    lines = [click(f"visitor-{n % 50}", n) for n in range(20_000)]
    produced = send(settings, tmp_path / "clicks", lines)
    found = stored(settings)
    assert produced.sent == len(lines) == len(found)
    for visitor in (b"visitor-0", b"visitor-49"):
        expected = [line for line in lines if json.loads(line)["visitor_id"] == visitor.decode()]
        assert [record.value for record in found if record.key == visitor] == expected


def test_partition_is_the_one_of_the_java_clients(settings: Settings, tmp_path: Path) -> None:
    send(settings, tmp_path / "clicks", [click(f"v{n}", n) for n in range(100)])
    found = stored(settings)
    assert {record.partition for record in found} == {0, 1, 2}
    assert all(record.partition == hash_of(record.key) % 3 for record in found)


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"{}",
        b'{"visitor_id": 5}',
        b'{"visitor_id": null}',
        b'{"visitor_id": ""}',
        b"[]",
        b'{"visitor_id": "a"',
        b"[" * 100_000,
        b'{"visitor_id": "\xff"}',
    ],
)
def test_a_line_without_a_readable_visitor_has_no_key(line: bytes) -> None:
    assert visitor_key(line) is None


def test_the_key_is_the_visitor_in_utf_8() -> None:
    assert visitor_key(b'{"a": {"visitor_id": "no"}, "visitor_id": "Zo\\u00eb"}') == "Zoë".encode()


def test_half_a_character_elsewhere_does_not_hide_the_visitor() -> None:
    assert visitor_key(b'{"page_title": "cut \\ud83d", "visitor_id": "v"}') == b"v"


def test_unreadable_lines_are_sent_as_they_are_without_a_key(settings: Settings, tmp_path: Path) -> None:
    odd = [b"not json", b'{"visitor_id": 5}', b"\xff\xfe"]
    produced = send(settings, tmp_path / "clicks", [*odd, b"", b"  \r", click("v", 1)])
    assert (produced.sent, produced.without_key, produced.blank) == (4, 3, 2)
    found = {record.value: record.key for record in stored(settings)}
    assert found == {**dict.fromkeys(odd), click("v", 1): b"v"}


def test_a_line_too_large_for_the_topic_is_counted_and_the_others_go_on(
    settings: Settings, tmp_path: Path
) -> None:
    fits = click("v", 1) + b" " * 1_000_000
    too_large = click("v", 2) + b" " * 1_048_500
    produced = send(settings, tmp_path / "clicks", [click("a", 0), too_large, fits, click("a", 3)])
    assert (produced.sent, produced.too_large) == (3, 1)
    assert fits in [record.value for record in stored(settings)]


def test_the_largest_line_that_is_sent_is_taken_by_the_broker(settings: Settings, tmp_path: Path) -> None:
    for size in range(1_048_576 - 200, 1_048_576 - 100, 7):
        line = b"x" * size
        produced = send(settings, tmp_path / "clicks", [line])
        assert produced.sent + produced.too_large == 1


def test_rate_is_kept(settings: Settings, tmp_path: Path) -> None:
    started = time.monotonic()
    produced = send(settings, tmp_path / "clicks", [click("v", n) for n in range(100)], rate=100)
    assert produced.sent == 100
    assert 0.9 < time.monotonic() - started < 5


def test_what_was_taken_before_an_interruption_is_stored_and_counted(
    settings: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "clicks"
    path.write_bytes(b"\n".join(click("v", n) for n in range(1000)))
    produced = Produced()

    async def interrupted() -> None:
        some_sent = asyncio.Event()

        def watch(so_far: Produced) -> None:
            if so_far.sent >= 20:
                some_sent.set()

        with Lines(str(path)) as source:
            sending = asyncio.create_task(produce(settings, source, 100, watch, produced))
            await some_sent.wait()
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending

    asyncio.run(interrupted())
    assert 20 <= produced.sent < 1000
    assert [record.value for record in stored(settings)] == [click("v", n) for n in range(produced.sent)]


def test_a_topic_that_is_not_there_is_an_error(fresh_settings: FreshSettings, tmp_path: Path) -> None:
    with pytest.raises(TopicError, match="there is no topic"):
        send(fresh_settings(), tmp_path / "clicks", [click("v", 1)])

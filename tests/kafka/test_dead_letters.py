"""Dead letters are counted, filtered, and put back exactly once, where they came from and as they came."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.structs import ConsumerRecord

from streamer.errors import UsageError
from streamer.kafka import dead_letters
from streamer.kafka.dead_letters import (
    Filter,
    as_dead_letter,
    parse_places,
    read_dead_letters,
    replay_headers,
)
from streamer.kafka.erase import ErasedUntil
from streamer.pipeline.dead_letters import STAGE_HEADER, Header, dead_letter_headers
from streamer.settings import Settings
from tests.conftest import FreshSettings, RunStreamer
from tests.worker.live import committed, set_up

CARD = "4111 1111 1111 1111"

NOBODY = ErasedUntil({}, {})


class Record:
    """Of the clicks topic."""

    def __init__(self, offset: int, headers: tuple[Header, ...] = ()) -> None:
        self.offset = offset
        self.headers = headers


def headers(settings: Settings, partition: int, stage: str = "decode", reason: str = "invalid_json") -> Any:
    original = Record(7, (("trace", b"t1"),))
    return dead_letter_headers(settings.topics.clicks, partition, original, stage, reason)


def put(settings: Settings, *letters: tuple[int, bytes | None, bytes | None, Any]) -> None:
    async def run() -> None:
        async with AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers) as producer:
            for partition, key, value, its_headers in letters:
                await producer.send_and_wait(
                    settings.topics.dlq, value, key=key, partition=partition, headers=its_headers
                )

    asyncio.run(run())


def letter(*its_headers: Header, timestamp: int = 5) -> dead_letters.DeadLetter:
    record: Any = ConsumerRecord("dlq", 1, 2, timestamp, 1, b"k", b"v", None, 1, 1, its_headers)
    return as_dead_letter(record)


@pytest.mark.parametrize(
    ("wanted", "passes"),
    [
        (Filter(), True),
        (Filter(stage="decode"), True),
        (Filter(stage="validate"), False),
        (Filter(reason="missing_field:timestamp"), True),
        (Filter(reason="missing_field*"), True),
        (Filter(reason="missing_field"), False),
        (Filter(start=5, end=6), True),
        (Filter(end=5), False),
        (Filter(start=6), False),
        (Filter(places=frozenset(["1/2"])), True),
        (Filter(places=frozenset(["2/1"])), False),
    ],
)
def test_a_filter_lets_through_what_it_names(wanted: Filter, passes: bool) -> None:
    record = Record(1)
    assert wanted(letter(*dead_letter_headers("t", 0, record, "decode", "missing_field:timestamp"))) is passes


@pytest.mark.parametrize("text", ["", "1", "1/", "/1", "1/x", "-1/2", "1/2/3"])
def test_a_place_is_partition_and_offset(text: str) -> None:
    with pytest.raises(UsageError, match="expected PARTITION/OFFSET"):
        parse_places([text])


def test_a_record_of_somebody_else_has_no_source_and_is_not_put_back(fresh_settings: FreshSettings) -> None:
    strange = letter((STAGE_HEADER, b"\xff"), ("__streams.errors.partition", b"9" * 30))
    assert strange.source is None
    assert dead_letters.why_not(strange, fresh_settings(), 4, again=True, erased=NOBODY) is not None


def test_an_empty_record_is_not_put_back(fresh_settings: FreshSettings) -> None:
    empty = letter(*dead_letter_headers(fresh_settings().topics.clicks, 0, Record(1), "decode", "null_value"))
    empty.key = empty.value = None
    assert dead_letters.why_not(empty, fresh_settings(), 4, again=True, erased=NOBODY) == (
        "it holds nothing, neither key nor value"
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [(b"gone", b"{broken"), (b"other", b'{"visitor_id": "gone", "timestamp": 1}'), (b"gone", None)],
)
def test_what_an_erased_visitor_left_does_not_come_back(
    fresh_settings: FreshSettings, key: bytes, value: bytes | None
) -> None:
    settings = fresh_settings()
    left = letter(*dead_letter_headers(settings.topics.clicks, 0, Record(1), "decode", "r"), timestamp=5)
    left.key, left.value = key, value
    for moment, why in ((5, "its visitor was erased since"), (4, None)):
        erased = ErasedUntil({"gone": moment}, {"other": 9})
        assert dead_letters.why_not(left, settings, 4, again=True, erased=erased) == why


def test_what_an_erased_customer_left_does_not_come_back(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings()
    left = letter(*dead_letter_headers(settings.topics.clicks, 0, Record(1), "decode", "r"), timestamp=5)
    left.key, left.value = b"v", b'{"visitor_id": "v", "user_id": "gone"}'
    for moment, why in ((5, "its customer was erased since"), (4, None)):
        erased = ErasedUntil({"gone": 9}, {"gone": moment, "v": 9})
        assert dead_letters.why_not(left, settings, 4, again=True, erased=erased) == why


def test_headers_of_a_replay_are_the_original_ones_and_how_often() -> None:
    again = letter(
        ("trace", b"t1"),
        ("x-streamer-replayed", b"2"),
        *dead_letter_headers("t", 0, Record(1), "decode", "r", arrival=7),
    )
    assert replay_headers(again) == [
        ("trace", b"t1"),
        ("x-streamer-arrival", b"7"),
        ("x-streamer-replayed", b"3"),
        ("x-streamer-replayed-from", b"1/2"),
    ]


def test_a_dead_letter_that_does_not_say_when_it_arrived_did_so_when_it_was_put_aside() -> None:
    old = letter(*dead_letter_headers("t", 0, Record(1), "decode", "r"), timestamp=5)
    assert replay_headers(old)[0] == ("x-streamer-arrival", b"5")


def test_from_the_command_line(fresh_settings: FreshSettings, run_streamer: RunStreamer) -> None:
    settings = fresh_settings()
    set_up(settings)
    put(
        settings,
        (3, b"k", f'{{"q": "{CARD}"'.encode(), headers(settings, 3)),
        (1, b"t", None, headers(settings, 1, "decode", "null_value")),
        (0, b"v", b'{"session_id": 1}', [(STAGE_HEADER, b"score")]),
        (2, b"w", b"{", headers(settings, 9)),
    )

    def dlq(*arguments: str) -> Any:
        done = run_streamer("dlq", *arguments, "--json", settings=settings)
        assert done.returncode == 0, done.stderr
        assert CARD not in done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[0])

    listed = dlq("ls")
    assert listed["total"] == 4
    assert {(c["stage"], c["reason"]): c["count"] for c in listed["counts"]}["decode", "invalid_json"] == 2
    assert '{"q": ":card"' in dlq("show", "3/0")["preview"]
    raw = run_streamer("dlq", "show", "3/0", "--raw", settings=settings)
    assert CARD in raw.stdout
    assert dlq("replay", "--all", "--dry-run")["replayed"] == 2
    assert dlq("replay", "--reason", "invalid_json") == {
        "replayed": 1,
        "dry_run": False,
        "left_out": {"its partition is not one of the 4 of " + settings.topics.clicks: 1},
    }
    assert dlq("replay", "--all")["replayed"] == 1
    assert dlq("replay", "--all")["replayed"] == 0
    assert dlq("replay", "3/0", "--again")["replayed"] == 1
    clicks = committed(settings, settings.topics.clicks).records
    assert (
        sorted((r.partition, r.key, r.value) for r in clicks if r.partition == 3)
        == [(3, b"k", f'{{"q": "{CARD}"'.encode())] * 2
    )
    assert [(r.partition, r.key, r.value) for r in clicks if r.partition == 1] == [(1, b"t", None)]
    assert list(clicks[-1].headers)[-2:] == [
        ("x-streamer-replayed", b"1"),
        ("x-streamer-replayed-from", f"{clicks[-1].partition}/0".encode()),
    ]
    assert asyncio.run(read_dead_letters(settings, Filter(places=frozenset(["3/0"]))))[0].replayed
    named = run_streamer("dlq", "replay", "--json", "3/0", "3/99", settings=settings)
    left_out = {"it was replayed before: --again": 1, "no such dead letter": 1}
    assert (named.returncode, json.loads(named.stdout)["left_out"]) == (1, left_out)
    refused = run_streamer("dlq", "replay", settings=settings)
    assert (refused.returncode, "or --all" in refused.stderr) == (2, True)

"""Events after the binding's own example: https://github.com/cloudevents/spec, v1.0.2, Kafka, 3.2.5."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.rules import SessionRules
from streamer.core.sessionizer import Sessionizer
from streamer.pipeline.cloud_events import structured
from streamer.pipeline.partition import Partition, PartitionPolicy
from streamer.replay.sources import LogRecord
from streamer.schemas.click import Click
from streamer.settings import ClickSettings
from streamer.sources import click_decoder, whole_value
from tests.sources.events import CLOUD, NOON_MS

HEADERS = [
    ("ce_specversion", b"1.0"),
    ("ce_type", b"com.bank.page_view"),
    ("ce_source", b"/web"),
    ("ce_subject", b"v-1"),
    ("ce_id", b"1234-1234-1234"),
    ("ce_time", b"2024-03-07T12:00:00Z"),
    ("content-type", b"application/json"),
]
DATA = json.dumps({"page_url": "/loans"}).encode()
CLOUD_EVENTS = ClickSettings(source="cloudevents")


def test_headers_are_the_attributes_and_the_value_is_the_data() -> None:
    event = structured(DATA, HEADERS)
    assert event is not None
    arrived = click_decoder(CLOUD_EVENTS).decode(event, NOON_MS, "")
    assert arrived is not None
    assert arrived.visitor_id == "v-1"
    assert arrived.click == Click(NOON_MS, "1234-1234-1234", "com.bank.page_view", path="/loans")


@pytest.mark.parametrize("content_type", [b"application/cloudevents+json", b"Application/CloudEvents+JSON"])
def test_an_event_in_structured_mode_may_have_the_same_headers(content_type: bytes) -> None:
    value = json.dumps(CLOUD).encode()
    assert structured(value, [*HEADERS[:-1], ("content-type", content_type)]) == value


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (DATA, []),
        (DATA, HEADERS[1:]),
        (DATA, [*HEADERS, ("ce_subject", b"\xff")]),
        (b'{}, "subject": "v-2"', HEADERS),
        (b"[" * 100_000, HEADERS),
        (b"\0\0\0\0\7rest", HEADERS),
        (b"", HEADERS),
        (None, HEADERS),
    ],
)
def test_what_is_no_such_event_stays_as_it_is(value: bytes | None, headers: list[tuple[str, bytes]]) -> None:
    assert structured(value, headers) is value


@given(
    data=st.recursive(st.none() | st.text() | st.integers(), st.lists, max_leaves=5),
    attributes=st.dictionaries(st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True), st.text(min_size=1)),
)
def test_both_modes_say_the_same(data: object, attributes: dict[str, str]) -> None:
    attributes = {**attributes, "specversion": "1.0"}
    headers = [(f"ce_{name}", text.encode()) for name, text in attributes.items()]
    event = structured(json.dumps(data).encode(), headers)
    assert event is not None
    assert json.loads(event) == {**attributes, "data": data}


def test_a_partition_reads_both_modes_and_keeps_what_came_of_a_dead_letter() -> None:
    policy = PartitionPolicy(whole=whole_value(CLOUD_EVENTS, None))
    decode = click_decoder(CLOUD_EVENTS).decode
    partition = Partition("clicks", 0, Sessionizer(SessionRules()), decode, policy=policy)
    nobodys = [header for header in HEADERS if header[0] != "ce_subject"]
    records = [
        LogRecord(0, NOON_MS, b"v-1", DATA, HEADERS),
        LogRecord(1, NOON_MS, b"v-1", json.dumps(CLOUD).encode()),
        LogRecord(2, NOON_MS, b"v-1", DATA, nobodys),
    ]
    assert partition.process(records) == len(records)
    assert partition.sessionizer.open_count == 1
    (dead,) = partition.take().dead
    assert dead.reason == "missing_field:visitor_id:cloudevents"
    assert dead.value == DATA
    assert set(nobodys) <= set(dead.headers)


def test_other_sources_look_at_no_headers() -> None:
    assert whole_value(ClickSettings(source="segment"), None) is None

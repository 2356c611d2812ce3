"""Which source records look like."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streamer.schemas import codec
from streamer.settings import ClickSettings
from streamer.sources.fit import FIRST_RECORDS, FirstRecords, misfit
from tests.pipeline.test_partition import Arrived
from tests.sources.events import CLOUD, GA4, MATOMO, NOON_MS, POSTHOG, SEGMENT_PAGE, SNOWPLOW

NATIVE = {"visitor_id": "v", "timestamp": NOON_MS, "event_type": "page_view"}
EVENTS = {
    "native": NATIVE,
    "cloudevents": CLOUD,
    "ga4": GA4,
    "matomo": MATOMO,
    "posthog": POSTHOG,
    "segment": SEGMENT_PAGE,
    "snowplow": {**SNOWPLOW, "derived_tstamp": "2024-03-07T12:00:00Z"},
}


@pytest.mark.parametrize("configured", ["native", "segment", "posthog"])
@pytest.mark.parametrize("of", EVENTS)
def test_the_source_that_records_are_of_is_named(configured: str, of: str) -> None:
    said = misfit(ClickSettings(source=configured), [json.dumps(EVENTS[of]).encode()] * 10)
    if configured == of:
        assert said is None
    else:
        assert said == (
            f"10 of the first 10 records can't be read with clicks.source = {configured}; "
            f"{of} can read 10 of them"
        )


@pytest.mark.parametrize(("damaged", "is_told"), [(0, False), (4, False), (5, True), (10, True)])
def test_half_of_the_records_have_to_be_unreadable(damaged: int, is_told: bool) -> None:
    records = [b'{"typed": "secret"}'] * damaged + [json.dumps(NATIVE).encode()] * (10 - damaged)
    said = misfit(ClickSettings(), records)
    assert (said is not None) == is_told
    if said is not None:
        assert said == (
            f"{damaged} of the first 10 records can't be read with clicks.source = native, "
            "and no more with another; streamer map --check says what is missing"
        )


def test_events_that_are_no_clicks_fit_too() -> None:
    identify = json.dumps({**SEGMENT_PAGE, "type": "identify"}).encode()
    assert misfit(ClickSettings(source="segment"), [identify] * 10) is None


def test_a_few_records_tell_nothing() -> None:
    assert misfit(ClickSettings(), [b"{}"] * 9) is None


def seen(clicks: ClickSettings, portions: list[list[Arrived]]) -> list[str]:
    said: list[str] = []
    first = FirstRecords(clicks, None, said.append)
    for portion in portions:
        first.see(portion)
    return said


def records(count: int, value: bytes, **more: Any) -> list[Arrived]:
    return [Arrived(number, value, **more) for number in range(count)]


def test_the_first_hundred_records_of_a_log_are_told_about_once() -> None:
    page = json.dumps(SEGMENT_PAGE).encode()
    portions = [records(1, json.dumps(NATIVE).encode()) + records(29, page), *[records(30, page)] * 2]
    assert seen(ClickSettings(), portions) == []
    told = seen(ClickSettings(), [*portions, records(500, page), records(500, page)])
    assert told == [
        "99 of the first 100 records can't be read with clicks.source = native; segment can read 99 of them"
    ]


def test_a_short_log_of_which_nothing_can_be_read_is_told_about_too() -> None:
    page = json.dumps(SEGMENT_PAGE).encode()
    assert seen(ClickSettings(), [records(5, page), records(4, page)]) == []
    told = seen(ClickSettings(), [records(5, page), records(5, page), records(500, page)])
    assert told == [
        "10 of the first 10 records can't be read with clicks.source = native; segment can read 10 of them"
    ]


def test_records_with_a_schema_of_their_own_are_left_out() -> None:
    avro = codec.encode("click", NATIVE)
    assert seen(ClickSettings(), [records(FIRST_RECORDS, avro)]) == []
    mixed = records(FIRST_RECORDS - 20, avro) + records(20, b"{}")
    [told] = seen(ClickSettings(), [mixed])
    assert told.startswith("20 of the first 20 records")


def test_attributes_in_headers_count() -> None:
    data = json.dumps({"event_type": "page_view"}).encode()
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"e"),
        ("ce_type", b"page_view"),
        ("ce_subject", b"v"),
        ("ce_time", b"2024-03-07T12:00:00Z"),
    ]
    clicks = ClickSettings(source="cloudevents")
    assert seen(clicks, [records(FIRST_RECORDS, data, headers=headers)]) == []
    assert seen(clicks, [records(FIRST_RECORDS, data)]) != []

"""Clicks of our own shape whose visitor is another field than `visitor_id`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streamer.pipeline.decode import Rejected
from streamer.settings import ClickSettings
from streamer.sources import click_decoder, source_version, visitor_reader
from tests.bad_clicks import ARRIVAL_MS, avro, click
from tests.sources.events import SEGMENT_PAGE

FIELDS: dict[str, Any] = {"user_id": "u1", "properties": {"browser": "b1", "number": "7"}}


def decode(path: str, value: bytes) -> str:
    arrived = click_decoder(ClickSettings(visitor_from=path)).decode(value, ARRIVAL_MS, "e")
    assert arrived is not None
    return arrived.visitor_id


@pytest.mark.parametrize("form", [click, avro])
@pytest.mark.parametrize(("path", "visitor"), [("user_id", "u1"), ("properties.browser", "b1")])
def test_the_visitor_is_what_stands_there(form: Any, path: str, visitor: str) -> None:
    assert decode(path, form(**FIELDS)) == visitor


@pytest.mark.parametrize("form", [click, avro])
def test_a_click_that_lacks_it_is_refused(form: Any) -> None:
    with pytest.raises(Rejected, match="missing_field:visitor_id"):
        decode("user_id", form())
    with pytest.raises(Rejected, match="wrong_type:visitor_id"):
        decode("properties", form(**FIELDS))


def test_a_number_becomes_its_digits() -> None:
    assert decode("number", click(number=12)) == "12"


def test_half_a_character_is_no_visitor_but_may_stand_elsewhere() -> None:
    broken = click(**FIELDS).replace(b'"u1"', b'"u\\ud83d"')
    with pytest.raises(Rejected, match="invalid_json"):
        decode("user_id", broken)
    assert decode("properties.browser", click(**FIELDS)[:-1] + b',"page_title":"\\ud83d"}') == "b1"


def test_a_click_without_consent_is_filtered_whatever_stands_there() -> None:
    decoder = click_decoder(ClickSettings(visitor_from="user_id"))
    assert decoder.decode(click(consent=False), ARRIVAL_MS, "e") is None


def test_a_profile_takes_another_field_too() -> None:
    event = json.dumps(SEGMENT_PAGE | {"userId": "u"}).encode()
    clicks = ClickSettings(source="segment", visitor_from="userId")
    arrived = click_decoder(clicks).decode(event, None, "")
    assert arrived is not None
    assert arrived.visitor_id == "u"
    assert visitor_reader(clicks, lambda _: b"native")(event) == b"u"
    assert source_version(clicks) != source_version(ClickSettings(source="segment"))


def test_the_key_is_what_stands_there() -> None:
    read = visitor_reader(ClickSettings(visitor_from="user_id"), lambda _: b"native")
    assert read(click(**FIELDS)) == b"u1"
    assert read(click()) is None
    assert read(b"{") is None

"""Clicks of our own shape whose visitor is another field than `visitor_id`."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from schemas import codec
from streamer.pipeline.decode import Rejected
from streamer.settings import ClickSettings
from streamer.sources import click_decoder, source_version, visitor_reader
from tests.bad_clicks import ARRIVAL_MS, GOOD

CLICK = GOOD | {"user_id": "u1", "properties": {"browser": "b1", "number": "7"}}


def decode(path: str, value: bytes) -> str:
    arrived = click_decoder(ClickSettings(visitor_from=path)).decode(value, ARRIVAL_MS, "e")
    assert arrived is not None
    return arrived.visitor_id


def as_json(click: dict[str, Any]) -> bytes:
    return orjson.dumps(click)


def as_avro(click: dict[str, Any]) -> bytes:
    return codec.encode("click", click)


@pytest.mark.parametrize("form", [as_json, as_avro])
@pytest.mark.parametrize(("path", "visitor"), [("user_id", "u1"), ("properties.browser", "b1")])
def test_the_visitor_is_what_stands_there(form: Any, path: str, visitor: str) -> None:
    assert decode(path, form(CLICK)) == visitor


@pytest.mark.parametrize("form", [as_json, as_avro])
def test_a_click_that_lacks_it_is_refused(form: Any) -> None:
    with pytest.raises(Rejected, match="missing_field:visitor_id"):
        decode("user_id", form(GOOD))
    with pytest.raises(Rejected, match="wrong_type:visitor_id"):
        decode("properties", form(CLICK))


def test_a_number_becomes_its_digits() -> None:
    assert decode("number", as_json(GOOD | {"number": 12})) == "12"


def test_half_a_character_is_no_visitor_but_may_stand_elsewhere() -> None:
    broken = as_json(CLICK).replace(b'"u1"', b'"u\\ud83d"')
    with pytest.raises(Rejected, match="invalid_json"):
        decode("user_id", broken)
    assert decode("properties.browser", as_json(CLICK)[:-1] + b',"page_title":"\\ud83d"}') == "b1"


def test_a_click_without_consent_is_filtered_whatever_stands_there() -> None:
    decoder = click_decoder(ClickSettings(visitor_from="user_id"))
    assert decoder.decode(as_json(GOOD | {"consent": False}), ARRIVAL_MS, "e") is None


def test_a_profile_takes_another_field_too() -> None:
    event = {
        "type": "page",
        "anonymousId": "a",
        "userId": "u",
        "messageId": "m",
        "timestamp": "2026-01-01T00:00:00Z",
    }
    clicks = ClickSettings(source="segment", visitor_from="userId")
    arrived = click_decoder(clicks).decode(as_json(event), None, "")
    assert arrived is not None
    assert arrived.visitor_id == "u"
    assert visitor_reader(clicks, lambda _: b"native")(as_json(event)) == b"u"
    assert source_version(clicks) != source_version(ClickSettings(source="segment"))


def test_the_key_is_what_stands_there() -> None:
    read = visitor_reader(ClickSettings(visitor_from="user_id"), lambda _: b"native")
    assert read(as_json(CLICK)) == b"u1"
    assert read(as_json(GOOD)) is None
    assert read(b"{") is None

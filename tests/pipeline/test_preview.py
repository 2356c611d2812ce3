"""What may be shown of a dead letter: never a card number, however it is written."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.pipeline.preview import MAX_CHARACTERS, preview
from streamer.schemas import codec
from tests.bad_clicks import BAD_CLICKS, GOOD

CARD = "4111111111111111"


@pytest.mark.parametrize(
    "value",
    [
        json.dumps({"search_query": f"my card {CARD}"}).encode(),
        json.dumps({"x": {"y": [int(CARD)]}}).encode(),
        json.dumps({CARD: 1}).encode(),
        b'{"x": "\\u0034' + CARD[1:].encode() + b'"}',
        b'{"x": "\\u0034' + CARD[1:].encode() + b'", broken',
        b'{"x": "jo\\u0040mail.example", broken',
        b'{"x": "jo@mail\\u00ad.exam\\u200bple", broken',
        b'{"x": "jo\\u0040ma\\ud83dil.example", broken',
        f"page ?card={CARD}".encode(),
        b"https://a/?c=4111%201111%201111%201111",
        b"https://a/?c=4111%25201111%25201111%25201111",
        codec.encode("click", {**GOOD, "page_title": f"of jo@mail.example, {CARD}"}),
        codec.encode("click", {**GOOD, "properties": {"iban": "DE89 3704 0044 0532 0130 00"}}),
    ],
)
def test_personal_numbers_and_addresses_are_not_shown(value: bytes) -> None:
    shown = preview(value)
    for secret in (CARD, CARD[4:], "1111 1111", "mail.example", "3704 0044"):
        assert secret not in shown
    assert ":" in shown


def test_what_helps_to_find_the_cause_is_shown() -> None:
    shown = preview(json.dumps({**GOOD, "event_type": 7, "page_url": "/loans"}).encode())
    assert "event_type=7" in shown
    assert "page_url=/loans" in shown
    assert f"timestamp={GOOD['timestamp']}" in shown


def test_bytes_that_are_no_text_are_counted_only() -> None:
    assert preview(b"\xff" * 9) == "(9 bytes that are no text)"
    assert preview(None) == "(null)"


@pytest.mark.parametrize("bad", BAD_CLICKS, ids=lambda bad: bad.name)
def test_every_bad_click_has_a_short_preview(bad: object) -> None:
    assert len(preview(bad.value)) <= MAX_CHARACTERS  # type: ignore[attr-defined]


@given(st.binary(max_size=300))
def test_any_bytes_have_a_preview(value: bytes) -> None:
    assert len(preview(value)) <= MAX_CHARACTERS

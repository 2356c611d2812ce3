"""A click as a session keeps it: the same when it is read, and no longer than it has to be."""

from __future__ import annotations

from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.click import Click
from streamer.core import click_codec
from streamer.core.click_codec import encode_click

try:
    from streamer.core import kept_clicks
except ImportError:
    kept_clicks = None  # type: ignore[assignment]

READERS = [
    pytest.param(click_codec.decode_clicks, id="python"),
    pytest.param(
        kept_clicks and kept_clicks.decode_clicks,
        id="compiled",
        marks=pytest.mark.skipif(kept_clicks is None, reason="the extension isn't compiled"),
    ),
]
encode_as_before = msgspec.msgpack.encode
"""What state versions 1 and 2 kept of a click."""

IDS = st.one_of(
    st.text(max_size=40),
    st.uuids().map(str),
    st.uuids().map(lambda each: str(each).upper()),
    st.text("0123456789abcdef-", min_size=36, max_size=36),
)
TEXTS = st.one_of(st.none(), st.text(max_size=20), st.text("ä", max_size=300), IDS)
NUMBERS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-40, 300))
CLICKS = st.builds(
    Click,
    NUMBERS,
    IDS,
    st.text(max_size=20),
    TEXTS,
    TEXTS,
    st.one_of(st.none(), NUMBERS),
    *[TEXTS] * 4,
    st.one_of(st.none(), st.floats(allow_nan=False)),
    *[TEXTS] * 2,
)


@pytest.mark.parametrize("decode", READERS)
@given(st.lists(st.tuples(CLICKS, st.booleans()), max_size=9))
def test_every_click_comes_back_as_it_was_however_it_was_kept(
    decode: click_codec.Decode, clicks: list[tuple[Click, bool]]
) -> None:
    content = b"".join(encode_click(each) if short else encode_as_before(each) for each, short in clicks)
    assert decode(len(clicks), content) == [each for each, _ in clicks]


def test_an_id_that_is_a_uuid_is_kept_as_bytes_and_nils_at_the_end_are_left_out() -> None:
    written = "01234567-89ab-4cde-8f01-23456789abcd"
    assert encode_click(Click(5, written, "view")) == b"\x93\x05\xc4\x10" + UUID(written).bytes + b"\xa4view"
    with_price = encode_click(Click(5, written, "view", price=1.0))
    assert msgspec.msgpack.decode(with_price) == [5, UUID(written).bytes, "view", *[None] * 7, 1.0]


@pytest.mark.parametrize(
    "event_id",
    [
        "01234567-89AB-4cde-8f01-23456789abcd",
        "0123456789ab4cde8f0123456789abcd",
        "{1234567-89ab-4cde-8f01-23456789abc}",
        "01234567-89ab-4cde-8f0-123456789abcd",
        "01234567-89ab-4cde-8f01-23456789abcg",
        "01234567-89ab-4cde-8f01-23456789abcd\n",
        "٠1234567-89ab-4cde-8f01-23456789abcd",
    ],
)
def test_any_other_id_is_kept_as_text(event_id: str) -> None:
    assert event_id.encode() in encode_click(Click(5, event_id, "view"))


@pytest.mark.skipif(kept_clicks is None, reason="the extension isn't compiled")
@given(st.lists(CLICKS, min_size=1, max_size=4), st.integers(-2, 2), st.data())
def test_damaged_bytes_give_what_python_makes_of_them(
    clicks: list[Click], more: int, data: st.DataObject
) -> None:
    content = bytearray().join(map(encode_click, clicks))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(0, len(content))) :]
    count = len(clicks) + more
    assert _outcome(kept_clicks.decode_clicks, count, content) == _outcome(
        click_codec.decode_clicks, count, content
    )


def _outcome(decode: click_codec.Decode, count: int, content: bytearray) -> str:
    """Clicks as text, for which any nan is like another; or that they were refused."""
    try:
        return repr(decode(count, bytes(content)))
    except (msgspec.MsgspecError, UnicodeDecodeError, OverflowError):
        return "refused"

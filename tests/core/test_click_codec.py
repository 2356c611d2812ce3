"""Retained clicks: the same when they are read, and no longer than they have to be."""

from __future__ import annotations

from dataclasses import astuple
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.native.click_codec import PackedClicks, decode_clicks, entries, pack_click, pack_entry
from streamer.schemas.click import Click
from streamer.schemas.extras import MOST_EXTRAS

IDS = st.one_of(
    st.text(max_size=40),
    st.uuids().map(str),
    st.uuids().map(lambda each: str(each).upper()),
    st.text("0123456789abcdef-", min_size=36, max_size=36),
)
TEXTS = st.one_of(st.none(), st.text(max_size=20), st.text("ä", max_size=300), IDS)
TIMES = st.integers(-(2**63), 2**63 - 1)
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
    st.one_of(st.none(), st.dictionaries(st.text(max_size=20), st.text(max_size=70), max_size=MOST_EXTRAS)),
)


def encoded_as_before(click: Click) -> bytes:
    """What state versions 1 and 2 retained of a click."""
    return msgspec.msgpack.encode(astuple(click))


def shortest(click: Click) -> bytes:
    """MessagePack's shortest way to write it, without nils at its end, and a UUID as its 16 bytes."""
    row = list(astuple(click))
    while row[-1] is None:
        row.pop()
    try:
        if str(UUID(click.event_id)) == click.event_id:
            row[1] = UUID(click.event_id).bytes
    except ValueError:
        pass
    return msgspec.msgpack.encode(row)


@given(st.lists(st.tuples(CLICKS, st.booleans()), max_size=9))
def test_every_click_comes_back_as_it_was_however_it_was_retained(clicks: list[tuple[Click, bool]]) -> None:
    retained = b"".join(pack_click(each) if short else encoded_as_before(each) for each, short in clicks)
    assert decode_clicks(len(clicks), retained) == [each for each, _ in clicks]


@given(st.lists(CLICKS, max_size=4))
def test_clicks_are_appended_in_as_few_bytes_as_messagepack_takes(clicks: list[Click]) -> None:
    packed = PackedClicks()
    packed.put(b"", b"")
    for each in clicks:
        packed.append(each, bytes(8), 0)
    assert packed.retained == b"".join(map(shortest, clicks))
    assert packed.unpacked(len(clicks)) == clicks


def test_an_id_that_is_a_uuid_is_retained_as_bytes_and_nils_at_the_end_are_left_out() -> None:
    written = "01234567-89ab-4cde-8f01-23456789abcd"
    assert pack_click(Click(5, written, "view")) == b"\x93\x05\xc4\x10" + UUID(written).bytes + b"\xa4view"
    with_price = pack_click(Click(5, written, "view", price=1.0))
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
def test_any_other_id_is_retained_as_text(event_id: str) -> None:
    assert event_id.encode() in pack_click(Click(5, event_id, "view"))


@given(st.lists(CLICKS, min_size=1, max_size=4), st.data())
def test_clicks_that_are_cut_off_or_miscounted_are_refused(clicks: list[Click], data: st.DataObject) -> None:
    retained = b"".join(map(pack_click, clicks))
    cut = retained[: data.draw(st.integers(0, len(retained) - 1))]
    for count, wrong in ((len(clicks), cut), (len(clicks) + 1, retained), (len(clicks) - 1, retained)):
        with pytest.raises(msgspec.DecodeError):
            decode_clicks(count, wrong)


@given(st.binary(max_size=60), st.integers(0, 4))
def test_bytes_that_are_no_clicks_do_no_harm(damaged: bytes, count: int) -> None:
    try:
        clicks = decode_clicks(count, damaged)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return
    assert len(clicks) == count


@given(
    st.lists(st.tuples(st.binary(min_size=8, max_size=8), TIMES, TIMES), max_size=20),
    st.integers(0, 20),
    st.integers(0, 200),
)
def test_the_log_holds_what_was_appended(
    logged: list[tuple[bytes, int, int]], restored_at: int, text_bytes: int
) -> None:
    packed = PackedClicks()
    packed.put(b"", b"")
    for count, (id_hash, at, offset) in enumerate(logged):
        if count == restored_at:
            packed.put(packed.log, packed.retained)
        packed.append(Click(at, "e", "x" * text_bytes), id_hash, offset)
    assert [*entries(packed.log)] == logged
    assert packed.log == b"".join([pack_entry(*entry) for entry in logged])
    assert packed.unpacked(len(logged)) == [Click(at, "e", "x" * text_bytes) for _, at, _ in logged]
    assert (packed.event_count, packed.size()) == (len(logged), len(packed.log) + len(packed.retained))
    known = {id_hash for id_hash, _, _ in logged}
    assert all(packed.holds(id_hash) for id_hash in known)
    times = [at.to_bytes(8, "little", signed=True) for _, at, _ in logged]
    assert all(packed.holds(each) == (each in known) for each in times)


def test_a_log_that_ends_within_an_entry_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        PackedClicks().put(bytes(25), b"")


def test_a_hash_of_another_size_is_refused() -> None:
    packed = PackedClicks()
    packed.put(b"", b"")
    with pytest.raises(ValueError, match="7 bytes"):
        packed.append(Click(5, "e", "view"), bytes(7), 0)
    assert (packed.event_count, packed.size()) == (0, 0)

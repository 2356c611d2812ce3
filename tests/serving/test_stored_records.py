"""Stored records: what a table knows of bytes, and who was erased."""

from __future__ import annotations

import io
import random

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.client import UserTable, VisitorTable
from streamer.errors import UsageError
from streamer.schemas import codec
from streamer.serving.records import ErasedKeys, RecordTable, UserRecords, VisitorRecords
from streamer.serving.share import parse_partitions
from tests.client.records import NOW_MS, a_message, a_record, a_user

TTL_MS = 10**6


def records(kind: type[RecordTable] = VisitorRecords, erased: ErasedKeys | None = None) -> RecordTable:
    return kind(TTL_MS, lambda _: None, ErasedKeys() if erased is None else erased)


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.none() | st.tuples(st.integers(0, 3), st.integers(0, 2), st.sampled_from(["space", "next"])),
        )
    )
)
def test_stored_visitors_are_those_of_the_client(log: list[tuple[str, tuple[int, int, str] | None]]) -> None:
    ours, theirs = records(), VisitorTable(TTL_MS)
    for visitor, change in log:
        message: tuple[bytes, bytes | None] = (visitor.encode(), None)
        if change is not None:
            later, revision, space = change
            message = a_message(visitor, NOW_MS + later, revision=revision, embedding_space=space)
        ours.apply(*message)
        theirs.apply(*message)
    assert (len(ours), ours.spaces) == (len(theirs), theirs.spaces)
    for visitor in "abc":
        stored, state = ours.get(visitor, NOW_MS), theirs.get(visitor, NOW_MS)
        assert (stored is None) == (state is None)
        if stored is not None and state is not None:
            assert stored.decoded()["session_id"] == state.session_id
            assert (stored.closed_at, stored.revision) == (state.closed_at, state.revision)
            assert stored.embedding_space == state.embedding_space


def test_stored_users_are_those_of_the_client() -> None:
    ours, theirs = records(UserRecords), UserTable(TTL_MS)
    later, earlier = a_user("u", a_record("v", NOW_MS)), a_user("u", a_record("w", NOW_MS - 5))
    for message in (later, earlier):
        ours.apply(*message)
        theirs.apply(*message)
    stored, state = ours.get("u", NOW_MS), theirs.get("u", NOW_MS)
    assert stored is not None
    assert state is not None
    assert stored.decoded()["visitor_id"] == state.latest.visitor_id == "w"


@pytest.mark.parametrize("version", range(len(codec.landed("visitor_intent"))))
def test_records_of_every_landed_schema_are_read(version: int) -> None:
    schema = codec.landed("visitor_intent")[version]
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema, named_schemas={}), a_record("v"))
    prefix = codec.own_prefix(schema)
    assert prefix is not None
    table = records()
    table.apply(b"v", prefix + stream.getvalue())
    stored = table.get("v", NOW_MS)
    assert stored is not None
    assert stored.decoded()["session_id"] == a_record("v")["session_id"]


def test_bytes_that_are_no_record_are_counted_and_change_nothing() -> None:
    table, (key, value) = records(), a_message("v")
    table.apply(key, value)
    for broken in (b"", b"?", value[:40], a_user("v", a_record("v"))[1], value[:5] + b"\xff" * 60):
        table.apply(key, broken)
    assert table.refused == 5
    assert table.get("v", NOW_MS) is not None


def test_damaged_bytes_never_raise_anything_else() -> None:
    dice, (key, value) = random.Random(3), a_message("v")
    for _ in range(2000):
        damaged = bytearray(value)
        for _ in range(dice.randint(1, 4)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        records().apply(key, bytes(damaged[: dice.randint(0, len(damaged))]))


def test_the_latest_erasures_are_remembered_and_no_more() -> None:
    erased = ErasedKeys(most=2)
    for key in "abac":
        erased.add(key)
    assert [key in erased for key in "abc"] == [True, False, True]
    erased.discard("a")
    assert [key in erased for key in "abc"] == [False, False, True]
    assert len(erased) == 1


def test_who_is_back_is_not_remembered_as_erased() -> None:
    erased = ErasedKeys()
    table = records(erased=erased)
    table.apply(b"v", None)
    assert "v" in erased
    table.apply(*a_message("v"))
    assert "v" not in erased


def test_who_has_expired_was_not_erased() -> None:
    erased = ErasedKeys()
    table = records(erased=erased)
    table.apply(*a_message("v"))
    table.expire(NOW_MS + TTL_MS + 1)
    assert (len(table), len(erased)) == (0, 0)


@pytest.mark.parametrize(
    ("text", "partitions"),
    [("all", None), ("0", {0}), ("0,3", {0, 3}), ("0-3, 7", {0, 1, 2, 3, 7}), ("2-2", {2})],
)
def test_partitions_are_numbers_and_ranges(text: str, partitions: set[int] | None) -> None:
    assert parse_partitions(text) == partitions


@pytest.mark.parametrize("text", ["", "none", "-1", "3-1", "1-", "1,,2", "0-10000", "1.5", "١"])
def test_what_is_no_partition_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--partitions"):
        parse_partitions(text)

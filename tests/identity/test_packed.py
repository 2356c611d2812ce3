"""Packed sessions: nothing is lost, and what is no session is refused."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from streamer.identity.packed import PackedSession, SessionMessage, Texts
from streamer.identity.rules import IdentityRules
from streamer.identity.user_record import held_session, user_record
from streamer.schemas import codec
from tests.identity.stages import record_of, session

START = 1_795_000_000_000
FLOATS = st.floats(width=32, allow_nan=False)
TEXTS = st.text(max_size=80)
intents = st.lists(
    st.fixed_dictionaries(
        {
            "intent_id": TEXTS,
            "label": TEXTS,
            "parent": st.none() | TEXTS,
            "probability": FLOATS,
            "parent_probability": st.none() | FLOATS,
            "presence": st.none() | FLOATS,
        }
    ),
    max_size=6,
)
sessions = st.builds(
    session,
    st.integers(0, 999),
    TEXTS,
    st.integers(START, START + 10**9),
    st.none() | TEXTS,
    embedding=st.lists(FLOATS, max_size=70),
    intents=intents,
    supersedes=st.none() | TEXTS,
    top_intent=st.none() | TEXTS,
    is_final=st.booleans(),
    model_version=TEXTS,
    taxonomy_version=TEXTS,
)


@given(st.lists(sessions, max_size=4))
def test_a_packed_session_gives_its_message_back(shown: list[dict[str, Any]]) -> None:
    texts = Texts([])
    messages = [codec.encode("visitor_intent", each) for each in shown]
    packed = [SessionMessage(message).packed(texts) for message in messages]
    again = Texts(list(texts.known))
    assert [PackedSession(each).message(again) for each in packed] == messages


@given(sessions)
def test_a_users_record_has_all_of_the_latest_session(shown: dict[str, Any]) -> None:
    shown = {**shown, "session_id": "0" * 32}
    record = codec.decode(record_of("somebody", [shown], IdentityRules(), "link", 0.5))[1]
    message = codec.encode("visitor_intent", {**shown, "user_id": "somebody"})
    expected = codec.decode(message)[1]
    for name in ("memberships", "prototypes_version", "reasons"):
        del expected[name]
    assert {name: record[name] for name in expected} == expected
    assert (record["attribution"], record["confidence"]) == ("link", 0.5)
    assert record["history"][0]["session_id"] == shown["session_id"]
    assert record["history"][0]["top_intent"] == shown["top_intent"]


def test_memberships_are_not_kept() -> None:
    plain, texts = session(1, "v", START, "u"), Texts([])
    for told in ([], [0.25, 0.75]):
        fields = {"memberships": told, "prototypes_version": "0a1b2c3d4e5f"}
        packed = SessionMessage(codec.encode("visitor_intent", plain | fields)).packed(texts)
        assert packed == SessionMessage(MESSAGE).packed(texts)
        assert PackedSession(packed).message(texts) == MESSAGE
    record = codec.decode(record_of("u", [plain | fields], IdentityRules(), "login", 1.0))[1]
    assert record == codec.decode(record_of("u", [plain], IdentityRules(), "login", 1.0))[1]


REASON = {"click": 2, "event_id": "e", "event_type": "view", "page_type": None, "contribution": 0.5}


@pytest.mark.parametrize("reasons", [[], [REASON], [REASON, REASON | {"page_type": "rates"}]])
def test_reasons_are_not_kept(reasons: list[dict[str, Any]]) -> None:
    plain, texts = session(1, "v", START, "u"), Texts([])
    packed = SessionMessage(codec.encode("visitor_intent", plain | {"reasons": reasons})).packed(texts)
    assert packed == SessionMessage(MESSAGE).packed(texts)
    assert PackedSession(packed).message(texts) == MESSAGE


def test_of_two_packed_sessions_the_newer_is_the_greater() -> None:
    texts = Texts([])
    shown = [session(n % 3, "v", START + at) for n, at in enumerate((0, 255, 256, 256, 70_000))]
    packed = [SessionMessage(codec.encode("visitor_intent", each)).packed(texts) for each in shown]
    ages = [(each["closed_at"], each["started_at"], each["session_id"]) for each in shown]
    assert [at for at, _ in sorted(zip(ages, packed, strict=True))] == [
        at for _, at in sorted(zip(packed, ages, strict=True))
    ]


@pytest.mark.parametrize("old", codec.landed("visitor_intent")[:-1])
def test_messages_of_older_schemas_are_read(old: dict[str, Any]) -> None:
    stream = BytesIO()
    stream.write(codec.schema_id(old).to_bytes(codec.PREFIX_BYTES, "big"))
    schemaless_writer(stream, parse_schema(old, named_schemas={}), session(1, "v", START, "u"))
    message = SessionMessage(stream.getvalue())
    assert (message.visitor_id, message.user_id, message.closed_at) == ("v", "u", START)


MESSAGE = codec.encode("visitor_intent", session(1, "v", START, "u"))


def test_a_message_that_is_cut_off_is_refused() -> None:
    for size in range(len(MESSAGE)):
        with pytest.raises(codec.CodecError):
            SessionMessage(MESSAGE[:size])


def test_what_is_no_session_is_refused() -> None:
    for message in (MESSAGE + b"\0", codec.encode("erasure", {"visitor_id": "v"})):
        with pytest.raises(codec.CodecError):
            SessionMessage(message)


def test_a_text_that_is_not_utf8_is_refused_each_time() -> None:
    bad, texts = SessionMessage(MESSAGE.replace(b"other", b"oth\xff\xfe")), Texts([])
    for _ in range(2):
        with pytest.raises(codec.CodecError, match="UTF-8"):
            bad.packed(texts)
    assert texts.known == []
    assert PackedSession(SessionMessage(MESSAGE).packed(texts)).message(texts) == MESSAGE


def test_a_state_that_is_damaged_is_refused() -> None:
    texts = Texts([])
    held = held_session(SessionMessage(MESSAGE), "login", 1.0, texts)
    assert user_record("u", [held], IdentityRules(), texts) is not None
    for size in range(len(held) // 2):
        with pytest.raises(ValueError, match="packed"):
            PackedSession(held[:size])


def test_names_of_an_intent_are_those_of_the_newest_session() -> None:
    old, new = (
        session(n, "v", START + n, intents=[{"intent_id": "i", "label": label, "probability": 0.5}])
        for n, label in enumerate(("old", "new"))
    )
    record = codec.decode(record_of("u", [new, old], IdentityRules(), "login", 1.0))[1]
    assert [(each["label"], each["probability"]) for each in record["profile"]] == [("new", 0.5)]


STORED = bytes.fromhex(
    "000001a1ee565e00000001a1ee5573a00873303031020003001b0002000400020004000000050000000600000007000000"
    "080000000276020275c0ceabe5bd68a0a3afe5bd6880f8b2e5bd6806066761700100000000000000020000000100000003"
    "0000000000003f0000803e000000000000003e000080bf80f8b2e5bd6802046931020000003f0a6c6f67696e0000000000"
    "00f03f"
)
STORED_TEXTS = [b"\x04i1", b"\x02x\0", b"\x0aother", b"\x02y\0"]
STORED_TEXTS += [b"\x100a1b2c3d\x22test@0123456789ab", b"\x18ba9876543210", b"\x021", b"\x02\x04i1", b"\0\0"]


def test_a_stored_state_is_read_and_written_as_ever() -> None:
    """Change the bytes only with the version of the state."""
    assert PackedSession(STORED).message(Texts(STORED_TEXTS)) == MESSAGE
    assert held_session(SessionMessage(MESSAGE), "login", 1.0, Texts([])) == STORED

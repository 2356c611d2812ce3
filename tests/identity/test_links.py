from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.identity.links import Link, LinkError, read_link
from streamer.identity.rules import IdentityRules
from streamer.schemas import codec

RULES = IdentityRules()
LINK: dict[str, Any] = {"visitor_id": "v", "user_id": "c-1", "action": "link"}


@pytest.mark.parametrize("value", [codec.encode("identity_link", LINK), json.dumps(LINK).encode()])
def test_avro_and_json_say_the_same(value: bytes) -> None:
    assert read_link(value, RULES) == Link("v", "c-1", is_link=True, confidence=1.0)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty_link"),
        (b"", "empty_link"),
        (b"{", "malformed_json"),
        (b'{"visitor_id": "v"}', "bad_fields"),
        (b"\0\0\0\0\1", "unknown_schema_id"),
        (codec.encode("erasure", {"visitor_id": "v"}), "not_a_link"),
        ({"visitor_id": ""}, "bad_visitor_id"),
        ({"user_id": "x" * 257}, "bad_user_id"),
        ({"user_id": "NULL"}, "no_user"),
        ({"user_id": "0000-00"}, "no_user"),
        ({"action": "merge"}, "unknown_action"),
        ({"confidence": 1.01}, "bad_confidence"),
        ({"confidence": -0.01}, "bad_confidence"),
        ({"confidence": "high"}, "bad_fields"),
        ({"user_id": "\ud800"}, "malformed_json"),
    ],
)
def test_what_is_no_link_is_refused_with_its_reason(value: Any, reason: str) -> None:
    message = json.dumps({**LINK, **value}).encode() if isinstance(value, dict) else value
    with pytest.raises(LinkError) as refused:
        read_link(message, RULES)
    assert refused.value.reason == reason


def test_a_confidence_that_is_no_number_is_refused() -> None:
    with pytest.raises(LinkError, match="confidence"):
        read_link(codec.encode("identity_link", {**LINK, "confidence": float("nan")}), RULES)


@given(st.binary(max_size=80))
def test_any_bytes_give_a_link_or_a_reason(value: bytes) -> None:
    with suppress(LinkError):
        assert read_link(value, RULES).visitor_id

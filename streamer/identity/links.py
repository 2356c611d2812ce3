"""Records of the identity links topic: an app, a CRM or a matching job says who a visitor is."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from streamer.identity.rules import IdentityRules
from streamer.schemas import codec
from streamer.schemas.click import MAX_ID_BYTES


class Link(NamedTuple):
    """A tie between a visitor and a user that somebody asserts, or takes back."""

    visitor_id: str
    user_id: str
    is_link: bool
    """False: an unlink."""
    confidence: float


class LinkError(ValueError):
    """A record that says no link; `reason` is short and stable, and the text shows no value."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class _Document(msgspec.Struct):
    visitor_id: str
    user_id: str
    action: str
    confidence: float = 1.0
    source: str | None = None


_json = msgspec.json.Decoder(_Document)


def read_link(value: bytes | None, rules: IdentityRules) -> Link:
    """The link of a record: Avro in the wire format, or a JSON object with the same fields.

    Raises LinkError.
    """
    if not value:
        raise LinkError("empty_link", "the record has no value")
    document = _from_json(value) if value.lstrip()[:1] == b"{" else _from_avro(value)
    for name, text in (("visitor_id", document.visitor_id), ("user_id", document.user_id)):
        size = len(text.encode())
        if not 0 < size <= MAX_ID_BYTES:
            raise LinkError(f"bad_{name}", f"{name} has {size} bytes, expected 1 to {MAX_ID_BYTES}")
    if not rules.names_user(document.user_id):
        raise LinkError(
            "no_user", "user_id is a value of identity.no_ids or zeros only: it names no customer"
        )
    if document.action not in ("link", "unlink"):
        raise LinkError("unknown_action", "action is neither link nor unlink")
    if not 0 <= document.confidence <= 1:  # also what is no number
        raise LinkError("bad_confidence", "confidence is not within 0 to 1")
    return Link(document.visitor_id, document.user_id, document.action == "link", document.confidence)


def _from_json(value: bytes) -> _Document:
    try:
        return _json.decode(value)
    except msgspec.ValidationError:
        raise LinkError("bad_fields", "a field is missing or of another type") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise LinkError("malformed_json", "the value is not JSON") from None


def _from_avro(value: bytes) -> _Document:
    try:
        name, record = codec.decode(value)
    except codec.CodecError as error:
        raise LinkError(error.reason, str(error)) from None
    if name != "identity_link":
        raise LinkError("not_a_link", f"the record is of schema {name}, expected identity_link")
    fields: dict[str, Any] = record
    return _Document(**fields)

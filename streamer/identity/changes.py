"""What the attribution stage says to the user stage: records of the repartition topic, keyed by user."""

from __future__ import annotations

import msgspec

LOGIN, LINK = "login", "link"


class Attributed(msgspec.Struct, array_like=True, frozen=True, tag="attributed"):
    """A session is the user's; it replaces the one with its id and the one that it supersedes."""

    visitor_id: str
    session: bytes
    """The VisitorIntent message, as the sessions stage published it."""
    attribution: str
    """`login` or `link`."""
    confidence: float


class Withdrawn(msgspec.Struct, array_like=True, frozen=True, tag="withdrawn"):
    """A session is the user's no more."""

    visitor_id: str
    session_id: str


class Unlinked(msgspec.Struct, array_like=True, frozen=True, tag="unlinked"):
    """No session of the visitor that closed up to `until` (ms UTC, inclusive) is the user's any more."""

    visitor_id: str
    until: int


Change = Attributed | Withdrawn | Unlinked

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Change] = msgspec.msgpack.Decoder(Change)


def encode(change: Change) -> bytes:
    """The value of a record of the repartition topic."""
    return _encoder.encode(change)


def decode(value: bytes) -> Change:
    """Raises msgspec.MsgspecError for anything that `encode` didn't write."""
    return _decoder.decode(value)

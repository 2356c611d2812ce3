"""The user's record, decayed profile included: a function of the sessions that are attributed to them.

All sums run newest first, in doubles, so that the same sessions give the same bytes.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence

from streamer.identity.changes import LINK, LOGIN
from streamer.identity.packed import (
    PackedSession,
    SessionMessage,
    Texts,
    encoded_text,
    text_of,
)
from streamer.identity.rules import IdentityRules
from streamer.schemas import codec
from streamer.schemas.binary import BinaryEncoder

HELD_SESSIONS = 64
"""Sessions of a user that count: the newest."""
HISTORY_SESSIONS = 16
"""Sessions that the record lists: the newest."""

_PREFIX = codec.prefix("user_intent")
_ATTRIBUTIONS = {each: encoded_text(each) for each in (LOGIN, LINK)}
_LOGIN = _ATTRIBUTIONS[LOGIN]
_DOUBLE = struct.Struct("<d")
_DOUBLE_BYTES = 8
_END = b"\0"


class HeldSession:
    """A packed session that is attributed to a user, and after it what the user's history says of it: a
    PastSession without its first field. So the last two fields are attribution and confidence."""

    def __init__(self, data: bytes) -> None:
        """Raises ValueError if it is none."""
        self.session = PackedSession(data)
        confidence_at = len(data) - _DOUBLE_BYTES
        self.is_login = data.endswith(_LOGIN, 0, confidence_at)
        self.confidence: float = _DOUBLE.unpack_from(data, confidence_at)[0]
        self.weight = self.confidence
        """With its age, once that is known."""
        attribution = LOGIN if self.is_login else LINK
        self._attribution_at = confidence_at - len(_ATTRIBUTIONS[attribution])

    def write_attribution(self, encoder: BinaryEncoder) -> None:
        """`attribution` and `confidence`."""
        data = self.session.data
        encoder.write_part(data, self._attribution_at, len(data))

    def write_past(self, encoder: BinaryEncoder) -> None:
        """The PastSession."""
        data = self.session.data
        self.session.write_session_id(encoder)
        encoder.write_part(data, self.session.end, len(data))


def held_session(message: SessionMessage, attribution: str, confidence: float, texts: Texts) -> bytes:
    """The data of a HeldSession. Raises codec.CodecError if a text in the message isn't UTF-8."""
    encoder = BinaryEncoder()
    message.write_packed(encoder, texts)
    encoder.write_long(message.closed_at)
    message.write_top(encoder)
    encoder.write_encoded(_ATTRIBUTIONS[attribution])
    encoder.write_encoded(_DOUBLE.pack(confidence))
    return encoder.to_bytes()


def user_record(user_id: str, held: Sequence[bytes], rules: IdentityRules, texts: Texts) -> bytes | None:
    """The UserIntent message of a user, from their sessions, newest first; None if none counts. Raises
    ValueError if the bytes of one are no HeldSession."""
    counting = _within_history([HeldSession(data) for data in held[:HELD_SESSIONS]], rules)
    visitors = {each.session.visitor_id for each in counting}
    if len(visitors) > rules.max_visitors:
        counting = _within_history([each for each in counting if each.is_login], rules)
        visitors = {each.session.visitor_id for each in counting}
    if not counting:
        return None
    latest = counting[0]
    encoder = BinaryEncoder()
    encoder.write_encoded(_PREFIX)
    encoder.write_string(user_id)
    latest.session.write(encoder, texts)
    latest.write_attribution(encoder)
    history = counting[:HISTORY_SESSIONS]
    encoder.write_long(len(history))
    for each in history:
        each.write_past(encoder)
    encoder.write_encoded(_END)
    _write_profile(encoder, counting, rules.half_life_ms, texts)
    encoder.write_long(len(counting))
    encoder.write_long(len(visitors))
    return encoder.to_bytes()


def _within_history(newest_first: list[HeldSession], rules: IdentityRules) -> list[HeldSession]:
    """Those that count."""
    if not newest_first:
        return []
    newest = newest_first[0]
    oldest = newest.session.closed_at - rules.history_ms
    return [each for each in newest_first if each.session.closed_at > oldest]


def _write_profile(
    encoder: BinaryEncoder, sessions: list[HeldSession], half_life: float, texts: Texts
) -> None:
    """Decayed means over the sessions, newest first: of the intents' probabilities, and of the vectors.

    Only sessions of the newest one's taxonomy version, or embedding space, can be compared with it.
    """
    latest = sessions[0].session
    of_taxonomy, of_space = [], []
    taxonomy_total = space_total = 0.0
    for each in sessions:
        age = (latest.closed_at - each.session.closed_at) / half_life
        each.weight = each.confidence * 2.0**-age
        if each.session.taxonomy == latest.taxonomy:
            taxonomy_total += each.weight
            of_taxonomy.append(each)
        if each.session.space == latest.space and each.session.floats == latest.floats:
            space_total += each.weight
            of_space.append(each)
    if taxonomy_total > 0 and space_total > 0:
        _write_intents(encoder, of_taxonomy, taxonomy_total, texts.known)
        _write_vector(encoder, of_space, space_total)
    else:  # links of no confidence at all
        encoder.write_encoded(_END)
        encoder.write_encoded(_END)


def _write_intents(
    encoder: BinaryEncoder, sessions: list[HeldSession], total: float, known: list[bytes]
) -> None:
    """Each under the names that the newest session has for it."""
    packed = bytearray().join([each.session.numbers for each in sessions])
    numbers, probabilities = memoryview(packed).cast("i"), memoryview(packed).cast("f")
    sums = array("d", [0.0]) * len(known)
    names = array("i", [0]) * len(known)
    """Of an intent, one more than the number of its names; 0: it has not been seen."""
    seen = []
    at = 0
    for each in sessions:
        count = each.session.intents
        for place in range(at, at + count):
            number = numbers[place]
            sums[number] += each.weight * probabilities[place + 2 * count]
            if names[number] == 0:
                names[number] = numbers[place + count] + 1
                seen.append(number)
        at += 3 * count
    ranked = sorted([(-sums[number], text_of(known[number]), number) for number in seen])
    if ranked:
        encoder.write_long(len(ranked))
    for negative, _, number in ranked:
        encoder.write_encoded(known[number])
        encoder.write_encoded(known[names[number] - 1])
        encoder.write_float(-negative / total)
    encoder.write_encoded(_END)


def _write_vector(encoder: BinaryEncoder, sessions: list[HeldSession], total: float) -> None:
    size = sessions[0].session.floats
    floats = memoryview(bytearray().join([each.session.embedding for each in sessions])).cast("f")
    sums = array("d", [0.0]) * size
    at = 0
    for each in sessions:
        for place in range(size):
            sums[place] += each.weight * floats[at + place]
        at += size
    if size:
        encoder.write_long(size)
    for place in range(size):
        encoder.write_float(sums[place] / total)
    encoder.write_encoded(_END)

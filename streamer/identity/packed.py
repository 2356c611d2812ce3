"""A session as the identity stages hold it: its VisitorIntent in few bytes, of which parts can be had.

Texts that sessions share (versions, intents, their names) stand once in a table and are numbered. Everything
else is as in the message, in this order:

    closed_at, started_at   8 bytes each, big-endian
    session_id              with its size, which all share: so of two packed sessions the newer is the greater
    sizes and texts         see _SIZES and _TEXTS
    visitor_id, user_id, and the fields after it up to the versions
    intents                 the numbers of all ids, of all names, the probabilities: 4 bytes each;
                            then what else the message says of each
    embedding               its floats

Memberships aren't kept: no customer's record has them, and they follow from the embedding. Nor are reasons.
"""

from __future__ import annotations

import struct
from typing import Any

from streamer.schemas import codec
from streamer.schemas.binary import BinaryEncoder, part
from streamer.schemas.flat import Declined, FieldEnds, FlatReader

NUMBER_BYTES = 4
_AGE = struct.Struct(">qq")
AGE_BYTES = 16
_SIZE_BYTES = 2
_SIZES, _TEXTS = 6, 5
"""Bytes of visitor_id, of user_id and of the fields after it; how many intents, and bytes of what else is
said of them; floats. Then numbers of texts: versions of rules and model, space, taxonomy, top intent, the
fields after it."""
_NUMBERS_BYTES = _SIZES * _SIZE_BYTES + _TEXTS * NUMBER_BYTES
_END = b"\0"
"""Of an array."""
_NULL, _PRESENT = b"\0", b"\2"
_NO_MEMBERSHIPS = b"\0\0"
"""Nor a version of the prototypes."""

_PREFIX = codec.prefix("visitor_intent")
_PREFIX_BYTES = codec.PREFIX_BYTES
_FIELDS = codec.schema("visitor_intent")["fields"]
_NAMES = [field["name"] for field in _FIELDS]
_IDS = ["session_id", "visitor_id", "user_id"]
_OF_MODEL = [
    "rules_version",
    "model_version",
    "embedding",
    "embedding_space",
    "memberships",
    "prototypes_version",
    "taxonomy_version",
    "intents",
    "top_intent",
    "abstained",
    "abstain_reason",
    "reasons",
]
if _NAMES[:3] != _IDS or _NAMES[-len(_OF_MODEL) :] != _OF_MODEL:
    raise ValueError(f"visitor_intent must begin with {', '.join(_IDS)} and end with {', '.join(_OF_MODEL)}")
_INTENT_FIELDS = _FIELDS[_NAMES.index("intents")]["type"]["items"]["fields"]
if [field["name"] for field in _INTENT_FIELDS[:4]] != ["intent_id", "label", "parent", "probability"]:
    raise ValueError("an intent must begin with its id, its names and its probability")

_STARTED_AT, _CLOSED_AT, _IS_FINAL, _SUPERSEDES, _IS_BOT = (
    _NAMES.index(name) for name in ("started_at", "closed_at", "is_final", "supersedes", "is_bot")
)
_FIELD_COUNT = len(_NAMES)
_VERSIONS, _EMBEDDING, _SPACE, _MEMBERSHIPS, _TAXONOMY, _INTENTS, _TOP, _REST, _REASONS = (
    _NAMES.index(name)
    for name in (
        "rules_version",
        "embedding",
        "embedding_space",
        "memberships",
        "taxonomy_version",
        "intents",
        "top_intent",
        "abstained",
        "reasons",
    )
)
"""The fields before these differ from session to session."""
_ENDS = FieldEnds.of(_FIELDS)
_INTENT_ENDS = FieldEnds.of(_INTENT_FIELDS)
_INTENT_SIZE = len(_INTENT_FIELDS)
_HEAD_READER = FlatReader.of({"fields": _FIELDS[:_VERSIONS]})


class Texts:
    """Encoded texts under numbers. Who keeps packed sessions keeps the list, which only grows, with them."""

    def __init__(self, known: list[bytes]) -> None:
        self.known = known
        self._numbers = {text: number for number, text in enumerate(known)}

    def number(self, text: bytes) -> int:
        """Of a text, known or new."""
        found: int | None = self._numbers.get(text)
        if found is None:
            found = self._numbers[text] = len(self.known)
            self.known.append(text)
        return found

    def forget(self, first: int) -> None:
        """The newest ones, from this number on."""
        for text in self.known[first:]:
            del self._numbers[text]
        del self.known[first:]


class SessionMessage:
    """A VisitorIntent message, and what the stages ask of it."""

    def __init__(self, message: bytes) -> None:
        """Raises codec.CodecError if it isn't one."""
        try:
            self._read(message if message.startswith(_PREFIX) else _written_anew(message))
        except Declined:
            self._read(_written_anew(message))

    def _read(self, message: bytes) -> None:
        self._message = message
        self._session_end = _ENDS.end(message, _PREFIX_BYTES, 0, 1)
        self._visitor_end = _ENDS.end(message, self._session_end, 1, 2)
        self._user_end = _ENDS.end(message, self._visitor_end, 2, 3)
        self._head_end = _ENDS.end(message, self._user_end, 3, _VERSIONS)
        self._versions_end = _ENDS.end(message, self._head_end, _VERSIONS, _EMBEDDING)
        self._embedding_end = _ENDS.end(message, self._versions_end, _EMBEDDING, _SPACE)
        self._space_end = _ENDS.end(message, self._embedding_end, _SPACE, _MEMBERSHIPS)
        self._memberships_end = _ENDS.end(message, self._space_end, _MEMBERSHIPS, _TAXONOMY)
        self._taxonomy_end = _ENDS.end(message, self._memberships_end, _TAXONOMY, _INTENTS)
        self._intents_end = _ENDS.end(message, self._taxonomy_end, _INTENTS, _TOP)
        self._top_end = _ENDS.end(message, self._intents_end, _TOP, _REST)
        self._rest_end = _ENDS.end(message, self._top_end, _REST, _REASONS)
        if _ENDS.end(message, self._rest_end, _REASONS, _FIELD_COUNT) != len(message):
            raise Declined
        assert _HEAD_READER is not None
        head: list[Any] = _HEAD_READER.values(part(message, 0, self._head_end), _PREFIX_BYTES)
        self.session_id: str = head[0]
        self.visitor_id: str = head[1]
        self.user_id: str | None = head[2]
        self.started_at: int = head[_STARTED_AT]
        self.closed_at: int = head[_CLOSED_AT]
        self.is_final: bool = head[_IS_FINAL]
        self.supersedes: str | None = head[_SUPERSEDES]
        self.is_bot: bool = head[_IS_BOT]

    def packed(self, texts: Texts) -> bytes:
        """To be read with these texts. Raises codec.CodecError if one of its texts isn't UTF-8."""
        encoder = BinaryEncoder()
        self.write_packed(encoder, texts)
        return encoder.to_bytes()

    def write_packed(self, encoder: BinaryEncoder, texts: Texts) -> None:
        """The same to an encoder."""
        message, known = self._message, len(texts.known)
        count, at = _array_at(message, self._taxonomy_end)
        ids, names, probabilities, others = [], [], BinaryEncoder(), BinaryEncoder()
        for _ in range(count):
            names_at = _INTENT_ENDS.end(message, at, 0, 1)
            probability_at = _INTENT_ENDS.end(message, names_at, 1, 3)
            ids.append(texts.number(part(message, at, names_at)))
            names.append(texts.number(part(message, names_at, probability_at)))
            others_at = probability_at + NUMBER_BYTES
            probabilities.write_part(message, probability_at, others_at)
            at = _INTENT_ENDS.end(message, others_at, 4, _INTENT_SIZE)
            others.write_part(message, others_at, at)
        floats, floats_at = _array_at(message, self._versions_end)
        encoder.write_encoded(_AGE.pack(self.closed_at, self.started_at))
        encoder.write_part(message, _PREFIX_BYTES, self._session_end)
        encoder.write_fixed(self._visitor_end - self._session_end, _SIZE_BYTES)
        encoder.write_fixed(self._user_end - self._visitor_end, _SIZE_BYTES)
        encoder.write_fixed(self._head_end - self._user_end, _SIZE_BYTES)
        encoder.write_fixed(count, _SIZE_BYTES)
        encoder.write_fixed(others.size(), _SIZE_BYTES)
        encoder.write_fixed(floats, _SIZE_BYTES)
        self._write_text(encoder, texts, self._head_end, self._versions_end)
        self._write_text(encoder, texts, self._embedding_end, self._space_end)
        self._write_text(encoder, texts, self._memberships_end, self._taxonomy_end)
        self._write_text(encoder, texts, self._intents_end, self._top_end)
        self._write_text(encoder, texts, self._top_end, self._rest_end)
        if len(texts.known) > known:
            try:
                _written_anew(message)
            except codec.CodecError:
                texts.forget(known)
                raise
        encoder.write_part(message, self._session_end, self._head_end)
        for number in ids:
            encoder.write_fixed(number, NUMBER_BYTES)
        for number in names:
            encoder.write_fixed(number, NUMBER_BYTES)
        encoder.write_encoded(probabilities.to_bytes())
        encoder.write_encoded(others.to_bytes())
        encoder.write_part(message, floats_at, floats_at + NUMBER_BYTES * floats)

    def _write_text(self, encoder: BinaryEncoder, texts: Texts, start: int, end: int) -> None:
        encoder.write_fixed(texts.number(part(self._message, start, end)), NUMBER_BYTES)

    def write_top(self, encoder: BinaryEncoder) -> None:
        """top_intent, and the probability of the intent of that name; null: there is none."""
        message = self._message
        top = part(message, self._intents_end, self._top_end)
        encoder.write_encoded(top)
        count, at = _array_at(message, self._taxonomy_end)
        for _ in range(count):
            names_at = _INTENT_ENDS.end(message, at, 0, 1)
            probability_at = _INTENT_ENDS.end(message, names_at, 1, 3)
            if top[1:] == part(message, at, names_at):
                encoder.write_encoded(_PRESENT)
                encoder.write_part(message, probability_at, probability_at + NUMBER_BYTES)
                break
            at = _INTENT_ENDS.end(message, probability_at, 3, _INTENT_SIZE)
        else:
            encoder.write_encoded(_NULL)


class PackedSession:
    """Parts of a packed session; what comes after it in the data is the caller's."""

    def __init__(self, data: bytes) -> None:
        """Raises ValueError if it is none."""
        try:
            self._find(data)
        except IndexError:
            raise ValueError("bytes are no packed session") from None
        if self.end > len(data):
            raise ValueError("bytes are no packed session")

    def _find(self, data: bytes) -> None:
        self.data = data
        self.closed_at = 0
        for at in range(8):
            self.closed_at = self.closed_at << 8 | data[at]
        at = _text_end(data, AGE_BYTES)
        self._ids_at = at + _NUMBERS_BYTES
        self._user_at = self._ids_at + _number_at(data, at, 2)
        self._head_at = self._user_at + _number_at(data, at + 2, 2)
        self._intents_at = self._head_at + _number_at(data, at + 4, 2)
        self.intents = _number_at(data, at + 6, 2)
        self._others_at = self._intents_at + 3 * NUMBER_BYTES * self.intents
        self._floats_at = self._others_at + _number_at(data, at + 8, 2)
        self.floats = _number_at(data, at + 10, 2)
        self._versions = _number_at(data, at + 12, 4)
        self.space = _number_at(data, at + 16, 4)
        self.taxonomy = _number_at(data, at + 20, 4)
        self._top = _number_at(data, at + 24, 4)
        self._rest = _number_at(data, at + 28, 4)
        self.end = self._floats_at + NUMBER_BYTES * self.floats

    @property
    def started_at(self) -> int:
        """ms UTC."""
        return int.from_bytes(self.data[AGE_BYTES // 2 : AGE_BYTES], signed=True)

    @property
    def session_id(self) -> bytes:
        """Encoded."""
        return part(self.data, AGE_BYTES, self._ids_at - _NUMBERS_BYTES)

    @property
    def visitor_id(self) -> bytes:
        """Encoded."""
        return part(self.data, self._ids_at, self._user_at)

    @property
    def numbers(self) -> bytes:
        """Of the intents: numbers of their ids, of their names, and their probabilities."""
        return part(self.data, self._intents_at, self._others_at)

    @property
    def embedding(self) -> bytes:
        """Its floats."""
        return part(self.data, self._floats_at, self.end)

    def message(self, texts: Texts) -> bytes:
        """The VisitorIntent message, without memberships and reasons."""
        encoder = BinaryEncoder()
        encoder.write_encoded(_PREFIX)
        self.write_session_id(encoder)
        encoder.write_part(self.data, self._ids_at, self._head_at)
        self._write_after_ids(encoder, texts, _NO_MEMBERSHIPS)
        encoder.write_encoded(_NULL)
        return encoder.to_bytes()

    def write(self, encoder: BinaryEncoder, texts: Texts) -> None:
        """All fields of the message but user_id, memberships, their version and reasons."""
        self.write_session_id(encoder)
        encoder.write_part(self.data, self._ids_at, self._user_at)
        self._write_after_ids(encoder, texts, b"")

    def write_session_id(self, encoder: BinaryEncoder) -> None:
        """The first field of the message."""
        encoder.write_part(self.data, AGE_BYTES, self._ids_at - _NUMBERS_BYTES)

    def _write_after_ids(self, encoder: BinaryEncoder, texts: Texts, after_space: bytes) -> None:
        data, known = self.data, texts.known
        encoder.write_part(data, self._head_at, self._intents_at)
        encoder.write_encoded(known[self._versions])
        if self.floats:
            encoder.write_long(self.floats)
            encoder.write_part(data, self._floats_at, self.end)
        encoder.write_encoded(_END)
        encoder.write_encoded(known[self.space])
        encoder.write_encoded(after_space)
        encoder.write_encoded(known[self.taxonomy])
        if self.intents:
            self._write_intents(encoder, known)
        encoder.write_encoded(_END)
        encoder.write_encoded(known[self._top])
        encoder.write_encoded(known[self._rest])

    def _write_intents(self, encoder: BinaryEncoder, known: list[bytes]) -> None:
        count, data, at = self.intents, self.data, self._others_at
        ids_at, names_at = self._intents_at, self._intents_at + NUMBER_BYTES * count
        probability_at = names_at + NUMBER_BYTES * count
        encoder.write_long(count)
        for place in range(count):
            skipped = NUMBER_BYTES * place
            encoder.write_encoded(known[_number_at(data, ids_at + skipped, NUMBER_BYTES)])
            encoder.write_encoded(known[_number_at(data, names_at + skipped, NUMBER_BYTES)])
            encoder.write_part(data, probability_at + skipped, probability_at + skipped + NUMBER_BYTES)
            end = _INTENT_ENDS.end(data, at, 4, _INTENT_SIZE)
            encoder.write_part(data, at, end)
            at = end


def text_of(encoded: bytes) -> str:
    """An encoded string, decoded."""
    return encoded[_text_start(encoded, 0) :].decode()


def encoded_text(text: str) -> bytes:
    """The string, encoded."""
    encoder = BinaryEncoder()
    encoder.write_string(text)
    return encoder.to_bytes()


def _written_anew(message: bytes) -> bytes:
    """With the current schema, in the codec's own form. Raises codec.CodecError if it is no VisitorIntent."""
    name, record = codec.decode(message)
    if name != "visitor_intent":
        raise codec.CodecError("not_a_session", f"the record is of schema {name}")
    return codec.encode(name, record)


def _number_at(data: bytes, at: int, size: int) -> int:
    """Of so many bytes, little-endian."""
    number = 0
    for place in range(at + size - 1, at - 1, -1):
        number = number << 8 | data[place]
    return number


def _array_at(data: bytes, at: int) -> tuple[int, int]:
    """How many items an array in one block has, and where they begin."""
    return _size_at(data, at), _text_start(data, at)


def _text_start(data: bytes, at: int) -> int:
    while data[at] & 0x80:
        at += 1
    return at + 1


def _text_end(data: bytes, at: int) -> int:
    return _text_start(data, at) + _size_at(data, at)


def _size_at(data: bytes, at: int) -> int:
    size, shift = data[at] & 0x7F, 7
    while data[at] & 0x80:
        at += 1
        size |= (data[at] & 0x7F) << shift
        shift += 7
    return size >> 1

"""The views that the service answers from: a record stays the bytes that it came as, until it is asked for.

So a million of them take a gigabyte or less, and the garbage collector has nothing to look through.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import msgspec
import numpy as np

from streamer.client.table import Float32, LatestTable, age_order, record_of
from streamer.client.view import View
from streamer.schemas import codec
from streamer.schemas.flat import Declined, FieldEnds, Fields, FlatReader
from streamer.settings import Settings

REMEMBERED_ERASURES = 100_000


class StoredRecord(msgspec.Struct, frozen=True, gc=False):
    """A record, and what of it the table has to know."""

    closed_at: int
    """ms UTC"""
    started_at: int
    revision: int
    embedding_space: str
    message: bytes
    """In the current schema, under our own id."""

    def decoded(self) -> codec.Record:
        """All its fields. Raises codec.CodecError if the bytes are no record."""
        return codec.decode(self.message)[1]


class ErasedKeys:
    """Those whose last record was a tombstone, the latest 100,000 of them. One writer, and readers beside it.

    Of a key only Python's hash stays, which is salted anew for each process: nobody can be named from it.
    """

    def __init__(self, most: int = REMEMBERED_ERASURES) -> None:
        self._most = most
        self._hashes: OrderedDict[int, None] = OrderedDict()

    def __contains__(self, key: str) -> bool:
        return hash(key) in self._hashes

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, key: str) -> None:
        """It is the latest now."""
        self.discard(key)
        self._hashes[hash(key)] = None
        if len(self._hashes) > self._most:
            self._hashes.popitem(last=False)

    def discard(self, key: str) -> None:
        """There is a record of it again."""
        self._hashes.pop(hash(key), None)


class RecordTable(LatestTable[StoredRecord]):
    """Reads of a message only its beginning, up to the space of the vector."""

    key: ClassVar[str]
    """The field that names whose record it is."""
    vector: ClassVar[str]
    """The field with the vector by which two of them are near to each other."""

    def __init__(self, ttl_ms: int, on_new_space: Callable[[str], None], erased: ErasedKeys) -> None:
        """`erased` is kept up to date; it may outlive the table."""
        super().__init__(ttl_ms, on_new_space)
        self._erased = erased
        self._changed: dict[str, None] | None = None
        """Keys that whoever follows the table has yet to look at, each once; None: nobody follows it."""
        fields = codec.schema(self.schema)["fields"]
        names = [field["name"] for field in fields]
        self._vector_no = names.index("embedding")
        if names[self._vector_no + 1] != "embedding_space":
            raise ValueError(f"{self.schema}: expected embedding_space behind embedding")
        self._prefix = codec.prefix(self.schema)
        self._ends = FieldEnds.of(fields[: self._vector_no + 2])
        self._head = _flat(fields[: self._vector_no])
        self._space = _flat([fields[self._vector_no + 1]])
        self._places = [names.index(name) for name in (self.key, "closed_at", "started_at", "revision")]

    def _read(self, message: bytes) -> tuple[str, StoredRecord]:
        if message.startswith(self._prefix):
            try:
                return self._read_current(message)
            except Declined:
                pass
        record = record_of(self.schema, message)  # of an earlier version, or it says what is wrong
        try:
            return self._read_current(codec.encode(self.schema, record))
        except Declined:
            raise codec.CodecError("unusual_record", f"a {self.schema} has a field of unusual size") from None

    def _read_current(self, message: bytes) -> tuple[str, StoredRecord]:
        vector_no = self._vector_no
        vector_at = self._ends.end(message, codec.PREFIX_BYTES, 0, vector_no)
        space_at = self._ends.end(message, vector_at, vector_no, vector_no + 1)
        space_end = self._ends.end(message, space_at, vector_no + 1, vector_no + 2)
        head: list[Any] = self._head.values(message[:vector_at], codec.PREFIX_BYTES)
        key, closed_at, started_at, revision = (head[place] for place in self._places)
        [space] = self._space.values(message[space_at:space_end], 0)
        return key, StoredRecord(closed_at, started_at, revision, sys.intern(space), message)

    def follow(self, also: Iterable[str] = ()) -> None:
        """From now on `changes` has what changed: all that there is to begin with, and these keys."""
        changed = self._changed = {}
        changed.update(dict.fromkeys(also))
        changed.update(dict.fromkeys(list(self._states)))

    def changes(self, most: int) -> list[str]:
        """Up to so many keys that have changed, or gone, since they were last returned. For one follower, who
        may be in another thread: a dictionary's own steps are atomic."""
        found: list[str] = []
        while self._changed and len(found) < most:
            found.append(self._changed.popitem()[0])
        return found

    @property
    def waiting(self) -> int:
        """Keys that the follower has yet to look at."""
        return len(self._changed or ())

    def items(self) -> Iterator[tuple[str, StoredRecord]]:
        """All as they are now, those that are too old included."""
        return iter(list(self._states.items()))

    @classmethod
    def vector_of(cls, record: codec.Record) -> Float32 | None:
        """[D]; None if there is none, or if it has no direction."""
        vector: Float32 = np.array(record[cls.vector], np.float32)
        length = float(np.linalg.norm(vector))
        return vector if 0 < length < float("inf") else None

    def _put(self, key: str, state: StoredRecord) -> None:
        super()._put(key, state)
        self._erased.discard(key)
        self._note(key)

    def _forget(self, key: str) -> None:
        super()._forget(key)
        self._note(key)

    def _note(self, key: str) -> None:
        if self._changed is not None:
            self._changed[key] = None

    def _erase(self, key: str) -> None:
        super()._erase(key)
        self._erased.add(key)


def _flat(fields: Fields) -> FlatReader:
    reader = FlatReader.of({"fields": fields})
    if reader is None:
        raise ValueError(f"fields can't be read: {', '.join(field['name'] for field in fields)}")
    return reader


class VisitorRecords(RecordTable):
    schema = "visitor_intent"
    key = "visitor_id"
    vector = "embedding"

    def _is_older(self, state: StoredRecord, known: StoredRecord) -> bool:
        return age_order(state) < age_order(known)


class UserRecords(RecordTable):
    schema = "user_intent"
    key = "user_id"
    vector = "profile_embedding"


class RecordView(View[StoredRecord]):
    """A view of stored records that knows who was erased."""

    table: ClassVar[type[RecordTable]]

    def __init__(self, settings: Settings, **options: Any) -> None:
        self.erased = ErasedKeys()
        super().__init__(settings, **options)

    @property
    def records(self) -> RecordTable:
        """What it answers from now. It may be another table later, after brokers were away."""
        assert isinstance(self._table, RecordTable)
        return self._table

    def _new_table(self) -> RecordTable:
        return self.table(self._ttl_ms, self._tell_once, self.erased)


class VisitorRecordView(RecordView):
    table = VisitorRecords

    def _topic_of(self, settings: Settings) -> str:
        return settings.topics.visitors


class UserRecordView(RecordView):
    table = UserRecords
    is_by_murmur2 = True

    def _topic_of(self, settings: Settings) -> str:
        return settings.topics.users

# cython: language_level=3, boundscheck=False, wraparound=False
"""The usual way of a click, compiled.

`Lane.take_in` does for the usual records what `Partition.process` and `Sessionizer` do for all of them: the
click belongs to its visitor's latest open session, or opens one, and time closes sessions. It stops before any
other record and leaves that to them. They are the definition, and all there is where this is not compiled.

Structs of msgspec are read and written where their fields lie: their own way through Python's attributes
would take half of the time again.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_DECREF
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from schemas.slots cimport address, offset_of, slot
from streamer.native.batch_records cimport BatchRecord
from streamer.core.ends cimport WindowEnds
from streamer.pipeline.usual_clicks cimport CLICK_FIELDS, Usual, UsualClicks

import sys

from xxhash import xxh3_64_digest

from schemas.click import KEPT_CLICKS, Click, Session
from streamer.core.clock import PartitionClock
from streamer.core.session import LastUser, OpenSession, click_order, decode_clicks, session_id
from streamer.pipeline.decode import Arrived, Rejected

if sys.byteorder != "little":
    raise ImportError("entries of a session's log are little-endian")

cdef extern from "Python.h":
    PyObject* PyList_GET_ITEM(object each, Py_ssize_t place)
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    int _PyBytes_Resize(PyObject** bytes, Py_ssize_t size) except -1
    Py_ssize_t Py_REFCNT(PyObject* each)

# A macro, called where it is needed: gcc drops calls of an inline function that does nothing but prefetch.
cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define prefetch(at) __builtin_prefetch(at)
    #else
    #define prefetch(at) ((void) (at))
    #endif
    """
    void prefetch(const void* at)

cdef enum:
    LINE = 64  # bytes that come at once


# -- fields of structs

cdef inline object read(object struct, Py_ssize_t place):
    return <object> slot(struct, place)


cdef inline int64_t number(object struct, Py_ssize_t place) except? -1:
    return <int64_t> <object> slot(struct, place)


cdef inline int write(object struct, Py_ssize_t place, object value) except -1:
    cdef PyObject** field = address(struct, place)
    cdef PyObject* before = field[0]
    Py_INCREF(value)
    field[0] = <PyObject*> value
    Py_DECREF(<object> before)
    return 0


cdef Py_ssize_t VISITOR = offset_of(Arrived, "visitor_id")
cdef Py_ssize_t USER = offset_of(Arrived, "user_id")
cdef Py_ssize_t CRAWLER = offset_of(Arrived, "crawler")
cdef Py_ssize_t CLICK = offset_of(Arrived, "click")
cdef Py_ssize_t TIMESTAMP = offset_of(Click, "timestamp")
cdef Py_ssize_t OWNER = offset_of(OpenSession, "visitor_id")
cdef Py_ssize_t STARTED = offset_of(OpenSession, "started_at")
cdef Py_ssize_t ENDED = offset_of(OpenSession, "ended_at")
cdef Py_ssize_t LOG = offset_of(OpenSession, "log")
cdef Py_ssize_t KEPT = offset_of(OpenSession, "kept")
cdef Py_ssize_t LAST_USER = offset_of(OpenSession, "last_user")
cdef Py_ssize_t REVISION = offset_of(OpenSession, "revision")
cdef Py_ssize_t PUBLISHED = offset_of(OpenSession, "published")
cdef Py_ssize_t IS_CRAWLER = offset_of(OpenSession, "crawler")
cdef Py_ssize_t EARLY_AT = offset_of(OpenSession, "early_at")
cdef Py_ssize_t NOW = offset_of(PartitionClock, "now")
cdef Py_ssize_t WATERMARK = offset_of(PartitionClock, "watermark")
cdef Py_ssize_t RAISED_AT = offset_of(PartitionClock, "raised_at")
cdef Py_ssize_t SILENT_TO = offset_of(PartitionClock, "idle_until")

cdef enum:
    EVENT_ID = 1  # of a click's fields
    EVENT_TYPE = 2
    ENTRY = 24
    MOST = 2048

cdef Py_ssize_t MOST_KEPT = KEPT_CLICKS
"""Clicks of a session that has let none of them go. Too few for a bot's."""
cdef Py_ssize_t[CLICK_FIELDS] FIELDS
if len(Click.__struct_fields__) != CLICK_FIELDS:
    raise ImportError("a click has other fields than when this was compiled")
for _number, _field in enumerate(Click.__struct_fields__):
    FIELDS[_number] = offset_of(Click, _field)


# -- a click as `encode_click` gives it

cdef inline uint8_t* big_endian(uint8_t* to, uint64_t value, int size) noexcept:
    while size:
        size -= 1
        to[0] = <uint8_t> (value >> (8 * size))
        to += 1
    return to


cdef inline uint8_t* put_number(uint8_t* to, int64_t value) noexcept:
    """A number that is not negative."""
    if value < 0x80:
        to[0] = <uint8_t> value
        return to + 1
    cdef int size = 1 if value < 0x100 else 2 if value < 0x10000 else 4 if value < 0x100000000 else 8
    to[0] = 0xcc if size == 1 else 0xcd if size == 2 else 0xce if size == 4 else 0xcf
    return big_endian(to + 1, value, size)


cdef inline uint8_t* put_text(uint8_t* to, const char* text, Py_ssize_t size) noexcept:
    """At most MOST bytes."""
    if size < 32:
        to[0] = <uint8_t> (0xa0 | size)
        to += 1
    elif size < 256:
        to[0] = 0xd9
        to = big_endian(to + 1, size, 1)
    else:
        to[0] = 0xda
        to = big_endian(to + 1, size, 2)
    memcpy(to, text, size)
    return to + size


cdef uint8_t NO_DIGIT = 0xff
cdef uint8_t[256] DIGITS
for _byte in range(256):
    DIGITS[_byte] = int(chr(_byte), 16) if chr(_byte) in "0123456789abcdef" else NO_DIGIT


cdef inline bint read_uuid(const char* text, uint8_t* into) noexcept:
    """16 bytes of the 36 characters, if they are a UUID as it is usually written."""
    cdef const uint8_t* at = <const uint8_t*> text
    cdef uint8_t all_digits = 0, high, low
    cdef int i
    if at[8] != b"-" or at[13] != b"-" or at[18] != b"-" or at[23] != b"-":
        return False
    for i in range(16):
        if i == 4 or i == 6 or i == 8 or i == 10:
            at += 1
        high, low = DIGITS[at[0]], DIGITS[at[1]]
        all_digits |= high | low
        into[i] = <uint8_t> (high << 4 | low)
        at += 2
    return all_digits < 16


cdef inline uint8_t* put_id(uint8_t* to, const char* text, Py_ssize_t size) noexcept:
    if size == 36 and read_uuid(text, to + 2):
        to[0] = 0xc4
        to[1] = 16
        return to + 18
    return put_text(to, text, size)


cdef Py_ssize_t pack(int64_t timestamp, PyObject** click, uint8_t* into) except -1:
    """Bytes written, at most MOST; 0 if it is no usual click. Of its fields the first isn't read."""
    cdef uint8_t* to
    cdef uint8_t* end
    cdef const char* text
    cdef Py_ssize_t size
    cdef int64_t value
    cdef double price
    cdef uint64_t bits
    cdef int i
    if timestamp < 0:
        return 0
    end = to = put_number(into + 1, timestamp)
    into[0] = 0x91
    for i in range(1, CLICK_FIELDS):
        field = <object> click[i]
        if field is None:
            to[0] = 0xc0
            to += 1
            continue
        if type(field) is str:
            text = PyUnicode_AsUTF8AndSize(field, &size)
            if to - into + size + 9 * CLICK_FIELDS > MOST:
                return 0
            to = put_id(to, text, size) if i == EVENT_ID else put_text(to, text, size)
        elif type(field) is int:
            value = field
            if value < 0:
                return 0
            to = put_number(to, value)
        elif type(field) is float:
            price = field
            memcpy(&bits, &price, 8)
            to[0] = 0xcb
            to = big_endian(to + 1, bits, 8)
        else:
            return 0
        into[0] = <uint8_t> (0x90 | i + 1)
        end = to
    return end - into


# -- a session's two byte strings

cdef inline int append(object session, Py_ssize_t place, const void* data, Py_ssize_t size) except -1:
    """The bytes grow where they are, unless somebody else holds on to them."""
    cdef PyObject** field = address(session, place)
    cdef Py_ssize_t before = PyBytes_GET_SIZE(<object> field[0])
    if Py_REFCNT(field[0]) == 1:
        _PyBytes_Resize(field, before + size)
    else:
        longer = PyBytes_FromStringAndSize(NULL, before + size)
        memcpy(PyBytes_AS_STRING(longer), PyBytes_AS_STRING(<object> field[0]), before)
        write(session, place, longer)
    memcpy(PyBytes_AS_STRING(<object> field[0]) + before, data, size)
    return 0


cdef struct Entry:
    int64_t id_hash
    int64_t timestamp
    int64_t offset


cdef inline bint holds(object log, int64_t id_hash, int64_t* first, int64_t* last) noexcept:
    """Whether the click is in the log; if not, `first` and `last` are the session's first and last event time.

    The session has these times as well, but each is an object of its own somewhere in memory.
    """
    cdef const char* at = PyBytes_AS_STRING(log)
    cdef const char* end = at + PyBytes_GET_SIZE(log)
    cdef Entry entry
    first[0], last[0] = INT64_MAX, INT64_MIN
    while at < end:
        memcpy(&entry, at, ENTRY)
        if entry.id_hash == id_hash:
            return True
        first[0], last[0] = min(first[0], entry.timestamp), max(last[0], entry.timestamp)
        at += ENTRY
    return False


cdef inline PyObject* last_of(dict several, visitor_id):
    """A visitor's latest window, of several; borrowed, NULL if there is none."""
    cdef PyObject* windows = PyDict_GetItem(several, visitor_id) if several else NULL
    return NULL if windows == NULL else PyList_GET_ITEM(<object> windows, len(<list> windows) - 1)


# -- a session that closes

cdef list clicks_of(object session, Py_ssize_t count):
    """Of a session that has kept all of its clicks."""
    cdef list clicks = decode_clicks(count, read(session, KEPT))
    cdef int64_t timestamp, before = number(clicks[0], TIMESTAMP)
    cdef Py_ssize_t each
    for each in range(1, count):
        timestamp = number(clicks[each], TIMESTAMP)
        if timestamp <= before:
            clicks.sort(key=click_order)
            break
        before = timestamp
    return clicks


cdef object close(object session, int64_t closed_at, str rules_version):
    """What it becomes when the watermark passes it."""
    cdef Py_ssize_t count = PyBytes_GET_SIZE(read(session, LOG)) // ENTRY
    if count > MOST_KEPT or read(session, PUBLISHED):
        return session.close("gap", closed_at, rules_version)
    cdef list clicks = clicks_of(session, count)
    visitor_id, user = read(session, OWNER), read(session, LAST_USER)
    return Session(
        session_id(visitor_id, clicks[0], rules_version),
        visitor_id,
        None if user is None else user.user_id,
        read(session, STARTED),
        read(session, ENDED),
        closed_at,
        count,
        "gap",
        read(session, IS_CRAWLER),
        clicks,
        True,
        read(session, REVISION),
    )


cdef class Lane:
    """Of one partition. `sessionizer` and `erasures` are shared with it."""

    cdef object _sessionizer, _clock, _early, _decode, _erasures
    cdef WindowEnds _deadlines
    cdef UsualClicks _usual
    cdef frozenset _end_events
    cdef dict _single, _several, _erased_until
    cdef str _id_prefix, _rules_version
    cdef int64_t _gap_ms, _max_duration_ms, _usual_log_bytes, _out_of_orderness_ms
    cdef int64_t _max_future_ms, _min_timestamp_ms, _idle_after_ms, _early_every_ms
    cdef readonly int64_t position
    """Of the next record, as `take_in` left it."""
    cdef readonly int64_t received
    """Records that the last `take_in` took in."""
    cdef readonly int64_t closed
    """Clicks in the sessions that it closed."""

    def __init__(self, sessionizer, decode, erasures, str id_prefix):
        rules = sessionizer.rules
        self._sessionizer = sessionizer
        self._clock = sessionizer.clock
        self._deadlines = sessionizer._deadlines
        self._early = sessionizer._early
        self._single = sessionizer._open.single
        self._several = sessionizer._open.several
        self._end_events = rules.end_events
        self._decode = decode
        decoder = getattr(decode, "__self__", None)
        self._usual = decoder if isinstance(decoder, UsualClicks) else None
        self._erasures = erasures
        self._erased_until = erasures.until
        self._id_prefix = id_prefix
        self._rules_version = rules.version
        self._gap_ms = rules.gap_ms
        self._max_duration_ms = rules.max_duration_ms
        self._usual_log_bytes = sessionizer._usual_log_bytes
        self._out_of_orderness_ms = rules.out_of_orderness_ms
        self._max_future_ms = rules.max_future_ms
        self._min_timestamp_ms = rules.min_timestamp_ms
        self._idle_after_ms = sessionizer._idle_after_ms
        self._early_every_ms = sessionizer._early_every_ms

    def close_due(self, Py_ssize_t limit):
        """`Sessionizer.close_due`."""
        cdef object sessionizer = self._sessionizer
        cdef list closed = [], due = sessionizer._due
        cdef int64_t raised_at = number(self._clock, RAISED_AT)
        if not sessionizer._closing and sessionizer._due_reason == "gap":
            while due and len(closed) < limit:
                closed.append(self._close(due.pop(), raised_at))
        if len(closed) < limit:
            closed += sessionizer.close_due(limit - len(closed))
        else:
            sessionizer.has_due = True  # or there may be
        return closed

    def take_in(self, list records, Py_ssize_t index, int64_t position, list closed, Py_ssize_t room):
        """Take in records from `index` on, those below `position` apart; returns the index of the first one
        that is left to do. Sessions that close go into `closed`, fewer than `room`: if more are due
        afterwards, they come first."""
        cdef object clock = self._clock, sessionizer = self._sessionizer
        cdef dict changed = sessionizer._changed
        cdef int64_t now = number(clock, NOW), watermark = number(clock, WATERMARK)
        cdef int64_t raised_at = number(clock, RAISED_AT), idle_until = number(clock, SILENT_TO)
        cdef int64_t next_early = sessionizer.next_early, first_end = self._deadlines.first
        cdef int64_t offset, arrival, timestamp, seen, risen, started_at, ended_at
        cdef Py_ssize_t packed, count = len(records)
        cdef uint8_t[MOST] buffer
        cdef Usual arrived
        cdef str event_id
        cdef PyObject* known
        cdef PyObject* kept
        cdef bint is_only
        cdef Entry entry
        cdef bytes id_hash
        self.position = position
        self.received = 0
        self.closed = 0
        while index < count:
            record = records[index]
            if type(record) is BatchRecord:
                offset = (<BatchRecord> record).offset
                arrival = (<BatchRecord> record).timestamp
            else:
                offset = record.offset
                arrival = record.timestamp
            if offset < position:
                index += 1
                continue
            if arrival > now:
                if next_early <= arrival or arrival - raised_at >= self._idle_after_ms:
                    break  # so silence closes nothing here
            elif now - raised_at >= self._idle_after_ms:
                break
            if arrival < idle_until:
                break
            if arrival < now:
                arrival = now

            try:
                held = self._read(record.value, arrival, &arrived)
            except Rejected:
                break
            if held is None:
                break
            visitor_id = <object> arrived.visitor_id
            if self._erased_until and self._erasures.covers(visitor_id, arrival):
                break
            timestamp = arrived.timestamp
            seen = timestamp
            if timestamp > arrival:
                if timestamp - arrival > self._max_future_ms:
                    break
                seen = arrival
            if timestamp < self._min_timestamp_ms:
                break
            event_id = <str> arrived.click[EVENT_ID]
            if not event_id:
                event_id = f"{self._id_prefix}{offset}"
                arrived.click[EVENT_ID] = <PyObject*> event_id
            packed = pack(timestamp, arrived.click, buffer)
            if packed == 0:
                break
            known = PyDict_GetItem(self._single, visitor_id)
            if known != NULL:
                kept = slot(<object> known, KEPT)
                prefetch(PyBytes_AS_STRING(<object> kept) + PyBytes_GET_SIZE(<object> kept))
            id_hash = xxh3_64_digest(event_id.encode())
            memcpy(&entry.id_hash, PyBytes_AS_STRING(id_hash), 8)
            entry.timestamp = timestamp
            entry.offset = offset

            is_only = known != NULL
            if not is_only:
                known = last_of(self._several, visitor_id)
            window = None
            if known != NULL:
                window = <object> known
                log = read(window, LOG)
                if (
                    PyBytes_GET_SIZE(log) > self._usual_log_bytes
                    or holds(log, entry.id_hash, &started_at, &ended_at)
                    or timestamp < started_at
                ):
                    break
                if timestamp - ended_at > self._gap_ms:
                    window = None
                elif timestamp - started_at > self._max_duration_ms:
                    break
                else:
                    if timestamp > ended_at:
                        write(window, ENDED, timestamp)
                    append(window, LOG, &entry, ENTRY)
                    append(window, KEPT, buffer, packed)
            if window is None:
                if timestamp + self._gap_ms < watermark:
                    break
                window = OpenSession(
                    visitor_id,
                    timestamp,
                    timestamp,
                    arrival,
                    PyBytes_FromStringAndSize(<char*> &entry, ENTRY),
                    PyBytes_FromStringAndSize(<char*> buffer, packed),
                )
                is_only = known == NULL
                if is_only:
                    self._single[visitor_id] = window
                else:
                    sessionizer._open.insert(window)
                self._deadlines.note(visitor_id, timestamp + self._gap_ms)
                first_end = self._deadlines.first
            changed[read(window, OWNER)] = window if is_only else None
            now = arrival
            index += 1
            self.position = offset + 1
            self.received += 1
            if self._early_every_ms and not read(window, EARLY_AT):
                self._early.note(visitor_id, window.schedule_early(now, self._early_every_ms))
                next_early = sessionizer.next_early
            if arrived.user_id != <PyObject*> None:
                window.note_user(LastUser(timestamp, event_id, <object> arrived.user_id))
            if <object> arrived.crawler:
                write(window, IS_CRAWLER, True)
            if <object> arrived.click[EVENT_TYPE] in self._end_events:
                sessionizer._close_now(window, "explicit")
            risen = seen - self._out_of_orderness_ms
            if risen > watermark:
                watermark = risen
                raised_at = now
                if risen > first_end:
                    room -= self._close_passed(closed, room, watermark, raised_at)
                    first_end = self._deadlines.first
            if sessionizer.has_due:
                break
        self._set_clock(now, watermark, raised_at)
        return index

    cdef object _read(self, value, int64_t arrival, Usual* arrived):
        """What holds the fields of the click, as long as it is held; None for a click without consent.

        Usually no click is made of them: here they are packed, and it would be thrown away.
        """
        cdef UsualClicks usual = self._usual
        cdef object held
        cdef PyObject* click
        cdef PyObject* window
        cdef char* log
        cdef bint is_usual
        cdef int i
        if usual is None:
            held = self._decode(value, arrival, "")
        else:
            held = usual.read_usual(value)
            if not usual.has_consent(held):
                return None
            # What the click will be joined with is on its way meanwhile: no cache holds all sessions.
            window = PyDict_GetItem(self._single, <object> slot(held, usual.visitor_id))
            if window != NULL:
                prefetch(window)
                prefetch(<char*> window + LINE)
            is_usual = usual.look_up(held, True, arrival, "", arrived)
            if window != NULL:
                log = <char*> slot(<object> window, LOG)
                prefetch(log)
                prefetch(log + LINE)
                prefetch(log + 2 * LINE)
                prefetch(slot(<object> window, KEPT))
                prefetch(slot(<object> window, OWNER))
                prefetch(slot(<object> window, ENDED))
            if is_usual:
                return held
            held = usual.finish(held, arrival, "")
        if type(held) is not Arrived:
            return None
        arrived.visitor_id, arrived.user_id = slot(held, VISITOR), slot(held, USER)
        arrived.crawler, click = slot(held, CRAWLER), slot(held, CLICK)
        arrived.timestamp = number(<object> click, FIELDS[0])
        for i in range(1, CLICK_FIELDS):
            arrived.click[i] = slot(<object> click, FIELDS[i])
        return held

    cdef Py_ssize_t _close_passed(
        self, list closed, Py_ssize_t room, int64_t watermark, int64_t raised_at
    ) except -1:
        """`Sessionizer.close_due` for what the watermark has passed; returns how many there were.

        What is too much, or has to wait for others, is left due.
        """
        cdef object sessionizer = self._sessionizer
        cdef int64_t horizon = watermark - 1
        cdef list due, visitors = self._deadlines.take(horizon)
        cdef Py_ssize_t count = len(visitors)
        cdef PyObject* only
        if not count:
            return 0
        only = PyDict_GetItem(self._single, visitors[0]) if count == 1 else NULL
        due = sessionizer._windows_ending(visitors, horizon) if only == NULL else [<object> only]
        count = len(due)
        if sessionizer._closing or count >= room:
            sessionizer._leave_due(due)
            return 0
        for session in reversed(due):
            closed.append(self._close(session, raised_at))
            self.closed += PyBytes_GET_SIZE(read(session, LOG)) // ENTRY
        return count

    cdef object _close(self, object session, int64_t raised_at):
        visitor_id = read(session, OWNER)
        if PyDict_GetItem(self._single, visitor_id) == <PyObject*> session:
            del self._single[visitor_id]
        else:
            self._sessionizer._open.remove(session)
        self._sessionizer._changed[visitor_id] = None
        return close(session, raised_at, self._rules_version)

    cdef int _set_clock(self, int64_t now, int64_t watermark, int64_t raised_at) except -1:
        clock = self._clock
        write(clock, NOW, now)
        write(clock, WATERMARK, watermark)
        write(clock, RAISED_AT, raised_at)
        return 0

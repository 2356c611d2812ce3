# cython: language_level=3, boundscheck=False, wraparound=False, binding=False
"""The messages of a scored session in C: the bytes that `RecordWriter.write` joins."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.math cimport isinf
from libc.string cimport memcpy

import sys

import numpy as np

from models.scorer import Scored, ScoredIntent
from schemas.click import Session
from schemas.slots cimport offset_of, slot

if sys.byteorder != "little":
    raise ImportError("numbers of a record are little-endian")

cdef object LITTLE_FLOATS = np.dtype("<f4")
cdef Py_ssize_t LONGEST_NUMBER = 10
"""Bytes that any single number takes at most."""

cdef Py_ssize_t USUAL_ROOM = 2048
"""Bytes that hold most sessions."""

cdef Py_ssize_t SESSION_ID = offset_of(Session, "session_id")
cdef Py_ssize_t VISITOR_ID = offset_of(Session, "visitor_id")
cdef Py_ssize_t USER_ID = offset_of(Session, "user_id")
cdef Py_ssize_t STARTED_AT = offset_of(Session, "started_at")
cdef Py_ssize_t ENDED_AT = offset_of(Session, "ended_at")
cdef Py_ssize_t CLOSED_AT = offset_of(Session, "closed_at")
cdef Py_ssize_t EVENT_COUNT = offset_of(Session, "event_count")
cdef Py_ssize_t CLOSE_REASON = offset_of(Session, "close_reason")
cdef Py_ssize_t IS_FINAL = offset_of(Session, "is_final")
cdef Py_ssize_t REVISION = offset_of(Session, "revision")
cdef Py_ssize_t SUPERSEDES = offset_of(Session, "supersedes")
cdef Py_ssize_t IS_BOT = offset_of(Session, "is_bot")
cdef Py_ssize_t EMBEDDING = offset_of(Scored, "embedding")
cdef Py_ssize_t INTENTS = offset_of(Scored, "intents")
cdef Py_ssize_t TOP_INTENT = offset_of(Scored, "top_intent")
cdef Py_ssize_t ABSTAINED = offset_of(Scored, "abstained")
cdef Py_ssize_t ABSTAIN_REASON = offset_of(Scored, "abstain_reason")
cdef Py_ssize_t INTENT_ID = offset_of(ScoredIntent, "intent_id")
cdef Py_ssize_t LABEL = offset_of(ScoredIntent, "label")
cdef Py_ssize_t PARENT = offset_of(ScoredIntent, "parent")
cdef Py_ssize_t PROBABILITY = offset_of(ScoredIntent, "probability")
cdef Py_ssize_t PARENT_PROBABILITY = offset_of(ScoredIntent, "parent_probability")
cdef Py_ssize_t PRESENCE = offset_of(ScoredIntent, "presence")


cdef class _Buffer:
    """What has been put, end to end. One for each session: threads may write at the same time."""

    cdef char* data
    cdef Py_ssize_t size, room

    def __dealloc__(self):
        PyMem_Free(self.data)

    cdef bytes message(self, bytes start, Py_ssize_t until, Py_ssize_t resume, Py_ssize_t end):
        """The start, what was put up to `until`, and from `resume` to `end`."""
        cdef Py_ssize_t begun = PyBytes_GET_SIZE(start)
        cdef bytes written = PyBytes_FromStringAndSize(NULL, begun + until + end - resume)
        cdef char* to = PyBytes_AS_STRING(written)
        memcpy(to, PyBytes_AS_STRING(start), begun)
        memcpy(to + begun, self.data, until)
        memcpy(to + begun + until, self.data + resume, end - resume)
        return written

    cdef int put_optional_text(self, PyObject* text) except -1:
        if text == <PyObject*>None:
            return self.put_byte(0)
        self.put_byte(2)
        return self.put_text(text)

    cdef int put_optional_float(self, PyObject* number) except -1:
        if number == <PyObject*>None:
            return self.put_byte(0)
        self.put_byte(2)
        return self.put_float(number)

    cdef int put_text(self, PyObject* text) except -1:
        cdef Py_ssize_t size
        cdef const char* encoded = PyUnicode_AsUTF8AndSize(<object>text, &size)
        self.put_long(size)
        return self.put_bytes(encoded, size)

    cdef int put_float(self, PyObject* number) except -1:
        cdef double exact = <object>number
        cdef float rounded = <float>exact
        if isinf(rounded) and not isinf(exact):
            raise OverflowError("number too large for float32")
        return self.put_bytes(<char*>&rounded, sizeof(float))

    cdef int put_long(self, long long number) except -1:
        """Zigzag, then seven bits a byte, lowest first."""
        cdef unsigned long long rest = <unsigned long long>number << 1 ^ <unsigned long long>(number >> 63)
        self.reserve(LONGEST_NUMBER)
        while rest >= 0x80:
            self.data[self.size] = <char>(rest & 0x7F | 0x80)
            self.size += 1
            rest >>= 7
        self.data[self.size] = <char>rest
        self.size += 1
        return 0

    cdef int put_byte(self, char byte) except -1:
        self.reserve(1)
        self.data[self.size] = byte
        self.size += 1
        return 0

    cdef int put(self, bytes encoded) except -1:
        return self.put_bytes(PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded))

    cdef int put_bytes(self, const char* data, Py_ssize_t size) except -1:
        self.reserve(size)
        memcpy(self.data + self.size, data, size)
        self.size += size
        return 0

    cdef int reserve(self, Py_ssize_t size) except -1:
        cdef Py_ssize_t room
        if self.size + size > self.room:
            room = max(2 * (self.size + size), USUAL_ROOM)
            data = <char*>PyMem_Realloc(self.data, room)
            if data == NULL:
                raise MemoryError
            self.data, self.room = data, room
        return 0


cdef class RecordBytes:
    """What the messages of a session share is written once, and copied."""

    cdef bytes versions, embedding_space, taxonomy_version
    cdef list prefixes
    cdef object records

    def __init__(self, records, bytes versions, bytes embedding_space, bytes taxonomy_version, list prefixes):
        """The type that `write` gives, a tuple; what is the same in all messages, encoded; and how embedding,
        intent and visitor start."""
        self.records = records
        self.versions, self.embedding_space, self.taxonomy_version = versions, embedding_space, taxonomy_version
        self.prefixes = prefixes

    def write(self, session, scored):
        """Key, embedding, intent and visitor. Raises UnicodeEncodeError on text that UTF-8 can't hold."""
        cdef Py_ssize_t after_session, after_vector
        if type(session) is not Session or type(scored) is not Scored:
            raise TypeError("expected a Session and a Scored")
        cdef _Buffer buffer = _Buffer.__new__(_Buffer)
        self.put_session(buffer, session)
        after_session = buffer.size
        self.put_vector(buffer, <object>slot(scored, EMBEDDING))
        after_vector = buffer.size
        self.put_labels(buffer, scored)
        of_embedding, of_intent, of_visitor = self.prefixes
        messages = (
            (<str?><object>slot(session, VISITOR_ID)).encode(),
            buffer.message(of_embedding, after_vector, after_vector, after_vector),
            buffer.message(of_intent, after_session, after_vector, buffer.size),
            buffer.message(of_visitor, buffer.size, buffer.size, buffer.size),
        )
        return tuple.__new__(self.records, messages)

    cdef int put_session(self, _Buffer buffer, session) except -1:
        buffer.put_text(slot(session, SESSION_ID))
        buffer.put_text(slot(session, VISITOR_ID))
        buffer.put_optional_text(slot(session, USER_ID))
        buffer.put_long(<long long><object>slot(session, STARTED_AT))
        buffer.put_long(<long long><object>slot(session, ENDED_AT))
        buffer.put_long(<long long><object>slot(session, CLOSED_AT))
        buffer.put_long(<long long><object>slot(session, EVENT_COUNT))
        buffer.put_text(slot(session, CLOSE_REASON))
        buffer.put_byte(<object>slot(session, IS_FINAL) is True)
        buffer.put_long(<long long><object>slot(session, REVISION))
        buffer.put_optional_text(slot(session, SUPERSEDES))
        buffer.put_byte(<object>slot(session, IS_BOT) is True)
        return buffer.put(self.versions)

    cdef int put_vector(self, _Buffer buffer, embedding) except -1:
        if embedding.dtype is not LITTLE_FLOATS:
            embedding = embedding.astype(LITTLE_FLOATS)
        cdef bytes numbers = embedding.tobytes()
        if numbers:
            buffer.put_long(PyBytes_GET_SIZE(numbers) // 4)
            buffer.put(numbers)
        buffer.put_byte(0)
        return buffer.put(self.embedding_space)

    cdef int put_labels(self, _Buffer buffer, scored) except -1:
        cdef list intents = <list?><object>slot(scored, INTENTS)
        buffer.put(self.taxonomy_version)
        if intents:
            buffer.put_long(len(intents))
            for intent in intents:
                self.put_intent(buffer, intent)
        buffer.put_byte(0)
        buffer.put_optional_text(slot(scored, TOP_INTENT))
        buffer.put_byte(<object>slot(scored, ABSTAINED) is True)
        return buffer.put_optional_text(slot(scored, ABSTAIN_REASON))

    cdef int put_intent(self, _Buffer buffer, intent) except -1:
        if type(intent) is not ScoredIntent:
            raise TypeError("expected a ScoredIntent")
        buffer.put_text(slot(intent, INTENT_ID))
        buffer.put_text(slot(intent, LABEL))
        buffer.put_optional_text(slot(intent, PARENT))
        buffer.put_float(slot(intent, PROBABILITY))
        buffer.put_optional_float(slot(intent, PARENT_PROBABILITY))
        return buffer.put_optional_float(slot(intent, PRESENCE))

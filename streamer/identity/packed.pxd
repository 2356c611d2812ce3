cimport cython
from libc.stdint cimport int64_t

from streamer.schemas.binary cimport BinaryEncoder, part
from streamer.schemas.flat cimport FieldEnds, FlatReader

cdef Py_ssize_t NUMBER_BYTES, _NUMBERS_BYTES, _PREFIX_BYTES
cdef Py_ssize_t _STARTED_AT, _CLOSED_AT, _IS_FINAL, _SUPERSEDES, _IS_BOT
cdef Py_ssize_t _FIELD_COUNT, _VERSIONS, _EMBEDDING, _SPACE, _MEMBERSHIPS, _TAXONOMY, _INTENTS, _TOP, _REST, _REASONS
cdef Py_ssize_t _INTENT_SIZE
cdef Py_ssize_t _SIZE_BYTES
cdef bytes _PREFIX, _END, _NULL, _PRESENT, _NO_MEMBERSHIPS
cdef FieldEnds _ENDS, _INTENT_ENDS
cdef FlatReader _HEAD_READER


@cython.final
cdef class Texts:
    cdef readonly list known
    cdef dict _numbers

    cpdef number(self, bytes text)
    @cython.locals(text=bytes)
    cpdef int forget(self, Py_ssize_t first) except -1


@cython.final
cdef class SessionMessage:
    cdef readonly str session_id
    cdef readonly str visitor_id
    cdef readonly str user_id
    cdef readonly int64_t started_at
    cdef readonly int64_t closed_at
    cdef readonly bint is_final
    cdef readonly str supersedes
    cdef readonly bint is_bot
    cdef bytes _message
    cdef Py_ssize_t _session_end, _visitor_end, _user_end, _head_end, _versions_end, _embedding_end
    cdef Py_ssize_t _space_end, _memberships_end, _taxonomy_end, _intents_end, _top_end, _rest_end

    @cython.locals(head=list)
    cdef int _read(self, bytes message) except -1
    @cython.locals(encoder=BinaryEncoder)
    cpdef bytes packed(self, Texts texts)
    @cython.locals(
        message=bytes, known=Py_ssize_t, count=Py_ssize_t, at=Py_ssize_t, names_at=Py_ssize_t,
        probability_at=Py_ssize_t, others_at=Py_ssize_t, ids=list, names=list,
        probabilities=BinaryEncoder, others=BinaryEncoder, floats=Py_ssize_t, floats_at=Py_ssize_t,
        number=Py_ssize_t,
    )
    cpdef int write_packed(self, BinaryEncoder encoder, Texts texts) except -1
    cdef int _write_text(
        self, BinaryEncoder encoder, Texts texts, Py_ssize_t start, Py_ssize_t end
    ) except -1
    @cython.locals(
        message=bytes, top=bytes, count=Py_ssize_t, at=Py_ssize_t, names_at=Py_ssize_t,
        probability_at=Py_ssize_t,
    )
    cpdef int write_top(self, BinaryEncoder encoder) except -1


@cython.final
cdef class PackedSession:
    cdef readonly bytes data
    cdef readonly int64_t closed_at
    cdef readonly Py_ssize_t intents, floats, space, taxonomy, end
    cdef Py_ssize_t _versions, _top, _rest
    cdef Py_ssize_t _ids_at, _user_at, _head_at, _intents_at, _others_at, _floats_at

    @cython.locals(at=Py_ssize_t)
    cdef int _find(self, bytes data) except -1
    @cython.locals(encoder=BinaryEncoder)
    cpdef bytes message(self, Texts texts)
    cpdef int write(self, BinaryEncoder encoder, Texts texts) except -1
    cpdef int write_session_id(self, BinaryEncoder encoder) except -1
    @cython.locals(data=bytes, known=list)
    cdef int _write_after_ids(self, BinaryEncoder encoder, Texts texts, bytes after_space) except -1
    @cython.locals(
        count=Py_ssize_t, data=bytes, at=Py_ssize_t, ids_at=Py_ssize_t, names_at=Py_ssize_t,
        probability_at=Py_ssize_t, place=Py_ssize_t, skipped=Py_ssize_t, end=Py_ssize_t,
    )
    cdef int _write_intents(self, BinaryEncoder encoder, list known) except -1


@cython.locals(encoder=BinaryEncoder)
cpdef bytes encoded_text(str text)
cdef bytes _written_anew(bytes message)
@cython.locals(number=int64_t, place=Py_ssize_t)
cdef Py_ssize_t _number_at(bytes data, Py_ssize_t at, Py_ssize_t size) except -1
cdef (Py_ssize_t, Py_ssize_t) _array_at(bytes data, Py_ssize_t at) except *
cdef Py_ssize_t _text_start(bytes data, Py_ssize_t at) except -1
cdef Py_ssize_t _text_end(bytes data, Py_ssize_t at) except -1
@cython.locals(size=int64_t, shift=int)
cdef Py_ssize_t _size_at(bytes data, Py_ssize_t at) except -1

# cython: language_level=3, boundscheck=False, wraparound=False
"""`kept.decode_clicks`, compiled: ids become text where they lie, so that msgspec makes clicks of it at once."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

import msgspec

from schemas.click import Click
from streamer.core.kept import decode_clicks as decode_in_python

cdef extern from "Python.h":
    PyObject* new_bytes "PyBytes_FromStringAndSize"(const char* content, Py_ssize_t size) except NULL
    int _PyBytes_Resize(PyObject** bytes, Py_ssize_t size) except -1

cdef enum:
    HEADER = 5
    EVENT_ID = 1  # of a click's fields
    PACKED = 18  # bytes of an id that is kept as bytes
    WRITTEN = 38  # of the same as text

cdef object decode = msgspec.msgpack.Decoder(list[Click]).decode
cdef const char* DIGITS = "0123456789abcdef"
cdef uint8_t[256] SIZES
"""Of a value, by its first byte; 0: it says so itself, or no field of a click has it."""
for _first in range(256):
    SIZES[_first] = (
        1 if _first < 0x80 or _first >= 0xe0 or _first == 0xc0
        else 1 + (_first & 0x1f) if 0xa0 <= _first < 0xc0
        else {0xcb: 9, 0xcc: 2, 0xcd: 3, 0xce: 5, 0xcf: 9, 0xd0: 2, 0xd1: 3, 0xd2: 5, 0xd3: 9}.get(_first, 0)
    )


cpdef list decode_clicks(Py_ssize_t count, bytes kept):
    cdef PyObject* array = NULL
    if 0 < count <= PyBytes_GET_SIZE(kept):
        array = with_written_ids(count, kept)
    if array == NULL:
        return decode_in_python(count, kept)
    try:
        return decode(<object> array)
    finally:
        Py_DECREF(<object> array)


cdef PyObject* with_written_ids(Py_ssize_t count, bytes kept) except? NULL:
    """The array of clicks as msgspec takes it; NULL for bytes that Python has to have a look at."""
    cdef const uint8_t* at = <const uint8_t*> PyBytes_AS_STRING(kept)
    cdef const uint8_t* end = at + PyBytes_GET_SIZE(kept)
    cdef const uint8_t* copied = at
    cdef PyObject* array = new_bytes(NULL, HEADER + (end - at) + count * (WRITTEN - PACKED))
    cdef uint8_t* start = <uint8_t*> PyBytes_AS_STRING(<object> array)
    cdef uint8_t* to = start
    cdef Py_ssize_t click
    cdef int field, fields
    to[0] = 0xdd
    for field in range(4):
        to[1 + field] = <uint8_t> (count >> (24 - 8 * field))
    to += HEADER
    for click in range(count):
        if at >= end or at[0] & 0xf0 != 0x90:
            at = NULL
            break
        fields = at[0] & 0x0f
        at += 1
        for field in range(fields):
            if field == EVENT_ID and end - at >= PACKED and at[0] == 0xc4 and at[1] == 16:
                memcpy(to, copied, at - copied)
                to = put_uuid(to + (at - copied), at + 2)
                at += PACKED
                copied = at
            else:
                at = behind(at, end)
                if at == NULL:
                    break
        if at == NULL:
            break
    if at == NULL:
        Py_DECREF(<object> array)
        return NULL
    memcpy(to, copied, end - copied)
    _PyBytes_Resize(&array, to + (end - copied) - start)
    return array


cdef inline const uint8_t* behind(const uint8_t* at, const uint8_t* end) noexcept:
    """Where the next value begins; NULL if this one isn't all there, or of a kind that no click has."""
    cdef Py_ssize_t size
    if at >= end:
        return NULL
    size = SIZES[at[0]]
    if size == 0:
        if at[0] == 0xd9 and end - at > 1:
            size = 2 + at[1]
        elif at[0] == 0xda and end - at > 2:
            size = 3 + (at[1] << 8 | at[2])
        else:
            return NULL
    return at + size if size <= end - at else NULL


cdef inline uint8_t* put_uuid(uint8_t* to, const uint8_t* packed) noexcept:
    cdef int i
    to[0] = 0xd9
    to[1] = WRITTEN - 2
    to += 2
    for i in range(16):
        if i == 4 or i == 6 or i == 8 or i == 10:
            to[0] = b"-"
            to += 1
        to[0] = DIGITS[packed[i] >> 4]
        to[1] = DIGITS[packed[i] & 0x0f]
        to += 2
    return to

# cython: language_level=3, boundscheck=False, wraparound=False, binding=False
"""`FlatReader.values` in C: the same values, and it declines the same records."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint64_t

cdef extern from "Python.h":
    double PyFloat_Unpack8(const char*, int) except? -1

cdef enum:
    STRING, LONG, BOOLEAN, DOUBLE, MAP
    KIND = 7
    OPTIONAL = 8

cdef struct Cursor:
    const unsigned char* data
    Py_ssize_t at
    Py_ssize_t end


cdef class FlatValues:
    """`kinds`: of the fields, numbered as `schemas.flat` does. `declined`: what `values` raises."""

    cdef bytes kinds
    cdef object declined

    def __init__(self, list kinds, declined):
        self.kinds, self.declined = bytes(kinds), declined

    def values(self, bytes data not None, Py_ssize_t at):
        """As `FlatReader.values`."""
        cdef Cursor cursor
        cdef unsigned char kind, branch
        cdef list found = []
        cursor.data = <const unsigned char*>PyBytes_AS_STRING(data)
        cursor.at, cursor.end = at, PyBytes_GET_SIZE(data)
        try:
            for kind in self.kinds:
                if kind >= OPTIONAL:
                    branch = next_byte(&cursor)
                    if branch == 0:
                        found.append(None)
                        continue
                    if branch != 2:
                        raise IndexError
                kind &= KIND
                if kind == STRING:
                    found.append(next_short_string(&cursor))
                elif kind == LONG:
                    found.append(next_long(&cursor))
                elif kind == BOOLEAN:
                    found.append(next_boolean(&cursor))
                elif kind == DOUBLE:
                    found.append(next_double(&cursor))
                else:
                    found.append(next_map(&cursor))
        except (IndexError, UnicodeDecodeError):
            raise self.declined from None
        if cursor.at != cursor.end:
            raise self.declined
        return found


cdef inline unsigned char next_byte(Cursor* cursor) except? 255:
    cdef unsigned char byte
    if cursor.at >= cursor.end:
        raise IndexError
    byte = cursor.data[cursor.at]
    cursor.at += 1
    return byte


cdef inline int64_t next_long(Cursor* cursor) except? -1:
    cdef uint64_t byte = next_byte(cursor), number = byte & 0x7F
    cdef int shift = 0
    while byte & 0x80:
        shift += 7
        if shift > 56:  # it could leave 64 bits
            raise IndexError
        byte = next_byte(cursor)
        number |= (byte & 0x7F) << shift
    return <int64_t>(number >> 1) ^ -<int64_t>(number & 1)


cdef str next_text(Cursor* cursor, int64_t size):
    cdef str text
    if not 0 <= size <= cursor.end - cursor.at:
        raise IndexError
    text = PyUnicode_DecodeUTF8(<const char*>cursor.data + cursor.at, size, NULL)
    cursor.at += size
    return text


cdef inline str next_short_string(Cursor* cursor):
    """Of at most 8,191 bytes."""
    cdef Py_ssize_t size = next_byte(cursor), more
    if size & 0x80:
        more = next_byte(cursor)
        if more & 0x80:
            raise IndexError
        size = size & 0x7F | more << 7
    if size & 1:
        raise IndexError
    return next_text(cursor, size >> 1)


cdef inline bint next_boolean(Cursor* cursor) except -1:
    cdef unsigned char byte = next_byte(cursor)
    if byte > 1:
        raise IndexError
    return byte


cdef inline double next_double(Cursor* cursor) except? -1:
    if cursor.end - cursor.at < 8:
        raise IndexError
    cursor.at += 8
    return PyFloat_Unpack8(<const char*>cursor.data + cursor.at - 8, 1)


cdef dict next_map(Cursor* cursor):
    cdef dict entries = {}
    cdef str key
    cdef int64_t count
    while True:
        if next_byte(cursor) == 0:
            return entries
        cursor.at -= 1
        count = next_long(cursor)
        if not 0 < count <= cursor.end:
            raise IndexError
        for _ in range(count):
            key = next_text(cursor, next_long(cursor))
            entries[key] = next_text(cursor, next_long(cursor))

cimport cython
from libc.stdint cimport int64_t

from streamer.schemas.binary cimport BinaryEncoder

cdef int _STRING, _LONG, _BOOLEAN, _DOUBLE, _MAP, _FLOAT, _FLOATS, _RECORDS, _OPTIONAL, _CONSTANT
cdef int _LONGEST_SHIFT, _FLOAT_BYTES
cdef bytes _NULL, _PRESENT, _END


@cython.final
cdef class FlatReader:
    cdef readonly list names
    cdef bytes _kinds
    cdef list _items

    @cython.locals(found=list)
    cpdef list values(self, bytes data, Py_ssize_t at)
    @cython.locals(
        end=Py_ssize_t, kind=int, branch=int, size=int, more=int, start=Py_ssize_t, number=int64_t, true=bint,
        entries=dict, count=int64_t, field=Py_ssize_t, records=list, items=FlatReader,
        record=dict,
    )
    cdef Py_ssize_t _append(self, list found, bytes data, Py_ssize_t at) except -1
    @cython.locals(found=list, field=Py_ssize_t)
    cdef Py_ssize_t _fill(self, dict record, bytes data, Py_ssize_t at) except -1


@cython.final
cdef class FieldEnds:
    cdef bytes _kinds
    cdef list _items

    @cython.locals(field=Py_ssize_t)
    cpdef Py_ssize_t end(self, bytes data, Py_ssize_t at, Py_ssize_t first, Py_ssize_t stop) except -1
    @cython.locals(kind=int)
    cdef Py_ssize_t _end(self, Py_ssize_t field, bytes data, Py_ssize_t at) except -1
    @cython.locals(count=int64_t, items=FieldEnds)
    cdef Py_ssize_t _records_end(self, Py_ssize_t field, bytes data, Py_ssize_t at) except -1


@cython.final
cdef class FlatWriter:
    cdef bytes _kinds, _places
    cdef list _constants
    cdef FlatWriter _items

    @cython.locals(step=Py_ssize_t, kind=int, place=Py_ssize_t)
    cpdef int write(self, BinaryEncoder encoder, tuple values) except -1
    cdef int _put_floats(self, BinaryEncoder encoder, bytes packed) except -1
    cdef int _put_records(self, BinaryEncoder encoder, list records) except -1


@cython.locals(byte=int64_t, number=int64_t, shift=int)
cdef (int64_t, Py_ssize_t) _long_at(bytes data, Py_ssize_t at) except *
cdef (bint, Py_ssize_t) _boolean_at(bytes data, Py_ssize_t at) except *
@cython.locals(size=int64_t, start=Py_ssize_t, end=Py_ssize_t)
cdef tuple _string_at(bytes data, Py_ssize_t at)
@cython.locals(count=int64_t)
cdef tuple _map_at(bytes data, Py_ssize_t at)
@cython.locals(size=int64_t)
cdef Py_ssize_t _sized_end(int kind, bytes data, Py_ssize_t at) except -1

# cython: language_level=3, boundscheck=False, wraparound=False
"""Avro's binary encoding of single values, put end to end; `binary.py` does the same in Python."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.math cimport isinf
from libc.string cimport memcpy

cdef extern from "Python.h":
    int PyFloat_Pack4(double, char*, int) except -1

cdef enum:
    MOST_LONG_BYTES = 10
    USUAL_ROOM = 1024


cpdef bytes part(bytes encoded, Py_ssize_t start, Py_ssize_t end):
    _check_part(encoded, start, end)
    return PyBytes_FromStringAndSize(PyBytes_AS_STRING(encoded) + start, end - start)


cdef inline int _check_part(bytes encoded, Py_ssize_t start, Py_ssize_t end) except -1:
    if encoded is None:
        raise TypeError("expected bytes, found None")
    if not 0 <= start <= end <= PyBytes_GET_SIZE(encoded):
        raise ValueError(f"expected places of 0 to {len(encoded)} bytes, found {start} and {end}")
    return 0


cdef class BinaryEncoder:
    """What has been written so far."""

    def __dealloc__(self):
        PyMem_Free(self._data)

    cpdef bytes to_bytes(self):
        return PyBytes_FromStringAndSize(self._data, self._size)

    cpdef Py_ssize_t size(self):
        return self._size

    cpdef bytes excerpt(self, bytes prefix, Py_ssize_t until, Py_ssize_t resume):
        if prefix is None or not 0 <= until <= self._size or not 0 <= resume <= self._size:
            raise ValueError(f"expected a prefix and places of 0 to {self._size} bytes")
        cdef Py_ssize_t begun = PyBytes_GET_SIZE(prefix)
        cdef bytes found = PyBytes_FromStringAndSize(NULL, begun + until + self._size - resume)
        cdef char* to = PyBytes_AS_STRING(found)
        memcpy(to, PyBytes_AS_STRING(prefix), begun)
        if self._size:
            memcpy(to + begun, self._data, until)
            memcpy(to + begun + until, self._data + resume, self._size - resume)
        return found

    cpdef int write_encoded(self, bytes encoded) except -1:
        if encoded is None:
            raise TypeError("expected bytes, found None")
        return self._write(PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded))

    cpdef int write_part(self, bytes encoded, Py_ssize_t start, Py_ssize_t end) except -1:
        _check_part(encoded, start, end)
        return self._write(PyBytes_AS_STRING(encoded) + start, end - start)

    cpdef int write_fixed(self, long long number, Py_ssize_t size) except -1:
        cdef long long rest = number
        self._reserve(size)
        for place in range(self._size, self._size + size):
            self._data[place] = <char>(rest & 0xFF)
            rest >>= 8
        if rest or number < 0:
            raise OverflowError(f"{number} doesn't fit into {size} bytes")
        self._size += size
        return 0

    cpdef int write_boolean(self, bint value) except -1:
        self._reserve(1)
        self._data[self._size] = value
        self._size += 1
        return 0

    cpdef int write_long(self, long long number) except -1:
        cdef unsigned long long rest = <unsigned long long>number << 1 ^ <unsigned long long>(number >> 63)
        self._reserve(MOST_LONG_BYTES)
        while rest >= 0x80:
            self._data[self._size] = <char>(rest & 0x7F | 0x80)
            self._size += 1
            rest >>= 7
        self._data[self._size] = <char>rest
        self._size += 1
        return 0

    cpdef int write_float(self, double number) except -1:
        self._reserve(4)
        PyFloat_Pack4(number, self._data + self._size, 1)
        self._size += 4
        return 0

    cpdef int write_string(self, str text) except -1:
        cdef Py_ssize_t size
        cdef const char* encoded = PyUnicode_AsUTF8AndSize(text, &size)
        self.write_long(size)
        return self._write(encoded, size)

    cdef int _write(self, const char* data, Py_ssize_t size) except -1:
        self._reserve(size)
        memcpy(self._data + self._size, data, size)
        self._size += size
        return 0

    cdef int _reserve(self, Py_ssize_t size) except -1:
        cdef Py_ssize_t room
        if self._size + size > self._room:
            room = max(2 * (self._size + size), USUAL_ROOM)
            data = <char*>PyMem_Realloc(self._data, room)
            if data == NULL:
                raise MemoryError
            self._data, self._room = data, room
        return 0

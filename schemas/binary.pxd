cimport cython


cpdef bytes part(bytes encoded, Py_ssize_t start, Py_ssize_t end)


@cython.final
cdef class BinaryEncoder:
    cdef char* _data
    cdef Py_ssize_t _size, _room

    cpdef bytes to_bytes(self)
    cpdef Py_ssize_t size(self)
    cpdef bytes excerpt(self, bytes prefix, Py_ssize_t until, Py_ssize_t resume)
    cpdef int write_encoded(self, bytes encoded) except -1
    cpdef int write_part(self, bytes encoded, Py_ssize_t start, Py_ssize_t end) except -1
    cpdef int write_fixed(self, long long number, Py_ssize_t size) except -1
    cpdef int write_boolean(self, bint value) except -1
    cpdef int write_long(self, long long number) except -1
    cpdef int write_float(self, double number) except -1
    cpdef int write_string(self, str text) except -1
    cdef int _write(self, const char* data, Py_ssize_t size) except -1
    cdef int _reserve(self, Py_ssize_t size) except -1
